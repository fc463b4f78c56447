//! How well rows are reconstructed and how sparsely: accumulators over rows, overall and by class. No data loading, no
//! models, no records: whoever evaluates hands in rows and copies the [`Summary`] into its record.
//!
//! All sums are f64 and taken in row order, so neither the batch size of the caller's threads nor their number changes
//! a bit of the result; only [`Evaluation::merge`] and another batching of the same rows may change the last digits.

pub mod perceptual;
mod row;
mod ssim;

pub use row::{CONSTANT, ENTROPY_CLIP, PSNR_CAP, RowMetrics, cross_entropy, psnr, row_metrics};
pub use ssim::{Ssim, WINDOW};

use crate::matrix::MatRef;
use crate::shape::ImageShape;
use perceptual::{Bank, Scratch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Columns a task of the column sums takes at once.
const COLUMN_CHUNK: usize = 512;
/// A latent is rare when it is active in fewer than one of this many rows.
const RARE: u64 = 1000;

/// Mean of the values that are finite; `None` without any.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    let (n, sum) = finite.fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    (n > 0).then(|| sum / n as f64)
}

/// The metrics of a set of rows; `None` where undefined (no rows, no pictures, no latents, no variance).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Rows evaluated.
    pub rows: u64,
    /// Mean over rows of Pearson's r between row and reconstruction (0 for constant rows).
    pub pearson: Option<f64>,
    /// Mean squared error per element.
    pub mse: Option<f64>,
    /// `Σ‖x - recon‖² / Σ‖x - mean(x)‖²`, the mean by column over these very rows (a class: over the class).
    pub fvu: Option<f64>,
    /// Mean over rows of the cosine between row and reconstruction.
    pub cosine: Option<f64>,
    /// Mean over rows of SSIM ([`Ssim::mean`]); `None` unless rows are pictures of at least 11×11 pixels.
    pub ssim: Option<f64>,
    /// Mean over rows of the perceptual distance ([`perceptual`]; lower is better); `None` unless rows are pictures.
    pub perceptual: Option<f64>,
    /// Mean over rows of the binary cross-entropy of an element, in nats ([`cross_entropy`]); `None` unless rows are pictures
    /// or the model's output is a sigmoid.
    pub cross_entropy: Option<f64>,
    /// Mean over rows of the PSNR in dB ([`RowMetrics::psnr`], at most [`PSNR_CAP`] a row).
    pub psnr: Option<f64>,
    /// Mean number of latents ≠ 0 a row.
    pub l0: Option<f64>,
    /// `l0 / latents`.
    pub l0_fraction: Option<f64>,
    /// Latents never active on these rows.
    pub dead_latents: Option<u64>,
    /// Latents active in fewer than 1 of 1,000 of these rows, dead ones included.
    pub rare_latents: Option<u64>,
    /// H.
    pub latents: Option<u64>,
    /// Rows where `x` or `recon` is constant, whose Pearson r counts as 0.
    pub constant_rows: u64,
    /// How often the latents are active.
    pub density: Option<Density>,
}

/// Histogram of the latents' activation frequency (rows active / rows) on a logarithmic axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Density {
    /// log10 of the lower edge of the first bucket.
    pub log10_from: i32,
    /// Buckets a decade; bucket i covers log10 frequencies from `log10_from + i / per_decade`.
    pub per_decade: u32,
    /// Latents by bucket: lower frequencies count in the first, frequency 1 in the last.
    pub counts: Vec<u64>,
    /// Latents never active.
    pub never: u64,
}

impl Density {
    const DECADES: i32 = 6;
    const PER_DECADE: u32 = 10;

    /// The histogram of latents that were active in `active[h]` of `rows` rows.
    pub fn new(active: &[u64], rows: u64) -> Density {
        let buckets = Self::DECADES as usize * Self::PER_DECADE as usize;
        let mut density =
            Density { log10_from: -Self::DECADES, per_decade: Self::PER_DECADE, counts: vec![0; buckets], never: 0 };
        for &n in active {
            if n == 0 {
                density.never += 1;
                continue;
            }
            // The tiny push keeps 1/10, 1/100, … in the bucket they open on every platform's log10.
            let log10 = (n as f64 / rows as f64).log10() + f64::from(Self::DECADES);
            let bucket = (log10 * f64::from(Self::PER_DECADE) + 1e-9).floor().max(0.0) as usize;
            density.counts[bucket.min(buckets - 1)] += 1;
        }
        density
    }
}

/// What one row adds to the sums, computed in parallel before it is added in row order.
#[derive(Clone, Copy, Default)]
struct Contribution {
    row: RowMetrics,
    ssim: f64,
    perceptual: f64,
    cross_entropy: f64,
    distance: f64,
}

