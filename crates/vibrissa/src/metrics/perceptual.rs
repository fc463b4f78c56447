//! A perceptual distance between two images, and its gradient: an approximation of human judgement by oriented edges,
//! tolerant of small shifts. It uses a fixed bank of filters at several scales; nothing is learned. One row at a time.
//!
//! Complex cells of the visual cortex respond to the contrast at a place, an orientation and a scale, and hardly to the
//! position of an edge within their field: the energy model (Adelson & Bergen 1985, JOSA A 2(2)). Two images are
//! compared by these energies, as in complex-wavelet SSIM (Wang & Simoncelli 2005, ICASSP; Sampat et al. 2009, IEEE TIP
//! 18(11)), with the formula by which FSIM (Zhang et al. 2011, IEEE TIP 20(8)) and GMSD (Xue et al. 2014, arXiv
//! 1308.3052) compare gradients. An edge that moves by a pixel therefore costs little, although its squared error is
//! large, and an edge that is blurred away costs much, although its squared error is small.
//!
//! # Definition
//!
//! For each channel, with values divided by `peak`:
//!
//! 1. **Scales.** `image_0` is the image. `image_{l+1}` is `image_l` filtered by the binomial [1 3 3 1]/8 along both
//!    axes and subsampled by two. There are at most [`SCALES`] scales, as long as the shorter side of the next one
//!    keeps [`MIN_SIDE`] pixels, and at least one. Every filter repeats the nearest pixel beyond a border.
//! 2. **Filters.** The quadrature pair `G2`, `H2` of Freeman & Adelson (1991, IEEE PAMI 13(9)), the second derivative
//!    of a Gaussian and its Hilbert transform, at θ = 0°, 45°, 90°, 135°: `G = 0.9213 (2u² - k) e^{-r²}`, `H = 0.9780
//!    (u³ - 2.254 u) e^{-r²}`, u the coordinate across the edge, 7×7 taps 0.7 apart, tuned to 0.22 cycles a pixel. k =
//!    0.9953 (1 before sampling) makes the taps of G sum to 0; those of H do by symmetry. Both are divided by 2.2094,
//!    so that an edge from 0 to 1 has an energy of 1. At all four angles they are sums of seven separable filters, as
//!    the bands of a steerable pyramid (Simoncelli & Freeman 1995, ICIP).
//! 3. **Energy** `m = √(g² + h² + c²)` with c = 0.01: a contrast of 1 %, about the threshold of vision.
//! 4. **Distance** at a place, an orientation and a scale: `1 - (2 m_x m_y + C) / (m_x² + m_y² + C)` with C = 0.05².
//!    Contrast on top of contrast is masked, and contrast on a uniform background counts little below a twentieth of
//!    the peak. FSIM and GMSD fitted this constant to human judgements: 160 / 255² and 170 / 255². Mean over
//!    orientations and places.
//! 5. **Brightness**, which filters with zero mean do not see: `d² / (d² + 0.25²)`, where d is the difference of what
//!    remains after the last scale, halved once more. Mean over places. Differences instead of ratios, because values
//!    of images already follow the response of the eye.
//! 6. The mean of all scales and of the brightness, each with the same weight; then the mean over channels.
//!
//! # Properties
//!
//! No unit; 0 for an image and itself, at most 1, symmetric; lower is better. For photographs of 64×64 pixels, roughly:
//! 0.02 shifted by a pixel, 0.05 with noise of a tenth of the peak, 0.1 blurred until objects are lost, 0.3 another
//! photograph, 0.4 a uniform image. The negative of an image has the same energies, and differs in brightness only: in
//! a loss, the distance complements a reconstruction error and does not replace it. Images of any size have a distance;
//! for a single pixel it is half of its brightness term.
//!
//! Sums over a line are f32, all others f64, in a fixed order: the same bits on every machine. NaN in, NaN out. Values
//! beyond about 1e9 peaks, whose energies overflow f32, have no finite distance.

mod filters;

use crate::shape::ImageShape;
use filters::{
    BLOCK, FILTERS, REACH, TAPS, add_scaled, distances, distances_and_derivatives, filter_along,
    filter_along_transposed, filter_down, filter_down_transposed, sum,
};

/// Largest number of scales.
pub const SCALES: usize = 4;
/// Smallest number of pixels of the shorter side of a scale, except the first.
pub const MIN_SIDE: usize = 6;

/// The constant of the brightness term: a difference of 0.25 counts half.
const BRIGHTNESS: f32 = 0.25 * 0.25;

