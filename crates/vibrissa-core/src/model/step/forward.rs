//! Phase 2 of a step: residuals and losses of each row of the batch, and its entries regrouped by latent.

use super::super::{Config, Output, Sae, Workspace};
use super::panel_sums::PanelSums;
use super::update::{ActivePartition, GradientScratch, UpdateScratch};
use super::{RowTerm, Step};
use crate::activation::sigmoid::sigmoid;
use crate::kernels::Isa;
use crate::kernels::PerThread;
use crate::loss::{Losses, cross_entropy, spread};
use crate::matrix::{ByLatent, Latents, Mat, NumberedRows};
use rayon::prelude::*;

/// The residuals that every row of the batch has side by side, D values each: one for each prefix of the latents, all
/// latents included, then the gate's.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResidualLayout {
    pub prefixes: usize,
    pub gated: bool,
}

/// The loss that a residual belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResidualKind {
    /// The error of the reconstruction from the latents.
    Reconstruction,
    /// The auxiliary error of a gated model, of the reconstruction from the gates.
    Gate,
}

impl ResidualLayout {
    /// Returns the number of residuals of a row.
    pub fn per_row(self) -> usize {
        self.prefixes + usize::from(self.gated)
    }

    /// Returns the row of the batch that residual number `r` belongs to, and its kind.
    #[inline(always)]
    pub fn place(self, r: u32) -> (u32, ResidualKind) {
        let per_row = self.per_row() as u32;
        // Avoids a division per entry where there is one residual a row.
        match per_row {
            1 => (r, ResidualKind::Reconstruction),
            _ if r % per_row < self.prefixes as u32 => (r / per_row, ResidualKind::Reconstruction),
            _ => (r / per_row, ResidualKind::Gate),
        }
    }
}

/// The terms that one row adds to the loss of its batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowLoss {
    /// Sum of the latents; not a loss.
    pub activity: f64,
    pub recon: f64,
    pub gate: f64,
    /// `Σ latent ‖W_dec‖`
    pub l1: f64,
    pub auxk: f64,
    pub perceptual: f64,
}

/// The latents, residuals and losses of the last batch.
#[derive(Debug, Default)]
pub struct ForwardPass {
    pub latents: Latents,
    /// Gated: π where the latents are.
    pub gates: Latents,
    /// The entries of both by latent; their rows are those of `residuals`.
    pub by_latent: ByLatent,
    /// `[B · layout.per_row(), D]`, then AuxK's `e - ê` `[B, D]`.
    pub residuals: Mat,
    pub layout: ResidualLayout,
    /// By row of the batch.
    pub row_losses: Vec<RowLoss>,
    /// The first of a row's residuals that a latent takes part in, which it learns from; empty without prefixes: 0.
    residual_of: Vec<u32>,
    panel_sums: PanelSums,
    /// Scratch of [`spread`] `[D]`.
    pub column_sums: Vec<f64>,
}

impl ForwardPass {
    /// Reserves memory for a batch; allocates only when it grows.
    pub fn prepare(&mut self, config: &Config, step: &Step, with_auxk: bool) {
        let (rows, dim) = (step.x.rows(), config.d_in);
        self.layout = ResidualLayout { prefixes: step.prefixes.len() + 1, gated: config.activation.has_gate() };
        self.residuals.reserve((self.layout.per_row() + usize::from(with_auxk)) * rows, dim);
        self.row_losses.resize(rows, RowLoss::default());
        self.column_sums.resize(dim, 0.0);
    }

