//! The `vibrissa` command: its table of contents. Each command is one file; results go to stdout, all else to stderr.

mod analyze;
mod data;
mod demo;
mod encode;
mod eval;
mod flags;
mod memory;
mod part;
mod pictures;
mod prune;
mod report;
mod show;
mod sweep;
mod train;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Train sparse autoencoders on images or on any rows of numbers, and see how good they are.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// Worker threads (default: one a processor); never changes a result
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
    /// Say how good trained models are on given data
    Eval(Box<eval::EvalArgs>),
    /// Rank the features of a run by importance, and say what each one does
    Analyze(Box<analyze::AnalyzeArgs>),
    /// Put the shards of one analysis together
    Merge(analyze::MergeArgs),
    /// Write the latents of rows as a sparse matrix for SciPy
    Encode(encode::EncodeArgs),
    /// Keep only the most important features
    Prune(prune::PruneArgs),
    /// Write what analyze found as one HTML page
    Report(report::ReportArgs),
    /// Train on synthetic pictures with known features, and say how many were found
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
            eprintln!("error: {}", flags::Flags::of(&Cli::command()).describe(&error));
            ExitCode::from(2)
        }
    }
}

/// What clap has to say: help and version as they are, errors on one line as all others.
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
        return Err(vibrissa::Error::option("--threads", "1 to 4096", threads, "leave it out to use all processors"));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| vibrissa::Error::option("--threads", "threads that can be started", threads, e.to_string()))?;
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
