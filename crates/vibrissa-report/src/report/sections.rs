//! The sections of the report of a run.

use super::figures::{Figure, activations, classes, contributions, distributions, ensemble, images, pruning, training};
use super::{Context, method, summary, tables};
use crate::plot::svg::Target;

/// A section of the report of a run.
pub struct Section {
    /// Its anchor in the page, and its name in words.json: `section_ID` is its title, `note_ID` explains it, and
    /// `hint_ID` says what can be done with it in the page. `report/page/sections.js` holds a function of this name,
    /// which returns the content of the section in the page.
    pub id: &'static str,
    /// Draws its figures.
    pub figures: fn(&Context, Target) -> Vec<Figure>,
    /// Returns its content in Markdown, besides its note and figures; empty if there is none.
    pub markdown: fn(&Context) -> String,
}

/// The sections of a report in the order in which a reader sees them, in the page as in Markdown. A section without
/// content is left out.
pub const SECTIONS: [Section; 13] = [
    Section { id: "summary", figures: no_figures, markdown: summary::markdown },
    Section { id: "reconstructions", figures: images::reconstructions, markdown: no_markdown },
    Section { id: "features", figures: images::features, markdown: tables::top_features },
    Section { id: "distributions", figures: distributions::figures, markdown: no_markdown },
    Section { id: "contributions", figures: contributions::figures, markdown: no_markdown },
    Section { id: "classes", figures: classes::figures, markdown: no_markdown },
    Section { id: "activations", figures: activations::figures, markdown: no_markdown },
    Section { id: "coactivation", figures: no_figures, markdown: tables::coactivation },
    Section { id: "metadata", figures: no_figures, markdown: tables::metadata },
    Section { id: "ensemble", figures: ensemble::figures, markdown: tables::ensemble },
    Section { id: "pruning", figures: pruning::figures, markdown: no_markdown },
    Section { id: "training", figures: training::figures, markdown: no_markdown },
    Section { id: "method", figures: no_figures, markdown: method::markdown },
];

fn no_figures(_: &Context, _: Target) -> Vec<Figure> {
    Vec::new()
}

fn no_markdown(_: &Context) -> String {
    String::new()
}
