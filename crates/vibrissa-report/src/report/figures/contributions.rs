//! Inequality of the contributions of features.

use super::{Figure, chart_figure, legend, line, title, values_of_active};
use crate::plot::chart::{Chart, Mark};
use crate::plot::svg::{Colour, Target};
use crate::report::Context;
use crate::report::words::fixed;
use vibrissa_record::analysis::columns::Measure;

const SECTION: &str = "contributions";

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let saes = context.report.analysis.saes.iter();
    let names: Vec<String> = context
        .sae_names()
        .into_iter()
        .zip(saes)
        .map(|(name, sae)| format!("{name} · {} {}", context.t("gini"), fixed(sae.usage.gini, 3)))
        .collect();
    [("usage_curve", cumulative(context, &names)), ("rank_plot", by_rank(context, &names))]
        .into_iter()
        .filter_map(|(name, chart)| chart_figure(SECTION, name, &chart, String::new(), target))
        .collect()
}

/// The share of the total contribution of the top features (a Lorenz curve, the largest first).
fn cumulative(context: &Context, names: &[String]) -> Chart {
    let points = |curve: &[f64]| curve.iter().enumerate().map(|(percent, v)| [percent as f64, 100.0 * v]).collect();
    let saes = context.report.analysis.saes.iter().enumerate();
    let mut marks: Vec<Mark> = saes.map(|(i, sae)| line(i, points(&sae.usage.curve))).collect();
    marks.push(Mark::Line { points: vec![[0.0, 0.0], [100.0, 100.0]], colour: Colour::Muted, dashed: true });
    let mut legend = legend(names);
    legend.push((context.t("equal"), Colour::Muted));
    Chart {
        title: title(context, "usage_curve"),
        x: context.t("axis_top_features"),
        y: context.t("axis_contribution"),
        x_range: Some([0.0, 100.0]),
        y_range: Some([0.0, 100.0]),
        marks,
        legend,
    }
}

/// The contribution by its rank, both as logarithms.
fn by_rank(context: &Context, names: &[String]) -> Chart {
    let marks = (0..context.report.analysis.saes.len()).map(|sae| {
        let mut values = values_of_active(context, sae, Measure::DeltaSse);
        values.retain(|v| *v > 0.0);
        values.sort_by(|a, b| b.total_cmp(a));
        line(sae, values.iter().enumerate().map(|(r, v)| [((r + 1) as f64).log10(), v.log10()]).collect())
    });
    Chart {
        title: title(context, "rank_plot"),
        x: context.t("axis_rank"),
        y: context.t("axis_delta_sse"),
        marks: marks.collect(),
        legend: legend(names),
        ..Chart::default()
    }
}
