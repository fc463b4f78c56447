//! How unequally the latents contribute: usage curve, Gini, who carries 80 %, how long the tail is. From contributions
//! alone; what is negative counts as 0, and is counted.

/// Points of the usage curve.
pub const POINTS: usize = 101;

/// What a list of contributions says.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// Share of the total carried by the top 0, 1, … 100 % of the latents, largest first.
    pub curve: Vec<f64>,
    /// Gini coefficient: 0 all alike, towards 1 a single one has all.
    pub gini: f64,
    /// Share of the latents that carry 80 % of the total.
    pub carry_80: f64,
    /// Latents with a contribution below 0.
    pub negative: usize,
    /// Exponent α of a power law contribution ∝ rank^-α, fitted by least squares on logarithms over the upper half of the
    /// positive ones; NaN with fewer than eight.
    pub tail: f64,
    /// R² of that fit.
    pub tail_r2: f64,
}

/// Shares of the total, negative contributions as 0; all 0 where there is none.
pub fn shares(contributions: &[f64]) -> Vec<f64> {
    let total: f64 = contributions.iter().map(|c| c.max(0.0)).sum();
    contributions.iter().map(|c| if total > 0.0 { c.max(0.0) / total } else { 0.0 }).collect()
}

/// Usage of latents by their contributions.
pub fn usage(contributions: &[f64]) -> Usage {
    let n = contributions.len();
    let mut sorted = shares(contributions);
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut carried = vec![0.0];
    sorted.iter().for_each(|s| carried.push(carried.last().expect("a first") + s));
    let total = carried[n];
    // Between two latents the curve is straight.
    let at = |share: f64| {
        let place = share * n as f64;
        let (i, part) = ((place.floor() as usize).min(n), place.fract());
        carried[i] + part * (carried[(i + 1).min(n)] - carried[i])
    };
    let curve = (0..POINTS).map(|p| at(p as f64 / (POINTS - 1) as f64)).collect();
    // G = Σ (2 i - n - 1) x_i / (n Σ x), i = 1.. ascending.
    let weighted: f64 = sorted.iter().rev().enumerate().map(|(i, s)| (2.0 * (i + 1) as f64 - n as f64 - 1.0) * s).sum();
    let carry_80 = match carried.iter().position(|&c| c >= 0.8 * total) {
        Some(i) if total > 0.0 && i > 0 => {
            let (before, step) = (carried[i - 1], carried[i] - carried[i - 1]);
            (i as f64 - 1.0 + (0.8 * total - before) / step) / n as f64
        }
        _ => f64::NAN,
    };
    let (tail, tail_r2) = power_law(&sorted);
    Usage {
        curve,
        gini: if total > 0.0 { weighted / (n as f64 * total) } else { f64::NAN },
        carry_80,
        negative: contributions.iter().filter(|&&c| c < 0.0).count(),
        tail,
        tail_r2,
    }
}

fn power_law(descending: &[f64]) -> (f64, f64) {
    let positive = descending.iter().take_while(|&&s| s > 0.0).count();
    let points: Vec<(f64, f64)> =
        descending[..positive / 2].iter().enumerate().map(|(i, s)| (((i + 1) as f64).ln(), s.ln())).collect();
    if positive < 8 {
        return (f64::NAN, f64::NAN);
    }
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |f: fn(f64, f64) -> f64| points.iter().map(|p| f(p.0 - mx, p.1 - my)).sum::<f64>();
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    (-xy / xx, if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 })
}

/// Spearman's rank correlation; ties share their mean rank. NaN where either is constant.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(&a, &b)| f(a - ma, b - mb)).sum::<f64>();
    let (aa, bb, ab) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { f64::NAN }
}

/// Places by descending value; of equals the first comes first.
pub fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

/// Mean ranks, from 1.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let end = order[at..].iter().take_while(|&&i| values[i] == values[order[at]]).count() + at;
        let mean = (at + end + 1) as f64 / 2.0;
        order[at..end].iter().for_each(|&i| out[i] = mean);
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_latents_are_equal() {
        let u = usage(&[2.0; 50]);
        assert!(u.gini.abs() < 1e-12 && (u.carry_80 - 0.8).abs() < 1e-12 && u.negative == 0);
        assert!((u.curve[37] - 0.37).abs() < 1e-12 && (u.curve[100] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn one_latent_with_all() {
        let mut c = vec![0.0; 100];
        c[60] = 3.0;
        c[7] = -5.0;
        let u = usage(&c);
        assert!((u.gini - 0.99).abs() < 1e-12 && (u.carry_80 - 0.008).abs() < 1e-12 && u.negative == 1);
        assert_eq!(u.curve[1], 1.0);
        assert!(usage(&[0.0; 5]).gini.is_nan());
    }

    #[test]
    fn gini_by_all_pairs() {
        let c: Vec<f64> = (0..30).map(|i| f64::from(i * i % 17)).collect();
        let total: f64 = c.iter().sum();
        let pairs: f64 = c.iter().flat_map(|a| c.iter().map(move |b| (a - b).abs())).sum();
        assert!((usage(&c).gini - pairs / (2.0 * 30.0 * total)).abs() < 1e-12);
    }

    #[test]
    fn a_power_law_is_found() {
        let c: Vec<f64> = (1..=200).map(|i| f64::from(i).powf(-1.3)).collect();
        let u = usage(&c);
        assert!((u.tail - 1.3).abs() < 1e-9 && u.tail_r2 > 0.999);
    }

    #[test]
    fn spearman_of_ties_and_orders() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!((spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]) - 1.0).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0], &[9.0, 5.0, 1.0]) + 1.0).abs() < 1e-12);
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
