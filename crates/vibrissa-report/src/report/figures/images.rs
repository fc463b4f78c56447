//! Images of features and of reconstructions, for files only: a page shows them with buttons.

use super::{Figure, title};
use crate::plot::image_figure::{ImageFigure, Label};
use crate::plot::sprites::image_png;
use crate::plot::svg::{Colour, Target};
use crate::report::Context;
use crate::report::words::fixed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vibrissa_record::analysis::columns::Reconstructions;

/// Features shown.
const FEATURES: usize = 100;
/// Features in a line.
const FEATURES_ACROSS: usize = 10;
/// Pairs of row and reconstruction in a line.
const PAIRS_ACROSS: usize = 3;

fn label(x: f64, y: f64, text: String) -> Label {
    Label { at: [x, y], anchor: "middle", text }
}

/// Decoder directions of the first features by score, with index and score.
pub fn features(context: &Context, target: Target) -> Vec<Figure> {
    let columns = &context.report.columns.saes[0];
    let Some(tiles) = columns.tiles.as_ref().filter(|_| target == Target::File) else { return Vec::new() };
    let &[n, channels, height, width] = &tiles.tile.shape[..] else { return Vec::new() };
    let n = n.min(FEATURES);
    if n == 0 {
        return Vec::new();
    }
    let (side, gap) = (56.0, [8.0, 32.0]);
    let tall = side * height as f64 / width as f64;
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for i in 0..n {
        let x = (i % FEATURES_ACROSS) as f64 * (side + gap[0]) + 2.0;
        let y = (i / FEATURES_ACROSS) as f64 * (tall + gap[1]) + 2.0;
        let png = image_png(tiles.tile.row(i), channels, height, width, channels == 1);
        images.push((STANDARD.encode(png), [x, y, side, tall]));
        let h = tiles.latent[i];
        let score = fixed(columns.latents.score[h as usize].into(), 3);
        labels.push(label(x + side / 2.0, y + tall + 12.0, h.to_string()));
        labels.push(label(x + side / 2.0, y + tall + 25.0, score));
    }
    let lines = n.div_ceil(FEATURES_ACROSS) as f64;
    let note = title(context, if channels == 1 { "scale_signed" } else { "scale_colour" });
    let figure = ImageFigure {
        title: title(context, "features_title"),
        size: [FEATURES_ACROSS as f64 * (side + gap[0]), lines * (tall + gap[1]) + 20.0],
        images,
        labels,
        legend: vec![(note.clone(), Colour::Muted)],
    };
    let svg = figure.svg(target);
    vec![Figure { name: "features".into(), section: "features", title: figure.title, note, svg }]
}

/// The worst, the median and the best row of each class beside its reconstruction.
pub fn reconstructions(context: &Context, target: Target) -> Vec<Figure> {
    let analysis = context.report.analysis;
    let Reconstructions::Images(shown) = &context.report.columns.saes[0].reconstructions else { return Vec::new() };
    let &[n, channels, height, width] = &shown.recon.shape[..] else { return Vec::new() };
    if n == 0 || target != Target::File {
        return Vec::new();
    }
    let names = context.class_names();
    let (side, gap) = (84.0, [26.0, 40.0]);
    let (pair, tall) = (2.0 * side + 4.0, side * height as f64 / width as f64);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (i, r) in analysis.saes[0].reconstructions.iter().enumerate() {
        let x = (i % PAIRS_ACROSS) as f64 * (pair + gap[0]) + 2.0;
        let y = (i / PAIRS_ACROSS) as f64 * (tall + gap[1]) + 2.0;
        for (k, side_by_side) in [&shown.original, &shown.recon].into_iter().enumerate() {
            let png = image_png(side_by_side.row(i), channels, height, width, false);
            images.push((STANDARD.encode(png), [x + k as f64 * (side + 4.0), y, side, tall]));
        }
        let class = analysis.cited[r.cited as usize].class.and_then(|c| names.get(c as usize));
        let class = class.map_or(String::new(), |name| format!("{name} · "));
        let caption = format!("{class}{} · r {}", context.t(&r.rank), fixed(r.pearson, 3));
        labels.push(label(x + side + 2.0, y + tall + 16.0, caption));
    }
    let lines = analysis.saes[0].reconstructions.len().div_ceil(PAIRS_ACROSS) as f64;
    let figure = ImageFigure {
        title: title(context, "reconstructions_title"),
        size: [PAIRS_ACROSS as f64 * (pair + gap[0]), lines * (tall + gap[1])],
        images,
        labels,
        legend: Vec::new(),
    };
    let svg = figure.svg(target);
    vec![Figure {
        name: "reconstructions".into(),
        section: "reconstructions",
        title: figure.title,
        note: String::new(),
        svg,
    }]
}
