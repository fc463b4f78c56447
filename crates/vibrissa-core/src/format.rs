//! Model and checkpoint files: safetensors, written whole or not at all. Other projects' formats belong here too, and
//! only this module knows their names.
//!
//! `model.safetensors` holds for each SAE i: `sae.i.W_enc [H, D]`, `sae.i.W_dec [H, D]` (absent when tied: the decoder
//! is then W_enc with rows of unit length), `sae.i.b_enc [H]`, `sae.i.b_dec [D]` (absent without), and `data.mean [D]`,
//! the mean of the training rows. Weights act on rows as loaded. Metadata: `schema`, `config` (JSON, [`ModelConfig`]),
//! `config_hash` (BLAKE3 of that text), `tool_version`. A checkpoint adds the optimiser's state.
#![allow(non_snake_case)]

use crate::activation::ParameterLengths;
use crate::error::{Error, Result};
use crate::io::safetensors::{self, TensorData, TensorFile};
use crate::io::version_of;
use crate::matrix::Mat;
use crate::model::step::State;
use crate::model::{Config, Sae, Weights};
use crate::shape::{ImageShape, PatchGrid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Schema of the model file; a file of a later version is refused.
pub const MODEL_SCHEMA: &str = "vibrissa.model/1";
/// Schema of a checkpoint. Its weights act on rows in the scale of training, so it cannot be used as a model.
pub const CHECKPOINT_SCHEMA: &str = "vibrissa.checkpoint/2";

/// Description of a model, kept in the metadata of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The architecture, the same for every SAE of the file.
    #[serde(flatten)]
    pub sae: Config,
    /// Number of SAEs.
    pub saes: usize,
    /// The shape of the whole images, where rows are images or patches of them.
    #[serde(rename = "pictures")]
    pub image: Option<ImageShape>,
    /// The patches of the images, where rows are patches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchGrid>,
}

impl ModelConfig {
    /// Returns the length of `data.mean`: a row, or a whole image where rows are patches.
    fn mean_len(&self) -> usize {
        match (self.patches, self.image) {
            (Some(_), Some(image)) => image.dim(),
            _ => self.sae.d_in,
        }
    }

    /// Checks that patches, images and the width of rows fit each other.
    ///
    /// # Errors
    /// A description of the mismatch.
    fn check_patches(&self) -> std::result::Result<(), String> {
        let Some(grid) = self.patches else { return Ok(()) };
        let Some(image) = self.image else { return Err("patches without images".into()) };
        let fits = grid.fits(image) && grid.covers() && image.checked_dim().is_some();
        if fits && grid.patch_shape(image.channels).checked_dim() == Some(self.sae.d_in) {
            return Ok(());
        }
        let PatchGrid { height, width, stride: [down, across] } = grid;
        let (w, h, rows) = (image.width, image.height, self.sae.d_in);
        Err(format!("patches of {width}x{height} every {across}x{down} pixels of {w}x{h} do not make rows of {rows}"))
    }
}

/// A model as read from its file.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its description.
    pub config: ModelConfig,
    /// Its SAEs.
    pub saes: Vec<Sae>,
    /// Mean of the training rows `[D]`; with patches, of the training images.
    pub mean: Vec<f32>,
    /// All metadata of the file.
    pub metadata: HashMap<String, String>,
}

/// Returns a tensor of `values / scale`.
fn unscaled(name: String, values: &[f32], scale: f32) -> TensorData<'static> {
    TensorData::owned(name, &values.iter().map(|v| v / scale).collect::<Vec<f32>>())
}

