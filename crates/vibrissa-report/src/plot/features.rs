//! The sheet of features: decoder directions in a grid. The caller chooses the features and their order.

use super::canvas::{Align, Canvas};
use super::colour::{BACKGROUND, HAIRLINE, INK, MUTED, byte, diverging};
use super::{CAPITAL_HEIGHT, GAP, LABEL_SCALE, LINE_HEIGHT, MARGIN, SheetHeader, draw_image, extent, font, image_size};
use vibrissa_core::shape::ImageShape;

/// One cell of a [`feature_sheet`].
#[derive(Clone, Copy, Debug)]
pub struct Feature<'a> {
    /// Index of the latent, drawn below the image.
    pub index: usize,
    /// Share of the rows on which it is active, 0–1, drawn below the index in %; `None` draws nothing.
    pub share: Option<f64>,
    /// Decoder direction, `[D]`.
    pub row: &'a [f32],
}

/// Width and height of a profile of a plain vector, pixels.
pub(super) const PROFILE: (usize, usize) = (144, 72);
/// Width and height of the colour bar, pixels.
const BAR: (usize, usize) = (161, 9);

/// Draws decoder directions in a grid of `columns`, with the latent's index and its share of rows below each. The note
/// goes under the title.
///
/// Each direction is scaled to its largest |value|: grey images in the map of [`diverging`], colour images around
/// mid-grey, plain vectors (`shape` `None`) as bars around 0, where a bar of several columns spans their smallest to
/// largest value. Directions of zeros are drawn like others; values that are not numbers are magenta.
///
/// # Panics
/// If a direction does not have the width of the shape.
pub fn feature_sheet(
    features: &[Feature<'_>],
    shape: Option<ImageShape>,
    columns: usize,
    title: &str,
    note: &str,
) -> Canvas {
    let cell = shape.map_or(PROFILE, image_size);
    let below: Vec<[String; 2]> =
        features.iter().map(|f| [f.index.to_string(), f.share.map_or(String::new(), percent)]).collect();
    let widest = below.iter().flatten().map(|t| font::width(t, LABEL_SCALE)).max().unwrap_or(0);
    let shares = if features.iter().any(|f| f.share.is_some()) { LINE_HEIGHT - 2 } else { 0 };
    let pitch = (cell.0.max(widest) + GAP, cell.1 + CAPITAL_HEIGHT + 10 + shares + GAP);
    let columns = columns.clamp(1, features.len().max(1));
    let lines = features.len().div_ceil(columns);
    let grid = if features.is_empty() { 0 } else { columns * pitch.0 - GAP };
    let key = ColourKey::new(shape, features.is_empty(), grid.max(font::width(title, super::TITLE_SCALE)));
    let (head, content) = SheetHeader::new(title, note, grid.max(key.width()));
    let top = head.height();
    let height = top + lines * pitch.1 + key.height() + MARGIN + GAP / 2;
    let mut canvas = Canvas::new(content + 2 * MARGIN, height, BACKGROUND);
    head.draw(&mut canvas);

    for (n, (feature, below)) in features.iter().zip(&below).enumerate() {
        let slack = (pitch.0 - GAP - cell.0) / 2;
        let at = (MARGIN + n % columns * pitch.0 + slack, top + n / columns * pitch.1);
        match shape {
            Some(shape) => feature_image(&mut canvas, at, feature.row, shape),
            None => feature_profile(&mut canvas, at, feature.row),
        }
        canvas.frame(at.0, at.1, cell.0, cell.1, HAIRLINE);
        let y = at.1 + cell.1 + CAPITAL_HEIGHT + 6;
        canvas.text(at.0 + cell.0 / 2, y, &below[0], LABEL_SCALE, Align::Centre, INK);
        canvas.text(at.0 + cell.0 / 2, y + LINE_HEIGHT - 2, &below[1], LABEL_SCALE, Align::Centre, MUTED);
    }
    key.draw(&mut canvas, top + lines * pitch.1 + GAP / 2);
    canvas
}

/// Explanation of the colours, below the grid.
struct ColourKey {
    words: &'static str,
    bar: bool,
    /// True on a narrow sheet, where the words go under the colour bar.
    stacked: bool,
}

impl ColourKey {
    fn new(shape: Option<ImageShape>, empty: bool, grid: usize) -> ColourKey {
        let words = match shape {
            _ if empty => "",
            Some(ImageShape { channels: 3, .. }) => {
                "colours around mid-grey, each feature scaled to its largest |value|"
            }
            Some(_) => "each feature scaled to its largest |value|",
            None => "decoder direction by column, each scaled to its largest |value|",
        };
        let bar = !empty && shape.is_some_and(|s| s.channels != 3);
        ColourKey { words, bar, stacked: bar && BAR.0 + 2 * GAP + font::width(words, LABEL_SCALE) > grid }
    }

    fn width(&self) -> usize {
        let words = font::width(self.words, LABEL_SCALE);
        match (self.bar, self.stacked) {
            (true, false) => BAR.0 + 2 * GAP + words,
            (true, true) => words.max(BAR.0),
            _ => words,
        }
    }

    fn height(&self) -> usize {
        let under = if self.stacked { 2 * LINE_HEIGHT } else { 0 };
        under + if self.words.is_empty() { 0 } else { CAPITAL_HEIGHT } + if self.bar { LINE_HEIGHT } else { 0 }
    }

    fn draw(&self, canvas: &mut Canvas, y: usize) {
        if self.bar {
            colour_bar(canvas, MARGIN, y);
        }
        let (x, y) = match (self.bar, self.stacked) {
            (true, false) => (MARGIN + BAR.0 + 2 * GAP, y + CAPITAL_HEIGHT),
            (true, true) => (MARGIN, y + BAR.1 + LINE_HEIGHT + LINE_HEIGHT + CAPITAL_HEIGHT),
            _ => (MARGIN, y + CAPITAL_HEIGHT),
        };
        canvas.text(x, y, self.words, LABEL_SCALE, Align::Left, MUTED);
    }
}

/// Formats a share as "3.4 %": one decimal, two below 0.1 %, none for 100 %.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p >= 99.95 => format!("{p:.0} %"),
        p if p >= 0.095 || p == 0.0 => format!("{p:.1} %"),
        p if p >= 0.005 => format!("{p:.2} %"),
        p if p > 0.0 => "< 0.01 %".into(),
        _ => String::new(),
    }
}

