//! What the report of a sweep says in words and tables, all of it put together from figures of the record.

use super::super::figures::Figure;
use super::super::text::table;
use super::super::words::{Words, capital, count, fixed, percent};
use super::SweepReport;
use std::collections::BTreeSet;
use std::fmt::Write;
use vibrissa_record::Number;
use vibrissa_record::sweep::{ConfigurationRecord, Ended};

/// A figure of a table: what is sorted by, what it says, and the part of a bar below it.
#[derive(Debug, Default)]
pub struct Entry {
    pub text: String,
    pub value: Option<f64>,
    pub bar: Option<f64>,
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub cells: Vec<Entry>,
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".into(),
        Some(s) if s < 9.95 => format!("{s:.1} s"),
        Some(s) if s < 120.0 => format!("{s:.0} s"),
        Some(s) if s < 7200.0 => format!("{:.0} min", s / 60.0),
        Some(s) => format!("{:.1} h", s / 3600.0),
    }
}

/// One line on what was swept.
pub fn subtitle(report: &SweepReport, words: &Words) -> String {
    let s = report.sweep;
    let all: BTreeSet<&str> = s.cells.iter().map(|c| c.configuration.as_str()).collect();
    words.with(
        if s.patches_per_image.is_some() { "sw_subtitle_patches" } else { "sw_subtitle" },
        &[
            ("places", count(s.patches_per_image.unwrap_or(1))),
            ("cells", count(s.cells.len() as u64)),
            ("n", count(all.len() as u64)),
            ("training", count(s.training_rows)),
            ("validation", count(s.validation_rows)),
            ("test", count(s.test_rows)),
            ("version", s.tool_version.clone()),
            ("data", s.data.clone()),
        ],
    )
}

fn ended(report: &SweepReport, how: Ended) -> usize {
    report.sweep.cells.iter().filter(|c| c.ended == how).count()
}

/// The figures of the summary: what, and what it is called.
pub fn cards(report: &SweepReport, words: &Words) -> Vec<[String; 2]> {
    let s = report.sweep;
    let n = |how| ended(report, how).to_string();
    let counts = [("finished", n(Ended::Finished)), ("stopped", n(Ended::Stopped)), ("failed", n(Ended::Failed))];
    let mut out = vec![[count(s.cells.len() as u64), words.with("sw_card_cells", &counts)]];
    if let Some(best) = report.configuration(&s.best) {
        out.push([fixed(best.fvu, 4), words.get("sw_card_best")]);
        out.push([fixed(best.pearson, 4), words.get("sw_card_pearson")]);
        out.push([fixed(best.l0, 1), words.get("sw_card_l0")]);
    }
    if let Some(knee) = report.configuration(&s.knee) {
        out.push([fixed(knee.l0, 1), words.with("sw_card_knee", &[("fvu", fixed(knee.fvu, 4))])]);
    }
    out.push([fixed(Number(s.mean_image.fvu), 3), words.get("sw_card_mean")]);
    out.push([duration(s.seconds), words.get("sw_card_time")]);
    out
}

