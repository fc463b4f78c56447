//! Resizing with the triangle filter, widened by the factor of reduction, and the three ways to fit an image. No files.
//!
//! The results are bit for bit those of Pillow's `Image.resize(size, BILINEAR, box)`, for bytes (22-bit weights,
//! rounded to bytes between the passes over rows and columns) and for floats (f64 sums). Only Pillow 13 differs, where
//! the height is reduced much more than the width: it then filters columns first, and some bytes differ by one level.
//! The crate fast_image_resize is not used, because it rounds weights to 15 bits, always filters the columns of bytes
//! first, and adds floats in an order that depends on the processor.

use crate::block::Dtype;
use crate::rows::{Fit, Image};
use vibrissa_core::shape::ImageShape;

/// A sample of an image: a byte 0–255, or a float on any scale.
pub(crate) trait Sample: Copy + Default + PartialEq + Send + Sync {
    /// A filter weight.
    type Weight: Copy;
    /// A sum of weighted samples.
    type Sum: Copy;
    /// The empty sum (including the half that rounds the result).
    const EMPTY: Self::Sum;
    /// Returns the weight nearest to `weight`.
    fn weight(weight: f64) -> Self::Weight;
    /// Returns `sum + sample * weight`.
    fn add(sum: Self::Sum, sample: Self, weight: Self::Weight) -> Self::Sum;
    /// Returns the sample nearest to a sum.
    fn finish(sum: Self::Sum) -> Self;
    /// Returns the sample nearest to `value`.
    fn nearest(value: f64) -> Self;
    /// Returns the value.
    fn value(self) -> f64;
    /// Returns the ITU-R 601-2 luma; a grey pixel keeps its value exactly.
    fn luma(r: Self, g: Self, b: Self) -> Self;
    /// Returns a colour of opacity `alpha / white` over `white`.
    fn over_white(self, alpha: Self, white: Self) -> Self;
}

const WEIGHT_BITS: u32 = 22;

impl Sample for u8 {
    type Weight = i32;
    type Sum = i32;
    const EMPTY: i32 = 1 << (WEIGHT_BITS - 1);

    fn weight(weight: f64) -> i32 {
        (weight * f64::from(1 << WEIGHT_BITS) + 0.5) as i32
    }

    #[inline(always)]
    fn add(sum: i32, sample: u8, weight: i32) -> i32 {
        sum + i32::from(sample) * weight
    }

    #[inline(always)]
    fn finish(sum: i32) -> u8 {
        (sum >> WEIGHT_BITS).clamp(0, 255) as u8
    }

    fn nearest(value: f64) -> u8 {
        (value + 0.5) as u8
    }

