//! How many latents a row needs: k chosen for each row by how hard it is, with a mean budget.
//!
//! ```text
//! fixed      the k largest of every row
//! threshold  all above one θ for all rows (what batchtopk does)
//! residual   the largest, one after the other, until ‖x - recon‖² ≤ τ: all rows are explained alike well
//! gain       as many of the largest as make ‖x - recon‖² + λ n smallest: a latent is used where it explains most
//! ```
//!
//! θ, τ and λ are set on training rows so that k latents a row are used in the mean; figures are of other rows. No latent that
//! is not among the [`REACH`]·k largest of a row is used.

use super::usage::{ranks, spearman};
use crate::data::Dataset;
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat, MatRef};
use crate::metrics::Evaluation;
use crate::model::{Output, Sae, Workspace};
use crate::record::Number;
use crate::record::adaptive::{AdaptiveRecord, RuleRecord};
use rayon::prelude::*;

/// A row may use so many times the budget.
pub const REACH: usize = 4;

/// Rows that θ, τ and λ are set on, at most.
const JUDGED: usize = 4096;

/// Parts of equal size, by complexity.
const PARTS: usize = 10;

/// Latents of one row by descending effect on the sum, and `‖x - recon‖²` with the first 0, 1, 2, … of them.
struct Curve {
    /// `value ‖W_dec‖`, descending.
    size: Vec<f32>,
    index: Vec<u32>,
    value: Vec<f32>,
    error: Vec<f64>,
}

impl Curve {
    fn of(sae: &Sae, isa: Isa, x: &[f32], index: &[u32], value: &[f32], norms: &[f32]) -> Curve {
        let mut order: Vec<usize> = (0..index.len()).collect();
        let size = |j: usize| value[j] * norms[index[j] as usize];
        order.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
        let mut residual: Vec<f32> = x.to_vec();
        if let Some(b) = sae.b_dec() {
            isa.add_scaled(&mut residual, -1.0, b);
        }
        let mut error = vec![f64::from(isa.dot(&residual, &residual))];
        for &j in &order {
            let h = index[j] as usize;
            isa.add_scaled(&mut residual, -value[j] * sae.decoder_scale(h), sae.decoder_rows().row(h));
            error.push(f64::from(isa.dot(&residual, &residual)));
        }
        Curve {
            size: order.iter().map(|&j| size(j)).collect(),
            index: order.iter().map(|&j| index[j]).collect(),
            value: order.iter().map(|&j| value[j]).collect(),
            error,
        }
    }

    fn fixed(&self, k: usize) -> usize {
        k.min(self.index.len())
    }

    fn above(&self, theta: f64) -> usize {
        self.size.iter().take_while(|&&s| f64::from(s) > theta).count()
    }

