//! Plain row-major matrices `[rows, cols]` of f32, and the sparse latents `[B, H]`. Shapes only: no arithmetic here.

/// An owned row-major matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mat {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Mat {
    /// A matrix of zeros `[rows, cols]`.
    pub fn zeros(rows: usize, cols: usize) -> Mat {
        Mat { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// A matrix over `data`, row by row.
    ///
    /// # Panics
    /// If `data.len() != rows * cols`.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Mat {
        assert_eq!(data.len(), rows * cols, "a [{rows}, {cols}] matrix needs rows × cols values");
        Mat { rows, cols, data }
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

    /// The values, without the shape.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
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
