//! Variants of a picture, as torchvision's transforms make them: bilinear, with reflected borders. No files.
//!
//! Every variant depends on nothing but (seed, epoch, row, variant): its random numbers are ChaCha8's under a key made
//! of these by BLAKE3, and the arithmetic is IEEE's + − × ÷ √ alone (the platform's sin and exp are not used), so that
//! it is the same on every machine and under any number of threads.

use super::block::Dtype;
use super::images::{Window, luma_plane, resample, to_level};
use super::rows::{ImageShape, Picture};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The kinds of variants; each group of five consecutive variants has one of each.
const KINDS: u64 = 5;

/// Variant number `variant` of a picture, of the same shape.
///
/// Variants 0–4, 5–9, … each have one of the five kinds, in an order drawn anew for each group:
/// 1. rotation by up to 15° either way, then a crop of 0.8–1 of the area with an aspect ratio of 0.9–1.1 (log-uniform)
///    brought back to full size, then brightness and contrast times 0.8–1.2 in either order, clipped to [0, 1];
/// 2. horizontal flip;
/// 3. vertical flip;
/// 4. shift by up to 10 % in each direction, whole pixels;
/// 5. perspective with distortion scale 0.2: each corner moves inwards by up to 10 % of the sides.
///
/// These are torchvision's RandomRotation, RandomResizedCrop, ColorJitter, RandomHorizontalFlip, RandomVerticalFlip,
/// RandomAffine and RandomPerspective; here 1. resamples once, not twice, its crop is not rounded to whole pixels, and
/// what lies outside the picture is its mirror image instead of black.
pub fn variant(picture: &Picture, seed: u64, epoch: u64, row: u64, variant: u64) -> Picture {
    let mut order = [0, 1, 2, 3, 4];
    let mut draws = Draws::new("vibrissa augment: order of the kinds", [seed, epoch, row, variant / KINDS]);
    for i in (1..order.len()).rev() {
        order.swap(i, draws.below(i as u64 + 1) as usize);
    }
    let mut draws = Draws::new("vibrissa augment: one variant", [seed, epoch, row, variant]);
    match order[(variant % KINDS) as usize] {
        0 => rotate_crop_jitter(picture, &mut draws),
        1 => rearranged(picture, |x| picture.shape.width - 1 - x, |y| y),
        2 => rearranged(picture, |x| x, |y| picture.shape.height - 1 - y),
        3 => shift(picture, &mut draws),
        _ => perspective(picture, &mut draws),
    }
}

/// A variant of a working picture as a row: drawn at the working size, then reduced to `shape` by the triangle filter.
/// For `Dtype::U8` the values are rounded to levels, so that a row drawn in an epoch and one that was stored agree.
///
/// # Shapes
/// `out` takes `shape.dim()` channel-planar values in [0, 1]; a picture of one channel fills all channels of `shape`.
///
/// # Panics
/// If `out` has another length, or `shape` fewer channels than the picture.
pub fn variant_row(
    picture: &Picture,
    shape: ImageShape,
    dtype: Dtype,
    seed: u64,
    epoch: u64,
    row: u64,
    variant: u64,
    out: &mut [f32],
) {
    assert_eq!(out.len(), shape.dim());
    assert!(picture.shape.channels <= shape.channels, "colour cannot be drawn as grey");
    let varied = self::variant(picture, seed, epoch, row, variant);
    let size = (varied.shape.width, varied.shape.height);
    let mut values = resample(&varied.data, size, Window::whole(size.0, size.1), (shape.width, shape.height));
    if dtype == Dtype::U8 {
        values.iter_mut().for_each(|value| *value = f32::from(to_level(*value)) / 255.0);
    } else {
        // The filter's weights add up to 1 only nearly.
        values.iter_mut().for_each(|value| *value = value.min(1.0));
    }
    out.chunks_exact_mut(values.len()).for_each(|plane| plane.copy_from_slice(&values));
}

/// Random numbers under a key.
struct Draws(ChaCha8Rng);

impl Draws {
    fn new(purpose: &str, of: [u64; 4]) -> Draws {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        of.iter().for_each(|number| {
            hasher.update(&number.to_le_bytes());
        });
        Draws(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Uniform in [0, 1), 53 bits.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high).
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform among 0 … `count` − 1 (but for 2⁻⁶⁴ × `count`).
    fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(count)) >> 64) as u64
    }
}

