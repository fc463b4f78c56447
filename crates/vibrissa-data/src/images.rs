//! Images from a folder: listed, decoded, brought to one size. No model, no split.
//!
//! [`load`] reads the header of every file (pages, depth, size), decodes batches of images in parallel, resizes each at
//! once and keeps only the rows. The order of rows, the variants and the first error do not depend on the number of
//! threads.

mod decode;
pub(crate) mod list;
mod resample;
mod tiff;

use resample::append_values;
pub use resample::fit_to;
pub(crate) use resample::{Window, luma_plane, resample, to_level};

use crate::augment::{self, VariantKey};
use crate::block::{Block, Bytes, Dtype};
use crate::rows::{Channels, Fit, Image, LoadOptions, LoadedRows, OnProgress, RowNames, SkippedFile, ValueRange};
use decode::{DecodeOptions, Decoded, Planes, Probe, SampleType};
use list::Candidate;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vibrissa_core::error::{Error, Result};
use vibrissa_core::shape::ImageShape;

/// Largest side at which images that all have the same size keep it; the side of all others.
const NATIVE_SIDE: usize = 64;
/// The longest side of a row's image.
const MAX_SIDE: usize = 8192;
/// Pages of a stack that one thread decodes in succession: few enough to share a stack between threads, and enough that
/// seeking to the first costs little.
const PAGES_PER_JOB: usize = 64;
/// Bytes of working images in memory at a time.
const BATCH_BYTES: usize = 128 << 20;

/// Loads a folder of images (PNG, JPEG, WebP, BMP, TIFF, GIF; recognised by content), or one file.
///
/// - Rows: one for each image, sorted by path relative to `dir` (bytes, `/` between folders); each page of a TIFF is a
///   row, named `path#page`. The first frame of an animation is taken. EXIF orientation is applied, transparency is
///   laid over white.
/// - Classes: the sub-folders of `dir`, also for images deeper down. Images directly in `dir` have the class `.`;
///   without sub-folders there are no classes.
/// - Size, if none is requested: that of the images if all have the same and it is at most 64 × 64, else 64 × 64.
/// - Channels, if none are requested: grey if R = G = B in every image, otherwise RGB.
/// - Values: bytes if no image has more than 8 bits ([`Dtype::U8`]), else floats in [0, 1] ([`Dtype::F32`]) on the
///   scale of [`LoadOptions::range`], where 16-bit and floating-point images each have their own largest value and
///   8-bit images are value / 255.
/// - Variants: with [`LoadOptions::augment`], `variants` holds the rows of [`augment::variant_row`] for epoch 0, or
///   `working_images` the images that they are made from (sides up to twice those of the row; grey ones may have one
///   channel in RGB rows).
///
/// `on_progress` counts images.
///
/// # Errors
/// A missing folder, a folder without images, or a size of 0. Without `skip_bad`, the first file in path order that is
/// unreadable, empty, not an image, truncated, broken or larger than 512 MiB when decoded; with it, no readable image.
pub fn load(dir: &Path, options: &LoadOptions, on_progress: OnProgress) -> Result<LoadedRows> {
    let listing = list::list(dir)?;
    let mut skipped = Vec::new();
    for error in listing.unreadable {
        skip(error, options, &mut skipped)?;
    }
    let plan = Plan::new(listing.files, options)?;
    let mut state = LoadState::new(plan.dtype, plan.size.0 * plan.size.1, options);
    let done = AtomicUsize::new(0);
    for batch in plan.jobs.chunks(plan.jobs_a_batch) {
        let results: Vec<Vec<(Source, Result<ResizedImage>)>> = batch
            .par_iter()
            .map(|job| {
                let resized = plan.read(job, options);
                on_progress(done.fetch_add(job.pages.len(), Ordering::Relaxed) + job.pages.len(), plan.total);
                resized
            })
            .collect();
        for (source, result) in results.into_iter().flatten() {
            match result {
                Ok(resized) => state.push(source, resized),
                Err(error) => skip(error, options, &mut skipped)?,
            }
        }
        state.make_variants_if_8_bit(&plan, options);
    }
    state.finish(dir, &plan, options, skipped)
}

fn skip(error: Error, options: &LoadOptions, skipped: &mut Vec<SkippedFile>) -> Result<()> {
    let (true, Error::File { path, .. } | Error::Io { path, .. }) = (options.skip_bad, &error) else {
        return Err(error);
    };
    skipped.push(SkippedFile { path: path.clone(), reason: error.to_string() });
    Ok(())
}

