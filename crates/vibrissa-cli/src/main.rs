//! The `vibrissa` command: its table of contents. Each command is one file; results go to stdout, progress and messages to stderr.

mod analyze;
mod data;
mod demo;
mod encode;
mod eval;
mod flags;
mod options;
mod progress;
mod prune;
mod report;
mod show;
mod sweep;
mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Train sparse autoencoders on images or on any rows of numbers, and evaluate them.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// Worker threads; their number does not change results [default: one per processor]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a folder of images, MNIST's idx files, arrays, or synthetic rows
    Train(Box<train::TrainArgs>),
    /// Train a grid of configurations together and compare them
    Sweep(Box<sweep::SweepArgs>),
    /// Evaluate trained models on a data set
    Eval(Box<eval::EvalArgs>),
    /// Rank the features of a run by importance and describe each one
    Analyze(Box<analyze::AnalyzeArgs>),
    /// Merge the shards of one analysis
    Merge(analyze::MergeArgs),
    /// Write the latents of rows as a sparse matrix for SciPy
    Encode(encode::EncodeArgs),
    /// Keep only the most important features
    Prune(prune::PruneArgs),
    /// Write the results of analyze or sweep as one HTML page
    Report(report::ReportArgs),
    /// Train on synthetic images with known features and report how many were found
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return usage(&refused),
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", flags::flags().describe(&error));
            ExitCode::from(2)
        }
    }
}

/// Prints a message of clap: help and version as they are, errors on one line like all other errors.
fn usage(said: &clap::Error) -> ExitCode {
    let text = said.to_string();
    if !said.use_stderr() || !text.starts_with("error: ") {
        let _ = said.print();
        return ExitCode::from(said.exit_code() as u8);
    }
    let part = |p: &str| p.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = text.split("\n\n");
    let mut line = part(parts.next().unwrap_or_default());
    parts.filter(|p| p.trim_start().starts_with("tip:")).for_each(|p| line += &format!("; {}", part(p)));
    eprintln!("{line}; see --help");
    ExitCode::from(2)
}

fn run(cli: Cli) -> vibrissa::Result<ExitCode> {
    let threads = cli.threads.unwrap_or(0);
    if cli.threads == Some(0) || threads > 4096 {
        return Err(vibrissa::Error::option("threads", "1 to 4096", threads, "leave it out to use all processors"));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| vibrissa::Error::option("threads", "threads that can be started", threads, e.to_string()))?;
    pool.install(|| match cli.command {
        Command::Train(args) => train::run(*args),
        Command::Sweep(args) => sweep::run(*args),
        Command::Eval(args) => eval::run(*args),
        Command::Analyze(args) => analyze::run(*args),
        Command::Merge(args) => analyze::merge(args),
        Command::Encode(args) => encode::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Report(args) => report::run(args),
        Command::Demo(args) => demo::run(args),
    })
}
