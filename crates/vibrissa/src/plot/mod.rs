//! Numbers → pictures (PNG). Layout only: what is shown was computed elsewhere, and whoever calls writes the file.
//!
//! [`feature_sheet`] shows decoder rows, [`reconstruction_sheet`] rows beside their reconstructions; both draw pictures
//! where rows are pictures, and profiles where they are plain vectors. The same numbers give the same bytes.

mod canvas;
mod colour;
mod font;
pub mod sheet;

pub use canvas::{Canvas, Rgb};
pub use colour::diverging;

use canvas::Align;
use colour::{ACCENT, HAIRLINE, INK, MUTED, NOT_A_NUMBER, PAPER, byte};

/// The picture behind a row: (channels, height, width), channel-planar; 3 channels are red, green and blue, of any
/// other number the first is shown.
pub type Shape = (usize, usize, usize);

/// One column of a [`reconstruction_sheet`]: a row of the data and what was made of it.
#[derive(Clone, Debug)]
pub struct Column<'a> {
    /// Drawn above it (the class, the file).
    pub label: String,
    /// The row, `[D]`.
    pub original: &'a [f32],
    /// Its reconstructions, each `[D]`, in the order of the sheet's row labels.
    pub recons: &'a [&'a [f32]],
    /// Pearson's r of each reconstruction, drawn below it; empty, or NaN at a place: nothing is drawn.
    pub pearson: &'a [f64],
}

/// Page margin, pixels.
const MARGIN: usize = 28;
/// Space between cells, pixels.
const GAP: usize = 14;
/// Distance of two lines of small text, pixels.
const LINE: usize = 16;
/// Height of capitals and figures of small text, pixels.
const CAPITAL: usize = 8;
const LABEL: f32 = 1.0;
const TITLE: f32 = 1.5;
/// A picture is enlarged by the whole factor that brings its longer side closest to this.
const PICTURE: f32 = 96.0;
/// Width and height of the profile of a plain vector, pixels.
const PROFILE: (usize, usize) = (144, 72);
/// Width and height of the colour bar, pixels.
const BAR: (usize, usize) = (161, 9);

/// Decoder rows in a grid of `columns`, the latent's index below each, each scaled to its own largest |value|: grey
/// pictures in the map of [`diverging`], colour around mid-grey, plain vectors (`shape` `None`) as bars around 0 (where
/// a bar stands for several columns it spans their smallest to largest value). The note goes under the title.
///
/// Rows of zeros and values that are not numbers (magenta) are drawn, not refused.
///
/// # Panics
/// If a row does not have the shape's width.
pub fn feature_sheet(
    features: &[(usize, &[f32])],
    shape: Option<Shape>,
    columns: usize,
    title: &str,
    note: &str,
) -> Canvas {
    let cell = shape.map_or(PROFILE, picture_size);
    let widest = features.iter().map(|(i, _)| font::width(&i.to_string(), LABEL)).max().unwrap_or(0);
    let pitch = (cell.0.max(widest) + GAP, cell.1 + CAPITAL + 10 + GAP);
    let columns = columns.clamp(1, features.len().max(1));
    let lines = features.len().div_ceil(columns);
    let scale = match shape {
        Some((3, ..)) => "colours around mid-grey, each feature scaled to its own largest |value|",
        Some(_) => "each feature scaled to its own largest |value|",
        None => "decoder row by column, each scaled to its own largest |value|",
    };
    let bar = shape.is_some_and(|s| s.0 != 3);
    let scale_width = font::width(scale, LABEL);
    let grid = (columns * pitch.0 - GAP).max(font::width(title, TITLE));
    // On a narrow sheet the scale's words go under the colour bar.
    let stacked = bar && BAR.0 + 2 * GAP + scale_width > grid;
    let content = grid.max(scale_width).max(if bar { BAR.0 } else { 0 });
    let notes = wrap(note, content);
    let top = header_height(title, notes.len());
    let footer = if stacked { 2 * LINE } else { 0 } + CAPITAL + if bar { LINE } else { 0 };
    let height = top + lines * pitch.1 + footer + MARGIN + GAP / 2;
    let mut canvas = Canvas::new(content + 2 * MARGIN, height, PAPER);
    header(&mut canvas, title, &notes);

    for (n, (index, row)) in features.iter().enumerate() {
        let slack = (pitch.0 - GAP - cell.0) / 2;
        let at = (MARGIN + n % columns * pitch.0 + slack, top + n / columns * pitch.1);
        match shape {
            Some(shape) => feature_picture(&mut canvas, at, row, shape),
            None => feature_profile(&mut canvas, at, row),
        }
        canvas.frame(at.0, at.1, cell.0, cell.1, HAIRLINE);
        let below = at.1 + cell.1 + CAPITAL + 6;
        canvas.text(at.0 + cell.0 / 2, below, &index.to_string(), LABEL, Align::Centre, INK);
    }

    let y = top + lines * pitch.1 + GAP / 2;
    if bar {
        colour_bar(&mut canvas, MARGIN, y);
    }
    let (x, y) = match (bar, stacked) {
        (true, false) => (MARGIN + BAR.0 + 2 * GAP, y + CAPITAL),
        (true, true) => (MARGIN, y + BAR.1 + LINE + LINE + CAPITAL),
        _ => (MARGIN, y + CAPITAL),
    };
    canvas.text(x, y, scale, LABEL, Align::Left, MUTED);
    canvas
}

