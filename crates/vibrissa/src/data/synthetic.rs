//! Rows made of known features, to see whether training finds them again: small pictures or random directions. Nothing
//! is read from disk, and no global stream of random numbers exists: row r is drawn from (seed, r) alone.
//!
//! A row is `background + Σ_i a_i · feature_i + noise`, with few a_i ≠ 0. Everything but the frequencies of a chosen
//! exponent is additions, multiplications, divisions and square roots, which every machine rounds alike, so the same
//! seed gives the same bits everywhere.

use super::block::{Block, Bytes, Dtype};
use super::rows::{ImageShape, Names, Rows};
use crate::error::{Error, Result};
use crate::matrix::{Mat, MatRef};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use std::sync::Arc;

/// Brightness of an empty picture: six standard deviations of the default noise above black, so that nothing is clipped.
const BACKGROUND: f64 = 0.12;

/// How much rarer a feature of one class is in the other class.
const FOREIGN: f64 = 0.05;

/// Most bytes of rows or features: a misplaced zero should not bring the machine down.
const MAX_BYTES: usize = 1 << 36;

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grey pictures of strokes, arcs and blobs, in two classes that use them with different probabilities.
    Images {
        /// Height and width in pixels (16; 8–256).
        size: usize,
    },
    /// Gaussian unit directions, without classes.
    Directions {
        /// Values a row (256; 1–65536).
        dim: usize,
    },
}

/// A generator of rows with known features; written `synthetic:KEY=VALUE,...`.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// `kind`: `images` (default) or `directions`, with its `size` or `dim`.
    pub kind: Kind,
    /// `rows` (images 4000, directions 20000).
    pub rows: usize,
    /// `features`: how many there are to find (64; 1024).
    pub features: usize,
    /// `active`: mean features a row (6; 8), in (0, features].
    pub active: f64,
    /// `noise`: standard deviation of the Gaussian noise on each value (0.02; 0), in [0, 1].
    pub noise: f64,
    /// `z`: feature i is used with probability ∝ (i + 1)^-z (0.3; 0.5), in [0, 4].
    pub z: f64,
    /// `seed` (0).
    pub seed: u64,
}

impl Synthetic {
    /// The pictures that are trained on when nothing else is named.
    pub fn images() -> Synthetic {
        let kind = Kind::Images { size: 16 };
        Synthetic { kind, rows: 4000, features: 64, active: 6.0, noise: 0.02, z: 0.3, seed: 0 }
    }

    /// Directions as in the toy models of superposition.
    pub fn directions() -> Synthetic {
        let kind = Kind::Directions { dim: 256 };
        Synthetic { kind, rows: 20_000, features: 1024, active: 8.0, noise: 0.0, z: 0.5, seed: 0 }
    }

