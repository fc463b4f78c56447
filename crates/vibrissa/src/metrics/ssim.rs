//! Structural similarity of two images (Wang, Bovik, Sheikh & Simoncelli 2004, IEEE TIP 13(4), eq. 13). One row at a
//! time.

use crate::shape::ImageShape;

/// Side of the Gaussian window in pixels.
pub const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// SSIM of images of one shape, with its scratch memory: one a thread.
#[derive(Clone, Debug)]
pub struct Ssim {
    shape: ImageShape,
    window: [f64; WINDOW],
    /// x, recon, x² + recon², x·recon: `[4][height * width]`.
    maps: Vec<f64>,
    /// The four maps of one output line, filtered down the columns: `[4][width]`.
    lines: Vec<f64>,
    /// The same maps, filtered along the line as well: `[4][width - 10]`.
    out: Vec<f64>,
}

impl Ssim {
    /// SSIM of images of this shape; `None` if a side is shorter than the window, where SSIM is undefined.
    pub fn new(shape: ImageShape) -> Option<Ssim> {
        if shape.height < WINDOW || shape.width < WINDOW || shape.channels == 0 {
            return None;
        }
        let mut window = [0.0; WINDOW];
        for (i, w) in window.iter_mut().enumerate() {
            let d = i as f64 - (WINDOW / 2) as f64;
            *w = (-0.5 * d * d / (SIGMA * SIGMA)).exp();
        }
        let total: f64 = window.iter().sum();
        let window = window.map(|w| w / total);
        let (plane, width) = (shape.height * shape.width, shape.width);
        Some(Ssim {
            shape,
            window,
            maps: vec![0.0; 4 * plane],
            lines: vec![0.0; 4 * width],
            out: vec![0.0; 4 * (width - WINDOW + 1)],
        })
    }

    /// The shape it is for.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The mean SSIM of two images: 11×11 Gaussian window (σ 1.5), K1 0.01, K2 0.03, values in [0, 1], over all places
    /// where the window fits and over the channels.
    ///
    /// `SSIM = (2μxμy + C1)(2σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))`, equal to scikit-image's
    /// `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)`.
    ///
    /// # Panics
    /// If a row does not have the width of the shape.
    pub fn mean(&mut self, x: &[f32], recon: &[f32]) -> f64 {
        let ImageShape { channels, height, width } = self.shape;
        assert!(x.len() == self.shape.dim() && recon.len() == self.shape.dim(), "rows have the shape's width");
        let plane = height * width;
        let total: f64 =
            (0..channels).map(|c| self.plane(&x[c * plane..][..plane], &recon[c * plane..][..plane])).sum();
        total / channels as f64
    }

    /// The mean SSIM of one channel. In f64: where an image is bright and flat, the variances are differences of nearly
    /// equal numbers, and compared with C2 = 9e-4 their rounding in f32 would cost the fifth digit.
    fn plane(&mut self, x: &[f32], recon: &[f32]) -> f64 {
        let (height, width) = (self.shape.height, self.shape.width);
        let plane = height * width;
        let (map_x, rest) = self.maps.split_at_mut(plane);
        let (map_y, rest) = rest.split_at_mut(plane);
        let (map_s, map_xy) = rest.split_at_mut(plane);
        for i in 0..plane {
            let (a, b) = (f64::from(x[i]), f64::from(recon[i]));
            map_x[i] = a;
            map_y[i] = b;
            map_s[i] = a * a + b * b;
            map_xy[i] = a * b;
        }
        let valid = width - WINDOW + 1;
        let mut total = 0.0;
        for top in 0..height - WINDOW + 1 {
            for m in 0..4 {
                let line = &mut self.lines[m * width..][..width];
                let rows = &self.maps[m * plane + top * width..][..WINDOW * width];
                line.fill(0.0);
                convolve(
                    line,
                    |k| (&rows[k * width..][..width], &rows[(WINDOW - 1 - k) * width..][..width]),
                    &self.window,
                );
                let line = &self.lines[m * width..][..width];
                let out = &mut self.out[m * valid..][..valid];
                out.fill(0.0);
                convolve(out, |k| (&line[k..][..valid], &line[WINDOW - 1 - k..][..valid]), &self.window);
            }
            let (mu_x, rest) = self.out.split_at(valid);
            let (mu_y, rest) = rest.split_at(valid);
            let (squares, products) = rest.split_at(valid);
            for i in 0..valid {
                let (product, square) = (mu_x[i] * mu_y[i], mu_x[i] * mu_x[i] + mu_y[i] * mu_y[i]);
                total += (2.0 * product + C1) * (2.0 * (products[i] - product) + C2)
                    / ((square + C1) * (squares[i] - square + C2));
            }
        }
        total / (valid * (height - WINDOW + 1)) as f64
    }
}

