//! Augmented variants of an image, as torchvision's transforms make them: bilinear, with reflected borders. No files.
//!
//! A variant depends on (seed, epoch, row, variant) alone: its random numbers come from the stream of this key, and its
//! arithmetic uses only + − × ÷ √ of IEEE 754 (not the platform's sin and exp), so that it is the same on every machine
//! and with any number of threads.

use crate::block::Dtype;
use crate::images::{Window, luma_plane, resample, to_level};
use crate::rows::Image;
use vibrissa_core::random::Stream;
use vibrissa_core::shape::ImageShape;

/// Number of kinds of variants; each group of five consecutive variants has one of each.
const KINDS: u64 = 5;

/// The numbers that a variant depends on, besides its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantKey {
    /// Seed of the augmentation.
    pub seed: u64,
    /// Epoch, from 0; always 0 for variants that are made once.
    pub epoch: u64,
    /// Number of the original.
    pub row: u64,
    /// Number of the variant, from 0.
    pub variant: u64,
}

/// Returns a variant of an image, of the same shape.
///
/// Each group of variants (0–4, 5–9, …) has one of each of the five kinds, in a random order:
/// 1. rotation by up to 15° either way, then a crop of 0.8–1 of the area with an aspect ratio of 0.9–1.1 (log-uniform)
///    brought back to full size, then brightness and contrast times 0.8–1.2 in either order, clipped to [0, 1];
/// 2. horizontal flip;
/// 3. vertical flip;
/// 4. shift by up to 10 % in each direction, whole pixels;
/// 5. perspective with distortion scale 0.2: each corner moves inwards by up to 10 % of the sides.
///
/// These are torchvision's RandomRotation, RandomResizedCrop, ColorJitter, RandomHorizontalFlip, RandomVerticalFlip,
/// RandomAffine and RandomPerspective. In contrast to them, 1. resamples once instead of twice, its crop is not rounded
/// to whole pixels, and the image is continued by its mirror image instead of black.
pub fn variant(image: &Image, key: VariantKey) -> Image {
    let VariantKey { seed, epoch, row, variant } = key;
    let mut order = [0, 1, 2, 3, 4];
    let mut stream =
        Stream::in_domain("vibrissa augment: order of the kinds", &[seed, epoch, row, variant / KINDS], "");
    for i in (1..order.len()).rev() {
        order.swap(i, integer(&mut stream, i as u64 + 1) as usize);
    }
    let mut stream = Stream::in_domain("vibrissa augment: one variant", &[seed, epoch, row, variant], "");
    match order[(variant % KINDS) as usize] {
        0 => rotate_crop_jitter(image, &mut stream),
        1 => rearranged(image, |x| image.shape.width - 1 - x, |y| y),
        2 => rearranged(image, |x| x, |y| image.shape.height - 1 - y),
        3 => shift(image, &mut stream),
        _ => perspective(image, &mut stream),
    }
}

/// Writes a variant of a working image as a row: made at the working size, then reduced to `shape` by the triangle
/// filter. For `Dtype::U8` the values are rounded to levels, so that a variant made in an epoch equals the stored one.
///
/// # Shapes
/// `out` takes `shape.dim()` channel-planar values in [0, 1]; an image of one channel fills all channels of `shape`.
///
/// # Panics
/// If `out` has another length, or `shape` fewer channels than the image.
pub fn variant_row(image: &Image, shape: ImageShape, dtype: Dtype, key: VariantKey, out: &mut [f32]) {
    assert_eq!(out.len(), shape.dim());
    assert!(image.shape.channels <= shape.channels, "a colour image does not fit a grey row");
    let varied = variant(image, key);
    let size = (varied.shape.width, varied.shape.height);
    let mut values = resample(&varied.data, size, Window::whole(size.0, size.1), (shape.width, shape.height));
    if dtype == Dtype::U8 {
        values.iter_mut().for_each(|value| *value = f32::from(to_level(*value)) / 255.0);
    } else {
        // The weights of the filter add up to 1 only approximately.
        values.iter_mut().for_each(|value| *value = value.min(1.0));
    }
    out.chunks_exact_mut(values.len()).for_each(|plane| plane.copy_from_slice(&values));
}