/// What was found, a sentence each.
pub fn facts(report: &SweepReport, words: &Words) -> Vec<String> {
    let s = report.sweep;
    let mut out = Vec::new();
    let varied = report.varied();
    if varied.is_empty() {
        out.push(words.get("sw_varied_none"));
    } else {
        let values = |(key, values): &(&str, Vec<&str>)| match &values[..] {
            [a, .., b] if values.len() > 6 => {
                let of = [("n", values.len().to_string()), ("a", (*a).to_owned()), ("b", (*b).to_owned())];
                format!("{key} ({})", words.with("sw_values", &of))
            }
            _ => format!("{key} ({})", values.join(", ")),
        };
        let what: Vec<String> = varied.iter().map(values).collect();
        out.push(words.with("sw_varied", &[("what", what.join("; "))]));
    }
    if let Some(c) = report.configuration(&s.best) {
        let key = match (varied.is_empty(), s.test_rows > 0) {
            (true, _) => "sw_only",
            (_, true) => "sw_best",
            (_, false) => "sw_best_validation",
        };
        let values = [
            ("v", fixed(c.validation_fvu, 4)),
            ("fvu", with_band(c.fvu, c.fvu_band)),
            ("r", fixed(c.pearson, 4)),
            ("l0", fixed(c.l0, 1)),
            ("rows", report.rows(words)),
            ("name", c.name.clone()),
        ];
        out.push(words.with(key, &values));
    }
    let front: Vec<&ConfigurationRecord> = s.configurations.iter().filter(|c| c.front).collect();
    let last = front.iter().max_by(|a, b| a.l0.get().unwrap_or(0.0).total_cmp(&b.l0.get().unwrap_or(0.0)));
    if let (Some(c), Some(last)) = (report.configuration(&s.knee), last) {
        let values = [
            ("l0", fixed(c.l0, 1)),
            ("fvu", with_band(c.fvu, c.fvu_band)),
            ("last", fixed(last.l0, 1)),
            ("end", fixed(last.fvu, 4)),
            ("name", c.name.clone()),
        ];
        out.push(words.with("sw_knee", &values));
    } else if s.configurations.len() > 1 {
        out.push(words.get("sw_no_knee"));
    }
    if s.configurations.len() > 1 {
        let values = [("n", count(front.len() as u64)), ("all", count(s.configurations.len() as u64))];
        out.push(words.with("sw_front", &values));
    }
    let mut moving: Vec<(f64, &str)> =
        s.effects.iter().filter_map(|e| Some((e.spread.get()?, e.key.as_str()))).collect();
    moving.sort_by(|a, b| b.0.total_cmp(&a.0));
    if moving.len() > 1 {
        let list: Vec<String> = moving.iter().map(|(v, key)| format!("{key} {}", fixed(Number::from(*v), 4))).collect();
        out.push(words.with("sw_matters", &[("list", list.join(", "))]));
    }
    let stopped = ended(report, Ended::Stopped);
    if stopped > 0 {
        out.push(words.with("sw_stopped", &[("n", stopped.to_string())]));
    }
    if s.mean_image.fvu.is_some() {
        let values = [("fvu", fixed(Number(s.mean_image.fvu), 3)), ("r", fixed(Number(s.mean_image.pearson), 3))];
        out.push(words.with("sw_mean", &values));
    }
    let finished = s.cells.iter().filter(|c| c.ended == Ended::Finished).filter_map(|c| c.seconds);
    let [a, b] = finished.fold([f64::INFINITY, 0.0], |[a, b], v| [v.min(a), v.max(b)]);
    if a.is_finite() {
        let values = [("t", duration(s.seconds)), ("a", fixed(Number::from(a), 1)), ("b", fixed(Number::from(b), 1))];
        out.push(words.with("sw_time", &values));
    }
    out
}

fn with_band(value: Number, band: Number) -> String {
    match band.get() {
        Some(_) => format!("{} ± {}", fixed(value, 4), fixed(band, 4)),
        None => fixed(value, 4),
    }
}

/// What to be careful with, a sentence each.
pub fn caveats(report: &SweepReport, words: &Words) -> Vec<String> {
    const FEW_ROWS: u64 = 200;
    const FEW_SEEDS: u64 = 5;
    let s = report.sweep;
    let mut out = Vec::new();
    match s.test_rows {
        0 => out.push(words.get("sw_no_rows")),
        n if n < FEW_ROWS => out.push(words.with("sw_few_rows", &[("n", count(n))])),
        _ => (),
    }
    match s.configurations.iter().map(|c| c.seeds).max() {
        None => (),
        Some(0 | 1) => out.push(words.get("sw_one_seed")),
        Some(n) if n < FEW_SEEDS => out.push(words.with("sw_few_seeds", &[("n", n.to_string())])),
        Some(_) => out.push(words.get("sw_bands")),
    }
    let far: Vec<&str> = s.configurations.iter().filter(|c| c.l0_far).map(|c| c.name.as_str()).collect();
    if !far.is_empty() {
        let more = if far.len() > 4 { ", …" } else { "" };
        let names = format!("({}{more})", far.iter().take(4).copied().collect::<Vec<_>>().join(", "));
        let values = [("n", count(far.len() as u64)), ("all", count(s.configurations.len() as u64)), ("names", names)];
        out.push(words.with("sw_far", &values));
    }
    // More active latents always lower fvu: that k lies at its end says nothing.
    let best = report.configuration(&s.best);
    for (key, values) in report.varied().into_iter().filter(|v| v.0 != "k" && v.0 != "seed") {
        let numbers: Option<Vec<f64>> = values.iter().map(|v| v.parse().ok()).collect();
        let (Some(numbers), Some(own)) = (numbers, best.and_then(|b| b.values.get(key))) else { continue };
        let [low, high] = numbers.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [v.min(a), v.max(b)]);
        let end = match own.parse::<f64>() {
            Ok(v) if v == low => "sw_smallest",
            Ok(v) if v == high => "sw_largest",
            _ => continue,
        };
        let values = [("end", words.get(end)), ("key", key.to_owned()), ("value", own.clone())];
        out.push(words.with("sw_edge", &values));
    }
    if ended(report, Ended::Stopped) > 0 {
        out.push(words.get("sw_survivors"));
    }
    let failed: Vec<String> =
        s.cells.iter().filter(|c| c.ended == Ended::Failed).take(4).map(|c| c.name.clone()).collect();
    if !failed.is_empty() {
        let values = [("n", ended(report, Ended::Failed).to_string()), ("names", failed.join(", "))];
        out.push(words.with("sw_failed", &values));
    }
    out
}

