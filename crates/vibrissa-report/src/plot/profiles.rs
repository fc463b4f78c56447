//! The sheet of reconstructions of plain vectors: wide panels with the original as a grey area around 0 and the
//! reconstruction as a thin line over it.

use super::canvas::{Align, Canvas};
use super::colour::{ACCENT, AREA, BACKGROUND, HAIRLINE, INK, MUTED};
use super::reconstructions::ReconstructedRow;
use super::{
    CAPITAL_HEIGHT, GAP, LABEL_SCALE, LINE_HEIGHT, MARGIN, SheetHeader, extent, font, shorten, shorten_name, wrap,
};

/// Height of a panel, pixels.
const HEIGHT: usize = 96;
/// Largest width of a panel where two stand side by side, and where four do, pixels.
const MAX_WIDTH: [usize; 2] = [780, 384];
/// Rows with more values than this get wide panels.
const WIDE_DIM: usize = 128;
/// Space above a panel for its label, pixels.
const ABOVE: usize = LINE_HEIGHT;
/// Space below a panel for its caption, pixels.
const BELOW: usize = CAPITAL_HEIGHT + 8;
/// Smallest distance between the label of 0 and the labels of the ends of the axis, pixels.
const LABEL_DISTANCE: usize = 12;

/// One panel: a row and one of its reconstructions, if it has any.
struct Panel<'a> {
    original: &'a [f32],
    recon: Option<&'a [f32]>,
    low: f32,
    high: f32,
}

impl<'a> Panel<'a> {
    fn new(original: &'a [f32], recon: Option<&'a [f32]>) -> Panel<'a> {
        let values = original.iter().chain(recon.unwrap_or(&[])).copied().filter(|v| v.is_finite());
        let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        // The axis includes 0, unless the values are so far from 0 that their differences would be invisible.
        let (low, high) = match (low, high) {
            (low, high) if low > high => (0.0, 0.0),
            (low, high) if (low > high / 2.0 || high < low / 2.0) && low < high => (low, high),
            (low, high) => (low.min(0.0), high.max(0.0)),
        };
        Panel { original, recon, low, high }
    }

    fn span(&self) -> f64 {
        f64::from(self.high) - f64::from(self.low)
    }

    /// Value at which bars start: 0, or the end of the axis closest to 0.
    fn base(&self) -> f32 {
        0.0f32.clamp(self.low, self.high)
    }

    /// Distance from the top of the panel to a value, pixels.
    fn y(&self, value: f32) -> f32 {
        let span = self.span();
        let share = if span > 0.0 { (f64::from(self.high) - f64::from(value)) / span } else { 0.5 };
        4.0 + share as f32 * (HEIGHT - 9) as f32
    }

    fn draw(&self, canvas: &mut Canvas, at: (usize, usize), width: usize) {
        canvas.fill(at.0, at.1, width, HEIGHT, [255, 255, 255]);
        let base = self.base();
        let bars = width.min(self.original.len());
        for bar in 0..bars {
            let Some((low, high)) = extent(self.original, bar, bars) else { continue };
            let (from, to) = (bar * width / bars, (bar + 1) * width / bars);
            // Wide bars are separated by one pixel.
            let wide = if to - from >= 4 { to - from - 1 } else { to - from };
            let (top, bottom) = (self.y(high.max(base)).round() as usize, self.y(low.min(base)).round() as usize);
            canvas.fill(at.0 + from, at.1 + top, wide, bottom + 1 - top, AREA);
        }
        if base == 0.0 {
            canvas.fill(at.0, at.1 + self.y(0.0).round() as usize, width, 1, MUTED);
        }
        for line in self.lines(width) {
            let points: Vec<_> = line.iter().map(|&(x, v)| (at.0 as f32 + x, at.1 as f32 + self.y(v))).collect();
            canvas.polyline(&points, 1.0, ACCENT);
        }
        canvas.frame(at.0, at.1, width, HEIGHT, HAIRLINE);
    }

    /// The reconstruction as lines of (pixel, value): one line, or with several values per pixel two lines, through the
    /// smallest and through the largest value at each pixel.
    fn lines(&self, width: usize) -> Vec<Vec<(f32, f32)>> {
        let Some(recon) = self.recon else { return Vec::new() };
        if recon.len() <= width {
            let step = width as f32 / recon.len().max(1) as f32;
            // NaN and infinite values interrupt the line.
            return vec![recon.iter().enumerate().map(|(i, &v)| ((i as f32 + 0.5) * step - 0.5, v)).collect()];
        }
        let both: Vec<_> = (0..width).filter_map(|p| extent(recon, p, width).map(|e| (p as f32, e))).collect();
        vec![both.iter().map(|&(x, e)| (x, e.0)).collect(), both.iter().map(|&(x, e)| (x, e.1)).collect()]
    }

    /// Labels of the axis: distance from the top of the panel to their baseline in pixels, and text.
    fn axis(&self) -> Vec<(usize, String)> {
        let ends = [(self.high, CAPITAL_HEIGHT), (self.low, HEIGHT)];
        if self.base() != 0.0 {
            return ends.map(|(end, line)| (line, number(end, self.span() as f32))).into();
        }
        // An end within 1 % of 0 is covered by the label of 0.
        let apart = ends.into_iter().filter(|(end, _)| f64::from(end.abs()) > 0.01 * self.span());
        let mut labels: Vec<_> = apart.map(|(end, line)| (line, number(end, end))).collect();
        let line = (self.y(0.0).round() as usize + CAPITAL_HEIGHT / 2).clamp(CAPITAL_HEIGHT, HEIGHT);
        if labels.iter().all(|l| l.0.abs_diff(line) >= LABEL_DISTANCE) {
            labels.push((line, "0".into()));
        }
        labels
    }
}

