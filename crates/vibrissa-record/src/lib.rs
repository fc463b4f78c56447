//! Versioned results as plain data, the only input of reports. Nothing is computed here. A value that is undefined, NaN
//! or infinite is written as `null`, so that every record is valid JSON.
//!
//! In the definitions of figures, x is a row, recon its reconstruction, D the number of values of a row, N the number
//! of rows, z the value of a latent in a row and w its decoder direction.

pub mod adaptive;
pub mod analysis;
pub mod columns;
pub mod sweep;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use vibrissa_core::Error;
use vibrissa_core::io::version_of;

/// Schema of [`EvalRecord`].
pub const EVAL_SCHEMA: &str = "vibrissa.eval/1";
/// Schema of [`DemoRecord`].
pub const DEMO_SCHEMA: &str = "vibrissa.demo/1";

/// Checks that a record of schema `found` can be read as `known` (`"vibrissa.eval/1"`): it has the same name and no
/// newer version.
///
/// # Errors
/// What was found and the remedy, to follow the name of the file.
///
/// ```
/// use vibrissa_record::{EVAL_SCHEMA, check};
/// assert!(check("vibrissa.eval/1", EVAL_SCHEMA).is_ok());
/// assert!(check("vibrissa.eval/2", EVAL_SCHEMA).unwrap_err().contains("newer"));
/// ```
pub fn check(found: &str, known: &str) -> Result<(), String> {
    let (name, version) = version_of(known).expect("the known schema is one of this file's constants");
    match version_of(found) {
        Some((found_name, found_version)) if found_name == name => {
            if found_version <= version {
                Ok(())
            } else {
                Err(format!("schema {found} is newer than {known}, the newest this version reads; update vibrissa"))
            }
        }
        _ => Err(format!("schema is {found:?}, expected {known}; this is not a {name} record")),
    }
}

/// Parses a record. The schema is checked before the fields, so that the error about a newer record names its version
/// and not an unknown field.
///
/// # Errors
/// As [`check`]; for text that is not JSON, or not this record, the error of serde.
pub fn parse<T: DeserializeOwned>(json: &str, known: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        schema: String,
    }
    let head: Head = serde_json::from_str(json).map_err(|e| format!("not a {known} record: {e}"))?;
    check(&head.schema, known)?;
    serde_json::from_str(json).map_err(|e| format!("not a valid {known} record: {e}"))
}

/// Reads the record in a file; `None` if there is no such file.
///
/// # Errors
/// A file that cannot be read or holds anything else; `remedy` says what to do about it.
pub fn read<T: DeserializeOwned>(path: &Path, known: &str, remedy: &str) -> vibrissa_core::Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read", "check its permissions"))?;
    parse(&text, known).map(Some).map_err(|e| Error::file(path, e, remedy))
}

/// Reads the record in a file; `None` if there is no such file or it does not hold this record.
pub fn read_if_valid<T: DeserializeOwned>(path: &Path, known: &str) -> Option<T> {
    parse(&std::fs::read_to_string(path).ok()?, known).ok()
}

/// A map in the order of insertion, such as classes in the order of the data set (`"2"` before `"10"`).
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(Vec::new())
    }
}

