//! Grids of configurations over shared data passes: cells that see the same rows in the same order take their steps
//! together, each batch read once. A finished cell is never trained again; a killed sweep goes on from the checkpoints of
//! its cells. What a cell becomes does not depend on its company.

pub mod judge;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::format::{self, write_atomically};
use crate::matrix::Mat;
use crate::model::Sae;
use crate::record::sweep::{CELL_SCHEMA, CellRecord, Ended};
use crate::record::{self, ByClass, EvalRecord, Ordered, Reconstruction};
use crate::train::evaluate::evaluate;
use crate::train::run::{Folder, RunRows, run_hash, validation_fvu};
use crate::train::{DataFacts, TrainOptions, Trainer};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One configuration of the grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its values by option, in the order of the grid.
    pub values: Vec<(String, String)>,
    /// Everything resolved.
    pub options: TrainOptions,
}

impl Cell {
    fn join(&self, with_seed: bool) -> String {
        let own = self.values.iter().filter(|(key, _)| with_seed || key != "seed");
        let parts: Vec<String> = own.map(|(key, value)| format!("{key}={value}")).collect();
        if parts.is_empty() { "all".into() } else { parts.join(" ") }
    }

    /// Its name, such as `k=16 lr=0.001`.
    pub fn name(&self) -> String {
        self.join(true)
    }

    /// The name without the seed.
    pub fn configuration(&self) -> String {
        self.join(false)
    }
}

/// Cells of one configuration at a rung: its mean validation fvu, its name, and for each cell its place and fvu.
type Contender = (f64, String, Vec<(usize, f64)>);

/// How a sweep is done.
#[derive(Clone, Copy, Debug)]
pub struct SweepOptions {
    /// Stop hopeless cells early.
    pub halving: bool,
    /// Bytes that models in training may take together.
    pub memory: f64,
}

/// Where halving looks: at these shares of a cell's steps the better half of the configurations of one k goes on.
pub const RUNGS: [f64; 3] = [0.125, 0.25, 0.5];

/// Between two checkpoints of the cells in training: at least so long, and so many times as long as the last one took.
const CHECKPOINT: Duration = Duration::from_secs(60);
const CHECKPOINT_SHARE: u32 = 50;

/// What the caller is told.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many steps of all cells are done, of so many that are still planned.
    Progress(u64, u64),
    /// A cell has ended.
    Ended(&'a CellRecord),
}

/// What a sweep needs to know.
#[derive(Debug)]
pub struct Sweep<'a> {
    /// The folder: cells are in `cells/`.
    pub folder: PathBuf,
    /// Rows.
    pub data: &'a Dataset,
    /// Which are trained on, chosen by and held out.
    pub rows: &'a RunRows,
    /// What the training rows are like.
    pub facts: &'a DataFacts,
    /// The grid.
    pub cells: Vec<Cell>,
    /// How.
    pub options: SweepOptions,
}

/// A cell while the sweep runs.
struct Running<'a> {
    cell: usize,
    trainer: Option<Trainer<'a>>,
    step: u64,
    steps: u64,
    seconds: f64,
    hash: String,
    folder: Folder,
}

impl Running<'_> {
    /// Cells that see the same rows in the same order.
    fn order(options: &TrainOptions) -> (u64, usize, bool) {
        (if options.no_shuffle { 0 } else { options.seed }, options.batch, options.no_shuffle)
    }
}

/// Weights that several cells begin with.
type Beginnings = HashMap<String, Vec<Sae>>;

impl<'a> Sweep<'a> {
    /// The folder of a cell.
    pub fn cell_folder(&self, cell: usize) -> Folder {
        Folder(self.folder.join("cells").join(self.cells[cell].name()))
    }