/// Returns an integer uniform in `0..count`, from one number of the stream.
///
/// [`Stream::below`] would give other variants than earlier versions did for the same seed.
fn integer(stream: &mut Stream, count: u64) -> u64 {
    (stream.uniform() * count as f64) as u64
}

/// A projective map from points of the output to points of the source, in pixels from the upper left corner.
type Map = [[f64; 3]; 3];

fn compose(outer: Map, inner: Map) -> Map {
    let cell = |i: usize, j: usize| (0..3).map(|k| outer[i][k] * inner[k][j]).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| cell(i, j)))
}

/// Returns the sine and cosine of a small angle (|x| ≤ 0.3), accurate to the last place, by Taylor series: results of
/// platforms differ.
fn sin_cos(x: f64) -> (f64, f64) {
    let y = x * x;
    let sin = x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0 * (1.0 - y / 110.0)))));
    let cos =
        1.0 - y / 2.0 * (1.0 - y / 12.0 * (1.0 - y / 30.0 * (1.0 - y / 56.0 * (1.0 - y / 90.0 * (1.0 - y / 132.0)))));
    (sin, cos)
}

/// Returns e^x for |x| ≤ 0.2, accurate to the last place, by Taylor series: results of platforms differ.
fn exp(x: f64) -> f64 {
    (1..=11).rev().fold(1.0, |sum, n| 1.0 + x / f64::from(n) * sum)
}

fn rotate_crop_jitter(image: &Image, stream: &mut Stream) -> Image {
    const MAX_ANGLE: f64 = 15.0 * (std::f64::consts::PI / 180.0);
    let (w, h) = (image.shape.width as f64, image.shape.height as f64);
    let angle = stream.between(-MAX_ANGLE, MAX_ANGLE);
    let crop = resized_crop(w, h, stream);
    let mut varied = warp(image, compose(rotation(angle, w, h), crop));
    let brightness = stream.between(0.8, 1.2) as f32;
    let contrast = stream.between(0.8, 1.2) as f32;
    if integer(stream, 2) == 0 {
        brighten(&mut varied, brightness);
        stretch_contrast(&mut varied, contrast);
    } else {
        stretch_contrast(&mut varied, contrast);
        brighten(&mut varied, brightness);
    }
    varied
}

/// Returns the counter-clockwise rotation around the centre.
fn rotation(angle: f64, w: f64, h: f64) -> Map {
    let (sin, cos) = sin_cos(angle);
    let (cx, cy) = (w * 0.5, h * 0.5);
    [[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy], [0.0, 0.0, 1.0]]
}

/// Returns the crop of torchvision's RandomResizedCrop: the first of ten samples that fits, else the whole image.
fn resized_crop(w: f64, h: f64, stream: &mut Stream) -> Map {
    const LN_0_9: f64 = -0.105_360_515_657_826_28;
    const LN_1_1: f64 = 0.095_310_179_804_324_87;
    let (mut left, mut top, mut cw, mut ch) = (0.0, 0.0, w, h);
    for _ in 0..10 {
        let area = w * h * stream.between(0.8, 1.0);
        let ratio = exp(stream.between(LN_0_9, LN_1_1));
        let (tw, th) = ((area * ratio).sqrt(), (area / ratio).sqrt());
        if tw <= w && th <= h {
            (cw, ch) = (tw, th);
            (left, top) = (stream.between(0.0, w - tw), stream.between(0.0, h - th));
            break;
        }
    }
    [[cw / w, 0.0, left], [0.0, ch / h, top], [0.0, 0.0, 1.0]]
}

fn brighten(image: &mut Image, factor: f32) {
    image.data.iter_mut().for_each(|value| *value = (*value * factor).clamp(0.0, 1.0));
}

/// Scales the distance of each value from the mean luma.
fn stretch_contrast(image: &mut Image, factor: f32) {
    let pixels = image.shape.width * image.shape.height;
    let sum: f64 = if image.shape.channels == 3 {
        luma_plane(&image.data, pixels).iter().map(|v| f64::from(*v)).sum()
    } else {
        image.data.iter().map(|v| f64::from(*v)).sum()
    };
    let mean = (sum / pixels as f64) as f32;
    image.data.iter_mut().for_each(|value| *value = (mean + (*value - mean) * factor).clamp(0.0, 1.0));
}