/// Pages of one file to decode; one page for formats without pages.
struct Job {
    file: usize,
    pages: Range<usize>,
    /// True for a TIFF of several pages.
    stack: bool,
    tiff: bool,
}

/// The file and page of a row.
#[derive(Clone, Copy)]
struct Source {
    file: usize,
    /// The page in a stack.
    page: Option<usize>,
}

/// Everything that is decided before images are decoded.
struct Plan {
    files: Vec<Candidate>,
    jobs: Vec<Job>,
    jobs_a_batch: usize,
    /// Number of images.
    total: usize,
    /// Width and height of the rows.
    size: (usize, usize),
    dtype: Dtype,
}

impl Plan {
    fn new(files: Vec<Candidate>, options: &LoadOptions) -> Result<Plan> {
        if let Some((width, height)) = options.size
            && !((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height))
        {
            let expected = format!("a width and a height from 1 to {MAX_SIDE} pixels");
            return Err(Error::option("size", expected, format!("{width}x{height}"), "choose another size"));
        }
        // A file whose header cannot be read is reported when it is decoded.
        let probe = |file: &Candidate, want_size: bool| decode::probe(&file.path, want_size).ok();
        let small = |probe: &Probe| probe.size.is_some_and(|(w, h)| w <= NATIVE_SIDE && h <= NATIVE_SIDE);
        let want_size = options.size.is_none() && files.first().and_then(|f| probe(f, true)).is_none_or(|p| small(&p));
        let probes: Vec<Option<Probe>> = files.par_iter().map(|file| probe(file, want_size)).collect();
        let size = options.size.unwrap_or_else(|| {
            let mut known = probes.iter().flatten();
            match known.next() {
                Some(first) if want_size && small(first) && known.all(|p| p.size == first.size) => first.size,
                _ => None,
            }
            .unwrap_or((NATIVE_SIDE, NATIVE_SIDE))
        });
        let mut jobs = Vec::new();
        for (file, probe) in probes.iter().enumerate() {
            let pages = probe.as_ref().map_or(1, |p| p.pages);
            let tiff = probe.as_ref().is_some_and(|p| p.tiff);
            for start in (0..pages).step_by(PAGES_PER_JOB) {
                jobs.push(Job { file, pages: start..pages.min(start + PAGES_PER_JOB), stack: pages > 1, tiff });
            }
        }
        let total = jobs.iter().map(|job| job.pages.len()).sum::<usize>();
        let pages_a_job = total.div_ceil(jobs.len().max(1));
        let working_bytes = size.0 * size.1 * 3 * 4 * if options.augment > 0 { 4 } else { 1 };
        let jobs_a_batch = (BATCH_BYTES / (working_bytes * pages_a_job)).clamp(16, 4096);
        let deep = probes.iter().flatten().any(|p| p.deep);
        Ok(Plan { files, jobs, jobs_a_batch, total, size, dtype: if deep { Dtype::F32 } else { Dtype::U8 } })
    }

    /// Decodes and resizes the images of a job.
    fn read(&self, job: &Job, options: &LoadOptions) -> Vec<(Source, Result<ResizedImage>)> {
        let path = &self.files[job.file].path;
        let wanted = DecodeOptions { channels: options.channels, range: options.range };
        let resize = |decoded: Decoded| match (self.dtype, decoded.sample_type) {
            // Its depth decided the type of all rows.
            (Dtype::U8, SampleType::Sixteen | SampleType::Float) => Err(decode::bad(path, "changed while it was read")),
            _ => Ok(ResizedImage::new(decoded, self.size, options)),
        };
        if !job.tiff {
            let source = Source { file: job.file, page: None };
            return vec![(source, decode::decode(path, wanted).and_then(resize))];
        }
        let mut out = Vec::with_capacity(job.pages.len());
        tiff::pages(path, job.pages.clone(), job.stack, wanted, |page, decoded| {
            let source = Source { file: job.file, page: job.stack.then_some(page) };
            out.push((source, decoded.and_then(resize)));
        });
        out
    }
}

/// An image brought to the size of a row.
struct ResizedImage {
    row: Planes,
    /// The image at working size, deep ones still on their own scale; only if variants are requested.
    working: Option<Image>,
    sample_type: SampleType,
    largest: f32,
}

