//! Sums that do not depend on the order of their addends, so that shards merge to the bits of one pass with any number
//! of threads.

/// A sum of f64 in fixed point. Each addend is rounded once; adding integers is exact. Holds 2³⁵ addends.
///
/// | size of the addend | rounded to a multiple of |
/// | --- | --- |
/// | below 2⁻¹⁰ | 2⁻⁷² |
/// | below 2¹⁰ | 2⁻⁵² |
/// | below 2²⁰ | its own last bit |
/// | below 2⁸⁰ | 2⁻¹⁰ |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum {
    /// Σ of the addends below 2²⁰, in units of 2⁻⁷².
    small: i128,
    /// Σ of the others, in units of 2⁻¹⁰.
    large: i128,
}

/// Units per 1 of [`ExactSum::small`] and [`fixed_72`].
pub(super) const SMALL_UNITS: f64 = 4_722_366_482_869_645_213_696.0; // 2^72
/// Units per 1 of [`ExactSum::large`].
const LARGE_UNITS: f64 = 1024.0;
/// Units per 1 that a value below 2¹⁰ is rounded to.
const MIDDLE_UNITS: f64 = 4_503_599_627_370_496.0; // 2^52
const SMALL_LIMIT: f64 = 1_048_576.0; // 2^20
const LARGE_LIMIT: f64 = 1.2e24; // just below 2^80

/// A value below 2¹⁰ in size in units of 2⁻⁷², by way of 64 bits: CPUs convert floats to no wider integers.
#[inline]
pub(super) fn fixed_72(value: f64) -> i128 {
    if value.abs() < 1.0 / 1024.0 {
        i128::from((value * SMALL_UNITS) as i64)
    } else {
        i128::from((value * MIDDLE_UNITS) as i64) << 20
    }
}

impl ExactSum {
    /// Adds a value; values of size 2⁸⁰ and above, and NaN, are left out.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.abs() < 1024.0 {
            self.small += fixed_72(value);
        } else if value.abs() < SMALL_LIMIT {
            self.small += (value * SMALL_UNITS) as i128;
        } else if value.abs() < LARGE_LIMIT {
            self.large += (value * LARGE_UNITS) as i128;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        self.small += other.small;
        self.large += other.large;
    }

    /// The sum, rounded once to f64.
    pub fn value(&self) -> f64 {
        self.small as f64 / SMALL_UNITS + self.large as f64 / LARGE_UNITS
    }

    /// The bytes that a shard file has of it.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..16].copy_from_slice(&self.small.to_le_bytes());
        out[16..].copy_from_slice(&self.large.to_le_bytes());
        out
    }

    /// The sum that [`ExactSum::to_bytes`] gave these bytes for.
    pub fn from_bytes(bytes: &[u8; 32]) -> ExactSum {
        let (a, b) = bytes.split_at(16);
        let number = |b: &[u8]| i128::from_le_bytes(b.try_into().expect("16 bytes"));
        ExactSum { small: number(a), large: number(b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_and_small_values_beside_large_ones_are_kept() {
        let values = [1e-9, 3e15, -2.5, 1e6, -3e15, 7.25e-13, 0.1, -1e6, f64::NAN];
        let sum = |order: &[usize]| {
            let mut s = ExactSum::default();
            order.iter().for_each(|&i| s.add(values[i]));
            s
        };
        let forward = sum(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(forward, sum(&[7, 3, 8, 0, 6, 4, 1, 5, 2]));
        let mut parts = sum(&[5, 3, 8]);
        parts.merge(&sum(&[0, 1, 2, 4, 6, 7]));
        assert_eq!(parts, forward);
        assert!((forward.value() - (-2.4 + 1e-9 + 7.25e-13)).abs() < 1e-15);
        assert_eq!(ExactSum::from_bytes(&forward.to_bytes()), forward);
    }
}
