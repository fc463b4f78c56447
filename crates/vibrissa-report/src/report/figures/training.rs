//! Curves of the training log, and of the checkpoints that were analysed.

use super::{Figure, chart_figure, legend, line, title};
use crate::plot::chart::Chart;
use crate::plot::svg::{LegendEntry, Target};
use crate::report::Context;
use vibrissa_record::SaeLine;
use vibrissa_record::analysis::CheckpointRecord;

const SECTION: &str = "training";

/// The figures of the section.
pub fn figures(context: &Context, target: Target) -> Vec<Figure> {
    [log_figures(context, target), checkpoint_figures(context, target)].concat()
}

/// The legend, if there are several SAEs.
fn sae_legend(context: &Context) -> Vec<LegendEntry> {
    let names = context.sae_names();
    if names.len() > 1 { legend(&names) } else { Vec::new() }
}

/// Curves of the training log, by step.
fn log_figures(context: &Context, target: Target) -> Vec<Figure> {
    type Value = fn(&SaeLine) -> Option<f64>;
    let curves: [(&str, &str, Value); 3] = [
        ("loss", "axis_loss", |s| s.loss.get("recon").and_then(|v| v.get())),
        ("held_pearson", "pearson", |s| s.pearson),
        ("dead", "axis_dead", |s| s.dead_latents.map(|d| d as f64)),
    ];
    let log = context.report.metrics;
    if log.len() < 2 {
        return Vec::new();
    }
    let points = |sae: usize, value: Value| {
        log.iter().filter_map(|l| Some([l.step as f64, value(l.saes.get(sae)?).unwrap_or(f64::NAN)])).collect()
    };
    let figure = |(name, axis, value): (&str, &str, Value)| {
        let saes = 0..context.report.analysis.saes.len();
        let chart = Chart {
            title: title(context, name),
            x: context.t("axis_step"),
            y: context.t(axis),
            marks: saes.map(|s| line(s, points(s, value))).collect(),
            legend: sae_legend(context),
            ..Chart::default()
        };
        chart_figure(SECTION, name, &chart, String::new(), target)
    };
    curves.into_iter().filter_map(figure).collect()
}

/// Curves of the analysed checkpoints, by step.
fn checkpoint_figures(context: &Context, target: Target) -> Vec<Figure> {
    let saes = &context.report.analysis.saes;
    if saes.iter().all(|s| s.history.len() < 2) {
        return Vec::new();
    }
    let first = &saes[0].history;
    let born: u64 = first.iter().skip(1).map(|m| m.born).sum();
    let died: u64 = first.iter().map(|m| m.died).sum();
    let alive_note = context.with("note_alive", &[("born", born.to_string()), ("died", died.to_string())]);
    type Value = fn(&CheckpointRecord) -> f64;
    let curves: [(&str, &str, String, Value); 2] = [
        ("alive", "axis_features", alive_note, |c| c.alive as f64),
        ("stability", "axis_stability", context.t("note_stability"), |c| c.stability.get().unwrap_or(f64::NAN)),
    ];
    let figure = |(name, axis, note, value): (&str, &str, String, Value)| {
        let points = |history: &[CheckpointRecord]| history.iter().map(|c| [c.step as f64, value(c)]).collect();
        let chart = Chart {
            title: title(context, name),
            x: context.t("axis_step"),
            y: context.t(axis),
            marks: saes.iter().enumerate().map(|(s, sae)| line(s, points(&sae.history))).collect(),
            legend: sae_legend(context),
            ..Chart::default()
        };
        chart_figure(SECTION, name, &chart, note, target)
    };
    curves.into_iter().filter_map(figure).collect()
}
