//! Latents against the columns of a metadata table.

use super::super::metadata::{Activations, MetadataRelation, class_association, relate};
use crate::data::Dataset;
use crate::data::metadata::{MetadataTable, MetadataValues};
use crate::model::Sae;
use crate::record::Number;
use crate::record::analysis::columns::MetadataColumns;
use crate::record::analysis::{Analysis, MetadataAssociation, MetadataRecord};
use crate::record::columns::Array;

/// q below which a latent counts as related to a column, and most latents that are named.
const SIGNIFICANT: f64 = 0.05;
const NAMED: usize = 10;

/// Adds the relation of the latents of every SAE to the columns of a table. `rows` are those the table was matched
/// with.
pub fn add_metadata(analysis: &mut Analysis, saes: &[&Sae], data: &Dataset, rows: &[usize], table: &MetadataTable) {
    let rows = &data.first_rows(rows)[..];
    let class: Vec<Option<u16>> = rows.iter().map(|&r| data.label(r)).collect();
    let mut records: Vec<MetadataRecord> = table
        .columns
        .iter()
        .map(|column| {
            let (kind, levels, left_out) = match &column.values {
                MetadataValues::Numbers(_) => ("number", Vec::new(), String::new()),
                MetadataValues::Levels(names, _) => ("levels", names.clone(), String::new()),
                MetadataValues::Unusable(why) => ("", Vec::new(), why.clone()),
            };
            MetadataRecord {
                column: column.name.clone(),
                kind: kind.into(),
                levels,
                left_out,
                with_classes: match data.classes().len() {
                    0 | 1 => Number(None),
                    classes => class_association(&column.values, &class, classes).into(),
                },
                ..MetadataRecord::default()
            }
        })
        .collect();
    for (sae, out) in saes.iter().zip(&mut analysis.columns.saes) {
        let latents = Activations::new(sae, data, rows);
        for (column, record) in table.columns.iter().zip(&mut records) {
            out.metadata.push(relate(&latents, &column.values).map(|found| {
                record.rows = found.rows as u64;
                record.saes.push(strongest(&found));
                MetadataColumns {
                    effect: Array::vector(found.effect),
                    p: Array::vector(found.p),
                    q: Array::vector(found.q),
                }
            }));
        }
    }
    analysis.record.metadata = records;
}

/// The related latents with the largest |effect|.
fn strongest(found: &MetadataRelation) -> MetadataAssociation {
    let mut top: Vec<usize> = (0..found.q.len()).filter(|&h| found.q[h] < SIGNIFICANT).collect();
    let significant = top.len() as u64;
    top.sort_by(|&a, &b| found.effect[b].abs().total_cmp(&found.effect[a].abs()).then(a.cmp(&b)));
    let top = top.iter().take(NAMED).map(|&h| (h as u64, found.effect[h], found.q[h])).collect();
    MetadataAssociation { significant, top }
}
