//! The gradient of a training step against finite differences of an independent forward pass: dense loops in f64
//! straight from the equations, which share no code with the library. Every parameter, every combination of options.
//!
//! A step does not return its gradient, but the first moment after one step from zero is `(1 - β1) g`. Constants of the
//! equations are constant here, too: the selection (inputs have gaps, so that a small change reorders nothing), AuxK's
//! residual, its spread and V, and the matches between SAEs.
#![allow(non_snake_case)]

use vibrissa_core::kernels::Isa;
use vibrissa_core::loss::{AuxK, Losses, consistency, match_latents};
use vibrissa_core::matrix::Mat;
use vibrissa_core::model::step::{Engine, State, StepOptions};
use vibrissa_core::model::{Config, Sae, Weights};
use vibrissa_core::optim::{AdamOptions, Optimizer};
use vibrissa_core::random::Stream;

const B: usize = 6;
const D: usize = 11;
const H: usize = 14;
/// More than half of the latents, so that some selected pre-activations are negative and ReLU clips them.
const K: usize = 9;
const DEAD: [u32; 5] = [1, 4, 5, 9, 13];
const COEF: f64 = 0.4;
const DEAD_AFTER: u64 = 1000;
const LAMBDA: f64 = 0.8;
/// Smallest difference of two pre-activations whose order matters, and smallest size of one whose sign matters.
const GAP: f64 = 0.01;

#[derive(Clone, Copy, Debug)]
struct Case {
    tied: bool,
    raw: bool,
    bias: bool,
    /// Dead latents a row, 0 without AuxK: 3 of the 5 are summed by dense products, 2 by sparse ones.
    auxk: usize,
    consistency: bool,
    optimizer: Optimizer,
    rows: usize,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut out = Vec::new();
        for (bits, auxk) in (0..32u32).flat_map(|bits| [0, 2, 3].map(|k| (bits, k))) {
            let on = |b: u32| bits >> b & 1 == 1;
            let optimizer = if on(4) { Optimizer::SparseAdam } else { Optimizer::Adam };
            let (tied, raw, bias, consistency) = (on(0), on(1), on(2), on(3));
            out.push(Case { tied, raw, bias, auxk, consistency, optimizer, rows: B });
        }
        out
    }

    fn config(&self) -> Config {
        Config {
            d_in: D,
            latents: H,
            k: K,
            relu_after: !self.raw,
            tied: self.tied,
            decoder_bias: self.bias,
            ..Config::default()
        }
    }

    fn engine(&self, isa: Isa, sae: Sae) -> Engine {
        let mut state = State::new(sae.config());
        DEAD.iter().for_each(|&h| state.silent[h as usize] = DEAD_AFTER);
        let auxk = AuxK { coef: if self.auxk > 0 { COEF } else { 0.0 }, k_aux: self.auxk, dead_after: DEAD_AFTER };
        Engine::new(isa, sae, state, StepOptions { optimizer: self.optimizer, auxk, ..StepOptions::default() })
    }
}

fn noise(n: usize, seed: u64, purpose: &str, scale: f64) -> Vec<f32> {
    let mut s = Stream::new(seed, purpose, &[]);
    (0..n).map(|_| (scale * s.normal()) as f32).collect()
}

fn random_sae(case: &Case, seed: u64) -> Sae {
    let weights = Weights {
        W_enc: Mat::from_vec(H, D, noise(H * D, seed, "W_enc", 0.4)),
        W_dec: (!case.tied).then(|| Mat::from_vec(H, D, noise(H * D, seed, "W_dec", 0.4))),
        b_enc: noise(H, seed, "b_enc", 0.2),
        b_dec: case.bias.then(|| noise(D, seed, "b_dec", 0.3)),
        ..Weights::default()
    };
    Sae::new(case.config(), weights).expect("a model")
}

