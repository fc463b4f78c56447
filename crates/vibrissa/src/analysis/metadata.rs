//! Relation of latents to the columns of a metadata table: numbers by Spearman's rank correlation, levels by the test
//! of Kruskal and Wallis. One value per row; augmented variants do not count.

use super::classes::{benjamini_hochberg, kruskal_wallis};
use super::images::image_latents;
use super::ranks::ranks;
use crate::data::Dataset;
use crate::data::metadata::MetadataValues;
use crate::model::Sae;
use rayon::prelude::*;
use statrs::function::beta::beta_reg;

/// The values ≠ 0 of every latent, `(place of the row, value)`. Takes 8 bytes per row and active latent.
#[derive(Clone, Debug)]
pub struct Activations {
    rows: usize,
    values: Vec<Vec<(u32, f32)>>,
}

impl Activations {
    /// Encodes these rows; where rows are patches, `rows` has one row of each image.
    pub fn new(sae: &Sae, data: &Dataset, rows: &[usize]) -> Activations {
        let mut values = vec![Vec::new(); sae.config().latents];
        let size = data.batch_rows(rows.len());
        for (b, batch) in rows.chunks(size).enumerate() {
            let latents = image_latents(sae, data, batch);
            for r in 0..batch.len() {
                let (index, value) = latents.row(r);
                let place = (b * size + r) as u32;
                index.iter().zip(value).for_each(|(&h, &v)| values[h as usize].push((place, v)));
            }
        }
        Activations { rows: rows.len(), values }
    }
}

/// One column against every latent; the definitions are those of [`crate::record::analysis::columns::MetadataColumns`].
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRelation {
    /// Of numbers Spearman's ρ; of two levels the rank-biserial correlation towards the second; of more levels ε². NaN
    /// if the latent is never active.
    pub effect: Vec<f64>,
    /// Two-sided p of that effect.
    pub p: Vec<f64>,
    /// p adjusted over the latents by Benjamini and Hochberg (1995).
    pub q: Vec<f64>,
    /// Rows that have a value.
    pub rows: usize,
}

/// Ranks of the values of a latent over the rows that have a value in the column.
struct LatentRanks {
    /// `(place, rank)` of the rows in which it is active.
    active: Vec<(u32, f64)>,
    /// Rank of all other rows.
    zero: f64,
    /// Σ (t³ − t) over tied values.
    ties: f64,
    /// Number of rows.
    n: f64,
}

/// Ranks from 1 over the `n` rows that are `known`; tied values, and the rows in which the latent is inactive, have
/// their mean rank.
fn rank_latent(values: &[(u32, f32)], known: &[bool], n: usize) -> LatentRanks {
    let mut active: Vec<(u32, f32)> = values.iter().copied().filter(|v| known[v.0 as usize] && v.1 != 0.0).collect();
    active.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let zeros = (n - active.len()) as f64;
    let below = active.iter().take_while(|v| v.1 < 0.0).count() as f64;
    let mut ties = zeros * zeros * zeros - zeros;
    let (mut out, mut at) = (Vec::with_capacity(active.len()), 0);
    while at < active.len() {
        let end = at + active[at..].iter().take_while(|v| v.1 == active[at].1).count();
        let shift = if active[at].1 > 0.0 { zeros } else { 0.0 };
        let mean = (at + end + 1) as f64 / 2.0 + shift;
        out.extend(active[at..end].iter().map(|v| (v.0, mean)));
        let t = (end - at) as f64;
        ties += t * t * t - t;
        at = end;
    }
    LatentRanks { active: out, zero: below + (zeros + 1.0) / 2.0, ties, n: n as f64 }
}

/// Computes effect and p of one latent from its ranks.
type RankTest<'a> = dyn Fn(&LatentRanks) -> (f64, f64) + Sync + 'a;

