//! Initialisation for small data sets: a dictionary found without gradients. Every choice is made on held-out rows of the
//! sample.
//!
//! 1. Candidate orthonormal bases B `[m, D]`, m ≤ H/2: the principal directions and, for pictures, the cosines of each
//!    colour axis with the most variance. The one whose k largest coordinates reconstruct the held-out rows best is
//!    taken.
//! 2. Atoms are +B and -B, if rows use them. The remaining latents get unit residuals of rows, and encoder rows scaled
//!    down so that they do not displace the others.

use super::{Sample, centred, from_rows, principal_directions};
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat, MatRef, Panels};
use crate::model::{Config, Sae, Weights, Workspace};
use crate::optim::normalise;
use crate::random::Stream;
use crate::shape::ImageShape;
use rayon::prelude::*;

/// An atom is used if at least one in this many rows uses it.
const RARE: usize = 1000;
/// Scales that are tried for the encoder rows of the remaining latents.
const SCALES: [f32; 4] = [0.25, 0.35, 0.5, 0.7];

/// An initial dictionary.
pub struct Dictionary {
    /// `W_enc [H, D]`
    pub encoder: Mat,
    /// `W_dec [H, D]`, rows of unit length.
    pub decoder: Mat,
    /// The basis that atoms are made of, in words.
    pub basis: &'static str,
}

/// Finds a dictionary for the sample.
pub fn find(config: &Config, seed: u64, sae: u64, sample: Sample) -> Dictionary {
    let dim = config.d_in;
    let n = sample.rows.rows();
    let centred = centred(sample);
    let held_rows = sample.held_out;
    let fit = MatRef::new(n - held_rows, dim, &centred.data()[held_rows * dim..]);
    let held = centred.first_rows(held_rows);

    let most = config.latents.div_ceil(2);
    let mut bases = vec![("± principal directions", principal_directions(fit, most))];
    if let Some(shape) = sample.shape.filter(|s| s.height > 1 && s.width > 1) {
        bases.push(("± cosines", cosines(fit, shape, most)));
    }
    let (_, (name, basis)) = bases
        .into_iter()
        .map(|basis| (unexplained(held, &product(held, basis.1.view()), config.k), basis))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .expect("the principal directions are always a candidate");

    let used = used_atoms(&basis, fit, config);
    let paired = used.len();
    let mut decoder = if paired < config.latents {
        residual_directions(&basis, fit, config, seed, sae)
    } else {
        Mat::zeros(config.latents, dim)
    };
    for (h, &(j, sign)) in used.iter().enumerate() {
        decoder.row_mut(h).iter_mut().zip(basis.row(j)).for_each(|(o, &v)| *o = sign * v);
    }
    if sae > 0 {
        perturb(&mut decoder, seed, sae);
    }
    let encoder = scaled_encoder(config, decoder.clone(), paired, held);
    Dictionary { encoder, decoder, basis: name }
}

/// Returns the atoms ±B that are among the k largest of at least one row in a thousand, as (direction, sign) by
/// direction. Other atoms would be dead latents.
fn used_atoms(basis: &Mat, fit: MatRef, config: &Config) -> Vec<(usize, f32)> {
    let m = basis.rows();
    let coordinates = keep_largest(product(fit, basis.view()), config.k);
    let mut counts = vec![[0usize; 2]; m];
    for r in 0..coordinates.rows() {
        for (count, &c) in counts.iter_mut().zip(coordinates.row(r)) {
            count[0] += usize::from(c > 0.0);
            count[1] += usize::from(c < 0.0);
        }
    }
    let enough = fit.rows().div_ceil(RARE).max(1);
    let atoms = counts.iter().enumerate().flat_map(|(j, c)| [(j, 1.0, c[0]), (j, -1.0, c[1])]);
    atoms.filter(|a| a.2 >= enough).map(|(j, sign, _)| (j, sign)).take(config.latents).collect()
}

/// Makes the members of an ensemble differ: adds noise of a tenth of a row's length.
fn perturb(decoder: &mut Mat, seed: u64, sae: u64) {
    let dim = decoder.cols();
    let size = 0.1 / (dim as f64).sqrt();
    decoder.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
        let mut s = Stream::new(seed, "member", &[sae, h as u64]);
        row.iter_mut().for_each(|v| *v += (s.normal() * size) as f32);
        normalise(Isa::current(), row);
    });
}

