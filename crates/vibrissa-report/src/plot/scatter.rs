//! Scatter plots as SVG: points, some with error bars, rings and names, and lines behind them.

mod names;
mod scale;

pub use scale::Axis;

use super::svg::{
    Colour, LEFT, LegendEntry, RIGHT, TEXT, TITLE, Target, draw_text, draw_y_label, escape, lay_out_legend,
    open_figure, text_width,
};
use names::{Obstacles, name_width};
use scale::AxisScale;
use std::fmt::Write;

/// A point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Place, `[x, y]`; an undefined point is not drawn.
    pub at: [f64; 2],
    /// Half the length of the error bar along y.
    pub band: Option<f64>,
    /// Colour of the point.
    pub colour: Colour,
    /// Shape: disc, square, diamond, triangle, inverted triangle, cross; shapes repeat after six.
    pub shape: usize,
    /// True for a small pale point: one of many that a line stands for.
    pub faint: bool,
    /// True for a point with a ring around it.
    pub ringed: bool,
    /// Tooltip of the point.
    pub tip: String,
    /// Name beside the point; may be empty.
    pub name: String,
}

/// A line through points; undefined points are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Points, `[x, y]`.
    pub points: Vec<[f64; 2]>,
    /// Colour of the line.
    pub colour: Colour,
    /// Style of the line.
    pub stroke: Stroke,
}

/// Style of a [`Curve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Solid, from point to point.
    Solid,
    /// Dashed, from point to point.
    Dashed,
    /// Broad and pale steps: level after each point, then vertical to the next.
    Steps,
}

/// Symbol before a name in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegendKey {
    /// A point of this shape.
    Shape(usize),
    /// A faint point.
    Faint,
    /// A ring.
    Ring,
    /// A line.
    Line(Stroke),
}

/// Axes with points and curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scatter {
    /// Title above the plot.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Width of the figure and height of the plot, pixels.
    pub size: [f64; 2],
    /// Lines behind the points.
    pub curves: Vec<Curve>,
    /// Points in front of the lines.
    pub points: Vec<Point>,
    /// Names of colours and shapes.
    pub legend: Vec<(LegendKey, LegendEntry)>,
}

fn is_defined(point: &[f64; 2]) -> bool {
    point.iter().all(|v| v.is_finite())
}

/// An open SVG element of a shape, without its fill; `r` is about its radius.
fn shape(kind: usize, [x, y]: [f64; 2], r: f64) -> String {
    let polygon = |points: &[[f64; 2]]| {
        let all: Vec<String> = points.iter().map(|p| format!("{:.1} {:.1}", x + p[0] * r, y + p[1] * r)).collect();
        format!("<path d=\"M{}Z\"", all.join("L"))
    };
    match kind % 6 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\""),
        1 => polygon(&[[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]]),
        2 => polygon(&[[0.0, -1.25], [1.25, 0.0], [0.0, 1.25], [-1.25, 0.0]]),
        3 => polygon(&[[0.0, -1.2], [1.12, 0.8], [-1.12, 0.8]]),
        4 => polygon(&[[0.0, 1.2], [1.12, -0.8], [-1.12, -0.8]]),
        _ => {
            let (a, b) = (0.38, 1.15);
            let half = [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a]];
            polygon(&half.into_iter().chain(half.map(|[x, y]| [-x, -y])).collect::<Vec<_>>())
        }
    }
}

/// Name of the SVG element that a [`shape`] opened.
fn tag(mark: &str) -> &str {
    if mark.starts_with("<circle") { "circle" } else { "path" }
}

fn draw_key(out: &mut String, key: LegendKey, colour: &str, [x, y]: [f64; 2]) {
    let middle = [x + 5.0, y - 4.0];
    let _ = match key {
        LegendKey::Shape(kind) => write!(out, "{} fill=\"{colour}\"/>", shape(kind, middle, 4.2)),
        LegendKey::Faint => write!(out, "{} fill=\"{colour}\" fill-opacity=\"0.45\"/>", shape(0, middle, 2.6)),
        LegendKey::Ring => {
            write!(out, "{} fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>", shape(0, middle, 5.0))
        }
        LegendKey::Line(stroke) => {
            let [left, right, level] = [x - 1.0, x + 12.0, y - 4.0];
            write!(out, "<path d=\"M{left:.1} {level:.1}H{right:.1}\" {}/>", stroke_style(stroke, colour))
        }
    };
}