/// The sums of one class. Vectors stay empty until the first row: a thousand classes cost memory only when they occur.
#[derive(Clone, Debug, Default)]
struct Group {
    rows: u64,
    pearson: f64,
    mse: f64,
    residual: f64,
    cosine: f64,
    ssim: f64,
    perceptual: f64,
    cross_entropy: f64,
    psnr: f64,
    constant_rows: u64,
    /// The first row: sums are taken around it, so that a large mean costs no digits. `[D]`
    origin: Vec<f32>,
    /// Σ (x - origin). `[D]`
    sum: Vec<f64>,
    /// Σ ‖x - origin‖².
    distance: f64,
    latent_rows: u64,
    active_total: u64,
    /// Rows in which each latent is ≠ 0. `[H]`
    active: Vec<u32>,
}

impl Group {
    fn add(&mut self, c: &Contribution) {
        self.rows += 1;
        self.pearson += c.row.pearson;
        self.mse += c.row.mse;
        self.residual += c.row.residual;
        self.cosine += c.row.cosine;
        self.ssim += c.ssim;
        self.perceptual += c.perceptual;
        self.cross_entropy += c.cross_entropy;
        self.psnr += c.row.psnr;
        self.constant_rows += u64::from(c.row.constant);
        self.distance += c.distance;
    }

    fn merge(&mut self, other: &Group) {
        if self.origin.is_empty() {
            self.origin.clone_from(&other.origin);
            self.sum.clone_from(&other.sum);
            self.distance = other.distance;
        } else if !other.origin.is_empty() {
            let n = other.rows as f64;
            self.distance += other.distance;
            for j in 0..self.sum.len() {
                let shift = f64::from(other.origin[j]) - f64::from(self.origin[j]);
                self.distance += shift * (2.0 * other.sum[j] + n * shift);
                self.sum[j] += other.sum[j] + n * shift;
            }
        }
        self.rows += other.rows;
        self.pearson += other.pearson;
        self.mse += other.mse;
        self.residual += other.residual;
        self.cosine += other.cosine;
        self.ssim += other.ssim;
        self.perceptual += other.perceptual;
        self.cross_entropy += other.cross_entropy;
        self.psnr += other.psnr;
        self.constant_rows += other.constant_rows;
        self.latent_rows += other.latent_rows;
        self.active_total += other.active_total;
        if self.active.is_empty() {
            self.active.clone_from(&other.active);
        } else if !other.active.is_empty() {
            self.active.iter_mut().zip(&other.active).for_each(|(a, b)| *a += b);
        }
    }

    /// Σ‖x - mean‖² of the group's own rows.
    fn scatter(&self) -> f64 {
        if self.rows == 0 {
            return 0.0;
        }
        let squared: f64 = self.sum.iter().map(|s| s * s).sum();
        let scatter = self.distance - squared / self.rows as f64;
        // Not `max`, which would turn a NaN into 0.
        if scatter < 0.0 { 0.0 } else { scatter }
    }

    fn mean(&self, j: usize) -> f64 {
        f64::from(self.origin[j]) + self.sum[j] / self.rows as f64
    }
}

/// Accumulates the metrics of rows and their reconstructions, overall and by class, in one pass.
///
/// ```
/// use vibrissa::{matrix::Mat, metrics::Evaluation};
/// let x = Mat::from_vec(2, 3, vec![0.0, 0.5, 1.0, 1.0, 0.5, 0.0]);
/// let mut evaluation = Evaluation::new(3, 0, None, 8);
/// evaluation.add(x.view(), x.view(), &[]);
/// evaluation.count_latents(None, &[1, 7], &[0.5, 0.0]);
/// let overall = evaluation.overall();
/// assert_eq!((overall.pearson, overall.fvu, overall.l0), (Some(1.0), Some(0.0), Some(1.0)));
/// ```
#[derive(Clone, Debug)]
pub struct Evaluation {
    dim: usize,
    latents: usize,
    ssim: Option<Ssim>,
    bank: Option<Bank>,
    entropy: bool,
    /// One a class, and a last one for rows without a label.
    groups: Vec<Group>,
}

impl Evaluation {
    /// Nothing added yet: rows of `dim` values, labels below `classes` (0 = no classes), pictures of `shape` if rows
    /// are pictures, `latents` latents (0 = none are counted).
    ///
    /// # Panics
    /// If `shape` does not have `dim` values.
    pub fn new(dim: usize, classes: usize, shape: Option<ImageShape>, latents: usize) -> Evaluation {
        assert!(shape.is_none_or(|s| s.dim() == dim), "the shape has the width of the rows");
        let (ssim, bank) = (shape.and_then(Ssim::new), shape.filter(|s| s.dim() > 0).map(|s| Bank::new(s, 1.0)));
        let entropy = bank.is_some();
        Evaluation { dim, latents, ssim, bank, entropy, groups: vec![Group::default(); classes + 1] }
    }

