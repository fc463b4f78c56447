//! One pass over the rows: encode, decode, and for every active latent of every row what it contributes. Memory is
//! bounded by the model and by four numbers a row; nothing depends on the order of the rows.

use super::images::Building;
use super::pairs::{MOST, Partners};
use super::sums::LatentSums;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::matrix::{ByLatent, Latents, Mat};
use crate::metrics::{CONSTANT, row_metrics};
use crate::model::{Output, Sae, Workspace, sigmoid};
use rayon::prelude::*;

/// Latents that one worker takes at a time.
const CHUNK: usize = 16;

/// How well one row is reconstructed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowQuality {
    /// Its number.
    pub row: u64,
    /// Its class, 0 without classes.
    pub class: u16,
    /// Latents ≠ 0.
    pub l0: u32,
    /// Pearson r of row and reconstruction; 0 where either is constant.
    pub pearson: f32,
    /// Squared error.
    pub sse: f64,
}

/// All that one pass gathers about one SAE.
#[derive(Clone, Debug)]
pub struct SaeSums {
    /// By latent.
    pub latents: Vec<LatentSums>,
    /// By latent, those of larger number that were active with it; `None` when there were too many pairs.
    pub partners: Option<Vec<Partners>>,
    /// Every row; where rows are patches, every whole picture under the number of its first patch, `l0` that of all.
    pub rows: Vec<RowQuality>,
    /// Where rows are patches: by latent, one value a picture (`images.rs`), without what removing it does.
    pub images: Option<Vec<LatentSums>>,
}

impl SaeSums {
    fn new(latents: usize, classes: usize, patches: bool) -> SaeSums {
        SaeSums {
            latents: vec![LatentSums::new(classes); latents],
            partners: Some(vec![Partners::default(); latents]),
            rows: Vec::new(),
            images: patches.then(|| vec![LatentSums::new(classes); latents]),
        }
    }

    /// By latent, one value a picture: what tests and examples are made of.
    pub fn by_picture(&self) -> &[LatentSums] {
        self.images.as_ref().unwrap_or(&self.latents)
    }

    fn drop_pairs_if_too_many(&mut self) {
        if self.partners.as_ref().is_some_and(|p| p.iter().map(Partners::len).sum::<usize>() > MOST) {
            self.partners = None;
        }
    }
}

/// What one pass, or a shard of it, gathers.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// By SAE.
    pub saes: Vec<SaeSums>,
    /// Rows of each class, where rows are patches pictures; one entry without classes.
    pub class_rows: Vec<u64>,
}

impl Gathered {
    /// Adds what another shard of the same rows and models gathered.
    pub fn merge(&mut self, other: Gathered) {
        self.class_rows.iter_mut().zip(other.class_rows).for_each(|(a, b)| *a += b);
        for (own, other) in self.saes.iter_mut().zip(other.saes) {
            own.latents.iter_mut().zip(&other.latents).for_each(|(a, b)| a.merge(b));
            let images = own.images.iter_mut().flatten().zip(other.images.iter().flatten());
            images.for_each(|(a, b)| a.merge(b));
            own.rows.extend(other.rows);
            own.rows.sort_unstable_by_key(|r| r.row);
            own.partners = match (own.partners.take(), other.partners) {
                (Some(mut a), Some(b)) => {
                    for (i, (a, b)) in a.iter_mut().zip(&b).enumerate() {
                        b.pairs(i).into_iter().for_each(|(j, p)| a.merge(i, j, p));
                    }
                    Some(a)
                }
                _ => None,
            };
            own.drop_pairs_if_too_many();
        }
    }
}

/// What ablation needs of a latent's direction, besides the direction.
#[derive(Clone, Copy, Default)]
struct Direction {
    /// Factor that brings the stored row to the direction that decoding adds.
    scale: f64,
    /// Σ w, ‖w‖² and Σ (w - mean w)² of the stored row.
    sum: f64,
    square: f64,
    centred: f64,
}

fn directions(sae: &Sae) -> Vec<Direction> {
    let rows = sae.decoder_rows();
    (0..rows.rows())
        .into_par_iter()
        .map(|h| {
            let row = rows.row(h);
            let sum: f64 = row.iter().map(|&w| f64::from(w)).sum();
            let square: f64 = row.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            let mean = sum / row.len() as f64;
            let centred = row.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum();
            Direction { scale: f64::from(sae.decoder_scale(h)), sum, square, centred }
        })
        .collect()
}

