//! What a report says in words, all of it put together from figures of the record; and the report as Markdown.

use super::Report;
use super::figures::Figure;
use super::words::{Words, count, fixed, percent};
use serde::Serialize;
use std::fmt::Write;
use vibrissa_record::Number;
use vibrissa_record::analysis::{AnalysisRecord, GroupRecord, PairRecord};

/// The figures of the summary: what, and what it is called.
pub fn cards(report: &Report, words: &Words) -> Vec<[String; 2]> {
    let (s, patches) = (&report.analysis.saes[0], report.analysis.patches.is_some());
    let mut out = vec![
        [fixed(s.pearson, 3), words.get(if patches { "pearson_picture" } else { "pearson_long" })],
        [fixed(s.l0, 1), words.get(if patches { "l0_patch" } else { "l0" })],
        [percent(s.usage.carry_80, 1), words.get("carry")],
        [count(s.dead), words.get("unused")],
        [count(s.usage.negative), words.get("harmful")],
    ];
    if let Some(probe) = s.classes.as_ref().map(|c| c.probe).filter(|p| p.get().is_some()) {
        out.push([percent(probe, 1), words.get("probe")]);
    }
    out
}

/// Rows a picture.
fn each(analysis: &AnalysisRecord) -> u64 {
    analysis.patches.as_ref().map_or(1, |p| (p.tops.len() * p.lefts.len()) as u64)
}

/// What stands out, a sentence each.
pub fn facts(report: &Report, words: &Words) -> Vec<String> {
    let a = report.analysis;
    let (s, order) = (&a.saes[0], &a.saes[0].order);
    let mut out = Vec::new();
    let whole = a.rows / each(a);
    if whole < 200 {
        out.push(words.with("fact_few", &[("n", count(whole))]));
    }
    if a.patches.is_some() {
        out.push(words.get("fact_patches"));
    }
    if a.split != "test" {
        out.push(words.get("fact_split"));
    }
    let frequency = &report.columns.saes[0].latents.frequency;
    let most = (0..frequency.len()).fold(0, |most, h| if frequency[h] > frequency[most] { h } else { most });
    out.push(words.with(
        "fact_top",
        &[
            ("h", most.to_string()),
            ("f", percent(order.top_frequency, 1)),
            ("n", count(order.top)),
            ("least", percent(order.top_least_frequency, 2)),
        ],
    ));
    out.push(words.with(
        "fact_order",
        &[("n", count(order.top)), ("a", percent(order.share[0], 3)), ("b", percent(order.share[1], 3))],
    ));
    if let Some(r) = order.rank_index.get() {
        let related = words.get(if r.abs() < 0.1 { "unrelated" } else { "related" });
        out.push(words.with("fact_rank", &[("how", related), ("r", fixed(order.rank_index, 3))]));
    }
    out.push(words.with("fact_dense", &[("n", count(s.dense)), ("rare", count(s.rare))]));
    if s.usage.tail.get().is_some() {
        out.push(words.with("fact_tail", &[("a", fixed(s.usage.tail, 2)), ("r", fixed(s.usage.tail_r2, 2))]));
    }
    if let Some(c) = &s.classes {
        out.push(words.with(
            "fact_class",
            &[("n", count(c.significant)), ("major", percent(c.majority, 1)), ("probe", percent(c.probe, 1))],
        ));
    }
    for known in a.metadata.iter().filter(|m| m.left_out.is_empty()) {
        let n = known.saes.first().map_or(0, |s| s.significant);
        out.push(words.with("fact_metadata", &[("column", known.column.clone()), ("n", count(n))]));
        if known.with_classes.get().is_some_and(|v| v > 0.5) {
            let v = fixed(known.with_classes, 2);
            out.push(words.with("fact_confounded", &[("column", known.column.clone()), ("v", v)]));
        }
    }
    out
}

