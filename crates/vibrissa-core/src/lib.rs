//! Sparse autoencoders on CPUs: kernels, encoding and decoding, one training step of every architecture, and model files.
//! Knows no data sets, no images and no reports: rows come in as matrices, models go out as [`model::Sae`] or safetensors.
//!
//! Conventions: matrices are row-major f32, `[rows, cols]`; a row of `W_enc` and `W_dec` `[H, D]` is one latent; ties go
//! to the lower index; reported sums are kept in f64; the number of threads never changes a result.
//! B = rows of a batch, D = values a row, H = latents, k = active latents a row.

pub mod activation;
pub mod error;
pub mod format;
pub mod io;
pub mod kernels;
pub mod loss;
pub mod matrix;
pub mod model;
pub mod optim;
pub mod random;
pub mod shape;

pub use error::{Error, Result};
