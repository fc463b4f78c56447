//! A sweep's record → one HTML page that opens from disk, Markdown and figures. It computes no figure. The page is whole
//! without JavaScript, which only sorts its table.

mod figures;
mod text;

use super::figures::Figure;
use super::words::Words;
use super::{Language, STYLE};
use crate::plot::svg::{Target, escape};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;
use vibrissa_record::sweep::{Apart, CellRecord, ConfigurationRecord, Ended, SweepRecord};

/// What a sweep left of one configuration to look at, PNG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    /// See [`ConfigurationRecord::name`].
    pub configuration: String,
    /// Its reconstructions of some rows.
    pub strip: Vec<u8>,
    /// Its most used features.
    pub wall: Vec<u8>,
}

/// All that the report of a sweep shows.
#[derive(Clone, Copy, Debug)]
pub struct SweepReport<'a> {
    /// What `sweep` found.
    pub sweep: &'a SweepRecord,
    /// What the sweep is called.
    pub name: &'a str,
    /// The rows that `pictures` reconstruct, PNG; nothing where rows are no pictures, and the strips show them too.
    pub originals: Option<&'a [u8]>,
    /// Of the configurations of [`side_by_side`].
    pub pictures: &'a [Pictures],
    /// Language of all words.
    pub language: Language,
}

const PAGE: &str = include_str!("sweep/page.html");
const OWN_STYLE: &str = include_str!("sweep/page.css");
const SCRIPT: &str = include_str!("sweep/page.js");

/// Configurations beside each other, at most.
const BESIDE: usize = 8;

/// What is shown side by side, in order of L0: the best, the knee, and of the front as many as are well apart.
pub fn side_by_side(sweep: &SweepRecord) -> Vec<&ConfigurationRecord> {
    const APART: f64 = 1.15;
    let place = |c: &ConfigurationRecord| c.l0.get().filter(|l| *l > 0.0).map_or(f64::NEG_INFINITY, f64::ln);
    let mut out: Vec<&ConfigurationRecord> = sweep.configurations.iter().filter(|c| sweep.is_named(c)).collect();
    let front: Vec<&ConfigurationRecord> =
        sweep.configurations.iter().filter(|c| c.front && c.l0.get().is_some()).collect();
    // The ends of the front, then always the one that is furthest from all chosen.
    while out.len() < BESIDE {
        let far =
            |c: &&ConfigurationRecord| out.iter().map(|o| (place(o) - place(c)).abs()).fold(f64::INFINITY, f64::min);
        let Some(next) = front.iter().copied().max_by(|a, b| far(a).total_cmp(&far(b))) else { break };
        if far(&next) < APART.ln() {
            break;
        }
        out.push(next);
    }
    out.sort_by(|a, b| place(a).total_cmp(&place(b)));
    out
}

impl SweepReport<'_> {
    /// What the rows are called that the figures are of.
    fn rows(&self, words: &Words) -> String {
        words.get(if self.sweep.test_rows > 0 { "sw_rows_test" } else { "sw_rows_validation" })
    }

    /// Options that have several values, and these, in the order of the grid.
    fn varied(&self) -> Vec<(&str, Vec<&str>)> {
        let values = |key: &String| {
            let mut all: Vec<&str> = Vec::new();
            for value in self.sweep.cells.iter().filter_map(|c| c.values.get(key)) {
                if !all.contains(&value.as_str()) {
                    all.push(value);
                }
            }
            all
        };
        self.sweep.keys.iter().map(|k| (k.as_str(), values(k))).filter(|v| v.1.len() > 1).collect()
    }

    fn configuration(&self, name: &Option<String>) -> Option<&ConfigurationRecord> {
        self.sweep.configurations.iter().find(|c| Some(&c.name) == name.as_ref())
    }

    fn unfinished(&self) -> impl Iterator<Item = &CellRecord> {
        self.sweep.cells.iter().filter(|c| c.ended != Ended::Finished)
    }

    /// `best`, `knee`, or both; else that it is on the front.
    fn mark(&self, c: &ConfigurationRecord, words: &Words) -> String {
        match (self.sweep.best_and_knee(c), c.apart) {
            ((true, true), _) => words.get("sw_best_knee"),
            ((true, false), _) => words.get("sw_best_word"),
            ((false, true), _) => words.get("sw_knee_word"),
            (_, Some(Apart::Dense)) => words.get("sw_dense_word"),
            (_, Some(Apart::NoBetter)) => words.get("sw_no_better_word"),
            _ if c.front => words.get("sw_front_word"),
            _ => String::new(),
        }
    }
}

