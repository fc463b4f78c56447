//! `sweep.csv`: a line for each cell.

use crate::record::Scores;
use crate::record::sweep::{CellRecord, SweepRecord};

/// Name of a column, and its value for a cell.
type Measure = (&'static str, fn(&CellRecord, &Scores) -> Option<f64>);

/// Measures of a cell, with their columns.
const MEASURES: [Measure; 16] = [
    ("seconds", |c, _| c.seconds),
    ("validation_fvu", |c, _| c.validation_fvu),
    ("l0", |_, s| s.l0),
    ("l0_train", |_, s| s.l0_train),
    ("pearson", |_, s| s.reconstruction.pearson),
    ("mse", |_, s| s.reconstruction.mse),
    ("fvu", |_, s| s.reconstruction.fvu),
    ("cosine", |_, s| s.reconstruction.cosine),
    ("ssim", |_, s| s.reconstruction.ssim),
    ("psnr", |_, s| s.reconstruction.psnr),
    ("perceptual", |_, s| s.reconstruction.perceptual),
    ("cross_entropy", |_, s| s.reconstruction.cross_entropy),
    ("dead_latents", |_, s| s.dead_latents.map(|v| v as f64)),
    ("rare_latents", |_, s| s.rare_latents.map(|v| v as f64)),
    ("mcc", |c, _| c.recovery.as_ref().and_then(|r| r.mcc)),
    ("f1", |c, _| c.recovery.as_ref().and_then(|r| r.f1)),
];

/// Returns the cells as CSV. Undefined values are empty.
pub(super) fn csv(record: &SweepRecord) -> String {
    // Every cell has these columns, whether or not the grid varies them.
    let first = ["name", "configuration", "activation", "latents", "k"];
    let keys: Vec<&String> = record.keys.iter().filter(|key| !first[2..].contains(&key.as_str())).collect();
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: Vec<String>| out.write_record(&fields).expect("memory");
    let head = first.into_iter().chain(keys.iter().map(|k| k.as_str())).chain(["ended", "step", "steps"]);
    write(head.chain(MEASURES.map(|m| m.0)).chain(["error"]).map(str::to_owned).collect());
    let none = Scores::default();
    for c in &record.cells {
        let scores = c.scores.as_ref().unwrap_or(&none);
        let number = |v: Option<f64>| v.filter(|v| v.is_finite()).map_or(String::new(), |v| v.to_string());
        let mut fields = vec![c.name.clone(), c.configuration.clone(), c.activation.clone()];
        fields.extend([c.latents.to_string(), c.k.to_string()]);
        fields.extend(keys.iter().map(|key| c.values.get(key).cloned().unwrap_or_default()));
        fields.extend([c.ended.name().to_owned(), c.step.to_string(), c.steps.to_string()]);
        fields.extend(MEASURES.iter().map(|m| number((m.1)(c, scores))));
        fields.push(c.error.clone().unwrap_or_default());
        write(fields);
    }
    String::from_utf8(out.into_inner().expect("memory")).expect("text of text")
}
