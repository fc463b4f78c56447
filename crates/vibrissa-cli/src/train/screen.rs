//! What a training run says on the terminal.

use crate::show;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vibrissa::Result;
use vibrissa::activation::Activation;
use vibrissa::data::Dataset;
use vibrissa::data::split::Split;
use vibrissa::metrics::mean;
use vibrissa::record::{EvalRecord, MetricsLine};
use vibrissa::run::{RunRows, TrainingEvent, TrainingOutcome, on_target};
use vibrissa::train::TrainOptions;
use vibrissa::train::defaults::Wishes;

pub fn describe(spec: &str, data: &Dataset, rows: &RunRows, o: &TrainOptions, wishes: &Wishes) {
    let what = match data.image_shape() {
        Some(s) => format!("{}×{} {} pictures", s.width, s.height, if s.channels == 1 { "grey" } else { "colour" }),
        None => format!("rows of {} values", show::count(data.dim())),
    };
    let classes = match data.classes().len() {
        0 => String::new(),
        n => format!(", {n} classes"),
    };
    let copies = if data.copies() > 1 { format!(" with {} variants each", data.copies() - 1) } else { String::new() };
    eprintln!("{spec}: {} {what}{copies}{classes}", show::count(data.originals()));
    let row = match data.patches() {
        Some(patches) => {
            let (size, [down, across]) = (patches.grid(), patches.positions());
            let (each, apart) = (patches.patches_per_image(), size.stride);
            let every = if apart[0] == apart[1] { apart[0].to_string() } else { format!("{}×{}", apart[1], apart[0]) };
            let (w, h) = (size.width, size.height);
            eprintln!("each as {each} patches of {w}×{h}, one every {every} pixels ({across} across, {down} down)");
            "patch"
        }
        None => "row",
    };
    let rows_of = |n: usize| if row == "patch" { show::count(n) + " patches" } else { show::plural(n, row) };
    let mut parts = format!("{} to train on, {} held out", rows_of(rows.train.len()), show::count(rows.test.len()));
    if !rows.validation.is_empty() {
        let purpose = if o.early_stop.is_some() { "early stopping" } else { "the threshold" };
        parts += &format!(", {} for {purpose}", show::count(rows.validation.len()));
    }
    eprintln!("{parts}");
    let chosen = |wish: bool| if wish { "" } else { " (chosen)" };
    eprintln!(
        "{} {} SAE{} · {} latents{} · k {}{} · lr {}{} · batch {}{} · {}",
        o.saes,
        o.activation.name(),
        if o.saes == 1 { "" } else { "s" },
        show::count(o.latents),
        chosen(wishes.latents.is_some()),
        o.k,
        chosen(wishes.k.is_some()),
        o.lr,
        chosen(wishes.lr.is_some()),
        o.batch,
        chosen(wishes.batch.is_some()),
        match o.steps {
            Some(steps) => show::plural(steps as usize, "step"),
            None => format!("{}{}", show::plural(o.epochs as usize, "epoch"), chosen(wishes.epochs.is_some())),
        }
    );
}

/// Says how many latents are active, and of a sigmoid how much they were while training, where that is not what was asked
/// for.
pub fn warn_sparsity(o: &TrainOptions, record: &EvalRecord, line: Option<&MetricsLine>) {
    for (s, sae) in record.saes.iter().enumerate() {
        if sae.scores.reconstruction.fvu.is_some_and(|fvu| fvu >= 1.0) {
            continue;
        }
        let which = if record.saes.len() > 1 { format!("SAE {s}: ") } else { String::new() };
        let (found, target, what) = match o.activation {
            Activation::Sigmoid => {
                let mean = line.and_then(|line| line.saes.get(s)?.mean_activation);
                (mean, o.k as f64 / o.latents as f64, "mean activation")
            }
            _ => (sae.scores.l0, o.k as f64, "active latents a row"),
        };
        let Some(found) = found.filter(|&f| !on_target(f, target)) else { continue };
        let (low, way) = (found < target, o.activation);
        // Training is where it was asked to be, and other rows are not.
        let learnt = line.and_then(|line| line.saes.get(s)?.l0);
        let held = learnt.is_some_and(|l0| on_target(l0, target));
        let remedy = match way {
            _ if held && o.aims() => "more rows, or topk: the rows that it learnt from have as many as asked for",
            Activation::Sigmoid if low => "a smaller --kl, or more steps",
            Activation::Sigmoid => "a larger --kl, or more steps",
            Activation::JumpRelu => "more steps, or a larger --l0 or --bandwidth",
            _ if o.l1.is_some() && low => "a smaller --l1, or leave it out: it is then steered to -k",
            _ if o.l1.is_some() => "a larger --l1, or leave it out: it is then steered to -k",
            Activation::TopK | Activation::BatchTopK => "a smaller -k: rows have no more values above 0",
            _ => "more steps: the penalty is still on its way",
        };
        let digits = if way == Activation::Sigmoid { 4 } else { 1 };
        eprintln!("warning: {which}{what} {found:.digits$}, {target:.digits$} asked for; try {remedy}");
    }
}

/// What figures of reconstruction are of.
pub fn unit(data: &Dataset) -> &'static str {
    if data.patches().is_some() { "picture" } else { "row" }
}

