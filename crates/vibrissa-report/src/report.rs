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
use vibrissa_record::analysis::columns::{AnalysisColumns, MetadataColumns};
use vibrissa_record::analysis::{AnalysisRecord, PruneRecord};
use vibrissa_record::columns::{Array, StoredColumn, StoredColumns};
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
    pub columns: &'a AnalysisColumns,
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

/// The columns by name: images go on sheets; figures go as f32, counts as u32, all in base64.
fn embedded(columns: &StoredColumns) -> Value {
    let mut out = serde_json::Map::new();
    for (name, column) in &columns.0 {
        let value = match column {
            StoredColumn::U8(images) => {
                let s = sprite_sheet(images, &images.shape);
                json!({"png": STANDARD.encode(&s.png), "n": s.n, "columns": s.columns, "width": s.width,
                    "height": s.height, "channels": s.channels})
            }
            StoredColumn::F64(figures) => {
                let bytes: Vec<u8> = figures.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
                json!({"f32": STANDARD.encode(bytes), "shape": figures.shape})
            }
            StoredColumn::U32(counts) => {
                let bytes: Vec<u8> = counts.iter().flat_map(|v| v.to_le_bytes()).collect();
                json!({"u32": STANDARD.encode(bytes), "shape": counts.shape})
            }
        };
        out.insert(name.clone(), value);
    }
    Value::Object(out)
}

/// The columns that the page needs. Histograms and metadata of all latents would be most of the page: only the latents with
/// examples keep theirs, and of the metadata only effect and q.
fn trimmed(columns: &AnalysisColumns) -> StoredColumns {
    let mut out = columns.clone();
    for sae in &mut out.saes {
        let latents = &sae.examples.latent;
        let histogram = &mut sae.histogram.histogram;
        let bins = histogram.stride();
        let kept = latents.iter().flat_map(|&h| histogram.row(h as usize).to_vec()).collect();
        *histogram = Array::new(&[latents.len(), bins], kept);
        for MetadataColumns { effect, p, q } in sae.metadata.iter_mut().flatten() {
            let kept = |all: &Array<f64>| Array::vector(latents.iter().map(|&h| all[h as usize]).collect());
            (*effect, *q, *p) = (kept(effect), kept(q), Array::default());
        }
    }
    let mut stored = out.into_stored();
    stored.0.retain(|name, _| !(name.contains(".metadata.") && name.ends_with(".p")));
    stored
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
        "columns": embedded(&trimmed(report.columns)),
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
