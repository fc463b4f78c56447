//! Random numbers of synthetic data.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use vibrissa_core::random::ln;

/// A stream of random numbers of one row or feature, independent of all others.
pub struct RandomNumbers {
    rng: ChaCha8Rng,
    /// The polar method makes normal numbers in pairs.
    spare: Option<f64>,
}

impl RandomNumbers {
    /// Returns the stream of a seed, a purpose and an index.
    pub fn new(seed: u64, purpose: &str, index: u64) -> RandomNumbers {
        let mut hasher = blake3::Hasher::new_derive_key("vibrissa synthetic 1");
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes()).update(purpose.as_bytes());
        RandomNumbers { rng: ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()), spare: None }
    }

    /// Returns a number uniform in [0, 1), in steps of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a point of the open unit disc other than its centre, and its squared radius.
    fn in_disc(&mut self) -> (f64, f64, f64) {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let squared = x * x + y * y;
            if squared > 0.0 && squared < 1.0 {
                return (x, y, squared);
            }
        }
    }

    /// Returns a unit vector of the plane.
    pub fn direction(&mut self) -> [f64; 2] {
        let (x, y, squared) = self.in_disc();
        [x / squared.sqrt(), y / squared.sqrt()]
    }

    /// Returns a standard normal number, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (x, y, squared) = self.in_disc();
        let scale = (-2.0 * ln(squared) / squared).sqrt();
        self.spare = Some(y * scale);
        x * scale
    }
}