/// The parameters in f64; empty where the model has none.
#[derive(Clone)]
struct Params {
    W_enc: Vec<f64>,
    W_dec: Vec<f64>,
    b_enc: Vec<f64>,
    b_dec: Vec<f64>,
}

impl Params {
    fn of(sae: &Sae) -> Params {
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        Params {
            W_enc: wide(sae.W_enc().data()),
            W_dec: sae.W_dec().map_or(vec![], |w| wide(w.data())),
            b_enc: wide(sae.b_enc()),
            b_dec: sae.b_dec().map_or(vec![], wide),
        }
    }

    fn tensors(&mut self) -> [(&'static str, &mut Vec<f64>); 4] {
        [("W_enc", &mut self.W_enc), ("W_dec", &mut self.W_dec), ("b_enc", &mut self.b_enc), ("b_dec", &mut self.b_dec)]
    }

    /// The decoder direction of a latent: tied, the encoder row scaled to unit length.
    fn direction(&self, h: usize) -> Vec<f64> {
        if !self.W_dec.is_empty() {
            return self.W_dec[h * D..][..D].to_vec();
        }
        let row = &self.W_enc[h * D..][..D];
        let norm = row.iter().map(|w| w * w).sum::<f64>().sqrt();
        row.iter().map(|w| w / norm).collect()
    }

    fn b_dec(&self, d: usize) -> f64 {
        self.b_dec.get(d).copied().unwrap_or(0.0)
    }

    /// `(x - b_dec) W_encᵀ + b_enc` of one row.
    fn pre_acts(&self, x: &[f32]) -> Vec<f64> {
        let dot = |h: usize| (0..D).map(|d| (f64::from(x[d]) - self.b_dec(d)) * self.W_enc[h * D + d]).sum::<f64>();
        (0..H).map(|h| dot(h) + self.b_enc[h]).collect()
    }

    /// `Σ_h latent_h · direction_h` of one row.
    fn decode(&self, latents: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
        let mut out = vec![0.0; D];
        for (h, a) in latents {
            self.direction(h).iter().zip(&mut out).for_each(|(w, o)| *o += a * w);
        }
        out
    }
}

/// The constants of the loss at the point where the gradient is taken.
struct Constants {
    /// Latents of each row that reach the reconstruction.
    active: Vec<Vec<usize>>,
    /// Dead latents that reconstruct the residual of each row.
    aux: Vec<Vec<usize>>,
    residual: Vec<Vec<f64>>,
    /// `coef · V / ‖e - mean(e)‖²`.
    aux_weight: f64,
    /// The matches: a latent, and the decoder direction of its partner. The sign of the cosine is free.
    partners: Vec<(usize, Vec<f64>)>,
}

/// The indices of the `n` largest among `of`; `None` if the gap to the next is too small.
fn largest(pre_acts: &[f64], of: &[usize], n: usize) -> Option<Vec<usize>> {
    let mut order = of.to_vec();
    order.sort_by(|&a, &b| pre_acts[b].total_cmp(&pre_acts[a]));
    let clear = n >= order.len() || pre_acts[order[n - 1]] - pre_acts[order[n]] > GAP;
    order.truncate(n);
    clear.then_some(order)
}

fn spread(rows: &[Vec<f64>]) -> f64 {
    let n = rows.len() as f64;
    (0..D)
        .map(|d| {
            let mean = rows.iter().map(|r| r[d]).sum::<f64>() / n;
            rows.iter().map(|r| (r[d] - mean) * (r[d] - mean)).sum::<f64>()
        })
        .sum()
}

impl Constants {
    fn at(case: &Case, p: &Params, x: &Mat, partners: Vec<(usize, Vec<f64>)>) -> Option<Constants> {
        let (mut active, mut aux, mut residual, mut wide) = (vec![], vec![], vec![], vec![]);
        for b in 0..x.rows() {
            let pre = p.pre_acts(x.row(b));
            let mut selected = largest(&pre, &(0..H).collect::<Vec<_>>(), K)?;
            if !case.raw {
                if selected.iter().any(|&h| pre[h].abs() < GAP) {
                    return None;
                }
                selected.retain(|&h| pre[h] > 0.0);
            }
            let recon = p.decode(selected.iter().map(|&h| (h, pre[h])));
            residual.push((0..D).map(|d| f64::from(x.row(b)[d]) - recon[d] - p.b_dec(d)).collect::<Vec<_>>());
            aux.push(largest(&pre, &DEAD.map(|h| h as usize), case.auxk.max(1))?);
            wide.push(x.row(b).iter().map(|&v| f64::from(v)).collect());
            active.push(selected);
        }
        let weight = COEF * spread(&wide) / x.rows() as f64 / spread(&residual);
        let aux_weight = if case.auxk > 0 && weight.is_finite() { weight } else { 0.0 };
        Some(Constants { active, aux, residual, aux_weight, partners })
    }