impl<T> Ordered<T> {
    /// The value of the first entry of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> FromIterator<(String, T)> for Ordered<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        Ordered(entries.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A number that may be undefined. `None`, NaN and ±∞ are written as `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number(pub Option<f64>);

impl Number {
    /// The value, if it is defined and finite.
    pub fn get(self) -> Option<f64> {
        self.0.filter(|v| v.is_finite())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Number {
        Number(Some(value))
    }
}

impl From<Option<f64>> for Number {
    fn from(value: Option<f64>) -> Number {
        Number(value)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        finite::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        finite::deserialize(deserializer).map(Number)
    }
}

/// `#[serde(with = "finite")]` for `Option<f64>`: NaN and ±∞ are written as `null`.
mod finite {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.filter(|v| v.is_finite()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::deserialize(deserializer)
    }
}

/// Histogram of the latents by log10 of their frequency (share of the rows in which they are active).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Density {
    /// Lower edge of the first bin, log10 of the frequency; lower frequencies are counted in it.
    pub log10_from: i32,
    /// Bins per decade.
    pub per_decade: u32,
    /// Latents by bin.
    pub counts: Vec<u64>,
    /// Latents never active.
    pub never: u64,
}

/// Measures of reconstructions, means over rows unless stated otherwise. Other records embed this list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconstruction {
    /// Pearson r of row and reconstruction; 0 where either is constant.
    #[serde(with = "finite")]
    pub pearson: Option<f64>,
    /// Squared error per element, ‖x − recon‖² / D.
    #[serde(with = "finite")]
    pub mse: Option<f64>,
    /// Fraction of variance unexplained, Σ ‖x − recon‖² / Σ ‖x − mean x‖² over all rows, with the mean of each column
    /// over these rows.
    #[serde(with = "finite")]
    pub fvu: Option<f64>,
    /// Cosine of row and reconstruction.
    #[serde(with = "finite")]
    pub cosine: Option<f64>,
    /// Structural similarity of images (SSIM, Wang et al. 2004).
    #[serde(with = "finite")]
    pub ssim: Option<f64>,
    /// Perceptual distance of images, 0 to 1; lower is better.
    #[serde(with = "finite")]
    pub perceptual: Option<f64>,
    /// Binary cross-entropy per element, nats; lower is better.
    #[serde(with = "finite")]
    pub cross_entropy: Option<f64>,
    /// Peak signal-to-noise ratio of images, dB.
    #[serde(with = "finite")]
    pub psnr: Option<f64>,
}

/// Scores of one SAE, or of an ensemble, for which the figures of latents are `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scores {
    /// The measures of its reconstructions.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// L0: mean number of active latents per row.
    #[serde(with = "finite")]
    pub l0: Option<f64>,
    /// Where rows are patches: mean number of active latents per image, Σ over its patches.
    #[serde(with = "finite", skip_serializing_if = "Option::is_none")]
    pub l0_image: Option<f64>,
    /// k of the configuration.
    #[serde(with = "finite")]
    pub l0_target: Option<f64>,
    /// `l0 - l0_target`.
    #[serde(with = "finite")]
    pub l0_distance: Option<f64>,
    /// Mean number of active latents per training row at the end of training, by the selection rule of training.
    #[serde(with = "finite", skip_serializing_if = "Option::is_none")]
    pub l0_train: Option<f64>,
    /// Latents never active on these rows.
    pub dead_latents: Option<u64>,
    /// Latents active in fewer than 1 of 1,000 of these rows, dead ones included.
    pub rare_latents: Option<u64>,
    /// Latents (H).
    pub latents: Option<u64>,
    /// Rows that are constant, or whose reconstruction is.
    pub constant_rows: Option<u64>,
    /// Histogram of activation frequencies.
    pub density: Option<Density>,
}

/// The scores of the rows of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
pub struct OfClass<T> {
    /// Rows of the class.
    pub rows: u64,
    /// Their scores.
    #[serde(flatten)]
    pub scores: T,
}

/// Scores overall and by class; without classes `by_class` is `{}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
pub struct ByClass<T> {
    /// Over all rows.
    #[serde(flatten)]
    pub scores: T,
    /// Class name → its rows and scores, in the data set's order.
    pub by_class: Ordered<OfClass<T>>,
}

impl<T: Default> Default for ByClass<T> {
    fn default() -> Self {
        ByClass { scores: T::default(), by_class: Ordered::default() }
    }
}

