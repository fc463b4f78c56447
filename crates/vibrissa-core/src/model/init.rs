//! Initial weights that need no data. Initialisation from training rows is in the front crate (`vibrissa::init`).

use super::{Config, Sae, Weights};
use crate::error::Result;
use crate::kernels::{Isa, advise_large_pages};
use crate::matrix::Mat;
use crate::optim::normalise;
use crate::random::Stream;
use rayon::prelude::*;

/// Returns a model with the given encoder rows.
///
/// Without `decoder`, the initial decoder is the encoder; its rows are scaled to unit length. `b_dec` is `mean`, all
/// other parameters are 0.
///
/// # Shapes
/// `encoder` and `decoder` `[H, D]`, `mean` `[D]`.
///
/// # Errors
/// [`crate::Error::Option`] for a configuration that is out of range.
pub fn from_directions(config: Config, encoder: Mat, decoder: Option<Mat>, mean: &[f32]) -> Result<Sae> {
    let (isa, dim) = (Isa::current(), config.d_in);
    let decoder = (!config.tied).then(|| {
        let mut decoder = decoder.unwrap_or_else(|| encoder.clone());
        decoder.data_mut().par_chunks_mut(dim).for_each(|row| normalise(isa, row));
        decoder
    });
    let b_dec = config.decoder_bias.then(|| mean.to_vec());
    let lengths = config.parameter_lengths();
    let [threshold, b_gate, r_mag] = [lengths.threshold, lengths.b_gate, lengths.r_mag].map(|n| vec![0.0; n]);
    let b_enc = vec![0.0; config.latents];
    Sae::new(config, Weights { W_enc: encoder, W_dec: decoder, b_enc, b_dec, threshold, b_gate, r_mag })
}

/// Returns a model whose encoder is uniform in ±1/√D, as in `torch.nn.Linear`. `member` numbers the SAEs of an
/// ensemble: each has its own random numbers.
///
/// # Errors
/// [`crate::Error::Option`] for a configuration that is out of range.
pub fn kaiming(config: Config, mean: &[f32], seed: u64, member: u64) -> Result<Sae> {
    config.check()?;
    from_directions(config, kaiming_rows(config.latents, config.d_in, seed, member), None, mean)
}

/// Returns `rows` random rows, uniform in ±1/√D.
pub fn kaiming_rows(rows: usize, dim: usize, seed: u64, member: u64) -> Mat {
    random_rows(rows, dim, |h, row| {
        let (mut s, bound) = (Stream::new(seed, "kaiming", &[member, h]), 1.0 / (dim as f64).sqrt());
        row.iter_mut().for_each(|v| *v = ((2.0 * s.uniform() - 1.0) * bound) as f32);
    })
}

/// Returns `rows` rows of `dim` values, row `h` filled by `fill(h, row)`, in parallel.
pub fn random_rows(rows: usize, dim: usize, fill: impl Fn(u64, &mut [f32]) + Sync) -> Mat {
    let mut out = Mat::zeros(rows, dim);
    advise_large_pages(out.page_range());
    out.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| fill(h as u64, row));
    out
}
