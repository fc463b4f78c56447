//! Rows of numbers from image files, array files or a generator of synthetic rows. Knows no models.
//!
//! files → [`LoadedRows`](rows::LoadedRows) (originals with names and classes) → [`Dataset`] → batches of f32.

pub mod arrays;
pub mod augment;
pub mod block;
mod dataset;
pub mod images;
pub mod metadata;
pub mod npz;
pub mod patches;
pub mod rows;
pub mod split;
pub mod synthetic;

pub use dataset::Dataset;
