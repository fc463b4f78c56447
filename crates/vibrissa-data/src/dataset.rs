//! The data set: originals and their variants, read as batches of f32 rows.

mod patches;

use crate::augment::{self, VariantKey};
use crate::block::{Block, Bytes, Dtype};
use crate::patches::PatchLayout;
use crate::rows::{Fit, Image, LoadOptions, LoadedRows, OnProgress, RowNames, SkippedFile};
use crate::synthetic::Synthetic;
use crate::{arrays, images};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::MatMut;
use vibrissa_core::shape::{ImageShape, PatchGrid};

/// A data set that is read in batches of f32 rows.
///
/// A row is numbered `original * (1 + augment) + variant`, variant 0 being the original itself. Where rows are patches
/// (`patches.rs`), that number is the image's, and the row is `image * patches_per_image + position`.
#[derive(Clone, Debug)]
pub struct Dataset {
    rows: LoadedRows,
    /// The first original of each block.
    starts: Vec<usize>,
    originals: usize,
    /// Number of values of a whole original.
    dim: usize,
    patches: Option<PatchLayout>,
    augment: usize,
    each_epoch: bool,
    seed: u64,
}

/// Loads rows by the loader that reads `spec`.
fn load(spec: &str, options: &LoadOptions, on_progress: OnProgress) -> Result<LoadedRows> {
    if Synthetic::is_synthetic(spec) {
        return Ok(Synthetic::parse(spec)?.rows());
    }
    if arrays::is_array_spec(spec) {
        return arrays::load(spec, options);
    }
    let path = Path::new(spec);
    if !path.exists() {
        let remedy = "give a folder of images, a .npy or .safetensors file, or synthetic:";
        return Err(Error::file(path, "no such file or folder", remedy));
    }
    refuse_other_tables(path)?;
    images::load(path, options, on_progress)
}