/// All figures that there is something to show in; those of pictures only for files, where the page shows them otherwise.
pub fn figures(report: &SweepReport, target: Target) -> Vec<Figure> {
    figures::figures(report, &Words::of(report.language), target)
}

/// The report as Markdown; these figures lie beside it as PNG.
pub fn markdown(report: &SweepReport, figures: &[Figure]) -> String {
    text::markdown(report, &Words::of(report.language), figures)
}

fn image(png: &[u8], label: &str) -> String {
    format!("<img src=\"data:image/png;base64,{}\" alt=\"{}\">", STANDARD.encode(png), escape(label))
}

/// A table that can be sorted by its columns.
fn table(columns: &[text::Column], rows: usize, words: &Words) -> String {
    let mut out = String::from("<div class=\"scroll\" tabindex=\"0\"><table class=\"sortable\"><thead><tr>");
    for c in columns {
        let (name, hint) = (escape(&c.name), escape(&words.with("sw_sort", &[("what", c.name.clone())])));
        let _ = write!(out, "<th scope=\"col\"><button type=\"button\" title=\"{hint}\">{name}</button></th>");
    }
    out += "</tr></thead><tbody>";
    for r in 0..rows {
        out += "<tr>";
        for (i, c) in columns.iter().enumerate() {
            let cell = &c.cells[r];
            let value = cell.value.map_or(String::new(), |v| format!(" data-v=\"{v}\""));
            let bar = cell.bar.map_or(String::new(), |b| format!(" class=\"bar\" style=\"--part:{:.1}%\"", 100.0 * b));
            let (tag, scope) = if i == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            let _ = write!(out, "<{tag}{scope}{value}{bar}>{}</{tag}>", escape(&cell.text));
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>"
}

/// The page: one file, no network.
pub fn html(report: &SweepReport) -> String {
    let words = Words::of(report.language);
    let t = |key: &str| words.get(key);
    let drawn = figures::figures(report, &words, Target::Page);
    let figures_of = |section: &str, kind: &str| {
        let mut out = format!("<div class=\"{kind}\">");
        for f in drawn.iter().filter(|f| f.section == section) {
            let note =
                if f.note.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(&f.note)) };
            let _ = write!(
                out,
                "<figure id=\"figure-{}\"><div class=\"svg\">{}</div>{note}</figure>",
                escape(&f.name),
                f.svg
            );
        }
        out + "</div>"
    };
    let has = |section: &str| drawn.iter().any(|f| f.section == section);
    let list = |facts: &[String]| {
        let items: String = facts.iter().map(|f| format!("<li>{}</li>", escape(f))).collect();
        format!("<ul class=\"facts\">{items}</ul>")
    };
    let mut sections: Vec<(&str, String, String, String)> = Vec::new();

    let cards: String = text::cards(report, &words)
        .iter()
        .map(|[value, name]| format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", escape(value), escape(name)))
        .collect();
    let mut summary = format!("<div class=\"cards\">{cards}</div>{}", list(&text::facts(report, &words)));
    let caveats = text::caveats(report, &words);
    if !caveats.is_empty() {
        let _ = write!(summary, "<h3>{}</h3>{}", t("sw_caveats"), list(&caveats));
    }
    sections.push(("summary", t("summary"), String::new(), summary));
    let rows = [("rows", report.rows(&words))];
    for (id, title, note, kind) in [
        ("front", "sw_front_title", "sw_front_note", "figures wide"),
        ("effects", "sw_effects", "sw_effects_note", "figures"),
        ("cost", "sw_cost", "sw_cost_note", "figures"),
    ] {
        if has(id) {
            sections.push((id, t(title), words.with(note, &rows), figures_of(id, kind)));
        }
    }
    let mut body = table(&text::measures(report, &words), report.sweep.configurations.len(), &words);
    let unfinished = report.unfinished().count();
    if unfinished > 0 {
        let title = words.with("sw_stopped_title", &[("n", unfinished.to_string())]);
        let _ = write!(
            body,
            "<details><summary>{title}</summary><p class=\"note\">{}</p>{}</details>",
            t("sw_stopped_note"),
            table(&text::unfinished(report, &words), unfinished, &words)
        );
    }
    sections.push(("table", t("sw_table"), words.with("sw_table_note", &rows), body));
    if !report.pictures.is_empty() {
        sections.push((
            "side",
            t("sw_side"),
            t("sw_side_note"),
            side(report, &words, &figures_of("side", "figures one")),
        ));
    }
    let method: String = text::method(&words)
        .iter()
        .map(|(name, what)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(what)))
        .collect();
    sections.push(("method", t("sw_method"), String::new(), format!("<dl class=\"method\">{method}</dl>")));

    let (mut nav, mut main) = (String::new(), String::new());
    for (id, title, note, body) in &sections {
        let _ = write!(nav, "<a href=\"#{id}\">{}</a>", escape(&t(&format!("sw_nav_{id}"))));
        let note = if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", escape(note)) };
        let title = escape(title);
        let _ = write!(
            main,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>{note}{body}</section>"
        );
    }
    let language = if report.language == Language::Zh { "zh-CN" } else { "en" };
    // Nothing that the record says may stand for a place that is filled.
    let filling = |text: &str| escape(text).replace("{{", "{&#123;");
    PAGE.replace("{{language}}", language)
        .replace("{{style}}", STYLE)
        .replace("{{own_style}}", OWN_STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{skip}}", &escape(&t("sw_skip")))
        .replace("{{title}}", &filling(&words.with("sw_title", &[("run", report.name.to_owned())])))
        .replace("{{subtitle}}", &filling(&text::subtitle(report, &words)))
        .replace("{{nav}}", &nav)
        .replace("{{main}}", &main)
}

