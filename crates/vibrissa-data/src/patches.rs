//! Images cut into overlapping patches, and put together again, for convolutional models. No model, no file, no split.
//!
//! Let an image be `[C, H, W]`, with patches of p × q pixels every s × t pixels. Patches start at the rows 0, s, 2s, …
//! of pixels as far as a patch fits, and at H - p where that leaves pixels uncovered; columns likewise. The patch at
//! position `i` (counted row by row: `i = down · columns + across`) is a row `[C · p · q]` of a
//! [`Dataset`](crate::Dataset). One model reconstructs all of them, so its features are shared by all positions, and
//! overlapping reconstructions are averaged:
//!
//! ```text
//! x_i = patch i of the image          recon_i = model(x_i)
//! recon[c, y, x] = Σ_i recon_i[c, y - top_i, x - left_i] / n[y, x]      over the n[y, x] patches that cover the pixel
//! ```
//!
//! Originals, variants, names, classes and means remain those of whole images; only rows are patches. Row `(original ·
//! copies + variant) · patches_per_image + position` is cut out of the original or the variant when it is read. Nothing
//! is held in memory twice, and all patches of an image are on one side of every split (hash, list, groups, folds).

use rayon::prelude::*;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::{Mat, MatMut, MatRef};
use vibrissa_core::shape::{ImageShape, PatchGrid};

/// Positions of all patches of images of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchLayout {
    image: ImageShape,
    grid: PatchGrid,
    tops: Vec<usize>,
    lefts: Vec<usize>,
    /// Number of patches over each row of pixels, and over each column; their product is the number over a pixel.
    coverage: [Vec<u32>; 2],
}

/// Returns the first pixels of patches of `side` pixels, every `stride` pixels of `length`; the last one ends at the
/// border.
fn starts(length: usize, side: usize, stride: usize) -> Vec<usize> {
    let last = length - side;
    let mut out: Vec<usize> = (0..=last).step_by(stride).collect();
    if out.last() != Some(&last) {
        out.push(last);
    }
    out
}

/// Returns the number of patches over each of `length` pixels.
fn coverage(starts: &[usize], side: usize, length: usize) -> Vec<u32> {
    let mut out = vec![0; length];
    starts.iter().for_each(|&s| out[s..s + side].iter_mut().for_each(|n| *n += 1));
    out
}

impl PatchLayout {
    /// Lays out the patches of an image.
    ///
    /// # Errors
    /// [`Error::Option`] for a patch that is empty or larger than the image, a stride of 0, or one larger than the
    /// patch, which would leave out pixels.
    ///
    /// ```
    /// use vibrissa_core::shape::{ImageShape, PatchGrid};
    /// use vibrissa_data::patches::PatchLayout;
    ///
    /// let image = ImageShape { channels: 1, height: 28, width: 28 };
    /// let patches = PatchLayout::new(image, PatchGrid::half_overlapping(8, 8))?;
    /// assert_eq!((patches.positions(), patches.shape().dim()), ([6, 6], 64));
    /// # Ok::<(), vibrissa_core::Error>(())
    /// ```
    pub fn new(image: ImageShape, grid: PatchGrid) -> Result<PatchLayout> {
        let PatchGrid { height, width, stride: [down, across] } = grid;
        if !grid.fits(image) {
            let expected = format!("1x1 to {}x{} pixels, the size of the images", image.width, image.height);
            let remedy = "choose a smaller patch, or larger images with a larger `size`";
            return Err(Error::option("patch", expected, format!("{width}x{height}"), remedy));
        }
        if !grid.covers() {
            let expected = format!("1x1 to {width}x{height} pixels, the size of the patch");
            let remedy = "pixels between patches would be left out; half a patch is usual";
            return Err(Error::option("stride", expected, format!("{across}x{down}"), remedy));
        }
        let (tops, lefts) = (starts(image.height, height, down), starts(image.width, width, across));
        let coverage = [coverage(&tops, height, image.height), coverage(&lefts, width, image.width)];
        Ok(PatchLayout { image, grid, tops, lefts, coverage })
    }

    /// Returns the shape of the whole images.
    pub fn image(&self) -> ImageShape {
        self.image
    }

    /// Returns the size and stride of the patches.
    pub fn grid(&self) -> PatchGrid {
        self.grid
    }

    /// Returns the shape of one patch.
    pub fn shape(&self) -> ImageShape {
        self.grid.patch_shape(self.image.channels)
    }

    /// Returns the number of positions down and across.
    pub fn positions(&self) -> [usize; 2] {
        [self.tops.len(), self.lefts.len()]
    }

