//! Records → one HTML page that opens from disk. It computes no figure, at most bins those of the record for a histogram;
//! what needs a model or data is not here. Figures are drawn once (`report/figures.rs`), for the page and for files beside it; tiles,
//! tables and the pages of features the page draws itself (`report/page.js`) from the record and its columns, which it holds.

pub mod figures;
pub mod sweep;
mod text;
pub mod words;

use crate::plot::sprites::sprite_sheet;
use crate::plot::svg::Target;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use figures::{Figure, figures};
use serde_json::{Value, json};
use vibrissa_record::analysis::{AnalysisRecord, PruneRecord};
use vibrissa_record::columns::{Columns, Values};
use vibrissa_record::{EvalRecord, MetricsLine};
use words::Words;

/// Language of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

impl Language {
    fn code(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Zh => "zh",
        }
    }
}

/// All that a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What `analyze` found.
    pub analysis: &'a AnalysisRecord,
    /// Its columns.
    pub columns: &'a Columns,
    /// Held-out figures of the run, if it has them.
    pub eval: Option<&'a EvalRecord>,
    /// The log of its training; empty where there is none.
    pub metrics: &'a [MetricsLine],
    /// What `prune` measured, a curve a measure.
    pub pruning: &'a [PruneRecord],
    /// Language of all words.
    pub language: Language,
}

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// Columns that are pictures go on sheets; figures go as f32, counts as u32, all in base64.
fn columns(columns: &Columns) -> Value {
    let mut out = serde_json::Map::new();
    for (name, column) in &columns.0 {
        let value = match &column.values {
            Values::U8(bytes) => {
                let s = sprite_sheet(bytes, &column.shape);
                json!({"png": STANDARD.encode(&s.png), "n": s.n, "columns": s.columns, "width": s.width,
                    "height": s.height, "channels": s.channels})
            }
            Values::F64(figures) => {
                let bytes: Vec<u8> = figures.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
                json!({"f32": STANDARD.encode(bytes), "shape": column.shape})
            }
            Values::U32(counts) => {
                let bytes: Vec<u8> = counts.iter().flat_map(|v| v.to_le_bytes()).collect();
                json!({"u32": STANDARD.encode(bytes), "shape": column.shape})
            }
        };
        out.insert(name.clone(), value);
    }
    Value::Object(out)
}

/// Histograms and metadata of all latents would be most of the page: only those with a page of their own keep theirs. Of
/// metadata the page shows effect and q.
fn trimmed(report: &Report) -> Columns {
    let mut out = report.columns.clone();
    for s in 0..report.analysis.saes.len() {
        let list = out.get_counts(&format!("{s}.pictured")).to_vec();
        let name = format!("{s}.histogram");
        if let Some(bins) = out.0.get(&name).map(|c| c.shape[1]) {
            let all = out.get_counts(&name);
            let kept: Vec<u32> = list.iter().flat_map(|&h| all[h as usize * bins..][..bins].to_vec()).collect();
            out.counts(name, &[list.len(), bins], kept);
        }
        for j in 0..report.analysis.metadata.len() {
            out.0.remove(&format!("{s}.metadata.{j}.p"));
            for kind in ["effect", "q"] {
                let name = format!("{s}.metadata.{j}.{kind}");
                let all = out.get_figures(&name);
                let kept: Vec<f64> = list.iter().filter_map(|&h| all.get(h as usize).copied()).collect();
                out.figures(name, &[kept.len()], kept);
            }
        }
    }
    out
}

/// The page: one file, no network.
pub fn html(report: &Report) -> String {
    let words = Words::of(report.language);
    let figures: Vec<Value> = figures(report, &words, Target::Page)
        .iter()
        .map(|f| json!({"name": f.name, "section": f.section, "note": f.note, "svg": f.svg}))
        .collect();
    let data = json!({
        "analysis": report.analysis,
        "classes": report.analysis.classes.0,
        "measured": text::measured(report, &words),
        "columns": columns(&trimmed(report)),
        "figures": figures,
        "subtitle": text::subtitle(report, &words),
        "cards": text::cards(report, &words),
        "facts": text::facts(report, &words),
        "method": text::method(report, &words),
        "language": report.language.code(),
    });
    // Nothing in the data may end the script element, or begin a comment in it.
    let data = data.to_string().replace('<', "\\u003c");
    let language = if report.language == Language::Zh { "zh-CN" } else { "en" };
    PAGE.replace("{{language}}", language)
        .replace("{{style}}", STYLE)
        .replace("{{words}}", words::WORDS.trim())
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &data)
}

/// The report as Markdown; these figures lie beside it as PNG.
pub fn markdown(report: &Report, figures: &[Figure]) -> String {
    text::markdown(report, &Words::of(report.language), figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg::Colour::{self, *};

    #[test]
    fn files_have_the_colours_of_the_page_by_day() {
        let (day, _) = STYLE.split_once("@media").expect("a page by night");
        let all: [Colour; 5] = [Ink, Muted, Grid, Accent, Warm];
        for colour in all.into_iter().chain((0..10).map(Series)) {
            let [page, file] = [Target::Page, Target::File].map(|target| target.colour(colour));
            let name = page.trim_start_matches("var(").trim_end_matches(')');
            assert!(day.contains(&format!("{name}: {file};")), "{name} is not {file} in the page");
        }
    }
}