/// Returns the tensors of a model. They are divided by `scale` as in [`Sae::unscale`], without a copy of the weights,
/// since that may not fit in memory.
fn model_tensors<'a>(saes: &[&'a Sae], mean: &'a [f32], scale: f32) -> Vec<TensorData<'a>> {
    let mut out = Vec::new();
    for (i, sae) in saes.iter().enumerate() {
        let full = [sae.config().latents, sae.config().d_in];
        out.push(TensorData::new(format!("sae.{i}.W_enc"), &full, sae.W_enc().data()));
        if let Some(w) = sae.W_dec() {
            out.push(TensorData::new(format!("sae.{i}.W_dec"), &full, w.data()));
        }
        out.push(unscaled(format!("sae.{i}.b_enc"), sae.b_enc(), scale));
        if let Some(b) = sae.b_dec() {
            out.push(unscaled(format!("sae.{i}.b_dec"), b, scale));
        }
        for (name, values, scale) in
            [("threshold", sae.threshold(), scale), ("b_gate", sae.b_gate(), scale), ("r_mag", sae.r_mag(), 1.0)]
        {
            if !values.is_empty() {
                out.push(unscaled(format!("sae.{i}.{name}"), values, scale));
            }
        }
    }
    out.push(TensorData::new("data.mean".into(), &[mean.len()], mean));
    out
}

fn metadata(config: &ModelConfig) -> BTreeMap<&'static str, String> {
    let text = serde_json::to_string(config).expect("plain data can be written as JSON");
    BTreeMap::from([
        ("schema", MODEL_SCHEMA.to_owned()),
        ("config_hash", blake3::hash(text.as_bytes()).to_hex().to_string()),
        ("config", text),
        ("tool_version", env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

/// Writes a model that was trained on rows multiplied by `scale`, so that it acts on rows as they are.
///
/// # Errors
/// [`Error::Io`]; nothing is half-written.
pub fn write_model(path: &Path, config: &ModelConfig, saes: &[&Sae], mean: &[f32], scale: f32) -> Result<()> {
    safetensors::write(path, &metadata(config), &model_tensors(saes, mean, scale))
}

/// Progress of a run, kept in a checkpoint beside models and optimiser state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointProgress {
    /// Steps done.
    pub step: u64,
    /// Hash of the options and data that decide the result: a checkpoint continues only the run it came from.
    pub run_hash: String,
    /// Seconds spent before this checkpoint.
    pub wall_s: f64,
    /// Early stopping: the best validation fvu so far, and its epoch.
    pub best: Option<(f64, u64)>,
    /// Consistency: for each pair of SAEs the matching of their latents, as of the start of the epoch.
    pub matches: Vec<Vec<u32>>,
}

/// Writes a checkpoint: models, optimiser state and progress.
///
/// # Errors
/// [`Error::Io`]; the previous checkpoint stays.
pub fn write_checkpoint(
    path: &Path,
    config: &ModelConfig,
    engines: &[(&Sae, &State)],
    mean: &[f32],
    progress: &CheckpointProgress,
) -> Result<()> {
    let saes: Vec<&Sae> = engines.iter().map(|e| e.0).collect();
    let mut out = model_tensors(&saes, mean, 1.0);
    for (i, (_, state)) in engines.iter().enumerate() {
        for (name, moments) in state.moments() {
            out.push(TensorData::new(format!("state.{i}.{name}.m"), &[moments.m.len()], &moments.m[..]));
            out.push(TensorData::new(format!("state.{i}.{name}.v"), &[moments.v.len()], &moments.v[..]));
        }
        out.push(TensorData::new(format!("state.{i}.silent"), &[state.silent.len()], &state.silent[..]));
        out.push(TensorData::owned(format!("state.{i}.numbers"), &[state.l1, state.l0_off, state.threshold_sum]));
        if !state.effect.is_empty() {
            out.push(TensorData::new(format!("state.{i}.effect"), &[state.effect.len()], &state.effect[..]));
        }
        out.push(TensorData::new(format!("state.{i}.idle"), &[state.idle.len()], &state.idle[..]));
    }
    let mut meta = metadata(config);
    meta.insert("schema", CHECKPOINT_SCHEMA.to_owned());
    meta.insert("progress", serde_json::to_string(progress).expect("plain data can be written as JSON"));
    safetensors::write(path, &meta, &out)
}

const MISSING: &str = "give a run folder or a model.safetensors that exists";
const DAMAGED: &str = "the file is damaged: copy it again or train anew";

fn open(path: &Path) -> Result<TensorFile<'_>> {
    TensorFile::open(path, MISSING, DAMAGED)
}

/// Returns a text of a file's metadata.
fn metadata_text<'a>(file: &'a TensorFile, key: &str) -> Result<&'a str> {
    file.header().metadata.get(key).map(String::as_str).ok_or_else(|| {
        Error::file(file.path(), format!("its metadata has no {key}"), "give a model that vibrissa wrote")
    })
}

