//! Encoding: one dense product, or its prefilter, then the activation's selection. Thresholds and biases that make
//! latents sparse are set in `encode/sparsity.rs`.

mod sparsity;

use super::prefilter::{Prefilter, Wanted, most_unresolved};
use super::{Config, Sae, Workspace, reserve};
use crate::activation::batchtopk::keep_largest;
use crate::activation::gated::{MagnitudeParameters, magnitudes};
use crate::activation::select::PrefilteredRow;
use crate::activation::select::rank::{TopK, select};
use crate::activation::select::threshold::{Thresholds, above, above_of_prefiltered, select_any};
use crate::activation::sigmoid::sigmoid;
use crate::activation::{Selection, SelectionOptions};
use crate::error::Overflow;
use crate::matrix::{Latents, MatRef, PanelRow, Panels};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Trial thresholds, as fractions of the smallest value selected in the last batch. They are tried in turn until enough
/// values are found.
const GUESSES: [f32; 3] = [0.9, 0.6, 0.0];

/// Rows that tell the prefilter, before its first batch, where the k-th largest values lie.
const PROBE_ROWS: usize = 16;

/// The exact pre-activations of a batch that [`Sae::compute_pre_acts`] left in the workspace.
struct ExactPreActs<'a> {
    prefiltered: bool,
    prefilter: &'a Prefilter,
    pre_acts: &'a Panels,
}

/// The exact pre-activations of a row: all, or those that may be selected.
enum RowPreActs<'a> {
    All(PanelRow<'a>),
    Prefiltered(PrefilteredRow<'a>),
}

impl ExactPreActs<'_> {
    fn of(work: &Workspace) -> ExactPreActs<'_> {
        ExactPreActs { prefiltered: work.prefiltered, prefilter: &work.prefilter, pre_acts: &work.pre_acts }
    }

    fn row(&self, b: usize) -> RowPreActs<'_> {
        if !self.prefiltered {
            return RowPreActs::All(self.pre_acts.row(b));
        }
        match self.prefilter.unresolved().binary_search(&(b as u32)) {
            Ok(at) => RowPreActs::All(self.pre_acts.row(at)),
            Err(_) => RowPreActs::Prefiltered(self.prefilter.row(b)),
        }
    }
}

/// Returns the k-th largest value of a row from its selected latents; 0 if fewer than k were positive.
fn kth_value(latents: &Latents, b: usize, k: usize) -> f32 {
    let values = latents.row(b).1;
    if values.len() < k { 0.0 } else { values.iter().fold(f32::INFINITY, |m, &v| m.min(v)) }
}

#[allow(non_snake_case)]
impl Sae {
    /// `latents = activation((x - b_dec) W_encᵀ + b_enc)` by the activation's inference rule: batchtopk compares with
    /// its threshold.
    ///
    /// # Shapes
    /// `x [B, D]` → `latents [B, H]`.
    ///
    /// # Errors
    /// [`Overflow`] for the first row whose pre-activations are not finite.
    pub fn encode(&self, x: MatRef, work: &mut Workspace, latents: &mut Latents) -> std::result::Result<(), Overflow> {
        let Config { activation, k, relu_after, .. } = self.config;
        let options = SelectionOptions { k, relu_after, bandwidth: 0.0 };
        self.rounded.count_batch(self, work.isa, x.rows());
        self.encode_by((activation.properties().selection_in_inference)(options), x, work, latents)?;
        if activation.has_gate() {
            self.magnitudes(latents, true);
        }
        Ok(())
    }

    /// [`Sae::encode`] that ignores overflow: a row that overflows may have fewer than k latents.
    ///
    /// For statistics over many rows and for plots. Overflow is the only possible error of a valid model on finite rows, and
    /// leaving such rows out would change the sample.
    pub fn encode_lossy(&self, x: MatRef, work: &mut Workspace, latents: &mut Latents) {
        // `encode` fills all rows before it returns the error.
        let _ = self.encode(x, work, latents);
    }

