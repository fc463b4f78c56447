//! The report of a sweep: its record in; one HTML page, Markdown and figures out. It computes no figure. The page is
//! complete without JavaScript, which only sorts its tables.

mod figures;
mod page;
mod sections;
mod summary;
mod tables;

use super::Language;
use super::figures::Figure;
use super::markdown::{figures_of, section_text};
use super::words::Words;
use crate::plot::svg::Target;
use sections::SECTIONS;
use vibrissa_record::sweep::{Apart, CellRecord, ConfigurationRecord, Ended, SweepRecord};

/// Name of the reconstructions of some rows, an image in the folder of a cell.
pub const RECONSTRUCTIONS_FILE: &str = "strip.png";
/// Name of the most frequent features, an image in the folder of a cell.
pub const FEATURES_FILE: &str = "wall.png";
/// Name of the rows that the cells reconstruct, an image in the folder of a sweep.
pub const ORIGINALS_FILE: &str = "originals.png";

/// Images of one configuration, PNG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationImages {
    /// See [`ConfigurationRecord::name`].
    pub configuration: String,
    /// Its reconstructions of some rows.
    pub reconstructions: Vec<u8>,
    /// Its most frequent features.
    pub features: Vec<u8>,
}

/// The record and the images that the report of a sweep shows.
#[derive(Clone, Copy, Debug)]
pub struct SweepReport<'a> {
    /// Record of `vibrissa sweep`.
    pub sweep: &'a SweepRecord,
    /// Name of the sweep.
    pub name: &'a str,
    /// The rows that `images` reconstruct, PNG; `None` where rows are not images and the reconstructions show them too.
    pub originals: Option<&'a [u8]>,
    /// Images of the configurations of [`side_by_side`].
    pub images: &'a [ConfigurationImages],
    /// Language of all words.
    pub language: Language,
}

/// The report of a sweep with the words of its language.
struct Context<'a> {
    report: &'a SweepReport<'a>,
    words: &'a Words,
}

/// Largest number of configurations that are shown side by side.
const MAX_SIDE_BY_SIDE: usize = 8;

/// Chooses the configurations to show side by side, in order of L0: the best, the knee, and configurations of the front
/// whose L0 differ by at least 15 %.
pub fn side_by_side(sweep: &SweepRecord) -> Vec<&ConfigurationRecord> {
    const SMALLEST_RATIO: f64 = 1.15;
    let log_l0 = |c: &ConfigurationRecord| c.l0.get().filter(|l| *l > 0.0).map_or(f64::NEG_INFINITY, f64::ln);
    let mut out: Vec<&ConfigurationRecord> = sweep.configurations.iter().filter(|c| sweep.is_named(c)).collect();
    let front: Vec<&ConfigurationRecord> =
        sweep.configurations.iter().filter(|c| c.front && c.l0.get().is_some()).collect();
    // The ends of the front first, then always the configuration furthest from all chosen ones.
    while out.len() < MAX_SIDE_BY_SIDE {
        let distance =
            |c: &&ConfigurationRecord| out.iter().map(|o| (log_l0(o) - log_l0(c)).abs()).fold(f64::INFINITY, f64::min);
        let Some(next) = front.iter().copied().max_by(|a, b| distance(a).total_cmp(&distance(b))) else { break };
        if distance(&next) < SMALLEST_RATIO.ln() {
            break;
        }
        out.push(next);
    }
    out.sort_by(|a, b| log_l0(a).total_cmp(&log_l0(b)));
    out
}

impl Context<'_> {
    /// The word or sentence of a key.
    fn t(&self, key: &str) -> String {
        self.words.get(key)
    }

    /// A sentence with `{name}` replaced by values; `{rows}` is [`Context::rows`] unless `values` hold it.
    fn with(&self, key: &str, values: &[(&str, String)]) -> String {
        self.words.with(key, values).replace("{rows}", &self.rows())
    }

    /// Name of the rows that the scores are of: test rows, or validation rows if there are no test rows.
    fn rows(&self) -> String {
        self.t(if self.report.sweep.test_rows > 0 { "sw_rows_test" } else { "sw_rows_validation" })
    }

    /// Options with several values, and these values, in the order of the grid.
    fn varied(&self) -> Vec<(&str, Vec<&str>)> {
        let values = |key: &String| {
            let mut all: Vec<&str> = Vec::new();
            for value in self.report.sweep.cells.iter().filter_map(|c| c.values.get(key)) {
                if !all.contains(&value.as_str()) {
                    all.push(value);
                }
            }
            all
        };
        self.report.sweep.keys.iter().map(|k| (k.as_str(), values(k))).filter(|v| v.1.len() > 1).collect()
    }

    fn configuration(&self, name: &Option<String>) -> Option<&ConfigurationRecord> {
        self.report.sweep.configurations.iter().find(|c| Some(&c.name) == name.as_ref())
    }

    /// Cells that were stopped early or failed.
    fn unfinished(&self) -> impl Iterator<Item = &CellRecord> {
        self.report.sweep.cells.iter().filter(|c| c.ended != Ended::Finished)
    }

    /// The mark of a configuration: best, knee, the reason why it is excluded from comparison, or front; may be empty.
    fn mark(&self, c: &ConfigurationRecord) -> String {
        match (self.report.sweep.best_and_knee(c), c.apart) {
            ((true, true), _) => self.t("sw_best_knee"),
            ((true, false), _) => self.t("sw_best_word"),
            ((false, true), _) => self.t("sw_knee_word"),
            (_, Some(Apart::Dense)) => self.t("sw_dense_word"),
            (_, Some(Apart::NoBetter)) => self.t("sw_no_better_word"),
            _ if c.front => self.t("sw_front_word"),
            _ => String::new(),
        }
    }

    /// Title and note of a section.
    fn heading(&self, section: &str) -> [String; 2] {
        [self.t(&format!("sw_section_{section}")), self.optional(&format!("sw_note_{section}"))]
    }

    /// Instructions for a section of the page; may be empty.
    fn hint(&self, section: &str) -> String {
        self.optional(&format!("sw_hint_{section}"))
    }

    /// The text of a key; empty if there is none.
    fn optional(&self, key: &str) -> String {
        if self.words.find(key).is_some() { self.with(key, &[]) } else { String::new() }
    }
}

/// Draws the figures of a report in the order of its sections; leaves out those without data. The features of
/// configurations are a figure of a file only; the page shows them in its own way.
pub fn figures(report: &SweepReport, target: Target) -> Vec<Figure> {
    let context = Context { report, words: &Words::of(report.language) };
    SECTIONS.iter().flat_map(|section| (section.figures)(&context, target)).collect()
}

/// Returns the page of a report: one HTML file that needs no network.
pub fn html(report: &SweepReport) -> String {
    page::html(&Context { report, words: &Words::of(report.language) })
}

/// Returns a report as Markdown; `figures` are referred to as PNG files beside it.
pub fn markdown(report: &SweepReport, figures: &[Figure]) -> String {
    let context = Context { report, words: &Words::of(report.language) };
    let title = context.with("sw_title", &[("run", report.name.to_owned())]);
    let mut out = format!("# {title}\n\n{}\n", summary::subtitle(&context));
    for section in &SECTIONS {
        let body = figures_of(section.id, figures) + &(section.markdown)(&context);
        let [title, note] = context.heading(section.id);
        out += &section_text(&title, &note, &body);
    }
    out
}

/// The sections of a report, in order.
#[cfg(test)]
pub(super) fn section_ids() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|section| section.id)
}

#[cfg(test)]
mod tests;
