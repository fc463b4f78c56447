//! Images and sampled rows of an analysis. Reads rows again, but only those that it cites.

use super::super::images::{activation_maps, image_latents};
use super::super::pass::{PassSums, RowQuality};
use super::super::separation::separation;
use super::super::sums::EXAMPLES;
use super::LatentMeasures;
use super::cited::{CitedRows, SHOWN_CLASSES};
use crate::data::Dataset;
use crate::data::patches::PatchLayout;
use crate::matrix::Mat;
use crate::model::Sae;
use crate::random::mix;
use crate::record::analysis::columns::{
    CitedImages, ExampleColumns, LargeTileColumns, MapColumns, NO_ROW, PatchedImages, ReconstructedImages,
    ReconstructedRows, Reconstructions, SampleColumns, SampledRows, TileColumns,
};
use crate::record::analysis::{ClassesRecord, ReconstructionRecord};
use crate::record::columns::Array;
use crate::shape::ImageShape;
use crate::train::evaluate::reconstruct_images;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Rows that the separation of classes is computed on, at most.
const SEPARATED: usize = 2000;
/// Sampled rows of each class, at most.
const SAMPLED: usize = 40;
/// Latents named with a reconstruction.
const NAMED: usize = 8;
/// Tiles of the first SAE, at most; other SAEs have tiles of the latents with examples alone.
const TILES: usize = 8192;
/// Larger tiles of an SAE, at most.
const LARGE_TILES: usize = 200;
/// Longest side of the image of a row, pixels.
const SIDE: usize = 32;
/// Number of whole images above which their longest side is [`SIDE`], below twice that.
const MANY_IMAGES: usize = 2000;
/// Values in the maps of one SAE, at most.
const MAPPED: usize = 8 << 20;

/// A sample of rows that does not depend on the order of the rows.
pub(super) struct RowSample<'a> {
    /// Up to [`SAMPLED`] rows of each class, class by class.
    by_class: Vec<&'a RowQuality>,
    /// Up to [`SEPARATED`] rows of all classes.
    overall: Vec<&'a RowQuality>,
    classes: usize,
}