/// A table in Markdown; the first column is text, all others figures.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<&str> = (0..head.len()).map(|i| if i == 0 { "---" } else { "---:" }).collect();
    let body: String = rows.iter().map(|r| line(r)).collect();
    format!("{}| {} |\n{body}\n", line(head), rule.join(" | "))
}

/// The report as Markdown, its figures beside it.
pub fn markdown(report: &Report, words: &Words, figures: &[Figure]) -> String {
    let a = report.analysis;
    let mut out = format!("# {}\n\n", words.with("title", &[("run", a.run.clone())]));
    let _ = writeln!(out, "{}\n", subtitle(report, words));
    let _ = writeln!(out, "## {}\n", words.get("summary"));
    for [value, name] in cards(report, words) {
        let _ = writeln!(out, "- **{value}** {name}");
    }
    out.push('\n');
    for fact in facts(report, words) {
        let _ = writeln!(out, "- {fact}");
    }
    out.push('\n');
    if let Some(t) = measured(report, words) {
        let _ = write!(out, "### {}\n\n{}", t.title, table(&t.head, &t.rows));
    }
    let drawn = |out: &mut String, section: &str| {
        for f in figures.iter().filter(|f| f.section == section) {
            let _ = writeln!(out, "![{}]({}.png)\n", f.title, f.name);
            if !f.note.is_empty() {
                let _ = writeln!(out, "{}\n", f.note);
            }
        }
    };
    for section in
        ["recons", "wall", "dist", "usage", "classes", "heat", "pairs", "metadata", "ensemble", "pruning", "training"]
    {
        let mut body = String::new();
        drawn(&mut body, section);
        body += &match section {
            "wall" => top_features(report, words),
            "pairs" => company(report, words),
            "metadata" => metadata(report, words),
            "ensemble" => ensemble(report, words),
            _ => String::new(),
        };
        if !body.is_empty() {
            let _ = write!(out, "## {}\n\n{body}", words.get(section));
        }
    }
    let _ = writeln!(out, "## {}\n", words.get("method"));
    for (name, text) in method(report, words) {
        let _ = writeln!(out, "- **{name}**: {text}");
    }
    out
}

/// One line on what was looked at.
pub fn subtitle(report: &Report, words: &Words) -> String {
    let a = report.analysis;
    let saes = match a.saes.len() {
        1 => words.get("one_sae"),
        n => words.with("saes", &[("n", n.to_string())]),
    };
    let (w, h) = a.patches.as_ref().map_or((0, 0), |p| (p.width, p.height));
    words.with(
        if a.patches.is_some() { "subtitle_patches" } else { "subtitle" },
        &[
            ("w", w.to_string()),
            ("h", h.to_string()),
            ("each", count(each(a))),
            ("n", count(a.rows / each(a))),
            ("rows", count(a.rows)),
            ("data", a.data.clone()),
            ("split", a.split.clone()),
            ("version", a.tool_version.clone()),
            ("latents", count(a.saes[0].latents)),
            ("saes", saes),
        ],
    )
}

/// What every figure means.
pub fn method(report: &Report, words: &Words) -> Vec<(String, String)> {
    let [a, b] = report.analysis.weights;
    let score = words.with("m_score_t", &[("a", a.to_string()), ("b", b.to_string())]);
    let mut out: Vec<(String, String)> = [
        ("m_latent", "m_latent_t"),
        ("frequency", "m_frequency_t"),
        ("strength", "m_strength_t"),
        ("score", ""),
        ("delta_sse", "m_sse_t"),
        ("delta_pearson", "m_pearson_t"),
        ("share", "m_share_t"),
        ("auc", "m_auc_t"),
        ("q", "m_q_t"),
        ("m_probe", "m_probe_t"),
        ("m_npmi", "m_npmi_t"),
        ("m_overlay", "m_overlay_t"),
    ]
    .iter()
    .map(|(name, text)| (words.get(name), if text.is_empty() { score.clone() } else { words.get(text) }))
    .collect();
    if report.eval.is_some_and(|e| e.mean_image.scores.perceptual.is_some()) {
        out.push((words.get("perceptual"), words.get("m_perceptual_t")));
    }
    if report.analysis.patches.is_some() {
        out.insert(0, (words.get("m_patches"), words.get("m_patches_t")));
    }
    if report.analysis.ensemble.is_some() {
        out.push(("MMCS, MCC".into(), words.get("ensemble_note")));
    }
    if !report.analysis.metadata.is_empty() {
        out.push((words.get("metadata"), words.get("m_metadata_t")));
    }
    out.push((words.get("m_files"), words.get("m_files_t")));
    out
}

