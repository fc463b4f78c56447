//! Inequality of the contributions of latents: usage curve, Gini coefficient, share that carries 80 %, tail. A
//! contribution below 0 counts as 0.

/// Points of the usage curve.
pub const POINTS: usize = 101;

/// Inequality of a list of contributions; the definitions are those of [`crate::record::analysis::UsageRecord`].
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// Share of the total that the top 0, 1, … 100 % of the latents contribute, the largest first.
    pub curve: Vec<f64>,
    /// Gini coefficient; NaN without any contribution.
    pub gini: f64,
    /// Smallest share of the latents that contributes 80 % of the total; NaN without any contribution.
    pub carry_80: f64,
    /// Number of contributions below 0.
    pub negative: usize,
    /// Exponent α of contribution ∝ rank^−α over the upper half of the positive ones; NaN for fewer than eight.
    pub tail: f64,
    /// R² of that fit.
    pub tail_r2: f64,
}

/// Each contribution as a share of the total; all 0 without any contribution.
pub fn shares(contributions: &[f64]) -> Vec<f64> {
    let total: f64 = contributions.iter().map(|c| c.max(0.0)).sum();
    contributions.iter().map(|c| if total > 0.0 { c.max(0.0) / total } else { 0.0 }).collect()
}

/// Computes the inequality of contributions.
pub fn usage(contributions: &[f64]) -> Usage {
    let n = contributions.len();
    let mut sorted = shares(contributions);
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut carried = vec![0.0];
    sorted.iter().for_each(|s| carried.push(carried.last().expect("a first") + s));
    let total = carried[n];
    // The curve is linear between latents.
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

/// Exponent and R² of contribution ∝ rank^−α, by least squares on logarithms.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contributions_have_a_gini_of_0() {
        let u = usage(&[2.0; 50]);
        assert!(u.gini.abs() < 1e-12 && (u.carry_80 - 0.8).abs() < 1e-12 && u.negative == 0);
        assert!((u.curve[37] - 0.37).abs() < 1e-12 && (u.curve[100] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn one_latent_with_all_contributions_has_a_gini_near_1() {
        let mut c = vec![0.0; 100];
        c[60] = 3.0;
        c[7] = -5.0;
        let u = usage(&c);
        assert!((u.gini - 0.99).abs() < 1e-12 && (u.carry_80 - 0.008).abs() < 1e-12 && u.negative == 1);
        assert_eq!(u.curve[1], 1.0);
        assert!(usage(&[0.0; 5]).gini.is_nan());
    }

    #[test]
    fn gini_equals_the_mean_difference_of_all_pairs() {
        let c: Vec<f64> = (0..30).map(|i| f64::from(i * i % 17)).collect();
        let total: f64 = c.iter().sum();
        let pairs: f64 = c.iter().flat_map(|a| c.iter().map(move |b| (a - b).abs())).sum();
        assert!((usage(&c).gini - pairs / (2.0 * 30.0 * total)).abs() < 1e-12);
    }

    #[test]
    fn the_exponent_of_a_power_law_is_found() {
        let c: Vec<f64> = (1..=200).map(|i| f64::from(i).powf(-1.3)).collect();
        let u = usage(&c);
        assert!((u.tail - 1.3).abs() < 1e-9 && u.tail_r2 > 0.999);
    }
}
