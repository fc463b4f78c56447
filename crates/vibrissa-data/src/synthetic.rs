//! Synthetic rows made of known features (small images or random directions), to measure how well training recovers
//! them. Nothing is read from disk. Row r depends on (seed, r) alone.
//!
//! A row is `background + Σ_i a_i · feature_i + noise`, with few a_i ≠ 0, which `synthetic/firing.rs` samples. Except
//! for the powers in the features' probabilities, all arithmetic is additions, multiplications, divisions and square
//! roots, which every machine rounds alike, so that the same seed gives the same bits everywhere.

mod firing;
mod strokes;

use crate::block::{Block, Bytes, Dtype};
use crate::rows::{LoadedRows, RowNames};
pub use firing::Firing;
use rayon::prelude::*;
use std::sync::Arc;
use strokes::strokes;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::Mat;
use vibrissa_core::random::Stream;
use vibrissa_core::shape::ImageShape;

/// Brightness of an image without features: six standard deviations of the default noise, so that nothing is clipped.
const BACKGROUND: f64 = 0.12;

/// Largest size of the rows, and of the features, in bytes. It prevents a mistyped number from exhausting memory.
const MAX_BYTES: usize = 1 << 36;

/// The kind of synthetic rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntheticKind {
    /// Grey images of strokes, arcs and blobs, of two classes that use them with different probabilities.
    Images {
        /// Height and width in pixels; default 16, range 8–256.
        size: usize,
    },
    /// Gaussian unit directions, without classes.
    Directions {
        /// Number of values of a row; default 256, range 1–65536.
        dim: usize,
    },
}

/// A generator of rows with known features; written `synthetic:KEY=VALUE,...`.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// Kind of rows (key `kind`: `images`, the default, or `directions`), with its size (key `size` or `dim`).
    pub kind: SyntheticKind,
    /// Number of rows (`rows`); default 4000 images or 20000 directions.
    pub rows: usize,
    /// Number of features (`features`); default 64 for images, 1024 for directions.
    pub features: usize,
    /// Mean number of features of a row (`active`), in (0, features]; default 6 for images, 8 for directions.
    pub active: f64,
    /// Standard deviation of the Gaussian noise on each value (`noise`), in [0, 1]; default 0.02 for images, 0 for
    /// directions.
    pub noise: f64,
    /// Exponent of the frequencies (`z`), in [0, 4]: feature i is used with probability ∝ (i + 1)^-z, at most 1;
    /// default 0.3 for images, 0.5 for directions.
    pub z: f64,
    /// Directions only: correlation of the features of one factor (`correlation`), in [0, 0.99]; default 0.
    pub correlation: f64,
    /// Directions only: number of factors (`factors`); feature i belongs to factor i mod `factors`; default 16.
    pub factors: usize,
    /// Directions only: number of parent features (`parents`); feature i fires only where feature i mod `parents` does;
    /// default 0: no feature needs another one.
    pub parents: usize,
    /// Seed of the random numbers (`seed`); default 0.
    pub seed: u64,
}