/// A projective map of points: the output's to the source's, in pixels from the left upper corner.
type Map = [[f64; 3]; 3];

fn compose(outer: Map, inner: Map) -> Map {
    let cell = |i: usize, j: usize| (0..3).map(|k| outer[i][k] * inner[k][j]).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| cell(i, j)))
}

/// Sine and cosine of a small angle (|x| ≤ 0.3, to the last place), by Taylor's series: the platform's differ.
fn sin_cos(x: f64) -> (f64, f64) {
    let y = x * x;
    let sin = x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0 * (1.0 - y / 110.0)))));
    let cos =
        1.0 - y / 2.0 * (1.0 - y / 12.0 * (1.0 - y / 30.0 * (1.0 - y / 56.0 * (1.0 - y / 90.0 * (1.0 - y / 132.0)))));
    (sin, cos)
}

/// e to a small power (|x| ≤ 0.2, to the last place), by Taylor's series: the platform's differ.
fn exp(x: f64) -> f64 {
    (1..=11).rev().fold(1.0, |sum, n| 1.0 + x / f64::from(n) * sum)
}

fn rotate_crop_jitter(picture: &Picture, draws: &mut Draws) -> Picture {
    const MOST_ANGLE: f64 = 15.0 * (std::f64::consts::PI / 180.0);
    let (w, h) = (picture.shape.width as f64, picture.shape.height as f64);
    let angle = draws.between(-MOST_ANGLE, MOST_ANGLE);
    let crop = resized_crop(w, h, draws);
    let mut varied = warp(picture, compose(rotation(angle, w, h), crop));
    let brightness = draws.between(0.8, 1.2) as f32;
    let contrast = draws.between(0.8, 1.2) as f32;
    if draws.below(2) == 0 {
        brighten(&mut varied, brightness);
        stretch_contrast(&mut varied, contrast);
    } else {
        stretch_contrast(&mut varied, contrast);
        brighten(&mut varied, brightness);
    }
    varied
}

/// Counter-clockwise around the middle.
fn rotation(angle: f64, w: f64, h: f64) -> Map {
    let (sin, cos) = sin_cos(angle);
    let (cx, cy) = (w * 0.5, h * 0.5);
    [[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy], [0.0, 0.0, 1.0]]
}

/// torchvision's RandomResizedCrop: ten tries for a crop that fits, else all of it.
fn resized_crop(w: f64, h: f64, draws: &mut Draws) -> Map {
    const LN_0_9: f64 = -0.105_360_515_657_826_28;
    const LN_1_1: f64 = 0.095_310_179_804_324_87;
    let (mut left, mut top, mut cw, mut ch) = (0.0, 0.0, w, h);
    for _ in 0..10 {
        let area = w * h * draws.between(0.8, 1.0);
        let ratio = exp(draws.between(LN_0_9, LN_1_1));
        let (tw, th) = ((area * ratio).sqrt(), (area / ratio).sqrt());
        if tw <= w && th <= h {
            (cw, ch) = (tw, th);
            (left, top) = (draws.between(0.0, w - tw), draws.between(0.0, h - th));
            break;
        }
    }
    [[cw / w, 0.0, left], [0.0, ch / h, top], [0.0, 0.0, 1.0]]
}

fn brighten(picture: &mut Picture, factor: f32) {
    picture.data.iter_mut().for_each(|value| *value = (*value * factor).clamp(0.0, 1.0));
}

/// Away from (or towards) the mean luma.
fn stretch_contrast(picture: &mut Picture, factor: f32) {
    let pixels = picture.shape.width * picture.shape.height;
    let sum: f64 = if picture.shape.channels == 3 {
        luma_plane(&picture.data, pixels).iter().map(|v| f64::from(*v)).sum()
    } else {
        picture.data.iter().map(|v| f64::from(*v)).sum()
    };
    let mean = (sum / pixels as f64) as f32;
    picture.data.iter_mut().for_each(|value| *value = (mean + (*value - mean) * factor).clamp(0.0, 1.0));
}

