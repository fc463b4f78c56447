//! The figures of a sweep's report, each drawn once: for the page, and for files beside it.

use super::super::figures::Figure;
use super::super::words::{Words, fixed};
use super::{SweepReport, side_by_side, text};
use crate::plot::image_figure::{ImageFigure, Label};
use crate::plot::scatter::{Axis, Curve, LegendKey, Point, Scatter, Stroke};
use crate::plot::svg::{Colour, Target, text_width};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vibrissa_record::Number;
use vibrissa_record::sweep::{ConfigurationRecord, EffectRecord, Ended};

struct Drawer<'a> {
    report: &'a SweepReport<'a>,
    words: &'a Words,
    target: Target,
    out: Vec<Figure>,
}

/// All figures that there is something to show in.
pub fn figures(report: &SweepReport, words: &Words, target: Target) -> Vec<Figure> {
    let mut drawer = Drawer { report, words, target, out: Vec::new() };
    drawer.frontier();
    drawer.effects();
    drawer.cost();
    drawer.side();
    drawer.out
}

/// The option whose values have colours, and its values.
type Coloured<'a> = Option<(&'a str, Vec<&'a str>)>;

fn value(v: Number) -> f64 {
    v.get().unwrap_or(f64::NAN)
}

/// An axis for figures that may lie within one decade or in several.
fn axis(label: String, values: impl Iterator<Item = f64>) -> Axis {
    let [low, high] = values.filter(|v| v.is_finite()).fold([f64::INFINITY, 0.0], |[a, b], v| [v.min(a), v.max(b)]);
    Axis { label, log: low > 0.0 && high > 10.0 * low, ..Axis::default() }
}

