//! Plain row-major matrices `[rows, cols]` of f32, and the sparse latents `[B, H]`. Shapes only: no arithmetic here.

use std::ops::{Deref, DerefMut};

/// Values that begin at a cache line, as do rows of a multiple of 16 values then: reading 16 of them reads one line, not
/// parts of two, which takes twice as long. Many of them begin at a large page, and may have the rest of the last one.
#[derive(Debug, Default)]
pub struct Aligned {
    all: Vec<f32>,
    start: usize,
}

impl Aligned {
    /// Bytes a line.
    const LINE: usize = 64;

    /// Values that may have to be left out before the first line begins.
    const SPARE: usize = Aligned::LINE / size_of::<f32>() - 1;

    /// Bytes of a large page.
    pub const LARGE_PAGE: usize = 2 << 20;

    /// Values of a large page.
    const PAGE: usize = Aligned::LARGE_PAGE / size_of::<f32>();

    /// Zeros.
    pub fn zeros(n: usize) -> Aligned {
        if n == 0 {
            return Aligned::default();
        }
        // What no one writes to takes no memory.
        let (room, at) = match n {
            Aligned::PAGE.. => (n.next_multiple_of(Aligned::PAGE) + Aligned::PAGE, Aligned::LARGE_PAGE),
            _ => (n + Aligned::SPARE, Aligned::LINE),
        };
        let mut all = vec![0.0; room];
        let start = all.as_ptr().align_offset(at);
        all.truncate(start + n);
        Aligned { all, start }
    }

    /// Where they begin, and bytes from there: the rest of the last large page with them where it is theirs.
    pub fn pages(&self) -> (*const u8, usize) {
        let (n, room) = (self.len().next_multiple_of(Aligned::PAGE), self.all.capacity() - self.start);
        (self.as_ptr().cast(), if n <= room { n } else { self.len() } * size_of::<f32>())
    }

    /// Makes room for `n` values, which are not those of before where it grows; allocates only then.
    pub fn resize(&mut self, n: usize) {
        if self.start + n > self.all.capacity() {
            *self = Aligned::zeros(n);
        } else {
            self.all.resize(self.start + n, 0.0);
        }
    }
}

impl From<Vec<f32>> for Aligned {
    fn from(mut all: Vec<f32>) -> Aligned {
        let n = all.len();
        all.reserve_exact(Aligned::SPARE);
        let start = all.as_ptr().align_offset(Aligned::LINE);
        all.resize(start + n, 0.0);
        all.copy_within(..n, start);
        Aligned { all, start }
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Aligned {
        let mut out = Aligned::zeros(self.len());
        out.copy_from_slice(self);
        out
    }
}

impl PartialEq for Aligned {
    fn eq(&self, other: &Aligned) -> bool {
        **self == **other
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        &self.all[self.start..]
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.start..]
    }
}

/// An owned row-major matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mat {
    rows: usize,
    cols: usize,
    data: Aligned,
}

impl Mat {
    /// A matrix of zeros `[rows, cols]`.
    pub fn zeros(rows: usize, cols: usize) -> Mat {
        Mat { rows, cols, data: Aligned::zeros(rows * cols) }
    }

    /// Makes room for `rows` rows of `cols` values at least: zeros where there was none, else what was there; allocates
    /// only then.
    pub fn reserve(&mut self, rows: usize, cols: usize) {
        if self.rows < rows || self.cols != cols {
            *self = Mat::zeros(rows, cols);
        }
    }

    /// A matrix over `data`, row by row.
    ///
    /// # Panics
    /// If `data.len() != rows * cols`.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Mat {
        assert_eq!(data.len(), rows * cols, "a [{rows}, {cols}] matrix needs rows × cols values");
        Mat { rows, cols, data: data.into() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, row by row.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// See [`Aligned::pages`].
    pub fn pages(&self) -> (*const u8, usize) {
        self.data.pages()
    }

    /// One row.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.cols..][..self.cols]
    }

