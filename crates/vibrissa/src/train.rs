//! Training of an ensemble of SAEs in one pass over the data. The caller drives it step by step through [`Trainer`].
//!
//! Options and their defaults are in `options.rs`, the files of a run in `run`, figures in `evaluate.rs`.

pub mod evaluate;
mod initialise;
mod set;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::format::{self, CheckpointProgress, Model, ModelConfig};
use crate::kernels::{Isa, PerThread};
use crate::loss::{Loss, Losses, consistency, match_latents};
use crate::matrix::{Mat, MatRef};
use crate::metrics::perceptual::{FilterBank, Scratch};
use crate::model::Sae;
use crate::model::step::{Activity, Engine, RowTerm, State, Step};
use crate::options::TrainOptions;
use crate::random::Stream;
pub use initialise::{check, initialisation_key, initialise};
use rayon::prelude::*;
pub use set::TrainingSet;
pub(crate) use set::rescale;
use std::path::Path;
use std::time::Instant;

/// The outcome of one step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// Rows in its batch.
    pub rows: usize,
    /// Losses by SAE, in the units of the data.
    pub losses: Vec<Losses>,
    /// Number of latents resampled after this step, by SAE; empty unless resampling was due.
    pub resampled: Vec<usize>,
    /// Seconds of the step alone, without reading rows. The time of steps taken together is divided in proportion to their rows.
    pub step_s: f64,
}

/// A checkpoint as read: models in the scale of training, optimiser states, and the position in training.
#[derive(Debug)]
pub struct Checkpoint {
    /// One model per SAE of the ensemble.
    pub saes: Vec<Sae>,
    /// The optimiser state of each.
    pub states: Vec<State>,
    /// Steps done, and whatever else is needed to continue.
    pub progress: CheckpointProgress,
}

impl Checkpoint {
    /// Reads a checkpoint file.
    ///
    /// # Errors
    /// Those of [`format::read_checkpoint`].
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let (model, states, progress) = format::read_checkpoint(path)?;
        Ok(Checkpoint { saes: model.saes, states, progress })
    }
}

/// An ensemble in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    set: TrainingSet<'a>,
    options: TrainOptions,
    engines: Vec<Engine>,
    /// The training rows in the order of `order_epoch`.
    order: Vec<usize>,
    order_epoch: Option<u64>,
    step: u64,
    steps: u64,
    /// Seconds of the previous step, reading included; infinite before the first.
    step_s: f64,
    batch: Mat,
    /// The input rows after noise and dropout; empty if neither is used.
    corrupted: Mat,
    /// The filters of the perceptual distance, with scratch for each thread.
    perceptual: Option<(FilterBank, PerThread<Scratch>)>,
    /// Consistency: for each pair of SAEs the matched latents of this epoch.
    matches: Vec<Vec<u32>>,
    consistency_gradients: Vec<Mat>,
    initialised_with: Option<&'static str>,
}