/// Relates every latent to a column; `None` for a column that cannot be used.
///
/// # Panics
/// If the column has not one value per row.
pub fn relate(latents: &Activations, column: &MetadataValues) -> Option<MetadataRelation> {
    let known: Vec<bool> = match column {
        MetadataValues::Numbers(v) => v.iter().map(|v| v.is_finite()).collect(),
        MetadataValues::Levels(_, of) => of.iter().map(Option::is_some).collect(),
        MetadataValues::Unusable(_) => return None,
    };
    assert_eq!(known.len(), latents.rows, "a value for each row");
    let n = known.iter().filter(|k| **k).count();
    let test: Box<RankTest> = match column {
        MetadataValues::Numbers(v) => {
            let present: Vec<f64> = v.iter().copied().filter(|v| v.is_finite()).collect();
            let (own, mean) = (ranks(&present), (n + 1) as f64 / 2.0);
            let mut places = own.iter();
            let centred: Vec<f64> =
                known.iter().map(|&k| if k { places.next().expect("a rank each") - mean } else { 0.0 }).collect();
            let spread: f64 = centred.iter().map(|c| c * c).sum();
            Box::new(move |r| spearman(r, &centred, spread))
        }
        MetadataValues::Levels(names, of) => {
            let mut sizes = vec![0.0; names.len()];
            of.iter().flatten().for_each(|&l| sizes[l as usize] += 1.0);
            Box::new(move |r| test_levels(r, of, &sizes))
        }
        MetadataValues::Unusable(_) => return None,
    };
    let found: Vec<(f64, f64)> = latents
        .values
        .par_iter()
        .map(|values| {
            let own = rank_latent(values, &known, n);
            if own.active.is_empty() { (f64::NAN, f64::NAN) } else { test(&own) }
        })
        .collect();
    let (effect, p): (Vec<f64>, Vec<f64>) = found.into_iter().unzip();
    Some(MetadataRelation { q: benjamini_hochberg(&p), effect, p, rows: n })
}

/// Spearman's ρ and its p by Student's t with n − 2 degrees of freedom. `centred` are the ranks of the column minus
/// their mean, `spread` is their sum of squares.
fn spearman(r: &LatentRanks, centred: &[f64], spread: f64) -> (f64, f64) {
    let mean = (r.n + 1.0) / 2.0;
    let own_spread = (r.n * r.n * r.n - r.n - r.ties) / 12.0;
    if own_spread <= 0.0 || spread <= 0.0 || r.n < 4.0 {
        return (f64::NAN, f64::NAN);
    }
    let (mut both, mut active) = (0.0, 0.0);
    for &(place, rank) in &r.active {
        both += (rank - mean) * centred[place as usize];
        active += centred[place as usize];
    }
    // All centred ranks add up to 0: those of the inactive rows are minus those of the active ones.
    let rho = ((both - (r.zero - mean) * active) / (own_spread * spread).sqrt()).clamp(-1.0, 1.0);
    let freedom = r.n - 2.0;
    let rest = 1.0 - rho * rho;
    (rho, if rest <= 0.0 { 0.0 } else { beta_reg(freedom / 2.0, 0.5, rest) })
}

/// ε² or, of two levels, the rank-biserial correlation, and the p of Kruskal and Wallis. `of` is the level of each row,
/// `sizes` are the rows of each level.
fn test_levels(r: &LatentRanks, of: &[Option<u32>], sizes: &[f64]) -> (f64, f64) {
    let mut groups: Vec<(f64, f64)> = sizes.iter().map(|&size| (size * r.zero, size)).collect();
    for &(place, rank) in &r.active {
        if let Some(level) = of[place as usize] {
            groups[level as usize].0 += rank - r.zero;
        }
    }
    let Some((h, p)) = kruskal_wallis(&groups, r.ties, r.n) else { return (f64::NAN, f64::NAN) };
    let effect = match groups[..] {
        [(_, a), (rank_sum, b)] => 2.0 * (rank_sum - b * (b + 1.0) / 2.0) / (a * b) - 1.0,
        _ => h / (r.n - 1.0),
    };
    (effect, p)
}

/// Association of a column with the classes, 0 to 1, corrected for chance: Cramér's V of levels (Bergsma 2013), √ε² of
/// numbers (Kelley 1935); NaN for fewer than two classes or values.
pub fn class_association(column: &MetadataValues, class: &[Option<u16>], classes: usize) -> f64 {
    match column {
        MetadataValues::Unusable(_) => f64::NAN,
        MetadataValues::Numbers(v) => class_association_of_numbers(v, class, classes),
        MetadataValues::Levels(names, of) => class_association_of_levels(names.len(), of, class, classes),
    }
}