    /// One row.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        &mut self.data[r * self.cols..][..self.cols]
    }

    /// A view of the whole.
    pub fn view(&self) -> MatRef<'_> {
        MatRef { rows: self.rows, cols: self.cols, data: &self.data }
    }

    /// A mutable view of the whole.
    pub fn view_mut(&mut self) -> MatMut<'_> {
        MatMut { rows: self.rows, cols: self.cols, data: &mut self.data }
    }

    /// A view of the first `n` rows.
    pub fn top(&self, n: usize) -> MatRef<'_> {
        MatRef { rows: n, cols: self.cols, data: &self.data[..n * self.cols] }
    }

    /// A mutable view of the first `n` rows.
    pub fn top_mut(&mut self, n: usize) -> MatMut<'_> {
        MatMut { rows: n, cols: self.cols, data: &mut self.data[..n * self.cols] }
    }
}

/// A borrowed row-major matrix.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    rows: usize,
    cols: usize,
    data: &'a [f32],
}

impl<'a> MatRef<'a> {
    /// A view over `data`, row by row.
    ///
    /// # Panics
    /// If `data.len() != rows * cols`.
    pub fn new(rows: usize, cols: usize, data: &'a [f32]) -> MatRef<'a> {
        assert_eq!(data.len(), rows * cols, "a [{rows}, {cols}] matrix needs rows × cols values");
        MatRef { rows, cols, data }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row by row.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// One row.
    pub fn row(&self, r: usize) -> &'a [f32] {
        &self.data[r * self.cols..][..self.cols]
    }

    /// These rows.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, rows: std::ops::Range<usize>) -> MatRef<'a> {
        let data = &self.data[rows.start * self.cols..rows.end * self.cols];
        MatRef { rows: rows.len(), cols: self.cols, data }
    }
}

/// A mutably borrowed row-major matrix.
#[derive(Debug)]
pub struct MatMut<'a> {
    rows: usize,
    cols: usize,
    data: &'a mut [f32],
}

impl<'a> MatMut<'a> {
    /// A mutable view over `data`, row by row.
    ///
    /// # Panics
    /// If `data.len() != rows * cols`.
    pub fn new(rows: usize, cols: usize, data: &'a mut [f32]) -> MatMut<'a> {
        assert_eq!(data.len(), rows * cols, "a [{rows}, {cols}] matrix needs rows × cols values");
        MatMut { rows, cols, data }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row by row.
    pub fn data(&mut self) -> &mut [f32] {
        self.data
    }

    /// One row.
    pub fn row(&mut self, r: usize) -> &mut [f32] {
        &mut self.data[r * self.cols..][..self.cols]
    }

    /// A shared view.
    pub fn view(&self) -> MatRef<'_> {
        MatRef { rows: self.rows, cols: self.cols, data: self.data }
    }

    /// A shorter-lived mutable view of the same rows.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { rows: self.rows, cols: self.cols, data: self.data }
    }
}

/// Dense values `[rows, cols]` stored in panels of [`Panels::WIDTH`] columns, so that each panel is one contiguous
/// piece that one worker writes.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    rows: usize,
    cols: usize,
    data: Aligned,
}

impl Panels {
    /// Columns a panel; the last one may be narrower.
    pub const WIDTH: usize = 48;

    /// Makes room for `[rows, cols]`; allocates only when it grows.
    pub fn resize(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.data.resize(rows * cols);
    }

    /// Values of a full panel: rows × [`Panels::WIDTH`].
    pub fn panel_len(&self) -> usize {
        self.rows * Panels::WIDTH
    }

    /// All panels, one after the other.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The pieces of one row: `(first column, values)`.
    pub fn row(&self, row: usize) -> Pieces<'_> {
        Pieces { of: self, row, first: 0 }
    }

    /// One value.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let first = col / Panels::WIDTH * Panels::WIDTH;
        let width = Panels::WIDTH.min(self.cols - first);
        self.data[first * self.rows + row * width + col - first]
    }
}

