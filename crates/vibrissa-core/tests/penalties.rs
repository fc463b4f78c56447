//! The gradient of every activation × penalty × weight layout against finite differences of an independent forward pass
//! in f64, straight from the equations. As in `gradients.rs`, the gradient is read from the first moment after one
//! step, and constants of the equations are constant. Thresholds have no derivative: their gradient is compared with
//! the formula of the straight-through estimate, into which finite differences of the loss to each latent are put.
#![allow(non_snake_case)]

use vibrissa_core::activation::Activation;
use vibrissa_core::kernels::Isa;
use vibrissa_core::loss::{AuxK, Losses, Penalties};
use vibrissa_core::matrix::Mat;
use vibrissa_core::model::step::{Engine, State, Step, StepOptions};
use vibrissa_core::model::{Config, Output, Sae, Weights};
use vibrissa_core::random::Stream;

const B: usize = 4;
const D: usize = 7;
const H: usize = 10;
const K: usize = 3;
const PREFIXES: [usize; 2] = [3, 6];
const DEAD: [usize; 4] = [1, 4, 5, 9];
const K_AUX: usize = 2;
const COEF: f64 = 0.4;
const DEAD_AFTER: u64 = 1000;
const BANDWIDTH: f64 = 0.5;
/// Smallest distance of a pre-activation from a value at which the selection changes.
const GAP: f64 = 2e-3;

#[derive(Clone, Copy, Debug)]
struct Case {
    activation: Activation,
    tied: bool,
    free: bool,
    bias: bool,
    entropy: bool,
    nested: bool,
    auxk: bool,
    l1: f64,
    l0: f64,
    kl: f64,
}

impl Case {
    /// All combinations that are allowed (see `TrainOptions::check`).
    fn all(activation: Activation) -> Vec<Case> {
        let mut out = Vec::new();
        for bits in 0..128u32 {
            let on = |b: u32| bits >> b & 1 == 1;
            let (tied, free, bias, entropy, nested, auxk, l1) = (on(0), on(1), on(2), on(3), on(4), on(5), on(6));
            let (gated, sigmoid) = (activation.has_gate(), activation.is_dense());
            if tied && free || entropy && (auxk || gated) || sigmoid && auxk {
                continue;
            }
            out.push(Case {
                activation,
                tied,
                free,
                bias,
                entropy,
                nested,
                auxk,
                l1: if l1 { 0.7 } else { 0.0 },
                l0: if activation.learns_threshold() { 0.9 } else { 0.0 },
                kl: if sigmoid { 0.8 } else { 0.0 },
            });
        }
        out
    }

    fn sae(&self, seed: u64) -> Sae {
        let noise = |n: usize, name: &str, scale: f64, mean: f64| -> Vec<f32> {
            let mut s = Stream::new(seed, name, &[]);
            (0..n).map(|_| (mean + scale * s.normal()) as f32).collect()
        };
        let gated = if self.activation.has_gate() { H } else { 0 };
        let threshold = match self.activation {
            Activation::JumpRelu => noise(H, "threshold", 0.1, 0.5).into_iter().map(f32::abs).collect(),
            Activation::BatchTopK => vec![0.0],
            _ => Vec::new(),
        };
        let config = Config {
            d_in: D,
            latents: H,
            activation: self.activation,
            k: K,
            relu_after: true,
            tied: self.tied,
            decoder_bias: self.bias,
            output: if self.entropy { Output::Sigmoid } else { Output::Linear },
            free_decoder: self.free,
        };
        let weights = Weights {
            W_enc: Mat::from_vec(H, D, noise(H * D, "W_enc", 0.4, 0.0)),
            W_dec: (!self.tied).then(|| Mat::from_vec(H, D, noise(H * D, "W_dec", 0.4, 0.0))),
            b_enc: noise(H, "b_enc", 0.2, 0.0),
            b_dec: self.bias.then(|| noise(D, "b_dec", 0.3, 0.0)),
            threshold,
            b_gate: noise(gated, "b_gate", 0.2, 0.1),
            r_mag: noise(gated, "r_mag", 0.3, 0.0),
        };
        Sae::new(config, weights).expect("a model")
    }

