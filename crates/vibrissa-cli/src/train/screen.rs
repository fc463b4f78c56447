//! What a training run says on the terminal.

use crate::show;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use vibrissa::data::Dataset;
use vibrissa::data::split::Split;
use vibrissa::train::TrainOptions;
use vibrissa::train::defaults::Wishes;
use vibrissa::train::run::{Event, RunRows};

pub fn describe(spec: &str, data: &Dataset, rows: &RunRows, o: &TrainOptions, wishes: &Wishes) {
    let what = match data.shape() {
        Some(s) => format!("{}×{} {} pictures", s.width, s.height, if s.channels == 1 { "grey" } else { "colour" }),
        None => format!("rows of {} values", show::count(data.dim())),
    };
    let classes = match data.classes().len() {
        0 => String::new(),
        n => format!(", {n} classes"),
    };
    let copies = if data.copies() > 1 { format!(" with {} variants each", data.copies() - 1) } else { String::new() };
    eprintln!("{spec}: {} {what}{copies}{classes}", show::count(data.originals()));
    let mut parts =
        format!("{} rows to train on, {} held out", show::count(rows.train.len()), show::count(rows.test.len()));
    if !rows.validation.is_empty() {
        parts += &format!(", {} for early stopping", show::count(rows.validation.len()));
    }
    eprintln!("{parts}");
    let chosen = |wish: bool| if wish { "" } else { " (chosen)" };
    eprintln!(
        "{} TopK SAE{} · {} latents{} · k {}{} · lr {}{} · batch {}{} · {}",
        o.saes,
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
            Some(steps) => format!("{} steps", show::count(steps as usize)),
            None => format!("{} epochs{}", o.epochs, chosen(wishes.epochs.is_some())),
        }
    );
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
        let n = split.test.iter().filter(|&&i| data.label(i * data.copies()) == Some(c as u16)).count();
        if n < FEW {
            eprintln!("warning: class {name} has only {n} test rows; --folds 5 gives figures over all rows");
        }
    }
    if data.classes().is_empty() && split.test.len() < FEW {
        eprintln!("warning: only {} test rows; --folds 5 gives figures over all rows", split.test.len());
    }
}

/// The progress of a training run on the terminal.
pub struct Screen {
    what: &'static str,
    resume: bool,
    stop: Arc<AtomicBool>,
    started: Instant,
    bar: Option<ProgressBar>,
    loss: f64,
    rows_per_s: f64,
    pearson: Option<f64>,
}

impl Screen {
    pub fn new(what: &'static str, resume: bool, stop: Arc<AtomicBool>) -> Screen {
        let started = Instant::now();
        Screen { what, resume, stop, started, bar: None, loss: 0.0, rows_per_s: 0.0, pearson: None }
    }

    pub fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Started { step, steps } => {
                if self.resume {
                    eprintln!("resumed at step {step}");
                }
                let bar = show::styled(steps, self.what);
                bar.set_position(step);
                bar.reset_eta();
                self.bar = Some(bar);
            }
            Event::Step(report) => {
                self.loss = report.losses.iter().map(|l| l.recon).sum::<f64>() / report.losses.len() as f64;
                self.rows_per_s = report.rows as f64 / report.step_s;
                if let Some(bar) = &self.bar {
                    bar.set_position(report.step + 1);
                    if bar.elapsed().as_millis() > 100 {
                        bar.set_message(self.message());
                    }
                }
            }
            Event::Line(line) => {
                let all: Vec<f64> = line.saes.iter().filter_map(|s| s.pearson).collect();
                self.pearson = (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64);
            }
            Event::Stopped { best_epoch, fvu } => {
                let text = format!("stopped early: the best validation fvu, {fvu:.4}, was that of epoch {best_epoch}");
                match &self.bar {
                    Some(bar) => bar.suspend(|| eprintln!("{text}")),
                    None => eprintln!("{text}"),
                }
            }
        }
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn message(&self) -> String {
        let rate = show::count(self.rows_per_s as usize);
        let pearson = self.pearson.map_or(String::new(), |p| format!(" · held-out r {p:.4}"));
        format!("{rate} rows/s · loss {:.4}{pearson}", self.loss)
    }

    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        eprintln!("{} took {}", self.what, show::seconds(self.started.elapsed().as_secs_f64()));
    }
}
