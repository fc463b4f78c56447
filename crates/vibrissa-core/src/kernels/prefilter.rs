//! Data of the bf16 prefilter: the rounded batch and weights, the query, and the latents that pass.
//!
//! The prefilter computes every pre-activation approximately, from values rounded to bf16, and keeps those whose upper
//! bound reaches a limit. Latents that do not pass cannot be selected, so their exact pre-activations are never
//! computed: a safe screening rule (El Ghaoui, Viallon & Rabbani 2012, arXiv 1009.4219). The bound on the rounding
//! error is derived in `model/prefilter.rs`.
//!
//! Notation: `x̂`, `ŵ` are rows rounded to bf16; *squared norms* of a row w are the pair `[‖w‖², ‖w - ŵ‖²]`.

use super::{Isa, advise_large_pages, prefetch, prefetch_to_write};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
/// Columns of a tile; also called a step, as products run over the columns tile by tile.
pub const TILE_COLUMNS: usize = 32;

/// One cache line and one row of a tile: 32 bf16 values in 16 pairs, the first of a pair in the low half.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct CacheLine(pub [u32; TILE_ROWS]);

/// Steps that are rounded and multiplied before the next ones: their tiles and those of x fit the L2 cache. Sums over a
/// chunk are added to each other, which bounds their error.
pub const CHUNK_TILES: usize = 32;

/// Rows of `w` in a panel; their products are computed side by side, in two tiles.
pub const PANEL_ROWS: usize = 2 * TILE_ROWS;

/// Number of latents in one [`Hits`], at most: a [`Hit`] stores the offset of its latent in 16 bits.
pub const MAX_RANGE: usize = 1 << 16;

/// Number of lines of scratch that [`Isa::prefilter`] needs for `rows` rows of `dim` values.
pub fn scratch_lines(rows: usize, dim: usize) -> usize {
    let steps = dim.div_ceil(TILE_COLUMNS);
    let sums = if steps > CHUNK_TILES { rows.div_ceil(TILE_ROWS) + 1 } else { 0 };
    PANEL_ROWS * (steps.min(CHUNK_TILES) + 2 + sums)
}

/// Number of lines of a panel of rounded weights with rows of `dim` values.
pub fn panel_lines(dim: usize) -> usize {
    PANEL_ROWS * dim.div_ceil(TILE_COLUMNS)
}

/// Index of the line that holds step `step` of row `j` of a panel. Lines are ordered by chunk of columns, and within a
/// chunk `[row / 16][step][row % 16]`.
pub fn line_index(dim: usize, j: usize, step: usize) -> usize {
    let first = step / CHUNK_TILES * CHUNK_TILES;
    let here = CHUNK_TILES.min(dim.div_ceil(TILE_COLUMNS) - first);
    first * PANEL_ROWS + (j / TILE_ROWS * here + step - first) * TILE_ROWS + j % TILE_ROWS
}

/// The weights `[n, dim]` that a query is run on.
#[derive(Clone, Copy, Debug)]
pub enum PrefilterWeights<'a> {
    /// Unrounded weights, rounded panel by panel during the query.
    Exact(&'a [f32]),
    /// Panels rounded earlier by [`Isa::round_weights`], and the squared norms `[n]` of the rows.
    Rounded(&'a [CacheLine], &'a [[f32; 2]]),
}

/// All weights `[n, dim]` rounded to bf16, with the squared norms of every row.
#[derive(Debug)]
pub struct RoundedWeights {
    lines: Vec<CacheLine>,
    squares: Vec<[f32; 2]>,
    panel: usize,
}

impl RoundedWeights {
    /// Rounds `w [n, dim]`, in the current rayon pool.
    pub fn new(isa: Isa, w: &[f32], dim: usize) -> RoundedWeights {
        let (n, panel) = (w.len() / dim, panel_lines(dim));
        let mut lines = vec![CacheLine::default(); n.div_ceil(PANEL_ROWS) * panel];
        advise_large_pages((lines.as_ptr().cast(), size_of_val(&lines[..])));
        let mut squares = vec![[0.0; 2]; n];
        let panels = lines.par_chunks_mut(panel).zip(squares.par_chunks_mut(PANEL_ROWS));
        let panels = panels.zip(w.par_chunks(PANEL_ROWS * dim));
        panels.for_each(|((lines, squares), w)| isa.round_weights(w, dim, lines, squares));
        RoundedWeights { lines, squares, panel }
    }

