//! A table of coloured cells as SVG.

use super::svg::{Colour, TEXT, TITLE, TITLE_TEXT, Target, draw_text, escape, open_figure, text_width};
use std::fmt::Write;

/// One cell of a [`Matrix`].
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixCell {
    /// Colour of the cell.
    pub colour: Colour,
    /// Opacity of the colour, in [0, 1].
    pub opacity: f64,
    /// Text in the cell; may be empty.
    pub text: String,
    /// Tooltip of the cell.
    pub tip: String,
}

/// A table of coloured cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Title above the table.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells, by row.
    pub cells: Vec<Vec<MatrixCell>>,
    /// Width and height of a cell, pixels.
    pub size: [f64; 2],
}

/// Longest name of a row, characters.
const NAME_LENGTH: usize = 18;

fn clip(name: &str) -> String {
    match name.chars().count() {
        n if n > NAME_LENGTH => name.chars().take(NAME_LENGTH - 1).chain(['…']).collect(),
        _ => name.to_owned(),
    }
}

impl Matrix {
    /// Draws the table. Names of columns that are wider than a column are slanted.
    pub fn svg(&self, target: Target) -> String {
        let names: Vec<String> = self.rows.iter().map(|n| clip(n)).collect();
        let left = names.iter().map(|n| text_width(n, TEXT)).fold(20.0, f64::max) + 12.0;
        let [w, h] = self.size;
        let width = (left + self.columns.len() as f64 * w + 6.0).max(text_width(&self.title, TITLE_TEXT) + 10.0);
        let longest = self.columns.iter().map(|c| text_width(c, TEXT)).fold(0.0, f64::max);
        let slanted = longest > w;
        let height = TITLE + names.len() as f64 * h + if slanted { 16.0 + 0.9 * longest } else { 24.0 };
        let (muted, ink) = (target.colour(Colour::Muted), target.colour(Colour::Ink));
        let mut out = open_figure(&self.title, width, height, target);
        for (r, (name, cells)) in names.iter().zip(&self.cells).enumerate() {
            let y = TITLE + r as f64 * h;
            draw_text(&mut out, [left - 8.0, y + h / 2.0 + 4.0], "end", &muted, name);
            for (c, cell) in cells.iter().enumerate() {
                let x = left + c as f64 * w;
                let _ = write!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"{:.3}\"><title>{}</title></rect>",
                    w - 1.0,
                    h - 1.0,
                    target.colour(cell.colour),
                    cell.opacity,
                    escape(&cell.tip)
                );
                if !cell.text.is_empty() {
                    draw_text(&mut out, [x + w / 2.0, y + h / 2.0 + 4.0], "middle", &ink, &cell.text);
                }
            }
        }
        let y = TITLE + names.len() as f64 * h + 15.0;
        for (c, name) in self.columns.iter().enumerate() {
            let x = left + (c as f64 + 0.5) * w;
            if slanted {
                let (name, y) = (escape(name), y - 2.0);
                let _ = write!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{muted}\" transform=\"rotate(-60 {x:.1} {y:.1})\">{name}</text>",
                );
            } else {
                draw_text(&mut out, [x, y], "middle", &muted, name);
            }
        }
        out + "</svg>"
    }
}