    /// Reads `synthetic` or `synthetic:KEY=VALUE,...`.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown or repeated key and for a value out of its range.
    pub fn parse(spec: &str) -> Result<Synthetic> {
        let list = match spec.strip_prefix("synthetic") {
            Some("") => "",
            Some(rest) if rest.starts_with(':') => &rest[1..],
            _ => {
                return Err(Error::option(
                    "data",
                    "synthetic or synthetic:KEY=VALUE,...",
                    spec.escape_debug(),
                    EXAMPLE,
                ));
            }
        };
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| bad(item, "KEY=VALUE", "no ="))?;
            let (key, value) = (key.trim(), value.trim());
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(bad(key, "one value", "two"));
            }
            pairs.push((key, value));
        }
        let mut it = match pairs.iter().find(|(key, _)| *key == "kind").map(|(_, value)| *value) {
            None | Some("images") => Synthetic::images(),
            Some("directions") => Synthetic::directions(),
            Some(other) => return Err(bad("kind", "images or directions", other)),
        };
        for (key, value) in pairs {
            match (key, &mut it.kind) {
                ("kind", _) => {}
                ("size", Kind::Images { size }) => *size = integer(key, value, 8..=256)?,
                ("dim", Kind::Directions { dim }) => *dim = integer(key, value, 1..=65_536)?,
                // Each picture is compared with those before it, so their number is what takes time.
                ("features", Kind::Images { .. }) => it.features = integer(key, value, 1..=1024)?,
                ("features", Kind::Directions { .. }) => it.features = integer(key, value, 1..=1 << 20)?,
                ("rows", _) => it.rows = integer(key, value, 1..=1 << 32)?,
                ("active", _) => it.active = number(key, value, 1e-3, 1e6)?,
                ("noise", _) => it.noise = number(key, value, 0.0, 1.0)?,
                ("z", _) => it.z = number(key, value, 0.0, 4.0)?,
                ("seed", _) => it.seed = integer(key, value, 0..=usize::MAX)? as u64,
                (_, kind) => {
                    let own = if matches!(kind, Kind::Images { .. }) { "size" } else { "dim" };
                    let keys = format!("one of kind, rows, features, active, noise, z, seed, {own}");
                    return Err(bad("KEY", &keys, key));
                }
            }
        }
        if it.active > it.features as f64 {
            let most = format!("at most features = {}", it.features);
            return Err(bad("active", &most, &it.active.to_string()));
        }
        for (key, count) in [("rows", it.rows), ("features", it.features)] {
            if count.checked_mul(4 * it.dim()).is_none_or(|bytes| bytes > MAX_BYTES) {
                let most = format!("at most {} of {} values", MAX_BYTES / (4 * it.dim()), it.dim());
                return Err(bad(key, &most, &count.to_string()));
            }
        }
        Ok(it)
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        match self.kind {
            Kind::Images { size } => size * size,
            Kind::Directions { dim } => dim,
        }
    }

    /// The features that the rows are made of, each of unit norm.
    ///
    /// # Shapes
    /// `[features, dim]`
    pub fn features(&self) -> Mat {
        match self.kind {
            Kind::Images { size } => strokes(self.features, size, self.seed),
            Kind::Directions { dim } => gaussian_directions("direction", self.features, dim, self.seed),
        }
    }

    /// The probability that a row of the class uses each feature; their sum is `active`. Directions know one class, 0.
    /// In pictures every fourth feature belongs to class 0 and every fourth to class 1; the others are shared.
    pub fn probabilities(&self, class: usize) -> Vec<f64> {
        let weights = (0..self.features).map(|i| {
            let belongs = match (self.kind, i % 4) {
                (Kind::Images { .. }, own @ (0 | 1)) if own != class => FOREIGN,
                _ => 1.0,
            };
            belongs * ((i + 1) as f64).powf(-self.z)
        });
        with_sum(weights.collect(), self.active)
    }

    /// The rows: in parallel, yet the same whatever the number of threads. Pictures are of class `1` and `2` in turn.
    pub fn rows(&self) -> Rows {
        let (dim, images) = (self.dim(), matches!(self.kind, Kind::Images { .. }));
        let features = self.features();
        let probabilities: Vec<Vec<f64>> = (0..if images { 2 } else { 1 }).map(|c| self.probabilities(c)).collect();
        let (background, contrast) = match self.kind {
            // A unit vector over more pixels is dimmer in each of them.
            Kind::Images { size } => (BACKGROUND, size as f64 / 16.0),
            Kind::Directions { .. } => (0.0, 1.0),
        };
        let mut bytes = vec![0u8; self.rows * dim * 4];
        bytes.par_chunks_mut(dim * 4).enumerate().for_each_init(
            || vec![0.0f64; dim],
            |row, (r, out)| {
                let mut draw = Draw::new(self.seed, "row", r as u64);
                row.fill(background);
                for (i, &probability) in probabilities[r % probabilities.len()].iter().enumerate() {
                    if draw.uniform() < probability {
                        let amplitude = contrast * (1.0 + 0.25 * draw.normal()).abs();
                        row.iter_mut().zip(features.row(i)).for_each(|(v, &f)| *v += amplitude * f64::from(f));
                    }
                }
                if self.noise > 0.0 {
                    row.iter_mut().for_each(|v| *v += self.noise * draw.normal());
                }
                if images {
                    row.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
                }
                let (out, _) = out.as_chunks_mut::<4>();
                out.iter_mut().zip(row).for_each(|(o, v)| *o = (*v as f32).to_le_bytes());
            },
        );
        let block = Block::new("synthetic".to_string(), Bytes::Owned(Arc::new(bytes)), 0, Dtype::F32, self.rows, dim);
        let shape = match self.kind {
            Kind::Images { size } => Some(ImageShape { channels: 1, height: size, width: size }),
            Kind::Directions { .. } => None,
        };
        Rows {
            blocks: vec![block],
            shape,
            names: Names::ByBlock,
            classes: if images { vec!["1".to_string(), "2".to_string()] } else { Vec::new() },
            labels: if images { (0..self.rows).map(|r| (r % 2) as u16).collect() } else { Vec::new() },
            test_from: None,
            skipped: Vec::new(),
            variants: None,
            pictures: Vec::new(),
        }
    }
}

