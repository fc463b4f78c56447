//! The method section: how every measure of the report of a run is defined.

use super::Context;
use std::fmt::Write;

/// Names of measures and their definitions.
pub(super) fn definitions(context: &Context) -> Vec<(String, String)> {
    let analysis = context.report.analysis;
    let [a, b] = analysis.weights.map(|w| w.to_string());
    let plain = |name: &str, text: &str| (context.t(name), context.t(text));
    let mut out = Vec::new();
    if analysis.patches.is_some() {
        out.push(plain("method_patches", "method_patches_text"));
    }
    out.push(plain("method_latent", "method_latent_text"));
    out.push(plain("frequency", "method_frequency_text"));
    out.push(plain("strength", "method_strength_text"));
    out.push((context.t("score"), context.with("method_score_text", &[("a", a), ("b", b)])));
    out.push(plain("delta_sse", "method_delta_sse_text"));
    out.push(plain("delta_pearson", "method_delta_pearson_text"));
    out.push(plain("share", "method_share_text"));
    out.push(plain("auc", "method_auc_text"));
    out.push(plain("q", "method_q_text"));
    out.push(plain("method_probe", "method_probe_text"));
    out.push(plain("method_groups", "method_groups_text"));
    out.push(plain("method_overlay", "method_overlay_text"));
    if context.report.eval.is_some_and(|e| e.mean_image.scores.perceptual.is_some()) {
        out.push(plain("perceptual", "method_perceptual_text"));
    }
    if !analysis.metadata.is_empty() {
        out.push(plain("section_metadata", "method_metadata_text"));
    }
    out.push(plain("method_files", "method_files_text"));
    out
}

/// The section in Markdown.
pub(super) fn markdown(context: &Context) -> String {
    let mut out = String::new();
    for (name, text) in definitions(context) {
        let _ = writeln!(out, "- **{name}**: {text}");
    }
    out
}
