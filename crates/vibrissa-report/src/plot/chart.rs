//! Figures as SVG: the same drawing goes into a page, where its colours follow the page's, and into a file.

use std::fmt::Write;

/// What a colour is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Text.
    Ink,
    /// Notes, and what is compared with.
    Muted,
    /// Grid.
    Line,
    /// Figures of a single kind.
    Accent,
    /// Values above 0.
    Warm,
    /// One of several kinds.
    Series(usize),
}

/// Where a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    /// In a page that defines `--ink`, `--muted`, `--line`, `--accent`, `--warm` and `--c0` to `--c9`.
    Page,
    /// By itself, on white.
    File,
}

/// The page's colours by day.
const SERIES: [&str; 10] =
    ["#2f6690", "#c05a33", "#3a8a5c", "#8a5aa8", "#b8912b", "#4aa3b5", "#b34a78", "#6b7a3a", "#7a5a45", "#5a6acb"];

impl Paper {
    /// The colour as SVG has it.
    pub fn colour(self, colour: Colour) -> String {
        let (name, literal) = match colour {
            Colour::Ink => ("ink".to_owned(), "#2d2d30"),
            Colour::Muted => ("muted".to_owned(), "#6b6b70"),
            Colour::Line => ("line".to_owned(), "#dedbd5"),
            Colour::Accent => ("accent".to_owned(), "#2f6690"),
            Colour::Warm => ("warm".to_owned(), "#b5402f"),
            Colour::Series(i) => (format!("c{}", i % 10), SERIES[i % 10]),
        };
        match self {
            Paper::Page => format!("var(--{name})"),
            Paper::File => literal.to_owned(),
        }
    }
}

/// A series' colour by day.
pub fn series_rgb(i: usize) -> [u8; 3] {
    let text = SERIES[i % 10];
    [1, 3, 5].map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits"))
}

/// One kind of thing in a chart.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Bars between edges, one more edge than heights.
    Bars(Vec<f64>, Vec<f64>),
    /// A line through points; undefined ones are left out.
    Line {
        /// `[x, y]`.
        points: Vec<[f64; 2]>,
        /// Its colour.
        colour: Colour,
        /// Drawn with gaps.
        dashed: bool,
    },
}

/// An entry of a legend.
pub type Entry = (String, Colour);

/// Axes with marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Above the figure.
    pub title: String,
    /// Below the x axis, with the unit.
    pub x: String,
    /// Beside the y axis, with the unit.
    pub y: String,
    /// Ends of the x axis; else those of the marks.
    pub x_range: Option<[f64; 2]>,
    /// Ends of the y axis; else those of the marks.
    pub y_range: Option<[f64; 2]>,
    /// What is drawn.
    pub marks: Vec<Mark>,
    /// What colours mean.
    pub legend: Vec<Entry>,
}

/// A figure's text for SVG.
pub fn escape(text: &str) -> String {
    // XML has no word for most control characters.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Width of a text, pixels, at this size: wide letters (Chinese) are square, others about half as wide.
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

/// A number of an axis.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{}M", trimmed(value / 1e6))
    } else if size >= 1e4 {
        format!("{}K", trimmed(value / 1e3))
    } else if size != 0.0 && size < 1e-3 {
        format!("{value:.0e}")
    } else {
        trimmed(value)
    }
    .replace('-', "−")
}

