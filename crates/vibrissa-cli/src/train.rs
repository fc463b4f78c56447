//! `vibrissa train`: flags to a request, events to the terminal, figures to the terminal.

use crate::options::RunFlags;
use crate::progress::{RunProgress, stop_flag, unit};
use crate::{eval, show};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vibrissa::Result;
use vibrissa::options::RunOptions;
use vibrissa::run::{Finished, InitialFigures, Outcome, RunRequest, run as run_training};

/// Train a sparse autoencoder, or an ensemble of them.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// A folder of images (sub-folders are classes), a folder with MNIST's idx files, a .npy, a .safetensors[:tensor], a
    /// folder of such arrays, or synthetic:...
    #[arg(value_name = "DATA")]
    data: String,
    /// Folder for all files of the run; it must be new or empty
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Continue a run that was stopped; starts at step 0 if there is nothing to continue
    #[arg(long)]
    resume: bool,
    /// Options from a file with the keys of RUN/config.toml; flags take precedence
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: RunFlags,
}

/// Runs the command.
pub fn run(args: TrainArgs) -> Result<ExitCode> {
    let mut options = args.options.options()?;
    if let Some(path) = &args.config {
        options = options.over(&RunOptions::read(path)?.0);
    }
    let request = RunRequest { data: args.data, out: args.out, options, resume: args.resume, other_files: false };
    let mut progress = RunProgress::new(stop_flag(), request.resume);
    let outcome = run_training(&request, &mut |event| progress.on_event(event));
    progress.clear();
    match outcome? {
        Outcome::Finished(finished) => report(&finished),
        Outcome::AlreadyFinished => eprintln!("{} has ended: nothing to resume", request.out.display()),
        Outcome::Interrupted { step } => {
            eprintln!("stopped at step {step}; continue with the same command and --resume");
            return Ok(ExitCode::from(130));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the figures of a finished run, and where its images are.
fn report(finished: &Finished) {
    let Finished { prepared, eval: record, folds, initial, .. } = finished;
    let what = unit(&prepared.data);
    if let Some(initial) = initial {
        report_initial(initial, what);
    }
    match folds {
        Some(pooled) => {
            eprintln!("\ntest rows of {} folds, pooled:", prepared.given.split.folds.unwrap_or(0));
            eprint!("{}", eval::report(pooled));
            eprintln!("\nthe model of the run, on its training rows:");
        }
        None if finished.is_held_out() => eprintln!("\nheld-out {what}s:"),
        None => eprintln!("\ntraining {what}s:"),
    }
    eprint!("{}", eval::report(record));
    let folder = prepared.folder.0.display();
    eprintln!("\nlook at {folder}/features.png and {folder}/reconstructions.png; figures: {folder}/eval.json");
}

fn report_initial(initial: &InitialFigures, what: &str) {
    let InitialFigures { initialised_with, pearson_before, pearson_after, monitored, test } = *initial;
    let (Some(before), Some(after)) = (pearson_before, pearson_after) else { return };
    let of = format!(" (of {monitored} of {} {what}s)", show::count(test));
    let on = if monitored < test { of } else { String::new() };
    eprintln!(
        "initialised with {initialised_with}: held-out Pearson{on} {before:.4} before training, {after:.4} after"
    );
}
