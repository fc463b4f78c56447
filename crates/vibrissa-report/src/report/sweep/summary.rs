//! Words of the report of a sweep: its subtitle, its most important values, findings, caveats and method.

use super::Context;
use crate::report::markdown::{bullet_list, card_list};
use crate::report::words::{count, fixed};
use std::collections::BTreeSet;
use std::fmt::Write;
use vibrissa_record::Number;
use vibrissa_record::sweep::{ConfigurationRecord, Ended};

/// Fewest test rows for figures that count as precise.
const FEW_ROWS: u64 = 200;
/// Fewest seeds for confidence intervals that count as precise.
const FEW_SEEDS: u64 = 5;
/// Most values of an option that are listed one by one.
const LISTED_VALUES: usize = 6;
/// Most names that are listed in a sentence.
const LISTED_NAMES: usize = 4;

/// Formats a duration: `9.1 s`, `61 s`, `5 min`, `2.5 h`.
fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".into(),
        Some(s) if s < 9.95 => format!("{s:.1} s"),
        Some(s) if s < 120.0 => format!("{s:.0} s"),
        Some(s) if s < 7200.0 => format!("{:.0} min", s / 60.0),
        Some(s) => format!("{:.1} h", s / 3600.0),
    }
}

/// One line on the grid and its data.
pub fn subtitle(context: &Context) -> String {
    let s = context.report.sweep;
    let configurations: BTreeSet<&str> = s.cells.iter().map(|c| c.configuration.as_str()).collect();
    context.with(
        if s.patches_per_image.is_some() { "sw_subtitle_patches" } else { "sw_subtitle" },
        &[
            ("places", count(s.patches_per_image.unwrap_or(1))),
            ("cells", count(s.cells.len() as u64)),
            ("n", count(configurations.len() as u64)),
            ("training", count(s.training_rows)),
            ("validation", count(s.validation_rows)),
            ("test", count(s.test_rows)),
            ("version", s.tool_version.clone()),
            ("data", s.data.clone()),
        ],
    )
}

/// Number of cells that ended in a way.
fn cells_ended(context: &Context, ended: Ended) -> usize {
    context.report.sweep.cells.iter().filter(|c| c.ended == ended).count()
}

/// The most important values, each `[value, meaning]`.
pub fn cards(context: &Context) -> Vec<[String; 2]> {
    let s = context.report.sweep;
    let n = |ended| cells_ended(context, ended).to_string();
    let counts = [("finished", n(Ended::Finished)), ("stopped", n(Ended::Stopped)), ("failed", n(Ended::Failed))];
    let mut out = vec![[count(s.cells.len() as u64), context.with("sw_card_cells", &counts)]];
    if let Some(best) = context.configuration(&s.best) {
        out.push([fixed(best.fvu, 4), context.t("sw_card_best")]);
        out.push([fixed(best.pearson, 4), context.t("sw_card_pearson")]);
        out.push([fixed(best.l0, 1), context.t("sw_card_l0")]);
    }
    if let Some(knee) = context.configuration(&s.knee) {
        out.push([fixed(knee.l0, 1), context.with("sw_card_knee", &[("fvu", fixed(knee.fvu, 4))])]);
    }
    out.push([fixed(Number(s.mean_image.fvu), 3), context.t("sw_card_mean")]);
    out.push([duration(s.seconds), context.t("sw_card_time")]);
    out
}

/// Findings, a sentence each.
pub fn facts(context: &Context) -> Vec<String> {
    let mut out = vec![options_varied(context)];
    out.extend(best(context));
    out.extend(knee_and_front(context));
    out.extend(changes(context));
    let s = context.report.sweep;
    let stopped = cells_ended(context, Ended::Stopped);
    if stopped > 0 {
        out.push(context.with("sw_stopped", &[("n", stopped.to_string())]));
    }
    if s.mean_image.fvu.is_some() {
        let values = [("fvu", fixed(Number(s.mean_image.fvu), 3)), ("r", fixed(Number(s.mean_image.pearson), 3))];
        out.push(context.with("sw_mean", &values));
    }
    let finished = s.cells.iter().filter(|c| c.ended == Ended::Finished).filter_map(|c| c.seconds);
    let [a, b] = finished.fold([f64::INFINITY, 0.0], |[a, b], v| [v.min(a), v.max(b)]);
    if a.is_finite() {
        let values = [("t", duration(s.seconds)), ("a", fixed(Number::from(a), 1)), ("b", fixed(Number::from(b), 1))];
        out.push(context.with("sw_time", &values));
    }
    out
}

