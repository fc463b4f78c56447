//! Rows of numbers from files: images, arrays, or a generator. Data never sees models.

pub mod augment;
pub mod block;
pub mod images;
pub mod rows;