    /// [`Sae::encode_lossy`] with the `k` largest values above 0 of each row, whatever the activation.
    pub fn encode_top(&self, x: MatRef, k: usize, work: &mut Workspace, latents: &mut Latents) {
        self.rounded.count_batch(self, work.isa, x.rows());
        // `encode` fills all rows before it returns the error.
        let _ = self.encode_by(Selection::TopK { k, relu_after: true }, x, work, latents);
    }

    /// The bias of the pre-activations that select: the gate's, or that of the latents.
    pub(super) fn bias(&self) -> &[f32] {
        if self.config.activation.has_gate() { &self.b_gate } else { &self.b_enc }
    }

    /// [`Sae::encode`] by a selection. The latents of a gated model are `π` where it is above 0.
    pub(super) fn encode_by(
        &self,
        selection: Selection,
        x: MatRef,
        work: &mut Workspace,
        latents: &mut Latents,
    ) -> std::result::Result<(), Overflow> {
        let (rows, dim) = (x.rows(), self.config.d_in);
        assert_eq!(x.cols(), dim, "rows of another width than the model");
        work.prepare(rows, &self.config);
        work.product_time = Duration::ZERO;
        let mut centred = std::mem::take(&mut work.centred);
        let input = match &self.b_dec {
            Some(b_dec) => {
                let centred = &mut centred.data_mut()[..rows * dim];
                centred.par_chunks_mut(dim).enumerate().for_each(|(b, out)| {
                    out.copy_from_slice(b_dec);
                    work.isa.residual(x.row(b), out);
                });
                &*centred
            }
            None => x.data(),
        };
        work.prefiltered = selection != Selection::All && work.prefilter.is_on(rows, self);
        let done = match selection {
            Selection::TopK { k, relu_after } => self.select_top_k(k, relu_after, input, work, latents),
            Selection::BatchTopK { k } => {
                self.select_batch_top_k(k, input, work, latents);
                Ok(())
            }
            Selection::AboveThreshold { margin } => {
                self.select_above(margin, input, work, latents);
                Ok(())
            }
            Selection::All => {
                self.select_all(input, work, latents);
                Ok(())
            }
        };
        work.centred = centred;
        done
    }

    fn select_top_k(
        &self,
        k: usize,
        relu_after: bool,
        input: &[f32],
        work: &mut Workspace,
        latents: &mut Latents,
    ) -> std::result::Result<(), Overflow> {
        let (top_k, rows) = (TopK { isa: work.isa, k }, input.len() / self.config.d_in);
        if work.prefiltered && !work.prefilter.has_guess() {
            self.probe(k, input, work, latents);
        }
        let looked = self.compute_pre_acts(Wanted::Top(k), input, work);
        let exact = ExactPreActs::of(work);
        let overflow =
            select(k, relu_after, rows, &work.candidates, latents, |b, scratch, index, value| match exact.row(b) {
                RowPreActs::Prefiltered(row) => top_k.of_prefiltered(row, scratch, index, value),
                RowPreActs::All(row) => top_k.of_row(|| row.clone(), scratch, index, value),
            });
        if looked {
            work.prefilter.learn_from_batch(|b| kth_value(latents, b, k));
        }
        overflow.map_or(Ok(()), |row| Err(Overflow { row }))
    }

    fn select_batch_top_k(&self, k: usize, input: &[f32], work: &mut Workspace, latents: &mut Latents) {
        let rows = input.len() / self.config.d_in;
        let mut all = false;
        for share in GUESSES {
            let t = Thresholds { each: &[share * work.smallest_selected], margin: 0.0 };
            // A prefilter for all that is positive would find half of all.
            work.prefiltered &= t.each[0] > 0.0;
            if !all {
                self.compute_pre_acts(Wanted::Above(t), input, work);
                all = !work.prefiltered;
            }
            keep_above(&t, rows, work, latents, |_, _| {});
            if latents.count() >= rows * k || t.each[0] == 0.0 {
                break;
            }
        }
        work.smallest_selected = keep_largest(rows * k, latents, &mut work.bits);
    }

