//! Training: an ensemble over one data pass, stepped from outside. Files and folders of a run are in `train/run.rs`, the
//! defaults in `train/defaults.rs`, figures in `train/evaluate.rs`.

mod begin;
pub mod defaults;
pub mod evaluate;
mod facts;
pub mod matryoshka;
mod options;
pub mod run;

use crate::activation::Activation;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::format::{self, CheckpointProgress, Model, ModelConfig};
use crate::kernels::{Isa, PerThread};
use crate::loss::{Loss, Losses, consistency, match_latents};
use crate::matrix::{Mat, MatRef};
use crate::metrics::perceptual::{Bank, Scratch};
use crate::model::Sae;
use crate::model::step::{Activity, Engine, RowTerm, State, Step};
use crate::random::Stream;
pub use begin::{begin, beginning, check};
pub use facts::DataFacts;
pub use options::TrainOptions;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

/// What one step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// Rows in its batch.
    pub rows: usize,
    /// Losses by SAE, in the units of the data.
    pub losses: Vec<Losses>,
    /// Latents that began again after it, by SAE; empty but every twentieth part of a run with `reinforce`.
    pub reborn: Vec<usize>,
    /// Seconds in the step alone, without reading the rows: of several in a row its share by rows.
    pub step_s: f64,
}

/// An ensemble in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    data: &'a Dataset,
    rows: Vec<usize>,
    facts: DataFacts,
    options: TrainOptions,
    engines: Vec<Engine>,
    order: Vec<usize>,
    order_epoch: Option<u64>,
    step: u64,
    steps: u64,
    /// Seconds of the step before with reading its rows; infinite before the first.
    step_s: f64,
    batch: Mat,
    corrupted: Mat,
    /// The filters of the perceptual distance, with scratch of each thread.
    bank: Option<(Bank, PerThread<Scratch>)>,
    matches: Vec<Vec<u32>>,
    gradients: Vec<Mat>,
    began: Option<&'static str>,
}

