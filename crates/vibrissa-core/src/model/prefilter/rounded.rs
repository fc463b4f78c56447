//! The encoder rounded to bf16, kept between batches.

use super::super::Sae;
use super::is_possible;
use crate::kernels::Isa;
use crate::kernels::prefilter::RoundedWeights;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The encoder of a model rounded to bf16, once several batches were encoded with it. It is replaced by a new one
/// whenever the weights change.
#[derive(Debug, Default)]
pub struct RoundedEncoder {
    batches: AtomicU32,
    rounded: OnceLock<RoundedWeights>,
}

/// A clone is not rounded yet.
impl Clone for RoundedEncoder {
    fn clone(&self) -> RoundedEncoder {
        RoundedEncoder::default()
    }
}

/// All are equal: whether an encoder was rounded makes no difference between models.
impl PartialEq for RoundedEncoder {
    fn eq(&self, _: &RoundedEncoder) -> bool {
        true
    }
}

/// Batches after which the encoder is rounded: rounding costs about as much as encoding a small batch.
pub(super) const BATCHES: u32 = 3;

impl RoundedEncoder {
    /// Counts a batch that will be encoded; rounds the encoder if enough were.
    pub fn count_batch(&self, sae: &Sae, isa: Isa, rows: usize) {
        if is_possible(isa, rows, &sae.config, true) && self.batches.fetch_add(1, Ordering::Relaxed) == BATCHES {
            // Outside of the lock: a worker that waits for others may come here for another batch.
            let _ = self.rounded.set(RoundedWeights::new(isa, sae.W_enc.data(), sae.config.d_in));
        }
    }

    /// Returns the rounded encoder, if there is one.
    pub fn get(&self) -> Option<&RoundedWeights> {
        self.rounded.get()
    }
}
