//! Initial weights: random directions, or directions from a sample of the training rows. Those that need no data are in
//! `vibrissa_core::model::init`.

mod dictionary;
mod orthogonal;

use crate::error::Result;
use crate::kernels::Isa;
use crate::matrix::{Mat, MatRef};
use crate::model::{Config, Sae};
use crate::optim::normalise;
use crate::random::Stream;
use crate::shape::ImageShape;
use orthogonal::orthonormalise;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vibrissa_core::model::init::{from_directions, kaiming_rows, random_rows};

/// The initialisation of the encoder's rows. An untied decoder gets the encoder's rows, scaled to unit length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// A dictionary that reconstructs held-out rows of the sample best, ± principal directions or ± cosines
    /// (`init/dictionary.rs`): the default for small data sets.
    Auto,
    /// Orthonormal rows (H ≤ D) or columns (H > D), as `torch.nn.init.orthogonal_` (Saxe et al. 2013, arXiv 1312.6120).
    Orthogonal,
    /// Uniform in ±1/√D, as `torch.nn.Linear`.
    Kaiming,
    /// ± the principal directions of the sample, the strongest first, then orthogonal random ones.
    Pca,
    /// Rows of the sample minus their mean, scaled to unit length; past the last row, differences of two.
    Data,
}

impl Init {
    /// The directions in words; those of `Auto` depend on the rows.
    fn words(self) -> &'static str {
        match self {
            Init::Auto => "",
            Init::Orthogonal => "random orthogonal directions",
            Init::Kaiming => "random directions",
            Init::Pca => "± principal directions",
            Init::Data => "rows of the data",
        }
    }

    /// True if it looks at training rows.
    pub fn needs_rows(self) -> bool {
        matches!(self, Init::Auto | Init::Pca | Init::Data)
    }
}

/// A sample of the training rows.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Mean of all training rows `[D]`.
    pub mean: &'a [f32],
    /// Some training rows `[n, D]`, in random order.
    pub rows: MatRef<'a>,
    /// Number of rows, the first ones, that are only used to choose between dictionaries; the others hold no variants
    /// of them.
    pub held_out: usize,
    /// Shape of the rows where they are images.
    pub shape: Option<ImageShape>,
}

/// Returns the model before its first step, and its initial directions in words. Each member `sae` of an ensemble has
/// its own random numbers.
///
/// # Errors
/// [`crate::Error::Option`] for a configuration that is out of range.
pub fn init(config: Config, how: Init, seed: u64, sae: u64, sample: Sample) -> Result<(Sae, &'static str)> {
    config.check()?;
    let (latents, dim) = (config.latents, config.d_in);
    // A thread count must not change a result, and faer's decompositions depend on theirs.
    faer::set_global_parallelism(faer::Par::Seq);
    let (mut decoder, mut words) = (None, how.words());
    let mut encoder = match how {
        Init::Auto => {
            let found = dictionary::find(&config, seed, sae, sample);
            (decoder, words) = (Some(found.decoder), found.basis);
            found.encoder
        }
        Init::Orthogonal => orthogonal(latents, dim, seed, sae),
        Init::Kaiming => kaiming_rows(latents, dim, seed, sae),
        Init::Pca => principal(latents, seed, sae, sample),
        Init::Data => from_rows(latents, seed, sae, sample),
    };
    let isa = Isa::current();
    if matches!(how, Init::Pca | Init::Data) {
        encoder.data_mut().par_chunks_mut(dim).for_each(|row| normalise(isa, row));
    }
    let sae = from_directions(config, encoder, decoder, sample.mean)?;
    Ok((sae, words))
}

/// Returns orthonormal rows (`rows ≤ dim`) or columns, sampled uniformly.
fn orthogonal(rows: usize, dim: usize, seed: u64, sae: u64) -> Mat {
    let (long, short) = (rows.max(dim), rows.min(dim));
    let mut basis = random_rows(short, long, |h, row| Stream::new(seed, "orthogonal", &[sae, h]).fill_normal(row));
    orthonormalise(&mut basis);
    if rows <= dim {
        return basis;
    }
    let mut out = Mat::zeros(rows, dim);
    out.data_mut().par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
        row.iter_mut().enumerate().for_each(|(j, v)| *v = basis.row(j)[i]);
    });
    out
}

