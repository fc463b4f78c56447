//! The summary of a run: its subtitle, its most important values, what stands out, and the scores of its evaluation.

use super::Context;
use super::markdown::{bullet_list, card_list, table};
use super::words::{count, fixed, percent};
use serde::Serialize;
use std::fmt::Write;
use vibrissa_record::analysis::AnalysisRecord;
use vibrissa_record::{Number, Reconstruction};

/// Fewest rows, or images, for figures that count as precise.
const FEW: u64 = 200;

/// Patches per image; 1 where rows are not patches.
fn patches_per_image(analysis: &AnalysisRecord) -> u64 {
    analysis.patches.as_ref().map_or(1, |p| (p.tops.len() * p.lefts.len()) as u64)
}

/// One line on the rows and SAEs that were analysed.
pub(super) fn subtitle(context: &Context) -> String {
    let a = context.report.analysis;
    let latents = ("latents", count(a.saes[0].latents));
    let saes = match a.saes.len() {
        1 => context.with("one_sae", &[latents]),
        n => context.with("saes", &[("n", n.to_string()), latents]),
    };
    let (w, h) = a.patches.as_ref().map_or((0, 0), |p| (p.width, p.height));
    let each = patches_per_image(a);
    let split = context.words.find(&format!("split_{}", a.split)).unwrap_or(&a.split).to_owned();
    context.with(
        if a.patches.is_some() { "subtitle_patches" } else { "subtitle" },
        &[
            ("w", w.to_string()),
            ("h", h.to_string()),
            ("each", count(each)),
            ("n", count(a.rows / each)),
            ("rows", count(a.rows)),
            ("data", a.data.clone()),
            ("split", split),
            ("version", a.tool_version.clone()),
            ("saes", saes),
        ],
    )
}

/// The most important values, each `[value, meaning]`.
pub(super) fn cards(context: &Context) -> Vec<[String; 2]> {
    let (s, patches) = (&context.report.analysis.saes[0], context.report.analysis.patches.is_some());
    let mut out = vec![
        [fixed(s.pearson, 3), context.t(if patches { "card_pearson_image" } else { "card_pearson" })],
        [fixed(s.l0, 1), context.t(if patches { "card_l0_patch" } else { "card_l0" })],
        [percent(s.usage.carry_80, 1), context.t("card_carry")],
        [count(s.dead), context.t("card_dead")],
        [count(s.usage.negative), context.t("card_harmful")],
    ];
    if let Some(probe) = s.classes.as_ref().map(|c| c.probe).filter(|p| p.get().is_some()) {
        out.push([percent(probe, 1), context.t("card_probe")]);
    }
    out
}

/// Notable findings, a sentence each.
pub(super) fn facts(context: &Context) -> Vec<String> {
    let a = context.report.analysis;
    let (s, order) = (&a.saes[0], &a.saes[0].order);
    let mut out = Vec::new();
    let independent = a.rows / patches_per_image(a);
    if independent < FEW {
        let key = if a.patches.is_some() { "fact_few_images" } else { "fact_few" };
        out.push(context.with(key, &[("n", count(independent))]));
    }
    if a.patches.is_some() {
        out.push(context.t("fact_patches"));
    }
    if a.split != "test" {
        out.push(context.t("fact_split"));
    }
    let frequency = &context.report.columns.saes[0].latents.frequency;
    let most = (0..frequency.len()).fold(0, |most, h| if frequency[h] > frequency[most] { h } else { most });
    out.push(context.with(
        "fact_top",
        &[
            ("h", most.to_string()),
            ("f", percent(order.top_frequency, 1)),
            ("n", count(order.top)),
            ("least", percent(order.top_least_frequency, 2)),
        ],
    ));
    let [by_score, by_index] = order.share;
    out.push(
        context
            .with("fact_order", &[("n", count(order.top)), ("a", percent(by_score, 3)), ("b", percent(by_index, 3))]),
    );
    if let Some(r) = order.rank_index.get() {
        let how = context.t(if r.abs() < 0.1 { "unrelated" } else { "related" });
        out.push(context.with("fact_rank", &[("how", how), ("r", fixed(order.rank_index, 3))]));
    }
    out.push(context.with("fact_dense", &[("n", count(s.dense)), ("rare", count(s.rare))]));
    if s.usage.tail.get().is_some() {
        let values = [("a", fixed(s.usage.tail, 2)), ("r", fixed(s.usage.tail_r2, 2))];
        out.push(context.with("fact_tail", &values));
    }
    if let Some(c) = &s.classes {
        out.push(context.with(
            "fact_class",
            &[("n", count(c.significant)), ("major", percent(c.majority, 1)), ("probe", percent(c.probe, 1))],
        ));
    }
    for m in a.metadata.iter().filter(|m| m.left_out.is_empty()) {
        let n = m.saes.first().map_or(0, |s| s.significant);
        out.push(context.with("fact_metadata", &[("column", m.column.clone()), ("n", count(n))]));
        if m.with_classes.get().is_some_and(|v| v > 0.5) {
            let v = fixed(m.with_classes, 2);
            out.push(context.with("fact_confounded", &[("column", m.column.clone()), ("v", v)]));
        }
    }
    out
}

/// A table with a title.
#[derive(Debug, Serialize)]
pub(super) struct TitledTable {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The scores of the evaluation: of each SAE, by class, and of the mean image. `None` without an evaluation.
pub(super) fn scores(context: &Context) -> Option<TitledTable> {
    let eval = context.report.eval?;
    let row = |name: String, rows: u64, r: &Reconstruction| {
        let measures = [r.pearson, r.mse, r.fvu, r.ssim, r.perceptual, r.psnr].into_iter().zip([4, 5, 4, 4, 4, 2]);
        let measures = measures.map(|(v, digits)| fixed(Number(v), digits));
        [name, count(rows)].into_iter().chain(measures).collect::<Vec<String>>()
    };
    let saes = eval.saes.iter().enumerate();
    let mut rows: Vec<Vec<String>> =
        saes.map(|(i, s)| row(context.sae_name(i), eval.rows, &s.scores.reconstruction)).collect();
    // With several SAEs the scores by class are those of the mean of their reconstructions.
    let by_class = if eval.saes.len() > 1 {
        rows.push(row(context.t("mean_of_saes"), eval.rows, &eval.ensemble.scores.reconstruction));
        &eval.ensemble.by_class
    } else {
        &eval.saes[0].by_class
    };
    for (name, c) in &by_class.0 {
        rows.push(row(format!("{} {name}", context.t("class")), c.rows, &c.scores.reconstruction));
    }
    rows.push(row(context.t("mean_image"), eval.rows, &eval.mean_image.scores));
    let title = match eval.split.as_deref() {
        Some("train") => "scores_train",
        Some("folds") => "scores_folds",
        _ => "scores_test",
    };
    let data = eval.data.as_ref().map_or(String::new(), |d| format!(" ({d})"));
    let head = ["rows", "pearson", "mse", "fvu", "SSIM", "perceptual", "psnr"].map(|key| context.t(key));
    let head = [String::new()].into_iter().chain(head).collect();
    Some(TitledTable { title: context.t(title) + &data, head, rows })
}

/// The section in Markdown.
pub(super) fn markdown(context: &Context) -> String {
    let mut out = format!("{}\n{}\n", card_list(&cards(context)), bullet_list(&facts(context)));
    if let Some(t) = scores(context) {
        let _ = write!(out, "### {}\n\n{}", t.title, table(&t.head, &t.rows));
    }
    out
}
