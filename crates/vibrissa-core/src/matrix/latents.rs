//! Sparse latents, by row.

/// Sparse latents `[B, H]`: for each row its entries, at most `capacity` (index, value) pairs by ascending index.
///
/// The entries of a row are its active latents. With jumprelu and gated activations there are also entries of value 0,
/// whose thresholds learn.
#[derive(Clone, Debug, Default)]
pub struct Latents {
    rows: usize,
    capacity: usize,
    len: Vec<u32>,
    index: Vec<u32>,
    value: Vec<f32>,
}

impl Latents {
    /// Empties it for `rows` rows of at most `capacity` entries. Allocates only when it grows.
    pub fn resize(&mut self, rows: usize, capacity: usize) {
        (self.rows, self.capacity) = (rows, capacity);
        self.len.clear();
        self.len.resize(rows, 0);
        self.index.resize(rows * capacity, 0);
        self.value.resize(rows * capacity, 0.0);
    }

    /// Copies the entries of `other`. Allocates only when it grows.
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

    /// The entries of a row: indices, ascending, and values.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let len = self.len[row] as usize;
        let at = row * self.capacity;
        (&self.index[at..at + len], &self.value[at..at + len])
    }

    /// All rows, for writing one by one or in parallel: their lengths, and `capacity` indices and values a row.
    pub fn parts_mut(&mut self) -> (&mut [u32], &mut [u32], &mut [f32], usize) {
        let n = self.rows * self.capacity;
        (&mut self.len[..self.rows], &mut self.index[..n], &mut self.value[..n], self.capacity)
    }

    /// Number of entries that a row has memory for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of active latents of all rows: entries whose value is not 0.
    pub fn active(&self) -> usize {
        (0..self.rows).map(|b| self.row(b).1.iter().filter(|v| **v != 0.0).count()).sum()
    }

    /// Number of entries of all rows.
    pub fn count(&self) -> usize {
        self.len[..self.rows].iter().map(|&n| n as usize).sum()
    }
}
