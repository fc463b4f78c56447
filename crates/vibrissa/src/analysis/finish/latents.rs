//! The figures of each latent, and the order of the latents by score.

use super::super::pass::SaeSums;
use super::super::ranks::descending_order;
use super::super::usage::shares;
use crate::model::Sae;
use crate::record::analysis::HistogramsRecord;
use crate::record::analysis::columns::{HistogramColumns, LatentColumns};
use crate::record::columns::Array;

/// The figures of the latents of one SAE.
pub(super) struct LatentMeasures {
    /// Rows in which each latent is active.
    pub count: Vec<u64>,
    /// Latents by descending score.
    pub order: Vec<usize>,
    /// The figures as columns.
    pub columns: LatentColumns,
}

impl LatentMeasures {
    /// Computes the figures from the sums over `rows` rows. `weights` are those of frequency and strength in the score.
    pub fn new(sae: &Sae, sums: &SaeSums, rows: f64, weights: [f64; 2]) -> LatentMeasures {
        let count: Vec<u64> = sums.latents.iter().map(|l| l.count()).collect();
        let frequency: Vec<f64> = count.iter().map(|&c| c as f64 / rows).collect();
        let strength: Vec<f64> =
            sums.latents.iter().zip(&count).map(|(l, &c)| if c > 0 { l.sum.value() / c as f64 } else { 0.0 }).collect();
        let strongest = strength.iter().fold(0.0f64, |m, s| m.max(s.abs()));
        let weighted = |f: f64, s: f64| weights[0] * f + weights[1] * s;
        let score: Vec<f64> = frequency.iter().zip(&strength).map(|(&f, &s)| weighted(f, s)).collect();
        let scaled = |s: f64| if strongest > 0.0 { s / strongest } else { 0.0 };
        let score_scaled = frequency.iter().zip(&strength).map(|(&f, &s)| weighted(f, scaled(s))).collect();
        let delta_sse: Vec<f64> = sums.latents.iter().map(|l| l.delta_sse.value() / rows).collect();
        let order = descending_order(&score);
        let mut rank = vec![0u32; count.len()];
        order.iter().enumerate().for_each(|(r, &h)| rank[h] = r as u32 + 1);
        let [encoder_norm, decoder_norm, cosine] = weight_figures(sae);
        let columns = LatentColumns {
            rank: Array::vector(rank),
            count: Array::vector(count.iter().map(|&c| c as u32).collect()),
            frequency: Array::vector(frequency),
            strength: Array::vector(strength),
            score: Array::vector(score),
            score_scaled: Array::vector(score_scaled),
            share: Array::vector(shares(&delta_sse)),
            delta_sse: Array::vector(delta_sse),
            delta_pearson: Array::vector(sums.latents.iter().map(|l| l.delta_pearson.value() / rows).collect()),
            encoder_norm: Array::vector(encoder_norm),
            decoder_norm: Array::vector(decoder_norm),
            cosine: Array::vector(cosine),
            largest: Array::vector(sums.latents.iter().map(|l| f64::from(l.largest)).collect()),
        };
        LatentMeasures { count, order, columns }
    }

    /// Latents that are active in some row, by descending score.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        self.order.iter().copied().filter(|&h| self.count[h] > 0)
    }
}

/// By latent: norms of encoder row and decoder direction, and the cosine of the two.
fn weight_figures(sae: &Sae) -> [Vec<f64>; 3] {
    let (encoder, decoder) = (sae.W_enc(), sae.decoder_rows());
    let h = sae.config().latents;
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let encoder_norm: Vec<f64> = (0..h).map(|i| norm(encoder.row(i))).collect();
    let decoder_norm = (0..h).map(|i| norm(decoder.row(i)) * f64::from(sae.decoder_scale(i))).collect();
    let cosine = (0..h).map(|i| {
        let dot: f64 = encoder.row(i).iter().zip(decoder.row(i)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        dot / (encoder_norm[i] * norm(decoder.row(i)))
    });
    let cosine = cosine.collect();
    [encoder_norm, decoder_norm, cosine]
}

/// Rows by activation of each latent, all classes together.
pub(super) fn histogram(sums: &SaeSums) -> HistogramColumns {
    let bins = HistogramsRecord::CURRENT.activation.count();
    let counts = sums.latents.iter().flat_map(|l| {
        (0..bins).map(|b| l.bins.chunks_exact(bins).map(|class| class[b]).sum::<u32>()).collect::<Vec<_>>()
    });
    HistogramColumns { histogram: Array::new(&[sums.latents.len(), bins], counts.collect()) }
}
