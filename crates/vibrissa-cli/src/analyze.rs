//! `vibrissa analyze`: what the features of a run do on given rows.

use crate::data::{DataArgs, read_data};
use crate::part::{Part, names_hash};
use crate::show;
use crate::table::{self, Table};
use clap::Args;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vibrissa::analysis::finish::{Options, add_metadata, finish};
use vibrissa::analysis::history::{CheckpointLatents, history, history_rows, measure_checkpoint};
use vibrissa::analysis::pass::{PassSums, accumulate};
use vibrissa::analysis::shard::{self, SHARD_SCHEMA};
use vibrissa::data::Dataset;
use vibrissa::data::metadata::MetadataTable as Metadata;
use vibrissa::format::{self, Model};
use vibrissa::io::write_atomically;
use vibrissa::model::Sae;
use vibrissa::record::analysis::columns::SaeColumns;
use vibrissa::record::analysis::{ANALYSIS_SCHEMA, Analysis, AnalysisRecord, PruneRecord};
use vibrissa::record::columns::StoredColumns;
use vibrissa::record::{self, Number};
use vibrissa::run::Folder;
use vibrissa::{Error, Result};

/// Rank the features of a run by importance, measure each one's contribution exactly, relate them to classes and to
/// each other.
#[derive(Args, Debug)]
pub struct AnalyzeArgs {
    /// A run (or a model file)
    run: PathBuf,
    /// The data to look at
    data: String,
    #[command(flatten)]
    common: Common,
    /// Look at the I-th of N parts of the rows only, and write DIR/shard-I-of-N.safetensors for merge (I from 1)
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
}

