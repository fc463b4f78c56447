//! The prefilter of encoding: products in bf16 exclude latents that certainly are not selected, and only the others are
//! computed in f32. The selection, and every value, is that of the dense product, to the bit. This is a safe screening
//! rule (El Ghaoui et al. 2012, arXiv 1009.4219): a latent is left out only where a bound proves that it does not
//! matter.
//!
//! With `x̂, ŵ` the rounded rows, `|x·w - x̂·ŵ| ≤ ‖x‖ ‖w - ŵ‖ + ‖x - x̂‖ ‖ŵ‖` (Cauchy–Schwarz). Sums in f32 add at most
//! `c ‖x̂‖ ‖ŵ‖`, `c = 1.2 n 2⁻²⁴`, n the roundings that one product may go through (Higham, Accuracy and Stability of
//! Numerical Algorithms, §3.1 and §4.2): of approximate sums those of 1,024 columns and of the sums of these, of exact
//! ones D/16 and a few. The norms are computed, not guessed.
//!
//! A guess of the k-th largest value (`prefilter/guess.rs`) decides which sums leave the kernel at all. A row for which
//! it was too high, or which has more hits than memory for them, is unresolved: it is left to the dense product. Exact
//! values are computed in `prefilter/exact.rs`; `prefilter/rounded.rs` keeps the rounded encoder between batches.

mod exact;
mod guess;
mod rounded;

use super::{Config, Sae, reserve};
use crate::activation::select::threshold::Thresholds;
use crate::activation::select::{Candidates, PrefilteredRow};
use crate::kernels::prefilter::{
    BatchTiles, CHUNK_TILES, CacheLine, Hits, MAX_RANGE, PANEL_ROWS, PrefilterQuery, PrefilterWeights, RowBound,
    TILE_COLUMNS, TILE_ROWS, norm_upper_bound, scratch_lines,
};
use crate::kernels::{Isa, PerThread};
use exact::ExactProducts;
use guess::Guess;
use rayon::prelude::*;
pub use rounded::RoundedEncoder;
use std::time::{Duration, Instant};

/// The latents that may be selected.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The k largest of a row.
    Top(usize),
    /// All that exceed their threshold.
    Above(Thresholds<'a>),
}

/// The prefilter, and its findings on the last batch.
#[derive(Debug)]
pub struct Prefilter {
    isa: Isa,
    /// The rounded rows of a large batch.
    tiles: BatchTiles,
    /// `[‖x[b]‖², ‖x[b] - x̂[b]‖²]`
    squares: Vec<[f32; 2]>,
    scratch: PerThread<Scratch>,
    /// Limit and error bounds of each row.
    rows: Vec<RowBound>,
    /// Limit of each latent.
    latent_limits: Vec<f32>,
    /// The hits in each range of latents.
    hits: Vec<Hits>,
    /// Their exact values, by range.
    exact: Vec<ExactProducts>,
    /// Hits of a row that each range has memory for.
    capacity: usize,
    guess: Guess,
    /// A lower bound of each row's k-th largest value; NaN if the row is unresolved.
    lower_bounds: Vec<f32>,
    /// The rows of the batch that are left to the dense product, ascending.
    unresolved: Vec<u32>,
    pause: Pause,
    /// Wall time of the approximate products of the last batch.
    product_time: Duration,
}

/// Scratch of one worker.
#[derive(Debug, Default)]
struct Scratch {
    lines: Vec<CacheLine>,
    /// The rounded rows of a small batch: rounding it again takes less time than fetching what another core has
    /// rounded.
    tiles: BatchTiles,
}

/// A pause of the prefilter after batches for which it did not pay.
#[derive(Debug, Default)]
struct Pause {
    /// Batches that are still to be left to the dense product.
    batches: u32,
    /// Batches in a row of which too many rows were unresolved.
    misses: u32,
}

/// Largest batch, in values, that each worker rounds for itself; it takes a quarter of a second cache of 1 MB.
const SMALL_BATCH: usize = 1 << 17;

