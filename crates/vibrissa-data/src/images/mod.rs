//! Pictures from a folder: listed, decoded, brought to one size. No model, no split.
//!
//! [`load`] probes every file (pages, depth, size), decodes batches of pictures in parallel, shrinks each at once and
//! keeps only the rows. The order of rows, the variants and the first error do not depend on the number of threads.

mod decode;
pub(crate) mod list;
mod resample;
mod tiff;

pub use resample::fit_to;
use resample::store;
pub(crate) use resample::{Window, luma_plane, resample, to_level};

use super::augment;
use super::block::{Block, Bytes, Dtype};
use super::rows::{
    Channels, Fit, ImageShape, LoadOptions, Names, Picture, Progress, Range as ValueRange, Rows, Skipped,
};
use decode::{Decoded, Planes, Probe, Scale, Wanted};
use list::Candidate;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vibrissa_core::error::{Error, Result};

/// Sides up to which pictures that all have the same size keep it; the side of all others.
const NATIVE: usize = 64;
/// The longest side of a row's picture.
const MOST_SIDE: usize = 8192;
/// Pages of a stack that one thread decodes in a row: few enough to share a stack, enough to find the first quickly.
const PAGES: usize = 64;
/// Working pictures kept at a time.
const BATCH_BYTES: usize = 128 << 20;

/// Loads a folder of pictures (PNG, JPEG, WebP, BMP, TIFF, GIF; told apart by content), or one file.
///
/// - A row for each picture, sorted by path relative to `dir` (bytes, `/` between folders); each page of a TIFF is a
///   row, named `path#page`. The first frame of an animation is taken. EXIF orientation is applied, transparency is
///   laid over white.
/// - Classes: the sub-folders of `dir`, also for pictures deeper down. Pictures beside them are of the class `.`; if
///   there are no others, there are no classes.
/// - Size, where none is asked for: that of the pictures if all have the same and it is at most 64 × 64, else 64 × 64.
/// - Channels, where none are asked for: grey if in every picture R = G = B, else RGB.
/// - Values: bytes if no picture has more than 8 bits ([`Dtype::U8`]), else floats in [0, 1] ([`Dtype::F32`]) on the
///   scale of [`LoadOptions::range`], where 16-bit and floating-point pictures each have their own largest value and
///   8-bit pictures are value / 255.
/// - With [`LoadOptions::augment`], `variants` holds [`augment::variant_row`]s of epoch 0, or `pictures` the working
///   pictures to draw them from (sides up to twice those of the row; grey ones may have one channel in RGB rows).
///
/// `progress` is called with the pictures done, and of how many, from any thread.
///
/// # Errors
/// One line, for a missing folder, a folder without pictures, a size of 0, and, unless `skip_bad`, for the first
/// picture in path order that is unreadable, empty, no image, truncated, broken or larger than 512 MiB when decoded.
/// With `skip_bad`, if nothing is left.
pub fn load(dir: &Path, options: &LoadOptions, progress: Progress) -> Result<Rows> {
    let listing = list::list(dir)?;
    let mut skipped = Vec::new();
    for error in listing.unreadable {
        skip(error, options, &mut skipped)?;
    }
    let plan = Plan::new(listing.files, options)?;
    let mut gathered = Gathered::new(plan.dtype, plan.size.0 * plan.size.1, options);
    let done = AtomicUsize::new(0);
    for batch in plan.jobs.chunks(plan.jobs_a_batch) {
        let results: Vec<Vec<(Source, Result<Shrunk>)>> = batch
            .par_iter()
            .map(|job| {
                let shrunk = plan.read(job, options);
                progress(done.fetch_add(job.pages.len(), Ordering::Relaxed) + job.pages.len(), plan.total);
                shrunk
            })
            .collect();
        for (source, result) in results.into_iter().flatten() {
            match result {
                Ok(shrunk) => gathered.push(source, shrunk),
                Err(error) => skip(error, options, &mut skipped)?,
            }
        }
        gathered.vary(&plan, options);
    }
    gathered.finish(dir, &plan, options, skipped)
}

