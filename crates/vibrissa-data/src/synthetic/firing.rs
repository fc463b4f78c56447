//! The features of each synthetic row and their amplitudes, sampled by (seed, row) alone. A feature *fires* in a row that
//! is made of it.
//!
//! There are three laws by which features fire together; all of them keep the probability p_i of each feature:
//!
//! - *independent*: feature i fires with probability p_i.
//! - *correlation* ρ with F *factors*: a Gaussian copula of rank F. Each factor f of a row has a value g_f ~ N(0, 1);
//!   feature i fires where √ρ g_{i mod F} + √(1-ρ) e_i > t_i, with e_i ~ N(0, 1) and P(N(0, 1) > t_i) = p_i.
//! - *parents* P: feature i ≥ P fires only in rows in which feature i mod P does, there with probability p_i / p_{i mod
//!   P} and independently of all else. The p_i fall with i, so that this is at most 1. Factors affect the parents only.
//!
//! An amplitude is |N(1, 0.25)|.

use super::{Synthetic, SyntheticKind, row_stream};
use vibrissa_core::random::{Stream, ln};

/// Factor of the probability of a feature of one class in rows of the other class.
const OTHER_CLASS: f64 = 0.05;

/// Samples the features of any row, always with the same result.
#[derive(Clone, Debug)]
pub struct Firing {
    seed: u64,
    /// Probability of each feature, by class; rows have the classes in turn.
    probabilities: Vec<Vec<f64>>,
    law: FiringLaw,
}

/// How the features of a row are sampled.
#[derive(Clone, Debug)]
enum FiringLaw {
    /// One random number for each feature.
    Independent,
    /// Few random numbers for each row, by skipping from one candidate to the next.
    Skipping { blocks: Vec<FeatureBlock>, parents: usize, copula: Option<Copula> },
}

/// Features `first`, `first + step`, … (`count` of them), whose probabilities differ by at most a factor of two.
#[derive(Clone, Copy, Debug)]
struct FeatureBlock {
    first: usize,
    step: usize,
    count: usize,
}

#[derive(Clone, Debug)]
struct Copula {
    factors: usize,
    /// √ρ.
    shared: f64,
    /// √(1-ρ).
    individual: f64,
    /// t_i.
    thresholds: Vec<f64>,
    normal: NormalDistribution,
}

impl Firing {
    pub(super) fn new(of: &Synthetic) -> Firing {
        let images = matches!(of.kind, SyntheticKind::Images { .. });
        let probabilities: Vec<Vec<f64>> = (0..if images { 2 } else { 1 }).map(|c| of.probabilities(c)).collect();
        let law = if images {
            FiringLaw::Independent
        } else {
            let p = &probabilities[0];
            let free = if of.parents > 0 { of.parents } else { of.features };
            let factors = if of.correlation > 0.0 { of.factors } else { 1 };
            let copula = (of.correlation > 0.0).then(|| {
                let normal = NormalDistribution::new();
                Copula {
                    factors,
                    shared: of.correlation.sqrt(),
                    individual: (1.0 - of.correlation).sqrt(),
                    thresholds: p[..free].iter().map(|&p| normal.exceeded_with(p)).collect(),
                    normal,
                }
            });
            FiringLaw::Skipping { blocks: blocks(&p[..free], factors), parents: of.parents, copula }
        };
        Firing { seed: of.seed, probabilities, law }
    }

    /// Writes the features that fire in a row, ascending, and their amplitudes.
    pub fn row(&self, row: usize, out: &mut Vec<(u32, f64)>) {
        self.sample(row, out);
    }

