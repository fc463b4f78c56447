//! The parameters of a range of latents, which workers share by halves until a chunk is left, and the walk over a
//! chunk.

use super::super::middle;
use super::latent::LatentUpdate;
use super::{ScalarParameters, UpdateContext, WithMoments};
use crate::activation::jumprelu::limit_threshold;

use crate::kernels::{AdamStep, MomentDecay};
use crate::optim::Optimizer;
use std::ops::Range;

/// The parameters and state of a range of latents, which one worker may change.
pub struct LatentRange<'a> {
    /// Number of the first latent.
    pub first: usize,
    /// Latents of a chunk.
    pub chunk: usize,
    /// D
    pub dim: usize,
    /// `[n, D]`
    pub encoder: WithMoments<'a>,
    /// `[n, D]`; empty when tied.
    pub decoder: WithMoments<'a>,
    /// `[n]`
    pub scalars: ScalarParameters<WithMoments<'a>>,
    /// `1/‖W_enc[h]‖` when tied, else empty.
    pub inv_norm: &'a mut [f32],
    /// Steps without gradient since the moments were written.
    pub idle: &'a mut [u32],
    /// Effect of each latent, if it is summed.
    pub effect: &'a mut [f64],
    /// `Σ (Σ_b d_pre[b, h]) W_enc[h]` over the latents of each chunk `[chunks, D]`; empty without decoder bias.
    pub through_input: &'a mut [f32],
}

impl<'a> LatentRange<'a> {
    fn len(&self) -> usize {
        self.idle.len()
    }

    /// Returns the number of the first latent after these.
    pub fn end(&self) -> usize {
        self.first + self.len()
    }

    /// Returns the decoder row of a latent, and the inverse of its length (1 untied).
    pub fn direction(&self, h: usize) -> (&[f32], f32) {
        let rows = if self.decoder[0].is_empty() { &self.encoder[0] } else { &self.decoder[0] };
        let i = h - self.first;
        (&rows[i * self.dim..][..self.dim], self.inv_norm.get(i).copied().unwrap_or(1.0))
    }

    /// Splits after `n` latents, a whole number of chunks.
    fn split(self, n: usize) -> (LatentRange<'a>, LatentRange<'a>) {
        fn cut<T>(all: &mut [T], n: usize) -> (&mut [T], &mut [T]) {
            all.split_at_mut(n.min(all.len()))
        }
        fn cut_all(all: WithMoments, n: usize) -> (WithMoments, WithMoments) {
            let [w, m, v] = all;
            let ((w0, w1), (m0, m1), (v0, v1)) = (cut(w, n), cut(m, n), cut(v, n));
            ([w0, m0, v0], [w1, m1, v1])
        }
        let LatentRange { first, chunk, dim, .. } = self;
        let (encoder0, encoder1) = cut_all(self.encoder, n * dim);
        let (decoder0, decoder1) = cut_all(self.decoder, n * dim);
        let ScalarParameters { b_enc, threshold, b_gate, r_mag } = self.scalars.map(|all| cut_all(all, n));
        let (inv_norm0, inv_norm1) = cut(self.inv_norm, n);
        let (idle0, idle1) = cut(self.idle, n);
        let (effect0, effect1) = cut(self.effect, n);
        let (through0, through1) = cut(self.through_input, n / chunk * dim);
        let scalars0 = ScalarParameters { b_enc: b_enc.0, threshold: threshold.0, b_gate: b_gate.0, r_mag: r_mag.0 };
        let scalars1 = ScalarParameters { b_enc: b_enc.1, threshold: threshold.1, b_gate: b_gate.1, r_mag: r_mag.1 };
        (
            LatentRange {
                first,
                chunk,
                dim,
                encoder: encoder0,
                decoder: decoder0,
                scalars: scalars0,
                inv_norm: inv_norm0,
                idle: idle0,
                effect: effect0,
                through_input: through0,
            },
            LatentRange {
                first: first + n,
                chunk,
                dim,
                encoder: encoder1,
                decoder: decoder1,
                scalars: scalars1,
                inv_norm: inv_norm1,
                idle: idle1,
                effect: effect1,
                through_input: through1,
            },
        )
    }

    /// Updates all latents, chunk by chunk in parallel.
    pub fn update(self, context: &UpdateContext) {
        if self.len() > self.chunk {
            let at = middle(self.len(), self.chunk);
            let (a, b) = self.split(at);
            rayon::join(|| a.update(context), || b.update(context));
        } else {
            self.update_chunk(context);
        }
    }

