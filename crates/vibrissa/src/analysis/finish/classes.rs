//! Latents against the classes: figures by latent and class, and the latents that stand out.

use super::super::classes::{ClassRelevance, benjamini_hochberg, class_relevance};
use super::super::pass::SaeSums;
use super::LatentMeasures;
use crate::record::analysis::ClassesRecord;
use crate::record::analysis::columns::ClassColumns;
use crate::record::columns::Array;
use rayon::prelude::*;

/// q below which a latent counts as related to the classes.
const SIGNIFICANT: f64 = 0.05;
/// AUC from which a latent counts as selective for a class, and most latents that are named for a class.
const SELECTIVE_AUC: f64 = 0.7;
const NAMED: usize = 10;

/// Relates the latents to the classes; `class_rows` are the rows of each class. Separation is left undefined.
pub(super) fn relate_to_classes(
    sums: &SaeSums,
    class_rows: &[u64],
    measures: &LatentMeasures,
) -> (ClassesRecord, ClassColumns) {
    let classes = class_rows.len();
    let all: Vec<ClassRelevance> = sums.by_image().par_iter().map(|l| class_relevance(l, class_rows)).collect();
    let p: Vec<f64> = all.iter().zip(&measures.count).map(|(r, &c)| if c > 0 { r.p } else { f64::NAN }).collect();
    let q = benjamini_hochberg(&p);
    let selective = (0..classes)
        .map(|c| {
            let stands_out = |h: &usize| q[*h] < SIGNIFICANT && all[*h].auc[c] >= SELECTIVE_AUC;
            let mut list: Vec<usize> = (0..all.len()).filter(stands_out).collect();
            list.sort_by(|&a, &b| all[b].auc[c].total_cmp(&all[a].auc[c]).then(a.cmp(&b)));
            list.iter().take(NAMED).map(|&h| h as u64).collect()
        })
        .collect();
    let record = ClassesRecord {
        significant: q.iter().filter(|&&q| q < SIGNIFICANT).count() as u64,
        selective,
        shared: all.iter().filter(|r| is_shared(&r.frequency)).count() as u64,
        ..ClassesRecord::default()
    };
    let by_class = |figures: fn(&ClassRelevance) -> &Vec<f64>| {
        Array::new(&[all.len(), classes], all.iter().flat_map(|r| figures(r).clone()).collect())
    };
    let columns = ClassColumns {
        mean: by_class(|r| &r.mean),
        difference: by_class(|r| &r.difference),
        frequency: by_class(|r| &r.frequency),
        auc: by_class(|r| &r.auc),
        information: Array::vector(all.iter().map(|r| r.information).collect()),
        p: Array::vector(p),
        q: Array::vector(q),
    };
    (record, columns)
}

/// True if a latent is at least half as frequent in every class as in the class where it is most frequent.
fn is_shared(frequency: &[f64]) -> bool {
    let most = frequency.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    most > 0.0 && frequency.iter().filter(|v| v.is_finite()).all(|&v| v >= 0.5 * most)
}