/// Width and height in a PNG file's head; a damaged one is square.
fn size(png: &[u8]) -> [f64; 2] {
    let at = |i: usize| png.get(i..i + 4).map(|b| f64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    match (at(16), at(20)) {
        (Some(w), Some(h)) if w > 0.0 && h > 0.0 => [w, h],
        _ => [1.0, 1.0],
    }
}

/// As much of a name as fits.
fn clipped(name: &str, width: f64) -> String {
    if text_width(name, 12.0) <= width {
        return name.to_owned();
    }
    let mut kept = name.to_owned();
    while !kept.is_empty() && text_width(&kept, 12.0) + 12.0 > width {
        kept.pop();
    }
    kept + "…"
}

impl Drawer<'_> {
    fn t(&self, key: &str) -> String {
        self.words.get(key)
    }

    fn push(&mut self, section: &'static str, name: &str, title: String, note: String, svg: String) {
        self.out.push(Figure { name: name.to_owned(), section, title, note, svg });
    }

    fn scatter(&mut self, section: &'static str, name: &str, scatter: Scatter, note: String) {
        if !scatter.is_empty() {
            let svg = scatter.svg(self.target);
            self.push(section, name, scatter.title, note, svg);
        }
    }

    /// The activation, else the first option that is neither k nor the seed.
    fn coloured(&self) -> Coloured<'_> {
        let mut varied = self.report.varied();
        varied.retain(|v| v.0 != "k" && v.0 != "seed");
        let at = varied.iter().position(|v| v.0 == "activation").unwrap_or(0);
        (!varied.is_empty()).then(|| varied.swap_remove(at))
    }

    /// Which colour and shape a configuration has.
    fn series(&self, c: &ConfigurationRecord, coloured: &Coloured) -> usize {
        let place = |(key, values): &(&str, Vec<&str>)| {
            let own = c.values.get(key)?;
            values.iter().position(|v| v == own)
        };
        coloured.as_ref().and_then(place).unwrap_or(0)
    }

    fn tip(&self, c: &ConfigurationRecord) -> String {
        let band = c.fvu_band.get().map_or(String::new(), |_| format!(" ± {}", fixed(c.fvu_band, 4)));
        let seeds = if c.seeds > 1 { format!(" · {} {}", c.seeds, self.t("sw_seeds")) } else { String::new() };
        format!("{}: L0 {} · fvu {}{band} · r {}{seeds}", c.name, fixed(c.l0, 1), fixed(c.fvu, 4), fixed(c.pearson, 4))
    }

    /// Configurations by L0: a point each, a line through those that differ in k alone.
    fn by_l0(&self, of: fn(&ConfigurationRecord) -> (f64, Option<f64>)) -> Scatter {
        let (all, coloured) = (&self.report.sweep.configurations, self.coloured());
        let point = |c: &ConfigurationRecord| {
            let (y, band) = of(c);
            let series = self.series(c, &coloured);
            Point {
                at: [value(c.l0), y],
                band,
                colour: Colour::Series(series),
                shape: series,
                faint: false,
                ringed: false,
                tip: self.tip(c),
                name: String::new(),
            }
        };
        let mut lines: Vec<(String, usize, Vec<[f64; 2]>)> = Vec::new();
        for c in all {
            let rest: String = c.values.0.iter().filter(|v| v.0 != "k").map(|(key, v)| format!("{key}={v} ")).collect();
            let at = [value(c.l0), of(c).0];
            match lines.iter_mut().find(|l| l.0 == rest) {
                Some(line) => line.2.push(at),
                None => lines.push((rest, self.series(c, &coloured), vec![at])),
            }
        }
        let curves = lines.into_iter().filter(|l| l.2.len() > 1).map(|(_, series, mut points)| {
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            Curve { points, colour: Colour::Series(series), stroke: Stroke::Solid }
        });
        let legend = coloured.iter().flat_map(|(key, values)| {
            let there = move |v: &&(usize, &&str)| all.iter().any(|c| c.values.get(key).is_some_and(|own| own == *v.1));
            values.iter().enumerate().filter(move |v| there(&v)).map(move |(i, v)| {
                let name = if *key == "activation" { (*v).to_owned() } else { format!("{key}={v}") };
                (LegendKey::Shape(i), (name, Colour::Series(i)))
            })
        });
        Scatter {
            x: Axis { label: self.t("sw_l0_axis"), log: true, ..Axis::default() },
            size: [760.0, 300.0],
            curves: curves.collect(),
            legend: legend.collect(),
            points: all.iter().map(point).collect(),
            ..Scatter::default()
        }
    }

    fn frontier(&mut self) {
        let sweep = self.report.sweep;
        let all = &sweep.configurations;
        for (name, pearson) in [("fvu_l0", false), ("pearson_l0", true)] {
            let mut s = self.by_l0(match pearson {
                true => |c| (value(c.pearson), c.pearson_band.get()),
                false => |c| (value(c.fvu), c.fvu_band.get()),
            });
            s.title = self.t(&format!("sw_{name}"));
            let label = self.t(if pearson { "pearson" } else { "sw_fvu_axis" });
            s.y = match pearson {
                true => Axis { label, ..Axis::default() },
                false => axis(label, all.iter().map(|c| value(c.fvu))),
            };
            let several = all.iter().filter(|c| c.front).count() > 1;
            for (c, point) in all.iter().zip(&mut s.points) {
                point.ringed = c.front && several;
                if sweep.is_named(c) {
                    point.name = self.report.mark(c, self.words);
                }
                // A whisker longer than the values are apart would be all that one sees.
                if s.y.log && point.band.is_some_and(|b| b >= point.at[1]) {
                    point.band = None;
                }
            }
            if several {
                s.legend.push((LegendKey::Ring, (self.t("sw_on_front"), Colour::Ink)));
                if !pearson {
                    let mut front: Vec<[f64; 2]> =
                        all.iter().filter(|c| c.front).map(|c| [value(c.l0), value(c.fvu)]).collect();
                    front.sort_by(|a, b| a[0].total_cmp(&b[0]));
                    s.curves.insert(0, Curve { points: front, colour: Colour::Ink, stroke: Stroke::Steps });
                    s.legend.push((LegendKey::Line(Stroke::Steps), (self.t("sw_smallest_fvu"), Colour::Ink)));
                }
            }
            let note = self.t(if pearson { "sw_pearson_note" } else { "sw_fvu_note" });
            self.scatter("front", name, s, note);
        }
    }

    fn cost(&mut self) {
        let all = &self.report.sweep.configurations;
        let mut dead = self.by_l0(|c| (100.0 * value(c.dead_share), None));
        dead.title = self.t("sw_dead_l0");
        dead.y = Axis { label: self.t("sw_dead_axis"), ..Axis::default() };
        if all.iter().all(|c| c.dead_share.get().is_none_or(|v| v == 0.0)) {
            dead.y.range = Some([0.0, 1.0]);
        }
        let mut seconds = self.by_l0(|c| (value(c.seconds), None));
        seconds.title = self.t("sw_seconds_l0");
        seconds.y = axis(self.t("sw_seconds_axis"), all.iter().map(|c| value(c.seconds)));
        for (name, mut s) in [("dead_l0", dead), ("seconds_l0", seconds)] {
            s.size = [440.0, 190.0];
            self.scatter("cost", name, s, String::new());
        }
    }

    fn effects(&mut self) {
        let sweep = self.report.sweep;
        let cells = sweep.cells.iter().filter(|c| c.ended == Ended::Finished);
        let figures = cells.flat_map(|c| [c.validation_fvu, c.scores.as_ref().and_then(|s| s.fvu)]).flatten();
        // One axis for all, so that options can be compared.
        let mut y = axis("fvu".into(), figures.clone());
        let [low, high] = figures
            .filter(|v| v.is_finite())
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [v.min(a), v.max(b)]);
        if y.log {
            y.range = Some([low / 1.1, high * 1.1]);
        } else if low < high {
            let room = 0.06 * (high - low);
            y.range = Some([if low >= 0.0 { (low - room).max(0.0) } else { low - room }, high + room]);
        }
        for effect in &sweep.effects {
            let scatter = self.effect(effect, y.clone());
            let note = match effect.spread.get() {
                Some(_) => self.words.with("sw_spread", &[("v", fixed(effect.spread, 4))]),
                None => String::new(),
            };
            let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let name: String = format!("effect_{}", effect.key).chars().map(safe).collect();
            self.scatter("effects", &name, scatter, note);
        }
    }

    fn effect(&self, effect: &EffectRecord, y: Axis) -> Scatter {
        let sweep = self.report.sweep;
        let varied = self.report.varied();
        let values = varied.iter().find(|v| v.0 == effect.key).map_or(Vec::new(), |v| v.1.clone());
        let numbers: Option<Vec<f64>> = values.iter().map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
        let numbers = numbers.filter(|_| effect.key != "seed");
        let n = effect.lines.len();
        // Names stand side by side; lines of one k stand a little apart.
        let place = |own: &str, line: usize| match &numbers {
            Some(_) => own.parse().unwrap_or(f64::NAN),
            None => {
                let apart = if n > 1 { 0.3 * (line as f64 / (n - 1) as f64 - 0.5) } else { 0.0 };
                values.iter().position(|v| *v == own).map_or(f64::NAN, |i| i as f64 + apart)
            }
        };
        let mut x = match &numbers {
            Some(numbers) => {
                let [low, high] =
                    numbers.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &v| [v.min(a), v.max(b)]);
                let mut ticks: Vec<(f64, String)> =
                    numbers.iter().copied().zip(values.iter().map(|v| (*v).to_owned())).collect();
                ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
                Axis { log: low > 0.0 && high >= 9.99 * low, ticks: Some(ticks), ..Axis::default() }
            }
            None => Axis {
                ticks: Some(values.iter().enumerate().map(|(i, v)| (i as f64, clipped(v, 150.0))).collect()),
                range: Some([-0.5, values.len() as f64 - 0.5]),
                ..Axis::default()
            },
        };
        x.label = if x.log { self.words.with("sw_log", &[("key", effect.key.clone())]) } else { effect.key.clone() };
        let held_out = sweep.test_rows > 0;
        let colour = |line: usize| if n > 1 { Colour::Series(line) } else { Colour::Accent };
        let (mut curves, mut points) = (Vec::new(), Vec::new());
        for (i, line) in effect.lines.iter().enumerate() {
            let mut means: Vec<[f64; 3]> =
                line.points.iter().map(|p| [place(&p.value, i), value(p.fvu), value(p.validation_fvu)]).collect();
            means.sort_by(|a, b| a[0].total_cmp(&b[0]));
            let kinds = [(2, Stroke::Dashed), (1, Stroke::Solid)];
            for (which, stroke) in kinds.into_iter().filter(|k| held_out || k.0 == 2) {
                let points = means.iter().map(|m| [m[0], m[which]]).collect();
                curves.push(Curve { points, colour: colour(i), stroke });
            }
            let own = sweep.cells.iter().filter(|c| c.ended == Ended::Finished && line.k.is_none_or(|k| c.k == k));
            for c in own {
                let Some(own) = c.values.get(&effect.key) else { continue };
                let held = c.scores.as_ref().and_then(|s| s.fvu).filter(|_| held_out);
                for (kind, fvu) in [(0, held), (2, c.validation_fvu)] {
                    points.push(Point {
                        at: [place(own, i), fvu.unwrap_or(f64::NAN)],
                        band: None,
                        colour: colour(i),
                        shape: kind,
                        faint: true,
                        ringed: false,
                        tip: format!("{}: fvu {}", c.name, fixed(Number(fvu), 4)),
                        name: String::new(),
                    });
                }
            }
        }
        let mut legend = Vec::new();
        if n > 1 {
            for (i, line) in effect.lines.iter().enumerate() {
                legend.push((
                    LegendKey::Line(Stroke::Solid),
                    (line.k.map_or(String::new(), |k| format!("k={k}")), colour(i)),
                ));
            }
        }
        let main = if n > 1 { Colour::Muted } else { Colour::Accent };
        if held_out {
            let name = self.words.with("sw_held_mean", &[("rows", self.report.rows(self.words))]);
            legend.push((LegendKey::Line(Stroke::Solid), (name, main)));
        }
        legend.push((LegendKey::Line(Stroke::Dashed), (self.t("sw_validation_mean"), main)));
        legend.push((LegendKey::Faint, (self.t("sw_cell"), main)));
        let title = self.words.with("sw_effect", &[("key", effect.key.clone())]);
        Scatter { title, x, y, size: [440.0, 190.0], curves, points, legend }
    }

    /// The same rows, then the features, by configuration.
    fn side(&mut self) {
        let report = self.report;
        let shown: Vec<_> = side_by_side(report.sweep)
            .into_iter()
            .filter_map(|c| Some((c, report.pictures.iter().find(|p| p.configuration == c.name)?)))
            .collect();
        if shown.is_empty() {
            return;
        }
        let pictures = report.originals.is_some();
        // Sheets of rows that are no pictures are shown by the page itself: they are wide.
        if pictures || self.target == Target::File {
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            let names: Vec<[String; 2]> = shown.iter().map(|(c, _)| text::caption(report, c, self.words)).collect();
            let widest = names.iter().flatten().map(|n| text_width(n, 12.0)).fold(60.0, f64::max);
            let left = if pictures { widest.min(250.0) + 14.0 } else { 0.0 };
            let [mut y, mut wide] = [2.0, 0.0f64];
            let originals = report.originals.map(|o| ([self.t("sw_original"), String::new()], o));
            let strips = names.into_iter().zip(&shown).map(|(name, (_, p))| (name, p.strip.as_slice()));
            for ([name, said], png) in originals.into_iter().chain(strips) {
                let [w, h] = size(png);
                let [w, h] = if pictures { [640.0, 640.0 * h / w] } else { [w, h] };
                let mut label = |at: [f64; 2], text: String| labels.push(Label { at, anchor: "start", text });
                if pictures {
                    let middle = y + h / 2.0;
                    let lone = said.is_empty();
                    label([2.0, middle + if lone { 4.0 } else { -3.0 }], clipped(&name, left - 10.0));
                    label([2.0, middle + 12.0], clipped(&said, left - 10.0));
                } else {
                    label([2.0, y + 12.0], format!("{name} · {said}"));
                    y += 20.0;
                }
                images.push((STANDARD.encode(png), [left, y, w, h]));
                (y, wide) = (y + h.max(if pictures { 30.0 } else { 0.0 }) + 9.0, wide.max(left + w));
            }
            let title = self.t("sw_side_recons");
            let picture = ImageFigure { title, size: [wide + 2.0, y], images, labels, legend: Vec::new() };
            let svg = picture.svg(self.target);
            self.push("side", "side_recons", picture.title, String::new(), svg);
        }
        if self.target == Target::File {
            let side = if pictures { 240.0 } else { 700.0 };
            let across = if pictures { 4 } else { 2 };
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            let mut y = 2.0;
            for line in shown.chunks(across) {
                let mut tall = 0.0f64;
                for (i, (c, p)) in line.iter().enumerate() {
                    let [w, h] = size(&p.wall);
                    let (x, h) = (2.0 + i as f64 * (side + 24.0), side * h / w);
                    images.push((STANDARD.encode(&p.wall), [x, y, side, h]));
                    for (k, said) in text::caption(report, c, self.words).into_iter().enumerate() {
                        let at = [x, y + h + 16.0 + 15.0 * k as f64];
                        labels.push(Label { at, anchor: "start", text: clipped(&said, side) });
                    }
                    tall = tall.max(h);
                }
                y += tall + 48.0;
            }
            let n = shown.len().min(across) as f64;
            let title = self.t("sw_side_walls");
            let picture =
                ImageFigure { title, size: [n * (side + 24.0) - 20.0, y - 8.0], images, labels, legend: Vec::new() };
            let (svg, note) = (picture.svg(self.target), self.t("sw_wall_note"));
            self.push("side", "side_walls", picture.title, note, svg);
        }
    }
}
