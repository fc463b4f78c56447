//! A perceptual distance of two pictures, and its gradient: a fixed bank of oriented filters at several scales, nothing
//! learned. One row at a time; averages over rows and a coefficient in a loss are other rooms'.
//!
//! Complex cells of the visual cortex tell how much contrast there is at a place, an orientation and a scale, and hardly
//! where within their field a line runs: the energy model (Adelson & Bergen 1985, JOSA A 2(2)). Two pictures are compared
//! by such energies, an idea of complex-wavelet SSIM (Wang & Simoncelli 2005, ICASSP; Sampat et al. 2009, IEEE TIP 18(11)),
//! in the form in which FSIM (Zhang et al. 2011, IEEE TIP 20(8)) and GMSD (Xue et al. 2014, arXiv 1308.3052) compare
//! gradients. So a line moved by a pixel costs little, which an error by pixels punishes, and a line lost in a blur costs
//! much, which such an error forgives.
//!
//! Each channel by itself, its values over `peak`:
//!
//! 1. **Scales.** `picture_0` is the picture, `picture_{l+1}` is `picture_l` under the binomial [1 3 3 1]/8 along both sides,
//!    every second pixel of it: at most [`SCALES`] scales, while the shorter side of the next keeps [`SHORTEST`] pixels (one
//!    scale at least). Beyond a border the nearest pixel is repeated, for every filter.
//! 2. **Filters.** The pair `G2`, `H2` of Freeman & Adelson (1991, IEEE PAMI 13(9)), the second derivative of a Gaussian
//!    and its Hilbert transform, at θ = 0°, 45°, 90°, 135°: `G = 0.9213 (2u² - k) e^{-r²}`, `H = 0.9780 (u³ - 2.254 u) e^{-r²}`,
//!    u the coordinate across the line, 7×7 taps 0.7 apart, tuned to 0.22 cycles a pixel. k (0.9953, 1 before sampling)
//!    makes the taps of G sum to 0, those of H do by symmetry. Both are divided by 2.2094, so that an edge from 0 to 1
//!    has an energy of 1. All of them at all four angles are sums of seven separable filters, as the bands of a
//!    steerable pyramid are (Simoncelli & Freeman 1995, ICIP).
//! 3. **Energy** `m = √(g² + h² + c²)`, c = 0.01: a contrast of 1 %, about what an eye just sees.
//! 4. **Distance** at a place, an orientation and a scale: `1 - (2 m_x m_y + C) / (m_x² + m_y² + C)`, C = 0.05²: contrast on
//!    contrast is masked, contrast on an even ground counts for little below a twentieth of the peak. What FSIM and GMSD
//!    fitted to the judgements of people is this number: 160 / 255² and 170 / 255². Mean over orientations and places.
//! 5. **Brightness**, which filters without a mean do not see: what is left after the last scale, halved once more, compared
//!    by `d² / (d² + 0.25²)`. Mean over places. By differences, not ratios: values of pictures already follow the eye.
//! 6. The mean of the scales and of the brightness, each counting once; then the mean of the channels.
//!
//! No unit; 0 for a picture and itself, at most 1, symmetric; lower is better. Roughly, of photographs of 64×64 pixels: 0.02
//! moved by a pixel, 0.05 under noise of a tenth of the peak, 0.1 blurred until objects are lost, 0.3 another photograph,
//! 0.4 an even ground. The negative of a picture has its energies, and differs in brightness alone: as a term of a loss
//! it belongs beside a reconstruction error, not in its place.
//!
//! Pictures of any size have a distance: a single pixel, which has no contrast, half of its brightness.
//!
//! Sums over a line are f32, all others f64, in a fixed order: the same bits on every machine. NaN in, NaN out; values
//! beyond about 1e9 peaks, whose energies leave f32, have no finite distance.

mod filters;