    /// Does the same as [`Firing::row`], and returns the source of further random numbers of this row.
    pub(super) fn sample(&self, row: usize, out: &mut Vec<(u32, f64)>) -> Stream {
        let mut stream = row_stream(self.seed, "row", row as u64);
        let p = &self.probabilities[row % self.probabilities.len()];
        out.clear();
        match &self.law {
            FiringLaw::Independent => {
                for (i, &p) in p.iter().enumerate() {
                    if stream.uniform() < p {
                        out.push((i as u32, amplitude(&mut stream)));
                    }
                }
            }
            FiringLaw::Skipping { blocks, parents, copula } => {
                match copula {
                    None => sample_blocks(blocks, |i| p[i], &mut stream, out),
                    Some(copula) => {
                        let g: Vec<f64> = (0..copula.factors).map(|_| stream.paired_normal()).collect();
                        sample_blocks(blocks, |i| copula.given(g[i % copula.factors], i), &mut stream, out);
                    }
                }
                if *parents > 0 {
                    for at in 0..out.len() {
                        let parent = out[at].0 as usize;
                        for child in (parent + parents..p.len()).step_by(*parents) {
                            if stream.uniform() * p[parent] < p[child] {
                                out.push((child as u32, 0.0));
                            }
                        }
                    }
                }
                out.sort_unstable_by_key(|fires| fires.0);
                out.iter_mut().for_each(|fires| fires.1 = amplitude(&mut stream));
            }
        }
        stream
    }
}

fn amplitude(stream: &mut Stream) -> f64 {
    (1.0 + 0.25 * stream.paired_normal()).abs()
}

/// Divides the features of each factor (i mod `factors`) into blocks, where the probability falls below half of the
/// block's first one.
fn blocks(p: &[f64], factors: usize) -> Vec<FeatureBlock> {
    let mut out: Vec<FeatureBlock> = Vec::new();
    for factor in 0..factors.min(p.len()) {
        let mut block = FeatureBlock { first: factor, step: factors, count: 0 };
        for i in (factor..p.len()).step_by(factors) {
            if p[i] < 0.5 * p[block.first] {
                out.push(block);
                block = FeatureBlock { first: i, step: factors, count: 0 };
            }
            block.count += 1;
        }
        out.push(block);
    }
    out
}

/// Samples the features that fire, feature i with `probability(i)`, which falls along a block. Skips geometric numbers
/// of features to the next candidate, as if all had the probability of the first one, and accepts the candidate with
/// the ratio of its probability to that of the first.
fn sample_blocks(
    blocks: &[FeatureBlock],
    probability: impl Fn(usize) -> f64,
    stream: &mut Stream,
    out: &mut Vec<(u32, f64)>,
) {
    for block in blocks {
        let most = probability(block.first);
        let log_miss = if most < 1.0 { ln(1.0 - most) } else { f64::NEG_INFINITY };
        if log_miss == 0.0 {
            continue;
        }
        let mut at = 0;
        loop {
            let over = (ln(1.0 - stream.uniform()) / log_miss).floor();
            if over >= (block.count - at) as f64 {
                break;
            }
            at += over as usize;
            let i = block.first + at * block.step;
            if stream.uniform() * most < probability(i) {
                out.push((i as u32, 0.0));
            }
            at += 1;
            if at == block.count {
                break;
            }
        }
    }
}

impl Copula {
    /// Returns the probability of feature i, given the value of its factor.
    fn given(&self, factor: f64, i: usize) -> f64 {
        self.normal.below((self.shared * factor - self.thresholds[i]) / self.individual)
    }
}

impl Synthetic {
    /// Returns the probability that a row of the class uses each feature; their sum is `active`. Directions have one class
    /// (0). One feature of images in four belongs to class 0 and one in four to class 1; the others are shared.
    pub fn probabilities(&self, class: usize) -> Vec<f64> {
        let weights = (0..self.features).map(|i| {
            let belongs = match (self.kind, i % 4) {
                (SyntheticKind::Images { .. }, feature_class @ (0 | 1)) if feature_class != class => OTHER_CLASS,
                _ => 1.0,
            };
            belongs * ((i + 1) as f64).powf(-self.z)
        });
        probabilities_with_sum(weights.collect(), self.active)
    }
}

/// Scales weights to probabilities with the given sum, none above 1.
fn probabilities_with_sum(mut weights: Vec<f64>, sum: f64) -> Vec<f64> {
    let total = |scale: f64| weights.iter().map(|w| (w * scale).min(1.0)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while total(high) < sum && high < 1e300 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if total(middle) < sum { low = middle } else { high = middle }
    }
    weights.iter_mut().for_each(|w| *w = (*w * high).min(1.0));
    weights
}

/// The normal distribution, by additions, multiplications and divisions only: a table of values and slopes with cubic
/// interpolation.
#[derive(Clone, Debug)]
struct NormalDistribution {
    /// Φ(x) and φ(x) times the step, from -[`NormalDistribution::END`] on.
    table: Vec<(f64, f64)>,
}

