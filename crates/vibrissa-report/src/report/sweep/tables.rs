//! Tables of the report of a sweep: measures of configurations, and cells that did not finish.

use super::Context;
use crate::report::markdown::table;
use crate::report::words::{count, fixed, percent};
use std::fmt::Write;
use vibrissa_record::Number;
use vibrissa_record::sweep::{CellRecord, ConfigurationRecord, Ended};

/// A cell of a table.
#[derive(Debug, Default)]
pub struct TableCell {
    /// Text of the cell.
    pub text: String,
    /// Value to sort by.
    pub value: Option<f64>,
    /// Length of a bar behind the text, in [0, 1].
    pub bar: Option<f64>,
}

/// A column of a table.
#[derive(Debug)]
pub struct TableColumn {
    /// Heading of the column.
    pub name: String,
    /// Cells, one per row of the table.
    pub cells: Vec<TableCell>,
}

/// A column of values and their texts, with bars if `barred`; `None` if no value is defined.
fn column(name: String, values: impl Iterator<Item = (Number, String)>, barred: bool) -> Option<TableColumn> {
    let all: Vec<(Number, String)> = values.collect();
    let largest = all.iter().filter_map(|v| v.0.get()).fold(0.0, f64::max);
    let bar = |v: Number| v.get().filter(|_| barred && largest > 0.0).map(|v| v / largest);
    let any = all.iter().any(|v| v.0.get().is_some());
    let cells = all.into_iter().map(|(v, text)| TableCell { text, value: v.get(), bar: bar(v) }).collect();
    any.then_some(TableColumn { name, cells })
}

/// A column of texts.
fn text_column(name: String, texts: impl Iterator<Item = String>) -> TableColumn {
    TableColumn { name, cells: texts.map(|text| TableCell { text, ..TableCell::default() }).collect() }
}

/// All measures of all configurations; a measure that no configuration has is left out.
pub fn measures(context: &Context) -> Vec<TableColumn> {
    let all = &context.report.sweep.configurations;
    let mut out = vec![
        text_column(context.t("sw_configuration"), all.iter().map(|c| c.name.clone())),
        text_column(context.t("sw_marks"), all.iter().map(|c| context.mark(c))),
    ];
    type Value = fn(&ConfigurationRecord) -> Number;
    let gap = |c: &ConfigurationRecord| Number(c.l0.get().zip(c.l0_train.get()).map(|(a, b)| a - b));
    let counts = |key: &str, value: fn(&ConfigurationRecord) -> u64| {
        column(context.t(key), all.iter().map(|c| (Number::from(value(c) as f64), count(value(c)))), false)
    };
    let figures = |key: &str, digits: usize, value: Value| {
        column(context.t(key), all.iter().map(|c| (value(c), fixed(value(c), digits))), false)
    };
    let shares =
        |key: &str, value: Value| column(context.t(key), all.iter().map(|c| (value(c), percent(value(c), 1))), true);
    let several_seeds = all.iter().any(|c| c.seeds > 1);
    let columns = [
        if several_seeds { counts("sw_seeds", |c| c.seeds) } else { None },
        counts("sw_k", |c| c.k),
        figures("sw_l0", 1, |c| c.l0),
        figures("sw_in_training", 1, |c| c.l0_train),
        column(context.t("sw_gap"), all.iter().map(|c| (gap(c), signed(gap(c)))), false),
        figures("fvu", 4, |c| c.fvu),
        figures("±", 4, |c| c.fvu_band),
        figures("sw_validation", 4, |c| c.validation_fvu),
        figures("MCC", 4, |c| c.mcc),
        figures("F1", 4, |c| c.f1),
        figures("mse", 5, |c| c.mse),
        figures("pearson", 4, |c| c.pearson),
        figures("sw_cosine", 4, |c| c.cosine),
        figures("SSIM", 4, |c| c.ssim),
        figures("psnr", 2, |c| c.psnr),
        figures("sw_perceptual", 4, |c| c.perceptual),
        figures("sw_entropy", 4, |c| c.cross_entropy),
        shares("sw_dead", |c| c.dead_share),
        shares("sw_rare", |c| c.rare_share),
        column(context.t("sw_seconds"), all.iter().map(|c| (c.seconds, fixed(c.seconds, 1))), true),
    ];
    out.extend(columns.into_iter().flatten());
    out
}

/// A difference with its sign.
fn signed(v: Number) -> String {
    v.get().map_or("–".into(), |v| if v.abs() < 0.05 { "0.0".into() } else { format!("{v:+.1}").replace('-', "−") })
}

/// Cells that were stopped early or failed.
pub fn unfinished(context: &Context) -> Vec<TableColumn> {
    let all: Vec<&CellRecord> = context.unfinished().collect();
    let outcome = |c: &&CellRecord| {
        let outcome = context.t(if c.ended == Ended::Failed { "sw_was_failed" } else { "sw_was_stopped" });
        c.error.as_ref().map_or(outcome.clone(), |error| format!("{outcome}: {error}"))
    };
    let counts = |key: &str, value: fn(&CellRecord) -> u64| {
        column(context.t(key), all.iter().map(|c| (Number::from(value(c) as f64), count(value(c)))), false)
    };
    let figures = |key: &str, digits: usize, value: fn(&CellRecord) -> Option<f64>| {
        column(context.t(key), all.iter().map(|c| (Number(value(c)), fixed(Number(value(c)), digits))), false)
    };
    let mut out = vec![
        text_column(context.t("sw_configuration"), all.iter().map(|c| c.name.clone())),
        text_column(context.t("sw_ended"), all.iter().map(outcome)),
    ];
    let columns = [
        counts("sw_step", |c| c.step),
        counts("sw_of_steps", |c| c.steps),
        figures("sw_validation", 4, |c| c.validation_fvu),
        figures("sw_seconds", 1, |c| c.seconds),
    ];
    out.extend(columns.into_iter().flatten());
    out
}

/// Both tables in Markdown.
pub fn markdown(context: &Context) -> String {
    let as_markdown = |columns: &[TableColumn]| {
        let head: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        let n = columns.first().map_or(0, |c| c.cells.len());
        let row = |r: usize| columns.iter().map(|c| c.cells[r].text.clone()).collect();
        table(&head, &(0..n).map(row).collect::<Vec<Vec<String>>>())
    };
    let mut out = as_markdown(&measures(context));
    let n = context.unfinished().count();
    if n > 0 {
        let title = context.with("sw_stopped_title", &[("n", n.to_string())]);
        let _ = write!(out, "### {title}\n\n{}\n\n", context.t("sw_note_stopped"));
        out += &as_markdown(&unfinished(context));
    }
    out
}
