//! Tables of sections in Markdown; the page builds its own from the record, with buttons and images.

use super::Context;
use super::markdown::table;
use super::words::{count, fixed, percent};
use std::fmt::Write;
use vibrissa_record::Number;
use vibrissa_record::analysis::{GroupRecord, PairRecord};

/// Features in the table of top features.
const TOP: usize = 20;
/// Pairs in a table of pairs.
const PAIRS: usize = 10;
/// Members of a group that are named.
const MEMBERS: usize = 24;
/// Features named for a column of metadata.
const RELATED: usize = 5;

/// The first features of SAE 0 by score.
pub(super) fn top_features(context: &Context) -> String {
    let latents = &context.report.columns.saes[0].latents;
    let measures: [(&str, &[f64], usize); 6] = [
        ("frequency", &latents.frequency, 2),
        ("strength", &latents.strength, 4),
        ("score", &latents.score, 4),
        ("delta_sse", &latents.delta_sse, 5),
        ("delta_pearson", &latents.delta_pearson, 6),
        ("share", &latents.share, 3),
    ];
    let head: Vec<String> =
        ["rank", "index"].into_iter().chain(measures.iter().map(|m| m.0)).map(|key| context.t(key)).collect();
    let row = |&h: &usize| {
        let cells = measures.iter().map(|&(name, values, digits)| {
            let v = Number::from(values[h]);
            if matches!(name, "frequency" | "share") { percent(v, digits) } else { fixed(v, digits) }
        });
        [latents.rank[h].to_string(), h.to_string()].into_iter().chain(cells).collect()
    };
    table(&head, &context.by_rank().iter().take(TOP).map(row).collect::<Vec<Vec<String>>>())
}

/// Pairs and groups of co-active features of SAE 0.
pub(super) fn coactivation(context: &Context) -> String {
    let Some(pairs) = &context.report.analysis.saes[0].pairs else { return context.t("no_pairs") };
    let head = ["pair", "coactive_rows", "pmi", "synergy", "cosine"].map(|key| context.t(key));
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
            let rows: Vec<Vec<String>> = list.iter().take(PAIRS).map(row).collect();
            let _ = write!(out, "### {}\n\n{}", context.t(key), table(&head, &rows));
        }
    }
    if !pairs.groups.is_empty() {
        let head = ["pair", "npmi", "mean_abs_cosine", "share"].map(|key| context.t(key));
        let row = |g: &GroupRecord| {
            let names: Vec<String> = g.latents.iter().take(MEMBERS).map(u64::to_string).collect();
            let more = if g.latents.len() > MEMBERS { ", …" } else { "" };
            vec![format!("{}{more}", names.join(", ")), fixed(g.npmi, 2), fixed(g.cosine, 2), percent(g.share, 2)]
        };
        let rows: Vec<Vec<String>> = pairs.groups.iter().map(row).collect();
        let (title, note) = (context.t("groups"), context.t("note_groups"));
        let _ = write!(out, "### {title}\n\n{note}\n\n{}", table(&head, &rows));
    }
    out
}

/// The columns of the metadata and the features of SAE 0 that are related to them.
pub(super) fn metadata(context: &Context) -> String {
    if context.report.analysis.metadata.is_empty() {
        return String::new();
    }
    let head = ["column", "rows", "related_features", "strongest", "with_classes"].map(|key| context.t(key));
    let rows = context.report.analysis.metadata.iter().map(|m| {
        let Some(first) = m.saes.first() else {
            return vec![m.column.clone(), "–".into(), "–".into(), m.left_out.clone(), "–".into()];
        };
        let column = match &m.levels[..] {
            [a, b] => format!("{} ({a} → {b})", m.column),
            _ => m.column.clone(),
        };
        let top: Vec<String> =
            first.top.iter().take(RELATED).map(|(h, effect, _)| format!("{h} ({effect:+.2})")).collect();
        vec![column, count(m.rows), count(first.significant), top.join(", "), fixed(m.with_classes, 2)]
    });
    table(&head, &rows.collect::<Vec<Vec<String>>>())
}

/// The agreement of the SAEs of an ensemble.
pub(super) fn ensemble(context: &Context) -> String {
    let Some(e) = &context.report.analysis.ensemble else { return String::new() };
    let mcc = |i: usize, j: usize| {
        let pair = e.mcc.iter().find(|m| (m.0, m.1) == (i.min(j), i.max(j)));
        if i == j { String::new() } else { pair.map_or("–".into(), |m| fixed(m.2, 3)) }
    };
    let names = context.sae_names();
    let head: Vec<String> = ["MCC".to_owned()]
        .into_iter()
        .chain(names.clone())
        .chain(["shared", "unique"].map(|key| context.t(key)))
        .collect();
    let row = |(i, name): (usize, &String)| {
        let cells = (0..names.len()).map(|j| mcc(i, j));
        [name.clone()].into_iter().chain(cells).chain([count(e.shared[i]), count(e.unshared[i])]).collect()
    };
    table(&head, &names.iter().enumerate().map(row).collect::<Vec<Vec<String>>>())
}
