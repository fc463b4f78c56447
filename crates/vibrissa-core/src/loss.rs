//! The terms of the loss and their gradients. A row's loss is a sum over D, a batch's loss the mean over its rows.

use crate::kernels::Isa;
use crate::matrix::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Auxiliary loss for dead latents (Gao et al. 2024, arXiv 2406.04093, eq. 6, appendix A.2), scaled to a squared error:
///
/// ```text
/// coef · V · ‖e - ê‖² / ‖e - mean(e)‖²,   e = residual (detached),   V = Σ‖x - mean(x)‖² / B (detached)
/// ê = Σ over the k_aux largest dead raw pre-activations · W_dec, no bias
/// ```
///
/// The published coefficient 1/32 belongs to a main loss divided by the variance; V restores that scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuxK {
    /// Coefficient; 0 = off.
    pub coef: f64,
    /// Dead latents that reconstruct the residual of each row.
    pub k_aux: usize,
    /// Rows of silence after which a latent is dead.
    pub dead_after: u64,
}

/// Sparsity penalties beside the selection. A coefficient of 0 turns its term off.
///
/// ```text
/// L1:  λ Σ_h latent_h ‖W_dec[h]‖                     (gated: of max(π, 0), beside ‖x - x̂(max(π, 0))‖²)
/// L0:  λ (L0/k - 1)²                                 (jumprelu; L0 = mean active latents of the batch)
/// KL:  β Σ_h ρ ln(ρ/ρ̂_h) + (1-ρ) ln((1-ρ)/(1-ρ̂_h))   (sigmoid; ρ = k/H, ρ̂_h = batch mean, clipped to [1e-6, 1 - 1e-6])
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Penalties {
    /// λ of L1; its initial value if it is steered.
    pub l1: f64,
    /// Gain by which λ of L1 is steered until k latents are active; 0 = λ is fixed. With e_t = ln(L0 / k) of a batch,
    /// clipped to ±2, λ is multiplied by exp(steer · e_t + e_t - e_(t-1)) after each step: a proportional-integral
    /// control of ln λ.
    pub steer: f64,
    /// λ of L0.
    pub l0: f64,
    /// ε, the bandwidth of jumprelu's straight-through estimates, in units of the rows.
    pub bandwidth: f64,
    /// β of KL.
    pub kl: f64,
    /// jumprelu: share that the threshold of each dead latent loses at every step, since no gradient reaches it any
    /// more.
    pub sink: f64,
}

/// Distance from 0 and 1 to which ρ̂ is clipped.
pub const KL_CLIP: f64 = 1e-6;

/// Returns the KL divergence of a mean activation from its target, and its derivative to the mean.
pub fn kl(target: f64, mean: f64) -> (f64, f64) {
    let (r, m) = (target.clamp(KL_CLIP, 1.0 - KL_CLIP), mean.clamp(KL_CLIP, 1.0 - KL_CLIP));
    let value = r * (r / m).ln() + (1.0 - r) * ((1.0 - r) / (1.0 - m)).ln();
    let inside = (KL_CLIP..=1.0 - KL_CLIP).contains(&mean);
    (value, if inside { (1.0 - r) / (1.0 - m) - r / m } else { 0.0 })
}

/// The reconstruction loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// `‖x - recon‖²`
    #[default]
    SquaredError,
    /// `-Σ_d x ln(recon) + (1 - x) ln(1 - recon)` with the reconstruction through a sigmoid; rows must lie in [0, 1].
    CrossEntropy,
}

/// The loss of one batch, term by term, each with its coefficient already applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// Squared error or cross-entropy, summed over D, mean over rows (and prefixes).
    pub recon: f64,
    /// [`Penalties`]: L1.
    pub l1: f64,
    /// [`Penalties`]: L0.
    pub l0: f64,
    /// [`Penalties`]: KL.
    pub kl: f64,
    /// Gated: `‖x - x̂(max(π, 0))‖²`.
    pub gate: f64,
    /// The perceptual distance times λ V.
    pub perceptual: f64,
    /// [`AuxK`].
    pub auxk: f64,
    /// λ (1 - MMCS) of the whole ensemble, the same for every member.
    pub consistency: f64,
}

