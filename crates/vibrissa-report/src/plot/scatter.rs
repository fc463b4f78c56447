//! Points, some with whiskers, rings and names, and the lines between them, as SVG. Layout only, as in `chart.rs`.

use super::chart::{
    Colour, Entry, LEFT, Paper, RIGHT, TEXT, TITLE, begin, escape, laid_out, short, text, text_width, ticks,
};
use std::fmt::Write;

/// What bold letters are as wide as.
const BOLD: f64 = 1.15 * TEXT;

/// One axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Beside the axis, with the unit.
    pub label: String,
    /// Equal ratios are equally far apart.
    pub log: bool,
    /// Places that have a name; else round numbers.
    pub ticks: Option<Vec<(f64, String)>>,
    /// Its ends; else those of what is drawn, and a little more.
    pub range: Option<[f64; 2]>,
}

/// A point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `[x, y]`; an undefined one is not drawn.
    pub at: [f64; 2],
    /// Half of the whisker through it.
    pub band: Option<f64>,
    /// Its colour.
    pub colour: Colour,
    /// Its shape: disc, square, diamond, triangle, triangle upside down, cross, then again.
    pub shape: usize,
    /// Small and pale: one of many that others stand for.
    pub faint: bool,
    /// With a ring around it.
    pub ringed: bool,
    /// Shown where the mouse rests.
    pub tip: String,
    /// Written beside it; may be empty.
    pub name: String,
}

/// A line through points; undefined ones are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// `[x, y]`.
    pub points: Vec<[f64; 2]>,
    /// Its colour.
    pub colour: Colour,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// How a [`Curve`] is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// From point to point.
    Full,
    /// With gaps.
    Dashed,
    /// Level from each point on, then straight to the next; broad and pale.
    Steps,
}

/// What stands before a name in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
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
    /// Above the figure.
    pub title: String,
    /// Below.
    pub x: Axis,
    /// Beside.
    pub y: Axis,
    /// Width of the figure and height of the plot, pixels.
    pub size: [f64; 2],
    /// Behind the points.
    pub curves: Vec<Curve>,
    /// Points.
    pub points: Vec<Point>,
    /// What colours and shapes mean.
    pub legend: Vec<(Key, Entry)>,
}

/// An axis with its ends, in pixels.
struct Scale {
    log: bool,
    ends: [f64; 2],
    pixels: [f64; 2],
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Scale {
        let along = |v: f64| if axis.log { v.ln() } else { v };
        let ends = axis.range.map_or_else(
            || {
                let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
                values.map(along).filter(|v| v.is_finite()).for_each(|v| ends = [ends[0].min(v), ends[1].max(v)]);
                if ends[0] > ends[1] {
                    return [0.0, 1.0];
                }
                let room = Some(0.06 * (ends[1] - ends[0])).filter(|r| *r > 0.0).unwrap_or_else(|| {
                    if axis.log { 0.5 } else { Some(0.25 * ends[0].abs()).filter(|r| *r > 0.0).unwrap_or(0.5) }
                });
                // Nothing is drawn below 0 that has no values there.
                let low = if !axis.log && ends[0] >= 0.0 { (ends[0] - room).max(0.0) } else { ends[0] - room };
                [low, ends[1] + room]
            },
            |range| range.map(along),
        );
        Scale { log: axis.log, ends, pixels }
    }

    fn at(&self, v: f64) -> f64 {
        let v = if self.log { v.ln() } else { v };
        let [a, b] = self.pixels;
        a + (v - self.ends[0]) / (self.ends[1] - self.ends[0]) * (b - a)
    }