/// The same rows, then the features, by configuration.
fn side(report: &SweepReport, words: &Words, figures: &str) -> String {
    let mut out = String::from(figures);
    let shown = side_by_side(report.sweep);
    let caption = |p: &Pictures| {
        let c = shown.iter().find(|c| c.name == p.configuration)?;
        Some(text::caption(report, c, words).map(|s| escape(&s)))
    };
    if report.originals.is_none() {
        let _ = write!(out, "<h3>{}</h3>", escape(&words.get("sw_side_recons")));
        for p in report.pictures {
            let Some([name, said]) = caption(p) else { continue };
            let _ = write!(
                out,
                "<figure class=\"sheet\"><figcaption><b>{name}</b> {said}</figcaption><div class=\"scroll\" tabindex=\"0\">{}</div></figure>",
                image(&p.strip, &p.configuration)
            );
        }
    }
    let kind = if report.originals.is_none() { "walls sheets" } else { "walls" };
    let _ = write!(
        out,
        "<h3>{}</h3><p class=\"note\">{}</p><div class=\"{kind}\">",
        escape(&words.get("sw_side_walls")),
        escape(&words.get("sw_wall_note"))
    );
    for p in report.pictures {
        let Some([name, said]) = caption(p) else { continue };
        let _ = write!(
            out,
            "<figure>{}<figcaption><b>{name}</b><br>{said}</figcaption></figure>",
            image(&p.wall, &p.configuration)
        );
    }
    out + "</div>"
}

#[cfg(test)]
mod tests;
