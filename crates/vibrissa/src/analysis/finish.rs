//! From the sums of a pass to an analysis: its record and its columns.

mod cited;
mod classes;
mod coactivation;
mod ensemble;
mod images;
mod latents;
mod metadata;
mod order;

pub use metadata::add_metadata;

use super::options::AnalyzeOptions;
use super::pass::{PassSums, RowQuality, SaeSums};
use super::usage::usage;
use crate::data::Dataset;
use crate::data::patches::PatchLayout;
use crate::directions::{UnitDirections, active_directions};
use crate::metrics::mean;
use crate::model::Sae;
use crate::record::analysis::columns::{AnalysisColumns, QualityColumns, SaeColumns};
use crate::record::analysis::{
    ANALYSIS_SCHEMA, Analysis, AnalysisRecord, HistogramsRecord, PatchesRecord, SaeAnalysis, UsageRecord,
};
use crate::record::columns::Array;
use crate::record::{Number, Ordered};
use crate::shape::ImageShape;
use cited::{CitedRows, example_columns, worst_median_best};
use classes::relate_to_classes;
use coactivation::coactivation;
use ensemble::compare_members;
use images::{RowSample, cited_images, map_columns, patched_images, reconstruct, tile_columns};
use latents::{LatentMeasures, histogram};
use order::compare_orders;

/// Latents active in fewer than 1 of so many rows are rare; active in a larger share of the rows, dense.
const RARE: f64 = 1000.0;
const DENSE: f64 = 0.5;

/// Computes the analysis from the sums of a pass. Run, data set, split and times are left empty.
pub fn finish(saes: &[&Sae], data: &Dataset, pass: &PassSums, options: &AnalyzeOptions) -> Analysis {
    // Where rows are patches, `rows` of the sums are images.
    let rows = pass.saes[0].rows.len() * data.rows_per_image();
    let classes = data.classes();
    let measures: Vec<LatentMeasures> = saes
        .iter()
        .zip(&pass.saes)
        .map(|(sae, sums)| LatentMeasures::new(sae, sums, rows as f64, options.weights))
        .collect();
    let directions: Vec<UnitDirections> =
        saes.iter().zip(&measures).map(|(sae, own)| active_directions(sae, &own.count)).collect();
    let mut cited = CitedRows::default();
    let (mut records, mut columns) = (Vec::new(), Vec::new());
    for (s, sums) in pass.saes.iter().enumerate() {
        let own = &measures[s];
        let mut record = sae_record(saes[s], data, sums, own, &directions[s]);
        let related = (classes.len() > 1).then(|| relate_to_classes(sums, &pass.class_rows, own));
        let (class_record, class_columns) = related.unzip();
        let examples = example_columns(sums, own, options.pictured, &mut cited);
        record.classes = class_record;
        record.reconstructions = worst_median_best(&sums.rows, classes.len().max(1), &mut cited);
        records.push(record);
        columns.push(SaeColumns {
            latents: own.columns.clone(),
            histogram: histogram(sums),
            quality: quality(&sums.rows, classes.len().max(1)),
            classes: class_columns,
            examples,
            ..SaeColumns::default()
        });
    }
    let sample = RowSample::new(pass);
    let sampled = sample.cite(&mut cited);
    for (s, (record, columns)) in records.iter_mut().zip(&mut columns).enumerate() {
        let (sae, own) = (saes[s], &measures[s]);
        columns.sample = sample.columns(sae, data);
        if let Some(classes) = &mut record.classes {
            sample.separate(sae, data, classes);
        }
        columns.reconstructions = reconstruct(sae, data, &cited, &mut record.reconstructions);
        (columns.tiles, columns.large_tiles) = tile_columns(sae, data, own, s == 0, options.pictured);
        columns.maps =
            data.patches().map(|p| map_columns(sae, data, p, &cited, (&columns.examples, &own.columns.largest)));
    }
    let mut columns = AnalysisColumns {
        saes: columns,
        sampled,
        cited: cited_images(data, &cited),
        patched: patched_images(data, &cited),
    };
    let ensemble = (saes.len() > 1).then(|| {
        let (record, found) = compare_members(&directions, saes[0].config().latents);
        columns.saes.iter_mut().zip(found).for_each(|(own, found)| own.ensemble = Some(found));
        record
    });
    let record = AnalysisRecord {
        schema: ANALYSIS_SCHEMA.into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        run: String::new(),
        data: String::new(),
        split: String::new(),
        rows: rows as u64,
        classes: Ordered(classes.iter().cloned().zip(pass.class_rows.iter().copied()).collect()),
        images: data.image_shape().map(ImageShape::to_array),
        patches: data.patches().map(patches_record),
        weights: options.weights,
        k: saes[0].config().k,
        saes: records,
        ensemble,
        metadata: Vec::new(),
        cited: cited.records(data),
        histograms: HistogramsRecord::CURRENT,
        columns_hash: String::new(),
        seconds: Number(None),
        rows_per_s: Number(None),
    };
    Analysis { record, columns }
}