fn skip(error: Error, options: &LoadOptions, skipped: &mut Vec<Skipped>) -> Result<()> {
    let (true, Error::File { path, .. } | Error::Io { path, .. }) = (options.skip_bad, &error) else {
        return Err(error);
    };
    skipped.push(Skipped { path: path.clone(), reason: error.to_string() });
    Ok(())
}

/// Some pages of a file; one for formats without pages.
struct Job {
    file: usize,
    pages: Range<usize>,
    /// A TIFF of several pages.
    stack: bool,
    tiff: bool,
}

/// Where a row came from.
#[derive(Clone, Copy)]
struct Source {
    file: usize,
    /// `Some` in a stack.
    page: Option<usize>,
}

/// What is decided before anything is decoded.
struct Plan {
    files: Vec<Candidate>,
    jobs: Vec<Job>,
    jobs_a_batch: usize,
    /// Pictures.
    total: usize,
    /// Width and height of the rows.
    size: (usize, usize),
    dtype: Dtype,
}

impl Plan {
    fn new(files: Vec<Candidate>, options: &LoadOptions) -> Result<Plan> {
        if let Some((width, height)) = options.size
            && !((1..=MOST_SIDE).contains(&width) && (1..=MOST_SIDE).contains(&height))
        {
            let expected = format!("a width and a height from 1 to {MOST_SIDE} pixels");
            return Err(Error::option("--size", expected, format!("{width}x{height}"), "choose another size"));
        }
        // A file that cannot be probed is reported when its turn comes to be decoded.
        let probe = |file: &Candidate, want_size: bool| decode::probe(&file.path, want_size).ok();
        let small = |probe: &Probe| probe.size.is_some_and(|(w, h)| w <= NATIVE && h <= NATIVE);
        let want_size = options.size.is_none() && files.first().and_then(|f| probe(f, true)).is_none_or(|p| small(&p));
        let probes: Vec<Option<Probe>> = files.par_iter().map(|file| probe(file, want_size)).collect();
        let size = options.size.unwrap_or_else(|| {
            let mut known = probes.iter().flatten();
            match known.next() {
                Some(first) if want_size && small(first) && known.all(|p| p.size == first.size) => first.size,
                _ => None,
            }
            .unwrap_or((NATIVE, NATIVE))
        });
        let mut jobs = Vec::new();
        for (file, probe) in probes.iter().enumerate() {
            let pages = probe.as_ref().map_or(1, |p| p.pages);
            let tiff = probe.as_ref().is_some_and(|p| p.tiff);
            for start in (0..pages).step_by(PAGES) {
                jobs.push(Job { file, pages: start..pages.min(start + PAGES), stack: pages > 1, tiff });
            }
        }
        let total = jobs.iter().map(|job| job.pages.len()).sum::<usize>();
        let pages_a_job = total.div_ceil(jobs.len().max(1));
        let working_bytes = size.0 * size.1 * 3 * 4 * if options.augment > 0 { 4 } else { 1 };
        let jobs_a_batch = (BATCH_BYTES / (working_bytes * pages_a_job)).clamp(16, 4096);
        let deep = probes.iter().flatten().any(|p| p.deep);
        Ok(Plan { files, jobs, jobs_a_batch, total, size, dtype: if deep { Dtype::F32 } else { Dtype::U8 } })
    }

    /// Decodes and shrinks the pictures of a job.
    fn read(&self, job: &Job, options: &LoadOptions) -> Vec<(Source, Result<Shrunk>)> {
        let path = &self.files[job.file].path;
        let wanted = Wanted { channels: options.channels, range: options.range };
        let shrink = |decoded: Decoded| match (self.dtype, decoded.scale) {
            // Its depth decided the type of all rows.
            (Dtype::U8, Scale::Sixteen | Scale::Float) => Err(decode::bad(path, "changed while it was read")),
            _ => Ok(Shrunk::new(decoded, self.size, options)),
        };
        if !job.tiff {
            let source = Source { file: job.file, page: None };
            return vec![(source, decode::decode(path, wanted).and_then(shrink))];
        }
        let mut out = Vec::with_capacity(job.pages.len());
        tiff::pages(path, job.pages.clone(), job.stack, wanted, |page, decoded| {
            let source = Source { file: job.file, page: job.stack.then_some(page) };
            out.push((source, decoded.and_then(shrink)));
        });
        out
    }
}

