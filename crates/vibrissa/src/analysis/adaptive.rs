//! Adaptive number of active latents: each row uses as many as it needs, with a given mean number (the budget).
//!
//! ```text
//! fixed      the k largest of every row
//! threshold  all above one θ for all rows (as batchtopk)
//! residual   the largest, one after the other, until ‖x − recon‖² ≤ τ: every row has the same error
//! gain       as many of the largest as minimise ‖x − recon‖² + λ n: a latent is used where it lowers the error most
//! ```
//!
//! θ, τ and λ are set on tuning rows so that a row uses k latents in the mean; the figures are of other rows. Only the
//! [`REACH`]·k largest latents of a row can be used. A latent is large by |z ‖w‖|, its contribution to the
//! reconstruction.

use super::ranks::{ranks, spearman};
use crate::data::Dataset;
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat, MatRef};
use crate::metrics::Evaluation;
use crate::model::{Output, Sae, Workspace};
use crate::record::Number;
use crate::record::adaptive::{AdaptiveRecord, RuleRecord};
use rayon::prelude::*;

/// Most latents of a row, as a multiple of the budget.
pub const REACH: usize = 4;

/// Most rows that θ, τ and λ are set on.
const MAX_TUNING_ROWS: usize = 4096;

/// Groups of rows of equal size, by complexity.
const GROUPS: usize = 10;

/// Rows and budget of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveOptions<'a> {
    /// Mean of the training rows, for [`complexity`].
    pub mean: &'a [f32],
    /// Rows that θ, τ and λ are set on: training rows.
    pub tuning_rows: &'a [usize],
    /// Rows that the figures are of.
    pub rows: &'a [usize],
    /// Mean number of active latents per row, k.
    pub budget: usize,
}

/// A rule for the number of active latents of a row.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Fixed(usize),
    Threshold(f64),
    Residual(f64),
    Gain(f64),
}

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Rule::Fixed(_) => "fixed",
            Rule::Threshold(_) => "threshold",
            Rule::Residual(_) => "residual",
            Rule::Gain(_) => "gain",
        }
    }

    /// θ, τ or λ.
    fn parameter(self) -> Option<f64> {
        match self {
            Rule::Fixed(_) => None,
            Rule::Threshold(v) | Rule::Residual(v) | Rule::Gain(v) => Some(v),
        }
    }

    /// Active latents of a row.
    fn count(self, curve: &ErrorCurve) -> usize {
        match self {
            Rule::Fixed(k) => k.min(curve.index.len()),
            Rule::Threshold(theta) => curve.size.iter().take_while(|&&s| f64::from(s) > theta).count(),
            Rule::Residual(tau) => curve.error.iter().position(|&e| e <= tau).unwrap_or(curve.index.len()),
            Rule::Gain(lambda) => {
                let cost = |n: usize| curve.error[n] + lambda * n as f64;
                (0..curve.error.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
            }
        }
    }
}

/// The largest latents of one row, and the error by their number.
struct ErrorCurve {
    /// z ‖w‖, descending.
    size: Vec<f32>,
    /// The latents in this order.
    index: Vec<u32>,
    /// Their values z.
    value: Vec<f32>,
    /// ‖x − recon‖² with the first 0, 1, 2, … of them.
    error: Vec<f64>,
}

impl ErrorCurve {
    /// Computes the curve of row `x` with these latents; `norms` are ‖w‖ by latent.
    fn new(sae: &Sae, x: &[f32], index: &[u32], value: &[f32], norms: &[f32]) -> ErrorCurve {
        let isa = Isa::current();
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
        ErrorCurve {
            size: order.iter().map(|&j| size(j)).collect(),
            index: order.iter().map(|&j| index[j]).collect(),
            value: order.iter().map(|&j| value[j]).collect(),
            error,
        }
    }
}

/// Solves `mean(v) = budget` for v between 0 and `most` by bisection; `mean` decreases in v.
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

/// Complexity of a row, without a model: of images the mean absolute difference of neighbouring pixels, of other rows
/// the distance from `mean`.
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

