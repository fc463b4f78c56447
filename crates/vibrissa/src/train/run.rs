//! The folder of a run: what is in it, how it is begun, continued and ended. Nothing in it is ever half-written.
//!
//! `config.toml` as resolved · `metrics.jsonl` one line an interval · `checkpoints/last.safetensors` rolling, full ·
//! `checkpoints/step-N.safetensors` weights only · `model.safetensors` when training has ended · `eval.json`.

use super::evaluate::{density, evaluate};
use super::{DataFacts, StepReport, TrainOptions, Trainer};
use crate::data::Dataset;
use crate::data::split::{self, Split};
use crate::error::{Error, Result};
use crate::format;
use crate::io::{TEMPORARY_PREFIX, write_atomically};
use crate::loss::Losses;
use crate::metrics::{self, mean};
use crate::model::Sae;
use crate::record::{MetricsLine, Number, Ordered, SaeLine};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is kept on disk, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Steps between full checkpoints; `None`: one a minute, fewer where writing takes long; where some
    /// are kept, ten a run, at least 100 steps apart.
    pub checkpoint_every: Option<u64>,
    /// Weights-only checkpoints kept beside the full one, the newest.
    pub history: usize,
}

/// The rows of a run.
#[derive(Clone, Debug, Default)]
pub struct RunRows {
    /// Trained on, variants included.
    pub train: Vec<usize>,
    /// Only ever looked at.
    pub test: Vec<usize>,
    /// For early stopping and thresholds, from the training side.
    pub validation: Vec<usize>,
}

impl RunRows {
    /// The rows of a split; `held` is the share of the training side that becomes validation rows.
    ///
    /// # Errors
    /// A bad pattern.
    pub fn of(data: &Dataset, split: &Split, held: Option<f64>, group: Option<&str>) -> Result<RunRows> {
        let (train, validation) = match held {
            Some(share) => split::validation(data, split, share, group)?,
            None => (split.train.clone(), Vec::new()),
        };
        Ok(RunRows {
            train: data.with_variants(&train),
            test: data.without_variants(&split.test),
            validation: data.without_variants(&validation),
        })
    }

    /// What a threshold is calibrated on: validation rows, or where there are none those trained on.
    pub fn to_calibrate(&self) -> &[usize] {
        if self.validation.is_empty() { &self.train } else { &self.validation }
    }

    /// What models are compared on: held-out rows, or where there are none the validation rows.
    pub fn to_compare(&self) -> &[usize] {
        if self.test.is_empty() { &self.validation } else { &self.test }
    }
}

/// Where a run begins.
#[derive(Debug)]
pub enum Begin {
    /// Initialised weights.
    Fresh,
    /// Weights of another run, a fresh optimiser.
    From(Vec<Sae>),
    /// The last checkpoint, or the beginning where there is none.
    Resume,
}

