//! Encoding by a screen: products in bf16 say which latents can be among the k largest, and only these are computed in
//! f32. What is selected, and every value, is that of the dense product, to the bit.
//!
//! With `x̂, ŵ` the rounded rows, `|x·w - x̂·ŵ| ≤ ‖x‖ ‖w - ŵ‖ + ‖x - x̂‖ ‖ŵ‖` (Cauchy–Schwarz). Sums in f32 add at most
//! `c ‖x̂‖ ‖ŵ‖`, `c = 1.2 n 2⁻²⁴`, n the roundings that one product may go through (Higham, Accuracy and Stability of Numerical
//! Algorithms, §3.1 and §4.2): of approximate sums those of 1,024 columns and of the sums of these, of exact ones D/16 and a few.
//! The norms are computed, not guessed.
//!
//! A guess of the k-th largest value decides which sums leave the kernel at all. Where it was too high for a row, or let more through
//! than there is room for, that row is left to the dense product.

use super::asked::Asked;
use super::{Config, Sae, reserve};
use crate::activation::select::threshold::Thresholds;
use crate::activation::select::{Candidates, PrefilteredRow};
use crate::kernels::prefilter::{
    BatchTiles, CHUNK_TILES, CacheLine, Hits, MAX_RANGE, PANEL_ROWS, PrefilterQuery, PrefilterWeights, RoundedWeights,
    RowBound, TILE_COLUMNS, TILE_ROWS, norm_upper_bound, scratch_lines,
};
use crate::kernels::{Isa, PerThread};
use rayon::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Weights that several batches were encoded with are rounded once for all that come; whoever changes them makes a new one.
#[derive(Debug, Default)]
pub struct Kept {
    batches: AtomicU32,
    rounded: OnceLock<RoundedWeights>,
}

/// It belongs to one model, and is no part of what that is.
impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Kept) -> bool {
        true
    }
}

/// Batches after which weights are rounded to be kept: rounding costs about as much as encoding a small batch.
const BATCHES: u32 = 3;

impl Kept {
    /// One more batch will be encoded.
    pub fn count(&self, sae: &Sae, isa: Isa, rows: usize) {
        if possible(isa, rows, &sae.config, true) && self.batches.fetch_add(1, Ordering::Relaxed) == BATCHES {
            // Outside of the lock: a worker that waits for others may come here for another batch.
            let _ = self.rounded.set(RoundedWeights::new(isa, sae.W_enc.data(), sae.config.d_in));
        }
    }

    /// The rounded encoder, if there is one.
    pub fn get(&self) -> Option<&RoundedWeights> {
        self.rounded.get()
    }
}

/// Whether a screen may pay at all: rounding the weights must, and most exact products must be spared.
fn possible(isa: Isa, rows: usize, config: &Config, rounded: bool) -> bool {
    let enough = rows >= if rounded { TILE_ROWS } else { FEWEST_ROWS };
    isa.has_prefilter() && enough && 8 * config.k <= config.latents && config.d_in <= MOST_COLUMNS
}

/// What may be selected.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The k largest of a row.
    Top(usize),
    /// All that exceed these.
    Above(Thresholds<'a>),
}

/// A screen, and what it found last.
#[derive(Debug, Default)]
pub struct Screen {
    /// Of a large batch.
    tiles: BatchTiles,
    /// `‖x[b]‖²`, and of what rounding took from it.
    squares: Vec<[f32; 2]>,
    scratch: PerThread<Scratch>,
    rows: Vec<RowBound>,
    limits: Vec<f32>,
    /// By range of latents.
    found: Vec<Hits>,
    asked: Vec<Asked>,
    /// Entries of a row that each of these has room for.
    room: usize,
    /// A guess below which share of ‖x‖ the k-th largest value of no row lies. It decides how much is looked at, never what is found.
    guess: Option<f32>,
    /// Of each row a value that its k-th largest reaches; NaN where that is not known.
    reached: Vec<f32>,
    /// Scratch of [`Screen::learn`].
    shares: Vec<f32>,
    /// Rows of which the screen could not say what may be selected.
    left: Vec<u32>,
    /// The screen told too little on a batch before: so many more are left to the dense product.
    blunt: u32,
    /// Too many rows were left, so many times one after the other.
    missed: u32,
    /// What the products of the last batch took.
    took: Duration,
}