/// Computes the curves of rows, batch by batch: calls `see(rows, curves, workspace)` and then `on_progress(done, all)`.
/// A row that overflows has the latents that were found before.
fn for_each_batch(
    sae: &Sae,
    data: &Dataset,
    rows: &[usize],
    reach: usize,
    see: &mut dyn FnMut(MatRef, Vec<ErrorCurve>, &Workspace),
    on_progress: &mut dyn FnMut(usize, usize),
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
        data.fill(batch, 0, x.first_rows_mut(n));
        sae.encode_top(x.first_rows(n), reach, &mut work, &mut latents);
        let curve = |b: usize| {
            let (index, value) = latents.row(b);
            ErrorCurve::new(sae, x.row(b), index, value, &norms)
        };
        let curves: Vec<ErrorCurve> = (0..n).into_par_iter().map(curve).collect();
        see(x.first_rows(n), curves, &work);
        on_progress(done * size + n, rows.len());
    }
}

/// Sets θ, τ and λ so that the rows of these curves use `budget` latents in the mean.
fn tune(curves: &[ErrorCurve], budget: usize) -> [Rule; 4] {
    let mean = |rule: Rule| curves.iter().map(|c| rule.count(c) as f64).sum::<f64>() / curves.len().max(1) as f64;
    let most = |of: &dyn Fn(&ErrorCurve) -> f64| curves.iter().map(of).fold(0.0, f64::max);
    let target = budget as f64;
    let largest_size = most(&|c| c.size.first().map_or(0.0, |&s| f64::from(s)));
    let largest_error = most(&|c| c.error[0]);
    [
        Rule::Fixed(budget),
        Rule::Threshold(solve(largest_size, target, |v| mean(Rule::Threshold(v)))),
        Rule::Residual(solve(largest_error, target, |v| mean(Rule::Residual(v)))),
        Rule::Gain(solve(largest_error, target, |v| mean(Rule::Gain(v)))),
    ]
}

/// Compares the four rules at the same mean number of active latents.
///
/// # Panics
/// For a model whose latents do not add up one by one: one with a sigmoid output or an activation that does not select
/// k.
pub fn compare_rules(
    sae: &Sae,
    data: &Dataset,
    options: AdaptiveOptions,
    on_progress: &mut dyn FnMut(usize, usize),
) -> AdaptiveRecord {
    let config = sae.config();
    assert!(config.activation.keeps_k() && config.output == Output::Linear, "latents that add up one by one");
    let reach = (REACH * options.budget).min(config.latents);
    let tuning_rows = data.subsample_rows(options.tuning_rows, MAX_TUNING_ROWS);
    let mut curves: Vec<ErrorCurve> = Vec::with_capacity(tuning_rows.len());
    for_each_batch(sae, data, &tuning_rows, reach, &mut |_, c, _| curves.extend(c), &mut |_, _| ());
    let mut results = tune(&curves, options.budget).map(|rule| RuleResults::new(rule, data.dim()));
    drop(curves);

    let mut complexities: Vec<f64> = Vec::new();
    let (mut recon, mut latents) = (Mat::default(), Latents::default());
    let mut add = |x: MatRef, curves: Vec<ErrorCurve>, work: &Workspace| {
        recon.reserve(x.rows(), x.cols());
        complexities.extend((0..x.rows()).map(|b| complexity(data, x.row(b), options.mean)));
        for result in &mut results {
            let counts: Vec<usize> = curves.iter().map(|c| result.rule.count(c)).collect();
            select(&curves, &counts, reach, &mut latents);
            sae.decode(&latents, work, recon.first_rows_mut(x.rows()));
            result.evaluation.add(x, recon.first_rows(x.rows()), &[]);
            result.counts.extend(counts.iter().map(|&n| n as f64));
        }
    };
    for_each_batch(sae, data, options.rows, reach, &mut add, on_progress);
    let groups = Groups::new(&complexities);
    AdaptiveRecord {
        budget: options.budget as u64,
        reach: reach as u64,
        rules: results.iter().map(|r| r.record(reach, &complexities, &groups)).collect(),
        complexity: groups.means(&complexities),
    }
}

