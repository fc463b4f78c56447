//! Rows of numbers from files: images, arrays, or a generator. Data never sees models.

pub mod arrays;
pub mod block;
pub mod rows;
pub mod synthetic;