/// The name of a configuration, and its figures.
pub fn caption(report: &SweepReport, c: &ConfigurationRecord, words: &Words) -> [String; 2] {
    let mark = report.mark(c, words);
    let mark = if report.sweep.is_named(c) { format!(" · {mark}") } else { String::new() };
    [c.name.clone(), format!("L0 {} · fvu {}{mark}", fixed(c.l0, 1), fixed(c.fvu, 4))]
}

fn column(name: String, of: impl Iterator<Item = (Number, String)>, barred: bool) -> Option<Column> {
    let all: Vec<(Number, String)> = of.collect();
    let most = all.iter().filter_map(|v| v.0.get()).fold(0.0, f64::max);
    let bar = |v: Number| v.get().filter(|_| barred && most > 0.0).map(|v| v / most);
    let any = all.iter().any(|v| v.0.get().is_some());
    let cells = all.into_iter().map(|(v, text)| Entry { text, value: v.get(), bar: bar(v) }).collect();
    any.then_some(Column { name, cells })
}

fn words_column(name: String, texts: impl Iterator<Item = String>) -> Column {
    Column { name, cells: texts.map(|text| Entry { text, ..Entry::default() }).collect() }
}

/// All measures of all configurations; without those that none has.
pub fn measures(report: &SweepReport, words: &Words) -> Vec<Column> {
    let all = &report.sweep.configurations;
    let mut out = vec![
        words_column(words.get("sw_configuration"), all.iter().map(|c| c.name.clone())),
        words_column(words.get("sw_marks"), all.iter().map(|c| report.mark(c, words))),
    ];
    type Of = fn(&ConfigurationRecord) -> Number;
    let whole = |v: u64| Number::from(v as f64);
    let gap = |c: &ConfigurationRecord| Number(c.l0.get().zip(c.l0_train.get()).map(|(a, b)| a - b));
    let seeds = all.iter().any(|c| c.seeds > 1);
    let counted = |key: &str, of: fn(&ConfigurationRecord) -> u64| {
        column(words.get(key), all.iter().map(|c| (whole(of(c)), count(of(c)))), false)
    };
    let figure = |key: &str, digits: usize, of: Of| {
        column(words.get(key), all.iter().map(|c| (of(c), fixed(of(c), digits))), false)
    };
    let share = |key: &str, of: Of| column(words.get(key), all.iter().map(|c| (of(c), percent(of(c), 1))), true);
    let columns = [
        if seeds { counted("sw_seeds", |c| c.seeds) } else { None },
        counted("sw_asked", |c| c.k),
        figure("sw_l0", 1, |c| c.l0),
        figure("sw_in_training", 1, |c| c.l0_train),
        column(words.get("sw_gap"), all.iter().map(|c| (gap(c), signed(gap(c)))), false),
        figure("fvu", 4, |c| c.fvu),
        figure("±", 4, |c| c.fvu_band),
        figure("sw_validation", 4, |c| c.validation_fvu),
        figure("MCC", 4, |c| c.mcc),
        figure("F1", 4, |c| c.f1),
        figure("mse", 5, |c| c.mse),
        figure("pearson", 4, |c| c.pearson),
        figure("sw_cosine", 4, |c| c.cosine),
        figure("SSIM", 4, |c| c.ssim),
        figure("PSNR dB", 2, |c| c.psnr),
        figure("sw_perceptual", 4, |c| c.perceptual),
        figure("sw_entropy", 4, |c| c.cross_entropy),
        share("sw_dead", |c| c.dead_share),
        share("sw_rare", |c| c.rare_share),
        column(words.get("sw_seconds"), all.iter().map(|c| (c.seconds, fixed(c.seconds, 1))), true),
    ];
    out.extend(columns.into_iter().flatten());
    out
}

