//! Phase 3 of a step: gradient and Adam of every latent, in chunks of latents that workers take.

use super::super::{Config, inverse_root, reserve};
use super::dead::{Begun, Dead};
use super::middle;
use crate::activation::Activation;
use crate::kernels::{AdamStep, Isa, LANES, Lacking, Left, PerThread, scalar::fold};
use crate::matrix::{Aligned, ByLatent, Mat};
use crate::optim::{AdamOptions, Optimizer, to_unit};
use std::ops::Range;

/// The residuals that a row of the batch has side by side: one a prefix, then the gate's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segments {
    pub prefixes: usize,
    pub gated: bool,
}

/// Whose residual a segment is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Main,
    Gate,
}

impl Segments {
    pub fn count(self) -> usize {
        self.prefixes + usize::from(self.gated)
    }

    /// The row of the batch that a residual belongs to, and whose it is.
    fn place(self, r: u32) -> (u32, Part) {
        let count = self.count() as u32;
        // A division for each entry, spared where it divides by one.
        match count {
            1 => (r, Part::Main),
            _ => (r / count, if r % count < self.prefixes as u32 { Part::Main } else { Part::Gate }),
        }
    }
}

/// What one worker needs to update a latent.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Gradient of the encoder row, and of the decoder row.
    pub enc: Aligned,
    pub dec: Aligned,
    pub d_pre: Vec<f32>,
    pub coef: Vec<f32>,
    pub rows: Vec<u32>,
    /// jumprelu's entries.
    pub parted: Parted,
    pub below_dots: Vec<f32>,
    /// Gradients of bias, threshold and gain of the latents of a chunk.
    pub small: [Vec<f32>; 3],
}

impl Scratch {
    /// Room for `most` entries and rows of `dim` values; allocates only when it grows.
    pub fn prepare(&mut self, dim: usize, most: usize) {
        let Scratch { enc, dec, d_pre, coef, rows, parted, below_dots, small: [bias, second, gain] } = self;
        let Parted { active, values, below } = parted;
        enc.resize(dim);
        dec.resize(dim);
        if coef.len() < most {
            coef.resize(most, 0.0);
        }
        [d_pre, values, below_dots, bias, second, gain].into_iter().for_each(|v| reserve(v, most));
        [rows, active, below].into_iter().for_each(|v| reserve(v, most));
    }
}

/// Sums over the entries of a latent.
#[derive(Clone, Copy, Debug, Default)]
struct Pulls {
    /// (gradient of its direction) · direction
    along: f32,
    /// Gradients of its pre-activations.
    pre: f32,
    /// Gradients of its bias, threshold and gain.
    bias: f32,
    second: f32,
    gain: f32,
    /// Its values.
    values: f32,
    /// What removing it adds to the squared error.
    effect: f64,
}

/// Entries with a value, and the indices of those without: these lie below jumprelu's threshold, and teach it alone.
#[derive(Debug, Default)]
pub struct Parted {
    active: Vec<u32>,
    values: Vec<f32>,
    below: Vec<u32>,
}

impl Parted {
    /// Parts entries; returns those with a value.
    pub fn part(&mut self, index: &[u32], values: &[f32]) -> (&[u32], &[f32]) {
        self.active.clear();
        self.values.clear();
        self.below.clear();
        for (&i, &a) in index.iter().zip(values) {
            if a == 0.0 {
                self.below.push(i);
            } else {
                self.active.push(i);
                self.values.push(a);
            }
        }
        (&self.active, &self.values)
    }
}

/// What every worker of an update reads.
pub struct Context<'a> {
    pub isa: Isa,
    pub config: &'a Config,
    pub optimizer: Optimizer,
    pub segments: Segments,
    /// -2/B.
    pub scale: f32,
    /// `x - b_dec`, or `x`.
    pub input: &'a [f32],
    pub residual: &'a [f32],
    /// `e - ê` of every row, where AuxK is on.
    pub missing: &'a [f32],
    /// The dead latents, where they learn from what is missing.
    pub dead: Option<&'a Dead>,
    pub by_latent: &'a ByLatent,
    pub extra: Option<&'a Mat>,
    /// λ/B of L1.
    pub l1: f32,
    /// Lengths of the decoder rows where they are not 1 and L1 asks.
    pub norms: &'a [f32],
    /// β/B times the derivative of KL, by latent.
    pub d_kl: &'a [f32],
    /// Derivative of the L0 penalty to one more active latent in one row.
    pub d_l0: f32,
    /// ε
    pub bandwidth: f32,
    /// Share of a dead latent's threshold that a step takes, and which latents are dead.
    pub sink: f32,
    pub silent: &'a [u64],
    pub dead_after: u64,
    pub weight_step: AdamStep,
    pub bias_step: AdamStep,
    pub adam: AdamOptions,
    pub rests_after: u32,
    pub scratch: &'a PerThread<Scratch>,
}

