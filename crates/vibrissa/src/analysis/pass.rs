//! One pass over the rows: encodes, decodes, and sums for every latent what it contributes to each row in which it is
//! active. Memory is bounded by the model and by four numbers per row; no result depends on the order of the rows.

use super::ablation::{DirectionSums, RowSums, ablate_sigmoid, direction_sums};
use super::images::ImageAccumulator;
use super::pairs::{MAX_PAIRS, Partners};
use super::sums::LatentSums;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::matrix::{ByLatent, Latents, Mat, NumberedRows};
use crate::model::{Output, Sae, Workspace};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Latents that one worker takes at a time.
const CHUNK: usize = 16;

/// The reconstruction quality of one row; where rows are patches, of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowQuality {
    /// Number of the row in the data set; of an image, that of its first patch.
    pub row: u64,
    /// Its class, 0 without classes.
    pub class: u16,
    /// Active latents; of an image, Σ over its patches.
    pub l0: u32,
    /// Pearson r of row and reconstruction; 0 where either is constant.
    pub pearson: f32,
    /// Squared error, Σ (x − recon)².
    pub sse: f64,
}

/// The sums of one pass about one SAE.
#[derive(Clone, Debug)]
pub struct SaeSums {
    /// By latent.
    pub latents: Vec<LatentSums>,
    /// By latent, its co-active latents of higher number; `None` if there were more pairs than [`MAX_PAIRS`].
    pub partners: Option<Vec<Partners>>,
    /// Every row or, where rows are patches, every image.
    pub rows: Vec<RowQuality>,
    /// Where rows are patches: by latent, one value per image (the largest of its patches), without ablation.
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

    /// By latent, one value per row or, where rows are patches, per image: the basis of tests and examples.
    pub fn by_image(&self) -> &[LatentSums] {
        self.images.as_ref().unwrap_or(&self.latents)
    }

    /// Adds the sums of another shard.
    fn merge(&mut self, other: SaeSums) {
        self.latents.iter_mut().zip(&other.latents).for_each(|(a, b)| a.merge(b));
        let images = self.images.iter_mut().flatten().zip(other.images.iter().flatten());
        images.for_each(|(a, b)| a.merge(b));
        self.rows.extend(other.rows);
        self.rows.sort_unstable_by_key(|r| r.row);
        self.partners = match (self.partners.take(), other.partners) {
            (Some(mut a), Some(b)) => {
                for (i, (a, b)) in a.iter_mut().zip(&b).enumerate() {
                    b.pairs(i).into_iter().for_each(|(j, p)| a.merge(i, j, p));
                }
                Some(a)
            }
            _ => None,
        };
        self.drop_pairs_if_too_many();
    }

    fn drop_pairs_if_too_many(&mut self) {
        if self.partners.as_ref().is_some_and(|p| p.iter().map(Partners::len).sum::<usize>() > MAX_PAIRS) {
            self.partners = None;
        }
    }
}

/// The sums of one pass, or of a shard of it.
#[derive(Clone, Debug)]
pub struct PassSums {
    /// By SAE.
    pub saes: Vec<SaeSums>,
    /// Rows of each class, where rows are patches its images; one entry without classes.
    pub class_rows: Vec<u64>,
}

impl PassSums {
    /// Adds the sums of another shard of the same pass.
    pub fn merge(&mut self, other: PassSums) {
        self.class_rows.iter_mut().zip(other.class_rows).for_each(|(a, b)| *a += b);
        self.saes.iter_mut().zip(other.saes).for_each(|(sae, other)| sae.merge(other));
    }
}