fn signed(v: Number) -> String {
    v.get().map_or("–".into(), |v| if v.abs() < 0.05 { "0.0".into() } else { format!("{v:+.1}").replace('-', "−") })
}

/// Cells that have no place among the others.
pub fn unfinished(report: &SweepReport, words: &Words) -> Vec<Column> {
    let all: Vec<_> = report.unfinished().collect();
    let how = |e: Ended| words.get(if e == Ended::Failed { "sw_was_failed" } else { "sw_was_stopped" });
    let said = |c: &&vibrissa_record::sweep::CellRecord| match &c.error {
        Some(error) => format!("{}: {error}", how(c.ended)),
        None => how(c.ended),
    };
    let mut out = vec![
        words_column(words.get("sw_configuration"), all.iter().map(|c| c.name.clone())),
        words_column(words.get("sw_ended"), all.iter().map(said)),
    ];
    let whole = |v: u64| (Number::from(v as f64), count(v));
    out.extend(column(words.get("sw_step"), all.iter().map(|c| whole(c.step)), false));
    out.extend(column(words.get("sw_of_steps"), all.iter().map(|c| whole(c.steps)), false));
    let validation = all.iter().map(|c| (Number(c.validation_fvu), fixed(Number(c.validation_fvu), 4)));
    out.extend(column(words.get("sw_validation"), validation, false));
    let seconds = all.iter().map(|c| (Number(c.seconds), fixed(Number(c.seconds), 1)));
    out.extend(column(words.get("sw_seconds"), seconds, false));
    out
}

/// What every figure means.
pub fn method(words: &Words) -> Vec<(String, String)> {
    let all = ["rows", "fvu", "l0", "front", "knee", "band", "effects", "rare", "files"];
    let named = |key: &&str| (words.get(&format!("sw_m_{key}")), words.get(&format!("sw_m_{key}_t")));
    all.iter().map(named).collect()
}

/// The report as Markdown, its figures beside it.
pub fn markdown(report: &SweepReport, words: &Words, figures: &[Figure]) -> String {
    let mut out = format!("# {}\n\n", words.with("sw_title", &[("run", report.name.to_owned())]));
    let _ = writeln!(out, "{}\n\n## {}\n", subtitle(report, words), words.get("summary"));
    for [value, name] in cards(report, words) {
        let _ = writeln!(out, "- **{value}** {name}");
    }
    let list = |facts: Vec<String>| facts.iter().map(|f| format!("- {f}\n")).collect::<String>();
    let _ = write!(out, "\n{}", list(facts(report, words)));
    let caveats = caveats(report, words);
    if !caveats.is_empty() {
        let _ = write!(out, "\n### {}\n\n{}", words.get("sw_caveats"), list(caveats));
    }
    let rows = [("rows", report.rows(words))];
    let as_table = |columns: &[Column]| {
        let head: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        let n = columns.first().map_or(0, |c| c.cells.len());
        let row = |r: usize| columns.iter().map(|c| c.cells[r].text.clone()).collect();
        table(&head, &(0..n).map(row).collect::<Vec<Vec<String>>>())
    };
    for (section, title, note) in [
        ("front", "sw_front_title", "sw_front_note"),
        ("effects", "sw_effects", "sw_effects_note"),
        ("cost", "sw_cost", "sw_cost_note"),
        ("table", "sw_table", ""),
        ("side", "sw_side", "sw_side_note"),
    ] {
        let mut body = String::new();
        for f in figures.iter().filter(|f| f.section == section) {
            let _ = writeln!(body, "![{}]({}.png)\n", f.title, f.name);
            if !f.note.is_empty() {
                let _ = writeln!(body, "{}\n", f.note);
            }
        }
        if section == "table" {
            body += &as_table(&measures(report, words));
            let n = report.unfinished().count();
            if n > 0 {
                let title = words.with("sw_stopped_title", &[("n", n.to_string())]);
                let _ = write!(body, "### {title}\n\n{}\n\n", words.get("sw_stopped_note"));
                body += &as_table(&unfinished(report, words));
            }
        }
        if !body.is_empty() {
            let note = if note.is_empty() { String::new() } else { words.with(note, &rows) + "\n\n" };
            let _ = write!(out, "\n## {}\n\n{note}{body}", words.get(title));
        }
    }
    let _ = writeln!(out, "\n## {}\n", words.get("sw_method"));
    for (name, what) in method(words) {
        let _ = writeln!(out, "- **{}**: {what}", capital(&name));
    }
    out
}
