//! Activations of the most important features on a sample of rows.

use super::{Figure, legend, title};
use crate::plot::image_figure::{ImageFigure, Label};
use crate::plot::sprites::series_png;
use crate::plot::svg::{TEXT, Target, text_width};
use crate::report::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Features shown.
const FEATURES: usize = 160;
/// More rows than this are drawn as flat pixels.
const TALL_ROWS: usize = 200;

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let columns = context.report.columns;
    let (rows, sample) = (&columns.sampled.row, &columns.saes[0].sample);
    if rows.is_empty() {
        return Vec::new();
    }
    let across = FEATURES.min(context.report.analysis.saes[0].latents as usize);
    let rank = &columns.saes[0].latents.rank;
    let place = |h: u32| Some(rank[h as usize] as usize - 1).filter(|p| *p < across);
    let mut largest = vec![0.0f64; across];
    for (&h, v) in sample.latent.iter().zip(sample.value.iter()) {
        if let Some(p) = place(h) {
            largest[p] = largest[p].max(v.abs());
        }
    }
    let class = |b: usize| context.report.analysis.cited[rows[b] as usize].class.unwrap_or(0) as usize;
    let mut pixels = vec![None; across * rows.len()];
    for b in 0..rows.len() {
        for i in sample.start[b] as usize..sample.start[b + 1] as usize {
            let Some(p) = place(sample.latent[i]).filter(|p| largest[*p] > 0.0) else { continue };
            pixels[b * across + p] = Some((class(b), 0.12 + 0.88 * (sample.value[i].abs() / largest[p]).sqrt()));
        }
    }
    let figure = labelled(context, &series_png(&pixels, across), [across, rows.len()]);
    let svg = figure.svg(target);
    vec![Figure { name: "heat".into(), section: "activations", title: figure.title, note: String::new(), svg }]
}

/// The pixels with labels at the ends of both axes.
fn labelled(context: &Context, png: &[u8], [across, down]: [usize; 2]) -> ImageFigure {
    let [w, h] = [4.0, if down > TALL_ROWS { 1.5 } else { 4.0 }];
    let [width, height] = [w * across as f64, h * down as f64];
    let named = |key: &str, n: usize| context.with(key, &[("n", n.to_string())]);
    let [first_row, last_row] = [1, down].map(|n| named("axis_row_number", n));
    let [first_rank, last_rank] = [1, across].map(|n| named("axis_rank_number", n));
    let left = text_width(&last_row, TEXT).max(text_width(&first_row, TEXT)) + 8.0;
    let label = |at, anchor, text| Label { at, anchor, text };
    ImageFigure {
        title: title(context, "activations_title"),
        size: [left + width, height + 22.0],
        images: vec![(STANDARD.encode(png), [left, 0.0, width, height])],
        labels: vec![
            label([left - 6.0, 10.0], "end", first_row),
            label([left - 6.0, height], "end", last_row),
            label([left, height + 16.0], "start", first_rank),
            label([left + width, height + 16.0], "end", last_rank),
        ],
        legend: legend(&context.class_names()),
    }
}
