//! BatchTopK (Bussmann et al. 2024, arXiv 2412.06410):
//!
//! ```text
//! latents = the B·k largest pre-activations of a batch of B rows that are above 0
//! ```
//!
//! The lower row, then the lower index wins a tie. Inference compares with one threshold θ, `p > θ`, so that a row does
//! not depend on others. Parameter: `threshold` θ `[1]`, a moving mean of the smallest selected value of every batch,
//! and set anew after training so that k latents are active in the mean (`Sae::calibrate`). Backward: the gradient of a
//! selected latent reaches its pre-activation unchanged (`topk::backward`). Penalty: none by default, k fixes the
//! sparsity.

use super::{DefaultPenalties, InitialSparsity, Properties, Selection, SelectionOptions, SparsityControl, Threshold};
use crate::matrix::Latents;

pub(crate) const PROPERTIES: Properties = Properties {
    name: "batchtopk",
    sparsity: SparsityControl::K,
    threshold: Threshold::Calibrated,
    has_gate: false,
    is_dense: false,
    is_homogeneous: true,
    can_resample: true,
    plain_backward: true,
    initial_sparsity: InitialSparsity::Threshold,
    selection_in_training,
    selection_in_inference: |_| Selection::AboveThreshold { margin: 0.0 },
    default_penalties: |_, _| DefaultPenalties::default(),
};

fn selection_in_training(options: SelectionOptions) -> Selection {
    Selection::BatchTopK { k: options.k }
}

/// Decay of the moving mean of the smallest selected value: one batch weighs 1 - this.
const THRESHOLD_DECAY: f64 = 0.99;

/// Adds the smallest selected value of batch number `steps` (from 0) to the moving sum. Returns the moving mean,
/// corrected for the sum's start at 0 as Adam's moments are.
pub(crate) fn moving_threshold(sum: &mut f64, smallest: f32, steps: u64) -> f32 {
    *sum = THRESHOLD_DECAY * *sum + (1.0 - THRESHOLD_DECAY) * f64::from(smallest);
    let weight = 1.0 - THRESHOLD_DECAY.powf((steps + 1) as f64);
    (*sum / weight) as f32
}

/// Keeps the `n` (1 or more) largest of all entries, which are > 0; the lower row, then the lower index wins a tie.
/// Returns the smallest value kept (0 if none is). `scratch` keeps its memory.
pub(crate) fn keep_largest(n: usize, latents: &mut Latents, scratch: &mut Vec<u32>) -> f32 {
    let (rows, total) = (latents.rows(), latents.count());
    scratch.clear();
    (0..rows).for_each(|b| scratch.extend(latents.row(b).1.iter().map(|v| v.to_bits())));
    // Positive floats are in the order of their bits.
    if total <= n {
        return scratch.iter().min().map_or(0.0, |&b| f32::from_bits(b));
    }
    let least = *scratch.select_nth_unstable_by(n - 1, |a, b| b.cmp(a)).1;
    let larger = scratch[..n].iter().filter(|&&b| b > least).count();
    let mut ties = n - larger;
    let (len, index, value, capacity) = latents.parts_mut();
    for (b, len) in len.iter_mut().enumerate() {
        let (index, value) = (&mut index[b * capacity..][..capacity], &mut value[b * capacity..][..capacity]);
        let mut kept = 0;
        for j in 0..*len as usize {
            let bits = value[j].to_bits();
            let tie = bits == least && ties > 0;
            ties -= usize::from(tie);
            (index[kept], value[kept]) = (index[j], value[j]);
            kept += usize::from(bits > least || tie);
        }
        *len = kept as u32;
    }
    f32::from_bits(least)
}

/// Returns the threshold that the `n` largest of these values exceed and the others do not: half-way between the n-th and the
/// next one. `None` if there are no more than `n`. `values` are the bits of positive floats, and are reordered.
pub(crate) fn threshold_above_largest(n: usize, values: &mut [u32]) -> Option<f32> {
    if values.len() <= n {
        return None;
    }
    // Positive floats are in the order of their bits.
    let (above, &mut next, _) = values.select_nth_unstable_by(n, |a, b| b.cmp(a));
    let last = above.iter().min().map_or(next, |&v| v);
    let half = 0.5 * (f32::from_bits(last) + f32::from_bits(next));
    // No float lies between neighbours: the lower one keeps the upper.
    Some(if half < f32::from_bits(last) { half } else { f32::from_bits(next) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::select::Candidates;
    use crate::activation::select::threshold::{Thresholds, above, select_any};
    use crate::kernels::{Isa, PerThread};
    use crate::random::Stream;

    fn row(n: usize, seed: u64) -> Vec<f32> {
        let mut s = Stream::new(seed, "above", &[]);
        (0..n).map(|_| (s.normal() * 8.0).round() as f32 / 8.0).collect()
    }

    #[test]
    fn the_largest_of_a_batch_stay() {
        let scratch = PerThread::<Candidates>::new();
        let rows: Vec<Vec<f32>> = (0..9).map(|b| row(200, 10 + b)).collect();
        let find = |b: usize, scratch: &mut Candidates| {
            above(Isa::current(), &Thresholds { each: &[], margin: 0.0 }, [(0, &rows[b][..])].into_iter(), scratch)
        };
        for n in [1, 50, 333, 5000] {
            let (mut latents, mut capacity_hint) = (Latents::default(), 3);
            select_any(9, &mut capacity_hint, &scratch, &mut latents, find);
            let least = keep_largest(n, &mut latents, &mut Vec::new());
            let mut all: Vec<(f32, usize, u32)> = Vec::new();
            for (b, row) in rows.iter().enumerate() {
                all.extend(row.iter().enumerate().filter(|v| *v.1 > 0.0).map(|(h, &v)| (v, b, h as u32)));
            }
            all.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)).then(x.2.cmp(&y.2)));
            all.truncate(n);
            assert_eq!(least, all.last().map_or(0.0, |v| v.0));
            all.sort_by_key(|v| (v.1, v.2));
            let got: Vec<(f32, usize, u32)> = (0..9)
                .flat_map(|b| latents.row(b).0.iter().zip(latents.row(b).1).map(move |(&h, &v)| (v, b, h)))
                .collect();
            assert_eq!(got, all, "n {n}");
        }
    }

    #[test]
    fn the_first_moving_threshold_is_the_first_value() {
        let mut sum = 0.0;
        assert_eq!(moving_threshold(&mut sum, 0.75, 0), 0.75);
        let second = moving_threshold(&mut sum, 0.25, 1);
        assert!((0.25..0.75).contains(&second), "{second}");
    }

    #[test]
    fn a_threshold_separates_the_largest_from_the_rest() {
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert_eq!(threshold_above_largest(2, &mut bits(&[1.0, 4.0, 3.0, 2.0])), Some(2.5));
        let neighbours = [1.0f32, 1.0f32.next_up()];
        assert_eq!(threshold_above_largest(1, &mut bits(&neighbours)), Some(1.0));
        assert_eq!(threshold_above_largest(2, &mut bits(&neighbours)), None);
        assert_eq!(threshold_above_largest(1, &mut bits(&[2.0, 2.0])), Some(2.0));
    }
}
