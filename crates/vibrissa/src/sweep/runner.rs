//! Training of the cells of a sweep. Cells with the same batches are trained together, and each batch is read once. A
//! finished cell is never trained again; a sweep that was stopped continues from the checkpoints of its cells. The result of a
//! cell does not depend on the other cells.

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::io::write_json;
use crate::matrix::Mat;
use crate::model::Sae;
use crate::options::TrainOptions;
use crate::record::sweep::{CELL_SCHEMA, CellRecord, Ended};
use crate::record::{self, ByClass, EvalRecord, Ordered, Reconstruction};
use crate::run::memory::training_bytes;
use crate::run::saving::{CHECKPOINT_INTERVAL, Saving};
use crate::run::training::{run_hash, validation_fvu};
use crate::run::{Folder, RunRows};
use crate::train::evaluate::evaluate;
use crate::train::{Checkpoint, Trainer, TrainingSet, initialisation_key, initialise, rescale};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One configuration of the grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its value of each axis, in the order of the grid.
    pub values: Vec<(String, String)>,
    /// All options, resolved.
    pub options: TrainOptions,
}

impl Cell {
    fn join(&self, with_seed: bool) -> String {
        let own = self.values.iter().filter(|(key, _)| with_seed || key != "seed");
        let parts: Vec<String> = own.map(|(key, value)| format!("{key}={value}")).collect();
        if parts.is_empty() { "all".into() } else { parts.join(" ") }
    }

    /// The name of the cell, such as `k=16 lr=0.001`.
    pub fn name(&self) -> String {
        self.join(true)
    }

    /// The name without the seed.
    pub fn configuration(&self) -> String {
        self.join(false)
    }
}

/// A configuration at a rung: mean validation fvu of its cells, its name, and the cells.
type Candidate = (f64, String, CellFigures);
/// The cells of a configuration: index and validation fvu of each.
type CellFigures = Vec<(usize, f64)>;

/// Options of a [`Runner`].
#[derive(Clone, Copy, Debug)]
pub struct RunnerOptions {
    /// Stop the worse half of the configurations of each k and activation at [`RUNGS`].
    pub halving: bool,
    /// Bytes for all models in training together.
    pub memory: f64,
}

/// Shares of a cell's steps at which halving compares: the better half of the configurations of one k and activation
/// continues.
pub const RUNGS: [f64; 3] = [0.125, 0.25, 0.5];

/// Progress of the cells.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Steps of all cells that are done, and steps that are planned.
    Steps(u64, u64),
    /// A cell has ended.
    Ended(&'a CellRecord),
}

/// The training of all cells of a grid.
#[derive(Debug)]
pub struct Runner<'a> {
    /// The folder of the sweep; cells are in `cells/`.
    pub folder: PathBuf,
    /// The data set.
    pub data: &'a Dataset,
    /// Training, validation and test rows.
    pub rows: &'a RunRows,
    /// Facts about the training rows.
    pub facts: &'a DataFacts,
    /// The cells of the grid.
    pub cells: &'a [Cell],
    /// Options.
    pub options: RunnerOptions,
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
    /// Key of the order of batches: cells with equal keys have the same batches.
    fn order(options: &TrainOptions) -> (u64, usize, bool) {
        (if options.no_shuffle { 0 } else { options.seed }, options.batch, options.no_shuffle)
    }
}

/// Initial weights that several cells share, by their key.
type InitialWeights = HashMap<String, Vec<Sae>>;

impl<'a> Runner<'a> {
    /// The folder of a cell.
    pub fn cell_folder(&self, cell: usize) -> Folder {
        Folder(self.folder.join("cells").join(self.cells[cell].name()))
    }