fn shift(image: &Image, stream: &mut Stream) -> Image {
    let ImageShape { width, height, .. } = image.shape;
    let mut by = |side: usize| stream.between(side as f64 * -0.1, side as f64 * 0.1).round() as i64;
    let (dx, dy) = (by(width), by(height));
    rearranged(image, |x| reflect(x as i64 - dx, width), |y| reflect(y as i64 - dy, height))
}

/// Applies torchvision's RandomPerspective: the corner pixels move inwards by whole pixels.
fn perspective(image: &Image, stream: &mut Stream) -> Image {
    let (width, height) = (image.shape.width, image.shape.height);
    if width < 2 || height < 2 {
        return image.clone();
    }
    let most = |side: usize| ((side / 2) as f64 * 0.2) as u64 + 1;
    let mut inwards = || (integer(stream, most(width)) as f64, integer(stream, most(height)) as f64);
    let (right, bottom) = ((width - 1) as f64, (height - 1) as f64);
    let ((x0, y0), (x1, y1), (x2, y2), (x3, y3)) = (inwards(), inwards(), inwards(), inwards());
    // Clockwise from the upper left corner, at the centres of the pixels.
    let corners = [(x0, y0), (right - x1, y1), (right - x2, bottom - y2), (x3, bottom - y3)];
    let corners = corners.map(|(x, y)| (x + 0.5, y + 0.5));
    let to_image = [[right, 0.0, 0.5], [0.0, bottom, 0.5], [0.0, 0.0, 1.0]];
    warp(image, compose(to_image, inverse(square_to(corners))))
}

/// Returns the projective map of the unit square to four corners, clockwise from (0, 0) (Heckbert 1989, section 2.2.3).
fn square_to(corners: [(f64, f64); 4]) -> Map {
    let [(x0, y0), (x1, y1), (x2, y2), (x3, y3)] = corners;
    let (dx1, dx2, dx3) = (x1 - x2, x3 - x2, x0 - x1 + x2 - x3);
    let (dy1, dy2, dy3) = (y1 - y2, y3 - y2, y0 - y1 + y2 - y3);
    let det = dx1 * dy2 - dx2 * dy1;
    let g = (dx3 * dy2 - dx2 * dy3) / det;
    let h = (dx1 * dy3 - dx3 * dy1) / det;
    [[x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, 1.0]]
}

/// Returns the inverse up to a factor, which does not change a projective map.
fn inverse(m: Map) -> Map {
    let minor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i)))
}

/// Returns an image whose pixel (x, y) is copied from (column(x), row(y)).
fn rearranged(image: &Image, column: impl Fn(usize) -> usize, row: impl Fn(usize) -> usize) -> Image {
    let ImageShape { width, height, .. } = image.shape;
    let columns: Vec<usize> = (0..width).map(column).collect();
    let rows: Vec<usize> = (0..height).map(row).collect();
    let mut data = Vec::with_capacity(image.data.len());
    for plane in image.data.chunks_exact(width * height) {
        for y in &rows {
            let source = &plane[y * width..][..width];
            data.extend(columns.iter().map(|x| source[*x]));
        }
    }
    Image { shape: image.shape, data }
}

/// Mirrors an index at the edges of 0 … `side` − 1, where edge pixels are repeated once.
fn reflect(index: i64, side: usize) -> usize {
    let side = side as i64;
    let folded = index.rem_euclid(2 * side);
    (if folded < side { folded } else { 2 * side - 1 - folded }) as usize
}

