//! AuxK: the dead latents explain what is missing of every row. Each row takes many of them, so the gradients of neighbours
//! begin together: by blocks of rows that stay in cache, or, where rows take most of the dead, by dense products, which
//! take zeros along.

use super::super::{Sae, reserve};
use super::update::{Context, Rows};
use super::{Engine, Step};
use crate::activation::{self, Candidates};
use crate::kernels::{Isa, PerThread, spill_len};
use crate::loss::{AuxK, spread};
use crate::matrix::{Aligned, ByLatent, Latents, Panels};
use rayon::prelude::*;
use std::ops::Range;

/// Zeros cost a dense product as much as other numbers; it is faster by so much.
const ONE_IN: usize = 2;

/// Rows of the batch that stay in cache while blocks of the dead are added to them; no more than leave some for each worker.
fn rows_together(dim: usize, rows: usize) -> usize {
    (65_536 / dim.max(1)).min(rows.div_ceil(rayon::current_num_threads().max(1))).max(16)
}

/// Dead latents that stay in cache while all of these rows take some; enough that each takes about eight.
fn latents_together(dim: usize, dead: usize, k: usize) -> usize {
    (131_072 / dim.max(1)).max(8 * dead / k)
}

/// Rows of the batch whose residuals stay in cache while those of a group are added up, and then their inputs.
fn block_rows(dim: usize) -> usize {
    (262_144 / dim.max(1)).max(8)
}

/// Dead latents whose gradients begin together, as many as stay in cache; strips of the dense product have six.
fn group_size(dim: usize) -> usize {
    (65_536 / dim.max(1)).clamp(6, Panels::WIDTH) / 6 * 6
}

/// The dead latents of a step.
#[derive(Debug, Default)]
pub struct Dead {
    /// Products are dense where a row takes at least one in so many of the dead.
    one_in: usize,
    /// Which, ascending.
    list: Vec<u32>,
    /// Where a latent is in the list, if it is there.
    place: Vec<u32>,
    /// Pre-activations `[B, dead]`.
    acts: Panels,
    /// Which of the list a row takes, and how much of each.
    taken: Latents,
    /// The same by place in the list.
    by_latent: ByLatent,
    /// Whether there is anything to learn from them.
    learn: bool,
    dense: bool,
    /// What each adds to a row, where products are dense `[B, dead]`.
    adds: Aligned,
    /// All rows of the batch.
    rows: Vec<u32>,
    groups: PerThread<Group>,
}

/// Some neighbours in the list, and what their gradients begin with.
#[derive(Debug, Default)]
pub struct Group {
    members: Range<usize>,
    /// `[n, D]`
    directions: Aligned,
    /// `[B, n]`
    dots: Vec<f32>,
    /// What the direction gets of each residual, and the encoder row of each input `[n, B]`.
    coef: Vec<f32>,
    d_pre: Vec<f32>,
    /// `[n]`, as in [`Begun`].
    sums: Vec<[f32; 2]>,
    /// Their sums `[n, D]`; both in the first where directions are encoder rows.
    enc: Aligned,
    dec: Aligned,
    spill: Aligned,
    index: Vec<u32>,
    /// How many of those a row takes were added to it.
    added: Vec<usize>,
}

/// What the gradient of a dead latent begins with.
pub struct Begun<'a> {
    pub enc: &'a [f32],
    pub dec: &'a [f32],
    /// `Σ_b d_pre[b]`, and gradient of the direction · direction.
    pub d_pre: f32,
    pub along: f32,
}

impl Dead {
    pub fn new() -> Dead {
        Dead { one_in: ONE_IN, ..Dead::default() }
    }

    /// Room for all that a step may need; allocates only when it grows.
    fn prepare(&mut self, latents: usize, dim: usize, rows: usize, k: usize) {
        reserve(&mut self.list, latents);
        self.place.resize(latents, 0);
        self.rows.clear();
        self.rows.extend(0..rows as u32);
        self.groups.grow();
        self.adds.resize(rows * latents.min(self.one_in * k));
        let n = group_size(dim);
        for group in self.groups.iter_mut() {
            let Group { members, directions, dots, coef, d_pre, sums, enc, dec, spill, index, added } = group;
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
            spill.resize(spill_len(rows, dim));
        }
    }

