//! What the latents did over the course of training: from the weights-only checkpoints of a run, on the same rows.

use super::stream::each_row;
use super::usage::spearman;
use crate::data::Dataset;
use crate::model::Sae;
use crate::record::Number;
use crate::record::analysis::CheckpointRecord;
use crate::record::analysis::columns::HistoryColumns;
use crate::record::columns::Array;

/// Rows looked at, at most: spread evenly over all.
const ROWS: usize = 2000;

/// Frequency and score of every latent of one SAE at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Steps done.
    pub step: u64,
    /// Rows active / rows.
    pub frequency: Vec<f64>,
    /// Weighted frequency and strength.
    pub score: Vec<f64>,
}

/// The rows that a history is made of.
pub fn history_rows(data: &Dataset, rows: &[usize]) -> Vec<usize> {
    data.subsample_rows(rows, ROWS)
}

/// Looks at one SAE as it was at a step.
pub fn moment(step: u64, sae: &Sae, data: &Dataset, rows: &[usize], weights: [f64; 2]) -> Moment {
    let h = sae.config().latents;
    let (mut count, mut sum) = (vec![0u64; h], vec![0.0f64; h]);
    // A checkpoint that overflows on a row is counted as far as it got.
    each_row(sae, data, rows, |_, index, value| {
        for (&i, &v) in index.iter().zip(value).filter(|v| *v.1 != 0.0) {
            count[i as usize] += 1;
            sum[i as usize] += f64::from(v);
        }
    });
    let n = rows.len() as f64;
    let strength = |i: usize| if count[i] > 0 { sum[i] / count[i] as f64 } else { 0.0 };
    Moment {
        step,
        frequency: count.iter().map(|&c| c as f64 / n).collect(),
        score: (0..h).map(|i| weights[0] * count[i] as f64 / n + weights[1] * strength(i)).collect(),
    }
}

/// The history of one SAE; `moments` by ascending step. `None` without any.
pub fn history(moments: &[Moment]) -> Option<(Vec<CheckpointRecord>, HistoryColumns)> {
    let h = moments.first()?.frequency.len();
    let frequency = moments.iter().flat_map(|m| m.frequency.iter().copied()).collect();
    let columns = HistoryColumns {
        step: Array::vector(moments.iter().map(|m| m.step as u32).collect()),
        frequency: Array::new(&[moments.len(), h], frequency),
    };
    let mut seen = vec![false; h];
    let records = moments
        .iter()
        .enumerate()
        .map(|(t, m)| {
            let alive: Vec<bool> = m.frequency.iter().map(|&f| f > 0.0).collect();
            let born = (0..h).filter(|&i| alive[i] && !seen[i]).count();
            let later = &moments[t + 1..];
            // It dies after this moment: active now, and never again.
            let died = (0..h).filter(|&i| alive[i] && !later.is_empty() && later.iter().all(|l| l.frequency[i] == 0.0));
            let died = died.count() as u64;
            seen.iter_mut().zip(&alive).for_each(|(s, &a)| *s |= a);
            CheckpointRecord {
                step: m.step,
                alive: alive.iter().filter(|a| **a).count() as u64,
                born: born as u64,
                died,
                stability: match t.checked_sub(1) {
                    Some(before) => Number::from(spearman(&moments[before].score, &m.score)),
                    None => Number(None),
                },
            }
        })
        .collect();
    Some((records, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_and_deaths_are_counted_once() {
        let moment = |step, frequency: &[f64]| Moment { step, frequency: frequency.into(), score: frequency.into() };
        let moments =
            [moment(0, &[0.5, 0.0, 0.2, 0.0]), moment(10, &[0.4, 0.1, 0.0, 0.0]), moment(20, &[0.0, 0.2, 0.3, 0.0])];
        let (got, columns) = history(&moments).expect("moments");
        let counts: Vec<_> = got.iter().map(|m| (m.alive, m.born, m.died)).collect();
        assert_eq!(counts, [(2, 2, 0), (2, 1, 1), (2, 0, 0)]);
        assert_eq!(columns.step.values, [0, 10, 20]);
        assert!(got[0].stability.get().is_none() && got[1].stability.get().is_some());
    }
}