/// Samples the image at `map(x, y)` for each output pixel, bilinear, mirrored at the edges.
fn warp(image: &Image, map: Map) -> Image {
    let ImageShape { width, height, .. } = image.shape;
    let pixels = width * height;
    let affine = map[2] == [0.0, 0.0, 1.0];
    let mut data = vec![0.0; image.data.len()];
    // For each point of one row: its four neighbours, and its distance from the first, across and down.
    let mut points = vec![([0u32; 4], [0f32; 2]); width];
    for y in 0..height {
        let v = y as f64 + 0.5;
        for (x, (neighbours, fractions)) in points.iter_mut().enumerate() {
            let u = x as f64 + 0.5;
            let [mut sx, mut sy, sw] = map.map(|[a, b, c]| a * u + b * v + c);
            if !affine {
                (sx, sy) = (sx / sw, sy / sw);
            }
            (sx, sy) = (sx - 0.5, sy - 0.5);
            let (left, top) = (floor(sx), floor(sy));
            *fractions = [(sx - left as f64) as f32, (sy - top as f64) as f32];
            let inside = left >= 0 && top >= 0 && left + 1 < width as i64 && top + 1 < height as i64;
            *neighbours = if inside {
                let at = top as usize * width + left as usize;
                [at, at + 1, at + width, at + width + 1]
            } else {
                let (x0, x1) = (reflect(left, width), reflect(left + 1, width));
                let (y0, y1) = (reflect(top, height) * width, reflect(top + 1, height) * width);
                [y0 + x0, y0 + x1, y1 + x0, y1 + x1]
            }
            .map(|at| at as u32);
        }
        for (plane, out) in image.data.chunks_exact(pixels).zip(data.chunks_exact_mut(pixels)) {
            for (out, (neighbours, [across, down])) in out[y * width..].iter_mut().zip(&points) {
                let [a, b, c, d] = neighbours.map(|at| plane[at as usize]);
                // This form gives exactly the value of equal neighbours.
                let upper = a + (b - a) * across;
                let lower = c + (d - c) * across;
                *out = upper + (lower - upper) * down;
            }
        }
    }
    Image { shape: image.shape, data }
}