/// The pieces of one row of [`Panels`]: `(first column, values)`.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    of: &'a Panels,
    row: usize,
    first: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (usize, &'a [f32]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Pieces { of, row, first } = *self;
        if first >= of.cols {
            return None;
        }
        self.first += Panels::WIDTH;
        let width = Panels::WIDTH.min(of.cols - first);
        Some((first, &of.data[first * of.rows + row * width..][..width]))
    }
}

/// Sparse latents `[B, H]`: for each row the active latents by ascending index, at most `capacity` of them.
#[derive(Clone, Debug, Default)]
pub struct Latents {
    rows: usize,
    capacity: usize,
    len: Vec<u32>,
    index: Vec<u32>,
    value: Vec<f32>,
}

impl Latents {
    /// Makes room for `rows` rows of at most `capacity` latents, all empty; allocates only when it grows.
    pub fn resize(&mut self, rows: usize, capacity: usize) {
        (self.rows, self.capacity) = (rows, capacity);
        self.len.clear();
        self.len.resize(rows, 0);
        self.index.resize(rows * capacity, 0);
        self.value.resize(rows * capacity, 0.0);
    }

    /// Takes the entries of others; allocates only when it grows.
    pub fn copy_from(&mut self, other: &Latents) {
        (self.rows, self.capacity) = (other.rows, other.capacity);
        self.len.clone_from(&other.len);
        self.index.clone_from(&other.index);
        self.value.clone_from(&other.value);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The active latents of a row: indices, ascending, and values.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let len = self.len[row] as usize;
        let at = row * self.capacity;
        (&self.index[at..at + len], &self.value[at..at + len])
    }

    /// All rows, to be filled one by one or in parallel: lengths, indices and values, `capacity` of them a row.
    pub fn parts_mut(&mut self) -> (&mut [u32], &mut [u32], &mut [f32], usize) {
        let n = self.rows * self.capacity;
        (&mut self.len[..self.rows], &mut self.index[..n], &mut self.value[..n], self.capacity)
    }

    /// Entries that a row has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Entries that are not 0: jumprelu and gated keep some that are, since these learn.
    pub fn active(&self) -> usize {
        (0..self.rows).map(|b| self.row(b).1.iter().filter(|v| **v != 0.0).count()).sum()
    }

    /// Total number of entries.
    pub fn count(&self) -> usize {
        self.len[..self.rows].iter().map(|&n| n as usize).sum()
    }
}

/// The entries of several [`Latents`] regrouped by latent (a counting sort): for each latent its rows, ascending.
#[derive(Clone, Debug, Default)]
pub struct ByLatent {
    start: Vec<u32>,
    row: Vec<u32>,
    value: Vec<f32>,
    /// See [`ByLatent::active`].
    active: Vec<u32>,
}

impl ByLatent {
    /// Regroups parts `(first, step, entries)`: an entry of row b is numbered `first + b · step`. In the first part those of
    /// latent h are numbered `segment_of[h]` higher (where it is empty: no higher). By several workers where there are many
    /// entries, each of some latents.
    pub fn group(&mut self, n_latents: usize, parts: &[(u32, u32, &Latents)], segment_of: &[u32]) {
        let ByLatent { start, row, value, active } = self;
        let total = parts.iter().map(|p| p.2.count()).sum();
        row.resize(total, 0);
        value.resize(total, 0.0);
        active.clear();
        active.resize(n_latents, 0);
        begin_by_latent(n_latents, parts.iter().map(|p| p.2), start);
        let rows: usize = parts.iter().map(|p| p.2.rows()).sum();
        let ranges = (total / 8192).min(total / rows.max(1) / 8).clamp(1, 16);
        let all = Places { first: 0, start: &mut start[1..=n_latents], active, row, value };
        all.fill(parts, segment_of, n_latents.div_ceil(ranges).max(1));
    }

