//! Whole images where rows are patches. The patches of an image depend on each other, so that statistical tests,
//! examples and samples use one value per image and latent, and reconstruction quality is that of whole images. Where
//! rows are no patches, an image is a row and nothing changes.
//!
//! ```text
//! latent of an image = max over its patches (0 for a patch in which the latent is inactive)
//! ```

use super::pass::RowQuality;
use super::sums::LatentSums;
use crate::data::Dataset;
use crate::data::patches::PatchLayout;
use crate::matrix::{Latents, Mat};
use crate::metrics::row_metrics;
use crate::model::{Sae, Workspace};

/// Patches encoded at a time.
const BATCH: usize = 512;

/// A latent that is active in an image, with its largest value and the place of the patch that has it.
type LargestValue = (u32, f32, u32);

/// The largest value of each latent over the patches of one image.
#[derive(Debug)]
struct ImageMaxima {
    /// By latent.
    seen: Vec<LatentMaximum>,
    /// Latents that are active in some patch.
    active: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct LatentMaximum {
    /// Patches in which the latent is active.
    patches: u32,
    /// The largest value among them, and its place.
    value: f32,
    place: u32,
}

impl ImageMaxima {
    fn new(latents: usize) -> ImageMaxima {
        ImageMaxima { seen: vec![LatentMaximum::default(); latents], active: Vec::new() }
    }

    /// Adds the latents of the patch at `place`.
    fn add(&mut self, place: usize, index: &[u32], value: &[f32]) {
        for (&h, &v) in index.iter().zip(value).filter(|v| *v.1 != 0.0) {
            let own = &mut self.seen[h as usize];
            if own.patches == 0 {
                self.active.push(h);
            }
            if own.patches == 0 || v > own.value {
                (own.value, own.place) = (v, place as u32);
            }
            own.patches += 1;
        }
    }

    /// The latents of an image of `patches` patches that are not 0, by number. Resets the maxima.
    fn take(&mut self, patches: usize) -> Vec<LargestValue> {
        let mut active = std::mem::take(&mut self.active);
        active.sort_unstable();
        let largest = |h: u32| {
            let own = std::mem::take(&mut self.seen[h as usize]);
            // A latent that is below 0 where it is active is 0 in the other patches.
            (h, if (own.patches as usize) < patches { own.value.max(0.0) } else { own.value }, own.place)
        };
        active.into_iter().map(largest).filter(|v| v.1 != 0.0).collect()
    }
}

/// The image whose patches a pass is at.
#[derive(Debug)]
pub(super) struct ImageAccumulator<'a> {
    data: &'a Dataset,
    layout: &'a PatchLayout,
    /// Σ of the reconstructed patches by pixel.
    sum: Vec<f64>,
    maxima: ImageMaxima,
    /// Active latents so far.
    l0: u32,
    x: Vec<f32>,
    recon: Vec<f32>,
}