    /// The weights of a range of latents, which starts at a multiple of [`PANEL_ROWS`].
    pub fn range(&self, latents: Range<usize>) -> PrefilterWeights<'_> {
        let panels = latents.start / PANEL_ROWS..latents.end.div_ceil(PANEL_ROWS);
        let lines = &self.lines[panels.start * self.panel..panels.end * self.panel];
        PrefilterWeights::Rounded(lines, &self.squares[latents])
    }
}

/// An upper bound on the norm of a row of `dim` values, from a computed sum of squares that may have lost some to
/// rounding and underflow.
pub fn norm_upper_bound(square: f32, dim: usize) -> f32 {
    let dim = dim as f64;
    ((f64::from(square) + dim * f64::from(f32::MIN_POSITIVE)) * (1.0 + dim * 2f64.powi(-23))).sqrt() as f32 * 1.000_001
}

/// The limit of a row, and the rounding error of its approximate pre-activations.
#[derive(Clone, Copy, Debug)]
pub struct RowBound {
    /// Only pre-activations that may reach this value pass.
    pub limit: f32,
    /// Error for each unit of ‖w‖.
    pub error_per_norm: f32,
    /// Error for each unit of ‖w - ŵ‖.
    pub error_per_residual: f32,
}

/// A search for the pre-activations `x[b] · w[j] + bias[j]` that may reach both the limit of their row and the limit of
/// their latent.
#[derive(Clone, Copy, Debug)]
pub struct PrefilterQuery<'a> {
    /// The batch `[B, dim]`.
    pub batch: &'a BatchTiles,
    /// Values a row.
    pub dim: usize,
    /// The bounds of each row `[B]`.
    pub rows: &'a [RowBound],
    /// The bias of each latent `[n]`.
    pub bias: &'a [f32],
    /// The limit of each latent `[n]`.
    pub latent_limits: &'a [f32],
}

/// The bounds of the latents of one panel, side by side; places beyond the last latent have an infinite limit and never
/// pass.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct PanelBounds {
    /// Bias of each latent.
    pub bias: [f32; PANEL_ROWS],
    /// Upper bounds on ‖w‖.
    pub norm: [f32; PANEL_ROWS],
    /// Upper bounds on ‖w - ŵ‖.
    pub residual: [f32; PANEL_ROWS],
    /// Error that depends on neither: underflow, and the rounding of the bias.
    pub constant: [f32; PANEL_ROWS],
    /// Limit of each latent.
    pub limit: [f32; PANEL_ROWS],
}

impl PanelBounds {
    /// The bounds of the latents of a query from `first` on, whose squared norms are `squares`. Updates
    /// [`Hits::largest`].
    pub fn new(query: &PrefilterQuery, first: usize, squares: &[[f32; 2]], hits: &mut Hits) -> PanelBounds {
        let zero = [0.0; PANEL_ROWS];
        let limit = [f32::INFINITY; PANEL_ROWS];
        let mut all = PanelBounds { bias: zero, norm: zero, residual: zero, constant: zero, limit };
        for (j, &square) in squares.iter().enumerate() {
            let bias = query.bias[first + j];
            let [norm, residual] = square.map(|square| norm_upper_bound(square, query.dim));
            // The sums lose at most this to underflow, and the bias is rounded twice.
            let constant = 1.001 * (4.0 * f32::EPSILON * bias.abs() + 4.0 * query.dim as f32 * f32::MIN_POSITIVE);
            (all.bias[j], all.norm[j], all.residual[j], all.constant[j]) = (bias, norm, residual, constant);
            all.limit[j] = query.latent_limits[first + j];
            let [largest_norm, largest_residual, largest_bias] = hits.largest;
            hits.largest = [largest_norm.max(norm), largest_residual.max(residual), largest_bias.max(bias.abs())];
        }
        all
    }
}

/// A latent that passed the prefilter for one row: its offset in the range of latents, its approximate pre-activation
/// and the error of that. Later `p` holds the number of a request, then the exact pre-activation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(8))]
pub struct Hit {
    /// The error in the upper half, rounded up to a bf16; the offset in the lower half.
    tag: u32,
    /// The pre-activation; see [`super::scalar::prefilter`].
    pub p: f32,
}

impl Hit {
    /// A hit of the latent at `offset` of its range, with pre-activation `p ± error`.
    pub fn new(offset: usize, error: f32, p: f32) -> Hit {
        debug_assert!(offset < MAX_RANGE);
        Hit { tag: error.to_bits().wrapping_add(0xffff) & 0xffff_0000 | offset as u32, p }
    }

