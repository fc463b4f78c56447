//! Reconstructions and features of configurations side by side.

use super::clipped;
use crate::plot::image_figure::{ImageFigure, Label};
use crate::plot::svg::{TEXT, Target, text_width};
use crate::report::figures::Figure;
use crate::report::sweep::{ConfigurationImages, Context, side_by_side, summary};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vibrissa_record::sweep::ConfigurationRecord;

/// A configuration and its images.
type Shown<'a> = (&'a ConfigurationRecord, &'a ConfigurationImages);

/// Reconstructions of the same rows, then the features, by configuration. The page shows the features, and the wide
/// reconstructions of plain vectors, in its own way.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let report = context.report;
    let shown: Vec<Shown> = side_by_side(report.sweep)
        .into_iter()
        .filter_map(|c| Some((c, report.images.iter().find(|images| images.configuration == c.name)?)))
        .collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    match report.originals {
        Some(originals) => out.push(as_figure("side_recons", image_rows(context, &shown, originals), target)),
        None if target == Target::File => {
            out.push(as_figure("side_recons", vector_rows(context, &shown), target));
        }
        None => (),
    }
    if target == Target::File {
        let note = context.t("sw_note_walls");
        out.push(Figure { note, ..as_figure("side_walls", features(context, &shown), target) });
    }
    out
}

fn as_figure(name: &str, figure: ImageFigure, target: Target) -> Figure {
    let svg = figure.svg(target);
    Figure { name: name.to_owned(), section: "side", title: figure.title, note: String::new(), svg }
}

fn label(x: f64, y: f64, text: String) -> Label {
    Label { at: [x, y], anchor: "start", text }
}

/// Width and height from the header of a PNG file; 1×1 for a damaged one.
fn png_size(png: &[u8]) -> [f64; 2] {
    let at = |i: usize| png.get(i..i + 4).map(|b| f64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    match (at(16), at(20)) {
        (Some(w), Some(h)) if w > 0.0 && h > 0.0 => [w, h],
        _ => [1.0, 1.0],
    }
}

/// Rows that are images: the originals, then a line of reconstructions per configuration, with its caption on the left.
fn image_rows(context: &Context, shown: &[Shown], originals: &[u8]) -> ImageFigure {
    const WIDTH: f64 = 640.0;
    const CAPTION_WIDTH: f64 = 250.0;
    let captions: Vec<[String; 2]> = shown.iter().map(|(c, _)| summary::caption(context, c)).collect();
    let widest = captions.iter().flatten().map(|text| text_width(text, TEXT)).fold(60.0, f64::max);
    let left = widest.min(CAPTION_WIDTH) + 14.0;
    let first = ([context.t("sw_original"), String::new()], originals);
    let others = captions.into_iter().zip(shown).map(|(caption, (_, images))| (caption, &images.reconstructions[..]));
    let (mut images, mut labels, mut y) = (Vec::new(), Vec::new(), 2.0);
    for ([name, scores], png) in [first].into_iter().chain(others) {
        let [w, h] = png_size(png);
        let height = WIDTH * h / w;
        let middle = y + height / 2.0;
        let single = scores.is_empty();
        labels.push(label(2.0, middle + if single { 4.0 } else { -3.0 }, clipped(&name, left - 10.0)));
        labels.push(label(2.0, middle + 12.0, clipped(&scores, left - 10.0)));
        images.push((STANDARD.encode(png), [left, y, WIDTH, height]));
        y += height.max(30.0) + 9.0;
    }
    let title = context.t("sw_side_recons");
    ImageFigure { title, size: [left + WIDTH + 2.0, y], images, labels, legend: Vec::new() }
}

/// Rows that are plain vectors: a sheet of panels per configuration, with its caption above.
fn vector_rows(context: &Context, shown: &[Shown]) -> ImageFigure {
    let (mut images, mut labels, mut y, mut width) = (Vec::new(), Vec::new(), 2.0, 0.0f64);
    for (c, of) in shown {
        let [name, scores] = summary::caption(context, c);
        labels.push(label(2.0, y + 12.0, format!("{name} · {scores}")));
        let [w, h] = png_size(&of.reconstructions);
        images.push((STANDARD.encode(&of.reconstructions), [0.0, y + 20.0, w, h]));
        (y, width) = (y + 20.0 + h + 9.0, width.max(w));
    }
    let title = context.t("sw_side_recons");
    ImageFigure { title, size: [width + 2.0, y], images, labels, legend: Vec::new() }
}

/// The most frequent features of each configuration, with its caption below.
fn features(context: &Context, shown: &[Shown]) -> ImageFigure {
    let (side, across) = if context.report.originals.is_some() { (240.0, 4) } else { (700.0, 2) };
    let (mut images, mut labels, mut y) = (Vec::new(), Vec::new(), 2.0);
    for line in shown.chunks(across) {
        let mut tallest = 0.0f64;
        for (i, (c, of)) in line.iter().enumerate() {
            let [w, h] = png_size(&of.features);
            let (x, height) = (2.0 + i as f64 * (side + 24.0), side * h / w);
            images.push((STANDARD.encode(&of.features), [x, y, side, height]));
            for (k, text) in summary::caption(context, c).into_iter().enumerate() {
                labels.push(label(x, y + height + 16.0 + 15.0 * k as f64, clipped(&text, side)));
            }
            tallest = tallest.max(height);
        }
        y += tallest + 48.0;
    }
    let n = shown.len().min(across) as f64;
    let size = [n * (side + 24.0) - 20.0, y - 8.0];
    ImageFigure { title: context.t("sw_side_walls"), size, images, labels, legend: Vec::new() }
}
