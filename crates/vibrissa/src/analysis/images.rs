//! Whole pictures where rows are patches: what they have of each latent (one value a picture, since patches of a picture
//! say much the same and are no rows of their own to a test), and how well they are put together. Of rows that are no
//! patches a picture is a row, and nothing is changed here.
//!
//! ```text
//! latent of a picture = the largest of its patches (0 where a patch does not use it): is the feature anywhere in it?
//! ```

use super::stream::RowQuality;
use super::sums::LatentSums;
use crate::data::Dataset;
use crate::data::patches::{PatchLayout, map_images};
use crate::matrix::{Latents, Mat};
use crate::metrics::row_metrics;
use crate::model::{Sae, Workspace};

/// The largest value of each latent over the patches of one picture.
#[derive(Debug)]
struct Largest {
    /// By latent: patches that use it, its largest value among them, and the place of that.
    seen: Vec<(u32, f32, u32)>,
    touched: Vec<u32>,
}

impl Largest {
    fn new(latents: usize) -> Largest {
        Largest { seen: vec![(0, 0.0, 0); latents], touched: Vec::new() }
    }

    fn add(&mut self, place: usize, index: &[u32], value: &[f32]) {
        for (&h, &v) in index.iter().zip(value).filter(|v| *v.1 != 0.0) {
            let own = &mut self.seen[h as usize];
            if own.0 == 0 {
                self.touched.push(h);
            }
            if own.0 == 0 || v > own.1 {
                (own.1, own.2) = (v, place as u32);
            }
            own.0 += 1;
        }
    }

    /// Latents by number, with value and place, of a picture of so many patches; begins anew.
    fn take(&mut self, places: usize) -> Vec<(u32, f32, u32)> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        let found = touched.iter().map(|&h| (h, std::mem::take(&mut self.seen[h as usize])));
        // One that is below 0 where it is used is 0 elsewhere.
        found
            .map(|(h, (n, v, place))| (h, if (n as usize) < places { v.max(0.0) } else { v }, place))
            .filter(|f| f.1 != 0.0)
            .collect()
    }
}

/// What a pass knows of the picture whose patches it is at.
#[derive(Debug)]
pub(super) struct Building<'a> {
    data: &'a Dataset,
    patches: &'a PatchLayout,
    sum: Vec<f64>,
    largest: Largest,
    l0: u32,
    x: Vec<f32>,
    recon: Vec<f32>,
}

