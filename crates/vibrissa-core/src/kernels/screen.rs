//! Products in bf16, to find out cheaply which exact ones are needed. Their error is bounded, never corrected: see
//! `model/screen.rs`.

use super::{Isa, large_pages, prefetch, prefetch_to_write};
use rayon::prelude::*;
use std::ops::Range;

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
    let sums = if steps > CHUNK { rows.div_ceil(SIDE) + 1 } else { 0 };
    PANEL * (steps.min(CHUNK) + 2 + sums)
}

/// Tiles of columns that are rounded and multiplied before the next: with those of x they stay in the second cache. Sums of so many
/// columns are added one to the other, which bounds their error.
pub const CHUNK: usize = 32;

/// Rows of `w` whose products are computed side by side: two tiles.
pub const PANEL: usize = 2 * SIDE;

/// Lines of a panel of at most [`PANEL`] rows of weights that are rounded to bf16.
pub fn panel_lines(dim: usize) -> usize {
    PANEL * dim.div_ceil(STEP)
}

/// Where row j of a panel has its columns of a step: chunk by chunk of columns, then `[row / 16][step][row % 16]`.
pub fn line_of(dim: usize, j: usize, step: usize) -> usize {
    let first = step / CHUNK * CHUNK;
    let here = CHUNK.min(dim.div_ceil(STEP) - first);
    first * PANEL + (j / SIDE * here + step - first) * SIDE + j % SIDE
}

/// The weights of a screen.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// As they are `[n, dim]`.
    Rows(&'a [f32]),
    /// Rounded before by [`Isa::round`], panel by panel, and `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]` of each.
    Rounded(&'a [Line], &'a [[f32; 2]]),
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
        let (n, panel) = (w.len() / dim, panel_lines(dim));
        let mut lines = vec![Line::default(); n.div_ceil(PANEL) * panel];
        large_pages((lines.as_ptr().cast(), size_of_val(&lines[..])));
        let mut squares = vec![[0.0; 2]; n];
        let each = lines.par_chunks_mut(panel).zip(squares.par_chunks_mut(PANEL)).zip(w.par_chunks(PANEL * dim));
        each.for_each(|((lines, squares), w)| isa.round(w, dim, lines, squares));
        Rounded { lines, squares, panel }
    }

    /// Some latents, from the first of a panel on.
    pub fn some(&self, latents: Range<usize>) -> Weights<'_> {
        let panels = latents.start / PANEL..latents.end.div_ceil(PANEL);
        Weights::Rounded(&self.lines[panels.start * self.panel..panels.end * self.panel], &self.squares[latents])
    }
}

/// A root from above, of a sum of `dim` squares that may have lost some to rounding and underflow.
pub fn root(square: f32, dim: usize) -> f32 {
    let dim = dim as f64;
    ((f64::from(square) + dim * f64::from(f32::MIN_POSITIVE)) * (1.0 + dim * 2f64.powi(-23))).sqrt() as f32 * 1.000_001
}

/// What a screen looks for: entries that may reach both the limit of their row and that of their latent.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Rows.
    pub x: &'a Tiles,
    /// Values of a row.
    pub dim: usize,
    /// Of each row its limit, and the error of its sums for each unit of ‖w‖ and of ‖w - ŵ‖.
    pub rows: &'a [[f32; 3]],
    /// Of each latent.
    pub bias: &'a [f32],
    /// Of each latent.
    pub limits: &'a [f32],
}

/// Latents of a panel side by side; those beyond the last are never found.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Columns {
    /// Of each latent.
    pub bias: [f32; PANEL],
    /// ‖w‖, from above.
    pub norm: [f32; PANEL],
    /// ‖w - ŵ‖, from above.
    pub lost: [f32; PANEL],
    /// What the error has besides.
    pub rest: [f32; PANEL],
    /// Of each latent.
    pub limit: [f32; PANEL],
}