/// The size of one scale and the position of its plane in a pyramid. A plane has a margin of [`REACH`] pixels on all
/// sides, and its lines are padded to a multiple of [`BLOCK`].
#[derive(Clone, Copy, Debug)]
struct Scale {
    height: usize,
    width: usize,
    /// First value of the plane in a pyramid.
    start: usize,
}

impl Scale {
    /// Number of columns that are computed.
    fn columns(self) -> usize {
        self.width.next_multiple_of(BLOCK)
    }

    /// Distance of one line of the plane from the next.
    fn stride(self) -> usize {
        self.columns() + BLOCK
    }

    fn len(self) -> usize {
        (self.height + 2 * REACH) * self.stride()
    }

    fn plane(self, pyramid: &[f32]) -> &[f32] {
        &pyramid[self.start..][..self.len()]
    }

    fn plane_mut(self, pyramid: &mut [f32]) -> &mut [f32] {
        &mut pyramid[self.start..][..self.len()]
    }

    /// Index of the first pixel of line `y` in the plane.
    fn line(self, y: usize) -> usize {
        (y + REACH) * self.stride() + REACH
    }

    /// Fills the margin with the nearest border pixels.
    fn extend(self, plane: &mut [f32]) {
        let stride = self.stride();
        for line in plane.chunks_exact_mut(stride).skip(REACH).take(self.height) {
            let (first, last) = (line[REACH], line[REACH + self.width - 1]);
            line[..REACH].fill(first);
            line[REACH + self.width..].fill(last);
        }
        let (first, last) = (REACH * stride, (REACH + self.height - 1) * stride);
        for y in 0..REACH {
            plane.copy_within(first..first + stride, y * stride);
            plane.copy_within(last..last + stride, last + (y + 1) * stride);
        }
    }

    /// The transpose of [`Scale::extend`]: adds the margin to the border.
    fn gather(self, plane: &mut [f32]) {
        let stride = self.stride();
        let (above, rest) = plane.split_at_mut(REACH * stride);
        let (inside, below) = rest.split_at_mut(self.height * stride);
        let add = |to: &mut [f32], from: &[f32]| from.chunks_exact(stride).for_each(|line| add_scaled(to, 1.0, line));
        add(&mut inside[..stride], above);
        add(&mut inside[(self.height - 1) * stride..], below);
        for line in inside.chunks_exact_mut(stride) {
            line[REACH] += line[..REACH].iter().sum::<f32>();
            line[REACH + self.width - 1] += line[REACH + self.width..].iter().sum::<f32>();
        }
    }
}

/// The filter bank for images of one shape. Immutable, so that all threads share one; see the module for the
/// definition.
///
/// ```
/// use vibrissa::metrics::perceptual::{FilterBank, Scratch};
/// let bank = FilterBank::new((1, 8, 8).into(), 1.0);
/// let (x, mut y, mut scratch) = ([0.5; 64], [0.5; 64], Scratch::default());
/// assert_eq!(bank.distance(&x, &y, &mut scratch), 0.0);
/// y[27] = 0.6;
/// let mut gradient = [0.0; 64];
/// assert!(bank.distance_and_gradient(&x, &y, &mut gradient, &mut scratch) > 0.0);
/// assert!(gradient[27] > 0.0);
/// ```
#[derive(Clone, Debug)]
pub struct FilterBank {
    shape: ImageShape,
    peak: f32,
    scales: Vec<Scale>,
    /// The image that remains after the last scale, for the brightness.
    remainder: Scale,
}

/// Scratch memory of a [`FilterBank`], one a thread. Grows at the first use with a larger bank only.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Both images at all scales, and the gradient with respect to the second.
    x: Vec<f32>,
    y: Vec<f32>,
    gradient: Vec<f32>,
    /// One line, filtered down the columns.
    down: Vec<f32>,
    /// The responses of the separable filters on one line of each image, with margins of [`BLOCK`] zeros.
    response_x: Vec<f32>,
    response_y: Vec<f32>,
    /// The distance at each place of one line.
    line: Vec<f32>,
}

impl FilterBank {
    /// The bank for images of this shape whose largest value is `peak` (1, times the scale of the data).
    ///
    /// # Panics
    /// If the shape has no values, or `peak` is not positive and finite.
    pub fn new(shape: ImageShape, peak: f32) -> FilterBank {
        assert!(shape.dim() > 0, "an image has pixels");
        assert!(peak > 0.0 && peak.is_finite(), "a peak is positive");
        let mut scale = Scale { height: shape.height, width: shape.width, start: 0 };
        let mut scales = Vec::new();
        loop {
            scales.push(scale);
            let (height, width) = (scale.height.div_ceil(2), scale.width.div_ceil(2));
            scale = Scale { height, width, start: scale.start + scale.len() };
            if scales.len() == SCALES || height.min(width) < MIN_SIDE {
                return FilterBank { shape, peak, scales, remainder: scale };
            }
        }
    }

