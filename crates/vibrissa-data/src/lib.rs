//! Rows of numbers from files: images, arrays, or a generator. Data never sees models.
//!
//! files → [`Rows`](rows::Rows) (originals with names and classes) → [`Dataset`] → batches of f32.

pub mod arrays;
pub mod augment;
pub mod block;
pub mod images;
pub mod npz;
pub mod patches;
pub mod rows;
pub mod split;
pub mod synthetic;
pub mod table;

use block::{Block, Bytes, Dtype};
use patches::Patches;
use rayon::prelude::*;
use rows::{Fit, ImageShape, LoadOptions, Names, Picture, Progress, Rows, Skipped};
use std::path::Path;
use std::sync::Arc;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::MatMut;

/// Rows from one place, ready to be read as f32 batches.
///
/// A row is numbered `original * (1 + augment) + variant`, variant 0 being the original itself; where rows are patches
/// (`patches.rs`), that times the patches of a picture, plus the place of the patch.
#[derive(Clone, Debug)]
pub struct Dataset {
    rows: Rows,
    /// First original of each block.
    starts: Vec<usize>,
    originals: usize,
    /// Values of an original, whole.
    dim: usize,
    patches: Option<Patches>,
    augment: usize,
    each_epoch: bool,
    seed: u64,
    scale: f32,
}

/// Tables of text and archives of arrays, with the way to turn them into what is read.
fn refuse_tables(path: &Path) -> Result<()> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let load = match extension.as_str() {
        "csv" | "tsv" | "txt" if path.is_file() => "numpy.loadtxt(FILE, delimiter=',', skiprows=1)",
        "npz" => "numpy.load(FILE)['NAME']",
        "h5" | "hdf5" => "h5py.File(FILE)['NAME'][:]",
        "mat" => "scipy.io.loadmat(FILE)['NAME']",
        "parquet" => "pandas.read_parquet(FILE).to_numpy()",
        _ => return Ok(()),
    };
    let remedy = format!("save it as an array in Python: numpy.save('rows.npy', {load}.astype('float32'))");
    Err(Error::file(path, "is not a format this program reads (.npy, .safetensors, folders of images)", remedy))
}

/// Bytes of variants that are kept in memory; a larger set is drawn again at each visit.
const VARIANTS_IN_MEMORY: usize = 4 << 30;

impl Dataset {
    /// Opens what `spec` names: a folder of images, a folder with MNIST's idx files, an array (or a folder of them), or
    /// `synthetic:…`.
    ///
    /// # Errors
    /// One line that names the file and the remedy; NaN or infinity by row and column.
    pub fn open(spec: &str, options: &LoadOptions, progress: Progress) -> Result<Dataset> {
        if let Some(range) =
            [options.size.map(|s| s.0), options.size.map(|s| s.1)].into_iter().flatten().find(|&n| n == 0)
        {
            return Err(Error::option("--size", "at least 1 pixel a side", range, "e.g. --size 28 or --size 96x64"));
        }
        let rows = if synthetic::Synthetic::named(spec) {
            synthetic::Synthetic::parse(spec)?.rows()
        } else if arrays::looks_like(spec) {
            arrays::load(spec, options)?
        } else {
            let path = Path::new(spec);
            if !path.exists() {
                return Err(Error::file(
                    path,
                    "no such file or folder",
                    "give a folder of images, a .npy or .safetensors file, or synthetic:",
                ));
            }
            refuse_tables(path)?;
            images::load(path, options, progress)?
        };
        arrays::check_finite(&rows, progress)?;
        let mut data = Dataset::from_rows(rows)?;
        let shape = data.rows.shape.map(|s| ImageShape {
            channels: options.channels.map_or(s.channels, |c| c.count()),
            height: options.size.map_or(s.height, |s| s.1),
            width: options.size.map_or(s.width, |s| s.0),
        });
        if let Some(shape) = shape {
            data.reshape(shape, options.fit);
        } else if options.augment > 0 {
            return Err(Error::option("--augment", "pictures", "rows of numbers", "leave it out for arrays"));
        }
        (data.augment, data.each_epoch, data.seed) = (options.augment, options.augment_each_epoch, options.seed);
        if let Some(size) = options.patches {
            data.set_patches(size)?;
        }
        data.prepare_variants();
        Ok(data)
    }

    /// A data set of these rows as they are.
    ///
    /// # Errors
    /// [`Error::Option`] when there is no row.
    pub fn from_rows(rows: Rows) -> Result<Dataset> {
        let dim = rows.blocks.first().map_or(0, Block::dim);
        let mut starts = Vec::with_capacity(rows.blocks.len());
        let mut originals = 0;
        for block in &rows.blocks {
            starts.push(originals);
            originals += block.rows();
        }
        if originals == 0 || dim == 0 {
            return Err(Error::option("data", "at least one row", "none", "give a data set that is not empty"));
        }
        let (patches, seed, scale) = (None, 0, 1.0);
        Ok(Dataset { rows, starts, originals, dim, patches, augment: 0, each_epoch: false, seed, scale })
    }