/// Passes over `rows` once: numbers of the data set, of patches all of an image one after another. Calls
/// `on_progress(rows done, rows)` after each batch; `None` if that breaks off.
///
/// # Errors
/// [`Error::Option`] for a row that a model cannot encode.
pub fn accumulate(
    saes: &[&Sae],
    data: &Dataset,
    rows: &[usize],
    on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<PassSums>> {
    let classes = data.classes().len().max(1);
    let mut out = PassSums {
        saes: saes.iter().map(|s| SaeSums::new(s.config().latents, classes, data.patches().is_some())).collect(),
        class_rows: vec![0; classes],
    };
    let mut members: Vec<Member> = saes.iter().map(|sae| Member::new(sae, data)).collect();
    let size = data.batch_rows(rows.len());
    let mut batch = Batch::new(data, size);
    for (i, rows_of_batch) in rows.chunks(size).enumerate() {
        batch.read(data, rows_of_batch);
        for b in (0..batch.rows.len()).filter(|&b| batch.rows[b].is_multiple_of(data.rows_per_image())) {
            out.class_rows[batch.class[b]] += 1;
        }
        for (member, sums) in members.iter_mut().zip(&mut out.saes) {
            batch.encode(member.sae, data)?;
            batch.add_rows(member, sums);
            batch.add_latents(member, sums);
            sums.drop_pairs_if_too_many();
        }
        if on_progress(i * size + batch.rows.len(), rows.len()).is_break() {
            return Ok(None);
        }
    }
    for sums in &mut out.saes {
        sums.rows.sort_unstable_by_key(|r| r.row);
    }
    Ok(Some(out))
}

/// Encodes `rows` (numbers of the data set) in batches and calls `see(place, index, value)` with the latents of each
/// one. A row that overflows has the latents that were found before.
pub fn for_each_row(sae: &Sae, data: &Dataset, rows: &[usize], mut see: impl FnMut(usize, &[u32], &[f32])) {
    let size = data.batch_rows(rows.len());
    let (mut x, mut work, mut latents) = (Mat::zeros(size, data.dim()), Workspace::default(), Latents::default());
    for (i, batch) in rows.chunks(size).enumerate() {
        data.fill(batch, 0, x.first_rows_mut(batch.len()));
        sae.encode_lossy(x.first_rows(batch.len()), &mut work, &mut latents);
        for b in 0..batch.len() {
            let (index, value) = latents.row(b);
            see(i * size + b, index, value);
        }
    }
}

/// One SAE during a pass.
struct Member<'a> {
    sae: &'a Sae,
    directions: Vec<DirectionSums>,
    /// Where rows are patches.
    images: Option<ImageAccumulator<'a>>,
}

impl<'a> Member<'a> {
    fn new(sae: &'a Sae, data: &'a Dataset) -> Member<'a> {
        let images = ImageAccumulator::new(data, sae.config().latents);
        Member { sae, directions: direction_sums(sae), images }
    }
}

/// A batch of rows and what one SAE makes of them.
struct Batch {
    isa: Isa,
    /// Numbers of the rows, n of them.
    rows: Vec<usize>,
    class: Vec<usize>,
    /// `[size, D]`, of which the first n rows count, as in the matrices below.
    x: Mat,
    /// Reconstructions; after [`Batch::add_rows`] minus their means.
    recon: Mat,
    /// x − recon minus its mean, after [`Batch::add_rows`].
    residual: Mat,
    /// The decoder's sums, where reconstructions are their sigmoid.
    logits: Option<Mat>,
    sums: Vec<RowSums>,
    work: Workspace,
    latents: Latents,
    by_latent: ByLatent,
}

impl Batch {
    fn new(data: &Dataset, size: usize) -> Batch {
        let zeros = || Mat::zeros(size, data.dim());
        Batch {
            isa: Isa::current(),
            rows: Vec::new(),
            class: Vec::new(),
            x: zeros(),
            recon: zeros(),
            residual: zeros(),
            logits: None,
            sums: vec![RowSums::default(); size],
            work: Workspace::default(),
            latents: Latents::default(),
            by_latent: ByLatent::default(),
        }
    }

    fn read(&mut self, data: &Dataset, rows: &[usize]) {
        self.rows = rows.to_vec();
        data.fill(rows, 0, self.x.first_rows_mut(rows.len()));
        self.class = rows.iter().map(|&r| data.label(r).map_or(0, usize::from)).collect();
    }

    /// Computes latents and reconstructions.
    fn encode(&mut self, sae: &Sae, data: &Dataset) -> Result<()> {
        let n = self.rows.len();
        sae.encode(self.x.first_rows(n), &mut self.work, &mut self.latents).map_err(|overflow| {
            let name = data.row_name(self.rows[overflow.row]);
            Error::option("data", "rows that the model can encode", name, "its values are too large for this model")
        })?;
        sae.decode(&self.latents, &self.work, self.recon.first_rows_mut(n));
        self.logits = (sae.config().output == Output::Sigmoid).then(|| {
            let mut logits = Mat::zeros(n, data.dim());
            sae.decode_logits(&self.latents, &self.work, logits.view_mut());
            logits
        });
        Ok(())
    }