impl Context<'_> {
    /// Whether a step leaves a latent where it is: it has no gradient, and nothing is left of its moments.
    fn rests(&self, h: usize, idle: u32) -> bool {
        let still = self.weight_step.keep == 1.0 && idle >= self.rests_after;
        let dead = || self.dead.is_some_and(|dead| dead.place(h).is_some());
        let idles = self.extra.is_none() && self.by_latent.latent(h).0.is_empty() && !dead();
        idles && (still || self.optimizer == Optimizer::SparseAdam)
    }

    /// What the entries of a latent do to it, of `[bias, threshold, gain]`, where residuals reach its pre-activations by `factor · d_pre`:
    /// `d_pre` becomes their gradients, `batch_rows` the rows of the batch that they belong to. Effects are summed where they are watched.
    #[inline(never)]
    fn pulls(
        &self,
        [bias, threshold, gain]: [f32; 3],
        (rows, values): (&[u32], &[f32]),
        [factor, l1, d_kl]: [f32; 3],
        watched: bool,
        d_pre: &mut [f32],
        batch_rows: &mut Vec<u32>,
    ) -> Pulls {
        let (activation, bandwidth) = (self.config.activation, self.bandwidth);
        let gain = if activation == Activation::Gated { gain.exp() } else { 1.0 };
        let mut all = Pulls::default();
        batch_rows.clear();
        for ((&r, &a), d_pre) in rows.iter().zip(values).zip(d_pre) {
            // What reaches the latent from the reconstruction.
            let d = factor * *d_pre;
            let (b, part) = self.segments.place(r);
            batch_rows.push(b);
            if watched && part == Part::Main {
                // Removing the latent adds 2 a (r·w) + a² to a row's squared error; d is scale · r·w.
                all.effect += 2.0 * f64::from(a) * f64::from(d / self.scale) + f64::from(a) * f64::from(a);
            }
            if part != Part::Gate {
                all.along = a.mul_add(d, all.along);
            }
            let d = match (part, activation) {
                (Part::Gate, _) => {
                    all.values += a;
                    all.second += d + l1;
                    d + l1
                }
                (Part::Main, Activation::TopK | Activation::BatchTopK | Activation::Relu) => {
                    all.values += a;
                    let d = d + l1;
                    all.bias += d;
                    d
                }
                (Part::Main, Activation::JumpRelu) => {
                    all.values += a;
                    let d = d + l1;
                    if a - threshold < 0.5 * bandwidth {
                        all.second -= (threshold * d + self.d_l0) / bandwidth;
                    }
                    all.bias += d;
                    d
                }
                (Part::Main, Activation::Gated) => {
                    if a > 0.0 {
                        all.bias += d;
                        all.gain += d * (a - bias);
                        d * gain
                    } else {
                        0.0
                    }
                }
                (Part::Main, Activation::Sigmoid) => {
                    all.values += a;
                    let d = (d + l1 + d_kl) * a * (1.0 - a);
                    all.bias += d;
                    d
                }
            };
            *d_pre = d;
            all.pre += d;
        }
        all
    }
}

