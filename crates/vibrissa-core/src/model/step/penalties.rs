//! The sparsity penalties of a batch and their derivatives, which the update reads.

use super::super::{Config, Sae};
use super::update::PenaltyContext;
use crate::kernels::Isa;
use crate::loss::{Losses, Penalties, kl};
use crate::matrix::ByLatent;
use rayon::prelude::*;

/// Derivatives of the penalties at the last batch.
#[derive(Debug, Default)]
pub struct PenaltyDerivatives {
    /// Lengths of the decoder rows `[H]` if they are free and L1 is on, else empty.
    norms: Vec<f32>,
    /// KL of each latent, and its derivative to the latent's mean.
    kl: Vec<(f64, f64)>,
    /// Derivative of the KL penalty to each value of a latent `[H]`; empty if KL is off.
    d_kl: Vec<f32>,
    /// Derivative of the L0 penalty to the number of active latents of one row.
    d_l0: f32,
}

impl PenaltyDerivatives {
    /// Measures the decoder rows, if L1 weights values by their lengths.
    pub fn measure_norms(&mut self, isa: Isa, sae: &Sae, l1: f64) {
        let Config { free_decoder, d_in, .. } = sae.config;
        self.norms.clear();
        if free_decoder && l1 > 0.0 {
            let decoder = sae.decoder_rows();
            decoder.data().par_chunks(d_in).map(|row| isa.dot(row, row).sqrt()).collect_into_vec(&mut self.norms);
        }
    }

    /// Returns the lengths of the decoder rows if they count, else an empty slice.
    pub fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// Computes the L0 and KL penalties of a batch of `rows` rows in which `k` latents a row are wanted.
    pub fn compute(
        &mut self,
        penalties: &Penalties,
        by_latent: &ByLatent,
        [rows, k, latents]: [usize; 3],
        losses: &mut Losses,
    ) {
        let Penalties { l0, kl: beta, .. } = *penalties;
        self.d_l0 = 0.0;
        if l0 > 0.0 {
            let excess = f64::from(by_latent.total_active()) / (rows * k) as f64 - 1.0;
            losses.l0 = l0 * excess * excess;
            self.d_l0 = (2.0 * l0 * excess / (rows * k) as f64) as f32;
        }
        self.d_kl.clear();
        if beta > 0.0 {
            let target = k as f64 / latents as f64;
            let of = |h: usize| {
                let sum: f64 = by_latent.latent(h).1.iter().map(|&a| f64::from(a)).sum();
                kl(target, sum / rows as f64)
            };
            (0..latents).into_par_iter().map(of).collect_into_vec(&mut self.kl);
            losses.kl = beta * self.kl.iter().map(|e| e.0).sum::<f64>();
            self.d_kl.extend(self.kl.iter().map(|e| (beta * e.1 / rows as f64) as f32));
        }
    }

    /// The derivatives as the update of a batch of `rows` rows reads them; `l1` is λ now.
    pub fn context(&self, l1: f64, rows: usize, bandwidth: f64) -> PenaltyContext<'_> {
        PenaltyContext {
            l1: (l1 / rows as f64) as f32,
            norms: &self.norms,
            d_kl: &self.d_kl,
            d_l0: self.d_l0,
            bandwidth: bandwidth as f32,
        }
    }
}
