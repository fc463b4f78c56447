//! Phase 2 of a step: residuals and losses of each row.

use super::super::{Config, Output, Sae, sigmoid};
use super::update::{Scratch, Segments};
use super::{Engine, RowLoss, RowTerm, Step, chunk, middle};
use crate::activation::Activation;
use crate::kernels::Isa;
use crate::loss::{Losses, Penalties, cross_entropy, kl, spread};
use crate::matrix::{Aligned, ByLatent, Latents};
use rayon::prelude::*;

impl Engine {
    /// Phase 2: residuals and losses, also those of the gate and of the dead latents; regroups all by latent.
    pub(super) fn decode(&mut self, step: &Step, k: usize) -> Losses {
        let (rows, dim, isa) = (step.x.rows(), step.x.cols(), self.isa);
        let config = *self.sae.config();
        let (gated, jump) = (config.activation == Activation::Gated, config.activation == Activation::JumpRelu);
        let prefixes = step.prefixes.len() + 1;
        self.segments = Segments { prefixes, gated };
        let (segments, aux) = (self.segments.count(), self.options.auxk.coef > 0.0);
        let all = (segments + usize::from(aux)) * rows;
        self.residual.reserve(all, dim);
        self.row_loss.resize(rows, RowLoss::default());
        // Every worker has room for all that a row or a latent may need, whoever gets which.
        self.scratch.grow();
        for own in self.scratch.iter_mut() {
            own.prepare(dim, config.latents.max(segments * rows));
        }
        let l1 = self.state.l1;
        self.norms.clear();
        if config.free_decoder && l1 > 0.0 {
            let decoder = self.sae.decoder_rows();
            decoder.data().par_chunks(dim).map(|row| isa.dot(row, row).sqrt()).collect_into_vec(&mut self.norms);
        }
        let (sae, work, latents, gate, norms) = (&self.sae, &self.work, &self.latents, &self.gate, &self.norms);
        let (scratch, sums) = (&self.scratch, &mut self.sums);
        let (by_latent, segment_of) = (&mut self.by_latent, &mut self.segment_of);
        let decoder = sae.decoder_rows().data();
        let share = 1.0 / prefixes as f32;
        let residual = &mut self.residual.data_mut()[..segments * rows * dim];
        let row_loss = &mut self.row_loss;
        let decode = || {
            let by_columns = prefixes == 1 && !gated && !jump && sums.fill(sae, isa, latents);
            let recon = by_columns.then_some(&*sums);
            residual.par_chunks_mut(segments * dim).zip(row_loss).enumerate().for_each(|(b, (all, loss))| {
                let mut coefs = work.coefs.lock();
                let x = step.target.row(b);
                let (index, value) = latents.row(b);
                *loss = RowLoss { activity: value.iter().map(|&v| f64::from(v)).sum(), ..RowLoss::default() };
                // Entries below a threshold are there for the threshold alone.
                let mut own = jump.then(|| scratch.lock());
                let (index, value) = match &mut own {
                    Some(own) => own.parted.part(index, value),
                    None => (index, value),
                };
                let mut from = 0;
                for j in 0..prefixes {
                    let to =
                        step.prefixes.get(j).map_or(index.len(), |&m| index.partition_point(|&h| (h as usize) < m));
                    let (done, out) = all.split_at_mut(j * dim);
                    let out = &mut out[..dim];
                    if let Some(recon) = recon {
                        recon.row(b, out);
                        break;
                    }
                    match done.len().checked_sub(dim) {
                        Some(last) => out.copy_from_slice(&done[last..]),
                        None => sae.begin_sum(out, 0),
                    }
                    sae.add_features(isa, out, &index[from..to], &value[from..to], &mut coefs, decoder);
                    from = to;
                }
                for out in all[..prefixes * dim].chunks_exact_mut(dim) {
                    loss.recon += match config.output {
                        Output::Linear => {
                            isa.residual(x, out);
                            f64::from(isa.dot(out, out))
                        }
                        // Half of what is missing: -2/B times it is the gradient.
                        Output::Sigmoid => out.iter_mut().zip(x).fold(0.0, |sum, (y, &x)| {
                            let of = cross_entropy(x, *y);
                            *y = 0.5 * (x - sigmoid(*y));
                            sum + of
                        }),
                    };
                }
                // The latents of a prefix serve it and all longer ones: they learn from the sum of these residuals.
                if prefixes > 1 {
                    isa.scale(&mut all[(prefixes - 1) * dim..][..dim], share);
                    for j in (0..prefixes - 1).rev() {
                        let (own, next) = all.split_at_mut((j + 1) * dim);
                        isa.scale(&mut own[j * dim..], share);
                        isa.add_scaled(&mut own[j * dim..], 1.0, &next[..dim]);
                    }
                }
                if gated {
                    let (index, value) = gate.row(b);
                    let out = &mut all[prefixes * dim..][..dim];
                    sae.begin_sum(out, 0);
                    sae.add_features(isa, out, index, value, &mut coefs, decoder);
                    isa.residual(x, out);
                    loss.gate = f64::from(isa.dot(out, out));
                }
                if l1 > 0.0 {
                    let (index, value) = if gated { gate.row(b) } else { (index, value) };
                    let length = |h: u32| norms.get(h as usize).map_or(1.0, |&n| f64::from(n));
                    loss.l1 = index.iter().zip(value).map(|(&h, &a)| f64::from(a) * length(h)).sum();
                }
            });
        };
        let regroup = || regroup(by_latent, segment_of, step, self.segments, config.latents, [latents, gate]);
        rayon::join(decode, regroup);
        let mean = |of: fn(&RowLoss) -> f64, all: &[RowLoss]| all.iter().map(of).sum::<f64>() / rows as f64;
        let mut losses = Losses {
            recon: mean(|l| l.recon, &self.row_loss) / prefixes as f64,
            gate: mean(|l| l.gate, &self.row_loss),
            l1: l1 * mean(|l| l.l1, &self.row_loss),
            ..Losses::default()
        };
        if aux {
            losses.auxk = self.decode_dead(step);
        }
        if let Some((lambda, term)) = step.perceptual {
            losses.perceptual = self.perceive(step, lambda, term);
        }
        let Penalties { l0, kl: beta, .. } = self.options.penalties;
        self.d_l0 = 0.0;
        if l0 > 0.0 {
            let off = f64::from(self.by_latent.total_active()) / (rows * k) as f64 - 1.0;
            losses.l0 = l0 * off * off;
            self.d_l0 = (2.0 * l0 * off / (rows * k) as f64) as f32;
        }
        self.d_kl.clear();
        if beta > 0.0 {
            let (by_latent, target) = (&self.by_latent, k as f64 / config.latents as f64);
            let of = |h: usize| {
                let sum: f64 = by_latent.latent(h).1.iter().map(|&a| f64::from(a)).sum();
                kl(target, sum / rows as f64)
            };
            (0..config.latents).into_par_iter().map(of).collect_into_vec(&mut self.kl);
            losses.kl = beta * self.kl.iter().map(|e| e.0).sum::<f64>();
            self.d_kl.extend(self.kl.iter().map(|e| (beta * e.1 / rows as f64) as f32));
        }
        losses
    }

