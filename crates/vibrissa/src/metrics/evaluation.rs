//! Accumulators of the measures, overall and by class.

use super::perceptual::{FilterBank, Scratch};
use super::row::{self, RowMetrics};
use super::{Ssim, Summary, cross_entropy, density, row_metrics};
use crate::matrix::MatRef;
use crate::record::Reconstruction;
use crate::shape::ImageShape;
use rayon::prelude::*;
use std::ops::AddAssign;

/// Columns that one task of the column sums takes at once.
pub(super) const COLUMN_CHUNK: usize = 512;
/// A latent is rare when it is active on fewer than one of this many rows.
const RARE: u64 = 1000;

/// The measures of one row, or their sums over rows.
#[derive(Clone, Copy, Debug, Default)]
struct Measures {
    row: RowMetrics,
    ssim: f64,
    perceptual: f64,
    cross_entropy: f64,
    constant_rows: u64,
}

impl AddAssign for Measures {
    fn add_assign(&mut self, other: Measures) {
        let RowMetrics { mse, residual, pearson, constant: _, cosine, psnr } = other.row;
        self.row.mse += mse;
        self.row.residual += residual;
        self.row.pearson += pearson;
        self.row.cosine += cosine;
        self.row.psnr += psnr;
        self.ssim += other.ssim;
        self.perceptual += other.perceptual;
        self.cross_entropy += other.cross_entropy;
        self.constant_rows += other.constant_rows;
    }
}

/// The sums of one class. Vectors are empty until the first row, so that classes cost memory only when they occur.
#[derive(Clone, Debug, Default)]
struct ClassSums {
    rows: u64,
    measures: Measures,
    /// The first row `[D]`. Sums are taken around it, so that a large mean costs no digits.
    origin: Vec<f32>,
    /// `Σ (x - origin)`, `[D]`.
    sum: Vec<f64>,
    /// `Σ ‖x - origin‖²`.
    distance: f64,
    latent_rows: u64,
    active_total: u64,
    /// Number of rows in which each latent is ≠ 0, `[H]`.
    active: Vec<u32>,
}

impl ClassSums {
    fn add(&mut self, measures: Measures, distance: f64) {
        self.rows += 1;
        self.measures += measures;
        self.distance += distance;
    }

    fn merge(&mut self, other: &ClassSums) {
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
        self.measures += other.measures;
        self.latent_rows += other.latent_rows;
        self.active_total += other.active_total;
        if self.active.is_empty() {
            self.active.clone_from(&other.active);
        } else if !other.active.is_empty() {
            self.active.iter_mut().zip(&other.active).for_each(|(a, b)| *a += b);
        }
    }

    /// `Σ‖x - mean‖²` of the rows of the class.
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

/// Accumulator of the measures of rows and their reconstructions, overall and by class, in one pass.
///
/// ```
/// use vibrissa::{matrix::Mat, metrics::Evaluation};
/// let x = Mat::from_vec(2, 3, vec![0.0, 0.5, 1.0, 1.0, 0.5, 0.0]);
/// let mut evaluation = Evaluation::new(3, 0, None, 8);
/// evaluation.add(x.view(), x.view(), &[]);
/// evaluation.count_latents(None, &[1, 7], &[0.5, 0.0]);
/// let overall = evaluation.overall();
/// let measures = &overall.reconstruction;
/// assert_eq!((measures.pearson, measures.fvu, overall.l0), (Some(1.0), Some(0.0), Some(1.0)));
/// ```
#[derive(Clone, Debug)]
pub struct Evaluation {
    dim: usize,
    latents: usize,
    ssim: Option<Ssim>,
    filters: Option<FilterBank>,
    cross_entropy: bool,
    /// The sums of each class, and last those of rows without a label.
    classes: Vec<ClassSums>,
}

impl Evaluation {
    /// An empty accumulator for rows of `dim` values with labels below `classes` (0 = no classes), images of `shape` if
    /// rows are images, and `latents` latents (0 = latents are not counted).
    ///
    /// # Panics
    /// If `shape` does not have `dim` values.
    pub fn new(dim: usize, classes: usize, shape: Option<ImageShape>, latents: usize) -> Evaluation {
        assert!(shape.is_none_or(|s| s.dim() == dim), "the shape has the width of the rows");
        let filters = shape.filter(|s| s.dim() > 0).map(|s| FilterBank::new(s, 1.0));
        let (ssim, cross_entropy) = (shape.and_then(Ssim::new), filters.is_some());
        Evaluation { dim, latents, ssim, filters, cross_entropy, classes: vec![ClassSums::default(); classes + 1] }
    }