    /// Offset of the latent in its range.
    #[inline]
    pub fn offset(self) -> u32 {
        self.tag & 0xffff
    }

    /// Stores the number of the request for the exact pre-activation, in place of the approximate one.
    #[inline]
    pub fn set_request(&mut self, request: u32) {
        self.p = f32::from_bits(request);
    }

    /// The number of the request for the exact pre-activation.
    #[inline]
    pub fn request(self) -> u32 {
        self.p.to_bits()
    }

    /// Upper bound on the error of the approximate pre-activation, at most 1 % above the computed one.
    #[inline]
    pub fn error(self) -> f32 {
        f32::from_bits(self.tag & 0xffff_0000)
    }
}

/// The stored hits of row `b`, at most `capacity`; none if there is no such row.
#[inline]
fn row_hits<'a>(hits: &'a [Hit], len: &[u32], capacity: usize, b: usize) -> &'a [Hit] {
    len.get(b).map_or(&[], |&n| &hits[b * capacity..][..capacity.min(n as usize)])
}

/// Number of rows by which hits are prefetched: those of one row lie far from those of the next.
const PREFETCH_ROWS: usize = 3;

/// The hits of one range of latents, row by row and by ascending latent.
#[derive(Debug, Default)]
pub struct Hits {
    /// Index of the first latent of the range, and number of latents.
    first: u32,
    latents: usize,
    capacity: usize,
    len: Vec<u32>,
    hits: Vec<Hit>,
    /// See [`Hits::largest`].
    largest: [f32; 3],
}

impl Hits {
    /// Empties it for a range of latents and `rows` rows of at most `capacity` hits. Allocates only when it grows.
    ///
    /// # Panics
    /// If the range has more than [`MAX_RANGE`] latents.
    pub fn reset(&mut self, latents: Range<usize>, rows: usize, capacity: usize) {
        assert!(latents.len() <= MAX_RANGE);
        (self.first, self.latents, self.largest) = (latents.start as u32, latents.len(), [0.0; 3]);
        // The SIMD twins write a whole vector of hits at the end of a row.
        self.capacity = capacity + TILE_ROWS;
        self.len.clear();
        self.len.resize(rows, 0);
        if self.hits.len() < rows * self.capacity {
            self.hits.resize(rows * self.capacity, Hit::default());
        }
    }

    /// The hits of row `b`; `None` if there were more than its capacity.
    pub fn row(&self, b: usize) -> Option<&[Hit]> {
        let len = self.len[b] as usize;
        (len + TILE_ROWS <= self.capacity).then(|| &self.hits[b * self.capacity..][..len])
    }

    /// The number of hits of row `b`, and whole blocks that start with them: values behind the last hit have no
    /// meaning.
    pub fn row_blocks(&self, b: usize) -> Option<(usize, &[[Hit; TILE_ROWS]])> {
        let n = self.row(b)?.len();
        Some((n, self.hits[b * self.capacity..][..n.next_multiple_of(TILE_ROWS)].as_chunks().0))
    }

    /// Prefetches the hits of row `b`, if there is one.
    #[inline]
    pub fn prefetch_row(&self, b: usize) {
        prefetch(row_hits(&self.hits, &self.len, self.capacity, b));
    }

    /// Index of the latent of a hit.
    #[inline]
    pub fn latent(&self, hit: Hit) -> u32 {
        self.first + hit.offset()
    }

    /// The largest ‖w‖, ‖w - ŵ‖ and |bias| of the latents of the range.
    pub fn largest(&self) -> [f32; 3] {
        self.largest
    }

    /// Number of hits of the row that has the most, those beyond its capacity included.
    pub fn longest_row(&self) -> usize {
        self.len.iter().max().map_or(0, |&n| n as usize)
    }

    /// The range of latents.
    pub fn latents(&self) -> Range<usize> {
        self.first as usize..self.first as usize + self.latents
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.len.len()
    }

    /// Number of hits that each row has memory for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Drops the hits whose upper bound is below `reached` of their row, and all hits of a row where that is NaN. Adds
    /// the number that stay to `counts`, by offset.
    pub fn retain_reaching(&mut self, reached: &[f32], counts: &mut [u32]) {
        let Hits { capacity, len, hits, latents, .. } = self;
        let counts = &mut counts[..*latents];
        for (b, &reached) in reached.iter().enumerate() {
            prefetch_to_write(row_hits(hits, len, *capacity, b + PREFETCH_ROWS));
            let n = if reached.is_nan() { 0 } else { len[b] as usize };
            let row = &mut hits[b * *capacity..][..n];
            let mut kept = 0;
            for j in 0..n {
                let hit = row[j];
                let stays = hit.p + hit.error() >= reached;
                row[kept] = hit;
                kept += usize::from(stays);
                counts[hit.offset() as usize] += u32::from(stays);
            }
            len[b] = kept as u32;
        }
    }

