//! Images as overlapping patches, and back: what a convolutional model sees, and what becomes of what it gives. No model,
//! no file, no split.
//!
//! A picture `[C, H, W]` and patches of p × q pixels every s × t pixels. Tops are 0, s, 2s, … as far as a patch fits, and
//! H - p where that leaves pixels uncovered; lefts likewise. The patch at place `i` (row by row: `i = down · columns +
//! across`) is a row `[C · p · q]` of a [`Dataset`]; one model makes all of them, so its features are shared by all places:
//!
//! ```text
//! x_i = patch i of the picture          recon_i = model(x_i)
//! recon[c, y, x] = Σ_i recon_i[c, y - top_i, x - left_i] / n[y, x]      over the n[y, x] patches that cover the pixel
//! ```
//!
//! Identity: originals, variants, names, classes and the mean of all stay those of whole pictures; only rows are patches.
//! Row `(original · copies + variant) · places + place` is cut when it is read, out of the original or the variant, which
//! was drawn from the whole picture: nothing is held in memory twice, and whatever divides originals (hash, list, groups,
//! folds) leaves all patches of a picture on one side.

use super::Dataset;
use super::rows::ImageShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::{Mat, MatMut, MatRef};
use vibrissa_core::random::{Stream, mix};

/// Size of the patches, and how far apart they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchSize {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels from one patch to the next, down and across; 1 to the patch's height and width.
    pub stride: [usize; 2],
}

impl PatchSize {
    /// Patches half a patch apart: every pixel but those near the border lies in four.
    pub fn half(height: usize, width: usize) -> PatchSize {
        PatchSize { height, width, stride: [(height / 2).max(1), (width / 2).max(1)] }
    }
}

/// The patches of pictures of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    picture: ImageShape,
    size: PatchSize,
    tops: Vec<usize>,
    lefts: Vec<usize>,
    /// How many patches lie over each row of pixels, and over each column: a pixel has the product.
    over: [Vec<u32>; 2],
}

/// Where patches of `side` pixels begin, every `stride` pixels of `length`; the last one ends at the border.
fn begins(length: usize, side: usize, stride: usize) -> Vec<usize> {
    let last = length - side;
    let mut out: Vec<usize> = (0..=last).step_by(stride).collect();
    if out.last() != Some(&last) {
        out.push(last);
    }
    out
}

fn counts(begins: &[usize], side: usize, length: usize) -> Vec<u32> {
    let mut out = vec![0; length];
    begins.iter().for_each(|&b| out[b..b + side].iter_mut().for_each(|n| *n += 1));
    out
}

impl Patches {
    /// The patches of `picture`.
    ///
    /// # Errors
    /// [`Error::Option`] for a patch that is empty or larger than the picture, a stride of 0, or one larger than the
    /// patch, which would leave pixels out.
    pub fn new(picture: ImageShape, size: PatchSize) -> Result<Patches> {
        let PatchSize { height, width, stride: [down, across] } = size;
        if height == 0 || width == 0 || height > picture.height || width > picture.width {
            let expected = format!("1x1 to {}x{} pixels, the size of the pictures", picture.width, picture.height);
            let remedy = "choose a smaller patch, or larger pictures with --size";
            return Err(Error::option("--patch", expected, format!("{width}x{height}"), remedy));
        }
        if down == 0 || across == 0 || down > height || across > width {
            let expected = format!("1x1 to {width}x{height} pixels, the size of the patch");
            let remedy = "pixels between patches would belong to none; half a patch is usual";
            return Err(Error::option("--stride", expected, format!("{across}x{down}"), remedy));
        }
        let (tops, lefts) = (begins(picture.height, height, down), begins(picture.width, width, across));
        let over = [counts(&tops, height, picture.height), counts(&lefts, width, picture.width)];
        Ok(Patches { picture, size, tops, lefts, over })
    }

    /// The whole pictures.
    pub fn picture(&self) -> ImageShape {
        self.picture
    }

    /// Size and stride.
    pub fn size(&self) -> PatchSize {
        self.size
    }

    /// One patch.
    pub fn shape(&self) -> ImageShape {
        ImageShape { channels: self.picture.channels, height: self.size.height, width: self.size.width }
    }

    /// Places down and across.
    pub fn grid(&self) -> [usize; 2] {
        [self.tops.len(), self.lefts.len()]
    }

    /// Patches a picture.
    pub fn places(&self) -> usize {
        self.tops.len() * self.lefts.len()
    }

