//! Models and checkpoints on disk: safetensors, written whole or not at all. Foreign formats come here too, and only
//! here are foreign names known.
//!
//! `model.safetensors` holds for each SAE i: `sae.i.W_enc [H, D]`, `sae.i.W_dec [H, D]` (absent when tied: the decoder is
//! then W_enc with rows of unit length), `sae.i.b_enc [H]`, `sae.i.b_dec [D]` (absent without), and `data.mean [D]`, the
//! mean of the training rows. Weights act on rows as loaded. Metadata: `schema`, `config` (JSON, [`ModelConfig`]),
//! `config_hash` (BLAKE3 of that text), `tool_version`. A checkpoint adds the optimiser's state.
#![allow(non_snake_case)]

pub mod grid;

use crate::activation::ParameterLengths;
use crate::error::{Error, Result};
use crate::io::tensors::{BROKEN, Dtype, TensorFile, TensorOut, floats, write_tensors};
use crate::io::version_of;
use crate::matrix::Mat;
use crate::model::step::State;
use crate::model::{Config, Sae, Weights};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use std::path::Path;

/// Version of the model file; a file of a later one is refused.
pub const MODEL_SCHEMA: &str = "vibrissa.model/1";
/// Version of a full checkpoint: its weights act on rows in the scale of training, so it is no model.
pub const CHECKPOINT_SCHEMA: &str = "vibrissa.checkpoint/2";

/// The pictures a model was trained on, so that others can be brought to their shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// 1 or 3.
    pub channels: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
}

/// What the metadata of a model says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The architecture, the same for every SAE of the file.
    #[serde(flatten)]
    pub sae: Config,
    /// Number of SAEs.
    pub saes: usize,
    /// Set where rows are pictures, or patches of them.
    pub pictures: Option<Pictures>,
    /// Set where rows are patches of the pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<grid::PatchGrid>,
}

/// A model as read.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its description.
    pub config: ModelConfig,
    /// Its SAEs.
    pub saes: Vec<Sae>,
    /// Mean of the training rows `[D]`; with patches, of the training pictures.
    pub mean: Vec<f32>,
    /// All of the file's metadata.
    pub metadata: HashMap<String, String>,
}

/// `values / scale`.
fn unscaled<'a>(name: String, values: &[f32], scale: f32) -> TensorOut<'a> {
    let bytes = values.iter().flat_map(|v| (v / scale).to_ne_bytes()).collect();
    TensorOut { name, shape: vec![values.len()], dtype: "F32", bytes: Cow::Owned(bytes) }
}

