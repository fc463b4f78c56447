//! What training begins with.

use super::{DataFacts, TrainOptions};
use crate::activation::Activation;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::init::{Init, Sample, init};
use crate::matrix::Mat;
use crate::model::Sae;
use crate::random::Stream;
use rayon::prelude::*;

/// Whether there can be such a training, of these rows.
///
/// # Errors
/// [`Error::Option`] naming the option.
pub fn check(data: &Dataset, rows: &[usize], facts: &DataFacts, options: &TrainOptions) -> Result<()> {
    options.check()?;
    options.model(facts.dim).check()?;
    if options.perceptual > 0.0 && data.shape().is_none() {
        let remedy = "leave it out: rows of numbers have no edges";
        return Err(Error::option("--perceptual", "pictures", "rows of numbers", remedy));
    }
    if rows.is_empty() {
        return Err(Error::option("data", "at least one row to train on", "none", "hold out fewer rows or add data"));
    }
    Ok(())
}

/// The models before the first step, in the scale of training, and in words what they begin with.
///
/// # Errors
/// [`Error::Option`] for a model that cannot be.
pub fn begin(
    data: &Dataset,
    rows: &[usize],
    facts: &DataFacts,
    options: &TrainOptions,
) -> Result<(Vec<Sae>, Option<&'static str>)> {
    let looked_at = if options.init.needs_rows() { rows } else { &[] };
    let (sample, held) = sample(data, looked_at, options.seed);
    let sample = Sample { mean: &facts.mean, rows: sample.view(), held, shape: data.shape() };
    // Thresholds begin where k latents are active.
    let judged = (options.activation != Activation::TopK).then(|| {
        let some: Vec<usize> = crate::data::split::evenly_spaced(rows, JUDGED);
        let mut out = Mat::zeros(some.len(), facts.dim);
        data.fill(&some, 0, out.view_mut());
        out
    });
    let one = |s: usize| {
        let (mut sae, with) = init(options.model(facts.dim), options.init, options.seed, s as u64, sample)?;
        if let Some(rows) = &judged {
            sae.set_initial_sparsity(options.k_at(0), rows.view());
        }
        Ok((sae, with))
    };
    // What looks at rows needs memory beside the weights: one after the other.
    let begun: Result<Vec<_>> = if options.init.needs_rows() {
        (0..options.saes).map(one).collect()
    } else {
        (0..options.saes).into_par_iter().map(one).collect()
    };
    let begun = begun?;
    let began = begun.first().map(|b| b.1);
    Ok((begun.into_iter().map(|b| b.0).collect(), began))
}

/// What decides the outcome of [`begin`]: equal texts begin equal.
pub fn beginning(options: &TrainOptions) -> String {
    let o = options;
    let k = if o.init == Init::Auto || o.activation != Activation::TopK { [o.k, o.k_at(0)] } else { [0; 2] };
    let model = (o.activation, o.latents, k, o.tied, o.raw_topk, o.no_decoder_bias, o.free_decoder, o.loss);
    format!("{model:?} {:?} {} {}", o.init, o.seed, o.saes)
}

/// Training rows that thresholds begin with, at most.
const JUDGED: usize = 1024;

/// One original in so many decides between beginnings, at most so many rows.
const HELD: (usize, usize) = (10, 2048);

/// Training rows in a random order, each with its variants, as many as [`sample_size`] allows; and how many of the first
/// ones decide.
fn sample(data: &Dataset, rows: &[usize], seed: u64) -> (Mat, usize) {
    let mut originals: Vec<usize> = rows.iter().map(|&r| data.original(r)).collect();
    originals.dedup();
    Stream::new(seed, "sample", &[]).shuffle(&mut originals);
    let (order, copies) = data.sample_rows(&originals, sample_size(data.dim()), seed);
    let held = (order.len() / copies / HELD.0).min(HELD.1 / copies) * copies;
    let mut out = Mat::zeros(order.len(), data.dim());
    data.fill(&order, 0, out.view_mut());
    (out, held)
}

/// Rows that an initialisation looks at: enough for a covariance of narrow rows; of wide ones as many as have a
/// decomposition in seconds.
fn sample_size(dim: usize) -> usize {
    if dim <= 2048 { 16384 } else { 2048 }
}