/// A picture brought to the size of a row.
struct Shrunk {
    row: Planes,
    /// At working size, deep ones still on their own scale; only if variants are wanted.
    working: Option<Picture>,
    scale: Scale,
    largest: f32,
}

impl Shrunk {
    fn new(decoded: Decoded, size: (usize, usize), options: &LoadOptions) -> Shrunk {
        let Decoded { size: source, channels, planes, scale, largest } = decoded;
        let working = (options.augment > 0).then(|| {
            let to = working_size(source, size, options.fit);
            let data = match fit_planes(&planes, source, to, options.fit) {
                Planes::Eight(levels) => levels.iter().map(|v| f32::from(*v) / 255.0).collect(),
                Planes::Deep(values) => values,
            };
            Picture { shape: ImageShape { channels, height: to.1, width: to.0 }, data }
        });
        Shrunk { row: fit_planes(&planes, source, size, options.fit), working, scale, largest }
    }
}

fn fit_planes(planes: &Planes, from: (usize, usize), to: (usize, usize), how: Fit) -> Planes {
    match planes {
        Planes::Eight(v) => Planes::Eight(resample::fit(v, from, to, how)),
        Planes::Deep(v) => Planes::Deep(resample::fit(v, from, to, how)),
    }
}

/// The size at which variants are made: as far as the source has the pixels, up to twice the sides of the row.
fn working_size(source: (usize, usize), row: (usize, usize), how: Fit) -> (usize, usize) {
    let across = source.0 as f64 / row.0 as f64;
    let down = source.1 as f64 / row.1 as f64;
    let scale = if how == Fit::Pad { across.max(down) } else { across.min(down) }.clamp(1.0, 2.0);
    ((row.0 as f64 * scale).round() as usize, (row.1 as f64 * scale).round() as usize)
}