    /// Computes the residuals and losses of all rows, `l1` being λ of L1 and `norms` the lengths of the decoder rows
    /// where they are not 1. Regroups entries by latent. Returns the losses of the batch.
    pub fn decode(
        &mut self,
        sae: &Sae,
        work: &Workspace,
        step: &Step,
        (l1, norms): (f64, &[f32]),
        scratch: &PerThread<UpdateScratch>,
    ) -> Losses {
        let (rows, dim, isa) = (step.x.rows(), sae.config.d_in, work.isa());
        let ForwardPass { latents, gates, by_latent, residuals, row_losses, residual_of, panel_sums, .. } = self;
        let (latents, gates, layout) = (&*latents, &*gates, self.layout);
        let (per_row, learns_threshold) = (layout.per_row(), sae.config.activation.learns_threshold());
        let residuals = &mut residuals.data_mut()[..per_row * rows * dim];
        let losses = &mut *row_losses;
        let decode = || {
            let by_panels = per_row == 1 && !learns_threshold && panel_sums.fill(isa, sae, latents);
            let panel_sums = by_panels.then_some(&*panel_sums);
            let decoder = RowDecoder { isa, sae, step, layout, latents, gates, panel_sums, l1, norms };
            residuals.par_chunks_mut(per_row * dim).zip(losses).enumerate().for_each(|(b, (residuals, loss))| {
                let mut coefs = work.coefs.lock();
                let mut scratch = learns_threshold.then(|| scratch.lock());
                let partition = scratch.as_mut().map(|scratch| &mut scratch.partition);
                *loss = decoder.decode(b, residuals, partition, &mut coefs);
            });
        };
        let regroup = || regroup(by_latent, residual_of, step, layout, sae.config.latents, [latents, gates]);
        rayon::join(decode, regroup);
        let mean = |of: fn(&RowLoss) -> f64| row_losses.iter().map(of).sum::<f64>() / rows as f64;
        Losses {
            recon: mean(|l| l.recon) / layout.prefixes as f64,
            gate: mean(|l| l.gate),
            l1: l1 * mean(|l| l.l1),
            ..Losses::default()
        }
    }

    /// Adds a perceptual term of weight λ to the residuals of all prefixes: every latent takes part in the whole
    /// reconstruction. Returns its loss.
    pub fn add_perceptual(
        &mut self,
        isa: Isa,
        step: &Step,
        (lambda, term): (f64, &RowTerm),
        scratch: &PerThread<UpdateScratch>,
    ) -> f64 {
        let (rows, dim) = (step.target.rows(), step.target.cols());
        let weight = lambda * spread(step.target, 0, 1, &mut self.column_sums) / rows as f64;
        let (prefixes, per_row) = (self.layout.prefixes, self.layout.per_row());
        let residuals = &mut self.residuals.data_mut()[..per_row * rows * dim];
        residuals.par_chunks_mut(per_row * dim).zip(&mut self.row_losses).enumerate().for_each(|(b, (all, loss))| {
            let mut scratch = scratch.lock();
            let GradientScratch { enc: recon, dec: gradient, .. } = &mut scratch.gradient;
            let x = step.target.row(b);
            recon.copy_from_slice(x);
            isa.add_scaled(recon, -(prefixes as f32), &all[(prefixes - 1) * dim..][..dim]);
            loss.perceptual = term(x, recon, gradient);
            // -2/B times the addend is λ V/B times the gradient.
            for out in all[..prefixes * dim].chunks_exact_mut(dim) {
                isa.add_scaled(out, (-0.5 * weight) as f32, gradient);
            }
        });
        weight * self.row_losses.iter().map(|l| l.perceptual).sum::<f64>() / rows as f64
    }
}

/// Everything that decoding a row reads.
struct RowDecoder<'a> {
    isa: Isa,
    sae: &'a Sae,
    step: &'a Step<'a>,
    layout: ResidualLayout,
    latents: &'a Latents,
    gates: &'a Latents,
    /// The reconstructions, if they were summed by panels.
    panel_sums: Option<&'a PanelSums>,
    /// λ of L1.
    l1: f64,
    norms: &'a [f32],
}