/// Returns `x Wᵀ`, `[B, n]`, by the kernels' dot product, the same for every number of threads.
fn product(x: MatRef, w: MatRef) -> Mat {
    let isa = Isa::current();
    let (rows, n, dim) = (x.rows(), w.rows(), x.cols());
    let zeros = [0.0f32; Panels::WIDTH];
    let mut out = Mat::zeros(rows, n);
    let block = 64;
    out.data_mut().par_chunks_mut((block * n).max(1)).enumerate().for_each(|(i, out)| {
        let m = out.len() / n;
        let part = &x.data()[i * block * dim..][..m * dim];
        let mut spill = vec![0.0; crate::kernels::dots_scratch_len(m, dim)];
        let mut tile = vec![0.0; m * Panels::WIDTH];
        for first in (0..n).step_by(Panels::WIDTH) {
            let width = Panels::WIDTH.min(n - first);
            let tile = &mut tile[..m * width];
            isa.dots(part, &w.data()[first * dim..(first + width) * dim], &zeros[..width], dim, tile, &mut spill);
            for b in 0..m {
                out[b * n + first..b * n + first + width].copy_from_slice(&tile[b * width..][..width]);
            }
        }
    });
    out
}

/// Sets all but the `k` values of largest magnitude of each row to 0 (ties at the k-th stay).
fn keep_largest(mut z: Mat, k: usize) -> Mat {
    let n = z.cols();
    if k < n {
        z.data_mut().par_chunks_mut(n).for_each(|row| {
            let mut size: Vec<f32> = row.iter().map(|v| v.abs()).collect();
            let kth = *size.select_nth_unstable_by(n - k, f32::total_cmp).1;
            row.iter_mut().filter(|v| v.abs() < kth).for_each(|v| *v = 0.0);
        });
    }
    z
}

/// Returns the share of the rows' squared length that k directions of an orthonormal basis leave unexplained, from the
/// rows' coordinates: the parts outside its span and the coordinates that were set to 0.
fn unexplained(rows: MatRef, coordinates: &Mat, k: usize) -> f64 {
    let square = |v: &[f32]| v.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let total = square(rows.data()).max(f64::MIN_POSITIVE);
    1.0 - square(keep_largest(coordinates.clone(), k).data()) / total
}

/// Returns the cosines with the most variance: products of a colour axis (principal axis of the rows' colours) and a
/// DCT-II basis function of each side, orthonormal.
///
/// # Shapes
/// `[≤ most, D]`, by descending variance.
fn cosines(rows: MatRef, ImageShape { channels, height, width }: ImageShape, most: usize) -> Mat {
    let basis = |n: usize| -> Mat {
        let value = |u: usize, i: usize| {
            let norm = if u == 0 { (1.0 / n as f64).sqrt() } else { (2.0 / n as f64).sqrt() };
            norm * (std::f64::consts::PI * (2 * i + 1) as f64 * u as f64 / (2 * n) as f64).cos()
        };
        Mat::from_vec(n, n, (0..n * n).map(|j| value(j / n, j % n) as f32).collect())
    };
    let (pixels, dim) = (height * width, rows.cols());
    let (across, down) = (basis(width), basis(height));
    let axes = colour_axes(rows, channels, pixels);
    // Squares of every coefficient, summed over fixed chunks of rows.
    let chunk = rows.rows().div_ceil(16).max(1);
    let parts: Vec<Vec<f64>> = rows
        .data()
        .par_chunks(chunk * dim)
        .map(|part| {
            let mut sums = vec![0.0f64; dim];
            let (mut plane, mut half) = (vec![0.0f32; pixels], vec![0.0f32; pixels]);
            for row in part.chunks_exact(dim) {
                for a in 0..channels {
                    plane.fill(0.0);
                    for c in 0..channels {
                        Isa::current().add_scaled(
                            &mut plane,
                            axes[a * channels + c] as f32,
                            &row[c * pixels..][..pixels],
                        );
                    }
                    for y in 0..height {
                        for u in 0..width {
                            half[u * height + y] = Isa::current().dot(across.row(u), &plane[y * width..][..width]);
                        }
                    }
                    for u in 0..width {
                        for v in 0..height {
                            let c = Isa::current().dot(down.row(v), &half[u * height..][..height]);
                            sums[(a * height + v) * width + u] += f64::from(c) * f64::from(c);
                        }
                    }
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0f64; dim];
    for part in &parts {
        sums.iter_mut().zip(part).for_each(|(s, &p)| *s += p);
    }
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    order.truncate(most);
    let mut out = Mat::zeros(order.len(), dim);
    out.data_mut().par_chunks_mut(dim).zip(&order).for_each(|(row, &at)| {
        let (a, v, u) = (at / pixels, at % pixels / width, at % width);
        for (i, value) in row.iter_mut().enumerate() {
            let (c, y, x) = (i / pixels, i % pixels / width, i % width);
            *value = axes[a * channels + c] as f32 * down.row(v)[y] * across.row(u)[x];
        }
    });
    out
}

/// Returns the principal axes of the colours of all pixels, `[channels, channels]`, rows orthonormal.
fn colour_axes(rows: MatRef, channels: usize, pixels: usize) -> Vec<f64> {
    let mut covariance = vec![0.0f64; channels * channels];
    for r in 0..rows.rows() {
        let row = rows.row(r);
        for a in 0..channels {
            for b in 0..=a {
                covariance[a * channels + b] +=
                    f64::from(Isa::current().dot(&row[a * pixels..][..pixels], &row[b * pixels..][..pixels]));
            }
        }
    }
    let full = faer::Mat::<f64>::from_fn(channels, channels, |i, j| covariance[i.max(j) * channels + i.min(j)]);
    match full.self_adjoint_eigen(faer::Side::Lower) {
        Ok(eigen) => (0..channels * channels).map(|i| eigen.U()[(i % channels, channels - 1 - i / channels)]).collect(),
        Err(_) => (0..channels * channels).map(|i| f64::from(u8::from(i / channels == i % channels))).collect(),
    }
}

/// Returns for every latent the unit residual of a row after its `k` largest coordinates (the first rows are
/// overwritten).
fn residual_directions(basis: &Mat, fit: MatRef, config: &Config, seed: u64, sae: u64) -> Mat {
    let (dim, latents) = (config.d_in, config.latents);
    let zero = vec![0.0; dim];
    let mut rows = from_rows(latents, seed, sae, Sample { mean: &zero, rows: fit, held_out: 0, shape: None });
    if basis.rows() > 0 {
        let isa = Isa::current();
        let coordinates = keep_largest(product(rows.view(), basis.view()), config.k);
        rows.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
            for (j, &c) in coordinates.row(h).iter().enumerate().filter(|c| *c.1 != 0.0) {
                isa.add_scaled(row, -c, basis.row(j));
            }
        });
    }
    rows.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
        if row.iter().all(|&v| v.abs() < 1e-12) {
            let mut s = Stream::new(seed, "left over", &[sae, h as u64]);
            row.iter_mut().for_each(|v| *v = s.normal() as f32);
        }
        normalise(Isa::current(), row);
    });
    rows
}

