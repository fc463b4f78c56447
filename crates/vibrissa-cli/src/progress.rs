//! The progress of a run on the terminal: bars, and without a terminal a line every half minute.

use crate::flags::flags;
use crate::show::{self, Bar};
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vibrissa::data::Dataset;
use vibrissa::data::rows::SkippedFile;
use vibrissa::metrics::mean;
use vibrissa::options::TrainOptions;
use vibrissa::run::{Event, Prepared, TrainingEvent};

/// A flag that Ctrl-C sets. A second Ctrl-C ends the program at once.
pub fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let _ = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    flag
}

/// The thing that figures of reconstruction are of.
pub fn unit(data: &Dataset) -> &'static str {
    if data.patches().is_some() { "image" } else { "row" }
}

/// Prints a warning or note of the library, with its options as flags.
pub fn say(kind: &str, text: &str) {
    eprintln!("{kind}: {}", flags().translate(text));
}

/// Prints the files that were left out of a data set.
pub fn say_skipped(data: &Dataset) {
    data.skipped().iter().for_each(say_skipped_file);
    if !data.skipped().is_empty() {
        eprintln!("{} skipped", show::plural(data.skipped().len(), "file"));
    }
}

/// Prints a file that was left out, and why.
pub fn say_skipped_file(skipped: &SkippedFile) {
    let reason = flags().translate(&skipped.reason);
    eprintln!("skipped: {}", reason.split("; remove it or ").next().unwrap_or_default());
}

/// Time between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(30);

/// The progress of a training or sweep, for events of the library.
pub struct RunProgress {
    stop: Arc<AtomicBool>,
    resume: bool,
    reading: Bar,
    evaluating: Bar,
    spinner: Option<ProgressBar>,
    training: Option<TrainingBar>,
}

impl RunProgress {
    /// Nothing is shown yet. `resume`: the run may be continued.
    pub fn new(stop: Arc<AtomicBool>, resume: bool) -> RunProgress {
        let (reading, evaluating) = (Bar::new("reading"), Bar::new("evaluating"));
        RunProgress { stop, resume, reading, evaluating, spinner: None, training: None }
    }

    /// Shows an event. Breaks if Ctrl-C was pressed.
    pub fn on_event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Reading { done, total } => self.reading.set(done, total),
            Event::Skipped(file) => say_skipped_file(file),
            Event::Prepared(prepared) => {
                self.reading.finish();
                describe(prepared);
            }
            Event::Training { fold, event } => self.on_training(fold, event),
            Event::Trained { step } => {
                eprintln!("resumed at step {step}");
                eprintln!("training had ended; its figures and images are made now");
            }
            Event::Evaluating { done, total } => {
                self.end_training();
                self.evaluating.set(done, total);
            }
            Event::Note(text) => self.say("note", &text),
            Event::Warning(text) => self.say("warning", &text),
            _ => (),
        }
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn say(&mut self, kind: &str, text: &str) {
        self.evaluating.finish();
        say(kind, text);
    }

    fn on_training(&mut self, fold: Option<(usize, usize)>, event: TrainingEvent) {
        match event {
            TrainingEvent::Preparing => {
                self.end_training();
                if !self.resume || fold.is_some() {
                    self.spinner = Some(show::spinner("initialising the weights"));
                }
            }
            TrainingEvent::Started { step, steps, .. } => {
                if let Some(spinner) = self.spinner.take() {
                    spinner.finish_and_clear();
                }
                if self.resume && fold.is_none() {
                    eprintln!("resumed at step {step}");
                }
                let what = fold.map_or("training".into(), |(fold, of)| format!("fold {fold} of {of}"));
                self.training = Some(TrainingBar::new(what, step, steps));
            }
            event => self.training.iter_mut().for_each(|bar| bar.on_event(&event)),
        }
    }

    /// Removes the bar of a training that has ended, and says how long it took.
    fn end_training(&mut self) {
        if let Some(bar) = self.training.take() {
            bar.finish();
        }
    }

    /// Removes all bars.
    pub fn clear(&mut self) {
        self.reading.finish();
        self.evaluating.finish();
        let bars = self.spinner.take().into_iter().chain(self.training.take().map(|t| t.bar));
        bars.for_each(|bar| bar.finish_and_clear());
    }
}

/// The bar of one training.
struct TrainingBar {
    what: String,
    bar: ProgressBar,
    started: Instant,
    last_line: Instant,
    step: u64,
    steps: u64,
    loss: f64,
    rows_per_s: f64,
    pearson: Option<f64>,
}

