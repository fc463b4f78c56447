//! The sums of one latent over the rows of a pass: contributions, histograms by class and example rows. All of them
//! merge in any order. Weights are not used here.

use super::exact::ExactSum;
use crate::random::mix;
use crate::record::analysis::{ActivationBins, HistogramsRecord};

const ACTIVATION: ActivationBins = HistogramsRecord::CURRENT.activation;
/// Number of bins of a histogram of activations.
pub const BINS: usize = ACTIVATION.count();
/// Number of bins below 0.
pub(super) const NEGATIVE: usize = ACTIVATION.negative;

/// Example rows of each kind that are kept for a latent.
pub const EXAMPLES: usize = 8;

// `bin` takes the part of an octave from the first three bits of the mantissa.
const _: () = assert!(ACTIVATION.per_octave == 8);

/// The bin of an activation ≠ 0 ([`ActivationBins`]).
#[inline]
pub fn bin(value: f32) -> usize {
    let bits = value.to_bits();
    let octave = (bits >> 23 & 0xff) as i32 - 127 - ACTIVATION.log2_lowest;
    if value < 0.0 {
        NEGATIVE - 1 - octave.clamp(0, NEGATIVE as i32 - 1) as usize
    } else {
        let eighth = (bits >> 20 & 7) as i32;
        NEGATIVE + (octave * 8 + eighth).clamp(0, ACTIVATION.positive as i32 - 1) as usize
    }
}

/// An example row of a latent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    /// Number of the row.
    pub row: u64,
    /// Value of the latent in it.
    pub value: f32,
}

/// The rows with the smallest keys, in whatever order they are added: `(key, row, value)` by ascending key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExampleRows(Vec<(u64, u64, f32)>);

impl ExampleRows {
    #[inline]
    fn add(&mut self, key: u64, row: u64, value: f32) {
        let full = self.0.len() == EXAMPLES;
        if full && (key, row) >= (self.0[EXAMPLES - 1].0, self.0[EXAMPLES - 1].1) {
            return;
        }
        let at = self.0.partition_point(|e| (e.0, e.1) < (key, row));
        if full {
            self.0.pop();
        }
        self.0.insert(at, (key, row, value));
    }

    fn merge(&mut self, other: &ExampleRows) {
        other.0.iter().for_each(|&(key, row, value)| self.add(key, row, value));
    }

    /// The rows, smallest key first.
    pub fn rows(&self) -> impl Iterator<Item = Example> {
        self.0.iter().map(|&(_, row, value)| Example { row, value })
    }

    /// Keys, rows and values, as a shard file has them.
    pub fn entries(&self) -> &[(u64, u64, f32)] {
        &self.0
    }

    /// The rows that [`ExampleRows::entries`] gave these for.
    pub fn from_entries(entries: Vec<(u64, u64, f32)>) -> ExampleRows {
        ExampleRows(entries)
    }
}

/// An integer that ascends with a value.
fn ascending(value: f32) -> u64 {
    let bits = value.to_bits();
    u64::from(if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 })
}

/// The sums of one latent; z is its value in a row in which it is active.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSums {
    /// Σ z.
    pub sum: ExactSum,
    /// Σ of what removing the latent adds to the squared error of a row.
    pub delta_sse: ExactSum,
    /// Σ of what removing the latent takes from the Pearson r of a row.
    pub delta_pearson: ExactSum,
    /// Largest z, −∞ if never active.
    pub largest: f32,
    /// Σ z by class.
    pub class_sum: Vec<ExactSum>,
    /// Rows by class and bin of z, `[C, BINS]`.
    pub bins: Vec<u32>,
    /// Rows with the largest z.
    pub top: ExampleRows,
    /// Active rows sampled uniformly.
    pub random: ExampleRows,
    /// Active rows with the smallest |z|.
    pub near: ExampleRows,
}

