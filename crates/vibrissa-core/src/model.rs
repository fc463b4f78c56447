//! The sparse autoencoder: an activation × a weight layout, encode and decode. Training steps are in `model/step.rs`,
//! initial weights that need no data in `model/init.rs`. No files here: see `format`.

mod encode;
pub mod init;
mod prefilter;
pub mod step;
mod workspace;

pub use crate::activation::sigmoid::sigmoid;
use crate::activation::{Activation, ParameterLengths};
use crate::error::{Error, Result};
use crate::kernels::{Isa, advise_large_pages};
use crate::matrix::{Latents, Mat, MatMut, MatRef};
use prefilter::RoundedEncoder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
pub use workspace::Workspace;

/// Most weights a matrix may have: an encoder of 2⁴⁰ values would be four terabytes.
const MAX_WEIGHTS: usize = 1 << 40;

/// The configuration of a sparse autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// D, values a row.
    pub d_in: usize,
    /// H, number of latents.
    pub latents: usize,
    /// The function that turns pre-activations into latents.
    pub activation: Activation,
    /// Active latents a row, 1..=H: fixed by topk, fixed in the mean by batchtopk, else a target for the mean.
    pub k: usize,
    /// True if selected values ≤ 0 are dropped (default); false if topk keeps them, as the baseline recipe does.
    pub relu_after: bool,
    /// True if the decoder is the encoder with rows of unit length, in one buffer; else it has separate weights.
    pub tied: bool,
    /// True if a bias `b_dec` is learned, added to the reconstruction and subtracted from the input.
    pub decoder_bias: bool,
    /// The function between the decoder's sum and the reconstruction.
    #[serde(default, skip_serializing_if = "Output::is_linear")]
    pub output: Output,
    /// True if the rows of an untied decoder may have any length; else they have unit length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free_decoder: bool,
}

/// The function between the decoder's sum and the reconstruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// The identity.
    #[default]
    Linear,
    /// `1/(1 + e⁻ʸ)`, for cross-entropy.
    Sigmoid,
}

impl Output {
    fn is_linear(&self) -> bool {
        *self == Output::Linear
    }
}

impl Default for Config {
    /// A TopK model of no size yet.
    fn default() -> Self {
        Config {
            d_in: 0,
            latents: 0,
            activation: Activation::TopK,
            k: 0,
            relu_after: true,
            tied: false,
            decoder_bias: true,
            output: Output::Linear,
            free_decoder: false,
        }
    }
}

impl Config {
    /// Returns the lengths of the parameters that only some activations have.
    pub fn parameter_lengths(&self) -> ParameterLengths {
        self.activation.parameter_lengths(self.latents)
    }

    /// Checks that a model can have this configuration.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first option that is out of range.
    pub fn check(&self) -> Result<()> {
        if self.d_in == 0 {
            return Err(Error::option("data", "at least one column", 0, "the rows are empty"));
        }
        if self.latents == 0 {
            return Err(Error::option("latents", "at least 1", 0, "give the number of features to learn"));
        }
        if self.latents.checked_mul(self.d_in).is_none_or(|n| n > MAX_WEIGHTS) || self.latents > u32::MAX as usize {
            let most = (MAX_WEIGHTS / self.d_in).min(u32::MAX as usize);
            return Err(Error::option(
                "latents",
                format!("at most {most} for rows of {} values", self.d_in),
                self.latents,
                "choose a smaller dictionary",
            ));
        }
        if self.k == 0 || self.k > self.latents {
            return Err(Error::option(
                "k",
                format!("1 to {} (the number of latents)", self.latents),
                self.k,
                "choose how many latents a row may use",
            ));
        }
        if !self.relu_after && self.activation != Activation::TopK {
            let remedy = "leave out `raw_topk`: only topk can keep values below 0";
            return Err(Error::option("raw_topk", "the activation topk", self.activation.name(), remedy));
        }
        if self.free_decoder && self.tied {
            let remedy = "leave one of them out: a tied decoder is the encoder with rows of unit length";
            return Err(Error::option("free_decoder", "an untied decoder", "`tied`", remedy));
        }
        Ok(())
    }
}