/// What analyze and merge share.
#[derive(Args, Debug)]
struct Common {
    /// Rows to look at
    #[arg(long, value_enum, default_value = "all")]
    split: Part,
    /// Folder for the results [default: RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Weights of frequency and strength in the score
    #[arg(long, value_name = "F,S", default_value = "0.7,0.3")]
    weights: String,
    /// A CSV file, names of files and then any columns: relates features to each column
    #[arg(long, value_name = "FILE.csv")]
    metadata: Option<PathBuf>,
    /// Features whose example rows are pictured, the first so many by score
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pictured: usize,
    /// Leave out files that cannot be read, and list them
    #[arg(long)]
    skip_bad: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl Common {
    fn options(&self) -> Result<Options> {
        Ok(Options { weights: weights(&self.weights)?, pictured: self.pictured })
    }

    fn metadata(&self, data: &Dataset, originals: &[usize]) -> Result<Option<Metadata>> {
        let Some(path) = &self.metadata else { return Ok(None) };
        let table = Metadata::read(path, data, originals)?;
        let (names, unknown) = (&table.unknown_names, table.unknown);
        eprintln!("{}: {} of {} rows named", path.display(), show::count(table.matched), show::count(originals.len()));
        if unknown > 0 {
            let more = if unknown > names.len() { ", …" } else { "" };
            eprintln!("no such row: {}{more} ({})", names.join(", "), show::plural(unknown, "name"));
        }
        Ok(Some(table))
    }

    fn folder(&self, run: &Path) -> PathBuf {
        match (&self.out, run.is_dir()) {
            (Some(out), _) => out.clone(),
            (None, true) => run.to_path_buf(),
            (None, false) => run.parent().map(Path::to_path_buf).unwrap_or_default(),
        }
    }
}

fn weights(text: &str) -> Result<[f64; 2]> {
    let parts: Vec<f64> = text.split(',').filter_map(|p| p.trim().parse().ok()).collect();
    match parts[..] {
        [f, s] if f.is_finite() && s.is_finite() && f >= 0.0 && s >= 0.0 && f + s > 0.0 => Ok([f, s]),
        _ => Err(Error::option("--weights", "two numbers, 0 or more", text, "for example 0.7,0.3")),
    }
}

/// `I/N` as the part from 0 and the number of parts.
fn part(text: &str) -> Result<(usize, usize)> {
    let number = |t: &str| t.parse::<usize>().ok();
    match text.split_once('/').and_then(|(i, n)| number(i).zip(number(n))) {
        Some((i, n)) if i >= 1 && i <= n => Ok((i - 1, n)),
        _ => Err(Error::option("--shard", "I/N with I from 1 to N", text, "for example 2/8")),
    }
}

/// What shards must have in common: models and rows.
fn belonging(run: &Path, data: &Dataset, rows: &[usize]) -> Result<[u8; 32]> {
    let mut hash = blake3::Hasher::new();
    let path = format::model_file(run)?;
    let io = Error::io(&path, "read the model", "give a run folder or a model.safetensors that exists");
    hash.update_mmap(&path).map_err(io)?;
    hash.update(names_hash(data).as_bytes());
    rows.iter().for_each(|r| {
        hash.update(&(*r as u64).to_le_bytes());
    });
    Ok(*hash.finalize().as_bytes())
}

/// Analyses.
pub fn run(args: AnalyzeArgs) -> Result<ExitCode> {
    let options = args.common.options()?;
    let shard = args.shard.as_deref().map(part).transpose()?;
    if shard.is_some() && args.common.metadata.is_some() {
        let remedy = "give it to vibrissa merge";
        return Err(Error::option("--metadata", "the whole of the rows", "a shard of them", remedy));
    }
    let opened = Opened::new(&args.run, &args.data, &args.common)?;
    let (data, rows) = (&opened.data, &opened.rows[..]);
    // All patches of a picture are in one part.
    let (each, whole) = (data.rows_per_image(), rows.len() / data.rows_per_image());
    let own = shard.map_or(rows, |(i, n)| &rows[i * whole / n * each..(i + 1) * whole / n * each]);
    if own.is_empty() {
        let remedy = "ask for fewer parts";
        return Err(Error::option("--shard", format!("at most {whole} parts"), "a part without rows", remedy));
    }
    let bar = show::Bar::new("analysing");
    let began = Instant::now();
    let progress = &mut |done, total| {
        bar.set(done, total);
        ControlFlow::Continue(())
    };
    let gathered = accumulate(&opened.saes(), data, own, progress).map(|sums| sums.expect("nothing breaks off"));
    let rows_per_s = own.len() as f64 / began.elapsed().as_secs_f64();
    bar.finish();
    if let Some((i, n)) = shard {
        let columns = shard::to_columns(&gathered?, &belonging(&args.run, data, rows)?);
        let folder = args.common.folder(&args.run);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder", "choose another --out"))?;
        let path = folder.join(format!("shard-{}-of-{n}.safetensors", i + 1));
        columns.write(&path, SHARD_SCHEMA)?;
        eprintln!("{} · {}", path.display(), show::plural(own.len(), "row"));
        return Ok(ExitCode::SUCCESS);
    }
    opened.write(&gathered?, &options, Some(rows_per_s))
}

/// Put the shards of one analysis together: the result is that of one pass, to the last digit.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// The run that was analysed
    run: PathBuf,
    /// The data that was analysed
    data: String,
    /// All shards
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Merges.
pub fn merge(args: MergeArgs) -> Result<ExitCode> {
    let options = args.common.options()?;
    let opened = Opened::new(&args.run, &args.data, &args.common)?;
    let rows = &opened.rows[..];
    let own = belonging(&args.run, &opened.data, rows)?;
    let mut whole: Option<PassSums> = None;
    for path in &args.shards {
        const AGAIN: &str = "make it again with vibrissa analyze --shard";
        let columns = StoredColumns::read(path, SHARD_SCHEMA, AGAIN)?;
        let (gathered, key) = shard::from_columns(&columns).map_err(|e| e.in_file(path, AGAIN))?;
        if key != own {
            let remedy = "merge shards of one analysis, with its RUN, DATA and --split";
            return Err(Error::file(path, "is of another model or of other rows", remedy));
        }
        match &mut whole {
            Some(whole) => whole.merge(gathered),
            None => whole = Some(gathered),
        }
    }
    let whole = whole.expect("clap saw one");
    let rows = &opened.data.first_rows(rows)[..];
    let seen: Vec<u64> = whole.saes[0].rows.iter().map(|r| r.row).collect();
    if seen.len() != rows.len() || !seen.iter().zip(rows).all(|(&a, &b)| a == b as u64) {
        let found = format!("{} of {} rows, some twice or not at all", seen.len(), rows.len());
        return Err(Error::option("shards", "every row once", found, "give each of the N shards once"));
    }
    opened.write(&whole, &options, None)
}

/// A run and the rows to look at.
struct Opened<'a> {
    run: &'a Path,
    spec: &'a str,
    common: &'a Common,
    model: Model,
    data: Dataset,
    rows: Vec<usize>,
    /// What `--metadata` says of the rows.
    metadata: Option<Metadata>,
    started: Instant,
}