/// Mean over the true features of the largest |cos| with any row of the decoder; 1 = all were found. Rows of zeros, or
/// with values that are not finite, match nothing.
///
/// # Shapes
/// `decoder [H, D]`, `truth [features, D]`
///
/// # Panics
/// If the widths differ.
pub fn recovery(decoder: MatRef, truth: MatRef) -> f64 {
    assert_eq!(decoder.cols(), truth.cols(), "decoder and features must be equally wide");
    if truth.rows() == 0 || truth.cols() == 0 {
        return 0.0;
    }
    let decoder_scales = inverse_norms(decoder);
    let truth_scales = inverse_norms(truth);
    // A few true features at a time, so that the decoder passes through the cache once for all of them.
    const TILE: usize = 8;
    let mut best = vec![0.0f64; truth.rows()];
    best.par_chunks_mut(TILE).enumerate().for_each(|(tile, best)| {
        for (h, &scale) in decoder_scales.iter().enumerate() {
            for (t, best) in best.iter_mut().enumerate() {
                let t = tile * TILE + t;
                let cos = f64::from(dot(decoder.row(h), truth.row(t))) * scale * truth_scales[t];
                *best = best.max(cos.abs());
            }
        }
    });
    best.iter().map(|cos| cos.min(1.0)).sum::<f64>() / best.len() as f64
}

/// [`recovery`] by as many random Gaussian directions: what a decoder that learnt nothing would score.
///
/// # Shapes
/// `truth [features, D]`
pub fn recovery_chance(n_decoder: usize, truth: MatRef, seed: u64) -> f64 {
    recovery(gaussian_directions("chance", n_decoder, truth.cols(), seed).view(), truth)
}

fn inverse_norms(rows: MatRef) -> Vec<f64> {
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let scale = |norm: f64| if norm > 0.0 && norm.is_finite() { 1.0 / norm } else { 0.0 };
    (0..rows.rows()).map(|r| scale(norm(rows.row(r)))).collect()
}

/// Sixteen sums side by side: a single one would wait for each addition.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn gaussian_directions(purpose: &str, n: usize, dim: usize, seed: u64) -> Mat {
    let mut mat = Mat::zeros(n, dim);
    mat.data_mut().par_chunks_mut(dim.max(1)).enumerate().for_each(|(i, out)| {
        let mut draw = Draw::new(seed, purpose, i as u64);
        let row: Vec<f64> = (0..dim).map(|_| draw.normal()).collect();
        normalise(&row, out);
    });
    mat
}

fn normalise(row: &[f64], out: &mut [f32]) {
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    out.iter_mut().zip(row).for_each(|(o, v)| *o = (v / norm) as f32);
}

