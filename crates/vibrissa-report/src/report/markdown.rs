//! The report of a run as Markdown, and the parts of Markdown that both kinds of reports share.

use super::Context;
use super::figures::Figure;
use super::sections::SECTIONS;
use super::summary::subtitle;
use std::fmt::Write;

/// A table; its first column is aligned left, all others right.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let alignment: Vec<&str> = (0..head.len()).map(|i| if i == 0 { "---" } else { "---:" }).collect();
    let body: String = rows.iter().map(|r| line(r)).collect();
    format!("{}| {} |\n{body}\n", line(head), alignment.join(" | "))
}

/// A list of sentences.
pub(super) fn bullet_list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {item}\n")).collect()
}

/// A list of values and their names.
pub(super) fn card_list(cards: &[[String; 2]]) -> String {
    cards.iter().map(|[value, name]| format!("- **{value}** {name}\n")).collect()
}

/// The figures of a section, each with its note.
pub(super) fn figures_of(section: &str, figures: &[Figure]) -> String {
    let mut out = String::new();
    for f in figures.iter().filter(|f| f.section == section) {
        let _ = writeln!(out, "![{}]({}.png)\n", f.title, f.name);
        if !f.note.is_empty() {
            let _ = writeln!(out, "{}\n", f.note);
        }
    }
    out
}

/// A section with its note; nothing if its body is empty.
pub(super) fn section_text(title: &str, note: &str, body: &str) -> String {
    match (body.is_empty(), note.is_empty()) {
        (true, _) => String::new(),
        (_, true) => format!("\n## {title}\n\n{}\n", body.trim_end()),
        _ => format!("\n## {title}\n\n{note}\n\n{}\n", body.trim_end()),
    }
}

/// The whole report; `figures` are PNG files beside it.
pub(super) fn markdown(context: &Context, figures: &[Figure]) -> String {
    let title = context.with("title", &[("run", context.report.analysis.run.clone())]);
    let mut out = format!("# {title}\n\n{}\n", subtitle(context));
    for s in &SECTIONS {
        let body = figures_of(s.id, figures) + &(s.markdown)(context);
        let note = context.words.find(&format!("note_{}", s.id)).unwrap_or_default();
        out += &section_text(&context.t(&format!("section_{}", s.id)), note, &body);
    }
    out
}