    /// Adds a perceptual term to the residuals of all prefixes: every latent serves the whole reconstruction.
    fn perceive(&mut self, step: &Step, lambda: f64, term: &RowTerm) -> f64 {
        let (rows, dim, isa) = (step.target.rows(), step.target.cols(), self.isa);
        let weight = lambda * spread(step.target, 0, 1, &mut self.column_sums) / rows as f64;
        let (prefixes, segments) = (self.segments.prefixes, self.segments.count());
        let scratch = &self.scratch;
        let residual = &mut self.residual.data_mut()[..segments * rows * dim];
        residual.par_chunks_mut(segments * dim).zip(&mut self.row_loss).enumerate().for_each(|(b, (all, loss))| {
            let mut own = scratch.lock();
            let Scratch { enc: recon, dec: gradient, .. } = &mut *own;
            let x = step.target.row(b);
            recon.copy_from_slice(x);
            isa.add_scaled(recon, -(prefixes as f32), &all[(prefixes - 1) * dim..][..dim]);
            loss.perceptual = term(x, recon, gradient);
            // -2/B times what is added is λ V/B times the gradient.
            for out in all[..prefixes * dim].chunks_exact_mut(dim) {
                isa.add_scaled(out, (-0.5 * weight) as f32, gradient);
            }
        });
        weight * self.row_loss.iter().map(|l| l.perceptual).sum::<f64>() / rows as f64
    }
}

