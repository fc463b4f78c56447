//! Grids of configurations over shared data passes: cells that see the same rows in the same order take their steps
//! together, each batch read once. A finished cell is never trained again; a killed sweep goes on from the checkpoints of
//! its cells. What a cell becomes does not depend on its company.

pub mod judge;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::io::write_json;
use crate::matrix::Mat;
use crate::model::Sae;
use crate::record::sweep::{CELL_SCHEMA, CellRecord, Ended};
use crate::record::{self, ByClass, EvalRecord, Ordered, Reconstruction};
use crate::run::saving::{CHECKPOINT_INTERVAL, Saving};
use crate::run::training::{run_hash, validation_fvu};
use crate::run::{Folder, RunRows};
use crate::train::evaluate::evaluate;
use crate::train::{
    Checkpoint, DataFacts, TrainOptions, Trainer, TrainingSet, initialisation_key, initialise, rescale,
};
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
type Contender = (f64, String, Standing);
/// For each cell of a configuration its place and its validation fvu.
type Standing = Vec<(usize, f64)>;

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
        for (i, cell) in self.cells.iter().enumerate() {
            let folder = self.cell_folder(i);
            let hash = run_hash(&cell.options, self.data, self.facts, self.rows);
            let before = read_cell(&folder);
            if before.as_ref().is_some_and(|cell| cell.hash != hash) {
                let found = "was trained with other options, other data or another split";
                let remedy = "choose another --out, or remove this cell's folder";
                return Err(Error::file(folder.0.join("cell.json"), found, remedy));
            }
            // Without halving, what it stopped is trained on.
            ended.push(before.filter(|cell| cell.ended != Ended::Stopped || self.options.halving));
            if ended[i].is_none() {
                let steps = cell.options.steps_over(self.rows.train.len());
                running.push(Running { cell: i, trainer: None, step: 0, steps, seconds: 0.0, hash, folder });
            }
        }
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

    /// Refuses what cannot go on in a folder: cells there that the grid lacks, and of a halved sweep cells that the others
    /// were never compared with.
    ///
    /// # Errors
    /// Naming the cell.
    pub fn check_folder(&self) -> Result<()> {
        let mut names: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(self.folder.join("cells")).into_iter().flatten().flatten() {
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        let own: Vec<String> = self.cells.iter().map(Cell::name).collect();
        let folder_of = |name: &String| self.folder.join("cells").join(name);
        if let Some(name) = names.iter().find(|name| !own.contains(name) && folder_of(name).join("cell.json").exists())
        {
            let remedy = "name its values in --grid too (a grid may grow), or choose another --out";
            return Err(Error::file(folder_of(name), "is a cell that the grid lacks", remedy));
        }
        let folders = || (0..self.cells.len()).map(|cell| self.cell_folder(cell));
        let stopped = |folder: Folder| read_cell(&folder).is_some_and(|cell| cell.ended == Ended::Stopped);
        let new = |folder: Folder| !folder.0.join("config.toml").exists();
        if self.options.halving && folders().any(stopped) && folders().any(new) {
            let remedy = "leave out --halving (what was stopped is then trained on), or choose another --out";
            return Err(Error::file(&self.folder, "was halved without the new cells of this grid", remedy));
        }
        Ok(())
    }

    /// Steps of a cell at a rung, whole.
    fn goal(rung: f64, steps: u64) -> u64 {
        ((rung * steps as f64).ceil() as u64).min(steps)
    }

    /// Bytes of a cell in training.
    fn bytes(&self, cell: usize) -> f64 {
        let o = &self.cells[cell].options;
        let matrices = if o.tied { 1.0 } else { 2.0 };
        o.saes as f64 * o.latents as f64 * (12.0 * matrices * self.facts.dim as f64 + 4.0 * o.batch as f64)
    }

    /// Whether all of these cells may stay in memory together.
    fn fit(&self, running: &[Running]) -> bool {
        running.iter().map(|r| self.bytes(r.cell)).sum::<f64>() <= self.options.memory
    }

    /// Puts a cell aside: on disk, and where memory is short only there.
    fn put_aside(&self, r: &mut Running, keep: bool) -> Result<()> {
        if !keep {
            self.checkpoint(r)?;
            r.trainer = None;
        }
        Ok(())
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
        // One a worker: with more, the weights of one push those of another out of the caches at every step.
        let most = rayon::current_num_threads().max(1);
        let keep = self.fit(running);
        // At the last rung also a cell that has done its last step still has to end.
        let waits = |r: &Running| rung >= 1.0 || r.step < Self::goal(rung, r.steps);
        while let Some(first) = running.iter().position(waits) {
            self.load(&mut running[first], beginnings, told, keep)?;
            let (order, step) = (Running::order(&self.cells[running[first].cell].options), running[first].step);
            let (mut group, mut taken) = (vec![first], self.bytes(running[first].cell));
            for r in first + 1..running.len() {
                let cell = running[r].cell;
                let fits = group.len() < most && taken + self.bytes(cell) <= self.options.memory;
                if !fits || !waits(&running[r]) || Running::order(&self.cells[cell].options) != order {
                    continue;
                }
                self.load(&mut running[r], beginnings, told, keep)?;
                if running[r].step == step {
                    taken += self.bytes(cell);
                    group.push(r);
                } else {
                    self.put_aside(&mut running[r], keep)?;
                }
            }
            let mut members: Vec<&mut Running> =
                running.iter_mut().enumerate().filter(|(r, _)| group.contains(r)).map(|(_, r)| r).collect();
            if !self.together(rung, &mut members, ended, told, tell)? {
                running.iter().try_for_each(|r| self.checkpoint(r))?;
                return Ok(false);
            }
            members.into_iter().try_for_each(|r| self.put_aside(r, keep))?;
            running.retain(|r| ended[r.cell].is_none());
        }
        Ok(true)
    }

    /// A trainer in place, from its checkpoint or the beginning.
    fn load(&self, r: &mut Running<'a>, beginnings: &mut Beginnings, told: &mut Told, keep: bool) -> Result<()> {
        if r.trainer.is_some() {
            return Ok(());
        }
        let options = self.cells[r.cell].options.clone();
        let set = TrainingSet { data: self.data, rows: self.rows.train.clone(), facts: self.facts.clone() };
        let path = r.folder.last();
        let trainer = if path.exists() {
            let checkpoint = Checkpoint::read(&path)?;
            if checkpoint.progress.run_hash != r.hash {
                let remedy = "choose another --out, or remove this cell's folder";
                return Err(Error::file(&path, "was made with other options or other data", remedy));
            }
            r.seconds = checkpoint.progress.wall_s;
            Trainer::resume(set, options, checkpoint)
        } else {
            r.folder.create()?;
            let key = initialisation_key(&options);
            if !beginnings.contains_key(&key) {
                if !keep {
                    beginnings.clear();
                }
                beginnings.insert(key.clone(), initialise(&set, &options)?.0);
            }
            // The same weights in a model of its own.
            let config = options.model(self.facts.dim);
            let own = beginnings[&key].iter().map(|s| Sae::new(config, s.clone().into_weights()));
            let own: Vec<Sae> = own.collect::<Result<_>>()?;
            Trainer::with_models(set, options, own)?
        };
        // Steps of a session before.
        told.done += trainer.step() - r.step;
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
        let mut batch = Mat::default();
        let mut saving = Saving::every(CHECKPOINT_INTERVAL);
        loop {
            let mut active: Vec<&mut &mut Running> =
                members.iter_mut().filter(|r| r.trainer.is_some() && r.step < Self::goal(rung, r.steps)).collect();
            let Some(leader) = active.first_mut() else { break };
            let trainer = leader.trainer.as_mut().expect("active");
            let epoch = trainer.epoch();
            let rows = trainer.next_rows(1).expect("steps are left");
            batch.reserve(rows.len(), self.facts.dim);
            let n = rows.len();
            self.data.fill(rows, epoch, batch.first_rows_mut(n));
            rescale(batch.first_rows_mut(n), self.facts.scale);
            let step = |r: &mut &mut &mut Running| {
                let reports = r.trainer.as_mut().expect("active").step_on(batch.first_rows(n))?;
                r.step += reports.len() as u64;
                r.seconds += reports.iter().map(|report| report.step_s).sum::<f64>();
                Ok(())
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
            if saving.due() {
                saving.time(|| members.iter().try_for_each(|r| self.checkpoint(r)))?;
            }
        }
        if rung < 1.0 {
            return Ok(true);
        }
        for r in members.iter_mut() {
            let Some(mut trainer) = r.trainer.take() else { continue };
            let fvu = validation_fvu(&trainer, &self.rows.validation);
            let l0 = trainer.l0_in_training();
            trainer.calibrate(self.rows.for_calibration());
            trainer.write_model(&r.folder.model())?;
            let mean = trainer.facts().unscaled_baseline();
            let mut record = self.record(r, Ended::Finished, fvu);
            let saes = trainer.into_saes();
            let refs: Vec<&Sae> = saes.iter().collect();
            let looked_at = self.rows.for_comparison();
            // Rows are looked at as they were loaded.
            let mut eval = self.evaluate(&refs, None, looked_at);
            // The same for all cells.
            let baseline = told.baseline.get_or_insert_with(|| self.evaluate(&[], Some(&mean), looked_at).mean_image);
            eval.mean_image = baseline.clone();
            eval.saes.iter_mut().zip(l0).for_each(|(sae, l0)| sae.scores.l0_train = l0);
            record.scores = Some(eval.saes[0].scores.clone());
            write_json(&r.folder.0.join("eval.json"), &eval)?;
            if self.end(r, record, ended, tell)?.is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn evaluate(&self, saes: &[&Sae], mean: Option<&[f32]>, rows: &[usize]) -> EvalRecord {
        evaluate(saes, mean, self.data, rows, true, &mut |_, _| ()).record()
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
            recovery: None,
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
        write_json(&r.folder.0.join("cell.json"), &record)?;
        r.folder.clear();
        let _ = std::fs::remove_dir(r.folder.0.join("checkpoints"));
        let went = tell(Event::Ended(&record));
        ended[r.cell] = Some(record);
        Ok(went)
    }

    /// Of the configurations of one k and one activation the better half goes on, by the mean validation fvu of their seeds:
    /// activations differ in how many latents are active at this point, and fvu with it.
    fn halve(
        &self,
        rung: f64,
        running: &mut Vec<Running<'a>>,
        ended: &mut [Option<CellRecord>],
        told: &mut Told,
        tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut arenas: HashMap<(usize, &str), HashMap<String, Standing>> = HashMap::new();
        let arena = |cell: &Cell| (cell.options.k, cell.options.activation.name());
        let keep = self.fit(running);
        for (i, r) in running.iter_mut().enumerate() {
            let cell = &self.cells[r.cell];
            self.load(r, &mut Beginnings::new(), told, keep)?;
            let trainer = r.trainer.as_ref().expect("loaded");
            let fvu = validation_fvu(trainer, &self.rows.validation).unwrap_or(f64::INFINITY);
            self.put_aside(r, keep)?;
            arenas.entry(arena(cell)).or_default().entry(cell.configuration()).or_default().push((i, fvu));
        }
        let mut stopped: Vec<(usize, f64)> = Vec::new();
        for (own, contenders) in arenas {
            let mut order: Vec<Contender> = contenders
                .into_iter()
                .map(|(name, cells)| (cells.iter().map(|c| c.1).sum::<f64>() / cells.len() as f64, name, cells))
                .collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            // As many as a sweep that was never interrupted would keep, whatever has ended since.
            let all: std::collections::HashSet<String> =
                self.cells.iter().filter(|c| arena(c) == own).map(Cell::configuration).collect();
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

/// The record of a cell that has ended.
fn read_cell(folder: &Folder) -> Option<CellRecord> {
    record::read_if_valid(&folder.0.join("cell.json"), CELL_SCHEMA)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::Synthetic;
    use crate::format;
    use crate::train::defaults::{Wishes, resolve};

    /// One cell has done its last step and waits for its company when the sweep is broken off: it still has to end.
    #[test]
    fn a_cell_at_its_last_step_ends_after_a_break() {
        let rows = Synthetic::parse("synthetic:kind=images,rows=300").expect("a spec").rows();
        let data = Dataset::from_rows(rows).expect("rows");
        let rows = RunRows { train: (0..200).collect(), validation: (200..250).collect(), test: (250..300).collect() };
        let facts = DataFacts::gather(&data, &rows.train, true);
        let cell = |steps: u64| {
            let wishes =
                Wishes { latents: Some(16), k: Some(4), batch: Some(8), steps: Some(steps), ..Wishes::default() };
            let options = TrainOptions { early_stop: None, ..resolve(&wishes, &facts) };
            Cell { values: vec![("steps".into(), steps.to_string())], options }
        };
        let dir = tempfile::tempdir().expect("a folder");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        for memory in [1e9, 0.0] {
            let folder = dir.path().join(format!("{memory}"));
            let sweep = Sweep {
                folder: folder.clone(),
                data: &data,
                rows: &rows,
                facts: &facts,
                cells: vec![cell(30_000), cell(20)],
                options: SweepOptions { halving: false, memory },
            };
            let broken = pool.install(|| {
                sweep.run(&mut |event| match event {
                    Event::Progress(..) => ControlFlow::Break(()),
                    Event::Ended(_) => ControlFlow::Continue(()),
                })
            });
            assert_eq!(broken.expect("no error"), None);
            let last = |steps: u64| folder.join(format!("cells/steps={steps}/checkpoints/last.safetensors")).exists();
            assert!(last(30_000) && (memory == 0.0 || last(20)), "both were put on disk");
            let mut most = (0, 0);
            let ended = pool.install(|| {
                sweep.run(&mut |event| {
                    if let Event::Progress(done, planned) = event {
                        most = (done, planned);
                    }
                    ControlFlow::Continue(())
                })
            });
            let ended = ended.expect("no error").expect("all ended");
            assert_eq!(
                ended.iter().map(|c| (c.step, c.ended)).collect::<Vec<_>>(),
                [(30_000, Ended::Finished), (20, Ended::Finished)]
            );
            assert!(most.0 <= most.1 && most.1 == 30_020, "{most:?}");
            // What ended is what training alone makes.
            let options = sweep.cells[1].options.clone();
            let set = TrainingSet { data: &data, rows: rows.train.clone(), facts: facts.clone() };
            let mut alone = Trainer::new(set, options, None).expect("a trainer");
            while !alone.advance(u64::MAX).expect("steps").is_empty() {}
            let model = format::read_model(&folder.join("cells/steps=20/model.safetensors")).expect("a model");
            assert_eq!(model.saes, alone.into_saes());
        }
    }
}