impl<'a> Opened<'a> {
    fn new(run: &'a Path, spec: &'a str, common: &'a Common) -> Result<Opened<'a>> {
        let started = Instant::now();
        let model = format::read_model(run)?;
        let how = DataArgs { skip_bad: common.skip_bad, ..DataArgs::default() };
        let data = read_data(run, &model, spec, how)?;
        let originals = common.split.originals(&[run.to_path_buf()], spec, &data)?;
        let rows = data.without_variants(&originals);
        let metadata = common.metadata(&data, &originals)?;
        Ok(Opened { run, spec, common, model, data, rows, metadata, started })
    }

    fn saes(&self) -> Vec<&Sae> {
        self.model.saes.iter().collect()
    }

    /// Adds the history of the latents: at the checkpoints that the run kept (`--keep`), and at its end.
    fn add_history(&self, options: &Options, analysis: &mut Analysis) -> Result<()> {
        let kept = Folder(self.run.to_path_buf()).history();
        if kept.is_empty() {
            return Ok(());
        }
        let rows = history_rows(&self.data, &self.rows);
        let mut moments: Vec<Vec<CheckpointLatents>> = vec![Vec::new(); self.model.saes.len()];
        for (step, path) in &kept {
            let model = format::read_model(path)?;
            for (own, sae) in moments.iter_mut().zip(&model.saes) {
                own.push(measure_checkpoint(*step, sae, &self.data, &rows, options.weights));
            }
        }
        let last = Folder(self.run.to_path_buf()).last_step();
        for (own, sae) in moments.iter_mut().zip(&self.model.saes) {
            own.push(measure_checkpoint(last, sae, &self.data, &rows, options.weights));
        }
        let saes = analysis.record.saes.iter_mut().zip(&mut analysis.columns.saes);
        for ((record, columns), moments) in saes.zip(&moments) {
            let (records, found) = history(moments).unzip();
            (record.history, columns.history) = (records.unwrap_or_default(), found);
        }
        Ok(())
    }

    fn write(&self, gathered: &PassSums, options: &Options, rows_per_s: Option<f64>) -> Result<ExitCode> {
        let (folder, saes) = (self.common.folder(self.run), self.saes());
        let spinner = show::spinner("comparing features");
        let mut analysis = finish(&saes, &self.data, gathered, options);
        spinner.finish_and_clear();
        self.add_history(options, &mut analysis)?;
        if let Some(table) = &self.metadata {
            let spinner = show::spinner("relating features to what is known of the rows");
            add_metadata(&mut analysis, &saes, &self.data, &self.rows, table);
            spinner.finish_and_clear();
        }
        let record = &mut analysis.record;
        record.run = self.run.display().to_string();
        record.data = self.spec.to_owned();
        record.split = self.common.split.name().into();
        record.rows_per_s = Number(rows_per_s);
        record.seconds = Number::from(self.started.elapsed().as_secs_f64());
        let before = record::read_if_valid::<AnalysisRecord>(&Analysis::record_path(&folder), ANALYSIS_SCHEMA);
        if let Some(before) = before.filter(|b| b.data != record.data) {
            let (folder, of) = (folder.display(), before.data);
            eprintln!("note: this replaces the analysis of {of} in {folder}; --out DIR keeps both");
        }
        write(&folder, &mut analysis)?;
        if self.common.json {
            println!("{}", serde_json::to_string(&analysis.record).expect("plain data"));
        } else {
            print!("{}", summary(&analysis));
            eprintln!(
                "\nwrote {0}/analysis.json, analysis.safetensors{1} and features.csv; next: vibrissa report {0}",
                folder.display(),
                if self.metadata.is_some() { ", features-metadata.csv" } else { "" }
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the columns, the tables and, last, the record.
pub fn write(folder: &Path, analysis: &mut Analysis) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "make the folder", "choose another --out"))?;
    // Curves of pruning are of another analysis.
    PruneRecord::paths(folder).iter().for_each(|stale| drop(std::fs::remove_file(stale)));
    analysis.write(folder)?;
    let Analysis { record, columns } = &*analysis;
    let tables = [
        ("features", Some(table::features(record, columns))),
        ("features-metadata", (!record.metadata.is_empty()).then(|| table::metadata(record, columns))),
    ];
    for (name, table) in tables {
        type Write = fn(&Table, &mut dyn std::io::Write) -> std::io::Result<()>;
        let kinds: &[(&str, Write)] = &[
            ("csv", Table::csv),
            #[cfg(feature = "parquet")]
            ("parquet", Table::parquet),
        ];
        #[cfg(not(feature = "parquet"))]
        let _ = std::fs::remove_file(folder.join(format!("{name}.parquet")));
        for (kind, write) in kinds {
            let path = folder.join(format!("{name}.{kind}"));
            match &table {
                Some(table) => write_atomically(&path, |out| write(table, out))?,
                // One of another analysis would tell of rows that nobody looked at.
                None => drop(std::fs::remove_file(&path)),
            }
        }
    }
    Ok(())
}

/// What stands out, for a person.
fn summary(Analysis { record, columns }: &Analysis) -> String {
    let mut out = format!(
        "{} of {} ({} rows), {} latents{}\n\n",
        show::plural(record.rows as usize, "row"),
        record.data,
        record.split,
        show::count(record.saes[0].latents as usize),
        if record.saes.len() > 1 { format!(" in each of {} SAEs", record.saes.len()) } else { String::new() },
    );
    let percent = |v: Number| v.get().map_or("–".into(), |v| format!("{:.1} %", 100.0 * v));
    let mut rows = vec![
        ["", "Pearson", "unused", "rare", "dense", "80 % carried by", "Gini", "harmful", "top frequency", "rank~index"]
            .map(str::to_owned)
            .to_vec(),
    ];
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
    out += &show::table(&rows);
    out += "\n";
    let mut rows = vec![
        ["rank", "latent", "frequency", "strength", "score", "Δ squared error", "Δ Pearson", "share"]
            .map(str::to_owned)
            .to_vec(),
    ];
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
    out += &show::table(&rows);
    for known in &record.metadata {
        out += &match (&known.left_out[..], known.saes.first()) {
            ("", Some(own)) => {
                let best = own.top.first().map_or(String::new(), |t| format!(", most feature {} ({:+.3})", t.0, t.1));
                let same = known.with_classes.get().filter(|v| *v > 0.5);
                let same = same.map_or(String::new(), |v| {
                    format!("; beware: it and the classes go together (association {v:.2})")
                });
                format!(
                    "\n{}: {} related (q < 0.05){best}{same}",
                    known.column,
                    show::plural(own.significant as usize, "feature")
                )
            }
            (why, _) => format!("\n{}: left out, {why}", known.column),
        };
    }
    out + if record.metadata.is_empty() { "" } else { "\n" }
}
