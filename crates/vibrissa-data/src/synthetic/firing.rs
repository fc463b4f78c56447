//! Which features fire together in a row of synthetic data, and with which amplitudes: drawn by (seed, row) alone.
//!
//! Every law leaves the probability p_i of each feature as it is:
//!
//! - *independent*: feature i fires with probability p_i.
//! - *correlation* ρ with F *factors*: a Gaussian copula of rank F. A row draws g_f ~ N(0, 1) for each factor; feature i fires
//!   where √ρ g_{i mod F} + √(1-ρ) e_i > t_i, e_i ~ N(0, 1) its own and P(N(0, 1) > t_i) = p_i.
//! - *parents* P: feature i ≥ P fires only in rows in which feature i mod P does, there with probability p_i / p_{i mod P} and
//!   independently of all else. The p_i fall with i, so that is at most 1; factors tie the parents alone.
//!
//! An amplitude is |N(1, 0.25)|.

use super::draw::Draw;
use super::{Kind, Synthetic};
use vibrissa_core::random::ln;

/// How much rarer a feature of one class is in the other class.
const FOREIGN: f64 = 0.05;

/// Draws again, for any row, which features it is made of.
#[derive(Clone, Debug)]
pub struct Firing {
    seed: u64,
    /// By class; rows are of the classes in turn.
    probabilities: Vec<Vec<f64>>,
    law: Law,
}

#[derive(Clone, Debug)]
enum Law {
    /// One number a feature.
    Each,
    /// Few numbers a row: from one candidate to the next.
    Leaps { blocks: Vec<Block>, parents: usize, copula: Option<Copula> },
}

/// Features `first`, `first + step`, … (`count` of them), whose probabilities differ by at most a factor of two.
#[derive(Clone, Copy, Debug)]
struct Block {
    first: usize,
    step: usize,
    count: usize,
}

#[derive(Clone, Debug)]
struct Copula {
    factors: usize,
    /// √ρ and √(1-ρ).
    shared: f64,
    own: f64,
    /// t_i.
    thresholds: Vec<f64>,
    normal: Normal,
}

impl Firing {
    pub(super) fn new(of: &Synthetic) -> Firing {
        let images = matches!(of.kind, Kind::Images { .. });
        let probabilities: Vec<Vec<f64>> = (0..if images { 2 } else { 1 }).map(|c| of.probabilities(c)).collect();
        let law = if images {
            Law::Each
        } else {
            let p = &probabilities[0];
            let free = if of.parents > 0 { of.parents } else { of.features };
            let factors = if of.correlation > 0.0 { of.factors } else { 1 };
            let copula = (of.correlation > 0.0).then(|| {
                let normal = Normal::new();
                Copula {
                    factors,
                    shared: of.correlation.sqrt(),
                    own: (1.0 - of.correlation).sqrt(),
                    thresholds: p[..free].iter().map(|&p| normal.exceeded_with(p)).collect(),
                    normal,
                }
            });
            Law::Leaps { blocks: blocks(&p[..free], factors), parents: of.parents, copula }
        };
        Firing { seed: of.seed, probabilities, law }
    }

    /// The features that fire in a row, ascending, and their amplitudes.
    pub fn row(&self, row: usize, out: &mut Vec<(u32, f64)>) {
        self.begin(row, out);
    }

    /// As [`Firing::row`]; gives what further numbers of this row are drawn from.
    pub(super) fn begin(&self, row: usize, out: &mut Vec<(u32, f64)>) -> Draw {
        let mut draw = Draw::new(self.seed, "row", row as u64);
        let p = &self.probabilities[row % self.probabilities.len()];
        out.clear();
        match &self.law {
            Law::Each => {
                for (i, &p) in p.iter().enumerate() {
                    if draw.uniform() < p {
                        out.push((i as u32, amplitude(&mut draw)));
                    }
                }
            }
            Law::Leaps { blocks, parents, copula } => {
                match copula {
                    None => leap(blocks, |i| p[i], &mut draw, out),
                    Some(copula) => {
                        let g: Vec<f64> = (0..copula.factors).map(|_| draw.normal()).collect();
                        leap(blocks, |i| copula.given(g[i % copula.factors], i), &mut draw, out);
                    }
                }
                if *parents > 0 {
                    for at in 0..out.len() {
                        let parent = out[at].0 as usize;
                        for child in (parent + parents..p.len()).step_by(*parents) {
                            if draw.uniform() * p[parent] < p[child] {
                                out.push((child as u32, 0.0));
                            }
                        }
                    }
                }
                out.sort_unstable_by_key(|fires| fires.0);
                out.iter_mut().for_each(|fires| fires.1 = amplitude(&mut draw));
            }
        }
        draw
    }
}

fn amplitude(draw: &mut Draw) -> f64 {
    (1.0 + 0.25 * draw.normal()).abs()
}

