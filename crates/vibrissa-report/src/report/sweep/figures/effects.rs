//! The effect of each option on fvu.

use super::{SMALL, adaptive_axis, clipped, extent, figure, or_nan};
use crate::plot::scatter::{Axis, Curve, LegendKey, Point, Scatter, Stroke};
use crate::plot::svg::{Colour, LegendEntry, Target};
use crate::report::figures::Figure;
use crate::report::sweep::Context;
use crate::report::words::fixed;
use vibrissa_record::Number;
use vibrissa_record::sweep::{EffectLine, EffectRecord, Ended};

/// Width of the name of a value, pixels.
const NAME_WIDTH: f64 = 150.0;

/// One figure per option. All have the same vertical axis, so that options can be compared.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let sweep = context.report.sweep;
    let y = shared_axis(context);
    let one = |effect: &EffectRecord| {
        let scatter = effect_plot(context, effect, y.clone());
        let note = effect.spread.get().map(|_| context.with("sw_spread", &[("v", fixed(effect.spread, 4))]));
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = format!("effect_{}", effect.key).chars().map(safe).collect();
        figure("effects", &name, &scatter, note.unwrap_or_default(), target)
    };
    sweep.effects.iter().filter_map(one).collect()
}

/// The vertical axis, which holds fvu of all finished cells.
fn shared_axis(context: &Context) -> Axis {
    let cells = context.report.sweep.cells.iter().filter(|c| c.ended == Ended::Finished);
    let fvu = cells.flat_map(|c| [c.validation_fvu, c.scores.as_ref().and_then(|s| s.reconstruction.fvu)]).flatten();
    let mut axis = adaptive_axis("fvu".into(), fvu.clone());
    let [low, high] = extent(fvu);
    if axis.log {
        axis.range = Some([low / 1.1, high * 1.1]);
    } else if low < high {
        let margin = 0.06 * (high - low);
        axis.range = Some([if low >= 0.0 { (low - margin).max(0.0) } else { low - margin }, high + margin]);
    }
    axis
}

/// The values of an option along the horizontal axis: as numbers if all are numbers, or else side by side.
struct OptionAxis<'a> {
    values: Vec<&'a str>,
    numbers: Option<Vec<f64>>,
    /// Lines, one per k, which are a little apart where values are side by side.
    lines: usize,
}

impl OptionAxis<'_> {
    fn place(&self, value: &str, line: usize) -> f64 {
        match &self.numbers {
            Some(_) => value.parse().unwrap_or(f64::NAN),
            None => {
                let offset = if self.lines > 1 { 0.3 * (line as f64 / (self.lines - 1) as f64 - 0.5) } else { 0.0 };
                self.values.iter().position(|v| *v == value).map_or(f64::NAN, |i| i as f64 + offset)
            }
        }
    }

    fn axis(&self) -> Axis {
        match &self.numbers {
            Some(numbers) => {
                let [low, high] = extent(numbers.iter().copied());
                let mut ticks: Vec<(f64, String)> =
                    numbers.iter().copied().zip(self.values.iter().map(|v| (*v).to_owned())).collect();
                ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
                Axis { log: low > 0.0 && high >= 9.99 * low, ticks: Some(ticks), ..Axis::default() }
            }
            None => {
                let names = self.values.iter().enumerate().map(|(i, v)| (i as f64, clipped(v, NAME_WIDTH)));
                let range = Some([-0.5, self.values.len() as f64 - 0.5]);
                Axis { ticks: Some(names.collect()), range, ..Axis::default() }
            }
        }
    }
}

fn effect_plot(context: &Context, effect: &EffectRecord, y: Axis) -> Scatter {
    let varied = context.varied();
    let values = varied.iter().find(|v| v.0 == effect.key).map_or(Vec::new(), |v| v.1.clone());
    let numbers: Option<Vec<f64>> = values.iter().map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
    let numbers = numbers.filter(|_| effect.key != "seed");
    let option = OptionAxis { values, numbers, lines: effect.lines.len() };
    let mut x = option.axis();
    x.label = if x.log { context.with("sw_log", &[("key", effect.key.clone())]) } else { effect.key.clone() };
    let (mut curves, mut points) = (Vec::new(), Vec::new());
    for (i, line) in effect.lines.iter().enumerate() {
        let colour = line_colour(effect, i);
        curves.extend(mean_curves(context, line, |value| option.place(value, i), colour));
        points.extend(cell_points(context, &effect.key, line, |value| option.place(value, i), colour));
    }
    Scatter {
        title: context.with("sw_effect", &[("key", effect.key.clone())]),
        x,
        y,
        size: SMALL,
        curves,
        points,
        legend: legend(context, effect),
    }
}

fn line_colour(effect: &EffectRecord, line: usize) -> Colour {
    if effect.lines.len() > 1 { Colour::Series(line) } else { Colour::Accent }
}

/// Mean fvu by value: of validation rows dashed, of test rows solid.
fn mean_curves(context: &Context, line: &EffectLine, place: impl Fn(&str) -> f64, colour: Colour) -> Vec<Curve> {
    let mut means: Vec<[f64; 3]> =
        line.points.iter().map(|p| [place(&p.value), or_nan(p.fvu), or_nan(p.validation_fvu)]).collect();
    means.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let has_test = context.report.sweep.test_rows > 0;
    let kinds = [(2, Stroke::Dashed), (1, Stroke::Solid)].into_iter().filter(|kind| has_test || kind.0 == 2);
    kinds
        .map(|(which, stroke)| Curve { points: means.iter().map(|m| [m[0], m[which]]).collect(), colour, stroke })
        .collect()
}

/// Finished cells, faint: fvu of test rows as discs, of validation rows as diamonds.
fn cell_points(
    context: &Context,
    key: &str,
    line: &EffectLine,
    place: impl Fn(&str) -> f64,
    colour: Colour,
) -> Vec<Point> {
    let sweep = context.report.sweep;
    let has_test = sweep.test_rows > 0;
    let mut out = Vec::new();
    let finished = sweep.cells.iter().filter(|c| c.ended == Ended::Finished);
    for c in finished.filter(|c| line.k.is_none_or(|k| c.k == k)) {
        let Some(value) = c.values.get(key) else { continue };
        let test = c.scores.as_ref().and_then(|s| s.reconstruction.fvu).filter(|_| has_test);
        for (shape, fvu) in [(0, test), (2, c.validation_fvu)] {
            out.push(Point {
                at: [place(value), fvu.unwrap_or(f64::NAN)],
                band: None,
                colour,
                shape,
                faint: true,
                ringed: false,
                tip: format!("{}: fvu {}", c.name, fixed(Number(fvu), 4)),
                name: String::new(),
            });
        }
    }
    out
}

fn legend(context: &Context, effect: &EffectRecord) -> Vec<(LegendKey, LegendEntry)> {
    let mut out = Vec::new();
    let several = effect.lines.len() > 1;
    if several {
        for (i, line) in effect.lines.iter().enumerate() {
            let name = line.k.map_or(String::new(), |k| format!("k={k}"));
            out.push((LegendKey::Line(Stroke::Solid), (name, line_colour(effect, i))));
        }
    }
    let main = if several { Colour::Muted } else { Colour::Accent };
    if context.report.sweep.test_rows > 0 {
        out.push((LegendKey::Line(Stroke::Solid), (context.with("sw_test_mean", &[]), main)));
    }
    out.push((LegendKey::Line(Stroke::Dashed), (context.t("sw_validation_mean"), main)));
    out.push((LegendKey::Faint, (context.t("sw_cell"), main)));
    out
}