    /// The shape of the images.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of scales.
    pub fn scales(&self) -> usize {
        self.scales.len()
    }

    /// The distance of two images, in [0, 1].
    ///
    /// # Shapes
    /// `x [D]`, `y [D]`, channel-planar.
    ///
    /// # Panics
    /// If a length is not that of the shape.
    pub fn distance(&self, x: &[f32], y: &[f32], scratch: &mut Scratch) -> f64 {
        self.run::<false>(x, y, &mut [], scratch)
    }

    /// The distance of two images. Writes its gradient with respect to `y` to `gradient`.
    ///
    /// # Shapes
    /// `x [D]`, `y [D]`, `gradient [D]`, channel-planar.
    ///
    /// # Panics
    /// If a length is not that of the shape.
    pub fn distance_and_gradient(&self, x: &[f32], y: &[f32], gradient: &mut [f32], scratch: &mut Scratch) -> f64 {
        assert_eq!(gradient.len(), self.shape.dim(), "the gradient has the width of the shape");
        self.run::<true>(x, y, gradient, scratch)
    }

    fn run<const GRADIENT: bool>(&self, x: &[f32], y: &[f32], gradient: &mut [f32], scratch: &mut Scratch) -> f64 {
        let dim = self.shape.dim();
        assert!(x.len() == dim && y.len() == dim, "both images have the width of the shape");
        scratch.grow(self, GRADIENT);
        let plane = self.shape.height * self.shape.width;
        let mut total = 0.0;
        for (c, (x, y)) in x.chunks_exact(plane).zip(y.chunks_exact(plane)).enumerate() {
            self.pyramid(x, &mut scratch.x);
            self.pyramid(y, &mut scratch.y);
            if GRADIENT {
                scratch.gradient.fill(0.0);
            }
            for &scale in &self.scales {
                total += self.compare::<GRADIENT>(scale, scratch);
            }
            total += self.brightness::<GRADIENT>(scratch);
            if GRADIENT {
                self.collect(&mut scratch.gradient, &mut scratch.line, &mut gradient[c * plane..][..plane]);
            }
        }
        let distance = total * self.term_weight();
        // Rounding may give a small negative number. Not `max`, which would turn a NaN into 0.
        if distance < 0.0 && distance > -1e-5 { 0.0 } else { distance }
    }

    /// Weight of one term of one channel.
    fn term_weight(&self) -> f64 {
        1.0 / (self.shape.channels * (self.scales.len() + 1)) as f64
    }

    /// Writes the image at all scales.
    fn pyramid(&self, image: &[f32], pyramid: &mut [f32]) {
        let (first, c) = (self.scales[0], 1.0 / self.peak);
        for (y, line) in image.chunks_exact(first.width).enumerate() {
            let at = first.line(y);
            for (to, &from) in pyramid[at..][..first.width].iter_mut().zip(line) {
                *to = from * c;
            }
        }
        first.extend(first.plane_mut(pyramid));
        for (from, to) in self.steps() {
            let (finer, coarser) = pyramid.split_at_mut(to.start);
            halve(from, from.plane(finer), to, &mut coarser[..to.len()]);
        }
    }