impl Columns {
    /// Latents from `first` of the search on, whose squares these are.
    pub fn new(s: &Search, first: usize, squares: &[[f32; 2]], found: &mut Found) -> Columns {
        let zero = [0.0; PANEL];
        let mut all = Columns { bias: zero, norm: zero, lost: zero, rest: zero, limit: [f32::INFINITY; PANEL] };
        for (j, &square) in squares.iter().enumerate() {
            let bias = s.bias[first + j];
            let [norm, lost] = square.map(|square| root(square, s.dim));
            // What the sums that underflow lose, and the rounding of the bias, twice.
            let rest = 1.001 * (4.0 * f32::EPSILON * bias.abs() + 4.0 * s.dim as f32 * f32::MIN_POSITIVE);
            (all.bias[j], all.norm[j], all.lost[j], all.rest[j]) = (bias, norm, lost, rest);
            all.limit[j] = s.limits[first + j];
            let [most_norm, most_lost, most_bias] = found.most;
            found.most = [most_norm.max(norm), most_lost.max(lost), most_bias.max(bias.abs())];
        }
        all
    }
}

/// An entry that a screen found: the place of its latent in its range, how far its approximate value may be off, and this value, later the
/// exact one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(8))]
pub struct Entry {
    /// The error in the upper half, a bf16 from above, the place in the lower.
    tag: u32,
    /// `p` of [`super::scalar::screen`].
    pub p: f32,
}

/// Latents of a range, at most.
pub const MOST_PLACES: usize = 1 << 16;

impl Entry {
    /// Of the latent at this place of a range.
    pub fn new(place: usize, error: f32, p: f32) -> Entry {
        debug_assert!(place < MOST_PLACES);
        Entry { tag: error.to_bits().wrapping_add(0xffff) & 0xffff_0000 | place as u32, p }
    }

    /// Where its latent is in the range.
    #[inline]
    pub fn place(self) -> u32 {
        self.tag & 0xffff
    }

    /// Keeps the number of the answer that it waits for, in place of the approximate value.
    #[inline]
    pub fn wait(&mut self, answer: u32) {
        self.p = f32::from_bits(answer);
    }

    /// The answer that it waits for.
    #[inline]
    pub fn waits_for(self) -> u32 {
        self.p.to_bits()
    }

    /// How far its approximate value may be off, 1 % more at most.
    #[inline]
    pub fn error(self) -> f32 {
        f32::from_bits(self.tag & 0xffff_0000)
    }
}

/// The entries of a row, as many as it has room for; none where there is no such row.
#[inline]
fn coming<'a>(entries: &'a [Entry], len: &[u32], room: usize, b: usize) -> &'a [Entry] {
    len.get(b).map_or(&[], |&n| &entries[b * room..][..room.min(n as usize)])
}

/// Rows in advance of which memory is asked for their entries: they lie apart from each other.
const AHEAD: usize = 3;

/// What a screen found in a range of latents.
#[derive(Debug, Default)]
pub struct Found {
    /// The index of the first latent, and how many there are.
    first: u32,
    latents: usize,
    room: usize,
    len: Vec<u32>,
    entries: Vec<Entry>,
    /// See [`Found::most`].
    most: [f32; 3],
}

impl Found {
    /// Nothing yet in so many latents from `first` on, room for so many entries of each row; allocates only when it grows.
    pub fn begin(&mut self, (first, latents): (usize, usize), rows: usize, room: usize) {
        assert!(latents <= MOST_PLACES);
        // A vector of entries may be written behind the last one.
        (self.first, self.latents, self.room, self.most) = (first as u32, latents, room + SIDE, [0.0; 3]);
        self.len.clear();
        self.len.resize(rows, 0);
        if self.entries.len() < rows * self.room {
            self.entries.resize(rows * self.room, Entry::default());
        }
    }

    /// What was found in a row, by ascending latent; none where there was more than there is room for.
    pub fn row(&self, b: usize) -> Option<&[Entry]> {
        let len = self.len[b] as usize;
        (len + SIDE <= self.room).then(|| &self.entries[b * self.room..][..len])
    }

    /// How many entries a row has, and blocks that begin with them: what stands in the last one behind them has no meaning.
    pub fn blocks(&self, b: usize) -> Option<(usize, &[[Entry; SIDE]])> {
        let n = self.row(b)?.len();
        Some((n, self.entries[b * self.room..][..n.next_multiple_of(SIDE)].as_chunks().0))
    }

    /// Asks ahead of time for the entries of a row, if there is one.
    #[inline]
    pub fn prefetch(&self, b: usize) {
        prefetch(coming(&self.entries, &self.len, self.room, b));
    }

    /// The index of an entry's latent.
    #[inline]
    pub fn latent(&self, e: Entry) -> u32 {
        self.first + e.place()
    }

    /// The largest ‖w‖, ‖w - ŵ‖ and |bias| of all that was looked at.
    pub fn most(&self) -> [f32; 3] {
        self.most
    }

