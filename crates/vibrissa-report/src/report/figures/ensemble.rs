//! Similarity of the SAEs of an ensemble.

use super::{Figure, title};
use crate::plot::matrix::{Matrix, MatrixCell};
use crate::plot::svg::{Colour, Target};
use crate::report::Context;
use crate::report::words::fixed;

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let Some(ensemble) = &context.report.analysis.ensemble else { return Vec::new() };
    let names = context.sae_names();
    let cell = |i: usize, j: usize| {
        let v = ensemble.mmcs[i][j].get().unwrap_or(f64::NAN);
        let text = if i == j { String::new() } else { fixed(v.into(), 3) };
        let opacity = if v.is_finite() { 0.75 * v.clamp(0.0, 1.0) } else { 0.0 };
        MatrixCell { colour: Colour::Accent, opacity, tip: format!("{} → {}: {text}", names[i], names[j]), text }
    };
    let matrix = Matrix {
        title: title(context, "mmcs"),
        rows: names.clone(),
        columns: names.clone(),
        cells: (0..names.len()).map(|i| (0..names.len()).map(|j| cell(i, j)).collect()).collect(),
        size: [58.0, 34.0],
    };
    let svg = matrix.svg(target);
    vec![Figure { name: "mmcs".into(), section: "ensemble", title: matrix.title, note: String::new(), svg }]
}
