//! Rows that are patches, and the whole images that they belong to. Without patches every row is an image.

use super::Dataset;
use crate::patches::PatchLayout;
use crate::split::evenly_spaced;
use rayon::prelude::*;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::matrix::MatMut;
use vibrissa_core::random::{Stream, mix};
use vibrissa_core::shape::{ImageShape, PatchGrid};

impl Dataset {
    /// Cuts every image into patches from now on.
    ///
    /// # Errors
    /// As [`PatchLayout::new`]; and where rows are no images.
    pub fn set_patches(&mut self, grid: PatchGrid) -> Result<()> {
        let Some(shape) = self.rows.shape else {
            let remedy = "leave it out: only images have patches";
            return Err(Error::option("patch", "images", "rows of numbers", remedy));
        };
        self.patches = Some(PatchLayout::new(shape, grid)?);
        Ok(())
    }

    /// Returns the patches, where rows are patches.
    pub fn patches(&self) -> Option<&PatchLayout> {
        self.patches.as_ref()
    }

    /// Returns the number of rows of an image: its patches, or 1.
    pub fn rows_per_image(&self) -> usize {
        self.patches.as_ref().map_or(1, PatchLayout::patches_per_image)
    }

    /// Returns the number of values of a whole image.
    pub fn image_dim(&self) -> usize {
        self.dim
    }

    /// Returns the shape of a whole image.
    pub fn image_shape(&self) -> Option<ImageShape> {
        self.rows.shape
    }

    /// Returns the original that a row belongs to.
    pub fn original(&self, row: usize) -> usize {
        row / self.rows_per_image() / self.copies()
    }

    /// Returns the numbers of the images that rows belong to; the rows of an image must follow each other.
    pub fn images(&self, rows: &[usize]) -> Vec<usize> {
        let mut out: Vec<usize> = rows.iter().map(|r| r / self.rows_per_image()).collect();
        if self.patches.is_some() {
            out.dedup();
        }
        out
    }

    /// Returns the first row of each image that rows belong to; without patches the rows.
    pub fn first_rows(&self, rows: &[usize]) -> Vec<usize> {
        self.images(rows).iter().map(|p| p * self.rows_per_image()).collect()
    }

    /// Returns all rows of at most `most` of the images that rows belong to, evenly spaced.
    pub fn evenly_spaced_images(&self, rows: &[usize], most: usize) -> Vec<usize> {
        let each = self.rows_per_image();
        let images = evenly_spaced(&self.images(rows), most);
        images.iter().flat_map(|i| i * each..(i + 1) * each).collect()
    }

    /// Returns at most `most` of these rows, in order. Whole images are evenly spaced. Patches are sampled, one from
    /// each of `most` equal parts of the rows, since any fixed distance may meet the same position of every image.
    pub fn subsample_rows(&self, rows: &[usize], most: usize) -> Vec<usize> {
        if self.patches.is_none() || rows.len() <= most {
            return evenly_spaced(rows, most);
        }
        let start = |i: usize| i * rows.len() / most;
        let within = |i: usize| mix(most as u64, i as u64) as usize % (start(i + 1) - start(i));
        (0..most).map(|i| rows[start(i) + within(i)]).collect()
    }

    /// Returns about `most` rows of the first of these originals, with their variants, and the number of rows of each
    /// original, which follow each other. Of patches only as many are sampled as let every original take part.
    pub fn sample_rows(&self, originals: &[usize], most: usize, seed: u64) -> (Vec<usize>, usize) {
        let (copies, patches) = (self.copies(), self.rows_per_image());
        let each = (most / copies / originals.len().max(1)).clamp(1, patches);
        let originals = &originals[..originals.len().min((most / copies / each).max(1))];
        let mut rows = Vec::with_capacity(originals.len() * copies * each);
        for &original in originals {
            let mut order: Vec<usize> = (0..patches).collect();
            if each < patches {
                Stream::new(seed, "places", &[original as u64]).shuffle(&mut order);
            }
            for copy in original * copies..(original + 1) * copies {
                rows.extend(order[..each].iter().map(|position| copy * patches + position));
            }
        }
        (rows, copies * each)
    }

    /// Returns the class of an image.
    pub fn label_of_image(&self, image: usize) -> Option<u16> {
        self.label(image * self.rows_per_image())
    }

    /// Returns the name of a row: that of its original, and for a patch its position in pixels, `name@left,top`.
    pub fn row_name(&self, row: usize) -> String {
        let name = self.name(self.original(row));
        match &self.patches {
            None => name,
            Some(patches) => {
                let [top, left] = patches.at(row % patches.patches_per_image());
                format!("{name}@{left},{top}")
            }
        }
    }

    /// Returns the number of images to read at a time in a pass over all, as [`Dataset::batch_rows`].
    pub fn batch_images(&self, images: usize) -> usize {
        ((1 << 20) / self.dim.max(1)).clamp(16, 256).min(images.max(1))
    }

    /// Reads whole images, in parallel.
    ///
    /// # Shapes
    /// `images` B numbers → `out [B, C · H · W]`.
    pub fn fill_images(&self, images: &[usize], epoch: u64, mut out: MatMut) {
        assert_eq!((out.rows(), out.cols()), (images.len(), self.dim));
        let cells = out.data().par_chunks_mut(self.dim).zip(images);
        cells.for_each(|(out, &image)| self.read_image(image, epoch, out));
    }
}