    /// Rows in which a latent is active, and its values there.
    pub fn latent(&self, h: usize) -> (&[u32], &[f32]) {
        let (from, to) = (self.start[h] as usize, self.start[h + 1] as usize);
        (&self.row[from..to], &self.value[from..to])
    }

    /// How many entries of the first part each latent has whose value is not 0.
    pub fn active(&self) -> &[u32] {
        &self.active
    }

    /// How many entries of the first part have a value that is not 0.
    pub fn total_active(&self) -> u32 {
        self.active.iter().sum()
    }
}

/// The places of a range of latents.
struct Places<'a> {
    first: usize,
    /// Where the entries of each latent begin, counted as those of all; moves on with each entry.
    start: &'a mut [u32],
    active: &'a mut [u32],
    row: &'a mut [u32],
    value: &'a mut [f32],
}

impl Places<'_> {
    /// Puts entries in their places, by at most `most` latents a worker.
    fn fill(self, parts: &[(u32, u32, &Latents)], segment_of: &[u32], most: usize) {
        let Places { first, start, active, row, value } = self;
        let n = start.len();
        let Some(&begin) = start.first() else { return };
        if n > most {
            let half = n / 2;
            let ((low, high), (active0, active1)) = (start.split_at_mut(half), active.split_at_mut(half));
            let at = (high[0] - begin) as usize;
            let ((row0, row1), (value0, value1)) = (row.split_at_mut(at), value.split_at_mut(at));
            let low = Places { first, start: low, active: active0, row: row0, value: value0 };
            let high = Places { first: first + half, start: high, active: active1, row: row1, value: value1 };
            rayon::join(|| low.fill(parts, segment_of, most), || high.fill(parts, segment_of, most));
            return;
        }
        for (p, &(number, step, part)) in parts.iter().enumerate() {
            let segment_of = if p == 0 { segment_of } else { &[] };
            for b in 0..part.rows() {
                let (index, values) = part.row(b);
                // Indices ascend.
                let from = if first == 0 { 0 } else { index.partition_point(|&h| (h as usize) < first) };
                for (&h, &v) in index.iter().zip(values).skip(from) {
                    let Some(next) = start.get_mut(h as usize - first) else { break };
                    let at = (*next - begin) as usize;
                    row[at] = number + b as u32 * step + segment_of.get(h as usize).copied().unwrap_or(0);
                    value[at] = v;
                    *next += 1;
                    active[h as usize - first] += u32::from(p == 0 && v != 0.0);
                }
            }
        }
    }
}

