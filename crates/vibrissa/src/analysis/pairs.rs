//! Which latents are active together: for every pair that ever is, how often, and the sum of the products.

use super::exact::fixed_72;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Pairs that are kept before all are given up: a gigabyte.
pub const MOST: usize = 24_000_000;

const UNIT: f64 = 4_722_366_482_869_645_213_696.0; // 2^72

#[inline]
fn fixed(product: f64) -> i128 {
    if product.abs() < 1024.0 { fixed_72(product) } else { (product * UNIT) as i128 }
}

/// Co-activation of two latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Rows in which both are active.
    pub count: u32,
    /// Σ latent_i · latent_j in fixed point, so that the order does not matter.
    sum: i128,
}

impl Pair {
    #[inline]
    fn add(&mut self, product: f64) {
        self.count += 1;
        self.sum += fixed(product);
    }

    /// Σ latent_i · latent_j.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / UNIT
    }

    /// Count and fixed-point sum, for a file of a shard.
    pub fn parts(self) -> (u32, i128) {
        (self.count, self.sum)
    }

    /// The reverse of [`Pair::parts`].
    pub fn from_parts(count: u32, sum: i128) -> Pair {
        Pair { count, sum }
    }
}

/// Latent numbers are well spread once multiplied.
#[derive(Clone, Debug, Default)]
pub struct Numbers(u64);

impl Hasher for Numbers {
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

/// The partners of one latent that have larger numbers: few by number, many side by side.
#[derive(Clone, Debug)]
pub enum Partners {
    /// By number.
    Few(HashMap<u32, Pair, BuildHasherDefault<Numbers>>),
    /// All latents after this one, in order: counts and fixed-point sums, apart so that they are dense in the cache.
    Many(Vec<u32>, Vec<i128>),
}

impl Default for Partners {
    fn default() -> Self {
        Partners::Few(HashMap::default())
    }
}

impl Partners {
    /// Latent `i` of `n` is active together with each of `others`, all larger.
    #[inline]
    pub fn add(&mut self, i: usize, n: usize, value: f32, others: &[u32], values: &[f32]) {
        if let Partners::Few(map) = self
            && map.len() > (n - i) / 8
        {
            let (mut counts, mut sums) = (vec![0; n - i - 1], vec![0; n - i - 1]);
            for (&j, p) in map.iter() {
                (counts[j as usize - i - 1], sums[j as usize - i - 1]) = (p.count, p.sum);
            }
            *self = Partners::Many(counts, sums);
        }
        let value = f64::from(value);
        match self {
            Partners::Few(map) => {
                for (&j, &v) in others.iter().zip(values) {
                    map.entry(j).or_default().add(value * f64::from(v));
                }
            }
            Partners::Many(counts, sums) => {
                for (&j, &v) in others.iter().zip(values) {
                    let at = j as usize - i - 1;
                    counts[at] += 1;
                    sums[at] += fixed(value * f64::from(v));
                }
            }
        }
    }

    /// Adds one pair as another shard saw it.
    pub fn merge(&mut self, i: usize, j: u32, other: Pair) {
        match self {
            Partners::Few(map) => {
                let own = map.entry(j).or_default();
                own.count += other.count;
                own.sum += other.sum;
            }
            Partners::Many(counts, sums) => {
                counts[j as usize - i - 1] += other.count;
                sums[j as usize - i - 1] += other.sum;
            }
        }
    }

    /// Pairs in memory.
    pub fn len(&self) -> usize {
        match self {
            Partners::Few(map) => map.len(),
            Partners::Many(counts, _) => counts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pair of latent `i` and `j > i`, if they were ever active together.
    pub fn get(&self, i: usize, j: u32) -> Option<Pair> {
        match self {
            Partners::Few(map) => map.get(&j).copied(),
            Partners::Many(counts, sums) => {
                let at = j as usize - i - 1;
                Some(Pair { count: counts[at], sum: sums[at] }).filter(|p| p.count > 0)
            }
        }
    }

    /// All pairs that were ever active together, by ascending number of the partner.
    pub fn pairs(&self, i: usize) -> Vec<(u32, Pair)> {
        let mut out: Vec<(u32, Pair)> = match self {
            Partners::Few(map) => map.iter().map(|(&j, &p)| (j, p)).collect(),
            Partners::Many(counts, sums) => {
                let all = counts.iter().zip(sums).enumerate().filter(|p| *p.1.0 > 0);
                all.map(|(d, (&count, &sum))| ((i + 1 + d) as u32, Pair { count, sum })).collect()
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
    fn few_and_many_agree() {
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
        assert!(matches!(own, Partners::Many(..)));
        for (j, p) in own.pairs(3) {
            assert_eq!(own.get(3, j), Some(p));
            assert_eq!((p.count, p.sum()), naive[j as usize]);
        }
        assert_eq!(own.pairs(3).len(), naive.iter().filter(|p| p.0 > 0).count());
    }
}