    /// Top and left pixel of a place.
    pub fn at(&self, place: usize) -> [usize; 2] {
        [self.tops[place / self.lefts.len()], self.lefts[place % self.lefts.len()]]
    }

    /// The lines of pixels of a patch: where each begins in the picture, those of the first channel first.
    fn lines(&self, place: usize) -> impl Iterator<Item = usize> {
        let ([top, left], ImageShape { channels, height, width }, tall) =
            (self.at(place), self.picture, self.size.height);
        (0..channels).flat_map(move |c| (0..tall).map(move |y| (c * height + top + y) * width + left))
    }

    /// Writes the patch at a place; `read(from, out)` gives the values of a picture from its value number `from` on.
    pub(super) fn cut_by(&self, place: usize, out: &mut [f32], read: impl Fn(usize, &mut [f32])) {
        self.lines(place).zip(out.chunks_exact_mut(self.size.width)).for_each(|(from, out)| read(from, out));
    }

    /// Writes the patch of a picture at a place.
    ///
    /// # Shapes
    /// `picture [C · H · W]` → `out [C · p · q]`.
    pub fn cut(&self, picture: &[f32], place: usize, out: &mut [f32]) {
        self.cut_by(place, out, |from, out| out.copy_from_slice(&picture[from..from + out.len()]));
    }

    /// Adds a patch where it lies.
    ///
    /// # Shapes
    /// `patch [C · p · q]`, `sum [C · H · W]`.
    pub fn add(&self, place: usize, patch: &[f32], sum: &mut [f64]) {
        for (from, line) in self.lines(place).zip(patch.chunks_exact(self.size.width)) {
            sum[from..from + line.len()].iter_mut().zip(line).for_each(|(s, &v)| *s += f64::from(v));
        }
    }

    /// The mean of all that was added to each pixel, once every place was. Sums in f64 make it exact where all agree.
    ///
    /// # Shapes
    /// `sum [C · H · W]` → `out [C · H · W]`.
    pub fn average(&self, sum: &[f64], out: &mut [f32]) {
        let (height, width) = (self.picture.height, self.picture.width);
        for (line, (out, sum)) in out.chunks_exact_mut(width).zip(sum.chunks_exact(width)).enumerate() {
            let down = f64::from(self.over[0][line % height]);
            for ((out, &sum), &across) in out.iter_mut().zip(sum).zip(&self.over[1]) {
                *out = (sum / (down * f64::from(across))) as f32;
            }
        }
    }
}

/// Patches that a model is given at a time.
const BATCH: usize = 512;

/// Makes pictures of pictures by way of their patches: `model(from, x, recon)` is given patches in order, `from` being the
/// place in the batch of the picture of each, and their reconstructions are averaged. Without patches the model is given
/// the rows as they are.
///
/// # Shapes
/// `pictures [B, C · H · W]` → `recon` alike; the model `x [n, C · p · q]` → `recon` alike.
pub fn through(
    patches: Option<&Patches>,
    pictures: MatRef,
    mut recon: MatMut,
    model: &mut dyn FnMut(&[usize], MatRef, MatMut),
) {
    let whole = pictures.rows();
    let Some(patches) = patches else {
        return model(&(0..whole).collect::<Vec<_>>(), pictures, recon);
    };
    let (places, dim) = (patches.places(), patches.shape().dim());
    let size = BATCH.min(whole * places);
    let (mut x, mut made) = (Mat::zeros(size, dim), Mat::zeros(size, dim));
    let mut sum = vec![0.0f64; patches.picture.dim()];
    let rows: Vec<usize> = (0..whole * places).collect();
    for batch in rows.chunks(size.max(1)) {
        let n = batch.len();
        let cuts = x.data_mut()[..n * dim].par_chunks_mut(dim).zip(batch);
        cuts.for_each(|(out, &row)| patches.cut(pictures.row(row / places), row % places, out));
        let from: Vec<usize> = batch.iter().map(|row| row / places).collect();
        model(&from, x.top(n), made.top_mut(n));
        for (b, &row) in batch.iter().enumerate() {
            patches.add(row % places, made.row(b), &mut sum);
            if row % places == places - 1 {
                patches.average(&sum, recon.row(row / places));
                sum.fill(0.0);
            }
        }
    }
}

/// Rows as whole pictures; without patches a picture is a row.
impl Dataset {
    /// Cuts every picture into patches from now on.
    ///
    /// # Errors
    /// As [`Patches::new`]; and where rows are no pictures.
    pub fn set_patches(&mut self, size: PatchSize) -> Result<()> {
        let Some(shape) = self.rows.shape else {
            let remedy = "leave it out: only pictures have patches";
            return Err(Error::option("--patch", "pictures", "rows of numbers", remedy));
        };
        self.patches = Some(Patches::new(shape, size)?);
        Ok(())
    }