    fn gains(&self, lambda: f64) -> usize {
        let cost = |n: usize| self.error[n] + lambda * n as f64;
        (0..self.error.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
    }

    fn until(&self, tau: f64) -> usize {
        self.error.iter().position(|&e| e <= tau).unwrap_or(self.index.len())
    }
}

/// The value at which a mean that falls with it reaches `budget`, between 0 and `most`, by bisection.
fn solve(most: f64, budget: f64, mean: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if mean(middle) > budget {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// How hard rows are to write down, without a model: pictures by the mean absolute step between neighbouring pixels,
/// other rows by their distance from the mean.
pub fn complexity(data: &Dataset, x: &[f32], mean: &[f32]) -> f64 {
    let Some(shape) = data.shape() else {
        return x.iter().zip(mean).map(|(&x, &m)| f64::from(x - m).powi(2)).sum::<f64>().sqrt();
    };
    let (mut sum, mut steps) = (0.0f64, 0usize);
    for plane in x.chunks(shape.height * shape.width) {
        for (i, &v) in plane.iter().enumerate() {
            let right = (i % shape.width + 1 < shape.width).then(|| plane[i + 1]);
            for other in [right, plane.get(i + shape.width).copied()].into_iter().flatten() {
                sum += f64::from((v - other).abs());
                steps += 1;
            }
        }
    }
    sum / steps.max(1) as f64
}

/// Each row of `rows` with its curve, in order, batch by batch.
fn each_curve(
    sae: &Sae,
    data: &Dataset,
    rows: &[usize],
    reach: usize,
    mut see: impl FnMut(MatRef, Vec<Curve>, &Workspace),
    tick: &mut dyn FnMut(usize, usize),
) {
    let (isa, size) = (Isa::current(), data.batch_rows(rows.len()));
    let norms: Vec<f32> = (0..sae.config().latents)
        .map(|h| {
            let row = sae.decoder_rows().row(h);
            isa.dot(row, row).sqrt() * sae.decoder_scale(h)
        })
        .collect();
    let (mut x, mut work, mut latents) = (Mat::zeros(size, data.dim()), Workspace::default(), Latents::default());
    for (done, batch) in rows.chunks(size).enumerate() {
        let n = batch.len();
        data.fill(batch, 0, x.top_mut(n));
        sae.encode_top(x.top(n), reach, &mut work, &mut latents);
        let of = |b: usize| {
            let (index, value) = latents.row(b);
            Curve::of(sae, isa, x.row(b), index, value, &norms)
        };
        let curves: Vec<Curve> = (0..n).into_par_iter().map(of).collect();
        see(x.top(n), curves, &work);
        tick(done * size + n, rows.len());
    }
}

/// Compares the four rules at the same mean number of latents. `judged` are training rows, `rows` those to look at.
///
/// # Panics
/// For a model with a sigmoid anywhere: its sums are no reconstruction, or its latents all active.
pub fn adaptive(
    sae: &Sae,
    data: &Dataset,
    mean: &[f32],
    judged: &[usize],
    rows: &[usize],
    budget: usize,
    tick: &mut dyn FnMut(usize, usize),
) -> AdaptiveRecord {
    let config = sae.config();
    assert!(config.activation.keeps_k() && config.output == Output::Linear, "latents that add up one by one");
    let reach = (REACH * budget).min(config.latents);
    let judged = data.subsample_rows(judged, JUDGED);
    let mut curves: Vec<Curve> = Vec::with_capacity(judged.len());
    each_curve(sae, data, &judged, reach, |_, c, _| curves.extend(c), &mut |_, _| ());
    let over = |count: &dyn Fn(&Curve) -> usize| {
        curves.iter().map(|c| count(c) as f64).sum::<f64>() / curves.len().max(1) as f64
    };
    let most = |of: &dyn Fn(&Curve) -> f64| curves.iter().map(of).fold(0.0, f64::max);
    let target = budget as f64;
    let theta = solve(most(&|c| c.size.first().map_or(0.0, |&s| f64::from(s))), target, |t| over(&|c| c.above(t)));
    let tau = solve(most(&|c| c.error[0]), target, |t| over(&|c| c.until(t)));
    let lambda = solve(most(&|c| c.error[0]), target, |t| over(&|c| c.gains(t)));
    drop(curves);

    let names = ["fixed", "threshold", "residual", "gain"];
    let mut counts: [Vec<f64>; 4] = Default::default();
    let mut figures: [Evaluation; 4] = std::array::from_fn(|_| Evaluation::new(data.dim(), 0, None, 0));
    let mut hard: Vec<f64> = Vec::new();
    let (mut recon, mut latents) = (Mat::default(), Latents::default());
    let mut look = |x: MatRef, curves: Vec<Curve>, work: &Workspace| {
        recon.reserve(x.rows(), x.cols());
        hard.extend((0..x.rows()).map(|b| complexity(data, x.row(b), mean)));
        for (rule, (counts, figures)) in counts.iter_mut().zip(&mut figures).enumerate() {
            let own: Vec<usize> = curves
                .iter()
                .map(|c| match rule {
                    0 => c.fixed(budget),
                    1 => c.above(theta),
                    2 => c.until(tau),
                    _ => c.gains(lambda),
                })
                .collect();
            latents.resize(x.rows(), reach);
            let (len, index, value, _) = latents.parts_mut();
            for (b, (curve, &n)) in curves.iter().zip(&own).enumerate() {
                let mut kept: Vec<(u32, f32)> = curve.index.iter().copied().zip(curve.value.iter().copied()).collect();
                kept.truncate(n);
                kept.sort_unstable_by_key(|e| e.0);
                len[b] = n as u32;
                for (j, (h, v)) in kept.into_iter().enumerate() {
                    (index[b * reach + j], value[b * reach + j]) = (h, v);
                }
            }
            sae.decode(&latents, work, recon.top_mut(x.rows()));
            figures.add(x, recon.top(x.rows()), &[]);
            counts.extend(own.iter().map(|&n| n as f64));
        }
    };
    each_curve(sae, data, rows, reach, &mut look, tick);

    // Parts of equal size from the simplest rows to the hardest.
    let place = ranks(&hard);
    let part: Vec<usize> = place
        .iter()
        .map(|&r| ((r - 0.5) / hard.len() as f64 * PARTS as f64) as usize)
        .map(|p| p.min(PARTS - 1))
        .collect();
    let by_part = |values: &[f64]| -> Vec<Number> {
        let mut sums = [(0.0, 0usize); PARTS];
        part.iter().zip(values).for_each(|(&p, &v)| sums[p] = (sums[p].0 + v, sums[p].1 + 1));
        sums.iter().map(|&(sum, n)| Number((n > 0).then(|| sum / n as f64))).collect()
    };
    let rules = names.iter().zip(counts.iter().zip(&figures)).enumerate().map(|(i, (name, (counts, figures)))| {
        let mut sorted = counts.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| Number(sorted.get(((sorted.len() as f64 * q) as usize).min(sorted.len() - 1)).copied());
        let summary = figures.overall();
        RuleRecord {
            name: (*name).into(),
            threshold: Number([None, Some(theta), Some(tau), Some(lambda)][i]),
            l0: Number::from(counts.iter().sum::<f64>() / counts.len() as f64),
            l0_quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(quantile).to_vec(),
            at_reach: Number::from(counts.iter().filter(|&&n| n >= reach as f64).count() as f64 / counts.len() as f64),
            fvu: Number(summary.fvu),
            pearson: Number(summary.pearson),
            with_complexity: Number::from(spearman(counts, &hard)),
            l0_by_complexity: by_part(counts),
        }
    });
    AdaptiveRecord { budget: budget as u64, reach: reach as u64, rules: rules.collect(), complexity: by_part(&hard) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::Synthetic;
    use crate::init::{Init, Sample, init};
    use crate::model::Config;

    #[test]
    fn all_rules_keep_the_budget_and_the_residual_rule_gives_hard_rows_more() {
        let data = Dataset::from_rows(Synthetic::parse("synthetic:kind=images,rows=400").expect("a spec").rows());
        let data = data.expect("rows");
        let rows: Vec<usize> = (0..400).collect();
        let mean: Vec<f32> = data.moments(&rows).0.iter().map(|&m| m as f32).collect();
        let mut x = Mat::zeros(400, data.dim());
        data.fill(&rows, 0, x.view_mut());
        let config = Config { d_in: data.dim(), latents: 64, k: 6, ..Config::default() };
        let sample = Sample { mean: &mean, rows: x.view(), held_out: 0, shape: None };
        let (sae, _) = init(config, Init::Pca, 1, 0, sample).expect("a model");
        let got = adaptive(&sae, &data, &mean, &rows, &rows, 6, &mut |_, _| ());
        for rule in &got.rules {
            assert!((rule.l0.get().expect("rows") - 6.0).abs() < 0.2, "{} {:?}", rule.name, rule.l0);
        }
        let spread = |i: usize| {
            got.rules[i].l0_quantiles[4].get().expect("rows") - got.rules[i].l0_quantiles[0].get().expect("rows")
        };
        assert!(spread(0) < spread(2));
        assert!(got.rules[2].with_complexity.get().expect("not constant") > 0.3);
        let by: Vec<f64> = got.rules[2].l0_by_complexity.iter().map(|n| n.get().expect("40 rows")).collect();
        assert!(by[9] > by[0]);
        // For its number of latents no rule that takes the largest first has a smaller error, on the rows it is set on.
        let fvu = |i: usize| got.rules[i].fvu.get().expect("not constant");
        assert!((0..3).all(|i| fvu(3) <= fvu(i) * 1.01), "{:?}", (0..4).map(fvu).collect::<Vec<_>>());
        assert!(got.complexity.windows(2).all(|w| w[0].get() <= w[1].get()));
    }
}