fn trimmed(value: f64) -> String {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

const WIDTH: f64 = 440.0;
const PLOT: f64 = 190.0;
pub(super) const LEFT: f64 = 66.0;
pub(super) const RIGHT: f64 = 14.0;
pub(super) const TITLE: f64 = 34.0;
pub(super) const TEXT: f64 = 12.0;

/// The beginning of a figure: its size, fonts, ground and title.
pub(super) fn begin(title: &str, width: f64, height: f64, paper: Paper) -> String {
    let fonts = "system-ui, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif";
    let (ink, name) = (paper.colour(Colour::Ink), escape(title));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
         aria-label=\"{name}\" font-family=\"{fonts}\" font-size=\"{TEXT}\" fill=\"{ink}\""
    );
    if paper == Paper::File {
        let _ = write!(
            out,
            " width=\"{width:.0}\" height=\"{height:.0}\"><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
    } else {
        // Letters no larger than a quarter above those of the page.
        let _ = write!(out, " style=\"max-width:{:.0}px\">", 1.25 * width);
    }
    let _ = write!(out, "<text x=\"2\" y=\"17\" font-size=\"13.5\" font-weight=\"600\">{name}</text>");
    out
}

pub(super) fn text(out: &mut String, x: f64, y: f64, anchor: &str, fill: &str, what: &str) {
    let what = escape(what);
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{what}</text>");
}

/// Entries beside each other, in as many lines as they need: `(x, line, entry)`, and the number of lines.
pub(super) fn laid_out(legend: &[Entry], width: f64) -> (Vec<(f64, usize, &Entry)>, usize) {
    let (mut x, mut line) = (0.0, 0);
    let mut out = Vec::new();
    for entry in legend {
        let own = 16.0 + text_width(&entry.0, TEXT) + 14.0;
        if x > 0.0 && x + own > width {
            (x, line) = (0.0, line + 1);
        }
        out.push((x, line, entry));
        x += own;
    }
    (out, if legend.is_empty() { 0 } else { line + 1 })
}

fn draw_legend(out: &mut String, legend: &[(f64, usize, &Entry)], left: f64, top: f64, paper: Paper) {
    let muted = paper.colour(Colour::Muted);
    for (x, line, (name, colour)) in legend {
        let (x, y) = (left + x, top + 18.0 * *line as f64);
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{}\"/>",
            y - 9.0,
            paper.colour(*colour)
        );
        text(out, x + 15.0, y, "start", &muted, name);
    }
}

impl Chart {
    fn ends(&self, axis: usize) -> [f64; 2] {
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        let mut see = |v: f64| {
            if v.is_finite() {
                ends = [ends[0].min(v), ends[1].max(v)];
            }
        };
        for mark in &self.marks {
            match (mark, axis) {
                (Mark::Bars(edges, _), 0) => edges.iter().for_each(|&v| see(v)),
                (Mark::Bars(_, heights), _) => heights.iter().chain(&[0.0]).for_each(|&v| see(v)),
                (Mark::Line { points, .. }, axis) => {
                    points.iter().filter(|p| p.iter().all(|v| v.is_finite())).for_each(|p| see(p[axis]));
                }
            }
        }
        if ends[0] > ends[1] {
            [0.0, 1.0]
        } else if ends[0] == ends[1] {
            [ends[0] - 0.5, ends[1] + 0.5]
        } else {
            ends
        }
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.marks.iter().all(|m| match m {
            Mark::Bars(_, heights) => heights.is_empty(),
            Mark::Line { points, .. } => !points.iter().any(|p| p.iter().all(|v| v.is_finite())),
        })
    }

    /// Draws it.
    pub fn svg(&self, paper: Paper) -> String {
        let (entries, legend_lines) = laid_out(&self.legend, WIDTH - LEFT - RIGHT);
        let height = TITLE + PLOT + 42.0 + 18.0 * legend_lines as f64;
        let (x, y) = (self.x_range.unwrap_or_else(|| self.ends(0)), self.y_range.unwrap_or_else(|| self.ends(1)));
        let px = |v: f64| LEFT + (v - x[0]) / (x[1] - x[0]) * (WIDTH - LEFT - RIGHT);
        let py = |v: f64| TITLE + PLOT - (v - y[0]) / (y[1] - y[0]) * (PLOT - 6.0);
        let (muted, grid) = (paper.colour(Colour::Muted), paper.colour(Colour::Line));
        let mut out = begin(&self.title, WIDTH, height, paper);
        for v in ticks(y[0], y[1], 5) {
            let at = py(v);
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{grid}\"/>",
                WIDTH - RIGHT
            );
            text(&mut out, LEFT - 7.0, at + 4.0, "end", &muted, &short(v));
        }
        for v in ticks(x[0], x[1], 6) {
            text(&mut out, px(v), TITLE + PLOT + 17.0, "middle", &muted, &short(v));
        }
        text(&mut out, (LEFT + WIDTH - RIGHT) / 2.0, TITLE + PLOT + 35.0, "middle", &muted, &self.x);
        let _ = write!(
            out,
            "<text transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{muted}\">{}</text>",
            TITLE + PLOT / 2.0,
            escape(&self.y)
        );
        for mark in &self.marks {
            match mark {
                Mark::Bars(edges, heights) => {
                    let fill = paper.colour(Colour::Accent);
                    for (pair, &h) in edges.windows(2).zip(heights).filter(|b| *b.1 != 0.0) {
                        let (left, width) = (px(pair[0]) + 0.5, (px(pair[1]) - px(pair[0]) - 1.0).max(0.5));
                        let (top, bottom) = (py(h.max(0.0)), py(h.min(0.0)));
                        let tip = format!("{} – {}: {}", short(pair[0]), short(pair[1]), short(h));
                        let _ = write!(
                            out,
                            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{fill}\"><title>{}</title></rect>",
                            bottom - top,
                            escape(&tip)
                        );
                    }
                }
                Mark::Line { points, colour, dashed } => {
                    let path: Vec<String> = points
                        .iter()
                        .filter(|p| p.iter().all(|v| v.is_finite()))
                        .map(|p| format!("{:.1},{:.1}", px(p[0]), py(p[1])))
                        .collect();
                    let dash = if *dashed { " stroke-dasharray=\"4 4\"" } else { "" };
                    let _ = write!(
                        out,
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"{dash}/>",
                        path.join(" "),
                        paper.colour(*colour)
                    );
                    if let [only] = &path[..] {
                        let (cx, cy) = only.split_once(',').expect("two numbers");
                        let _ = write!(
                            out,
                            "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"2.5\" fill=\"{}\"/>",
                            paper.colour(*colour)
                        );
                    }
                }
            }
        }
        draw_legend(&mut out, &entries, LEFT, TITLE + PLOT + 58.0, paper);
        out + "</svg>"
    }
}

