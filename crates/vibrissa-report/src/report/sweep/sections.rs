//! The sections of the report of a sweep.

use super::{Context, figures, page, summary, tables};
use crate::plot::svg::Target;
use crate::report::figures::Figure;

/// A section of the report of a sweep.
pub struct Section {
    /// Its anchor in the page, and its name in words.json: `sw_section_ID` is its title, `sw_note_ID` explains it, and
    /// `sw_hint_ID` says what can be done with it in the page.
    pub id: &'static str,
    /// Draws its figures.
    pub figures: fn(&Context, Target) -> Vec<Figure>,
    /// Returns its content in HTML from the figures of the page; empty if there is none.
    pub html: fn(&Context, &[Figure]) -> String,
    /// Returns its content in Markdown, besides its note and figures; empty if there is none.
    pub markdown: fn(&Context) -> String,
}

/// The sections of a report in the order in which a reader sees them, in the page as in Markdown. A section without
/// content is left out.
pub const SECTIONS: [Section; 7] = [
    Section { id: "summary", figures: no_figures, html: page::summary, markdown: summary::markdown },
    Section { id: "front", figures: figures::front, html: page::front, markdown: no_markdown },
    Section { id: "effects", figures: figures::effects, html: page::effects, markdown: no_markdown },
    Section { id: "cost", figures: figures::cost, html: page::cost, markdown: no_markdown },
    Section { id: "table", figures: no_figures, html: page::table_of_measures, markdown: tables::markdown },
    Section { id: "side", figures: figures::side_by_side, html: page::side_by_side, markdown: no_markdown },
    Section { id: "method", figures: no_figures, html: page::method, markdown: summary::method_markdown },
];

fn no_figures(_: &Context, _: Target) -> Vec<Figure> {
    Vec::new()
}

fn no_markdown(_: &Context) -> String {
    String::new()
}
