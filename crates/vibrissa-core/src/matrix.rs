//! Shapes and storage of values: dense row-major matrices `[rows, cols]` of f32, and sparse latents `[B, H]`. No
//! arithmetic.

mod aligned;
mod by_latent;
mod dense;
mod latents;
mod panels;

pub use aligned::Aligned;
pub use by_latent::{ByLatent, NumberedRows};
pub use dense::{Mat, MatMut, MatRef};
pub use latents::Latents;
pub use panels::{PanelRow, Panels};
