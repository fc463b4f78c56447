//! The result of `vibrissa demo`.

use crate::values::{Number, Ordered, finite};
use serde::{Deserialize, Serialize};

/// Schema of [`DemoRecord`].
pub const DEMO_SCHEMA: &str = "vibrissa.demo/1";

/// The result of the demo ([`DEMO_SCHEMA`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoRecord {
    /// [`DEMO_SCHEMA`].
    pub schema: String,
    /// Mean Pearson r on the test rows.
    #[serde(default, with = "finite")]
    pub pearson: Option<f64>,
    /// Mean Pearson r on the test rows with the mean of the training rows as every reconstruction.
    #[serde(default, with = "finite")]
    pub pearson_mean_image: Option<f64>,
    /// MMCS of the true features of the synthetic rows ([`crate::Recovery::mmcs`]).
    #[serde(default, with = "finite")]
    pub recovery: Option<f64>,
    /// MMCS of random directions.
    #[serde(default, with = "finite")]
    pub recovery_chance: Option<f64>,
    /// Latents never active on the test rows.
    #[serde(default)]
    pub dead_latents: Option<u64>,
    /// Test rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Latents (H).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<u64>,
    /// k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// Mean number of active latents per row.
    #[serde(default, with = "finite", skip_serializing_if = "Option::is_none")]
    pub l0: Option<f64>,
    /// Fraction of variance unexplained.
    #[serde(default, with = "finite", skip_serializing_if = "Option::is_none")]
    pub fvu: Option<f64>,
    /// Wall time, seconds.
    #[serde(default, with = "finite", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Class → mean Pearson r.
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub pearson_by_class: Ordered<Number>,
}

impl Default for DemoRecord {
    fn default() -> Self {
        DemoRecord {
            schema: DEMO_SCHEMA.into(),
            pearson: None,
            pearson_mean_image: None,
            recovery: None,
            recovery_chance: None,
            dead_latents: None,
            rows: None,
            latents: None,
            k: None,
            l0: None,
            fvu: None,
            seconds: None,
            pearson_by_class: Ordered::default(),
        }
    }
}
