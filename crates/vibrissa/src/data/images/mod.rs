//! Pictures from a folder: listed, decoded, brought to one size. No model, no split.
mod resample;
pub use resample::fit_to;