/// Rows of the data above their reconstructions, one column a row: the label above, Pearson's r below each
/// reconstruction. Pictures show values in [0, 1]; plain vectors (`shape` `None`) are drawn as two lines on one axis,
/// the original dark, the reconstruction red.
///
/// `row_labels[0]` names the originals and the next ones the reconstructions; missing ones stay blank.
///
/// # Panics
/// If a row does not have the shape's width.
pub fn reconstruction_sheet(
    columns: &[Column<'_>],
    shape: Option<Shape>,
    row_labels: &[String],
    title: &str,
) -> Canvas {
    let cell = shape.map_or((PROFILE.0 + 36, PROFILE.1 + 8), picture_size);
    let recons = columns.iter().map(|c| c.recons.len()).max().unwrap_or(0);
    let scored = columns.iter().any(|c| !c.pearson.is_empty());
    // Vectors have no row of originals: they are drawn under each reconstruction.
    let originals = usize::from(shape.is_some());
    let lines = originals + recons;
    let labels: Vec<&str> = (0..lines).map(|l| row_labels.get(l + 1 - originals).map_or("", |s| s.as_str())).collect();
    let label_width = labels.iter().map(|l| font::width(l, LABEL)).max().unwrap_or(0);
    let left = MARGIN + if label_width > 0 { label_width + GAP } else { 0 };
    let score_height = if scored { CAPITAL + 10 } else { 0 };
    let pitch = (cell.0 + GAP, cell.1 + score_height + if scored { GAP } else { GAP / 2 });
    let right = left + (columns.len() * pitch.0).max(GAP) - GAP;
    let key = ["original", "reconstruction"].map(|k| font::width(k, LABEL) + 24 + 2 * GAP);
    let key_width = if shape.is_none() { key[0] + key[1] } else { 0 };
    let width = right.max(MARGIN + font::width(title, TITLE)).max(MARGIN + key_width) + MARGIN;
    let top = header_height(title, 0) + LINE + GAP / 2;
    let original_height = originals * (cell.1 + GAP / 2);
    let footer = if shape.is_none() { LINE + CAPITAL } else { 0 };
    let height = top + original_height + recons * pitch.1 + footer + MARGIN - GAP / 2;
    let mut canvas = Canvas::new(width, height, PAPER);
    header(&mut canvas, title, &[]);

    let line_y = |line: usize| {
        if line < originals { top } else { top + original_height + (line - originals) * pitch.1 }
    };
    for (line, label) in labels.iter().enumerate() {
        let y = line_y(line) + cell.1 / 2 + CAPITAL / 2;
        canvas.text(left - GAP, y, label, LABEL, Align::Right, INK);
    }
    for (n, column) in columns.iter().enumerate() {
        let x = left + n * pitch.0;
        let label = shorten(&column.label, cell.0 + GAP / 2);
        canvas.text(x + cell.0 / 2, top - 8, &label, LABEL, Align::Centre, INK);
        if let Some(shape) = shape {
            picture(&mut canvas, (x, top), column.original, shape);
            canvas.frame(x, top, cell.0, cell.1, HAIRLINE);
        }
        for (r, recon) in column.recons.iter().enumerate() {
            let y = line_y(originals + r);
            match shape {
                Some(shape) => picture(&mut canvas, (x, y), recon, shape),
                None => two_lines(&mut canvas, (x, y), cell, column.original, recon),
            }
            canvas.frame(x, y, cell.0, cell.1, HAIRLINE);
            if let Some(score) = column.pearson.get(r).filter(|v| !v.is_nan()) {
                let text = format!("{score:.3}");
                canvas.text(x + cell.0 / 2, y + cell.1 + CAPITAL + 6, &text, LABEL, Align::Centre, MUTED);
            }
        }
    }
    if scored {
        // One sign is enough: the last line says what the numbers are.
        let y = line_y(lines - 1) + cell.1 + CAPITAL + 6;
        canvas.text(left - GAP, y, "Pearson r", LABEL, Align::Right, MUTED);
    }
    if shape.is_none() {
        let y = height - MARGIN + GAP / 2;
        let mut x = left;
        for (text, colour, width) in [("original", INK, key[0]), ("reconstruction", ACCENT, key[1])] {
            canvas.fill(x, y - CAPITAL / 2, 18, 2, colour);
            canvas.text(x + 24, y, text, LABEL, Align::Left, MUTED);
            x += width;
        }
    }
    canvas
}

/// Largest |value|, of those that are numbers; 1 where all are 0, so that it can be divided by.
fn largest(row: &[f32]) -> f32 {
    let max = row.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    if max > 0.0 { max } else { 1.0 }
}

fn factor((_, height, width): Shape) -> usize {
    ((PICTURE / height.max(width).max(1) as f32).round() as usize).max(1)
}

fn picture_size(shape: Shape) -> (usize, usize) {
    (shape.2 * factor(shape), shape.1 * factor(shape))
}

/// Paints a row as a picture: `tone` for colour channels, `map` for a single one.
fn paint(
    canvas: &mut Canvas,
    at: (usize, usize),
    row: &[f32],
    shape: Shape,
    tone: impl Fn(f32) -> u8,
    map: impl Fn(f32) -> Rgb,
) {
    let (channels, height, width) = shape;
    assert_eq!(row.len(), channels * height * width, "a row has the shape's width");
    let plane = height * width;
    canvas.picture(at, (width, height), factor(shape), |i| {
        if channels == 3 {
            let rgb = [row[i], row[plane + i], row[2 * plane + i]];
            if rgb.iter().any(|v| v.is_nan()) { NOT_A_NUMBER } else { rgb.map(&tone) }
        } else if row[i].is_nan() {
            NOT_A_NUMBER
        } else {
            map(row[i])
        }
    });
}

fn feature_picture(canvas: &mut Canvas, at: (usize, usize), row: &[f32], shape: Shape) {
    let scale = largest(row);
    paint(canvas, at, row, shape, |v| byte(0.5 + 0.5 * v / scale), |v| diverging(v / scale));
}

fn picture(canvas: &mut Canvas, at: (usize, usize), row: &[f32], shape: Shape) {
    paint(canvas, at, row, shape, byte, |v| [byte(v); 3]);
}

/// Smallest and largest finite value among the columns that pixel `p` of `pixels` stands for.
fn extent(row: &[f32], p: usize, pixels: usize) -> Option<(f32, f32)> {
    let (from, to) = (p * row.len() / pixels, ((p + 1) * row.len()).div_ceil(pixels));
    let mut values = row[from..to.min(row.len())].iter().copied().filter(|v| v.is_finite());
    let first = values.next()?;
    Some(values.fold((first, first), |(low, high), v| (low.min(v), high.max(v))))
}

fn feature_profile(canvas: &mut Canvas, at: (usize, usize), row: &[f32]) {
    let (width, height) = PROFILE;
    canvas.fill(at.0, at.1, width, height, [255, 255, 255]);
    let middle = at.1 + height / 2;
    let half = (height / 2 - 4) as f32;
    let scale = largest(row);
    for p in 0..width {
        let Some((low, high)) = extent(row, p, width) else { continue };
        // A bar of one column reaches from 0 to its value, one of several over all of them.
        let length = |v: f32| (v / scale * half).round() as usize;
        let (up, down) = (length(high.max(0.0)), length((-low).max(0.0)));
        canvas.fill(at.0 + p, middle - up, 1, up, diverging(0.75));
        canvas.fill(at.0 + p, middle + 1, 1, down, diverging(-0.75));
    }
    canvas.fill(at.0, middle, width, 1, [168, 166, 162]);
}

fn two_lines(canvas: &mut Canvas, at: (usize, usize), cell: (usize, usize), original: &[f32], recon: &[f32]) {
    let (width, height) = cell;
    canvas.fill(at.0, at.1, width, height, [255, 255, 255]);
    let finite = || original.iter().chain(recon).copied().filter(|v| v.is_finite());
    let (low, high) = finite().fold((0.0f32, 0.0f32), |(low, high), v| (low.min(v), high.max(v)));
    let span = if high > low { high - low } else { 1.0 };
    let y = |v: f32| at.1 as f32 + 5.0 + (high - v) / span * (height as f32 - 11.0);
    canvas.fill(at.0, y(0.0).round() as usize, width, 1, HAIRLINE);
    for (row, colour) in [(original, INK), (recon, ACCENT)] {
        let x = |i: usize, n: usize| at.0 as f32 + 4.0 + i as f32 / (n.max(2) - 1) as f32 * (width as f32 - 9.0);
        let points: Vec<(f32, f32)> = if row.len() <= width {
            row.iter().enumerate().map(|(i, &v)| (x(i, row.len()), y(v))).collect()
        } else {
            let pixels = width - 8;
            let both = (0..pixels).filter_map(|p| extent(row, p, pixels).map(|e| (p, e)));
            both.flat_map(|(p, (low, high))| [(x(p, pixels), y(low)), (x(p, pixels), y(high))]).collect()
        };
        canvas.polyline(&points, 1.2, colour);
    }
}

fn colour_bar(canvas: &mut Canvas, x: usize, y: usize) {
    let (width, height) = BAR;
    for i in 0..width {
        canvas.fill(x + i, y, 1, height, diverging(i as f32 / (width - 1) as f32 * 2.0 - 1.0));
    }
    canvas.frame(x, y, width, height, HAIRLINE);
    for (at, text, align) in
        [(0, "-max", Align::Left), (width / 2, "0", Align::Centre), (width - 1, "+max", Align::Right)]
    {
        canvas.fill(x + at, y + height + 1, 1, 3, MUTED);
        canvas.text(x + at, y + height + LINE, text, LABEL, align, MUTED);
    }
}

fn header_height(title: &str, notes: usize) -> usize {
    let title = if title.is_empty() { 0 } else { (CAPITAL as f32 * TITLE) as usize + GAP };
    MARGIN + title + notes * LINE + if notes > 0 { GAP / 2 } else { 0 }
}

fn header(canvas: &mut Canvas, title: &str, notes: &[String]) {
    let mut y = MARGIN;
    if !title.is_empty() {
        y += (CAPITAL as f32 * TITLE) as usize;
        canvas.text(MARGIN, y, title, TITLE, Align::Left, INK);
        y += GAP;
    }
    for note in notes {
        canvas.text(MARGIN, y + CAPITAL, note, LABEL, Align::Left, MUTED);
        y += LINE;
    }
}

/// Breaks a text into lines of at most `width` pixels, between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), LABEL) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// The text, or as much of its beginning as fits, with an ellipsis.
fn shorten(text: &str, width: usize) -> String {
    if font::width(text, LABEL) <= width {
        return text.to_string();
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        kept.pop();
        let shorter = kept.iter().collect::<String>().trim_end().to_string() + "..";
        if kept.is_empty() || font::width(&shorter, LABEL) <= width {
            return shorter;
        }
    }
}

#[cfg(test)]
mod tests;
