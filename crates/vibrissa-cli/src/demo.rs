//! `vibrissa demo`: the main job on data that everyone has, with features that are known.

use crate::{eval, pictures, show};
use clap::Args;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vibrissa::analysis::finish::finish;
use vibrissa::analysis::pass::accumulate;
use vibrissa::analysis::recovery::{mmcs, mmcs_chance};
use vibrissa::analysis::{AnalyzeOptions, write_analysis};
use vibrissa::data::Dataset;
use vibrissa::data::split::{SplitOptions, split};
use vibrissa::data::synthetic::Synthetic;
use vibrissa::matrix::Mat;
use vibrissa::model::Sae;
use vibrissa::record::{self, DemoRecord, Number, Ordered};
use vibrissa::report::{self, ReportOptions};
use vibrissa::run::{CheckpointOptions, Folder, RunRows, Start, Training, TrainingEvent, TrainingOutcome};
use vibrissa::train::DataFacts;
use vibrissa::train::defaults::{Wishes, resolve};
use vibrissa::train::evaluate::evaluate;
use vibrissa::{Error, Result};

/// Train on synthetic two-class pictures whose features are known, and say how many were found.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Folder for what it makes
    #[arg(long, value_name = "DIR", default_value = "vibrissa-demo")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What an earlier demonstration left, and the next one replaces; the record goes first, so that a folder without it is
/// never taken for one.
const MADE: [&str; 13] = [
    "model.safetensors",
    "metrics.jsonl",
    "config.toml",
    "eval.json",
    "features.png",
    "reconstructions.png",
    "analysis.json",
    "analysis.safetensors",
    "features.csv",
    "features.parquet",
    "report-figures/report.md",
    "report.html",
    "demo.json",
];

/// Makes room for the next one; what others put there stays.
fn clear(folder: &Path) -> Result<()> {
    let figures = report::figures_in(&report::figures_folder(&folder.join("report.html")));
    let made = MADE.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    for path in figures.into_iter().chain(made) {
        std::fs::remove_file(&path).map_err(Error::io(&path, "replace", "choose another --out"))?;
    }
    Ok(())
}

/// Analyses the features and writes the report.
fn analyse(folder: &Folder, saes: &[Sae], data: &Dataset, rows: &[usize]) -> Result<()> {
    let refs: Vec<&Sae> = saes.iter().collect();
    let pass = accumulate(&refs, data, rows, &mut |_, _| ControlFlow::Continue(()))?.expect("nothing breaks off");
    let mut analysis = finish(&refs, data, &pass, &AnalyzeOptions::default());
    let record = &mut analysis.record;
    (record.run, record.data, record.split) = ("demo".into(), "synthetic".into(), "test".into());
    write_analysis(&folder.0, &mut analysis)?;
    report::write(&folder.0, &ReportOptions::default())?;
    Ok(())
}

fn write_record(folder: &Folder, record: &DemoRecord) -> Result<String> {
    let json = serde_json::to_string(record).expect("plain data");
    vibrissa::io::write_atomically(&folder.0.join("demo.json"), |out| writeln!(out, "{json}"))?;
    Ok(json)
}