/// `scale` as in [`Sae::unscale`], applied on the way, since a copy of the weights may not fit in memory.
fn model_tensors<'a>(saes: &[&'a Sae], mean: &'a [f32], scale: f32) -> Vec<TensorOut<'a>> {
    let mut out = Vec::new();
    for (i, sae) in saes.iter().enumerate() {
        let full = [sae.config().latents, sae.config().d_in];
        out.push(floats(format!("sae.{i}.W_enc"), &full, sae.W_enc().data()));
        if let Some(w) = sae.W_dec() {
            out.push(floats(format!("sae.{i}.W_dec"), &full, w.data()));
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
    out.push(floats("data.mean".into(), &[mean.len()], mean));
    out
}

fn metadata(config: &ModelConfig) -> BTreeMap<&'static str, String> {
    let text = serde_json::to_string(config).expect("plain data");
    BTreeMap::from([
        ("schema", MODEL_SCHEMA.to_owned()),
        ("config_hash", blake3::hash(text.as_bytes()).to_hex().to_string()),
        ("config", text),
        ("tool_version", env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

/// Writes a model that was trained on rows multiplied by `scale`, acting on rows as they are.
///
/// # Errors
/// [`Error::Io`]; nothing is half-written.
pub fn write_model(path: &Path, config: &ModelConfig, saes: &[&Sae], mean: &[f32], scale: f32) -> Result<()> {
    write_tensors(path, &metadata(config), &model_tensors(saes, mean, scale))
}

/// Where a run stands, besides models and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Hash of the options and data that decide the result: a checkpoint continues only the run it came from.
    pub run_hash: String,
    /// Seconds spent before this checkpoint.
    pub wall_s: f64,
    /// Early stopping: best validation fvu so far and the epoch it was seen.
    pub best: Option<(f64, u64)>,
    /// Consistency: who matches whom, as of the epoch's beginning.
    pub matches: Vec<Vec<u32>>,
}

/// Writes a full checkpoint: model, optimiser state, progress.
///
/// # Errors
/// [`Error::Io`]; the previous checkpoint stays.
pub fn write_checkpoint(
    path: &Path,
    config: &ModelConfig,
    engines: &[(&Sae, &State)],
    mean: &[f32],
    progress: &Progress,
) -> Result<()> {
    let saes: Vec<&Sae> = engines.iter().map(|e| e.0).collect();
    let mut out = model_tensors(&saes, mean, 1.0);
    for (i, (_, state)) in engines.iter().enumerate() {
        for (name, moments) in state.moments() {
            out.push(floats(format!("state.{i}.{name}.m"), &[moments.m.len()], &moments.m));
            out.push(floats(format!("state.{i}.{name}.v"), &[moments.v.len()], &moments.v));
        }
        let silent = bytemuck::cast_slice(&state.silent);
        out.push(TensorOut {
            name: format!("state.{i}.silent"),
            shape: vec![state.silent.len()],
            dtype: "U64",
            bytes: Cow::Borrowed(silent),
        });
        let numbers: Vec<u8> =
            [state.l1, state.l0_off, state.threshold_sum].iter().flat_map(|v| v.to_ne_bytes()).collect();
        out.push(TensorOut {
            name: format!("state.{i}.numbers"),
            shape: vec![3],
            dtype: "F64",
            bytes: Cow::Owned(numbers),
        });
        if !state.effect.is_empty() {
            let bytes = Cow::Borrowed(bytemuck::cast_slice(&state.effect[..]));
            out.push(TensorOut {
                name: format!("state.{i}.effect"),
                shape: vec![state.effect.len()],
                dtype: "F64",
                bytes,
            });
        }
        let bytes = Cow::Borrowed(bytemuck::cast_slice(&state.idle[..]));
        out.push(TensorOut { name: format!("state.{i}.idle"), shape: vec![state.idle.len()], dtype: "U32", bytes });
    }
    let mut meta = metadata(config);
    meta.insert("schema", CHECKPOINT_SCHEMA.to_owned());
    meta.insert("progress", serde_json::to_string(progress).expect("plain data"));
    write_tensors(path, &meta, &out)
}

impl TensorFile<'_> {
    fn config(&self, known: &str) -> Result<ModelConfig> {
        let schema = self.text("schema")?;
        if schema != known {
            let (kind, newest) = version_of(known).expect("a version");
            let found = format!("has schema {schema}, this version reads {known}");
            let remedy = match version_of(&schema) {
                Some((k, v)) if k == kind && v > newest => "update vibrissa to read it",
                Some((k, _)) if k == kind => "begin again, or go on with the version of vibrissa that wrote it",
                _ if schema == CHECKPOINT_SCHEMA => "finish its run with --resume, and give the run",
                _ => "give a model that vibrissa wrote",
            };
            return Err(Error::file(self.path, found, remedy));
        }
        let text = self.text("config")?;
        if blake3::hash(text.as_bytes()).to_hex().as_str() != self.text("config_hash")? {
            return Err(Error::file(self.path, "its configuration does not match its hash", BROKEN));
        }
        let broken = |why: String| Error::file(self.path, format!("its configuration is broken ({why})"), BROKEN);
        let config: ModelConfig = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        config.check_patches().map_err(broken)?;
        Ok(config)
    }

    fn mean(&mut self, config: &ModelConfig) -> Result<Vec<f32>> {
        let mean: Vec<f32> = self.read("data.mean", Dtype::F32, &[config.mean_len()])?;
        if mean.iter().all(|m| m.is_finite()) {
            return Ok(mean);
        }
        Err(Error::file(self.path, "data.mean holds NaN or infinity", BROKEN))
    }

    fn saes(&mut self, config: &ModelConfig) -> Result<Vec<Sae>> {
        let Config { latents, d_in, tied, decoder_bias, .. } = config.sae;
        config.sae.check()?;
        (0..config.saes)
            .map(|i| {
                let W_enc =
                    Mat::from_vec(latents, d_in, self.read(&format!("sae.{i}.W_enc"), Dtype::F32, &[latents, d_in])?);
                let W_dec = if tied {
                    None
                } else {
                    let values = self.read(&format!("sae.{i}.W_dec"), Dtype::F32, &[latents, d_in])?;
                    Some(Mat::from_vec(latents, d_in, values))
                };
                let b_enc = self.read(&format!("sae.{i}.b_enc"), Dtype::F32, &[latents])?;
                let b_dec =
                    if decoder_bias { Some(self.read(&format!("sae.{i}.b_dec"), Dtype::F32, &[d_in])?) } else { None };
                let mut own = |name: &str, n: usize| match n {
                    0 => Ok(Vec::new()),
                    n => self.read(&format!("sae.{i}.{name}"), Dtype::F32, &[n]),
                };
                let ParameterLengths { threshold: t, b_gate: g, r_mag: r } = config.sae.parameter_lengths();
                let (threshold, b_gate, r_mag) = (own("threshold", t)?, own("b_gate", g)?, own("r_mag", r)?);
                Sae::new(config.sae, Weights { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag })
                    .map_err(|e| Error::file(self.path, format!("SAE {i} is broken ({e})"), BROKEN))
            })
            .collect()
    }
}

/// The file of a run's model: `path` itself, or `path/model.safetensors`.
///
/// # Errors
/// A run that has not ended, or no run at all.
pub fn model_file(path: &Path) -> Result<std::path::PathBuf> {
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
    Err(Error::file(path, found, "finish it with train … --resume, or give another run"))
}

/// Reads a model: a run folder or a model file.
///
/// # Errors
/// One line that says what is wrong with the file: not there, not safetensors, damaged, of a newer schema.
pub fn read_model(path: &Path) -> Result<Model> {
    let path = model_file(path)?;
    let mut file = TensorFile::open(&path)?;
    let config = file.config(MODEL_SCHEMA)?;
    let saes = file.saes(&config)?;
    let mean = file.mean(&config)?;
    Ok(Model { saes, mean, metadata: file.metadata.metadata().clone().unwrap_or_default(), config })
}

/// Reads a full checkpoint.
///
/// # Errors
/// As [`read_model`].
pub fn read_checkpoint(path: &Path) -> Result<(Model, Vec<State>, Progress)> {
    let mut file = TensorFile::open(path)?;
    let config = file.config(CHECKPOINT_SCHEMA)?;
    let text = file.text("progress")?;
    let progress: Progress =
        serde_json::from_str(&text).map_err(|e| Error::file(path, format!("its progress is broken ({e})"), BROKEN))?;
    let saes = file.saes(&config)?;
    let mut states = Vec::new();
    for i in 0..config.saes {
        let mut state = State::new(&config.sae);
        state.steps = progress.step;
        for (name, moments) in state.moments_mut() {
            let n = moments.m.len();
            moments.m.copy_from_slice(&file.read::<f32>(&format!("state.{i}.{name}.m"), Dtype::F32, &[n])?);
            moments.v.copy_from_slice(&file.read::<f32>(&format!("state.{i}.{name}.v"), Dtype::F32, &[n])?);
        }
        state.silent = file.read(&format!("state.{i}.silent"), Dtype::U64, &[config.sae.latents])?;
        state.idle = file.read(&format!("state.{i}.idle"), Dtype::U32, &[config.sae.latents])?;
        let numbers = format!("state.{i}.numbers");
        if file.metadata.info(&numbers).is_some() {
            let read: Vec<f64> = file.read(&numbers, Dtype::F64, &[3])?;
            (state.l1, state.l0_off, state.threshold_sum) = (read[0], read[1], read[2]);
        }
        let effect = format!("state.{i}.effect");
        if file.metadata.info(&effect).is_some() {
            state.effect = file.read(&effect, Dtype::F64, &[config.sae.latents])?;
        }
        states.push(state);
    }
    let mean = file.mean(&config)?;
    Ok((Model { saes, mean, metadata: file.metadata.metadata().clone().unwrap_or_default(), config }, states, progress))
}