/// Fewer test rows in a class than this are warned of.
const FEW: usize = 5;

pub fn warn_small(data: &Dataset, split: &Split, folds: Option<usize>) {
    if folds.is_some() {
        return;
    }
    if split.test.is_empty() {
        eprintln!("warning: no row is held out; figures are of the training rows (use --test-fraction or --folds 5)");
        return;
    }
    for (c, name) in data.classes().iter().enumerate() {
        let n = split.test.iter().filter(|&&i| data.label_of_image(i * data.copies()) == Some(c as u16)).count();
        if n < FEW {
            eprintln!(
                "warning: class {name} has only {}; --folds 5 gives figures over all rows",
                show::plural(n, "test row")
            );
        }
    }
    if data.classes().is_empty() && split.test.len() < FEW {
        eprintln!(
            "warning: only {}; --folds 5 gives figures over all rows",
            show::plural(split.test.len(), "test row")
        );
    }
}

/// The progress of a training run on the terminal; without one, a line every half minute.
pub struct Screen {
    what: String,
    resume: bool,
    stop: Arc<AtomicBool>,
    started: Instant,
    spinner: Option<ProgressBar>,
    bar: Option<ProgressBar>,
    loss: f64,
    rows_per_s: f64,
    pearson: Option<f64>,
    step: u64,
    steps: u64,
    said: Instant,
    /// What the weights began with, and held-out Pearson before and after.
    pub began: Option<(&'static str, Option<f64>, Option<f64>)>,
}

/// Between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(30);

impl Screen {
    /// Nothing shown yet.
    pub fn new(what: String, resume: bool, stop: Arc<AtomicBool>) -> Screen {
        Screen {
            what,
            resume,
            stop,
            started: Instant::now(),
            spinner: None,
            bar: None,
            loss: 0.0,
            rows_per_s: 0.0,
            pearson: None,
            step: 0,
            steps: 0,
            said: Instant::now(),
            began: None,
        }
    }

    /// Shows what happened.
    pub fn hear(&mut self, event: TrainingEvent) -> ControlFlow<()> {
        match event {
            TrainingEvent::Preparing => {
                if !self.resume {
                    self.spinner = Some(show::spinner("finding the weights to begin with"));
                }
            }
            TrainingEvent::Started { step, steps, initialised_with: began, pearson_before: before } => {
                if let Some(spinner) = self.spinner.take() {
                    spinner.finish_and_clear();
                }
                if self.resume {
                    eprintln!("resumed at step {step}");
                }
                self.began = began.map(|with| (with, before, None));
                (self.step, self.steps, self.started, self.said) = (step, steps, Instant::now(), Instant::now());
                let bar = show::styled(steps, self.what.clone());
                bar.set_position(step);
                bar.reset_eta();
                self.bar = Some(bar);
            }
            TrainingEvent::Step(report) => {
                self.step = report.step + 1;
                self.loss = report.losses.iter().map(|l| l.recon).sum::<f64>() / report.losses.len() as f64;
                self.rows_per_s = report.rows as f64 / report.step_s;
                if let Some(bar) = &self.bar {
                    bar.set_position(self.step);
                    if bar.is_hidden() {
                        self.line();
                    } else if bar.elapsed().as_millis() > 100 {
                        bar.set_message(self.message());
                    }
                }
            }
            TrainingEvent::Logged(line) => {
                self.pearson = mean(line.saes.iter().filter_map(|s| s.pearson));
                if let (Some(began), true) = (&mut self.began, line.step == self.steps) {
                    began.2 = self.pearson;
                }
            }
            TrainingEvent::StoppedEarly { best_epoch, fvu } => {
                let text = format!("stopped early: the best validation fvu, {fvu:.4}, was that of epoch {best_epoch}");
                // The figures of the last step are not those of the weights that are kept.
                self.began = self.began.map(|(with, before, _)| (with, before, None));
                match &self.bar {
                    Some(bar) => bar.suspend(|| eprintln!("{text}")),
                    None => eprintln!("{text}"),
                }
            }
        }
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn line(&mut self) {
        if self.said.elapsed() >= QUIET {
            self.said = Instant::now();
            eprintln!("{}: step {} of {} · {}", self.what, self.step, self.steps, self.message());
        }
    }

    fn message(&self) -> String {
        let rate = show::count(self.rows_per_s as usize);
        let pearson = self.pearson.map_or(String::new(), |p| format!(" · r {p:.4}"));
        format!("{rate} rows/s · loss {:.4}{pearson}", self.loss)
    }

    /// Takes the bar away and says how it ended.
    pub fn finish(&mut self, outcome: Result<TrainingOutcome>) -> Result<TrainingOutcome> {
        for bar in [self.spinner.take(), self.bar.take()].into_iter().flatten() {
            bar.finish_and_clear();
        }
        match &outcome {
            Ok(TrainingOutcome::Finished(_)) => {
                let took = show::seconds(self.started.elapsed().as_secs_f64());
                eprintln!("{} took {took}", self.what);
            }
            Ok(TrainingOutcome::Interrupted(step)) => {
                eprintln!("stopped at step {step}; continue with the same command and --resume");
            }
            Err(_) => (),
        }
        outcome
    }
}
