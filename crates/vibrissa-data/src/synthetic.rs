//! Rows made of known features, to see whether training finds them again: small pictures or random directions. Nothing
//! is read from disk, and no global stream of random numbers exists: row r is drawn from (seed, r) alone.
//!
//! A row is `background + Σ_i a_i · feature_i + noise`, with few a_i ≠ 0 (`synthetic/firing.rs` says which). Everything but
//! the frequencies of a chosen exponent is additions, multiplications, divisions and square roots, which every machine
//! rounds alike, so the same seed gives the same bits everywhere.

mod draw;
mod firing;
mod strokes;

use super::block::{Block, Bytes, Dtype};
use super::rows::{ImageShape, Names, Rows};
use draw::Draw;
pub use firing::Firing;
use rayon::prelude::*;
use std::sync::Arc;
use strokes::strokes;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::Mat;

/// Brightness of an empty picture: six standard deviations of the default noise above black, so that nothing is clipped.
const BACKGROUND: f64 = 0.12;

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
    /// `z`: feature i is used with probability ∝ (i + 1)^-z, at most 1 (0.3; 0.5), in [0, 4].
    pub z: f64,
    /// `correlation` of directions: how strongly features of one factor fire together (0), in [0, 0.99].
    pub correlation: f64,
    /// `factors` of that (16): feature i belongs to factor i mod `factors`.
    pub factors: usize,
    /// `parents` of directions: so many features that others need in order to fire (0: none do); feature i to i mod `parents`.
    pub parents: usize,
    /// `seed` (0).
    pub seed: u64,
}

impl Synthetic {
    /// The pictures that are trained on when nothing else is named.
    pub fn images() -> Synthetic {
        let kind = Kind::Images { size: 16 };
        Synthetic {
            kind,
            rows: 4000,
            features: 64,
            active: 6.0,
            noise: 0.02,
            z: 0.3,
            correlation: 0.0,
            factors: 16,
            parents: 0,
            seed: 0,
        }
    }

    /// Directions as in the toy models of superposition.
    pub fn directions() -> Synthetic {
        let kind = Kind::Directions { dim: 256 };
        Synthetic {
            kind,
            rows: 20_000,
            features: 1024,
            active: 8.0,
            noise: 0.0,
            z: 0.5,
            correlation: 0.0,
            factors: 16,
            parents: 0,
            seed: 0,
        }
    }

    /// Whether data named like this is synthetic.
    pub fn named(spec: &str) -> bool {
        spec == "synthetic" || spec.starts_with("synthetic:")
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
                ("correlation", Kind::Directions { .. }) => it.correlation = number(key, value, 0.0, 0.99)?,
                ("factors", Kind::Directions { .. }) => it.factors = integer(key, value, 1..=1 << 20)?,
                ("parents", Kind::Directions { .. }) => it.parents = integer(key, value, 0..=1 << 20)?,
                ("seed", _) => it.seed = integer(key, value, 0..=usize::MAX)? as u64,
                (_, kind) => {
                    let images = matches!(kind, Kind::Images { .. });
                    let own = if images { "size" } else { "dim, correlation, factors, parents" };
                    let keys = format!("one of kind, rows, features, active, noise, z, seed, {own}");
                    return Err(bad("KEY", &keys, key));
                }
            }
        }
        if it.active > it.features as f64 {
            let most = format!("at most features = {}", it.features);
            return Err(bad("active", &most, &it.active.to_string()));
        }
        for (key, count) in [("factors", it.factors), ("parents", it.parents)] {
            if count > it.features && (key == "parents" || it.correlation > 0.0) {
                return Err(bad(key, &format!("at most features = {}", it.features), &count.to_string()));
            }
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

    /// The rows as pictures.
    pub fn shape(&self) -> Option<ImageShape> {
        match self.kind {
            Kind::Images { size } => Some(ImageShape { channels: 1, height: size, width: size }),
            Kind::Directions { .. } => None,
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

    /// Which features each row is made of.
    pub fn firing(&self) -> Firing {
        Firing::new(self)
    }

    /// The rows: in parallel, yet the same whatever the number of threads. Pictures are of class `1` and `2` in turn.
    pub fn rows(&self) -> Rows {
        let (dim, images) = (self.dim(), matches!(self.kind, Kind::Images { .. }));
        let (features, firing) = (self.features(), self.firing());
        let (background, contrast) = match self.kind {
            // A unit vector over more pixels is dimmer in each of them.
            Kind::Images { size } => (BACKGROUND, size as f64 / 16.0),
            Kind::Directions { .. } => (0.0, 1.0),
        };
        let mut bytes = vec![0u8; self.rows * dim * 4];
        bytes.par_chunks_mut(dim * 4).enumerate().for_each_init(
            || (vec![0.0f64; dim], Vec::new()),
            |(row, fires), (r, out)| {
                row.fill(background);
                let mut draw = firing.begin(r, fires);
                for &(i, amplitude) in fires.iter() {
                    let amplitude = contrast * amplitude;
                    row.iter_mut().zip(features.row(i as usize)).for_each(|(v, &f)| *v += amplitude * f64::from(f));
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
        Rows {
            blocks: vec![block],
            shape: self.shape(),
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

/// Directions drawn uniformly.
///
/// # Shapes
/// `[n, dim]`, each of unit norm
pub fn gaussian_directions(purpose: &str, n: usize, dim: usize, seed: u64) -> Mat {
    let mut mat = Mat::zeros(n, dim);
    mat.data_mut().par_chunks_mut(dim.max(1)).enumerate().for_each(|(i, out)| {
        let mut draw = Draw::new(seed, purpose, i as u64);
        let row: Vec<f64> = (0..dim).map(|_| draw.normal()).collect();
        normalise(&row, out);
    });
    mat
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

fn normalise(row: &[f64], out: &mut [f32]) {
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    out.iter_mut().zip(row).for_each(|(o, v)| *o = (v / norm) as f32);
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
