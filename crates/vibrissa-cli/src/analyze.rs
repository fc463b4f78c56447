//! `vibrissa analyze` and `vibrissa merge`: the features of a run on given rows.

use crate::options::parse_named;
use crate::progress::{say, say_skipped};
use crate::show;
use clap::Args;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vibrissa::Result;
use vibrissa::analysis::options::parse_weights;
use vibrissa::analysis::{self, AnalyzeEvent, AnalyzeOptions, AnalyzeRequest, Analyzed, Shard};
use vibrissa::record::Number;
use vibrissa::record::analysis::columns::SaeColumns;
use vibrissa::record::analysis::{Analysis, MetadataRecord};
use vibrissa::run::RowSelection;

/// Rank the features of a run by importance, measure what each one contributes exactly, and relate them to classes and
/// to each other
#[derive(Args, Debug)]
pub struct AnalyzeArgs {
    /// A run (or a model file)
    run: PathBuf,
    /// The data to analyse the run on
    data: String,
    #[command(flatten)]
    common: CommonArgs,
    /// Analyse part I of N only (I from 1 to N), and write DIR/shard-I-of-N.safetensors, to be combined by vibrissa merge
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
}

/// Merge the shards of one analysis; the result is that of one pass over all rows, bit for bit
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// The run that was analysed
    run: PathBuf,
    /// The data that it was analysed on
    data: String,
    /// All shards
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Options of both commands.
#[derive(Args, Debug)]
struct CommonArgs {
    /// Rows to analyse: all, train or test (held out by the run)
    #[arg(long, value_name = "ROWS", value_parser = parse_named::<RowSelection>, default_value = "all")]
    split: RowSelection,
    /// Folder for the results [default: RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Weights of frequency and strength in the score
    #[arg(long, value_name = "F,S", default_value = "0.7,0.3")]
    weights: String,
    /// A CSV table with file names in its first column; each remaining column is tested for a relation to the features
    #[arg(long, value_name = "FILE.csv")]
    metadata: Option<PathBuf>,
    /// Number of features for which example rows are kept, those with the highest score
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pictured: usize,
    /// Leave out files that cannot be read, and list them
    #[arg(long)]
    skip_bad: bool,
    /// Print the results as one JSON object
    #[arg(long)]
    json: bool,
}

impl CommonArgs {
    fn request(&self, run: &Path, data: &str) -> Result<AnalyzeRequest> {
        let options = AnalyzeOptions {
            weights: parse_weights(&self.weights)?,
            pictured: self.pictured,
            metadata: self.metadata.clone(),
            out: self.out.clone(),
            split: self.split,
            skip_bad: self.skip_bad,
        };
        Ok(AnalyzeRequest { run: run.to_path_buf(), data: data.to_owned(), options })
    }

    /// Prints the result.
    fn print(&self, Analyzed { folder, analysis }: &Analyzed) {
        if self.json {
            println!("{}", serde_json::to_string(&analysis.record).expect("plain data"));
            return;
        }
        print!("{}", summary(analysis));
        eprintln!(
            "\nwrote {0}/analysis.json, analysis.safetensors{1} and features.csv; next: vibrissa report {0}",
            folder.display(),
            if analysis.record.metadata.is_empty() { "" } else { ", features-metadata.csv" }
        );
    }
}