/// What a worker has of its own.
#[derive(Debug, Default)]
struct Scratch {
    lines: Vec<CacheLine>,
    /// Of a small batch: rounding it again takes less time than fetching what another core has rounded.
    tiles: BatchTiles,
}

/// A batch of at most so many values is rounded by each worker for itself, and takes a quarter of a second cache of 1 MB.
const SMALL_BATCH: usize = 1 << 17;

/// Batches that are left to the dense product where a screen did not pay: latents may become sparse while training.
const PATIENCE: u32 = 64;

/// Batches one after the other of which a screen leaves too many rows, after which it did not pay.
const MOST_MISSED: u32 = 3;

/// A screen that asks for more exact products than one latent in so many (and the k largest) costs more than it spares.
const MOST_ASKED: usize = 8;

/// Fewer rows wait for the weights anyway, whatever is done with them.
const FEWEST_ROWS: usize = 32;

/// Fewer rows than that are better off with the dense product where they ask for more than one latent in [`MOST_READ`]: the weights
/// of these are read twice.
const FEW_ROWS: usize = 64;
const MOST_READ: usize = 3;

/// Beyond this many columns the sums of f32 are no longer small beside the rounding to bf16.
const MOST_COLUMNS: usize = 1 << 17;

/// Rows of a batch that may be left to the dense product.
pub fn most_left(rows: usize) -> usize {
    rows / 16 + 1
}

/// Ranges of latents for each worker: every row has a few entries in each, which lie apart.
const RANGES: usize = 2;

impl Screen {
    /// Whether a batch of this many rows is encoded faster by a screen.
    pub fn pays(&mut self, isa: Isa, rows: usize, sae: &Sae) -> bool {
        let may = possible(isa, rows, &sae.config, sae.kept.get().is_some());
        if may && self.blunt > 0 {
            self.blunt -= 1;
            return false;
        }
        may
    }

    /// Whether what a batch asks for costs less than the dense product; if not, the next ones are left to that, too.
    pub fn spares(&mut self, rows: usize, sae: &Sae) -> bool {
        let config = &sae.config;
        let (asked, latents) = self.count();
        let few = rows < FEW_ROWS && MOST_READ * latents > config.latents && sae.kept.get().is_none();
        let enough = self.left.len() <= most_left(rows);
        self.missed = if enough { 0 } else { self.missed + 1 };
        let much = asked > rows * (config.k + config.latents / MOST_ASKED);
        if few || much || self.missed >= MOST_MISSED {
            (self.blunt, self.missed) = (PATIENCE, 0);
        }
        enough && !few && !much
    }

    /// Whether there is a guess to begin with.
    pub fn has_guess(&self) -> bool {
        self.guess.is_some()
    }

    /// What the products of the last batch took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Rows that were left, ascending.
    pub fn left(&self) -> &[u32] {
        &self.left
    }

    /// Entries that were asked for, and latents that have any.
    fn count(&self) -> (usize, usize) {
        self.asked.iter().map(Asked::count).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// What a row asked for, and was answered.
    pub fn row(&self, b: usize) -> PrefilteredRow<'_> {
        PrefilteredRow { found: &self.found, row: b }
    }

