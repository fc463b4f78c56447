//! The sparse autoencoder: an activation × a weight layout, encode and decode. How it is trained is in `model/step.rs`,
//! how it begins in `model/init.rs`; files are the business of `format`.

mod asked;
mod encode;
pub mod init;
pub mod screen;
pub mod step;

use crate::activation::{self, Activation, Candidates};
use crate::error::{Error, Result};
use crate::kernels::{Isa, PerThread, large_pages, spill_len};
use crate::matrix::{Aligned, Latents, Mat, MatMut, MatRef, Panels};
use rayon::prelude::*;
use screen::{Kept, Screen};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most weights a matrix may have: an encoder of 2⁴⁰ values would be four terabytes.
const MAX_WEIGHTS: usize = 1 << 40;

/// What a sparse autoencoder is, without its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// D, values a row.
    pub d_in: usize,
    /// H, number of latents.
    pub latents: usize,
    /// Which pre-activations become latents.
    pub activation: Activation,
    /// Active latents a row, 1..=H: as many as are kept (topk, the mean of batchtopk), else what training steers to.
    pub k: usize,
    /// Selected values ≤ 0 are dropped (default); off: kept raw, as the seeds do.
    pub relu_after: bool,
    /// Decoder = row-normalised encoder, one buffer; else a decoder of its own with rows of unit length.
    pub tied: bool,
    /// `b_dec` is learned, added to the reconstruction and subtracted from the input.
    pub decoder_bias: bool,
    /// What the decoder's sum goes through.
    #[serde(default, skip_serializing_if = "Output::is_linear")]
    pub output: Output,
    /// Rows of an own decoder may have any length (else 1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free_decoder: bool,
}

/// What the decoder's sum goes through to become the reconstruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Nothing.
    #[default]
    Linear,
    /// `1/(1 + e⁻ʸ)`: what cross-entropy trains.
    Sigmoid,
}

impl Output {
    fn is_linear(&self) -> bool {
        *self == Output::Linear
    }
}

