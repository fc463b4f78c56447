//! Fidelity by the number of features kept.

use super::{Figure, chart_figure, legend, line, title};
use crate::plot::chart::Chart;
use crate::plot::svg::Target;
use crate::report::Context;
use vibrissa_record::Number;
use vibrissa_record::analysis::{PrunePoint, PruneRecord};

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    type Value = fn(&PrunePoint) -> Number;
    let curves: [(&str, &str, Value); 2] =
        [("prune_pearson", "pearson", |p| p.pearson), ("prune_fvu", "axis_fvu", |p| p.fvu)];
    let records = context.report.pruning;
    let names: Vec<String> = records.iter().map(|r| context.t(r.by.name())).collect();
    let rows = |r: &PruneRecord| {
        let values = [("by", context.t(r.by.name())), ("rows", r.rows.clone()), ("data", r.data.clone())];
        context.with("pruned_on", &values)
    };
    let note = records.iter().map(rows).collect::<Vec<_>>().join(" ");
    let figure = |(name, axis, value): (&str, &str, Value)| {
        let points = |r: &PruneRecord| {
            r.curve.iter().map(|p| [(p.features as f64).log2(), value(p).get().unwrap_or(f64::NAN)]).collect()
        };
        let chart = Chart {
            title: title(context, name),
            x: context.t("axis_kept"),
            y: context.t(axis),
            marks: records.iter().enumerate().map(|(i, r)| line(i, points(r))).collect(),
            legend: legend(&names),
            ..Chart::default()
        };
        chart_figure("pruning", name, &chart, note.clone(), target)
    };
    curves.into_iter().filter_map(figure).collect()
}