    /// With the cross-entropy also of rows that are no pictures.
    pub fn with_cross_entropy(mut self, also: bool) -> Evaluation {
        self.entropy |= also;
        self
    }

    /// Adds a batch of rows and their reconstructions; `labels` has one class a row, or is empty (rows then count
    /// overall only). Rows are worked on in the current rayon pool.
    ///
    /// # Shapes
    /// `x [B, D]`, `recon [B, D]`, `labels [B]` or `[0]`.
    ///
    /// # Panics
    /// If a shape differs, or a label is not below `classes`.
    pub fn add(&mut self, x: MatRef<'_>, recon: MatRef<'_>, labels: &[u16]) {
        assert_eq!((x.rows(), x.cols()), (recon.rows(), recon.cols()), "rows and reconstructions have one shape");
        self.add_rows(x, |b| recon.row(b), labels);
    }

    /// As [`Evaluation::add`] with the same reconstruction for every row: the mean of the training rows is the
    /// baseline that a model has to beat.
    ///
    /// # Shapes
    /// `x [B, D]`, `recon [D]`, `labels [B]` or `[0]`.
    ///
    /// # Panics
    /// If a shape differs, or a label is not below `classes`.
    pub fn add_against(&mut self, x: MatRef<'_>, recon: &[f32], labels: &[u16]) {
        assert_eq!(recon.len(), self.dim, "the reconstruction has the width of the rows");
        self.add_rows(x, |_| recon, labels);
    }

