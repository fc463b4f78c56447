//! The rows that training sees, in the scale of training.

use crate::data::Dataset;
use crate::facts::DataFacts;
use crate::matrix::MatMut;
use rayon::prelude::*;

/// The training rows of a data set, scaled as their facts say.
#[derive(Clone, Debug)]
pub struct TrainingSet<'a> {
    /// The data set, in its own units.
    pub data: &'a Dataset,
    /// Row numbers, variants included.
    pub rows: Vec<usize>,
    /// Facts about these rows.
    pub facts: DataFacts,
}

impl TrainingSet<'_> {
    /// Reads rows of the data set, multiplied by the scale of the facts.
    ///
    /// # Shapes
    /// `rows` B numbers → `out [B, D]`.
    pub fn fill(&self, rows: &[usize], epoch: u64, mut out: MatMut) {
        self.data.fill(rows, epoch, out.reborrow());
        rescale(out, self.facts.scale);
    }
}

/// Multiplies all values of a matrix by `scale`.
pub fn rescale(mut values: MatMut, scale: f32) {
    if scale != 1.0 {
        let cols = values.cols().max(1);
        values.data().par_chunks_mut(cols).for_each(|row| row.iter_mut().for_each(|v| *v *= scale));
    }
}