    /// Lists the latents that are dead.
    fn find(&mut self, silent: &[u64], dead_after: u64) {
        self.learn = false;
        self.list.clear();
        self.list.extend((0..silent.len() as u32).filter(|&h| silent[h as usize] >= dead_after));
        self.list.iter().enumerate().for_each(|(at, &h)| self.place[h as usize] = at as u32);
    }

    /// Every row takes its `k` largest.
    fn take(&mut self, isa: Isa, k: usize, rows: usize, sae: &Sae, candidates: &PerThread<Candidates>) {
        let Dead { list, acts, taken, by_latent, dense, adds, .. } = self;
        let find = |b: usize, own: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
            activation::top_k(isa, k, || acts.row(b), own, index, value)
        };
        activation::select(k, false, rows, candidates, taken, find);
        by_latent.group(list.len(), &[(0, 1, taken)], &[]);
        if *dense {
            let n = list.len();
            adds[..rows * n].par_chunks_exact_mut(n).enumerate().for_each(|(b, adds)| {
                adds.fill(0.0);
                let (index, value) = taken.row(b);
                for (&at, &v) in index.iter().zip(value) {
                    adds[at as usize] = v * sae.decoder_scale(list[at as usize] as usize);
                }
            });
        }
    }

    /// Whether any of them has a gradient from what is missing.
    pub fn learn(&self) -> bool {
        self.learn
    }

    /// The group that each worker is at.
    pub fn groups(&self) -> &PerThread<Group> {
        &self.groups
    }

    /// Where a latent is in the list; none where it is not dead, or no row takes it.
    pub fn place(&self, h: usize) -> Option<usize> {
        let at = self.place[h] as usize;
        (self.list.get(at) == Some(&(h as u32)) && !self.by_latent.latent(at).0.is_empty()).then_some(at)
    }
}

