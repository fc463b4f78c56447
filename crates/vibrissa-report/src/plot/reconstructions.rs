//! The sheet of reconstructions: images below their originals. Plain vectors are drawn by `profiles.rs`.

use super::canvas::{Align, Canvas};
use super::colour::{BACKGROUND, HAIRLINE, INK, MUTED, byte};
use super::profiles::profile_sheet;
use super::{
    CAPITAL_HEIGHT, GAP, LABEL_SCALE, LINE_HEIGHT, MARGIN, SheetHeader, draw_image, font, image_size, shorten,
    shorten_name,
};
use vibrissa_core::shape::ImageShape;

/// A row of the data and its reconstructions.
#[derive(Clone, Debug)]
pub struct ReconstructedRow<'a> {
    /// First line above the row (its class); may be empty.
    pub label: String,
    /// Second line above the row (its file); may be empty.
    pub name: String,
    /// Original row, `[D]`.
    pub original: &'a [f32],
    /// Reconstructions, each `[D]`, in the order of the sheet's row labels.
    pub recons: &'a [&'a [f32]],
    /// Pearson r of each reconstruction, drawn below it. May be empty; NaN draws nothing.
    pub pearson: &'a [f64],
}

/// Draws rows of the data above their reconstructions, with Pearson r below each reconstruction. The note goes under
/// the title.
///
/// Images, one column per row of the data, show values in [0, 1]. Plain vectors (`shape` `None`) are drawn as panels,
/// the original as a grey area, the reconstruction as a line over it. `row_labels[0]` names the originals, the
/// following labels name the reconstructions; missing labels stay blank.
///
/// # Panics
/// If a row does not have the width of the shape.
pub fn reconstruction_sheet(
    rows: &[ReconstructedRow<'_>],
    shape: Option<ImageShape>,
    row_labels: &[String],
    title: &str,
    note: &str,
) -> Canvas {
    match shape {
        Some(shape) => image_sheet(rows, shape, row_labels, title, note),
        None => profile_sheet(rows, row_labels, title, note),
    }
}

fn image_sheet(
    rows: &[ReconstructedRow<'_>],
    shape: ImageShape,
    row_labels: &[String],
    title: &str,
    note: &str,
) -> Canvas {
    let cell = image_size(shape);
    let recons = rows.iter().map(|c| c.recons.len()).max().unwrap_or(0);
    let scored = rows.iter().any(|c| !c.pearson.is_empty());
    let row_label = |line: usize| row_labels.get(line).map_or("", |s| s.as_str());
    let score_label = if scored { "Pearson r" } else { "" };
    let labels = (0..=recons).map(row_label).chain([score_label]);
    let label_width = labels.map(|l| font::width(l, LABEL_SCALE)).max().unwrap_or(0);
    let left = MARGIN + if label_width > 0 { label_width + GAP } else { 0 };
    let pitch = (cell.0 + GAP, cell.1 + if scored { CAPITAL_HEIGHT + 10 + GAP } else { GAP / 2 });
    let right = left + (rows.len() * pitch.0).max(GAP) - GAP;
    let (head, content) = SheetHeader::new(title, note, right - MARGIN);
    let both = [rows.iter().any(|c| !c.label.is_empty()), rows.iter().any(|c| !c.name.is_empty())];
    let above = both.iter().filter(|&&b| b).count().max(1);
    let top = head.height() + GAP / 2 + above * LINE_HEIGHT;
    let originals = cell.1 + GAP / 2;
    let height = top + originals + recons * pitch.1 + MARGIN - GAP / 2;
    let mut canvas = Canvas::new(content + 2 * MARGIN, height, BACKGROUND);
    head.draw(&mut canvas);

    let line_y = |line: usize| if line == 0 { top } else { top + originals + (line - 1) * pitch.1 };
    for line in 0..=recons {
        let y = line_y(line);
        canvas.text(left - GAP, y + cell.1 / 2 + CAPITAL_HEIGHT / 2, row_label(line), LABEL_SCALE, Align::Right, INK);
        if line > 0 {
            canvas.text(left - GAP, y + cell.1 + CAPITAL_HEIGHT + 6, score_label, LABEL_SCALE, Align::Right, MUTED);
        }
    }
    for (n, row) in rows.iter().enumerate() {
        let x = left + n * pitch.0;
        let label = shorten(&row.label, cell.0);
        let name = shorten_name(&row.name, cell.0);
        canvas.text(x + cell.0 / 2, top - 8 - (above - 1) * LINE_HEIGHT, &label, LABEL_SCALE, Align::Centre, INK);
        canvas.text(x + cell.0 / 2, top - 8, &name, LABEL_SCALE, Align::Centre, MUTED);
        draw_row(&mut canvas, (x, top), row.original, shape);
        canvas.frame(x, top, cell.0, cell.1, HAIRLINE);
        for (r, recon) in row.recons.iter().enumerate() {
            let y = line_y(1 + r);
            draw_row(&mut canvas, (x, y), recon, shape);
            canvas.frame(x, y, cell.0, cell.1, HAIRLINE);
            if let Some(score) = row.pearson.get(r).filter(|v| !v.is_nan()) {
                let text = format!("{score:.3}");
                canvas.text(x + cell.0 / 2, y + cell.1 + CAPITAL_HEIGHT + 6, &text, LABEL_SCALE, Align::Centre, MUTED);
            }
        }
    }
    canvas
}

fn draw_row(canvas: &mut Canvas, at: (usize, usize), row: &[f32], shape: ImageShape) {
    draw_image(canvas, at, row, shape, byte, |v| [byte(v); 3]);
}