fn shift(picture: &Picture, draws: &mut Draws) -> Picture {
    let ImageShape { width, height, .. } = picture.shape;
    let mut by = |side: usize| draws.between(side as f64 * -0.1, side as f64 * 0.1).round() as i64;
    let (dx, dy) = (by(width), by(height));
    rearranged(picture, |x| reflect(x as i64 - dx, width), |y| reflect(y as i64 - dy, height))
}

/// torchvision's RandomPerspective: the corner pixels move inwards by whole pixels.
fn perspective(picture: &Picture, draws: &mut Draws) -> Picture {
    let (width, height) = (picture.shape.width, picture.shape.height);
    if width < 2 || height < 2 {
        return picture.clone();
    }
    let most = |side: usize| ((side / 2) as f64 * 0.2) as u64 + 1;
    let mut inwards = || (draws.below(most(width)) as f64, draws.below(most(height)) as f64);
    let (right, bottom) = ((width - 1) as f64, (height - 1) as f64);
    let ((x0, y0), (x1, y1), (x2, y2), (x3, y3)) = (inwards(), inwards(), inwards(), inwards());
    // Clockwise from the left upper corner, at the middles of the pixels.
    let corners = [(x0, y0), (right - x1, y1), (right - x2, bottom - y2), (x3, bottom - y3)];
    let corners = corners.map(|(x, y)| (x + 0.5, y + 0.5));
    let to_picture = [[right, 0.0, 0.5], [0.0, bottom, 0.5], [0.0, 0.0, 1.0]];
    warp(picture, compose(to_picture, inverse(square_to(corners))))
}

/// The projective map of the unit square to four corners, clockwise from (0, 0) (Heckbert 1989, section 2.2.3).
fn square_to(corners: [(f64, f64); 4]) -> Map {
    let [(x0, y0), (x1, y1), (x2, y2), (x3, y3)] = corners;
    let (dx1, dx2, dx3) = (x1 - x2, x3 - x2, x0 - x1 + x2 - x3);
    let (dy1, dy2, dy3) = (y1 - y2, y3 - y2, y0 - y1 + y2 - y3);
    let det = dx1 * dy2 - dx2 * dy1;
    let g = (dx3 * dy2 - dx2 * dy3) / det;
    let h = (dx1 * dy3 - dx3 * dy1) / det;
    [[x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, 1.0]]
}

/// The inverse up to a factor, which a projective map does not have.
fn inverse(m: Map) -> Map {
    let minor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i)))
}

/// The pixel (x, y) copied from (column(x), row(y)).
fn rearranged(picture: &Picture, column: impl Fn(usize) -> usize, row: impl Fn(usize) -> usize) -> Picture {
    let ImageShape { width, height, .. } = picture.shape;
    let columns: Vec<usize> = (0..width).map(column).collect();
    let rows: Vec<usize> = (0..height).map(row).collect();
    let mut data = Vec::with_capacity(picture.data.len());
    for plane in picture.data.chunks_exact(width * height) {
        for y in &rows {
            let source = &plane[y * width..][..width];
            data.extend(columns.iter().map(|x| source[*x]));
        }
    }
    Picture { shape: picture.shape, data }
}

/// Mirrors an index at the edges of 0 … `side` − 1, the edge pixels being doubled.
fn reflect(index: i64, side: usize) -> usize {
    let side = side as i64;
    let folded = index.rem_euclid(2 * side);
    (if folded < side { folded } else { 2 * side - 1 - folded }) as usize
}

/// Each output pixel taken where `map` leads, bilinear, mirrored at the edges.
fn warp(picture: &Picture, map: Map) -> Picture {
    let ImageShape { width, height, .. } = picture.shape;
    let pixels = width * height;
    let affine = map[2] == [0.0, 0.0, 1.0];
    let mut data = vec![0.0; picture.data.len()];
    // Of one row: the four neighbours of each point, and how far it is from the first, across and down.
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
        for (plane, out) in picture.data.chunks_exact(pixels).zip(data.chunks_exact_mut(pixels)) {
            for (out, (neighbours, [across, down])) in out[y * width..].iter_mut().zip(&points) {
                let [a, b, c, d] = neighbours.map(|at| plane[at as usize]);
                // In this form equal neighbours give their value exactly.
                let upper = a + (b - a) * across;
                let lower = c + (d - c) * across;
                *out = upper + (lower - upper) * down;
            }
        }
    }
    Picture { shape: picture.shape, data }
}