    fn losses(&self, p: &Params, x: &Mat) -> Losses {
        let (mut recon, mut auxk) = (0.0, 0.0);
        for b in 0..x.rows() {
            let pre = p.pre_acts(x.row(b));
            let of = |latents: &[usize]| p.decode(latents.iter().map(|&h| (h, pre[h])));
            let y = of(&self.active[b]);
            recon += (0..D).map(|d| (f64::from(x.row(b)[d]) - y[d] - p.b_dec(d)).powi(2)).sum::<f64>();
            let y = of(&self.aux[b]);
            auxk += (0..D).map(|d| (self.residual[b][d] - y[d]).powi(2)).sum::<f64>();
        }
        let cos = |h: usize, other: &[f64]| {
            let direction = p.direction(h);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            (dot(&direction, other) / (dot(&direction, &direction) * dot(other, other)).sqrt()).abs()
        };
        let mmcs = self.partners.iter().map(|(h, other)| cos(*h, other)).sum::<f64>() / H as f64;
        let consistency = if self.partners.is_empty() { 0.0 } else { LAMBDA * (1.0 - mmcs) };
        Losses { recon: recon / x.rows() as f64, auxk: self.aux_weight * auxk, consistency, ..Losses::default() }
    }

    fn loss(&self, p: &Params, x: &Mat) -> f64 {
        self.losses(p, x).total()
    }

    /// Central differences for every parameter.
    fn gradient(&self, p: &Params, x: &Mat) -> Params {
        const STEP: f64 = 1e-5;
        let mut at = p.clone();
        let mut out = p.clone();
        for t in 0..4 {
            for i in 0..p.clone().tensors()[t].1.len() {
                let mut side = |step: f64| {
                    at.tensors()[t].1[i] += step;
                    let loss = self.loss(&at, x);
                    at.tensors()[t].1[i] -= step;
                    loss
                };
                out.tensors()[t].1[i] = (side(STEP) - side(-STEP)) / (2.0 * STEP);
            }
        }
        // An untied decoder has rows of unit length: the step removes the part of the gradient along them.
        for (g, w) in out.W_dec.chunks_mut(D).zip(p.W_dec.chunks(D)) {
            let along: f64 = g.iter().zip(w).map(|(g, w)| g * w).sum();
            g.iter_mut().zip(w).for_each(|(g, w)| *g -= along * w);
        }
        out
    }
}

/// A point without near ties: the members of an ensemble, rows, the constants of each member, and the matches.
fn point(case: &Case) -> (Vec<Engine>, Mat, Vec<Constants>, Vec<Vec<u32>>) {
    let members = if case.consistency { 2 } else { 1 };
    for seed in 0..2000 {
        let engines: Vec<Engine> =
            (0..members).map(|s| case.engine(Isa::SCALAR, random_sae(case, 100 * seed + s))).collect();
        let x = Mat::from_vec(case.rows, D, noise(case.rows * D, seed, "x", 1.0));
        let params: Vec<Params> = engines.iter().map(|e| Params::of(e.sae())).collect();
        let matches = match engines.as_slice() {
            [a, b] => vec![match_latents(Isa::SCALAR, a.sae().decoder_rows(), b.sae().decoder_rows())],
            _ => Vec::new(),
        };
        let partners = |s: usize| -> Vec<(usize, Vec<f64>)> {
            let pairs = matches.iter().flatten().map(|&m| m as usize).enumerate();
            pairs.map(|(h, m)| if s == 0 { (h, params[1].direction(m)) } else { (m, params[0].direction(h)) }).collect()
        };
        let constants: Option<Vec<Constants>> =
            params.iter().enumerate().map(|(s, p)| Constants::at(case, p, &x, partners(s))).collect();
        if let Some(constants) = constants {
            return (engines, x, constants, matches);
        }
    }
    panic!("no point without near ties for {case:?}");
}

fn assert_close(what: &str, case: &Case, got: f64, want: f64, size: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * size, "{what} of {case:?}: {got} against {want} (of {size})");
}