    /// Pairs of each scale and the next coarser one, finest first.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (Scale, Scale)> {
        (0..self.scales.len()).map(|l| (self.scales[l], *self.scales.get(l + 1).unwrap_or(&self.remainder)))
    }

    /// Mean distance at one scale. With `GRADIENT`, adds the gradient of its plane.
    fn compare<const GRADIENT: bool>(&self, scale: Scale, scratch: &mut Scratch) -> f64 {
        let Scratch { x, y, gradient, down, response_x, response_y, line } = scratch;
        let (n, width, stride) = (scale.columns(), scale.width, scale.stride());
        let (x, y) = (scale.plane(x), scale.plane(y));
        let (wide, places) = (n + 2 * BLOCK, (scale.height * width) as f64);
        let down = &mut down[..4 * stride];
        let (response_x, response_y, line) =
            (&mut response_x[..FILTERS * wide], &mut response_y[..FILTERS * wide], &mut line[..n]);
        response_y.fill(0.0);
        let factor = (self.term_weight() / (4.0 * places)) as f32;
        let mut total = 0.0;
        for top in 0..scale.height {
            let window = top * stride..(top + TAPS) * stride;
            filter_down(&x[window.clone()], stride, down);
            filter_along(down, stride, response_x, n);
            filter_down(&y[window.clone()], stride, down);
            filter_along(down, stride, response_y, n);
            if GRADIENT {
                distances_and_derivatives(response_x, response_y, line, factor);
                for filter in response_y.chunks_exact_mut(wide) {
                    filter[BLOCK + width..].fill(0.0);
                }
                filter_along_transposed(response_y, n, down, stride);
                filter_down_transposed(down, stride, &mut scale.plane_mut(gradient)[window]);
            } else {
                distances(response_x, response_y, line);
            }
            total += sum(&line[..width]);
        }
        total / (4.0 * places)
    }

    /// Mean brightness term. With `GRADIENT`, writes the gradient of its plane.
    fn brightness<const GRADIENT: bool>(&self, scratch: &mut Scratch) -> f64 {
        let Scratch { x, y, gradient, .. } = scratch;
        let (scale, places) = (self.remainder, (self.remainder.height * self.remainder.width) as f64);
        let factor = (self.term_weight() / places) as f32;
        let mut total = 0.0;
        for top in 0..scale.height {
            let line = scale.start + scale.line(top)..scale.start + scale.line(top) + scale.width;
            for i in line {
                let d = x[i] - y[i];
                let sum = d * d + BRIGHTNESS;
                total += f64::from(d * d / sum);
                if GRADIENT {
                    gradient[i] = -2.0 * BRIGHTNESS * factor * d / (sum * sum);
                }
            }
        }
        total / places
    }

    /// Adds up the gradients of all planes to the gradient of the image.
    fn collect(&self, pyramid: &mut [f32], line: &mut [f32], out: &mut [f32]) {
        for (finer, coarser) in self.steps().rev() {
            let (below, above) = pyramid.split_at_mut(coarser.start);
            let above = &mut above[..coarser.len()];
            coarser.gather(above);
            halve_transposed(coarser, above, finer, finer.plane_mut(below), line);
        }
        let (first, c) = (self.scales[0], 1.0 / self.peak);
        first.gather(first.plane_mut(pyramid));
        for (y, out) in out.chunks_exact_mut(first.width).enumerate() {
            for (to, from) in out.iter_mut().zip(&pyramid[first.line(y)..]) {
                *to = from * c;
            }
        }
    }
}

impl Scratch {
    fn grow(&mut self, bank: &FilterBank, gradient: bool) {
        let (all, first) = (bank.remainder.start + bank.remainder.len(), bank.scales[0]);
        let grow = |v: &mut Vec<f32>, n: usize| {
            if v.len() < n {
                v.resize(n, 0.0);
            }
        };
        grow(&mut self.x, all);
        grow(&mut self.y, all);
        if gradient {
            grow(&mut self.gradient, all);
        }
        grow(&mut self.down, 4 * first.stride());
        grow(&mut self.response_x, FILTERS * (first.columns() + 2 * BLOCK));
        grow(&mut self.response_y, FILTERS * (first.columns() + 2 * BLOCK));
        grow(&mut self.line, first.stride());
    }
}

/// Filters by [1 3 3 1]/8 along both axes and keeps every second pixel.
fn halve(from: Scale, plane: &[f32], to: Scale, out: &mut [f32]) {
    let stride = from.stride();
    for y in 0..to.height {
        let lines = &plane[(2 * y + REACH - 1) * stride..][..4 * stride];
        let at = to.line(y);
        let out = &mut out[at..][..to.width];
        for (x, out) in out.iter_mut().enumerate() {
            let column = |i: usize| {
                let at = 2 * x + REACH - 1 + i;
                lines[at] + lines[3 * stride + at] + 3.0 * (lines[stride + at] + lines[2 * stride + at])
            };
            *out = (column(0) + column(3) + 3.0 * (column(1) + column(2))) * (1.0 / 64.0);
        }
    }
    to.extend(out);
}

/// The transpose of [`halve`]: adds the gradient of the coarser image to that of the finer one.
fn halve_transposed(from: Scale, gradient: &[f32], to: Scale, out: &mut [f32], line: &mut [f32]) {
    let stride = to.stride();
    let line = &mut line[..stride];
    for y in 0..from.height {
        line.fill(0.0);
        for (x, g) in gradient[from.line(y)..][..from.width].iter().enumerate() {
            let at = 2 * x + REACH - 1;
            let (g, three) = (g * (1.0 / 64.0), g * (3.0 / 64.0));
            line[at] += g;
            line[at + 1] += three;
            line[at + 2] += three;
            line[at + 3] += g;
        }
        let lines = out[(2 * y + REACH - 1) * stride..].chunks_exact_mut(stride);
        lines.zip([1.0, 3.0, 3.0, 1.0]).for_each(|(to, c)| add_scaled(to, c, line));
    }
}

#[cfg(test)]
mod tests;
