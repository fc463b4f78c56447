//! Initial weights of an ensemble, from options and training rows.

use super::TrainingSet;
use crate::error::{Error, Result};
use crate::init::{Init, Sample, init};
use crate::matrix::Mat;
use crate::model::Sae;
use crate::options::TrainOptions;
use crate::random::Stream;
use rayon::prelude::*;

/// Checks that options fit each other and the training rows.
///
/// # Errors
/// [`Error::Option`] naming the option.
pub fn check(set: &TrainingSet, options: &TrainOptions) -> Result<()> {
    options.check()?;
    options.model(set.facts.dim).check()?;
    if options.perceptual > 0.0 && set.data.shape().is_none() {
        let remedy = "leave it out: rows of numbers have no edges";
        return Err(Error::option("perceptual", "images", "rows of numbers", remedy));
    }
    if set.rows.is_empty() {
        return Err(Error::option("data", "at least one row to train on", "none", "hold out fewer rows or add data"));
    }
    Ok(())
}

/// Returns the initial models in the scale of training, and in words what they were initialised with.
///
/// # Errors
/// [`Error::Option`] for a configuration that is out of range.
pub fn initialise(set: &TrainingSet, options: &TrainOptions) -> Result<(Vec<Sae>, &'static str)> {
    let needs_rows = options.init.needs_rows();
    let (sample, held_out) = sample(set, if needs_rows { &set.rows } else { &[] }, options.seed);
    let sample = Sample { mean: &set.facts.mean, rows: sample.view(), held_out, shape: set.data.shape() };
    // Initial thresholds are set where k latents are active on these rows.
    let threshold_rows = options.activation.is_initialised_from_rows().then(|| {
        let some: Vec<usize> = crate::data::split::evenly_spaced(&set.rows, THRESHOLD_ROWS);
        let mut out = Mat::zeros(some.len(), set.facts.dim);
        set.fill(&some, 0, out.view_mut());
        out
    });
    let one = |s: usize| {
        let (mut sae, with) = init(options.model(set.facts.dim), options.init, options.seed, s as u64, sample)?;
        if let Some(rows) = &threshold_rows {
            sae.set_initial_sparsity(options.k_at(0), rows.view());
        }
        Ok((sae, with))
    };
    // An initialisation from rows needs memory beside the weights: one after the other.
    let models: Result<Vec<_>> = if needs_rows {
        (0..options.saes).map(one).collect()
    } else {
        (0..options.saes).into_par_iter().map(one).collect()
    };
    let models = models?;
    let with = models.first().map_or("", |m| m.1);
    Ok((models.into_iter().map(|m| m.0).collect(), with))
}

/// All options that [`initialise`] depends on, as a text: equal keys give equal models.
pub fn initialisation_key(options: &TrainOptions) -> String {
    let o = options;
    let k = if o.init == Init::Auto || o.activation.is_initialised_from_rows() { [o.k, o.k_at(0)] } else { [0; 2] };
    let model = (o.activation, o.latents, k, o.tied, o.raw_topk, o.no_decoder_bias, o.free_decoder, o.loss);
    format!("{model:?} {:?} {} {}", o.init, o.seed, o.saes)
}

/// Most training rows that initial thresholds are set on.
const THRESHOLD_ROWS: usize = 1024;

/// One in `HELD_OUT.0` sampled originals, at most `HELD_OUT.1` rows, is kept for choosing between initialisations.
const HELD_OUT: (usize, usize) = (10, 2048);

/// Returns training rows in random order, each with its variants, at most [`sample_size`], and the number of leading rows
/// that are kept for choosing between initialisations.
fn sample(set: &TrainingSet, rows: &[usize], seed: u64) -> (Mat, usize) {
    let data = set.data;
    let mut originals: Vec<usize> = rows.iter().map(|&r| data.original(r)).collect();
    originals.dedup();
    Stream::new(seed, "sample", &[]).shuffle(&mut originals);
    let (order, copies) = data.sample_rows(&originals, sample_size(data.dim()), seed);
    let held_out = (order.len() / copies / HELD_OUT.0).min(HELD_OUT.1 / copies) * copies;
    let mut out = Mat::zeros(order.len(), data.dim());
    set.fill(&order, 0, out.view_mut());
    (out, held_out)
}

/// Rows for an initialisation: enough for a covariance of narrow rows; of wide rows, as many as can be decomposed in
/// seconds.
fn sample_size(dim: usize) -> usize {
    if dim <= 2048 { 16384 } else { 2048 }
}