impl<'a> ImageAccumulator<'a> {
    /// `None` where rows are no patches.
    pub fn new(data: &'a Dataset, latents: usize) -> Option<ImageAccumulator<'a>> {
        let layout = data.patches()?;
        let zeros = vec![0.0f32; data.image_dim()];
        let (sum, maxima) = (vec![0.0; zeros.len()], ImageMaxima::new(latents));
        Some(ImageAccumulator { data, layout, sum, maxima, l0: 0, x: zeros.clone(), recon: zeros })
    }

    /// Adds a patch: its row, class, reconstruction and latents. After the last patch of an image, adds the image to
    /// `sums` and returns its quality under the row of its first patch; an example is the patch with the largest value.
    pub fn add(
        &mut self,
        row: usize,
        class: usize,
        recon: &[f32],
        (index, value): (&[u32], &[f32]),
        sums: &mut [LatentSums],
    ) -> Option<RowQuality> {
        let patches = self.layout.patches_per_image();
        let (image, place) = (row / patches, row % patches);
        self.layout.add(place, recon, &mut self.sum);
        self.maxima.add(place, index, value);
        self.l0 += index.len() as u32;
        if place + 1 < patches {
            return None;
        }
        let first = image * patches;
        for (h, value, place) in self.maxima.take(patches) {
            sums[h as usize].add(u64::from(h), first as u64 + u64::from(place), class, value, 0.0, 0.0);
        }
        self.layout.average(&self.sum, &mut self.recon);
        self.sum.fill(0.0);
        self.data.read_image(image, 0, &mut self.x);
        let quality = row_metrics(&self.x, &self.recon);
        let (pearson, sse) = (quality.pearson as f32, quality.residual);
        Some(RowQuality { row: first as u64, class: class as u16, l0: std::mem::take(&mut self.l0), pearson, sse })
    }
}

/// Encodes rows. A row that overflows has the latents that were found before.
fn encode(sae: &Sae, data: &Dataset, rows: &[usize], work: &mut Workspace, latents: &mut Latents) {
    let mut x = Mat::zeros(rows.len(), data.dim());
    data.fill(rows, 0, x.view_mut());
    sae.encode_lossy(x.view(), work, latents);
}

/// The latents of the images of these rows, one entry per image; where rows are no patches, the latents of the rows.
pub fn image_latents(sae: &Sae, data: &Dataset, rows: &[usize]) -> Latents {
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    let Some(layout) = data.patches() else {
        encode(sae, data, rows, &mut work, &mut latents);
        return latents;
    };
    let (patches, mut maxima) = (layout.patches_per_image(), ImageMaxima::new(sae.config().latents));
    let all: Vec<Vec<LargestValue>> = data
        .images(rows)
        .iter()
        .map(|image| {
            let rows: Vec<usize> = (image * patches..(image + 1) * patches).collect();
            for (b, batch) in rows.chunks(BATCH).enumerate() {
                encode(sae, data, batch, &mut work, &mut latents);
                (0..batch.len()).for_each(|r| {
                    let (index, value) = latents.row(r);
                    maxima.add(b * BATCH + r, index, value);
                });
            }
            maxima.take(patches)
        })
        .collect();
    let mut out = Latents::default();
    out.resize(all.len(), all.iter().map(Vec::len).max().unwrap_or(0).max(1));
    let (len, index, value, capacity) = out.parts_mut();
    for (b, active) in all.iter().enumerate() {
        len[b] = active.len() as u32;
        for (j, &(h, v, _)) in active.iter().enumerate() {
            (index[b * capacity + j], value[b * capacity + j]) = (h, v);
        }
    }
    out
}

/// Values of latents at every place of images, as bytes: 255 for `full` of the latent, 0 for values below 0.
///
/// # Shapes
/// `wanted` n pairs of a latent and a row of the image → `[n, patches per image]`.
pub(super) fn activation_maps(sae: &Sae, data: &Dataset, wanted: &[(u32, usize)], full: &[f32]) -> Vec<u8> {
    let patches = data.rows_per_image();
    let mut out = vec![0u8; wanted.len() * patches];
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| (wanted[i].1 / patches, i));
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    for same_image in order.chunk_by(|&a, &b| wanted[a].1 / patches == wanted[b].1 / patches) {
        let first = wanted[same_image[0]].1 / patches * patches;
        let rows: Vec<usize> = (first..first + patches).collect();
        for (b, batch) in rows.chunks(BATCH).enumerate() {
            encode(sae, data, batch, &mut work, &mut latents);
            for (r, &i) in (0..batch.len()).flat_map(|r| same_image.iter().map(move |i| (r, i))) {
                let (h, (index, value)) = (wanted[i].0, latents.row(r));
                if let (Ok(at), true) = (index.binary_search(&h), full[h as usize] > 0.0) {
                    let share = value[at] / full[h as usize];
                    out[i * patches + b * BATCH + r] = (255.0 * share.clamp(0.0, 1.0)).round() as u8;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::pass::accumulate;
    use super::*;
    use crate::data::patches::map_images;
    use crate::data::synthetic::Synthetic;
    use crate::init::{Init, Sample, init};
    use crate::model::Config;
    use crate::shape::PatchGrid;
    use std::ops::ControlFlow;

    fn setting(raw: bool) -> (Sae, Dataset) {
        let rows = Synthetic::parse("synthetic:kind=images,rows=30").expect("a spec").rows();
        let mut data = Dataset::from_rows(rows).expect("rows");
        data.set_patches(PatchGrid { height: 5, width: 4, stride: [3, 4] }).expect("it fits");
        let config = Config {
            d_in: data.dim(),
            latents: 40,
            k: 5,
            relu_after: !raw,
            tied: true,
            decoder_bias: false,
            ..Config::default()
        };
        let (mean, none) = (vec![0.0; data.dim()], Mat::zeros(0, data.dim()));
        let sample = Sample { mean: &mean, rows: none.view(), held_out: 0, shape: None };
        (init(config, Init::Kaiming, 1, 0, sample).expect("a model").0, data)
    }

    /// Latents of every row, dense.
    fn dense(sae: &Sae, data: &Dataset, rows: &[usize]) -> Vec<Vec<f32>> {
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        encode(sae, data, rows, &mut work, &mut latents);
        (0..rows.len())
            .map(|b| {
                let mut out = vec![0.0; 40];
                let (index, value) = latents.row(b);
                index.iter().zip(value).for_each(|(&h, &v)| out[h as usize] = v);
                out
            })
            .collect()
    }

    #[test]
    fn a_pass_over_patches_sums_one_value_per_image_and_measures_whole_images() {
        for raw in [false, true] {
            let (sae, data) = setting(raw);
            let places = data.rows_per_image();
            let rows = data.without_variants(&(0..30).collect::<Vec<_>>());
            let got = accumulate(&[&sae], &data, &rows, &mut |_, _| ControlFlow::Continue(()));
            let got = got.expect("finite").expect("all rows");
            let own = &got.saes[0];
            let all = dense(&sae, &data, &rows);
            assert_eq!(got.class_rows.iter().sum::<u64>(), 30, "classes count images");
            assert_eq!(own.rows.len(), 30);
            let pooled = image_latents(&sae, &data, &rows);
            let sums = own.images.as_ref().expect("patches");
            for h in 0..40 {
                let patches = all.iter().filter(|l| l[h] != 0.0).count() as u64;
                assert_eq!(own.latents[h].count(), patches, "latent {h} over patches");
                let largest: Vec<f32> = all
                    .chunks(places)
                    .map(|image| image.iter().map(|l| l[h]).fold(f32::NEG_INFINITY, f32::max))
                    .collect();
                assert_eq!(sums[h].count(), largest.iter().filter(|&&v| v != 0.0).count() as u64, "latent {h}");
                let total: f64 = largest.iter().map(|&v| f64::from(v)).sum();
                assert!((sums[h].sum.value() - total).abs() < 1e-9, "latent {h}");
                for (p, &v) in largest.iter().enumerate() {
                    let (index, value) = pooled.row(p);
                    assert_eq!(
                        index.binary_search(&(h as u32)).map_or(0.0, |at| value[at]),
                        v,
                        "latent {h}, image {p}"
                    );
                }
                // Examples are patches, at most one per image, and hold the value they are shown with.
                let top: Vec<_> = sums[h].top.rows().collect();
                top.iter().for_each(|e| assert_eq!(all[e.row as usize][h], e.value));
                let images: std::collections::HashSet<u64> = top.iter().map(|e| e.row / places as u64).collect();
                assert_eq!(images.len(), top.len());
            }
            let (mut work, mut latents) = (Workspace::default(), Latents::default());
            let mut x = Mat::zeros(30, data.image_dim());
            data.fill_images(&data.images(&rows), 0, x.view_mut());
            let mut recon = x.clone();
            map_images(data.patches(), x.view(), recon.view_mut(), &mut |_, x, recon| {
                sae.encode(x, &mut work, &mut latents).expect("finite");
                sae.decode(&latents, &work, recon);
            });
            for (p, quality) in own.rows.iter().enumerate() {
                let want = row_metrics(x.row(p), recon.row(p));
                assert_eq!((quality.row, quality.pearson), ((p * places) as u64, want.pearson as f32));
                assert_eq!((quality.l0, quality.sse), (5 * places as u32, want.residual));
            }
        }
    }

    #[test]
    fn maps_hold_the_value_at_every_place() {
        let (sae, data) = setting(false);
        let places = data.rows_per_image();
        let rows = data.without_variants(&[2, 9]);
        let all = dense(&sae, &data, &rows);
        let largest: Vec<f32> = (0..40).map(|h| all.iter().map(|l| l[h]).fold(0.0, f32::max)).collect();
        let wanted = [(3, 9 * places + 1), (7, 2 * places), (4, 9 * places)];
        let got = activation_maps(&sae, &data, &wanted, &largest);
        for (i, &(h, row)) in wanted.iter().enumerate() {
            let from = if row / places == 2 { 0 } else { places };
            for place in 0..places {
                let share = all[from + place][h as usize] / largest[h as usize];
                let want = if share > 0.0 { (255.0 * share).round() as u8 } else { 0 };
                assert_eq!(got[i * places + place], want, "map {i} at {place}");
            }
        }
    }
}