    /// Calls `each(row, hit)` for all hits, row by row.
    pub fn for_each(&mut self, mut each: impl FnMut(u32, &mut Hit)) {
        for (b, &n) in self.len.iter().enumerate() {
            for hit in &mut self.hits[b * self.capacity..][..n as usize] {
                each(b as u32, hit);
            }
        }
    }

    /// The lengths of the rows, all hits, and the number of hits that each row has memory for: [`TILE_ROWS`] more than
    /// its capacity.
    pub fn parts_mut(&mut self) -> (&mut [u32], &mut [Hit], usize) {
        (&mut self.len, &mut self.hits, self.capacity)
    }
}

/// The bits of the nearest bf16, ties to even; zero of the same sign below the smallest normal number.
#[inline]
pub fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7f80_0000 == 0 { bits >> 31 << 15 } else { rounded }
}

/// The value of bf16 bits.
#[inline]
pub fn from_bf16(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// A batch rounded to bf16, 16 rows side by side: pairs `[row / 16][column / 32][column % 32 / 2][row % 16]`, zeros
/// beyond the last row and column.
#[derive(Debug, Default)]
pub struct BatchTiles {
    rows: usize,
    steps: usize,
    lines: Vec<CacheLine>,
    /// True for the blocks of 16 rows that [`BatchTiles::round_block`] has rounded.
    rounded: Vec<bool>,
}

impl BatchTiles {
    /// Rounds `x [B, dim]` and writes its squared norms to `squares [B]`. Allocates only when it grows.
    pub fn round(&mut self, isa: Isa, x: &[f32], dim: usize, squares: &mut [[f32; 2]]) {
        assert_eq!(x.len(), squares.len() * dim, "squares of every row");
        self.reset(squares.len(), dim);
        let blocks = self.lines.par_chunks_mut(self.steps * TILE_ROWS).zip(squares.par_chunks_mut(TILE_ROWS));
        let blocks = blocks.zip(x.par_chunks(TILE_ROWS * dim));
        blocks.for_each(|((lines, squares), x)| isa.round_batch_block(x, dim, lines, squares));
    }

    /// Makes room for `rows` rows of `dim` values, no block rounded yet. Allocates only when it grows.
    pub fn reset(&mut self, rows: usize, dim: usize) {
        (self.rows, self.steps) = (rows, dim.div_ceil(TILE_COLUMNS));
        let blocks = rows.div_ceil(TILE_ROWS);
        self.lines.resize(blocks * self.steps * TILE_ROWS, CacheLine::default());
        self.rounded.clear();
        self.rounded.resize(blocks, false);
    }

    /// Rounds block `block` (16 rows) of the batch `x [B, dim]` of the last [`BatchTiles::reset`]; `squares` become the
    /// squared norms of its rows.
    pub fn round_block(&mut self, isa: Isa, x: &[f32], dim: usize, block: usize, squares: &mut [[f32; 2]]) {
        let (lines, values) = (self.steps * TILE_ROWS, TILE_ROWS * dim);
        let x = &x[block * values..x.len().min((block + 1) * values)];
        isa.round_batch_block(x, dim, &mut self.lines[block * lines..][..lines], squares);
        self.rounded[block] = true;
    }

    /// Rounds the blocks that are not rounded yet.
    pub fn round_rest(&mut self, isa: Isa, x: &[f32], dim: usize) {
        for block in 0..self.rounded.len() {
            if !self.rounded[block] {
                let rows = TILE_ROWS.min(self.rows - block * TILE_ROWS);
                self.round_block(isa, x, dim, block, &mut [[0.0; 2]; TILE_ROWS][..rows]);
            }
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of steps: tiles side by side that the columns take.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The lines of all tiles.
    pub fn lines(&self) -> &[CacheLine] {
        &self.lines
    }

    /// One rounded value.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let pair = self.lines[row / TILE_ROWS * self.steps * TILE_ROWS + col / 2].0[row % TILE_ROWS];
        from_bf16(if col.is_multiple_of(2) { pair & 0xffff } else { pair >> 16 })
    }
}

#[cfg(test)]
mod tests;
