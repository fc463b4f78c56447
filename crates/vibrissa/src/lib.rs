//! vibrissa trains sparse autoencoders on images or on any rows of numbers, and says how good they are.
//!
//! Flow: files → [`data::Dataset`] → batch `[B, D]` → [`train`] → [`model::Sae`] → sparse [`matrix::Latents`] `[B, H]` →
//! [`record`] (JSON) → whatever displays it. Data never sees models; everything before a record computes, everything
//! after it displays. No printing, no exit, no argument parsing in here.
//!
//! Conventions: matrices are row-major f32, `[rows, cols]`; a row of `W_enc` and `W_dec` `[H, D]` is one latent; images
//! are channel-planar; ties go to the lower index; sums that are reported are kept in f64; a thread count never changes
//! a result. B = rows of a batch, D = values a row, H = latents, k = active latents a row.

pub mod analysis;
pub mod init;
pub mod metrics;
pub mod options;
pub mod run;
pub mod sweep;
pub mod train;

pub use vibrissa_core::{
    Error, Result, activation, error, format, io, kernels, loss, matrix, model, optim, random, shape,
};
pub use vibrissa_data as data;
pub use vibrissa_record as record;
pub use vibrissa_report::{plot, report};