/// The options that have several values, and these values.
fn options_varied(context: &Context) -> String {
    let varied = context.varied();
    if varied.is_empty() {
        return context.t("sw_varied_none");
    }
    let option = |(key, values): &(&str, Vec<&str>)| match &values[..] {
        [a, .., b] if values.len() > LISTED_VALUES => {
            let range = [("n", values.len().to_string()), ("a", (*a).to_owned()), ("b", (*b).to_owned())];
            format!("{key} ({})", context.with("sw_values", &range))
        }
        _ => format!("{key} ({})", values.join(", ")),
    };
    let what: Vec<String> = varied.iter().map(option).collect();
    context.with("sw_varied", &[("what", what.join("; "))])
}

/// The best configuration and its scores.
fn best(context: &Context) -> Option<String> {
    let c = context.configuration(&context.report.sweep.best)?;
    let key = match (context.varied().is_empty(), context.report.sweep.test_rows > 0) {
        (true, _) => "sw_only",
        (_, true) => "sw_best",
        (_, false) => "sw_best_validation",
    };
    let values = [
        ("v", fixed(c.validation_fvu, 4)),
        ("fvu", with_band(c.fvu, c.fvu_band)),
        ("r", fixed(c.pearson, 4)),
        ("l0", fixed(c.l0, 1)),
        ("name", c.name.clone()),
    ];
    Some(context.with(key, &values))
}

/// The knee of the front, and the size of the front.
fn knee_and_front(context: &Context) -> Vec<String> {
    let s = context.report.sweep;
    let front: Vec<&ConfigurationRecord> = s.configurations.iter().filter(|c| c.front).collect();
    let last = front.iter().max_by(|a, b| a.l0.get().unwrap_or(0.0).total_cmp(&b.l0.get().unwrap_or(0.0)));
    let several = s.configurations.len() > 1;
    let mut out = Vec::new();
    if let (Some(c), Some(last)) = (context.configuration(&s.knee), last) {
        let values = [
            ("l0", fixed(c.l0, 1)),
            ("fvu", with_band(c.fvu, c.fvu_band)),
            ("last", fixed(last.l0, 1)),
            ("end", fixed(last.fvu, 4)),
            ("name", c.name.clone()),
        ];
        out.push(context.with("sw_knee", &values));
    } else if several {
        out.push(context.t("sw_no_knee"));
    }
    if several {
        let values = [("n", count(front.len() as u64)), ("all", count(s.configurations.len() as u64))];
        out.push(context.with("sw_front", &values));
    }
    out
}

/// The change of validation fvu with each option, the largest first, if there are several options.
fn changes(context: &Context) -> Option<String> {
    let effects = context.report.sweep.effects.iter();
    let mut changes: Vec<(f64, &str)> = effects.filter_map(|e| Some((e.spread.get()?, e.key.as_str()))).collect();
    changes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let list: Vec<String> = changes.iter().map(|(v, key)| format!("{key} {}", fixed(Number::from(*v), 4))).collect();
    (list.len() > 1).then(|| context.with("sw_matters", &[("list", list.join(", "))]))
}

/// A value and half of its confidence interval.
fn with_band(value: Number, band: Number) -> String {
    match band.get() {
        Some(_) => format!("{} ± {}", fixed(value, 4), fixed(band, 4)),
        None => fixed(value, 4),
    }
}