    /// Trains all cells that are not trained yet. Returns `None` if the caller stopped; checkpoints of
    /// all cells have then been written.
    ///
    /// # Errors
    /// Options that do not fit, a damaged checkpoint, a full disk. If a cell diverges, only that cell fails.
    pub fn run(&self, on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Option<Vec<CellRecord>>> {
        let mut ended: Vec<Option<CellRecord>> = Vec::new();
        let mut running = Vec::new();
        for (i, cell) in self.cells.iter().enumerate() {
            let folder = self.cell_folder(i);
            let hash = run_hash(&cell.options, self.data, self.facts, self.rows);
            let before = read_cell(&folder);
            if before.as_ref().is_some_and(|cell| cell.hash != hash) {
                let found = "was trained with other options, other data or another split";
                let remedy = "choose another `out`, or remove this cell's folder";
                return Err(Error::file(folder.0.join("cell.json"), found, remedy));
            }
            // Without halving, training of cells that halving stopped continues.
            ended.push(before.filter(|cell| cell.ended != Ended::Stopped || self.options.halving));
            if ended[i].is_none() {
                let steps = cell.options.steps_over(self.rows.train.len());
                running.push(Running { cell: i, trainer: None, step: 0, steps, seconds: 0.0, hash, folder });
            }
        }
        let rungs: &[f64] = if self.options.halving { &RUNGS } else { &[] };
        let mut initial_weights = InitialWeights::new();
        let mut shared =
            Shared { done: 0, planned: running.iter().map(|r| r.steps).sum(), last: Instant::now(), baseline: None };
        for rung in rungs.iter().copied().chain([1.0]) {
            if !self.advance(rung, &mut running, &mut ended, &mut initial_weights, &mut shared, on_progress)? {
                return Ok(None);
            }
            if rung < 1.0 {
                self.halve(rung, &mut running, &mut ended, &mut shared, on_progress)?;
            }
        }
        Ok(Some(ended.into_iter().map(|c| c.expect("every cell has ended")).collect()))
    }

    /// Checks that the folder has no cell that is missing in the grid, and that no cell is added to a sweep in which halving has
    /// stopped some.
    ///
    /// # Errors
    /// [`Error::File`] with the folder of the cell.
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
            let remedy = "add its values to `grid`, or choose another `out`";
            return Err(Error::file(folder_of(name), "is a cell that is not in `grid`", remedy));
        }
        let folders = || (0..self.cells.len()).map(|cell| self.cell_folder(cell));
        let stopped = |folder: Folder| read_cell(&folder).is_some_and(|cell| cell.ended == Ended::Stopped);
        let new = |folder: Folder| !folder.0.join("config.toml").exists();
        if self.options.halving && folders().any(stopped) && folders().any(new) {
            let remedy = "leave out `halving` (training of the stopped cells then continues), or choose another `out`";
            return Err(Error::file(&self.folder, "was halved already and takes no new cells", remedy));
        }
        Ok(())
    }

    /// Number of steps that a cell has taken at a rung (a share of its steps at which halving compares).
    fn goal(rung: f64, steps: u64) -> u64 {
        ((rung * steps as f64).ceil() as u64).min(steps)
    }

    /// Bytes of a cell in training.
    fn bytes(&self, cell: usize) -> f64 {
        let options = &self.cells[cell].options;
        options.saes as f64 * training_bytes(options, self.facts.dim)
    }

    /// True if all of these cells fit in memory together.
    fn fit(&self, running: &[Running]) -> bool {
        running.iter().map(|r| self.bytes(r.cell)).sum::<f64>() <= self.options.memory
    }

    /// Writes a checkpoint and frees the trainer, unless it may stay in memory.
    fn unload(&self, r: &mut Running, keep: bool) -> Result<()> {
        if !keep {
            self.checkpoint(r)?;
            r.trainer = None;
        }
        Ok(())
    }

    /// Trains all running cells to a rung; at the last one they end. Returns false if the caller stopped.
    fn advance(
        &self,
        rung: f64,
        running: &mut Vec<Running<'a>>,
        ended: &mut [Option<CellRecord>],
        initial_weights: &mut InitialWeights,
        shared: &mut Shared,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<bool> {
        // At most one cell per thread: more would evict each other's weights from the caches.
        let most = rayon::current_num_threads().max(1);
        let keep = self.fit(running);
        // At the last rung, a cell that has taken its last step still has to end.
        let waits = |r: &Running| rung >= 1.0 || r.step < Self::goal(rung, r.steps);
        while let Some(first) = running.iter().position(waits) {
            self.load(&mut running[first], initial_weights, shared, keep)?;
            let (order, step) = (Running::order(&self.cells[running[first].cell].options), running[first].step);
            let (mut group, mut taken) = (vec![first], self.bytes(running[first].cell));
            for r in first + 1..running.len() {
                let cell = running[r].cell;
                let fits = group.len() < most && taken + self.bytes(cell) <= self.options.memory;
                if !fits || !waits(&running[r]) || Running::order(&self.cells[cell].options) != order {
                    continue;
                }
                self.load(&mut running[r], initial_weights, shared, keep)?;
                if running[r].step == step {
                    taken += self.bytes(cell);
                    group.push(r);
                } else {
                    self.unload(&mut running[r], keep)?;
                }
            }
            let mut members: Vec<&mut Running> =
                running.iter_mut().enumerate().filter(|(r, _)| group.contains(r)).map(|(_, r)| r).collect();
            if !self.train_group(rung, &mut members, ended, shared, on_progress)? {
                running.iter().try_for_each(|r| self.checkpoint(r))?;
                return Ok(false);
            }
            members.into_iter().try_for_each(|r| self.unload(r, keep))?;
            running.retain(|r| ended[r.cell].is_none());
        }
        Ok(true)
    }

    /// Creates the trainer of a cell, from its checkpoint or from initial weights.
    fn load(
        &self,
        r: &mut Running<'a>,
        initial_weights: &mut InitialWeights,
        shared: &mut Shared,
        keep: bool,
    ) -> Result<()> {
        if r.trainer.is_some() {
            return Ok(());
        }
        let options = self.cells[r.cell].options.clone();
        let set = TrainingSet { data: self.data, rows: self.rows.train.clone(), facts: self.facts.clone() };
        let path = r.folder.last();
        let trainer = if path.exists() {
            let checkpoint = Checkpoint::read(&path)?;
            if checkpoint.progress.run_hash != r.hash {
                let remedy = "choose another `out`, or remove this cell's folder";
                return Err(Error::file(&path, "was made with other options or other data", remedy));
            }
            r.seconds = checkpoint.progress.wall_s;
            Trainer::resume(set, options, checkpoint)
        } else {
            r.folder.create()?;
            let key = initialisation_key(&options);
            if !initial_weights.contains_key(&key) {
                if !keep {
                    initial_weights.clear();
                }
                initial_weights.insert(key.clone(), initialise(&set, &options)?.0);
            }
            // A model of this cell with the shared weights.
            let config = options.model(self.facts.dim);
            let own = initial_weights[&key].iter().map(|s| Sae::new(config, s.clone().into_weights()));
            let own: Vec<Sae> = own.collect::<Result<_>>()?;
            Trainer::with_models(set, options, own)?
        };
        // Steps of an earlier session.
        shared.done += trainer.step() - r.step;
        r.step = trainer.step();
        r.trainer = Some(trainer);
        Ok(())
    }

    /// Trains cells with the same batches up to a rung. Returns false if the caller stopped.
    fn train_group(
        &self,
        rung: f64,
        members: &mut [&mut Running<'a>],
        ended: &mut [Option<CellRecord>],
        shared: &mut Shared,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
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
            shared.done += active.len() as u64;
            let failed: Vec<(usize, Error)> =
                active.iter().zip(reports).filter_map(|(r, report)| Some((r.cell, report.err()?))).collect();
            for (cell, error) in failed {
                let r = members.iter_mut().find(|r| r.cell == cell).expect("a member");
                r.trainer = None;
                shared.planned -= r.steps - r.step;
                let record = CellRecord { error: Some(error.to_string()), ..self.record(r, Ended::Failed, None) };
                let _ = self.end(r, record, ended, on_progress)?;
            }
            if shared.due() && on_progress(Progress::Steps(shared.done, shared.planned)).is_break() {
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
            let compared = self.rows.for_comparison();
            let mut eval = self.evaluate(&refs, None, compared);
            let baseline = shared.baseline.get_or_insert_with(|| self.evaluate(&[], Some(&mean), compared).mean_image);
            eval.mean_image = baseline.clone();
            eval.saes.iter_mut().zip(l0).for_each(|(sae, l0)| sae.scores.l0_train = l0);
            record.scores = Some(eval.saes[0].scores.clone());
            write_json(&r.folder.0.join("eval.json"), &eval)?;
            if self.end(r, record, ended, on_progress)?.is_break() {
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

    /// Writes the record of a cell as its last file: a cell that has one is never trained again.
    fn end(
        &self,
        r: &Running,
        record: CellRecord,
        ended: &mut [Option<CellRecord>],
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        write_json(&r.folder.0.join("cell.json"), &record)?;
        r.folder.clear();
        let _ = std::fs::remove_dir(r.folder.0.join("checkpoints"));
        let control = on_progress(Progress::Ended(&record));
        ended[r.cell] = Some(record);
        Ok(control)
    }

    /// Stops the worse half of the configurations of each k and activation, by the mean validation fvu of their seeds.
    /// Activations are not compared with each other, since they differ in the number of active latents at this point.
    fn halve(
        &self,
        rung: f64,
        running: &mut Vec<Running<'a>>,
        ended: &mut [Option<CellRecord>],
        shared: &mut Shared,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut brackets: HashMap<(usize, &str), HashMap<String, CellFigures>> = HashMap::new();
        let bracket = |cell: &Cell| (cell.options.k, cell.options.activation.name());
        let keep = self.fit(running);
        for (i, r) in running.iter_mut().enumerate() {
            let cell = &self.cells[r.cell];
            self.load(r, &mut InitialWeights::new(), shared, keep)?;
            let trainer = r.trainer.as_ref().expect("loaded");
            let fvu = validation_fvu(trainer, &self.rows.validation).unwrap_or(f64::INFINITY);
            self.unload(r, keep)?;
            brackets.entry(bracket(cell)).or_default().entry(cell.configuration()).or_default().push((i, fvu));
        }
        let mut stopped: Vec<(usize, f64)> = Vec::new();
        for (own, candidates) in brackets {
            let mut order: Vec<Candidate> = candidates
                .into_iter()
                .map(|(name, cells)| (cells.iter().map(|c| c.1).sum::<f64>() / cells.len() as f64, name, cells))
                .collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            // Keep as many configurations as an uninterrupted sweep would.
            let all: std::collections::HashSet<String> =
                self.cells.iter().filter(|c| bracket(c) == own).map(Cell::configuration).collect();
            let halvings = RUNGS.iter().filter(|&&r| r <= rung).count() as u32;
            let keep = all.len().div_ceil(1 << halvings);
            stopped.extend(order.into_iter().skip(keep).flat_map(|c| c.2));
        }
        stopped.sort_by_key(|s| s.0);
        for &(i, fvu) in &stopped {
            let r = &running[i];
            let record = self.record(r, Ended::Stopped, Some(fvu).filter(|f| f.is_finite()));
            shared.planned -= r.steps - r.step;
            let _ = self.end(r, record, ended, on_progress)?;
        }
        running.retain(|r| ended[r.cell].is_none());
        Ok(())
    }
}

/// The record of a cell; `None` if it has not ended.
fn read_cell(folder: &Folder) -> Option<CellRecord> {
    record::read_if_valid(&folder.0.join("cell.json"), CELL_SCHEMA)
}

/// Progress so far, and the baseline that all cells share.
struct Shared {
    done: u64,
    planned: u64,
    last: Instant,
    /// Figures of the mean of the training rows, once a cell has ended.
    baseline: Option<ByClass<Reconstruction>>,
}

impl Shared {
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
    use crate::options::{PartialTrainOptions, resolve};

    /// A sweep that was stopped while a cell waited after its last step still ends this cell when it is resumed.
    #[test]
    fn a_cell_at_its_last_step_ends_after_a_stop() {
        let rows = Synthetic::parse("synthetic:kind=images,rows=300").expect("a spec").rows();
        let data = Dataset::from_rows(rows).expect("rows");
        let rows = RunRows { train: (0..200).collect(), validation: (200..250).collect(), test: (250..300).collect() };
        let facts = DataFacts::gather(&data, &rows.train, true);
        let cell = |steps: u64| {
            let given = PartialTrainOptions {
                latents: Some(16),
                k: Some(4),
                batch: Some(8),
                steps: Some(steps),
                ..PartialTrainOptions::default()
            };
            let options = TrainOptions { early_stop: None, ..resolve(&given, &facts) };
            Cell { values: vec![("steps".into(), steps.to_string())], options }
        };
        let dir = tempfile::tempdir().expect("a folder");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        for memory in [1e9, 0.0] {
            let folder = dir.path().join(format!("{memory}"));
            let cells = [cell(30_000), cell(20)];
            let sweep = Runner {
                folder: folder.clone(),
                data: &data,
                rows: &rows,
                facts: &facts,
                cells: &cells,
                options: RunnerOptions { halving: false, memory },
            };
            let broken = pool.install(|| {
                sweep.run(&mut |event| match event {
                    Progress::Steps(..) => ControlFlow::Break(()),
                    Progress::Ended(_) => ControlFlow::Continue(()),
                })
            });
            assert_eq!(broken.expect("no error"), None);
            let last = |steps: u64| folder.join(format!("cells/steps={steps}/checkpoints/last.safetensors")).exists();
            assert!(last(30_000) && (memory == 0.0 || last(20)), "both were put on disk");
            let mut most = (0, 0);
            let ended = pool.install(|| {
                sweep.run(&mut |event| {
                    if let Progress::Steps(done, planned) = event {
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
            // A cell gives the same model as training it alone.
            let options = sweep.cells[1].options.clone();
            let set = TrainingSet { data: &data, rows: rows.train.clone(), facts: facts.clone() };
            let mut alone = Trainer::new(set, options, None).expect("a trainer");
            while !alone.advance(u64::MAX).expect("steps").is_empty() {}
            let model = format::read_model(&folder.join("cells/steps=20/model.safetensors")).expect("a model");
            assert_eq!(model.saes, alone.into_saes());
        }
    }
}