impl ResizedImage {
    fn new(decoded: Decoded, size: (usize, usize), options: &LoadOptions) -> ResizedImage {
        let Decoded { size: source, channels, planes, sample_type, largest } = decoded;
        let working = (options.augment > 0).then(|| {
            let to = working_size(source, size, options.fit);
            let data = match fit_planes(&planes, source, to, options.fit) {
                Planes::Eight(levels) => levels.iter().map(|v| f32::from(*v) / 255.0).collect(),
                Planes::Deep(values) => values,
            };
            Image { shape: ImageShape { channels, height: to.1, width: to.0 }, data }
        });
        ResizedImage { row: fit_planes(&planes, source, size, options.fit), working, sample_type, largest }
    }
}

fn fit_planes(planes: &Planes, from: (usize, usize), to: (usize, usize), how: Fit) -> Planes {
    match planes {
        Planes::Eight(v) => Planes::Eight(resample::fit(v, from, to, how)),
        Planes::Deep(v) => Planes::Deep(resample::fit(v, from, to, how)),
    }
}

/// Returns the size at which variants are made: up to twice the sides of the row, as far as the source has the pixels.
fn working_size(source: (usize, usize), row: (usize, usize), how: Fit) -> (usize, usize) {
    let across = source.0 as f64 / row.0 as f64;
    let down = source.1 as f64 / row.1 as f64;
    let scale = if how == Fit::Pad { across.max(down) } else { across.min(down) }.clamp(1.0, 2.0);
    ((row.0 as f64 * scale).round() as usize, (row.1 as f64 * scale).round() as usize)
}

/// Rows as bytes, of one channel each up to the first coloured one.
struct RowStore {
    dtype: Dtype,
    /// Number of bytes of one plane of a row.
    plane: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl RowStore {
    fn push(&mut self, row: &[u8]) {
        if row.len() > self.plane {
            self.make_rgb();
        }
        for _ in 0..self.plane * self.channels / row.len() {
            self.bytes.extend_from_slice(row);
        }
    }

    /// Turns grey rows into RGB rows.
    fn make_rgb(&mut self) {
        if self.channels == 1 {
            self.bytes = self.bytes.chunks_exact(self.plane).flat_map(|plane| [plane; 3]).flatten().copied().collect();
            self.channels = 3;
        }
    }

    fn row_bytes(&self) -> usize {
        self.plane * self.channels
    }

    fn into_block(self, origin: String) -> Block {
        let dim = self.row_bytes() / self.dtype.size();
        let rows = self.bytes.len() / self.row_bytes();
        Block::new(origin, Bytes::Owned(Arc::new(self.bytes)), 0, self.dtype, rows, dim)
    }
}

/// The rows loaded so far, and their variants.
struct LoadState {
    rows: RowStore,
    variants: RowStore,
    sources: Vec<Source>,
    sample_types: Vec<SampleType>,
    /// Working images of the rows from `rows_with_variants` on.
    working_images: Vec<Image>,
    /// Number of rows whose variants are made.
    rows_with_variants: usize,
    largest_sixteen: f32,
    largest_float: f32,
}

impl LoadState {
    fn new(dtype: Dtype, pixels: usize, options: &LoadOptions) -> LoadState {
        let channels = options.channels.map_or(1, Channels::count);
        let store = || RowStore { dtype, plane: pixels * dtype.size(), channels, bytes: Vec::new() };
        LoadState {
            rows: store(),
            variants: store(),
            sources: Vec::new(),
            sample_types: Vec::new(),
            working_images: Vec::new(),
            rows_with_variants: 0,
            largest_sixteen: 0.0,
            largest_float: 0.0,
        }
    }

    fn push(&mut self, source: Source, resized: ResizedImage) {
        let mut bytes = Vec::new();
        match resized.row {
            Planes::Eight(levels) if self.rows.dtype == Dtype::U8 => bytes = levels,
            Planes::Eight(levels) => {
                levels.iter().for_each(|v| bytes.extend_from_slice(&(f32::from(*v) / 255.0).to_le_bytes()));
            }
            Planes::Deep(values) => append_values(&values, Dtype::F32, &mut bytes),
        }
        self.rows.push(&bytes);
        self.sources.push(source);
        self.sample_types.push(resized.sample_type);
        self.working_images.extend(resized.working);
        match resized.sample_type {
            SampleType::Eight => {}
            SampleType::Sixteen => self.largest_sixteen = self.largest_sixteen.max(resized.largest),
            SampleType::Float => self.largest_float = self.largest_float.max(resized.largest),
        }
    }

