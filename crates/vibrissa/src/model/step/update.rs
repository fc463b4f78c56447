//! Phase 3 of a step: gradient and Adam of every latent, in chunks of latents that workers take.

use super::super::{Config, inverse_root, thread};
use crate::kernels::{AdamStep, Isa};
use crate::matrix::{ByLatent, Mat};
use crate::optim::{Optimizer, to_unit};
use std::sync::Mutex;

/// What one worker needs to update a latent.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Gradient of the encoder row, and of the decoder row.
    pub enc: Vec<f32>,
    pub dec: Vec<f32>,
    pub d_pre: Vec<f32>,
    pub coef: Vec<f32>,
    pub rows: Vec<u32>,
}

/// What every worker of an update reads.
pub struct Context<'a> {
    pub isa: Isa,
    pub config: &'a Config,
    pub optimizer: Optimizer,
    pub rows: usize,
    /// -2/B.
    pub scale: f32,
    /// `x - b_dec`, or `x`.
    pub input: &'a [f32],
    pub residual: &'a [f32],
    pub by_latent: &'a ByLatent,
    pub extra: Option<&'a Mat>,
    pub weight_step: AdamStep,
    pub bias_step: AdamStep,
    pub scratch: &'a [Mutex<Scratch>],
}

/// The weights and moments of a range of latents, which one worker may change.
pub struct Rows<'a> {
    pub first: usize,
    pub chunk: usize,
    pub dim: usize,
    pub enc: [&'a mut [f32]; 3],
    pub dec: [&'a mut [f32]; 3],
    pub bias: [&'a mut [f32]; 3],
    pub inv_norm: &'a mut [f32],
    pub moved: &'a mut [bool],
    pub effect: &'a mut [f64],
    pub through_input: &'a mut [f32],
}

impl<'a> Rows<'a> {
    fn len(&self) -> usize {
        self.moved.len()
    }

    /// Splits after `n` latents, a whole number of chunks.
    fn split(self, n: usize) -> (Rows<'a>, Rows<'a>) {
        fn cut(all: [&mut [f32]; 3], n: usize) -> ([&mut [f32]; 3], [&mut [f32]; 3]) {
            let [a, b, c] = all;
            let at = n.min(a.len());
            let ((a0, a1), (b0, b1), (c0, c1)) = (a.split_at_mut(at), b.split_at_mut(at), c.split_at_mut(at));
            ([a0, b0, c0], [a1, b1, c1])
        }
        let Rows { first, chunk, dim, enc, dec, bias, inv_norm, moved, effect, through_input } = self;
        let (enc, enc1) = cut(enc, n * dim);
        let (dec, dec1) = cut(dec, n * dim);
        let (bias, bias1) = cut(bias, n);
        let (inv_norm, inv_norm1) = inv_norm.split_at_mut(n.min(inv_norm.len()));
        let (moved, moved1) = moved.split_at_mut(n);
        let (effect, effect1) = effect.split_at_mut(n.min(effect.len()));
        let (through_input, through1) = through_input.split_at_mut((n / chunk * dim).min(through_input.len()));
        (
            Rows { first, chunk, dim, enc, dec, bias, inv_norm, moved, effect, through_input },
            Rows {
                first: first + n,
                chunk,
                dim,
                enc: enc1,
                dec: dec1,
                bias: bias1,
                inv_norm: inv_norm1,
                moved: moved1,
                effect: effect1,
                through_input: through1,
            },
        )
    }

    pub fn for_each_chunk(self, context: &Context) {
        let chunks = self.len().div_ceil(self.chunk);
        if chunks > 1 {
            let at = chunks / 2 * self.chunk;
            let (a, b) = self.split(at);
            rayon::join(|| a.for_each_chunk(context), || b.for_each_chunk(context));
        } else {
            self.update(context);
        }
    }

    fn update(mut self, context: &Context) {
        let dim = self.dim;
        if context.config.decoder_bias {
            self.through_input[..dim].fill(0.0);
        }
        let mut own = context.scratch[thread()].lock().expect("no panic while held");
        for i in 0..self.len() {
            if i + 1 < self.len() {
                let next = (i + 1) * dim..(i + 2) * dim;
                for all in [&self.enc, &self.dec] {
                    all[..1]
                        .iter()
                        .filter_map(|a| a.get(next.clone()))
                        .for_each(|row| context.isa.prefetch_to_write(row));
                }
            }
            let enc = self.enc.each_mut().map(|a| &mut a[i * dim..][..dim]);
            let dec = if context.config.tied {
                Default::default()
            } else {
                self.dec.each_mut().map(|a| &mut a[i * dim..][..dim])
            };
            let bias = self.bias.each_mut().map(|a| &mut a[i..][..1]);
            let through = if context.config.decoder_bias { &mut self.through_input[..dim] } else { &mut [] };
            let latent = Latent {
                h: self.first + i,
                enc,
                dec,
                bias,
                inv_norm: self.inv_norm.get_mut(i),
                moved: &mut self.moved[i],
                effect: self.effect.get_mut(i),
            };
            latent.update(context, &mut own, through);
        }
    }
}

/// The weights and moments of one latent.
struct Latent<'a> {
    h: usize,
    enc: [&'a mut [f32]; 3],
    dec: [&'a mut [f32]; 3],
    bias: [&'a mut [f32]; 3],
    inv_norm: Option<&'a mut f32>,
    moved: &'a mut bool,
    effect: Option<&'a mut f64>,
}

impl Latent<'_> {
    fn update(self, context: &Context, own: &mut Scratch, through_input: &mut [f32]) {
        let Context { isa, scale, weight_step, bias_step, .. } = *context;
        let (rows, values) = context.by_latent.latent(self.h);
        let [enc, enc_m, enc_v] = self.enc;
        let [dec, dec_m, dec_v] = self.dec;
        let [bias, bias_m, bias_v] = self.bias;
        if rows.is_empty() && context.extra.is_none() {
            if context.optimizer == Optimizer::SparseAdam || (!*self.moved && weight_step.keep == 1.0) {
                return;
            }
            let square = isa.adam_zero(enc, enc_m, enc_v, &weight_step);
            isa.adam_zero(bias, bias_m, bias_v, &bias_step);
            match self.inv_norm {
                Some(inv_norm) => *inv_norm = inverse_root(square),
                None => {
                    let square = isa.adam_zero(dec, dec_m, dec_v, &weight_step);
                    to_unit(isa, dec, square);
                }
            }
            return;
        }
        *self.moved = true;
        let inv = self.inv_norm.as_ref().map_or(1.0, |inv| **inv);
        let direction: &[f32] = if context.config.tied { enc } else { dec };

        // Gradient to the direction, -2/B Σ_b a_b residual_b, and d_pre[b] = -2/B residual_b · direction, in one pass
        // over the residuals; along = (gradient of the direction) · direction.
        let coef = &mut own.coef[..rows.len()];
        coef.iter_mut().zip(values).for_each(|(c, &a)| *c = a * scale * inv);
        let d_dir = if context.config.tied { &mut own.enc } else { &mut own.dec };
        d_dir.fill(0.0);
        own.d_pre.resize(rows.len(), 0.0);
        isa.dots_and_add(direction, coef, rows, context.residual, &mut own.d_pre, d_dir);
        let (mut d_bias, mut along) = (0.0f32, 0.0f32);
        own.rows.clear();
        for ((&r, &a), d_pre) in rows.iter().zip(values).zip(&mut own.d_pre) {
            let d = scale * inv * *d_pre;
            *d_pre = d;
            own.rows.push(if (r as usize) < context.rows { r } else { r - context.rows as u32 });
            d_bias += d;
            along = a.mul_add(d, along);
        }
        if let Some(effect) = self.effect {
            // Removing the latent adds 2 a (r·w) + a² to a row's squared error; d_pre is scale · r·w.
            let main = rows.iter().zip(values).zip(&own.d_pre).filter(|l| (*l.0.0 as usize) < context.rows);
            for ((_, &a), &d) in main {
                *effect += 2.0 * f64::from(a) * f64::from(d / scale) + f64::from(a) * f64::from(a);
            }
        }
        // The direction has unit length: the part of its gradient along it is removed.
        if let Some(extra) = context.extra {
            along += isa.dot(extra.row(self.h), direction) * inv;
            isa.add_scaled(d_dir, inv, extra.row(self.h));
        }
        isa.add_scaled(d_dir, -along * inv * inv, direction);
        // Gradient to the encoder row.
        if !context.config.tied {
            own.enc.fill(0.0);
        }
        isa.add_rows(&mut own.enc, &own.d_pre, &own.rows, context.input);
        if !through_input.is_empty() {
            isa.add_scaled(through_input, d_bias, enc);
        }

        let square = isa.adam(enc, enc_m, enc_v, &own.enc, &weight_step);
        // SparseAdam belongs to the rows of all three parameters of a latent.
        let bias_step =
            if context.optimizer == Optimizer::SparseAdam { AdamStep { keep: 1.0, ..weight_step } } else { bias_step };
        isa.adam(bias, bias_m, bias_v, &[d_bias], &bias_step);
        match self.inv_norm {
            Some(inv_norm) => *inv_norm = inverse_root(square),
            None => {
                let square = isa.adam(dec, dec_m, dec_v, &own.dec, &weight_step);
                to_unit(isa, dec, square);
            }
        }
    }
}