/// Scales the weights to probabilities with the given sum, none above 1.
fn with_sum(mut weights: Vec<f64>, sum: f64) -> Vec<f64> {
    let total = |scale: f64| weights.iter().map(|w| (w * scale).min(1.0)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while total(high) < sum && high < 1e300 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if total(middle) < sum { low = middle } else { high = middle }
    }
    weights.iter_mut().for_each(|w| *w = (*w * high).min(1.0));
    weights
}

// ---- pictures ------------------------------------------------------------------------------------------------------

/// A feature as geometry in the unit square, so that it looks alike at every size.
#[derive(Clone, Copy)]
enum Figure {
    Stroke { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
    Arc { centre: [f64; 2], towards: [f64; 2], radius: f64, cos_half_opening: f64, half_width: f64 },
    Blob { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
}

impl Figure {
    /// `which` in [0, 1) decides between the kinds.
    fn draw(which: f64, draw: &mut Draw) -> Figure {
        let along = draw.direction();
        let mut within = |low: f64, high: f64| low + (high - low) * draw.uniform();
        let centre = [within(0.15, 0.85), within(0.15, 0.85)];
        if which < 0.5 {
            Figure::Stroke { centre, along, half_length: within(0.12, 0.24), half_width: within(0.075, 0.1) }
        } else if which < 0.88 {
            let (radius, cos_half_opening) = (within(0.14, 0.2), within(-0.6, 0.3));
            Figure::Arc { centre, towards: along, radius, cos_half_opening, half_width: within(0.075, 0.1) }
        } else {
            Figure::Blob { centre, along, half_length: within(0.15, 0.22), half_width: within(0.11, 0.15) }
        }
    }

    /// Brightness at a point: 1 on the figure's line, 0 from its half-width on.
    fn at(&self, point: [f64; 2]) -> f64 {
        // The square of the distance in half-widths.
        let squared = match *self {
            Figure::Stroke { centre, along, half_length, half_width } => {
                let (u, v) = coordinates(point, centre, along);
                let beyond = (u.abs() - half_length).max(0.0);
                (beyond * beyond + v * v) / (half_width * half_width)
            }
            Figure::Blob { centre, along, half_length, half_width } => {
                let (u, v) = coordinates(point, centre, along);
                u * u / (half_length * half_length) + v * v / (half_width * half_width)
            }
            Figure::Arc { centre, towards, radius, cos_half_opening, half_width } => {
                let (u, v) = coordinates(point, centre, towards);
                let from_centre = (u * u + v * v).sqrt();
                let distance_squared = if u >= cos_half_opening * from_centre {
                    (from_centre - radius) * (from_centre - radius)
                } else {
                    let sin = (1.0 - cos_half_opening * cos_half_opening).sqrt();
                    let (du, dv) = (u - radius * cos_half_opening, v.abs() - radius * sin);
                    du * du + dv * dv
                };
                distance_squared / (half_width * half_width)
            }
        };
        let inside = (1.0 - squared).max(0.0);
        inside * inside
    }

    fn render(&self, size: usize) -> Vec<f32> {
        let pixel = |i: usize| (i as f64 + 0.5) / size as f64;
        let values: Vec<f64> = (0..size * size).map(|i| self.at([pixel(i % size), pixel(i / size)])).collect();
        let mut out = vec![0.0; size * size];
        normalise(&values, &mut out);
        out
    }
}

/// Coordinates of the point along a unit vector and across it.
fn coordinates(point: [f64; 2], centre: [f64; 2], along: [f64; 2]) -> (f64, f64) {
    let (x, y) = (point[0] - centre[0], point[1] - centre[1]);
    (x * along[0] + y * along[1], y * along[0] - x * along[1])
}

/// Figures drawn one after another, each the least like its predecessors among a few proposals. They are judged at 16
/// pixels whatever the size, so that a seed means the same figures at every size.
fn strokes(n: usize, size: usize, seed: u64) -> Mat {
    const PROPOSALS: u64 = 48;
    const ALIKE: f32 = 0.2;
    let mut chosen: Vec<(Figure, Vec<f32>)> = Vec::with_capacity(n);
    for i in 0..n as u64 {
        // Drawn once: were it open, the choice of the least alike would leave hardly a blob.
        let which = Draw::new(seed, "which figure", i).uniform();
        let mut best: Option<(f32, Figure, Vec<f32>)> = None;
        for proposal in 0..PROPOSALS {
            let figure = Figure::draw(which, &mut Draw::new(seed, "figure", i * PROPOSALS + proposal));
            let picture = figure.render(16);
            let likeness = chosen.iter().map(|(_, other)| dot(&picture, other)).fold(0.0, f32::max);
            if best.as_ref().is_none_or(|(least, ..)| likeness < *least) {
                best = Some((likeness, figure, picture));
            }
            if likeness < ALIKE {
                break;
            }
        }
        let (_, figure, picture) = best.expect("there is at least one proposal");
        chosen.push((figure, picture));
    }
    let mut mat = Mat::zeros(n, size * size);
    mat.data_mut()
        .par_chunks_mut(size * size)
        .zip(&chosen)
        .for_each(|(row, (figure, _))| row.copy_from_slice(&figure.render(size)));
    mat
}

// ---- random numbers ------------------------------------------------------------------------------------------------

/// Random numbers of one thing (a row, a feature), whatever was drawn for others.
struct Draw {
    rng: ChaCha8Rng,
    /// The polar method makes normal numbers in pairs.
    spare: Option<f64>,
}

impl Draw {
    fn new(seed: u64, purpose: &str, index: u64) -> Draw {
        let mut hasher = blake3::Hasher::new_derive_key("vibrissa synthetic 1");
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes()).update(purpose.as_bytes());
        Draw { rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()), spare: None }
    }