/// What the caller is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// The weights to begin with are looked for, which may take a while.
    Preparing,
    /// Training begins at this step, of so many.
    Started {
        /// First step to be done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// What the weights began with, in words, where they were found here.
        began: Option<&'static str>,
        /// Mean held-out Pearson of all SAEs before the first step, where there is a held-out row.
        before: Option<f64>,
    },
    /// A step was done.
    Step(&'a StepReport),
    /// An interval ended; held-out figures are new.
    Line(&'a MetricsLine),
    /// Early stopping ended the run at this epoch; the weights of the best one are kept.
    Stopped {
        /// Epoch with the best validation fvu.
        best_epoch: u64,
        /// That fvu.
        fvu: f64,
    },
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The trained models, acting on rows as loaded.
    Finished(Vec<Sae>),
    /// The caller broke off; a checkpoint was written at this step.
    Interrupted(u64),
}

/// Held-out rows looked at during training, at most: spread evenly over all of them, so over all classes.
const PROBE: usize = 256;
/// Held-out patches, at most, where rows are patches: those of whole pictures, of [`FEWEST`] in any case.
const PROBED_PATCHES: usize = 4096;
const FEWEST: usize = 16;

/// The rows that are looked at during training. Figures are always of whole pictures.
pub fn probe(data: &Dataset, test: &[usize]) -> Vec<usize> {
    let most = match data.patches() {
        Some(p) => (PROBED_PATCHES / p.patches_per_image()).max(FEWEST),
        None => PROBE,
    };
    data.evenly_spaced_images(test, most.min(PROBE))
}

/// The files of a run.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// A folder that only this process trains into.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: std::fs::File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Folder {
    /// The rolling full checkpoint.
    pub fn last(&self) -> PathBuf {
        self.0.join("checkpoints/last.safetensors")
    }

    fn best(&self) -> PathBuf {
        self.0.join("checkpoints/best.safetensors")
    }

    /// The trained model.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// The log.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Whether there is something here that a new run would overwrite.
    pub fn in_use(&self) -> bool {
        self.0.exists() && std::fs::read_dir(&self.0).is_ok_and(|mut d| d.next().is_some())
    }

    /// Keeps other processes out for as long as what it gives lives.
    ///
    /// # Errors
    /// When another process trains into this folder.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.0.join(".lock");
        let failed = || Error::io(&path, "write", "choose an --out that can be written");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed())?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                let remedy = "wait for it, or choose another --out";
                Err(Error::file(&self.0, "another process is training into this folder", remedy))
            }
            // Some file systems have no locks: then nothing keeps others out.
            _ => Ok(Lock { path, _file: file }),
        }
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<()> {
        self.make(&self.0.join("checkpoints"))
    }

    /// Makes the folder alone, without what a run needs in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_bare(&self) -> Result<()> {
        self.make(&self.0)
    }

    fn make(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path).map_err(Error::io(
            &self.0,
            "make the run folder",
            "choose an --out that can be written",
        ))
    }

    /// The log's last line.
    pub fn last_line(&self) -> Option<MetricsLine> {
        let text = std::fs::read_to_string(self.metrics()).unwrap_or_default();
        text.lines().rev().find_map(|l| serde_json::from_str(l).ok())
    }

    /// Step of the log's last line, 0 without one.
    pub fn last_step(&self) -> u64 {
        self.last_line().map_or(0, |m| m.step)
    }

    /// Removes what is needed no longer once the model is written.
    pub fn clear(&self) {
        self.sweep();
        for path in [self.last(), self.best()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes what a killed process left half-written.
    fn sweep(&self) {
        for folder in [self.0.clone(), self.0.join("checkpoints")] {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
                if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(TEMPORARY_PREFIX)) {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }

    /// Drops the lines after `step`, written by a run that was killed later.
    fn trim_metrics(&self, step: u64) -> Result<()> {
        let Ok(text) = std::fs::read_to_string(self.metrics()) else { return Ok(()) };
        let kept: Vec<&str> =
            text.lines().filter(|l| serde_json::from_str::<MetricsLine>(l).is_ok_and(|m| m.step <= step)).collect();
        write_atomically(&self.metrics(), |out| kept.iter().try_for_each(|l| writeln!(out, "{l}")))
    }

    fn append(&self, line: &MetricsLine) -> Result<()> {
        let failed = || Error::io(self.metrics(), "write", "free some space; continue with --resume");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.metrics()).map_err(failed())?;
        file.write_all(line.to_line().as_bytes()).map_err(failed())
    }

    /// The weights-only checkpoints with their steps, the oldest first.
    pub fn history(&self) -> Vec<(u64, PathBuf)> {
        let step = |p: &Path| -> Option<u64> { p.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok() };
        let entries = std::fs::read_dir(self.0.join("checkpoints")).into_iter().flatten().flatten();
        let mut all: Vec<(u64, PathBuf)> = entries.map(|e| e.path()).filter_map(|p| Some((step(&p)?, p))).collect();
        all.sort();
        all
    }

    /// Keeps the newest `n` weights-only checkpoints.
    fn prune_history(&self, n: usize) {
        for (_, path) in self.history().iter().rev().skip(n) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A hash of what decides the result: a checkpoint continues only the run it came from.
pub(crate) fn run_hash(options: &TrainOptions, data: &Dataset, facts: &DataFacts, rows: &RunRows) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(data.load_description().as_bytes());
    hash.update(serde_json::to_string(options).expect("plain data").as_bytes());
    for part in [&rows.train, &rows.test, &rows.validation] {
        hash.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|&r| {
            hash.update(&(r as u64).to_le_bytes());
        });
    }
    facts.mean.iter().for_each(|m| {
        hash.update(&m.to_le_bytes());
    });
    hash.update(&facts.spread.to_le_bytes());
    hash.finalize().to_hex().to_string()
}

/// What a machine that stops may lose of a run.
pub(crate) const APART: Duration = Duration::from_secs(60);

/// Trains from the beginning or a checkpoint to the end, into `folder`, which exists. `tell` hears of every step and may
/// break off: a checkpoint is then written.
///
/// # Errors
/// Options that cannot be, a damaged or foreign checkpoint, divergence, a full disk (the last checkpoint stays).
pub fn train(
    folder: &Folder,
    data: &Dataset,
    rows: RunRows,
    facts: DataFacts,
    options: TrainOptions,
    keep: Keep,
    begin: Begin,
    tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Outcome> {
    let hash = run_hash(&options, data, &facts, &rows);
    let (mut best, mut wall_before) = (None, 0.0);
    let train_rows = rows.train.clone();
    let _ = tell(Event::Preparing);
    let mut trainer = match begin {
        Begin::Resume if folder.last().exists() => {
            let (model, states, progress) = format::read_checkpoint(&folder.last())?;
            if progress.run_hash != hash {
                return Err(Error::file(
                    folder.last(),
                    "was made with other options or other data",
                    "repeat the run's own options (RUN/config.toml), or train into another --out",
                ));
            }
            (best, wall_before) = (progress.best, progress.wall_s);
            Trainer::resume(data, train_rows, facts, options, model.saes, states, &progress)
        }
        Begin::From(saes) => Trainer::new(data, train_rows, facts, options, Some(saes))?,
        Begin::Fresh | Begin::Resume => Trainer::new(data, train_rows, facts, options, None)?,
    };
    let steps = trainer.steps();
    folder.sweep();
    folder.trim_metrics(trainer.step())?;
    let probe = &probe(data, &rows.test)[..];
    // Held-out figures cost a forward pass over the probe: at most about a hundredth of the training.
    let apart = (32 * probe.len()).div_ceil(trainer.options().batch) as u64;
    let line_every = steps.div_ceil(50).max(apart).max(1);
    let where_some_are_kept = (keep.history > 0).then_some((steps / 10).max(100));
    let checkpoint_every = keep.checkpoint_every.or(where_some_are_kept).map(|every| every.max(1));
    let mut saving = Saving::every(APART);
    let started = Instant::now();
    let mut interval = Interval::default();
    if trainer.options().early_stop.is_some()
        && trainer.step() == 0
        && !rows.validation.is_empty()
        && let Some(fvu) = settled_fvu(&mut trainer, data, &rows.validation)
    {
        best = Some((fvu, 0));
        trainer.write_model(&folder.best())?;
    }
    let before = match trainer.step() {
        0 => mean(held_out(&trainer, data, probe).into_iter().filter_map(|f| f.0)),
        _ => None,
    };
    let mut go_on = tell(Event::Started { step: trainer.step(), steps, began: trainer.began(), before });
    let mut ended = false;
    while go_on.is_continue() {
        // No further than to where the models are looked at or written.
        let until = |every: u64| every - trainer.step() % every;
        let at_most = checkpoint_every.map_or(u64::MAX, until).min(until(line_every));
        let reports = trainer.advance(at_most)?;
        if reports.is_empty() {
            ended = true;
            break;
        }
        for report in &reports {
            interval.add(report);
            if go_on.is_continue() {
                go_on = tell(Event::Step(report));
            }
        }
        let step = trainer.step();
        let wall_s = wall_before + started.elapsed().as_secs_f64();
        if step % line_every == 0 || step == steps {
            let line = interval.line(&mut trainer, data, probe, wall_s);
            folder.append(&line)?;
            interval = Interval::default();
            if tell(Event::Line(&line)).is_break() {
                go_on = ControlFlow::Break(());
            }
        }
        // Also after the last step: it may lie within an epoch, and its weights must have their chance.
        let judged = (step % trainer.per_epoch() == 0 || step == steps) && !rows.validation.is_empty();
        if let Some(patience) = trainer.options().early_stop.filter(|_| judged) {
            let epoch = trainer.epoch();
            let fvu = settled_fvu(&mut trainer, data, &rows.validation);
            if let Some(fvu) = fvu.filter(|&fvu| best.is_none_or(|(b, _)| fvu < b)) {
                best = Some((fvu, epoch));
                trainer.write_model(&folder.best())?;
            } else if let Some((fvu, best_epoch)) = best.filter(|&(_, e)| epoch >= e + patience) {
                if interval.steps > 0 {
                    folder.append(&interval.line(&mut trainer, data, probe, wall_s))?;
                }
                let _ = tell(Event::Stopped { best_epoch, fvu });
                ended = true;
                break;
            }
        }
        let due = checkpoint_every.map_or_else(|| saving.due(), |every| step % every == 0);
        if due && step < steps {
            saving.time(|| trainer.checkpoint(&folder.last(), &hash, wall_s, best))?;
            if keep.history > 0 {
                trainer.write_model(&folder.0.join(format!("checkpoints/step-{step}.safetensors")))?;
                folder.prune_history(keep.history);
            }
        }
    }
    if !ended {
        let wall_s = wall_before + started.elapsed().as_secs_f64();
        trainer.checkpoint(&folder.last(), &hash, wall_s, best)?;
        return Ok(Outcome::Interrupted(trainer.step()));
    }
    if trainer.step() == 0 {
        folder.append(&Interval::default().line(&mut trainer, data, probe, 0.0))?;
    }
    if best.is_some() && folder.best().exists() {
        trainer.take_back(&folder.best())?;
    }
    trainer.calibrate(rows.to_calibrate());
    trainer.write_model(&folder.model())?;
    let saes = trainer.into_saes();
    folder.clear();
    Ok(Outcome::Finished(saes))
}

/// When a checkpoint is due: so long after the last one, or later where saving would take over a fiftieth of the time.
pub(crate) struct Saving {
    apart: Duration,
    last: Instant,
    took: Duration,
}

impl Saving {
    pub fn every(apart: Duration) -> Saving {
        Saving { apart, last: Instant::now(), took: Duration::ZERO }
    }

    pub fn due(&self) -> bool {
        self.last.elapsed() >= self.apart.max(50 * self.took)
    }

    pub fn time(&mut self, save: impl FnOnce() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        save()?;
        (self.last, self.took) = (Instant::now(), began.elapsed());
        Ok(())
    }
}

/// Squared error of the validation rows (of the whole pictures, where rows are patches) against the spread of the training
/// rows, so that one row has a figure too; mean over the SAEs; `None` where it is not finite.
pub(crate) fn validation_fvu(trainer: &Trainer, data: &Dataset, rows: &[usize]) -> Option<f64> {
    let all = evaluate(&trainer.saes(), None, data, rows, false, &mut |_, _| ()).mse();
    let mse = all.iter().sum::<f64>() / all.len() as f64;
    let spread = trainer.facts().picture_spread / data.image_dim() as f64;
    Some(if spread > 0.0 { mse / spread } else { mse }).filter(|v| v.is_finite())
}

/// Whether sparsity is no further than a factor of 1.2 from what was asked for.
pub fn on_target(found: f64, target: f64) -> bool {
    const FACTOR: f64 = 1.2;
    (target / FACTOR..=target * FACTOR).contains(&found)
}

/// [`validation_fvu`], where training rows have as many active latents as was asked for: while that is still steered
/// there, more are active and fvu is small for that reason alone.
fn settled_fvu(trainer: &mut Trainer, data: &Dataset, rows: &[usize]) -> Option<f64> {
    let (k, aims, k_anneal) = (trainer.options().k as f64, trainer.options().aims(), trainer.options().k_anneal);
    let near = |l0: Option<f64>| l0.is_some_and(|l0| on_target(l0, k));
    if trainer.step() < k_anneal || (aims && !trainer.l0_in_training().into_iter().all(near)) {
        return None;
    }
    validation_fvu(trainer, data, rows)
}

/// Pearson and fvu of each SAE on these rows, as the weights stand.
fn held_out(trainer: &Trainer, data: &Dataset, probe: &[usize]) -> Vec<(Option<f64>, Option<f64>)> {
    if probe.is_empty() {
        return vec![(None, None); trainer.saes().len()];
    }
    evaluate(&trainer.saes(), None, data, probe, false, &mut |_, _| ()).brief()
}

/// What happened since the last line of the log.
#[derive(Default)]
struct Interval {
    steps: u64,
    rows: usize,
    step_s: f64,
    losses: Vec<Losses>,
    reborn: Vec<usize>,
}

impl Interval {
    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.rows += report.rows;
        self.step_s += report.step_s;
        self.losses.resize(report.losses.len(), Losses::default());
        self.reborn.resize(report.losses.len(), 0);
        self.reborn.iter_mut().zip(&report.reborn).for_each(|(sum, n)| *sum += n);
        for (sum, l) in self.losses.iter_mut().zip(&report.losses) {
            sum.add(l, 1.0);
        }
    }

    fn line(&self, trainer: &mut Trainer, data: &Dataset, probe: &[usize], wall_s: f64) -> MetricsLine {
        let figures = held_out(trainer, data, probe);
        let activity = trainer.take_activity();
        let options = trainer.options();
        let (terms, target, lambdas) = (options.terms(), trainer.k_now() as f64, trainer.l1_lambdas());
        let saes = figures.into_iter().zip(activity).enumerate().map(|(s, ((pearson, fvu), (activity, dead)))| {
            let average = |f: &dyn Fn(&Losses) -> f64| {
                Number(self.losses.get(s).map(|l| f(l) / self.steps as f64).filter(|v| v.is_finite()))
            };
            let named = Losses::NAMES.into_iter().enumerate().filter(|(_, name)| terms.contains(name));
            let mut loss: Vec<(String, Number)> =
                named.map(|(i, name)| (name.to_owned(), average(&|l| l.terms()[i]))).collect();
            loss.push(("total".to_owned(), average(&Losses::total)));
            let seen = activity.rows > 0;
            SaeLine {
                loss: Ordered(loss),
                pearson,
                fvu,
                l0: seen.then(|| activity.l0()),
                l0_target: Some(target),
                l1_lambda: lambdas.get(s).copied(),
                mean_activation: seen.then(|| activity.mean()),
                density: seen.then(|| {
                    let counts: Vec<u64> = activity.counts.iter().map(|&c| u64::from(c)).collect();
                    density(metrics::Density::new(&counts, activity.rows))
                }),
                dead_latents: Some(dead as u64),
                reborn: options.reinforce.then(|| self.reborn.get(s).map_or(0, |&n| n as u64)),
            }
        });
        MetricsLine {
            step: trainer.step(),
            epoch: trainer.epoch(),
            rows_per_s: (self.step_s > 0.0).then(|| self.rows as f64 / self.step_s),
            wall_s: Some(wall_s),
            saes: saes.collect(),
        }
    }
}
