//! Reports: records in; one HTML page, Markdown and figures out. A report computes no figure, at most bins those of the
//! record for a histogram.
//!
//! The sections of the report of a run, in their order, are the list [`sections::SECTIONS`]; those of the report of a
//! sweep are [`sweep::sections::SECTIONS`]. Words in all languages are in `report/words.json` and
//! `report/sweep/words.json`. [`write`] reads the records of a folder and writes its report.

pub mod figures;
mod files;
mod markdown;
mod method;
mod page;
mod sections;
mod summary;
pub mod sweep;
mod tables;
pub mod words;

pub use files::{ReportOptions, WrittenReport, figures_folder, figures_in, write};

use crate::plot::svg::Target;
use figures::Figure;
use sections::SECTIONS;
use vibrissa_record::analysis::columns::AnalysisColumns;
use vibrissa_record::analysis::{AnalysisRecord, PruneRecord};
use vibrissa_record::{EvalRecord, MetricsLine};
use words::Words;

/// Language of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, the default.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Language {
    /// The language of a code, `en` or `zh`.
    pub fn from_code(code: &str) -> Option<Language> {
        [Language::En, Language::Zh].into_iter().find(|l| l.code() == code)
    }

    /// Its code: `en` or `zh`.
    pub fn code(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Zh => "zh",
        }
    }

    /// Its value of the HTML attribute `lang`.
    fn html_code(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::Zh => "zh-CN",
        }
    }
}

/// The records that the report of a run shows.
#[derive(Clone, Copy, Debug)]
pub struct RunReport<'a> {
    /// Record of `vibrissa analyze`.
    pub analysis: &'a AnalysisRecord,
    /// Columns beside that record.
    pub columns: &'a AnalysisColumns,
    /// Record of `vibrissa eval`, if there is one.
    pub eval: Option<&'a EvalRecord>,
    /// Log of the training; empty if there is none.
    pub metrics: &'a [MetricsLine],
    /// Records of `vibrissa prune`, one per measure.
    pub pruning: &'a [PruneRecord],
    /// Language of all words.
    pub language: Language,
}

/// A report with the words of its language.
struct Context<'a> {
    report: &'a RunReport<'a>,
    words: &'a Words,
}

impl Context<'_> {
    /// The word or sentence of a key.
    fn t(&self, key: &str) -> String {
        self.words.get(key)
    }

    /// A sentence with `{name}` replaced by values.
    fn with(&self, key: &str, values: &[(&str, String)]) -> String {
        self.words.with(key, values)
    }

    /// Names of the classes, in the order of the record.
    fn class_names(&self) -> Vec<String> {
        self.report.analysis.classes.0.iter().map(|c| c.0.clone()).collect()
    }

    /// Name of an SAE.
    fn sae_name(&self, sae: usize) -> String {
        format!("{} {sae}", self.t("sae"))
    }

    /// Names of all SAEs.
    fn sae_names(&self) -> Vec<String> {
        (0..self.report.analysis.saes.len()).map(|s| self.sae_name(s)).collect()
    }

    /// Latents of SAE 0 by rank.
    fn by_rank(&self) -> Vec<usize> {
        let rank = &self.report.columns.saes[0].latents.rank;
        let mut order: Vec<usize> = (0..rank.len()).collect();
        order.sort_by_key(|&h| rank[h]);
        order
    }
}

/// Draws the figures of a report in the order of its sections; leaves out those without data.
///
/// Images of features and reconstructions are figures of a file only; a page shows them in its own way.
pub fn figures(report: &RunReport, target: Target) -> Vec<Figure> {
    let context = Context { report, words: &Words::of(report.language) };
    SECTIONS.iter().flat_map(|section| (section.figures)(&context, target)).collect()
}

/// Returns the page of a report: one HTML file that needs no network.
pub fn html(report: &RunReport) -> String {
    page::html(&Context { report, words: &Words::of(report.language) })
}

/// Returns a report as Markdown; `figures` are referred to as PNG files beside it.
pub fn markdown(report: &RunReport, figures: &[Figure]) -> String {
    markdown::markdown(&Context { report, words: &Words::of(report.language) }, figures)
}

#[cfg(test)]
mod tests;
