use super::*;
use crate::activation::Activation;
use crate::matrix::Mat;
use crate::model::init;
use crate::model::step::{Engine, State, StepOptions};
use crate::random::Stream;

/// If all latents have a gradient and one had none for some steps, the moments of its biases decay by these steps.
#[test]
fn moments_of_a_latent_that_was_idle_decay() {
    let (dim, batch, latents) = (12, 5, 64);
    let mut s = Stream::new(7, "test", &[]);
    let mut noise = |n: usize| (0..n).map(|_| s.normal() as f32).collect::<Vec<f32>>();
    let x = Mat::from_vec(batch, dim, noise(batch * dim));
    for activation in [Activation::TopK, Activation::Gated] {
        let relu_after = activation != Activation::TopK;
        let config = Config { d_in: dim, latents, k: latents, relu_after, activation, ..Config::default() };
        let mut sae = init::kaiming(config, &[0.0; 12], 1, 0).expect("a model");
        // All are active in every row.
        sae.b_gate.fill(1e3);
        let mut state = State::new(&config);
        state.idle.fill(0);
        for all in [&mut state.b_enc, &mut state.b_gate, &mut state.r_mag] {
            let [m, v] = [(); 2].map(|()| noise(all.m.len()));
            all.m.copy_from_slice(&m);
            all.v.iter_mut().zip(v).for_each(|(all, v)| *all = v * v);
        }
        let (which, idle) = (5, 3);
        let decay = AdamOptions::default().moment_decay(idle);
        let [counted, written] = [false, true].map(|written| {
            let mut state = state.clone();
            if written {
                for all in [&mut state.b_enc, &mut state.b_gate, &mut state.r_mag] {
                    all.m.get_mut(which).into_iter().for_each(|m| *m *= decay.m);
                    all.v.get_mut(which).into_iter().for_each(|v| *v *= decay.v);
                }
            } else {
                state.idle[which] = idle;
            }
            let mut engine = Engine::new(Isa::current(), sae.clone(), state, StepOptions::default());
            engine.step(x.view(), 1e-2, None).expect("finite");
            assert!(engine.state().idle.iter().all(|&n| n == 0), "all have a gradient");
            let (sae, state) = engine.into_parts();
            let moments = [state.b_enc, state.b_gate, state.r_mag].map(|all| (all.m, all.v));
            (sae.b_enc, sae.b_gate, sae.r_mag, moments)
        });
        assert_eq!(counted, written, "{activation:?}");
    }
}
