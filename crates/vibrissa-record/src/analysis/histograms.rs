//! Bins of the histograms of an analysis. They are fixed, so that they need not know the data and shards can be added.

use serde::{Deserialize, Serialize};

/// The bins of every histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistogramsRecord {
    /// Bins of [`super::columns::HistogramColumns`]: activations.
    pub activation: ActivationBins,
    /// Bins of [`super::columns::QualityColumns`]: Pearson r.
    pub pearson: UniformBins,
    /// Bins of [`super::SaeAnalysis::density`]: log10 of the frequency of a latent, lower ones in the first bin.
    pub log10_frequency: UniformBins,
}

impl HistogramsRecord {
    /// The bins that this version writes.
    pub const CURRENT: HistogramsRecord = HistogramsRecord {
        activation: ActivationBins { negative: 32, positive: 224, per_octave: 8, log2_lowest: -16 },
        pearson: UniformBins { from: -1.0, to: 1.0, bins: 100 },
        log10_frequency: UniformBins { from: -6.0, to: 0.0, bins: 24 },
    };
}

/// Those of this version, which earlier versions wrote without saying so.
impl Default for HistogramsRecord {
    fn default() -> Self {
        HistogramsRecord::CURRENT
    }
}

/// Bins of values ≠ 0, in ascending order. With L = `log2_lowest` and n = `per_octave`:
///
/// ```text
/// below 0   one bin per octave, bin negative − 1 − i:  −2^(L+i+1) to −2^(L+i)
/// above 0   n bins of equal width per octave, bin negative + n i + j:  2^(L+i) (1 + j/n) to 2^(L+i) (1 + (j+1)/n)
/// ```
///
/// Values beyond the outermost edges, and those nearer to 0 than 2^L, are counted in the nearest bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationBins {
    /// Bins below 0.
    pub negative: usize,
    /// Bins above 0.
    pub positive: usize,
    /// Bins in each octave above 0.
    pub per_octave: usize,
    /// log2 of the smallest |edge|.
    pub log2_lowest: i32,
}

impl ActivationBins {
    /// Number of bins.
    pub const fn count(&self) -> usize {
        self.negative + self.positive
    }

    /// Lower and upper edge of a bin.
    pub fn edges(&self, bin: usize) -> [f64; 2] {
        if bin < self.negative {
            let octave = (self.negative - 1 - bin) as i32 + self.log2_lowest;
            [-f64::from(octave + 1).exp2(), -f64::from(octave).exp2()]
        } else {
            [self.lower_edge(bin - self.negative), self.lower_edge(bin - self.negative + 1)]
        }
    }

    /// The edges of the bins above 0, one more than there are bins.
    pub fn positive_edges(&self) -> Vec<f64> {
        (0..=self.positive).map(|i| self.lower_edge(i)).collect()
    }

    /// Lower edge of bin `i` above 0.
    fn lower_edge(&self, i: usize) -> f64 {
        let (octave, part) = ((i / self.per_octave) as i32, i % self.per_octave);
        f64::from(self.log2_lowest + octave).exp2() * (1.0 + part as f64 / self.per_octave as f64)
    }
}

/// Bins of equal width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UniformBins {
    /// Lower edge of the first bin.
    pub from: f64,
    /// Upper edge of the last bin, which belongs to it.
    pub to: f64,
    /// Number of bins.
    pub bins: usize,
}

impl UniformBins {
    /// The edges, one more than there are bins.
    pub fn edges(&self) -> Vec<f64> {
        (0..=self.bins).map(|i| self.from + (self.to - self.from) * i as f64 / self.bins as f64).collect()
    }

    /// The bin that a value falls into; values beyond the outermost edges are counted in the nearest bin, NaN in the
    /// first.
    pub fn bin(&self, value: f64) -> usize {
        let place = (value - self.from) * (self.bins as f64 / (self.to - self.from));
        (place as usize).min(self.bins - 1)
    }

    /// The middle of a bin.
    pub fn middle(&self, bin: usize) -> f64 {
        self.from + (self.to - self.from) * (bin as f64 + 0.5) / self.bins as f64
    }
}
