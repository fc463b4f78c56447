//! Groups of co-active latents.

use super::pairs::Partners;
use kodama::{Method, linkage};

/// A group of co-active latents.
#[derive(Clone, Debug, PartialEq)]
pub struct CoactiveGroup {
    /// Its latents, the most frequent first.
    pub latents: Vec<usize>,
    /// Mean NPMI of its pairs.
    pub npmi: f64,
}

/// Two clusters are joined if the mean NPMI of the pairs between them is at least this.
const MIN_NPMI: f64 = 0.3;

/// Normalised pointwise mutual information (Bouma 2009), `log(p_ab / (p_a p_b)) / −log p_ab`: 1 if always co-active, 0
/// if independent, −1 if never co-active. `a` and `b` are the rows of each latent, `both` those of both, of `rows`
/// rows.
pub fn npmi(both: f64, a: f64, b: f64, rows: f64) -> f64 {
    if both == 0.0 {
        -1.0
    } else if both == rows {
        1.0
    } else {
        (both * rows / (a * b)).ln() / -(both / rows).ln()
    }
}

/// Clusters latents by average linkage over 1 − NPMI into groups of two and more, the largest first. `partners[i]` are
/// the co-active latents of latent i, `count` the rows of each latent, of `rows` rows.
pub fn cluster_latents(latents: &[usize], partners: &[Partners], count: &[u64], rows: f64) -> Vec<CoactiveGroup> {
    let n = latents.len();
    if n < 2 {
        return Vec::new();
    }
    let both = |a: usize, b: usize| {
        let (low, high) = (a.min(b), a.max(b));
        partners[low].get(low, high as u32).map_or(0.0, |p| f64::from(p.count))
    };
    let npmi = |a: usize, b: usize| {
        npmi(both(latents[a], latents[b]), count[latents[a]] as f64, count[latents[b]] as f64, rows)
    };
    let mut distances: Vec<f64> =
        (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).map(|(a, b)| 1.0 - npmi(a, b)).collect();
    let tree = linkage(&mut distances, n, Method::Average);
    // Step i of the tree makes cluster n + i.
    let mut members: Vec<Option<Vec<usize>>> = (0..n).map(|i| Some(vec![i])).collect();
    for step in tree.steps() {
        let near = step.dissimilarity <= 1.0 - MIN_NPMI;
        let both = [step.cluster1, step.cluster2];
        let joined = (near && both.iter().all(|&c| members[c].is_some()))
            .then(|| both.iter().flat_map(|&c| members[c].take().expect("seen")).collect());
        members.push(joined);
    }
    let mut out: Vec<CoactiveGroup> = members
        .into_iter()
        .flatten()
        .filter(|m| m.len() > 1)
        .map(|mut own| {
            own.sort_by(|&a, &b| count[latents[b]].cmp(&count[latents[a]]).then(latents[a].cmp(&latents[b])));
            let pairs = own.iter().enumerate().flat_map(|(i, &a)| own[i + 1..].iter().map(move |&b| (a, b)));
            let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (a, b)| (sum + npmi(a, b), n + 1.0));
            CoactiveGroup { npmi: sum / n, latents: own.into_iter().map(|i| latents[i]).collect() }
        })
        .collect();
    out.sort_by(|a, b| {
        b.latents.len().cmp(&a.latents.len()).then(b.npmi.total_cmp(&a.npmi)).then(a.latents.cmp(&b.latents))
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npmi_is_that_of_bouma() {
        assert!((npmi(25.0, 50.0, 50.0, 100.0)).abs() < 1e-12, "chance");
        assert!((npmi(20.0, 20.0, 20.0, 100.0) - 1.0).abs() < 1e-12, "always");
        assert_eq!(npmi(0.0, 20.0, 20.0, 100.0), -1.0, "never");
    }

    #[test]
    fn co_active_latents_are_a_group() {
        // Rows 0..50: latents 0, 2, 4 (4 in most of them); rows 50..100: latents 1, 3; latent 5 in every second row.
        let active = |r: usize| -> Vec<u32> {
            let mut own = if r < 50 { vec![0, 2] } else { vec![1, 3] };
            if r < 45 {
                own.push(4);
            }
            if r.is_multiple_of(2) {
                own.push(5);
            }
            own
        };
        let mut partners: Vec<Partners> = (0..6).map(|_| Partners::default()).collect();
        let mut count = [0u64; 6];
        for r in 0..100 {
            let own = active(r);
            own.iter().for_each(|&h| count[h as usize] += 1);
            for (i, &a) in own.iter().enumerate() {
                let others = &own[i + 1..];
                partners[a as usize].add(a as usize, 6, 1.0, others, &vec![1.0; others.len()]);
            }
        }
        let found = cluster_latents(&[0, 1, 2, 3, 4, 5], &partners, &count, 100.0);
        assert_eq!(found.iter().map(|g| g.latents.clone()).collect::<Vec<_>>(), [vec![0, 2, 4], vec![1, 3]]);
        assert!((found[1].npmi - 1.0).abs() < 1e-12 && found[0].npmi > 0.8);
        assert!(cluster_latents(&[3], &partners, &count, 100.0).is_empty());
    }
}