    /// Asks for the exact values of what may be selected of `input [B, D]`; false where no bound can be given (weights or rows are near the
    /// end of f32).
    pub fn ask(
        &mut self,
        (sae, isa): (&Sae, Isa),
        input: &[f32],
        wanted: Wanted,
        candidates: &PerThread<Candidates>,
    ) -> bool {
        let Config { d_in, latents, k, .. } = sae.config;
        let (rows, started) = (input.len() / d_in, Instant::now());
        self.round(isa, input, d_in);
        self.aim(wanted, d_in, latents);
        let bounded = self.find(sae, isa, input, candidates.len(), k);
        self.took = started.elapsed();
        if !bounded {
            return false;
        }
        let Screen { found, asked, rows: limits, reached, left, room, .. } = self;
        reached.resize(rows, 0.0);
        reached.par_iter_mut().zip(&*limits).enumerate().with_min_len(8).for_each(|(b, (reached, bound))| {
            let row = PrefilteredRow { found, row: b };
            let least = match wanted {
                Wanted::Top(k) => row.kth_lower_bound(isa, k, bound.limit, &mut candidates.lock()),
                Wanted::Above(_) => row.is_complete().then_some(f32::NEG_INFINITY),
            };
            *reached = least.unwrap_or(f32::NAN);
        });
        left.clear();
        left.extend((0..rows as u32).filter(|&b| reached[b as usize].is_nan()));
        // Kept where there is some to spare, so that memory is asked for now and then, not with every fuller batch.
        let fullest = found.iter().map(Hits::longest_row).max().unwrap_or(0);
        if fullest + fullest / 8 > *room {
            *room = fullest + fullest / 2 + TILE_ROWS;
        }
        asked.resize_with(found.len(), Asked::default);
        asked.par_iter_mut().zip(found).for_each(|(asked, found)| asked.ask(found, reached));
        true
    }

    /// Answers what was asked for.
    pub fn answer(&mut self, sae: &Sae, isa: Isa, input: &[f32]) {
        self.asked.par_iter_mut().zip(&mut self.found).for_each(|(asked, found)| asked.answer(found, sae, isa, input));
    }

    /// Rounds the batch; of a small one each block in the worker that comes to it, which rounds the others when it needs them.
    fn round(&mut self, isa: Isa, input: &[f32], dim: usize) {
        let Screen { tiles, squares, scratch, .. } = self;
        let rows = input.len() / dim;
        scratch.grow();
        squares.resize(rows, [0.0; 2]);
        if input.len() > SMALL_BATCH {
            return tiles.round(isa, input, dim, squares);
        }
        scratch.iter_mut().for_each(|own| own.tiles.reset(rows, dim));
        let scratch = &*scratch;
        squares.par_chunks_mut(TILE_ROWS).enumerate().for_each(|(block, squares)| {
            let mut own = scratch.lock();
            own.tiles.round_block(isa, input, dim, block, squares);
        });
    }

    /// Sets the limits of the rows that were laid out, their errors, and the limits of the latents.
    fn aim(&mut self, wanted: Wanted, dim: usize, latents: usize) {
        let steps = dim.div_ceil(TILE_COLUMNS);
        // Roundings one after the other: of approximate sums, of their sums, and of the lanes of exact ones.
        let chain = dim.min(CHUNK_TILES * TILE_COLUMNS) + steps.div_ceil(CHUNK_TILES) + dim.div_ceil(16) + 80;
        let rounding = 1.2 * chain as f32 * (f32::EPSILON / 2.0);
        self.rows.clear();
        self.rows.extend(self.squares.iter().map(|&squares| {
            let [x, lost] = squares.map(|square| norm_upper_bound(square, dim));
            let limit = match wanted {
                Wanted::Top(_) => self.guess.unwrap_or(0.0) * x,
                Wanted::Above(_) => f32::NEG_INFINITY,
            };
            let error_per_norm = 1.001 * (lost + rounding * (x + lost));
            RowBound { limit, error_per_norm, error_per_residual: 1.001 * (x + lost) * (1.0 + rounding) }
        }));
        self.limits.clear();
        match wanted {
            Wanted::Top(_) => self.limits.resize(latents, f32::NEG_INFINITY),
            Wanted::Above(t) => self.limits.extend((0..latents).map(|h| t.at(h))),
        }
    }