/// Length of a pause, in batches; latents may become sparse while training.
const PAUSE: u32 = 64;

/// Batches in a row with too many unresolved rows after which the prefilter pauses.
const MOST_MISSES: u32 = 3;

/// The prefilter pauses when it requests more than k + H/8 exact products a row: they cost more than the dense product
/// saves.
const MOST_EXACT: usize = 8;

/// Fewest rows of a batch that is prefiltered; with fewer the product waits for the weights anyway.
const FEWEST_ROWS: usize = 32;

/// Batches of fewer rows are not prefiltered if they request more than one latent in [`MOST_READ`], since the weights
/// of these are read twice.
const FEW_ROWS: usize = 64;
const MOST_READ: usize = 3;

/// Most columns; with more, the rounding of f32 sums is no longer small beside that to bf16.
const MOST_COLUMNS: usize = 1 << 17;

/// Returns the number of rows of a batch that may be unresolved.
pub fn most_unresolved(rows: usize) -> usize {
    rows / 16 + 1
}

/// Ranges of latents for each worker. Few, since every row has a few hits in each, and these lie apart.
const RANGES: usize = 2;

/// True if a prefilter can pay for such batches: there must be enough rows for the rounding of the weights, unless it
/// is done, and most exact products must be avoidable.
fn is_possible(isa: Isa, rows: usize, config: &Config, is_rounded: bool) -> bool {
    let enough = rows >= if is_rounded { TILE_ROWS } else { FEWEST_ROWS };
    isa.has_prefilter() && enough && 8 * config.k <= config.latents && config.d_in <= MOST_COLUMNS
}

impl Prefilter {
    pub fn new(isa: Isa) -> Prefilter {
        Prefilter {
            isa,
            tiles: BatchTiles::default(),
            squares: Vec::new(),
            scratch: PerThread::default(),
            rows: Vec::new(),
            latent_limits: Vec::new(),
            hits: Vec::new(),
            exact: Vec::new(),
            capacity: 0,
            guess: Guess::default(),
            lower_bounds: Vec::new(),
            unresolved: Vec::new(),
            pause: Pause::default(),
            product_time: Duration::ZERO,
        }
    }

    /// True if the next batch, of this many rows, is to be prefiltered.
    pub fn is_on(&mut self, rows: usize, sae: &Sae) -> bool {
        let possible = is_possible(self.isa, rows, &sae.config, sae.rounded.get().is_some());
        if possible && self.pause.batches > 0 {
            self.pause.batches -= 1;
            return false;
        }
        possible
    }

    /// True if the requests of this batch cost less than the dense product; otherwise the prefilter may pause.
    pub fn pays_off(&mut self, rows: usize, sae: &Sae) -> bool {
        let config = &sae.config;
        let (requests, latents) = self.count_requests();
        let too_few_rows = rows < FEW_ROWS && MOST_READ * latents > config.latents && sae.rounded.get().is_none();
        let resolved = self.unresolved.len() <= most_unresolved(rows);
        self.pause.misses = if resolved { 0 } else { self.pause.misses + 1 };
        let too_many_requests = requests > rows * (config.k + config.latents / MOST_EXACT);
        if too_few_rows || too_many_requests || self.pause.misses >= MOST_MISSES {
            self.pause = Pause { batches: PAUSE, misses: 0 };
        }
        resolved && !too_few_rows && !too_many_requests
    }

    /// True if there is a guess of the k-th largest values.
    pub fn has_guess(&self) -> bool {
        self.guess.share().is_some()
    }

    /// Returns the wall time of the approximate products of the last batch.
    pub fn product_time(&self) -> Duration {
        self.product_time
    }

    /// Returns the rows that are left to the dense product, ascending.
    pub fn unresolved(&self) -> &[u32] {
        &self.unresolved
    }