/// The weights and moments of a range of latents, which one worker may change.
pub struct Rows<'a> {
    pub first: usize,
    pub chunk: usize,
    pub dim: usize,
    pub enc: [&'a mut [f32]; 3],
    pub dec: [&'a mut [f32]; 3],
    pub bias: [&'a mut [f32]; 3],
    /// jumprelu's thresholds or the gate's biases.
    pub second: [&'a mut [f32]; 3],
    /// `r_mag`.
    pub gain: [&'a mut [f32]; 3],
    pub inv_norm: &'a mut [f32],
    pub idle: &'a mut [u32],
    pub effect: &'a mut [f64],
    pub through_input: &'a mut [f32],
}

impl<'a> Rows<'a> {
    fn len(&self) -> usize {
        self.idle.len()
    }

    /// The first latent after these.
    pub fn end(&self) -> usize {
        self.first + self.len()
    }

    /// The decoder direction of a latent, and the inverse of its length.
    pub fn direction(&self, h: usize) -> (&[f32], f32) {
        let (i, dec) = (h - self.first, if self.dec[0].is_empty() { &self.enc[0] } else { &self.dec[0] });
        (&dec[i * self.dim..][..self.dim], self.inv_norm.get(i).copied().unwrap_or(1.0))
    }

    /// Splits after `n` latents, a whole number of chunks.
    fn split(self, n: usize) -> (Rows<'a>, Rows<'a>) {
        fn cut(all: [&mut [f32]; 3], n: usize) -> ([&mut [f32]; 3], [&mut [f32]; 3]) {
            let [a, b, c] = all;
            let at = n.min(a.len());
            let ((a0, a1), (b0, b1), (c0, c1)) = (a.split_at_mut(at), b.split_at_mut(at), c.split_at_mut(at));
            ([a0, b0, c0], [a1, b1, c1])
        }
        let Rows { first, chunk, dim, enc, dec, bias, second, gain, inv_norm, idle, effect, through_input } = self;
        let (enc, enc1) = cut(enc, n * dim);
        let (dec, dec1) = cut(dec, n * dim);
        let (bias, bias1) = cut(bias, n);
        let (second, second1) = cut(second, n);
        let (gain, gain1) = cut(gain, n);
        let (inv_norm, inv_norm1) = inv_norm.split_at_mut(n.min(inv_norm.len()));
        let (idle, idle1) = idle.split_at_mut(n);
        let (effect, effect1) = effect.split_at_mut(n.min(effect.len()));
        let (through_input, through1) = through_input.split_at_mut((n / chunk * dim).min(through_input.len()));
        (
            Rows { first, chunk, dim, enc, dec, bias, second, gain, inv_norm, idle, effect, through_input },
            Rows {
                first: first + n,
                chunk,
                dim,
                enc: enc1,
                dec: dec1,
                bias: bias1,
                second: second1,
                gain: gain1,
                inv_norm: inv_norm1,
                idle: idle1,
                effect: effect1,
                through_input: through1,
            },
        )
    }

    pub fn for_each_chunk(self, context: &Context) {
        if self.len() > self.chunk {
            let at = middle(self.len(), self.chunk);
            let (a, b) = self.split(at);
            rayon::join(|| a.for_each_chunk(context), || b.for_each_chunk(context));
        } else {
            self.update(context);
        }
    }

    /// The first latent from `from` on that does not rest. Those before it have one idle step more.
    fn awake(&mut self, context: &Context, from: usize) -> Option<usize> {
        for i in from..self.len() {
            let h = self.first + i;
            if !context.rests(h, self.idle[i]) {
                return Some(i);
            }
            if context.optimizer == Optimizer::Adam {
                self.idle[i] = self.idle[i].saturating_add(1);
            }
            self.keep_threshold(context, i);
        }
        None
    }

    /// Thresholds stay at least 0, and sink where a latent is dead.
    fn keep_threshold(&mut self, context: &Context, i: usize) {
        if context.config.activation == Activation::JumpRelu {
            let dead = context.silent[self.first + i] >= context.dead_after;
            let left = if dead { 1.0 - context.sink } else { 1.0 };
            self.second[0][i] = left * self.second[0][i].max(0.0);
        }
    }

    /// Whether every latent has a gradient and had one in the step before.
    fn all_learn(&self, context: &Context) -> bool {
        let mut all = self.idle.iter().enumerate();
        all.all(|(i, &idle)| idle == 0 && !context.by_latent.latent(self.first + i).0.is_empty())
    }

    /// Adam of what latents have one value of each, by their gradients, or nothing where they have none.
    fn descend_small(&mut self, context: &Context, latents: Range<usize>, d: [&[f32]; 3], left: Left) {
        let Context { isa, optimizer, weight_step, bias_step, .. } = *context;
        // SparseAdam belongs to the rows of all parameters of a latent.
        let sparse = optimizer == Optimizer::SparseAdam && !d[0].is_empty();
        let step = if sparse { AdamStep { keep: 1.0, ..weight_step } } else { bias_step };
        for (all, d) in [&mut self.bias, &mut self.second, &mut self.gain].into_iter().zip(d) {
            if !all[0].is_empty() {
                isa.adam(all.each_mut().map(|a| &mut a[latents.clone()]), d, left, &step, [&[]; 3]);
            }
        }
        latents.for_each(|i| self.keep_threshold(context, i));
    }

    fn update(mut self, context: &Context) {
        let dim = self.dim;
        if context.config.decoder_bias {
            self.through_input[..dim].fill(0.0);
        }
        let mut own = context.scratch.lock();
        let mut group = context.dead.map(|dead| (dead, dead.groups().lock()));
        let together = self.all_learn(context);
        own.small.iter_mut().for_each(Vec::clear);
        let mut coming = self.awake(context, 0);
        while let Some(i) = coming {
            coming = self.awake(context, i + 1);
            let begun = group.as_mut().and_then(|(dead, group)| group.begin(dead, &self, context, self.first + i));
            let (enc, next_enc) = apart(self.enc.each_mut().map(|a| row_and_next(a, i, coming, dim)));
            let (dec, next_dec) = if context.config.tied {
                Default::default()
            } else {
                apart(self.dec.each_mut().map(|a| row_and_next(a, i, coming, dim)))
            };
            let left = context.adam.left(self.idle[i]);
            let value = |all: &[&mut [f32]; 3]| all[0].get(i).copied().unwrap_or(0.0);
            let through = if context.config.decoder_bias { &mut self.through_input[..dim] } else { &mut [] };
            let latent = Latent {
                h: self.first + i,
                enc,
                dec,
                next: [next_enc, next_dec],
                bias: value(&self.bias),
                threshold: value(&self.second),
                gain: value(&self.gain),
                left,
                begun,
                inv_norm: self.inv_norm.get_mut(i),
                idle: &mut self.idle[i],
                effect: self.effect.get_mut(i),
            };
            let d = latent.update(context, &mut own, through);
            match d {
                Some(d) if together => own.small.iter_mut().zip(d).for_each(|(all, d)| all.push(d)),
                Some(d) => self.descend_small(context, i..i + 1, d.each_ref().map(std::slice::from_ref), left),
                None => self.descend_small(context, i..i + 1, [&[]; 3], left),
            }
        }
        if together {
            let d = own.small.each_ref().map(|all| &all[..]);
            self.descend_small(context, 0..self.len(), d, Left::ALL);
        }
    }
}

/// Rows of at least so many values are updated piece by piece.
const LONG: usize = 2048;

/// Values a piece: its weights, moments and gradient, of four bytes each, stay in the first cache.
const PIECE: usize = 512;

/// Row i, and the one that comes next, if any.
fn row_and_next(all: &mut [f32], i: usize, next: Option<usize>, dim: usize) -> (&mut [f32], &[f32]) {
    let (own, later) = all[i * dim..].split_at_mut(dim);
    (own, next.map_or(&[], |next| &later[(next - i - 1) * dim..][..dim]))
}

/// A sum begins with nothing, or with these.
fn begin(sum: &mut [f32], first: Option<&[f32]>) {
    match first {
        Some(first) => sum.copy_from_slice(first),
        None => sum.fill(0.0),
    }
}

/// The same rows, lent.
fn again<'a>(rows: &'a mut [&mut [f32]; 3]) -> [&'a mut [f32]; 3] {
    rows.each_mut().map(|row| &mut **row)
}

/// Some columns of a row, and as many of those that come after them, in this row or else in the next.
fn and_next<'a>(row: &'a mut [f32], next: &'a [f32], columns: &Range<usize>) -> (&'a mut [f32], &'a [f32]) {
    let (own, rest) = row[columns.start..].split_at_mut(columns.len());
    let later = if rest.is_empty() { next } else { rest };
    (own, &later[..later.len().min(columns.len())])
}

/// Firsts and seconds.
fn apart<A, B>(pairs: [(A, B); 3]) -> ([A; 3], [B; 3]) {
    let [(a, x), (b, y), (c, z)] = pairs;
    ([a, b, c], [x, y, z])
}

/// The weights and moments of one latent.
struct Latent<'a> {
    h: usize,
    enc: [&'a mut [f32]; 3],
    dec: [&'a mut [f32]; 3],
    /// The same of the latent that comes next, encoder and decoder, where memory is asked for them.
    next: [[&'a [f32]; 3]; 2],
    bias: f32,
    threshold: f32,
    gain: f32,
    /// What is left of its moments.
    left: Left,
    /// What the gradient begins with: the part of a dead latent in explaining residuals.
    begun: Option<Begun<'a>>,
    inv_norm: Option<&'a mut f32>,
    idle: &'a mut u32,
    effect: Option<&'a mut f64>,
}

impl Latent<'_> {
    /// Adam of its rows; gradients of its bias, threshold and gain, none where it has no gradient.
    fn update(mut self, context: &Context, own: &mut Scratch, through_input: &mut [f32]) -> Option<[f32; 3]> {
        let Context { isa, config, scale, weight_step, segments, .. } = *context;
        let (rows, values) = context.by_latent.latent(self.h);
        let Latent { left, threshold, mut dec, enc, .. } = self;
        if rows.is_empty() && context.extra.is_none() && self.begun.is_none() {
            *self.idle = self.idle.saturating_add(1);
            let square = isa.adam(enc, &[], left, &weight_step, self.next[0]);
            match self.inv_norm {
                Some(inv_norm) => *inv_norm = inverse_root(square),
                None => {
                    let square = isa.adam(again(&mut dec), &[], left, &weight_step, self.next[1]);
                    if !config.free_decoder {
                        to_unit(isa, dec[0], square);
                    }
                }
            }
            return None;
        }
        *self.idle = 0;
        let Scratch { enc: enc_buffer, dec: dec_buffer, d_pre, coef, rows: batch_rows, parted, below_dots, .. } = own;
        let jump = config.activation == Activation::JumpRelu;
        if jump {
            parted.part(rows, values);
        }
        let (rows, values) = if jump { (&parted.active[..], &parted.values[..]) } else { (rows, values) };
        let inv = self.inv_norm.as_ref().map_or(1.0, |inv| **inv);
        let direction: &[f32] = if config.tied { enc[0] } else { dec[0] };

        // Gradient to the direction, -2/B Σ_b a_b residual_b, and d_pre[b] = -2/B residual_b · direction; along =
        // (gradient of the direction) · direction. The gate's loss spares the direction. Rows that fit the first cache are
        // read once for both; of long ones the sum is taken later, piece by piece.
        let coef = &mut coef[..rows.len()];
        for ((c, &a), &r) in coef.iter_mut().zip(values).zip(rows) {
            *c = if segments.place(r).1 == Part::Gate { 0.0 } else { a * scale * inv };
        }
        d_pre.resize(rows.len(), 0.0);
        let long = direction.len() >= LONG;
        let direction_begun = self.begun.as_ref().map(|begun| if config.tied { begun.enc } else { begun.dec });
        if long {
            isa.gather_dots(direction, rows, context.residual, d_pre);
        } else {
            let buffer = if config.tied { &mut *enc_buffer } else { &mut *dec_buffer };
            if let Some(begun) = direction_begun {
                buffer.copy_from_slice(begun);
            }
            isa.dots_and_add(direction, coef, rows, context.residual, d_pre, buffer, direction_begun.is_some());
        }
        let norm = context.norms.get(self.h).copied().unwrap_or(1.0);
        let l1 = context.l1 * norm;
        // Most often the kernel gives the same sums in the same order.
        let plain = matches!(config.activation, Activation::TopK | Activation::BatchTopK | Activation::Relu);
        let (batch_rows, mut pulls) = if plain && segments.count() == 1 && self.effect.is_none() {
            let [along, pre] = isa.pre_gradients(values, scale * inv, l1, d_pre);
            let sum = if config.free_decoder { values.iter().sum() } else { 0.0 };
            (rows, Pulls { along, pre, bias: pre, values: sum, ..Pulls::default() })
        } else {
            let d_kl = context.d_kl.get(self.h).copied().unwrap_or(0.0);
            let more = [scale * inv, l1, d_kl];
            let (own, watched) = ([self.bias, threshold, self.gain], self.effect.is_some());
            let pulls = context.pulls(own, (rows, values), more, watched, d_pre, batch_rows);
            (&batch_rows[..], pulls)
        };
        if let Some(begun) = &self.begun {
            pulls.along += begun.along;
            let bias = if config.activation == Activation::Gated { &mut pulls.second } else { &mut pulls.bias };
            *bias += begun.d_pre;
            pulls.pre += begun.d_pre;
        }
        if jump && !parted.below.is_empty() {
            below_dots.resize(parted.below.len(), 0.0);
            isa.gather_dots(direction, &parted.below, context.residual, below_dots);
            for dot in below_dots {
                let d = scale * inv * *dot + l1;
                pulls.second -= (threshold * d + context.d_l0) / context.bandwidth;
            }
        }
        if let Some(total) = &mut self.effect {
            **total += pulls.effect;
        }
        if let Some(extra) = context.extra {
            pulls.along += isa.dot(extra.row(self.h), direction) * inv;
        }
        let own_share = match config.free_decoder {
            // ‖w‖ of the L1 penalty.
            true if l1 > 0.0 && norm > 0.0 => context.l1 * pulls.values / norm,
            true => 0.0,
            // The direction has unit length: the part of its gradient along it is removed.
            false => -pulls.along * inv * inv,
        };
        if !through_input.is_empty() {
            isa.add_scaled(through_input, pulls.pre, enc[0]);
        }
        let to_direction = Gradient {
            begun: !long,
            first: direction_begun,
            residual: long.then_some(Sum { coef, index: rows, rows: context.residual }),
            extra: context.extra.map(|extra| (inv, extra.row(self.h))),
            own: own_share,
            input: None,
            left,
        };
        let input = Some(Sum { coef: d_pre, index: batch_rows, rows: context.input });
        let to_encoder = if config.tied {
            Gradient { input, ..to_direction }
        } else {
            let first = self.begun.as_ref().map(|begun| begun.enc);
            Gradient { begun: false, first, residual: None, extra: None, own: 0.0, input, left }
        };
        let square = to_encoder.descend(isa, enc, enc_buffer, &weight_step, self.next[0]);
        match self.inv_norm {
            Some(inv_norm) => *inv_norm = inverse_root(square),
            None => {
                let square = to_direction.descend(isa, again(&mut dec), dec_buffer, &weight_step, self.next[1]);
                if !config.free_decoder {
                    to_unit(isa, dec[0], square);
                }
            }
        }
        Some([pulls.bias, pulls.second, pulls.gain])
    }
}

/// `Σ_j coef[j] · rows[index[j]]`.
#[derive(Clone, Copy, Default)]
struct Sum<'a> {
    coef: &'a [f32],
    index: &'a [u32],
    rows: &'a [f32],
}

/// The gradient of a row of weights, a sum of these terms in this order.
#[derive(Clone, Copy)]
struct Gradient<'a> {
    /// The buffer has the first terms already.
    begun: bool,
    /// What it begins with, if anything.
    first: Option<&'a [f32]>,
    residual: Option<Sum<'a>>,
    extra: Option<(f32, &'a [f32])>,
    /// What its own weights count.
    own: f32,
    input: Option<Sum<'a>>,
    /// What is left of the moments that there were.
    left: Left,
}

impl Gradient<'_> {
    /// Adam of the row `[w, m, v]`, in pieces whose gradient stays in the first cache. Gives its new squared length.
    fn descend(
        &self,
        isa: Isa,
        [w, m, v]: [&mut [f32]; 3],
        buffer: &mut [f32],
        step: &AdamStep,
        next: [&[f32]; 3],
    ) -> f32 {
        let (dim, mut square) = (w.len(), [0.0; LANES]);
        let piece = if dim < LONG { dim } else { PIECE };
        for from in (0..dim).step_by(piece) {
            let columns = from..dim.min(from + piece);
            let g = &mut buffer[..columns.len()];
            if !self.begun {
                begin(g, self.first.map(|first| &first[columns.clone()]));
            }
            let add = |g: &mut [f32], s: Sum| isa.add_columns(g, from, s.coef, s.index, s.rows, dim);
            if let Some(sum) = self.residual {
                add(g, sum);
            }
            if let Some((c, extra)) = self.extra {
                isa.add_scaled(g, c, &extra[columns.clone()]);
            }
            let ((m, m_next), (v, v_next)) = (and_next(m, next[1], &columns), and_next(v, next[2], &columns));
            let ahead = [next[0].get(columns.clone()).unwrap_or(&[]), m_next, v_next];
            let Sum { coef, index, rows } = self.input.unwrap_or_default();
            let lacking = Lacking { own: self.own, coef, index, rows, from, dim };
            isa.adam_and_add([&mut w[columns], m, v], g, &lacking, self.left, step, ahead, &mut square);
        }
        fold(square)
    }
}

#[cfg(test)]
mod tests;
