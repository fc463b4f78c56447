//! The sheet of reconstructions: pictures below their originals. Plain vectors go to `profiles.rs`.

use super::canvas::{Align, Canvas};
use super::colour::{HAIRLINE, INK, MUTED, PAPER, byte};
use super::profiles::profile_sheet;
use super::{CAPITAL, GAP, Header, LABEL, LINE, MARGIN, Shape, font, paint, picture_size, shorten, shorten_name};

/// A row of the data and what was made of it.
#[derive(Clone, Debug)]
pub struct Column<'a> {
    /// Drawn above it (the class); may be empty.
    pub label: String,
    /// Drawn above it, below the label (the file); may be empty.
    pub name: String,
    /// The row, `[D]`.
    pub original: &'a [f32],
    /// Its reconstructions, each `[D]`, in the order of the sheet's row labels.
    pub recons: &'a [&'a [f32]],
    /// Pearson's r of each reconstruction, drawn below it; empty, or NaN at a place: nothing is drawn.
    pub pearson: &'a [f64],
}

/// Rows of the data above their reconstructions, Pearson's r below each reconstruction. Pictures, one column a row, show
/// values in [0, 1]; plain vectors (`shape` `None`) are drawn as panels on one axis, the original as a grey area, the
/// reconstruction as a line. The note goes under the title.
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
    note: &str,
) -> Canvas {
    match shape {
        Some(shape) => picture_sheet(columns, shape, row_labels, title, note),
        None => profile_sheet(columns, row_labels, title, note),
    }
}

fn picture_sheet(columns: &[Column<'_>], shape: Shape, row_labels: &[String], title: &str, note: &str) -> Canvas {
    let cell = picture_size(shape);
    let recons = columns.iter().map(|c| c.recons.len()).max().unwrap_or(0);
    let scored = columns.iter().any(|c| !c.pearson.is_empty());
    let row_label = |line: usize| row_labels.get(line).map_or("", |s| s.as_str());
    let score_label = if scored { "Pearson r" } else { "" };
    let labels = (0..=recons).map(row_label).chain([score_label]);
    let label_width = labels.map(|l| font::width(l, LABEL)).max().unwrap_or(0);
    let left = MARGIN + if label_width > 0 { label_width + GAP } else { 0 };
    let pitch = (cell.0 + GAP, cell.1 + if scored { CAPITAL + 10 + GAP } else { GAP / 2 });
    let right = left + (columns.len() * pitch.0).max(GAP) - GAP;
    let (head, content) = Header::new(title, note, right - MARGIN);
    let both = [columns.iter().any(|c| !c.label.is_empty()), columns.iter().any(|c| !c.name.is_empty())];
    let above = both.iter().filter(|&&b| b).count().max(1);
    let top = head.height() + GAP / 2 + above * LINE;
    let originals = cell.1 + GAP / 2;
    let height = top + originals + recons * pitch.1 + MARGIN - GAP / 2;
    let mut canvas = Canvas::new(content + 2 * MARGIN, height, PAPER);
    head.draw(&mut canvas);

    let line_y = |line: usize| if line == 0 { top } else { top + originals + (line - 1) * pitch.1 };
    for line in 0..=recons {
        let y = line_y(line);
        canvas.text(left - GAP, y + cell.1 / 2 + CAPITAL / 2, row_label(line), LABEL, Align::Right, INK);
        if line > 0 {
            canvas.text(left - GAP, y + cell.1 + CAPITAL + 6, score_label, LABEL, Align::Right, MUTED);
        }
    }
    for (n, column) in columns.iter().enumerate() {
        let x = left + n * pitch.0;
        let label = shorten(&column.label, cell.0);
        let name = shorten_name(&column.name, cell.0);
        canvas.text(x + cell.0 / 2, top - 8 - (above - 1) * LINE, &label, LABEL, Align::Centre, INK);
        canvas.text(x + cell.0 / 2, top - 8, &name, LABEL, Align::Centre, MUTED);
        picture(&mut canvas, (x, top), column.original, shape);
        canvas.frame(x, top, cell.0, cell.1, HAIRLINE);
        for (r, recon) in column.recons.iter().enumerate() {
            let y = line_y(1 + r);
            picture(&mut canvas, (x, y), recon, shape);
            canvas.frame(x, y, cell.0, cell.1, HAIRLINE);
            if let Some(score) = column.pearson.get(r).filter(|v| !v.is_nan()) {
                let text = format!("{score:.3}");
                canvas.text(x + cell.0 / 2, y + cell.1 + CAPITAL + 6, &text, LABEL, Align::Centre, MUTED);
            }
        }
    }
    canvas
}

fn picture(canvas: &mut Canvas, at: (usize, usize), row: &[f32], shape: Shape) {
    paint(canvas, at, row, shape, byte, |v| [byte(v); 3]);
}
