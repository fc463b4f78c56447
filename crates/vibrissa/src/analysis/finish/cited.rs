//! Rows that an analysis refers to: examples of latents and reconstructions.

use super::super::pass::{RowQuality, SaeSums};
use super::super::sums::{EXAMPLES, Example, ExampleRows, LatentSums};
use super::LatentMeasures;
use crate::data::Dataset;
use crate::record::analysis::columns::{ExampleColumns, NO_ROW};
use crate::record::analysis::{CitedRow, ReconstructionRecord};
use crate::record::columns::Array;
use std::collections::BTreeMap;

/// Classes of which rows are shown.
pub(super) const SHOWN_CLASSES: usize = 20;

/// Cited rows in the order of their first mention.
#[derive(Default)]
pub(super) struct CitedRows {
    /// Their numbers in the data set.
    pub rows: Vec<u64>,
    place: BTreeMap<u64, u32>,
}

impl CitedRows {
    /// The place of a row, which is added if it is new.
    pub fn cite(&mut self, row: u64) -> u32 {
        let next = self.rows.len() as u32;
        *self.place.entry(row).or_insert_with(|| {
            self.rows.push(row);
            next
        })
    }

    /// The rows as a record has them.
    pub fn records(&self, data: &Dataset) -> Vec<CitedRow> {
        let record = |&row: &u64| {
            let number = row as usize;
            let place = data.patches().map(|p| p.at(number % p.patches_per_image()));
            CitedRow { row, name: data.name(data.original(number)), class: data.label(number), place }
        };
        self.rows.iter().map(record).collect()
    }
}

/// Example rows of the first `most` latents by score.
pub(super) fn example_columns(
    sums: &SaeSums,
    measures: &LatentMeasures,
    most: usize,
    cited: &mut CitedRows,
) -> ExampleColumns {
    let latents: Vec<usize> = measures.used().take(most).collect();
    let shape = [latents.len(), EXAMPLES];
    let mut rows_of = |kind: fn(&LatentSums) -> &ExampleRows| {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for &h in &latents {
            let examples: Vec<Example> = kind(&sums.by_image()[h]).rows().collect();
            for e in 0..EXAMPLES {
                rows.push(examples.get(e).map_or(NO_ROW, |e| cited.cite(e.row)));
                values.push(examples.get(e).map_or(f64::NAN, |e| f64::from(e.value)));
            }
        }
        (Array::new(&shape, rows), Array::new(&shape, values))
    };
    let (top_row, top_value) = rows_of(|l| &l.top);
    let (random_row, random_value) = rows_of(|l| &l.random);
    let (near_row, near_value) = rows_of(|l| &l.near);
    let latent = Array::vector(latents.iter().map(|&h| h as u32).collect());
    ExampleColumns { latent, top_row, top_value, random_row, random_value, near_row, near_value }
}

/// The rows with the worst, median and best reconstruction of each class; active latents are left out.
pub(super) fn worst_median_best(
    rows: &[RowQuality],
    classes: usize,
    cited: &mut CitedRows,
) -> Vec<ReconstructionRecord> {
    let mut out = Vec::new();
    for c in 0..classes.min(SHOWN_CLASSES) {
        let mut own: Vec<&RowQuality> = rows.iter().filter(|r| r.class as usize == c).collect();
        own.sort_by(|a, b| a.pearson.total_cmp(&b.pearson).then(a.row.cmp(&b.row)));
        let Some(last) = own.len().checked_sub(1) else { continue };
        let mut seen = Vec::new();
        for (name, at) in [("worst", 0), ("median", last / 2), ("best", last)] {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            out.push(ReconstructionRecord {
                cited: u64::from(cited.cite(own[at].row)),
                rank: name.into(),
                pearson: f64::from(own[at].pearson).into(),
                active: Vec::new(),
            });
        }
    }
    out
}
