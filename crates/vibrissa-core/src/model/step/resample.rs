//! Dead-latent resampling: the latents that contribute least are initialised anew, in the direction of what is
//! reconstructed worst.

use super::super::inverse_norm;
use super::{Engine, Moments, State};
use crate::model::prefilter::RoundedEncoder;
use crate::optim::normalise;
use crate::random::Stream;

/// Latents are resampled if their effect is below this share of the mean effect.
const LEAST_EFFECT: f64 = 0.01;
/// At most one in this many latents is resampled at a time: the others need steps to adapt.
const MOST_ONE_IN: usize = 20;
/// Length of a resampled encoder row, as a share of the mean length of the others (Bricken et al. 2023): with their
/// full length resampled latents would displace others before they have learned.
const ENCODER_LENGTH: f64 = 0.2;

impl Engine {
    /// Resamples the least important latents: those whose effect since the last call, `Σ_b 2 a_b (r_b·w) + a_b²` (the
    /// increase of the squared error if the latent were removed, exactly as `vibrissa analyze` measures it), is below a
    /// hundredth of the mean; at most one in twenty, and one for each row of the last batch.
    ///
    /// Each takes the direction of the residual of a row sampled with probability ∝ its squared length (Bricken et al.
    /// 2023). Its encoder row is a fifth as long as the mean of the others; its bias and moments are 0. Returns the
    /// number of resampled latents.
    pub fn resample(&mut self, stream: &mut Stream) -> usize {
        let config = *self.sae.config();
        let (h, dim, isa) = (config.latents, config.d_in, self.work.isa());
        let mean = self.state.effect.iter().sum::<f64>() / h as f64;
        let mut weak: Vec<usize> = (0..h).filter(|&i| self.state.effect[i] <= LEAST_EFFECT * mean).collect();
        weak.sort_by(|&a, &b| self.state.effect[a].total_cmp(&self.state.effect[b]).then(a.cmp(&b)));
        let directions = self.sample_residuals(stream, weak.len().min(h.div_ceil(MOST_ONE_IN)));
        weak.truncate(directions.len());
        let norm = |row: &[f32]| f64::from(isa.dot(row, row)).sqrt();
        let strong: Vec<usize> = (0..h).filter(|i| self.state.effect[*i] > LEAST_EFFECT * mean).collect();
        let length = strong.iter().map(|&i| norm(self.sae.W_enc.row(i))).sum::<f64>() / strong.len().max(1) as f64;
        let length = if length > 0.0 { (ENCODER_LENGTH * length) as f32 } else { 1.0 };
        self.sae.rounded = RoundedEncoder::default();
        for (&i, mut direction) in weak.iter().zip(directions) {
            normalise(isa, &mut direction);
            if let Some(decoder) = &mut self.sae.W_dec {
                decoder.row_mut(i).copy_from_slice(&direction);
                reset(&mut self.state.W_dec, i * dim..(i + 1) * dim);
            }
            isa.scale(&mut direction, length);
            self.sae.W_enc.row_mut(i).copy_from_slice(&direction);
            reset(&mut self.state.W_enc, i * dim..(i + 1) * dim);
            self.sae.b_enc[i] = 0.0;
            reset(&mut self.state.b_enc, i..i + 1);
            if config.tied {
                // As a model read from a file computes it.
                self.sae.inv_norm[i] = inverse_norm(isa, self.sae.W_enc.row(i));
            }
            self.state.silent[i] = 0;
            self.state.idle[i] = State::NEVER;
        }
        self.state.effect.fill(0.0);
        weak.len()
    }

    /// Samples at most `n` residuals of the last batch without replacement, with probability ∝ their squared length:
    /// those with the largest ln(u) / weight (Efraimidis & Spirakis 2006).
    fn sample_residuals(&self, stream: &mut Stream, n: usize) -> Vec<Vec<f32>> {
        let (isa, rows) = (self.work.isa(), self.forward.latents.rows());
        let residual = |b: usize| self.forward.residuals.row(b * self.forward.layout.per_row().max(1));
        let mut sampled: Vec<(f64, usize)> = (0..rows)
            .map(|b| (f64::from(isa.dot(residual(b), residual(b))), b))
            .map(|(weight, b)| (crate::random::ln(stream.uniform().max(f64::MIN_POSITIVE)) / weight, b))
            .filter(|d| d.0.is_finite())
            .collect();
        sampled.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        sampled.iter().take(n).map(|&(_, b)| residual(b).to_vec()).collect()
    }
}