use crate::shape::ImageShape;
use filters::{
    BLOCK, FILTERS, REACH, TAPS, add_scaled, differ, differ_and_derive, filter_along, filter_down, spread_along,
    spread_down, sum,
};

/// Scales at most.
pub const SCALES: usize = 4;
/// Pixels that the shorter side of a scale has at least, but for the first.
pub const SHORTEST: usize = 6;

/// Brightness that counts half, squared.
const BRIGHTNESS: f32 = 0.25 * 0.25;

/// One scale: where its plane lies and how large it is. A plane has a margin of [`REACH`] pixels all around, and its lines go
/// on to a multiple of [`BLOCK`].
#[derive(Clone, Copy, Debug)]
struct Scale {
    height: usize,
    width: usize,
    /// Of the plane, in a pyramid.
    start: usize,
}

impl Scale {
    /// Columns computed.
    fn columns(self) -> usize {
        self.width.next_multiple_of(BLOCK)
    }

    /// From one line of the plane to the next.
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

    /// Where the pixels of line `y` begin in the plane.
    fn line(self, y: usize) -> usize {
        (y + REACH) * self.stride() + REACH
    }

    /// Repeats the border into the margin.
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

/// The filters for pictures of one shape: immutable, one serves all threads. The module says what is computed.
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
    /// The scales, and what is left after them.
    scales: Vec<Scale>,
    left: Scale,
}

/// The memory that a [`FilterBank`] works in: one a thread. Grows at the first use with a larger bank, then never.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Both pictures at all scales, and the gradient of the second.
    x: Vec<f32>,
    y: Vec<f32>,
    gradient: Vec<f32>,
    /// One line, filtered down the columns.
    down: Vec<f32>,
    /// The separable filters of one line of either picture, with margins of [`BLOCK`] zeros.
    of_x: Vec<f32>,
    of_y: Vec<f32>,
    /// The distance at each place of one line.
    line: Vec<f32>,
}

impl FilterBank {
    /// For pictures of this shape whose brightest value is `peak` (1, times the scale of the data).
    ///
    /// # Panics
    /// If the shape has no values, or `peak` is not positive and finite.
    pub fn new(shape: ImageShape, peak: f32) -> FilterBank {
        assert!(shape.dim() > 0, "a picture has pixels");
        assert!(peak > 0.0 && peak.is_finite(), "a peak is positive");
        let mut scale = Scale { height: shape.height, width: shape.width, start: 0 };
        let mut scales = Vec::new();
        loop {
            scales.push(scale);
            let (height, width) = (scale.height.div_ceil(2), scale.width.div_ceil(2));
            scale = Scale { height, width, start: scale.start + scale.len() };
            if scales.len() == SCALES || height.min(width) < SHORTEST {
                return FilterBank { shape, peak, scales, left: scale };
            }
        }
    }

    /// The shape it is for.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of scales.
    pub fn scales(&self) -> usize {
        self.scales.len()
    }

    /// The distance of two pictures, in [0, 1].
    ///
    /// # Shapes
    /// `x [D]`, `y [D]`, channel-planar.
    ///
    /// # Panics
    /// If a length is not that of the shape.
    pub fn distance(&self, x: &[f32], y: &[f32], scratch: &mut Scratch) -> f64 {
        self.run::<false>(x, y, &mut [], scratch)
    }