impl TrainingBar {
    fn new(what: String, step: u64, steps: u64) -> TrainingBar {
        let bar = show::styled(steps, what.clone());
        bar.set_position(step);
        bar.reset_eta();
        let (started, last_line) = (Instant::now(), Instant::now());
        TrainingBar { what, bar, started, last_line, step, steps, loss: 0.0, rows_per_s: 0.0, pearson: None }
    }

    fn on_event(&mut self, event: &TrainingEvent) {
        match event {
            TrainingEvent::Step(report) => {
                self.step = report.step + 1;
                self.loss = report.losses.iter().map(|l| l.recon).sum::<f64>() / report.losses.len() as f64;
                self.rows_per_s = report.rows as f64 / report.step_s;
                self.bar.set_position(self.step);
                if self.bar.is_hidden() {
                    self.print_line();
                } else if self.bar.elapsed().as_millis() > 100 {
                    self.bar.set_message(self.message());
                }
            }
            TrainingEvent::Logged(line) => self.pearson = mean(line.saes.iter().filter_map(|s| s.pearson)),
            TrainingEvent::StoppedEarly { best_epoch, fvu } => self.bar.suspend(|| {
                eprintln!("stopped early: the best validation fvu, {fvu:.4}, was that of epoch {best_epoch}");
            }),
            _ => (),
        }
    }

    /// Prints a line if the last one is half a minute old.
    fn print_line(&mut self) {
        if self.last_line.elapsed() >= QUIET {
            self.last_line = Instant::now();
            eprintln!("{}: step {} of {} · {}", self.what, self.step, self.steps, self.message());
        }
    }

    fn message(&self) -> String {
        let rate = show::count(self.rows_per_s as usize);
        let pearson = self.pearson.map_or(String::new(), |p| format!(" · r {p:.4}"));
        format!("{rate} rows/s · loss {:.4}{pearson}", self.loss)
    }

    fn finish(self) {
        self.bar.finish_and_clear();
        eprintln!("{} took {}", self.what, show::seconds(self.started.elapsed().as_secs_f64()));
    }
}

/// Prints the data and the model of a run that is about to start.
fn describe(prepared: &Prepared) {
    let Prepared { spec, data, rows, options: o, .. } = prepared;
    let what = match data.image_shape() {
        Some(s) => format!("{}×{} {} images", s.width, s.height, if s.channels == 1 { "grey" } else { "colour" }),
        None => format!("rows of {} values", show::count(data.dim())),
    };
    let classes = match data.classes().len() {
        0 => String::new(),
        n => format!(", {n} classes"),
    };
    let copies = if data.copies() > 1 { format!(" with {} variants each", data.copies() - 1) } else { String::new() };
    eprintln!("{spec}: {} {what}{copies}{classes}", show::count(data.originals()));
    if let Some(patches) = data.patches() {
        let (grid, [down, across]) = (patches.grid(), patches.positions());
        let [y, x] = grid.stride;
        let every = if x == y { x.to_string() } else { format!("{x}×{y}") };
        let (each, w, h) = (patches.patches_per_image(), grid.width, grid.height);
        eprintln!("each as {each} patches of {w}×{h}, one every {every} pixels ({across} across, {down} down)");
    }
    let rows_of = |n: usize| match data.patches() {
        Some(_) => show::count(n) + " patches",
        None => show::plural(n, "row"),
    };
    let mut parts = format!("{} to train on, {} held out", rows_of(rows.train.len()), show::count(rows.test.len()));
    if !rows.validation.is_empty() {
        let purpose = if o.early_stop.is_some() { "early stopping" } else { "the threshold" };
        parts += &format!(", {} for {purpose}", show::count(rows.validation.len()));
    }
    eprintln!("{parts}");
    describe_model(prepared, o);
}

fn describe_model(prepared: &Prepared, o: &TrainOptions) {
    let given = &prepared.given.train;
    let chosen = |given: bool| if given { "" } else { " (chosen)" };
    eprintln!(
        "{} {} SAE{} · {} latents{} · k {}{} · lr {}{} · batch {}{} · {}",
        o.saes,
        o.activation.name(),
        if o.saes == 1 { "" } else { "s" },
        show::count(o.latents),
        chosen(given.latents.is_some()),
        o.k,
        chosen(given.k.is_some()),
        o.lr,
        chosen(given.lr.is_some()),
        o.batch,
        chosen(given.batch.is_some()),
        match o.steps {
            Some(steps) => show::plural(steps as usize, "step"),
            None => format!("{}{}", show::plural(o.epochs as usize, "epoch"), chosen(given.epochs.is_some())),
        }
    );
}