/// Entries by latent, with the row of `residual` that each learns from.
fn regroup(
    by_latent: &mut ByLatent,
    segment_of: &mut Vec<u32>,
    step: &Step,
    segments: Segments,
    n_latents: usize,
    [latents, gate]: [&Latents; 2],
) {
    segment_of.clear();
    if !step.prefixes.is_empty() {
        let of = |h: usize| step.prefixes.partition_point(|&m| m <= h) as u32;
        segment_of.extend((0..n_latents).map(of));
    }
    let (Segments { prefixes, gated }, count) = (segments, segments.count() as u32);
    let parts = [(0, count, latents), (prefixes as u32, count, gate)];
    by_latent.group(n_latents, &parts[..if gated { 2 } else { 1 }], segment_of);
}

/// Reconstructions that are summed panel by panel of columns, the latents of each half apart from the others: who updated a half most
/// often sums it, too, since lines of weights that another core has read as well are slow to write.
#[derive(Debug, Default)]
pub struct Sums {
    /// Columns of a panel; the last one may be narrower.
    width: usize,
    /// Of each half `[panel][row][column]`.
    recon: [Aligned; 2],
    /// Entries of a row in the first half.
    split: Vec<usize>,
    /// What the directions count.
    coefs: Vec<f32>,
}

/// Weights that do not fit the second cache beside what else is there, and those of half a panel that do.
const MANY: usize = 1 << 18;
const MOST: usize = 3 << 17;

/// Columns of a panel, all of whose sums stay in registers: more is faster, for as long as the panel fits.
const WIDTHS: [usize; 2] = [96, 48];

/// Entries of each latent for which its weights are worth being brought there.
const USES: usize = 4;

impl Sums {
    /// Reconstructs all rows, each half of the latents in the order of their index, where the weights do not fit the second cache but
    /// those of half a panel do; elsewhere says no.
    fn fill(&mut self, sae: &Sae, isa: Isa, latents: &Latents) -> bool {
        let Config { latents: n, d_in: dim, tied, .. } = sae.config;
        let middle = middle(n, chunk(n));
        let Some(width) = WIDTHS.into_iter().find(|width| (n - middle) * width <= MOST) else { return false };
        if n * dim < MANY || latents.count() < USES * n {
            return false;
        }
        let (rows, capacity) = (latents.rows(), latents.capacity());
        let Sums { recon: [low, high], split, coefs, .. } = self;
        self.width = width;
        coefs.resize(if tied { rows * capacity } else { 0 }, 0.0);
        coefs.par_chunks_mut(capacity).enumerate().for_each(|(b, coefs)| {
            let (index, value) = latents.row(b);
            sae.counts(index, value, coefs);
        });
        split.clear();
        split.extend((0..rows).map(|b| latents.row(b).0.partition_point(|&h| (h as usize) < middle)));
        low.resize(rows * dim);
        high.resize(rows * dim);
        let (weights, coefs, split) = (sae.decoder_rows().data(), &*coefs, &*split);
        let half = |recon: &mut [f32], is_low: bool| {
            recon.par_chunks_mut(rows * width).enumerate().for_each(|(p, out)| {
                let (first, width) = (p * width, out.len() / rows);
                for (b, out) in out.chunks_exact_mut(width).enumerate() {
                    let (index, value) = latents.row(b);
                    let coef = if tied { &coefs[b * capacity..][..index.len()] } else { value };
                    let own = if is_low {
                        sae.begin_sum(out, first);
                        0..split[b]
                    } else {
                        out.fill(0.0);
                        split[b]..index.len()
                    };
                    isa.add_columns(out, first, &coef[own.clone()], &index[own], weights, dim);
                }
            });
        };
        rayon::join(|| half(low, true), || half(high, false));
        true
    }