/// The figures of one SAE; those about classes, history and reconstructions are left empty.
fn sae_record(
    sae: &Sae,
    data: &Dataset,
    sums: &SaeSums,
    own: &LatentMeasures,
    directions: &UnitDirections,
) -> SaeAnalysis {
    let rows = (sums.rows.len() * data.rows_per_image()) as f64;
    let frequency = &own.columns.frequency;
    let pearson = |class: Option<usize>| {
        let rows = sums.rows.iter().filter(|r| class.is_none_or(|c| r.class as usize == c));
        Number::from(mean(rows.map(|r| f64::from(r.pearson))))
    };
    SaeAnalysis {
        latents: own.count.len() as u64,
        dead: own.count.iter().filter(|&&c| c == 0).count() as u64,
        rare: own.count.iter().filter(|&&c| c > 0 && (c as f64) < rows / RARE).count() as u64,
        dense: frequency.iter().filter(|&&f| f > DENSE).count() as u64,
        l0: mean(sums.rows.iter().map(|r| f64::from(r.l0) / data.rows_per_image() as f64)).into(),
        pearson: pearson(None),
        class_pearson: (0..data.classes().len()).map(|c| pearson(Some(c))).collect(),
        mse: mean(sums.rows.iter().map(|r| r.sse)).map(|sse| sse / data.image_dim() as f64).into(),
        usage: usage_record(&own.columns.delta_sse),
        density: density(frequency),
        order: compare_orders(sae, own, data.shape()),
        pairs: sums.partners.as_ref().map(|p| coactivation(p, own, directions, rows)),
        ..SaeAnalysis::default()
    }
}

fn patches_record(patches: &PatchLayout) -> PatchesRecord {
    let (size, [down, across]) = (patches.grid(), patches.positions());
    PatchesRecord {
        height: size.height,
        width: size.width,
        stride: size.stride,
        tops: (0..down).map(|i| patches.at(i * across)[0]).collect(),
        lefts: (0..across).map(|i| patches.at(i)[1]).collect(),
    }
}

fn usage_record(delta_sse: &[f64]) -> UsageRecord {
    let u = usage(delta_sse);
    UsageRecord {
        curve: u.curve,
        gini: u.gini.into(),
        carry_80: u.carry_80.into(),
        negative: u.negative as u64,
        tail: u.tail.into(),
        tail_r2: u.tail_r2.into(),
    }
}

/// Rows of each class by their Pearson r.
fn quality(rows: &[RowQuality], classes: usize) -> QualityColumns {
    let bins = HistogramsRecord::CURRENT.pearson;
    let mut counts = vec![0u32; classes * bins.bins];
    for r in rows {
        counts[r.class as usize * bins.bins + bins.bin(f64::from(r.pearson))] += 1;
    }
    QualityColumns { pearson_histogram: Array::new(&[classes, bins.bins], counts) }
}

/// Latents by log10 of their frequency, those that are never active left out: lower edge and latents of each bin.
fn density(frequency: &[f64]) -> Vec<(f64, u64)> {
    let bins = HistogramsRecord::CURRENT.log10_frequency;
    let mut counts = vec![0u64; bins.bins];
    frequency.iter().filter(|&&f| f > 0.0).for_each(|f| counts[bins.bin(f.log10())] += 1);
    bins.edges().into_iter().zip(counts).collect()
}
