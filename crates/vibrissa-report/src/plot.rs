//! Figures as SVG and sheets of images as PNG. Layout only: the numbers were computed elsewhere, and the caller writes
//! the file.
//!
//! [`feature_sheet`] shows decoder directions, [`reconstruction_sheet`] rows beside their reconstructions. Both draw
//! images where rows are images, and profiles where rows are plain vectors. The same numbers give the same bytes.

mod canvas;
pub mod chart;
mod colour;
mod features;
mod font;
pub mod image_figure;
pub mod matrix;
mod profiles;
pub mod raster;
mod reconstructions;
pub mod scatter;
pub mod sprites;
pub mod svg;
pub mod tiles;

pub use canvas::{Canvas, Rgb};
pub use colour::diverging;
pub use features::{Feature, feature_sheet};
pub use reconstructions::{ReconstructedRow, reconstruction_sheet};

use canvas::Align;
use colour::{INK, MUTED, NOT_A_NUMBER};
use vibrissa_core::shape::ImageShape;

/// Margin of a sheet, pixels.
const MARGIN: usize = 28;
/// Space between cells, pixels.
const GAP: usize = 14;
/// Distance between two lines of small text, pixels.
const LINE_HEIGHT: usize = 16;
/// Height of a capital letter of small text, pixels.
const CAPITAL_HEIGHT: usize = 8;
/// Scale of small text.
const LABEL_SCALE: f32 = 1.0;
/// Scale of titles.
const TITLE_SCALE: f32 = 1.5;
/// Side that images are enlarged to, pixels: by the integer factor that brings the longer side closest to it.
const IMAGE_SIDE: f32 = 96.0;
/// Smallest width of a wrapped note, pixels: narrower sheets are widened to it.
const NOTE_WIDTH: usize = 440;

/// Integer factor by which an image is enlarged on a sheet.
fn enlargement(shape: ImageShape) -> usize {
    ((IMAGE_SIDE / shape.height.max(shape.width).max(1) as f32).round() as usize).max(1)
}

/// Width and height of an enlarged image, pixels.
fn image_size(shape: ImageShape) -> (usize, usize) {
    (shape.width * enlargement(shape), shape.height * enlargement(shape))
}

/// Draws a row as an enlarged image. `tone` maps each of three colour channels, `map` a single channel;
/// of any other number of channels the first is drawn.
///
/// # Panics
/// If the row does not have the width of the shape.
fn draw_image(
    canvas: &mut Canvas,
    at: (usize, usize),
    row: &[f32],
    shape: ImageShape,
    tone: impl Fn(f32) -> u8,
    map: impl Fn(f32) -> Rgb,
) {
    let ImageShape { channels, height, width } = shape;
    assert_eq!(row.len(), shape.dim(), "a row has the shape's width");
    let plane = height * width;
    canvas.image(at, (width, height), enlargement(shape), |i| {
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

/// Smallest and largest finite value among the columns that fall on pixel `p` of `pixels`.
fn extent(row: &[f32], p: usize, pixels: usize) -> Option<(f32, f32)> {
    let (from, to) = (p * row.len() / pixels, ((p + 1) * row.len()).div_ceil(pixels));
    let mut values = row[from..to.min(row.len())].iter().copied().filter(|v| v.is_finite());
    let first = values.next()?;
    Some(values.fold((first, first), |(low, high), v| (low.min(v), high.max(v))))
}

/// Title and note above a sheet.
struct SheetHeader<'a> {
    title: &'a str,
    /// The note, broken into lines.
    notes: Vec<String>,
}

impl<'a> SheetHeader<'a> {
    /// Returns the header of a sheet whose content is `content` pixels wide, and the width of both together.
    fn new(title: &'a str, note: &str, content: usize) -> (SheetHeader<'a>, usize) {
        let width = content.max(font::width(title, TITLE_SCALE)).max(font::width(note, LABEL_SCALE).min(NOTE_WIDTH));
        (SheetHeader { title, notes: wrap(note, width) }, width)
    }

    /// Distance from the top of the sheet to its content, pixels.
    fn height(&self) -> usize {
        let title = if self.title.is_empty() { 0 } else { (CAPITAL_HEIGHT as f32 * TITLE_SCALE) as usize + GAP };
        MARGIN + title + self.notes.len() * LINE_HEIGHT + if self.notes.is_empty() { 0 } else { GAP / 2 }
    }

    fn draw(&self, canvas: &mut Canvas) {
        let mut y = MARGIN;
        if !self.title.is_empty() {
            y += (CAPITAL_HEIGHT as f32 * TITLE_SCALE) as usize;
            canvas.text(MARGIN, y, self.title, TITLE_SCALE, Align::Left, INK);
            y += GAP;
        }
        for note in &self.notes {
            canvas.text(MARGIN, y + CAPITAL_HEIGHT, note, LABEL_SCALE, Align::Left, MUTED);
            y += LINE_HEIGHT;
        }
    }
}

/// Breaks a text between words into lines of at most `width` pixels.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), LABEL_SCALE) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Shortens a text to `width` pixels, with an ellipsis at the end.
fn shorten(text: &str, width: usize) -> String {
    shorten_to(text, width, |kept| (kept, 0))
}

/// Shortens a name to `width` pixels, with an ellipsis in the middle, since names often differ at their ends. The
/// number of a row in a file, `file:12`, is kept whole.
fn shorten_name(name: &str, width: usize) -> String {
    let row = name.rsplit_once(':').filter(|(_, row)| !row.is_empty() && row.chars().all(|c| c.is_ascii_digit()));
    match row {
        Some((_, row)) => shorten_to(name, width, |kept| (kept.saturating_sub(row.len() + 1), kept.min(row.len() + 1))),
        None => shorten_to(name, width, |kept| (kept - kept / 2, kept / 2)),
    }
}

/// Drops characters until the text fits. `sides` divides the number of characters kept between start and end.
fn shorten_to(text: &str, width: usize, sides: impl Fn(usize) -> (usize, usize)) -> String {
    if font::width(text, LABEL_SCALE) <= width {
        return text.to_string();
    }
    let all: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| {
        let (first, last) = sides(kept);
        let start: String = all[..first].iter().collect();
        let end: String = all[all.len() - last..].iter().collect();
        format!("{}…{}", start.trim_end_matches([' ', '-', '_']), end.trim_start())
    };
    (1..all.len()).rev().map(shortened).find(|s| font::width(s, LABEL_SCALE) <= width).unwrap_or_else(|| "…".into())
}

#[cfg(test)]
mod tests;