    /// Computes the cross-entropy also of rows that are not images, if `always`.
    pub fn with_cross_entropy(mut self, always: bool) -> Evaluation {
        self.cross_entropy |= always;
        self
    }

    /// Adds a batch of rows and their reconstructions; `labels` has one class a row, or is empty (rows then count
    /// overall only). Runs in the current rayon pool.
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

    /// [`Evaluation::add`] with the same reconstruction for every row, such as the baseline: the mean of the training
    /// rows.
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
        let class_of: Vec<usize> = (0..x.rows()).map(|b| self.class_index(labels.get(b).copied())).collect();
        for (b, &c) in class_of.iter().enumerate() {
            let class = &mut self.classes[c];
            if class.sum.is_empty() {
                class.origin = x.row(b).to_vec();
                class.sum = vec![0.0; self.dim];
            }
        }
        let mut measured = vec![(Measures::default(), 0.0); x.rows()];
        let (classes, template, filters, entropy) = (&self.classes, &self.ssim, &self.filters, self.cross_entropy);
        measured.par_iter_mut().enumerate().with_min_len(8).for_each_init(
            || (template.clone(), Scratch::default()),
            |(ssim, scratch), (b, out)| {
                let (x, recon) = (x.row(b), recon(b));
                let row = row_metrics(x, recon);
                let measures = Measures {
                    row,
                    ssim: ssim.as_mut().map_or(0.0, |s| s.mean(x, recon)),
                    perceptual: filters.as_ref().map_or(0.0, |filters| filters.distance(x, recon, scratch)),
                    cross_entropy: if entropy { cross_entropy(x, recon) } else { 0.0 },
                    constant_rows: u64::from(row.constant),
                };
                *out = (measures, row::squared_distance(x, &classes[class_of[b]].origin));
            },
        );
        self.add_columns(x, &class_of);
        for (&c, &(measures, distance)) in class_of.iter().zip(&measured) {
            self.classes[c].add(measures, distance);
        }
    }

    /// Adds to `Σ (x - origin)` of each class: each task takes some columns, and all rows in order.
    fn add_columns(&mut self, x: MatRef<'_>, class_of: &[usize]) {
        let mut position = vec![usize::MAX; self.classes.len()];
        let mut columns: Vec<Vec<(&mut [f64], &[f32])>> = Vec::new();
        columns.resize_with(self.dim.div_ceil(COLUMN_CHUNK), Vec::new);
        class_of.iter().for_each(|&c| position[c] = 0);
        let seen = self.classes.iter_mut().zip(&mut position).filter(|(_, p)| **p == 0);
        for (next, (class, position)) in seen.enumerate() {
            *position = next;
            let chunks = class.sum.chunks_mut(COLUMN_CHUNK).zip(class.origin.chunks(COLUMN_CHUNK));
            columns.iter_mut().zip(chunks).for_each(|(column, chunk)| column.push(chunk));
        }
        columns.par_iter_mut().enumerate().for_each(|(j, chunk)| {
            for (b, &c) in class_of.iter().enumerate() {
                let (sum, origin) = &mut chunk[position[c]];
                let row = &x.row(b)[j * COLUMN_CHUNK..][..sum.len()];
                for i in 0..row.len() {
                    sum[i] += f64::from(row[i]) - f64::from(origin[i]);
                }
            }
        });
    }

    /// Counts the active latents of one row: those of `indices` whose value is ≠ 0.
    ///
    /// # Panics
    /// If an index is not below `latents`, a label not below `classes`, or the slices differ in length.
    pub fn count_latents(&mut self, label: Option<u16>, indices: &[u32], values: &[f32]) {
        assert_eq!(indices.len(), values.len(), "one value an index");
        let (c, latents) = (self.class_index(label), self.latents);
        let class = &mut self.classes[c];
        if class.active.is_empty() {
            class.active = vec![0; latents];
        }
        class.latent_rows += 1;
        for (&h, &v) in indices.iter().zip(values) {
            if v != 0.0 {
                class.active[h as usize] += 1;
                class.active_total += 1;
            }
        }
    }

