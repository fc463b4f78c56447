//! Mean activations of the most important features by class.

use super::{Figure, title};
use crate::plot::matrix::{Matrix, MatrixCell};
use crate::plot::svg::{Colour, Target};
use crate::report::Context;
use crate::report::words::fixed;

/// Features shown.
const FEATURES: usize = 40;
/// Classes shown.
const CLASSES: usize = 20;

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let Some(classes) = &context.report.columns.saes[0].classes else { return Vec::new() };
    let names = context.class_names();
    let top: Vec<usize> = context.by_rank().into_iter().take(FEATURES).collect();
    let largest = |h: usize| classes.mean.row(h).iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let largest: Vec<f64> = top.iter().map(|&h| largest(h)).collect();
    let cell = |c: usize, i: usize| {
        let v = classes.mean.row(top[i])[c];
        let feature = context.with("feature", &[("h", top[i].to_string())]);
        MatrixCell {
            colour: if v < 0.0 { Colour::Series(0) } else { Colour::Warm },
            opacity: if largest[i] > 0.0 && v.is_finite() { (v.abs() / largest[i]).min(1.0) } else { 0.0 },
            text: String::new(),
            tip: format!("{feature}, {} {}: {}", context.t("class"), names[c], fixed(v.into(), 4)),
        }
    };
    let rows = names.len().min(CLASSES);
    let matrix = Matrix {
        title: title(context, "profile"),
        rows: names[..rows].to_vec(),
        columns: top.iter().map(|h| h.to_string()).collect(),
        cells: (0..rows).map(|c| (0..top.len()).map(|i| cell(c, i)).collect()).collect(),
        size: [26.0, 24.0],
    };
    let svg = matrix.svg(target);
    let note = context.t("note_profile");
    vec![Figure { name: "profile".into(), section: "classes", title: matrix.title, note, svg }]
}