/// Formats a number with as many decimals as show three significant digits of `unit`.
fn number(value: f32, unit: f32) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let whole = if unit == 0.0 { 0 } else { unit.abs().log10().floor() as i32 };
    let text = format!("{value:.*}", (2 - whole).clamp(0, 5) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Layout of the panels.
struct PanelGrid {
    /// Panels side by side.
    columns: usize,
    /// Width of a panel, pixels.
    width: usize,
    /// Space for the labels of the axis left of a panel, pixels.
    gutter: usize,
}

impl PanelGrid {
    /// Distance from one panel to the next, across and down, pixels.
    fn pitch(&self) -> (usize, usize) {
        (self.gutter + self.width + GAP, ABOVE + HEIGHT + BELOW + GAP)
    }
}

/// Lays panels out with an integer number of pixels per value, in four columns, or in two if rows are long. Several
/// reconstructions of one row stand side by side.
fn grid(panels: &[Vec<Panel<'_>>]) -> PanelGrid {
    let dim = panels.iter().flatten().map(|p| p.original.len()).max().unwrap_or(0);
    let recons = panels.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let columns = match recons {
        1 if dim <= WIDE_DIM => 4,
        1 => 2,
        several => several,
    };
    let widest = MAX_WIDTH[usize::from(columns > 2)];
    let width = widest.checked_div(dim).map_or(widest, |pixels| (pixels * dim).max(widest.min(dim)));
    let labels = panels.iter().flatten().flat_map(Panel::axis);
    let gutter = labels.map(|l| font::width(&l.1, LABEL_SCALE)).max().unwrap_or(0) + 6;
    PanelGrid { columns: columns.min(panels.iter().map(Vec::len).sum()).max(1), width, gutter }
}

/// See [`super::reconstruction_sheet`].
pub(super) fn profile_sheet(rows: &[ReconstructedRow<'_>], row_labels: &[String], title: &str, note: &str) -> Canvas {
    let panels: Vec<Vec<Panel>> = rows
        .iter()
        .map(|row| match row.recons {
            [] => vec![Panel::new(row.original, None)],
            recons => recons.iter().map(|r| Panel::new(row.original, Some(r))).collect(),
        })
        .collect();
    let grid = grid(&panels);
    let pitch = grid.pitch();
    let several = panels.iter().any(|p| p.len() > 1);
    let lines = if several { panels.len() } else { panels.len().div_ceil(grid.columns) };
    let dim = panels.iter().flatten().map(|p| p.original.len()).max().unwrap_or(0);
    let words = key_text(dim, grid.width);
    let cells = if panels.is_empty() { 0 } else { grid.columns * pitch.0 - GAP };
    let samples: usize = grid.gutter + KEY.iter().map(|k| key_width(k)).sum::<usize>();
    let (head, content) = SheetHeader::new(title, note, cells.max(samples + KEY_TEXT_WIDTH));
    let words = wrap(&words, content - samples);
    let top = head.height();
    let bottom = if panels.is_empty() { 0 } else { words.len().max(1) * LINE_HEIGHT };
    let mut canvas = Canvas::new(content + 2 * MARGIN, top + lines * pitch.1 + bottom + MARGIN, BACKGROUND);
    head.draw(&mut canvas);

    for (n, (row, panels)) in rows.iter().zip(&panels).enumerate() {
        for (r, panel) in panels.iter().enumerate() {
            let (line, place) = if several { (n, r) } else { (n / grid.columns, n % grid.columns) };
            let at = (MARGIN + place * pitch.0 + grid.gutter, top + line * pitch.1 + ABOVE);
            if r == 0 {
                draw_title(&mut canvas, (at.0, at.1 - 6), grid.width, row);
            }
            panel.draw(&mut canvas, at, grid.width);
            for (down, text) in panel.axis() {
                canvas.text(at.0 - 6, at.1 + down, &text, LABEL_SCALE, Align::Right, MUTED);
            }
            let caption = caption(row_labels, r, several, row.pearson.get(r).copied());
            let under = (at.0 + grid.width / 2, at.1 + HEIGHT + CAPITAL_HEIGHT + 6);
            canvas.text(under.0, under.1, &caption, LABEL_SCALE, Align::Centre, INK);
        }
    }
    if !panels.is_empty() {
        draw_key(&mut canvas, (MARGIN + grid.gutter, top + lines * pitch.1 + CAPITAL_HEIGHT), &words);
    }
    canvas
}

/// Draws the label of a row and its name above a panel.
fn draw_title(canvas: &mut Canvas, (x, y): (usize, usize), width: usize, row: &ReconstructedRow<'_>) {
    let label = shorten(&row.label, width / 2);
    canvas.text(x, y, &label, LABEL_SCALE, Align::Left, INK);
    let used = if label.is_empty() { 0 } else { font::width(&label, LABEL_SCALE) + GAP };
    canvas.text(x + used, y, &shorten_name(&row.name, width - used), LABEL_SCALE, Align::Left, MUTED);
}

/// Caption below a panel: the name of the reconstruction, if there are several, and its Pearson r.
fn caption(row_labels: &[String], recon: usize, several: bool, pearson: Option<f64>) -> String {
    let label = row_labels.get(1 + recon).filter(|_| several).map_or("", |s| s.as_str());
    let score = pearson.filter(|v| !v.is_nan()).map_or(String::new(), |r| format!("r = {r:.3}"));
    let apart = if label.is_empty() || score.is_empty() { "" } else { ": " };
    format!("{label}{apart}{score}")
}

/// Smallest width of the text of the key, pixels.
const KEY_TEXT_WIDTH: usize = 240;
/// Entries of the key.
const KEY: [&str; 2] = ["original", "reconstruction"];

fn key_width(text: &str) -> usize {
    font::width(text, LABEL_SCALE) + 26 + 2 * GAP
}

fn key_text(dim: usize, width: usize) -> String {
    let several = if dim > width { "; each pixel spans the smallest to largest value of several columns" } else { "" };
    let columns = if dim == 1 { "one column".into() } else { format!("columns 0 to {}", dim.saturating_sub(1)) };
    format!("{columns} from left to right, each panel with its own axis{several}")
}

fn draw_key(canvas: &mut Canvas, (mut x, y): (usize, usize), words: &[String]) {
    canvas.fill(x, y - CAPITAL_HEIGHT, 18, CAPITAL_HEIGHT, AREA);
    canvas.text(x + 26, y, KEY[0], LABEL_SCALE, Align::Left, MUTED);
    x += key_width(KEY[0]);
    canvas.polyline(&[(x as f32, y as f32 - 3.0), (x as f32 + 17.0, y as f32 - 3.0)], 1.5, ACCENT);
    canvas.text(x + 26, y, KEY[1], LABEL_SCALE, Align::Left, MUTED);
    x += key_width(KEY[1]);
    for (n, line) in words.iter().enumerate() {
        canvas.text(x, y + n * LINE_HEIGHT, line, LABEL_SCALE, Align::Left, MUTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_labelled_to_three_figures() {
        let text = [0.0, 2.3, -3.04159, 0.25, 12.345, 1234.5, 99999.0, 0.00123, 1e6, -2.5e-7].map(|v| number(v, v));
        assert_eq!(text, ["0", "2.3", "-3.04", "0.25", "12.3", "1234", "99999", "0.00123", "1.0e6", "-2.5e-7"]);
        let row = [1.001, 1.004];
        assert_eq!(Panel::new(&row, None).axis(), [(CAPITAL_HEIGHT, "1.004".into()), (HEIGHT, "1.001".into())]);
        let row = [-1e-4, 3.0];
        let text: Vec<String> = Panel::new(&row, None).axis().into_iter().map(|l| l.1).collect();
        assert_eq!(text, ["3", "0"]);
    }

    #[test]
    fn labels_of_an_axis_do_not_overlap() {
        for (low, high) in [
            (-1.0, 1.0),
            (0.0, 5.0),
            (-5.0, 0.0),
            (-0.1, 9.0),
            (-9.0, 0.1),
            (0.0, 0.0),
            (-1e38, 3e38),
            (5.0, 6.0),
            (-6.0, -5.0),
            (7.0, 7.0),
            (-1e-4, 1.0),
        ] {
            let row = [low, high];
            let mut labels = Panel::new(&row, None).axis();
            assert!(!labels.is_empty(), "{low} to {high}");
            labels.sort();
            assert!(labels.windows(2).all(|w| w[1].0 >= w[0].0 + CAPITAL_HEIGHT + 2), "{low} to {high}: {labels:?}");
            assert!(labels.iter().all(|l| (CAPITAL_HEIGHT..=HEIGHT).contains(&l.0)), "{low} to {high}: {labels:?}");
        }
    }

    #[test]
    fn values_far_from_zero_fill_the_panel() {
        let (far, near) = ([10_000.0f32, 10_001.0, 10_003.0], [1.0f32, 10.0, 3.0]);
        let (panel, zero) = (Panel::new(&far, None), Panel::new(&near, None));
        assert_eq!((panel.base(), panel.y(10_000.0), panel.y(10_003.0)), (10_000.0, (HEIGHT - 5) as f32, 4.0));
        assert_eq!((zero.base(), zero.y(0.0), zero.y(10.0)), (0.0, (HEIGHT - 5) as f32, 4.0));
        let low = [-10_003.0f32, -10_000.0];
        assert_eq!(Panel::new(&low, None).base(), -10_000.0);
        assert_eq!(Panel::new(&[f32::NAN], None).axis(), [(HEIGHT / 2 + CAPITAL_HEIGHT / 2, "0".into())]);
    }

    #[test]
    fn captions_name_the_reconstruction_only_where_there_are_several() {
        let labels = ["original".to_owned(), "SAE 0".into()];
        assert_eq!(caption(&labels, 0, false, Some(0.6094)), "r = 0.609");
        assert_eq!(caption(&labels, 0, true, Some(0.6094)), "SAE 0: r = 0.609");
        assert_eq!(caption(&labels, 0, true, Some(f64::NAN)), "SAE 0");
        assert_eq!(caption(&labels, 1, true, None), "");
    }
}