/// Reads the description of a model from a file of the schema `known`.
fn read_config(file: &TensorFile, known: &str) -> Result<ModelConfig> {
    let schema = metadata_text(file, "schema")?;
    if schema != known {
        let (kind, newest) = version_of(known).expect("a version");
        let found = format!("has schema {schema}, this version reads {known}");
        let remedy = match version_of(schema) {
            Some((k, v)) if k == kind && v > newest => "update vibrissa to read it",
            Some((k, _)) if k == kind => "begin again, or go on with the version of vibrissa that wrote it",
            _ if schema == CHECKPOINT_SCHEMA => "finish its run with `resume`, and give the run",
            _ => "give a model that vibrissa wrote",
        };
        return Err(Error::file(file.path(), found, remedy));
    }
    let text = metadata_text(file, "config")?;
    if blake3::hash(text.as_bytes()).to_hex().as_str() != metadata_text(file, "config_hash")? {
        return Err(Error::file(file.path(), "its configuration does not match its hash", DAMAGED));
    }
    let broken = |why: String| Error::file(file.path(), format!("its configuration is broken ({why})"), DAMAGED);
    let config: ModelConfig = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
    config.check_patches().map_err(broken)?;
    Ok(config)
}

fn read_mean(file: &mut TensorFile, config: &ModelConfig) -> Result<Vec<f32>> {
    let mean: Vec<f32> = file.read("data.mean", &[config.mean_len()])?;
    if mean.iter().all(|m| m.is_finite()) {
        return Ok(mean);
    }
    Err(Error::file(file.path(), "data.mean holds NaN or infinity", DAMAGED))
}

fn read_saes(file: &mut TensorFile, config: &ModelConfig) -> Result<Vec<Sae>> {
    let Config { latents, d_in, tied, decoder_bias, .. } = config.sae;
    config.sae.check()?;
    (0..config.saes)
        .map(|i| {
            let W_enc = Mat::from_vec(latents, d_in, file.read(&format!("sae.{i}.W_enc"), &[latents, d_in])?);
            let W_dec = if tied {
                None
            } else {
                Some(Mat::from_vec(latents, d_in, file.read(&format!("sae.{i}.W_dec"), &[latents, d_in])?))
            };
            let b_enc = file.read(&format!("sae.{i}.b_enc"), &[latents])?;
            let b_dec = if decoder_bias { Some(file.read(&format!("sae.{i}.b_dec"), &[d_in])?) } else { None };
            let mut optional = |name: &str, n: usize| match n {
                0 => Ok(Vec::new()),
                n => file.read(&format!("sae.{i}.{name}"), &[n]),
            };
            let ParameterLengths { threshold: t, b_gate: g, r_mag: r } = config.sae.parameter_lengths();
            let (threshold, b_gate, r_mag) = (optional("threshold", t)?, optional("b_gate", g)?, optional("r_mag", r)?);
            Sae::new(config.sae, Weights { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag })
                .map_err(|e| Error::file(file.path(), format!("SAE {i} is broken ({e})"), DAMAGED))
        })
        .collect()
}

/// Returns the path of a run's model file: `path` itself, or `path/model.safetensors`.
///
/// # Errors
/// A run that has not ended, or a folder without a run.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let model = path.join("model.safetensors");
    if model.exists() {
        return Ok(model);
    }
    if path.join("cells").is_dir() {
        let remedy = "give one of its cells, such as SWEEP/cells/NAME";
        return Err(Error::file(path, "is a sweep, which has a model in each cell", remedy));
    }
    let found = if path.join("checkpoints").is_dir() {
        "this run has not ended: it has checkpoints but no model.safetensors"
    } else {
        "no model.safetensors here"
    };
    Err(Error::file(path, found, "finish it by training with `resume`, or give another run"))
}

