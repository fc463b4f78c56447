//! Facts about the training rows: shape, mean, variance and scale, read once before training.

use crate::data::Dataset;

/// Facts about the training rows that defaults, initialisation and training need.
///
/// `mean`, `baseline`, `spread` and `image_spread` are those of rows multiplied by `scale`.
#[derive(Clone, Debug)]
pub struct DataFacts {
    /// Number of training rows, augmented variants included.
    pub rows: usize,
    /// Values a row, D.
    pub dim: usize,
    /// Mean of each column `[D]`.
    pub mean: Vec<f32>,
    /// Mean of the whole images where rows are patches, else equal to `mean`: the reconstruction without any model.
    pub baseline: Vec<f32>,
    /// Rows an image: 1, or its number of patches.
    pub places: usize,
    /// Mean squared distance of a row from the mean.
    pub spread: f64,
    /// Mean squared distance of a whole image from `baseline`; equal to `spread` unless rows are patches.
    pub image_spread: f64,
    /// Factor that training multiplies all rows by: a power of two that brings the standard deviation near 1 where it
    /// is below 1/32 or above 32, else 1. Powers of two are exact, so models can be scaled back without rounding.
    pub scale: f32,
}

impl DataFacts {
    /// Reads all training rows once. `may_scale`: the model allows rows to be scaled
    /// (`TrainOptions::may_scale`).
    pub fn gather(data: &Dataset, rows: &[usize], may_scale: bool) -> DataFacts {
        let (mean, spread) = data.moments(rows);
        let rms = (spread / data.dim() as f64).sqrt();
        let scale = if may_scale && rms > 0.0 && !(1.0 / 32.0..=32.0).contains(&rms) {
            (-rms.log2().round()).exp2() as f32
        } else {
            1.0
        };
        let square = f64::from(scale) * f64::from(scale);
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32 * scale).collect();
        let spread = spread * square;
        let (baseline, image_spread) = match data.patches() {
            Some(_) => {
                let (mean, spread) = data.image_moments(rows);
                (mean.iter().map(|&m| m as f32 * scale).collect(), spread * square)
            }
            None => (mean.clone(), spread),
        };
        let (dim, places) = (data.dim(), data.rows_per_image());
        DataFacts { rows: rows.len(), dim, mean, baseline, places, spread, image_spread, scale }
    }

    /// The baseline in units of the rows as loaded.
    pub fn unscaled_baseline(&self) -> Vec<f32> {
        self.baseline.iter().map(|m| m / self.scale).collect()
    }
}