    /// The distance of two pictures, and its gradient with respect to `y`, written to `gradient`.
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
        assert!(x.len() == dim && y.len() == dim, "both pictures have the width of the shape");
        scratch.fit(self, GRADIENT);
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
        let distance = total * self.share();
        // Rounding may leave a little less than nothing. Not `max`, which would turn a NaN into 0.
        if distance < 0.0 && distance > -1e-5 { 0.0 } else { distance }
    }

    /// What one term of one channel counts.
    fn share(&self) -> f64 {
        1.0 / (self.shape.channels * (self.scales.len() + 1)) as f64
    }

    /// The picture at all scales.
    fn pyramid(&self, picture: &[f32], pyramid: &mut [f32]) {
        let (first, c) = (self.scales[0], 1.0 / self.peak);
        for (y, line) in picture.chunks_exact(first.width).enumerate() {
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

    /// Each scale with the next coarser one, finest first.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (Scale, Scale)> {
        (0..self.scales.len()).map(|l| (self.scales[l], *self.scales.get(l + 1).unwrap_or(&self.left)))
    }

    /// Mean distance at one scale; with its gradient added to that of the plane.
    fn compare<const GRADIENT: bool>(&self, scale: Scale, scratch: &mut Scratch) -> f64 {
        let Scratch { x, y, gradient, down, of_x, of_y, line } = scratch;
        let (n, width, stride) = (scale.columns(), scale.width, scale.stride());
        let (x, y) = (scale.plane(x), scale.plane(y));
        let (wide, places) = (n + 2 * BLOCK, (scale.height * width) as f64);
        let down = &mut down[..4 * stride];
        let (of_x, of_y, line) = (&mut of_x[..FILTERS * wide], &mut of_y[..FILTERS * wide], &mut line[..n]);
        of_y.fill(0.0);
        let factor = (self.share() / (4.0 * places)) as f32;
        let mut total = 0.0;
        for top in 0..scale.height {
            let window = top * stride..(top + TAPS) * stride;
            filter_down(&x[window.clone()], stride, down);
            filter_along(down, stride, of_x, n);
            filter_down(&y[window.clone()], stride, down);
            filter_along(down, stride, of_y, n);
            if GRADIENT {
                differ_and_derive(of_x, of_y, line, factor);
                for filter in of_y.chunks_exact_mut(wide) {
                    filter[BLOCK + width..].fill(0.0);
                }
                spread_along(of_y, n, down, stride);
                spread_down(down, stride, &mut scale.plane_mut(gradient)[window]);
            } else {
                differ(of_x, of_y, line);
            }
            total += sum(&line[..width]);
        }
        total / (4.0 * places)
    }

    /// Mean distance of what is left after the scales; with its gradient.
    fn brightness<const GRADIENT: bool>(&self, scratch: &mut Scratch) -> f64 {
        let Scratch { x, y, gradient, .. } = scratch;
        let (scale, places) = (self.left, (self.left.height * self.left.width) as f64);
        let factor = (self.share() / places) as f32;
        let mut total = 0.0;
        for top in 0..scale.height {
            let line = scale.start + scale.line(top)..scale.start + scale.line(top) + scale.width;
            for i in line {
                let d = x[i] - y[i];
                let whole = d * d + BRIGHTNESS;
                total += f64::from(d * d / whole);
                if GRADIENT {
                    gradient[i] = -2.0 * BRIGHTNESS * factor * d / (whole * whole);
                }
            }
        }
        total / places
    }

    /// The gradient of all planes brought down to that of the picture.
    fn collect(&self, pyramid: &mut [f32], line: &mut [f32], out: &mut [f32]) {
        for (finer, coarser) in self.steps().rev() {
            let (below, above) = pyramid.split_at_mut(coarser.start);
            let above = &mut above[..coarser.len()];
            coarser.gather(above);
            unhalve(coarser, above, finer, finer.plane_mut(below), line);
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
    fn fit(&mut self, bank: &FilterBank, gradient: bool) {
        let (all, first) = (bank.left.start + bank.left.len(), bank.scales[0]);
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
        grow(&mut self.of_x, FILTERS * (first.columns() + 2 * BLOCK));
        grow(&mut self.of_y, FILTERS * (first.columns() + 2 * BLOCK));
        grow(&mut self.line, first.stride());
    }
}

/// Half the picture: [1 3 3 1]/8 along both sides, at every second pixel.
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

/// The transpose of [`halve`]: adds the gradient of half the picture to that of the whole.
fn unhalve(from: Scale, gradient: &[f32], to: Scale, out: &mut [f32], line: &mut [f32]) {
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
