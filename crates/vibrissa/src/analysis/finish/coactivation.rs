//! Pairs and groups of co-active latents.

use super::super::groups::cluster_latents;
use super::super::pairs::{PairSums, Partners};
use super::LatentMeasures;
use crate::directions::{UnitDirections, largest_cosines};
use crate::kernels::Isa;
use crate::metrics::mean;
use crate::record::analysis::{CoactivationRecord, GroupRecord, PairRecord};

/// Pairs and groups in a list.
const LISTED: usize = 20;
/// Latents that groups are sought among: the first by score.
const GROUPED: usize = 1000;
/// Rows in which two latents must be co-active for their mutual information to count, and in which a latent must be
/// active to be grouped: fewer are chance.
const SUPPORT: u64 = 10;

/// Two latents i < j and their sums.
type LatentPair = (u32, u32, PairSums);

/// Everything that pairs are computed from.
struct Coactivation<'a> {
    partners: &'a [Partners],
    measures: &'a LatentMeasures,
    directions: &'a UnitDirections,
    /// Rows, N.
    rows: f64,
    isa: Isa,
}

/// Lists the pairs and groups of one SAE. `partners` are its co-active pairs over `rows` rows.
pub(super) fn coactivation(
    partners: &[Partners],
    measures: &LatentMeasures,
    directions: &UnitDirections,
    rows: f64,
) -> CoactivationRecord {
    let c = Coactivation { partners, measures, directions, rows, isa: Isa::current() };
    let mut all: Vec<LatentPair> = Vec::new();
    for (i, own) in partners.iter().enumerate() {
        all.extend(own.pairs(i).into_iter().map(|(j, p)| (i as u32, j, p)));
    }
    // |synergy| ≤ 2 |E[z_i z_j]|: in this order no pair after one below the last of a list can be in it.
    all.sort_by(|a, b| b.2.sum().abs().total_cmp(&a.2.sum().abs()).then((a.0, a.1).cmp(&(b.0, b.1))));
    CoactivationRecord {
        pairs: all.len() as u64,
        overlap: c.largest_synergies(&all, 1.0),
        correct: c.largest_synergies(&all, -1.0),
        together: c.largest_pmi(&all),
        redundant: c.largest_cosines(),
        groups: c.groups(),
    }
}

impl Coactivation<'_> {
    /// Unit decoder direction of a latent that is active in some row.
    fn direction(&self, h: u32) -> &[f32] {
        self.directions
            .rows
            .row(self.directions.latents.binary_search(&h).expect("a latent that is active in some row"))
    }

    fn cosine(&self, i: u32, j: u32) -> f64 {
        f64::from(self.isa.dot(self.direction(i), self.direction(j)))
    }

    fn pmi(&self, i: u32, j: u32, pair: &PairSums) -> f64 {
        let count = |h: u32| self.measures.count[h as usize] as f64;
        (f64::from(pair.count) * self.rows / (count(i) * count(j))).log2()
    }

    fn record(&self, i: u32, j: u32, pair: &PairSums) -> PairRecord {
        let cosine = self.cosine(i, j);
        PairRecord {
            a: u64::from(i),
            b: u64::from(j),
            count: u64::from(pair.count),
            pmi: self.pmi(i, j, pair).into(),
            synergy: (2.0 * pair.sum() / self.rows * cosine).into(),
            cosine: cosine.into(),
        }
    }

    /// The pairs with the largest `sign` · synergy above 0; `all` are in descending order of |Σ z_i z_j|.
    fn largest_synergies(&self, all: &[LatentPair], sign: f64) -> Vec<PairRecord> {
        let mut list: Vec<PairRecord> = Vec::new();
        let value = |p: &PairRecord| sign * p.synergy.get().unwrap_or(0.0);
        for (i, j, pair) in all {
            let least = list.last().filter(|_| list.len() == LISTED).map_or(0.0, value);
            if 2.0 * pair.sum().abs() / self.rows <= least {
                break;
            }
            let record = self.record(*i, *j, pair);
            if value(&record) > least {
                let at = list.partition_point(|o| value(o) >= value(&record));
                list.insert(at, record);
                list.truncate(LISTED);
            }
        }
        list
    }

    fn largest_pmi(&self, all: &[LatentPair]) -> Vec<PairRecord> {
        let mut often: Vec<&LatentPair> = all.iter().filter(|p| u64::from(p.2.count) >= SUPPORT).collect();
        let pmi = |p: &LatentPair| self.pmi(p.0, p.1, &p.2);
        often.sort_by(|a, b| pmi(b).total_cmp(&pmi(a)).then((a.0, a.1).cmp(&(b.0, b.1))));
        often.iter().take(LISTED).map(|(i, j, pair)| self.record(*i, *j, pair)).collect()
    }

    /// The pairs with the largest cosine, co-active or not.
    fn largest_cosines(&self) -> Vec<PairRecord> {
        let record = |(i, j, cosine): (u32, u32, f32)| {
            let (i, j) = (self.directions.latents[i as usize], self.directions.latents[j as usize]);
            let coactive = self.partners[i as usize].get(i as usize, j);
            let record = coactive.map(|pair| self.record(i, j, &pair)).unwrap_or_default();
            PairRecord { a: u64::from(i), b: u64::from(j), cosine: f64::from(cosine).into(), ..record }
        };
        largest_cosines(self.directions.rows.view(), LISTED).into_iter().map(record).collect()
    }

    fn groups(&self) -> Vec<GroupRecord> {
        let measures = self.measures;
        let candidates: Vec<usize> = measures.used().filter(|&h| measures.count[h] >= SUPPORT).take(GROUPED).collect();
        let found = cluster_latents(&candidates, self.partners, &measures.count, self.rows);
        let record = |latents: &[usize], npmi: f64| {
            let pairs = latents.iter().enumerate().flat_map(|(i, &a)| latents[i + 1..].iter().map(move |&b| (a, b)));
            GroupRecord {
                latents: latents.iter().map(|&h| h as u64).collect(),
                npmi: npmi.into(),
                cosine: mean(pairs.map(|(a, b)| self.cosine(a as u32, b as u32).abs())).into(),
                share: latents.iter().map(|&h| measures.columns.share[h]).sum::<f64>().into(),
            }
        };
        found.iter().take(LISTED).map(|g| record(&g.latents, g.npmi)).collect()
    }
}