    /// Index of the class of a label; of rows without a label, the last one.
    fn class_index(&self, label: Option<u16>) -> usize {
        let classes = self.classes.len() - 1;
        match label {
            None => classes,
            Some(label) => {
                assert!((label as usize) < classes, "label {label} of {classes} classes");
                label as usize
            }
        }
    }

    /// Adds the sums of another accumulator (of another shard of the same data).
    ///
    /// # Panics
    /// If the two were made for different widths, classes, shapes or latents.
    pub fn merge(&mut self, other: &Evaluation) {
        assert!(
            self.dim == other.dim
                && self.latents == other.latents
                && self.classes.len() == other.classes.len()
                && self.filters.as_ref().map(FilterBank::shape) == other.filters.as_ref().map(FilterBank::shape),
            "only evaluations of the same kind merge"
        );
        self.classes.iter_mut().zip(&other.classes).for_each(|(a, b)| a.merge(b));
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes.len() - 1
    }

    /// The measures of all rows.
    pub fn overall(&self) -> Summary {
        self.summary(&self.classes)
    }

    /// The measures of the rows of one class; the fvu compares with the mean of the class.
    ///
    /// # Panics
    /// If `class` is not below `classes`.
    pub fn class(&self, class: usize) -> Summary {
        assert!(class < self.classes(), "class {class} of {}", self.classes());
        self.summary(&self.classes[class..=class])
    }

    fn summary(&self, classes: &[ClassSums]) -> Summary {
        let total = |of: fn(&Measures) -> f64| classes.iter().map(|c| of(&c.measures)).sum::<f64>();
        let rows: u64 = classes.iter().map(|c| c.rows).sum();
        let mean = |of: fn(&Measures) -> f64| (rows > 0).then(|| total(of) / rows as f64);
        let reconstruction = Reconstruction {
            pearson: mean(|m| m.row.pearson),
            mse: mean(|m| m.row.mse),
            fvu: self.total_variance(classes).map(|v| total(|m| m.row.residual) / v),
            cosine: mean(|m| m.row.cosine),
            ssim: self.ssim.as_ref().and_then(|_| mean(|m| m.ssim)),
            perceptual: self.filters.as_ref().and_then(|_| mean(|m| m.perceptual)),
            cross_entropy: mean(|m| m.cross_entropy).filter(|_| self.cross_entropy),
            psnr: mean(|m| m.row.psnr),
        };
        let mut summary = Summary {
            rows,
            reconstruction,
            constant_rows: classes.iter().map(|c| c.measures.constant_rows).sum(),
            latents: (self.latents > 0).then_some(self.latents as u64),
            ..Summary::default()
        };
        let latent_rows: u64 = classes.iter().map(|c| c.latent_rows).sum();
        if latent_rows > 0 && self.latents > 0 {
            let mut active = vec![0u64; self.latents];
            for class in classes {
                active.iter_mut().zip(&class.active).for_each(|(a, &n)| *a += u64::from(n));
            }
            let l0 = classes.iter().map(|c| c.active_total).sum::<u64>() as f64 / latent_rows as f64;
            summary.l0 = Some(l0);
            summary.l0_fraction = Some(l0 / self.latents as f64);
            summary.dead_latents = Some(active.iter().filter(|&&n| n == 0).count() as u64);
            summary.rare_latents = Some(active.iter().filter(|&&n| n * RARE < latent_rows).count() as u64);
            summary.density = Some(density(&active, latent_rows));
        }
        summary
    }

    /// `Σ‖x - mean‖²` over the rows of the classes: the scatter within the classes plus the scatter of their means.
    /// `None` if all rows are equal.
    fn total_variance(&self, classes: &[ClassSums]) -> Option<f64> {
        let classes: Vec<&ClassSums> = classes.iter().filter(|c| c.rows > 0).collect();
        let rows = classes.iter().map(|c| c.rows as f64).sum::<f64>();
        let mut variance: f64 = classes.iter().map(|c| c.scatter()).sum();
        if classes.len() > 1 {
            for j in 0..self.dim {
                let mean = classes.iter().map(|c| c.rows as f64 * c.mean(j)).sum::<f64>() / rows;
                variance += classes.iter().map(|c| c.rows as f64 * (c.mean(j) - mean).powi(2)).sum::<f64>();
            }
        }
        // Equal rows give exactly 0, since sums are taken around one of them. A NaN must stay a NaN.
        (variance.is_nan() || variance > 0.0).then_some(variance)
    }
}
