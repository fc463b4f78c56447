//! The random numbers of the whole program: streams that belong to a key, never one running stream. The same key gives
//! the same numbers on every machine, whatever was drawn for other keys and whatever the number of threads
//! (docs/adr/002.md).
//!
//! # Keys
//!
//! A stream is ChaCha8 (Bernstein 2008) seeded with a BLAKE3 hash of its key. Numbers are hashed as eight little-endian
//! bytes, texts as UTF-8.
//!
//! - [`Stream::new`] hashes seed, purpose and numbers; training and analysis use it.
//! - [`Stream::in_domain`] hashes numbers and purpose, in the `derive_key` mode of BLAKE3 with the domain as context;
//!   generated data (synthetic rows, variants of images) use it.
//!
//! The domain keeps data apart from training: the same seed in both never gives the same stream.
//!
//! # Portability
//!
//! Only additions, multiplications, divisions and square roots are used, which IEEE 754 rounds alike everywhere; the
//! logarithm is [`ln`] of this file.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A stream of random numbers belonging to one key.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
    /// The second normal number of the last pair; see [`Stream::paired_normal`].
    spare: Option<f64>,
}

impl Stream {
    /// The stream of `seed`, of a purpose ("init", "shuffle"), and of the numbers that identify one use among those of
    /// the purpose, such as `[sae, latent]` or `[epoch]`.
    pub fn new(seed: u64, purpose: &str, key: &[u64]) -> Stream {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes());
        hash.update(purpose.as_bytes());
        hash_numbers(&mut hash, key);
        Stream::from_hash(&hash)
    }

    /// The stream of a key in a domain: generated data that must not change while training does. `key` starts with the
    /// seed; `purpose` may be empty where the domain says enough.
    pub fn in_domain(domain: &str, key: &[u64], purpose: &str) -> Stream {
        let mut hash = blake3::Hasher::new_derive_key(domain);
        hash_numbers(&mut hash, key);
        hash.update(purpose.as_bytes());
        Stream::from_hash(&hash)
    }

    fn from_hash(hash: &blake3::Hasher) -> Stream {
        Stream { rng: ChaCha8Rng::from_seed(*hash.finalize().as_bytes()), spare: None }
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform integer in `0..n` (`n > 0`), without bias (by rejection).
    pub fn below(&mut self, n: u64) -> u64 {
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let x = self.rng.next_u64();
            if x < limit {
                return x % n;
            }
        }
    }

    /// Standard normal, by the polar method (Marsaglia & Bray 1964). The second number of each pair is dropped, so that
    /// a number depends only on its place in the stream.
    pub fn normal(&mut self) -> f64 {
        let (x, _, square) = self.in_disc();
        x * polar_scale(square)
    }

    /// Standard normal, by the same method, both numbers of each pair in turn: half the cost, where a stream is read
    /// from its start.
    pub fn paired_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (x, y, square) = self.in_disc();
        let scale = polar_scale(square);
        self.spare = Some(y * scale);
        x * scale
    }

    /// Fills `out` with the numbers that calls of [`Stream::normal`] would return, in half the time: the points are
    /// collected first, so that a rejected one does not delay the logarithms of the others.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        const CHUNK: usize = 64;
        let mut points = [(0.0, 0.5); CHUNK];
        for out in out.chunks_mut(CHUNK) {
            let mut n = 0;
            while n < out.len() {
                let (x, _, square) = self.in_square();
                points[n] = (x, square);
                n += usize::from(square > 0.0 && square < 1.0);
            }
            out.iter_mut().zip(&points).for_each(|(o, &(x, square))| *o = (x * polar_scale(square)) as f32);
        }
    }

    /// Uniform unit vector of the plane.
    pub fn direction(&mut self) -> [f64; 2] {
        let (x, y, square) = self.in_disc();
        [x / square.sqrt(), y / square.sqrt()]
    }

    /// A uniform point of the square `[-1, 1)²`: its coordinates and its squared distance from the centre.
    #[inline]
    fn in_square(&mut self) -> (f64, f64, f64) {
        let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
        (x, y, x * x + y * y)
    }

    /// A uniform point of the open unit disc other than its centre: its coordinates and its squared distance from the
    /// centre.
    fn in_disc(&mut self) -> (f64, f64, f64) {
        loop {
            let (x, y, square) = self.in_square();
            if square > 0.0 && square < 1.0 {
                return (x, y, square);
            }
        }
    }

    /// Shuffles in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

