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
use crate::random::ln;
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
mod tests;