/// Analyses a run, or a shard of its rows.
pub fn run(args: AnalyzeArgs) -> Result<ExitCode> {
    let request = args.common.request(&args.run, &args.data)?;
    let mut progress = Progress::new();
    let on_event = &mut |event: AnalyzeEvent| progress.show(event);
    match args.shard.as_deref().map(Shard::parse).transpose()? {
        Some(shard) => {
            let written = analysis::analyze_shard(&request, shard, on_event)?.expect(NEVER_STOPPED);
            progress.clear();
            eprintln!("{} · {}", written.path.display(), show::plural(written.rows, "row"));
        }
        None => {
            let analyzed = analysis::analyze(&request, on_event)?.expect(NEVER_STOPPED);
            progress.clear();
            args.common.print(&analyzed);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Merges shards.
pub fn merge(args: MergeArgs) -> Result<ExitCode> {
    let request = args.common.request(&args.run, &args.data)?;
    let mut progress = Progress::new();
    let analyzed = analysis::merge(&request, &args.shards, &mut |event| progress.show(event))?;
    progress.clear();
    args.common.print(&analyzed.expect(NEVER_STOPPED));
    Ok(ExitCode::SUCCESS)
}

/// The progress of an analysis on the terminal.
struct Progress {
    reading: show::Bar,
    passing: show::Bar,
    spinner: Option<ProgressBar>,
}

const NEVER_STOPPED: &str = "events are answered with Continue";

impl Progress {
    fn new() -> Progress {
        Progress { reading: show::Bar::new("reading"), passing: show::Bar::new("analysing"), spinner: None }
    }

    fn show(&mut self, event: AnalyzeEvent) -> ControlFlow<()> {
        match event {
            AnalyzeEvent::Reading { done, total } => self.reading.set(done, total),
            AnalyzeEvent::Opened(data) => {
                self.clear();
                say_skipped(data);
            }
            AnalyzeEvent::Note(note) => say("note", note),
            AnalyzeEvent::Passing { done, total } => self.passing.set(done, total),
            AnalyzeEvent::Finishing => self.spin("comparing features"),
            AnalyzeEvent::RelatingMetadata => self.spin("relating features to the metadata"),
            AnalyzeEvent::Metadata { path, table, rows } => {
                eprintln!("{}: {} of {} rows named", path.display(), show::count(table.matched), show::count(rows));
                let (names, unknown) = (&table.unknown_names, table.unknown);
                if unknown > 0 {
                    let more = if unknown > names.len() { ", …" } else { "" };
                    eprintln!("no such row: {}{more} ({})", names.join(", "), show::plural(unknown, "name"));
                }
            }
            AnalyzeEvent::Replacing { folder, data } => {
                self.clear();
                let folder = folder.display();
                say("note", &format!("this replaces the analysis of {data} in {folder}; `out DIR` keeps both"));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn spin(&mut self, what: &'static str) {
        self.clear();
        self.spinner = Some(show::spinner(what));
    }

    /// Removes bars and spinner.
    fn clear(&mut self) {
        self.reading.finish();
        self.passing.finish();
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The summary: figures of each SAE, the ten features of the highest score, and the relation to the metadata.
fn summary(analysis: &Analysis) -> String {
    let Analysis { record, .. } = analysis;
    let several = if record.saes.len() > 1 { format!(" in each of {} SAEs", record.saes.len()) } else { String::new() };
    let mut out = format!(
        "{} of {} ({} rows), {} latents{several}\n\n{}\n{}",
        show::plural(record.rows as usize, "row"),
        record.data,
        record.split,
        show::count(record.saes[0].latents as usize),
        table_of_saes(analysis),
        table_of_features(analysis),
    );
    record.metadata.iter().for_each(|column| out += &format!("\n{}", relation_to(column)));
    out + if record.metadata.is_empty() { "" } else { "\n" }
}

fn percent(v: Number) -> String {
    v.get().map_or("–".into(), |v| format!("{:.1} %", 100.0 * v))
}

fn table_of_saes(Analysis { record, .. }: &Analysis) -> String {
    let head = [
        "",
        "Pearson",
        "dead",
        "rare",
        "dense",
        "features for 80 %",
        "Gini",
        "harmful",
        "max frequency",
        "ρ(rank, index)",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (s, sae) in record.saes.iter().enumerate() {
        rows.push(vec![
            format!("SAE {s}"),
            show::figure(sae.pearson.get()),
            show::count(sae.dead as usize),
            show::count(sae.rare as usize),
            show::count(sae.dense as usize),
            percent(sae.usage.carry_80),
            sae.usage.gini.get().map_or("–".into(), |v| format!("{v:.3}")),
            show::count(sae.usage.negative as usize),
            percent(sae.order.top_frequency),
            sae.order.rank_index.get().map_or("–".into(), |v| format!("{v:+.3}")),
        ]);
    }
    show::table(&rows)
}

fn table_of_features(Analysis { columns, .. }: &Analysis) -> String {
    let head = ["rank", "latent", "frequency", "strength", "score", "Δ squared error", "Δ Pearson", "share"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let SaeColumns { latents, examples, .. } = &columns.saes[0];
    for (r, &h) in examples.latent.iter().take(10).enumerate() {
        let h = h as usize;
        rows.push(vec![
            format!("{}", r + 1),
            h.to_string(),
            format!("{:.2} %", 100.0 * latents.frequency[h]),
            format!("{:.4}", latents.strength[h]),
            format!("{:.4}", latents.score[h]),
            show::error(Some(latents.delta_sse[h])),
            format!("{:+.5}", latents.delta_pearson[h]),
            format!("{:.2} %", 100.0 * latents.share[h]),
        ]);
    }
    show::table(&rows)
}

/// The relation of the features to a column of the metadata, as a line.
fn relation_to(column: &MetadataRecord) -> String {
    let (name, left_out) = (&column.column, &column.left_out);
    let Some(found) = column.saes.first().filter(|_| left_out.is_empty()) else {
        return format!("{name}: left out, {left_out}");
    };
    let best = found.top.first().map_or(String::new(), |t| format!(", strongest: feature {} ({:+.3})", t.0, t.1));
    let confounded = column
        .with_classes
        .get()
        .filter(|v| *v > 0.5)
        .map_or(String::new(), |v| format!("; warning: confounded with the classes (association {v:.2})"));
    format!("{name}: {} related (q < 0.05){best}{confounded}", show::plural(found.significant as usize, "feature"))
}
