//! The page of the report of a run: one HTML file that holds the record, its columns, the figures and the script that
//! shows them (`report/page/`).

use super::{Context, SECTIONS, figures, method, summary};
use crate::plot::sprites::sprite_sheet;
use crate::plot::svg::Target;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vibrissa_record::analysis::columns::{AnalysisColumns, MetadataColumns};
use vibrissa_record::columns::{Array, StoredColumn, StoredColumns};

const PAGE: &str = include_str!("page/page.html");
/// Style of the pages of runs and of sweeps.
pub(super) const STYLE: &str = include_str!("page/style.css");
/// Parts of the script; each uses only what is defined in the parts before it, except within functions.
const SCRIPT: [&str; 7] = [
    include_str!("page/text.js"),
    include_str!("page/dom.js"),
    include_str!("page/images.js"),
    include_str!("page/charts.js"),
    include_str!("page/sections.js"),
    include_str!("page/feature.js"),
    include_str!("page/main.js"),
];

/// The page of a report.
pub(super) fn html(context: &Context) -> String {
    let report = context.report;
    let figures: Vec<Value> = figures(report, Target::Page)
        .iter()
        .map(|f| json!({"name": f.name, "section": f.section, "note": f.note, "svg": f.svg}))
        .collect();
    let data = json!({
        "analysis": report.analysis,
        "classes": report.analysis.classes.0,
        "columns": embedded(&trimmed(report.columns)),
        "activation_edges": report.analysis.histograms.activation.positive_edges(),
        "figures": figures,
        "sections": SECTIONS.iter().map(|s| section(context, s.id)).collect::<Vec<Value>>(),
        "subtitle": summary::subtitle(context),
        "cards": summary::cards(context),
        "facts": summary::facts(context),
        "scores": summary::scores(context),
        "method": method::definitions(context),
        "words": context.words.of_run(),
    });
    // A "<" in the data could end the script element, or start a comment in it.
    let data = data.to_string().replace('<', "\\u003c");
    PAGE.replace("{{language}}", report.language.html_code())
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &SCRIPT.concat())
        .replace("{{skip}}", &context.t("skip"))
        .replace("{{sections}}", &context.t("sections"))
        .replace("{{no_script}}", &context.t("no_script"))
        .replace("{{data}}", &data)
}

/// Title and note of a section; the note includes what can be done in the page.
fn section(context: &Context, id: &str) -> Value {
    let parts = ["note", "hint"].map(|kind| context.words.find(&format!("{kind}_{id}")));
    let space = if context.report.language == super::Language::En { " " } else { "" };
    let note = parts.into_iter().flatten().collect::<Vec<&str>>().join(space);
    json!({"id": id, "title": context.t(&format!("section_{id}")), "note": note})
}

/// The columns by name: images as sprite sheets, figures as f32, counts as u32, all in base64.
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

/// The columns that the page needs. Histograms and metadata of all latents would be most of the page: only the latents
/// with example rows keep theirs, and of the metadata only effect and q.
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

/// The keys of words that the script looks up by a literal, `t("key")` or `t("key", …)`.
#[cfg(test)]
pub(super) fn script_keys() -> Vec<String> {
    let script = SCRIPT.concat();
    let calls = script.match_indices("t(\"").filter(|(at, _)| !script[..*at].ends_with(char::is_alphanumeric));
    calls.filter_map(|(at, call)| script[at + call.len()..].split_once('"')).map(|(key, _)| key.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg::Colour::{self, *};

    #[test]
    fn figures_in_files_have_the_colours_of_the_light_page() {
        let (light, _) = STYLE.split_once("@media").expect("a dark theme");
        let all: [Colour; 5] = [Ink, Muted, Grid, Accent, Warm];
        for colour in all.into_iter().chain((0..10).map(Series)) {
            let [page, file] = [Target::Page, Target::File].map(|target| target.colour(colour));
            let name = page.trim_start_matches("var(").trim_end_matches(')');
            assert!(light.contains(&format!("{name}: {file};")), "{name} is not {file} in the page");
        }
    }

    #[test]
    fn the_script_has_a_function_for_every_section() {
        let script = SCRIPT.concat();
        for section in &SECTIONS {
            let [function, arrow] = [format!("\n  {}() {{", section.id), format!("\n  {}: () =>", section.id)];
            assert!(script.contains(&function) || script.contains(&arrow), "{}", section.id);
        }
    }
}