/// Sums of one row that ablation starts from; x and recon around their means over the row.
#[derive(Clone, Copy, Default)]
struct RowSums {
    mean_residual: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    pearson: f64,
    /// x is constant: every r with it is 0.
    flat: bool,
}

/// Leaves `residual - mean` in `residual` and `recon - mean` in `recon`.
fn row_sums(x: &[f32], recon: &mut [f32], residual: &mut [f32]) -> (RowSums, f64) {
    let n = x.len() as f64;
    let quality = row_metrics(x, recon);
    let mean = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    residual.iter_mut().zip(x.iter().zip(&*recon)).for_each(|(r, (&x, &y))| *r = x - y);
    let (mean_residual, mean_recon) = (mean(residual), mean(recon));
    let (mut xx, mut yy, mut xy) = (0.0f64, 0.0f64, 0.0f64);
    for (r, y) in residual.iter_mut().zip(recon) {
        let (centred_r, centred_y) = (f64::from(*r) - mean_residual, f64::from(*y) - mean_recon);
        let centred_x = centred_r + centred_y;
        xx += centred_x * centred_x;
        yy += centred_y * centred_y;
        xy += centred_x * centred_y;
        (*r, *y) = (centred_r as f32, centred_y as f32);
    }
    let largest = f64::from(x.iter().fold(0.0f32, |m, v| m.max(v.abs())));
    let flat = xx / n <= (CONSTANT * largest).powi(2);
    (RowSums { mean_residual, xx, yy, xy, pearson: quality.pearson, flat }, quality.residual)
}

impl RowSums {
    /// What removing `a` times a direction adds to the squared error and takes from Pearson's r, given the products of
    /// the stored row with the centred residual and the centred reconstruction:
    ///
    /// ```text
    /// Δ‖residual‖² = 2 a (r·w) + a² ‖w‖²          recon' = recon - a w
    /// ```
    #[inline]
    fn ablate(&self, a: f64, w: &Direction, r_w: f64, y_w: f64) -> (f64, f64) {
        let a = a * w.scale;
        let residual_w = r_w + self.mean_residual * w.sum;
        let delta_sse = 2.0 * a * residual_w + a * a * w.square;
        let xy = self.xy - a * (r_w + y_w);
        let yy = self.yy - 2.0 * a * y_w + a * a * w.centred;
        // What is left of a reconstruction that was this latent alone is rounding.
        let constant = yy <= 1e-10 * (self.yy + a * a * w.centred);
        let left = if constant || self.flat { 0.0 } else { (xy / (self.xx * yy).sqrt()).clamp(-1.0, 1.0) };
        (delta_sse, self.pearson - left)
    }
}

#[derive(Default)]
struct Scratch {
    r_w: Vec<f32>,
    y_w: Vec<f32>,
    /// A row without one latent.
    recon: Vec<f32>,
}