impl<'a> Trainer<'a> {
    /// An ensemble before its first step; `from` gives the weights to begin with, else they are initialised.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be.
    pub fn new(
        data: &'a Dataset,
        rows: Vec<usize>,
        facts: DataFacts,
        options: TrainOptions,
        from: Option<Vec<Sae>>,
    ) -> Result<Trainer<'a>> {
        check(data, &rows, &facts, &options)?;
        let (saes, began) = match from {
            Some(mut saes) => {
                saes.iter_mut().for_each(|s| s.unscale(1.0 / facts.scale));
                (saes, None)
            }
            None => begin(data, &rows, &facts, &options)?,
        };
        Ok(Trainer { began, ..Trainer::begun(data, rows, facts, options, saes)? })
    }

    /// What [`Trainer::new`] makes, of models that [`begin`] gave.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be.
    pub fn begun(
        data: &'a Dataset,
        rows: Vec<usize>,
        facts: DataFacts,
        options: TrainOptions,
        saes: Vec<Sae>,
    ) -> Result<Trainer<'a>> {
        check(data, &rows, &facts, &options)?;
        let states = saes.iter().map(|s| State::new(s.config())).collect();
        Ok(Trainer::with(data, rows, facts, options, saes, states))
    }

    /// Continues from a checkpoint.
    pub fn resume(
        data: &'a Dataset,
        rows: Vec<usize>,
        facts: DataFacts,
        options: TrainOptions,
        saes: Vec<Sae>,
        states: Vec<State>,
        progress: &CheckpointProgress,
    ) -> Trainer<'a> {
        let mut trainer = Trainer::with(data, rows, facts, options, saes, states);
        trainer.step = progress.step;
        trainer.matches.clone_from(&progress.matches);
        trainer
    }

    fn with(
        data: &'a Dataset,
        rows: Vec<usize>,
        facts: DataFacts,
        options: TrainOptions,
        saes: Vec<Sae>,
        states: Vec<State>,
    ) -> Trainer<'a> {
        let isa = Isa::current();
        let steps = options.steps_over(rows.len());
        let step_options = options.step_options(facts.scale, facts.spread, steps.max(1));
        let engines = saes.into_iter().zip(states).map(|(s, t)| Engine::new(isa, s, t, step_options)).collect();
        let bank = data
            .shape()
            .filter(|_| options.perceptual > 0.0)
            .map(|shape| (Bank::new(shape, facts.scale), PerThread::new()));
        let gradients = if options.consistency > 0.0 {
            (0..options.saes).map(|_| Mat::zeros(options.latents, facts.dim)).collect()
        } else {
            Vec::new()
        };
        Trainer {
            batch: Mat::default(),
            corrupted: Mat::default(),
            bank,
            order: rows.clone(),
            data,
            rows,
            facts,
            options,
            engines,
            order_epoch: None,
            step: 0,
            steps,
            step_s: f64::INFINITY,
            matches: Vec::new(),
            gradients,
            began: None,
        }
    }

    /// What the weights began with, in words; `None` where they came from a file.
    pub fn began(&self) -> Option<&'static str> {
        self.began
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.rows.len().div_ceil(self.options.batch) as u64
    }

    /// Epochs completed.
    pub fn epoch(&self) -> u64 {
        self.step / self.per_epoch()
    }

    /// The options.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// What is known of the training rows.
    pub fn facts(&self) -> &DataFacts {
        &self.facts
    }

    /// The models as they stand, in the scale of training.
    pub fn saes(&self) -> Vec<&Sae> {
        self.engines.iter().map(Engine::sae).collect()
    }

    /// The models as they stand, acting on rows as loaded; what only training needs is let go.
    pub fn into_saes(self) -> Vec<Sae> {
        let scale = self.facts.scale;
        self.engines
            .into_iter()
            .map(|e| {
                let mut sae = e.into_parts().0;
                sae.unscale(scale);
                sae
            })
            .collect()
    }

    /// What latents were like since this was last called, and dead latents now, by SAE.
    pub fn take_activity(&mut self) -> Vec<(Activity, usize)> {
        self.engines.iter_mut().map(|e| (e.take_activity(), e.dead())).collect()
    }

    /// The rows of the next step, or of some more of this epoch, `at_most` so many steps, where an ensemble gains by that;
    /// `None` when training has ended.
    pub fn rows_ahead(&mut self, at_most: u64) -> Option<&[usize]> {
        if self.step >= self.steps {
            return None;
        }
        let per_epoch = self.per_epoch();
        let (epoch, at) = (self.step / per_epoch, (self.step % per_epoch) as usize * self.options.batch);
        if self.order_epoch != Some(epoch) {
            self.order.copy_from_slice(&self.rows);
            if !self.options.no_shuffle {
                Stream::new(self.options.seed, "shuffle", &[epoch]).shuffle(&mut self.order);
            }
            if self.options.consistency > 0.0 && (at == 0 || self.matches.is_empty()) {
                self.find_matches();
            }
            self.order_epoch = Some(epoch);
        }
        let steps = self.in_a_row().min(at_most).min(self.steps - self.step).max(1) as usize;
        Some(&self.order[at..(at + steps * self.options.batch).min(self.order.len())])
    }

    /// Steps that one SAE may do before the next one comes. Several where the rows of these steps take no more memory than a
    /// model with its moments: it then comes from memory once for all of them. In a second at most, since the caller may break off.
    fn in_a_row(&self) -> u64 {
        let TrainOptions { saes, latents, batch, consistency, reinforce, .. } = self.options;
        if saes == 1 || consistency > 0.0 {
            return 1;
        }
        let until_reborn = if reinforce { self.rebirths() - self.step % self.rebirths() } else { u64::MAX };
        let most = if self.side_by_side() { IN_A_ROW } else { IN_A_ROW_LARGE };
        let in_a_second = (1.0 / self.step_s) as u64;
        ((2 * latents / batch) as u64).min(most).min(in_a_second).max(1).min(until_reborn)
    }

    /// Small SAEs step side by side: where one waits for its own last worker, others go on. Large ones, which wait for
    /// memory, step one after the other: together they would share the caches.
    fn side_by_side(&self) -> bool {
        self.options.latents * self.facts.dim < LARGE
    }

    /// The next step of every SAE, or some more, `at_most` so many, each with its report; none when training has ended.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the numbers leave the finite.
    pub fn advance(&mut self, at_most: u64) -> Result<Vec<StepReport>> {
        let started = Instant::now();
        let (data, epoch, dim) = (self.data, self.epoch(), self.facts.dim);
        let mut batch = std::mem::take(&mut self.batch);
        let n = self.rows_ahead(at_most).map(|rows| {
            batch.reserve(rows.len(), dim);
            data.fill(rows, epoch, batch.top_mut(rows.len()));
            rows.len()
        });
        let reports = n.map_or(Ok(Vec::new()), |n| self.steps_on(batch.top(n)));
        self.batch = batch;
        let reports = reports?;
        self.step_s = started.elapsed().as_secs_f64() / reports.len() as f64;
        Ok(reports)
    }

    /// The steps of every SAE on the rows of [`Trainer::rows_ahead`].
    ///
    /// # Errors
    /// [`Error::Diverged`] when the numbers leave the finite; [`Error::Option`] for rows that the loss cannot have.
    ///
    /// # Panics
    /// On rows of more steps than [`Trainer::rows_ahead`] gives.
    pub fn steps_on(&mut self, target: MatRef) -> Result<Vec<StepReport>> {
        let started = Instant::now();
        let (rows, size) = (target.rows(), self.options.batch);
        let steps = rows.div_ceil(size);
        assert!(steps as u64 <= self.in_a_row(), "rows of so many steps");
        if self.options.loss == Loss::CrossEntropy
            && let Some(value) = target.data().iter().find(|v| !(0.0..=1.0).contains(*v))
        {
            let remedy = "scale the data, or use the squared error";
            return Err(Error::option("--loss cross-entropy", "rows between 0 and 1", value, remedy));
        }
        self.corrupt(target);
        let x = if self.corrupted.rows() > 0 { self.corrupted.top(rows) } else { target };
        let mut shared = 0.0;
        if self.options.consistency > 0.0 {
            let decoders: Vec<MatRef> = self.engines.iter().map(|e| e.sae().decoder_rows()).collect();
            // λ belongs to the squared error of rows as loaded.
            let weight = self.options.consistency * self.units();
            shared = consistency(Isa::current(), weight, &decoders, &self.matches, &mut self.gradients);
        }
        let bank = self.bank.as_ref();
        let see = bank.map(|(bank, scratch)| {
            move |x: &[f32], recon: &[f32], gradient: &mut [f32]| {
                bank.distance_and_gradient(x, recon, gradient, &mut scratch.lock())
            }
        });
        let perceptual = see.as_ref().map(|term| (self.options.perceptual, term as &RowTerm));
        let (options, gradients, first, all) = (&self.options, &self.gradients, self.step, self.steps);
        let step = |s: usize, engine: &mut Engine, i: usize| {
            let at = first + i as u64;
            let batch = i * size..rows.min((i + 1) * size);
            let drawn = Stream::new(options.seed, "prefixes", &[s as u64, at]);
            let prefixes = options.matryoshka.lengths(options.latents, drawn);
            engine.step_on(&Step {
                x: x.part(batch.clone()),
                target: target.part(batch),
                lr: options.lr * options.schedule.factor(at, all, options.warmup),
                k: Some(options.k_at(at)),
                prefixes: &prefixes,
                extra: gradients.get(s).map(|g| (g, shared)),
                perceptual,
            })
        };
        // Each SAE as far as it comes.
        let stepped = |(s, engine): (usize, &mut Engine)| {
            let mut done: Vec<Result<Losses>> = Vec::with_capacity(steps);
            while done.len() < steps && done.last().is_none_or(Result::is_ok) {
                done.push(step(s, engine, done.len()));
            }
            done
        };
        let stepped: Vec<Vec<Result<Losses>>> = if self.side_by_side() {
            self.engines.par_iter_mut().enumerate().map(stepped).collect()
        } else {
            self.engines.iter_mut().enumerate().map(stepped).collect()
        };
        let mut of_saes: Vec<_> = stepped.into_iter().map(Vec::into_iter).collect();
        let units = 1.0 / self.units();
        let mut reports = Vec::with_capacity(steps);
        for i in 0..steps {
            // Of several that fail the first is told of, whoever was first.
            let losses = of_saes.iter_mut().map(|s| s.next().expect("those before it succeeded"));
            let mut losses = losses.collect::<Result<Vec<Losses>>>()?;
            for l in &mut losses {
                let mut scaled = Losses::default();
                scaled.add(l, units);
                *l = scaled;
            }
            let (step, rows) = (self.step, size.min(rows - i * size));
            self.step += 1;
            reports.push(StepReport { step, rows, losses, reborn: self.reinforce(), step_s: 0.0 });
        }
        let a_row = started.elapsed().as_secs_f64() / rows as f64;
        reports.iter_mut().for_each(|report| report.step_s = a_row * report.rows as f64);
        Ok(reports)
    }

    /// Fills what is encoded in place of the rows themselves, where the input is corrupted: drawn by step and row.
    fn corrupt(&mut self, target: MatRef) {
        let TrainOptions { noise, dropout, seed, .. } = self.options;
        if noise == 0.0 && dropout == 0.0 {
            return;
        }
        let (rows, dim) = (target.rows(), target.cols());
        self.corrupted.reserve(rows, dim);
        let size = noise * (self.facts.spread / dim as f64).sqrt();
        let (first, batch, grown) = (self.step, self.options.batch, (1.0 / (1.0 - dropout)) as f32);
        self.corrupted.data_mut()[..rows * dim].par_chunks_mut(dim).enumerate().for_each(|(b, out)| {
            let (step, b_of_step) = (first + (b / batch) as u64, (b % batch) as u64);
            let mut drawn = Stream::new(seed, "corrupt", &[step, b_of_step]);
            for (o, &x) in out.iter_mut().zip(target.row(b)) {
                *o = if noise > 0.0 { x + (size * drawn.normal()) as f32 } else { x };
                if dropout > 0.0 {
                    *o = if drawn.uniform() < dropout { 0.0 } else { *o * grown };
                }
            }
        });
    }

    /// Mean active latents of some training rows, taken in batches, by the rule of training, by SAE; to be asked before
    /// [`Trainer::calibrate`].
    pub fn l0_in_training(&mut self) -> Vec<Option<f64>> {
        let batch = self.options.batch.min(self.rows.len());
        let rows = crate::data::split::evenly_spaced(&self.rows, COUNTED.next_multiple_of(batch));
        let mut x = Mat::zeros(batch, self.facts.dim);
        let mut sums = vec![Some(0.0); self.engines.len()];
        let batches = rows.chunks_exact(batch);
        let n = batches.len() as f64;
        for rows in batches {
            self.data.fill(rows, 0, x.view_mut());
            for (sum, engine) in sums.iter_mut().zip(&mut self.engines) {
                *sum = sum.zip(engine.l0_in_training(x.view()).ok()).map(|(sum, l0)| sum + l0 / n);
            }
        }
        sums
    }

    /// Active latents a row that are asked for at this step.
    pub fn k_now(&self) -> usize {
        self.options.k_at(self.step)
    }

    /// λ of L1 as it stands, by SAE, in the units of the data; empty where there is none.
    pub fn l1_lambdas(&self) -> Vec<f64> {
        let l1 = self.options.steered() || self.options.l1.is_some();
        self.engines.iter().filter(|_| l1).map(|e| e.state().l1 / f64::from(self.facts.scale)).collect()
    }

    /// Sets the thresholds of batchtopk models so that k latents are active in the mean of these rows.
    pub fn calibrate(&mut self, rows: &[usize]) {
        if self.options.activation != Activation::BatchTopK || self.step == 0 {
            return;
        }
        let rows = crate::data::split::evenly_spaced(rows, CALIBRATED);
        let size = self.data.batch_rows(rows.len());
        for engine in &mut self.engines {
            let data = self.data;
            engine.calibrate(rows.len(), size, |of, out| data.fill(&rows[of], 0, out));
        }
    }

    /// Replaces the models by those of a file, which act on rows as loaded. No step follows: moments are dropped first,
    /// so that this takes no more memory than training did.
    ///
    /// # Errors
    /// Those of [`format::read_model`].
    pub fn take_back(&mut self, path: &Path) -> Result<()> {
        self.engines.iter_mut().for_each(Engine::drop_moments);
        for (engine, mut sae) in self.engines.iter_mut().zip(format::read_model(path)?.saes) {
            sae.unscale(1.0 / self.facts.scale);
            engine.replace(sae);
        }
        Ok(())
    }

    /// After every twentieth part of training, up to three quarters of it: what begins again needs steps to learn.
    fn reinforce(&mut self) -> Vec<usize> {
        if !self.options.reinforce || !self.step.is_multiple_of(self.rebirths()) || 4 * self.step > 3 * self.steps {
            return Vec::new();
        }
        let (seed, step) = (self.options.seed, self.step);
        let engines = self.engines.iter_mut().enumerate();
        engines.map(|(s, e)| e.resample(&mut Stream::new(seed, "reinforce", &[s as u64, step]))).collect()
    }

    /// Steps from one to the next.
    fn rebirths(&self) -> u64 {
        (self.steps / 20).max(1)
    }

    /// Squared errors are so much larger while training than those of rows as loaded.
    fn units(&self) -> f64 {
        f64::from(self.facts.scale) * f64::from(self.facts.scale)
    }

    fn find_matches(&mut self) {
        let isa = Isa::current();
        self.matches.clear();
        for i in 0..self.engines.len() {
            for j in i + 1..self.engines.len() {
                let (a, b) = (self.engines[i].sae().decoder_rows(), self.engines[j].sae().decoder_rows());
                self.matches.push(match_latents(isa, a, b));
            }
        }
    }

    /// What the model file says of these models.
    pub fn model_config(&self) -> ModelConfig {
        let (image, patches) = (self.data.image_shape(), self.data.patches().map(|p| p.grid()));
        ModelConfig { sae: self.options.model(self.facts.dim), saes: self.engines.len(), image, patches }
    }

    /// Mean of the training rows, or of their whole pictures, in the units of the data.
    pub fn mean(&self) -> Vec<f32> {
        self.facts.baseline.iter().map(|m| m / self.facts.scale).collect()
    }

    /// Writes all that is needed to go on from here.
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
        format::write_checkpoint(path, &self.model_config(), &engines, &self.mean(), &progress)
    }

    /// Writes the weights alone, acting on rows as loaded.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is half-written.
    pub fn write_model(&self, path: &Path) -> Result<()> {
        format::write_model(path, &self.model_config(), &self.saes(), &self.mean(), self.facts.scale)
    }
}

/// Weights of an encoder that, with their moments, hardly fit a cache.
const LARGE: usize = 1 << 22;

/// Steps of one SAE before the next one comes, at most; a large one, which no cache holds, gains less by more.
const IN_A_ROW: u64 = 16;
const IN_A_ROW_LARGE: u64 = 4;

/// Rows that active latents are counted over.
const COUNTED: usize = 2048;

/// Rows that thresholds are calibrated on, at most.
const CALIBRATED: usize = 4096;

/// Checks that a model fits rows of `dim` values and says what to do if not.
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