impl LatentSums {
    /// The sums over no rows; `classes` at least 1.
    pub fn new(classes: usize) -> LatentSums {
        LatentSums {
            sum: ExactSum::default(),
            delta_sse: ExactSum::default(),
            delta_pearson: ExactSum::default(),
            largest: f32::NEG_INFINITY,
            class_sum: vec![ExactSum::default(); classes],
            bins: vec![0; classes * BINS],
            top: ExampleRows::default(),
            random: ExampleRows::default(),
            near: ExampleRows::default(),
        }
    }

    /// Adds a row in which the latent, number `latent`, has the value `value`.
    #[inline]
    pub fn add(&mut self, latent: u64, row: u64, class: usize, value: f32, delta_sse: f64, delta_pearson: f64) {
        self.sum.add(f64::from(value));
        self.delta_sse.add(delta_sse);
        self.delta_pearson.add(delta_pearson);
        self.largest = self.largest.max(value);
        self.class_sum[class].add(f64::from(value));
        self.bins[class * BINS + bin(value)] += 1;
        self.top.add(!ascending(value), row, value);
        self.random.add(mix(latent, row), row, value);
        self.near.add(ascending(value.abs()), row, value);
    }

    /// Adds the sums of another shard.
    pub fn merge(&mut self, other: &LatentSums) {
        self.sum.merge(&other.sum);
        self.delta_sse.merge(&other.delta_sse);
        self.delta_pearson.merge(&other.delta_pearson);
        self.largest = self.largest.max(other.largest);
        self.class_sum.iter_mut().zip(&other.class_sum).for_each(|(a, b)| a.merge(b));
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
        self.top.merge(&other.top);
        self.random.merge(&other.random);
        self.near.merge(&other.near);
    }

    /// Rows of a class in which the latent is active.
    pub fn class_count(&self, class: usize) -> u64 {
        self.bins[class * BINS..][..BINS].iter().map(|&n| u64::from(n)).sum()
    }

    /// Rows in which the latent is active.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|&n| u64::from(n)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_between_the_edges_of_its_bin() {
        for v in [1e-9f32, 1e-4, 0.02, 0.5, 1.0, 1.09, 7.0, 900.0, 1e30] {
            for v in [v, -v] {
                let b = bin(v);
                let [low, high] = ACTIVATION.edges(b);
                let v = f64::from(v);
                let inside = low <= v && v < high || (v < 0.0 && low < v && v <= high);
                let clamped = [0, NEGATIVE - 1, NEGATIVE, BINS - 1].contains(&b);
                assert!(inside || clamped, "{v} in bin {b}: {low}..{high}");
            }
        }
        assert!((1..BINS).all(|b| ACTIVATION.edges(b - 1)[1] <= ACTIVATION.edges(b)[0] + 1e-12 || b == NEGATIVE));
    }

    #[test]
    fn shards_merge_to_one_pass_in_any_order() {
        let rows: Vec<(u64, f32)> = (0..300u64).map(|r| (r, ((r * 37 % 101) as f32 - 20.0) * 0.1)).collect();
        let pass = |rows: &mut dyn Iterator<Item = &(u64, f32)>| {
            let mut s = LatentSums::new(2);
            rows.filter(|r| r.1 != 0.0).for_each(|&(r, v)| {
                s.add(5, r, (r % 2) as usize, v, f64::from(v) * 0.3, 1e-3 / f64::from(v));
            });
            s
        };
        let whole = pass(&mut rows.iter());
        assert_eq!(whole, pass(&mut rows.iter().rev()));
        let mut merged = pass(&mut rows[200..].iter());
        merged.merge(&pass(&mut rows[..90].iter()));
        merged.merge(&pass(&mut rows[90..200].iter()));
        assert_eq!(whole, merged);
        let top: Vec<f32> = whole.top.rows().map(|e| e.value).collect();
        let mut all: Vec<f32> = rows.iter().map(|r| r.1).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(top, all[..EXAMPLES]);
        assert_eq!(whole.count(), rows.iter().filter(|r| r.1 != 0.0).count() as u64);
    }
}
