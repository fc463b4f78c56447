//! Measures of reconstructions and of sparsity: by row, and accumulated over rows, overall and by class. No data sets
//! and no models.
//!
//! All sums are f64 and in the order of the rows, so the number of threads never changes a result.
//! [`Evaluation::merge`], and other batches of the same rows, may change the last digits.

mod evaluation;
pub mod perceptual;
mod row;
mod ssim;

pub use evaluation::Evaluation;
pub use row::{CONSTANT, ENTROPY_CLIP, PSNR_CAP, RowMetrics, cross_entropy, psnr, row_metrics};
pub use ssim::{Ssim, WINDOW};

use crate::record::{Density, Reconstruction};

/// The mean of the values that are finite; `None` without any.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    let (n, sum) = finite.fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    (n > 0).then(|| sum / n as f64)
}

/// The measures of a set of rows; `None` where undefined (no rows, no images, no latents, no variance).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Number of rows.
    pub rows: u64,
    /// The measures of the reconstructions. The fvu is `Σ‖x - recon‖² / Σ‖x - mean(x)‖²`, with the mean of each column
    /// over these very rows (for a class: over the rows of the class). SSIM needs images of at least 11×11 pixels, the
    /// perceptual distance images; the cross-entropy needs images or a model with a sigmoid output.
    pub reconstruction: Reconstruction,
    /// Mean number of latents ≠ 0 a row.
    pub l0: Option<f64>,
    /// `l0 / latents`.
    pub l0_fraction: Option<f64>,
    /// Number of latents never active on these rows.
    pub dead_latents: Option<u64>,
    /// Number of latents active on fewer than 1 of 1,000 of these rows, dead ones included.
    pub rare_latents: Option<u64>,
    /// Number of latents, H.
    pub latents: Option<u64>,
    /// Number of rows where `x` or `recon` is constant; their Pearson r counts as 0.
    pub constant_rows: u64,
    /// Histogram of the activation frequencies.
    pub density: Option<Density>,
}

/// Decades of activation frequency that [`density`] covers, and buckets a decade.
const DECADES: i32 = 6;
const BUCKETS_PER_DECADE: u32 = 10;

/// The histogram of activation frequencies of latents that were active on `active[h]` of `rows` rows, over six decades.
/// Lower frequencies count in the first bucket, frequency 1 in the last.
pub fn density(active: &[u64], rows: u64) -> Density {
    let buckets = DECADES as usize * BUCKETS_PER_DECADE as usize;
    let mut density =
        Density { log10_from: -DECADES, per_decade: BUCKETS_PER_DECADE, counts: vec![0; buckets], never: 0 };
    for &n in active {
        if n == 0 {
            density.never += 1;
            continue;
        }
        // The small offset keeps 1/10, 1/100, … in the bucket that starts there, whatever the platform's log10.
        let log10 = (n as f64 / rows as f64).log10() + f64::from(DECADES);
        let bucket = (log10 * f64::from(BUCKETS_PER_DECADE) + 1e-9).floor().max(0.0) as usize;
        density.counts[bucket.min(buckets - 1)] += 1;
    }
    density
}

#[cfg(test)]
mod tests;