/// One cell of a [`Matrix`].
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its colour, the fuller the larger `strength`.
    pub colour: Colour,
    /// In [0, 1].
    pub strength: f64,
    /// Written into the cell.
    pub text: String,
    /// Shown where the mouse rests.
    pub tip: String,
}

/// A table of coloured cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Above the figure.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// By row.
    pub cells: Vec<Vec<Cell>>,
    /// Width and height of a cell, pixels.
    pub size: [f64; 2],
}

impl Matrix {
    /// Draws it.
    pub fn svg(&self, paper: Paper) -> String {
        let clip = |name: &str| {
            if name.chars().count() > 18 { name.chars().take(17).collect::<String>() + "…" } else { name.to_owned() }
        };
        let names: Vec<String> = self.rows.iter().map(|n| clip(n)).collect();
        let left = names.iter().map(|n| text_width(n, TEXT)).fold(20.0, f64::max) + 12.0;
        let [w, h] = self.size;
        let width = (left + self.columns.len() as f64 * w + 6.0).max(text_width(&self.title, 13.5) + 10.0);
        let below = self.columns.iter().map(|c| text_width(c, TEXT)).fold(0.0, f64::max);
        let slant = below > w;
        let height = TITLE + names.len() as f64 * h + if slant { 16.0 + 0.9 * below } else { 24.0 };
        let muted = paper.colour(Colour::Muted);
        let mut out = begin(&self.title, width, height, paper);
        for (r, (name, cells)) in names.iter().zip(&self.cells).enumerate() {
            let y = TITLE + r as f64 * h;
            text(&mut out, left - 8.0, y + h / 2.0 + 4.0, "end", &muted, name);
            for (c, cell) in cells.iter().enumerate() {
                let x = left + c as f64 * w;
                let _ = write!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"{:.3}\"><title>{}</title></rect>",
                    w - 1.0,
                    h - 1.0,
                    paper.colour(cell.colour),
                    cell.strength,
                    escape(&cell.tip)
                );
                if !cell.text.is_empty() {
                    text(&mut out, x + w / 2.0, y + h / 2.0 + 4.0, "middle", &paper.colour(Colour::Ink), &cell.text);
                }
            }
        }
        let y = TITLE + names.len() as f64 * h + 15.0;
        for (c, name) in self.columns.iter().enumerate() {
            let x = left + (c as f64 + 0.5) * w;
            if slant {
                let _ = write!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{muted}\" transform=\"rotate(-60 {x:.1} {:.1})\">{}</text>",
                    y - 2.0,
                    y - 2.0,
                    escape(name)
                );
            } else {
                text(&mut out, x, y, "middle", &muted, name);
            }
        }
        out + "</svg>"
    }
}

