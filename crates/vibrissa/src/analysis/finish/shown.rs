//! What a report shows of single rows and features: examples, reconstructions, a sample of latents, pictures. Looks at
//! rows again, only at those that it cites.

use super::super::images::{latents_of, maps, rebuild};
use super::super::separate::separation;
use super::super::stream::{Gathered, RowQuality, SaeSums};
use super::super::sums::{EXAMPLES, Example, LatentSums, Smallest};
use super::{Measures, Options};
use crate::data::Dataset;
use crate::matrix::Mat;
use crate::model::Sae;
use crate::random::mix;
use crate::record::analysis::{ReconstructionRecord, SaeAnalysis};
use crate::record::columns::Columns;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Rows of the separation, and rows of a class in the sample of latents.
const SEPARATED: usize = 2000;
const SAMPLED: usize = 40;
/// Latents named with a reconstruction.
const NAMED: usize = 8;
/// Latents with a picture: of the first SAE; of the others only those with examples have one.
const WALL: usize = 8192;
/// Longest side of a picture of a row.
const SIDE: usize = 32;

/// Rows that are cited, by number, in the order of their first mention.
#[derive(Default)]
pub(super) struct CitedRows {
    /// Their numbers.
    pub rows: Vec<u64>,
    at: BTreeMap<u64, u32>,
}

impl CitedRows {
    fn cite(&mut self, row: u64) -> u32 {
        let next = self.rows.len() as u32;
        *self.at.entry(row).or_insert_with(|| {
            self.rows.push(row);
            next
        })
    }
}

/// No row.
const NONE: u32 = u32::MAX;

pub(super) fn example_columns(
    columns: &mut Columns,
    s: usize,
    sums: &SaeSums,
    own: &Measures,
    pictured: usize,
    cited: &mut CitedRows,
) {
    let list: Vec<usize> = own.used().take(pictured).collect();
    columns.counts(format!("{s}.pictured"), &[list.len()], list.iter().map(|&h| h as u32).collect());
    type Kind = fn(&LatentSums) -> &Smallest;
    let kinds: [(&str, Kind); 3] = [("top", |l| &l.top), ("random", |l| &l.random), ("near", |l| &l.near)];
    for (name, kind) in kinds {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for &h in &list {
            let examples: Vec<Example> = kind(&sums.by_picture()[h]).rows().collect();
            for e in 0..EXAMPLES {
                rows.push(examples.get(e).map_or(NONE, |e| cited.cite(e.row)));
                values.push(examples.get(e).map_or(f64::NAN, |e| f64::from(e.value)));
            }
        }
        columns.counts(format!("{s}.{name}_row"), &[list.len(), EXAMPLES], rows);
        columns.figures(format!("{s}.{name}_value"), &[list.len(), EXAMPLES], values);
    }
}

pub(super) fn worst_median_best(
    rows: &[RowQuality],
    classes: usize,
    cited: &mut CitedRows,
) -> Vec<ReconstructionRecord> {
    let mut out = Vec::new();
    for c in 0..classes.min(20) {
        let mut own: Vec<&RowQuality> = rows.iter().filter(|r| r.class as usize == c).collect();
        own.sort_by(|a, b| a.pearson.total_cmp(&b.pearson).then(a.row.cmp(&b.row)));
        let Some(last) = own.len().checked_sub(1) else { continue };
        let mut seen = Vec::new();
        for (name, at) in [("worst", 0), ("median", last / 2), ("best", last)] {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            out.push(ReconstructionRecord {
                cited: u64::from(cited.cite(own[at].row)),
                rank: name.into(),
                pearson: f64::from(own[at].pearson).into(),
                active: Vec::new(),
            });
        }
    }
    out
}