fn hash_numbers(hash: &mut blake3::Hasher, numbers: &[u64]) {
    for number in numbers {
        hash.update(&number.to_le_bytes());
    }
}

/// The factor that turns a coordinate of a point of the unit disc into a normal number.
#[inline]
fn polar_scale(square: f64) -> f64 {
    (-2.0 * ln(square) / square).sqrt()
}

/// Natural logarithm of a positive normal number, within a few units in the last place. The platform's own differs
/// between systems in the last bit.
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

/// Returns a pseudo-random function of two numbers (the finaliser of SplitMix64, Steele et al. 2014): a cheap order
/// that is the same everywhere, for sampling.
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
        let first = |s, p, k: &[u64]| Stream::new(s, p, k).below(u64::MAX);
        assert_eq!(first(1, "init", &[2, 3]), first(1, "init", &[2, 3]));
        assert_ne!(first(1, "init", &[2, 3]), first(1, "init", &[3, 2]));
        assert_ne!(first(1, "init", &[2, 3]), first(2, "init", &[2, 3]));
        assert_ne!(first(1, "init", &[2]), first(1, "shuffle", &[2]));
        let data = |d, k: &[u64], p| Stream::in_domain(d, k, p).below(u64::MAX);
        assert_eq!(data("rows", &[1, 2], "init"), data("rows", &[1, 2], "init"));
        assert_ne!(data("rows", &[1, 2], "init"), data("images", &[1, 2], "init"));
        assert_ne!(data("rows", &[1, 2], "init"), data("rows", &[1, 2], "row"));
        assert_ne!(data("rows", &[1, 2], "init"), data("rows", &[2, 1], "init"));
        assert_ne!(data("rows", &[1, 2], "init"), first(1, "init", &[2]));
    }

    /// The first numbers of one stream of each kind: runs of earlier versions can be repeated only while these stay.
    #[test]
    fn streams_are_those_of_earlier_versions() {
        let mut s = Stream::new(1, "init", &[2, 3]);
        assert_eq!((s.uniform(), s.below(1000), s.normal()), (0.13622155383586487, 317, -1.0444932641741322));
        let mut s = Stream::in_domain("vibrissa synthetic 1", &[1, 2], "row");
        assert_eq!(
            (s.uniform(), s.paired_normal(), s.paired_normal()),
            (0.24262674390872552, -1.7130516866235515, 0.36384280457215923)
        );
    }

    #[test]
    fn filling_gives_the_numbers_of_single_calls() {
        for n in [0, 1, 63, 64, 65, 1000] {
            let (mut many, mut one) = (Stream::new(7, "test", &[n]), Stream::new(7, "test", &[n]));
            let mut out = vec![0.0; n as usize];
            many.fill_normal(&mut out);
            assert!(out.iter().all(|&v| v == one.normal() as f32));
            assert_eq!(many.normal(), one.normal());
        }
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        for next in [Stream::normal, Stream::paired_normal] {
            let mut s = Stream::new(0, "test", &[]);
            let x: Vec<f64> = (0..100_000).map(|_| next(&mut s)).collect();
            let mean = x.iter().sum::<f64>() / 1e5;
            let var = x.iter().map(|v| v * v).sum::<f64>() / 1e5;
            assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "{mean} {var}");
        }
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
    fn ln_is_accurate_to_the_last_bits() {
        for i in 1..100_000 {
            let x = f64::from(i) / 7.0e4;
            assert!((ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().abs().max(1e-3), "{x}");
        }
        assert!((ln(1e-300) - 1e-300f64.ln()).abs() < 1e-12);
    }
}