/// A sparse autoencoder.
///
/// ```text
/// pre_acts = (x - b_dec) W_encᵀ + b_enc      latents = activation(pre_acts)      recon = latents W_dec + b_dec
/// ```
///
/// # Shapes
/// `W_enc [H, D]`, `W_dec [H, D]` (row = latent; tied: `W_enc` with rows scaled to unit length), `b_enc [H]`,
/// `b_dec [D]` (absent: zero and not subtracted).
#[derive(Clone, Debug, PartialEq)]
#[allow(non_snake_case)]
pub struct Sae {
    config: Config,
    W_enc: Mat,
    W_dec: Option<Mat>,
    b_enc: Vec<f32>,
    b_dec: Option<Vec<f32>>,
    threshold: Vec<f32>,
    b_gate: Vec<f32>,
    r_mag: Vec<f32>,
    /// Tied: 1/‖W_enc[h]‖ (0 for a zero row); untied: empty.
    inv_norm: Vec<f32>,
    /// `W_enc` rounded for the prefilter; to be reset when `W_enc` changes.
    rounded: RoundedEncoder,
}

/// The weights of an [`Sae`] by name.
#[derive(Clone, Debug, Default)]
#[allow(non_snake_case)]
pub struct Weights {
    /// `[H, D]`
    pub W_enc: Mat,
    /// `[H, D]`, none when tied.
    pub W_dec: Option<Mat>,
    /// `[H]`
    pub b_enc: Vec<f32>,
    /// `[D]`, none without decoder bias.
    pub b_dec: Option<Vec<f32>>,
    /// θ ≥ 0: jumprelu `[H]`, batchtopk `[1]` (what inference compares with), else empty.
    pub threshold: Vec<f32>,
    /// gated `[H]`, else empty.
    pub b_gate: Vec<f32>,
    /// gated `[H]`, else empty.
    pub r_mag: Vec<f32>,
}

/// Reserves memory for `n` values in all; allocates only when it grows.
pub(crate) fn reserve<T>(v: &mut Vec<T>, n: usize) {
    v.reserve(n.saturating_sub(v.len()));
}

#[allow(non_snake_case)]
impl Sae {
    /// A model from its weights.
    ///
    /// # Errors
    /// [`Error::Option`] for a configuration that is out of range, or weights of another shape than it asks for.
    pub fn new(config: Config, weights: Weights) -> Result<Sae> {
        config.check()?;
        let Weights { mut W_enc, mut W_dec, b_enc, b_dec, threshold, b_gate, r_mag } = weights;
        let want = |name: &str, want: String, got: String| {
            if want == got { Ok(()) } else { Err(Error::option(name, want, got, "the model is broken")) }
        };
        let shape = |m: &Mat| format!("[{}, {}]", m.rows(), m.cols());
        let full = format!("[{}, {}]", config.latents, config.d_in);
        want("W_enc", full.clone(), shape(&W_enc))?;
        want("W_dec", if config.tied { "none".into() } else { full }, W_dec.as_ref().map_or("none".into(), shape))?;
        want("b_enc", format!("[{}]", config.latents), format!("[{}]", b_enc.len()))?;
        let bias = if config.decoder_bias { format!("[{}]", config.d_in) } else { "none".into() };
        want("b_dec", bias, b_dec.as_ref().map_or("none".into(), |b| format!("[{}]", b.len())))?;
        let lengths = config.parameter_lengths();
        for (name, values, len) in [
            ("threshold", &threshold, lengths.threshold),
            ("b_gate", &b_gate, lengths.b_gate),
            ("r_mag", &r_mag, lengths.r_mag),
        ] {
            want(name, format!("[{len}]"), format!("[{}]", values.len()))?;
        }
        let finite = |v: &[f32]| v.par_iter().all(|x| x.is_finite());
        for (name, values) in [
            ("W_enc", Some(W_enc.data())),
            ("W_dec", W_dec.as_ref().map(Mat::data)),
            ("b_enc", Some(&b_enc[..])),
            ("b_dec", b_dec.as_deref()),
            ("threshold", Some(&threshold[..])),
            ("b_gate", Some(&b_gate[..])),
            ("r_mag", Some(&r_mag[..])),
        ] {
            if values.is_some_and(|v| !finite(v)) {
                return Err(Error::option(name, "finite weights", "NaN or infinity", "the model is broken"));
            }
        }
        if threshold.iter().any(|&t| t < 0.0) {
            return Err(Error::option("threshold", "0 or more", "a negative one", "the model is broken"));
        }
        for w in std::iter::once(&mut W_enc).chain(&mut W_dec) {
            advise_large_pages(w.page_range());
        }
        let mut sae = Sae {
            config,
            W_enc,
            W_dec,
            b_enc,
            b_dec,
            threshold,
            b_gate,
            r_mag,
            inv_norm: Vec::new(),
            rounded: RoundedEncoder::default(),
        };
        if config.tied {
            let isa = Isa::current();
            sae.inv_norm = (0..config.latents).map(|h| inverse_norm(isa, sae.W_enc.row(h))).collect();
        }
        Ok(sae)
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the encoder `[H, D]`.
    pub fn W_enc(&self) -> MatRef<'_> {
        self.W_enc.view()
    }