/// Rows as bytes, of one channel each until the first coloured one comes.
struct Store {
    dtype: Dtype,
    /// Bytes of a row's plane.
    plane: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl Store {
    fn push(&mut self, row: &[u8]) {
        if row.len() > self.plane {
            self.widen();
        }
        for _ in 0..self.plane * self.channels / row.len() {
            self.bytes.extend_from_slice(row);
        }
    }

    /// Makes grey rows RGB.
    fn widen(&mut self) {
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

/// The rows so far.
struct Gathered {
    rows: Store,
    variants: Store,
    sources: Vec<Source>,
    scales: Vec<Scale>,
    /// Working pictures from row `varied` on.
    pictures: Vec<Picture>,
    /// Rows that have their variants.
    varied: usize,
    largest_sixteen: f32,
    largest_float: f32,
}

impl Gathered {
    fn new(dtype: Dtype, pixels: usize, options: &LoadOptions) -> Gathered {
        let channels = options.channels.map_or(1, Channels::count);
        let store = || Store { dtype, plane: pixels * dtype.size(), channels, bytes: Vec::new() };
        Gathered {
            rows: store(),
            variants: store(),
            sources: Vec::new(),
            scales: Vec::new(),
            pictures: Vec::new(),
            varied: 0,
            largest_sixteen: 0.0,
            largest_float: 0.0,
        }
    }

    fn push(&mut self, source: Source, shrunk: Shrunk) {
        let mut bytes = Vec::new();
        match shrunk.row {
            Planes::Eight(levels) if self.rows.dtype == Dtype::U8 => bytes = levels,
            Planes::Eight(levels) => {
                levels.iter().for_each(|v| bytes.extend_from_slice(&(f32::from(*v) / 255.0).to_le_bytes()));
            }
            Planes::Deep(values) => store(&values, Dtype::F32, &mut bytes),
        }
        self.rows.push(&bytes);
        self.sources.push(source);
        self.scales.push(shrunk.scale);
        self.pictures.extend(shrunk.working);
        match shrunk.scale {
            Scale::Eight => {}
            Scale::Sixteen => self.largest_sixteen = self.largest_sixteen.max(shrunk.largest),
            Scale::Float => self.largest_float = self.largest_float.max(shrunk.largest),
        }
    }

    /// Turns the working pictures of 8-bit rows into variants; those of deep rows wait until their scale is known.
    fn vary(&mut self, plan: &Plan, options: &LoadOptions) {
        if self.rows.dtype == Dtype::U8 {
            self.vary_now(plan, options);
        }
    }

    fn vary_now(&mut self, plan: &Plan, options: &LoadOptions) {
        if options.augment_each_epoch {
            return;
        }
        let (dtype, first) = (self.rows.dtype, self.varied);
        let vary = |(i, picture): (usize, &Picture)| {
            let shape = ImageShape { channels: picture.shape.channels, height: plan.size.1, width: plan.size.0 };
            let mut values = vec![0.0; shape.dim()];
            let mut bytes = Vec::with_capacity(options.augment * shape.dim() * dtype.size());
            for variant in 0..options.augment as u64 {
                let row = (first + i) as u64;
                augment::variant_row(picture, shape, dtype, options.seed, 0, row, variant, &mut values);
                store(&values, dtype, &mut bytes);
            }
            bytes
        };
        let varied: Vec<Vec<u8>> = self.pictures.par_iter().enumerate().map(vary).collect();
        for rows in &varied {
            rows.chunks_exact(rows.len() / options.augment).for_each(|row| self.variants.push(row));
        }
        self.varied += varied.len();
        self.pictures.clear();
    }

    /// What becomes 1.
    fn unit(&self, scale: Scale, range: ValueRange) -> f32 {
        let unit = match (scale, range) {
            (Scale::Eight, _) | (Scale::Float, ValueRange::Full) => 1.0,
            (Scale::Sixteen, ValueRange::Full) => 65535.0,
            (Scale::Sixteen, ValueRange::Auto) => self.largest_sixteen,
            (Scale::Float, ValueRange::Auto) => self.largest_float,
        };
        if unit > 0.0 { unit } else { 1.0 }
    }

    /// Brings deep rows and their working pictures to [0, 1].
    fn scale_to_unit(&mut self, range: ValueRange) {
        let units: Vec<f32> = self.scales.iter().map(|scale| self.unit(*scale, range)).collect();
        // The filter's weights add up to 1 only nearly.
        let scaled = |value: f32, unit: f32| (value / unit).min(1.0);
        let row_bytes = self.rows.row_bytes();
        for (row, unit) in self.rows.bytes.chunks_exact_mut(row_bytes).zip(&units) {
            for bytes in row.chunks_exact_mut(4) {
                let value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                bytes.copy_from_slice(&scaled(value, *unit).to_le_bytes());
            }
        }
        for (picture, unit) in self.pictures.iter_mut().zip(&units) {
            picture.data.iter_mut().for_each(|value| *value = scaled(*value, *unit));
        }
    }

    fn finish(mut self, dir: &Path, plan: &Plan, options: &LoadOptions, skipped: Vec<Skipped>) -> Result<Rows> {
        if self.sources.is_empty() {
            let first = skipped.first().map_or("none was there", |s| s.reason.as_str());
            let found = format!("no picture is left of {}; the first: {first}", plan.total);
            return Err(Error::file(dir, found, "check the path"));
        }
        if self.rows.dtype == Dtype::F32 {
            self.scale_to_unit(options.range);
            self.vary_now(plan, options);
        }
        if self.rows.channels == 3 {
            self.variants.widen();
        }
        let file = |source: &Source| &plan.files[source.file];
        let names = self.sources.iter().map(|source| match source.page {
            Some(page) => format!("{}#{page}", file(source).name),
            None => file(source).name.clone(),
        });
        let names = Names::Listed(names.collect());
        let of_rows: Vec<&str> = self.sources.iter().map(|source| file(source).class()).collect();
        let (classes, labels) = list::classes(dir, &of_rows)?;
        let shape = ImageShape { channels: self.rows.channels, height: plan.size.1, width: plan.size.0 };
        let origin = dir.to_string_lossy().into_owned();
        let kept = options.augment > 0 && !options.augment_each_epoch;
        Ok(Rows {
            blocks: vec![self.rows.into_block(origin.clone())],
            shape: Some(shape),
            names,
            classes,
            labels,
            test_from: None,
            skipped,
            variants: kept.then(|| self.variants.into_block(origin)),
            pictures: self.pictures,
        })
    }
}

#[cfg(test)]
mod tests;
