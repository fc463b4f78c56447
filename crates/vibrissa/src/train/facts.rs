//! What is known of the training rows before the first step.

use crate::data::Dataset;

/// What the training rows are like, as far as training needs to know.
#[derive(Clone, Debug)]
pub struct DataFacts {
    /// Training rows, variants included.
    pub rows: usize,
    /// D.
    pub dim: usize,
    /// Mean of each column.
    pub mean: Vec<f32>,
    /// Mean of the whole pictures where rows are patches, else `mean` again: what anyone could draw without a model.
    pub baseline: Vec<f32>,
    /// Rows a picture: 1, or its patches.
    pub places: usize,
    /// Mean squared distance of a row from the mean.
    pub spread: f64,
    /// The same of a whole picture from `baseline`, where rows are patches; else `spread`.
    pub picture_spread: f64,
    /// Rows are multiplied by this while training: a power of two that brings far-off data near unit variance, else 1.
    pub scale: f32,
}

impl DataFacts {
    /// Reads all training rows once, and sets the data's scale, where rows may be scaled.
    pub fn gather(data: &mut Dataset, rows: &[usize], may_scale: bool) -> DataFacts {
        let (mean, spread) = data.moments(rows);
        let rms = (spread / data.dim() as f64).sqrt();
        let scale = if may_scale && rms > 0.0 && !(1.0 / 32.0..=32.0).contains(&rms) {
            (-rms.log2().round()).exp2() as f32
        } else {
            1.0
        };
        data.set_scale(scale);
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32 * scale).collect();
        let spread = spread * f64::from(scale) * f64::from(scale);
        let (baseline, picture_spread) = match data.patches() {
            Some(_) => {
                let (mean, spread) = data.image_moments(rows);
                (mean.iter().map(|&m| m as f32).collect(), spread)
            }
            None => (mean.clone(), spread),
        };
        let (dim, places) = (data.dim(), data.rows_per_image());
        DataFacts { rows: rows.len(), dim, mean, baseline, places, spread, picture_spread, scale }
    }
}