fn check(case: &Case) {
    let (engines, x, constants, matches) = point(case);
    let saes: Vec<Sae> = engines.into_iter().map(|e| e.into_parts().0).collect();
    for isa in Isa::available() {
        let mut gradients = vec![Mat::zeros(H, D); 2];
        let views: Vec<_> = saes.iter().map(|s| s.decoder_rows()).collect();
        let shared = if case.consistency { consistency(isa, LAMBDA, &views, &matches, &mut gradients) } else { 0.0 };
        for (s, sae) in saes.iter().enumerate() {
            let mut engine = case.engine(isa, sae.clone());
            let p = Params::of(engine.sae());
            let extra = case.consistency.then_some((&gradients[s], shared));
            let losses = engine.step(x.view(), 1e-3, extra).expect("a finite step");
            let want = constants[s].losses(&p, &x);
            for (name, got, want) in [
                ("the reconstruction loss", losses.recon, want.recon),
                ("the AuxK loss", losses.auxk, want.auxk),
                ("the consistency loss", losses.consistency, want.consistency),
            ] {
                assert_close(name, case, got, want, want.abs(), 1e-5);
            }
            let mut numeric = constants[s].gradient(&p, &x);
            let state = engine.state();
            let moments = [&state.W_enc, &state.W_dec, &state.b_enc, &state.b_dec];
            for ((name, want), moments) in numeric.tensors().into_iter().zip(moments) {
                assert_eq!(moments.m.len(), want.len(), "{name} of {case:?}");
                let size = want.iter().fold(0.0f64, |a, g| a.max(g.abs()));
                assert!(want.is_empty() || size > 1e-3, "{name} of {case:?} has no gradient to compare");
                for (i, (&m, &want)) in moments.m.iter().zip(want.iter()).enumerate() {
                    let got = f64::from(m) / (1.0 - 0.9);
                    assert_close(&format!("gradient of {name}[{i}] ({})", isa.name()), case, got, want, size, 1e-5);
                }
            }
        }
    }
}

fn check_all(which: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = Case::all().into_iter().filter(which).collect();
    assert_eq!(cases.len(), 24);
    cases.iter().for_each(check);
}

#[test]
fn gradients_of_tied_raw_topk() {
    check_all(|c| c.tied && c.raw);
}

#[test]
fn gradients_of_tied_relu() {
    check_all(|c| c.tied && !c.raw);
}

#[test]
fn gradients_of_untied_raw_topk() {
    check_all(|c| !c.tied && c.raw);
}

#[test]
fn gradients_of_untied_relu() {
    check_all(|c| !c.tied && !c.raw);
}

