//! Latents over the course of training, from the weights-only checkpoints of a run on the same rows.

use super::pass::for_each_row;
use super::ranks::spearman;
use crate::data::Dataset;
use crate::error::Result;
use crate::format::{self, Model};
use crate::model::Sae;
use crate::record::Number;
use crate::record::analysis::columns::HistoryColumns;
use crate::record::analysis::{Analysis, CheckpointRecord};
use crate::record::columns::Array;
use crate::run::Folder;
use std::path::Path;

/// Most rows that checkpoints are measured on, spread evenly over all.
const MAX_ROWS: usize = 2000;

/// The latents of one SAE at one checkpoint.
#[derive(Clone, Debug, PartialEq)]
struct CheckpointLatents {
    /// Steps done.
    step: u64,
    /// By latent: share of the rows in which it is active.
    frequency: Vec<f64>,
    /// By latent: score ([`crate::record::analysis::columns::LatentColumns::score`]).
    score: Vec<f64>,
}

/// The rows that checkpoints are measured on.
fn history_rows(data: &Dataset, rows: &[usize]) -> Vec<usize> {
    data.subsample_rows(rows, MAX_ROWS)
}

/// Measures one SAE as it was at a step. `weights` are those of frequency and strength in the score. A row that
/// overflows has the latents that were found before.
fn measure_checkpoint(step: u64, sae: &Sae, data: &Dataset, rows: &[usize], weights: [f64; 2]) -> CheckpointLatents {
    let h = sae.config().latents;
    let (mut count, mut sum) = (vec![0u64; h], vec![0.0f64; h]);
    for_each_row(sae, data, rows, |_, index, value| {
        for (&i, &v) in index.iter().zip(value).filter(|v| *v.1 != 0.0) {
            count[i as usize] += 1;
            sum[i as usize] += f64::from(v);
        }
    });
    let n = rows.len() as f64;
    let strength = |i: usize| if count[i] > 0 { sum[i] / count[i] as f64 } else { 0.0 };
    CheckpointLatents {
        step,
        frequency: count.iter().map(|&c| c as f64 / n).collect(),
        score: (0..h).map(|i| weights[0] * count[i] as f64 / n + weights[1] * strength(i)).collect(),
    }
}

/// The history of one SAE from its checkpoints by ascending step; `None` without any.
fn history(checkpoints: &[CheckpointLatents]) -> Option<(Vec<CheckpointRecord>, HistoryColumns)> {
    let h = checkpoints.first()?.frequency.len();
    let frequency = checkpoints.iter().flat_map(|m| m.frequency.iter().copied()).collect();
    let columns = HistoryColumns {
        step: Array::vector(checkpoints.iter().map(|m| m.step as u32).collect()),
        frequency: Array::new(&[checkpoints.len(), h], frequency),
    };
    let mut seen = vec![false; h];
    let records = checkpoints
        .iter()
        .enumerate()
        .map(|(t, m)| {
            let alive: Vec<bool> = m.frequency.iter().map(|&f| f > 0.0).collect();
            let born = (0..h).filter(|&i| alive[i] && !seen[i]).count();
            let later = &checkpoints[t + 1..];
            // A latent dies here if it is active now and at no later checkpoint.
            let died = (0..h).filter(|&i| alive[i] && !later.is_empty() && later.iter().all(|l| l.frequency[i] == 0.0));
            let died = died.count() as u64;
            seen.iter_mut().zip(&alive).for_each(|(s, &a)| *s |= a);
            CheckpointRecord {
                step: m.step,
                alive: alive.iter().filter(|a| **a).count() as u64,
                born: born as u64,
                died,
                stability: match t.checked_sub(1) {
                    Some(before) => Number::from(spearman(&checkpoints[before].score, &m.score)),
                    None => Number(None),
                },
            }
        })
        .collect();
    Some((records, columns))
}

/// Adds the history of the latents of a run: at the checkpoints that it kept, and at its end. Nothing without such
/// checkpoints.
///
/// # Errors
/// A checkpoint that cannot be read.
pub(super) fn add_history(
    analysis: &mut Analysis,
    run: &Path,
    model: &Model,
    data: &Dataset,
    rows: &[usize],
) -> Result<()> {
    let folder = Folder(run.to_path_buf());
    let kept = folder.history();
    if kept.is_empty() {
        return Ok(());
    }
    let (rows, weights) = (history_rows(data, rows), analysis.record.weights);
    let mut all: Vec<Vec<CheckpointLatents>> = vec![Vec::new(); model.saes.len()];
    let mut measure = |step: u64, saes: &[Sae]| {
        for (checkpoints, sae) in all.iter_mut().zip(saes) {
            checkpoints.push(measure_checkpoint(step, sae, data, &rows, weights));
        }
    };
    for (step, path) in &kept {
        measure(*step, &format::read_model(path)?.saes);
    }
    measure(folder.last_step(), &model.saes);
    for (s, checkpoints) in all.iter().enumerate() {
        let (records, columns) = history(checkpoints).unzip();
        analysis.record.saes[s].history = records.unwrap_or_default();
        analysis.columns.saes[s].history = columns;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_and_deaths_are_counted_once() {
        let checkpoint =
            |step, frequency: &[f64]| CheckpointLatents { step, frequency: frequency.into(), score: frequency.into() };
        let checkpoints = [
            checkpoint(0, &[0.5, 0.0, 0.2, 0.0]),
            checkpoint(10, &[0.4, 0.1, 0.0, 0.0]),
            checkpoint(20, &[0.0, 0.2, 0.3, 0.0]),
        ];
        let (got, columns) = history(&checkpoints).expect("checkpoints");
        let counts: Vec<_> = got.iter().map(|m| (m.alive, m.born, m.died)).collect();
        assert_eq!(counts, [(2, 2, 0), (2, 1, 1), (2, 0, 0)]);
        assert_eq!(columns.step.values, [0, 10, 20]);
        assert!(got[0].stability.get().is_none() && got[1].stability.get().is_some());
    }
}