/// Latents of a sample of rows, `SAMPLED` of each class (for the heat map), and the separation of up to `SEPARATED`.
pub(super) fn sample_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    gathered: &Gathered,
    out: &mut [SaeAnalysis],
    cited: &mut CitedRows,
) {
    let classes = gathered.class_rows.len();
    let mut all: Vec<&RowQuality> = gathered.saes[0].rows.iter().collect();
    all.sort_by_key(|r| (mix(u64::MAX, r.row), r.row));
    let mut heat: Vec<&RowQuality> = Vec::new();
    for c in 0..classes.min(20) {
        heat.extend(all.iter().filter(|r| r.class as usize == c).take(SAMPLED));
    }
    columns.counts("sample.row", &[heat.len()], heat.iter().map(|r| cited.cite(r.row)).collect());
    let far: Vec<&RowQuality> = all.into_iter().take(SEPARATED).collect();
    for (s, (sae, record)) in saes.iter().zip(out).enumerate() {
        let numbers: Vec<usize> = heat.iter().map(|r| r.row as usize).collect();
        let latents = latents_of(sae, data, &numbers);
        let (mut start, mut index, mut value) = (vec![0u32], Vec::new(), Vec::new());
        for b in 0..numbers.len() {
            let (i, v) = latents.row(b);
            index.extend_from_slice(i);
            value.extend(v.iter().map(|&v| f64::from(v)));
            start.push(index.len() as u32);
        }
        columns.counts(format!("{s}.sample_start"), &[start.len()], start);
        columns.counts(format!("{s}.sample_latent"), &[index.len()], index);
        columns.figures(format!("{s}.sample_value"), &[value.len()], value);
        if let Some(own) = &mut record.classes {
            let numbers: Vec<usize> = far.iter().map(|r| r.row as usize).collect();
            let class: Vec<usize> = far.iter().map(|r| r.class as usize).collect();
            let latents = latents_of(sae, data, &numbers);
            let found = separation(&latents, sae.config().latents, &class, classes);
            own.silhouette = found.silhouette.into();
            (own.probe, own.majority) = (found.probe.into(), found.majority.into());
        }
    }
}

pub(super) fn reconstruction_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    cited: &CitedRows,
    out: &mut [SaeAnalysis],
) {
    let shape = data.image_shape().map(|s| s.to_array());
    for (s, (sae, record)) in saes.iter().zip(out).enumerate() {
        let rows: Vec<usize> = record.reconstructions.iter().map(|r| cited.rows[r.cited as usize] as usize).collect();
        let ((x, recon), latents) = (rebuild(sae, data, &data.images(&rows)), latents_of(sae, data, &rows));
        for (b, r) in record.reconstructions.iter_mut().enumerate() {
            let (index, value) = latents.row(b);
            let mut active: Vec<(u64, f64)> =
                index.iter().zip(value).map(|(&i, &v)| (u64::from(i), f64::from(v))).collect();
            active.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            active.truncate(NAMED);
            r.active = active;
        }
        match shape {
            Some(shape) => {
                let bytes = |m: &Mat| -> Vec<u8> { (0..rows.len()).flat_map(|b| levels(m.row(b))).collect() };
                let shape = [rows.len(), shape[0], shape[1], shape[2]];
                columns.bytes(format!("{s}.recon_original"), &shape, bytes(&x));
                columns.bytes(format!("{s}.recon"), &shape, bytes(&recon));
            }
            None => {
                let figures = |m: &Mat| m.data().iter().map(|&v| f64::from(v)).collect();
                columns.figures(format!("{s}.recon_original"), &[rows.len(), data.dim()], figures(&x));
                columns.figures(format!("{s}.recon"), &[rows.len(), data.dim()], figures(&recon));
            }
        }
    }
}

