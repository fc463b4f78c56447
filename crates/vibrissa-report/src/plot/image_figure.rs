//! Images with labels as SVG.

use super::svg::{
    Colour, LegendEntry, TITLE, TITLE_TEXT, Target, draw_legend, draw_text, lay_out_legend, open_figure, text_width,
};
use std::fmt::Write;

/// A label on an [`ImageFigure`].
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Place, pixels from the left and from below the title.
    pub at: [f64; 2],
    /// Alignment: `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// Text of the label.
    pub text: String,
}

/// Images with labels.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFigure {
    /// Title above the figure.
    pub title: String,
    /// Width and height below the title, pixels.
    pub size: [f64; 2],
    /// PNG in base64, and its rectangle `[x, y, width, height]`.
    pub images: Vec<(String, [f64; 4])>,
    /// Labels on and around the images.
    pub labels: Vec<Label>,
    /// Names of the colours.
    pub legend: Vec<LegendEntry>,
}

impl ImageFigure {
    /// Draws the figure.
    pub fn svg(&self, target: Target) -> String {
        let (entries, lines) = lay_out_legend(&self.legend, self.size[0]);
        let height = TITLE + self.size[1] + if lines > 0 { 12.0 + 18.0 * lines as f64 } else { 6.0 };
        let width = self.size[0].max(text_width(&self.title, TITLE_TEXT) + 10.0);
        let mut out = open_figure(&self.title, width, height, target);
        for (png, [x, y, w, h]) in &self.images {
            let y = y + TITLE;
            let _ = write!(
                out,
                "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" preserveAspectRatio=\"none\" image-rendering=\"optimizeSpeed\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{png}\"/>"
            );
        }
        let muted = target.colour(Colour::Muted);
        for label in &self.labels {
            draw_text(&mut out, [label.at[0], label.at[1] + TITLE], label.anchor, &muted, &label.text);
        }
        draw_legend(&mut out, &entries, 2.0, TITLE + self.size[1] + 20.0, target);
        out + "</svg>"
    }
}