    /// Returns the number of patches of an image.
    pub fn patches_per_image(&self) -> usize {
        self.tops.len() * self.lefts.len()
    }

    /// Returns the top and left pixel of the patch at a position.
    pub fn at(&self, position: usize) -> [usize; 2] {
        [self.tops[position / self.lefts.len()], self.lefts[position % self.lefts.len()]]
    }

    /// Returns the offset in the image of each line of pixels of a patch, those of the first channel first.
    fn lines(&self, position: usize) -> impl Iterator<Item = usize> {
        let ([top, left], ImageShape { channels, height, width }, tall) =
            (self.at(position), self.image, self.grid.height);
        (0..channels).flat_map(move |c| (0..tall).map(move |y| (c * height + top + y) * width + left))
    }

    /// Writes the patch at a position; `read(from, out)` gives the values of the image from value number `from` on.
    pub(crate) fn cut_by(&self, position: usize, out: &mut [f32], read: impl Fn(usize, &mut [f32])) {
        self.lines(position).zip(out.chunks_exact_mut(self.grid.width)).for_each(|(from, out)| read(from, out));
    }

    /// Writes the patch of an image at a position.
    ///
    /// # Shapes
    /// `image [C · H · W]` → `out [C · p · q]`.
    pub fn cut(&self, image: &[f32], position: usize, out: &mut [f32]) {
        self.cut_by(position, out, |from, out| out.copy_from_slice(&image[from..from + out.len()]));
    }

    /// Adds a patch to the sum of all patches at its position.
    ///
    /// # Shapes
    /// `patch [C · p · q]`, `sum [C · H · W]`.
    pub fn add(&self, position: usize, patch: &[f32], sum: &mut [f64]) {
        for (from, line) in self.lines(position).zip(patch.chunks_exact(self.grid.width)) {
            sum[from..from + line.len()].iter_mut().zip(line).for_each(|(s, &v)| *s += f64::from(v));
        }
    }

    /// Writes the mean of the patches over each pixel, given the sum of all patches. Sums in f64 make the mean exact
    /// where all patches agree.
    ///
    /// # Shapes
    /// `sum [C · H · W]` → `out [C · H · W]`.
    pub fn average(&self, sum: &[f64], out: &mut [f32]) {
        let (height, width) = (self.image.height, self.image.width);
        for (line, (out, sum)) in out.chunks_exact_mut(width).zip(sum.chunks_exact(width)).enumerate() {
            let down = f64::from(self.coverage[0][line % height]);
            for ((out, &sum), &across) in out.iter_mut().zip(sum).zip(&self.coverage[1]) {
                *out = (sum / (down * f64::from(across))) as f32;
            }
        }
    }
}

/// Number of patches that a model is given at a time.
const BATCH: usize = 512;

/// Reconstructs images from the reconstructions of their patches. `model(from, x, recon)` is given patches in order,
/// with the number of the image of each, and its reconstructions are averaged. Without patches the model is given the
/// rows as they are.
///
/// # Shapes
/// `images [B, C · H · W]` → `recon` alike; the model `x [n, C · p · q]` → `recon` alike.
pub fn map_images(
    patches: Option<&PatchLayout>,
    images: MatRef,
    mut recon: MatMut,
    model: &mut dyn FnMut(&[usize], MatRef, MatMut),
) {
    let n_images = images.rows();
    let Some(patches) = patches else {
        return model(&(0..n_images).collect::<Vec<_>>(), images, recon);
    };
    let (each, dim) = (patches.patches_per_image(), patches.shape().dim());
    let size = BATCH.min(n_images * each);
    let (mut x, mut patch_recon) = (Mat::zeros(size, dim), Mat::zeros(size, dim));
    let mut sum = vec![0.0f64; patches.image.dim()];
    let rows: Vec<usize> = (0..n_images * each).collect();
    for batch in rows.chunks(size.max(1)) {
        let n = batch.len();
        let cuts = x.data_mut()[..n * dim].par_chunks_mut(dim).zip(batch);
        cuts.for_each(|(out, &row)| patches.cut(images.row(row / each), row % each, out));
        let from: Vec<usize> = batch.iter().map(|row| row / each).collect();
        model(&from, x.first_rows(n), patch_recon.first_rows_mut(n));
        for (b, &row) in batch.iter().enumerate() {
            patches.add(row % each, patch_recon.row(b), &mut sum);
            if row % each == each - 1 {
                patches.average(&sum, recon.row(row / each));
                sum.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
