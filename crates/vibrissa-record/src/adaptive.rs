//! Adaptive numbers of active latents: rules with the same mean number, compared.

use super::Number;
use serde::{Deserialize, Serialize};

/// The results of one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleRecord {
    /// `fixed`, `threshold`, `residual` or `gain`.
    pub name: String,
    /// θ, τ or λ; θ in units of the data, τ and λ in squared units. Undefined for `fixed`.
    pub threshold: Number,
    /// Mean number of active latents per row.
    pub l0: Number,
    /// The 5, 25, 50, 75 and 95 % quantiles of active latents per row.
    pub l0_quantiles: Vec<Number>,
    /// Share of the rows with the most active latents that a row may have ([`AdaptiveRecord::reach`]).
    pub at_reach: Number,
    /// Fraction of variance unexplained.
    pub fvu: Number,
    /// Mean Pearson r.
    pub pearson: Number,
    /// Spearman's ρ of active latents and complexity of a row.
    pub with_complexity: Number,
    /// Mean number of active latents of ten groups of rows of equal size, the least complex first.
    pub l0_by_complexity: Vec<Number>,
}

/// The comparison of the rules on one SAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdaptiveRecord {
    /// Mean number of active latents per row that the rules were set to.
    pub budget: u64,
    /// Most active latents of a row.
    pub reach: u64,
    /// The rules.
    pub rules: Vec<RuleRecord>,
    /// Mean complexity of the ten groups: of images the mean absolute difference of neighbouring pixels, of other rows
    /// the distance from the mean of the training rows.
    pub complexity: Vec<Number>,
}
