//! vibrissa trains sparse autoencoders on images or on any rows of numbers, and says how good they are.

pub mod activation;
pub mod data;
pub mod error;
pub mod kernels;
pub mod loss;
pub mod matrix;
pub mod model;
pub mod optim;
pub mod random;

pub use error::{Error, Result};