    /// Adds the quality of the rows or, where rows are patches, of the images whose last patch is in the batch. Leaves
    /// reconstructions and residuals minus their means.
    fn add_rows(&mut self, member: &mut Member, out: &mut SaeSums) {
        let (n, dim) = (self.rows.len(), self.x.cols());
        if let (Some(images), Some(sums)) = (&mut member.images, &mut out.images) {
            let finished = (0..n)
                .filter_map(|b| images.add(self.rows[b], self.class[b], self.recon.row(b), self.latents.row(b), sums));
            out.rows.extend(finished);
        }
        let x = &self.x;
        let recon = self.recon.data_mut()[..n * dim].par_chunks_mut(dim);
        let residual = self.residual.data_mut()[..n * dim].par_chunks_mut(dim);
        recon
            .zip(residual)
            .zip(&mut self.sums[..n])
            .enumerate()
            .for_each(|(b, ((recon, residual), sums))| *sums = RowSums::centre(x.row(b), recon, residual));
        if out.images.is_none() {
            out.rows.extend((0..n).map(|b| RowQuality {
                row: self.rows[b] as u64,
                class: self.class[b] as u16,
                l0: self.latents.row(b).0.len() as u32,
                pearson: self.sums[b].pearson as f32,
                sse: self.sums[b].sse,
            }));
        }
    }

    /// Adds the contributions of all active latents, and their pairs while these are kept.
    fn add_latents(&mut self, member: &Member, out: &mut SaeSums) {
        self.by_latent.group(
            member.sae.config().latents,
            &[NumberedRows { latents: &self.latents, first: 0, step: 1 }],
            &[],
        );
        let batch = &*self;
        let latents = out.latents.par_chunks_mut(CHUNK).enumerate();
        match &mut out.partners {
            Some(partners) => latents.zip(partners.par_chunks_mut(CHUNK)).for_each_init(
                Scratch::default,
                |scratch, ((c, latents), partners)| {
                    batch.add_chunk(member, c * CHUNK, latents, Some(partners), scratch)
                },
            ),
            None => latents.for_each_init(Scratch::default, |scratch, (c, latents)| {
                batch.add_chunk(member, c * CHUNK, latents, None, scratch)
            }),
        }
    }

    /// [`Batch::add_latents`] for the latents from number `first`.
    fn add_chunk(
        &self,
        member: &Member,
        first: usize,
        latents: &mut [LatentSums],
        mut partners: Option<&mut [Partners]>,
        scratch: &mut Scratch,
    ) {
        for (i, sums) in latents.iter_mut().enumerate() {
            let h = first + i;
            let (rows, values) = self.by_latent.latent(h);
            let (w, direction) = (member.sae.decoder_rows().row(h), &member.directions[h]);
            scratch.r_w.resize(rows.len(), 0.0);
            scratch.y_w.resize(rows.len(), 0.0);
            self.isa.gather_dots(w, rows, self.residual.data(), &mut scratch.r_w);
            self.isa.gather_dots(w, rows, self.recon.data(), &mut scratch.y_w);
            for (j, (&b, &value)) in rows.iter().zip(values).enumerate().filter(|row| *row.1.1 != 0.0) {
                let b = b as usize;
                let (delta_sse, delta_pearson) = match &self.logits {
                    None => {
                        let (r_w, y_w) = (f64::from(scratch.r_w[j]), f64::from(scratch.y_w[j]));
                        self.sums[b].ablate(f64::from(value), direction, r_w, y_w)
                    }
                    Some(logits) => {
                        let z = value * direction.scale as f32;
                        ablate_sigmoid(&self.sums[b], self.x.row(b), logits.row(b), z, w, &mut scratch.recon)
                    }
                };
                sums.add(h as u64, self.rows[b] as u64, self.class[b], value, delta_sse, delta_pearson);
                if let Some(partners) = &mut partners {
                    let (index, all) = self.latents.row(b);
                    let after = index.partition_point(|&other| other as usize <= h);
                    partners[i].add(h, member.directions.len(), value, &index[after..], &all[after..]);
                }
            }
        }
    }
}

/// Buffers of one worker.
#[derive(Default)]
struct Scratch {
    /// Products of a decoder row with the centred residuals of its rows.
    r_w: Vec<f32>,
    /// Products of a decoder row with the centred reconstructions of its rows.
    y_w: Vec<f32>,
    /// A reconstruction without one latent.
    recon: Vec<f32>,
}

#[cfg(test)]
mod tests;
