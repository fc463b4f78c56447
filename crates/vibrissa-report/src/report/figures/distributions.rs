//! Histograms over rows, features and activations.

use super::{Figure, LEGEND, chart_figure, legend, line, title, values_of_active};
use crate::plot::chart::{Chart, Mark};
use crate::plot::svg::Target;
use crate::report::Context;
use crate::report::words::count;
use vibrissa_record::analysis::columns::Measure;

const SECTION: &str = "distributions";

/// Bars of a histogram of a measure.
const BARS: usize = 40;

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    let figure = |name, (chart, note)| chart_figure(SECTION, name, &chart, note, target);
    let mut out = Vec::new();
    out.extend(figure("pearson_by_class", (pearson_by_class(context), String::new())));
    out.extend(figure("density", (frequency(context), String::new())));
    for measure in [Measure::Strength, Measure::Score] {
        let values = values_of_active(context, 0, measure);
        out.extend(figure(measure.name(), (histogram(context, measure, values), String::new())));
    }
    for measure in [Measure::DeltaSse, Measure::DeltaPearson] {
        out.extend(figure(measure.name(), log_histogram(context, measure)));
    }
    out.extend(figure("values", values(context)));
    out
}

/// The distribution of Pearson r of the rows of each class.
fn pearson_by_class(context: &Context) -> Chart {
    let counts = &context.report.columns.saes[0].quality.pearson_histogram;
    let (bins, width) = (context.report.analysis.histograms.pearson, counts.stride());
    let classes = counts.shape[0].min(LEGEND);
    let filled: Vec<usize> = (0..width).filter(|&b| (0..classes).any(|c| counts.row(c)[b] > 0)).collect();
    let (Some(&first), Some(&last)) = (filled.first(), filled.last()) else { return Chart::default() };
    let shown = first.saturating_sub(1)..(last + 2).min(width);
    let marks = (0..classes).map(|c| {
        let rows = counts.row(c);
        let total = f64::from(rows.iter().sum::<u32>().max(1));
        line(c, shown.clone().map(|b| [bins.middle(b), 100.0 * f64::from(rows[b]) / total]).collect())
    });
    Chart {
        title: title(context, "pearson_by_class"),
        x: context.t("pearson"),
        y: context.t("axis_rows_of_class"),
        marks: marks.collect(),
        legend: legend(&context.class_names()),
        ..Chart::default()
    }
}

/// The number of latents by log10 of their frequency.
fn frequency(context: &Context) -> Chart {
    let density = &context.report.analysis.saes[0].density;
    let first = density.iter().position(|d| d.1 > 0).unwrap_or(0);
    let mut edges: Vec<f64> = density[first..].iter().map(|d| d.0).collect();
    edges.push(context.report.analysis.histograms.log10_frequency.to);
    let heights = density[first..].iter().map(|d| d.1 as f64).collect();
    Chart {
        title: title(context, "density"),
        x: context.t("axis_frequency"),
        y: context.t("axis_features"),
        marks: vec![Mark::Bars(edges, heights)],
        ..Chart::default()
    }
}

/// The number of features by the values of a measure, in bars of equal width.
fn histogram(context: &Context, measure: Measure, values: Vec<f64>) -> Chart {
    let finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    let (mut low, mut high) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    if finite.is_empty() {
        return Chart::default();
    }
    if low == high {
        (low, high) = (low - 0.5, high + 0.5);
    }
    let mut heights = vec![0.0; BARS];
    for v in finite {
        heights[(((v - low) / (high - low) * BARS as f64) as usize).min(BARS - 1)] += 1.0;
    }
    let edges = (0..=BARS).map(|i| low + (high - low) * i as f64 / BARS as f64).collect();
    Chart {
        title: title(context, measure.name()),
        x: context.t(&format!("axis_{}", measure.name())),
        y: context.t("axis_features"),
        marks: vec![Mark::Bars(edges, heights)],
        ..Chart::default()
    }
}

/// The same of log10 of the values; the note gives the number of values that have no logarithm.
fn log_histogram(context: &Context, measure: Measure) -> (Chart, String) {
    let all = values_of_active(context, 0, measure);
    let logarithms: Vec<f64> = all.iter().filter(|v| **v > 0.0).map(|v| v.log10()).collect();
    let missing = (all.len() - logarithms.len()) as u64;
    let note = if missing > 0 { context.with("not_shown", &[("n", count(missing))]) } else { String::new() };
    (histogram(context, measure, logarithms), note)
}

/// The number of activations by log2 of their value; the note gives the number of negative ones.
fn values(context: &Context) -> (Chart, String) {
    let bins = context.report.analysis.histograms.activation;
    let counts = &context.report.columns.saes[0].histogram.histogram;
    let mut heights = vec![0.0; bins.positive / bins.per_octave];
    let mut negative = 0u64;
    for latent in counts.chunks_exact(bins.count()) {
        negative += latent[..bins.negative].iter().map(|&n| u64::from(n)).sum::<u64>();
        for (i, &n) in latent[bins.negative..].iter().enumerate() {
            heights[i / bins.per_octave] += f64::from(n);
        }
    }
    let filled = |h: &f64| *h > 0.0;
    let (Some(first), Some(last)) = (heights.iter().position(filled), heights.iter().rposition(filled)) else {
        return (Chart::default(), String::new());
    };
    let edges = (first..=last + 1).map(|i| i as f64 + f64::from(bins.log2_lowest)).collect();
    let chart = Chart {
        title: title(context, "values"),
        x: context.t("axis_value"),
        y: context.t("axis_activations"),
        marks: vec![Mark::Bars(edges, heights[first..=last].to_vec())],
        ..Chart::default()
    };
    let note = if negative > 0 { context.with("negative_values", &[("n", count(negative))]) } else { String::new() };
    (chart, note)
}