/// Writes the first `counts[b]` latents of each curve, by ascending number.
fn select(curves: &[ErrorCurve], counts: &[usize], reach: usize, latents: &mut Latents) {
    latents.resize(curves.len(), reach);
    let (len, index, value, _) = latents.parts_mut();
    for (b, (curve, &n)) in curves.iter().zip(counts).enumerate() {
        let mut active: Vec<(u32, f32)> = curve.index.iter().copied().zip(curve.value.iter().copied()).collect();
        active.truncate(n);
        active.sort_unstable_by_key(|e| e.0);
        len[b] = n as u32;
        for (j, (h, v)) in active.into_iter().enumerate() {
            (index[b * reach + j], value[b * reach + j]) = (h, v);
        }
    }
}

/// The results of one rule.
struct RuleResults {
    rule: Rule,
    /// Active latents by row.
    counts: Vec<f64>,
    evaluation: Evaluation,
}

impl RuleResults {
    fn new(rule: Rule, dim: usize) -> RuleResults {
        RuleResults { rule, counts: Vec::new(), evaluation: Evaluation::new(dim, 0, None, 0) }
    }

    fn record(&self, reach: usize, complexities: &[f64], groups: &Groups) -> RuleRecord {
        let (counts, n) = (&self.counts, self.counts.len());
        let mut sorted = counts.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| Number(sorted.get(((n as f64 * q) as usize).min(n - 1)).copied());
        let summary = self.evaluation.overall();
        RuleRecord {
            name: self.rule.name().into(),
            threshold: Number(self.rule.parameter()),
            l0: Number::from(counts.iter().sum::<f64>() / n as f64),
            l0_quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(quantile).to_vec(),
            at_reach: Number::from(counts.iter().filter(|&&n| n >= reach as f64).count() as f64 / n as f64),
            fvu: Number(summary.reconstruction.fvu),
            pearson: Number(summary.reconstruction.pearson),
            with_complexity: Number::from(spearman(counts, complexities)),
            l0_by_complexity: groups.means(counts),
        }
    }
}

/// Rows in groups of equal size, from the least to the most complex.
struct Groups {
    /// The group of each row.
    group: Vec<usize>,
}

impl Groups {
    fn new(complexities: &[f64]) -> Groups {
        let n = complexities.len() as f64;
        let group = |&rank: &f64| (((rank - 0.5) / n * GROUPS as f64) as usize).min(GROUPS - 1);
        Groups { group: ranks(complexities).iter().map(group).collect() }
    }

    /// Means of a value of the rows by group; undefined for a group without rows.
    fn means(&self, values: &[f64]) -> Vec<Number> {
        let mut sums = [(0.0, 0usize); GROUPS];
        self.group.iter().zip(values).for_each(|(&g, &v)| sums[g] = (sums[g].0 + v, sums[g].1 + 1));
        sums.iter().map(|&(sum, n)| Number((n > 0).then(|| sum / n as f64))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::Synthetic;
    use crate::init::{Init, Sample, init};
    use crate::model::Config;

    #[test]
    fn all_rules_keep_the_budget_and_the_residual_rule_gives_complex_rows_more() {
        let data = Dataset::from_rows(Synthetic::parse("synthetic:kind=images,rows=400").expect("a spec").rows());
        let data = data.expect("rows");
        let rows: Vec<usize> = (0..400).collect();
        let mean: Vec<f32> = data.moments(&rows).0.iter().map(|&m| m as f32).collect();
        let mut x = Mat::zeros(400, data.dim());
        data.fill(&rows, 0, x.view_mut());
        let config = Config { d_in: data.dim(), latents: 64, k: 6, ..Config::default() };
        let sample = Sample { mean: &mean, rows: x.view(), held_out: 0, shape: None };
        let (sae, _) = init(config, Init::Pca, 1, 0, sample).expect("a model");
        let options = AdaptiveOptions { mean: &mean, tuning_rows: &rows, rows: &rows, budget: 6 };
        let got = compare_rules(&sae, &data, options, &mut |_, _| ());
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