/// At the points ReLU clips something, and some dead latents are active, others not.
#[test]
fn the_points_exercise_clipping_and_dead_latents() {
    let case =
        Case { tied: false, raw: false, bias: true, auxk: 3, consistency: false, optimizer: Optimizer::Adam, rows: B };
    let (_, _, constants, _) = point(&case);
    assert!(constants[0].active.iter().any(|a| a.len() < K), "nothing was clipped");
    let both = |want: bool| {
        constants[0]
            .active
            .iter()
            .zip(&constants[0].aux)
            .any(|(active, aux)| aux.iter().any(|h| active.contains(h) == want))
    };
    assert!(both(true) && both(false));
}

/// One row has no spread: AuxK is not finite there and must be off.
#[test]
fn auxk_is_off_where_it_is_not_finite() {
    for bias in [false, true] {
        let optimizer = Optimizer::Adam;
        let case = Case { tied: false, raw: false, bias, auxk: 3, consistency: false, optimizer, rows: 1 };
        let (engines, x, constants, _) = point(&case);
        assert_eq!(constants[0].aux_weight, 0.0);
        let sae = engines.into_iter().next().expect("one").into_parts().0;
        let mut with = case.engine(Isa::current(), sae.clone());
        let mut without = Case { auxk: 0, ..case }.engine(Isa::current(), sae);
        let losses = with.step(x.view(), 1e-3, None).expect("a finite step");
        without.step(x.view(), 1e-3, None).expect("a finite step");
        assert_eq!(losses.auxk, 0.0);
        assert_eq!(with.state(), without.state());
        assert_eq!(with.sae(), without.sae());
    }
}

/// Decay is decoupled: it does not enter the moments, shrinks weights, and leaves biases unchanged.
#[test]
fn weight_decay_is_decoupled() {
    let (lr, decay) = (0.01, 2.0);
    for tied in [false, true] {
        let optimizer = Optimizer::Adam;
        let case = Case { tied, raw: false, bias: true, auxk: 0, consistency: false, optimizer, rows: B };
        let (engines, x, _, _) = point(&case);
        let sae = engines.into_iter().next().expect("one").into_parts().0;
        let start = Params::of(&sae);
        let run = |weight_decay: f64| {
            let auxk = AuxK { coef: 0.0, k_aux: 0, dead_after: DEAD_AFTER };
            let adam = AdamOptions { weight_decay, ..AdamOptions::default() };
            let options = StepOptions { optimizer, adam, auxk, ..StepOptions::default() };
            let mut engine = Engine::new(Isa::current(), sae.clone(), State::new(sae.config()), options);
            engine.step(x.view(), lr, None).expect("a finite step");
            engine.into_parts()
        };
        let ((with, with_state), (without, without_state)) = (run(decay), run(0.0));
        assert_eq!(with_state, without_state);
        let (with, without) = (Params::of(&with), Params::of(&without));
        assert_eq!((with.b_enc, with.b_dec), (without.b_enc, without.b_dec));
        for (i, (&a, &b)) in with.W_enc.iter().zip(&without.W_enc).enumerate() {
            assert_close("decayed W_enc", &case, a, b - lr * decay * start.W_enc[i], 1.0, 1e-6);
        }
        // The decoder's rows are scaled to unit length after the decay and the step.
        for h in 0..with.W_dec.len() / D {
            let moments = &with_state.W_dec;
            let mut row: Vec<f64> = (h * D..(h + 1) * D)
                .map(|i| {
                    let (m, v) = (f64::from(moments.m[i]) / (1.0 - 0.9), f64::from(moments.v[i]) / (1.0 - 0.999));
                    (1.0 - lr * decay) * start.W_dec[i] - lr * m / (v.sqrt() + 1e-8)
                })
                .collect();
            let norm = row.iter().map(|w| w * w).sum::<f64>().sqrt();
            row.iter_mut().for_each(|w| *w /= norm);
            for (&a, &b) in with.W_dec[h * D..].iter().zip(&row) {
                assert_close("decayed W_dec", &case, a, b, 1.0, 1e-5);
            }
        }
    }
}
