//! `vibrissa demo`: training, evaluation, analysis and report on synthetic images with known features.

use crate::{eval, show};
use clap::Args;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vibrissa::analysis::finish::finish;
use vibrissa::analysis::pass::accumulate;
use vibrissa::analysis::{AnalyzeOptions, write_analysis};
use vibrissa::data::synthetic::Synthetic;
use vibrissa::io::write_json;
use vibrissa::matrix::Mat;
use vibrissa::model::Sae;
use vibrissa::options::{PartialTrainOptions, RunOptions};
use vibrissa::record::{self, DemoRecord, Number, Ordered};
use vibrissa::recovery::{mmcs, mmcs_chance};
use vibrissa::report::{self, ReportOptions};
use vibrissa::run::{Event, Finished, Folder, Outcome, Prepared, RunRequest, TrainingEvent};
use vibrissa::{Error, Result};

/// Train on synthetic images of two classes whose features are known, and report how many were found.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Folder for all files of the demonstration
    #[arg(long, value_name = "DIR", default_value = "vibrissa-demo")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Files of an earlier demonstration, which the next one replaces. The record is removed last: a folder without it is
/// not one of this command.
const FILES: [&str; 13] = [
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

/// Removes the files of an earlier demonstration; other files stay.
fn clear(folder: &Path) -> Result<()> {
    let figures = report::figures_in(&report::figures_folder(&folder.join("report.html")));
    let files = FILES.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    for path in figures.into_iter().chain(files) {
        std::fs::remove_file(&path).map_err(Error::io(&path, "replace", "choose another `out`"))?;
    }
    Ok(())
}

/// Analyses the features and writes the report.
fn analyse(folder: &Folder, finished: &Finished) -> Result<()> {
    let (data, saes): (_, Vec<&Sae>) = (&finished.prepared.data, finished.saes.iter().collect());
    let rows = &finished.prepared.rows.test;
    let pass = accumulate(&saes, data, rows, &mut |_, _| ControlFlow::Continue(()))?.expect("nothing stops it");
    let mut analysis = finish(&saes, data, &pass, &AnalyzeOptions::default());
    let record = &mut analysis.record;
    (record.run, record.data, record.split) = ("demo".into(), "synthetic".into(), "test".into());
    write_analysis(&folder.0, &mut analysis)?;
    report::write(&folder.0, &ReportOptions::default())?;
    Ok(())
}

/// Trains on `generator`'s rows: two latents for each known feature, and 8 active latents per row.
fn train(out: &Path, features: usize) -> Result<Finished> {
    let train = PartialTrainOptions { latents: Some(2 * features), k: Some(8), ..PartialTrainOptions::default() };
    let options = RunOptions { train, ..RunOptions::default() };
    let request = RunRequest {
        data: "synthetic:".into(),
        out: out.to_path_buf(),
        options,
        other_files: true,
        ..RunRequest::default()
    };
    let bar = show::Bar::new("training");
    let mut steps = 0;
    let outcome = vibrissa::run::run(&request, &mut |event| {
        match event {
            Event::Prepared(Prepared { data, .. }) => eprintln!(
                "{} synthetic images of two classes, each a sum of a few of {features} known features",
                show::count(data.originals())
            ),
            Event::Training { event: TrainingEvent::Started { steps: all, .. }, .. } => steps = all as usize,
            Event::Training { event: TrainingEvent::Step(report), .. } => bar.set(report.step as usize + 1, steps),
            _ => (),
        }
        ControlFlow::Continue(())
    });
    bar.finish();
    let Outcome::Finished(finished) = outcome? else { unreachable!("nothing stops it") };
    Ok(*finished)
}

/// Runs the demonstration.
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let folder = Folder(args.out.clone());
    if folder.in_use() {
        let earlier = record::read_if_valid::<DemoRecord>(&folder.0.join("demo.json"), record::DEMO_SCHEMA);
        if earlier.is_none() {
            return Err(Error::file(&folder.0, "exists and was not made by this command", "choose another `out`"));
        }
        clear(&folder.0)?;
    }
    // A folder with this record is one of this command, also if it is stopped before the end.
    folder.create()?;
    write_json(&folder.0.join("demo.json"), &DemoRecord::default())?;
    let truth = Synthetic::images().features();
    let finished = train(&folder.0, truth.rows())?;
    analyse(&folder, &finished)?;
    let record = record_of(&finished, &truth, started);
    write_json(&folder.0.join("demo.json"), &record)?;
    if args.json {
        println!("{}", serde_json::to_string(&record).expect("plain data"));
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", eval::report(&finished.eval));
    println!(
        "\nmean best |cos| of {} true features with a learned one: {} (random directions: {})",
        truth.rows(),
        show::figure(record.recovery),
        show::figure(record.recovery_chance),
    );
    println!("{} of {} latents are dead", record.dead_latents.unwrap_or(0), record.latents.unwrap_or(0));
    println!("images: {0}/features.png and {0}/reconstructions.png", folder.0.display());
    println!("report: open {}/report.html in a browser", folder.0.display());
    println!("took {}", show::seconds(started.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

fn record_of(finished: &Finished, truth: &Mat, started: Instant) -> DemoRecord {
    let sae = &finished.saes[0];
    let mut decoder = Mat::zeros(sae.config().latents, finished.prepared.data.dim());
    for h in 0..decoder.rows() {
        decoder.row_mut(h).copy_from_slice(&sae.feature(h));
    }
    let eval = &finished.eval;
    let scores = &eval.saes[0].scores;
    DemoRecord {
        pearson: scores.reconstruction.pearson,
        pearson_mean_image: eval.mean_image.scores.pearson,
        recovery: Some(mmcs(decoder.view(), truth.view())),
        recovery_chance: Some(mmcs_chance(decoder.rows(), truth.view(), 1)),
        dead_latents: scores.dead_latents,
        rows: Some(eval.rows),
        latents: Some(decoder.rows() as u64),
        k: Some(finished.prepared.options.k as u64),
        l0: scores.l0,
        fvu: scores.reconstruction.fvu,
        seconds: Some(started.elapsed().as_secs_f64()),
        pearson_by_class: Ordered(
            eval.saes[0].by_class.0.iter().map(|(n, c)| (n.clone(), Number(c.scores.reconstruction.pearson))).collect(),
        ),
        ..DemoRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_figure_of_an_earlier_demonstration_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let figures = dir.path().join("report-figures");
        std::fs::create_dir(&figures).expect("a folder");
        let files = [
            figures.join("loss.svg"),
            figures.join("loss.png"),
            figures.join("report.md"),
            dir.path().join("demo.json"),
        ];
        let other = figures.join("notes.txt");
        files.iter().chain([&other]).for_each(|path| std::fs::write(path, "x").expect("written"));
        clear(dir.path()).expect("cleared");
        assert!(files.iter().all(|path| !path.exists()) && other.exists());
    }
}