    /// Round numbers.
    fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        let named = |all: Vec<f64>| all.into_iter().map(|v| (v, short(v))).collect();
        if !self.log {
            return named(ticks(self.ends[0], self.ends[1], n));
        }
        let [low, high] = self.ends.map(f64::exp);
        let within = |steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let all = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            all.filter(|v| (low * 0.999..=high * 1.001).contains(v)).collect()
        };
        let (tens, more) = (within(&[1.0]), within(&[1.0, 2.0, 5.0]));
        let most = within(&[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]);
        match (most.len(), more.len()) {
            (3.., 0..=2) => named(most),
            (_, 0..=2) => named(ticks(low, high, n).into_iter().filter(|v| *v > 0.0).collect()),
            (_, few) if few <= 2 * n => named(more),
            _ => named(tens),
        }
    }
}

/// A shape around a place; `r` is about its radius.
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
            polygon(&[
                [-a, -b],
                [a, -b],
                [a, -a],
                [b, -a],
                [b, a],
                [a, a],
                [a, b],
                [-a, b],
                [-a, a],
                [-b, a],
                [-b, -a],
                [-a, -a],
            ])
        }
    }
}

fn draw_key(out: &mut String, key: Key, colour: &str, [x, y]: [f64; 2]) {
    let middle = [x + 5.0, y - 4.0];
    let _ = match key {
        Key::Shape(kind) => write!(out, "{} fill=\"{colour}\"/>", shape(kind, middle, 4.2)),
        Key::Faint => write!(out, "{} fill=\"{colour}\" fill-opacity=\"0.45\"/>", shape(0, middle, 2.6)),
        Key::Ring => write!(out, "{} fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>", shape(0, middle, 5.0)),
        Key::Line(stroke) => {
            let [left, right, level] = [x - 1.0, x + 12.0, y - 4.0];
            write!(out, "<path d=\"M{left:.1} {level:.1}H{right:.1}\" {}/>", stroked(stroke, colour))
        }
    };
}

fn stroked(stroke: Stroke, colour: &str) -> String {
    let how = match stroke {
        Stroke::Full => "stroke-width=\"1.6\"",
        Stroke::Dashed => "stroke-width=\"1.6\" stroke-dasharray=\"4 3\"",
        Stroke::Steps => "stroke-width=\"5\" stroke-opacity=\"0.22\"",
    };
    format!("fill=\"none\" stroke=\"{colour}\" stroke-linejoin=\"round\" {how}")
}

/// A name beside its point: where it covers the fewest points, other names and places of lines, and stays within the plot.
fn place(
    name: &str,
    point: [f64; 2],
    [others, lines]: [&[[f64; 2]]; 2],
    taken: &mut Vec<[f64; 4]>,
    inside: [f64; 4],
) -> [f64; 2] {
    let wide = text_width(name, BOLD);
    let box_at = |[x, y]: [f64; 2]| [x, y - 10.0, x + wide, y + 3.0];
    let mut all = Vec::new();
    for far in [18.0, 28.0, 40.0] {
        for (dx, dy) in
            [(0.0, -1.0), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (-0.8, -0.8), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
        {
            let x = point[0] + dx * far + wide * (dx.signum() * f64::from(dx != 0.0) - 1.0) / 2.0;
            all.push([x, point[1] + dy * far + 4.0]);
        }
    }
    let apart = |a: &[f64; 4], b: &[f64; 4]| a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1];
    let cost = |at: &[f64; 2]| {
        let own = box_at(*at);
        let outside = own[0] < inside[0] || own[1] < inside[1] || own[2] > inside[2] || own[3] > inside[3];
        let covered = others.iter().filter(|p| !apart(&own, &[p[0] - 8.0, p[1] - 8.0, p[0] + 8.0, p[1] + 8.0])).count();
        let middle = [(own[0] + own[2]) / 2.0, at[1] - 4.0];
        let far = |p: &[f64; 2]| (p[0] - middle[0]).hypot(p[1] - middle[1]);
        // A name that is nearer to another point seems to be that one's.
        let nearer = others.iter().filter(|p| far(p) + 1.0 < far(&point)).count();
        let crossed = lines.iter().filter(|p| !apart(&own, &[p[0] - 3.0, p[1] - 3.0, p[0] + 3.0, p[1] + 3.0])).count();
        6 * covered
            + 2 * nearer
            + crossed
            + 60 * taken.iter().filter(|t| !apart(&own, t)).count()
            + if outside { 150 } else { 0 }
    };
    let best = *all.iter().min_by_key(|at| cost(at)).expect("several places");
    taken.push(box_at(best));
    best
}