    fn update_chunk(mut self, context: &UpdateContext) {
        let dim = self.dim;
        if context.config.decoder_bias {
            self.through_input[..dim].fill(0.0);
        }
        let mut scratch = context.scratch.lock();
        let mut aux = context.aux.map(|aux| (aux, aux.dead.groups().lock()));
        let together = self.all_learn(context);
        scratch.scalars.each_mut().into_iter().for_each(Vec::clear);
        let mut coming = self.next_to_move(context, 0);
        while let Some(i) = coming {
            coming = self.next_to_move(context, i + 1);
            let aux = aux.as_mut().and_then(|(aux, group)| group.gradient(*aux, &self, context, self.first + i));
            let (enc, next_enc) = unzip(self.encoder.each_mut().map(|a| row_and_next(a, i, coming, dim)));
            let (dec, next_dec) = if context.config.tied {
                Default::default()
            } else {
                unzip(self.decoder.each_mut().map(|a| row_and_next(a, i, coming, dim)))
            };
            let decay = context.optimizer.adam.moment_decay(self.idle[i]);
            let value = |all: &WithMoments| all[0].get(i).copied().unwrap_or(0.0);
            let through_input = if context.config.decoder_bias { &mut self.through_input[..dim] } else { &mut [] };
            let latent = LatentUpdate {
                h: self.first + i,
                enc,
                dec,
                next_enc,
                next_dec,
                b_enc: value(&self.scalars.b_enc),
                threshold: value(&self.scalars.threshold),
                r_mag: value(&self.scalars.r_mag),
                decay,
                aux,
                inv_norm: self.inv_norm.get_mut(i),
                idle: &mut self.idle[i],
                effect: self.effect.get_mut(i),
            };
            let d = latent.update(context, &mut scratch, through_input);
            match d {
                Some(d) if together => {
                    scratch.scalars.each_mut().into_iter().zip(d.each_ref()).for_each(|(all, &d)| all.push(d))
                }
                Some(d) => self.move_scalars(context, i..i + 1, d.each_ref().map(std::slice::from_ref), decay),
                None => self.move_scalars(context, i..i + 1, [&[]; 4], decay),
            }
        }
        if together {
            let d = scratch.scalars.each_ref().map(|all| &all[..]);
            self.move_scalars(context, 0..self.len(), d, MomentDecay::NONE);
        }
    }

    /// Returns the first latent from `from` on that does not rest. Those before it have one idle step more.
    fn next_to_move(&mut self, context: &UpdateContext, from: usize) -> Option<usize> {
        for i in from..self.len() {
            let h = self.first + i;
            if !context.rests(h, self.idle[i]) {
                return Some(i);
            }
            if context.optimizer.optimizer == Optimizer::Adam {
                self.idle[i] = self.idle[i].saturating_add(1);
            }
            self.limit_threshold(context, i);
        }
        None
    }

    /// Keeps a learned threshold at 0 or more, and lets that of a dead latent decay.
    fn limit_threshold(&mut self, context: &UpdateContext, i: usize) {
        if context.config.activation.learns_threshold() {
            let decay = &context.threshold_decay;
            let dead = decay.silent[self.first + i] >= decay.dead_after;
            limit_threshold(&mut self.scalars.threshold[0][i], dead, decay.share);
        }
    }

    /// True if every latent has a gradient and had one in the step before.
    fn all_learn(&self, context: &UpdateContext) -> bool {
        let mut all = self.idle.iter().enumerate();
        all.all(|(i, &idle)| idle == 0 && !context.batch.by_latent.latent(self.first + i).0.is_empty())
    }

    /// Adam of the scalar parameters of some latents, by their gradients, which are empty if there are none.
    fn move_scalars(&mut self, context: &UpdateContext, latents: Range<usize>, d: [&[f32]; 4], decay: MomentDecay) {
        let optimizer = &context.optimizer;
        // SparseAdam treats the scalars of a latent as the rows of its weights.
        let sparse = optimizer.optimizer == Optimizer::SparseAdam && !d[0].is_empty();
        let step = if sparse { AdamStep { keep: 1.0, ..optimizer.weights } } else { optimizer.biases };
        for (all, d) in self.scalars.each_mut().into_iter().zip(d) {
            if !all[0].is_empty() {
                context.isa.adam(all.each_mut().map(|a| &mut a[latents.clone()]), d, decay, &step, [&[]; 3]);
            }
        }
        latents.for_each(|i| self.limit_threshold(context, i));
    }
}

/// Row `i`, and the row that is moved after it, if any.
fn row_and_next(all: &mut [f32], i: usize, next: Option<usize>, dim: usize) -> (&mut [f32], &[f32]) {
    let (row, later) = all[i * dim..].split_at_mut(dim);
    (row, next.map_or(&[], |next| &later[(next - i - 1) * dim..][..dim]))
}

fn unzip<A, B>(pairs: [(A, B); 3]) -> ([A; 3], [B; 3]) {
    let [(a, x), (b, y), (c, z)] = pairs;
    ([a, b, c], [x, y, z])
}
