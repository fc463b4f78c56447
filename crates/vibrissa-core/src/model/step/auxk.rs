//! AuxK (equation: [`AuxK`]): the dead latents reconstruct the residual of every row. Each row takes many of them, so
//! gradients are computed for groups of neighbours in the list of dead latents: by blocks of rows that stay in cache,
//! or, if rows take most of the dead latents, by dense products, which multiply zeros, too.

use super::super::{Sae, Workspace, reserve};
use super::Step;
use super::forward::ForwardPass;
use super::update::{AuxContext, LatentRange, UpdateContext};
use crate::activation::select::Candidates;
use crate::activation::select::rank::{TopK, select};
use crate::activation::{Activation, LatentGradients};
use crate::kernels::PerThread;
use crate::kernels::{Isa, dots_scratch_len};
use crate::loss::{AuxK, spread};
use crate::matrix::{Aligned, ByLatent, Latents, NumberedRows, Panels};
use rayon::prelude::*;
use std::ops::Range;

/// Dense products are used if rows take at least one in this many dead latents: they are faster by that much.
const DENSE_ONE_IN: usize = 2;

/// Rows of the batch that stay in cache while blocks of the dead latents are added to them; few enough that every
/// worker gets some.
fn rows_together(dim: usize, rows: usize) -> usize {
    (65_536 / dim.max(1)).min(rows.div_ceil(rayon::current_num_threads().max(1))).max(16)
}

/// Dead latents that stay in cache while all of these rows take some; enough that each row takes about eight.
fn latents_together(dim: usize, dead: usize, k: usize) -> usize {
    (131_072 / dim.max(1)).max(8 * dead / k)
}

/// Rows of the batch whose residuals, and then inputs, stay in cache while a group's gradients are summed.
fn block_rows(dim: usize) -> usize {
    (262_144 / dim.max(1)).max(8)
}

/// Dead latents of a group, as many as stay in cache; the dense product's strips have six.
fn group_size(dim: usize) -> usize {
    (65_536 / dim.max(1)).clamp(6, Panels::WIDTH) / 6 * 6
}

/// The dead latents of a step.
#[derive(Debug, Default)]
pub struct DeadLatents {
    /// See [`DENSE_ONE_IN`].
    dense_one_in: usize,
    /// Their numbers, ascending.
    list: Vec<u32>,
    /// Position of each latent in the list, if it is there `[H]`.
    position: Vec<u32>,
    /// Pre-activations `[B, dead]`.
    acts: Panels,
    /// Positions in the list that each row takes, and their pre-activations.
    taken: Latents,
    /// The same by position in the list.
    by_latent: ByLatent,
    /// True if they have a gradient in this step.
    learn: bool,
    /// True if products are dense.
    dense: bool,
    /// Coefficients of the decoder rows in each row's reconstruction, if products are dense `[B, dead]`.
    coefs: Aligned,
    /// `0..B`
    rows: Vec<u32>,
    /// By worker.
    groups: PerThread<GradientGroup>,
}

/// The gradients of some neighbours in the list.
#[derive(Debug, Default)]
pub struct GradientGroup {
    members: Range<usize>,
    /// Decoder rows `[n, D]`.
    directions: Aligned,
    /// Products of residuals and decoder rows `[B, n]`.
    dots: Vec<f32>,
    /// Coefficients of residuals in the gradient of the direction, and of inputs in that of the encoder row `[n, B]`.
    coef: Vec<f32>,
    d_pre: Vec<f32>,
    /// `Σ_b d_pre[b]` and `along_direction` of each member `[n]`, as in [`AuxGradient`].
    sums: Vec<[f32; 2]>,
    /// Gradients of encoder rows `[n, D]`, and of directions if these are no encoder rows.
    enc: Aligned,
    dec: Aligned,
    spill: Aligned,
    index: Vec<u32>,
    /// Number of latents of a row that were added to it.
    added: Vec<usize>,
}

/// The gradient of a dead latent from AuxK.
#[derive(Clone, Copy, Debug)]
pub struct AuxGradient<'a> {
    /// Gradient of the encoder row; when tied, of the direction, too.
    pub enc: &'a [f32],
    /// Gradient of the direction, untied.
    pub dec: &'a [f32],
    /// Gradient of the bias, `Σ_b d_pre[b]`.
    pub d_pre: f32,
    /// (Gradient of the direction) · direction.
    pub along_direction: f32,
}