/// Goes over `rows` (numbers of the data set; of patches all of a picture, one after another) once. `tick(done, total)`
/// after each batch.
///
/// # Errors
/// [`Error::Option`] where a row makes a model overflow.
pub fn gather(saes: &[&Sae], data: &Dataset, rows: &[usize], tick: &mut dyn FnMut(usize, usize)) -> Result<Gathered> {
    let (isa, dim) = (Isa::current(), data.dim());
    let classes = data.classes().len().max(1);
    let mut out = Gathered {
        saes: saes.iter().map(|s| SaeSums::new(s.config().latents, classes, data.patches().is_some())).collect(),
        class_rows: vec![0; classes],
    };
    let all_directions: Vec<Vec<Direction>> = saes.iter().map(|s| directions(s)).collect();
    let mut building: Vec<Option<Building>> = saes.iter().map(|s| Building::new(data, s.config().latents)).collect();
    let size = data.batch_rows(rows.len());
    let (mut x, mut recon, mut residual) = (Mat::zeros(size, dim), Mat::zeros(size, dim), Mat::zeros(size, dim));
    let mut logits = Mat::default();
    let (mut work, mut latents, mut by_latent) = (Workspace::default(), Latents::default(), ByLatent::default());
    let mut sums = vec![(RowSums::default(), 0.0f64); size];
    for (done, batch) in rows.chunks(size).enumerate() {
        let n = batch.len();
        data.fill(batch, 0, x.top_mut(n));
        let class: Vec<usize> = batch.iter().map(|&r| data.label(r).map_or(0, usize::from)).collect();
        let first = |b: &usize| batch[*b].is_multiple_of(data.rows_per_image());
        (0..n).filter(first).for_each(|b| out.class_rows[class[b]] += 1);
        let parts = saes.iter().zip(&mut out.saes).zip(&all_directions).zip(&mut building);
        for (((sae, own), directions), building) in parts {
            let broken = |b: usize| {
                Error::option("data", "rows that the model can encode", data.row_name(batch[b]), "an overflow")
            };
            sae.encode(x.top(n), &mut work, &mut latents).map_err(|overflow| broken(overflow.row))?;
            sae.decode(&latents, &work, recon.top_mut(n));
            let through = sae.config().output == Output::Sigmoid;
            if through {
                logits = Mat::zeros(n, dim);
                sae.decode_logits(&latents, &work, logits.view_mut());
            }
            if let (Some(building), Some(images)) = (building, &mut own.images) {
                let built =
                    (0..n).filter_map(|b| building.add(batch[b], class[b], recon.row(b), latents.row(b), images));
                own.rows.extend(built);
            }
            let (centred, residuals) = (&mut recon.data_mut()[..n * dim], &mut residual.data_mut()[..n * dim]);
            centred
                .par_chunks_mut(dim)
                .zip(residuals.par_chunks_mut(dim))
                .zip(&mut sums[..n])
                .enumerate()
                .for_each(|(b, ((y, r), sums))| *sums = row_sums(x.row(b), y, r));
            for b in (0..n).filter(|_| own.images.is_none()) {
                let (row, l0) = (batch[b] as u64, latents.row(b).0.len() as u32);
                let (pearson, sse) = (sums[b].0.pearson as f32, sums[b].1);
                own.rows.push(RowQuality { row, class: class[b] as u16, l0, pearson, sse });
            }
            by_latent.group(sae.config().latents, &[(0, 1, &latents)], &[]);
            let shared = Shared {
                isa,
                sae,
                directions,
                by_latent: &by_latent,
                latents: &latents,
                residual: residual.data(),
                recon: recon.data(),
                sums: &sums,
                x: &x,
                logits: through.then_some(&logits),
                batch,
                class: &class,
            };
            let chunks = own.latents.par_chunks_mut(CHUNK).enumerate();
            match &mut own.partners {
                Some(partners) => chunks
                    .zip(partners.par_chunks_mut(CHUNK))
                    .for_each_init(Scratch::default, |scratch, ((c, latents), partners)| {
                        shared.chunk(c * CHUNK, latents, Some(partners), scratch)
                    }),
                None => chunks.for_each_init(Scratch::default, |scratch, (c, latents)| {
                    shared.chunk(c * CHUNK, latents, None, scratch)
                }),
            }
            own.drop_pairs_if_too_many();
        }
        tick(done * size + n, rows.len());
    }
    for own in &mut out.saes {
        own.rows.sort_unstable_by_key(|r| r.row);
    }
    Ok(out)
}

/// Encodes `rows` (numbers of the data set) in batches and gives each one's latents to `see(place, index, value)`. A row that
/// overflows is seen as far as the encoder got.
pub fn each_row(sae: &Sae, data: &Dataset, rows: &[usize], mut see: impl FnMut(usize, &[u32], &[f32])) {
    let size = data.batch_rows(rows.len());
    let (mut x, mut work, mut latents) = (Mat::zeros(size, data.dim()), Workspace::default(), Latents::default());
    for (done, batch) in rows.chunks(size).enumerate() {
        data.fill(batch, 0, x.top_mut(batch.len()));
        sae.encode_lossy(x.top(batch.len()), &mut work, &mut latents);
        for b in 0..batch.len() {
            let (index, value) = latents.row(b);
            see(done * size + b, index, value);
        }
    }
}

/// What all workers of a batch read.
struct Shared<'a> {
    isa: Isa,
    sae: &'a Sae,
    directions: &'a [Direction],
    by_latent: &'a ByLatent,
    latents: &'a Latents,
    residual: &'a [f32],
    recon: &'a [f32],
    sums: &'a [(RowSums, f64)],
    x: &'a Mat,
    /// The decoder's sums, where the reconstruction is their sigmoid.
    logits: Option<&'a Mat>,
    batch: &'a [usize],
    class: &'a [usize],
}