impl Synthetic {
    /// Returns the default images.
    pub fn images() -> Synthetic {
        let kind = SyntheticKind::Images { size: 16 };
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

    /// Returns the default directions, as in toy models of superposition (Elhage et al. 2022).
    pub fn directions() -> Synthetic {
        let kind = SyntheticKind::Directions { dim: 256 };
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

    /// Returns true if `spec` names synthetic data.
    pub fn is_synthetic(spec: &str) -> bool {
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
        let mut out = match pairs.iter().find(|(key, _)| *key == "kind").map(|(_, value)| *value) {
            None | Some("images") => Synthetic::images(),
            Some("directions") => Synthetic::directions(),
            Some(other) => return Err(bad("kind", "images or directions", other)),
        };
        for (key, value) in pairs {
            match (key, &mut out.kind) {
                ("kind", _) => {}
                ("size", SyntheticKind::Images { size }) => *size = integer(key, value, 8..=256)?,
                ("dim", SyntheticKind::Directions { dim }) => *dim = integer(key, value, 1..=65_536)?,
                // Each image is compared with all earlier ones, which takes quadratic time.
                ("features", SyntheticKind::Images { .. }) => out.features = integer(key, value, 1..=1024)?,
                ("features", SyntheticKind::Directions { .. }) => out.features = integer(key, value, 1..=1 << 20)?,
                ("rows", _) => out.rows = integer(key, value, 1..=1 << 32)?,
                ("active", _) => out.active = number(key, value, 1e-3, 1e6)?,
                ("noise", _) => out.noise = number(key, value, 0.0, 1.0)?,
                ("z", _) => out.z = number(key, value, 0.0, 4.0)?,
                ("correlation", SyntheticKind::Directions { .. }) => out.correlation = number(key, value, 0.0, 0.99)?,
                ("factors", SyntheticKind::Directions { .. }) => out.factors = integer(key, value, 1..=1 << 20)?,
                ("parents", SyntheticKind::Directions { .. }) => out.parents = integer(key, value, 0..=1 << 20)?,
                ("seed", _) => out.seed = integer(key, value, 0..=usize::MAX)? as u64,
                (_, kind) => {
                    let images = matches!(kind, SyntheticKind::Images { .. });
                    let of_kind = if images { "size" } else { "dim, correlation, factors, parents" };
                    let keys = format!("one of kind, rows, features, active, noise, z, seed, {of_kind}");
                    return Err(bad("KEY", &keys, key));
                }
            }
        }
        if out.active > out.features as f64 {
            let most = format!("at most features = {}", out.features);
            return Err(bad("active", &most, &out.active.to_string()));
        }
        for (key, count) in [("factors", out.factors), ("parents", out.parents)] {
            if count > out.features && (key == "parents" || out.correlation > 0.0) {
                return Err(bad(key, &format!("at most features = {}", out.features), &count.to_string()));
            }
        }
        for (key, count) in [("rows", out.rows), ("features", out.features)] {
            if count.checked_mul(4 * out.dim()).is_none_or(|bytes| bytes > MAX_BYTES) {
                let most = format!("at most {} of {} values", MAX_BYTES / (4 * out.dim()), out.dim());
                return Err(bad(key, &most, &count.to_string()));
            }
        }
        Ok(out)
    }

    /// Returns the number of values of a row.
    pub fn dim(&self) -> usize {
        match self.kind {
            SyntheticKind::Images { size } => size * size,
            SyntheticKind::Directions { dim } => dim,
        }
    }

    /// Returns the shape of the rows, where they are images.
    pub fn shape(&self) -> Option<ImageShape> {
        match self.kind {
            SyntheticKind::Images { size } => Some(ImageShape { channels: 1, height: size, width: size }),
            SyntheticKind::Directions { .. } => None,
        }
    }

    /// Returns the features that the rows are made of, each of unit norm.
    ///
    /// # Shapes
    /// `[features, dim]`
    pub fn features(&self) -> Mat {
        match self.kind {
            SyntheticKind::Images { size } => strokes(self.features, size, self.seed),
            SyntheticKind::Directions { dim } => gaussian_directions("direction", self.features, dim, self.seed),
        }
    }

    /// Returns the sampler of the features of each row.
    pub fn firing(&self) -> Firing {
        Firing::new(self)
    }

    /// Makes the rows in parallel; they do not depend on the number of threads. Images have the classes `1` and `2` in
    /// turn.
    pub fn rows(&self) -> LoadedRows {
        let (dim, images) = (self.dim(), matches!(self.kind, SyntheticKind::Images { .. }));
        let (features, firing) = (self.features(), self.firing());
        let (background, contrast) = match self.kind {
            // The values of a unit vector over more pixels are smaller.
            SyntheticKind::Images { size } => (BACKGROUND, size as f64 / 16.0),
            SyntheticKind::Directions { .. } => (0.0, 1.0),
        };
        let mut bytes = vec![0u8; self.rows * dim * 4];
        bytes.par_chunks_mut(dim * 4).enumerate().for_each_init(
            || (vec![0.0f64; dim], Vec::new()),
            |(row, fires), (r, out)| {
                row.fill(background);
                let mut stream = firing.sample(r, fires);
                for &(i, amplitude) in fires.iter() {
                    let amplitude = contrast * amplitude;
                    row.iter_mut().zip(features.row(i as usize)).for_each(|(v, &f)| *v += amplitude * f64::from(f));
                }
                if self.noise > 0.0 {
                    row.iter_mut().for_each(|v| *v += self.noise * stream.paired_normal());
                }
                if images {
                    row.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
                }
                let (out, _) = out.as_chunks_mut::<4>();
                out.iter_mut().zip(row).for_each(|(o, v)| *o = (*v as f32).to_le_bytes());
            },
        );
        let block = Block::new("synthetic".to_string(), Bytes::Owned(Arc::new(bytes)), 0, Dtype::F32, self.rows, dim);
        LoadedRows {
            blocks: vec![block],
            shape: self.shape(),
            names: RowNames::ByBlock,
            classes: if images { vec!["1".to_string(), "2".to_string()] } else { Vec::new() },
            labels: if images { (0..self.rows).map(|r| (r % 2) as u16).collect() } else { Vec::new() },
            test_from: None,
            skipped: Vec::new(),
            variants: None,
            working_images: Vec::new(),
        }
    }
}

/// The random numbers of one row or feature, in a domain of their own: training may use the same seed.
fn row_stream(seed: u64, purpose: &str, index: u64) -> Stream {
    Stream::in_domain("vibrissa synthetic 1", &[seed, index], purpose)
}

/// Returns directions that are uniform on the sphere.
///
/// # Shapes
/// `[n, dim]`, each of unit norm
pub fn gaussian_directions(purpose: &str, n: usize, dim: usize, seed: u64) -> Mat {
    let mut mat = Mat::zeros(n, dim);
    mat.data_mut().par_chunks_mut(dim.max(1)).enumerate().for_each(|(i, out)| {
        let mut stream = row_stream(seed, purpose, i as u64);
        let row: Vec<f64> = (0..dim).map(|_| stream.paired_normal()).collect();
        normalise(&row, out);
    });
    mat
}

/// Returns the dot product, by sixteen independent sums: a single one would wait for each addition.
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
