//! The default beginning: a dictionary found without gradients, every choice made on held-out rows of the sample.
//!
//! 1. Candidate orthonormal bases B `[m, D]`, m ≤ H/2: the principal directions and, for pictures, the cosines of each
//!    colour axis with the most variance.
//! 2. Where there are rows enough, each is rotated inside its span towards k-sparse codes: with `y = (x - mean) Bᵀ`,
//!    `Z = the k largest |y R|`, R ← the orthogonal polar factor of `Yᵀ Z` (Bao, Cai & Ji 2013, "Fast sparsity-based
//!    orthogonal dictionary learning"), extrapolated so that it arrives in about half the iterations.
//! 3. Atoms are +B and -B. Latents left over get unit residuals of rows, their encoder rows scaled so that they start
//!    quiet.

use super::{Sample, from_rows, principal_directions};
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat, MatRef, Panels};
use crate::model::{Config, Sae, Weights, Work};
use crate::optim::normalise;
use crate::random::Stream;
use rayon::prelude::*;

/// Share of the sample that decides, and at most so many rows.
const HELD: (usize, usize) = (10, 2048);
/// Rows for each direction below which a rotation only fits the rows it saw.
const ROWS_A_DIRECTION: usize = 4;
/// Directions above which the polar factor costs more than training.
const MOST_ROTATED: usize = 1024;
const ITERATIONS: usize = 24;
const PATIENCE: usize = 4;
/// Scales tried for the encoder rows of left-over latents.
const SCALES: [f32; 4] = [0.0, 0.25, 0.35, 0.5];

/// `W_enc` and `W_dec`, `[H, D]` each, decoder rows of unit length.
pub fn start(config: &Config, seed: u64, sae: u64, sample: Sample) -> (Mat, Mat) {
    let dim = config.d_in;
    let n = sample.rows.rows();
    let centred = {
        let mut c = Mat::zeros(n, dim);
        c.data_mut().par_chunks_mut(dim).enumerate().for_each(|(r, row)| {
            row.iter_mut().zip(sample.rows.row(r)).zip(sample.mean).for_each(|((o, &x), &m)| *o = x - m);
        });
        c
    };
    let held_rows = (n / HELD.0).min(HELD.1);
    let fit = MatRef::new(n - held_rows, dim, &centred.data()[held_rows * dim..]);
    let held = centred.top(held_rows);

    let most = config.latents.div_ceil(2);
    let mut bases = vec![principal_directions(Sample { mean: &vec![0.0; dim], rows: fit, pictures: None }, most)];
    if let Some(shape) = sample.pictures.filter(|s| s.1 > 1 && s.2 > 1) {
        bases.push(cosines(fit, shape, most));
    }
    let mut best: Option<(f64, Mat)> = None;
    for basis in bases.into_iter().filter(|b| b.rows() > 0) {
        let found = rotate(basis, fit, held, config.k, seed, sae);
        if best.as_ref().is_none_or(|b| found.0 < b.0) {
            best = Some(found);
        }
    }
    let basis = best.map_or_else(|| Mat::zeros(0, dim), |b| b.1);

    let paired = (2 * basis.rows()).min(config.latents);
    let mut decoder = if paired < config.latents { left_over(&basis, fit, config, seed, sae) } else { Mat::zeros(config.latents, dim) };
    for h in 0..paired {
        let sign = if h % 2 == 0 { 1.0 } else { -1.0 };
        decoder.row_mut(h).iter_mut().zip(basis.row(h / 2)).for_each(|(o, &v)| *o = sign * v);
    }
    if sae > 0 {
        perturb(&mut decoder, seed, sae);
    }
    let encoder = scaled(config, decoder.clone(), paired, held);
    (encoder, decoder)
}

/// Members of an ensemble begin apart: noise of a tenth of a row's length, except in the first.
fn perturb(decoder: &mut Mat, seed: u64, sae: u64) {
    let dim = decoder.cols();
    let size = 0.1 / (dim as f64).sqrt();
    decoder.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
        let mut s = Stream::new(seed, "member", &[sae, h as u64]);
        row.iter_mut().for_each(|v| *v += (s.normal() * size) as f32);
        normalise(Isa::current(), row);
    });
}