    /// Trains what is not yet trained; `None` where the caller broke off, everything being on disk to go on.
    ///
    /// # Errors
    /// Options that cannot be, a damaged checkpoint, a full disk. A cell whose numbers leave the finite fails alone.
    pub fn run(&self, tell: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Option<Vec<CellRecord>>> {
        let mut ended: Vec<Option<CellRecord>> = Vec::new();
        let mut running = Vec::new();
        let per_epoch = |o: &TrainOptions| self.rows.train.len().div_ceil(o.batch) as u64;
        for (i, cell) in self.cells.iter().enumerate() {
            let folder = self.cell_folder(i);
            let hash = run_hash(&cell.options, self.data, self.facts, self.rows);
            let path = folder.0.join("cell.json");
            let before = std::fs::read_to_string(&path).ok();
            let before = before.and_then(|text| record::parse::<CellRecord>(&text, CELL_SCHEMA).ok());
            ended.push(match before {
                Some(cell) if cell.hash == hash => Some(cell),
                Some(_) => {
                    let found = "was trained with other options, other data or another split";
                    return Err(Error::file(&path, found, "choose another --out, or remove this cell's folder"));
                }
                None => None,
            });
            if ended[i].is_none() {
                let steps = cell.options.steps.unwrap_or(cell.options.epochs * per_epoch(&cell.options));
                running.push(Running { cell: i, trainer: None, step: 0, steps, seconds: 0.0, hash, folder });
            }
        }
        // What cells that ended before had at each rung still counts.
        let rungs: &[f64] = if self.options.halving { &RUNGS } else { &[] };
        let mut beginnings = Beginnings::new();
        let mut told =
            Told { done: 0, planned: running.iter().map(|r| r.steps).sum(), last: Instant::now(), baseline: None };
        for rung in rungs.iter().copied().chain([1.0]) {
            if !self.advance(rung, &mut running, &mut ended, &mut beginnings, &mut told, tell)? {
                return Ok(None);
            }
            if rung < 1.0 {
                self.halve(rung, &mut running, &mut ended, &mut told, tell)?;
            }
        }
        Ok(Some(ended.into_iter().map(|c| c.expect("every cell has ended")).collect()))
    }

    /// Steps of a cell at a rung, whole.
    fn goal(rung: f64, steps: u64) -> u64 {
        ((rung * steps as f64).ceil() as u64).min(steps)
    }

    /// Brings all running cells to a rung; at the last one they end. False where the caller broke off.
    fn advance(
        &self,
        rung: f64,
        running: &mut Vec<Running<'a>>,
        ended: &mut [Option<CellRecord>],
        beginnings: &mut Beginnings,
        told: &mut Told,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<bool> {
        let bytes = |o: &TrainOptions| {
            let matrices = if o.tied { 1.0 } else { 2.0 };
            o.saes as f64 * o.latents as f64 * (12.0 * matrices * self.facts.dim as f64 + 4.0 * o.batch as f64)
        };
        // One a worker: with more, the weights of one push those of another out of the caches at every step.
        let most = rayon::current_num_threads().max(1);
        let all: f64 = running.iter().map(|r| bytes(&self.cells[r.cell].options)).sum();
        let keep = all <= self.options.memory;
        let mut waiting: Vec<usize> = (0..running.len()).collect();
        while let Some(&first) = waiting.first() {
            self.load(&mut running[first], beginnings, keep)?;
            let (order, step) = (Running::order(&self.cells[running[first].cell].options), running[first].step);
            let (mut group, mut taken) = (Vec::new(), 0.0);
            for &r in &waiting {
                let options = &self.cells[running[r].cell].options;
                let fits = group.is_empty() || (group.len() < most && taken + bytes(options) <= self.options.memory);
                if Running::order(options) != order || !fits {
                    continue;
                }
                self.load(&mut running[r], beginnings, keep)?;
                if running[r].step == step {
                    taken += bytes(options);
                    group.push(r);
                } else if !keep {
                    running[r].trainer = None;
                }
            }
            waiting.retain(|r| !group.contains(r));
            let mut members: Vec<&mut Running> =
                running.iter_mut().enumerate().filter(|(r, _)| group.contains(r)).map(|(_, r)| r).collect();
            let went_on = self.together(rung, &mut members, ended, told, tell)?;
            if !went_on || !keep {
                for r in members {
                    self.checkpoint(r)?;
                    if went_on {
                        r.trainer = None;
                    }
                }
            }
            if !went_on {
                // The others' checkpoints are as old as the last rung, or the last half minute.
                for r in running.iter() {
                    self.checkpoint(r)?;
                }
                return Ok(false);
            }
            running.retain(|r| ended[r.cell].is_none());
            waiting = (0..running.len()).filter(|&r| running[r].step < Self::goal(rung, running[r].steps)).collect();
        }
        Ok(true)
    }

    /// A trainer in place, from its checkpoint or the beginning.
    fn load(&self, r: &mut Running<'a>, beginnings: &mut Beginnings, keep: bool) -> Result<()> {
        if r.trainer.is_some() {
            return Ok(());
        }
        let (options, facts) = (self.cells[r.cell].options.clone(), self.facts.clone());
        let path = r.folder.last();
        let trainer = if path.exists() {
            let (model, states, progress) = format::read_checkpoint(&path)?;
            if progress.run_hash != r.hash {
                let remedy = "choose another --out, or remove this cell's folder";
                return Err(Error::file(&path, "was made with other options or other data", remedy));
            }
            r.seconds = progress.wall_s;
            Trainer::resume(self.data, self.rows.train.clone(), facts, options, model.saes, states, &progress)
        } else {
            r.folder.create()?;
            let key = Trainer::beginning(&options);
            if !beginnings.contains_key(&key) {
                let saes =
                    Trainer::new(self.data, self.rows.train.clone(), facts.clone(), options.clone(), None)?.into_saes();
                if !keep {
                    beginnings.clear();
                }
                beginnings.insert(key.clone(), saes);
            }
            // The same weights in a model of its own.
            let config = options.model(self.facts.dim);
            let own = beginnings[&key].iter().map(|s| Sae::new(config, s.clone().into_weights()));
            let own: Vec<Sae> = own.collect::<Result<_>>()?;
            Trainer::new(self.data, self.rows.train.clone(), facts, options, Some(own))?
        };
        r.step = trainer.step();
        r.trainer = Some(trainer);
        Ok(())
    }

    /// Steps of cells that see the same rows, up to a rung. False where the caller broke off.
    fn together(
        &self,
        rung: f64,
        members: &mut [&mut Running<'a>],
        ended: &mut [Option<CellRecord>],
        told: &mut Told,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<bool> {
        let mut batch = Mat::zeros(0, 0);
        let (mut saved, mut wait) = (Instant::now(), CHECKPOINT);
        loop {
            let mut active: Vec<&mut &mut Running> =
                members.iter_mut().filter(|r| r.trainer.is_some() && r.step < Self::goal(rung, r.steps)).collect();
            let Some(leader) = active.first_mut() else { break };
            let trainer = leader.trainer.as_mut().expect("active");
            let epoch = trainer.epoch();
            let rows = trainer.rows_ahead().expect("steps are left");
            if batch.rows() < rows.len() {
                batch = Mat::zeros(rows.len(), self.facts.dim);
            }
            let n = rows.len();
            self.data.fill(rows, epoch, batch.top_mut(n));
            let step = |r: &mut &mut &mut Running| {
                let report = r.trainer.as_mut().expect("active").step_on(batch.top(n));
                report.map(|report| {
                    r.step += 1;
                    r.seconds += report.step_s;
                })
            };
            let reports: Vec<Result<()>> = active.par_iter_mut().map(step).collect();
            told.done += active.len() as u64;
            let failed: Vec<(usize, Error)> =
                active.iter().zip(reports).filter_map(|(r, report)| Some((r.cell, report.err()?))).collect();
            for (cell, error) in failed {
                let r = members.iter_mut().find(|r| r.cell == cell).expect("a member");
                r.trainer = None;
                told.planned -= r.steps - r.step;
                let record = CellRecord { error: Some(error.to_string()), ..self.record(r, Ended::Failed, None) };
                let _ = self.end(r, record, ended, tell)?;
            }
            if told.due() && tell(Event::Progress(told.done, told.planned)).is_break() {
                return Ok(false);
            }
            if saved.elapsed() > wait {
                let began = Instant::now();
                for r in members.iter() {
                    self.checkpoint(r)?;
                }
                (saved, wait) = (Instant::now(), CHECKPOINT.max(CHECKPOINT_SHARE * began.elapsed()));
            }
        }
        if rung < 1.0 {
            return Ok(true);
        }
        for r in members.iter_mut() {
            let Some(mut trainer) = r.trainer.take() else { continue };
            let fvu = validation_fvu(&trainer, self.data, &self.rows.validation);
            let l0 = trainer.l0_in_training();
            trainer.calibrate(&self.rows.validation);
            trainer.write_model(&r.folder.model())?;
            let mean = trainer.mean();
            let mut record = self.record(r, Ended::Finished, fvu);
            let saes = trainer.into_saes();
            let refs: Vec<&Sae> = saes.iter().collect();
            let looked_at = if self.rows.test.is_empty() { &self.rows.validation } else { &self.rows.test };
            // Rows are looked at as they were loaded.
            let mut eval = self.evaluate(&refs, None, looked_at);
            // The same for all cells.
            let baseline = told.baseline.get_or_insert_with(|| self.evaluate(&[], Some(&mean), looked_at).mean_image);
            eval.mean_image = baseline.clone();
            eval.saes.iter_mut().zip(l0).for_each(|(sae, l0)| sae.scores.l0_train = l0);
            record.scores = Some(eval.saes[0].scores.clone());
            let json = serde_json::to_string_pretty(&eval).expect("plain data");
            write_atomically(&r.folder.0.join("eval.json"), |out| writeln!(out, "{json}"))?;
            if self.end(r, record, ended, tell)?.is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn evaluate(&self, saes: &[&Sae], mean: Option<&[f32]>, rows: &[usize]) -> EvalRecord {
        let mut data = self.data.clone();
        data.set_scale(1.0);
        evaluate(saes, mean, &data, rows, true, &mut |_, _| ()).record()
    }

    fn checkpoint(&self, r: &Running) -> Result<()> {
        match &r.trainer {
            Some(trainer) if r.step > 0 => trainer.checkpoint(&r.folder.last(), &r.hash, r.seconds, None),
            _ => Ok(()),
        }
    }

    fn record(&self, r: &Running, ended: Ended, validation_fvu: Option<f64>) -> CellRecord {
        let cell = &self.cells[r.cell];
        CellRecord {
            schema: CELL_SCHEMA.into(),
            name: cell.name(),
            configuration: cell.configuration(),
            values: Ordered(cell.values.clone()),
            hash: r.hash.clone(),
            activation: cell.options.activation.name().into(),
            latents: cell.options.latents as u64,
            k: cell.options.k as u64,
            ended,
            step: r.step,
            steps: r.steps,
            seconds: Some(r.seconds),
            validation_fvu,
            scores: None,
            error: None,
        }
    }

    /// A cell's record is its last file: where it is, the cell is never trained again.
    fn end(
        &self,
        r: &Running,
        record: CellRecord,
        ended: &mut [Option<CellRecord>],
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let json = serde_json::to_string_pretty(&record).expect("plain data");
        write_atomically(&r.folder.0.join("cell.json"), |out| writeln!(out, "{json}"))?;
        r.folder.clear();
        let _ = std::fs::remove_dir(r.folder.0.join("checkpoints"));
        let went = tell(Event::Ended(&record));
        ended[r.cell] = Some(record);
        Ok(went)
    }

    /// Of the configurations of one k the better half goes on, by the mean validation fvu of their seeds.
    fn halve(
        &self,
        rung: f64,
        running: &mut Vec<Running<'a>>,
        ended: &mut [Option<CellRecord>],
        told: &mut Told,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut arenas: HashMap<usize, HashMap<String, Vec<(usize, f64)>>> = HashMap::new();
        for (i, r) in running.iter_mut().enumerate() {
            let cell = &self.cells[r.cell];
            self.load(r, &mut Beginnings::new(), true)?;
            let trainer = r.trainer.as_ref().expect("loaded");
            let fvu = validation_fvu(trainer, self.data, &self.rows.validation).unwrap_or(f64::INFINITY);
            arenas.entry(cell.options.k).or_default().entry(cell.configuration()).or_default().push((i, fvu));
        }
        let mut stopped: Vec<(usize, f64)> = Vec::new();
        for (k, arena) in arenas {
            let mut order: Vec<Contender> = arena
                .into_iter()
                .map(|(name, cells)| (cells.iter().map(|c| c.1).sum::<f64>() / cells.len() as f64, name, cells))
                .collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            // As many as a sweep that was never interrupted would keep, whatever has ended since.
            let all: std::collections::HashSet<String> =
                self.cells.iter().filter(|c| c.options.k == k).map(Cell::configuration).collect();
            let halvings = RUNGS.iter().filter(|&&r| r <= rung).count() as u32;
            let keep = all.len().div_ceil(1 << halvings);
            stopped.extend(order.into_iter().skip(keep).flat_map(|c| c.2));
        }
        stopped.sort_by_key(|s| s.0);
        for &(i, fvu) in &stopped {
            let r = &running[i];
            let record = self.record(r, Ended::Stopped, Some(fvu).filter(|f| f.is_finite()));
            told.planned -= r.steps - r.step;
            let _ = self.end(r, record, ended, tell)?;
        }
        running.retain(|r| ended[r.cell].is_none());
        Ok(())
    }
}

/// What the caller was told of the progress, and what cells share.
struct Told {
    done: u64,
    planned: u64,
    last: Instant,
    /// How good the mean of the training rows is, once a cell has ended.
    baseline: Option<ByClass<Reconstruction>>,
}

impl Told {
    fn due(&mut self) -> bool {
        let due = self.last.elapsed() > Duration::from_millis(50);
        if due {
            self.last = Instant::now();
        }
        due
    }
}