impl AuxGradient<'_> {
    /// Returns the gradient of the decoder row.
    pub fn direction(&self, tied: bool) -> &[f32] {
        if tied { self.enc } else { self.dec }
    }

    /// Adds the sums over rows. Pre-activations of a gated model have the gate's bias.
    pub fn add_to(&self, sums: &mut LatentGradients, activation: Activation) {
        sums.along_direction += self.along_direction;
        let bias = if activation.has_gate() { &mut sums.b_gate } else { &mut sums.b_enc };
        *bias += self.d_pre;
        sums.pre_act += self.d_pre;
    }
}

impl DeadLatents {
    pub fn new() -> DeadLatents {
        DeadLatents { dense_one_in: DENSE_ONE_IN, ..DeadLatents::default() }
    }

    /// Reserves memory for all that a step may need; allocates only when it grows.
    fn prepare(&mut self, latents: usize, dim: usize, rows: usize, k: usize) {
        reserve(&mut self.list, latents);
        self.position.resize(latents, 0);
        self.rows.clear();
        self.rows.extend(0..rows as u32);
        self.groups.grow();
        self.coefs.resize(rows * latents.min(self.dense_one_in * k));
        self.groups.iter_mut().for_each(|group| group.prepare(dim, rows, k));
    }

    /// Lists the latents that are dead.
    fn find(&mut self, silent: &[u64], dead_after: u64) {
        self.learn = false;
        self.list.clear();
        self.list.extend((0..silent.len() as u32).filter(|&h| silent[h as usize] >= dead_after));
        self.list.iter().enumerate().for_each(|(at, &h)| self.position[h as usize] = at as u32);
    }

