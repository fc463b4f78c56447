//! The figures of the report of a sweep, drawn once for the page and for the files beside it.

mod effects;
mod images;

pub use effects::figures as effects;
pub use images::figures as side_by_side;

use super::Context;
use crate::plot::scatter::{Axis, Curve, LegendKey, Point, Scatter, Stroke};
use crate::plot::svg::{Colour, TEXT, Target, text_width};
use crate::report::figures::Figure;
use crate::report::words::fixed;
use vibrissa_record::Number;
use vibrissa_record::sweep::ConfigurationRecord;

/// Width of the figure and height of the plot of the front, pixels.
const LARGE: [f64; 2] = [760.0, 300.0];
/// Width of the figure and height of the plot of other figures, pixels.
const SMALL: [f64; 2] = [440.0, 190.0];

/// A scatter plot as a figure; nothing if it has no points.
fn figure(section: &'static str, name: &str, scatter: &Scatter, note: String, target: Target) -> Option<Figure> {
    if scatter.is_empty() {
        return None;
    }
    let svg = scatter.svg(target);
    Some(Figure { name: name.to_owned(), section, title: scatter.title.clone(), note, svg })
}

fn or_nan(v: Number) -> f64 {
    v.get().unwrap_or(f64::NAN)
}

/// Smallest and largest finite value.
fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.filter(|v| v.is_finite()).fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [v.min(a), v.max(b)])
}

/// An axis that is logarithmic if its values span more than a decade.
fn adaptive_axis(label: String, values: impl Iterator<Item = f64>) -> Axis {
    let [low, high] = extent(values);
    Axis { label, log: low > 0.0 && high > 10.0 * low, ..Axis::default() }
}

/// A name shortened to a width in pixels.
fn clipped(name: &str, width: f64) -> String {
    if text_width(name, TEXT) <= width {
        return name.to_owned();
    }
    let mut kept = name.to_owned();
    while !kept.is_empty() && text_width(&kept, TEXT) + TEXT > width {
        kept.pop();
    }
    kept + "…"
}

/// The option whose values have colours and shapes of their own: the activation if it varies, or else the first varied
/// option that is neither k nor the seed.
struct ColouredOption<'a> {
    key: &'a str,
    values: Vec<&'a str>,
}