/// √ε²: ε² = 1 − (within-class mean square / total mean square) of the ranks.
fn class_association_of_numbers(v: &[f64], class: &[Option<u16>], classes: usize) -> f64 {
    let both: Vec<(f64, u16)> =
        v.iter().zip(class).filter(|(v, _)| v.is_finite()).filter_map(|(&v, c)| Some((v, (*c)?))).collect();
    let own = ranks(&both.iter().map(|b| b.0).collect::<Vec<_>>());
    let (mut sums, mut sizes) = (vec![0.0; classes], vec![0.0; classes]);
    both.iter().zip(&own).for_each(|(b, r)| {
        sums[b.1 as usize] += r;
        sizes[b.1 as usize] += 1.0;
    });
    let (n, present) = (own.len() as f64, sizes.iter().filter(|s| **s > 0.0).count() as f64);
    let mean = (n + 1.0) / 2.0;
    let total: f64 = own.iter().map(|r| (r - mean).powi(2)).sum();
    if present < 2.0 || total <= 0.0 || n <= present {
        return f64::NAN;
    }
    let between: f64 = (0..classes).filter(|&c| sizes[c] > 0.0).map(|c| sums[c].powi(2) / sizes[c]).sum();
    let within = total - (between - n * mean * mean);
    (1.0 - within / (n - present) * (n - 1.0) / total).max(0.0).sqrt()
}

