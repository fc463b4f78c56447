//! Options of an analysis.

use crate::error::{Error, Result};
use crate::run::RowSelection;
use std::path::{Path, PathBuf};

/// Options of an analysis; defaults are those of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzeOptions {
    /// Weights of frequency and strength in the score, each at least 0 and not both 0. Default: 0.7 and 0.3.
    pub weights: [f64; 2],
    /// Number of latents with example rows, the first by score. Default: 1,000.
    pub pictured: usize,
    /// A CSV table about the rows, whose columns latents are related to ([`crate::data::metadata`]). Default: none.
    pub metadata: Option<PathBuf>,
    /// The folder for the results. Default: the folder of the run.
    pub out: Option<PathBuf>,
    /// The rows to analyse. Default: all.
    pub split: RowSelection,
    /// Leave out files that cannot be read. Default: false.
    pub skip_bad: bool,
}

impl Default for AnalyzeOptions {
    fn default() -> Self {
        AnalyzeOptions {
            weights: [0.7, 0.3],
            pictured: 1000,
            metadata: None,
            out: None,
            split: RowSelection::All,
            skip_bad: false,
        }
    }
}

impl AnalyzeOptions {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<()> {
        let [frequency, strength] = self.weights;
        if self.weights.iter().all(|w| w.is_finite() && *w >= 0.0) && frequency + strength > 0.0 {
            return Ok(());
        }
        Err(weights_error(&format!("{frequency},{strength}")))
    }

    /// The folder for the results of analysing `run`.
    pub fn folder(&self, run: &Path) -> PathBuf {
        match (&self.out, run.is_dir()) {
            (Some(out), _) => out.clone(),
            (None, true) => run.to_path_buf(),
            (None, false) => run.parent().map(Path::to_path_buf).unwrap_or_default(),
        }
    }
}

/// Parses weights, such as `0.7,0.3`.
///
/// # Errors
/// [`Error::Option`] for anything but two numbers.
pub fn parse_weights(text: &str) -> Result<[f64; 2]> {
    let numbers: Vec<f64> = text.split(',').filter_map(|p| p.trim().parse().ok()).collect();
    numbers.try_into().map_err(|_| weights_error(text))
}

fn weights_error(found: &str) -> Error {
    Error::option("weights", "two numbers of at least 0, not both 0", found, "for example `weights 0.7,0.3`")
}

/// A part of the rows of an analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// The number of shards.
    pub of: usize,
}

impl Shard {
    /// Parses `I/N`, such as `2/8`.
    ///
    /// # Errors
    /// [`Error::Option`] for anything else, or I not from 1 to N.
    pub fn parse(text: &str) -> Result<Shard> {
        let parse = |t: &str| t.parse::<usize>().ok();
        match text.split_once('/').and_then(|(i, n)| parse(i).zip(parse(n))) {
            Some((number, of)) if number >= 1 && number <= of => Ok(Shard { number, of }),
            _ => Err(Error::option("shard", "I/N with I from 1 to N", text, "for example `shard 2/8`")),
        }
    }

    /// The rows of this shard. All patches of an image, `rows_per_image` rows, are in one shard.
    ///
    /// # Errors
    /// [`Error::Option`] if there are none.
    pub fn rows(self, rows: &[usize], rows_per_image: usize) -> Result<&[usize]> {
        let images = rows.len() / rows_per_image;
        let start = |i: usize| i * images / self.of * rows_per_image;
        let part = &rows[start(self.number - 1)..start(self.number)];
        if part.is_empty() {
            let expected = format!("at most {images} parts");
            return Err(Error::option("shard", expected, "a part without rows", "choose fewer parts"));
        }
        Ok(part)
    }
}