/// Counts for a counting sort by latent: leaves in `start[h + 1]` where the entries of latent h begin. Each entry that is put there
/// moves it on by one; when all are, `start[h]..start[h + 1]` is the range of latent h.
fn begin_by_latent<'a>(n_latents: usize, parts: impl Iterator<Item = &'a Latents>, start: &mut Vec<u32>) {
    start.clear();
    start.resize(n_latents + 2, 0);
    for part in parts {
        for b in 0..part.rows() {
            part.row(b).0.iter().for_each(|&h| start[h as usize + 2] += 1);
        }
    }
    for h in 2..start.len() {
        start[h] += start[h - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_begin_at_a_line_and_keep_their_values() {
        for n in [1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (from, mut grown) = (Aligned::from(values.clone()), Aligned::zeros(n / 2));
            grown.resize(n);
            grown.copy_from_slice(&values);
            for one in [from.clone(), from, grown] {
                assert_eq!((&one[..], one.as_ptr().addr() % 64), (&values[..], 0));
            }
        }
        assert!(Aligned::zeros(0).is_empty() && Aligned::from(Vec::new()).is_empty());
    }

    #[test]
    fn many_values_begin_at_a_large_page_and_end_with_one() {
        for n in [Aligned::PAGE, Aligned::PAGE + 1, 3 * Aligned::PAGE - 1] {
            let zeros = Aligned::zeros(n);
            let (start, bytes) = zeros.pages();
            assert_eq!((start.addr() % Aligned::LARGE_PAGE, zeros.len()), (0, n));
            assert_eq!(bytes, (4 * n).next_multiple_of(Aligned::LARGE_PAGE));
        }
        // No more than they have.
        for short in [Aligned::zeros(100), Aligned::from(vec![0.0; 100])] {
            assert_eq!(short.pages().1, 400);
        }
    }

    #[test]
    fn panels_find_every_value() {
        let mut p = Panels::default();
        p.resize(3, 100);
        for (i, v) in p.data_mut().iter_mut().enumerate() {
            *v = i as f32;
        }
        for row in 0..3 {
            for (first, values) in p.row(row) {
                for (i, &v) in values.iter().enumerate() {
                    assert_eq!(v, p.get(row, first + i));
                }
            }
        }
        assert_eq!(p.get(1, 97), (96 * 3 + 4 + 1) as f32);
    }

    /// Enough entries for several workers, some latents without any.
    #[test]
    fn many_entries_are_grouped_as_few_are() {
        let (rows, n, each) = (900, 500, 60);
        let mut l = Latents::default();
        l.resize(rows, each);
        let (len, index, value, cap) = l.parts_mut();
        for b in 0..rows {
            len[b] = (each - b % 3) as u32;
            for j in 0..each {
                index[b * cap + j] = ((8 * j + b * 7 % 8) % 490) as u32;
                value[b * cap + j] = (b * each + j) as f32;
            }
            index[b * cap..][..each].sort_unstable();
        }
        let (mut by, segment_of) = (ByLatent::default(), (0..n as u32).map(|h| h % 2).collect::<Vec<_>>());
        by.group(n, &[(0, 2, &l)], &segment_of);
        let mut naive = vec![(Vec::new(), Vec::new()); n];
        for b in 0..rows {
            for (&h, &v) in l.row(b).0.iter().zip(l.row(b).1) {
                naive[h as usize].0.push(2 * b as u32 + h % 2);
                naive[h as usize].1.push(v);
            }
        }
        for (h, (rows, values)) in naive.iter().enumerate() {
            assert_eq!(by.latent(h), (&rows[..], &values[..]), "{h}");
            assert_eq!(by.active()[h] as usize, values.iter().filter(|v| **v != 0.0).count(), "{h}");
        }
    }

    #[test]
    fn by_latent_keeps_rows_in_order() {
        let make = |rows: &[&[(u32, f32)]]| {
            let mut l = Latents::default();
            l.resize(rows.len(), 4);
            let (len, index, value, cap) = l.parts_mut();
            for (b, row) in rows.iter().enumerate() {
                len[b] = row.len() as u32;
                for (j, &(h, v)) in row.iter().enumerate() {
                    index[b * cap + j] = h;
                    value[b * cap + j] = v;
                }
            }
            l
        };
        let a = make(&[&[(0, 1.0), (3, 2.0)], &[(3, 3.0)], &[]]);
        let b = make(&[&[(3, 4.0)], &[(1, 5.0)]]);
        let mut by = ByLatent::default();
        by.group(5, &[(0, 2, &a), (1, 2, &b)], &[]);
        assert_eq!(by.latent(0), (&[0][..], &[1.0][..]));
        assert_eq!(by.latent(1), (&[3][..], &[5.0][..]));
        assert_eq!(by.latent(2), (&[][..], &[][..]));
        assert_eq!(by.latent(3), (&[0, 2, 1][..], &[2.0, 3.0, 4.0][..]));
        assert_eq!(by.latent(4), (&[][..], &[][..]));
        assert_eq!(by.active(), [1, 0, 0, 2, 0]);
        by.group(5, &[(0, 3, &a), (2, 3, &b)], &[0, 0, 0, 1, 1]);
        assert_eq!(by.latent(0), (&[0][..], &[1.0][..]));
        assert_eq!(by.latent(3), (&[1, 4, 2][..], &[2.0, 3.0, 4.0][..]));
    }
}
