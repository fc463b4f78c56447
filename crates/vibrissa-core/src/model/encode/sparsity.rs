//! The thresholds and biases that make latents sparse: before the first step, and for batchtopk's inference.

use super::super::{Sae, Workspace};
use crate::activation::batchtopk::threshold_above_largest;
use crate::activation::sigmoid::initial_bias;
use crate::activation::{InitialSparsity, Selection};
use crate::matrix::{Latents, Mat, MatMut, MatRef};

const NO_OVERFLOW: &str = "only a selection by rank reports an overflow";

impl Sae {
    /// Sets biases or thresholds so that about `k` latents a row are active on these rows before the first step, unless
    /// the selection fixes their number: relu and gated get lower biases, jumprelu and batchtopk thresholds, sigmoid
    /// biases at which the mean of every latent is about k/H.
    pub fn set_initial_sparsity(&mut self, k: usize, x: MatRef) {
        let smallest_selected = |sae: &Sae| {
            let (mut work, mut latents) = (Workspace::default(), Latents::default());
            sae.encode_by(Selection::BatchTopK { k }, x, &mut work, &mut latents).expect(NO_OVERFLOW);
            work.smallest_selected
        };
        match self.config.activation.properties().initial_sparsity {
            InitialSparsity::Fixed => {}
            InitialSparsity::Bias => {
                let smallest = smallest_selected(self);
                let bias = if self.config.activation.has_gate() { &mut self.b_gate } else { &mut self.b_enc };
                bias.iter_mut().for_each(|b| *b -= smallest);
            }
            InitialSparsity::Threshold => {
                let smallest = smallest_selected(self);
                self.threshold.fill(smallest);
            }
            InitialSparsity::Mean => {
                let bias = initial_bias(k, self.config.latents);
                self.b_enc.fill(bias);
            }
        }
    }

    /// Sets the threshold of a batchtopk model so that `k` latents a row are active in the mean of these rows: half-way
    /// between the smallest value that stays and the largest that does not. `fill(i, out)` copies rows `i` in pieces of
    /// at most `size` rows, `rows` in all.
    pub fn calibrate(
        &mut self,
        k: usize,
        rows: usize,
        size: usize,
        mut fill: impl FnMut(std::ops::Range<usize>, MatMut),
    ) {
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        let mut x = Mat::zeros(size.min(rows), self.config.d_in);
        let initial = self.threshold[0];
        // All values above half of the present threshold are most often enough; else all above 0.
        for share in [0.5, 0.0] {
            self.threshold[0] = share * initial;
            let mut values: Vec<u32> = Vec::new();
            for from in (0..rows).step_by(size.max(1)) {
                let n = size.min(rows - from);
                fill(from..from + n, x.first_rows_mut(n));
                let all = Selection::AboveThreshold { margin: 0.0 };
                self.encode_by(all, x.first_rows(n), &mut work, &mut latents).expect(NO_OVERFLOW);
                (0..n).for_each(|b| values.extend(latents.row(b).1.iter().map(|v| v.to_bits())));
            }
            if let Some(threshold) = threshold_above_largest(rows * k, &mut values) {
                self.threshold[0] = threshold;
                return;
            }
        }
    }
}