    /// Brings rows that came as pictures of another shape (idx files, synthetic ones) to the wanted one.
    fn reshape(&mut self, shape: ImageShape, fit: Fit) {
        let Some(from) = self.rows.shape.filter(|&from| from != shape) else { return };
        let dim = shape.dim();
        let mut values = vec![0.0f32; self.originals * dim];
        values.par_chunks_mut(dim).enumerate().for_each(|(i, out)| {
            let mut data = vec![0.0; from.dim()];
            self.read_original(i, &mut data);
            out.copy_from_slice(&images::fit_to(&Picture { shape: from, data }, shape, fit));
        });
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let origin = self.rows.blocks[0].origin.clone();
        if let Names::ByBlock = self.rows.names {
            self.rows.names = Names::Listed((0..self.originals).map(|i| self.name(i)).collect());
        }
        let bytes = Bytes::Owned(Arc::new(bytes.to_vec()));
        self.rows.blocks = vec![Block::new(origin, bytes, 0, Dtype::F32, self.originals, dim)];
        (self.starts, self.dim, self.rows.shape) = (vec![0], dim, Some(shape));
    }

    /// Pictures that came as rows get their variants here; folders of images bring their own.
    fn prepare_variants(&mut self) {
        if self.augment == 0 || self.rows.variants.is_some() || !self.rows.pictures.is_empty() || self.each_epoch {
            return;
        }
        let values = self.originals * self.augment * self.dim;
        if values * 4 > VARIANTS_IN_MEMORY {
            return;
        }
        let mut out = vec![0.0f32; values];
        out.par_chunks_mut(self.dim).enumerate().for_each(|(i, out)| {
            self.draw(i / self.augment, i % self.augment, 0, out);
        });
        let bytes = Bytes::Owned(Arc::new(bytemuck::cast_slice::<f32, u8>(&out).to_vec()));
        let rows = self.originals * self.augment;
        self.rows.variants = Some(Block::new("variants".into(), bytes, 0, Dtype::F32, rows, self.dim));
    }

    /// One variant, drawn now.
    fn draw(&self, original: usize, variant: usize, epoch: u64, out: &mut [f32]) {
        let shape = self.rows.shape.expect("only pictures are augmented");
        let (row, variant) = (original as u64, variant as u64);
        let dtype = self.rows.blocks[0].dtype();
        match self.rows.pictures.get(original) {
            Some(picture) => augment::variant_row(picture, shape, dtype, self.seed, epoch, row, variant, out),
            None => {
                let mut data = vec![0.0; self.dim];
                self.read_original(original, &mut data);
                augment::variant_row(&Picture { shape, data }, shape, dtype, self.seed, epoch, row, variant, out);
            }
        }
    }

    fn read_original(&self, original: usize, out: &mut [f32]) {
        let block = self.starts.partition_point(|&s| s <= original) - 1;
        self.rows.blocks[block].read(original - self.starts[block], out);
    }

    /// Number of originals.
    pub fn originals(&self) -> usize {
        self.originals
    }

    /// Pictures for each original: itself and its variants.
    pub fn copies(&self) -> usize {
        1 + self.augment
    }

    /// How rows come out of the files, as one text: another text may mean other numbers.
    pub fn how_read(&self) -> String {
        let patches = self.patches.as_ref().map_or(String::new(), |p| format!(" {:?}", p.size()));
        format!("{:?} {} {} {}{patches}", self.rows.shape, self.augment, self.each_epoch, self.seed)
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.patches.as_ref().map_or(self.dim, |p| p.shape().dim())
    }

    /// Set where rows are pictures, whole or patches.
    pub fn shape(&self) -> Option<ImageShape> {
        self.patches.as_ref().map_or(self.rows.shape, |p| Some(p.shape()))
    }

    /// Class names, in order; empty = no classes.
    pub fn classes(&self) -> &[String] {
        &self.rows.classes
    }

    /// Class of a row, into [`Dataset::classes`].
    pub fn label(&self, row: usize) -> Option<u16> {
        self.rows.labels.get(self.original(row)).copied()
    }

    /// Originals from this one on are the test set by the files' own word (MNIST).
    pub fn test_from(&self) -> Option<usize> {
        self.rows.test_from
    }

