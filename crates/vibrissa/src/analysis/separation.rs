//! Separation of the classes in latent space: silhouette and accuracy of a linear probe, from the sparse latents of
//! some rows.

use crate::matrix::Latents;
use crate::random::Stream;
use rayon::prelude::*;

/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Ridge of the probe, as a multiple of the mean squared length of a row.
const RIDGE: f64 = 0.1;

/// The separation of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Separation {
    /// Mean silhouette (Rousseeuw 1987) by cosine distance; NaN with one class.
    pub silhouette: f64,
    /// Cross-validated accuracy of a linear probe (ridge regression on one-hot classes); NaN where a class has fewer
    /// than two rows.
    pub probe: f64,
    /// Accuracy of always naming the largest class.
    pub majority: f64,
}

/// Products of all pairs of rows, `[n, n]`, in f64. Each row is made dense once and multiplied with the sparse others.
fn gram(rows: &Latents, latents: usize) -> Vec<f64> {
    let n = rows.rows();
    let mut out = vec![0.0; n * n];
    out.par_chunks_mut(n.max(1)).enumerate().for_each_init(
        || vec![0.0f64; latents],
        |dense, (i, out)| {
            let (index, value) = rows.row(i);
            index.iter().zip(value).for_each(|(&h, &v)| dense[h as usize] = f64::from(v));
            for (j, out) in out.iter_mut().enumerate() {
                let (index, value) = rows.row(j);
                *out = index.iter().zip(value).map(|(&h, &v)| dense[h as usize] * f64::from(v)).sum();
            }
            index.iter().for_each(|&h| dense[h as usize] = 0.0);
        },
    );
    out
}

/// Computes the separation of rows of `latents` latents; `class` is the class of each row, below `classes`.
pub fn separation(rows: &Latents, latents: usize, class: &[usize], classes: usize) -> Separation {
    let n = rows.rows();
    let mut sizes = vec![0usize; classes];
    class.iter().for_each(|&c| sizes[c] += 1);
    let gram = gram(rows, latents);
    let present: Vec<usize> = (0..classes).filter(|&c| sizes[c] > 0).collect();
    Separation {
        silhouette: if present.len() < 2 { f64::NAN } else { silhouette(&gram, class, &sizes) },
        probe: if present.len() < 2 || present.iter().any(|&c| sizes[c] < 2) {
            f64::NAN
        } else {
            probe(&gram, class, classes)
        },
        majority: sizes.iter().max().copied().unwrap_or(0) as f64 / n.max(1) as f64,
    }
}

/// Mean silhouette from the products of all pairs of rows.
fn silhouette(gram: &[f64], class: &[usize], sizes: &[usize]) -> f64 {
    let n = class.len();
    let length: Vec<f64> = (0..n).map(|i| gram[i * n + i].sqrt()).collect();
    let of_row = |i: usize| -> f64 {
        if sizes[class[i]] < 2 {
            return 0.0;
        }
        let mut sums = vec![0.0f64; sizes.len()];
        for j in (0..n).filter(|&j| j != i) {
            let both = length[i] * length[j];
            sums[class[j]] += if both > 0.0 { 1.0 - gram[i * n + j] / both } else { 1.0 };
        }
        let own = sums[class[i]] / (sizes[class[i]] - 1) as f64;
        let other = (0..sizes.len())
            .filter(|&c| c != class[i] && sizes[c] > 0)
            .map(|c| sums[c] / sizes[c] as f64)
            .fold(f64::INFINITY, f64::min);
        let larger = own.max(other);
        if larger > 0.0 { (other - own) / larger } else { 0.0 }
    };
    let all: Vec<f64> = (0..n).into_par_iter().map(of_row).collect();
    all.iter().sum::<f64>() / n as f64
}

/// Cross-validated accuracy of ridge regression in its dual form, `(K + λ I) α = Y` on the rows of the other folds.
fn probe(gram: &[f64], class: &[usize], classes: usize) -> f64 {
    let n = class.len();
    // Folds are assigned within each class, so that every fold has rows of all classes.
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(0, "probe", &[]).shuffle(&mut order);
    order.sort_by_key(|&i| class[i]);
    let mut fold = vec![0; n];
    order.iter().enumerate().for_each(|(at, &i)| fold[i] = at % FOLDS);
    let hits: Vec<usize> = (0..FOLDS)
        .into_par_iter()
        .map(|f| {
            let (test, train): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| fold[i] == f);
            if train.is_empty() {
                return 0;
            }
            let m = train.len();
            let mean = train.iter().map(|&i| gram[i * n + i]).sum::<f64>() / m as f64;
            let ridge = RIDGE * if mean > 0.0 { mean } else { 1.0 };
            // A constant, as one more dimension, is the intercept.
            let k = |i: usize, j: usize| gram[i * n + j] + mean;
            let mut a = faer::Mat::<f64>::from_fn(m, m, |p, q| k(train[p], train[q]));
            (0..m).for_each(|p| a[(p, p)] += ridge);
            let y = faer::Mat::<f64>::from_fn(m, classes, |p, c| f64::from(u8::from(class[train[p]] == c)));
            faer::set_global_parallelism(faer::Par::Seq);
            let Ok(llt) = a.llt(faer::Side::Lower) else { return 0 };
            let alpha = faer::linalg::solvers::Solve::solve(&llt, &y);
            let score = |i: usize, c: usize| (0..m).map(|p| k(i, train[p]) * alpha[(p, c)]).sum::<f64>();
            test.iter()
                .filter(|&&i| {
                    let scores: Vec<f64> = (0..classes).map(|c| score(i, c)).collect();
                    (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))) == Some(class[i])
                })
                .count()
        })
        .collect();
    hits.iter().sum::<usize>() as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two active latents each, the first of which is that of the class if `informative`.
    fn rows(n: usize, informative: bool) -> (Latents, Vec<usize>) {
        let mut latents = Latents::default();
        latents.resize(n, 2);
        let class: Vec<usize> = (0..n).map(|i| i * 7 % 3).collect();
        let (len, index, value, _) = latents.parts_mut();
        for i in 0..n {
            len[i] = 2;
            index[2 * i] = if informative { class[i] as u32 } else { (i % 2) as u32 };
            index[2 * i + 1] = 5 + (i * 5 % 11) as u32;
            (value[2 * i], value[2 * i + 1]) = (3.0, 0.5);
        }
        (latents, class)
    }

    #[test]
    fn separate_classes_have_a_high_silhouette_and_probe() {
        let (latents, class) = rows(90, true);
        let s = separation(&latents, 16, &class, 3);
        assert!(s.probe == 1.0 && s.silhouette > 0.9 && (s.majority - 1.0 / 3.0).abs() < 0.02, "{s:?}");
        let (latents, class) = rows(90, false);
        let s = separation(&latents, 16, &class, 3);
        assert!(s.probe < 0.6 && s.silhouette < 0.1, "{s:?}");
    }

    #[test]
    fn figures_of_one_class_are_undefined() {
        let (latents, _) = rows(5, true);
        let s = separation(&latents, 16, &[0; 5], 1);
        assert!(s.silhouette.is_nan() && s.probe.is_nan() && s.majority == 1.0);
        assert!(separation(&latents, 16, &[0, 0, 1, 0, 0], 2).probe.is_nan());
    }
}