impl<'a> Building<'a> {
    /// `None` where rows are no patches.
    pub fn new(data: &'a Dataset, latents: usize) -> Option<Building<'a>> {
        let patches = data.patches()?;
        let zeros = vec![0.0f32; data.image_dim()];
        let (sum, largest) = (vec![0.0; zeros.len()], Largest::new(latents));
        Some(Building { data, patches, sum, largest, l0: 0, x: zeros.clone(), recon: zeros })
    }

    /// Takes a patch and its reconstruction; after the last one of a picture it adds to the sums, one row a picture, and
    /// says how well it is put together. Its row is that of its first patch, that of an example the patch of the largest
    /// value.
    pub fn add(
        &mut self,
        row: usize,
        class: usize,
        recon: &[f32],
        (index, value): (&[u32], &[f32]),
        sums: &mut [LatentSums],
    ) -> Option<RowQuality> {
        let places = self.patches.patches_per_image();
        let (picture, place) = (row / places, row % places);
        self.patches.add(place, recon, &mut self.sum);
        self.largest.add(place, index, value);
        self.l0 += index.len() as u32;
        if place + 1 < places {
            return None;
        }
        let first = picture * places;
        for (h, value, place) in self.largest.take(places) {
            sums[h as usize].add(u64::from(h), first as u64 + u64::from(place), class, value, 0.0, 0.0);
        }
        self.patches.average(&self.sum, &mut self.recon);
        self.sum.fill(0.0);
        self.data.read_image(picture, 0, &mut self.x);
        let quality = row_metrics(&self.x, &self.recon);
        let (pearson, sse) = (quality.pearson as f32, quality.residual);
        Some(RowQuality { row: first as u64, class: class as u16, l0: std::mem::take(&mut self.l0), pearson, sse })
    }
}

/// Encodes these rows.
fn encode(sae: &Sae, data: &Dataset, rows: &[usize], work: &mut Workspace, latents: &mut Latents) {
    let mut x = Mat::zeros(rows.len(), data.dim());
    data.fill(rows, 0, x.view_mut());
    sae.encode_lossy(x.view(), work, latents);
}

/// Whole pictures by their numbers (of rows that are no patches rows), and what the model makes of them.
pub fn rebuild(sae: &Sae, data: &Dataset, pictures: &[usize]) -> (Mat, Mat) {
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    let mut x = Mat::zeros(pictures.len(), data.image_dim());
    let mut recon = x.clone();
    data.fill_images(pictures, 0, x.view_mut());
    map_images(data.patches(), x.view(), recon.view_mut(), &mut |_, x, recon| {
        sae.encode_lossy(x, &mut work, &mut latents);
        sae.decode(&latents, &work, recon);
    });
    (x, recon)
}

/// Latents of the pictures of these rows, one row a picture; of rows that are no patches those of the rows.
pub fn latents_of(sae: &Sae, data: &Dataset, rows: &[usize]) -> Latents {
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    let Some(patches) = data.patches() else {
        encode(sae, data, rows, &mut work, &mut latents);
        return latents;
    };
    let (pictures, mut largest) = (data.images(rows), Largest::new(sae.config().latents));
    let all: Vec<Vec<(u32, f32, u32)>> = pictures
        .iter()
        .map(|picture| {
            let own: Vec<usize> =
                (picture * patches.patches_per_image()..(picture + 1) * patches.patches_per_image()).collect();
            for (b, batch) in own.chunks(BATCH).enumerate() {
                encode(sae, data, batch, &mut work, &mut latents);
                (0..batch.len()).for_each(|r| {
                    let (index, value) = latents.row(r);
                    largest.add(b * BATCH + r, index, value);
                });
            }
            largest.take(patches.patches_per_image())
        })
        .collect();
    let mut out = Latents::default();
    out.resize(all.len(), all.iter().map(Vec::len).max().unwrap_or(0).max(1));
    let (len, index, value, capacity) = out.parts_mut();
    for (b, own) in all.iter().enumerate() {
        len[b] = own.len() as u32;
        for (j, &(h, v, _)) in own.iter().enumerate() {
            (index[b * capacity + j], value[b * capacity + j]) = (h, v);
        }
    }
    out
}

/// Patches encoded at a time.
const BATCH: usize = 512;

/// Values of latents at every place of pictures, as bytes: 255 is `full` of the latent, what lies below 0 is 0.
///
/// # Shapes
/// `wanted` n pairs of a latent and a row of the picture → `[n, places]`.
pub(super) fn maps(sae: &Sae, data: &Dataset, wanted: &[(u32, usize)], full: &[f32]) -> Vec<u8> {
    let places = data.rows_per_image();
    let mut out = vec![0u8; wanted.len() * places];
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&i| (wanted[i].1 / places, i));
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    for same in order.chunk_by(|&a, &b| wanted[a].1 / places == wanted[b].1 / places) {
        let first = wanted[same[0]].1 / places * places;
        let own: Vec<usize> = (first..first + places).collect();
        for (b, batch) in own.chunks(BATCH).enumerate() {
            encode(sae, data, batch, &mut work, &mut latents);
            for (r, &i) in (0..batch.len()).flat_map(|r| same.iter().map(move |i| (r, i))) {
                let (h, (index, value)) = (wanted[i].0, latents.row(r));
                if let (Ok(at), true) = (index.binary_search(&h), full[h as usize] > 0.0) {
                    let share = value[at] / full[h as usize];
                    out[i * places + b * BATCH + r] = (255.0 * share.clamp(0.0, 1.0)).round() as u8;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::stream::gather;
    use super::*;
    use crate::data::synthetic::Synthetic;
    use crate::init::{Init, Sample, init};
    use crate::model::Config;
    use crate::shape::PatchGrid;

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
    fn a_pass_over_patches_sums_one_value_a_picture_and_judges_whole_pictures() {
        for raw in [false, true] {
            let (sae, data) = setting(raw);
            let places = data.rows_per_image();
            let rows = data.without_variants(&(0..30).collect::<Vec<_>>());
            let got = gather(&[&sae], &data, &rows, &mut |_, _| ()).expect("finite");
            let own = &got.saes[0];
            let all = dense(&sae, &data, &rows);
            assert_eq!(got.class_rows.iter().sum::<u64>(), 30, "classes count pictures");
            assert_eq!(own.rows.len(), 30);
            let pooled = latents_of(&sae, &data, &rows);
            let sums = own.images.as_ref().expect("patches");
            for h in 0..40 {
                let patches = all.iter().filter(|l| l[h] != 0.0).count() as u64;
                assert_eq!(own.latents[h].count(), patches, "latent {h} over patches");
                let largest: Vec<f32> = all
                    .chunks(places)
                    .map(|picture| picture.iter().map(|l| l[h]).fold(f32::NEG_INFINITY, f32::max))
                    .collect();
                assert_eq!(sums[h].count(), largest.iter().filter(|&&v| v != 0.0).count() as u64, "latent {h}");
                let total: f64 = largest.iter().map(|&v| f64::from(v)).sum();
                assert!((sums[h].sum.value() - total).abs() < 1e-9, "latent {h}");
                for (p, &v) in largest.iter().enumerate() {
                    let (index, value) = pooled.row(p);
                    assert_eq!(
                        index.binary_search(&(h as u32)).map_or(0.0, |at| value[at]),
                        v,
                        "latent {h}, picture {p}"
                    );
                }
                // Examples are patches, of a picture at most one, and hold the value they are shown with.
                let top: Vec<_> = sums[h].top.rows().collect();
                top.iter().for_each(|e| assert_eq!(all[e.row as usize][h], e.value));
                let pictures: std::collections::HashSet<u64> = top.iter().map(|e| e.row / places as u64).collect();
                assert_eq!(pictures.len(), top.len());
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
        let got = maps(&sae, &data, &wanted, &largest);
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
