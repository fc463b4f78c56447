//! Sums that do not depend on the order of their addends: shards merge to the bits of one pass, whatever the threads.

/// A sum of f64 in fixed point: every addend is rounded once, to a multiple of 2⁻⁷² (below 2⁻¹⁰ in size), of 2⁻⁵² (below
/// 2¹⁰, and up to 2²⁰ to its own last bit) or of 2⁻¹⁰ (above), and adding integers is exact. Holds 2³⁵ addends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    small: i128,
    large: i128,
}

const SMALL: f64 = 4_722_366_482_869_645_213_696.0; // 2^72
const LARGE: f64 = 1024.0;
const LIMIT: f64 = 1_048_576.0; // 2^20
const MIDDLE: f64 = 4_503_599_627_370_496.0; // 2^52

/// A value below 2¹⁰ in size as a multiple of 2⁻⁷², by way of 64 bits: the CPU turns floats into no wider integers.
#[inline]
pub(super) fn fixed_72(value: f64) -> i128 {
    if value.abs() < 1.0 / 1024.0 {
        i128::from((value * SMALL) as i64)
    } else {
        i128::from((value * MIDDLE) as i64) << 20
    }
}

impl Exact {
    /// Adds a finite value of size below 2⁸⁰; others are left out.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.abs() < 1024.0 {
            self.small += fixed_72(value);
        } else if value.abs() < LIMIT {
            self.small += (value * SMALL) as i128;
        } else if value.abs() < 1.2e24 {
            self.large += (value * LARGE) as i128;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Exact) {
        self.small += other.small;
        self.large += other.large;
    }

    /// The sum, rounded once.
    pub fn value(&self) -> f64 {
        self.small as f64 / SMALL + self.large as f64 / LARGE
    }

    /// As bytes, for a file of a shard.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..16].copy_from_slice(&self.small.to_le_bytes());
        out[16..].copy_from_slice(&self.large.to_le_bytes());
        out
    }

    /// The reverse of [`Exact::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Exact {
        let (a, b) = bytes.split_at(16);
        let number = |b: &[u8]| i128::from_le_bytes(b.try_into().expect("16 bytes"));
        Exact { small: number(a), large: number(b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_and_small_values_beside_large_ones_stay() {
        let values = [1e-9, 3e15, -2.5, 1e6, -3e15, 7.25e-13, 0.1, -1e6, f64::NAN];
        let sum = |order: &[usize]| {
            let mut s = Exact::default();
            order.iter().for_each(|&i| s.add(values[i]));
            s
        };
        let forward = sum(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(forward, sum(&[7, 3, 8, 0, 6, 4, 1, 5, 2]));
        let mut parts = sum(&[5, 3, 8]);
        parts.merge(&sum(&[0, 1, 2, 4, 6, 7]));
        assert_eq!(parts, forward);
        assert!((forward.value() - (-2.4 + 1e-9 + 7.25e-13)).abs() < 1e-15);
        assert_eq!(Exact::from_bytes(&forward.to_bytes()), forward);
    }
}
