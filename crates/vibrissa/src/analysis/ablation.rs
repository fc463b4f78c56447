//! Exact ablation of a latent z with decoder direction w: what removing z w from the reconstruction of a row adds to
//! its squared error and takes from its Pearson r.
//!
//! ```text
//! r = x − y, y = recon
//! Δ sse     = ‖r + z w‖² − ‖r‖² = 2 z (r · w) + z² ‖w‖²
//! Δ pearson = r(x, y) − r(x, y − z w)
//! ```
//!
//! Both follow from a few sums over the row and two products with w, without a second pass over it.

use crate::metrics::{CONSTANT, row_metrics};
use crate::model::{Sae, sigmoid};
use rayon::prelude::*;

/// Sums over the values of a decoder row.
#[derive(Clone, Copy, Default)]
pub(super) struct DirectionSums {
    /// Factor from the decoder row to the direction that decoding adds.
    pub scale: f64,
    /// Σ w.
    sum: f64,
    /// ‖w‖².
    square: f64,
    /// Σ (w − mean w)².
    centred: f64,
}

/// The sums of all decoder rows.
pub(super) fn direction_sums(sae: &Sae) -> Vec<DirectionSums> {
    let rows = sae.decoder_rows();
    (0..rows.rows())
        .into_par_iter()
        .map(|h| {
            let row = rows.row(h);
            let sum: f64 = row.iter().map(|&w| f64::from(w)).sum();
            let square: f64 = row.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            let mean = sum / row.len() as f64;
            let centred = row.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum();
            DirectionSums { scale: f64::from(sae.decoder_scale(h)), sum, square, centred }
        })
        .collect()
}

/// Sums over the values of a row x and its reconstruction y, each minus its mean.
#[derive(Clone, Copy, Default)]
pub(super) struct RowSums {
    mean_residual: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    /// Pearson r of x and y.
    pub pearson: f64,
    /// ‖x − y‖².
    pub sse: f64,
    /// True if x is constant: every r with it is 0.
    constant: bool,
}

impl RowSums {
    /// Computes the sums and leaves y − mean y in `recon` and x − y minus its mean in `residual`.
    pub fn centre(x: &[f32], recon: &mut [f32], residual: &mut [f32]) -> RowSums {
        let n = x.len() as f64;
        let quality = row_metrics(x, recon);
        let mean = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        residual.iter_mut().zip(x.iter().zip(&*recon)).for_each(|(r, (&x, &y))| *r = x - y);
        let (mean_residual, mean_recon) = (mean(residual), mean(recon));
        let (mut xx, mut yy, mut xy) = (0.0f64, 0.0f64, 0.0f64);
        for (r, y) in residual.iter_mut().zip(recon) {
            let (centred_r, centred_y) = (f64::from(*r) - mean_residual, f64::from(*y) - mean_recon);
            let centred_x = centred_r + centred_y;
            xx += centred_x * centred_x;
            yy += centred_y * centred_y;
            xy += centred_x * centred_y;
            (*r, *y) = (centred_r as f32, centred_y as f32);
        }
        let largest = f64::from(x.iter().fold(0.0f32, |m, v| m.max(v.abs())));
        let constant = xx / n <= (CONSTANT * largest).powi(2);
        RowSums { mean_residual, xx, yy, xy, pearson: quality.pearson, sse: quality.residual, constant }
    }

    /// Δ sse and Δ pearson of removing `z` times a direction. `r_w` and `y_w` are the products of the decoder row with
    /// the centred residual and the centred reconstruction.
    #[inline]
    pub fn ablate(&self, z: f64, w: &DirectionSums, r_w: f64, y_w: f64) -> (f64, f64) {
        let z = z * w.scale;
        let residual_w = r_w + self.mean_residual * w.sum;
        let delta_sse = 2.0 * z * residual_w + z * z * w.square;
        let xy = self.xy - z * (r_w + y_w);
        let yy = self.yy - 2.0 * z * y_w + z * z * w.centred;
        // A reconstruction that was this latent alone leaves nothing but rounding errors.
        let nothing_left = yy <= 1e-10 * (self.yy + z * z * w.centred);
        let pearson = if nothing_left || self.constant { 0.0 } else { (xy / (self.xx * yy).sqrt()).clamp(-1.0, 1.0) };
        (delta_sse, self.pearson - pearson)
    }
}

/// [`RowSums::ablate`] where the reconstruction is the sigmoid of `logits`: it is computed anew, without `z` times the
/// decoder row `w`. `recon` is a buffer.
pub(super) fn ablate_sigmoid(
    sums: &RowSums,
    x: &[f32],
    logits: &[f32],
    z: f32,
    w: &[f32],
    recon: &mut Vec<f32>,
) -> (f64, f64) {
    recon.clear();
    recon.extend(logits.iter().zip(w).map(|(&y, &w)| sigmoid(y - z * w)));
    let without = row_metrics(x, recon);
    (without.residual - sums.sse, sums.pearson - without.pearson)
}