    /// The reconstruction of a row.
    fn row(&self, b: usize, out: &mut [f32]) {
        let [low, high] = self.recon.each_ref().map(|half| half.chunks(half.len() / out.len() * self.width));
        for ((low, high), out) in low.zip(high).zip(out.chunks_mut(self.width)) {
            let at = b * out.len();
            let halves = low[at..][..out.len()].iter().zip(&high[at..][..out.len()]);
            out.iter_mut().zip(halves).for_each(|(out, (low, high))| *out = low + high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;
    use crate::model::Workspace;
    use crate::model::init;
    use crate::random::Stream;

    /// Plain loops over each half: the same bits, whatever the kernels and the number of workers, also in a narrow last panel.
    #[test]
    fn sums_by_panels_are_those_of_the_halves() {
        let (n, dim, rows, k) = (1000, 290, 64, 64);
        let mut s = Stream::new(4, "sums", &[]);
        let x = Mat::from_vec(rows, dim, (0..rows * dim).map(|_| s.normal() as f32).collect());
        let mean: Vec<f32> = (0..dim).map(|_| s.normal() as f32).collect();
        for (tied, decoder_bias) in [(true, false), (true, true), (false, false), (false, true)] {
            let config =
                Config { d_in: dim, latents: n, k, tied, decoder_bias, relu_after: false, ..Config::default() };
            let sae = init::kaiming(config, &mean, 1, 0).expect("a model");
            let (mut work, mut latents) = (Workspace::new(Isa::SCALAR), Latents::default());
            sae.encode(x.view(), &mut work, &mut latents).expect("finite");
            let middle = middle(n, chunk(n));
            let want = |b: usize| -> Vec<f32> {
                let (index, value) = latents.row(b);
                let sum = |own: fn(usize, usize) -> bool, begin: Option<&[f32]>| {
                    let mut out = begin.map_or(vec![0.0; dim], <[f32]>::to_vec);
                    for (&h, &v) in index.iter().zip(value).filter(|(h, _)| own(**h as usize, middle)) {
                        let coef = if tied { v * sae.inv_norm[h as usize] } else { v };
                        let row = sae.decoder_rows().row(h as usize);
                        out.iter_mut().zip(row).for_each(|(out, &w)| *out = coef.mul_add(w, *out));
                    }
                    out
                };
                let (low, high) =
                    (sum(|h, middle| h < middle, sae.b_dec.as_deref()), sum(|h, middle| h >= middle, None));
                low.iter().zip(&high).map(|(low, high)| low + high).collect()
            };
            let want: Vec<Vec<f32>> = (0..rows).map(want).collect();
            for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
                let (mut sums, mut got) = (Sums::default(), vec![f32::NAN; dim]);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                assert!(pool.install(|| sums.fill(&sae, isa, &latents)), "as it was meant");
                for (b, want) in want.iter().enumerate() {
                    sums.row(b, &mut got);
                    let same = got.iter().zip(want).all(|(got, want)| got.to_bits() == want.to_bits());
                    assert!(same, "{} {threads} tied {tied} bias {decoder_bias} row {b}", isa.name());
                }
            }
            // And all of it is the reconstruction, up to the rounding of sums.
            let mut whole = Mat::zeros(rows, dim);
            sae.decode(&latents, &work, whole.view_mut());
            let off = whole.data().iter().zip(want.iter().flatten()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-4, "{off}");
        }
    }
}
