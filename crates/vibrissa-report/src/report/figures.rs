//! The figures of a report, drawn once for the page and for the files beside it: a file per section, in which a
//! function returns the figures of the section.

pub(super) mod activations;
pub(super) mod classes;
pub(super) mod contributions;
pub(super) mod distributions;
pub(super) mod ensemble;
pub(super) mod images;
pub(super) mod pruning;
pub(super) mod training;

use super::Context;
use super::words::capital;
use crate::plot::chart::{Chart, Mark};
use crate::plot::svg::{Colour, LegendEntry, Target};
use vibrissa_record::analysis::columns::Measure;

/// A figure of a section.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of its file, without extension.
    pub name: String,
    /// Section that it belongs to.
    pub section: &'static str,
    /// Title; the drawing shows it too.
    pub title: String,
    /// Explanation; may be empty.
    pub note: String,
    /// The drawing.
    pub svg: String,
}

/// Largest number of entries in a legend, and of series that have colours of their own.
const LEGEND: usize = 10;

/// A chart as a figure; nothing if the chart is empty.
fn chart_figure(section: &'static str, name: &str, chart: &Chart, note: String, target: Target) -> Option<Figure> {
    if chart.is_empty() {
        return None;
    }
    let svg = chart.svg(target);
    Some(Figure { name: name.to_owned(), section, title: chart.title.clone(), note, svg })
}

/// A solid line in the colour of a series.
fn line(series: usize, points: Vec<[f64; 2]>) -> Mark {
    Mark::Line { points, colour: Colour::Series(series), dashed: false }
}

/// The legend of several series.
fn legend(names: &[String]) -> Vec<LegendEntry> {
    names.iter().take(LEGEND).enumerate().map(|(i, n)| (n.clone(), Colour::Series(i))).collect()
}

/// The title of a figure.
fn title(context: &Context, key: &str) -> String {
    capital(&context.t(key))
}

/// Values of a measure for the latents of an SAE that are not dead.
fn values_of_active(context: &Context, sae: usize, measure: Measure) -> Vec<f64> {
    let latents = &context.report.columns.saes[sae].latents;
    measure.values(latents).iter().zip(latents.count.iter()).filter(|v| *v.1 > 0).map(|v| *v.0).collect()
}