/// Refuses tables of text and archives of arrays, with the way to turn them into a format that is read.
fn refuse_other_tables(path: &Path) -> Result<()> {
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

/// Largest size of all variants, in bytes, that is kept in memory; variants of a larger set are made at each visit.
const VARIANTS_IN_MEMORY: usize = 4 << 30;

impl Dataset {
    /// Opens the data set that `spec` names: a folder of images, a folder with MNIST's idx files, an array file (or a
    /// folder of them), or `synthetic:…`.
    ///
    /// # Errors
    /// A file that cannot be read, by its name; NaN or infinity, by row and column; options that do not fit the data.
    ///
    /// ```
    /// use vibrissa_core::matrix::Mat;
    /// use vibrissa_data::{Dataset, rows::LoadOptions};
    ///
    /// let data = Dataset::open("synthetic:rows=100,size=8", &LoadOptions::default(), &|_done, _total| ())?;
    /// assert_eq!((data.originals(), data.dim()), (100, 64));
    /// let mut batch = Mat::zeros(3, data.dim());
    /// data.fill(&[0, 1, 2], 0, batch.view_mut());
    /// assert!(batch.data().iter().all(|v| (0.0..=1.0).contains(v)));
    /// # Ok::<(), vibrissa_core::Error>(())
    /// ```
    pub fn open(spec: &str, options: &LoadOptions, on_progress: OnProgress) -> Result<Dataset> {
        if options.size.is_some_and(|(width, height)| width == 0 || height == 0) {
            return Err(Error::option("size", "at least 1 pixel a side", 0, "such as `size 28` or `size 96x64`"));
        }
        let rows = load(spec, options, on_progress)?;
        arrays::check_finite(&rows, on_progress)?;
        let mut data = Dataset::from_rows(rows)?;
        let shape = data.rows.shape.map(|s| ImageShape {
            channels: options.channels.map_or(s.channels, |c| c.count()),
            height: options.size.map_or(s.height, |s| s.1),
            width: options.size.map_or(s.width, |s| s.0),
        });
        if let Some(shape) = shape {
            data.reshape(shape, options.fit);
        } else if options.augment > 0 {
            return Err(Error::option("augment", "images", "rows of numbers", "leave it out for arrays"));
        }
        (data.augment, data.each_epoch, data.seed) = (options.augment, options.augment_each_epoch, options.seed);
        if let Some(grid) = options.patches {
            data.set_patches(grid)?;
        }
        data.store_variants();
        Ok(data)
    }

    /// Makes a data set of loaded rows as they are.
    ///
    /// # Errors
    /// [`Error::Option`] when there is no row.
    pub fn from_rows(rows: LoadedRows) -> Result<Dataset> {
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
        Ok(Dataset { rows, starts, originals, dim, patches: None, augment: 0, each_epoch: false, seed: 0 })
    }

    /// Brings images that came as rows of another shape (idx files, synthetic rows) to the wanted one.
    fn reshape(&mut self, shape: ImageShape, fit: Fit) {
        let Some(from) = self.rows.shape.filter(|&from| from != shape) else { return };
        let dim = shape.dim();
        let mut values = vec![0.0f32; self.originals * dim];
        values.par_chunks_mut(dim).enumerate().for_each(|(i, out)| {
            let mut data = vec![0.0; from.dim()];
            self.read_original(i, &mut data);
            out.copy_from_slice(&images::fit_to(&Image { shape: from, data }, shape, fit));
        });
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        let origin = self.rows.blocks[0].origin.clone();
        if let RowNames::ByBlock = self.rows.names {
            self.rows.names = RowNames::Listed((0..self.originals).map(|i| self.name(i)).collect());
        }
        let bytes = Bytes::Owned(Arc::new(bytes.to_vec()));
        self.rows.blocks = vec![Block::new(origin, bytes, 0, Dtype::F32, self.originals, dim)];
        (self.starts, self.dim, self.rows.shape) = (vec![0], dim, Some(shape));
    }

    /// Makes the variants of images that came as rows; a folder of images is loaded with its variants.
    fn store_variants(&mut self) {
        if self.augment == 0 || self.rows.variants.is_some() || !self.rows.working_images.is_empty() || self.each_epoch
        {
            return;
        }
        let values = self.originals * self.augment * self.dim;
        if values * 4 > VARIANTS_IN_MEMORY {
            return;
        }
        let mut out = vec![0.0f32; values];
        out.par_chunks_mut(self.dim).enumerate().for_each(|(i, out)| {
            self.make_variant(i / self.augment, i % self.augment, 0, out);
        });
        let bytes = Bytes::Owned(Arc::new(bytemuck::cast_slice::<f32, u8>(&out).to_vec()));
        let rows = self.originals * self.augment;
        self.rows.variants = Some(Block::new("variants".into(), bytes, 0, Dtype::F32, rows, self.dim));
    }

    /// Makes one variant.
    fn make_variant(&self, original: usize, variant: usize, epoch: u64, out: &mut [f32]) {
        let shape = self.rows.shape.expect("only images are augmented");
        let key = VariantKey { seed: self.seed, epoch, row: original as u64, variant: variant as u64 };
        let dtype = self.rows.blocks[0].dtype();
        match self.rows.working_images.get(original) {
            Some(image) => augment::variant_row(image, shape, dtype, key, out),
            None => {
                let mut data = vec![0.0; self.dim];
                self.read_original(original, &mut data);
                augment::variant_row(&Image { shape, data }, shape, dtype, key, out);
            }
        }
    }

    fn read_original(&self, original: usize, out: &mut [f32]) {
        let block = self.starts.partition_point(|&s| s <= original) - 1;
        self.rows.blocks[block].read(original - self.starts[block], out);
    }

    /// Returns the number of originals.
    pub fn originals(&self) -> usize {
        self.originals
    }

    /// Returns the number of images of each original: itself and its variants.
    pub fn copies(&self) -> usize {
        1 + self.augment
    }

    /// Returns a text of everything that decides how values are read from the files. Checkpoints keep a hash of it: its
    /// wording must stay.
    pub fn load_description(&self) -> String {
        let patches = self.patches.as_ref().map_or(String::new(), |p| {
            let PatchGrid { height, width, stride } = p.grid();
            format!(" PatchSize {{ height: {height}, width: {width}, stride: {stride:?} }}")
        });
        format!("{:?} {} {} {}{patches}", self.rows.shape, self.augment, self.each_epoch, self.seed)
    }

    /// Returns the number of values of a row.
    pub fn dim(&self) -> usize {
        self.patches.as_ref().map_or(self.dim, |p| p.shape().dim())
    }

    /// Returns the shape of the rows, where they are images or patches.
    pub fn shape(&self) -> Option<ImageShape> {
        self.patches.as_ref().map_or(self.rows.shape, |p| Some(p.shape()))
    }

    /// Returns the class names, in order; empty = no classes.
    pub fn classes(&self) -> &[String] {
        &self.rows.classes
    }

    /// Returns the class of a row, as an index into [`Dataset::classes`].
    pub fn label(&self, row: usize) -> Option<u16> {
        self.rows.labels.get(self.original(row)).copied()
    }

    /// Returns the first test original, where the files themselves are divided into training and test rows (MNIST).
    pub fn test_from(&self) -> Option<usize> {
        self.rows.test_from
    }

    /// Returns the files that were left out because of [`LoadOptions::skip_bad`].
    pub fn skipped(&self) -> &[SkippedFile] {
        &self.rows.skipped
    }

    /// Returns the name of an original, which is its identity in splits.
    pub fn name(&self, original: usize) -> String {
        match &self.rows.names {
            RowNames::Listed(names) => names[original].clone(),
            RowNames::ByBlock => {
                let block = self.starts.partition_point(|&s| s <= original) - 1;
                format!("{}:{}", self.rows.blocks[block].origin, original - self.starts[block])
            }
        }
    }

    /// Returns the rows of these originals, each with its variants, in order.
    pub fn with_variants(&self, originals: &[usize]) -> Vec<usize> {
        let each = self.copies() * self.rows_per_image();
        originals.iter().flat_map(|&o| o * each..(o + 1) * each).collect()
    }

    /// Returns the rows of these originals without variants.
    pub fn without_variants(&self, originals: &[usize]) -> Vec<usize> {
        let (each, of_original) = (self.copies() * self.rows_per_image(), self.rows_per_image());
        originals.iter().flat_map(|&o| o * each..o * each + of_original).collect()
    }

    /// Returns the number of rows to read at a time in a pass over all: at most 256, and at most a million values, so
    /// that wide rows need no more memory than narrow ones.
    pub fn batch_rows(&self, rows: usize) -> usize {
        ((1 << 20) / self.dim().max(1)).clamp(16, 256).min(rows.max(1))
    }

    /// Reads one row as f32.
    pub fn read(&self, row: usize, epoch: u64, out: &mut [f32]) {
        let Some(patches) = &self.patches else { return self.read_image(row, epoch, out) };
        let (image, position) = (row / patches.patches_per_image(), row % patches.patches_per_image());
        match self.stored(image) {
            Some((block, at)) => patches.cut_by(position, out, |from, out| block.read_part(at, from, out)),
            None => {
                let mut whole = vec![0.0; self.dim];
                self.make_variant_image(image, epoch, &mut whole);
                patches.cut(&whole, position, out);
            }
        }
    }

    /// Reads one whole image; without patches that is a row.
    pub fn read_image(&self, image: usize, epoch: u64, out: &mut [f32]) {
        match self.stored(image) {
            Some((block, at)) => block.read(at, out),
            None => self.make_variant_image(image, epoch, out),
        }
    }

    /// Returns the block and the row in it that hold an image; `None` for a variant that is made at each visit.
    fn stored(&self, image: usize) -> Option<(&Block, usize)> {
        let (original, variant) = (image / self.copies(), image % self.copies());
        if variant == 0 {
            let block = self.starts.partition_point(|&s| s <= original) - 1;
            return Some((&self.rows.blocks[block], original - self.starts[block]));
        }
        self.rows.variants.as_ref().map(|block| (block, original * self.augment + variant - 1))
    }

    fn make_variant_image(&self, image: usize, epoch: u64, out: &mut [f32]) {
        let (original, variant) = (image / self.copies(), image % self.copies());
        self.make_variant(original, variant - 1, if self.each_epoch { epoch } else { 0 }, out);
    }

    /// Reads a batch, in parallel.
    ///
    /// # Shapes
    /// `rows` B numbers → `out [B, D]`.
    pub fn fill(&self, rows: &[usize], epoch: u64, mut out: MatMut) {
        assert_eq!((out.rows(), out.cols()), (rows.len(), self.dim()));
        out.data().par_chunks_mut(self.dim()).zip(rows).for_each(|(out, &row)| self.read(row, epoch, out));
    }

    /// Returns the mean of each column `[D]`, and the mean squared distance of a row from it. Sums in f64 over fixed
    /// chunks of rows, added in order.
    pub fn moments(&self, rows: &[usize]) -> (Vec<f64>, f64) {
        moments(rows, self.dim(), |row, out| self.read(row, 0, out))
    }

    /// Returns the first value of these rows that is not between 0 and 1: the name of its row, its column, and the
    /// value.
    pub fn first_outside_unit(&self, rows: &[usize]) -> Option<(String, usize, f32)> {
        if self.shape().is_some() {
            return None;
        }
        let outside = |&row: &usize| {
            let mut values = vec![0.0; self.dim()];
            self.read(row, 0, &mut values);
            let column = values.iter().position(|v| !(0.0..=1.0).contains(v))?;
            Some((self.name(self.original(row)), column, values[column]))
        };
        rows.par_iter().find_map_first(outside)
    }

    /// Returns the same as [`Dataset::moments`] of the whole images that these rows belong to.
    pub fn image_moments(&self, rows: &[usize]) -> (Vec<f64>, f64) {
        moments(&self.images(rows), self.dim, |image, out| self.read_image(image, 0, out))
    }
}

/// Returns the means of columns and the mean squared distance from them, of rows that `read` gives.
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