    fn value(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn luma(r: u8, g: u8, b: u8) -> u8 {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    }

    #[inline(always)]
    fn over_white(self, alpha: u8, _white: u8) -> u8 {
        let alpha = u32::from(alpha);
        ((u32::from(self) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    }
}

impl Sample for f32 {
    type Weight = f64;
    type Sum = f64;
    const EMPTY: f64 = 0.0;

    fn weight(weight: f64) -> f64 {
        weight
    }

    #[inline(always)]
    fn add(sum: f64, sample: f32, weight: f64) -> f64 {
        sum + f64::from(sample) * weight
    }

    #[inline(always)]
    fn finish(sum: f64) -> f32 {
        sum as f32
    }

    fn nearest(value: f64) -> f32 {
        value as f32
    }

    fn value(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn luma(r: f32, g: f32, b: f32) -> f32 {
        // The products are exact in f64, so that equal channels give back their value.
        ((f64::from(r) * 19595.0 + f64::from(g) * 38470.0 + f64::from(b) * 7471.0) / 65536.0) as f32
    }

    #[inline(always)]
    fn over_white(self, alpha: f32, white: f32) -> f32 {
        let opacity = alpha / white;
        self * opacity + white * (1.0 - opacity)
    }
}

/// A part of an image, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Lower edge.
    pub bottom: f64,
}

impl Window {
    /// Returns the whole image.
    pub(crate) fn whole(width: usize, height: usize) -> Window {
        Window { left: 0.0, top: 0.0, right: width as f64, bottom: height as f64 }
    }

    /// Returns the largest centred part with the aspect ratio `to.0 : to.1`.
    pub(crate) fn centred(width: usize, height: usize, to: (usize, usize)) -> Window {
        let (w, h) = (width as f64, height as f64);
        let wanted = to.0 as f64 / to.1 as f64;
        let (cw, ch) = if w / h >= wanted { (wanted * h, h) } else { (w, w / wanted) };
        let (left, top) = ((w - cw) * 0.5, (h - ch) * 0.5);
        // Pillow stores the box in single precision.
        let edge = |value: f64, end: f64| f64::from(value as f32).min(end);
        Window { left: edge(left, w), top: edge(top, h), right: edge(left + cw, w), bottom: edge(top + ch, h) }
    }
}

/// Source samples of each output sample along one axis, and their weights.
struct Taps<W> {
    /// Number of weights of an output sample; those that it does not need are 0.
    count: usize,
    /// The first of the `count` source samples of each output sample.
    first: Vec<usize>,
    weights: Vec<W>,
}

impl<W: Copy> Taps<W> {
    /// Computes the weights; `None` where the axis is not changed.
    fn new<S: Sample<Weight = W>>(source: usize, from: f64, to: f64, target: usize) -> Option<Taps<W>> {
        if source == target && from == 0.0 && to == source as f64 {
            return None;
        }
        let scale = f64::from(to as f32 - from as f32) / target as f64;
        let support = scale.max(1.0);
        let span = |i: usize| {
            let centre = from + (i as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5) as usize).min(source - 1);
            (centre, first, ((centre + support + 0.5) as usize).clamp(first + 1, source))
        };
        // Sums of four or eight are unrolled, and weights of 0 change nothing.
        let longest = (0..target).map(|i| span(i).2 - span(i).1).max().unwrap_or(1);
        let count = [4, 8].into_iter().find(|n| longest <= *n && *n <= source).unwrap_or(longest);
        let mut taps = Taps { count, first: Vec::with_capacity(target), weights: Vec::with_capacity(target * count) };
        let mut raw = Vec::with_capacity(longest);
        for i in 0..target {
            let (centre, first, end) = span(i);
            raw.clear();
            raw.extend((first..end).map(|x| (1.0 - ((x as f64 - centre + 0.5) * (1.0 / support)).abs()).max(0.0)));
            let total: f64 = raw.iter().sum();
            let start = first.min(source - count);
            taps.first.push(start);
            let at = taps.weights.len();
            taps.weights.resize(at + count, S::weight(0.0));
            for (to, w) in taps.weights[at + first - start..].iter_mut().zip(&raw) {
                *to = S::weight(if total == 0.0 { *w } else { w / total });
            }
        }
        Some(taps)
    }

    fn of(&self, i: usize) -> (usize, &[W]) {
        (self.first[i], &self.weights[i * self.count..][..self.count])
    }

    /// Appends one row of the output along this axis.
    fn apply<S: Sample<Weight = W>>(&self, row: &[S], out: &mut Vec<S>) {
        match self.count {
            4 => self.apply_fixed::<S, 4>(row, out),
            8 => self.apply_fixed::<S, 8>(row, out),
            count => out.extend(self.first.iter().zip(self.weights.chunks_exact(count)).map(|(first, weights)| {
                let samples = &row[*first..][..count];
                S::finish(samples.iter().zip(weights).fold(S::EMPTY, |sum, (s, w)| S::add(sum, *s, *w)))
            })),
        }
    }

    fn apply_fixed<S: Sample<Weight = W>, const N: usize>(&self, row: &[S], out: &mut Vec<S>) {
        let (weights, _) = self.weights.as_chunks::<N>();
        out.extend(self.first.iter().zip(weights).map(|(first, weights)| {
            let samples = &row[*first..][..N];
            S::finish((0..N).fold(S::EMPTY, |sum, k| S::add(sum, samples[k], weights[k])))
        }));
    }
}

/// Resizes `window` of each plane to `to` (width, height).
///
/// # Shapes
/// `planes [channels, height, width]` → `[channels, to.1, to.0]`.
pub(crate) fn resample<S: Sample>(
    planes: &[S],
    (width, height): (usize, usize),
    window: Window,
    to: (usize, usize),
) -> Vec<S> {
    let across = Taps::new::<S>(width, window.left, window.right, to.0);
    let down = Taps::new::<S>(height, window.top, window.bottom, to.1);
    // Only the source rows that the second pass uses.
    let (first, end) = match &down {
        None => (0, height),
        Some(taps) => {
            let (first, _) = taps.of(0);
            let (last, weights) = taps.of(to.1 - 1);
            (first, last + weights.len())
        }
    };
    let mut out = Vec::with_capacity(planes.len() / (width * height) * to.0 * to.1);
    let mut narrow = Vec::new();
    let mut sums = vec![S::EMPTY; to.0];
    for plane in planes.chunks_exact(width * height) {
        let plane = &plane[first * width..end * width];
        let rows: &[S] = match &across {
            None => plane,
            Some(taps) => {
                narrow.clear();
                narrow.reserve((end - first) * to.0);
                plane.chunks_exact(width).for_each(|row| taps.apply(row, &mut narrow));
                &narrow
            }
        };
        match &down {
            None => out.extend_from_slice(rows),
            Some(taps) => {
                for y in 0..to.1 {
                    let (at, weights) = taps.of(y);
                    sums.fill(S::EMPTY);
                    for (row, weight) in rows[(at - first) * to.0..].chunks_exact(to.0).zip(weights) {
                        sums.iter_mut().zip(row).for_each(|(sum, s)| *sum = S::add(*sum, *s, *weight));
                    }
                    out.extend(sums.iter().map(|sum| S::finish(*sum)));
                }
            }
        }
    }
    out
}

/// Brings planes `[channels, height, width]` to the size `to` (width, height) in one of the three ways.
pub(crate) fn fit<S: Sample>(planes: &[S], size: (usize, usize), to: (usize, usize), how: Fit) -> Vec<S> {
    match how {
        Fit::Stretch => resample(planes, size, Window::whole(size.0, size.1), to),
        Fit::Crop => resample(planes, size, Window::centred(size.0, size.1, to), to),
        Fit::Pad => pad(planes, size, to),
    }
}

fn pad<S: Sample>(planes: &[S], size: (usize, usize), to: (usize, usize)) -> Vec<S> {
    let (w, h) = (size.0 as f64, size.1 as f64);
    // Sides and offsets round to even as in Pillow's ImageOps.pad.
    let side = |value: f64, most: usize| (value.round_ties_even() as usize).clamp(1, most);
    let inner = if w / h > to.0 as f64 / to.1 as f64 {
        (to.0, side(h / w * to.0 as f64, to.1))
    } else {
        (side(w / h * to.1 as f64, to.0), to.1)
    };
    let small = resample(planes, size, Window::whole(size.0, size.1), inner);
    if inner == to {
        return small;
    }
    let offset = |outer: usize, inner: usize| ((outer - inner) as f64 * 0.5).round_ties_even() as usize;
    let (left, top) = (offset(to.0, inner.0), offset(to.1, inner.1));
    let mut out = Vec::with_capacity(planes.len() / (size.0 * size.1) * to.0 * to.1);
    for (plane, small) in planes.chunks_exact(size.0 * size.1).zip(small.chunks_exact(inner.0 * inner.1)) {
        let at = out.len();
        out.resize(at + to.0 * to.1, S::nearest(edge_mean(plane, size)));
        for (y, row) in small.chunks_exact(inner.0).enumerate() {
            out[at + (top + y) * to.0 + left..][..inner.0].copy_from_slice(row);
        }
    }
    out
}

/// Returns the mean of the outermost pixels, each counted once.
fn edge_mean<S: Sample>(plane: &[S], (width, height): (usize, usize)) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for (y, row) in plane.chunks_exact(width).enumerate() {
        let step = if y == 0 || y + 1 == height { 1 } else { (width - 1).max(1) };
        for sample in row.iter().step_by(step) {
            sum += sample.value();
            count += 1;
        }
    }
    sum / count as f64
}

/// Brings an image to another shape: grey to colour by copying, colour to grey by luma, the size by `how`.
///
/// # Shapes
/// Returns `shape.dim()` channel-planar values.
pub fn fit_to(image: &Image, shape: ImageShape, how: Fit) -> Vec<f32> {
    let from = image.shape;
    let pixels = from.height * from.width;
    let grey;
    let planes = if from.channels == 3 && shape.channels == 1 {
        grey = luma_plane(&image.data, pixels);
        &grey
    } else {
        &image.data
    };
    let mut out = fit(planes, (from.width, from.height), (shape.width, shape.height), how);
    if out.len() < shape.dim() {
        out = out.repeat(shape.channels);
    }
    out
}

/// Returns the luma of three planes of `pixels` values.
pub(crate) fn luma_plane<S: Sample>(planes: &[S], pixels: usize) -> Vec<S> {
    let (r, rest) = planes.split_at(pixels);
    let (g, b) = rest.split_at(pixels);
    r.iter().zip(g).zip(b).map(|((r, g), b)| S::luma(*r, *g, *b)).collect()
}

/// Returns the byte for a value in [0, 1].
pub(crate) fn to_level(value: f32) -> u8 {
    (value * 255.0 + 0.5) as u8
}

/// Appends values in [0, 1] in the format `dtype` (U8 or little-endian F32).
pub(crate) fn append_values(values: &[f32], dtype: Dtype, out: &mut Vec<u8>) {
    match dtype {
        Dtype::U8 => out.extend(values.iter().map(|v| to_level(*v))),
        _ => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    /// Returns the image of scripts/make_pillow_fixture.py, channel-planar.
    fn source(width: usize, height: usize, channels: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for c in 0..channels as u64 {
            for y in 0..height as u64 {
                for x in 0..width as u64 {
                    let noise = ((x * 73_856_093) ^ (y * 19_349_663) ^ (c * 83_492_791)) >> 7 & 127;
                    out.push(((x * 3 + y * 2 + c * 40 + noise) & 255) as u8);
                }
            }
        }
        out
    }

    type Size = (usize, usize);
    const CASES: [(&str, Size, Size); 3] =
        [("wide", (61, 37), (16, 16)), ("tall", (29, 83), (16, 12)), ("small", (7, 5), (18, 17))];

    fn golden() -> SafeTensors<'static> {
        let bytes = include_bytes!("../../tests/golden/pillow_resize.safetensors");
        SafeTensors::deserialize(bytes).expect("the fixture is sound")
    }

    #[test]
    fn bytes_are_pillows_to_the_bit() {
        let golden = golden();
        for (name, size, to) in CASES {
            let planes = source(size.0, size.1, 3);
            for (fit_name, how) in [("stretch", Fit::Stretch), ("crop", Fit::Crop), ("pad", Fit::Pad)] {
                let wanted = golden.tensor(&format!("{name}.{fit_name}")).expect("in the fixture");
                assert_eq!(fit(&planes, size, to, how), wanted.data(), "{name} {fit_name}");
            }
            let gray = fit(&luma_plane(&planes, size.0 * size.1), size, to, Fit::Stretch);
            assert_eq!(gray, golden.tensor(&format!("{name}.gray")).expect("in the fixture").data(), "{name} gray");
        }
        let far = fit(&source(1201, 907, 3), (1201, 907), (9, 7), Fit::Stretch);
        assert_eq!(far, golden.tensor("far.stretch").expect("in the fixture").data());
    }

    #[test]
    fn floats_are_pillows_to_the_last_place() {
        let golden = golden();
        for (name, size, to) in CASES {
            let planes: Vec<f32> = source(size.0, size.1, 1).iter().map(|v| f32::from(*v) / 255.0).collect();
            let wanted = golden.tensor(&format!("{name}.float")).expect("in the fixture");
            let wanted = wanted.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            for (got, wanted) in fit(&planes, size, to, Fit::Crop).iter().zip(wanted) {
                assert!((got - wanted).abs() <= f32::EPSILON * wanted, "{name}: {got} {wanted}");
            }
        }
    }

    #[test]
    fn one_pixel_and_extreme_aspect_ratios() {
        for size in [(1, 1), (1, 500), (500, 1), (2, 3)] {
            for to in [(1, 1), (64, 64), (1, 9), (9, 1)] {
                for how in [Fit::Crop, Fit::Pad, Fit::Stretch] {
                    assert_eq!(fit(&vec![255u8; size.0 * size.1], size, to, how), vec![255; to.0 * to.1]);
                    assert_eq!(fit(&vec![1f32; size.0 * size.1], size, to, how).len(), to.0 * to.1);
                }
            }
        }
    }

    #[test]
    fn the_same_size_is_untouched() {
        let planes = source(12, 9, 3);
        for how in [Fit::Crop, Fit::Pad, Fit::Stretch] {
            assert_eq!(fit(&planes, (12, 9), (12, 9), how), planes);
        }
    }

    #[test]
    fn the_border_is_the_mean_of_the_edge() {
        // 3 × 2: all six pixels are edge; 3 × 3: all but the middle one.
        assert_eq!(edge_mean(&[1u8, 2, 3, 4, 5, 6], (3, 2)), 3.5);
        assert_eq!(edge_mean(&[1u8, 1, 1, 1, 200, 1, 1, 1, 9], (3, 3)), 2.0);
        assert_eq!(edge_mean(&[4u8, 6], (1, 2)), 5.0);
    }

    #[test]
    fn fit_to_changes_channels() {
        let rgb = ImageShape { channels: 3, height: 1, width: 2 };
        let grey = ImageShape { channels: 1, ..rgb };
        let colour = Image { shape: rgb, data: vec![1.0, 0.25, 0.0, 0.25, 0.0, 0.25] };
        assert_eq!(fit_to(&colour, grey, Fit::Crop), vec![19595.0 / 65536.0, 0.25]);
        let one = Image { shape: grey, data: vec![0.5, 0.75] };
        assert_eq!(fit_to(&one, rgb, Fit::Crop), vec![0.5, 0.75, 0.5, 0.75, 0.5, 0.75]);
        let smaller = ImageShape { channels: 3, height: 1, width: 1 };
        assert_eq!(fit_to(&one, smaller, Fit::Stretch), vec![0.625; 3]);
    }
}