impl Scatter {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        !self.points.iter().any(|p| p.at.iter().all(|v| v.is_finite()))
    }

    /// Draws it.
    pub fn svg(&self, paper: Paper) -> String {
        let [width, plot] = self.size;
        let right = width - RIGHT;
        let names: Vec<Entry> = self.legend.iter().map(|l| l.1.clone()).collect();
        let (entries, lines) = laid_out(&names, right - LEFT);
        let defined = |p: &[f64; 2]| p.iter().all(|v| v.is_finite());
        let on_curves = self.curves.iter().flat_map(|c| &c.points).filter(|p| defined(p));
        let all: Vec<[f64; 2]> = self.points.iter().map(|p| p.at).filter(defined).chain(on_curves.copied()).collect();
        let whiskers = self.points.iter().filter(|p| defined(&p.at)).filter_map(|p| Some((p.at[1], p.band?)));
        let highs = all.iter().map(|p| p[1]).chain(whiskers.flat_map(|(y, b)| [y - b, y + b]));
        let named = self.x.ticks.iter().flatten().map(|t| t.0);
        let x = Scale::new(&self.x, all.iter().map(|p| p[0]).chain(named), [LEFT, right]);
        let y = Scale::new(&self.y, highs, [TITLE + plot, TITLE + 6.0]);
        let at = |p: [f64; 2]| [x.at(p[0]), y.at(p[1])];

        let x_ticks = self.x.ticks.clone().unwrap_or_else(|| x.ticks(6));
        // Names that do not fit beside each other are written at a slant; numbers that do not fit are left out.
        let numbers = x_ticks.iter().all(|t| t.1.parse::<f64>().is_ok());
        let mut room = f64::INFINITY;
        x_ticks.windows(2).for_each(|w| room = room.min(x.at(w[1].0) - x.at(w[0].0)));
        let longest = x_ticks.iter().map(|t| text_width(&t.1, TEXT)).fold(0.0, f64::max);
        let slant = !numbers && longest + 8.0 > room;
        let below = if slant { 0.62 * longest.min(150.0) } else { 0.0 };
        let height = TITLE + plot + 46.0 + below + 18.0 * lines as f64;

        let (muted, grid, ink) = (paper.colour(Colour::Muted), paper.colour(Colour::Line), paper.colour(Colour::Ink));
        let mut out = begin(&self.title, width, height, paper);
        for (v, name) in self.y.ticks.clone().unwrap_or_else(|| y.ticks(5)) {
            let level = y.at(v);
            let _ = write!(out, "<path d=\"M{LEFT} {level:.1}H{right:.0}\" stroke=\"{grid}\"/>");
            text(&mut out, LEFT - 7.0, level + 4.0, "end", &muted, &name);
        }
        let bottom = TITLE + plot;
        let mut free = f64::NEG_INFINITY;
        for (v, name) in &x_ticks {
            let (px, half) = (x.at(*v), text_width(name, TEXT) / 2.0);
            let _ = write!(out, "<path d=\"M{px:.1} {bottom:.1}v4\" stroke=\"{muted}\"/>");
            if slant {
                let (turned, name) = (bottom + 14.0, escape(name));
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{turned:.1}\" text-anchor=\"end\" fill=\"{muted}\" transform=\"rotate(-35 {:.1} {turned:.1})\">{name}</text>",
                    px + 4.0,
                    px + 4.0,
                );
            } else if px - half > free {
                text(&mut out, px, bottom + 17.0, "middle", &muted, name);
                free = px + half + 5.0;
            }
        }
        text(&mut out, (LEFT + right) / 2.0, bottom + 35.0 + below, "middle", &muted, &self.x.label);
        let _ = write!(
            out,
            "<text transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{muted}\">{}</text>",
            TITLE + plot / 2.0,
            escape(&self.y.label)
        );

        let mut along: Vec<[f64; 2]> = Vec::new();
        for curve in &self.curves {
            let points: Vec<[f64; 2]> = curve.points.iter().filter(|p| defined(p)).map(|p| at(*p)).collect();
            let Some(first) = points.first() else { continue };
            let mut path = format!("M{:.1} {:.1}", first[0], first[1]);
            for p in &points[1..] {
                let _ = match curve.stroke {
                    Stroke::Steps => write!(path, "H{:.1}V{:.1}", p[0], p[1]),
                    _ => write!(path, "L{:.1} {:.1}", p[0], p[1]),
                };
            }
            for pair in points.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                let corner = if curve.stroke == Stroke::Steps { [b[0], a[1]] } else { a };
                for (a, b) in [(a, corner), (corner, b)] {
                    let n = ((b[0] - a[0]).hypot(b[1] - a[1]) / 6.0).ceil();
                    along.extend((0..n as usize).map(|i| [0, 1].map(|k| a[k] + (b[k] - a[k]) * i as f64 / n)));
                }
            }
            if curve.stroke == Stroke::Steps {
                let _ = write!(path, "H{right:.1}");
            }
            let _ = write!(out, "<path d=\"{path}\" {}/>", stroked(curve.stroke, &paper.colour(curve.colour)));
        }
        let drawn: Vec<(&Point, [f64; 2])> =
            self.points.iter().filter(|p| defined(&p.at)).map(|p| (p, at(p.at))).collect();
        for (p, place) in drawn.iter().filter(|d| d.0.faint).chain(drawn.iter().filter(|d| !d.0.faint)) {
            self.point(&mut out, &y, p, *place, paper);
        }
        let places: Vec<[f64; 2]> = drawn.iter().filter(|d| !d.0.faint).map(|d| d.1).collect();
        let mut taken = Vec::new();
        for (p, place_of) in drawn.iter().filter(|d| !d.0.name.is_empty()) {
            let [nx, ny] = place(&p.name, *place_of, [&places, &along], &mut taken, [LEFT, TITLE, right, bottom]);
            let (middle, level) = (nx + text_width(&p.name, BOLD) / 2.0, ny - 4.0);
            let [dx, dy] = [middle - place_of[0], level - place_of[1]];
            if dx.hypot(dy) > 30.0 {
                let _ = write!(
                    out,
                    "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{muted}\" stroke-width=\"0.8\"/>",
                    place_of[0] + dx * 0.3,
                    place_of[1] + dy * 0.3,
                    place_of[0] + dx * 0.62,
                    place_of[1] + dy * 0.62
                );
            }
            let name = escape(&p.name);
            let _ = write!(out, "<text x=\"{nx:.1}\" y=\"{ny:.1}\" font-weight=\"600\" fill=\"{ink}\">{name}</text>");
        }
        for ((key, _), (dx, line, (name, colour))) in self.legend.iter().zip(entries) {
            let (lx, ly) = (LEFT + dx, bottom + 58.0 + below + 18.0 * line as f64);
            draw_key(&mut out, *key, &paper.colour(*colour), [lx, ly]);
            text(&mut out, lx + 16.0, ly, "start", &muted, name);
        }
        out + "</svg>"
    }

    fn point(&self, out: &mut String, y: &Scale, p: &Point, place: [f64; 2], paper: Paper) {
        let (colour, tip, [px, _]) = (paper.colour(p.colour), escape(&p.tip), place);
        if p.faint {
            let mark = shape(p.shape, place, 2.6);
            let _ = write!(out, "{mark} fill=\"{colour}\" fill-opacity=\"0.45\"><title>{tip}</title></{}>", tag(&mark));
            return;
        }
        let _ = write!(out, "<g>");
        if let Some(band) = p.band.filter(|b| b.is_finite()) {
            let [low, high] = [p.at[1] - band, p.at[1] + band].map(|v| y.at(v));
            if low.is_finite() && high.is_finite() {
                let (l, r) = (px - 3.0, px + 3.0);
                let _ = write!(
                    out,
                    "<path d=\"M{px:.1} {low:.1}V{high:.1}M{l:.1} {low:.1}H{r:.1}M{l:.1} {high:.1}H{r:.1}\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-opacity=\"0.75\"/>"
                );
            }
        }
        // A larger place for the mouse than the mark itself.
        let _ = write!(
            out,
            "{} fill=\"transparent\"/>{} fill=\"{colour}\"/>",
            shape(0, place, 9.0),
            shape(p.shape, place, 4.2)
        );
        if p.ringed {
            let ink = paper.colour(Colour::Ink);
            let _ = write!(out, "{} fill=\"none\" stroke=\"{ink}\" stroke-width=\"1.3\"/>", shape(0, place, 7.4));
        }
        let _ = write!(out, "<title>{tip}</title></g>");
    }
}