/// A text on a [`Picture`].
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Place, in pixels of the figure below its title.
    pub at: [f64; 2],
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// What it says.
    pub text: String,
}

/// Pictures with texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Above the figure.
    pub title: String,
    /// Width and height below the title.
    pub size: [f64; 2],
    /// PNG in base64, and where it goes: `[x, y, width, height]`.
    pub images: Vec<(String, [f64; 4])>,
    /// Texts.
    pub labels: Vec<Label>,
    /// What colours mean.
    pub legend: Vec<Entry>,
}

impl Picture {
    /// Draws it.
    pub fn svg(&self, paper: Paper) -> String {
        let (entries, lines) = laid_out(&self.legend, self.size[0]);
        let height = TITLE + self.size[1] + if lines > 0 { 12.0 + 18.0 * lines as f64 } else { 6.0 };
        let width = self.size[0].max(text_width(&self.title, 13.5) + 10.0);
        let mut out = begin(&self.title, width, height, paper);
        for (png, [x, y, w, h]) in &self.images {
            let y = y + TITLE;
            let _ = write!(
                out,
                "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" preserveAspectRatio=\"none\" image-rendering=\"optimizeSpeed\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{png}\"/>"
            );
        }
        let muted = paper.colour(Colour::Muted);
        for label in &self.labels {
            text(&mut out, label.at[0], label.at[1] + TITLE, label.anchor, &muted, &label.text);
        }
        draw_legend(&mut out, &entries, 2.0, TITLE + self.size[1] + 20.0, paper);
        out + "</svg>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::raster;

    #[test]
    fn ticks_are_round_and_cover_the_axis() {
        assert_eq!(ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(-4.0, 0.0, 4), [-4.0, -3.0, -2.0, -1.0, 0.0]);
        assert_eq!(ticks(0.85, 0.99, 5).iter().map(|&t| short(t)).collect::<Vec<_>>().join(" "), "0.85 0.9 0.95");
        assert_eq!(ticks(3.0, 3.0, 5), [3.0]);
    }

    #[test]
    fn numbers_of_an_axis_are_short() {
        let all = [0.0, 0.025, 12.5, 999.0, 12_000.0, 2.5e6, 1e-5, -3.0].map(short);
        assert_eq!(all.join(" "), "0 0.025 12.5 999 12K 2.5M 1e−5 −3");
    }

    fn chart() -> Chart {
        Chart {
            title: "a < b & \"c\"".into(),
            x: "x (ms)".into(),
            y: "y (%)".into(),
            marks: vec![
                Mark::Bars(vec![0.0, 1.0, 2.0], vec![3.0, -1.0]),
                Mark::Line {
                    points: vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 2.0]],
                    colour: Colour::Series(3),
                    dashed: true,
                },
            ],
            legend: (0..30).map(|i| (format!("类别 {i}"), Colour::Series(i))).collect(),
            ..Chart::default()
        }
    }

    #[test]
    fn a_chart_is_valid_and_follows_its_paper() {
        let chart = chart();
        let (file, page) = (chart.svg(Paper::File), chart.svg(Paper::Page));
        assert!(raster::png(&file, 1.0).is_ok() && raster::png(&page, 1.0).is_ok());
        assert!(file.contains(SERIES[3]) && !file.contains("var(--"));
        assert!(page.contains("var(--c3)") && !page.contains(SERIES[3]));
        assert!(!file.contains("NaN") && !file.contains("inf"));
        // The undefined point leaves two; a legend of thirty takes several lines and makes the figure higher.
        assert_eq!(
            file.split("<polyline points=\"").nth(1).and_then(|p| p.split('"').next()).map(|p| p.split(' ').count()),
            Some(2)
        );
        let height =
            |svg: &str| svg.split("viewBox=\"0 0 440 ").nth(1).and_then(|h| h.split('"').next()?.parse::<f64>().ok());
        assert!(height(&file) > height(&Chart { legend: Vec::new(), ..chart }.svg(Paper::File)));
        assert!(Chart::default().is_empty());
    }

    #[test]
    fn legends_stay_within_their_width() {
        let legend = chart().legend;
        let (all, lines) = laid_out(&legend, 300.0);
        assert!(lines > 3);
        for (x, _, (name, _)) in all {
            assert!(x + 15.0 + text_width(name, TEXT) <= 300.0);
        }
    }
}
