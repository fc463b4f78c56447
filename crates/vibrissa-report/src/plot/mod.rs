//! Numbers → pictures (PNG). Layout only: what is shown was computed elsewhere, and whoever calls writes the file.
//!
//! [`feature_sheet`] shows decoder rows, [`reconstruction_sheet`] rows beside their reconstructions; both draw pictures
//! where rows are pictures, and profiles where they are plain vectors. The same numbers give the same bytes.

mod canvas;
pub mod chart;
mod colour;
mod features;
mod font;
mod profiles;
pub mod raster;
mod recons;
pub mod scatter;
pub mod sheet;
pub mod tiles;

pub use canvas::{Canvas, Rgb};
pub use colour::diverging;
pub use features::{Feature, feature_sheet};
pub use recons::{Column, reconstruction_sheet};

use canvas::Align;
use colour::{INK, MUTED, NOT_A_NUMBER};

/// The picture behind a row: (channels, height, width), channel-planar; 3 channels are red, green and blue, of any
/// other number the first is shown.
pub type Shape = (usize, usize, usize);

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
/// On a sheet narrower than this, notes still get so much room, pixels.
const NOTE: usize = 440;

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

/// Smallest and largest finite value among the columns that pixel `p` of `pixels` stands for.
fn extent(row: &[f32], p: usize, pixels: usize) -> Option<(f32, f32)> {
    let (from, to) = (p * row.len() / pixels, ((p + 1) * row.len()).div_ceil(pixels));
    let mut values = row[from..to.min(row.len())].iter().copied().filter(|v| v.is_finite());
    let first = values.next()?;
    Some(values.fold((first, first), |(low, high), v| (low.min(v), high.max(v))))
}

/// What stands above a sheet: the title, and the note broken into lines.
struct Header<'a> {
    title: &'a str,
    notes: Vec<String>,
}

impl<'a> Header<'a> {
    /// The header of a sheet whose cells are `content` pixels wide, and how wide it is with it.
    fn new(title: &'a str, note: &str, content: usize) -> (Header<'a>, usize) {
        let width = content.max(font::width(title, TITLE)).max(font::width(note, LABEL).min(NOTE));
        (Header { title, notes: wrap(note, width) }, width)
    }

    /// Where the cells begin, pixels from the top.
    fn height(&self) -> usize {
        let title = if self.title.is_empty() { 0 } else { (CAPITAL as f32 * TITLE) as usize + GAP };
        MARGIN + title + self.notes.len() * LINE + if self.notes.is_empty() { 0 } else { GAP / 2 }
    }

    fn draw(&self, canvas: &mut Canvas) {
        let mut y = MARGIN;
        if !self.title.is_empty() {
            y += (CAPITAL as f32 * TITLE) as usize;
            canvas.text(MARGIN, y, self.title, TITLE, Align::Left, INK);
            y += GAP;
        }
        for note in &self.notes {
            canvas.text(MARGIN, y + CAPITAL, note, LABEL, Align::Left, MUTED);
            y += LINE;
        }
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
    shorten_to(text, width, |kept| (kept, 0))
}

/// The name, or as much of its beginning and end as fits, with an ellipsis between: names often differ at the end. The
/// number of a row in a file, `file:12`, is kept whole.
fn shorten_name(name: &str, width: usize) -> String {
    let row = name.rsplit_once(':').filter(|(_, row)| !row.is_empty() && row.chars().all(|c| c.is_ascii_digit()));
    match row {
        Some((_, row)) => shorten_to(name, width, |kept| (kept.saturating_sub(row.len() + 1), kept.min(row.len() + 1))),
        None => shorten_to(name, width, |kept| (kept - kept / 2, kept / 2)),
    }
}

/// Drops characters until the text fits; `sides` says how many of those kept are at its beginning and at its end.
fn shorten_to(text: &str, width: usize, sides: impl Fn(usize) -> (usize, usize)) -> String {
    if font::width(text, LABEL) <= width {
        return text.to_string();
    }
    let all: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| {
        let (first, last) = sides(kept);
        let begin: String = all[..first].iter().collect();
        let end: String = all[all.len() - last..].iter().collect();
        format!("{}…{}", begin.trim_end_matches([' ', '-', '_']), end.trim_start())
    };
    (1..all.len()).rev().map(shortened).find(|s| font::width(s, LABEL) <= width).unwrap_or_else(|| "…".into())
}

#[cfg(test)]
mod tests;