/// The features of each factor (i mod `factors`), cut where the probability falls below half of the block's first.
fn blocks(p: &[f64], factors: usize) -> Vec<Block> {
    let mut out: Vec<Block> = Vec::new();
    for factor in 0..factors.min(p.len()) {
        let mut own = Block { first: factor, step: factors, count: 0 };
        for i in (factor..p.len()).step_by(factors) {
            if p[i] < 0.5 * p[own.first] {
                out.push(own);
                own = Block { first: i, step: factors, count: 0 };
            }
            own.count += 1;
        }
        out.push(own);
    }
    out
}

/// Lets feature i fire with probability `chance(i)`, which falls along a block: leaps of geometric length to the next that
/// would fire if all were as likely as the first, which then does with the quotient of the two.
fn leap(blocks: &[Block], chance: impl Fn(usize) -> f64, draw: &mut Draw, out: &mut Vec<(u32, f64)>) {
    for block in blocks {
        let most = chance(block.first);
        let per_leap = if most < 1.0 { ln(1.0 - most) } else { f64::NEG_INFINITY };
        if per_leap == 0.0 {
            continue;
        }
        let mut at = 0;
        loop {
            let over = (ln(1.0 - draw.uniform()) / per_leap).floor();
            if over >= (block.count - at) as f64 {
                break;
            }
            at += over as usize;
            let i = block.first + at * block.step;
            if draw.uniform() * most < chance(i) {
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
    /// Probability of feature i, given its factor.
    fn given(&self, factor: f64, i: usize) -> f64 {
        self.normal.below((self.shared * factor - self.thresholds[i]) / self.own)
    }
}

impl Synthetic {
    /// The probability that a row of the class uses each feature; their sum is `active`. Directions know one class, 0.
    /// In pictures every fourth feature belongs to class 0 and every fourth to class 1; the others are shared.
    pub fn probabilities(&self, class: usize) -> Vec<f64> {
        let weights = (0..self.features).map(|i| {
            let belongs = match (self.kind, i % 4) {
                (Kind::Images { .. }, own @ (0 | 1)) if own != class => FOREIGN,
                _ => 1.0,
            };
            belongs * ((i + 1) as f64).powf(-self.z)
        });
        with_sum(weights.collect(), self.active)
    }
}

/// Scales the weights to probabilities with the given sum, none above 1.
fn with_sum(mut weights: Vec<f64>, sum: f64) -> Vec<f64> {
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

/// The normal distribution, by additions, multiplications and divisions only: a table with its slopes, cubic in between.
#[derive(Clone, Debug)]
struct Normal {
    /// Φ(x) and φ(x) times the step, from -[`Normal::END`] on.
    table: Vec<(f64, f64)>,
}

impl Normal {
    const END: f64 = 8.0;
    const STEPS: f64 = 64.0;

    fn new() -> Normal {
        let n = (2.0 * Self::END * Self::STEPS) as usize;
        let at = |i: usize| i as f64 / Self::STEPS - Self::END;
        let table = (0..=n).map(|i| (distribution(at(i)), density(at(i)) / Self::STEPS)).collect();
        Normal { table }
    }

    /// Φ(x), to about ten digits; 0 and 1 beyond ±8.
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

    /// The threshold that is exceeded with probability p.
    fn exceeded_with(&self, p: f64) -> f64 {
        let (mut low, mut high) = (-Self::END, Self::END);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.below(-middle) > p { low = middle } else { high = middle }
        }
        high
    }
}

/// e^(-x²/2)/√(2π).
fn density(x: f64) -> f64 {
    // The power series of e^y at y = -x²/2 / 4096, then twelve squarings.
    let y = -0.5 * x * x / 4096.0;
    let mut e = (1..8).rev().fold(1.0, |sum, n| 1.0 + sum * y / f64::from(n));
    (0..12).for_each(|_| e *= e);
    e / (2.0 * std::f64::consts::PI).sqrt()
}

/// Φ(x): near 0 by Φ = ½ + φ (x + x³/3 + x⁵/15 + …) (Marsaglia 2004), further out by Laplace's continued fraction.
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
        let normal = Normal::new();
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
        assert!(normal.exceeded_with(1.0) <= -Normal::END + 1e-9);
    }

    #[test]
    fn leaps_let_each_feature_fire_with_its_own_probability() {
        // Certain, likely and rare ones, in blocks that begin and end anywhere.
        let p = [1.0, 0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.01, 1e-20, 0.0];
        let (mut fired, n) = ([0usize; 10], 200_000);
        let (blocks, mut out) = (blocks(&p, 2), Vec::new());
        assert_eq!(blocks.iter().map(|b| b.count).sum::<usize>(), 10);
        let mut draw = Draw::new(5, "test", 0);
        for _ in 0..n {
            out.clear();
            leap(&blocks, |i| p[i], &mut draw, &mut out);
            out.iter().for_each(|&(i, _)| fired[i as usize] += 1);
        }
        for (i, (&fired, p)) in fired.iter().zip(p).enumerate() {
            let deviation = (p * (1.0 - p) / f64::from(n)).sqrt();
            let share = fired as f64 / f64::from(n);
            assert!((share - p).abs() <= 4.0 * deviation, "feature {i}: {share} instead of {p}");
        }
    }
}
