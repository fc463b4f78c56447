//! Plots and reports of vibrissa: records in, SVG, PNG, HTML and Markdown out. Computes no figure and reads no model or
//! data.

pub mod plot;
pub mod report;