/// `out += Σ_k window[k] · tap_k`. The window is symmetric, so `pair(k)` returns the mirrored taps k and 10 - k.
fn convolve<'a>(out: &mut [f64], pair: impl Fn(usize) -> (&'a [f64], &'a [f64]), window: &[f64; WINDOW]) {
    let n = out.len();
    for k in 0..WINDOW / 2 {
        let (a, b) = pair(k);
        let (a, b, w) = (&a[..n], &b[..n], window[k]);
        for i in 0..n {
            out[i] += w * (a[i] + b[i]);
        }
    }
    let (centre, w) = (&pair(WINDOW / 2).0[..n], window[WINDOW / 2]);
    for i in 0..n {
        out[i] += w * centre[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(n: usize, seed: f32) -> Vec<f32> {
        (0..n)
            .map(|i| (0.5 + 0.5 * ((i as f32) * 0.37 + seed).sin()) * 0.9 + 0.05 * ((i * i) as f32 * seed).cos())
            .collect()
    }

    /// Eq. 13 with the weights of eq. 14, window by window, without separable filters or symmetry.
    fn naive(x: &[f32], y: &[f32], s: ImageShape) -> f64 {
        let mut w = [[0.0f64; WINDOW]; WINDOW];
        let mut total = 0.0;
        for (i, row) in w.iter_mut().enumerate() {
            for (j, w) in row.iter_mut().enumerate() {
                *w = (-((i as f64 - 5.0).powi(2) + (j as f64 - 5.0).powi(2)) / 4.5).exp();
                total += *w;
            }
        }
        let (mut sum, mut count) = (0.0, 0);
        for c in 0..s.channels {
            for top in 0..=s.height - WINDOW {
                for left in 0..=s.width - WINDOW {
                    let mean = |f: &dyn Fn(f64, f64) -> f64| {
                        let mut m = 0.0;
                        for i in 0..WINDOW {
                            for j in 0..WINDOW {
                                let p = (c * s.height + top + i) * s.width + left + j;
                                m += w[i][j] / total * f(x[p].into(), y[p].into());
                            }
                        }
                        m
                    };
                    let (mx, my) = (mean(&|a, _| a), mean(&|_, b| b));
                    let (vx, vy) = (mean(&|a, _| (a - mx).powi(2)), mean(&|_, b| (b - my).powi(2)));
                    let cov = mean(&|a, b| (a - mx) * (b - my));
                    sum +=
                        (2.0 * mx * my + 1e-4) * (2.0 * cov + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4));
                    count += 1;
                }
            }
        }
        sum / f64::from(count)
    }

    #[test]
    fn matches_the_definition() {
        for shape in [(1, 11, 11), (1, 28, 28), (3, 12, 17), (2, 19, 11)] {
            let shape = ImageShape::from(shape);
            let (x, y) = (image(shape.dim(), 0.2), image(shape.dim(), 0.9));
            let (got, want) = (Ssim::new(shape).unwrap().mean(&x, &y), naive(&x, &y, shape));
            assert!((got - want).abs() < 1e-10, "{shape:?}: {got} against {want}");
        }
    }

    #[test]
    fn matches_scikit_image() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ssim.safetensors");
        let bytes = std::fs::read(file).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> (Vec<usize>, Vec<f32>) {
            let t = tensors.tensor(name).unwrap();
            let data = t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (t.shape().to_vec(), data)
        };
        let mut checked = 0;
        for name in tensors.names().into_iter().filter_map(|n| n.strip_suffix(".x")) {
            let ((shape, x), (_, recon)) = (floats(&format!("{name}.x")), floats(&format!("{name}.recon")));
            let want = f64::from(floats(&format!("{name}.ssim")).1[0]);
            let got = Ssim::new((shape[0], shape[1], shape[2]).into()).unwrap().mean(&x, &recon);
            assert!((got - want).abs() < 1e-6, "{name}: {got} against {want}");
            checked += 1;
        }
        assert_eq!(checked, 5);
    }

    #[test]
    fn closed_forms_and_undefined_shapes() {
        let shape = ImageShape { channels: 1, height: 16, width: 16 };
        let mut ssim = Ssim::new(shape).unwrap();
        let x = image(256, 0.3);
        assert!((ssim.mean(&x, &x) - 1.0).abs() < 1e-12);
        let (black, white) = (vec![0.0; 256], vec![1.0; 256]);
        assert!((ssim.mean(&black, &white) - C1 / (1.0 + C1)).abs() < 1e-12);
        assert!((ssim.mean(&black, &x) - ssim.mean(&x, &black)).abs() < 1e-15);
        assert!(Ssim::new((1, 10, 28).into()).is_none() && Ssim::new((1, 28, 10).into()).is_none());
        assert!(Ssim::new((0, 28, 28).into()).is_none());
    }
}