impl Shared<'_> {
    /// [`RowSums::ablate`] where the reconstruction is a sigmoid of the sums: there is no short cut.
    fn ablate_through(&self, logits: &[f32], b: usize, a: f32, w: &[f32], scratch: &mut Scratch) -> (f64, f64) {
        scratch.recon.clear();
        scratch.recon.extend(logits.iter().zip(w).map(|(&y, &w)| sigmoid(y - a * w)));
        let without = row_metrics(self.x.row(b), &scratch.recon);
        let (sums, sse) = &self.sums[b];
        (without.residual - sse, sums.pearson - without.pearson)
    }

    fn chunk(
        &self,
        first: usize,
        latents: &mut [LatentSums],
        mut partners: Option<&mut [Partners]>,
        scratch: &mut Scratch,
    ) {
        let n = self.directions.len();
        for (i, own) in latents.iter_mut().enumerate() {
            let h = first + i;
            let (rows, values) = self.by_latent.latent(h);
            let w = self.sae.decoder_rows().row(h);
            scratch.r_w.resize(rows.len(), 0.0);
            scratch.y_w.resize(rows.len(), 0.0);
            self.isa.gather_dots(w, rows, self.residual, &mut scratch.r_w);
            self.isa.gather_dots(w, rows, self.recon, &mut scratch.y_w);
            for (j, (&b, &value)) in rows.iter().zip(values).enumerate() {
                if value == 0.0 {
                    continue;
                }
                let b = b as usize;
                let (r_w, y_w) = (f64::from(scratch.r_w[j]), f64::from(scratch.y_w[j]));
                let direction = &self.directions[h];
                let (sse, pearson) = match self.logits {
                    None => self.sums[b].0.ablate(f64::from(value), direction, r_w, y_w),
                    Some(logits) => self.ablate_through(logits.row(b), b, value * direction.scale as f32, w, scratch),
                };
                own.add(h as u64, self.batch[b] as u64, self.class[b], value, sse, pearson);
                if let Some(partners) = &mut partners {
                    let (index, all) = self.latents.row(b);
                    let after = index.partition_point(|&o| o as usize <= h);
                    partners[i].add(h, n, value, &index[after..], &all[after..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shard;
    use super::*;
    use crate::data::synthetic::Synthetic;
    use crate::init::{Init, Sample, init};
    use crate::model::{Config, Weights};

    fn setting(tied: bool, output: Output) -> (Sae, Dataset) {
        let data = Dataset::from_rows(Synthetic::parse("synthetic:kind=images,rows=150").expect("a spec").rows());
        let data = data.expect("rows");
        let config = Config {
            d_in: data.dim(),
            latents: 60,
            k: 7,
            relu_after: !tied,
            tied,
            decoder_bias: !tied,
            output,
            ..Config::default()
        };
        let (mean, _) = data.moments(&(0..150).collect::<Vec<_>>());
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
        let none = Mat::zeros(0, data.dim());
        let sample = Sample { mean: &mean, rows: none.view(), held_out: 0, shape: None };
        let (sae, _) = init(config, Init::Kaiming, 1, 0, sample).expect("a model");
        let mut weights: Weights = sae.into_weights();
        weights.W_enc.data_mut().iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + (i % 7) as f32 * 0.1);
        (Sae::new(config, weights).expect("a model"), data)
    }

    /// Zero the latent, decode again, measure.
    #[test]
    fn ablation_equals_brute_force() {
        for (tied, output) in [(true, Output::Linear), (false, Output::Linear), (false, Output::Sigmoid)] {
            let (sae, data) = setting(tied, output);
            let rows: Vec<usize> = (0..150).collect();
            let got = gather(&[&sae], &data, &rows, &mut |_, _| ()).expect("finite");
            let (mut work, mut latents) = (Workspace::default(), Latents::default());
            let mut x = Mat::zeros(150, data.dim());
            data.fill(&rows, 0, x.view_mut());
            sae.encode(x.view(), &mut work, &mut latents).expect("finite");
            let mut whole = Mat::zeros(150, data.dim());
            sae.decode(&latents, &work, whole.view_mut());
            let mut sums = Mat::zeros(150, data.dim());
            sae.decode_logits(&latents, &work, sums.view_mut());
            for h in 0..60 {
                let feature = sae.feature(h);
                let (mut sse, mut pearson, mut count) = (0.0, 0.0, 0);
                for r in 0..150 {
                    let (index, value) = latents.row(r);
                    let Ok(at) = index.binary_search(&(h as u32)) else { continue };
                    let less = |(&y, &w): (&f32, &f32)| match output {
                        Output::Linear => y - value[at] * w,
                        Output::Sigmoid => 1.0 / (1.0 + (value[at] * w - y).exp()),
                    };
                    let recon: Vec<f32> = sums.row(r).iter().zip(&feature).map(less).collect();
                    let (with, without) = (row_metrics(x.row(r), whole.row(r)), row_metrics(x.row(r), &recon));
                    sse += without.residual - with.residual;
                    pearson += with.pearson - without.pearson;
                    count += 1;
                }
                let own = &got.saes[0].latents[h];
                assert_eq!(own.count(), count);
                let close = |a: f64, b: f64, size: f64| (a - b).abs() <= 1e-5 * size.max(b.abs()).max(1e-3);
                assert!(close(own.delta_sse.value(), sse, 0.0), "{h}: {} {sse}", own.delta_sse.value());
                assert!(close(own.delta_pearson.value(), pearson, 1.0), "{h}: {} {pearson}", own.delta_pearson.value());
            }
        }
    }

    /// Synergy by brute force: what removing both adds beyond what each adds.
    #[test]
    fn synergy_equals_brute_force() {
        let (sae, data) = setting(false, Output::Linear);
        let rows: Vec<usize> = (0..150).collect();
        let got = gather(&[&sae], &data, &rows, &mut |_, _| ()).expect("finite");
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        let mut x = Mat::zeros(150, data.dim());
        data.fill(&rows, 0, x.view_mut());
        sae.encode(x.view(), &mut work, &mut latents).expect("finite");
        let features: Vec<Vec<f32>> = (0..60).map(|h| sae.feature(h)).collect();
        let mut pairs = 0;
        for (i, partners) in got.saes[0].partners.as_ref().expect("few pairs").iter().enumerate() {
            for (j, pair) in partners.pairs(i) {
                let j = j as usize;
                let (mut brute, mut count) = (0.0f64, 0);
                for r in 0..150 {
                    let (index, value) = latents.row(r);
                    let find = |h: usize| index.binary_search(&(h as u32)).ok().map(|p| f64::from(value[p]));
                    let (Some(a), Some(b)) = (find(i), find(j)) else { continue };
                    let error = |removed: &[(f64, usize)]| -> f64 {
                        (0..data.dim())
                            .map(|d| {
                                let b_dec = sae.b_dec().map_or(0.0, |b| f64::from(b[d]));
                                let mut y = b_dec;
                                index
                                    .iter()
                                    .zip(value)
                                    .for_each(|(&h, &v)| y += f64::from(v) * f64::from(features[h as usize][d]));
                                removed.iter().for_each(|&(v, h)| y -= v * f64::from(features[h][d]));
                                (f64::from(x.row(r)[d]) - y).powi(2)
                            })
                            .sum()
                    };
                    brute += error(&[(a, i), (b, j)]) - error(&[(a, i)]) - error(&[(b, j)]) + error(&[]);
                    count += 1;
                }
                let dot: f64 = features[i].iter().zip(&features[j]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let own = 2.0 * pair.sum() * dot;
                assert_eq!(pair.count, count);
                assert!((own - brute).abs() <= 1e-5 * brute.abs().max(1e-3), "{i} {j}: {own} {brute}");
                pairs += 1;
            }
        }
        assert!(pairs > 50, "{pairs}");
    }

    #[test]
    fn shards_merge_to_the_bits_of_one_pass() {
        let (sae, data) = setting(true, Output::Linear);
        let rows: Vec<usize> = (0..150).collect();
        let quiet = &mut |_: usize, _: usize| ();
        let whole = gather(&[&sae], &data, &rows, quiet).expect("finite");
        let mut merged = gather(&[&sae], &data, &rows[70..], quiet).expect("finite");
        merged.merge(gather(&[&sae], &data, &rows[..33], quiet).expect("finite"));
        merged.merge(gather(&[&sae], &data, &rows[33..70], quiet).expect("finite"));
        assert_eq!(whole.saes[0].latents, merged.saes[0].latents);
        assert_eq!(whole.saes[0].rows, merged.saes[0].rows);
        assert_eq!(whole.class_rows, merged.class_rows);
        let pairs = |g: &Gathered| -> Vec<_> {
            g.saes[0].partners.as_ref().expect("few").iter().enumerate().map(|(i, p)| p.pairs(i)).collect()
        };
        assert_eq!(pairs(&whole), pairs(&merged));
        // By way of a file as well.
        let (read, key) = shard::from_columns(&shard::to_columns(&whole, &[7; 32])).expect("a shard");
        assert_eq!((read.saes[0].latents.clone(), key), (whole.saes[0].latents.clone(), [7; 32]));
        assert_eq!((&read.saes[0].rows, pairs(&read)), (&whole.saes[0].rows, pairs(&whole)));
    }
}