    /// What `--skip-bad` left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.rows.skipped
    }

    /// The identity of an original, by which it is split.
    pub fn name(&self, original: usize) -> String {
        match &self.rows.names {
            Names::Listed(names) => names[original].clone(),
            Names::ByBlock => {
                let block = self.starts.partition_point(|&s| s <= original) - 1;
                format!("{}:{}", self.rows.blocks[block].origin, original - self.starts[block])
            }
        }
    }

    /// Multiplies every value read from now on. A power of two, so that folding it back is exact.
    pub fn set_scale(&mut self, scale: f32) {
        self.scale = scale;
    }

    /// The rows of these originals: each with its variants, in order.
    pub fn with_variants(&self, originals: &[usize]) -> Vec<usize> {
        let each = self.copies() * self.places();
        originals.iter().flat_map(|&o| o * each..(o + 1) * each).collect()
    }

    /// The rows of these originals without variants.
    pub fn without_variants(&self, originals: &[usize]) -> Vec<usize> {
        let (each, places) = (self.copies() * self.places(), self.places());
        originals.iter().flat_map(|&o| o * each..o * each + places).collect()
    }

    /// Rows to read at a time where all are looked at once: at most 256 and at most a million values, so that wide rows
    /// need no more memory than narrow ones.
    pub fn batch_rows(&self, rows: usize) -> usize {
        ((1 << 20) / self.dim().max(1)).clamp(16, 256).min(rows.max(1))
    }

    /// Reads one row as f32.
    pub fn read(&self, row: usize, epoch: u64, out: &mut [f32]) {
        let Some(patches) = &self.patches else { return self.read_picture(row, epoch, out) };
        let (picture, place) = (row / patches.places(), row % patches.places());
        match self.stored(picture) {
            Some((block, at)) => patches.cut_by(place, out, |from, out| block.read_part(at, from, out)),
            None => {
                let mut whole = vec![0.0; self.dim];
                self.draw_picture(picture, epoch, &mut whole);
                patches.cut(&whole, place, out);
            }
        }
        self.rescale(out);
    }

    /// Reads one whole picture; without patches that is a row.
    pub fn read_picture(&self, picture: usize, epoch: u64, out: &mut [f32]) {
        match self.stored(picture) {
            Some((block, at)) => block.read(at, out),
            None => self.draw_picture(picture, epoch, out),
        }
        self.rescale(out);
    }

    /// Where a picture is kept: its block, and which row of it; `None` for a variant that is drawn at each visit.
    fn stored(&self, picture: usize) -> Option<(&Block, usize)> {
        let (original, variant) = (picture / self.copies(), picture % self.copies());
        if variant == 0 {
            let block = self.starts.partition_point(|&s| s <= original) - 1;
            return Some((&self.rows.blocks[block], original - self.starts[block]));
        }
        self.rows.variants.as_ref().map(|block| (block, original * self.augment + variant - 1))
    }

    fn draw_picture(&self, picture: usize, epoch: u64, out: &mut [f32]) {
        let (original, variant) = (picture / self.copies(), picture % self.copies());
        self.draw(original, variant - 1, if self.each_epoch { epoch } else { 0 }, out);
    }

    fn rescale(&self, out: &mut [f32]) {
        if self.scale != 1.0 {
            out.iter_mut().for_each(|v| *v *= self.scale);
        }
    }

    /// Reads a batch, in parallel.
    ///
    /// # Shapes
    /// `rows` B numbers → `out [B, D]`.
    pub fn fill(&self, rows: &[usize], epoch: u64, mut out: MatMut) {
        assert_eq!((out.rows(), out.cols()), (rows.len(), self.dim()));
        out.data().par_chunks_mut(self.dim()).zip(rows).for_each(|(out, &row)| self.read(row, epoch, out));
    }

    /// Mean of each column `[D]`, and the mean squared distance of a row from it. Sums in f64 over fixed chunks of
    /// rows, added in order.
    pub fn moments(&self, rows: &[usize]) -> (Vec<f64>, f64) {
        moments(rows, self.dim(), |row, out| self.read(row, 0, out))
    }

    /// The first value of these rows that is not between 0 and 1: the name of its row, its column, and the value.
    pub fn first_outside_unit(&self, rows: &[usize]) -> Option<(String, usize, f32)> {
        if self.shape().is_some() {
            return None;
        }
        let outside = |&row: &usize| {
            let mut values = vec![0.0; self.dim()];
            self.read(row, 0, &mut values);
            let column = values.iter().position(|v| !(0.0..=1.0).contains(v))?;
            Some((self.name(row / self.copies()), column, values[column]))
        };
        rows.par_iter().find_map_first(outside)
    }

    /// As [`Dataset::moments`], of the whole pictures of these rows.
    pub fn picture_moments(&self, rows: &[usize]) -> (Vec<f64>, f64) {
        moments(&self.pictures(rows), self.dim, |picture, out| self.read_picture(picture, 0, out))
    }
}

fn moments(rows: &[usize], dim: usize, read: impl Fn(usize, &mut [f32]) + Sync) -> (Vec<f64>, f64) {
    const CHUNKS: usize = 32;
    let size = rows.len().div_ceil(CHUNKS).max(1);
    let parts: Vec<(Vec<f64>, f64)> = rows
        .par_chunks(size)
        .map(|part| {
            let (mut sum, mut squares) = (vec![0.0f64; dim], 0.0f64);
            let mut row = vec![0.0f32; dim];
            for &r in part {
                read(r, &mut row);
                for (s, &v) in sum.iter_mut().zip(&row) {
                    *s += f64::from(v);
                }
                squares += row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
            }
            (sum, squares)
        })
        .collect();
    let n = rows.len() as f64;
    let mut mean = vec![0.0f64; dim];
    let mut squares = 0.0;
    for (sum, s) in &parts {
        mean.iter_mut().zip(sum).for_each(|(m, &v)| *m += v / n);
        squares += s / n;
    }
    let spread = (squares - mean.iter().map(|m| m * m).sum::<f64>()).max(0.0);
    (mean, spread)
}