fn stroke_style(stroke: Stroke, colour: &str) -> String {
    let style = match stroke {
        Stroke::Solid => "stroke-width=\"1.6\"",
        Stroke::Dashed => "stroke-width=\"1.6\" stroke-dasharray=\"4 3\"",
        Stroke::Steps => "stroke-width=\"5\" stroke-opacity=\"0.22\"",
    };
    format!("fill=\"none\" stroke=\"{colour}\" stroke-linejoin=\"round\" {style}")
}

/// The ticks of a horizontal axis, and how much space they need.
struct XTicks {
    ticks: Vec<(f64, String)>,
    /// True if names are too wide to stand side by side, and are slanted. Numbers are left out instead.
    slanted: bool,
    /// Additional space below the plot for slanted names, pixels.
    below: f64,
}

impl XTicks {
    fn new(axis: &Axis, scale: &AxisScale) -> XTicks {
        let ticks = axis.ticks.clone().unwrap_or_else(|| scale.ticks(6));
        let are_numbers = ticks.iter().all(|t| t.1.parse::<f64>().is_ok());
        let spacing = ticks.windows(2).map(|w| scale.at(w[1].0) - scale.at(w[0].0)).fold(f64::INFINITY, f64::min);
        let longest = ticks.iter().map(|t| text_width(&t.1, TEXT)).fold(0.0, f64::max);
        let slanted = !are_numbers && longest + 8.0 > spacing;
        XTicks { ticks, slanted, below: if slanted { 0.62 * longest.min(150.0) } else { 0.0 } }
    }

    fn draw(&self, out: &mut String, scale: &AxisScale, bottom: f64, colour: &str) {
        let mut free = f64::NEG_INFINITY;
        for (v, name) in &self.ticks {
            let (px, half) = (scale.at(*v), text_width(name, TEXT) / 2.0);
            let _ = write!(out, "<path d=\"M{px:.1} {bottom:.1}v4\" stroke=\"{colour}\"/>");
            if self.slanted {
                let (x, y, name) = (px + 4.0, bottom + 14.0, escape(name));
                let _ = write!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{colour}\" transform=\"rotate(-35 {x:.1} {y:.1})\">{name}</text>",
                );
            } else if px - half > free {
                draw_text(out, [px, bottom + 17.0], "middle", colour, name);
                free = px + half + 5.0;
            }
        }
    }
}

impl Scatter {
    /// True if no point can be drawn.
    pub fn is_empty(&self) -> bool {
        !self.points.iter().any(|p| is_defined(&p.at))
    }

    /// Draws the plot.
    pub fn svg(&self, target: Target) -> String {
        let [width, plot] = self.size;
        let (right, bottom) = (width - RIGHT, TITLE + plot);
        let names: Vec<LegendEntry> = self.legend.iter().map(|l| l.1.clone()).collect();
        let (entries, lines) = lay_out_legend(&names, right - LEFT);
        let (x, y) = self.scales(right, bottom);
        let x_ticks = XTicks::new(&self.x, &x);
        let height = bottom + 46.0 + x_ticks.below + 18.0 * lines as f64;

        let (muted, grid) = (target.colour(Colour::Muted), target.colour(Colour::Grid));
        let mut out = open_figure(&self.title, width, height, target);
        for (v, name) in self.y.ticks.clone().unwrap_or_else(|| y.ticks(5)) {
            let level = y.at(v);
            let _ = write!(out, "<path d=\"M{LEFT} {level:.1}H{right:.0}\" stroke=\"{grid}\"/>");
            draw_text(&mut out, [LEFT - 7.0, level + 4.0], "end", &muted, &name);
        }
        x_ticks.draw(&mut out, &x, bottom, &muted);
        let below = bottom + x_ticks.below;
        draw_text(&mut out, [(LEFT + right) / 2.0, below + 35.0], "middle", &muted, &self.x.label);
        draw_y_label(&mut out, TITLE + plot / 2.0, &muted, &self.y.label);

        let mut along = Vec::new();
        for curve in &self.curves {
            let points: Vec<[f64; 2]> =
                curve.points.iter().filter(|p| is_defined(p)).map(|p| [x.at(p[0]), y.at(p[1])]).collect();
            draw_curve(&mut out, curve, &points, right, target);
            sample_curve(&mut along, curve.stroke, &points);
        }
        let drawn: Vec<(&Point, [f64; 2])> =
            self.points.iter().filter(|p| is_defined(&p.at)).map(|p| (p, [x.at(p.at[0]), y.at(p.at[1])])).collect();
        for (point, place) in drawn.iter().filter(|d| d.0.faint).chain(drawn.iter().filter(|d| !d.0.faint)) {
            draw_point(&mut out, point, *place, &y, target);
        }
        draw_names(&mut out, &drawn, &along, [LEFT, TITLE, right, bottom], target);
        for ((key, _), (dx, line, (name, colour))) in self.legend.iter().zip(entries) {
            let (lx, ly) = (LEFT + dx, below + 58.0 + 18.0 * line as f64);
            draw_key(&mut out, *key, &target.colour(*colour), [lx, ly]);
            draw_text(&mut out, [lx + 16.0, ly], "start", &muted, name);
        }
        out + "</svg>"
    }

