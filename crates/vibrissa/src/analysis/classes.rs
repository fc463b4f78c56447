//! Relation of a latent to the classes, from its histograms by class alone. Augmented variants of a row do not count.

use super::sums::{BINS, LatentSums};
use statrs::function::gamma::gamma_ur;

/// One latent against all classes; figures of a class without rows are NaN. The definitions are those of
/// [`crate::record::analysis::columns::ClassColumns`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRelevance {
    /// By class: mean of z over its rows.
    pub mean: Vec<f64>,
    /// By class: its mean minus that of all other rows.
    pub difference: Vec<f64>,
    /// By class: share of its rows in which the latent is active.
    pub frequency: Vec<f64>,
    /// By class: area under the ROC curve of z as a classifier of this class against all others; NaN with one class.
    pub auc: Vec<f64>,
    /// Mutual information between the class and z in five states, bits.
    pub information: f64,
    /// p of the Kruskal–Wallis test with ties (of two classes the Mann–Whitney test); NaN with one class.
    pub p: f64,
}

/// Rows by value in ascending order: the bins below 0, the rows in which the latent is inactive, the bins above 0.
/// `[C][BINS + 1]`.
fn ascending_counts(sums: &LatentSums, class_rows: &[u64]) -> Vec<Vec<f64>> {
    const NEGATIVE: usize = super::sums::NEGATIVE;
    class_rows
        .iter()
        .enumerate()
        .map(|(c, &rows)| {
            let bins = &sums.bins[c * BINS..][..BINS];
            let active: u64 = bins.iter().map(|&n| u64::from(n)).sum();
            let mut out: Vec<f64> = bins[..NEGATIVE].iter().map(|&n| f64::from(n)).collect();
            out.push(rows as f64 - active as f64);
            out.extend(bins[NEGATIVE..].iter().map(|&n| f64::from(n)));
            out
        })
        .collect()
}

/// Computes the relation of one latent to the classes; `class_rows` are the rows of each class.
pub fn class_relevance(sums: &LatentSums, class_rows: &[u64]) -> ClassRelevance {
    let by_class = ascending_counts(sums, class_rows);
    let classes = class_rows.len();
    let of = |c: usize, value: f64| if class_rows[c] > 0 { value / class_rows[c] as f64 } else { f64::NAN };
    let total: Vec<f64> = (0..=BINS).map(|b| by_class.iter().map(|c| c[b]).sum()).collect();
    let n: f64 = total.iter().sum();
    // The rank of a bin is the mean rank of the rows in it.
    let mut below = 0.0;
    let ranks: Vec<f64> = total
        .iter()
        .map(|&t| {
            let rank = below + (t + 1.0) / 2.0;
            below += t;
            rank
        })
        .collect();
    let rank_sum = |counts: &Vec<f64>| counts.iter().zip(&ranks).map(|(&n, &r)| n * r).sum::<f64>();
    let groups: Vec<(f64, f64)> = by_class.iter().map(rank_sum).zip(class_rows.iter().map(|&n| n as f64)).collect();
    let auc = groups
        .iter()
        .map(|&(rank_sum, own)| {
            let others = n - own;
            if own == 0.0 || others == 0.0 { f64::NAN } else { (rank_sum - own * (own + 1.0) / 2.0) / (own * others) }
        })
        .collect();
    let ties = total.iter().map(|t| t * t * t - t).sum();
    let present = class_rows.iter().filter(|&&n| n > 0).count();
    let sum: f64 = sums.class_sum.iter().map(|s| s.value()).sum();
    let difference = |c: usize| {
        let own = sums.class_sum[c].value();
        of(c, own) - (sum - own) / (n - class_rows[c] as f64)
    };
    ClassRelevance {
        difference: (0..classes).map(difference).collect(),
        mean: (0..classes).map(|c| of(c, sums.class_sum[c].value())).collect(),
        frequency: (0..classes).map(|c| of(c, sums.class_count(c) as f64)).collect(),
        auc,
        information: information(&by_class, &total, n),
        // Where all rows have the same value the classes do not differ.
        p: if present < 2 { f64::NAN } else { kruskal_wallis(&groups, ties, n).map_or(1.0, |test| test.1) },
    }
}

