//! Parts that all SVG figures share: colours, text, ticks, the title and the legend.

use std::fmt::Write;

/// Role of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Text and outlines.
    Ink,
    /// Notes, and references for comparison.
    Muted,
    /// Grid lines.
    Grid,
    /// Marks of a single series.
    Accent,
    /// Values above 0.
    Warm,
    /// Marks of one of several series; colours repeat after ten.
    Series(usize),
}

/// Destination of a figure, which decides its colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A page that defines the CSS variables `--ink`, `--muted`, `--line`, `--accent`, `--warm` and `--c0` to `--c9`.
    Page,
    /// A file, on white.
    File,
}

/// Colours of the series; in a page, those of its light theme.
const SERIES: [&str; 10] =
    ["#2f6690", "#c05a33", "#3a8a5c", "#8a5aa8", "#b8912b", "#4aa3b5", "#b34a78", "#6b7a3a", "#7a5a45", "#5a6acb"];

impl Target {
    /// The SVG value of a colour.
    pub fn colour(self, colour: Colour) -> String {
        let (name, literal) = match colour {
            Colour::Ink => ("ink".to_owned(), "#2d2d30"),
            Colour::Muted => ("muted".to_owned(), "#6b6b70"),
            Colour::Grid => ("line".to_owned(), "#dedbd5"),
            Colour::Accent => ("accent".to_owned(), "#2f6690"),
            Colour::Warm => ("warm".to_owned(), "#b5402f"),
            Colour::Series(i) => (format!("c{}", i % 10), SERIES[i % 10]),
        };
        match self {
            Target::Page => format!("var(--{name})"),
            Target::File => literal.to_owned(),
        }
    }
}

/// Red, green and blue of a series.
pub fn series_rgb(i: usize) -> [u8; 3] {
    let text = SERIES[i % 10];
    [1, 3, 5].map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits"))
}

/// Name and colour of an entry of a legend.
pub type LegendEntry = (String, Colour);

/// Space left of the plot of a chart, for the labels of the y axis, pixels.
pub(super) const LEFT: f64 = 66.0;
/// Space right of the plot of a chart, pixels.
pub(super) const RIGHT: f64 = 14.0;
/// Height of the title, pixels.
pub(super) const TITLE: f64 = 34.0;
/// Font size of labels, pixels.
pub const TEXT: f64 = 12.0;
/// Font size of titles, pixels.
pub(super) const TITLE_TEXT: f64 = 13.5;

/// Escapes a text for SVG and HTML.
pub fn escape(text: &str) -> String {
    // XML does not allow most control characters.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Approximate width of a text at a font size, pixels: Chinese characters are square, others about half as wide.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| if c as u32 >= 0x2e80 { size } else { 0.56 * size }).sum()
}

/// Round numbers from `low` to `high`, about `n` of them.
pub fn ticks(low: f64, high: f64, n: usize) -> Vec<f64> {
    let raw = Some((high - low) / n as f64).filter(|r| *r > 0.0).unwrap_or(1.0);
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw * 0.999).unwrap_or(power);
    let first = (low / step - 1e-9).ceil();
    (0..)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|v| *v <= high + step * 1e-6)
        .map(|v| if v.abs() < step / 1e6 { 0.0 } else { v })
        .collect()
}

/// Formats the number of a tick: `12K`, `2.5M`, `1e−5`.
pub fn tick_text(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{}M", four_digits(value / 1e6))
    } else if size >= 1e4 {
        format!("{}K", four_digits(value / 1e3))
    } else if size != 0.0 && size < 1e-3 {
        format!("{value:.0e}")
    } else {
        four_digits(value)
    }
    .replace('-', "−")
}

/// Formats a number with at most four significant digits, without trailing zeros.
fn four_digits(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Starts a figure: size, fonts, background and title. The caller appends the content and `</svg>`.
pub(super) fn open_figure(title: &str, width: f64, height: f64, target: Target) -> String {
    let fonts = "system-ui, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif";
    let (ink, name) = (target.colour(Colour::Ink), escape(title));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
         aria-label=\"{name}\" font-family=\"{fonts}\" font-size=\"{TEXT}\" fill=\"{ink}\""
    );
    match target {
        Target::File => {
            let _ = write!(
                out,
                " width=\"{width:.0}\" height=\"{height:.0}\"><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
            );
        }
        // Letters are at most a quarter larger than those of the page.
        Target::Page => {
            let _ = write!(out, " style=\"max-width:{:.0}px\">", 1.25 * width);
        }
    }
    let _ = write!(out, "<text x=\"2\" y=\"17\" font-size=\"{TITLE_TEXT}\" font-weight=\"600\">{name}</text>");
    out
}

/// Appends a text; `anchor` is `start`, `middle` or `end`.
pub(super) fn draw_text(out: &mut String, [x, y]: [f64; 2], anchor: &str, fill: &str, text: &str) {
    let text = escape(text);
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>");
}

/// Appends the label of a y axis, turned by 90°, with its middle at `y`.
pub(super) fn draw_y_label(out: &mut String, y: f64, fill: &str, text: &str) {
    let text = escape(text);
    let _ = write!(
        out,
        "<text transform=\"translate(12 {y:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{fill}\">{text}</text>"
    );
}

/// Arranges the entries of a legend in lines of `width` pixels. Returns `(x, line, entry)` of each, and the number of
/// lines.
pub(super) fn lay_out_legend(legend: &[LegendEntry], width: f64) -> (Vec<(f64, usize, &LegendEntry)>, usize) {
    let (mut x, mut line) = (0.0, 0);
    let mut out = Vec::new();
    for entry in legend {
        let entry_width = 16.0 + text_width(&entry.0, TEXT) + 14.0;
        if x > 0.0 && x + entry_width > width {
            (x, line) = (0.0, line + 1);
        }
        out.push((x, line, entry));
        x += entry_width;
    }
    (out, if legend.is_empty() { 0 } else { line + 1 })
}

/// Appends the entries of a legend, with a square of its colour before each.
pub(super) fn draw_legend(
    out: &mut String,
    legend: &[(f64, usize, &LegendEntry)],
    left: f64,
    top: f64,
    target: Target,
) {
    let muted = target.colour(Colour::Muted);
    for (x, line, (name, colour)) in legend {
        let (x, y) = (left + x, top + 18.0 * *line as f64);
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{}\"/>",
            y - 9.0,
            target.colour(*colour)
        );
        draw_text(out, [x + 15.0, y], "start", &muted, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_axis() {
        assert_eq!(ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(-4.0, 0.0, 4), [-4.0, -3.0, -2.0, -1.0, 0.0]);
        assert_eq!(ticks(0.85, 0.99, 5).iter().map(|&t| tick_text(t)).collect::<Vec<_>>().join(" "), "0.85 0.9 0.95");
        assert_eq!(ticks(3.0, 3.0, 5), [3.0]);
    }

    #[test]
    fn tick_texts_are_short() {
        let all = [0.0, 0.025, 12.5, 999.0, 12_000.0, 2.5e6, 1e-5, -3.0].map(tick_text);
        assert_eq!(all.join(" "), "0 0.025 12.5 999 12K 2.5M 1e−5 −3");
    }

    #[test]
    fn legends_stay_within_their_width() {
        let legend: Vec<LegendEntry> = (0..30).map(|i| (format!("类别 {i}"), Colour::Series(i))).collect();
        let (all, lines) = lay_out_legend(&legend, 300.0);
        assert!(lines > 3);
        for (x, _, (name, _)) in all {
            assert!(x + 15.0 + text_width(name, TEXT) <= 300.0);
        }
    }
}