/// Recovery of the true features of synthetic rows by one SAE. Features and latents are partners in the one-to-one
/// matching of features and decoder directions with the largest Σ |cosine|.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// True features.
    pub features: u64,
    /// Rows in which features and latents were compared.
    pub rows: u64,
    /// Features that fire in some of them.
    pub fired: Option<u64>,
    /// MCC: mean |cosine| of partners over all true features; features without a partner count as 0.
    #[serde(with = "finite")]
    pub mcc: Option<f64>,
    /// MCC of as many random directions as there are latents.
    #[serde(with = "finite")]
    pub mcc_chance: Option<f64>,
    /// MMCS: mean over the true features of the largest |cosine| with a decoder direction (Sharkey et al. 2022).
    #[serde(with = "finite")]
    pub mmcs: Option<f64>,
    /// MMCS of as many random directions as there are latents.
    #[serde(with = "finite")]
    pub mmcs_chance: Option<f64>,
    /// Share of the true features with a largest |cosine| of at least 0.9.
    #[serde(with = "finite")]
    pub found: Option<f64>,
    /// Mean F1 of "the partner is active" as a prediction of "the feature fires", over the features that fire.
    #[serde(with = "finite")]
    pub f1: Option<f64>,
    /// Mean precision of that prediction; 0 for a partner that is never active.
    #[serde(with = "finite")]
    pub precision: Option<f64>,
    /// Mean recall of that prediction.
    #[serde(with = "finite")]
    pub recall: Option<f64>,
}

/// The evaluation of models on given rows ([`EVAL_SCHEMA`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// [`EVAL_SCHEMA`].
    pub schema: String,
    /// Rows evaluated; where rows are patches, images.
    pub rows: u64,
    /// Where rows are patches: patches per image. `l0`, `dead_latents`, `rare_latents` and `density` are then of
    /// patches, all else of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches_per_image: Option<u64>,
    /// By SAE.
    #[serde(default)]
    pub saes: Vec<ByClass<Scores>>,
    /// The mean of the reconstructions of all SAEs.
    #[serde(default)]
    pub ensemble: ByClass<Scores>,
    /// The mean of the training rows as the reconstruction of every row: the trivial baseline.
    #[serde(default)]
    pub mean_image: ByClass<Reconstruction>,
    /// On synthetic rows, by SAE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Recovery>,
    /// The data set as the user named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The part of it: `test`, `train`, `all` or `folds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The runs or model files of the SAEs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
    /// Version of the program that wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_version: Option<String>,
    /// Wall time of the evaluation, seconds.
    #[serde(default, with = "finite", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Adaptive numbers of active latents, by SAE, if requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adaptive: Vec<adaptive::AdaptiveRecord>,
}

impl Default for EvalRecord {
    fn default() -> Self {
        EvalRecord {
            schema: EVAL_SCHEMA.into(),
            rows: 0,
            patches_per_image: None,
            saes: Vec::new(),
            ensemble: ByClass::default(),
            mean_image: ByClass::default(),
            recovery: Vec::new(),
            data: None,
            split: None,
            runs: Vec::new(),
            tool_version: None,
            adaptive: Vec::new(),
            seconds: None,
        }
    }
}

/// The figures of one SAE in a [`MetricsLine`], over the training rows of the interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaeLine {
    /// Each term of the loss, and their sum as `total`.
    pub loss: Ordered<Number>,
    /// Mean Pearson r of row and reconstruction.
    #[serde(with = "finite")]
    pub pearson: Option<f64>,
    /// Fraction of variance unexplained.
    #[serde(with = "finite")]
    pub fvu: Option<f64>,
    /// Mean number of active latents per row.
    #[serde(with = "finite")]
    pub l0: Option<f64>,
    /// k at this step.
    #[serde(with = "finite")]
    pub l0_target: Option<f64>,
    /// Weight λ of the L1 penalty at this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l1_lambda: Option<f64>,
    /// Mean value of all latents, zeros included (ρ̂; a KL penalty has the target k/H).
    #[serde(with = "finite")]
    pub mean_activation: Option<f64>,
    /// Latents by frequency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
    /// Latents counted as dead at this step.
    pub dead_latents: Option<u64>,
    /// Latents resampled in the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reborn: Option<u64>,
}

/// One line of the training log (JSON lines).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsLine {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Rows per second over the interval.
    #[serde(with = "finite")]
    pub rows_per_s: Option<f64>,
    /// Seconds since training began.
    #[serde(with = "finite")]
    pub wall_s: Option<f64>,
    /// By SAE.
    pub saes: Vec<SaeLine>,
}

impl MetricsLine {
    /// The line, with its newline.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data always serialises");
        line.push('\n');
        line
    }
}

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
    /// MMCS of the true features of the synthetic rows ([`Recovery::mmcs`]).
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

#[cfg(test)]
mod tests;