/// The statistic of Kruskal and Wallis (1952) and its p, χ² with G − 1 degrees of freedom:
///
/// ```text
/// H = (12/(n(n+1)) Σ R_g²/n_g − 3(n+1)) / (1 − Σ(t³ − t)/(n³ − n))
/// ```
///
/// `groups` are the rank sum R and the rows of each group, groups without rows do not count; `ties` is Σ(t³ − t) over
/// tied values. `None` for fewer than two groups, or where all values are equal.
pub(super) fn kruskal_wallis(groups: &[(f64, f64)], ties: f64, n: f64) -> Option<(f64, f64)> {
    let present: Vec<(f64, f64)> = groups.iter().copied().filter(|g| g.1 > 0.0).collect();
    let untied = 1.0 - ties / (n * n * n - n);
    if present.len() < 2 || untied <= 1e-12 {
        return None;
    }
    let spread: f64 = present.iter().map(|(rank_sum, rows)| rank_sum * rank_sum / rows).sum();
    let h = ((12.0 / (n * (n + 1.0)) * spread - 3.0 * (n + 1.0)) / untied).max(0.0);
    Some((h, if h > 0.0 { gamma_ur((present.len() - 1) as f64 / 2.0, h / 2.0) } else { 1.0 }))
}

/// Mutual information, in bits, between the class and five states: inactive, and the quartiles of the active values
/// over all classes.
fn information(by_class: &[Vec<f64>], total: &[f64], n: f64) -> f64 {
    const ZERO: usize = super::sums::NEGATIVE;
    let active: f64 = n - total[ZERO];
    let mut below = 0.0;
    let states: Vec<usize> = (0..=BINS)
        .map(|b| {
            if b == ZERO {
                return 0;
            }
            let middle = below + total[b] / 2.0;
            below += total[b];
            1 + ((4.0 * middle / active.max(1.0)) as usize).min(3)
        })
        .collect();
    let mut joint = vec![[0.0f64; 5]; by_class.len()];
    for (own, counts) in joint.iter_mut().zip(by_class) {
        counts.iter().zip(&states).for_each(|(&c, &s)| own[s] += c);
    }
    let state = |s: usize| joint.iter().map(|j| j[s]).sum::<f64>();
    let mut bits = 0.0;
    for own in &joint {
        let rows: f64 = own.iter().sum();
        for (s, &both) in own.iter().enumerate().filter(|b| *b.1 > 0.0) {
            bits += both / n * (both * n / (rows * state(s))).log2();
        }
    }
    bits.max(0.0)
}

