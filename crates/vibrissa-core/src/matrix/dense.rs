//! Dense row-major matrices: owned, borrowed and mutably borrowed.

use super::Aligned;

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

    /// Makes the matrix `[rows, cols]` with zeros if it has fewer rows or another number of columns; otherwise changes
    /// nothing.
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

    /// All values, row by row, for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// See [`Aligned::page_range`].
    pub fn page_range(&self) -> (*const u8, usize) {
        self.data.page_range()
    }

    /// One row.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.cols..][..self.cols]
    }

    /// One row, for writing.
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
    pub fn first_rows(&self, n: usize) -> MatRef<'_> {
        MatRef { rows: n, cols: self.cols, data: &self.data[..n * self.cols] }
    }

    /// A mutable view of the first `n` rows.
    pub fn first_rows_mut(&mut self, n: usize) -> MatMut<'_> {
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

    /// A view of a range of rows.
    ///
    /// # Panics
    /// If the range ends beyond the last row.
    pub fn rows_range(&self, rows: std::ops::Range<usize>) -> MatRef<'a> {
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

    /// All values, row by row, for writing.
    pub fn data(&mut self) -> &mut [f32] {
        self.data
    }

    /// One row, for writing.
    pub fn row(&mut self, r: usize) -> &mut [f32] {
        &mut self.data[r * self.cols..][..self.cols]
    }

    /// A shared view.
    pub fn view(&self) -> MatRef<'_> {
        MatRef { rows: self.rows, cols: self.cols, data: self.data }
    }

    /// A mutable view of the same rows with a shorter lifetime.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { rows: self.rows, cols: self.cols, data: self.data }
    }
}
