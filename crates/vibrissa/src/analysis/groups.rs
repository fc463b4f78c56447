//! Groups of latents that act in the same rows: what one of them shows is a part of what the group shows.

use super::pairs::Partners;
use kodama::{Method, linkage};

/// A group, the most frequent latent first.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its latents.
    pub latents: Vec<usize>,
    /// Mean normalised pointwise mutual information of its pairs: 1 always together, 0 as chance has it.
    pub together: f64,
}

/// Latents are in one group while the mean of this over all pairs between its halves is at least so much.
const LEAST: f64 = 0.3;

/// Normalised pointwise mutual information, `log(p_ab / (p_a p_b)) / -log p_ab` in [-1, 1] (Bouma 2009); -1 for two that
/// never met.
pub fn npmi(both: f64, a: f64, b: f64, rows: f64) -> f64 {
    if both == 0.0 {
        -1.0
    } else if both == rows {
        1.0
    } else {
        (both * rows / (a * b)).ln() / -(both / rows).ln()
    }
}

/// Groups of two and more of these latents by average linkage over 1 - NPMI, the largest groups first. `partners[i]`
/// holds the pairs of latent i with larger ones, `count` the rows of each.
pub fn groups(latents: &[usize], partners: &[Partners], count: &[u64], rows: f64) -> Vec<Group> {
    let n = latents.len();
    if n < 2 {
        return Vec::new();
    }
    let both = |a: usize, b: usize| {
        let (low, high) = (a.min(b), a.max(b));
        partners[low].get(low, high as u32).map_or(0.0, |p| f64::from(p.count))
    };
    let together = |a: usize, b: usize| {
        npmi(both(latents[a], latents[b]), count[latents[a]] as f64, count[latents[b]] as f64, rows)
    };
    let mut distances: Vec<f64> =
        (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).map(|(a, b)| 1.0 - together(a, b)).collect();
    let tree = linkage(&mut distances, n, Method::Average);
    // Clusters are numbered as the tree makes them: n + the number of the step.
    let mut members: Vec<Option<Vec<usize>>> = (0..n).map(|i| Some(vec![i])).collect();
    for step in tree.steps() {
        let near = step.dissimilarity <= 1.0 - LEAST;
        let both = [step.cluster1, step.cluster2];
        let joined = (near && both.iter().all(|&c| members[c].is_some()))
            .then(|| both.iter().flat_map(|&c| members[c].take().expect("seen")).collect());
        members.push(joined);
    }
    let mut out: Vec<Group> = members
        .into_iter()
        .flatten()
        .filter(|m| m.len() > 1)
        .map(|mut own| {
            own.sort_by(|&a, &b| count[latents[b]].cmp(&count[latents[a]]).then(latents[a].cmp(&latents[b])));
            let pairs = own.iter().enumerate().flat_map(|(i, &a)| own[i + 1..].iter().map(move |&b| (a, b)));
            let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (a, b)| (sum + together(a, b), n + 1.0));
            Group { together: sum / n, latents: own.into_iter().map(|i| latents[i]).collect() }
        })
        .collect();
    out.sort_by(|a, b| {
        b.latents.len().cmp(&a.latents.len()).then(b.together.total_cmp(&a.together)).then(a.latents.cmp(&b.latents))
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npmi_is_bouma_s() {
        assert!((npmi(25.0, 50.0, 50.0, 100.0)).abs() < 1e-12, "chance");
        assert!((npmi(20.0, 20.0, 20.0, 100.0) - 1.0).abs() < 1e-12, "always");
        assert_eq!(npmi(0.0, 20.0, 20.0, 100.0), -1.0, "never");
    }

    #[test]
    fn latents_that_act_together_are_a_group() {
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
        let found = groups(&[0, 1, 2, 3, 4, 5], &partners, &count, 100.0);
        assert_eq!(found.iter().map(|g| g.latents.clone()).collect::<Vec<_>>(), [vec![0, 2, 4], vec![1, 3]]);
        assert!((found[1].together - 1.0).abs() < 1e-12 && found[0].together > 0.8);
        assert!(groups(&[3], &partners, &count, 100.0).is_empty());
    }
}