impl Losses {
    /// Names of the terms, in the order of [`Losses::terms`].
    pub const NAMES: [&str; 8] = ["recon", "l1", "l0", "kl", "gate", "perceptual", "auxk", "consistency"];

    /// Returns all terms.
    pub fn terms(&self) -> [f64; 8] {
        let Losses { recon, l1, l0, kl, gate, perceptual, auxk, consistency } = *self;
        [recon, l1, l0, kl, gate, perceptual, auxk, consistency]
    }

    /// Adds the terms of another loss times a factor.
    pub fn add(&mut self, other: &Losses, factor: f64) {
        let Losses { recon, l1, l0, kl, gate, perceptual, auxk, consistency } = self;
        let terms = [recon, l1, l0, kl, gate, perceptual, auxk, consistency];
        terms.into_iter().zip(other.terms()).for_each(|(a, b)| *a += factor * b);
    }

    /// Returns their sum, which training minimises.
    pub fn total(&self) -> f64 {
        self.terms().iter().sum()
    }
}

/// Returns the binary cross-entropy of one value: `ln(1 + eʸ) - x y` for the logit y.
#[inline]
pub fn cross_entropy(x: f32, y: f32) -> f64 {
    let (x, y) = (f64::from(x), f64::from(y));
    y.max(0.0) - x * y + (-y.abs()).exp().ln_1p()
}

/// Columns that one worker sums in [`spread`].
const COLUMNS: usize = 64;

/// Returns `Σ_b ‖row_b - mean‖²` over every `stride`-th row from `first` on, with the column means `mean = Σ_b row_b /
/// B`.
///
/// `sums` is scratch of `cols` values. Chunks of columns are fixed and added in order, so the thread count changes
/// nothing.
pub fn spread(rows: MatRef, first: usize, stride: usize, sums: &mut [f64]) -> f64 {
    let (n, cols) = (rows.rows() / stride, rows.cols());
    sums[..cols].par_chunks_mut(COLUMNS).enumerate().for_each(|(c, out)| {
        let from = c * COLUMNS;
        out.fill(0.0);
        let mut means = [0.0f64; COLUMNS];
        for b in 0..n {
            let part = &rows.row(b * stride + first)[from..from + out.len()];
            means.iter_mut().zip(part).for_each(|(m, &v)| *m += f64::from(v));
        }
        means.iter_mut().for_each(|m| *m /= n as f64);
        for b in 0..n {
            let part = &rows.row(b * stride + first)[from..from + out.len()];
            for ((o, &m), &v) in out.iter_mut().zip(&means).zip(part) {
                *o += (f64::from(v) - m) * (f64::from(v) - m);
            }
        }
    });
    sums[..cols].iter().sum()
}

/// Consistency of an ensemble: `λ (1 - MMCS)`, MMCS = mean over pairs of SAEs (i < j) and over the latents h of i of
/// `|cos(W_i[h], W_j[match(h)])|`, with its gradient to both. Matches are given; they are found once an epoch.
///
/// # Shapes
/// `decoders`: S × `[H, D]`, rows of any length; `matches[p][h]` for the pairs p = (0,1), (0,2), …, (1,2), …;
/// `gradients`: S × `[H, D]`, overwritten with the gradient to the *directions* (rows of unit length).
/// Returns the loss.
pub fn consistency(isa: Isa, lambda: f64, decoders: &[MatRef], matches: &[Vec<u32>], gradients: &mut [Mat]) -> f64 {
    let (saes, latents) = (decoders.len(), decoders[0].rows());
    gradients.iter_mut().for_each(|g| g.data_mut().fill(0.0));
    let pairs = saes * (saes - 1) / 2;
    let each = lambda / (pairs * latents) as f64;
    let mut total = 0.0;
    let mut p = 0;
    for i in 0..saes {
        for j in i + 1..saes {
            for h in 0..latents {
                let m = matches[p][h] as usize;
                let (a, b) = (decoders[i].row(h), decoders[j].row(m));
                let (na, nb) = (isa.dot(a, a).sqrt(), isa.dot(b, b).sqrt());
                if na == 0.0 || nb == 0.0 {
                    continue;
                }
                let cos = f64::from(isa.dot(a, b)) / (f64::from(na) * f64::from(nb));
                total += cos.abs();
                // Gradient to the unit direction â: -sign·b̂. The update of each latent removes the part along â.
                let coef = (-each * cos.signum()) as f32;
                isa.add_scaled(gradients[i].row_mut(h), coef / nb, b);
                isa.add_scaled(gradients[j].row_mut(m), coef / na, a);
            }
            p += 1;
        }
    }
    lambda * (1.0 - total / (pairs * latents) as f64)
}