    /// Finds what may reach the limits; false where no bound can be given.
    fn find(&mut self, sae: &Sae, isa: Isa, input: &[f32], threads: usize, k: usize) -> bool {
        let Screen { tiles, scratch, rows, limits, found, room, .. } = self;
        let Config { d_in: dim, latents, .. } = sae.config;
        for own in scratch.iter_mut() {
            reserve(&mut own.lines, scratch_lines(rows.len(), dim));
        }
        let range = (latents.div_ceil(PANEL_ROWS).div_ceil(RANGES * threads.max(1)) * PANEL_ROWS).min(MAX_RANGE);
        *room = (*room).max(range.min(4 * k * range / latents + 3 * TILE_ROWS));
        found.resize_with(latents.div_ceil(range), Hits::default);
        let own = |r: usize| r * range..latents.min((r + 1) * range);
        found.iter_mut().enumerate().for_each(|(r, f)| f.reset(own(r), rows.len(), *room));
        let (rounded, scratch) = (sae.kept.get(), &*scratch);
        let shared = (input.len() > SMALL_BATCH).then_some(&*tiles);
        found.par_iter_mut().enumerate().for_each(|(r, found)| {
            let own = own(r);
            let w = PrefilterWeights::Exact(&sae.W_enc.data()[own.start * dim..own.end * dim]);
            let w = rounded.map_or(w, |rounded| rounded.range(own.clone()));
            let (bias, limits) = (&sae.bias()[own.clone()], &limits[own.clone()]);
            let mut own = scratch.lock();
            let Scratch { lines, tiles } = &mut *own;
            let x = shared.unwrap_or_else(|| {
                tiles.round_rest(isa, input, dim);
                tiles
            });
            isa.prefilter(&PrefilterQuery { batch: x, dim, rows, bias, latent_limits: limits }, w, found, lines);
        });
        let larger = |a: [f32; 3], b: [f32; 3]| std::array::from_fn(|i| a[i].max(b[i]));
        let most = found.iter().map(Hits::largest).fold([0.0f32; 3], larger);
        // The last is more than ‖x‖ + ‖x - x̂‖.
        rows.iter().all(|row| row.error_per_residual * (most[0] + most[1]) + most[2] < 1e37)
    }

    /// Learns from rows of which a value that its k-th largest reaches, and ‖x‖, are known.
    pub fn learn(&mut self, rows: impl Iterator<Item = (f32, f32)>) {
        follow(&mut self.guess, &mut self.shares, rows);
    }

    /// Learns from the batch that was asked for last; `least` is the k-th largest value of a row, known now.
    pub fn learn_from(&mut self, least: impl Fn(usize) -> f32) {
        let Screen { guess, shares, squares, reached, .. } = self;
        let row =
            |(b, (square, &t)): (usize, (&[f32; 2], &f32))| (if t.is_nan() { least(b) } else { t }, square[0].sqrt());
        follow(guess, shares, squares.iter().zip(&*reached).enumerate().map(row));
    }
}