/// Largest finite |value|; 1 if all are 0, so that it can be divided by.
fn largest(row: &[f32]) -> f32 {
    let max = row.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    if max > 0.0 { max } else { 1.0 }
}

fn feature_image(canvas: &mut Canvas, at: (usize, usize), row: &[f32], shape: ImageShape) {
    let scale = largest(row);
    draw_image(canvas, at, row, shape, |v| byte(0.5 + 0.5 * v / scale), |v| diverging(v / scale));
}

fn feature_profile(canvas: &mut Canvas, at: (usize, usize), row: &[f32]) {
    let (width, height) = PROFILE;
    canvas.fill(at.0, at.1, width, height, [255, 255, 255]);
    let middle = at.1 + height / 2;
    let half = (height / 2 - 4) as f32;
    let scale = largest(row);
    for p in 0..width {
        let Some((low, high)) = extent(row, p, width) else { continue };
        // A bar of one column reaches from 0 to its value, a bar of several columns from their smallest to their
        // largest.
        let length = |v: f32| (v / scale * half).round() as usize;
        let (up, down) = (length(high.max(0.0)), length((-low).max(0.0)));
        canvas.fill(at.0 + p, middle - up, 1, up, diverging(0.75));
        canvas.fill(at.0 + p, middle + 1, 1, down, diverging(-0.75));
    }
    canvas.fill(at.0, middle, width, 1, [168, 166, 162]);
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
        canvas.text(x + at, y + height + LINE_HEIGHT, text, LABEL_SCALE, align, MUTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_formatted_as_percent() {
        let text = [1.0, 0.9996, 0.999, 0.0344, 0.001, 0.0005, 0.00001, 0.0].map(percent);
        assert_eq!(text, ["100 %", "100 %", "99.9 %", "3.4 %", "0.1 %", "0.05 %", "< 0.01 %", "0.0 %"]);
        assert_eq!(percent(f64::NAN), "");
    }
}