    /// In [0, 1), in steps of 2^-53.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A point of the open unit disc other than its centre, and its squared radius.
    fn in_disc(&mut self) -> (f64, f64, f64) {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let squared = x * x + y * y;
            if squared > 0.0 && squared < 1.0 {
                return (x, y, squared);
            }
        }
    }

    fn direction(&mut self) -> [f64; 2] {
        let (x, y, squared) = self.in_disc();
        [x / squared.sqrt(), y / squared.sqrt()]
    }

    /// Standard normal, by Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (x, y, squared) = self.in_disc();
        let scale = (-2.0 * ln(squared) / squared).sqrt();
        self.spare = Some(y * scale);
        x * scale
    }
}

/// Natural logarithm of a positive normal number: the system's own differs between systems in the last bit.
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh s with |s| < 0.172: 2 s^23 / 23 is below the last bit.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let squared = s * s;
    let series = (0..11).rev().fold(0.0, |sum, n| sum * squared + 1.0 / f64::from(2 * n + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

// ---- options -------------------------------------------------------------------------------------------------------

const EXAMPLE: &str = "for example synthetic:kind=directions,rows=20000";

fn bad(key: &str, expected: &str, got: &str) -> Error {
    let got: String = got.escape_debug().take(40).collect();
    Error::option(format!("synthetic:{}", key.escape_debug()), expected, got, EXAMPLE)
}

fn integer(key: &str, value: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    let parsed = value.parse().ok().filter(|n| range.contains(n));
    parsed.ok_or_else(|| bad(key, &format!("a whole number from {} to {}", range.start(), range.end()), value))
}

fn number(key: &str, value: &str, low: f64, high: f64) -> Result<f64> {
    let parsed = value.parse().ok().filter(|v| (low..=high).contains(v));
    parsed.ok_or_else(|| bad(key, &format!("a number from {low} to {high}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rows: &Rows) -> &[u8] {
        rows.blocks[0].rows_bytes(0..rows.blocks[0].rows())
    }

    fn matrix(rows: &Rows) -> Mat {
        let block = &rows.blocks[0];
        let mut mat = Mat::zeros(block.rows(), block.dim());
        (0..block.rows()).for_each(|r| block.read(r, mat.row_mut(r)));
        mat
    }

    #[test]
    fn the_same_rows_whatever_the_number_of_threads() {
        for it in [Synthetic { rows: 301, ..Synthetic::images() }, Synthetic { rows: 301, ..Synthetic::directions() }] {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| (it.rows(), it.features()))
            };
            let (one, five) = (with(1), with(5));
            assert!(all(&one.0) == all(&five.0) && one.1 == five.1);
            let fewer = Synthetic { rows: 100, ..it.clone() }.rows();
            assert!(all(&fewer) == &all(&one.0)[..all(&fewer).len()], "a row depends on its number alone");
            let other = Synthetic { seed: 1, ..it.clone() };
            assert!(all(&other.rows()) != all(&one.0) && other.features() != one.1);
        }
    }

    #[test]
    fn the_same_rows_on_every_machine() {
        let print = |it: Synthetic| blake3::hash(all(&Synthetic { rows: 50, ..it }.rows())).to_hex()[..16].to_string();
        assert_eq!(print(Synthetic::images()), "d3e8f36a86f6c32d");
        assert_eq!(print(Synthetic::directions()), "b916c35e1b853ed8");
    }

    #[test]
    fn logarithm_is_right_to_the_last_bits() {
        for i in 1..100_000 {
            let x = f64::from(i) / 7.0e4;
            assert!((ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().abs().max(1e-3), "{x}");
        }
        assert!((ln(1e-300) - 1e-300f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut draw = Draw::new(3, "test", 0);
        let n = 400_000;
        let sample: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
        let moment = |k: i32| sample.iter().map(|v| v.powi(k)).sum::<f64>() / f64::from(n);
        assert!(moment(1).abs() < 0.006 && (moment(2) - 1.0).abs() < 0.01);
        assert!(moment(3).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.06);
    }

    #[test]
    fn features_have_unit_norm() {
        for it in [Synthetic::images(), Synthetic::directions(), Synthetic::parse("synthetic:size=40").unwrap()] {
            let features = it.features();
            assert_eq!((features.rows(), features.cols()), (it.features, it.dim()));
            for i in 0..features.rows() {
                let norm: f64 = features.row(i).iter().map(|&v| f64::from(v).powi(2)).sum();
                assert!((norm - 1.0).abs() < 1e-5, "feature {i}: {norm}");
            }
        }
    }

    #[test]
    fn strokes_are_local_and_unlike_one_another() {
        for seed in 0..5 {
            let features = Synthetic { seed, ..Synthetic::images() }.features();
            let mut sum = 0.0;
            for i in 0..64 {
                let lit = features.row(i).iter().filter(|&&v| v > 0.0).count();
                assert!((8..110).contains(&lit), "feature {i} covers {lit} of 256 pixels");
                sum += (0..64).filter(|&j| j != i).map(|j| dot(features.row(i), features.row(j))).fold(0.0, f32::max);
            }
            assert!(sum / 64.0 < 0.45, "mean of the largest |cos|: {}", sum / 64.0);
        }
    }

    #[test]
    fn probabilities_sum_to_active_and_never_exceed_one() {
        for (active, features) in [(6.0, 64), (60.0, 64), (64.0, 64), (0.5, 3)] {
            for class in 0..2 {
                let p = Synthetic { active, features, z: 2.0, ..Synthetic::images() }.probabilities(class);
                assert!((p.iter().sum::<f64>() - active).abs() < 1e-6 && p.iter().all(|&p| p <= 1.0 + 1e-12));
            }
        }
    }

    #[test]
    fn directions_are_used_as_often_as_asked_and_sum_to_the_rows() {
        // With no more features than dimensions their coefficients can be read off again.
        let it = Synthetic::parse("synthetic:kind=directions,features=16,dim=512,rows=4000,active=3,z=1").unwrap();
        let (features, rows) = (it.features(), matrix(&it.rows()));
        let gram = faer::Mat::from_fn(16, 16, |i, j| f64::from(dot(features.row(i), features.row(j))));
        let solver = faer::linalg::solvers::PartialPivLu::new(gram.as_ref());
        let mut used = [0usize; 16];
        let (mut amplitude, mut amplitude2) = (0.0, 0.0);
        for r in 0..rows.rows() {
            let projected = faer::Mat::from_fn(16, 1, |i, _| f64::from(dot(rows.row(r), features.row(i))));
            let coefficients = faer::linalg::solvers::Solve::solve(&solver, &projected);
            for i in 0..16 {
                let a = coefficients[(i, 0)];
                if a > 1e-3 {
                    used[i] += 1;
                    (amplitude, amplitude2) = (amplitude + a, amplitude2 + a * a);
                } else {
                    assert!(a.abs() < 1e-4, "row {r} holds {a} of feature {i}");
                }
            }
        }
        let total: usize = used.iter().sum();
        assert!((total as f64 / 4000.0 - 3.0).abs() < 0.08, "mean L0 {}", total as f64 / 4000.0);
        for (i, (&used, p)) in used.iter().zip(it.probabilities(0)).enumerate() {
            let deviation = (p * (1.0 - p) / 4000.0).sqrt();
            assert!((used as f64 / 4000.0 - p).abs() < 4.5 * deviation + 1e-9, "feature {i}: {used} of 4000, p {p}");
        }
        let mean = amplitude / total as f64;
        let sd = (amplitude2 / total as f64 - mean * mean).sqrt();
        assert!((mean - 1.0).abs() < 0.01 && (sd - 0.25).abs() < 0.01, "amplitude {mean} ± {sd}");
    }

    #[test]
    fn images_are_seldom_clipped_balanced_and_told_apart_by_their_own_features() {
        let it = Synthetic::images();
        let (features, rows) = (it.features(), it.rows());
        let pixels = matrix(&rows);
        let clipped = pixels.data().iter().filter(|&&v| v <= 0.0 || v >= 1.0).count() as f64;
        assert!(clipped / (pixels.data().len() as f64) < 0.005, "{} pixels clipped", clipped);
        assert!(pixels.data().iter().all(|v| (0.0..=1.0).contains(v)));
        assert_eq!(rows.classes, ["1", "2"]);
        assert_eq!(rows.labels.iter().filter(|&&label| label == 0).count(), 2000);
        assert_eq!(rows.shape.unwrap().dim(), 256);
        let mean_of = |feature: usize, class: u16| {
            let own = (0..4000).filter(|&r| rows.labels[r] == class);
            own.map(|r| f64::from(dot(pixels.row(r), features.row(feature)))).sum::<f64>() / 2000.0
        };
        let lead = |own: usize| (0..64).filter(|i| i % 4 == own).map(|i| mean_of(i, 0) - mean_of(i, 1)).sum::<f64>();
        // Overlapping figures blur the means, so the margin is half of what the smaller one was found to be.
        assert!(lead(0) > 0.45 && lead(1) < -0.45, "{} {}", lead(0), lead(1));
        let (one, two) = (it.probabilities(0), it.probabilities(1));
        assert!(one[0] > 10.0 * two[0] && two[1] > 10.0 * one[1] && (one[2] / two[2] - 1.0).abs() < 0.2);
    }

    #[test]
    fn recovery_is_one_for_the_truth_in_any_order_sign_and_length() {
        let truth = Synthetic { features: 40, ..Synthetic::directions() }.features();
        let shuffled: Vec<f32> =
            (0..40).rev().flat_map(|i| truth.row(i).iter().map(move |v| v * (i as f32 - 19.5) * 3.0)).collect();
        let found = recovery(Mat::from_vec(40, 256, shuffled).view(), truth.view());
        assert!((found - 1.0).abs() < 1e-6, "{found}");
    }

    #[test]
    fn recovery_of_half_the_features_and_of_none() {
        let truth = Mat::from_vec(2, 2, vec![1.0, 0.0, 0.0, 2.0]);
        let half = Mat::from_vec(3, 2, vec![0.0, -5.0, 0.0, 0.0, f32::NAN, 1.0]);
        assert_eq!(recovery(half.view(), truth.view()), 0.5);
        assert_eq!(recovery(Mat::zeros(4, 2).view(), truth.view()), 0.0);
        assert_eq!(recovery(Mat::zeros(0, 2).view(), truth.view()), 0.0);
        assert_eq!(recovery(truth.view(), Mat::zeros(1, 2).view()), 0.0);
        assert_eq!(recovery(truth.view(), Mat::zeros(0, 2).view()), 0.0);
    }

    #[test]
    fn recovery_by_chance_is_the_expected_largest_cosine() {
        let truth = Synthetic { features: 200, ..Synthetic::directions() }.features();
        // The largest of n |normal| / sqrt(D), n = 1000, D = 256: about 3.4 / 16.
        let chance = recovery_chance(1000, truth.view(), 0);
        assert!((0.19..0.23).contains(&chance), "{chance}");
        assert_eq!(chance, recovery_chance(1000, truth.view(), 0));
    }

    #[test]
    fn spec_without_options_is_the_default() {
        assert_eq!(Synthetic::parse("synthetic").unwrap(), Synthetic::images());
        assert_eq!(Synthetic::parse("synthetic:").unwrap(), Synthetic::images());
        assert_eq!(Synthetic::parse("synthetic:kind=directions").unwrap(), Synthetic::directions());
    }

    #[test]
    fn spec_sets_every_option() {
        let it = Synthetic::parse("synthetic:dim=9,kind=directions, rows=5,features=7,active=2.5,noise=.1,z=0,seed=3");
        let kind = Kind::Directions { dim: 9 };
        let expected = Synthetic { kind, rows: 5, features: 7, active: 2.5, noise: 0.1, z: 0.0, seed: 3 };
        assert_eq!(it.unwrap(), expected);
    }

    #[test]
    fn spec_with_a_bad_key_or_value() {
        for (spec, expected) in [
            ("mnist", "data: expected synthetic"),
            ("synthetics", "data: expected synthetic"),
            ("synthetic:rows", "synthetic:rows: expected KEY=VALUE"),
            ("synthetic:row=3", "expected one of kind, rows, features, active, noise, z, seed, size, got row"),
            ("synthetic:kind=directions,size=3", "seed, dim, got size"),
            ("synthetic:kind=photos", "synthetic:kind: expected images or directions, got photos"),
            ("synthetic:rows=3,rows=4", "synthetic:rows: expected one value, got two"),
            ("synthetic:rows=0", "synthetic:rows: expected a whole number from 1"),
            ("synthetic:rows=4294967296", "synthetic:rows: expected at most 67108864 of 256 values"),
            ("synthetic:rows=99999999999999999999", "expected a whole number"),
            ("synthetic:size=7", "from 8 to 256, got 7"),
            ("synthetic:features=5", "synthetic:active: expected at most features = 5, got 6"),
            ("synthetic:kind=directions,features=1048576,dim=65536", "synthetic:features: expected at most"),
            ("synthetic:noise=nan", "synthetic:noise: expected a number from 0 to 1, got nan"),
            ("synthetic:active=inf", "synthetic:active: expected a number"),
            ("synthetic:seed=-1", "synthetic:seed: expected a whole number"),
            ("synthetic:a\nb=1", "got a\\nb"),
        ] {
            let message = Synthetic::parse(spec).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{spec}: {message}");
        }
    }
}