impl<'a> Trainer<'a> {
    /// Returns an ensemble before its first step. `from` holds the initial weights, in units of the rows as loaded;
    /// without it they are initialised by the options.
    ///
    /// # Errors
    /// [`Error::Option`] for options that do not fit each other or the data.
    pub fn new(set: TrainingSet<'a>, options: TrainOptions, from: Option<Vec<Sae>>) -> Result<Trainer<'a>> {
        check(&set, &options)?;
        let (saes, initialised_with) = match from {
            Some(mut saes) => {
                saes.iter_mut().for_each(|s| s.unscale(1.0 / set.facts.scale));
                (saes, None)
            }
            None => {
                let (saes, with) = initialise(&set, &options)?;
                (saes, Some(with))
            }
        };
        Ok(Trainer { initialised_with, ..Trainer::with_models(set, options, saes)? })
    }

    /// Returns an ensemble before its first step, with models from [`initialise`].
    ///
    /// # Errors
    /// [`Error::Option`] for options that do not fit each other or the data.
    pub fn with_models(set: TrainingSet<'a>, options: TrainOptions, saes: Vec<Sae>) -> Result<Trainer<'a>> {
        check(&set, &options)?;
        let states = saes.iter().map(|s| State::new(s.config())).collect();
        Ok(Trainer::with_states(set, options, saes, states))
    }

    /// Continues from a checkpoint.
    pub fn resume(set: TrainingSet<'a>, options: TrainOptions, checkpoint: Checkpoint) -> Trainer<'a> {
        let Checkpoint { saes, states, progress } = checkpoint;
        let mut trainer = Trainer::with_states(set, options, saes, states);
        trainer.step = progress.step;
        trainer.matches = progress.matches;
        trainer
    }

    fn with_states(set: TrainingSet<'a>, options: TrainOptions, saes: Vec<Sae>, states: Vec<State>) -> Trainer<'a> {
        let isa = Isa::current();
        let facts = &set.facts;
        let steps = options.steps_over(set.rows.len());
        let step_options = options.step_options(facts.scale, facts.spread, steps.max(1));
        let engines = saes.into_iter().zip(states).map(|(s, t)| Engine::new(isa, s, t, step_options)).collect();
        let perceptual = set
            .data
            .shape()
            .filter(|_| options.perceptual > 0.0)
            .map(|shape| (FilterBank::new(shape, facts.scale), PerThread::new()));
        let consistency_gradients = if options.consistency > 0.0 {
            (0..options.saes).map(|_| Mat::zeros(options.latents, facts.dim)).collect()
        } else {
            Vec::new()
        };
        Trainer {
            batch: Mat::default(),
            corrupted: Mat::default(),
            perceptual,
            order: set.rows.clone(),
            set,
            options,
            engines,
            order_epoch: None,
            step: 0,
            steps,
            step_s: f64::INFINITY,
            matches: Vec::new(),
            consistency_gradients,
            initialised_with: None,
        }
    }

    /// The initial weights in words, such as "random orthogonal directions"; `None` if they came from a file.
    pub fn initialised_with(&self) -> Option<&'static str> {
        self.initialised_with
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Total number of steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps per epoch.
    pub fn per_epoch(&self) -> u64 {
        self.set.rows.len().div_ceil(self.options.batch) as u64
    }

    /// Epochs completed.
    pub fn epoch(&self) -> u64 {
        self.step / self.per_epoch()
    }

    /// The data set, in its own units.
    pub fn data(&self) -> &'a Dataset {
        self.set.data
    }

    /// The options.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Facts about the training rows.
    pub fn facts(&self) -> &DataFacts {
        &self.set.facts
    }

    /// The current models, in the scale of training.
    pub fn saes(&self) -> Vec<&Sae> {
        self.engines.iter().map(Engine::sae).collect()
    }

    /// Returns the current models in units of the rows as loaded, and frees the optimiser.
    pub fn into_saes(self) -> Vec<Sae> {
        let scale = self.set.facts.scale;
        self.engines
            .into_iter()
            .map(|e| {
                let mut sae = e.into_parts().0;
                sae.unscale(scale);
                sae
            })
            .collect()
    }

    /// Returns the activity of latents since the last call, and the number of dead latents now, by SAE.
    pub fn take_activity(&mut self) -> Vec<(Activity, usize)> {
        self.engines.iter_mut().map(|e| (e.take_activity(), e.dead())).collect()
    }

    /// Returns the rows of the next step, or of up to `at_most` steps of this epoch where an ensemble is faster with several
    /// steps at once. `None` when training has ended.
    pub fn next_rows(&mut self, at_most: u64) -> Option<&[usize]> {
        if self.step >= self.steps {
            return None;
        }
        let per_epoch = self.per_epoch();
        let (epoch, at) = (self.step / per_epoch, (self.step % per_epoch) as usize * self.options.batch);
        if self.order_epoch != Some(epoch) {
            self.order.copy_from_slice(&self.set.rows);
            if !self.options.no_shuffle {
                Stream::new(self.options.seed, "shuffle", &[epoch]).shuffle(&mut self.order);
            }
            if self.options.consistency > 0.0 && (at == 0 || self.matches.is_empty()) {
                self.match_members();
            }
            self.order_epoch = Some(epoch);
        }
        let steps = self.steps_at_once().min(at_most).min(self.steps - self.step).max(1) as usize;
        Some(&self.order[at..(at + steps * self.options.batch).min(self.order.len())])
    }

    /// Number of steps that one member of an ensemble takes before the next member does.
    ///
    /// Steps are grouped while their rows need less memory than a model with its moments, so that the model is loaded into the
    /// caches once per group. A group takes at most about one second, so that the caller can stop.
    fn steps_at_once(&self) -> u64 {
        let TrainOptions { saes, latents, batch, consistency, reinforce, .. } = self.options;
        if saes == 1 || consistency > 0.0 {
            return 1;
        }
        let interval = self.resampling_interval();
        let until_resampling = if reinforce { interval - self.step % interval } else { u64::MAX };
        let most = if self.members_in_parallel() { STEPS_AT_ONCE } else { STEPS_AT_ONCE_LARGE };
        let in_a_second = (1.0 / self.step_s) as u64;
        ((2 * latents / batch) as u64).min(most).min(in_a_second).max(1).min(until_resampling)
    }

    /// True if the members of the ensemble step in parallel. Small models do. Large ones are limited by memory bandwidth and
    /// step one after the other, since they would compete for the caches.
    fn members_in_parallel(&self) -> bool {
        self.options.latents * self.set.facts.dim < LARGE
    }

    /// Takes one step, or up to `at_most` steps, of every SAE. Returns a report for each step; none when training has ended.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss or weight is no longer finite.
    pub fn advance(&mut self, at_most: u64) -> Result<Vec<StepReport>> {
        let started = Instant::now();
        let (epoch, dim) = (self.epoch(), self.set.facts.dim);
        let mut batch = std::mem::take(&mut self.batch);
        let rows = self.next_rows(at_most).map(|rows| {
            batch.reserve(rows.len(), dim);
            rows.len()
        });
        let reports = rows.map_or(Ok(Vec::new()), |n| {
            let at = (self.step % self.per_epoch()) as usize * self.options.batch;
            self.set.fill(&self.order[at..at + n], epoch, batch.first_rows_mut(n));
            self.step_on(batch.first_rows(n))
        });
        self.batch = batch;
        let reports = reports?;
        self.step_s = started.elapsed().as_secs_f64() / reports.len() as f64;
        Ok(reports)
    }

    /// Takes the steps of every SAE on the rows of [`Trainer::next_rows`], in the scale of training.
    ///
    /// # Shapes
    /// `target [B · steps, D]`; the last batch may be shorter.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a loss or weight is no longer finite; [`Error::Option`] for cross-entropy with values outside
    /// [0, 1].
    ///
    /// # Panics
    /// If `target` has the rows of more steps than [`Trainer::next_rows`] returned.
    pub fn step_on(&mut self, target: MatRef) -> Result<Vec<StepReport>> {
        let started = Instant::now();
        let rows = target.rows();
        let steps = rows.div_ceil(self.options.batch);
        assert!(steps as u64 <= self.steps_at_once(), "too many steps: {steps}");
        self.check_range(target)?;
        self.corrupt(target);
        let consistency_loss = self.add_consistency();
        let losses = self.step_members(target, steps, consistency_loss);
        let mut members: Vec<_> = losses.into_iter().map(Vec::into_iter).collect();
        let to_data_units = 1.0 / self.squared_scale();
        let mut reports = Vec::with_capacity(steps);
        for i in 0..steps {
            // Of several errors that of the first member is returned, so that the result is deterministic.
            let losses = members.iter_mut().map(|s| s.next().expect("the steps before succeeded"));
            let mut losses = losses.collect::<Result<Vec<Losses>>>()?;
            for l in &mut losses {
                let mut scaled = Losses::default();
                scaled.add(l, to_data_units);
                *l = scaled;
            }
            let (step, rows) = (self.step, self.options.batch.min(rows - i * self.options.batch));
            self.step += 1;
            reports.push(StepReport { step, rows, losses, resampled: self.resample(), step_s: 0.0 });
        }
        let seconds_per_row = started.elapsed().as_secs_f64() / rows as f64;
        reports.iter_mut().for_each(|report| report.step_s = seconds_per_row * report.rows as f64);
        Ok(reports)
    }

    /// Checks that all targets are in [0, 1], as cross-entropy requires.
    fn check_range(&self, target: MatRef) -> Result<()> {
        if self.options.loss == Loss::CrossEntropy
            && let Some(value) = target.data().iter().find(|v| !(0.0..=1.0).contains(*v))
        {
            let remedy = "scale the data, or use the squared error";
            return Err(Error::option("loss cross-entropy", "rows between 0 and 1", value, remedy));
        }
        Ok(())
    }

    /// Computes the gradients of the consistency loss into `consistency_gradients`. Returns the loss, 0 if it is off.
    fn add_consistency(&mut self) -> f64 {
        if self.options.consistency == 0.0 {
            return 0.0;
        }
        // λ is relative to the squared error of rows as loaded.
        let weight = self.options.consistency * self.squared_scale();
        let decoders: Vec<MatRef> = self.engines.iter().map(|e| e.sae().decoder_rows()).collect();
        consistency(Isa::current(), weight, &decoders, &self.matches, &mut self.consistency_gradients)
    }

    /// Steps every member on its batches. Returns losses by member and step, up to the first error of each member.
    fn step_members(&mut self, target: MatRef, steps: usize, consistency_loss: f64) -> Vec<Vec<Result<Losses>>> {
        let (rows, size) = (target.rows(), self.options.batch);
        let x = if self.corrupted.rows() > 0 { self.corrupted.first_rows(rows) } else { target };
        let distance = self.perceptual.as_ref().map(|(bank, scratch)| {
            move |x: &[f32], recon: &[f32], gradient: &mut [f32]| {
                bank.distance_and_gradient(x, recon, gradient, &mut scratch.lock())
            }
        });
        let perceptual = distance.as_ref().map(|term| (self.options.perceptual, term as &RowTerm));
        let parallel = self.members_in_parallel();
        let (options, gradients, first, all) = (&self.options, &self.consistency_gradients, self.step, self.steps);
        let step = |s: usize, engine: &mut Engine, i: usize| {
            let at = first + i as u64;
            let batch = i * size..rows.min((i + 1) * size);
            let stream = Stream::new(options.seed, "prefixes", &[s as u64, at]);
            let prefixes = options.matryoshka.lengths(options.latents, stream);
            engine.step_on(&Step {
                x: x.rows_range(batch.clone()),
                target: target.rows_range(batch),
                lr: options.lr * options.schedule.factor(at, all, options.warmup),
                k: Some(options.k_at(at)),
                prefixes: &prefixes,
                extra: gradients.get(s).map(|g| (g, consistency_loss)),
                perceptual,
            })
        };
        let steps_of = |(s, engine): (usize, &mut Engine)| {
            let mut done: Vec<Result<Losses>> = Vec::with_capacity(steps);
            while done.len() < steps && done.last().is_none_or(Result::is_ok) {
                done.push(step(s, engine, done.len()));
            }
            done
        };
        if parallel {
            self.engines.par_iter_mut().enumerate().map(steps_of).collect()
        } else {
            self.engines.iter_mut().enumerate().map(steps_of).collect()
        }
    }

    /// Denoising: fills `corrupted` with the input rows plus noise and with values dropped, sampled by step and row.
    fn corrupt(&mut self, target: MatRef) {
        let TrainOptions { noise, dropout, seed, .. } = self.options;
        if noise == 0.0 && dropout == 0.0 {
            return;
        }
        let (rows, dim) = (target.rows(), target.cols());
        self.corrupted.reserve(rows, dim);
        let size = noise * (self.set.facts.spread / dim as f64).sqrt();
        let (first, batch, rescaled) = (self.step, self.options.batch, (1.0 / (1.0 - dropout)) as f32);
        self.corrupted.data_mut()[..rows * dim].par_chunks_mut(dim).enumerate().for_each(|(b, out)| {
            let (step, b_of_step) = (first + (b / batch) as u64, (b % batch) as u64);
            let mut stream = Stream::new(seed, "corrupt", &[step, b_of_step]);
            for (o, &x) in out.iter_mut().zip(target.row(b)) {
                *o = if noise > 0.0 { x + (size * stream.normal()) as f32 } else { x };
                if dropout > 0.0 {
                    *o = if stream.uniform() < dropout { 0.0 } else { *o * rescaled };
                }
            }
        });
    }

    /// Returns the L0 of each SAE on a sample of training rows, by the selection of training. Call before
    /// [`Trainer::calibrate`].
    pub fn l0_in_training(&mut self) -> Vec<Option<f64>> {
        let batch = self.options.batch.min(self.set.rows.len());
        let rows = crate::data::split::evenly_spaced(&self.set.rows, L0_ROWS.next_multiple_of(batch));
        let mut x = Mat::zeros(batch, self.set.facts.dim);
        let mut sums = vec![Some(0.0); self.engines.len()];
        let batches = rows.chunks_exact(batch);
        let n = batches.len() as f64;
        for rows in batches {
            self.set.fill(rows, 0, x.view_mut());
            for (sum, engine) in sums.iter_mut().zip(&mut self.engines) {
                *sum = sum.zip(engine.l0_in_training(x.view()).ok()).map(|(sum, l0)| sum + l0 / n);
            }
        }
        sums
    }

    /// Target for the number of active latents per row at this step.
    pub fn k_now(&self) -> usize {
        self.options.k_at(self.step)
    }

    /// Current weight of the L1 penalty by SAE, in the units of the data; empty if there is no L1 penalty.
    pub fn l1_lambdas(&self) -> Vec<f64> {
        let l1 = self.options.steered() || self.options.l1.is_some();
        self.engines.iter().filter(|_| l1).map(|e| e.state().l1 / f64::from(self.set.facts.scale)).collect()
    }

    /// Sets the threshold of each batchtopk model so that the mean number of active latents on these rows is k.
    pub fn calibrate(&mut self, rows: &[usize]) {
        if !self.options.activation.calibrates_threshold() || self.step == 0 {
            return;
        }
        let rows = crate::data::split::evenly_spaced(rows, CALIBRATION_ROWS);
        let size = self.set.data.batch_rows(rows.len());
        for engine in &mut self.engines {
            let set = &self.set;
            engine.calibrate(rows.len(), size, |of, out| set.fill(&rows[of], 0, out));
        }
    }

    /// Replaces the models by those of a file in units of the rows as loaded, at the end of training. The moments are
    /// freed first, so that this needs no more memory than training.
    ///
    /// # Errors
    /// Those of [`format::read_model`].
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        self.engines.iter_mut().for_each(Engine::drop_moments);
        for (engine, mut sae) in self.engines.iter_mut().zip(format::read_model(path)?.saes) {
            sae.unscale(1.0 / self.set.facts.scale);
            engine.replace(sae);
        }
        Ok(())
    }

    /// Resamples dead latents after every twentieth part of training, up to three quarters of it, since resampled
    /// latents need steps to learn. Returns the number of resampled latents of each SAE.
    fn resample(&mut self) -> Vec<usize> {
        let interval = self.resampling_interval();
        if !self.options.reinforce || !self.step.is_multiple_of(interval) || 4 * self.step > 3 * self.steps {
            return Vec::new();
        }
        let (seed, step) = (self.options.seed, self.step);
        let engines = self.engines.iter_mut().enumerate();
        engines.map(|(s, e)| e.resample(&mut Stream::new(seed, "reinforce", &[s as u64, step]))).collect()
    }

    /// Steps from one resampling to the next.
    fn resampling_interval(&self) -> u64 {
        (self.steps / 20).max(1)
    }

    /// Ratio of squared errors in the scale of training to those of rows as loaded.
    fn squared_scale(&self) -> f64 {
        f64::from(self.set.facts.scale) * f64::from(self.set.facts.scale)
    }

    /// Matches the latents of each pair of members one to one, for the consistency loss.
    fn match_members(&mut self) {
        let isa = Isa::current();
        self.matches.clear();
        for i in 0..self.engines.len() {
            for j in i + 1..self.engines.len() {
                let (a, b) = (self.engines[i].sae().decoder_rows(), self.engines[j].sae().decoder_rows());
                self.matches.push(match_latents(isa, a, b));
            }
        }
    }

    /// The description that the model file holds.
    pub fn model_config(&self) -> ModelConfig {
        let (image, patches) = (self.set.data.image_shape(), self.set.data.patches().map(|p| p.grid()));
        ModelConfig { sae: self.options.model(self.set.facts.dim), saes: self.engines.len(), image, patches }
    }

    /// Writes a checkpoint: models, optimiser states and progress.
    ///
    /// # Errors
    /// [`Error::Io`]; the previous file stays.
    pub fn checkpoint(&self, path: &Path, run_hash: &str, wall_s: f64, best: Option<(f64, u64)>) -> Result<()> {
        let progress = CheckpointProgress {
            step: self.step,
            run_hash: run_hash.to_owned(),
            wall_s,
            best,
            matches: self.matches.clone(),
        };
        let engines: Vec<_> = self.engines.iter().map(|e| (e.sae(), e.state())).collect();
        let mean = self.set.facts.unscaled_baseline();
        format::write_checkpoint(path, &self.model_config(), &engines, &mean, &progress)
    }

    /// Writes the models in units of the rows as loaded.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is half-written.
    pub fn write_model(&self, path: &Path) -> Result<()> {
        let facts = &self.set.facts;
        format::write_model(path, &self.model_config(), &self.saes(), &facts.unscaled_baseline(), facts.scale)
    }
}

/// Number of encoder weights from which a model counts as large: with its moments it no longer fits the caches.
const LARGE: usize = 1 << 22;

/// Most steps that one member takes before the next.
const STEPS_AT_ONCE: u64 = 16;
/// The same for large models.
const STEPS_AT_ONCE_LARGE: u64 = 4;

/// Training rows over which L0 is measured.
const L0_ROWS: usize = 2048;

/// Most rows for the calibration of thresholds.
const CALIBRATION_ROWS: usize = 4096;

/// Checks that the input dimension of a model is `dim`.
///
/// # Errors
/// [`Error::Tensor`].
pub fn check_width(path: &Path, model: &Model, dim: usize) -> Result<()> {
    let want = model.config.sae.d_in;
    if want == dim {
        return Ok(());
    }
    Err(Error::Tensor {
        path: path.to_path_buf(),
        tensor: "sae.0.W_enc".into(),
        expected: format!("rows of {want} values"),
        got: format!("rows of {dim}"),
        remedy: "give data of the width that the model was trained on".into(),
    })
}
