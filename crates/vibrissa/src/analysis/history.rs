//! What the latents did over the course of training: from the weights-only checkpoints of a run, on the same rows.

use super::stream::each_row;
use super::usage::spearman;
use crate::data::Dataset;
use crate::model::Sae;
use crate::record::Number;
use crate::record::analysis::MomentRecord;
use crate::record::columns::Columns;

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

/// Record and columns (`S.history_step [T]`, `S.history_frequency [T, H]`) of one SAE, moments by ascending step.
pub fn history(columns: &mut Columns, s: usize, moments: &[Moment]) -> Vec<MomentRecord> {
    let Some(first) = moments.first() else { return Vec::new() };
    let h = first.frequency.len();
    columns.counts(format!("{s}.history_step"), &[moments.len()], moments.iter().map(|m| m.step as u32).collect());
    let all = moments.iter().flat_map(|m| m.frequency.iter().copied()).collect();
    columns.figures(format!("{s}.history_frequency"), &[moments.len(), h], all);
    let mut seen = vec![false; h];
    moments
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
            MomentRecord {
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
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_and_deaths_are_counted_once() {
        let moment = |step, frequency: &[f64]| Moment { step, frequency: frequency.into(), score: frequency.into() };
        let moments =
            [moment(0, &[0.5, 0.0, 0.2, 0.0]), moment(10, &[0.4, 0.1, 0.0, 0.0]), moment(20, &[0.0, 0.2, 0.3, 0.0])];
        let mut columns = Columns::default();
        let got = history(&mut columns, 1, &moments);
        let counts: Vec<_> = got.iter().map(|m| (m.alive, m.born, m.died)).collect();
        assert_eq!(counts, [(2, 2, 0), (2, 1, 1), (2, 0, 0)]);
        assert_eq!(columns.get_counts("1.history_step"), [0, 10, 20]);
        assert!(got[0].stability.get().is_none() && got[1].stability.get().is_some());
    }
}