    /// Returns the number of requested exact products, and of latents that have any.
    fn count_requests(&self) -> (usize, usize) {
        self.exact.iter().map(ExactProducts::count).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Returns the hits of a row, whose values are exact after [`Prefilter::compute_exact`].
    pub fn row(&self, b: usize) -> PrefilteredRow<'_> {
        PrefilteredRow { found: &self.hits, row: b }
    }

    /// Finds the latents of `input [B, D]` that may be selected, and requests their exact values. Returns false if no
    /// bound can be given, since weights or rows are near the end of f32.
    pub fn find(&mut self, sae: &Sae, input: &[f32], wanted: Wanted, candidates: &PerThread<Candidates>) -> bool {
        let Config { d_in, latents, k, .. } = sae.config;
        let (rows, started) = (input.len() / d_in, Instant::now());
        self.round(input, d_in);
        self.set_limits(wanted, d_in, latents);
        let bounded = self.multiply(sae, input, candidates.len(), k);
        self.product_time = started.elapsed();
        if !bounded {
            return false;
        }
        let Prefilter { isa, hits, exact, rows: bounds, lower_bounds, unresolved, capacity, .. } = self;
        lower_bounds.resize(rows, 0.0);
        lower_bounds.par_iter_mut().zip(&*bounds).enumerate().with_min_len(8).for_each(|(b, (lower_bound, bound))| {
            let row = PrefilteredRow { found: hits, row: b };
            let found = match wanted {
                Wanted::Top(k) => row.kth_lower_bound(*isa, k, bound.limit, &mut candidates.lock()),
                Wanted::Above(_) => row.is_complete().then_some(f32::NEG_INFINITY),
            };
            *lower_bound = found.unwrap_or(f32::NAN);
        });
        unresolved.clear();
        unresolved.extend((0..rows as u32).filter(|&b| lower_bounds[b as usize].is_nan()));
        // A margin is kept, so that memory is allocated now and then rather than with every batch that has more hits.
        let longest = hits.iter().map(Hits::longest_row).max().unwrap_or(0);
        if longest + longest / 8 > *capacity {
            *capacity = longest + longest / 2 + TILE_ROWS;
        }
        exact.resize_with(hits.len(), ExactProducts::default);
        exact.par_iter_mut().zip(hits).for_each(|(exact, hits)| exact.request(hits, lower_bounds));
        true
    }

    /// Computes the exact values that were requested.
    pub fn compute_exact(&mut self, sae: &Sae, input: &[f32]) {
        let isa = self.isa;
        self.exact.par_iter_mut().zip(&mut self.hits).for_each(|(exact, hits)| exact.compute(hits, sae, isa, input));
    }

    /// Rounds the batch; of a small one each block in the worker that comes to it, which rounds the others when it
    /// needs them.
    fn round(&mut self, input: &[f32], dim: usize) {
        let Prefilter { isa, tiles, squares, scratch, .. } = self;
        let (isa, rows) = (*isa, input.len() / dim);
        scratch.grow();
        squares.resize(rows, [0.0; 2]);
        if input.len() > SMALL_BATCH {
            return tiles.round(isa, input, dim, squares);
        }
        scratch.iter_mut().for_each(|scratch| scratch.tiles.reset(rows, dim));
        let scratch = &*scratch;
        squares.par_chunks_mut(TILE_ROWS).enumerate().for_each(|(block, squares)| {
            scratch.lock().tiles.round_block(isa, input, dim, block, squares);
        });
    }

