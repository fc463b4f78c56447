//! A guess of the k-th largest values of the next batch. It affects the time only, never the result.

/// A guess of a share of ‖x‖ below which the k-th largest value of no row lies.
#[derive(Debug, Default)]
pub struct Guess {
    share: Option<f32>,
    /// Scratch of [`Guess::update`].
    shares: Vec<f32>,
}

/// Share of the distance to a higher guess by which it rises after a batch.
const RISE: f32 = 0.125;

impl Guess {
    /// Returns the guess, if there is one.
    pub fn share(&self) -> Option<f32> {
        self.share
    }

    #[cfg(test)]
    pub fn new(share: f32) -> Guess {
        Guess { share: Some(share), shares: Vec::new() }
    }

    /// Updates the guess by rows: a lower bound of each row's k-th largest value, and ‖x‖. The guess follows downwards
    /// at once, upwards slowly; single rows far below the others are ignored.
    pub fn update(&mut self, rows: impl Iterator<Item = (f32, f32)>) {
        let Guess { share, shares } = self;
        shares.clear();
        shares.extend(rows.map(|(value, norm)| value / norm).filter(|share| share.is_finite()));
        let n = shares.len();
        if n == 0 {
            return;
        }
        let (below, &mut median, _) = shares.select_nth_unstable_by(n / 2, f32::total_cmp);
        let quartile = match below.len() {
            0 => median,
            half => *below.select_nth_unstable_by(half / 2, f32::total_cmp).1,
        };
        let spread = (median - quartile).max(0.02 * median.abs());
        let least = shares[..=n / 4].iter().fold(f32::INFINITY, |m, &s| m.min(s)).max(median - 6.0 * spread);
        let safe = least - 0.05 * least.abs();
        *share = Some(match *share {
            Some(share) if share < safe => share + RISE * (safe - share),
            _ => safe,
        });
    }
}