/// The largest integer not above `value`, without a call into the platform's library.
fn floor(value: f64) -> i64 {
    let whole = value as i64;
    whole - i64::from((whole as f64) > value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, height: usize, width: usize, value: impl Fn(usize) -> f32) -> Picture {
        let shape = ImageShape { channels, height, width };
        Picture { shape, data: (0..shape.dim()).map(value).collect() }
    }

    fn speckled(channels: usize, height: usize, width: usize) -> Picture {
        picture(channels, height, width, |i| (i * 7919 % 256) as f32 / 255.0)
    }

    #[test]
    fn each_group_of_five_has_each_kind_once() {
        let original = speckled(1, 16, 16);
        let flipped = rearranged(&original, |x| 15 - x, |y| y);
        let upside_down = rearranged(&original, |x| x, |y| 15 - y);
        let mut orders = std::collections::HashSet::new();
        for group in 0..20 {
            let five: Vec<Picture> = (0..5).map(|v| variant(&original, 1, 2, 3, group * 5 + v)).collect();
            let at = |wanted: &Picture| five.iter().position(|v| v == wanted);
            assert!(at(&flipped).is_some() && at(&upside_down).is_some(), "group {group}");
            orders.insert((at(&flipped), at(&upside_down)));
        }
        assert!(orders.len() > 5, "the order is drawn anew");
    }

    #[test]
    fn variants_depend_on_each_number_of_their_key() {
        let original = speckled(1, 24, 24);
        let base: Vec<Picture> = (0..5).map(|v| variant(&original, 1, 1, 1, v)).collect();
        for (seed, epoch, row) in [(2, 1, 1), (1, 2, 1), (1, 1, 2)] {
            assert_ne!(base, (0..5).map(|v| variant(&original, seed, epoch, row, v)).collect::<Vec<_>>());
        }
        assert_eq!(base[3], variant(&original, 1, 1, 1, 3));
    }

    #[test]
    fn a_key_gives_the_same_numbers_everywhere() {
        let mut draws = Draws::new("vibrissa augment: one variant", [1, 2, 3, 4]);
        let drawn = [draws.unit(), draws.between(-15.0, 15.0), draws.below(5) as f64];
        // As drawn when this was written: a change here changes everybody's training data.
        assert_eq!(drawn, [0.183_831_129_790_625_88, -5.871_548_861_952_471, 3.0]);
    }

    #[test]
    fn a_white_picture_has_no_dark_border() {
        for (height, width) in [(1, 1), (1, 9), (2, 2), (13, 40), (28, 28)] {
            let white = picture(3, height, width, |_| 1.0);
            for v in 0..50 {
                let varied = variant(&white, 9, 0, 0, v);
                // Brightness may take 20 % off; nothing else may.
                let level = varied.data[0];
                assert!(level >= 0.799 && varied.data.iter().all(|x| *x == level), "{height}×{width} variant {v}");
            }
        }
    }

    #[test]
    fn values_stay_in_range_and_pictures_stay_recognisable() {
        let original = picture(1, 40, 40, |i| (i % 40) as f32 / 39.0);
        for v in 0..100 {
            let varied = variant(&original, 5, 0, 1, v);
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
        let to_picture = [[13.0, 0.0, 0.5], [0.0, 8.0, 0.5], [0.0, 0.0, 1.0]];
        let same = warp(&original, compose(to_picture, inverse(square_to(corners))));
        assert!(same.data.iter().zip(&original.data).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn rotation_is_counter_clockwise_around_the_middle() {
        // A blot to the right of the middle must rise.
        let blot = picture(1, 101, 101, |i| {
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
        variant_row(&working, shape, Dtype::U8, 1, 2, 3, 4, &mut out);
        assert!(out.iter().all(|v| f32::from(to_level(*v)) / 255.0 == *v));
        assert!(out[..100] == out[100..200] && out[..100] == out[200..]);
    }
}
