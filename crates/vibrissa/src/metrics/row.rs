//! Measures of one row and its reconstruction, in f64. No accumulation over rows.

/// A row counts as constant if its variance is at most `(CONSTANT · max|value|)²`. Rounding to f32 (half a unit in the
/// last place, 6e-8) stays below that, so a row that is constant except for rounding has no correlation.
pub const CONSTANT: f64 = 1e-7;

/// The largest PSNR of a row in dB. The PSNR of identical rows would be infinite, and so would every mean with it.
pub const PSNR_CAP: f64 = 100.0;

/// The measures of one row and its reconstruction, without unit except [`RowMetrics::psnr`]. NaN in, NaN out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowMetrics {
    /// Mean over the D elements of `(x - recon)²`.
    pub mse: f64,
    /// `‖x - recon‖²`.
    pub residual: f64,
    /// Pearson's r between `x` and `recon` over the D elements; 0 where either is constant.
    pub pearson: f64,
    /// True if `x` or `recon` is constant (see [`CONSTANT`]).
    pub constant: bool,
    /// `x·recon / (‖x‖ ‖recon‖)`; 0 where either is all zero.
    pub cosine: f64,
    /// `10 log10(1 / mse)` for a peak of 1, in dB, at most [`PSNR_CAP`].
    pub psnr: f64,
}

const LANES: usize = 4;

/// Distance from 0 and 1 that reconstructions are clipped to before their logarithm is taken.
pub const ENTROPY_CLIP: f64 = 1e-6;

/// Mean over the D elements of `-x ln y - (1 - x) ln(1 - y)`, y = recon clipped to [`ENTROPY_CLIP`, 1 -
/// `ENTROPY_CLIP`], in nats: the binary cross-entropy of values from 0 to 1.
pub fn cross_entropy(x: &[f32], recon: &[f32]) -> f64 {
    let each = x.iter().zip(recon).map(|(&x, &y)| {
        let (x, y) = (f64::from(x), f64::from(y).clamp(ENTROPY_CLIP, 1.0 - ENTROPY_CLIP));
        -x * y.ln() - (1.0 - x) * (1.0 - y).ln()
    });
    each.sum::<f64>() / x.len().max(1) as f64
}

/// The sum of `f(a, b)` over two rows, in [`LANES`] partial sums: a fixed order that the compiler vectorises.
fn sum<const N: usize>(a: &[f32], b: &[f32], f: impl Fn(f64, f64) -> [f64; N]) -> [f64; N] {
    let mut lanes = [[0.0f64; LANES]; N];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for l in 0..LANES {
            let terms = f(f64::from(a[l]), f64::from(b[l]));
            for n in 0..N {
                lanes[n][l] += terms[n];
            }
        }
    }
    for (l, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        let terms = f(f64::from(a), f64::from(b));
        for n in 0..N {
            lanes[n][l] += terms[n];
        }
    }
    lanes.map(|l| (l[0] + l[2]) + (l[1] + l[3]))
}

fn max_abs(row: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 8];
    let chunks = row.chunks_exact(8);
    let rest = chunks.remainder();
    for c in chunks {
        for l in 0..8 {
            lanes[l] = lanes[l].max(c[l].abs());
        }
    }
    f64::from(rest.iter().chain(&lanes).fold(0.0f32, |m, v| m.max(v.abs())))
}

/// The measures of one row `x [D]` and its reconstruction `recon [D]`.
///
/// Pearson's r takes a second pass around the means: the one-pass formula loses all digits on rows whose mean is much
/// larger than their spread.
///
/// # Panics
/// If the lengths differ.
pub fn row_metrics(x: &[f32], recon: &[f32]) -> RowMetrics {
    assert_eq!(x.len(), recon.len(), "a row and its reconstruction have the same width");
    if x.is_empty() {
        return RowMetrics { constant: true, psnr: PSNR_CAP, ..RowMetrics::default() };
    }
    let n = x.len() as f64;
    let [sum_x, sum_y] = sum(x, recon, |a, b| [a, b]);
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let [xx, yy, xy, residual] = sum(x, recon, |a, b| {
        let (u, v, d) = (a - mean_x, b - mean_y, a - b);
        [u * u, v * v, u * v, d * d]
    });
    let flat = |centred: f64, row: &[f32]| centred / n <= (CONSTANT * max_abs(row)).powi(2);
    let constant = flat(xx, x) || flat(yy, recon);
    // Adding the means back is accurate: the error stays below ε‖x‖‖recon‖, and the sum is divided by ‖x‖‖recon‖.
    let norms = ((xx + n * mean_x * mean_x) * (yy + n * mean_y * mean_y)).sqrt();
    let mse = residual / n;
    // One root of the product, which f64 holds for any f32 rows, makes r of a row with itself exactly 1.
    RowMetrics {
        mse,
        residual,
        pearson: if constant { 0.0 } else { (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0) },
        constant,
        cosine: if norms == 0.0 { 0.0 } else { ((xy + n * mean_x * mean_y) / norms).clamp(-1.0, 1.0) },
        psnr: psnr(mse),
    }
}

/// PSNR in dB for a peak of 1, at most [`PSNR_CAP`]; NaN stays NaN.
pub fn psnr(mse: f64) -> f64 {
    let db = -10.0 * mse.log10();
    if db > PSNR_CAP { PSNR_CAP } else { db }
}