impl<'a> RowSample<'a> {
    /// Samples the rows of a pass.
    pub fn new(pass: &'a PassSums) -> RowSample<'a> {
        let classes = pass.class_rows.len();
        let mut overall: Vec<&RowQuality> = pass.saes[0].rows.iter().collect();
        overall.sort_by_key(|r| (mix(u64::MAX, r.row), r.row));
        let mut by_class: Vec<&RowQuality> = Vec::new();
        for c in 0..classes.min(SHOWN_CLASSES) {
            by_class.extend(overall.iter().filter(|r| r.class as usize == c).take(SAMPLED));
        }
        overall.truncate(SEPARATED);
        RowSample { by_class, overall, classes }
    }

    /// Cites the rows sampled by class.
    pub fn cite(&self, cited: &mut CitedRows) -> SampledRows {
        SampledRows { row: Array::vector(self.by_class.iter().map(|r| cited.cite(r.row)).collect()) }
    }

    /// The latents of the rows sampled by class.
    pub fn columns(&self, sae: &Sae, data: &Dataset) -> SampleColumns {
        let rows: Vec<usize> = self.by_class.iter().map(|r| r.row as usize).collect();
        let latents = image_latents(sae, data, &rows);
        let (mut start, mut index, mut value) = (vec![0u32], Vec::new(), Vec::new());
        for b in 0..rows.len() {
            let (i, v) = latents.row(b);
            index.extend_from_slice(i);
            value.extend(v.iter().map(|&v| f64::from(v)));
            start.push(index.len() as u32);
        }
        SampleColumns { start: Array::vector(start), latent: Array::vector(index), value: Array::vector(value) }
    }

    /// Sets the separation of the classes in latent space.
    pub fn separate(&self, sae: &Sae, data: &Dataset, record: &mut ClassesRecord) {
        let rows: Vec<usize> = self.overall.iter().map(|r| r.row as usize).collect();
        let class: Vec<usize> = self.overall.iter().map(|r| r.class as usize).collect();
        let latents = image_latents(sae, data, &rows);
        let found = separation(&latents, sae.config().latents, &class, self.classes);
        record.silhouette = found.silhouette.into();
        (record.probe, record.majority) = (found.probe.into(), found.majority.into());
    }
}

/// The rows of `records` and their reconstructions; sets their active latents.
pub(super) fn reconstruct(
    sae: &Sae,
    data: &Dataset,
    cited: &CitedRows,
    records: &mut [ReconstructionRecord],
) -> Reconstructions {
    let rows: Vec<usize> = records.iter().map(|r| cited.rows[r.cited as usize] as usize).collect();
    let ((x, recon), latents) = (reconstruct_images(sae, data, &data.images(&rows)), image_latents(sae, data, &rows));
    for (b, record) in records.iter_mut().enumerate() {
        let (index, value) = latents.row(b);
        record.active = index.iter().zip(value).map(|(&i, &v)| (u64::from(i), f64::from(v))).collect();
        record.active.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        record.active.truncate(NAMED);
    }
    match data.image_shape() {
        Some(ImageShape { channels, height, width }) => {
            let pixels = |m: &Mat| {
                let bytes = (0..rows.len()).flat_map(|b| levels(m.row(b))).collect();
                Array::new(&[rows.len(), channels, height, width], bytes)
            };
            Reconstructions::Images(ReconstructedImages { original: pixels(&x), recon: pixels(&recon) })
        }
        None => {
            let values =
                |m: &Mat| Array::new(&[rows.len(), data.dim()], m.data().iter().map(|&v| f64::from(v)).collect());
            Reconstructions::Rows(ReconstructedRows { original: values(&x), recon: values(&recon) })
        }
    }
}

/// Images of the cited rows; `None` where rows are no images.
pub(super) fn cited_images(data: &Dataset, cited: &CitedRows) -> Option<CitedImages> {
    let shape = data.shape()?;
    let images: Vec<Vec<u8>> = cited
        .rows
        .par_iter()
        .map(|&r| {
            let mut row = vec![0.0; data.dim()];
            data.read(r as usize, 0, &mut row);
            levels(&shrink(&row, shape, SIDE))
        })
        .collect();
    Some(CitedImages { image: stacked(&images, shrunk(shape, SIDE)) })
}

/// The whole images that cited patches are of; `None` where rows are no patches.
pub(super) fn patched_images(data: &Dataset, cited: &CitedRows) -> Option<PatchedImages> {
    let (shape, patches) = (data.image_shape()?, data.patches()?);
    let mut place: BTreeMap<usize, u32> = BTreeMap::new();
    let mut numbers = Vec::new();
    let places = cited.rows.iter().map(|&row| {
        let number = row as usize / patches.patches_per_image();
        *place.entry(number).or_insert_with(|| {
            numbers.push(number);
            numbers.len() as u32 - 1
        })
    });
    let place = Array::vector(places.collect());
    let side = if numbers.len() > MANY_IMAGES { SIDE } else { 2 * SIDE };
    let images: Vec<Vec<u8>> = numbers
        .par_iter()
        .map(|&number| {
            let mut image = vec![0.0; data.image_dim()];
            data.read_image(number, 0, &mut image);
            levels(&shrink(&image, shape, side))
        })
        .collect();
    Some(PatchedImages { place, image: stacked(&images, shrunk(shape, side)) })
}

/// Decoder directions of the latents that some row uses, and larger ones of the first `pictured` where tiles are
/// smaller than rows. All latents of the `first` SAE have one, of other SAEs those with examples. `None` where rows are
/// no images.
pub(super) fn tile_columns(
    sae: &Sae,
    data: &Dataset,
    measures: &LatentMeasures,
    first: bool,
    pictured: usize,
) -> (Option<TileColumns>, Option<LargeTileColumns>) {
    let Some(shape) = data.shape() else { return (None, None) };
    let (small, large) = (shrunk(shape, SIDE), shrunk(shape, 2 * SIDE));
    // Directions that are never used are noise, and noise does not compress.
    let used: Vec<usize> = measures.used().take(if first { TILES } else { pictured }).collect();
    let tiles = |latents: &[usize], side: usize| -> Vec<Vec<u8>> {
        latents.par_iter().map(|&h| signed(&shrink(&sae.feature(h), shape, side))).collect()
    };
    let latent = Array::vector(used.iter().map(|&h| h as u32).collect());
    let with_large = &used[..used.len().min(pictured.min(LARGE_TILES))];
    let large = (small != shape).then(|| LargeTileColumns { tile: stacked(&tiles(with_large, 2 * SIDE), large) });
    (Some(TileColumns { latent, tile: stacked(&tiles(&used, SIDE), small) }), large)
}

/// Activations at every place of the images of the top rows of the first latents with examples.
pub(super) fn map_columns(
    sae: &Sae,
    data: &Dataset,
    patches: &PatchLayout,
    cited: &CitedRows,
    (examples, largest): (&ExampleColumns, &[f64]),
) -> MapColumns {
    let [down, across] = patches.positions();
    let most = (MAPPED / (EXAMPLES * patches.patches_per_image())).clamp(1, examples.latent.len().max(1));
    let wanted: Vec<(u32, usize)> = examples
        .latent
        .iter()
        .zip(examples.top_row.chunks_exact(EXAMPLES))
        .take(most)
        .flat_map(|(&h, rows)| rows.iter().map(move |&r| (h, r)))
        // A latent with fewer examples repeats its last one, so that each has as many maps.
        .scan((u32::MAX, 0), |last, (h, r)| {
            *last = if r == NO_ROW { *last } else { (h, cited.rows[r as usize] as usize) };
            Some((h, last.1))
        })
        .collect();
    let largest: Vec<f32> = largest.iter().map(|&v| v as f32).collect();
    let bytes = activation_maps(sae, data, &wanted, &largest);
    MapColumns { map: Array::new(&[wanted.len(), 1, down, across], bytes) }
}

/// Images of one shape as one array.
fn stacked(images: &[Vec<u8>], shape: ImageShape) -> Array<u8> {
    Array::new(&[images.len(), shape.channels, shape.height, shape.width], images.concat())
}

/// Values in [0, 1] as bytes, values outside clamped.
fn levels(row: &[f32]) -> Vec<u8> {
    row.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

/// Pixels of a block, across and down, so that the longer side is at most `side`.
fn shrink_factor(height: usize, width: usize, side: usize) -> usize {
    height.max(width).div_ceil(side).max(1)
}

/// The shape that [`shrink`] leaves.
fn shrunk(shape: ImageShape, side: usize) -> ImageShape {
    let factor = shrink_factor(shape.height, shape.width, side);
    ImageShape { height: shape.height.div_ceil(factor), width: shape.width.div_ceil(factor), ..shape }
}

/// The means of blocks of pixels, so that the longer side is at most `side`.
fn shrink(image: &[f32], shape: ImageShape, side: usize) -> Vec<f32> {
    let ImageShape { channels, height, width } = shape;
    let factor = shrink_factor(height, width, side);
    let (h, w) = (height.div_ceil(factor), width.div_ceil(factor));
    let mut out = Vec::with_capacity(channels * h * w);
    for plane in image.chunks_exact(height * width) {
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
    out
}

/// Signed values as bytes: 128 for 0, 128 ± 127 for the largest |value|.
fn signed(row: &[f32]) -> Vec<u8> {
    let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    row.iter().map(|v| (128.0 + v * scale).round() as u8).collect()
}