/// Cramér's V with the correction of Bergsma (2013).
fn class_association_of_levels(levels: usize, of: &[Option<u32>], class: &[Option<u16>], classes: usize) -> f64 {
    let mut counts = vec![vec![0.0; classes]; levels];
    for (level, class) in of.iter().zip(class) {
        if let (Some(l), Some(c)) = (level, class) {
            counts[*l as usize][*c as usize] += 1.0;
        }
    }
    let by_level: Vec<f64> = counts.iter().map(|c| c.iter().sum()).collect();
    let by_class: Vec<f64> = (0..classes).map(|c| counts.iter().map(|l| l[c]).sum()).collect();
    let n: f64 = by_level.iter().sum();
    let mut chi = 0.0;
    for (l, row) in counts.iter().enumerate() {
        for (c, &seen) in row.iter().enumerate() {
            let expected = by_level[l] * by_class[c] / n;
            chi += if expected > 0.0 { (seen - expected).powi(2) / expected } else { 0.0 };
        }
    }
    let present = |sizes: &[f64]| sizes.iter().filter(|s| **s > 0.0).count() as f64;
    let (rows, columns) = (present(&by_level), present(&by_class));
    if rows < 2.0 || columns < 2.0 {
        return f64::NAN;
    }
    let corrected = (chi / n - (rows - 1.0) * (columns - 1.0) / (n - 1.0)).max(0.0);
    let least = |m: f64| m - 1.0 - (m - 1.0).powi(2) / (n - 1.0);
    let span = least(rows).min(least(columns));
    if span > 0.0 { (corrected / span).sqrt().min(1.0) } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::ranks;
    use crate::random::Stream;

    /// Twelve rows of one latent, with zeros, ties and a negative value.
    const VALUES: [f32; 12] = [0.0, 1.5, 0.0, -2.0, 3.0, 1.5, 0.0, 0.5, 0.0, 7.0, 0.0, 2.0];
    const AGE: [f64; 12] = [3.0, 9.0, 1.0, 2.0, 8.0, f64::NAN, 4.0, 4.0, 5.0, 12.0, 0.5, 3.0];

    /// Statistic and p of SciPy 1.17.1.
    const SPEARMAN: (f64, f64) = (0.689_634_925_359_229, 0.018_873_017_979_434_11);
    const KRUSKAL: (f64, f64) = (0.944_339_622_641_509_4, 0.623_647_601_502_631_3);
    const MANN_WHITNEY: (f64, f64) = (32.0, 0.014_432_342_726_169_91);

    fn latent() -> Activations {
        let values = (0..).zip(VALUES).filter(|v| v.1 != 0.0).collect();
        Activations { rows: VALUES.len(), values: vec![values, Vec::new()] }
    }

    /// `scipy.stats.spearmanr(values, age)` without the row that has no age (SciPy 1.17.1).
    #[test]
    fn numbers_equal_scipy() {
        let got = relate(&latent(), &MetadataValues::Numbers(AGE.to_vec())).expect("a relation");
        let (v, a): (Vec<f64>, Vec<f64>) =
            VALUES.iter().zip(AGE).filter(|v| v.1.is_finite()).map(|(&v, a)| (f64::from(v), a)).unzip();
        assert!((got.effect[0] - ranks::spearman(&v, &a)).abs() < 1e-12);
        assert!((got.effect[0] - SPEARMAN.0).abs() < 1e-9, "{}", got.effect[0]);
        assert!((got.p[0] - SPEARMAN.1).abs() < 1e-9, "{}", got.p[0]);
        assert!(got.p[1].is_nan() && got.rows == 11);
    }

    /// `scipy.stats.kruskal` of three groups; `mannwhitneyu(b, a, use_continuity=False, method='asymptotic')`, 2 U/(n
    /// m) - 1.
    #[test]
    fn levels_equal_scipy() {
        let levels = |of: &[u32]| {
            let n = *of.iter().max().expect("some") as usize + 1;
            MetadataValues::Levels((0..n).map(|l| l.to_string()).collect(), of.iter().map(|&l| Some(l)).collect())
        };
        let got = relate(&latent(), &levels(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])).expect("a relation");
        assert!((got.p[0] - KRUSKAL.1).abs() < 1e-9, "{}", got.p[0]);
        assert!((got.effect[0] - KRUSKAL.0 / 11.0).abs() < 1e-9, "{}", got.effect[0]);
        let got = relate(&latent(), &levels(&[0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0, 0])).expect("a relation");
        assert!((got.p[0] - MANN_WHITNEY.1).abs() < 1e-9, "{}", got.p[0]);
        assert!((got.effect[0] - (2.0 * MANN_WHITNEY.0 / 35.0 - 1.0)).abs() < 1e-9, "{}", got.effect[0]);
    }

    #[test]
    fn a_column_that_is_the_class_is_associated_and_a_random_one_is_not() {
        let class: Vec<Option<u16>> = (0..60).map(|i| Some(i % 3)).collect();
        let levels = |n: u32, of: &dyn Fn(u32) -> u32| {
            MetadataValues::Levels((0..n).map(|l| l.to_string()).collect(), (0..60).map(|i| Some(of(i))).collect())
        };
        assert!((class_association(&levels(3, &|i| 2 - i % 3), &class, 3) - 1.0).abs() < 1e-12);
        let number = |of: &dyn Fn(u32) -> f64| MetadataValues::Numbers((0..60).map(of).collect());
        assert!(class_association(&number(&|i| f64::from(i % 3 * 100 + i)), &class, 3) > 0.9);
        // A column unrelated to the class: of fifteen levels V without correction is 0.49 on average.
        let mut stream = Stream::new(7, "test", &[]);
        let (mut of_levels, mut of_numbers) = (0.0, 0.0);
        for _ in 0..50 {
            let sampled: Vec<u32> = (0..60).map(|_| stream.below(15) as u32).collect();
            of_levels += class_association(&levels(15, &|i| sampled[i as usize]), &class, 3) / 50.0;
            of_numbers += class_association(&number(&|i| f64::from(sampled[i as usize])), &class, 3) / 50.0;
        }
        assert!(of_levels < 0.2 && of_numbers < 0.2, "{of_levels} {of_numbers}");
        // Known for one class alone, or for none.
        assert!(class_association(&number(&|i| if i % 3 == 0 { f64::from(i) } else { f64::NAN }), &class, 3).is_nan());
        assert!(class_association(&number(&f64::from), &[None; 60], 3).is_nan());
        assert!(class_association(&levels(2, &|_| 1), &class, 3).is_nan());
    }
}