    fn add_rows<'a>(&mut self, x: MatRef<'_>, recon: impl Fn(usize) -> &'a [f32] + Sync, labels: &[u16]) {
        assert_eq!(x.cols(), self.dim, "rows have the width of the evaluation");
        assert!(labels.is_empty() || labels.len() == x.rows(), "one label a row, or none");
        let groups: Vec<usize> = (0..x.rows()).map(|b| self.group_of(labels.get(b).copied())).collect();
        for (b, &g) in groups.iter().enumerate() {
            let group = &mut self.groups[g];
            if group.sum.is_empty() {
                group.origin = x.row(b).to_vec();
                group.sum = vec![0.0; self.dim];
            }
        }
        let mut contributions = vec![Contribution::default(); x.rows()];
        let (known, template, bank, entropy) = (&self.groups, &self.ssim, &self.bank, self.entropy);
        contributions.par_iter_mut().enumerate().with_min_len(8).for_each_init(
            || (template.clone(), Scratch::default()),
            |(ssim, scratch), (b, out)| {
                let (row, recon) = (x.row(b), recon(b));
                *out = Contribution {
                    row: row_metrics(row, recon),
                    ssim: ssim.as_mut().map_or(0.0, |s| s.mean(row, recon)),
                    perceptual: bank.as_ref().map_or(0.0, |bank| bank.distance(row, recon, scratch)),
                    cross_entropy: if entropy { cross_entropy(row, recon) } else { 0.0 },
                    distance: row::squared_distance(row, &known[groups[b]].origin),
                };
            },
        );
        self.add_columns(x, &groups);
        for (&g, c) in groups.iter().zip(&contributions) {
            self.groups[g].add(c);
        }
    }

    /// Σ (x - origin) by group and column: each task owns some columns and walks the rows in order.
    fn add_columns(&mut self, x: MatRef<'_>, groups: &[usize]) {
        let mut position = vec![usize::MAX; self.groups.len()];
        let mut columns: Vec<Vec<(&mut [f64], &[f32])>> = Vec::new();
        columns.resize_with(self.dim.div_ceil(COLUMN_CHUNK), Vec::new);
        groups.iter().for_each(|&g| position[g] = 0);
        let seen = self.groups.iter_mut().zip(&mut position).filter(|(_, p)| **p == 0);
        for (next, (group, position)) in seen.enumerate() {
            *position = next;
            let chunks = group.sum.chunks_mut(COLUMN_CHUNK).zip(group.origin.chunks(COLUMN_CHUNK));
            columns.iter_mut().zip(chunks).for_each(|(column, chunk)| column.push(chunk));
        }
        columns.par_iter_mut().enumerate().for_each(|(j, chunk)| {
            for (b, &g) in groups.iter().enumerate() {
                let (sum, origin) = &mut chunk[position[g]];
                let row = &x.row(b)[j * COLUMN_CHUNK..][..sum.len()];
                for i in 0..row.len() {
                    sum[i] += f64::from(row[i]) - f64::from(origin[i]);
                }
            }
        });
    }

    /// Counts the latents of one row: those of `indices` whose value is ≠ 0 are active.
    ///
    /// # Panics
    /// If an index is not below `latents`, a label not below `classes`, or the slices differ in length.
    pub fn count_latents(&mut self, label: Option<u16>, indices: &[u32], values: &[f32]) {
        assert_eq!(indices.len(), values.len(), "one value an index");
        let (g, latents) = (self.group_of(label), self.latents);
        let group = &mut self.groups[g];
        if group.active.is_empty() {
            group.active = vec![0; latents];
        }
        group.latent_rows += 1;
        for (&h, &v) in indices.iter().zip(values) {
            if v != 0.0 {
                group.active[h as usize] += 1;
                group.active_total += 1;
            }
        }
    }

    fn group_of(&self, label: Option<u16>) -> usize {
        let classes = self.groups.len() - 1;
        match label {
            None => classes,
            Some(label) => {
                assert!((label as usize) < classes, "label {label} of {classes} classes");
                label as usize
            }
        }
    }

    /// Adds what another accumulator saw (another shard of the same data).
    ///
    /// # Panics
    /// If the two were made for different widths, classes, shapes or latents.
    pub fn merge(&mut self, other: &Evaluation) {
        assert!(
            self.dim == other.dim
                && self.latents == other.latents
                && self.groups.len() == other.groups.len()
                && self.bank.as_ref().map(Bank::shape) == other.bank.as_ref().map(Bank::shape),
            "only evaluations of the same kind merge"
        );
        self.groups.iter_mut().zip(&other.groups).for_each(|(a, b)| a.merge(b));
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.groups.len() - 1
    }

    /// The metrics of all rows.
    pub fn overall(&self) -> Summary {
        self.summary(&self.groups)
    }

    /// The metrics of the rows of one class; the fvu is against the class's own mean.
    ///
    /// # Panics
    /// If `class` is not below `classes`.
    pub fn class(&self, class: usize) -> Summary {
        assert!(class < self.classes(), "class {class} of {}", self.classes());
        self.summary(&self.groups[class..=class])
    }

    fn summary(&self, groups: &[Group]) -> Summary {
        let total = |f: fn(&Group) -> f64| groups.iter().map(f).sum::<f64>();
        let rows: u64 = groups.iter().map(|g| g.rows).sum();
        let mean = |f: fn(&Group) -> f64| (rows > 0).then(|| total(f) / rows as f64);
        let variance = self.total_variance(groups);
        let mut summary = Summary {
            rows,
            pearson: mean(|g| g.pearson),
            mse: mean(|g| g.mse),
            fvu: variance.map(|v| total(|g| g.residual) / v),
            cosine: mean(|g| g.cosine),
            ssim: self.ssim.as_ref().and_then(|_| mean(|g| g.ssim)),
            perceptual: self.bank.as_ref().and_then(|_| mean(|g| g.perceptual)),
            cross_entropy: mean(|g| g.cross_entropy).filter(|_| self.entropy),
            psnr: mean(|g| g.psnr),
            constant_rows: groups.iter().map(|g| g.constant_rows).sum(),
            latents: (self.latents > 0).then_some(self.latents as u64),
            ..Summary::default()
        };
        let latent_rows: u64 = groups.iter().map(|g| g.latent_rows).sum();
        if latent_rows > 0 && self.latents > 0 {
            let mut active = vec![0u64; self.latents];
            for group in groups {
                active.iter_mut().zip(&group.active).for_each(|(a, &n)| *a += u64::from(n));
            }
            let l0 = groups.iter().map(|g| g.active_total).sum::<u64>() as f64 / latent_rows as f64;
            summary.l0 = Some(l0);
            summary.l0_fraction = Some(l0 / self.latents as f64);
            summary.dead_latents = Some(active.iter().filter(|&&n| n == 0).count() as u64);
            summary.rare_latents = Some(active.iter().filter(|&&n| n * RARE < latent_rows).count() as u64);
            summary.density = Some(Density::new(&active, latent_rows));
        }
        summary
    }

    /// Σ‖x - mean‖² over the groups' rows: the scatter within the groups plus the scatter of their means. `None` where
    /// all rows are equal.
    fn total_variance(&self, groups: &[Group]) -> Option<f64> {
        let groups: Vec<&Group> = groups.iter().filter(|g| g.rows > 0).collect();
        let rows = groups.iter().map(|g| g.rows as f64).sum::<f64>();
        let mut variance: f64 = groups.iter().map(|g| g.scatter()).sum();
        if groups.len() > 1 {
            for j in 0..self.dim {
                let mean = groups.iter().map(|g| g.rows as f64 * g.mean(j)).sum::<f64>() / rows;
                variance += groups.iter().map(|g| g.rows as f64 * (g.mean(j) - mean).powi(2)).sum::<f64>();
            }
        }
        // Equal rows give exactly 0, since sums are taken around one of them. A NaN must come out as NaN.
        (variance.is_nan() || variance > 0.0).then_some(variance)
    }
}

#[cfg(test)]
mod tests;