    fn select_above(&self, margin: f32, input: &[f32], work: &mut Workspace, latents: &mut Latents) {
        let t = Thresholds { each: &self.threshold, margin };
        self.compute_pre_acts(Wanted::Above(t), input, work);
        keep_above(&t, input.len() / self.config.d_in, work, latents, |index, value| {
            if margin > 0.0 {
                for (&h, v) in index.iter().zip(value) {
                    if *v <= t.at(h as usize) + margin {
                        *v = 0.0;
                    }
                }
            }
        });
    }

    fn select_all(&self, input: &[f32], work: &mut Workspace, latents: &mut Latents) {
        self.multiply(input, work);
        latents.resize(input.len() / self.config.d_in, self.config.latents);
        let (len, index, value, capacity) = latents.parts_mut();
        len.fill(capacity as u32);
        let each = index.par_chunks_mut(capacity).zip(value.par_chunks_mut(capacity));
        each.enumerate().for_each(|(b, (index, value))| {
            for (first, p) in work.pre_acts.row(b) {
                for (j, &p) in p.iter().enumerate() {
                    (index[first + j], value[first + j]) = ((first + j) as u32, sigmoid(p));
                }
            }
        });
    }

    /// Computes the exact pre-activations of all latents that may be selected: by the prefilter, if `work.prefiltered`
    /// is set and it pays off for this batch, else by the dense product, after which `work.prefiltered` is not set.
    /// Returns true if the prefilter looked at the batch.
    fn compute_pre_acts(&self, wanted: Wanted, input: &[f32], work: &mut Workspace) -> bool {
        let dim = self.config.d_in;
        let rows = input.len() / dim;
        let mut looked = work.prefiltered;
        if looked {
            let Workspace { prefilter, candidates, pre_acts, unresolved_input, .. } = work;
            // Memory for rows that may be left unresolved, now or later.
            let most = most_unresolved(rows);
            pre_acts.resize(most, self.config.latents);
            unresolved_input.resize(most * dim);
            looked = prefilter.find(self, input, wanted, candidates);
            work.product_time += prefilter.product_time();
            work.prefiltered = looked && prefilter.pays_off(rows, self);
        }
        if !work.prefiltered {
            self.multiply(input, work);
            return looked;
        }
        work.prefilter.compute_exact(self, input);
        let unresolved = work.prefilter.unresolved();
        if !unresolved.is_empty() {
            let mut some = std::mem::take(&mut work.unresolved_input);
            some.resize(unresolved.len() * dim);
            for (row, &b) in some.chunks_exact_mut(dim).zip(unresolved) {
                row.copy_from_slice(&input[b as usize * dim..][..dim]);
            }
            self.multiply(&some, work);
            work.unresolved_input = some;
        }
        looked
    }

