//! Co-activation: for every pair of latents that is co-active in some row, in how many, and the sum of the products.

use super::exact::{SMALL_UNITS, fixed_72};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Most pairs that are kept, about a gigabyte; with more of them, all are dropped.
pub const MAX_PAIRS: usize = 24_000_000;

/// A product in units of 2⁻⁷².
#[inline]
fn fixed(product: f64) -> i128 {
    if product.abs() < 1024.0 { fixed_72(product) } else { (product * SMALL_UNITS) as i128 }
}

/// The sums of two latents i < j over the rows in which both are active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairSums {
    /// Number of these rows.
    pub count: u32,
    /// Σ z_i z_j in fixed point, so that the order of the rows does not matter.
    sum: i128,
}

impl PairSums {
    #[inline]
    fn add(&mut self, product: f64) {
        self.count += 1;
        self.sum += fixed(product);
    }

    /// Σ z_i z_j.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / SMALL_UNITS
    }

    /// Count and fixed-point sum, as a shard file has them.
    pub fn parts(self) -> (u32, i128) {
        (self.count, self.sum)
    }

    /// The sums that [`PairSums::parts`] gave these for.
    pub fn from_parts(count: u32, sum: i128) -> PairSums {
        PairSums { count, sum }
    }
}

/// A hash of latent numbers: a multiplication spreads them well enough.
#[derive(Clone, Debug, Default)]
pub struct LatentHasher(u64);

impl Hasher for LatentHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u32(u32::from(b)));
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The co-active latents of latent i that have higher numbers: a map while there are few, arrays once there are many.
#[derive(Clone, Debug)]
pub enum Partners {
    /// By number.
    Sparse(HashMap<u32, PairSums, BuildHasherDefault<LatentHasher>>),
    /// Counts and fixed-point sums of all latents after i, in separate arrays that are dense in the cache.
    Dense(Vec<u32>, Vec<i128>),
}

impl Default for Partners {
    fn default() -> Self {
        Partners::Sparse(HashMap::default())
    }
}

impl Partners {
    /// Adds a row in which latent `i` of `n` has `value` and is co-active with `others`, all of higher numbers.
    #[inline]
    pub fn add(&mut self, i: usize, n: usize, value: f32, others: &[u32], values: &[f32]) {
        if let Partners::Sparse(map) = self
            && map.len() > (n - i) / 8
        {
            let (mut counts, mut sums) = (vec![0; n - i - 1], vec![0; n - i - 1]);
            for (&j, p) in map.iter() {
                (counts[j as usize - i - 1], sums[j as usize - i - 1]) = (p.count, p.sum);
            }
            *self = Partners::Dense(counts, sums);
        }
        let value = f64::from(value);
        match self {
            Partners::Sparse(map) => {
                for (&j, &v) in others.iter().zip(values) {
                    map.entry(j).or_default().add(value * f64::from(v));
                }
            }
            Partners::Dense(counts, sums) => {
                for (&j, &v) in others.iter().zip(values) {
                    let at = j as usize - i - 1;
                    counts[at] += 1;
                    sums[at] += fixed(value * f64::from(v));
                }
            }
        }
    }

    /// Adds the sums that another shard has of latents `i` and `j`.
    pub fn merge(&mut self, i: usize, j: u32, other: PairSums) {
        match self {
            Partners::Sparse(map) => {
                let own = map.entry(j).or_default();
                own.count += other.count;
                own.sum += other.sum;
            }
            Partners::Dense(counts, sums) => {
                counts[j as usize - i - 1] += other.count;
                sums[j as usize - i - 1] += other.sum;
            }
        }
    }

    /// Number of pairs in memory.
    pub fn len(&self) -> usize {
        match self {
            Partners::Sparse(map) => map.len(),
            Partners::Dense(counts, _) => counts.len(),
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sums of latents `i` and `j > i`; `None` if they are never co-active.
    pub fn get(&self, i: usize, j: u32) -> Option<PairSums> {
        match self {
            Partners::Sparse(map) => map.get(&j).copied(),
            Partners::Dense(counts, sums) => {
                let at = j as usize - i - 1;
                Some(PairSums { count: counts[at], sum: sums[at] }).filter(|p| p.count > 0)
            }
        }
    }

    /// All co-active latents of `i`, by ascending number.
    pub fn pairs(&self, i: usize) -> Vec<(u32, PairSums)> {
        let mut out: Vec<(u32, PairSums)> = match self {
            Partners::Sparse(map) => map.iter().map(|(&j, &p)| (j, p)).collect(),
            Partners::Dense(counts, sums) => {
                let all = counts.iter().zip(sums).enumerate().filter(|p| *p.1.0 > 0);
                all.map(|(d, (&count, &sum))| ((i + 1 + d) as u32, PairSums { count, sum })).collect()
            }
        };
        out.sort_unstable_by_key(|p| p.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_and_dense_partners_agree() {
        let n = 40;
        let mut own = Partners::default();
        let mut naive = vec![(0u32, 0.0f64); n];
        for r in 0..500usize {
            let others: Vec<u32> =
                (4..n as u32).filter(|&j| (r * 7 + j as usize * 13).is_multiple_of(5) || r == 3).collect();
            let values: Vec<f32> = others.iter().map(|&j| (j as f32 - 20.0) * 0.25).collect();
            own.add(3, n, 0.5, &others, &values);
            for (&j, &v) in others.iter().zip(&values) {
                naive[j as usize].0 += 1;
                naive[j as usize].1 += 0.5 * f64::from(v);
            }
        }
        assert!(matches!(own, Partners::Dense(..)));
        for (j, p) in own.pairs(3) {
            assert_eq!(own.get(3, j), Some(p));
            assert_eq!((p.count, p.sum()), naive[j as usize]);
        }
        assert_eq!(own.pairs(3).len(), naive.iter().filter(|p| p.0 > 0).count());
    }
}