    /// Returns the decoder `[H, D]`; `None` when tied.
    pub fn W_dec(&self) -> Option<MatRef<'_>> {
        self.W_dec.as_ref().map(Mat::view)
    }

    /// Returns the encoder bias `[H]`.
    pub fn b_enc(&self) -> &[f32] {
        &self.b_enc
    }

    /// Returns the decoder bias `[D]`, if there is one.
    pub fn b_dec(&self) -> Option<&[f32]> {
        self.b_dec.as_deref()
    }

    /// Returns the thresholds that pre-activations must exceed: jumprelu `[H]`, batchtopk `[1]`, else empty.
    pub fn threshold(&self) -> &[f32] {
        &self.threshold
    }

    /// Returns the biases of the gate `[H]`; empty unless gated.
    pub fn b_gate(&self) -> &[f32] {
        &self.b_gate
    }

    /// Returns the logarithms of the magnitudes' gains `[H]`; empty unless gated.
    pub fn r_mag(&self) -> &[f32] {
        &self.r_mag
    }

    /// Returns the rows that the decoder is made of: `W_dec`, or, tied, `W_enc`, whose rows are not of unit length.
    pub fn decoder_rows(&self) -> MatRef<'_> {
        self.W_dec.as_ref().unwrap_or(&self.W_enc).view()
    }

    /// Returns the factor that turns a row of [`Sae::decoder_rows`] into the decoder direction: 1 untied, tied
    /// 1/‖W_enc[h]‖.
    pub fn decoder_scale(&self, latent: usize) -> f32 {
        if self.config.tied { self.inv_norm[latent] } else { 1.0 }
    }

    /// Returns the decoder direction of a latent `[D]`.
    pub fn feature(&self, latent: usize) -> Vec<f32> {
        let row = self.decoder_rows().row(latent);
        let scale = self.decoder_scale(latent);
        row.iter().map(|&w| w * scale).collect()
    }

    /// `recon = latents W_dec + b_dec`, through the sigmoid where the output has one.
    ///
    /// # Shapes
    /// `latents [B, H]` → `recon [B, D]`.
    pub fn decode(&self, latents: &Latents, work: &Workspace, mut recon: MatMut) {
        let dim = self.config.d_in;
        self.decode_logits(latents, work, recon.reborrow());
        if self.config.output == Output::Sigmoid {
            recon.data().par_chunks_mut(dim).for_each(|out| out.iter_mut().for_each(|y| *y = sigmoid(*y)));
        }
    }

    /// [`Sae::decode`] before the output's sigmoid.
    pub fn decode_logits(&self, latents: &Latents, work: &Workspace, mut sums: MatMut) {
        let dim = self.config.d_in;
        sums.data().par_chunks_mut(dim).enumerate().for_each(|(b, out)| self.decode_row(latents, b, work, out));
    }

    /// [`Sae::decode`] of row `b`, before the output's sigmoid.
    fn decode_row(&self, latents: &Latents, b: usize, work: &Workspace, out: &mut [f32]) {
        self.fill_with_bias(out, 0);
        let mut coefs = work.coefs.lock();
        let (index, value) = latents.row(b);
        self.add_features(work.isa, out, index, value, &mut coefs);
    }

    /// Fills `out` with the columns of `b_dec` from `first` on, or zeros: the initial value of every sum of features.
    fn fill_with_bias(&self, out: &mut [f32], first: usize) {
        match &self.b_dec {
            Some(b_dec) => out.copy_from_slice(&b_dec[first..first + out.len()]),
            None => out.fill(0.0),
        }
    }

    /// Returns the coefficients of decoder rows in a sum of latents times directions: the values, divided by the rows'
    /// lengths when tied.
    fn decoder_coefs<'a>(&self, index: &[u32], value: &'a [f32], scratch: &'a mut [f32]) -> &'a [f32] {
        if !self.config.tied {
            return value;
        }
        for ((c, &h), &v) in scratch.iter_mut().zip(index).zip(value) {
            *c = v * self.inv_norm[h as usize];
        }
        &scratch[..index.len()]
    }

    /// `out += Σ_j value[j] · decoder direction index[j]`.
    fn add_features(&self, isa: Isa, out: &mut [f32], index: &[u32], value: &[f32], coefs: &mut Vec<f32>) {
        if coefs.len() < index.len() {
            coefs.resize(index.len(), 0.0);
        }
        isa.add_rows(out, self.decoder_coefs(index, value, coefs), index, self.decoder_rows().data());
    }

    /// Returns a model of these latents alone, in this order; its k is at most their number.
    ///
    /// # Errors
    /// [`Error::Option`] for an empty list.
    ///
    /// # Panics
    /// If the model does not have one of the latents.
    pub fn subset(&self, latents: &[usize]) -> Result<Sae> {
        let rows = |m: &Mat| {
            let values = latents.iter().flat_map(|&h| m.row(h).iter().copied()).collect();
            Mat::from_vec(latents.len(), self.config.d_in, values)
        };
        let pick = |v: &[f32]| latents.iter().filter_map(|&h| v.get(h).copied()).collect();
        let config = Config { latents: latents.len(), k: self.config.k.min(latents.len()), ..self.config };
        let weights = Weights {
            W_enc: rows(&self.W_enc),
            W_dec: self.W_dec.as_ref().map(rows),
            b_enc: latents.iter().map(|&h| self.b_enc[h]).collect(),
            b_dec: self.b_dec.clone(),
            threshold: match self.config.activation.calibrates_threshold() {
                // One for all latents.
                true => self.threshold.clone(),
                false => pick(&self.threshold),
            },
            b_gate: pick(&self.b_gate),
            r_mag: pick(&self.r_mag),
        };
        Sae::new(config, weights)
    }

    /// Folds a scale of the data into the weights: a model trained on rows multiplied by `factor` becomes the model of
    /// the rows themselves. Only biases and thresholds change, since the model is homogeneous (models with a sigmoid
    /// are not, and are trained on unscaled rows).
    pub fn unscale(&mut self, factor: f32) {
        let all = [&mut self.b_enc, &mut self.threshold, &mut self.b_gate];
        all.into_iter().chain(&mut self.b_dec).flatten().for_each(|b| *b /= factor);
    }

    /// Returns the weights.
    pub fn into_weights(self) -> Weights {
        let Sae { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag, .. } = self;
        Weights { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag }
    }
}

fn inverse_norm(isa: Isa, row: &[f32]) -> f32 {
    inverse_root(isa.dot(row, row))
}

/// `1/√square`, 0 for 0.
fn inverse_root(square: f32) -> f32 {
    let norm = square.sqrt();
    if norm > 0.0 { 1.0 / norm } else { 0.0 }
}