/// Returns the largest integer not above `value`, without a call of the platform's library.
fn floor(value: f64) -> i64 {
    let whole = value as i64;
    whole - i64::from((whole as f64) > value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, height: usize, width: usize, value: impl Fn(usize) -> f32) -> Image {
        let shape = ImageShape { channels, height, width };
        Image { shape, data: (0..shape.dim()).map(value).collect() }
    }

    fn key(seed: u64, epoch: u64, row: u64, variant: u64) -> VariantKey {
        VariantKey { seed, epoch, row, variant }
    }

    fn speckled(channels: usize, height: usize, width: usize) -> Image {
        image(channels, height, width, |i| (i * 7919 % 256) as f32 / 255.0)
    }

    #[test]
    fn each_group_of_five_has_each_kind_once() {
        let original = speckled(1, 16, 16);
        let flipped = rearranged(&original, |x| 15 - x, |y| y);
        let upside_down = rearranged(&original, |x| x, |y| 15 - y);
        let mut orders = std::collections::HashSet::new();
        for group in 0..20 {
            let five: Vec<Image> = (0..5).map(|v| variant(&original, key(1, 2, 3, group * 5 + v))).collect();
            let at = |wanted: &Image| five.iter().position(|v| v == wanted);
            assert!(at(&flipped).is_some() && at(&upside_down).is_some(), "group {group}");
            orders.insert((at(&flipped), at(&upside_down)));
        }
        assert!(orders.len() > 5, "the order differs between groups");
    }

    #[test]
    fn variants_depend_on_each_number_of_their_key() {
        let original = speckled(1, 24, 24);
        let base: Vec<Image> = (0..5).map(|v| variant(&original, key(1, 1, 1, v))).collect();
        for (seed, epoch, row) in [(2, 1, 1), (1, 2, 1), (1, 1, 2)] {
            assert_ne!(base, (0..5).map(|v| variant(&original, key(seed, epoch, row, v))).collect::<Vec<_>>());
        }
        assert_eq!(base[3], variant(&original, key(1, 1, 1, 3)));
    }

    #[test]
    fn a_key_gives_the_same_numbers_everywhere() {
        let mut stream = Stream::in_domain("vibrissa augment: one variant", &[1, 2, 3, 4], "");
        let sampled = [stream.uniform(), stream.between(-15.0, 15.0), integer(&mut stream, 5) as f64];
        // A change of these numbers changes training data.
        assert_eq!(sampled, [0.183_831_129_790_625_88, -5.871_548_861_952_471, 3.0]);
    }

    #[test]
    fn a_white_image_has_no_dark_border() {
        for (height, width) in [(1, 1), (1, 9), (2, 2), (13, 40), (28, 28)] {
            let white = image(3, height, width, |_| 1.0);
            for v in 0..50 {
                let varied = variant(&white, key(9, 0, 0, v));
                // Brightness may take 20 % off; nothing else may.
                let level = varied.data[0];
                assert!(level >= 0.799 && varied.data.iter().all(|x| *x == level), "{height}×{width} variant {v}");
            }
        }
    }

    #[test]
    fn values_stay_in_range_and_images_stay_recognisable() {
        let original = image(1, 40, 40, |i| (i % 40) as f32 / 39.0);
        for v in 0..100 {
            let varied = variant(&original, key(5, 0, 1, v));
            assert!(varied.data.iter().all(|x| (0.0..=1.0).contains(x)));
            let mean = varied.data.iter().sum::<f32>() / 1600.0;
            assert!((0.35..0.65).contains(&mean), "variant {v}: {mean}");
        }
    }

    #[test]
    fn warp_by_nothing_changes_nothing() {
        let original = speckled(3, 9, 14);
        assert_eq!(warp(&original, rotation(0.0, 14.0, 9.0)), original);
        let corners = [(0.5, 0.5), (13.5, 0.5), (13.5, 8.5), (0.5, 8.5)];
        let to_image = [[13.0, 0.0, 0.5], [0.0, 8.0, 0.5], [0.0, 0.0, 1.0]];
        let same = warp(&original, compose(to_image, inverse(square_to(corners))));
        assert!(same.data.iter().zip(&original.data).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn rotation_is_counter_clockwise_around_the_centre() {
        // A blot to the right of the centre must move up.
        let blot = image(1, 101, 101, |i| {
            let (x, y) = ((i % 101) as f32 - 90.0, (i / 101) as f32 - 50.0);
            (-(x * x + y * y) / 8.0).exp()
        });
        let angle = 10f64.to_radians();
        let turned = warp(&blot, rotation(angle, 101.0, 101.0));
        let total: f32 = turned.data.iter().sum();
        let mean =
            |of: fn(usize) -> usize| turned.data.iter().enumerate().map(|(i, v)| of(i) as f32 * v).sum::<f32>() / total;
        let (x, y) = (mean(|i| i % 101), mean(|i| i / 101));
        let (wanted_x, wanted_y) = (50.0 + 40.0 * angle.cos() as f32, 50.0 - 40.0 * angle.sin() as f32);
        assert!((x - wanted_x).abs() < 0.05 && (y - wanted_y).abs() < 0.05, "({x}, {y})");
    }

    #[test]
    fn the_perspective_takes_corners_to_corners() {
        let corners = [(1.5, 2.5), (29.5, 0.5), (27.5, 18.5), (3.5, 17.5)];
        let map = inverse(square_to(corners));
        for ((x, y), (u, v)) in corners.into_iter().zip([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]) {
            let [a, b, c] = map.map(|[a, b, c]| a * x + b * y + c);
            assert!((a / c - u).abs() < 1e-12 && (b / c - v).abs() < 1e-12);
        }
    }

    #[test]
    fn reflection_doubles_the_edge() {
        assert_eq!([-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6].map(|i| reflect(i, 3)), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert_eq!([-2, -1, 0, 1, 2].map(|i| reflect(i, 1)), [0; 5]);
        assert_eq!([-1.5, -1.0, -0.5, 0.0, 0.5, 2.0].map(floor), [-2, -1, -1, 0, 0, 2]);
    }

    #[test]
    fn series_reach_the_last_place() {
        for i in -100..=100 {
            let x = f64::from(i) * 0.003;
            let (sin, cos) = sin_cos(x);
            assert!((sin - x.sin()).abs() <= 1e-16 + 2e-16 * x.abs() && (cos - x.cos()).abs() <= 2.3e-16, "{x}");
            let y = f64::from(i) * 0.002;
            assert!((exp(y) - y.exp()).abs() <= 4.5e-16, "{y}");
        }
        assert!((exp(-0.105_360_515_657_826_28) - 0.9).abs() < 1e-15);
        assert!((exp(0.095_310_179_804_324_87) - 1.1).abs() < 1e-15);
    }

    #[test]
    fn rows_of_bytes_are_levels_and_grey_fills_colour() {
        let working = speckled(1, 20, 20);
        let shape = ImageShape { channels: 3, height: 10, width: 10 };
        let mut out = vec![0.0; shape.dim()];
        variant_row(&working, shape, Dtype::U8, key(1, 2, 3, 4), &mut out);
        assert!(out.iter().all(|v| f32::from(to_level(*v)) / 255.0 == *v));
        assert!(out[..100] == out[100..200] && out[..100] == out[200..]);
    }
}
