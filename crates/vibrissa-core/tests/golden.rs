//! Ten training steps against PyTorch (scripts/make_golden.py): losses within 1e-5, each tensor within 1e-4 of the
//! distance that it moved, and gradients, read from the first moments after one step.
#![allow(non_snake_case)]

use safetensors::SafeTensors;
use vibrissa_core::activation::Activation;
use vibrissa_core::kernels::Isa;
use vibrissa_core::loss::{AuxK, Losses, Penalties, consistency};
use vibrissa_core::matrix::{Mat, MatRef};
use vibrissa_core::model::step::{Engine, State, Step, StepOptions};
use vibrissa_core::model::{Config, Output, Sae, Weights};
use vibrissa_core::optim::{AdamOptions, Optimizer};

/// A fixture: tensors before and after, losses, and the options as JSON.
struct Golden {
    bytes: Vec<u8>,
    options: serde_json::Value,
}

impl Golden {
    fn open(case: &str) -> Golden {
        let path = format!("{}/tests/golden/{case}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("the fixture is in the repository");
        let (_, meta) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let text = meta.metadata().as_ref().expect("metadata")["options"].clone();
        Golden { bytes, options: serde_json::from_str(&text).expect("JSON") }
    }

    fn try_get(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let t = file.tensor(name).ok()?;
        let v = t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Some((t.shape().to_vec(), v))
    }

    fn vec(&self, name: &str) -> Vec<f32> {
        self.try_get(name).unwrap_or_else(|| panic!("{name} is missing")).1
    }

    fn mat(&self, name: &str) -> Mat {
        let (shape, v) = self.try_get(name).unwrap_or_else(|| panic!("{name} is missing"));
        Mat::from_vec(shape[0], shape[1], v)
    }

    fn number(&self, key: &str) -> f64 {
        self.options[key].as_f64().unwrap_or_else(|| panic!("option {key}"))
    }

    fn flag(&self, key: &str) -> bool {
        self.options[key].as_bool().unwrap_or_else(|| panic!("option {key}"))
    }

    fn sae(&self, group: &str) -> Sae {
        let W_enc = self.mat(&format!("{group}.W_enc"));
        let entropy = self.options["loss"] == "entropy";
        let config = Config {
            d_in: W_enc.cols(),
            latents: W_enc.rows(),
            activation: self.activation(),
            k: 6,
            relu_after: self.flag("relu_after"),
            tied: self.flag("tied"),
            decoder_bias: self.flag("b_dec"),
            output: if entropy { Output::Sigmoid } else { Output::Linear },
            free_decoder: self.flag("free_decoder"),
        };
        let W_dec = (!config.tied).then(|| self.mat(&format!("{group}.W_dec")));
        let b_dec = config.decoder_bias.then(|| self.vec(&format!("{group}.b_dec")));
        let optional = |name: &str| self.try_get(&format!("{group}.{name}")).map_or(Vec::new(), |t| t.1);
        let calibrated = config.activation.calibrates_threshold();
        let threshold = if calibrated { vec![0.0] } else { optional("threshold") };
        let (b_enc, b_gate, r_mag) = (optional("b_enc"), optional("b_gate"), optional("r_mag"));
        Sae::new(config, Weights { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag }).expect("a model")
    }

    fn activation(&self) -> Activation {
        serde_json::from_value(self.options["activation"].clone()).expect("an activation")
    }

    fn prefixes(&self) -> Vec<usize> {
        serde_json::from_value(self.options["prefixes"].clone()).expect("lengths")
    }

    fn step_options(&self) -> StepOptions {
        StepOptions {
            optimizer: if self.options["optimizer"] == "sparse-adam" { Optimizer::SparseAdam } else { Optimizer::Adam },
            adam: AdamOptions {
                beta1: self.number("beta1"),
                beta2: self.number("beta2"),
                eps: self.number("eps"),
                weight_decay: self.number("weight_decay"),
            },
            auxk: AuxK {
                coef: if self.number("auxk") > 0.0 { self.number("auxk_coef") } else { 0.0 },
                k_aux: self.number("auxk") as usize,
                dead_after: self.number("dead_after") as u64,
            },
            penalties: Penalties {
                l1: self.number("l1"),
                steer: 0.0,
                l0: self.number("l0"),
                bandwidth: self.number("bandwidth"),
                kl: self.number("kl"),
                sink: self.number("sink"),
            },
            measure_effects: false,
        }
    }
}

fn engine(isa: Isa, golden: &Golden, group: &str) -> Engine {
    let sae = golden.sae(group);
    let state = State::new(sae.config());
    Engine::new(isa, sae, state, golden.step_options())
}

fn assert_close(what: &str, got: &[f32], want: &[f32], scale: f64, tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let worst = got.iter().zip(want).map(|(&a, &b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(worst <= tolerance * scale, "{what}: {worst:e} is {:e} of {scale:e}", worst / scale);
}

/// The largest difference of two tensors.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

fn compare_end(golden: &Golden, sae: &Sae, sub: &str) {
    for (name, got) in [
        ("W_enc", Some(sae.W_enc().data())),
        ("W_dec", sae.W_dec().map(|w| w.data())),
        ("b_enc", Some(sae.b_enc())),
        ("b_dec", sae.b_dec()),
        ("threshold", Some(sae.threshold()).filter(|t| t.len() > 1)),
        ("b_gate", Some(sae.b_gate()).filter(|b| !b.is_empty())),
        ("r_mag", Some(sae.r_mag()).filter(|r| !r.is_empty())),
    ] {
        let Some(got) = got else { continue };
        let (init, want) = (golden.vec(&format!("init.{sub}{name}")), golden.vec(&format!("final.{sub}{name}")));
        assert_close(&format!("{name} after the last step"), got, &want, distance(&init, &want), 1e-4);
    }
}

fn assert_loss_close(what: &str, step: usize, got: f64, want: f32) {
    let want = f64::from(want);
    assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-12), "{what} at step {step}: {got} against {want}");
}

fn ten_steps(case: &str) {
    let golden = Golden::open(case);
    let (x, prefixes) = (golden.mat("x"), golden.prefixes());
    let noisy = if golden.number("noise") > 0.0 { golden.mat("noisy") } else { x.clone() };
    let terms: Vec<_> = Losses::NAMES.into_iter().map(|name| (name, golden.try_get(&format!("loss.{name}")))).collect();
    for isa in Isa::available() {
        let mut engine = engine(isa, &golden, "init");
        let lr = golden.vec("lr");
        for (t, &lr) in lr.iter().enumerate() {
            let rows = (x.rows() - 16 * t).min(16);
            let batch = |of| {
                let of: &Mat = of;
                Step::new(
                    MatRef::new(rows, x.cols(), &of.data()[16 * t * x.cols()..][..rows * x.cols()]),
                    f64::from(lr),
                )
            };
            let step = Step { target: batch(&x).x, prefixes: &prefixes, ..batch(&noisy) };
            let losses = engine.step_on(&step).expect("a finite step");
            for ((name, want), got) in terms.iter().zip(losses.terms()) {
                match want {
                    Some((_, want)) => assert_loss_close(name, t, got, want[t]),
                    None => assert_eq!(got, 0.0, "{name} at step {t}"),
                }
            }
            if t == 0 {
                compare_first_step(&golden, &engine);
            }
        }
        compare_end(&golden, engine.sae(), "");
    }
}

/// Compares the latents of the first batch, and the gradients: after one step from zero, `m = (1 - β1) g`.
fn compare_first_step(golden: &Golden, engine: &Engine) {
    for b in 0..engine.latents().rows() {
        let want: Vec<(u32, f32)> = if golden.activation() == Activation::TopK {
            let (indices, values) = (golden.mat("step0.indices"), golden.mat("step0.values"));
            let all = indices.row(b).iter().zip(values.row(b)).map(|(&i, &v)| (i as u32, v));
            all.filter(|p| !golden.flag("relu_after") || p.1 != 0.0).collect()
        } else {
            let latents = golden.mat("step0.latents");
            latents.row(b).iter().enumerate().map(|(i, &v)| (i as u32, v)).filter(|p| p.1 != 0.0).collect()
        };
        // Some activations keep entries of 0 that a threshold or a gate learns from.
        let (i, v) = engine.latents().row(b);
        let kept = |j: &usize| golden.activation() == Activation::TopK || v[*j] != 0.0;
        let got: Vec<(u32, f32)> = (0..i.len()).filter(kept).map(|j| (i[j], v[j])).collect();
        let of = |all: &[(u32, f32)]| {
            (all.iter().map(|p| p.0).collect::<Vec<_>>(), all.iter().map(|p| p.1).collect::<Vec<_>>())
        };
        let ((i, v), (want_i, want_v)) = (of(&got), of(&want));
        assert_eq!(i, want_i, "latents of row {b}");
        assert_close("latents", &v, &want_v, 1.0, 1e-5);
    }
    let state = engine.state();
    let decoder = match engine.sae().config() {
        Config { tied: true, .. } => "grad0.W_enc",
        Config { free_decoder: true, .. } => "grad0.W_dec",
        _ => "grad0_projected.W_dec",
    };
    for (name, moments) in [
        ("grad0.W_enc", &state.W_enc),
        (decoder, if engine.sae().config().tied { &state.W_enc } else { &state.W_dec }),
        ("grad0.b_enc", &state.b_enc),
        ("grad0.b_dec", &state.b_dec),
        ("grad0.threshold", &state.threshold),
        ("grad0.b_gate", &state.b_gate),
        ("grad0.r_mag", &state.r_mag),
    ] {
        let Some((_, want)) = golden.try_get(name) else { continue };
        let got: Vec<f32> = moments.m.iter().map(|&m| m / (1.0 - 0.9f64) as f32).collect();
        let size = want.iter().map(|&g| f64::from(g.abs())).fold(0.0, f64::max);
        assert_close(name, &got, &want, size, 2e-6);
    }
}

#[test]
fn tied_raw() {
    ten_steps("tied_raw");
}

#[test]
fn tied_relu_bias() {
    ten_steps("tied_relu_bias");
}

#[test]
fn untied_relu() {
    ten_steps("untied_relu");
}

#[test]
fn untied_raw_nobias() {
    ten_steps("untied_raw_nobias");
}

#[test]
fn untied_auxk() {
    ten_steps("untied_auxk");
}

#[test]
fn untied_weight_decay() {
    ten_steps("untied_weight_decay");
}

#[test]
fn untied_sparse_adam() {
    ten_steps("untied_sparse_adam");
}

#[test]
fn untied_beta2_warm() {
    ten_steps("untied_beta2_warm");
}

#[test]
fn partial_batch() {
    ten_steps("partial_batch");
}

#[test]
fn relu_l1() {
    ten_steps("relu_l1");
}

#[test]
fn relu_l1_free() {
    ten_steps("relu_l1_free");
}

#[test]
fn relu_tied() {
    ten_steps("relu_tied");
}

#[test]
fn batchtopk() {
    ten_steps("batchtopk");
}

#[test]
fn batchtopk_l1_tied() {
    ten_steps("batchtopk_l1_tied");
}

#[test]
fn jumprelu() {
    ten_steps("jumprelu");
}

#[test]
fn jumprelu_sink() {
    ten_steps("jumprelu_sink");
}

#[test]
fn jumprelu_tied_l1_auxk() {
    ten_steps("jumprelu_tied_l1_auxk");
}

#[test]
fn gated() {
    ten_steps("gated");
}

#[test]
fn gated_free_auxk() {
    ten_steps("gated_free_auxk");
}

#[test]
fn gated_tied_nobias() {
    ten_steps("gated_tied_nobias");
}

#[test]
fn sigmoid_kl() {
    ten_steps("sigmoid_kl");
}

#[test]
fn sigmoid_kl_tied() {
    ten_steps("sigmoid_kl_tied");
}

#[test]
fn cross_entropy() {
    ten_steps("cross_entropy");
}

#[test]
fn cross_entropy_sigmoid() {
    ten_steps("cross_entropy_sigmoid");
}

#[test]
fn matryoshka() {
    ten_steps("matryoshka");
}

#[test]
fn matryoshka_topk_tied() {
    ten_steps("matryoshka_topk_tied");
}

#[test]
fn matryoshka_gated() {
    ten_steps("matryoshka_gated");
}

#[test]
fn matryoshka_cross_entropy() {
    ten_steps("matryoshka_cross_entropy");
}

#[test]
fn denoising() {
    ten_steps("denoising");
}

#[test]
fn consistency_of_two() {
    let golden = Golden::open("consistency");
    let x = golden.mat("x");
    let isa = Isa::current();
    let mut engines = [engine(isa, &golden, "init.0"), engine(isa, &golden, "init.1")];
    let matches = vec![golden.vec("match").iter().map(|&m| m as u32).collect::<Vec<_>>()];
    let (lr, recon, loss) = (golden.vec("lr"), golden.mat("loss.recon"), golden.vec("loss.consistency"));
    let mut gradients = vec![Mat::zeros(64, 24); 2];
    for (t, &lr) in lr.iter().enumerate() {
        let batch = MatRef::new(16, 24, &x.data()[16 * t * 24..][..16 * 24]);
        let decoders = [engines[0].sae().decoder_rows(), engines[1].sae().decoder_rows()];
        let extra = consistency(isa, golden.number("consistency"), &decoders, &matches, &mut gradients);
        assert_loss_close("consistency", t, extra, loss[t]);
        for (s, engine) in engines.iter_mut().enumerate() {
            let losses = engine.step(batch, f64::from(lr), Some((&gradients[s], extra))).expect("a finite step");
            assert_loss_close("reconstruction loss", t, losses.recon, recon.row(t)[s]);
        }
    }
    for (s, engine) in engines.iter().enumerate() {
        compare_end(&golden, engine.sae(), &format!("{s}."));
    }
}