impl<'a> ColouredOption<'a> {
    fn of(context: &'a Context) -> Option<ColouredOption<'a>> {
        let mut varied = context.varied();
        varied.retain(|v| v.0 != "k" && v.0 != "seed");
        let activation = varied.iter().position(|v| v.0 == "activation").unwrap_or(0);
        (!varied.is_empty()).then(|| varied.swap_remove(activation)).map(|(key, values)| ColouredOption { key, values })
    }

    /// The place of a configuration's value.
    fn place(&self, c: &ConfigurationRecord) -> Option<usize> {
        let value = c.values.get(self.key)?;
        self.values.iter().position(|v| v == value)
    }
}

/// The tooltip of a configuration.
fn tip(context: &Context, c: &ConfigurationRecord) -> String {
    let band = c.fvu_band.get().map_or(String::new(), |_| format!(" ± {}", fixed(c.fvu_band, 4)));
    let seeds = if c.seeds > 1 { format!(" · {} {}", c.seeds, context.t("sw_seeds")) } else { String::new() };
    format!("{}: L0 {} · fvu {}{band} · r {}{seeds}", c.name, fixed(c.l0, 1), fixed(c.fvu, 4), fixed(c.pearson, 4))
}

/// A value of a configuration and half the length of its error bar.
type Value = fn(&ConfigurationRecord) -> (f64, Option<f64>);

/// Configurations by L0: a point each, and a line through those that differ only in k.
fn by_l0(context: &Context, value: Value) -> Scatter {
    let (all, coloured) = (&context.report.sweep.configurations, ColouredOption::of(context));
    let series = |c: &ConfigurationRecord| coloured.as_ref().and_then(|option| option.place(c)).unwrap_or(0);
    let point = |c: &ConfigurationRecord| {
        let (y, band) = value(c);
        Point {
            at: [or_nan(c.l0), y],
            band,
            colour: Colour::Series(series(c)),
            shape: series(c),
            faint: false,
            ringed: false,
            tip: tip(context, c),
            name: String::new(),
        }
    };
    let mut lines: Vec<(String, usize, Vec<[f64; 2]>)> = Vec::new();
    for c in all {
        let others: String = c.values.0.iter().filter(|v| v.0 != "k").map(|(key, v)| format!("{key}={v} ")).collect();
        let at = [or_nan(c.l0), value(c).0];
        match lines.iter_mut().find(|l| l.0 == others) {
            Some(line) => line.2.push(at),
            None => lines.push((others, series(c), vec![at])),
        }
    }
    let curves = lines.into_iter().filter(|l| l.2.len() > 1).map(|(_, series, mut points)| {
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Curve { points, colour: Colour::Series(series), stroke: Stroke::Solid }
    });
    let legend = coloured.iter().flat_map(|option| {
        let occurs = |i: &usize| all.iter().any(|c| option.place(c) == Some(*i));
        (0..option.values.len()).filter(occurs).map(|i| {
            let value = option.values[i];
            let name = if option.key == "activation" { value.to_owned() } else { format!("{}={value}", option.key) };
            (LegendKey::Shape(i), (name, Colour::Series(i)))
        })
    });
    Scatter {
        x: Axis { label: context.t("sw_l0_axis"), log: true, ..Axis::default() },
        size: LARGE,
        curves: curves.collect(),
        legend: legend.collect(),
        points: all.iter().map(point).collect(),
        ..Scatter::default()
    }
}

/// Fidelity against sparsity, with the Pareto front.
pub fn front(context: &Context, target: Target) -> Vec<Figure> {
    let all = &context.report.sweep.configurations;
    let mut fvu = by_l0(context, |c| (or_nan(c.fvu), c.fvu_band.get()));
    fvu.title = context.t("sw_fvu_l0");
    fvu.y = adaptive_axis(context.t("sw_fvu_axis"), all.iter().map(|c| or_nan(c.fvu)));
    let mut pearson = by_l0(context, |c| (or_nan(c.pearson), c.pearson_band.get()));
    pearson.title = context.t("sw_pearson_l0");
    pearson.y = Axis { label: context.t("pearson"), ..Axis::default() };
    for scatter in [&mut fvu, &mut pearson] {
        mark_configurations(context, scatter);
    }
    let mut on_front: Vec<[f64; 2]> = all.iter().filter(|c| c.front).map(|c| [or_nan(c.l0), or_nan(c.fvu)]).collect();
    if on_front.len() > 1 {
        on_front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        fvu.curves.insert(0, Curve { points: on_front, colour: Colour::Ink, stroke: Stroke::Steps });
        fvu.legend.push((LegendKey::Line(Stroke::Steps), (context.t("sw_smallest_fvu"), Colour::Ink)));
    }
    [("fvu_l0", fvu, "sw_note_fvu"), ("pearson_l0", pearson, "sw_note_pearson")]
        .into_iter()
        .filter_map(|(name, scatter, note)| figure("front", name, &scatter, context.t(note), target))
        .collect()
}

/// Rings the configurations on the front, and names the best and the knee.
fn mark_configurations(context: &Context, scatter: &mut Scatter) {
    let sweep = context.report.sweep;
    let several = sweep.configurations.iter().filter(|c| c.front).count() > 1;
    for (c, point) in sweep.configurations.iter().zip(&mut scatter.points) {
        point.ringed = c.front && several;
        if sweep.is_named(c) {
            point.name = context.mark(c);
        }
        // On a logarithmic axis a bar down to 0 would hide everything else.
        if scatter.y.log && point.band.is_some_and(|b| b >= point.at[1]) {
            point.band = None;
        }
    }
    if several {
        scatter.legend.push((LegendKey::Ring, (context.t("sw_on_front"), Colour::Ink)));
    }
}

/// Dead latents and training time against L0.
pub fn cost(context: &Context, target: Target) -> Vec<Figure> {
    let all = &context.report.sweep.configurations;
    let mut dead = by_l0(context, |c| (100.0 * or_nan(c.dead_share), None));
    dead.title = context.t("sw_dead_l0");
    dead.y = Axis { label: context.t("sw_dead_axis"), ..Axis::default() };
    if all.iter().all(|c| c.dead_share.get().is_none_or(|v| v == 0.0)) {
        dead.y.range = Some([0.0, 1.0]);
    }
    let mut seconds = by_l0(context, |c| (or_nan(c.seconds), None));
    seconds.title = context.t("sw_seconds_l0");
    seconds.y = adaptive_axis(context.t("sw_seconds_axis"), all.iter().map(|c| or_nan(c.seconds)));
    [("dead_l0", dead), ("seconds_l0", seconds)]
        .into_iter()
        .filter_map(|(name, scatter)| figure("cost", name, &Scatter { size: SMALL, ..scatter }, String::new(), target))
        .collect()
}
