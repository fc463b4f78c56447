//! Reconstructions of a batch, summed panel by panel of columns: faster than row by row where the decoder does not fit
//! the second cache and every latent is used by several rows.

use super::super::{Config, Sae};
use super::{chunk_len, middle};
use crate::kernels::Isa;
use crate::matrix::{Aligned, Latents};
use rayon::prelude::*;

/// Reconstructions that are summed panel by panel of columns. The latents of each half are summed apart from the
/// others: the worker that updated a half most often sums it, too, since lines of weights that another core has read as
/// well are slow to write.
#[derive(Debug, Default)]
pub struct PanelSums {
    /// Columns of a panel; the last one may be narrower.
    width: usize,
    /// The sums of each half of the latents `[panel][row][column]`.
    recon: [Aligned; 2],
    /// Number of a row's entries in the first half.
    split: Vec<usize>,
    /// Coefficients of the decoder rows, if they are not the values themselves.
    coefs: Vec<f32>,
}

/// Smallest decoder, in weights, that does not fit the second cache beside the other data.
const LEAST_WEIGHTS: usize = 1 << 18;
/// Largest half of a panel, in weights, that does.
const MOST_PANEL_WEIGHTS: usize = 3 << 17;

/// Widths of a panel whose sums all stay in registers. The wider one is faster while the panel fits.
const WIDTHS: [usize; 2] = [96, 48];

/// Entries of each latent, in the mean, that pay for bringing its weights to the second cache.
const LEAST_USES: usize = 4;

impl PanelSums {
    /// Reconstructs all rows, each half of the latents in the order of their index. Returns false, and does nothing, if
    /// summing row by row is faster.
    pub fn fill(&mut self, isa: Isa, sae: &Sae, latents: &Latents) -> bool {
        let Config { latents: n, d_in: dim, tied, .. } = sae.config;
        let middle = middle(n, chunk_len(n));
        let fits = |width: &usize| (n - middle) * width <= MOST_PANEL_WEIGHTS;
        let Some(width) = WIDTHS.into_iter().find(fits) else { return false };
        if n * dim < LEAST_WEIGHTS || latents.count() < LEAST_USES * n {
            return false;
        }
        let (rows, capacity) = (latents.rows(), latents.capacity());
        let PanelSums { recon: [low, high], split, coefs, .. } = self;
        self.width = width;
        coefs.resize(if tied { rows * capacity } else { 0 }, 0.0);
        coefs.par_chunks_mut(capacity).enumerate().for_each(|(b, coefs)| {
            let (index, value) = latents.row(b);
            sae.decoder_coefs(index, value, coefs);
        });
        split.clear();
        split.extend((0..rows).map(|b| latents.row(b).0.partition_point(|&h| (h as usize) < middle)));
        low.resize(rows * dim);
        high.resize(rows * dim);
        let (weights, coefs, split) = (sae.decoder_rows().data(), &*coefs, &*split);
        let half = |recon: &mut [f32], is_low: bool| {
            recon.par_chunks_mut(rows * width).enumerate().for_each(|(p, out)| {
                let (first, width) = (p * width, out.len() / rows);
                for (b, out) in out.chunks_exact_mut(width).enumerate() {
                    let (index, value) = latents.row(b);
                    let coef = if tied { &coefs[b * capacity..][..index.len()] } else { value };
                    let entries = if is_low {
                        sae.fill_with_bias(out, first);
                        0..split[b]
                    } else {
                        out.fill(0.0);
                        split[b]..index.len()
                    };
                    isa.add_columns(out, first, &coef[entries.clone()], &index[entries], weights, dim);
                }
            });
        };
        rayon::join(|| half(low, true), || half(high, false));
        true
    }

    /// Copies the reconstruction of a row.
    pub fn row(&self, b: usize, out: &mut [f32]) {
        let [low, high] = self.recon.each_ref().map(|half| half.chunks(half.len() / out.len() * self.width));
        for ((low, high), out) in low.zip(high).zip(out.chunks_mut(self.width)) {
            let at = b * out.len();
            let halves = low[at..][..out.len()].iter().zip(&high[at..][..out.len()]);
            out.iter_mut().zip(halves).for_each(|(out, (low, high))| *out = low + high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Mat;
    use crate::model::Workspace;
    use crate::model::init;
    use crate::random::Stream;

    /// Plain loops over each half give the same bits on every instruction set and number of workers, also in a narrow
    /// last panel.
    #[test]
    fn panel_sums_equal_plain_sums_of_each_half() {
        let (n, dim, rows, k) = (1000, 290, 64, 64);
        let mut s = Stream::new(4, "sums", &[]);
        let x = Mat::from_vec(rows, dim, (0..rows * dim).map(|_| s.normal() as f32).collect());
        let mean: Vec<f32> = (0..dim).map(|_| s.normal() as f32).collect();
        for (tied, decoder_bias) in [(true, false), (true, true), (false, false), (false, true)] {
            let config =
                Config { d_in: dim, latents: n, k, tied, decoder_bias, relu_after: false, ..Config::default() };
            let sae = init::kaiming(config, &mean, 1, 0).expect("a model");
            let (mut work, mut latents) = (Workspace::new(Isa::SCALAR), Latents::default());
            sae.encode(x.view(), &mut work, &mut latents).expect("finite");
            let middle = middle(n, chunk_len(n));
            let want = |b: usize| -> Vec<f32> {
                let (index, value) = latents.row(b);
                let sum = |in_half: fn(usize, usize) -> bool, bias: Option<&[f32]>| {
                    let mut out = bias.map_or(vec![0.0; dim], <[f32]>::to_vec);
                    for (&h, &v) in index.iter().zip(value).filter(|(h, _)| in_half(**h as usize, middle)) {
                        let coef = if tied { v * sae.inv_norm[h as usize] } else { v };
                        let row = sae.decoder_rows().row(h as usize);
                        out.iter_mut().zip(row).for_each(|(out, &w)| *out = coef.mul_add(w, *out));
                    }
                    out
                };
                let (low, high) =
                    (sum(|h, middle| h < middle, sae.b_dec.as_deref()), sum(|h, middle| h >= middle, None));
                low.iter().zip(&high).map(|(low, high)| low + high).collect()
            };
            let want: Vec<Vec<f32>> = (0..rows).map(want).collect();
            for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
                let (mut sums, mut got) = (PanelSums::default(), vec![f32::NAN; dim]);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                assert!(pool.install(|| sums.fill(isa, &sae, &latents)), "panels pay for this shape");
                for (b, want) in want.iter().enumerate() {
                    sums.row(b, &mut got);
                    let same = got.iter().zip(want).all(|(got, want)| got.to_bits() == want.to_bits());
                    assert!(same, "{} {threads} tied {tied} bias {decoder_bias} row {b}", isa.name());
                }
            }
            // The panel sums are the reconstruction, up to rounding.
            let mut whole = Mat::zeros(rows, dim);
            sae.decode(&latents, &work, whole.view_mut());
            let off = whole.data().iter().zip(want.iter().flatten()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-4, "{off}");
        }
    }
}