    /// Lets every row take the `k` dead latents with the largest pre-activations.
    fn take(&mut self, isa: Isa, k: usize, rows: usize, sae: &Sae, candidates: &PerThread<Candidates>) {
        let DeadLatents { list, acts, taken, by_latent, dense, coefs, .. } = self;
        let find = |b: usize, scratch: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
            TopK { isa, k }.of_row(|| acts.row(b), scratch, index, value)
        };
        select(k, false, rows, candidates, taken, find);
        by_latent.group(list.len(), &[NumberedRows { latents: taken, first: 0, step: 1 }], &[]);
        if *dense {
            let n = list.len();
            coefs[..rows * n].par_chunks_exact_mut(n).enumerate().for_each(|(b, coefs)| {
                coefs.fill(0.0);
                let (index, value) = taken.row(b);
                for (&at, &v) in index.iter().zip(value) {
                    coefs[at as usize] = v * sae.decoder_scale(list[at as usize] as usize);
                }
            });
        }
    }

    /// Reconstructs the residuals from the dead latents. Leaves `(e - ê) · B · coef V/‖e - mean e‖²` behind the
    /// residuals of the forward pass, so that `-2/B` applies to these, too. Returns the loss; 0 if no latent is dead or
    /// the loss is not finite.
    pub fn decode(
        &mut self,
        sae: &Sae,
        work: &mut Workspace,
        step: &Step,
        forward: &mut ForwardPass,
        (options, silent): (AuxK, &[u64]),
    ) -> f64 {
        let (x, rows, dim, isa) = (step.x, step.x.rows(), step.x.cols(), work.isa());
        let AuxK { coef, k_aux, dead_after } = options;
        let (prefixes, per_row, latents) = (forward.layout.prefixes, forward.layout.per_row(), sae.config().latents);
        self.prepare(latents, dim, rows, k_aux.min(latents));
        self.find(silent, dead_after);
        let (k, parts) = (k_aux.min(self.list.len()), prefixes as f32);
        if k == 0 {
            return 0.0;
        }
        // With prefixes the residual of the whole has its share of the loss as a factor.
        let e_spread = f64::from(parts * parts)
            * spread(forward.residuals.first_rows(per_row * rows), prefixes - 1, per_row, &mut forward.column_sums);
        let v = spread(step.target, 0, 1, &mut forward.column_sums) / rows as f64;
        let weight = coef * v / e_spread;
        if !weight.is_finite() {
            return 0.0;
        }
        (self.learn, self.dense) = (true, self.dense_one_in * k >= self.list.len());
        sae.pre_acts_of(x, &self.list, work, &mut self.acts);
        self.take(isa, k, rows, sae, &work.candidates);
        let (residuals, out) = forward.residuals.data_mut().split_at_mut(per_row * rows * dim);
        let together = rows_together(dim, rows);
        let out = out[..rows * dim].par_chunks_mut(together * dim);
        out.zip(forward.row_losses.par_chunks_mut(together)).enumerate().for_each(|(block, (out, losses))| {
            let first = block * together;
            self.reconstruct(isa, sae, k, first, out);
            for (b, (out, loss)) in out.chunks_exact_mut(dim).zip(losses).enumerate() {
                if prefixes > 1 {
                    isa.scale(out, 1.0 / parts);
                }
                isa.residual(&residuals[((first + b) * per_row + prefixes - 1) * dim..][..dim], out);
                if prefixes > 1 {
                    isa.scale(out, parts);
                }
                loss.auxk = f64::from(isa.dot(out, out));
                // d loss/d ê = -2·weight·(e - ê); the residuals have a factor -2/B, so these are scaled by weight·B.
                isa.scale(out, (weight * rows as f64) as f32);
            }
        });
        weight * forward.row_losses.iter().map(|l| l.auxk).sum::<f64>()
    }

    /// Reconstructs a block of rows, from number `first` on, from the `k` dead latents that each takes.
    fn reconstruct(&self, isa: Isa, sae: &Sae, k: usize, first: usize, out: &mut [f32]) {
        let (dim, decoder) = (sae.config().d_in, sae.decoder_rows().data());
        let (n, rows) = (self.list.len(), out.len() / dim);
        out.fill(0.0);
        if self.dense {
            isa.add_combinations(out, &self.coefs[first * n..][..rows * n], &self.list, decoder, dim);
            return;
        }
        let mut group = self.groups.lock();
        let GradientGroup { coef, index, added, .. } = &mut *group;
        let added = &mut added[..rows];
        added.fill(0);
        let together = latents_together(dim, n, k);
        for end in (together..n + together).step_by(together) {
            for (b, (out, added)) in out.chunks_exact_mut(dim).zip(added.iter_mut()).enumerate() {
                let (taken, values) = self.taken.row(first + b);
                let more = taken[*added..].iter().map(|&at| at as usize).take_while(|&at| at < end);
                index.clear();
                index.extend(more.map(|at| self.list[at]));
                sae.add_features(isa, out, index, &values[*added..][..index.len()], coef);
                *added += index.len();
            }
        }
    }

    /// Returns the dead latents and their residuals for the update, if they have a gradient in this step.
    pub fn context<'a>(&'a self, forward: &'a ForwardPass, rows: usize, dim: usize) -> Option<AuxContext<'a>> {
        let residuals = &forward.residuals.data()[forward.layout.per_row() * rows * dim..];
        self.learn.then_some(AuxContext { dead: self, residuals })
    }

    /// Returns the scratch of the workers.
    pub fn groups(&self) -> &PerThread<GradientGroup> {
        &self.groups
    }

    /// Returns the position of a latent in the list; `None` if it is not dead, or no row takes it.
    pub fn position(&self, h: usize) -> Option<usize> {
        let at = self.position[h] as usize;
        (self.list.get(at) == Some(&(h as u32)) && !self.by_latent.latent(at).0.is_empty()).then_some(at)
    }
}

impl GradientGroup {
    fn prepare(&mut self, dim: usize, rows: usize, k: usize) {
        let n = group_size(dim);
        let GradientGroup { members, directions, dots, coef, d_pre, sums, enc, dec, spill, index, added } = self;
        *members = 0..0;
        for all in [directions, enc, dec] {
            all.resize(n * dim);
        }
        dots.resize(n * rows, 0.0);
        d_pre.resize(n * rows, 0.0);
        coef.resize((n * rows).max(k), 0.0);
        sums.resize(n, [0.0; 2]);
        reserve(index, k);
        added.resize(rows, 0);
        spill.resize(dots_scratch_len(rows, dim));
    }