    fn engine(&self, isa: Isa, sae: Sae) -> Engine {
        let mut state = State::new(sae.config());
        DEAD.iter().for_each(|&h| state.silent[h] = DEAD_AFTER);
        let auxk = AuxK { coef: if self.auxk { COEF } else { 0.0 }, k_aux: K_AUX, dead_after: DEAD_AFTER };
        let penalties =
            Penalties { l1: self.l1, steer: 0.0, l0: self.l0, bandwidth: BANDWIDTH, kl: self.kl, sink: 0.0 };
        Engine::new(isa, sae, state, StepOptions { auxk, penalties, ..StepOptions::default() })
    }

    fn rows(&self, seed: u64) -> Mat {
        let mut s = Stream::new(seed, "x", &[]);
        let draw = |_| if self.entropy { s.uniform() as f32 } else { s.normal() as f32 };
        Mat::from_vec(B, D, (0..B * D).map(draw).collect())
    }
}

/// The parameters in f64, in the order of [`NAMES`]; empty where the model has none.
type Params = [Vec<f64>; 7];
const NAMES: [&str; 7] = ["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "b_gate", "r_mag"];

fn params(case: &Case, sae: &Sae) -> Params {
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let learned = if case.activation.learns_threshold() { wide(sae.threshold()) } else { Vec::new() };
    [
        wide(sae.W_enc().data()),
        sae.W_dec().map_or(vec![], |w| wide(w.data())),
        wide(sae.b_enc()),
        sae.b_dec().map_or(vec![], wide),
        learned,
        wide(sae.b_gate()),
        wide(sae.r_mag()),
    ]
}

fn direction(p: &Params, h: usize) -> Vec<f64> {
    if !p[1].is_empty() {
        return p[1][h * D..][..D].to_vec();
    }
    let row = &p[0][h * D..][..D];
    let norm = row.iter().map(|w| w * w).sum::<f64>().sqrt();
    row.iter().map(|w| w / norm).collect()
}

fn b_dec(p: &Params, d: usize) -> f64 {
    p[3].get(d).copied().unwrap_or(0.0)
}

/// `(x - b_dec) · W_enc[h]` of one row.
fn sums(p: &Params, x: &[f32]) -> Vec<f64> {
    (0..H).map(|h| (0..D).map(|d| (f64::from(x[d]) - b_dec(p, d)) * p[0][h * D + d]).sum()).collect()
}

/// The pre-activations that select: the gates', or the latents'.
fn selecting_pre_acts(case: &Case, p: &Params, x: &[f32]) -> Vec<f64> {
    let bias = if case.activation.has_gate() { &p[5] } else { &p[2] };
    sums(p, x).iter().zip(bias).map(|(s, b)| s + b).collect()
}

fn decode(p: &Params, latents: &[f64], n: usize) -> Vec<f64> {
    let mut out: Vec<f64> = (0..D).map(|d| b_dec(p, d)).collect();
    for h in 0..n {
        direction(p, h).iter().zip(&mut out).for_each(|(w, o)| *o += latents[h] * w);
    }
    out
}

/// The constants of the loss at the point where the gradient is taken.
struct Constants {
    at: Params,
    /// topk and batchtopk: true for the selected latents of each row.
    selected: Vec<Vec<bool>>,
    aux: Vec<Vec<usize>>,
    residual: Vec<Vec<f64>>,
    aux_weight: f64,
}

fn spread(rows: &[Vec<f64>]) -> f64 {
    let mean = |d: usize| rows.iter().map(|r| r[d]).sum::<f64>() / B as f64;
    (0..D).map(|d| rows.iter().map(|r| (r[d] - mean(d)).powi(2)).sum::<f64>()).sum()
}

impl Constants {
    /// `None` if a pre-activation is too close to a value at which the selection changes.
    fn at(case: &Case, p: &Params, x: &Mat) -> Option<Constants> {
        let pre: Vec<Vec<f64>> = (0..B).map(|b| selecting_pre_acts(case, p, x.row(b))).collect();
        let all = |rows: std::ops::Range<usize>| rows.flat_map(|b| (0..H).map(move |h| (b, h))).collect::<Vec<_>>();
        let mut selected = vec![vec![false; H]; B];
        // The largest of each row, or of the batch.
        let each = if case.activation == Activation::TopK { 1 } else { B };
        for first in (0..B).step_by(each) {
            let mut order = all(first..first + each);
            order.sort_by(|a, b| pre[b.0][b.1].total_cmp(&pre[a.0][a.1]));
            let near = |i: usize| pre[order[i].0][order[i].1];
            if near(each * K - 1) - near(each * K) < GAP || near(each * K - 1) < GAP {
                return None;
            }
            order[..each * K].iter().for_each(|&(b, h)| selected[b][h] = true);
        }
        for (b, pre) in pre.iter().enumerate() {
            for (h, &v) in pre.iter().enumerate() {
                let close = match case.activation {
                    Activation::JumpRelu => {
                        let off = v - p[4][h];
                        off.abs().min((off.abs() - BANDWIDTH / 2.0).abs())
                    }
                    Activation::Gated => v.abs().min((sums(p, x.row(b))[h] * p[6][h].exp() + p[2][h]).abs()),
                    _ => v.abs(),
                };
                if close < GAP {
                    return None;
                }
            }
        }
        let mut constants = Constants { at: p.clone(), selected, aux: vec![], residual: vec![], aux_weight: 0.0 };
        let mut rows = Vec::new();
        for (b, pre) in pre.iter().enumerate() {
            let mut order = DEAD.to_vec();
            order.sort_by(|&a, &c| pre[c].total_cmp(&pre[a]));
            if pre[order[K_AUX - 1]] - pre[order[K_AUX]] < GAP {
                return None;
            }
            order.truncate(K_AUX);
            constants.aux.push(order);
            let y = decode(p, &constants.latents(case, p, x.row(b), b).0, H);
            constants.residual.push((0..D).map(|d| f64::from(x.row(b)[d]) - y[d]).collect());
            rows.push(x.row(b).iter().map(|&v| f64::from(v)).collect());
        }
        if case.auxk {
            constants.aux_weight = COEF * spread(&rows) / B as f64 / spread(&constants.residual);
        }
        Some(constants)
    }

    /// The latents of a row, and `max(π, 0)` of a gated model.
    fn latents(&self, case: &Case, p: &Params, x: &[f32], b: usize) -> (Vec<f64>, Vec<f64>) {
        let pre = selecting_pre_acts(case, p, x);
        let relu: Vec<f64> = pre.iter().map(|v| v.max(0.0)).collect();
        let each = |h: usize| match case.activation {
            Activation::Relu => relu[h],
            Activation::TopK | Activation::BatchTopK => {
                if self.selected[b][h] {
                    relu[h]
                } else {
                    0.0
                }
            }
            Activation::JumpRelu => {
                if pre[h] > self.at[4][h] {
                    pre[h]
                } else {
                    0.0
                }
            }
            Activation::Gated => {
                let magnitude = (pre[h] - p[5][h]) * p[6][h].exp() + p[2][h];
                if pre[h] > 0.0 { magnitude.max(0.0) } else { 0.0 }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-pre[h]).exp()),
        };
        ((0..H).map(each).collect(), relu)
    }

    /// The losses of the batch. `bump` (row, latent, value) adds to one latent of one row.
    fn losses(&self, case: &Case, p: &Params, x: &Mat, bump: Option<(usize, usize, f64)>) -> Losses {
        let norm = |h: usize| direction(p, h).iter().map(|w| w * w).sum::<f64>().sqrt();
        let prefixes: Vec<usize> = if case.nested { PREFIXES.into_iter().chain([H]).collect() } else { vec![H] };
        let (mut out, mut mean, mut active) = (Losses::default(), [0.0; H], 0);
        for b in 0..B {
            let target: Vec<f64> = x.row(b).iter().map(|&v| f64::from(v)).collect();
            let (mut latents, gate) = self.latents(case, p, x.row(b), b);
            if let Some((_, h, by)) = bump.filter(|at| at.0 == b) {
                latents[h] += by;
            }
            latents.iter().zip(&mut mean).for_each(|(a, m)| *m += a / B as f64);
            active += latents.iter().filter(|a| **a != 0.0).count();
            for &n in &prefixes {
                let y = decode(p, &latents, n);
                let each = y.iter().zip(&target).map(|(y, t)| match case.entropy {
                    true => {
                        let q = 1.0 / (1.0 + (-y).exp());
                        -t * q.ln() - (1.0 - t) * (1.0 - q).ln()
                    }
                    false => (t - y).powi(2),
                });
                out.recon += each.sum::<f64>() / (B * prefixes.len()) as f64;
            }
            let penalised = if case.activation.has_gate() { &gate } else { &latents };
            out.l1 += case.l1 * (0..H).map(|h| penalised[h] * norm(h)).sum::<f64>() / B as f64;
            if case.activation.has_gate() {
                // W_dec and b_dec are constant in this term, the gate's input is not.
                let y = decode(&self.at, &gate, H);
                out.gate += y.iter().zip(&target).map(|(y, t)| (t - y).powi(2)).sum::<f64>() / B as f64;
            }
            let pre = selecting_pre_acts(case, p, x.row(b));
            let mut e = self.residual[b].clone();
            for &h in &self.aux[b] {
                direction(p, h).iter().zip(&mut e).for_each(|(w, e)| *e -= pre[h] * w);
            }
            out.auxk += self.aux_weight * e.iter().map(|e| e * e).sum::<f64>();
        }
        let rho = K as f64 / H as f64;
        out.kl = case.kl
            * mean.map(|m| rho * (rho / m).ln() + (1.0 - rho) * ((1.0 - rho) / (1.0 - m)).ln()).iter().sum::<f64>();
        if case.kl == 0.0 {
            out.kl = 0.0;
        }
        out.l0 = case.l0 * (active as f64 / (B * K) as f64 - 1.0).powi(2);
        out
    }

    /// Central differences for every parameter except thresholds, whose straight-through estimate is written out.
    fn gradient(&self, case: &Case, p: &Params, x: &Mat) -> Params {
        const STEP: f64 = 1e-5;
        let mut at = p.clone();
        let mut out = p.clone();
        for t in (0..7).filter(|&t| t != 4) {
            for i in 0..p[t].len() {
                let mut side = |step: f64| {
                    at[t][i] += step;
                    let loss = self.losses(case, &at, x, None).total();
                    at[t][i] = p[t][i];
                    loss
                };
                out[t][i] = (side(STEP) - side(-STEP)) / (2.0 * STEP);
            }
        }
        if !case.free {
            // An untied decoder has rows of unit length: the step removes the part of the gradient along them.
            for (g, w) in out[1].chunks_mut(D).zip(p[1].chunks(D)) {
                let along: f64 = g.iter().zip(w).map(|(g, w)| g * w).sum();
                g.iter_mut().zip(w).for_each(|(g, w)| *g -= along * w);
            }
        }
        if !p[4].is_empty() {
            let counted: usize =
                (0..B).map(|b| self.latents(case, p, x.row(b), b).0.iter().filter(|a| **a != 0.0).count()).sum();
            let to_count = 2.0 * case.l0 * (counted as f64 / (B * K) as f64 - 1.0) / (B * K) as f64;
            for h in 0..H {
                out[4][h] = (0..B)
                    .map(|b| {
                        let u = (selecting_pre_acts(case, p, x.row(b))[h] - p[4][h]) / BANDWIDTH;
                        let rect = if u.abs() < 0.5 { 1.0 } else { 0.0 };
                        let no_count = Case { l0: 0.0, ..*case };
                        let loss = |by: f64| self.losses(&no_count, p, x, Some((b, h, by))).total();
                        let to_latent = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                        -(p[4][h] / BANDWIDTH) * rect * to_latent - rect / BANDWIDTH * to_count
                    })
                    .sum();
            }
        }
        out
    }
}

