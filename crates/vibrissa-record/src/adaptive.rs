//! How many latents rows need, by rules of one mean budget.

use super::Number;
use serde::{Deserialize, Serialize};

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleRecord {
    /// `fixed`, `threshold`, `residual` or `gain`.
    pub name: String,
    /// θ, τ or λ, in units of the data (τ and λ squared).
    pub threshold: Number,
    /// Mean latents a row.
    pub l0: Number,
    /// The 5, 25, 50, 75 and 95 % quantiles of latents a row.
    pub l0_quantiles: Vec<Number>,
    /// Share of the rows that use as many as a row may, [`AdaptiveRecord::reach`].
    pub at_reach: Number,
    /// Fraction of variance unexplained.
    pub fvu: Number,
    /// Mean Pearson r.
    pub pearson: Number,
    /// Spearman's ρ of latents a row and how hard the row is.
    pub with_complexity: Number,
    /// Mean latents of ten parts of the rows, the simplest first.
    pub l0_by_complexity: Vec<Number>,
}

/// The rules beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdaptiveRecord {
    /// Mean latents a row that were asked for.
    pub budget: u64,
    /// Latents that a row may use at most.
    pub reach: u64,
    /// The rules.
    pub rules: Vec<RuleRecord>,
    /// Mean complexity of the ten parts: of pictures the mean absolute step between neighbouring pixels, of other rows the
    /// distance from the mean.
    pub complexity: Vec<Number>,
}
