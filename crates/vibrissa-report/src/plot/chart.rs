//! Bar and line charts as SVG.

use super::svg::{
    Colour, LEFT, LegendEntry, RIGHT, TITLE, Target, draw_legend, draw_text, draw_y_label, escape, lay_out_legend,
    open_figure, tick_text, ticks,
};
use std::fmt::Write;

/// Width of a chart, pixels.
const WIDTH: f64 = 440.0;
/// Height of the plot within a chart, pixels.
const PLOT: f64 = 190.0;

/// Bars or a line in a chart.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Bars: edges, and their heights, one fewer than edges.
    Bars(Vec<f64>, Vec<f64>),
    /// A line through points; undefined points are left out.
    Line {
        /// Points, `[x, y]`.
        points: Vec<[f64; 2]>,
        /// Colour of the line.
        colour: Colour,
        /// True for a dashed line.
        dashed: bool,
    },
}

/// Axes with bars and lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Title above the chart.
    pub title: String,
    /// Name and unit of the x axis.
    pub x: String,
    /// Name and unit of the y axis.
    pub y: String,
    /// Ends of the x axis; by default those of the marks.
    pub x_range: Option<[f64; 2]>,
    /// Ends of the y axis; by default those of the marks.
    pub y_range: Option<[f64; 2]>,
    /// Marks, the first one at the back.
    pub marks: Vec<Mark>,
    /// Names of the colours.
    pub legend: Vec<LegendEntry>,
}

fn is_defined(point: &&[f64; 2]) -> bool {
    point.iter().all(|v| v.is_finite())
}

/// The ends of both axes, which turn values into pixels.
struct Scale {
    x: [f64; 2],
    y: [f64; 2],
}

impl Scale {
    fn x(&self, v: f64) -> f64 {
        LEFT + (v - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, v: f64) -> f64 {
        TITLE + PLOT - (v - self.y[0]) / (self.y[1] - self.y[0]) * (PLOT - 6.0)
    }
}

impl Chart {
    /// Smallest and largest value of all marks along an axis (0 is x, 1 is y).
    fn extent(&self, axis: usize) -> [f64; 2] {
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
        let mut include = |v: f64| {
            if v.is_finite() {
                ends = [ends[0].min(v), ends[1].max(v)];
            }
        };
        for mark in &self.marks {
            match (mark, axis) {
                (Mark::Bars(edges, _), 0) => edges.iter().for_each(|&v| include(v)),
                (Mark::Bars(_, heights), _) => heights.iter().chain(&[0.0]).for_each(|&v| include(v)),
                (Mark::Line { points, .. }, axis) => {
                    points.iter().filter(is_defined).for_each(|p| include(p[axis]));
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

    /// True if no mark has anything to draw.
    pub fn is_empty(&self) -> bool {
        self.marks.iter().all(|m| match m {
            Mark::Bars(_, heights) => heights.is_empty(),
            Mark::Line { points, .. } => !points.iter().any(|p| is_defined(&p)),
        })
    }

    /// Draws the chart.
    pub fn svg(&self, target: Target) -> String {
        let (entries, legend_lines) = lay_out_legend(&self.legend, WIDTH - LEFT - RIGHT);
        let height = TITLE + PLOT + 42.0 + 18.0 * legend_lines as f64;
        let scale = Scale {
            x: self.x_range.unwrap_or_else(|| self.extent(0)),
            y: self.y_range.unwrap_or_else(|| self.extent(1)),
        };
        let mut out = open_figure(&self.title, WIDTH, height, target);
        self.draw_axes(&mut out, &scale, target);
        for mark in &self.marks {
            match mark {
                Mark::Bars(edges, heights) => draw_bars(&mut out, &scale, edges, heights, target),
                Mark::Line { points, colour, dashed } => {
                    draw_line(&mut out, &scale, points, &target.colour(*colour), *dashed);
                }
            }
        }
        draw_legend(&mut out, &entries, LEFT, TITLE + PLOT + 58.0, target);
        out + "</svg>"
    }

    fn draw_axes(&self, out: &mut String, scale: &Scale, target: Target) {
        let (muted, grid) = (target.colour(Colour::Muted), target.colour(Colour::Grid));
        for v in ticks(scale.y[0], scale.y[1], 5) {
            let (at, right) = (scale.y(v), WIDTH - RIGHT);
            let _ =
                write!(out, "<line x1=\"{LEFT}\" x2=\"{right:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{grid}\"/>");
            draw_text(out, [LEFT - 7.0, at + 4.0], "end", &muted, &tick_text(v));
        }
        for v in ticks(scale.x[0], scale.x[1], 6) {
            draw_text(out, [scale.x(v), TITLE + PLOT + 17.0], "middle", &muted, &tick_text(v));
        }
        draw_text(out, [(LEFT + WIDTH - RIGHT) / 2.0, TITLE + PLOT + 35.0], "middle", &muted, &self.x);
        draw_y_label(out, TITLE + PLOT / 2.0, &muted, &self.y);
    }
}

fn draw_bars(out: &mut String, scale: &Scale, edges: &[f64], heights: &[f64], target: Target) {
    let fill = target.colour(Colour::Accent);
    for (pair, &h) in edges.windows(2).zip(heights).filter(|b| *b.1 != 0.0) {
        let (left, width) = (scale.x(pair[0]) + 0.5, (scale.x(pair[1]) - scale.x(pair[0]) - 1.0).max(0.5));
        let (top, bottom) = (scale.y(h.max(0.0)), scale.y(h.min(0.0)));
        let tip = format!("{} – {}: {}", tick_text(pair[0]), tick_text(pair[1]), tick_text(h));
        let _ = write!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{fill}\"><title>{}</title></rect>",
            bottom - top,
            escape(&tip)
        );
    }
}

/// Appends a line; a single point is drawn as a dot.
fn draw_line(out: &mut String, scale: &Scale, points: &[[f64; 2]], colour: &str, dashed: bool) {
    let path: Vec<String> =
        points.iter().filter(is_defined).map(|p| format!("{:.1},{:.1}", scale.x(p[0]), scale.y(p[1]))).collect();
    let dash = if dashed { " stroke-dasharray=\"4 4\"" } else { "" };
    let _ = write!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"{dash}/>",
        path.join(" "),
    );
    if let [only] = &path[..] {
        let (cx, cy) = only.split_once(',').expect("two numbers");
        let _ = write!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"2.5\" fill=\"{colour}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::raster;

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
    fn a_chart_is_valid_and_has_the_colours_of_its_target() {
        let chart = chart();
        let (file, page) = (chart.svg(Target::File), chart.svg(Target::Page));
        let series = Target::File.colour(Colour::Series(3));
        assert!(raster::png(&file, 1.0).is_ok() && raster::png(&page, 1.0).is_ok());
        assert!(file.contains(&series) && !file.contains("var(--"));
        assert!(page.contains("var(--c3)") && !page.contains(&series));
        assert!(!file.contains("NaN") && !file.contains("inf"));
        // Without the undefined point two are left. A legend of thirty entries takes several lines.
        assert_eq!(
            file.split("<polyline points=\"").nth(1).and_then(|p| p.split('"').next()).map(|p| p.split(' ').count()),
            Some(2)
        );
        let height =
            |svg: &str| svg.split("viewBox=\"0 0 440 ").nth(1).and_then(|h| h.split('"').next()?.parse::<f64>().ok());
        assert!(height(&file) > height(&Chart { legend: Vec::new(), ..chart }.svg(Target::File)));
        assert!(Chart::default().is_empty());
    }
}