fn point(case: &Case) -> (Sae, Mat, Constants) {
    for seed in 0..5000 {
        let sae = case.engine(Isa::SCALAR, case.sae(seed)).into_parts().0;
        let x = case.rows(seed);
        if let Some(constants) = Constants::at(case, &params(case, &sae), &x) {
            return (sae, x, constants);
        }
    }
    panic!("no point without near ties for {case:?}");
}

fn check(case: &Case) {
    let (sae, x, constants) = point(case);
    let p = params(case, &sae);
    let want = constants.losses(case, &p, &x, None);
    let numeric = constants.gradient(case, &p, &x);
    let prefixes: &[usize] = if case.nested { &PREFIXES } else { &[] };
    for isa in Isa::available() {
        let mut engine = case.engine(isa, sae.clone());
        let losses = engine.step_on(&Step { prefixes, ..Step::new(x.view(), 1e-3) }).expect("a finite step");
        for ((name, got), want) in Losses::NAMES.iter().zip(losses.terms()).zip(want.terms()) {
            assert!((got - want).abs() <= 2e-5 * want.abs(), "{name} of {case:?}: {got} against {want}");
        }
        let state = engine.state();
        let moments =
            [&state.W_enc, &state.W_dec, &state.b_enc, &state.b_dec, &state.threshold, &state.b_gate, &state.r_mag];
        for ((name, want), moments) in NAMES.iter().zip(&numeric).zip(moments) {
            assert_eq!(moments.m.len(), want.len(), "{name} of {case:?}");
            let size = want.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            assert!(want.is_empty() || size > 1e-4, "{name} of {case:?} has no gradient to compare");
            for (i, (&m, &want)) in moments.m.iter().zip(want).enumerate() {
                let got = f64::from(m) / (1.0 - 0.9);
                let off = (got - want).abs();
                assert!(off <= 2e-5 * size, "{name}[{i}] of {case:?} ({}): {got} against {want} of {size}", isa.name());
            }
        }
    }
}