/// Returns for every latent of `a` the latent of `b` with the largest |cos| (the lower index on a tie).
pub fn match_latents(isa: Isa, a: MatRef, b: MatRef) -> Vec<u32> {
    let inverse = |m: MatRef| -> Vec<f32> {
        (0..m.rows()).map(|h| isa.dot(m.row(h), m.row(h)).sqrt()).map(|n| if n > 0.0 { 1.0 / n } else { 0.0 }).collect()
    };
    let inv_b = inverse(b);
    (0..a.rows())
        .into_par_iter()
        .map(|h| {
            let mut best = (0u32, -1.0f32);
            for (j, &inv) in inv_b.iter().enumerate() {
                let cos = (isa.dot(a.row(h), b.row(j)) * inv).abs();
                if cos > best.1 {
                    best = (j as u32, cos);
                }
            }
            best.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn noise(rows: usize, cols: usize, seed: u64) -> Mat {
        let mut s = Stream::new(seed, "test", &[]);
        Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect())
    }

    #[test]
    fn spread_equals_the_formula() {
        let x = noise(7, 1030, 1);
        let mut want = 0.0;
        for c in 0..1030 {
            let mean = (0..7).map(|r| f64::from(x.row(r)[c])).sum::<f64>() / 7.0;
            want += (0..7).map(|r| (f64::from(x.row(r)[c]) - mean).powi(2)).sum::<f64>();
        }
        assert!((spread(x.view(), 0, 1, &mut vec![0.0; 1030]) / want - 1.0).abs() < 1e-12);
    }

    #[test]
    fn consistency_gradient_equals_finite_differences() {
        let (latents, dim, lambda) = (5, 8, 0.7);
        let w: Vec<Mat> = (0..3).map(|i| noise(latents, dim, 10 + i)).collect();
        let views = |w: &[Mat]| -> Vec<Mat> { w.to_vec() };
        let isa = Isa::SCALAR;
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let matches: Vec<Vec<u32>> =
            pairs.iter().map(|&(i, j): &(usize, usize)| match_latents(isa, w[i].view(), w[j].view())).collect();
        // Independent f64 loss.
        let loss = |w: &[Vec<f64>]| -> f64 {
            let mut sum = 0.0;
            for (p, &(i, j)) in pairs.iter().enumerate() {
                for h in 0..latents {
                    let (a, b) = (&w[i][h * dim..][..dim], &w[j][matches[p][h] as usize * dim..][..dim]);
                    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
                    sum += (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).abs();
                }
            }
            lambda * (1.0 - sum / (3 * latents) as f64)
        };
        let mut w64: Vec<Vec<f64>> = w.iter().map(|m| m.data().iter().map(|&v| f64::from(v)).collect()).collect();
        let mut gradients = vec![Mat::zeros(latents, dim); 3];
        let copies = views(&w);
        let refs: Vec<MatRef> = copies.iter().map(Mat::view).collect();
        let got = consistency(isa, lambda, &refs, &matches, &mut gradients);
        assert!((got - loss(&w64)).abs() < 1e-6);
        for s in 0..3 {
            for h in 0..latents {
                let row = w[s].row(h);
                let norm = isa.dot(row, row).sqrt();
                let along = isa.dot(gradients[s].row(h), row) / norm;
                for d in 0..dim {
                    // Chain rule through the normalisation: (g - (g·ŵ)ŵ)/‖w‖.
                    let analytic = (gradients[s].row(h)[d] - along * row[d] / norm) / norm;
                    let at = h * dim + d;
                    let keep = w64[s][at];
                    w64[s][at] = keep + 1e-5;
                    let up = loss(&w64);
                    w64[s][at] = keep - 1e-5;
                    let down = loss(&w64);
                    w64[s][at] = keep;
                    let numeric = (up - down) / 2e-5;
                    assert!((numeric - f64::from(analytic)).abs() < 1e-5, "{numeric} {analytic}");
                }
            }
        }
    }
}