/// Caveats, a sentence each.
pub fn caveats(context: &Context) -> Vec<String> {
    let s = context.report.sweep;
    let mut out = Vec::new();
    match s.test_rows {
        0 => out.push(context.t("sw_no_rows")),
        n if n < FEW_ROWS => out.push(context.with("sw_few_rows", &[("n", count(n))])),
        _ => (),
    }
    match s.configurations.iter().map(|c| c.seeds).max() {
        None => (),
        Some(0 | 1) => out.push(context.t("sw_one_seed")),
        Some(n) if n < FEW_SEEDS => out.push(context.with("sw_few_seeds", &[("n", n.to_string())])),
        Some(_) => out.push(context.t("sw_bands")),
    }
    let far: Vec<&str> = s.configurations.iter().filter(|c| c.l0_far).map(|c| c.name.as_str()).collect();
    if !far.is_empty() {
        let more = if far.len() > LISTED_NAMES { ", …" } else { "" };
        let names: Vec<&str> = far.iter().take(LISTED_NAMES).copied().collect();
        let values = [
            ("n", count(far.len() as u64)),
            ("all", count(s.configurations.len() as u64)),
            ("names", format!("({}{more})", names.join(", "))),
        ];
        out.push(context.with("sw_far", &values));
    }
    out.extend(at_the_edge(context));
    if cells_ended(context, Ended::Stopped) > 0 {
        out.push(context.t("sw_survivors"));
    }
    let failed = s.cells.iter().filter(|c| c.ended == Ended::Failed);
    let names: Vec<&str> = failed.clone().take(LISTED_NAMES).map(|c| c.name.as_str()).collect();
    if !names.is_empty() {
        let values = [("n", failed.count().to_string()), ("names", names.join(", "))];
        out.push(context.with("sw_failed", &values));
    }
    out
}

/// Options of which the best configuration has the smallest or largest value of the grid.
fn at_the_edge(context: &Context) -> Vec<String> {
    let best = context.configuration(&context.report.sweep.best);
    // More active latents always lower fvu, so k at its largest value says nothing.
    let options = context.varied().into_iter().filter(|v| v.0 != "k" && v.0 != "seed");
    let edge = |(key, values): (&str, Vec<&str>)| {
        let numbers = values.iter().map(|v| v.parse().ok()).collect::<Option<Vec<f64>>>()?;
        let value = best?.values.get(key)?;
        let [low, high] = numbers.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [v.min(a), v.max(b)]);
        let end = match value.parse::<f64>() {
            Ok(v) if v == low => "sw_smallest",
            Ok(v) if v == high => "sw_largest",
            _ => return None,
        };
        let values = [("end", context.t(end)), ("key", key.to_owned()), ("value", value.clone())];
        Some(context.with("sw_edge", &values))
    };
    options.filter_map(edge).collect()
}

/// Name and scores of a configuration, as caption of its images.
pub fn caption(context: &Context, c: &ConfigurationRecord) -> [String; 2] {
    let mark = if context.report.sweep.is_named(c) { format!(" · {}", context.mark(c)) } else { String::new() };
    [c.name.clone(), format!("L0 {} · fvu {}{mark}", fixed(c.l0, 1), fixed(c.fvu, 4))]
}

/// Names of measures and terms, and their definitions.
pub fn method(context: &Context) -> Vec<[String; 2]> {
    let keys = ["cell", "rows", "fvu", "l0", "front", "knee", "band", "effects", "rare", "files"];
    keys.map(|key| [format!("sw_method_{key}"), format!("sw_method_{key}_text")].map(|key| context.t(&key))).into()
}

/// The summary in Markdown.
pub fn markdown(context: &Context) -> String {
    let mut out = format!("{}\n{}", card_list(&cards(context)), bullet_list(&facts(context)));
    let caveats = caveats(context);
    if !caveats.is_empty() {
        let _ = write!(out, "\n### {}\n\n{}", context.t("sw_caveats"), bullet_list(&caveats));
    }
    out
}

/// The method in Markdown.
pub fn method_markdown(context: &Context) -> String {
    method(context).iter().map(|[name, text]| format!("- **{name}**: {text}\n")).collect()
}