fn check_all(activation: Activation, cases: usize) {
    let all = Case::all(activation);
    assert_eq!(all.len(), cases);
    all.iter().for_each(check);
}

#[test]
fn relu() {
    check_all(Activation::Relu, 72);
}

#[test]
fn topk() {
    check_all(Activation::TopK, 72);
}

#[test]
fn batchtopk() {
    check_all(Activation::BatchTopK, 72);
}

#[test]
fn jumprelu() {
    check_all(Activation::JumpRelu, 72);
}

#[test]
fn gated() {
    check_all(Activation::Gated, 48);
}

#[test]
fn sigmoid() {
    check_all(Activation::Sigmoid, 48);
}

/// A term besides the squared error, here ¼ Σ (recon - x)⁴, reaches all latents with weight λ V.
#[test]
fn a_term_besides_the_squared_error() {
    let term = |x: &[f32], y: &[f32], gradient: &mut [f32]| -> f64 {
        gradient.iter_mut().zip(x.iter().zip(y)).for_each(|(g, (x, y))| *g = (y - x).powi(3));
        x.iter().zip(y).map(|(x, y)| 0.25 * f64::from(y - x).powi(4)).sum()
    };
    let lambda = 0.3;
    for (tied, nested, auxk) in [(false, false, false), (true, false, true), (false, true, true)] {
        let base = Case {
            activation: Activation::BatchTopK,
            tied,
            free: false,
            bias: true,
            entropy: false,
            nested,
            auxk,
            l1: 0.0,
            l0: 0.0,
            kl: 0.0,
        };
        let (sae, x, constants) = point(&base);
        let p = params(&base, &sae);
        let rows: Vec<Vec<f64>> = (0..B).map(|b| x.row(b).iter().map(|&v| f64::from(v)).collect()).collect();
        let weight = lambda * spread(&rows) / B as f64;
        let value = |p: &Params| -> f64 {
            let each = (0..B).map(|b| {
                let y = decode(p, &constants.latents(&base, p, x.row(b), b).0, H);
                y.iter().zip(&rows[b]).map(|(y, x)| 0.25 * (y - x).powi(4)).sum::<f64>()
            });
            weight * each.sum::<f64>() / B as f64
        };
        let mut numeric = constants.gradient(&base, &p, &x);
        for t in 0..4 {
            let mut of_term: Vec<f64> = Vec::new();
            for i in 0..p[t].len() {
                let mut at = p.clone();
                at[t][i] += 1e-5;
                let up = value(&at);
                at[t][i] -= 2e-5;
                of_term.push((up - value(&at)) / 2e-5);
            }
            if t == 1 {
                for (g, w) in of_term.chunks_mut(D).zip(p[1].chunks(D)) {
                    let along: f64 = g.iter().zip(w).map(|(g, w)| g * w).sum();
                    g.iter_mut().zip(w).for_each(|(g, w)| *g -= along * w);
                }
            }
            numeric[t].iter_mut().zip(of_term).for_each(|(a, b)| *a += b);
        }
        let mut engine = base.engine(Isa::current(), sae.clone());
        let prefixes: &[usize] = if nested { &PREFIXES } else { &[] };
        let step = Step { prefixes, perceptual: Some((lambda, &term)), ..Step::new(x.view(), 1e-3) };
        let losses = engine.step_on(&step).expect("finite");
        assert!((losses.perceptual - value(&p)).abs() <= 2e-5 * value(&p), "{} {}", losses.perceptual, value(&p));
        let state = engine.state();
        for ((name, want), moments) in
            NAMES.iter().zip(&numeric).zip([&state.W_enc, &state.W_dec, &state.b_enc, &state.b_dec])
        {
            let size = want.iter().fold(0.0f64, |a, g| a.max(g.abs()));
            for (i, (&m, &want)) in moments.m.iter().zip(want).enumerate() {
                let got = f64::from(m) / (1.0 - 0.9);
                assert!((got - want).abs() <= 2e-5 * size, "{name}[{i}] of {base:?}: {got} against {want}");
            }
        }
    }
}