/// `x Wᵀ`, `[B, n]`: every value by the kernels' own dot product, whatever the thread count.
fn product(x: MatRef, w: MatRef) -> Mat {
    let isa = Isa::current();
    let (rows, n, dim) = (x.rows(), w.rows(), x.cols());
    let zeros = vec![0.0f32; Panels::WIDTH];
    let mut out = Mat::zeros(rows, n);
    let block = 64;
    out.data_mut().par_chunks_mut((block * n).max(1)).enumerate().for_each(|(i, out)| {
        let m = out.len() / n;
        let part = &x.data()[i * block * dim..][..m * dim];
        let mut spill = vec![0.0; crate::kernels::spill_len(m, dim)];
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

fn transposed(a: MatRef) -> Mat {
    let mut out = Mat::zeros(a.cols(), a.rows());
    let n = a.rows();
    out.data_mut().par_chunks_mut(n.max(1)).enumerate().for_each(|(c, row)| {
        row.iter_mut().enumerate().for_each(|(r, v)| *v = a.data()[r * a.cols() + c]);
    });
    out
}

/// Each row with all but its `k` values of largest magnitude set to 0 (ties at the k-th stay).
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

/// The orthogonal polar factor of a square matrix by Newton–Schulz: `X ← X (3 I - Xᵀ X) / 2` from `A / ‖A‖`, which brings
/// every singular value to 1 (Higham 2008, "Functions of Matrices", ch. 8). `None` where it does not arrive.
fn polar(a: &Mat) -> Option<Mat> {
    let (n, isa) = (a.rows(), Isa::current());
    let mut x = a.clone();
    // The largest singular value is at most √(‖A‖₁ ‖A‖∞).
    let largest = |m: &Mat| (0..n).map(|r| m.row(r).iter().map(|v| v.abs()).sum::<f32>()).fold(0.0, f32::max);
    let size = (largest(a) * largest(&transposed(a.view()))).sqrt();
    if !(size > 0.0 && size.is_finite()) {
        return None;
    }
    isa.scale(x.data_mut(), 1.0 / size);
    for _ in 0..60 {
        let across = transposed(x.view());
        let mut gram = product(across.view(), across.view());
        let mut off = 0.0f32;
        for i in 0..n {
            let row = gram.row_mut(i);
            row.iter_mut().for_each(|v| *v *= -0.5);
            row[i] += 1.5;
            off = row.iter().enumerate().map(|(j, v)| (v - f32::from(u8::from(i == j))).abs()).fold(off, f32::max);
        }
        // The gram is symmetric: rows times rows is X (3 I - Xᵀ X) / 2.
        x = product(x.view(), gram.view());
        // Convergence is quadratic: what is off now is squared by the product just made.
        if off < 1e-3 {
            return Some(x);
        }
    }
    None
}

/// The best rotation of a basis by the unexplained share of the held-out rows at k, and that share.
fn rotate(basis: Mat, fit: MatRef, held: MatRef, k: usize, seed: u64, sae: u64) -> (f64, Mat) {
    let m = basis.rows();
    let y_held = product(held, basis.view());
    let square = |v: &[f32]| v.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let (total, inside) = (square(held.data()).max(f64::MIN_POSITIVE), square(y_held.data()));
    // Orthonormal: what is lost is what lies outside the span and what was not kept.
    let unexplained = |kept: &Mat| (total - inside + inside - square(kept.data())) / total;
    let plain = unexplained(&keep_largest(y_held.clone(), k));
    if fit.rows() < ROWS_A_DIRECTION * m || m > MOST_ROTATED || k >= m || held.rows() == 0 {
        return (plain, basis);
    }
    let y = product(fit, basis.view());
    let y_transposed = transposed(y.view());
    // R is kept transposed: rows of `r` are its columns, so that `y R = product(y, r)`.
    let identity = Mat::from_vec(m, m, (0..m * m).map(|i| f32::from(u8::from(i / m == i % m))).collect());
    let first = if sae == 0 { identity } else { super::orthogonal(m, m, seed ^ 0x5eed, sae) };
    let (mut r, mut before) = (first.clone(), first);
    let mut best = if sae == 0 { (plain, None, 0) } else { (f64::INFINITY, None, 0) };
    for i in 1..=ITERATIONS {
        let ahead = r.data().iter().zip(before.data()).map(|(&a, &b)| 2.0 * a - b).collect();
        let Some(ahead) = polar(&Mat::from_vec(m, m, ahead)) else { break };
        let codes = keep_largest(product(y.view(), ahead.view()), k);
        // (Yᵀ Z)ᵀ = Zᵀ Y, in the transposed form of R.
        let Some(next) = polar(&product(transposed(codes.view()).view(), y_transposed.view())) else { break };
        before = std::mem::replace(&mut r, next);
        let score = unexplained(&keep_largest(product(y_held.view(), r.view()), k));
        if score < best.0 {
            best = (score, Some(r.clone()), i);
        } else if i - best.2 >= PATIENCE {
            break;
        }
    }
    match best.1 {
        Some(r) => (best.0, product(r.view(), transposed(basis.view()).view())),
        None => (plain, basis),
    }
}

/// The cosines with the most variance: products of a colour axis (principal axis of the rows' colours) and a DCT-II
/// basis function of each side, orthonormal.
///
/// # Shapes
/// `[≤ most, D]`, by descending variance.
fn cosines(rows: MatRef, (channels, height, width): (usize, usize, usize), most: usize) -> Mat {
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
                        Isa::current().add_scaled(&mut plane, axes[a * channels + c] as f32, &row[c * pixels..][..pixels]);
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

/// Principal axes of the colours of all pixels, `[channels, channels]`, rows orthonormal.
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

/// Unit residuals of rows after the best code of `k` atoms of the basis, for every latent (the first are overwritten).
fn left_over(basis: &Mat, fit: MatRef, config: &Config, seed: u64, sae: u64) -> Mat {
    let (dim, latents) = (config.d_in, config.latents);
    let zero = vec![0.0; dim];
    let mut rows = from_rows(latents, seed, sae, Sample { mean: &zero, rows: fit, pictures: None });
    if basis.rows() > 0 {
        let isa = Isa::current();
        let codes = keep_largest(product(rows.view(), basis.view()), config.k);
        rows.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
            for (j, &c) in codes.row(h).iter().enumerate().filter(|c| *c.1 != 0.0) {
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

/// The encoder: the decoder's rows, those past `paired` scaled by what explains the held-out rows best.
fn scaled(config: &Config, decoder: Mat, paired: usize, held: MatRef) -> Mat {
    let (latents, dim) = (config.latents, config.d_in);
    if paired == latents {
        return decoder;
    }
    let isa = Isa::current();
    let with = |scale: f32| {
        let mut encoder = decoder.clone();
        encoder.data_mut()[paired * dim..].iter_mut().for_each(|v| *v *= scale);
        encoder
    };
    let probe = MatRef::new(held.rows().min(512), dim, &held.data()[..held.rows().min(512) * dim]);
    let mut best: Option<(f64, f32)> = None;
    // Tied: the encoder's rows are the decoder's, so none may vanish.
    for scale in SCALES.into_iter().filter(|&s| s > 0.0 || !config.tied) {
        let trial = Config { decoder_bias: false, ..*config };
        let weights = Weights {
            W_enc: with(scale),
            W_dec: (!config.tied).then(|| decoder.clone()),
            b_enc: vec![0.0; latents],
            b_dec: None,
        };
        let Ok(sae) = Sae::new(trial, weights) else { continue };
        let (mut work, mut codes) = (Work::default(), Latents::default());
        if probe.rows() == 0 || sae.encode(isa, probe, &mut work, &mut codes).is_err() {
            continue;
        }
        let mut recon = Mat::zeros(probe.rows(), dim);
        sae.decode(isa, &codes, &work, recon.view_mut());
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
        let all = cosines(x.view(), (3, 6, 5), 90);
        orthonormal(&all, 1e-5);
        let y = product(x.view(), all.view());
        let variance: Vec<f32> = (0..90).map(|c| (0..40).map(|r| y.row(r)[c].powi(2)).sum()).collect();
        assert!(variance.windows(2).all(|v| v[0] >= v[1] * 0.9999));
    }

    #[test]
    fn a_polar_factor_is_orthogonal() {
        orthonormal(&polar(&noise(20, 20, 2)).expect("finite"), 1e-5);
    }

    #[test]
    fn a_rotation_finds_sparse_directions() {
        // Rows are sparse in a hidden orthonormal basis that is not the principal one.
        let hidden = polar(&noise(16, 16, 3)).expect("finite");
        let mut s = Stream::new(4, "test", &[]);
        let mut x = Mat::zeros(2000, 16);
        for r in 0..2000 {
            for _ in 0..2 {
                let (j, c) = (s.below(16) as usize, s.normal() as f32);
                Isa::SCALAR.add_scaled(x.row_mut(r), c, hidden.row(j));
            }
        }
        let start = polar(&noise(16, 16, 5)).expect("finite");
        let (held, fit) = (x.top(200), MatRef::new(1800, 16, &x.data()[200 * 16..]));
        let (unexplained, found) = rotate(start, fit, held, 2, 0, 0);
        assert!(unexplained < 0.02, "{unexplained}");
        orthonormal(&found, 1e-4);
    }
}
