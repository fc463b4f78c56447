//! Products in bf16, to find out cheaply which exact ones are needed. Their error is bounded, never corrected: see
//! `model/screen.rs`.

use super::{Isa, large_pages};
use rayon::prelude::*;

/// Rows of a tile.
pub const SIDE: usize = 16;
/// Columns of a tile.
pub const STEP: usize = 32;

/// One line of a cache: a row of a tile, 32 bf16 in 16 pairs, the first in the low half.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [u32; SIDE]);

/// Lines of scratch that [`super::Isa::screen`] needs for `rows` rows of `dim` values.
pub fn scratch_lines(rows: usize, dim: usize) -> usize {
    let steps = dim.div_ceil(STEP);
    let sums = if steps > CHUNK { rows.div_ceil(SIDE) } else { 1 };
    GROUPS * SIDE * (steps.min(CHUNK) + sums)
}

/// Tiles of columns that are rounded and multiplied before the next: with those of x they stay in the second cache.
pub const CHUNK: usize = 32;

/// Rows of `w` whose products are computed side by side, in tiles.
pub const GROUPS: usize = 3;

/// Lines of a panel of at most [`GROUPS`] × [`SIDE`] rows of weights that are rounded to bf16.
pub fn panel_lines(dim: usize) -> usize {
    GROUPS * SIDE * dim.div_ceil(STEP)
}

/// Where row j of a panel has its columns of a step: chunk by chunk of columns, then `[row / 16][step][row % 16]`.
pub fn line_of(dim: usize, j: usize, step: usize) -> usize {
    let first = step / CHUNK * CHUNK;
    let here = CHUNK.min(dim.div_ceil(STEP) - first);
    (first * GROUPS + j / SIDE * here + step - first) * SIDE + j % SIDE
}

/// The weights of a screen.
#[derive(Debug)]
pub enum Weights<'a> {
    /// As they are `[n, dim]`; leaves `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]` of each.
    Rows(&'a [f32], &'a mut [[f32; 2]]),
    /// Rounded before by [`Isa::round`], panel by panel.
    Rounded(&'a [Line]),
}

/// All weights `[n, dim]` rounded, and their `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]`.
#[derive(Debug)]
pub struct Rounded {
    lines: Vec<Line>,
    squares: Vec<[f32; 2]>,
    panel: usize,
}

impl Rounded {
    /// Rounds.
    pub fn new(isa: Isa, w: &[f32], dim: usize) -> Rounded {
        let (n, panel, rows) = (w.len() / dim, panel_lines(dim), GROUPS * SIDE);
        let mut lines = vec![Line::default(); n.div_ceil(rows) * panel];
        large_pages(&mut lines);
        let mut squares = vec![[0.0; 2]; n];
        let each = lines.par_chunks_mut(panel).zip(squares.par_chunks_mut(rows)).zip(w.par_chunks(rows * dim));
        each.for_each(|((lines, squares), w)| isa.round(w, dim, lines, squares));
        Rounded { lines, squares, panel }
    }

    /// The panel of latents from `p` × 48 on.
    pub fn panel(&self, p: usize) -> &[Line] {
        &self.lines[p * self.panel..][..self.panel]
    }

    /// `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]` of every row.
    pub fn squares(&self) -> &[[f32; 2]] {
        &self.squares
    }
}

/// The bits of the nearest bf16, ties to even; zero below the smallest normal number.
#[inline]
pub fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7f80_0000 == 0 { bits >> 31 << 15 } else { rounded }
}

/// The number of these bits.
#[inline]
pub fn from_bf16(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// A batch rounded to bf16, 16 rows side by side: `[row / 16][column / 32][column % 32 / 2][row % 16]` pairs, zeros
/// beyond the last row and column.
#[derive(Debug, Default)]
pub struct Tiles {
    rows: usize,
    steps: usize,
    lines: Vec<Line>,
    /// `‖x[b]‖²`, and of what rounding took from it.
    squares: Vec<[f32; 2]>,
}

impl Tiles {
    /// Rounds `x [B, dim]`; allocates only when it grows.
    pub fn fill(&mut self, isa: Isa, x: &[f32], dim: usize) {
        self.rows = x.len() / dim;
        self.steps = dim.div_ceil(STEP);
        let block = self.steps * SIDE;
        self.lines.resize(self.rows.div_ceil(SIDE) * block, Line::default());
        self.squares.resize(self.rows, [0.0; 2]);
        let blocks = self.lines.par_chunks_mut(block).zip(self.squares.par_chunks_mut(SIDE));
        blocks.zip(x.par_chunks(SIDE * dim)).for_each(|((lines, squares), x)| isa.lay_out(x, dim, lines, squares));
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tiles a row of tiles.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// All tiles.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// `‖x[b]‖²`, and of what rounding took from it, for every row.
    pub fn squares(&self) -> &[[f32; 2]] {
        &self.squares
    }

    /// One rounded value.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let pair = self.lines[row / SIDE * self.steps * SIDE + col / 2].0[row % SIDE];
        from_bf16(if col.is_multiple_of(2) { pair & 0xffff } else { pair >> 16 })
    }
}