fn tag(mark: &str) -> &str {
    if mark.starts_with("<circle") { "circle" } else { "path" }
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
            curves: [Stroke::Full, Stroke::Dashed, Stroke::Steps].map(curve).into(),
            points: (0..8).map(|i| point(2f64.powi(i), 1.0 / f64::from(i + 1), i as usize)).collect(),
            legend: vec![
                (Key::Shape(3), ("x".into(), Colour::Ink)),
                (Key::Line(Stroke::Steps), ("y".into(), Colour::Ink)),
            ],
        }
    }

    #[test]
    fn a_scatter_is_valid_and_leaves_out_what_is_undefined() {
        let mut s = scatter();
        s.points.extend([point(f64::NAN, 1.0, 0), point(0.0, f64::INFINITY, 0)]);
        let file = s.svg(Paper::File);
        assert!(raster::png(&file, 1.0).is_ok() && raster::png(&s.svg(Paper::Page), 1.0).is_ok());
        assert!(!file.contains("NaN") && !file.contains("inf") && file.contains("a &lt; b"));
        assert_eq!(file.matches("<title>").count(), 8);
        assert!(Scatter::default().is_empty() && !s.is_empty());
        // A single point, and values of 0 on a logarithmic axis.
        s.points = vec![point(8.0, 0.5, 0)];
        s.curves.clear();
        let one = s.svg(Paper::File);
        assert!(raster::png(&one, 1.0).is_ok() && !one.contains("NaN"));
    }

    #[test]
    fn ticks_of_ratios_are_round() {
        let of = |low: f64, high: f64| {
            let axis = Axis { log: true, range: Some([low, high]), ..Axis::default() };
            let names: Vec<String> =
                Scale::new(&axis, std::iter::empty(), [0.0, 1.0]).ticks(6).into_iter().map(|t| t.1).collect();
            names.join(" ")
        };
        assert_eq!(of(7.0, 140.0), "10 20 50 100");
        assert_eq!(of(1e-4, 1.0), "1e−4 0.001 0.01 0.1 1");
        assert_eq!([of(22.0, 31.0), of(3.5, 18.0)], ["22 24 26 28 30", "4 6 8 10 15"]);
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        let (mut taken, inside) = (Vec::new(), [0.0, 0.0, 300.0, 300.0]);
        let points = [[150.0, 150.0], [152.0, 150.0], [148.0, 152.0]];
        for p in points {
            place("knee", p, [&points, &[]], &mut taken, inside);
        }
        for (i, a) in taken.iter().enumerate() {
            for b in &taken[..i] {
                assert!(a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1], "{taken:?}");
            }
        }
    }
}
