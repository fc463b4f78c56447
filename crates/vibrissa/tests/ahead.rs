//! A batch that is encoded while the step before it updates the weights gives the bits of one that is encoded by itself.

use vibrissa::activation::Activation;
use vibrissa::kernels::Isa;
use vibrissa::loss::Penalties;
use vibrissa::matrix::{Mat, MatRef};
use vibrissa::model::Config;
use vibrissa::model::init::{Init, Sample, init};
use vibrissa::model::step::{Engine, State, Step, StepOptions};
use vibrissa::random::Stream;

/// Long rows, and latents that fill no whole number of panels.
const D: usize = 2100;
const H: usize = 130;

fn batches() -> Vec<Mat> {
    let mut drawn = Stream::new(3, "ahead", &[]);
    let rows = [17, 17, 5, 17, 17, 1];
    rows.map(|b| Mat::from_vec(b, D, (0..b * D).map(|_| drawn.normal() as f32).collect())).into()
}

/// What a model is after some steps, each of which was told that the rows of `following` come next.
fn trained(
    isa: Isa,
    activation: Activation,
    batches: &[Mat],
    following: impl Fn(usize) -> Option<Mat>,
) -> (Vec<u32>, Vec<f64>) {
    let config =
        Config { d_in: D, latents: H, k: 12, tied: true, decoder_bias: false, activation, ..Config::default() };
    let mean = vec![0.0; D];
    let sample = Sample { mean: &mean, rows: batches[0].view(), held: 0, pictures: None };
    let (mut sae, _) = init(config, Init::Kaiming, 1, 0, sample).expect("a possible model");
    sae.begin_sparse(isa, 12, batches[0].view());
    let l1 = if activation.by_l1() { 1e-3 } else { 0.0 };
    let options =
        StepOptions { penalties: Penalties { l1, bandwidth: 0.1, ..Penalties::default() }, ..Default::default() };
    let mut engine = Engine::new(isa, sae, State::new(&config), options);
    let mut losses = Vec::new();
    for (i, x) in batches.iter().enumerate() {
        let next = following(i);
        let step = Step { following: next.as_ref().map(Mat::view), ..Step::new(x.view(), 1e-3) };
        losses.push(engine.step_on(&step).expect("a finite step").recon);
        if i == 3 {
            // Other weights in place of these: what was encoded ahead no longer holds.
            let mut other = engine.sae().clone();
            other.unscale(2.0);
            engine.replace(other);
        }
    }
    let sae = engine.sae();
    let weights: MatRef = sae.W_enc();
    (weights.data().iter().chain(sae.b_enc()).map(|w| w.to_bits()).collect(), losses)
}

#[test]
fn a_batch_encoded_ahead_has_the_bits_of_one_that_is_not() {
    let batches = batches();
    for isa in Isa::available() {
        for activation in
            [Activation::TopK, Activation::BatchTopK, Activation::Relu, Activation::JumpRelu, Activation::Gated]
        {
            let alone = trained(isa, activation, &batches, |_| None);
            let ahead = trained(isa, activation, &batches, |i| batches.get(i + 1).cloned());
            let wrong = trained(isa, activation, &batches, |i| batches.get((i + 2) % 6).cloned());
            assert_eq!(ahead, alone, "{} {}", isa.name(), activation.name());
            assert_eq!(wrong, alone, "{} {}: other rows came", isa.name(), activation.name());
        }
    }
}