/// `‖x - origin‖²`.
pub(super) fn squared_distance(x: &[f32], origin: &[f32]) -> f64 {
    let [d] = sum(x, origin, |a, b| [(a - b) * (a - b)]);
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, seed: f64) -> Vec<f32> {
        (0..n).map(|i| ((i as f64 * 0.7 + seed).sin() * 0.4 + 0.5 + (i as f64 * seed).cos() * 0.05) as f32).collect()
    }

    /// The textbook formulas, element by element.
    fn naive(x: &[f32], y: &[f32]) -> (f64, f64, f64) {
        let n = x.len() as f64;
        let (x, y): (Vec<f64>, Vec<f64>) =
            (x.iter().map(|&v| v.into()).collect(), y.iter().map(|&v| v.into()).collect());
        let mse = x.iter().zip(&y).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / n;
        let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let cov = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum::<f64>();
        let (vx, vy) =
            (x.iter().map(|a| (a - mx).powi(2)).sum::<f64>(), y.iter().map(|b| (b - my).powi(2)).sum::<f64>());
        let dot = x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>();
        let (nx, ny) = (x.iter().map(|a| a * a).sum::<f64>(), y.iter().map(|b| b * b).sum::<f64>());
        (mse, cov / (vx * vy).sqrt(), dot / (nx * ny).sqrt())
    }

    #[test]
    fn matches_the_naive_formulas_at_every_length() {
        for n in [2usize, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 784, 12288] {
            let (x, y) = (wave(n, 0.3), wave(n, 1.1));
            let (mse, r, cos) = naive(&x, &y);
            let got = row_metrics(&x, &y);
            for (name, got, want) in [
                ("mse", got.mse, mse),
                ("pearson", got.pearson, r),
                ("cosine", got.cosine, cos),
                ("residual", got.residual, mse * n as f64),
                ("psnr", got.psnr, 10.0 * (1.0 / mse).log10()),
            ] {
                assert!((got - want).abs() <= 1e-12 * want.abs().max(1e-3), "{name} at {n}: {got} against {want}");
            }
            assert!(!got.constant);
        }
    }

    #[test]
    fn closed_forms() {
        let x = [0.0f32, 0.25, 0.5, 1.0];
        let double: Vec<f32> = x.iter().map(|v| v * 2.0 + 1.0).collect();
        let got = row_metrics(&x, &double);
        assert!((got.pearson - 1.0).abs() < 1e-15);
        let opposite: Vec<f32> = x.iter().map(|v| -v).collect();
        let got = row_metrics(&x, &opposite);
        assert!((got.pearson + 1.0).abs() < 1e-15 && (got.cosine + 1.0).abs() < 1e-15);
        let got = row_metrics(&[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!((got.mse, got.cosine, got.psnr, got.residual), (1.0, 0.0, 0.0, 2.0));
        let got = row_metrics(&[0.0, 0.1, 0.2], &[0.1, 0.2, 0.3]);
        assert!((got.psnr - 20.0).abs() < 1e-6);
        let same = row_metrics(&x, &x);
        assert_eq!((same.mse, same.psnr, same.pearson), (0.0, PSNR_CAP, 1.0));
        assert!((same.cosine - 1.0).abs() < 1e-15);
        for scale in [3.0e38f32, 1e-44] {
            let extreme = x.map(|v| v * scale);
            assert_eq!(row_metrics(&extreme, &extreme).pearson, 1.0);
        }
    }

    #[test]
    fn correlation_is_accurate_with_a_large_mean() {
        let x: Vec<f32> = (0..1000).map(|i| 8192.0 + (i % 10) as f32 * 0.0009765625).collect();
        let y: Vec<f32> = x.iter().map(|v| 16384.0 - v).collect();
        assert!((row_metrics(&x, &y).pearson + 1.0).abs() < 1e-9);
    }

    #[test]
    fn rows_constant_except_for_rounding_are_constant() {
        let x = wave(100, 0.3);
        let ulp = 0.1f32.next_up();
        let jitter: Vec<f32> = (0..100).map(|i| if i % 3 == 0 { ulp } else { 0.1 }).collect();
        for flat in [vec![0.0; 100], vec![0.1; 100], vec![-3.0e20; 100], jitter] {
            for got in [row_metrics(&x, &flat), row_metrics(&flat, &x)] {
                assert!(got.constant && got.pearson == 0.0, "{got:?}");
            }
        }
        let mut spike = vec![0.0f32; 12288];
        spike[5] = 1e-20;
        assert!(!row_metrics(&spike, &spike).constant, "small is not constant");
    }

    #[test]
    fn nan_gives_nan_and_empty_rows_do_not_panic() {
        let got = row_metrics(&[f32::NAN, 1.0, 2.0], &[0.0, 1.0, 2.0]);
        assert!(got.mse.is_nan() && got.pearson.is_nan() && got.cosine.is_nan() && got.psnr.is_nan() && !got.constant);
        assert!(row_metrics(&[], &[]).constant);
        assert_eq!(row_metrics(&[0.0; 5], &[0.0; 5]).cosine, 0.0);
    }
}