    /// Entries of the fullest row, those included for which there was no room.
    pub fn fullest(&self) -> usize {
        self.len.iter().max().map_or(0, |&n| n as usize)
    }

    /// The first latent, and how many there are.
    pub fn latents(&self) -> (usize, usize) {
        (self.first as usize, self.latents)
    }

    /// Rows, and entries that each has room for.
    pub fn room(&self) -> (usize, usize) {
        (self.len.len(), self.room)
    }

    /// Keeps those entries that may reach `reached` of their row, which is NaN where none is to stay; counts those that stay in
    /// `counts`, by place.
    pub fn keep(&mut self, reached: &[f32], counts: &mut [u32]) {
        let Found { room, len, entries, latents, .. } = self;
        let counts = &mut counts[..*latents];
        for (b, &reached) in reached.iter().enumerate() {
            prefetch_to_write(coming(entries, len, *room, b + AHEAD));
            let n = if reached.is_nan() { 0 } else { len[b] as usize };
            let row = &mut entries[b * *room..][..n];
            let mut kept = 0;
            for j in 0..n {
                let e = row[j];
                let stays = e.p + e.error() >= reached;
                row[kept] = e;
                kept += usize::from(stays);
                counts[e.place() as usize] += u32::from(stays);
            }
            len[b] = kept as u32;
        }
    }

    /// Calls `each(row, entry)` for all entries, row by row.
    pub fn for_each(&mut self, mut each: impl FnMut(u32, &mut Entry)) {
        for (b, &n) in self.len.iter().enumerate() {
            for e in &mut self.entries[b * self.room..][..n as usize] {
                each(b as u32, e);
            }
        }
    }

    /// Lengths, entries, and how many of these a row has room for: a vector more than are kept.
    pub fn parts_mut(&mut self) -> (&mut [u32], &mut [Entry], usize) {
        (&mut self.len, &mut self.entries, self.room)
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
    /// Which blocks of 16 rows are laid out, where that is done one by one.
    done: Vec<bool>,
}

impl Tiles {
    /// Rounds `x [B, dim]`; `squares [B]` becomes `‖x[b]‖²`, and of what rounding took from it. Allocates only when it grows.
    pub fn fill(&mut self, isa: Isa, x: &[f32], dim: usize, squares: &mut [[f32; 2]]) {
        assert_eq!(x.len(), squares.len() * dim, "squares of every row");
        self.begin(squares.len(), dim);
        let blocks = self.lines.par_chunks_mut(self.steps * SIDE).zip(squares.par_chunks_mut(SIDE));
        blocks.zip(x.par_chunks(SIDE * dim)).for_each(|((lines, squares), x)| isa.lay_out(x, dim, lines, squares));
    }

    /// Room for a batch, of which no block is laid out; allocates only when it grows.
    pub fn begin(&mut self, rows: usize, dim: usize) {
        (self.rows, self.steps) = (rows, dim.div_ceil(STEP));
        let blocks = rows.div_ceil(SIDE);
        self.lines.resize(blocks * self.steps * SIDE, Line::default());
        self.done.clear();
        self.done.resize(blocks, false);
    }

    /// Rounds a block of the batch `x [B, dim]` that it was begun for; `squares` are those of its rows, as in [`Tiles::fill`].
    pub fn fill_block(&mut self, isa: Isa, x: &[f32], dim: usize, block: usize, squares: &mut [[f32; 2]]) {
        let (lines, values) = (self.steps * SIDE, SIDE * dim);
        let x = &x[block * values..x.len().min((block + 1) * values)];
        isa.lay_out(x, dim, &mut self.lines[block * lines..][..lines], squares);
        self.done[block] = true;
    }

    /// Rounds what is left of the batch.
    pub fn fill_rest(&mut self, isa: Isa, x: &[f32], dim: usize) {
        for block in 0..self.done.len() {
            if !self.done[block] {
                let rows = SIDE.min(self.rows - block * SIDE);
                self.fill_block(isa, x, dim, block, &mut [[0.0; 2]; SIDE][..rows]);
            }
        }
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

    /// One rounded value.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let pair = self.lines[row / SIDE * self.steps * SIDE + col / 2].0[row % SIDE];
        from_bf16(if col.is_multiple_of(2) { pair & 0xffff } else { pair >> 16 })
    }
}