/// The q of Benjamini and Hochberg (1995) of each p: the smallest false discovery rate at which it is a discovery. NaN
/// stays NaN and does not count.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| p[i].is_finite()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut q = vec![f64::NAN; p.len()];
    let mut least = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p[i] * order.len() as f64 / (rank + 1) as f64);
        q[i] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: &[(usize, f32)], classes: usize) -> LatentSums {
        let mut s = LatentSums::new(classes);
        values.iter().enumerate().filter(|v| v.1.1 != 0.0).for_each(|(r, &(c, v))| s.add(0, r as u64, c, v, 0.0, 0.0));
        s
    }

    /// 40 rows with values so far apart that bins keep their order.
    fn rows(classes: usize) -> (Vec<(usize, f32)>, Vec<u64>) {
        let values: Vec<(usize, f32)> = (0..40usize)
            .map(|r| {
                let c = r * 7 % classes;
                let size = [0.0, 0.5, 2.0, 0.0, -1.0, 4.0, 8.0][(r * 5 + c) % 7];
                (c, size * if c == 1 && r % 3 == 0 { 2.0 } else { 1.0 })
            })
            .collect();
        let class_rows = (0..classes).map(|c| values.iter().filter(|v| v.0 == c).count() as u64).collect();
        (values, class_rows)
    }

    #[test]
    fn auc_is_the_share_of_pairs_in_order() {
        let (values, class_rows) = rows(3);
        let got = class_relevance(&sums(&values, 3), &class_rows);
        for c in 0..3 {
            let (mut wins, mut pairs) = (0.0, 0.0);
            for &(_, a) in values.iter().filter(|v| v.0 == c) {
                for &(_, b) in values.iter().filter(|v| v.0 != c) {
                    wins += if a > b {
                        1.0
                    } else if a == b {
                        0.5
                    } else {
                        0.0
                    };
                    pairs += 1.0;
                }
            }
            assert!((got.auc[c] - wins / pairs).abs() < 1e-12, "{c}: {} {}", got.auc[c], wins / pairs);
            let own: Vec<f32> = values.iter().filter(|v| v.0 == c).map(|v| v.1).collect();
            let others: Vec<f32> = values.iter().filter(|v| v.0 != c).map(|v| v.1).collect();
            let mean = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>() / v.len() as f64;
            assert!((got.difference[c] - (mean(&own) - mean(&others))).abs() < 1e-9);
            assert!((got.mean[c] - own.iter().map(|&v| f64::from(v)).sum::<f64>() / own.len() as f64).abs() < 1e-9);
        }
    }

    /// SciPy 1.17.1: `scipy.stats.kruskal([1,2,2,0,0],[4,8,2,4],[0,1,0])`, and
    /// `scipy.stats.mannwhitneyu([1,2,4,8],[0,0,1,0,2], use_continuity=False, method='asymptotic')`.
    #[test]
    fn p_equals_scipy() {
        let groups: [&[f32]; 3] = [&[1.0, 2.0, 2.0, 0.0, 0.0], &[4.0, 8.0, 2.0, 4.0], &[0.0, 1.0, 0.0]];
        let values: Vec<(usize, f32)> =
            groups.iter().enumerate().flat_map(|(c, g)| g.iter().map(move |&v| (c, v))).collect();
        let got = class_relevance(&sums(&values, 3), &[5, 4, 3]);
        assert!((got.p - 0.025_097_174_723_414_01).abs() < 1e-9, "{}", got.p);
        let groups: [&[f32]; 2] = [&[1.0, 2.0, 4.0, 8.0], &[0.0, 0.0, 1.0, 0.0, 2.0]];
        let values: Vec<(usize, f32)> =
            groups.iter().enumerate().flat_map(|(c, g)| g.iter().map(move |&v| (c, v))).collect();
        let got = class_relevance(&sums(&values, 2), &[4, 5]);
        assert!((got.p - 0.044_378_427_345_486_94).abs() < 1e-9, "{}", got.p);
    }

    #[test]
    fn information_of_a_perfect_latent_is_one_bit_and_of_an_unrelated_one_none() {
        let perfect: Vec<(usize, f32)> = (0..40).map(|r| (r % 2, if r % 2 == 0 { 1.0 } else { 0.0 })).collect();
        assert!((class_relevance(&sums(&perfect, 2), &[20, 20]).information - 1.0).abs() < 1e-12);
        let unrelated: Vec<(usize, f32)> = (0..40).map(|r| (r % 2, if r / 2 % 2 == 0 { 1.0 } else { 0.0 })).collect();
        assert!(class_relevance(&sums(&unrelated, 2), &[20, 20]).information < 1e-12);
    }

    #[test]
    fn q_is_the_smallest_rate() {
        let q = benjamini_hochberg(&[0.01, 0.04, f64::NAN, 0.03, 0.5]);
        for (got, want) in q.iter().zip([0.04, 0.16 / 3.0, f64::NAN, 0.16 / 3.0, 0.5]) {
            assert!((got - want).abs() < 1e-12 || (got.is_nan() && want.is_nan()), "{q:?}");
        }
    }
}
