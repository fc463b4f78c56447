//! Dense values stored in panels of columns.

use super::Aligned;

/// Dense values `[rows, cols]` stored in panels of [`Panels::WIDTH`] columns, so that each panel is contiguous and
/// one worker writes it.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    rows: usize,
    cols: usize,
    data: Aligned,
}

impl Panels {
    /// Columns of a panel; the last panel may be narrower.
    pub const WIDTH: usize = 48;

    /// Sets the shape. Allocates only when it grows; the values are unspecified.
    pub fn resize(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.data.resize(rows * cols);
    }

    /// Number of values of a full panel: rows × [`Panels::WIDTH`].
    pub fn panel_len(&self) -> usize {
        self.rows * Panels::WIDTH
    }

    /// All panels, one after the other, for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values of one row, panel by panel: `(first column, values)`.
    pub fn row(&self, row: usize) -> PanelRow<'_> {
        PanelRow { panels: self, row, first: 0 }
    }

    /// One value.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        let first = col / Panels::WIDTH * Panels::WIDTH;
        let width = Panels::WIDTH.min(self.cols - first);
        self.data[first * self.rows + row * width + col - first]
    }
}

/// Iterator over one row of [`Panels`], panel by panel: `(first column, values)`.
#[derive(Clone, Debug)]
pub struct PanelRow<'a> {
    panels: &'a Panels,
    row: usize,
    first: usize,
}

impl<'a> Iterator for PanelRow<'a> {
    type Item = (usize, &'a [f32]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let PanelRow { panels, row, first } = *self;
        if first >= panels.cols {
            return None;
        }
        self.first += Panels::WIDTH;
        let width = Panels::WIDTH.min(panels.cols - first);
        Some((first, &panels.data[first * panels.rows + row * width..][..width]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_single_values_agree() {
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
}