impl Group {
    /// What the gradient of latent h of these rows begins with; none where [`Dead::place`] has none.
    pub fn begin(&mut self, dead: &Dead, rows: &Rows, context: &Context, h: usize) -> Option<Begun<'_>> {
        let (at, dim) = (dead.place(h)?, rows.dim);
        if !self.members.contains(&at) {
            let own = dead.list.partition_point(|&h| (h as usize) < rows.end());
            self.members = at..own.min(at + group_size(dim));
            self.fill(dead, rows, context);
        }
        let i = at - self.members.start;
        let own = i * dim..(i + 1) * dim;
        let [d_pre, along] = self.sums[i];
        Some(Begun { enc: &self.enc[own.clone()], dec: &self.dec[own], d_pre, along })
    }

    fn fill(&mut self, dead: &Dead, rows: &Rows, context: &Context) {
        let n = self.members.len() * rows.dim;
        self.enc[..n].fill(0.0);
        self.dec[..n].fill(0.0);
        self.sums.fill([0.0; 2]);
        if dead.dense { self.fill_dense(dead, rows, context) } else { self.fill_sparse(dead, rows, context) }
    }

    fn fill_sparse(&mut self, dead: &Dead, rows: &Rows, context: &Context) {
        let Group { members, coef, d_pre, sums, enc, dec, .. } = self;
        let (isa, scale, dim, batch) = (context.isa, context.scale, rows.dim, dead.rows.len());
        for first in (0..batch).step_by(block_rows(dim)) {
            let end = (first + block_rows(dim)) as u32;
            // Of those that take a row, the ones in this block.
            let here =
                |taken: &[u32]| taken.partition_point(|&b| b < first as u32)..taken.partition_point(|&b| b < end);
            for (i, at) in members.clone().enumerate() {
                let (taken, values) = dead.by_latent.latent(at);
                let own = here(taken);
                let (taken, values) = (&taken[own.clone()], &values[own]);
                let (direction, inv) = rows.direction(dead.list[at] as usize);
                let (coef, d_pre) = (&mut coef[..taken.len()], &mut d_pre[i * batch..][..taken.len()]);
                coef.iter_mut().zip(values).for_each(|(c, &a)| *c = a * scale * inv);
                let to_direction = &mut (if context.config.tied { &mut *enc } else { &mut *dec })[i * dim..][..dim];
                isa.dots_and_add(direction, coef, taken, context.missing, d_pre, to_direction, true);
                for (d, &a) in d_pre.iter_mut().zip(values) {
                    *d *= scale * inv;
                    sums[i][0] += *d;
                    sums[i][1] += a * *d;
                }
            }
            for (i, at) in members.clone().enumerate() {
                let taken = dead.by_latent.latent(at).0;
                let taken = &taken[here(taken)];
                isa.add_rows(&mut enc[i * dim..][..dim], &d_pre[i * batch..][..taken.len()], taken, context.input);
            }
        }
    }

    fn fill_dense(&mut self, dead: &Dead, rows: &Rows, context: &Context) {
        let Group { members, directions, dots, coef, d_pre, sums, enc, dec, spill, .. } = self;
        let (isa, scale, dim, batch, n) = (context.isa, context.scale, rows.dim, dead.rows.len(), members.len());
        for (out, &h) in directions.chunks_exact_mut(dim).zip(&dead.list[members.clone()]) {
            out.copy_from_slice(rows.direction(h as usize).0);
        }
        let (dots, coef, d_pre) = (&mut dots[..n * batch], &mut coef[..n * batch], &mut d_pre[..n * batch]);
        isa.dots(&context.missing[..batch * dim], &directions[..n * dim], &[0.0; Panels::WIDTH][..n], dim, dots, spill);
        coef.fill(0.0);
        d_pre.fill(0.0);
        for (i, at) in members.clone().enumerate() {
            let by = scale * rows.direction(dead.list[at] as usize).1;
            let (taken, values) = dead.by_latent.latent(at);
            for (&b, &a) in taken.iter().zip(values) {
                let d = by * dots[b as usize * n + i];
                coef[i * batch + b as usize] = a * by;
                d_pre[i * batch + b as usize] = d;
                sums[i][0] += d;
                sums[i][1] += a * d;
            }
        }
        let (enc, dec) = (&mut enc[..n * dim], &mut dec[..n * dim]);
        isa.add_combinations(if context.config.tied { &mut *enc } else { dec }, coef, &dead.rows, context.missing, dim);
        isa.add_combinations(enc, d_pre, &dead.rows, context.input, dim);
    }
}

