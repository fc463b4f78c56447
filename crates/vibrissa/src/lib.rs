//! vibrissa trains sparse autoencoders on images or on any rows of numbers, and says how good they are.
//!
//! Flow: files → [`data::Dataset`] → batch `[B, D]` → [`train`] → [`model::Sae`] → sparse [`matrix::Latents`] `[B, H]` →
//! [`record`] (JSON) → whatever displays it. Data never sees models; everything before a record computes, everything
//! after it displays. No printing, no exit, no argument parsing in here.
//!
//! Conventions: matrices are row-major f32, `[rows, cols]`; a row of `W_enc` and `W_dec` `[H, D]` is one latent; pictures
//! are channel-planar; ties go to the lower index; sums that are reported are kept in f64; a thread count never changes
//! a result. B = rows of a batch, D = values a row, H = latents, k = active latents a row.

pub mod activation;
pub mod analysis;
pub mod data;
pub mod error;
pub mod format;
pub mod kernels;
pub mod loss;
pub mod matrix;
pub mod metrics;
pub mod model;
pub mod optim;
pub mod plot;
pub mod random;
pub mod record;
pub mod report;
pub mod sweep;
pub mod train;

pub use error::{Error, Result};
