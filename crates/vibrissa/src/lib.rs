//! vibrissa trains sparse autoencoders on images or on any rows of numbers, and says how good they are.

pub mod data;
pub mod error;
pub mod matrix;
pub mod metrics;
pub mod plot;
pub mod record;

pub use error::{Error, Result};