fn reset(moments: &mut Moments, range: std::ops::Range<usize>) {
    moments.m[range.clone()].fill(0.0);
    moments.v[range].fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::super::StepOptions;
    use super::*;
    use crate::kernels::Isa;
    use crate::loss::AuxK;
    use crate::matrix::{Latents, Mat};
    use crate::model::init;
    use crate::model::{Config, Sae, Workspace};

    fn engine(tied: bool) -> (Engine, Mat) {
        let mut s = Stream::new(3, "test", &[]);
        let x = Mat::from_vec(24, 20, (0..480).map(|_| s.normal() as f32).collect());
        let config = Config { d_in: 20, latents: 60, k: 3, tied, decoder_bias: !tied, ..Config::default() };
        let sae = init::kaiming(config, &[0.0; 20], 1, 0).expect("a model");
        let auxk = AuxK { coef: 1.0 / 32.0, k_aux: 8, dead_after: 1 };
        let options = StepOptions { auxk, measure_effects: true, ..StepOptions::default() };
        let state = State::new(&config);
        (Engine::new(Isa::current(), sae, state, options), x)
    }

    /// The increase of the squared error if each latent were removed, before the step changes anything.
    fn effects_by_removal(sae: &Sae, x: &Mat) -> Vec<f64> {
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        sae.encode(x.view(), &mut work, &mut latents).expect("finite");
        let mut recon = Mat::zeros(x.rows(), 20);
        sae.decode(&latents, &work, recon.view_mut());
        let mut out = vec![0.0; 60];
        for b in 0..x.rows() {
            let (index, value) = latents.row(b);
            let sse = |h: usize, a: f32| -> f64 {
                let w = sae.feature(h);
                (0..20).map(|d| f64::from(x.row(b)[d] - (recon.row(b)[d] - a * w[d])).powi(2)).sum()
            };
            for (&h, &a) in index.iter().zip(value) {
                out[h as usize] += sse(h as usize, a) - sse(h as usize, 0.0);
            }
        }
        out
    }

    #[test]
    fn effects_are_summed_as_they_are_measured() {
        for tied in [true, false] {
            let (mut engine, x) = engine(tied);
            let mut want = vec![0.0; 60];
            for _ in 0..4 {
                effects_by_removal(engine.sae(), &x).iter().zip(&mut want).for_each(|(e, sum)| *sum += e);
                engine.step(x.view(), 1e-2, None).expect("finite");
            }
            for (got, want) in engine.state().effect.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{got} {want}");
            }
        }
    }

    #[test]
    fn the_weakest_are_resampled_at_a_residual() {
        for tied in [true, false] {
            let (mut engine, x) = engine(tied);
            for _ in 0..5 {
                engine.step(x.view(), 1e-2, None).expect("finite");
            }
            let (before, effect) = (engine.sae().clone(), engine.state().effect.clone());
            let (residuals, per_row) = (engine.forward.residuals.clone(), engine.forward.layout.per_row());
            let n = engine.resample(&mut Stream::new(1, "reinforce", &[0, 5]));
            assert_eq!(n, 3, "one in twenty");
            let moved: Vec<usize> = (0..60).filter(|&h| engine.sae().feature(h) != before.feature(h)).collect();
            let mut order: Vec<usize> = (0..60).collect();
            order.sort_by(|&a, &b| effect[a].total_cmp(&effect[b]).then(a.cmp(&b)));
            let mut weakest = order[..n].to_vec();
            weakest.sort_unstable();
            assert_eq!(moved, weakest);
            for &h in &moved {
                let feature = engine.sae().feature(h);
                let cosine = |r: &[f32]| {
                    let dot: f32 = r.iter().zip(&feature).map(|(a, b)| a * b).sum();
                    dot / r.iter().map(|v| v * v).sum::<f32>().sqrt()
                };
                assert!(
                    (0..24).any(|b| (cosine(residuals.row(b * per_row)) - 1.0).abs() < 1e-5),
                    "a direction of a residual"
                );
                assert!(
                    engine.state().W_enc.v[h * 20..][..20].iter().all(|v| *v == 0.0) && engine.sae().b_enc()[h] == 0.0
                );
            }
            assert!(engine.state().effect.iter().all(|e| *e == 0.0));
            // Training goes on.
            engine.step(x.view(), 1e-2, None).expect("finite");
        }
    }
}