/// Values in [0, 1] as bytes.
fn levels(row: &[f32]) -> Vec<u8> {
    row.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

/// Mean over blocks of pixels, so that the longer side is at most `side`: `(picture, height, width)`.
fn shrink(picture: &[f32], [channels, height, width]: [usize; 3], side: usize) -> (Vec<f32>, usize, usize) {
    let factor = height.max(width).div_ceil(side).max(1);
    let (h, w) = (height.div_ceil(factor), width.div_ceil(factor));
    let mut out = Vec::with_capacity(channels * h * w);
    for plane in picture.chunks_exact(height * width) {
        for y in 0..h {
            for x in 0..w {
                let (mut sum, mut n) = (0.0f32, 0.0f32);
                for row in y * factor..((y + 1) * factor).min(height) {
                    for v in &plane[row * width..][x * factor..((x + 1) * factor).min(width)] {
                        (sum, n) = (sum + v, n + 1.0);
                    }
                }
                out.push(sum / n);
            }
        }
    }
    (out, h, w)
}

/// Signed values as bytes around 128, scaled to the largest |value|.
fn signed(row: &[f32]) -> Vec<u8> {
    let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    row.iter().map(|v| (128.0 + v * scale).round() as u8).collect()
}

/// Pictures of cited rows and of features; of plain rows their values.
pub(super) fn picture_columns(
    columns: &mut Columns,
    saes: &[&Sae],
    data: &Dataset,
    all: &[Measures],
    cited: &CitedRows,
    options: &Options,
) {
    let Some(shape) = data.shape().map(|s| [s.channels, s.height, s.width]) else { return };
    let small = |row: &[f32]| shrink(row, shape, SIDE);
    let (_, h, w) = small(&vec![0.0; data.dim()]);
    let rows: Vec<Vec<u8>> = cited
        .rows
        .par_iter()
        .map(|&r| {
            let mut row = vec![0.0; data.dim()];
            data.read(r as usize, 0, &mut row);
            levels(&small(&row).0)
        })
        .collect();
    columns.bytes("cited", &[rows.len(), shape[0], h, w], rows.concat());
    if data.patches().is_some() {
        whole_columns(columns, saes, data, cited);
    }
    for (s, (sae, own)) in saes.iter().zip(all).enumerate() {
        // What is never used is noise, and noise does not compress.
        let most = if s == 0 { WALL } else { options.pictured };
        let used: Vec<usize> = own.used().take(most).collect();
        let wall: Vec<Vec<u8>> = used.par_iter().map(|&h| signed(&small(&sae.feature(h)).0)).collect();
        columns.bytes(format!("{s}.wall"), &[used.len(), shape[0], h, w], wall.concat());
        columns.counts(format!("{s}.wall_of"), &[used.len()], used.iter().map(|&h| h as u32).collect());
        let list = &used[..used.len().min(options.pictured.min(200))];
        if h < shape[1] || w < shape[2] {
            let large: Vec<u8> =
                list.iter().flat_map(|&h| signed(&shrink(&sae.feature(h), shape, 2 * SIDE).0)).collect();
            let (_, h, w) = shrink(&vec![0.0; data.dim()], shape, 2 * SIDE);
            columns.bytes(format!("{s}.large"), &[list.len(), shape[0], h, w], large);
        }
    }
}

/// Of patches: the whole pictures that they are of, and what latents are at every place of those of their strongest rows.
fn whole_columns(columns: &mut Columns, saes: &[&Sae], data: &Dataset, cited: &CitedRows) {
    let (Some(shape), Some(patches)) = (data.image_shape(), data.patches()) else { return };
    let shape = [shape.channels, shape.height, shape.width];
    let mut at: BTreeMap<usize, u32> = BTreeMap::new();
    let mut pictures = Vec::new();
    let of = cited.rows.iter().map(|&row| {
        let picture = row as usize / patches.patches_per_image();
        *at.entry(picture).or_insert_with(|| {
            pictures.push(picture);
            pictures.len() as u32 - 1
        })
    });
    columns.counts("cited_picture", &[cited.rows.len()], of.collect());
    let side = if pictures.len() > MANY { SIDE } else { 2 * SIDE };
    let (_, h, w) = shrink(&vec![0.0; data.image_dim()], shape, side);
    let bytes: Vec<Vec<u8>> = pictures
        .par_iter()
        .map(|&picture| {
            let mut whole = vec![0.0; data.image_dim()];
            data.read_image(picture, 0, &mut whole);
            levels(&shrink(&whole, shape, side).0)
        })
        .collect();
    columns.bytes("picture", &[bytes.len(), shape[0], h, w], bytes.concat());
    let [down, across] = patches.positions();
    for (s, sae) in saes.iter().enumerate() {
        let latents = columns.get_counts(&format!("{s}.pictured")).to_vec();
        let most = (MAPPED / (EXAMPLES * patches.patches_per_image())).clamp(1, latents.len().max(1));
        let rows = columns.get_counts(&format!("{s}.top_row"));
        let wanted: Vec<(u32, usize)> = latents
            .iter()
            .zip(rows.chunks_exact(EXAMPLES))
            .take(most)
            .flat_map(|(&h, rows)| rows.iter().map(move |&r| (h, r)))
            // A latent with fewer pictures repeats its first, so that each has as many.
            .scan((u32::MAX, 0), |last, (h, r)| {
                *last = if r == NONE { *last } else { (h, cited.rows[r as usize] as usize) };
                Some((h, last.1))
            })
            .collect();
        let largest: Vec<f32> = columns.get_figures(&format!("{s}.largest")).iter().map(|&v| v as f32).collect();
        let bytes = maps(sae, data, &wanted, &largest);
        columns.bytes(format!("{s}.map"), &[wanted.len(), 1, down, across], bytes);
    }
}

/// Whole pictures above which they are shown as small as rows are.
const MANY: usize = 2000;
/// Values in the maps of one SAE, at most.
const MAPPED: usize = 8 << 20;