impl RowDecoder<'_> {
    /// Computes the residuals of row `b`; returns its loss. `partition` is scratch where some entries are below their
    /// threshold.
    fn decode(
        &self,
        b: usize,
        residuals: &mut [f32],
        partition: Option<&mut ActivePartition>,
        coefs: &mut Vec<f32>,
    ) -> RowLoss {
        let RowDecoder { isa, sae, layout: ResidualLayout { prefixes, gated }, .. } = *self;
        let (dim, x) = (sae.config.d_in, self.step.target.row(b));
        let (index, value) = self.latents.row(b);
        let mut loss = RowLoss { activity: value.iter().map(|&v| f64::from(v)).sum(), ..RowLoss::default() };
        // Entries below their threshold take part in no reconstruction.
        let (index, value) = match partition {
            Some(partition) => {
                partition.fill(index, value);
                partition.active()
            }
            None => (index, value),
        };
        let (of_prefixes, of_gate) = residuals.split_at_mut(prefixes * dim);
        match self.panel_sums {
            Some(sums) => sums.row(b, &mut of_prefixes[..dim]),
            None => self.reconstruct_prefixes(of_prefixes, index, value, coefs),
        }
        for out in of_prefixes.chunks_exact_mut(dim) {
            loss.recon += self.compare(x, out);
        }
        if prefixes > 1 {
            share_between_prefixes(isa, of_prefixes, dim);
        }
        if gated {
            let (index, value) = self.gates.row(b);
            sae.fill_with_bias(of_gate, 0);
            sae.add_features(isa, of_gate, index, value, coefs);
            isa.residual(x, of_gate);
            loss.gate = f64::from(isa.dot(of_gate, of_gate));
        }
        if self.l1 > 0.0 {
            let (index, value) = if gated { self.gates.row(b) } else { (index, value) };
            let length = |h: u32| self.norms.get(h as usize).map_or(1.0, |&n| f64::from(n));
            loss.l1 = index.iter().zip(value).map(|(&h, &a)| f64::from(a) * length(h)).sum();
        }
        loss
    }

    /// Reconstructs a row from the latents of each prefix, each by adding to the one before.
    fn reconstruct_prefixes(&self, out: &mut [f32], index: &[u32], value: &[f32], coefs: &mut Vec<f32>) {
        let (sae, dim) = (self.sae, self.sae.config.d_in);
        let mut from = 0;
        for j in 0..self.layout.prefixes {
            let prefix = self.step.prefixes.get(j);
            let to = prefix.map_or(index.len(), |&m| index.partition_point(|&h| (h as usize) < m));
            let (done, out) = out.split_at_mut(j * dim);
            let out = &mut out[..dim];
            match done.len().checked_sub(dim) {
                Some(last) => out.copy_from_slice(&done[last..]),
                None => sae.fill_with_bias(out, 0),
            }
            sae.add_features(self.isa, out, &index[from..to], &value[from..to], coefs);
            from = to;
        }
    }

    /// Replaces a decoder's sum by the residual whose `-2/B`-fold is the gradient to it; returns the loss.
    fn compare(&self, x: &[f32], out: &mut [f32]) -> f64 {
        match self.sae.config.output {
            Output::Linear => {
                self.isa.residual(x, out);
                f64::from(self.isa.dot(out, out))
            }
            // Half of the difference: -2/B times it is the gradient.
            Output::Sigmoid => out.iter_mut().zip(x).fold(0.0, |sum, (y, &x)| {
                let loss = cross_entropy(x, *y);
                *y = 0.5 * (x - sigmoid(*y));
                sum + loss
            }),
        }
    }
}

/// Turns the residual of each prefix into the sum of its share and those of all longer prefixes: the latents of a
/// prefix take part in all longer ones, too, and learn from this sum.
fn share_between_prefixes(isa: Isa, residuals: &mut [f32], dim: usize) {
    let prefixes = residuals.len() / dim;
    let share = 1.0 / prefixes as f32;
    isa.scale(&mut residuals[(prefixes - 1) * dim..], share);
    for j in (0..prefixes - 1).rev() {
        let (shorter, next) = residuals.split_at_mut((j + 1) * dim);
        isa.scale(&mut shorter[j * dim..], share);
        isa.add_scaled(&mut shorter[j * dim..], 1.0, &next[..dim]);
    }
}

/// Groups entries by latent, each with the row of the residuals that it learns from.
fn regroup(
    by_latent: &mut ByLatent,
    residual_of: &mut Vec<u32>,
    step: &Step,
    layout: ResidualLayout,
    n_latents: usize,
    [latents, gates]: [&Latents; 2],
) {
    residual_of.clear();
    if !step.prefixes.is_empty() {
        let shortest = |h: usize| step.prefixes.partition_point(|&m| m <= h) as u32;
        residual_of.extend((0..n_latents).map(shortest));
    }
    let (prefixes, per_row) = (layout.prefixes as u32, layout.per_row() as u32);
    let part = |latents, first| NumberedRows { latents, first, step: per_row };
    let parts = [part(latents, 0), part(gates, prefixes)];
    by_latent.group(n_latents, &parts[..if layout.gated { 2 } else { 1 }], residual_of);
}