    /// The scales of both axes, which hold all points, curves and error bars.
    fn scales(&self, right: f64, bottom: f64) -> (AxisScale, AxisScale) {
        let points = self.points.iter().filter(|p| is_defined(&p.at));
        let on_curves = self.curves.iter().flat_map(|c| &c.points).filter(|p| is_defined(p));
        let all: Vec<[f64; 2]> = points.clone().map(|p| p.at).chain(on_curves.copied()).collect();
        let bands = points.filter_map(|p| Some((p.at[1], p.band?)));
        let ys = all.iter().map(|p| p[1]).chain(bands.flat_map(|(y, b)| [y - b, y + b]));
        let named = self.x.ticks.iter().flatten().map(|t| t.0);
        let x = AxisScale::new(&self.x, all.iter().map(|p| p[0]).chain(named), [LEFT, right]);
        (x, AxisScale::new(&self.y, ys, [bottom, TITLE + 6.0]))
    }
}

/// Appends a curve through points in pixels; steps continue to the `right` end of the plot.
fn draw_curve(out: &mut String, curve: &Curve, points: &[[f64; 2]], right: f64, target: Target) {
    let Some(first) = points.first() else { return };
    let mut path = format!("M{:.1} {:.1}", first[0], first[1]);
    for p in &points[1..] {
        let _ = match curve.stroke {
            Stroke::Steps => write!(path, "H{:.1}V{:.1}", p[0], p[1]),
            _ => write!(path, "L{:.1} {:.1}", p[0], p[1]),
        };
    }
    if curve.stroke == Stroke::Steps {
        let _ = write!(path, "H{right:.1}");
    }
    let _ = write!(out, "<path d=\"{path}\" {}/>", stroke_style(curve.stroke, &target.colour(curve.colour)));
}

/// Adds points about every six pixels along a curve, which names have to avoid.
fn sample_curve(along: &mut Vec<[f64; 2]>, stroke: Stroke, points: &[[f64; 2]]) {
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let corner = if stroke == Stroke::Steps { [b[0], a[1]] } else { a };
        for (a, b) in [(a, corner), (corner, b)] {
            let n = ((b[0] - a[0]).hypot(b[1] - a[1]) / 6.0).ceil();
            along.extend((0..n as usize).map(|i| [0, 1].map(|k| a[k] + (b[k] - a[k]) * i as f64 / n)));
        }
    }
}

