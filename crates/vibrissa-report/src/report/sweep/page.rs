//! The page of the report of a sweep: HTML of its sections.

use super::tables::{TableColumn, measures, unfinished};
use super::{ConfigurationImages, Context, SECTIONS, figures, summary as words};
use crate::plot::svg::{Target, escape};
use crate::report::Language;
use crate::report::figures::Figure;
use crate::report::page::STYLE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

const PAGE: &str = include_str!("page/page.html");
/// Style beside that of the pages of runs.
const SWEEP_STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page of a report.
pub(super) fn html(context: &Context) -> String {
    let drawn = figures(context.report, Target::Page);
    let (mut nav, mut main) = (String::new(), String::new());
    for section in &SECTIONS {
        let body = (section.html)(context, &drawn);
        if body.is_empty() {
            continue;
        }
        let id = section.id;
        let ([title, note], hint) = (context.heading(id), context.hint(id));
        let title = escape(&title);
        let note = match context.report.language {
            Language::En => format!("{note} {hint}"),
            Language::Zh => note + &hint,
        };
        let note = match note.trim() {
            "" => String::new(),
            note => format!("<p class=\"note\">{}</p>", escape(note)),
        };
        let _ = write!(nav, "<a href=\"#{id}\">{title}</a>");
        let _ = write!(
            main,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>{note}{body}</section>"
        );
    }
    // A name in the record must not be taken for a placeholder of the template.
    let fill = |text: &str| escape(text).replace("{{", "{&#123;");
    PAGE.replace("{{language}}", context.report.language.html_code())
        .replace("{{style}}", STYLE)
        .replace("{{sweep_style}}", SWEEP_STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{skip}}", &escape(&context.t("sw_skip")))
        .replace("{{sections}}", &escape(&context.t("sections")))
        .replace("{{title}}", &fill(&context.with("sw_title", &[("run", context.report.name.to_owned())])))
        .replace("{{subtitle}}", &fill(&words::subtitle(context)))
        .replace("{{nav}}", &nav)
        .replace("{{main}}", &main)
}

/// The most important values, findings and caveats.
pub(super) fn summary(context: &Context, _: &[Figure]) -> String {
    let card = |[value, name]: &[String; 2]| {
        format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", escape(value), escape(name))
    };
    let list = |sentences: &[String]| {
        let items: String = sentences.iter().map(|s| format!("<li>{}</li>", escape(s))).collect();
        format!("<ul class=\"facts\">{items}</ul>")
    };
    let cards: String = words::cards(context).iter().map(card).collect();
    let mut out = format!("<div class=\"cards\">{cards}</div>{}", list(&words::facts(context)));
    let caveats = words::caveats(context);
    if !caveats.is_empty() {
        let _ = write!(out, "<h3>{}</h3>{}", escape(&context.t("sw_caveats")), list(&caveats));
    }
    out
}

/// The Pareto front.
pub(super) fn front(_: &Context, figures: &[Figure]) -> String {
    figures_of("front", "figures wide", figures)
}

/// The effect of each option.
pub(super) fn effects(_: &Context, figures: &[Figure]) -> String {
    figures_of("effects", "figures", figures)
}

/// Dead latents and time.
pub(super) fn cost(_: &Context, figures: &[Figure]) -> String {
    figures_of("cost", "figures", figures)
}

/// All measures of all configurations, and the cells that did not finish.
pub(super) fn table_of_measures(context: &Context, _: &[Figure]) -> String {
    let mut out = table(context, &measures(context), context.report.sweep.configurations.len());
    let n = context.unfinished().count();
    if n > 0 {
        let title = context.with("sw_stopped_title", &[("n", n.to_string())]);
        let _ = write!(
            out,
            "<details><summary>{}</summary><p class=\"note\">{}</p>{}</details>",
            escape(&title),
            escape(&context.t("sw_note_stopped")),
            table(context, &unfinished(context), n)
        );
    }
    out
}

/// Reconstructions of the same rows, then the most frequent features, by configuration.
pub(super) fn side_by_side(context: &Context, figures: &[Figure]) -> String {
    let report = context.report;
    if report.images.is_empty() {
        return String::new();
    }
    let mut out = figures_of("side", "figures one", figures);
    let shown = super::side_by_side(report.sweep);
    let captioned: Vec<(&ConfigurationImages, [String; 2])> = report
        .images
        .iter()
        .filter_map(|images| {
            let c = shown.iter().find(|c| c.name == images.configuration)?;
            Some((images, words::caption(context, c).map(|text| escape(&text))))
        })
        .collect();
    let rows_are_images = report.originals.is_some();
    if !rows_are_images {
        let _ = write!(out, "<h3>{}</h3>", escape(&context.t("sw_side_recons")));
        for (images, [name, scores]) in &captioned {
            let _ = write!(
                out,
                "<figure class=\"sheet\"><figcaption><b>{name}</b> {scores}</figcaption><div class=\"scroll\" tabindex=\"0\">{}</div></figure>",
                image(&images.reconstructions, &images.configuration)
            );
        }
    }
    let _ = write!(
        out,
        "<h3>{}</h3><p class=\"note\">{}</p><div class=\"{}\">",
        escape(&context.t("sw_side_walls")),
        escape(&context.t("sw_note_walls")),
        if rows_are_images { "walls" } else { "walls sheets" }
    );
    for (images, [name, scores]) in &captioned {
        let _ = write!(
            out,
            "<figure>{}<figcaption><b>{name}</b><br>{scores}</figcaption></figure>",
            image(&images.features, &images.configuration)
        );
    }
    out + "</div>"
}

/// Definitions of measures and terms.
pub(super) fn method(context: &Context, _: &[Figure]) -> String {
    let definition = |[name, text]: &[String; 2]| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(text));
    let all: String = words::method(context).iter().map(definition).collect();
    format!("<dl class=\"method\">{all}</dl>")
}

/// The figures of a section; empty if it has none.
fn figures_of(section: &str, kind: &str, figures: &[Figure]) -> String {
    let figure = |f: &Figure| {
        let note =
            if f.note.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(&f.note)) };
        format!("<figure id=\"figure-{}\"><div class=\"svg\">{}</div>{note}</figure>", escape(&f.name), f.svg)
    };
    let all: String = figures.iter().filter(|f| f.section == section).map(figure).collect();
    if all.is_empty() { all } else { format!("<div class=\"{kind}\">{all}</div>") }
}

fn image(png: &[u8], label: &str) -> String {
    format!("<img src=\"data:image/png;base64,{}\" alt=\"{}\">", STANDARD.encode(png), escape(label))
}

/// A table that the script sorts by its columns.
fn table(context: &Context, columns: &[TableColumn], rows: usize) -> String {
    let mut out = String::from("<div class=\"scroll\" tabindex=\"0\"><table class=\"sortable\"><thead><tr>");
    for c in columns {
        let (name, hint) = (escape(&c.name), escape(&context.with("sw_sort", &[("what", c.name.clone())])));
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