    /// Set where rows are patches.
    pub fn patches(&self) -> Option<&Patches> {
        self.patches.as_ref()
    }

    /// Rows a picture: 1, or its patches.
    pub fn places(&self) -> usize {
        self.patches.as_ref().map_or(1, Patches::places)
    }

    /// Values of a whole picture.
    pub fn picture_dim(&self) -> usize {
        self.dim
    }

    /// Shape of a whole picture.
    pub fn picture_shape(&self) -> Option<ImageShape> {
        self.rows.shape
    }

    /// The original of a row.
    pub fn original(&self, row: usize) -> usize {
        row / self.places() / self.copies()
    }

    /// Numbers of the pictures that these rows are of; the rows of a picture follow each other.
    pub fn pictures(&self, rows: &[usize]) -> Vec<usize> {
        let mut out: Vec<usize> = rows.iter().map(|r| r / self.places()).collect();
        if self.patches.is_some() {
            out.dedup();
        }
        out
    }

    /// The first row of each picture of these; without patches the rows.
    pub fn first_rows(&self, rows: &[usize]) -> Vec<usize> {
        self.pictures(rows).iter().map(|p| p * self.places()).collect()
    }

    /// Rows of at most `most` of the pictures of these, spread evenly over them: of each all.
    pub fn spread_pictures(&self, rows: &[usize], most: usize) -> Vec<usize> {
        let places = self.places();
        super::split::spread(&self.pictures(rows), most).iter().flat_map(|p| p * places..(p + 1) * places).collect()
    }

    /// At most `most` of these rows, in order: patches drawn at random from equal parts of them (any fixed distance may
    /// meet the same place of every picture), whole pictures spread evenly.
    pub fn spread_rows(&self, rows: &[usize], most: usize) -> Vec<usize> {
        if self.patches.is_none() || rows.len() <= most {
            return super::split::spread(rows, most);
        }
        let part = |i: usize| i * rows.len() / most;
        let within = |i: usize| mix(most as u64, i as u64) as usize % (part(i + 1) - part(i));
        (0..most).map(|i| rows[part(i) + within(i)]).collect()
    }

    /// About `most` rows of the first of these originals, with their variants, each original's one after another, and how
    /// many rows each has: all, but of patches no more than lets every original take part, drawn at random.
    pub fn some_rows(&self, originals: &[usize], most: usize, seed: u64) -> (Vec<usize>, usize) {
        let (copies, places) = (self.copies(), self.places());
        let each = (most / copies / originals.len().max(1)).clamp(1, places);
        let originals = &originals[..originals.len().min((most / copies / each).max(1))];
        let mut rows = Vec::with_capacity(originals.len() * copies * each);
        for &original in originals {
            let mut order: Vec<usize> = (0..places).collect();
            if each < places {
                Stream::new(seed, "places", &[original as u64]).shuffle(&mut order);
            }
            for copy in original * copies..(original + 1) * copies {
                rows.extend(order[..each].iter().map(|place| copy * places + place));
            }
        }
        (rows, copies * each)
    }

    /// Class of a picture.
    pub fn label_of_picture(&self, picture: usize) -> Option<u16> {
        self.label(picture * self.places())
    }

    /// Name of a row: that of its original, and where a patch lies in it, `name@left,top` in pixels.
    pub fn row_name(&self, row: usize) -> String {
        let name = self.name(self.original(row));
        match &self.patches {
            None => name,
            Some(patches) => {
                let [top, left] = patches.at(row % patches.places());
                format!("{name}@{left},{top}")
            }
        }
    }

    /// Pictures to read at a time where all are looked at once, as [`Dataset::batch_rows`].
    pub fn batch_pictures(&self, pictures: usize) -> usize {
        ((1 << 20) / self.dim.max(1)).clamp(16, 256).min(pictures.max(1))
    }

    /// Reads whole pictures, in parallel.
    ///
    /// # Shapes
    /// `pictures` B numbers → `out [B, C · H · W]`.
    pub fn fill_pictures(&self, pictures: &[usize], epoch: u64, mut out: MatMut) {
        assert_eq!((out.rows(), out.cols()), (pictures.len(), self.dim));
        let cells = out.data().par_chunks_mut(self.dim).zip(pictures);
        cells.for_each(|(out, &picture)| self.read_picture(picture, epoch, out));
    }
}

#[cfg(test)]
mod tests;