fn draw_point(out: &mut String, point: &Point, place: [f64; 2], y: &AxisScale, target: Target) {
    let (colour, tip) = (target.colour(point.colour), escape(&point.tip));
    if point.faint {
        let mark = shape(point.shape, place, 2.6);
        let _ = write!(out, "{mark} fill=\"{colour}\" fill-opacity=\"0.45\"><title>{tip}</title></{}>", tag(&mark));
        return;
    }
    let _ = write!(out, "<g>");
    if let Some(band) = point.band.filter(|b| b.is_finite()) {
        let [low, high] = [point.at[1] - band, point.at[1] + band].map(|v| y.at(v));
        if low.is_finite() && high.is_finite() {
            let (x, l, r) = (place[0], place[0] - 3.0, place[0] + 3.0);
            let _ = write!(
                out,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}M{l:.1} {low:.1}H{r:.1}M{l:.1} {high:.1}H{r:.1}\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-opacity=\"0.75\"/>"
            );
        }
    }
    // The tooltip opens within a larger disc than the mark.
    let (area, mark) = (shape(0, place, 9.0), shape(point.shape, place, 4.2));
    let _ = write!(out, "{area} fill=\"transparent\"/>{mark} fill=\"{colour}\"/>");
    if point.ringed {
        let (ring, ink) = (shape(0, place, 7.4), target.colour(Colour::Ink));
        let _ = write!(out, "{ring} fill=\"none\" stroke=\"{ink}\" stroke-width=\"1.3\"/>");
    }
    let _ = write!(out, "<title>{tip}</title></g>");
}

/// Appends the names of points, with a thin line to the point where the name is far from it.
fn draw_names(out: &mut String, drawn: &[(&Point, [f64; 2])], along: &[[f64; 2]], plot: [f64; 4], target: Target) {
    let (muted, ink) = (target.colour(Colour::Muted), target.colour(Colour::Ink));
    let points: Vec<[f64; 2]> = drawn.iter().filter(|d| !d.0.faint).map(|d| d.1).collect();
    let mut obstacles = Obstacles { points: &points, lines: along, plot, names: Vec::new() };
    for (point, [px, py]) in drawn.iter().filter(|d| !d.0.name.is_empty()) {
        let [x, y] = obstacles.place(&point.name, [*px, *py]);
        let [dx, dy] = [x + name_width(&point.name) / 2.0 - px, y - 4.0 - py];
        if dx.hypot(dy) > 30.0 {
            let [from, to] = [0.3, 0.62].map(|share| [px + dx * share, py + dy * share]);
            let _ = write!(
                out,
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{muted}\" stroke-width=\"0.8\"/>",
                from[0], from[1], to[0], to[1]
            );
        }
        let name = escape(&point.name);
        let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"600\" fill=\"{ink}\">{name}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::raster;

    fn point(x: f64, y: f64, shape: usize) -> Point {
        let colour = Colour::Series(shape);
        let tip = "a < b".to_owned();
        Point { at: [x, y], band: Some(0.1), colour, shape, faint: false, ringed: true, tip, name: "best".into() }
    }

    fn scatter() -> Scatter {
        let curve = |stroke| Curve { points: vec![[1.0, 0.9], [100.0, 0.1]], colour: Colour::Ink, stroke };
        Scatter {
            title: "a & b".into(),
            x: Axis { label: "L0".into(), log: true, ..Axis::default() },
            y: Axis { label: "fvu".into(), ..Axis::default() },
            size: [440.0, 200.0],
            curves: [Stroke::Solid, Stroke::Dashed, Stroke::Steps].map(curve).into(),
            points: (0..8).map(|i| point(2f64.powi(i), 1.0 / f64::from(i + 1), i as usize)).collect(),
            legend: vec![
                (LegendKey::Shape(3), ("x".into(), Colour::Ink)),
                (LegendKey::Line(Stroke::Steps), ("y".into(), Colour::Ink)),
            ],
        }
    }

    #[test]
    fn a_scatter_is_valid_and_leaves_out_undefined_points() {
        let mut s = scatter();
        s.points.extend([point(f64::NAN, 1.0, 0), point(0.0, f64::INFINITY, 0)]);
        let file = s.svg(Target::File);
        assert!(raster::png(&file, 1.0).is_ok() && raster::png(&s.svg(Target::Page), 1.0).is_ok());
        assert!(!file.contains("NaN") && !file.contains("inf") && file.contains("a &lt; b"));
        assert_eq!(file.matches("<title>").count(), 8);
        assert!(Scatter::default().is_empty() && !s.is_empty());
        // A single point, and values of 0 on a logarithmic axis.
        s.points = vec![point(8.0, 0.5, 0)];
        s.curves.clear();
        let one = s.svg(Target::File);
        assert!(raster::png(&one, 1.0).is_ok() && !one.contains("NaN"));
    }
}