/// Runs the demonstration.
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let folder = Folder(args.out.clone());
    if folder.in_use() {
        if record::read_if_valid::<DemoRecord>(&folder.0.join("demo.json"), record::DEMO_SCHEMA).is_none() {
            return Err(Error::file(&folder.0, "exists and was not made by this command", "choose another --out"));
        }
        clear(&folder.0)?;
    }
    folder.create()?;
    write_record(&folder, &DemoRecord::default())?;
    let generator = Synthetic::images();
    let data = Dataset::from_rows(generator.rows())?;
    let parts = split(&data, &SplitOptions::default())?;
    let rows = RunRows {
        train: data.with_variants(&parts.train),
        test: data.without_variants(&parts.test),
        validation: Vec::new(),
    };
    let truth = generator.features();
    eprintln!(
        "{} synthetic pictures of two classes, each a sum of a few of {} known features",
        show::count(data.originals()),
        truth.rows()
    );
    let facts = DataFacts::gather(&data, &rows.train, true);
    // What the field calls the right size: a latent for each true feature with some to spare, and their mean number.
    let wishes = Wishes { latents: Some(2 * truth.rows()), k: Some(8), ..Wishes::default() };
    let options = resolve(&wishes, &facts);
    let text = toml::to_string(&options).expect("plain data");
    vibrissa::io::write_atomically(&folder.0.join("config.toml"), |out| out.write_all(text.as_bytes()))?;
    let (k, mean) = (options.k, facts.mean.clone());
    let bar = show::Bar::new("training");
    let mut all = 0;
    let checkpoints = CheckpointOptions::default();
    let training =
        Training { folder: &folder, data: &data, rows: &rows, facts: &facts, options: &options, checkpoints };
    let outcome = training.run(Start::Initialise, &mut |event| {
        match event {
            TrainingEvent::Started { steps, .. } => all = steps as usize,
            TrainingEvent::Step(report) => bar.set(report.step as usize + 1, all),
            _ => (),
        }
        ControlFlow::Continue(())
    });
    bar.finish();
    let TrainingOutcome::Finished(saes) = outcome? else { unreachable!("nothing breaks off") };
    let evaluation = evaluate(&[&saes[0]], Some(&mean), &data, &rows.test, true, &mut |_, _| ()).record();
    pictures::write(&folder.0, &saes, &data, &rows, true)?;
    vibrissa::io::write_json(&folder.0.join("eval.json"), &evaluation)?;
    analyse(&folder, &saes, &data, &rows.test)?;
    let sae = &saes[0];
    let mut decoder = Mat::zeros(sae.config().latents, data.dim());
    for h in 0..decoder.rows() {
        decoder.row_mut(h).copy_from_slice(&sae.feature(h));
    }
    let scores = &evaluation.saes[0].scores;
    let record = DemoRecord {
        pearson: scores.reconstruction.pearson,
        pearson_mean_image: evaluation.mean_image.scores.pearson,
        recovery: Some(mmcs(decoder.view(), truth.view())),
        recovery_chance: Some(mmcs_chance(decoder.rows(), truth.view(), 1)),
        dead_latents: scores.dead_latents,
        rows: Some(evaluation.rows),
        latents: Some(decoder.rows() as u64),
        k: Some(k as u64),
        l0: scores.l0,
        fvu: scores.reconstruction.fvu,
        seconds: Some(started.elapsed().as_secs_f64()),
        pearson_by_class: Ordered(
            evaluation.saes[0]
                .by_class
                .0
                .iter()
                .map(|(n, c)| (n.clone(), Number(c.scores.reconstruction.pearson)))
                .collect(),
        ),
        ..DemoRecord::default()
    };
    let json = write_record(&folder, &record)?;
    if args.json {
        println!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", eval::report(&evaluation));
    println!(
        "\nmean best |cos| of {} true features with a learned one: {} (random directions: {})",
        truth.rows(),
        show::figure(record.recovery),
        show::figure(record.recovery_chance),
    );
    println!("{} of {} latents are never used", record.dead_latents.unwrap_or(0), decoder.rows());
    println!("pictures: {0}/features.png and {0}/reconstructions.png", folder.0.display());
    println!("report: open {}/report.html in a browser", folder.0.display());
    println!("took {}", show::seconds(started.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_figure_of_an_earlier_demonstration_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let figures = dir.path().join("report-figures");
        std::fs::create_dir(&figures).expect("made");
        let made = [
            figures.join("loss.svg"),
            figures.join("loss.png"),
            figures.join("report.md"),
            dir.path().join("demo.json"),
        ];
        let mine = figures.join("notes.txt");
        made.iter().chain([&mine]).for_each(|path| std::fs::write(path, "x").expect("written"));
        clear(dir.path()).expect("cleared");
        assert!(made.iter().all(|path| !path.exists()) && mine.exists());
    }
}