/// Returns the encoder: the decoder's rows, those past `paired` scaled by the factor that reconstructs the held-out
/// rows best.
fn scaled_encoder(config: &Config, decoder: Mat, paired: usize, held: MatRef) -> Mat {
    let (latents, dim) = (config.latents, config.d_in);
    if paired == latents {
        return decoder;
    }
    let with = |scale: f32| {
        let mut encoder = decoder.clone();
        encoder.data_mut()[paired * dim..].iter_mut().for_each(|v| *v *= scale);
        encoder
    };
    let probe = MatRef::new(held.rows().min(512), dim, &held.data()[..held.rows().min(512) * dim]);
    let mut best: Option<(f64, f32)> = None;
    for scale in SCALES {
        // Directions are compared by the reconstruction from the k largest, whatever the activation.
        let (d_in, latents, k, tied) = (config.d_in, config.latents, config.k, config.tied);
        let trial = Config { d_in, latents, k, tied, decoder_bias: false, ..Config::default() };
        let weights = Weights {
            W_enc: with(scale),
            W_dec: (!config.tied).then(|| decoder.clone()),
            b_enc: vec![0.0; latents],
            ..Weights::default()
        };
        let Ok(sae) = Sae::new(trial, weights) else { continue };
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        if probe.rows() == 0 || sae.encode(probe, &mut work, &mut latents).is_err() {
            continue;
        }
        let mut recon = Mat::zeros(probe.rows(), dim);
        sae.decode(&latents, &work, recon.view_mut());
        let error: f64 =
            recon.data().iter().zip(probe.data()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        if best.is_none_or(|b| error < b.0) {
            best = Some((error, scale));
        }
    }
    with(best.map_or(0.35, |b| b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, cols: usize, seed: u64) -> Mat {
        let mut s = Stream::new(seed, "test", &[]);
        Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect())
    }

    fn orthonormal(rows: &Mat, tolerance: f32) {
        let gram = product(rows.view(), rows.view());
        for i in 0..rows.rows() {
            for j in 0..rows.rows() {
                let want = f32::from(u8::from(i == j));
                assert!((gram.row(i)[j] - want).abs() < tolerance, "{i} {j} {}", gram.row(i)[j]);
            }
        }
    }

    #[test]
    fn cosines_are_orthonormal_and_sorted_by_variance() {
        let x = noise(40, 3 * 6 * 5, 1);
        let all = cosines(x.view(), (3, 6, 5).into(), 90);
        orthonormal(&all, 1e-5);
        let y = product(x.view(), all.view());
        let variance: Vec<f32> = (0..90).map(|c| (0..40).map(|r| y.row(r)[c].powi(2)).sum()).collect();
        assert!(variance.windows(2).all(|v| v[0] >= v[1] * 0.9999));
    }
}