/// A table: its title, its head, its rows.
#[derive(Debug, Serialize)]
pub struct Cells {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// What the run itself measured: each SAE, by class, and the mean image.
pub fn measured(report: &Report, words: &Words) -> Option<Cells> {
    macro_rules! six {
        ($s:expr) => {
            [$s.pearson, $s.mse, $s.fvu, $s.ssim, $s.perceptual, $s.psnr]
        };
    }
    let eval = report.eval?;
    let row = |name: String, rows: u64, figures: [Option<f64>; 6]| {
        let figures = figures.into_iter().zip([4, 5, 4, 4, 4, 2]);
        let figures = figures.map(|(v, digits)| fixed(Number(v), digits));
        [name, count(rows)].into_iter().chain(figures).collect::<Vec<String>>()
    };
    let saes = eval.saes.iter().enumerate();
    let mut rows: Vec<Vec<String>> =
        saes.map(|(i, s)| row(format!("{} {i}", words.get("sae")), eval.rows, six!(s.scores))).collect();
    // By class the mean of all, where there are several.
    let of = if eval.saes.len() > 1 {
        rows.push(row(words.get("mean_of_saes"), eval.rows, six!(eval.ensemble.scores)));
        &eval.ensemble
    } else {
        &eval.saes[0]
    };
    for (name, c) in &of.by_class.0 {
        rows.push(row(format!("{} {name}", words.get("class")), c.rows, six!(c.scores)));
    }
    rows.push(row(words.get("mean_image"), eval.rows, six!(eval.mean_image.scores)));
    let heading = match eval.split.as_deref() {
        Some("train") => "held_train",
        Some("folds") => "held_folds",
        _ => "held_out",
    };
    let head = [String::new(), words.get("rows"), words.get("pearson")].into_iter();
    let perceptual = words.get("perceptual");
    let head = head.chain(["mse", "fvu", "SSIM", &perceptual, "PSNR dB"].map(str::to_owned)).collect();
    let of = eval.data.as_ref().map_or(String::new(), |d| format!(" ({d})"));
    Some(Cells { title: words.get(heading) + &of, head, rows })
}

/// Latents by rank.
pub fn by_rank(report: &Report) -> Vec<usize> {
    let rank = &report.columns.saes[0].latents.rank;
    let mut order: Vec<usize> = (0..rank.len()).collect();
    order.sort_by_key(|&h| rank[h]);
    order
}

fn top_features(report: &Report, words: &Words) -> String {
    let latents = &report.columns.saes[0].latents;
    let figures: [(&str, &[f64], usize); 6] = [
        ("frequency", &latents.frequency, 2),
        ("strength", &latents.strength, 4),
        ("score", &latents.score, 4),
        ("delta_sse", &latents.delta_sse, 5),
        ("delta_pearson", &latents.delta_pearson, 6),
        ("share", &latents.share, 3),
    ];
    let rank = &latents.rank;
    let order = by_rank(report);
    let head: Vec<String> =
        [words.get("rank"), words.get("index")].into_iter().chain(figures.iter().map(|f| words.get(f.0))).collect();
    let rows: Vec<Vec<String>> = order
        .iter()
        .take(20)
        .map(|&h| {
            let cells = figures.iter().map(|(name, values, digits)| {
                let v = Number::from(values[h]);
                if matches!(*name, "frequency" | "share") { percent(v, *digits) } else { fixed(v, *digits) }
            });
            [rank[h].to_string(), h.to_string()].into_iter().chain(cells).collect()
        })
        .collect();
    table(&head, &rows)
}

fn company(report: &Report, words: &Words) -> String {
    let Some(pairs) = &report.analysis.saes[0].pairs else { return String::new() };
    let head: Vec<String> = ["features", "count", "pmi", "synergy", "cosine"].iter().map(|k| words.get(k)).collect();
    let row = |p: &PairRecord| {
        vec![format!("{}, {}", p.a, p.b), count(p.count), fixed(p.pmi, 2), fixed(p.synergy, 4), fixed(p.cosine, 3)]
    };
    let mut out = String::new();
    for (key, list) in [
        ("overlap", &pairs.overlap),
        ("correct", &pairs.correct),
        ("together", &pairs.together),
        ("redundant", &pairs.redundant),
    ] {
        if !list.is_empty() {
            let rows: Vec<Vec<String>> = list.iter().take(10).map(row).collect();
            let _ = write!(out, "### {}\n\n{}", words.get(key), table(&head, &rows));
        }
    }
    if !pairs.groups.is_empty() {
        let head: Vec<String> = ["features", "npmi", "cosine_size", "share"].iter().map(|k| words.get(k)).collect();
        let row = |g: &GroupRecord| {
            let names: Vec<String> = g.latents.iter().take(24).map(u64::to_string).collect();
            let more = if g.latents.len() > 24 { ", …" } else { "" };
            vec![format!("{}{more}", names.join(", ")), fixed(g.npmi, 2), fixed(g.cosine, 2), percent(g.share, 2)]
        };
        let rows: Vec<Vec<String>> = pairs.groups.iter().map(row).collect();
        let _ = write!(out, "### {}\n\n{}\n\n{}", words.get("groups"), words.get("groups_note"), table(&head, &rows));
    }
    out
}

fn metadata(report: &Report, words: &Words) -> String {
    if report.analysis.metadata.is_empty() {
        return String::new();
    }
    let head: Vec<String> =
        ["column", "rows", "related_features", "strongest", "with_classes"].iter().map(|k| words.get(k)).collect();
    let rows: Vec<Vec<String>> = report
        .analysis
        .metadata
        .iter()
        .map(|m| {
            let Some(own) = m.saes.first() else {
                return vec![m.column.clone(), "–".into(), "–".into(), m.left_out.clone(), "–".into()];
            };
            let column = match &m.levels[..] {
                [a, b] => format!("{} ({a} → {b})", m.column),
                _ => m.column.clone(),
            };
            let top: Vec<String> = own.top.iter().take(5).map(|(h, e, _)| format!("{h} ({e:+.2})")).collect();
            vec![column, count(m.rows), count(own.significant), top.join(", "), fixed(m.with_classes, 2)]
        })
        .collect();
    format!("{}\n\n{}", words.get("metadata_note"), table(&head, &rows))
}

fn ensemble(report: &Report, words: &Words) -> String {
    let Some(e) = &report.analysis.ensemble else { return String::new() };
    let n = e.mmcs.len();
    let mcc = |i: usize, j: usize| {
        e.mcc.iter().find(|m| (m.0, m.1) == (i.min(j), i.max(j))).map_or("–".into(), |m| fixed(m.2, 3))
    };
    let sae = |i: usize| format!("{} {i}", words.get("sae"));
    let head: Vec<String> =
        ["MCC".to_owned()].into_iter().chain((0..n).map(sae)).chain([words.get("shared"), words.get("own")]).collect();
    let rows: Vec<Vec<String>> = (0..n)
        .map(|i| {
            let cells = (0..n).map(|j| if i == j { String::new() } else { mcc(i, j) });
            [sae(i)].into_iter().chain(cells).chain([count(e.shared[i]), count(e.unshared[i])]).collect()
        })
        .collect();
    table(&head, &rows)
}