    /// Computes the exact pre-activations of all latents by the dense product.
    fn multiply(&self, input: &[f32], work: &mut Workspace) {
        let started = Instant::now();
        let (dim, bias) = (self.config.d_in, self.bias());
        let rows = input.len() / dim;
        let Workspace { isa, pre_acts, spill, product_time, .. } = work;
        pre_acts.resize(rows, self.config.latents);
        let (isa, panel_len, spill) = (*isa, pre_acts.panel_len(), &*spill);
        pre_acts.data_mut().par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(p, out)| {
            let first = p * Panels::WIDTH;
            let n = out.len() / rows;
            let w = &self.W_enc.data()[first * dim..(first + n) * dim];
            let mut spill = spill.lock();
            isa.dots(input, w, &bias[first..first + n], dim, out, &mut spill);
        });
        *product_time += started.elapsed();
    }

    /// Gives the prefilter its first guess, from the k-th largest values of some rows.
    fn probe(&self, k: usize, input: &[f32], work: &mut Workspace, latents: &mut Latents) {
        let (isa, dim) = (work.isa, self.config.d_in);
        let rows = (input.len() / dim).min(PROBE_ROWS);
        let input = &input[..rows * dim];
        self.multiply(input, work);
        let Workspace { pre_acts, candidates, prefilter, .. } = work;
        let pre_acts = &*pre_acts;
        select(k, false, rows, candidates, latents, |b, scratch, index, value| {
            TopK { isa, k }.of_row(|| pre_acts.row(b), scratch, index, value)
        });
        let rows = input.chunks_exact(dim).enumerate();
        prefilter.learn(rows.map(|(b, x)| (kth_value(latents, b, k), isa.dot(x, x).sqrt())));
    }

    /// Turns `π > 0` of a gated model into its latents; drops zeros if `drop_zeros`.
    pub(super) fn magnitudes(&self, latents: &mut Latents, drop_zeros: bool) {
        let parameters = MagnitudeParameters { b_gate: &self.b_gate, r_mag: &self.r_mag, b_enc: &self.b_enc };
        magnitudes(parameters, latents, drop_zeros);
    }

    /// Computes the exact pre-activations of some latents on the batch that was encoded last.
    ///
    /// # Shapes
    /// `x [B, D]`, `which` ascending → `out [B, which.len()]`.
    pub(super) fn pre_acts_of(&self, x: MatRef, which: &[u32], work: &mut Workspace, out: &mut Panels) {
        let (rows, dim) = (x.rows(), self.config.d_in);
        out.resize(rows, which.len());
        work.gathered.grow();
        for (w, bias) in work.gathered.iter_mut() {
            w.resize(Panels::WIDTH * dim);
            reserve(bias, Panels::WIDTH);
        }
        let work = &*work;
        let input = work.input(&self.config, x);
        let Workspace { isa, pre_acts, prefiltered, gathered, spill, .. } = work;
        let panels = out.data_mut().par_chunks_mut(rows * Panels::WIDTH);
        panels.zip(which.par_chunks(Panels::WIDTH)).for_each(|(out, which)| {
            if *prefiltered {
                let mut gathered = gathered.lock();
                let (w, bias) = &mut *gathered;
                let w = &mut w[..which.len() * dim];
                w.chunks_exact_mut(dim).zip(which).for_each(|(w, &h)| w.copy_from_slice(self.W_enc.row(h as usize)));
                bias.clear();
                bias.extend(which.iter().map(|&h| self.bias()[h as usize]));
                let mut spill = spill.lock();
                isa.dots(input, w, bias, dim, out, &mut spill);
            } else {
                for (b, out) in out.chunks_exact_mut(which.len()).enumerate() {
                    out.iter_mut().zip(which).for_each(|(o, &h)| *o = pre_acts.get(b, h as usize));
                }
            }
        });
    }
}

/// Leaves in `latents` the pre-activations in the workspace that exceed these thresholds, changed by `adjust(index,
/// value)`.
fn keep_above(
    t: &Thresholds,
    rows: usize,
    work: &mut Workspace,
    latents: &mut Latents,
    adjust: impl Fn(&[u32], &mut [f32]) + Sync,
) {
    let (isa, mut capacity_hint) = (work.isa, work.capacity_hint);
    let exact = ExactPreActs::of(work);
    select_any(rows, &mut capacity_hint, &work.candidates, latents, |b, scratch| {
        let n = match exact.row(b) {
            RowPreActs::Prefiltered(row) => above_of_prefiltered(t, row, scratch),
            RowPreActs::All(row) => above(isa, t, row, scratch),
        };
        let (index, value) = scratch.first(n);
        adjust(index, value);
        n
    });
    work.capacity_hint = capacity_hint;
}