impl NormalDistribution {
    const END: f64 = 8.0;
    const STEPS: f64 = 64.0;

    fn new() -> NormalDistribution {
        let n = (2.0 * Self::END * Self::STEPS) as usize;
        let at = |i: usize| i as f64 / Self::STEPS - Self::END;
        let table = (0..=n).map(|i| (distribution(at(i)), density(at(i)) / Self::STEPS)).collect();
        NormalDistribution { table }
    }

    /// Returns Φ(x), to about ten digits; 0 and 1 beyond ±8.
    fn below(&self, x: f64) -> f64 {
        if x <= -Self::END {
            return 0.0;
        }
        let place = (x + Self::END) * Self::STEPS;
        let i = place as usize;
        if i + 1 >= self.table.len() {
            return 1.0;
        }
        let (t, (a, da), (b, db)) = (place - i as f64, self.table[i], self.table[i + 1]);
        let rise = b - a;
        a + t * (da + t * (3.0 * rise - 2.0 * da - db + t * (da + db - 2.0 * rise)))
    }

    /// Returns the threshold that is exceeded with probability p.
    fn exceeded_with(&self, p: f64) -> f64 {
        let (mut low, mut high) = (-Self::END, Self::END);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.below(-middle) > p { low = middle } else { high = middle }
        }
        high
    }
}

/// Returns φ(x) = e^(-x²/2)/√(2π).
fn density(x: f64) -> f64 {
    // The power series of e^y at y = -x²/2 / 4096, then twelve squarings.
    let y = -0.5 * x * x / 4096.0;
    let mut e = (1..8).rev().fold(1.0, |sum, n| 1.0 + sum * y / f64::from(n));
    (0..12).for_each(|_| e *= e);
    e / (2.0 * std::f64::consts::PI).sqrt()
}

/// Returns Φ(x): near 0 by Φ = ½ + φ (x + x³/3 + x⁵/15 + …) (Marsaglia 2004), further out by Laplace's continued
/// fraction.
fn distribution(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let fraction = (1..200).rev().fold(0.0, |rest, n| f64::from(n) / (x.abs() + rest));
        let beyond = density(x) / (x.abs() + fraction);
        return if x < 0.0 { beyond } else { 1.0 - beyond };
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + density(x) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_has_its_known_values() {
        let normal = NormalDistribution::new();
        for (x, want) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (-1.0, 0.158_655_253_931_457),
            (2.345, 0.990_486_460_200_453),
            (-3.7, 1.077_997_334_773_88e-4),
            (-5.0, 2.866_515_718_791_94e-7),
        ] {
            let got = normal.below(x);
            assert!((got / want - 1.0).abs() < 1e-6 && (got - want).abs() < 1e-9, "{x}: {got}");
            assert!((distribution(x) / want - 1.0).abs() < 1e-9, "{x}: {}", distribution(x));
            assert!((normal.exceeded_with(want) + x).abs() < 1e-6);
        }
        assert_eq!((normal.below(-9.0), normal.below(9.0)), (0.0, 1.0));
        assert!(normal.exceeded_with(1.0) <= -NormalDistribution::END + 1e-9);
    }

    #[test]
    fn skipping_lets_each_feature_fire_with_its_own_probability() {
        // Certain, likely and rare features, in blocks of different lengths.
        let p = [1.0, 0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.01, 1e-20, 0.0];
        let (mut fired, n) = ([0usize; 10], 200_000);
        let (blocks, mut out) = (blocks(&p, 2), Vec::new());
        assert_eq!(blocks.iter().map(|b| b.count).sum::<usize>(), 10);
        let mut stream = row_stream(5, "test", 0);
        for _ in 0..n {
            out.clear();
            sample_blocks(&blocks, |i| p[i], &mut stream, &mut out);
            out.iter().for_each(|&(i, _)| fired[i as usize] += 1);
        }
        for (i, (&fired, p)) in fired.iter().zip(p).enumerate() {
            let deviation = (p * (1.0 - p) / f64::from(n)).sqrt();
            let share = fired as f64 / f64::from(n);
            assert!((share - p).abs() <= 4.0 * deviation, "feature {i}: {share} instead of {p}");
        }
    }
}