/// AuxK trains the encoder of dead latents, which no other gradient reaches (in one well-known library it does not).
#[test]
fn auxk_reaches_the_encoder_of_dead_latents() {
    for activation in [Activation::Relu, Activation::BatchTopK, Activation::JumpRelu, Activation::Gated] {
        let with = Case {
            activation,
            tied: false,
            free: false,
            bias: true,
            entropy: false,
            nested: false,
            auxk: true,
            l1: 0.0,
            l0: if activation.learns_threshold() { 0.1 } else { 0.0 },
            kl: 0.0,
        };
        let mut weights = with.sae(3).into_weights();
        // Far below every threshold, so that they are never active.
        let bias = if activation.has_gate() { &mut weights.b_gate } else { &mut weights.b_enc };
        DEAD.iter().for_each(|&h| bias[h] = -50.0);
        let config = *with.sae(3).config();
        let sae = Sae::new(config, weights).expect("a model");
        let moved = |auxk: bool| {
            let mut engine = Case { auxk, ..with }.engine(Isa::current(), sae.clone());
            engine.step_on(&Step::new(with.rows(3).view(), 1e-3)).expect("finite");
            let m = &engine.state().W_enc.m;
            DEAD.map(|h| m[h * D..][..D].iter().map(|v| v.abs()).fold(0.0, f32::max))
        };
        assert!(moved(false).iter().all(|&m| m == 0.0), "{activation:?}");
        assert!(moved(true).iter().filter(|&&m| m > 0.0).count() >= K_AUX, "{activation:?}");
    }
}
