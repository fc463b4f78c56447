//! Matryoshka prefixes (Bussmann et al. 2025, arXiv 2503.17547): groups of leading latents that each reconstruct the row by
//! themselves, so that the first latents learn what matters most.

use crate::error::{Error, Result};
use crate::random::Stream;
use serde::{Deserialize, Serialize};

/// The lengths of Matryoshka prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Matryoshka {
    /// No prefixes: only all latents together reconstruct.
    #[default]
    Off,
    /// These lengths, ascending, and all latents; written `64,256`.
    Fixed(Vec<usize>),
    /// This number of prefixes, all latents included, sampled anew at each step with `P(length ≥ m) ∝ 1/√m`; written
    /// `random:10`.
    Random(usize),
}

impl TryFrom<String> for Matryoshka {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wrong = || format!("expected off, lengths such as 64,256, or random:10, found {text}");
        if text == "off" || text.is_empty() {
            return Ok(Matryoshka::Off);
        }
        if let Some(n) = text.strip_prefix("random:") {
            return n.parse().map(Matryoshka::Random).map_err(|_| wrong());
        }
        text.split(',')
            .map(|n| n.trim().parse().map_err(|_| wrong()))
            .collect::<std::result::Result<_, _>>()
            .map(Matryoshka::Fixed)
    }
}

impl From<Matryoshka> for String {
    fn from(value: Matryoshka) -> String {
        match value {
            Matryoshka::Off => "off".into(),
            Matryoshka::Fixed(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Matryoshka::Random(n) => format!("random:{n}"),
        }
    }
}

impl Matryoshka {
    /// Checks the lengths against a number of latents.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self, latents: usize) -> Result<()> {
        let (ok, expected) = match self {
            Matryoshka::Off => return Ok(()),
            Matryoshka::Fixed(all) => (
                all.first().is_some_and(|&m| m > 0)
                    && all.windows(2).all(|w| w[0] < w[1])
                    && all.last().is_some_and(|&m| m <= latents),
                format!("ascending lengths from 1 to {latents} (the number of latents)"),
            ),
            Matryoshka::Random(n) => ((2..=latents).contains(n), format!("random:2 to random:{latents}")),
        };
        if ok {
            Ok(())
        } else {
            Err(Error::option("matryoshka", expected, String::from(self.clone()), "such as 64,256, or random:10"))
        }
    }

    /// Returns the prefixes of a step, ascending, without the full length.
    pub fn lengths(&self, latents: usize, mut stream: Stream) -> Vec<usize> {
        match self {
            Matryoshka::Off => Vec::new(),
            Matryoshka::Fixed(all) => all.iter().copied().filter(|&m| m < latents).collect(),
            Matryoshka::Random(n) => {
                // The inverse of P(length ≥ m) = 1/√m, cut off at H; a length that was sampled before is sampled again.
                let least = 1.0 / (latents as f64).sqrt();
                let mut out: Vec<usize> = Vec::with_capacity(*n);
                for _ in 0..100 * n {
                    let u = 1.0 - stream.uniform() * (1.0 - least);
                    let m = ((1.0 / (u * u)) as usize).clamp(1, latents);
                    if m < latents && !out.contains(&m) {
                        out.push(m);
                    }
                    if out.len() + 1 >= *n {
                        break;
                    }
                }
                out.sort_unstable();
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_invalid_lengths_are_refused() {
        for (text, ok) in
            [("off", true), ("16,64", true), ("random:5", true), ("64,16", false), ("0,5", false), ("101", false)]
        {
            let parsed = Matryoshka::try_from(text.to_owned()).expect("parses");
            assert_eq!(String::from(parsed.clone()), text);
            assert_eq!(parsed.check(100).is_ok(), ok, "{text}");
        }
        assert!(
            Matryoshka::try_from("5;6".to_owned()).is_err() && Matryoshka::try_from("random:x".to_owned()).is_err()
        );
    }

    #[test]
    fn random_lengths_ascend_and_favour_short_ones() {
        let mut short = 0;
        for step in 0..200 {
            let all = Matryoshka::Random(8).lengths(1000, Stream::new(1, "prefixes", &[0, step]));
            assert!(all.len() == 7 && all.windows(2).all(|w| w[0] < w[1]) && all[6] < 1000);
            short += all.iter().filter(|&&m| m < 10).count();
        }
        // P(length < 10) ≈ 1 - 1/√10 = 0.68 for the first sample, less for later ones: no length occurs twice.
        assert!((700..950).contains(&short), "{short}");
    }
}
