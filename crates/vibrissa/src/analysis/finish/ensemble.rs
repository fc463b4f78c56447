//! Agreement of the SAEs of an ensemble.

use crate::directions::{UnitDirections, mean_matched_cosine, nearest_directions};
use crate::metrics::mean;
use crate::record::Number;
use crate::record::analysis::EnsembleAnalysis;
use crate::record::analysis::columns::EnsembleColumns;
use crate::record::columns::Array;

/// Cosine from which two directions count as one feature.
const SAME: f32 = 0.7;

/// Compares the directions of every SAE with those of every other one; an SAE has `latents` latents. Returns the
/// columns by SAE.
pub(super) fn compare_members(
    directions: &[UnitDirections],
    latents: usize,
) -> (EnsembleAnalysis, Vec<EnsembleColumns>) {
    let m = directions.len();
    let mut record = EnsembleAnalysis { mmcs: vec![vec![Number(None); m]; m], ..EnsembleAnalysis::default() };
    let mut columns = Vec::new();
    for (i, own) in directions.iter().enumerate() {
        let mut partners = vec![0usize; own.latents.len()];
        let mut best = vec![f64::NAN; latents];
        for j in (0..m).filter(|&j| j != i) {
            let found = nearest_directions(own.rows.view(), directions[j].rows.view());
            record.mmcs[i][j] = mean(found.iter().flatten().map(|f| f64::from(f.1))).into();
            for ((partners, &h), found) in partners.iter_mut().zip(&own.latents).zip(&found) {
                let Some((_, cosine)) = *found else { continue };
                *partners += usize::from(cosine >= SAME);
                best[h as usize] = best[h as usize].max(f64::from(cosine));
            }
        }
        record.shared.push(partners.iter().filter(|&&p| p == m - 1).count() as u64);
        record.unshared.push(partners.iter().filter(|&&p| p == 0).count() as u64);
        columns.push(EnsembleColumns { best_partner: Array::vector(best) });
    }
    for (i, own) in directions.iter().enumerate() {
        for (j, other) in directions.iter().enumerate().skip(i + 1) {
            record.mcc.push((i, j, mean_matched_cosine(own.rows.view(), other.rows.view()).into()));
        }
    }
    (record, columns)
}