/// Reads a model from a run folder or a model file.
///
/// # Errors
/// A file that is missing, not safetensors, damaged, or of a newer schema.
pub fn read_model(path: &Path) -> Result<Model> {
    let path = model_file(path)?;
    let mut file = open(&path)?;
    let config = read_config(&file, MODEL_SCHEMA)?;
    let saes = read_saes(&mut file, &config)?;
    let mean = read_mean(&mut file, &config)?;
    Ok(Model { saes, mean, metadata: file.header().metadata.clone(), config })
}

/// Reads a checkpoint.
///
/// # Errors
/// As [`read_model`].
pub fn read_checkpoint(path: &Path) -> Result<(Model, Vec<State>, CheckpointProgress)> {
    let mut file = open(path)?;
    let config = read_config(&file, CHECKPOINT_SCHEMA)?;
    let progress: CheckpointProgress = serde_json::from_str(metadata_text(&file, "progress")?)
        .map_err(|e| Error::file(path, format!("its progress is broken ({e})"), DAMAGED))?;
    let saes = read_saes(&mut file, &config)?;
    let mut states = Vec::new();
    for i in 0..config.saes {
        let mut state = State::new(&config.sae);
        state.steps = progress.step;
        for (name, moments) in state.moments_mut() {
            let n = moments.m.len();
            moments.m.copy_from_slice(&file.read::<f32>(&format!("state.{i}.{name}.m"), &[n])?);
            moments.v.copy_from_slice(&file.read::<f32>(&format!("state.{i}.{name}.v"), &[n])?);
        }
        state.silent = file.read(&format!("state.{i}.silent"), &[config.sae.latents])?;
        state.idle = file.read(&format!("state.{i}.idle"), &[config.sae.latents])?;
        let numbers = format!("state.{i}.numbers");
        if file.header().get(&numbers).is_some() {
            let read: Vec<f64> = file.read(&numbers, &[3])?;
            (state.l1, state.l0_off, state.threshold_sum) = (read[0], read[1], read[2]);
        }
        let effect = format!("state.{i}.effect");
        if file.header().get(&effect).is_some() {
            state.effect = file.read(&effect, &[config.sae.latents])?;
        }
        states.push(state);
    }
    let mean = read_mean(&mut file, &config)?;
    Ok((Model { saes, mean, metadata: file.header().metadata.clone(), config }, states, progress))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(d_in: usize, patches: Option<PatchGrid>) -> ModelConfig {
        let image = Some(ImageShape { channels: 3, height: 8, width: 6 });
        let sae = Config { d_in, latents: 4, k: 2, ..Config::default() };
        ModelConfig { sae, saes: 1, image, patches }
    }

    fn grid(height: usize, width: usize, stride: [usize; 2]) -> Option<PatchGrid> {
        Some(PatchGrid { height, width, stride })
    }

    #[test]
    fn patches_fit_images_and_rows() {
        assert!(config(144, None).check_patches().is_ok() && config(60, grid(5, 4, [5, 1])).check_patches().is_ok());
        assert_eq!((config(144, None).mean_len(), config(60, grid(5, 4, [5, 1])).mean_len()), (144, 144));
        for (d_in, broken) in [
            (61, grid(5, 4, [5, 1])),
            (108, grid(9, 4, [5, 1])),
            (105, grid(5, 7, [5, 1])),
            (60, grid(5, 4, [6, 1])),
            (60, grid(5, 4, [5, 0])),
            (0, grid(0, 4, [1, 1])),
            (60, grid(usize::MAX, 4, [1, 1])),
        ] {
            assert!(config(d_in, broken).check_patches().is_err(), "{d_in} {broken:?}");
        }
        let bare = ModelConfig { image: None, ..config(60, grid(5, 4, [5, 1])) };
        assert!(bare.check_patches().is_err_and(|e| e.contains("without images")));
    }

    #[test]
    fn a_configuration_without_patches_reads_and_writes_as_before() {
        let text = serde_json::to_string(&config(144, None)).expect("plain data");
        assert!(!text.contains("patches"), "{text}");
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).expect("reads"), config(144, None));
        let with = serde_json::to_string(&config(60, grid(5, 4, [2, 3]))).expect("plain data");
        assert!(with.contains(r#""patches":{"height":5,"width":4,"stride":[2,3]}"#), "{with}");
    }
}