/// Returns ± the principal directions, then random ones.
fn principal(latents: usize, seed: u64, sae: u64, sample: Sample) -> Mat {
    let dim = sample.mean.len();
    let directions = principal_directions(centred(sample).view(), latents.div_ceil(2));
    let mut out = Mat::zeros(latents, dim);
    let n = directions.rows();
    for h in 0..latents {
        let row = out.row_mut(h);
        if h / 2 < n {
            row.copy_from_slice(directions.row(h / 2));
            if h % 2 == 1 {
                row.iter_mut().for_each(|v| *v = -*v);
            }
        } else {
            Stream::new(seed, "pca fill", &[sae, h as u64]).fill_normal(row);
        }
    }
    out
}

/// Returns the sample's rows minus the mean.
fn centred(sample: Sample) -> Mat {
    let dim = sample.mean.len();
    let mut out = Mat::zeros(sample.rows.rows(), dim);
    out.data_mut().par_chunks_mut(dim).enumerate().for_each(|(r, row)| {
        row.iter_mut().zip(sample.rows.row(r)).zip(sample.mean).for_each(|((o, &x), &m)| *o = x - m);
    });
    out
}

/// Returns the leading principal directions of centred rows, at most `most`.
///
/// # Shapes
/// `[≤ most, D]`, rows of unit length by descending variance.
fn principal_directions(centred: MatRef, most: usize) -> Mat {
    let (n, dim) = (centred.rows(), centred.cols());
    let x = faer::mat::MatRef::from_row_major_slice(centred.data(), n, dim);
    let small = n < dim;
    let gram = if small { x * x.transpose() } else { x.transpose() * x };
    let Ok(eigen) = gram.self_adjoint_eigen(faer::Side::Lower) else {
        return Mat::zeros(0, dim);
    };
    let (values, vectors) = (eigen.S(), eigen.U());
    let order = gram.nrows();
    let largest = values[order - 1];
    let chosen: Vec<usize> = (0..order).rev().take(most).filter(|&i| values[i] > 1e-6 * largest).collect();
    let mut out = Mat::zeros(chosen.len(), dim);
    if small {
        let u = faer::Mat::<f32>::from_fn(n, chosen.len(), |i, j| vectors[(i, chosen[j])]);
        let d = x.transpose() * &u;
        out.data_mut()
            .par_chunks_mut(dim)
            .enumerate()
            .for_each(|(j, row)| row.iter_mut().enumerate().for_each(|(i, v)| *v = d[(i, j)]));
    } else {
        out.data_mut()
            .par_chunks_mut(dim)
            .enumerate()
            .for_each(|(j, row)| row.iter_mut().enumerate().for_each(|(i, v)| *v = vectors[(i, chosen[j])]));
    }
    let isa = Isa::current();
    out.data_mut().par_chunks_mut(dim).for_each(|row| normalise(isa, row));
    out
}

/// Returns rows of the sample minus the mean, in random order; past the last one, differences of two random rows.
fn from_rows(latents: usize, seed: u64, sae: u64, sample: Sample) -> Mat {
    let dim = sample.mean.len();
    let n = sample.rows.rows();
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(seed, "data order", &[sae]).shuffle(&mut order);
    let mut out = Mat::zeros(latents, dim);
    out.data_mut().par_chunks_mut(dim).enumerate().for_each(|(h, row)| {
        let mut s = Stream::new(seed, "data", &[sae, h as u64]);
        if h < n {
            row.iter_mut().zip(sample.rows.row(order[h])).zip(sample.mean).for_each(|((o, &x), &m)| *o = x - m);
        } else if n > 1 {
            let (a, b) = (s.below(n as u64) as usize, s.below(n as u64 - 1) as usize);
            let b = if b >= a { b + 1 } else { b };
            let (a, b) = (sample.rows.row(a), sample.rows.row(b));
            row.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = a - b);
        }
        if row.iter().all(|&v| v == 0.0) {
            s.fill_normal(row);
        }
    });
    out
}