impl Engine {
    /// AuxK: the dead latents explain the residual; leaves `(e - ê)·B·coef V/‖e - mean e‖²` behind the residuals, so
    /// that one scale serves all. Returns the loss, 0 where there is nothing dead or it is not finite.
    pub(super) fn decode_dead(&mut self, step: &Step) -> f64 {
        let (x, rows, dim, isa) = (step.x, step.x.rows(), step.x.cols(), self.isa);
        let AuxK { coef, k_aux, dead_after } = self.options.auxk;
        let (sae, prefixes, segments) = (&self.sae, self.segments.prefixes, self.segments.count());
        let latents = sae.config().latents;
        let dead = &mut self.dead;
        dead.prepare(latents, dim, rows, k_aux.min(latents));
        dead.find(&self.state.silent, dead_after);
        let (k, parts) = (k_aux.min(dead.list.len()), prefixes as f32);
        if k == 0 {
            return 0.0;
        }
        // Where prefixes share the loss, the last of them has its share of the residual.
        let e_spread = f64::from(parts * parts)
            * spread(self.residual.top(segments * rows), prefixes - 1, segments, &mut self.column_sums);
        let v = spread(step.target, 0, 1, &mut self.column_sums) / rows as f64;
        let weight = coef * v / e_spread;
        if !weight.is_finite() {
            return 0.0;
        }
        (dead.learn, dead.dense) = (true, dead.one_in * k >= dead.list.len());
        sae.pre_acts_of(x, &dead.list, &mut self.work, &mut dead.acts);
        dead.take(isa, k, rows, sae, &self.work.candidates);
        let dead = &self.dead;
        let decoder = sae.decoder_rows().data();
        let (missing, out) = self.residual.data_mut().split_at_mut(segments * rows * dim);
        let together = rows_together(dim, rows);
        let out = out[..rows * dim].par_chunks_mut(together * dim);
        out.zip(self.row_loss.par_chunks_mut(together)).enumerate().for_each(|(block, (out, losses))| {
            let first = block * together;
            out.fill(0.0);
            if dead.dense {
                let n = dead.list.len();
                isa.add_combinations(out, &dead.adds[first * n..][..losses.len() * n], &dead.list, decoder, dim);
            } else {
                let mut own = dead.groups.lock();
                let Group { coef, index, added, .. } = &mut *own;
                let added = &mut added[..losses.len()];
                added.fill(0);
                let many = latents_together(dim, dead.list.len(), k);
                for end in (many..dead.list.len() + many).step_by(many) {
                    for (b, (out, added)) in out.chunks_exact_mut(dim).zip(added.iter_mut()).enumerate() {
                        let (taken, values) = dead.taken.row(first + b);
                        let more = taken[*added..].iter().map(|&at| at as usize).take_while(|&at| at < end);
                        index.clear();
                        index.extend(more.map(|at| dead.list[at]));
                        sae.add_features(isa, out, index, &values[*added..][..index.len()], coef, decoder);
                        *added += index.len();
                    }
                }
            }
            for (b, (out, loss)) in out.chunks_exact_mut(dim).zip(losses).enumerate() {
                if prefixes > 1 {
                    isa.scale(out, 1.0 / parts);
                }
                isa.residual(&missing[((first + b) * segments + prefixes - 1) * dim..][..dim], out);
                if prefixes > 1 {
                    isa.scale(out, parts);
                }
                loss.auxk = f64::from(isa.dot(out, out));
                // d loss/d ê = -2·weight·(e - ê); the main rows carry -2/B, so these are scaled by weight·B.
                isa.scale(out, (weight * rows as f64) as f32);
            }
        });
        weight * self.row_loss.iter().map(|l| l.auxk).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;
    use crate::model::init;
    use crate::model::step::{State, StepOptions};
    use crate::model::{Activation, Config};
    use crate::optim::Optimizer;
    use crate::random::Stream;

    /// Many dead latents, in groups, over several blocks of rows: the dense products learn what the others do.
    #[test]
    fn dense_products_are_sums_of_what_is_taken() {
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
                let [one_by_one, dense] = [0, usize::MAX / 64].map(|one_in| {
                    let mut silent = vec![0; latents];
                    silent.iter_mut().step_by(7).for_each(|s| *s = 1);
                    silent[latents / 2..].iter_mut().take(60).for_each(|s| *s = 1);
                    let options = StepOptions { auxk, ..StepOptions::default() };
                    let state = State { silent: silent.clone(), ..State::new(&config) };
                    let mut engine = Engine::new(Isa::current(), sae.clone(), state, options);
                    engine.dead.one_in = one_in;
                    // Fewer rows than before, as at the end of an epoch.
                    engine.step(x.view(), 0.0, None).expect("finite");
                    engine.state.silent = silent;
                    let losses = engine.step(x.top(batch - 2), 1e-2, None).expect("finite");
                    assert_eq!(engine.dead.dense, one_in > 0);
                    (losses.auxk, engine.into_parts().1)
                });
                assert!((one_by_one.0 / dense.0 - 1.0).abs() < 1e-5, "{} {}", one_by_one.0, dense.0);
                let moments =
                    |s: &State| [s.W_enc.m.to_vec(), s.W_dec.m.to_vec(), s.b_enc.m.to_vec(), s.b_gate.m.to_vec()];
                for (a, b) in moments(&one_by_one.1).iter().zip(&moments(&dense.1)) {
                    let most = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    let off = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(off <= 1e-5 * most, "{tied} {activation:?} D {dim}: {off} of {most}");
                }
            }
        }
    }

    /// A dead latent that no row takes has no gradient: sparse Adam leaves it where it is, and dense Adam counts.
    #[test]
    fn what_no_row_takes_stays() {
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
            engine.dead.one_in = one_in;
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