    /// Sets the limits of rows and latents, and the error bounds of the rows.
    fn set_limits(&mut self, wanted: Wanted, dim: usize, latents: usize) {
        let steps = dim.div_ceil(TILE_COLUMNS);
        // Roundings one after the other: of approximate sums, of their sums, and of the lanes of exact ones.
        let chain = dim.min(CHUNK_TILES * TILE_COLUMNS) + steps.div_ceil(CHUNK_TILES) + dim.div_ceil(16) + 80;
        let rounding = 1.2 * chain as f32 * (f32::EPSILON / 2.0);
        self.rows.clear();
        self.rows.extend(self.squares.iter().map(|&squares| {
            let [norm, lost] = squares.map(|square| norm_upper_bound(square, dim));
            let limit = match wanted {
                Wanted::Top(_) => self.guess.share().unwrap_or(0.0) * norm,
                Wanted::Above(_) => f32::NEG_INFINITY,
            };
            let error_per_norm = 1.001 * (lost + rounding * (norm + lost));
            RowBound { limit, error_per_norm, error_per_residual: 1.001 * (norm + lost) * (1.0 + rounding) }
        }));
        self.latent_limits.clear();
        match wanted {
            Wanted::Top(_) => self.latent_limits.resize(latents, f32::NEG_INFINITY),
            Wanted::Above(t) => self.latent_limits.extend((0..latents).map(|h| t.at(h))),
        }
    }

    /// Computes the approximate products and keeps those that may reach their limits; false if no bound can be given.
    fn multiply(&mut self, sae: &Sae, input: &[f32], threads: usize, k: usize) -> bool {
        let Prefilter { isa, tiles, scratch, rows, latent_limits, hits, capacity, .. } = self;
        let Config { d_in: dim, latents, .. } = sae.config;
        scratch.iter_mut().for_each(|scratch| reserve(&mut scratch.lines, scratch_lines(rows.len(), dim)));
        let len = (latents.div_ceil(PANEL_ROWS).div_ceil(RANGES * threads.max(1)) * PANEL_ROWS).min(MAX_RANGE);
        *capacity = (*capacity).max(len.min(4 * k * len / latents + 3 * TILE_ROWS));
        hits.resize_with(latents.div_ceil(len), Hits::default);
        let range = |r: usize| r * len..latents.min((r + 1) * len);
        hits.iter_mut().enumerate().for_each(|(r, hits)| hits.reset(range(r), rows.len(), *capacity));
        let (rounded, scratch) = (sae.rounded.get(), &*scratch);
        let shared = (input.len() > SMALL_BATCH).then_some(&*tiles);
        hits.par_iter_mut().enumerate().for_each(|(r, hits)| {
            let range = range(r);
            let w = match rounded {
                Some(rounded) => rounded.range(range.clone()),
                None => PrefilterWeights::Exact(&sae.W_enc.data()[range.start * dim..range.end * dim]),
            };
            let (bias, latent_limits) = (&sae.bias()[range.clone()], &latent_limits[range]);
            let mut scratch = scratch.lock();
            let Scratch { lines, tiles } = &mut *scratch;
            let batch = shared.unwrap_or_else(|| {
                tiles.round_rest(*isa, input, dim);
                tiles
            });
            isa.prefilter(&PrefilterQuery { batch, dim, rows, bias, latent_limits }, w, hits, lines);
        });
        let larger = |a: [f32; 3], b: [f32; 3]| std::array::from_fn(|i| a[i].max(b[i]));
        let largest = hits.iter().map(Hits::largest).fold([0.0f32; 3], larger);
        // The bound per residual is more than ‖x‖ + ‖x - x̂‖.
        rows.iter().all(|row| row.error_per_residual * (largest[0] + largest[1]) + largest[2] < 1e37)
    }

    /// Updates the guess by rows of which the k-th largest value and ‖x‖ are known.
    pub fn learn(&mut self, rows: impl Iterator<Item = (f32, f32)>) {
        self.guess.update(rows);
    }

    /// Updates the guess by the last batch. `kth_value` gives the exact k-th largest value of an unresolved row.
    pub fn learn_from_batch(&mut self, kth_value: impl Fn(usize) -> f32) {
        let Prefilter { guess, squares, lower_bounds, .. } = self;
        let row = |(b, (square, &bound)): (usize, (&[f32; 2], &f32))| {
            (if bound.is_nan() { kth_value(b) } else { bound }, square[0].sqrt())
        };
        guess.update(squares.iter().zip(&*lower_bounds).enumerate().map(row));
    }
}

#[cfg(test)]
mod tests;