    /// Returns the gradient of latent `h` of this range; `None` where [`DeadLatents::position`] is. Latents must come
    /// by ascending number: the gradients of the next group are computed when its first member comes.
    pub fn gradient(
        &mut self,
        aux: AuxContext,
        range: &LatentRange,
        context: &UpdateContext,
        h: usize,
    ) -> Option<AuxGradient<'_>> {
        let (at, dim) = (aux.dead.position(h)?, range.dim);
        if !self.members.contains(&at) {
            let end = aux.dead.list.partition_point(|&h| (h as usize) < range.end());
            self.members = at..end.min(at + group_size(dim));
            self.fill(aux, range, context);
        }
        let i = at - self.members.start;
        let columns = i * dim..(i + 1) * dim;
        let [d_pre, along_direction] = self.sums[i];
        Some(AuxGradient { enc: &self.enc[columns.clone()], dec: &self.dec[columns], d_pre, along_direction })
    }

    fn fill(&mut self, aux: AuxContext, range: &LatentRange, context: &UpdateContext) {
        let n = self.members.len() * range.dim;
        self.enc[..n].fill(0.0);
        self.dec[..n].fill(0.0);
        self.sums.fill([0.0; 2]);
        if aux.dead.dense { self.fill_dense(aux, range, context) } else { self.fill_sparse(aux, range, context) }
    }

    fn fill_sparse(
        &mut self,
        AuxContext { dead, residuals }: AuxContext,
        range: &LatentRange,
        context: &UpdateContext,
    ) {
        let GradientGroup { members, coef, d_pre, sums, enc, dec, .. } = self;
        let (isa, scale, dim, batch) = (context.isa, context.batch.scale, range.dim, dead.rows.len());
        for first in (0..batch).step_by(block_rows(dim)) {
            let end = (first + block_rows(dim)) as u32;
            // The part of a latent's rows that lies in this block.
            let in_block =
                |taken: &[u32]| taken.partition_point(|&b| b < first as u32)..taken.partition_point(|&b| b < end);
            for (i, at) in members.clone().enumerate() {
                let (taken, values) = dead.by_latent.latent(at);
                let part = in_block(taken);
                let (taken, values) = (&taken[part.clone()], &values[part]);
                let (direction, inv_norm) = range.direction(dead.list[at] as usize);
                let (coef, d_pre) = (&mut coef[..taken.len()], &mut d_pre[i * batch..][..taken.len()]);
                coef.iter_mut().zip(values).for_each(|(c, &a)| *c = a * scale * inv_norm);
                let to_direction = &mut (if context.config.tied { &mut *enc } else { &mut *dec })[i * dim..][..dim];
                isa.dots_and_add(direction, coef, taken, residuals, d_pre, to_direction, true);
                for (d, &a) in d_pre.iter_mut().zip(values) {
                    *d *= scale * inv_norm;
                    sums[i][0] += *d;
                    sums[i][1] += a * *d;
                }
            }
            for (i, at) in members.clone().enumerate() {
                let taken = dead.by_latent.latent(at).0;
                let taken = &taken[in_block(taken)];
                isa.add_rows(
                    &mut enc[i * dim..][..dim],
                    &d_pre[i * batch..][..taken.len()],
                    taken,
                    context.batch.input,
                );
            }
        }
    }

    fn fill_dense(&mut self, AuxContext { dead, residuals }: AuxContext, range: &LatentRange, context: &UpdateContext) {
        let GradientGroup { members, directions, dots, coef, d_pre, sums, enc, dec, spill, .. } = self;
        let (isa, scale, dim, batch, n) = (context.isa, context.batch.scale, range.dim, dead.rows.len(), members.len());
        for (out, &h) in directions.chunks_exact_mut(dim).zip(&dead.list[members.clone()]) {
            out.copy_from_slice(range.direction(h as usize).0);
        }
        let (dots, coef, d_pre) = (&mut dots[..n * batch], &mut coef[..n * batch], &mut d_pre[..n * batch]);
        isa.dots(&residuals[..batch * dim], &directions[..n * dim], &[0.0; Panels::WIDTH][..n], dim, dots, spill);
        coef.fill(0.0);
        d_pre.fill(0.0);
        for (i, at) in members.clone().enumerate() {
            let factor = scale * range.direction(dead.list[at] as usize).1;
            let (taken, values) = dead.by_latent.latent(at);
            for (&b, &a) in taken.iter().zip(values) {
                let d = factor * dots[b as usize * n + i];
                coef[i * batch + b as usize] = a * factor;
                d_pre[i * batch + b as usize] = d;
                sums[i][0] += d;
                sums[i][1] += a * d;
            }
        }
        let (enc, dec) = (&mut enc[..n * dim], &mut dec[..n * dim]);
        isa.add_combinations(if context.config.tied { &mut *enc } else { dec }, coef, &dead.rows, residuals, dim);
        isa.add_combinations(enc, d_pre, &dead.rows, context.batch.input, dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;
    use crate::model::Config;
    use crate::model::init;
    use crate::model::step::{Engine, State, StepOptions};
    use crate::optim::Optimizer;
    use crate::random::Stream;

    /// With many dead latents, in groups, over several blocks of rows, dense products give the gradients that sparse
    /// ones give.
    #[test]
    fn dense_and_sparse_products_give_the_same_gradients() {
        for (dim, batch, latents) in [(1500, 100, 640), (40, 7, 3200)] {
            for (tied, activation) in [(true, Activation::TopK), (false, Activation::TopK), (false, Activation::Gated)]
            {
                let mut s = Stream::new(3, "test", &[]);
                let x = Mat::from_vec(batch, dim, (0..batch * dim).map(|_| s.normal() as f32).collect());
                let config =
                    Config { d_in: dim, latents, k: 4, tied, activation, decoder_bias: !tied, ..Config::default() };
                let mean = vec![0.0; dim];
                let sae = init::kaiming(config, &mean, 1, 0).expect("a model");
                let auxk = AuxK { coef: 1.0, k_aux: 30, dead_after: 1 };
                let [sparse, dense] = [0, usize::MAX / 64].map(|one_in| {
                    let mut silent = vec![0; latents];
                    silent.iter_mut().step_by(7).for_each(|s| *s = 1);
                    silent[latents / 2..].iter_mut().take(60).for_each(|s| *s = 1);
                    let options = StepOptions { auxk, ..StepOptions::default() };
                    let state = State { silent: silent.clone(), ..State::new(&config) };
                    let mut engine = Engine::new(Isa::current(), sae.clone(), state, options);
                    engine.dead.dense_one_in = one_in;
                    // Fewer rows than before, as at the end of an epoch.
                    engine.step(x.view(), 0.0, None).expect("finite");
                    engine.state.silent = silent;
                    let losses = engine.step(x.first_rows(batch - 2), 1e-2, None).expect("finite");
                    assert_eq!(engine.dead.dense, one_in > 0);
                    (losses.auxk, engine.into_parts().1)
                });
                assert!((sparse.0 / dense.0 - 1.0).abs() < 1e-5, "{} {}", sparse.0, dense.0);
                let moments =
                    |s: &State| [s.W_enc.m.to_vec(), s.W_dec.m.to_vec(), s.b_enc.m.to_vec(), s.b_gate.m.to_vec()];
                for (a, b) in moments(&sparse.1).iter().zip(&moments(&dense.1)) {
                    let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    let off = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(off <= 1e-5 * most, "{tied} {activation:?} D {dim}: {off} of {most}");
                }
            }
        }
    }

    /// A dead latent that no row takes has no gradient: SparseAdam leaves it where it is, dense Adam counts an idle
    /// step.
    #[test]
    fn latents_that_no_row_takes_do_not_move() {
        let (dim, batch, latents) = (12, 3, 40);
        let mut s = Stream::new(5, "test", &[]);
        let x = Mat::from_vec(batch, dim, (0..batch * dim).map(|_| s.normal() as f32).collect());
        let config = Config { d_in: dim, latents, k: 2, tied: false, ..Config::default() };
        let sae = init::kaiming(config, &[0.0; 12], 1, 0).expect("a model");
        for (optimizer, one_in) in [Optimizer::Adam, Optimizer::SparseAdam].into_iter().flat_map(|o| [(o, 0), (o, 9)]) {
            let auxk = AuxK { coef: 1.0, k_aux: 4, dead_after: 1 };
            let options = StepOptions { auxk, optimizer, ..StepOptions::default() };
            let mut state = State::new(&config);
            state.silent[20..].fill(1);
            let mut engine = Engine::new(Isa::current(), sae.clone(), state, options);
            engine.dead.dense_one_in = one_in;
            let before = engine.sae().clone();
            engine.step(x.view(), 1e-2, None).expect("finite");
            let touched = |h: u32| (0..batch).any(|b| engine.latents().row(b).0.contains(&h));
            let taken = |h: u32| (0..batch).any(|b| engine.dead.taken.row(b).0.contains(&(h - 20)));
            let (still, moved): (Vec<u32>, Vec<u32>) = (20..40).filter(|&h| !touched(h)).partition(|&h| !taken(h));
            assert!(!still.is_empty() && !moved.is_empty());
            let same = |h: u32| engine.sae().feature(h as usize) == before.feature(h as usize);
            assert!(still.iter().all(|&h| engine.state().idle[h as usize] == State::NEVER && same(h)));
            assert!(moved.iter().all(|&h| engine.state().idle[h as usize] == 0 && !same(h)));
        }
    }
}