/// Guesses where the next rows' k-th largest values are, from these: a value that each row's reaches, and ‖x‖. The guess follows downwards
/// at once, upwards slowly; single rows far below the others are left to the dense product. `shares` is scratch.
fn follow(guess: &mut Option<f32>, shares: &mut Vec<f32>, rows: impl Iterator<Item = (f32, f32)>) {
    shares.clear();
    shares.extend(rows.map(|(reached, norm)| reached / norm).filter(|share| share.is_finite()));
    let n = shares.len();
    if n == 0 {
        return;
    }
    let (below, &mut middle, _) = shares.select_nth_unstable_by(n / 2, f32::total_cmp);
    let quarter = match below.len() {
        0 => middle,
        half => *below.select_nth_unstable_by(half / 2, f32::total_cmp).1,
    };
    let spread = (middle - quarter).max(0.02 * middle.abs());
    let least = shares[..=n / 4].iter().fold(f32::INFINITY, |m, &s| m.min(s)).max(middle - 6.0 * spread);
    let safe = least - 0.05 * least.abs();
    *guess = Some(match *guess {
        Some(guess) if guess < safe => guess + 0.125 * (safe - guess),
        _ => safe,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::select::rank::{select, top_k_of_prefiltered};
    use crate::kernels::prefilter::{from_bf16, to_bf16};
    use crate::matrix::{Latents, Mat};
    use crate::model::step::{Engine, State, StepOptions};
    use crate::model::{self, Workspace};
    use crate::random::Stream;

    fn sae(d_in: usize, latents: usize, k: usize, weights: Mat, bias: Vec<f32>) -> Sae {
        let config =
            Config { d_in, latents, k, relu_after: false, tied: true, decoder_bias: false, ..Config::default() };
        Sae::new(config, model::Weights { W_enc: weights, b_enc: bias, ..model::Weights::default() })
            .expect("consistent")
    }

    /// Indices and bits.
    type Row = Vec<(u32, u32)>;

    /// Those of every row, as the dense product gives them.
    fn dense(sae: &Sae, x: &Mat) -> Vec<Vec<(u32, u32)>> {
        let (mut work, mut latents) = (Workspace::new(Isa::SCALAR), Latents::default());
        sae.encode(x.view(), &mut work, &mut latents).expect("finite");
        assert!(!work.prefiltered);
        rows(&latents)
    }

    fn rows(latents: &Latents) -> Vec<Vec<(u32, u32)>> {
        let row = |b| {
            let (index, value) = latents.row(b);
            index.iter().zip(value).map(|(&i, v)| (i, v.to_bits())).collect()
        };
        (0..latents.rows()).map(row).collect()
    }

    /// As [`dense`], by a screen that has no guess, and by one that has; none for rows that it left.
    fn screened(isa: Isa, sae: &Sae, x: &Mat) -> Option<[Vec<Option<Row>>; 2]> {
        let k = sae.config.k;
        let candidates = PerThread::<Candidates>::new();
        let mut latents = Latents::default();
        let mut screen = Screen { guess: Some(-1e30), room: sae.config.latents, ..Screen::default() };
        let mut bounded = true;
        let all = [(); 2].map(|()| {
            bounded &= screen.ask((sae, isa), x.data(), Wanted::Top(k), &candidates);
            if !bounded {
                return Vec::new();
            }
            screen.answer(sae, isa, x.data());
            let find = |b: usize, own: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
                top_k_of_prefiltered(isa, k, screen.row(b), own, index, value)
            };
            select(k, false, x.rows(), &candidates, &mut latents, find);
            screen.learn_from(|b| latents.row(b).1.iter().fold(0.0, |m, &v| m.min(v)));
            let row = |(b, row)| (!screen.left.contains(&(b as u32))).then_some(row);
            rows(&latents).into_iter().enumerate().map(row).collect()
        });
        bounded.then_some(all)
    }

    /// Checks that a screen finds what the dense product finds; says how many of the rows it left where it had a guess.
    fn same(isa: Isa, sae: &Sae, x: &Mat, case: &str) -> usize {
        let want: Vec<Option<Row>> = dense(sae, x).into_iter().map(Some).collect();
        let [first, second] = screened(isa, sae, x).expect("a bound");
        assert_eq!(first, want, "{} {case}", isa.name());
        for (got, want) in second.iter().zip(&want).filter(|(got, _)| got.is_some()) {
            assert_eq!(got, want, "{} {case} with a guess", isa.name());
        }
        second.iter().filter(|row| row.is_none()).count()
    }

    #[test]
    fn a_screen_selects_what_the_dense_product_selects() {
        let (mut s, mut left, mut all) = (Stream::new(5, "screen", &[]), 0, 0);
        for (b, d, h, k) in [(20, 33, 100, 5), (17, 784, 256, 20), (64, 8, 500, 3), (3, 2000, 64, 64), (1, 1, 60, 7)] {
            let mut noise = |rows: usize, cols: usize, size: f64| {
                Mat::from_vec(rows, cols, (0..rows * cols).map(|_| (size * s.normal()) as f32).collect())
            };
            let (x, w) = (noise(b, d, 1.0), noise(h, d, 0.1));
            // Ties and neighbours one rounding apart; rows of zeros; weights that bf16 holds exactly; wide ranges.
            let mut close = w.clone();
            for i in 0..h {
                let from = w.row(i / 8 * 8).to_vec();
                let nudge = |(j, v): (usize, f32)| if j == i % 8 && i % 3 == 0 { v.next_up() } else { v };
                close.row_mut(i).copy_from_slice(&from.into_iter().enumerate().map(nudge).collect::<Vec<_>>());
            }
            let mut sparse = x.clone();
            (0..b).step_by(3).for_each(|r| sparse.row_mut(r).fill(0.0));
            let coarse = Mat::from_vec(h, d, w.data().iter().map(|v| (v * 16.0).round() / 16.0).collect());
            let whole = Mat::from_vec(b, d, x.data().iter().map(|v| v.round()).collect());
            let scale = |m: &Mat, f: &dyn Fn(usize) -> f32| {
                Mat::from_vec(m.rows(), d, m.data().iter().enumerate().map(|(i, v)| v * f(i / d)).collect())
            };
            let wild = scale(&w, &|h| 10f32.powi(h as i32 % 25 - 12));
            let tiny = scale(&x, &|_| 1e-30);
            for (case, x, w) in [
                ("normal", &x, &w),
                ("close", &x, &close),
                ("zero rows", &sparse, &close),
                ("exact in bf16", &whole, &coarse),
                ("wild", &x, &wild),
                ("tiny", &tiny, &w),
                ("tiny and wild", &tiny, &wild),
            ] {
                for bias in [vec![0.0; h], noise(1, h, 1.0).data().to_vec(), noise(1, h, 1e5).data().to_vec()] {
                    let sae = sae(d, h, k, w.clone(), bias);
                    for isa in Isa::available() {
                        left += same(isa, &sae, x, &format!("{case} {d}→{h}"));
                        all += b;
                    }
                }
            }
        }
        // Ties and rows of zeros say little; elsewhere a guess from the same rows serves nearly all.
        assert!(4 * left < all, "{left} of {all} rows left");
    }

    /// Batches that are rounded once for all workers select the same as those that each rounds for itself, one after the other, too.
    #[test]
    fn large_batches_are_encoded_as_small_ones_are() {
        let mut s = Stream::new(13, "screen", &[]);
        let (d, h, k) = (128, 400, 7);
        let mut noise =
            |rows: usize, cols: usize| Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect());
        let sae = sae(d, h, k, noise(h, d), vec![0.0; h]);
        let [small, large] = [SMALL_BATCH / d, SMALL_BATCH / d + 1].map(|rows| noise(rows, d));
        for isa in Isa::available() {
            let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
            for x in [&small, &large, &small, &large] {
                sae.encode(x.view(), &mut work, &mut latents).expect("finite");
                assert_eq!(rows(&latents), dense(&sae, x), "{}", isa.name());
                assert_eq!(work.prefiltered, isa.has_prefilter());
            }
        }
    }

    /// Weights that were rounded to be kept select the same, and are forgotten when a step moves the weights.
    #[test]
    fn kept_weights_select_the_same_and_do_not_outlive_a_step() {
        let mut s = Stream::new(8, "screen", &[]);
        let (b, d, h, k) = (64, 1100, 500, 6);
        let mut noise =
            |rows: usize, cols: usize| Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect());
        let (x, w) = (noise(b, d), noise(h, d));
        let isa = *Isa::available().last().expect("scalar");
        let state = State::new(sae(d, h, k, w.clone(), vec![0.0; h]).config());
        let mut engine = Engine::new(isa, sae(d, h, k, w, vec![0.0; h]), state, StepOptions::default());
        for _ in 0..2 {
            let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
            for _ in 0..BATCHES + 3 {
                engine.sae().encode(x.view(), &mut work, &mut latents).expect("finite");
                assert_eq!(rows(&latents), dense(engine.sae(), &x));
            }
            assert_eq!(
                (engine.sae().kept.get().is_some(), work.prefiltered),
                (isa.has_prefilter(), isa.has_prefilter())
            );
            engine.step(x.view(), 0.1, None).expect("finite");
        }
    }

    /// The first latent is the largest by a hair, and rounding to bf16 makes it the smallest of all by as much as the
    /// bound allows.
    #[test]
    fn rounding_that_misleads_changes_nothing() {
        let (d, h) = (64, 400);
        let half = |sign: [f32; 2]| (0..d).map(move |j| sign[usize::from(j >= d / 2)]);
        // bf16 has 8 bits: `down` becomes 1, `up` becomes 1 + 2⁻⁷.
        let (down, up) = (1.0 + 2f32.powi(-8), (1.0 + 2f32.powi(-8)).next_up());
        let one_and_others = |one: Vec<f32>, other: Vec<f32>| {
            Mat::from_vec(h, d, (0..h).flat_map(|i| if i == h - 1 { one.clone() } else { other.clone() }).collect())
        };
        let mut first = vec![0.0; h];
        first[h - 1] = 2e-5;
        let by_weights = (vec![1.0; d], one_and_others(vec![down; d], vec![up; d]), first);
        let (plus, minus) = (half([1.0, -1.0]).collect(), half([-1.0, 1.0]).collect());
        first = vec![0.0; h];
        first[h - 1] = 3e-5;
        let by_input = (half([down, up]).collect(), one_and_others(plus, minus), first);
        for (x, w, bias) in [by_weights, by_input] {
            let x = Mat::from_vec(3, d, x.repeat(3));
            let sae = sae(d, h, 1, w, bias);
            assert!(dense(&sae, &x).iter().all(|row: &Vec<(u32, u32)>| row[0].0 == h as u32 - 1), "as it was meant");
            Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "misled"));
        }
    }

    /// All that may exceed thresholds is found, those of single latents and one of all.
    #[test]
    fn what_may_exceed_a_threshold_is_asked_for() {
        let mut s = Stream::new(9, "screen", &[]);
        let (b, d, h) = (40, 1100, 300);
        let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
        let (x, w) = (Mat::from_vec(b, d, noise(b * d, 1.0)), Mat::from_vec(h, d, noise(h * d, 0.03)));
        let (bias, mut each) = (noise(h, 0.1), noise(h, 1.0));
        let sae = sae(d, h, h, w, bias);
        let all = dense(&sae, &x);
        // Some are exactly what a row has: not above it.
        (0..h).step_by(7).for_each(|i| each[i] = f32::from_bits(all[i % b][i].1));
        let candidates = PerThread::<Candidates>::new();
        for isa in Isa::available() {
            for each in [&each[..], &each[..1]] {
                let mut screen = Screen { room: h, ..Screen::default() };
                let wanted = Wanted::Above(Thresholds { each, margin: 0.0 });
                assert!(screen.ask((&sae, isa), x.data(), wanted, &candidates) && screen.left.is_empty());
                screen.answer(&sae, isa, x.data());
                assert!(screen.count().0 < b * h * 4 / 5);
                for (b, row) in all.iter().enumerate() {
                    let exceeds = |h: u32, v: u32| f32::from_bits(v) > each[h as usize % each.len()];
                    let got: Vec<(u32, u32)> =
                        screen.row(b).entries().map(|(h, p)| (h, p.to_bits())).filter(|e| exceeds(e.0, e.1)).collect();
                    let want: Vec<(u32, u32)> = row.iter().copied().filter(|e| exceeds(e.0, e.1)).collect();
                    assert_eq!(got, want, "{} row {b}", isa.name());
                }
            }
        }
    }

    /// A guess that does not fit the next batch costs time only.
    #[test]
    fn rows_that_differ_from_those_before_are_encoded_as_ever() {
        let mut s = Stream::new(10, "screen", &[]);
        let (b, d, h, k) = (64, 100, 400, 9);
        let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
        let sae = sae(d, h, k, Mat::from_vec(h, d, noise(h * d, 0.1)), noise(h, 0.5));
        let isa = *Isa::available().last().expect("scalar");
        let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
        for round in 0..60 {
            let mut x = Mat::from_vec(b, d, noise(b * d, [1.0, 30.0, 0.01][round / 4 % 3]));
            (0..b).filter(|r| r % 7 == round % 7).for_each(|r| x.row_mut(r).iter_mut().for_each(|v| *v *= 0.001));
            sae.encode(x.view(), &mut work, &mut latents).expect("finite");
            assert_eq!(rows(&latents), dense(&sae, &x), "round {round}");
        }
    }

    /// Whatever the guess, a row of which k sums do not reach it for sure is left: what the guess kept out may belong to the k largest.
    #[test]
    fn a_guess_that_is_too_high_leaves_rows_and_changes_none() {
        let mut s = Stream::new(12, "screen", &[]);
        let (b, d, h, k) = (64, 40, 600, 8);
        let mut noise = |n: usize| (0..n).map(|_| s.normal() as f32).collect::<Vec<_>>();
        let (x, w) = (Mat::from_vec(b, d, noise(b * d)), Mat::from_vec(h, d, noise(h * d)));
        let sae = sae(d, h, k, w, vec![0.0; h]);
        let want = dense(&sae, &x);
        for isa in Isa::available() {
            let (mut left, mut latents, candidates) = ([0; 2], Latents::default(), PerThread::<Candidates>::new());
            for share in 0..60 {
                let guess = Some(1.0 + 0.05 * share as f32);
                let mut screen = Screen { guess, room: h, ..Screen::default() };
                assert!(screen.ask((&sae, isa), x.data(), Wanted::Top(k), &candidates));
                screen.answer(&sae, isa, x.data());
                select(k, false, b, &candidates, &mut latents, |b, own, index, value| {
                    top_k_of_prefiltered(isa, k, screen.row(b), own, index, value)
                });
                for (b, (got, want)) in rows(&latents).iter().zip(&want).enumerate() {
                    let is_left = screen.left.contains(&(b as u32));
                    left[usize::from(is_left)] += 1;
                    assert!(is_left || got == want, "{} guess {guess:?} row {b}", isa.name());
                }
            }
            assert!(left.iter().all(|&n| n > b), "{left:?}");
        }
    }

    /// Beside a large bias the sums differ by a few roundings only, which the two products take differently.
    #[test]
    fn the_rounding_of_the_bias_changes_nothing() {
        let mut s = Stream::new(6, "screen", &[]);
        let (d, h) = (40, 600);
        let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
        let (x, w) = (Mat::from_vec(50, d, noise(50 * d, 0.1)), Mat::from_vec(h, d, noise(h * d, 0.1)));
        let sae = sae(d, h, 20, w, vec![1e5; h]);
        Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "large bias"));
    }

    /// The same numbers, which bf16 holds exactly, in another order for each latent: only the rounding of sums tells them apart, and the two
    /// products round differently.
    #[test]
    fn the_rounding_of_sums_changes_nothing() {
        let mut s = Stream::new(11, "screen", &[]);
        for (d, h, k) in [(900, 400, 5), (2500, 300, 9)] {
            let mut row: Vec<f32> = (0..d).map(|_| from_bf16(to_bf16(s.normal() as f32))).collect();
            let mut w = Mat::zeros(h, d);
            for i in 0..h {
                (1..d).for_each(|j| row.swap(j, s.below(j as u64 + 1) as usize));
                w.row_mut(i).copy_from_slice(&row);
            }
            let (x, sae) = (Mat::from_vec(20, d, vec![1.0; 20 * d]), sae(d, h, k, w, vec![0.0; h]));
            Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "another order"));
        }
    }

    #[test]
    fn numbers_near_the_end_of_f32_are_left_to_the_dense_product() {
        for (x, w) in [(1e20, 1.0), (1.0, 3e38), (1e19, 1e19), (f32::NAN, 1.0)] {
            let sae = sae(1, 3, 1, Mat::from_vec(3, 1, vec![w, 1.0, 0.5]), vec![0.0; 3]);
            for isa in Isa::available() {
                assert_eq!(screened(isa, &sae, &Mat::from_vec(1, 1, vec![x])), None, "{} {x} {w}", isa.name());
            }
        }
    }
}
