//! Times at which checkpoints are written.

use crate::error::Result;
use std::time::{Duration, Instant};

/// Time between two checkpoints: the most that a machine that stops can lose of a run.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// Decides when a checkpoint is due: an interval after the last one, or later if writing would take more than a fiftieth of
/// the time.
pub(crate) struct Saving {
    interval: Duration,
    last: Instant,
    took: Duration,
}

impl Saving {
    /// Returns a clock that starts now.
    pub fn every(interval: Duration) -> Saving {
        Saving { interval, last: Instant::now(), took: Duration::ZERO }
    }

    /// True if a checkpoint is due.
    pub fn due(&self) -> bool {
        self.last.elapsed() >= self.interval.max(50 * self.took)
    }

    /// Writes a checkpoint by `save` and measures how long that takes.
    pub fn time(&mut self, save: impl FnOnce() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        save()?;
        (self.last, self.took) = (Instant::now(), began.elapsed());
        Ok(())
    }
}