/// `1/(1 + e⁻ʸ)`
#[inline]
pub fn sigmoid(y: f32) -> f32 {
    1.0 / (1.0 + (-y).exp())
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
    /// Whether every latent is active in every row.
    pub fn is_dense(&self) -> bool {
        self.activation == Activation::Sigmoid
    }

    /// Lengths of the parameters that only some activations have: `threshold`, `b_gate`, `r_mag`.
    pub(crate) fn own_lengths(&self) -> [usize; 3] {
        match self.activation {
            Activation::BatchTopK => [1, 0, 0],
            Activation::JumpRelu => [self.latents, 0, 0],
            Activation::Gated => [0, self.latents, self.latents],
            Activation::TopK | Activation::Relu | Activation::Sigmoid => [0; 3],
        }
    }

    /// Checks that such a model can be.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first option that is out of range.
    pub fn check(&self) -> Result<()> {
        if self.d_in == 0 {
            return Err(Error::option("data", "at least one column", 0, "the rows are empty"));
        }
        if self.latents == 0 {
            return Err(Error::option("--latents", "at least 1", 0, "give the number of features to learn"));
        }
        if self.latents.checked_mul(self.d_in).is_none_or(|n| n > MAX_WEIGHTS) || self.latents > u32::MAX as usize {
            let most = (MAX_WEIGHTS / self.d_in).min(u32::MAX as usize);
            return Err(Error::option(
                "--latents",
                format!("at most {most} for rows of {} values", self.d_in),
                self.latents,
                "choose a smaller dictionary",
            ));
        }
        if self.k == 0 || self.k > self.latents {
            return Err(Error::option(
                "-k",
                format!("1 to {} (the number of latents)", self.latents),
                self.k,
                "choose how many latents a row may use",
            ));
        }
        if !self.relu_after && self.activation != Activation::TopK {
            let remedy = "leave out --raw-topk: only topk can keep values below 0";
            return Err(Error::option("--raw-topk", "the activation topk", self.activation.name(), remedy));
        }
        if self.free_decoder && self.tied {
            let remedy = "leave one of them out: a tied decoder is the encoder with rows of unit length";
            return Err(Error::option("--free-decoder", "a decoder of its own", "--tied", remedy));
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
/// `W_enc [H, D]`, `W_dec [H, D]` (row = latent; tied: `W_enc` with rows brought to unit length), `b_enc [H]`,
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
    /// Belongs to `W_enc` as it is.
    kept: Kept,
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

/// The instruction set of encoding and decoding, and their scratch memory, which is kept between calls.
#[derive(Debug)]
pub struct Workspace {
    isa: Isa,
    centred: Mat,
    pre_acts: Panels,
    /// Whether a screen looked at the batch: `pre_acts` has the rows that it left.
    screened: bool,
    /// The input of these.
    some: Aligned,
    screen: Screen,
    candidates: PerThread<Candidates>,
    spill: PerThread<Aligned>,
    /// Rows of the encoder beside each other, and their biases.
    gathered: PerThread<(Aligned, Vec<f32>)>,
    coefs: PerThread<Vec<f32>>,
    /// Latents of the fullest row of the batch before, and some more.
    room: usize,
    /// The smallest value that the batch before kept: a guess for this one.
    guess: f32,
    bits: Vec<u32>,
    /// What the product of the last batch took.
    product: Duration,
}

impl Default for Workspace {
    /// A workspace with the fastest instruction set of this CPU.
    fn default() -> Self {
        Workspace::new(Isa::current())
    }
}

impl Workspace {
    /// A workspace with this instruction set. It changes speed only, never a result.
    pub fn new(isa: Isa) -> Workspace {
        Workspace {
            isa,
            centred: Mat::default(),
            pre_acts: Panels::default(),
            screened: false,
            some: Aligned::default(),
            screen: Screen::default(),
            candidates: PerThread::default(),
            spill: PerThread::default(),
            gathered: PerThread::default(),
            coefs: PerThread::default(),
            room: 0,
            guess: 0.0,
            bits: Vec::new(),
            product: Duration::ZERO,
        }
    }

    /// The smallest value that the B·k largest of the last batch hold; 0 where there was none.
    fn least_kept(&self) -> f32 {
        self.guess
    }

    fn prepare(&mut self, rows: usize, config: &Config) {
        self.candidates.grow();
        self.spill.grow();
        self.coefs.grow();
        let most = config.latents.max(activation::full(config.k));
        for (candidates, coefs) in self.candidates.iter_mut().zip(self.coefs.iter_mut()) {
            candidates.prepare(most);
            reserve(coefs, config.latents);
        }
        let need = spill_len(rows, config.d_in);
        for spill in self.spill.iter_mut() {
            spill.resize(need);
        }
        if config.decoder_bias {
            self.centred.reserve(rows, config.d_in);
        }
    }
}

/// Room for `n` values in all; allocates only when it grows.
pub(crate) fn reserve<T>(v: &mut Vec<T>, n: usize) {
    v.reserve(n.saturating_sub(v.len()));
}

#[allow(non_snake_case)]
impl Sae {
    /// A model from its weights.
    ///
    /// # Errors
    /// [`Error::Option`] for an impossible configuration or weights of another shape than it says.
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
        for ((name, values), len) in
            [("threshold", &threshold), ("b_gate", &b_gate), ("r_mag", &r_mag)].into_iter().zip(config.own_lengths())
        {
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
            large_pages(w.pages());
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
            kept: Kept::default(),
        };
        if config.tied {
            let isa = Isa::current();
            sae.inv_norm = (0..config.latents).map(|h| inverse_norm(isa, sae.W_enc.row(h))).collect();
        }
        Ok(sae)
    }

    /// What it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Encoder `[H, D]`.
    pub fn W_enc(&self) -> MatRef<'_> {
        self.W_enc.view()
    }

    /// Decoder `[H, D]`, none when tied.
    pub fn W_dec(&self) -> Option<MatRef<'_>> {
        self.W_dec.as_ref().map(Mat::view)
    }

    /// Encoder bias `[H]`.
    pub fn b_enc(&self) -> &[f32] {
        &self.b_enc
    }

    /// Decoder bias `[D]`.
    pub fn b_dec(&self) -> Option<&[f32]> {
        self.b_dec.as_deref()
    }

    /// What pre-activations must exceed: jumprelu `[H]`, batchtopk `[1]`, else empty.
    pub fn threshold(&self) -> &[f32] {
        &self.threshold
    }

    /// Bias of the gate `[H]`, empty but for gated.
    pub fn b_gate(&self) -> &[f32] {
        &self.b_gate
    }

    /// Logarithm of the gain of the magnitudes `[H]`, empty but for gated.
    pub fn r_mag(&self) -> &[f32] {
        &self.r_mag
    }

    /// The decoder's rows as they stand: `W_dec`, or, tied, `W_enc` before its rows are brought to unit length.
    pub fn decoder_rows(&self) -> MatRef<'_> {
        self.W_dec.as_ref().unwrap_or(&self.W_enc).view()
    }

    /// What brings a row of [`Sae::decoder_rows`] to the direction that decoding adds: 1 untied, tied 1/‖W_enc[h]‖.
    pub fn decoder_scale(&self, latent: usize) -> f32 {
        if self.config.tied { self.inv_norm[latent] } else { 1.0 }
    }

    /// One decoder direction: the picture of a feature `[D]`.
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
        self.begin_sum(out, 0);
        let mut coefs = work.coefs.lock();
        let (index, value) = latents.row(b);
        self.add_features(work.isa, out, index, value, &mut coefs, self.decoder_rows().data());
    }

    /// `out` = columns of `b_dec` from `first` on, which every sum of features begins with.
    fn begin_sum(&self, out: &mut [f32], first: usize) {
        match &self.b_dec {
            Some(b_dec) => out.copy_from_slice(&b_dec[first..first + out.len()]),
            None => out.fill(0.0),
        }
    }

    /// What the rows of the decoder count in a sum of their directions: the values, of tied ones over their lengths.
    fn counts<'a>(&self, index: &[u32], value: &'a [f32], scratch: &'a mut [f32]) -> &'a [f32] {
        if !self.config.tied {
            return value;
        }
        for ((c, &h), &v) in scratch.iter_mut().zip(index).zip(value) {
            *c = v * self.inv_norm[h as usize];
        }
        &scratch[..index.len()]
    }

    /// `out += Σ_j value[j] · decoder direction index[j]`.
    fn add_features(
        &self,
        isa: Isa,
        out: &mut [f32],
        index: &[u32],
        value: &[f32],
        coefs: &mut Vec<f32>,
        rows: &[f32],
    ) {
        if coefs.len() < index.len() {
            coefs.resize(index.len(), 0.0);
        }
        isa.add_rows(out, self.counts(index, value, coefs), index, rows);
    }

    /// A model of these latents alone, in this order; k falls to their number where it is larger.
    ///
    /// # Errors
    /// [`Error::Option`] for no latent at all.
    ///
    /// # Panics
    /// If a latent is not there.
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
            threshold: match self.config.activation {
                Activation::BatchTopK => self.threshold.clone(),
                _ => pick(&self.threshold),
            },
            b_gate: pick(&self.b_gate),
            r_mag: pick(&self.r_mag),
        };
        Sae::new(config, weights)
    }

    /// Folds a scale of the data into the weights: a model trained on rows multiplied by `factor` becomes the model
    /// that acts on the rows as they are. Only biases and thresholds change, since the model is homogeneous (those with a
    /// sigmoid are not, and are trained on rows as they are).
    pub fn unscale(&mut self, factor: f32) {
        let all = [&mut self.b_enc, &mut self.threshold, &mut self.b_gate];
        all.into_iter().chain(&mut self.b_dec).flatten().for_each(|b| *b /= factor);
    }

    /// The weights, by name.
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