    /// Makes the variants of 8-bit rows; those of deep rows are made once their scale is known.
    fn make_variants_if_8_bit(&mut self, plan: &Plan, options: &LoadOptions) {
        if self.rows.dtype == Dtype::U8 {
            self.make_variants(plan, options);
        }
    }

    fn make_variants(&mut self, plan: &Plan, options: &LoadOptions) {
        if options.augment_each_epoch {
            return;
        }
        let (dtype, first) = (self.rows.dtype, self.rows_with_variants);
        let variants_of = |(i, image): (usize, &Image)| {
            let shape = ImageShape { channels: image.shape.channels, height: plan.size.1, width: plan.size.0 };
            let mut values = vec![0.0; shape.dim()];
            let mut bytes = Vec::with_capacity(options.augment * shape.dim() * dtype.size());
            for variant in 0..options.augment as u64 {
                let key = VariantKey { seed: options.seed, epoch: 0, row: (first + i) as u64, variant };
                augment::variant_row(image, shape, dtype, key, &mut values);
                append_values(&values, dtype, &mut bytes);
            }
            bytes
        };
        let variants: Vec<Vec<u8>> = self.working_images.par_iter().enumerate().map(variants_of).collect();
        for rows in &variants {
            rows.chunks_exact(rows.len() / options.augment).for_each(|row| self.variants.push(row));
        }
        self.rows_with_variants += variants.len();
        self.working_images.clear();
    }

    /// Returns the sample value that becomes 1.
    fn unit(&self, sample_type: SampleType, range: ValueRange) -> f32 {
        let unit = match (sample_type, range) {
            (SampleType::Eight, _) | (SampleType::Float, ValueRange::Full) => 1.0,
            (SampleType::Sixteen, ValueRange::Full) => 65535.0,
            (SampleType::Sixteen, ValueRange::Auto) => self.largest_sixteen,
            (SampleType::Float, ValueRange::Auto) => self.largest_float,
        };
        if unit > 0.0 { unit } else { 1.0 }
    }

    /// Brings deep rows and their working images to [0, 1].
    fn scale_to_unit(&mut self, range: ValueRange) {
        let units: Vec<f32> = self.sample_types.iter().map(|&t| self.unit(t, range)).collect();
        // The weights of the filter add up to 1 only approximately.
        let scaled = |value: f32, unit: f32| (value / unit).min(1.0);
        let row_bytes = self.rows.row_bytes();
        for (row, unit) in self.rows.bytes.chunks_exact_mut(row_bytes).zip(&units) {
            for bytes in row.chunks_exact_mut(4) {
                let value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                bytes.copy_from_slice(&scaled(value, *unit).to_le_bytes());
            }
        }
        for (image, unit) in self.working_images.iter_mut().zip(&units) {
            image.data.iter_mut().for_each(|value| *value = scaled(*value, *unit));
        }
    }

    fn finish(
        mut self,
        dir: &Path,
        plan: &Plan,
        options: &LoadOptions,
        skipped: Vec<SkippedFile>,
    ) -> Result<LoadedRows> {
        if self.sources.is_empty() {
            let first = skipped.first().map_or("there was none", |s| s.reason.as_str());
            let found = format!("no image is left of {}; the first: {first}", plan.total);
            return Err(Error::file(dir, found, "check the path"));
        }
        if self.rows.dtype == Dtype::F32 {
            self.scale_to_unit(options.range);
            self.make_variants(plan, options);
        }
        if self.rows.channels == 3 {
            self.variants.make_rgb();
        }
        let file = |source: &Source| &plan.files[source.file];
        let names = self.sources.iter().map(|source| match source.page {
            Some(page) => format!("{}#{page}", file(source).name),
            None => file(source).name.clone(),
        });
        let names = RowNames::Listed(names.collect());
        let of_rows: Vec<&str> = self.sources.iter().map(|source| file(source).class()).collect();
        let (classes, labels) = list::classes(dir, &of_rows)?;
        let shape = ImageShape { channels: self.rows.channels, height: plan.size.1, width: plan.size.0 };
        let origin = dir.to_string_lossy().into_owned();
        let kept = options.augment > 0 && !options.augment_each_epoch;
        Ok(LoadedRows {
            blocks: vec![self.rows.into_block(origin.clone())],
            shape: Some(shape),
            names,
            classes,
            labels,
            test_from: None,
            skipped,
            variants: kept.then(|| self.variants.into_block(origin)),
            working_images: self.working_images,
        })
    }
}

#[cfg(test)]
mod tests;
