//! Random numbers, drawn by what they are for and never from one running stream: the same key gives the same numbers
//! on every machine and whatever the thread count. Imports nothing, like `error`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of random numbers belonging to one key.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed`, a purpose ("init", "shuffle") and the numbers that say which one of its kind it is.
    pub fn new(seed: u64, purpose: &str, key: &[u64]) -> Stream {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes());
        hash.update(purpose.as_bytes());
        for k in key {
            hash.update(&k.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(*hash.finalize().as_bytes()))
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform integer in `0..n` (`n > 0`), without bias.
    pub fn below(&mut self, n: u64) -> u64 {
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let x = self.0.next_u64();
            if x < limit {
                return x % n;
            }
        }
    }

    /// Standard normal (polar method: Marsaglia & Bray 1964).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (a, s) = self.polar();
            if s > 0.0 && s < 1.0 {
                return from_polar(a, s);
            }
        }
    }

    /// The same numbers as [`Stream::normal`] one after the other gives, in half the time: those that are refused break no
    /// chain of others.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        const MANY: usize = 64;
        let mut drawn = [(0.0, 0.5); MANY];
        for out in out.chunks_mut(MANY) {
            let mut n = 0;
            while n < out.len() {
                drawn[n] = self.polar();
                n += usize::from(drawn[n].1 > 0.0 && drawn[n].1 < 1.0);
            }
            out.iter_mut().zip(&drawn).for_each(|(o, &(a, s))| *o = from_polar(a, s) as f32);
        }
    }

    /// A point of the square around 0: its first coordinate, and its squared distance.
    #[inline]
    fn polar(&mut self) -> (f64, f64) {
        let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
        (a, a * a + b * b)
    }

    /// Shuffles in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[inline]
fn from_polar(a: f64, s: f64) -> f64 {
    a * (-2.0 * ln(s) / s).sqrt()
}

/// Natural logarithm of a positive normal number: the system's own differs between systems in the last bit.
#[inline]
pub fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh s with |s| < 0.172: 2 s^23 / 23 is below the last bit.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let squared = s * s;
    let series = (0..11).rev().fold(0.0, |sum, n| sum * squared + 1.0 / f64::from(2 * n + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

/// A number that looks random and belongs to these two (the finaliser of SplitMix64, Steele et al. 2014).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x2545_f491_4f6c_dd1d).rotate_left(31);
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> 30).wrapping_mul(factor);
    }
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_key_and_repeat() {
        let draw = |s, p, k: &[u64]| Stream::new(s, p, k).below(u64::MAX);
        assert_eq!(draw(1, "init", &[2, 3]), draw(1, "init", &[2, 3]));
        assert_ne!(draw(1, "init", &[2, 3]), draw(1, "init", &[3, 2]));
        assert_ne!(draw(1, "init", &[2, 3]), draw(2, "init", &[2, 3]));
        assert_ne!(draw(1, "init", &[2]), draw(1, "shuffle", &[2]));
    }

    #[test]
    fn many_normal_numbers_are_those_of_one_by_one() {
        for n in [0, 1, 63, 64, 65, 1000] {
            let (mut many, mut one) = (Stream::new(7, "test", &[n]), Stream::new(7, "test", &[n]));
            let mut out = vec![0.0; n as usize];
            many.fill_normal(&mut out);
            assert!(out.iter().all(|&v| v == one.normal() as f32));
            assert_eq!(many.normal(), one.normal());
        }
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut s = Stream::new(0, "test", &[]);
        let x: Vec<f64> = (0..100_000).map(|_| s.normal()).collect();
        let mean = x.iter().sum::<f64>() / 1e5;
        let var = x.iter().map(|v| v * v).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "{mean} {var}");
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut v: Vec<u32> = (0..100).collect();
        Stream::new(7, "shuffle", &[0]).shuffle(&mut v);
        assert_ne!(v[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        v.sort_unstable();
        assert_eq!(v, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn logarithm_is_right_to_the_last_bits() {
        for i in 1..100_000 {
            let x = f64::from(i) / 7.0e4;
            assert!((ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().abs().max(1e-3), "{x}");
        }
        assert!((ln(1e-300) - 1e-300f64.ln()).abs() < 1e-12);
    }
}
