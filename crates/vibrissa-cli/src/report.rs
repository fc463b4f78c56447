//! `vibrissa report`: what `vibrissa analyze` or `vibrissa sweep` found as one HTML page.

use crate::sweep::is_sweep;
use crate::{pictures, prune, show};
use clap::Args;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vibrissa::io::write_atomically;
use vibrissa::plot::raster;
use vibrissa::plot::svg::Target;
use vibrissa::record::analysis::{Analysis, PRUNE_SCHEMA, PruneRecord};
use vibrissa::record::sweep::{SWEEP_SCHEMA, SweepRecord};
use vibrissa::record::{self, EVAL_SCHEMA, EvalRecord, MetricsLine};
use vibrissa::report::figures::{Figure, figures};
use vibrissa::report::sweep::{self as of_sweep, Pictures, SweepReport};
use vibrissa::report::words::Words;
use vibrissa::report::{Language, Report, html, markdown};
use vibrissa::{Error, Result};

/// Write one HTML page about the features of a run, from what analyze left there, or about a sweep, and beside it the text
/// as Markdown and every figure as SVG and PNG; neither data nor network is needed.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// A folder that analyze has written to, or one of vibrissa sweep
    run: PathBuf,
    /// The page [default: RUN/report.html]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Language: en or zh
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = language)]
    lang: Language,
}

fn language(text: &str) -> std::result::Result<Language, String> {
    match text {
        "en" => Ok(Language::En),
        "zh" => Ok(Language::Zh),
        _ => Err("expected en or zh".into()),
    }
}

/// Writes the page.
pub fn run(args: ReportArgs) -> Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    if out.is_dir() {
        let remedy = format!("name a file, for example {}", out.join("report.html").display());
        return Err(Error::option("--out", "a file", format!("the folder {}", out.display()), remedy));
    }
    let spinner = show::spinner("drawing");
    let size = match is_sweep(&args.run) {
        true => write_sweep(&args.run, &out, args.lang),
        false => write(&args.run, &out, args.lang),
    };
    spinner.finish_and_clear();
    eprintln!("{} · {:.1} MB; open it in a browser", out.display(), size? as f64 / 1e6);
    eprintln!("{}/: report.md, and every figure as SVG and PNG", folder_of(&out).display());
    Ok(ExitCode::SUCCESS)
}

/// Where the text and the figures of a page go: `report-figures` beside `report.html`.
pub fn folder_of(page: &Path) -> PathBuf {
    let name = page.file_stem().map_or_else(|| "report".into(), |n| n.to_string_lossy());
    page.with_file_name(format!("{name}-figures"))
}

/// The figures that a page before left there.
pub fn figures_in(folder: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.extension().is_some_and(|e| e == "svg" || e == "png");
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).filter(ours).collect()
}

/// The page of a folder's analysis, the text and the figures; gives the length of the page, bytes.
pub fn write(run: &Path, out: &Path, language: Language) -> Result<usize> {
    let analysis = Analysis::read(run)?;
    let eval = |name: &str| record::read::<EvalRecord>(&run.join(name), EVAL_SCHEMA, "remove it, or make it again");
    // Every row held out once says more than rows that were trained on.
    let eval = match eval("eval-folds.json")? {
        Some(folds) => Some(folds),
        None => eval("eval.json")?,
    };
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let metrics: Vec<MetricsLine> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let curve = |p: &PathBuf| record::read(p, PRUNE_SCHEMA, "remove it, or run vibrissa prune again").transpose();
    let pruning: Vec<PruneRecord> = prune::curves(run).iter().filter_map(curve).collect::<Result<_>>()?;
    let report = Report {
        analysis: &analysis.record,
        columns: &analysis.columns,
        eval: eval.as_ref(),
        metrics: &metrics,
        pruning: &pruning,
        language,
    };
    let drawn = figures(&report, &Words::of(language), Target::File);
    let text = markdown(&report, &drawn);
    save(out, &drawn, &text, &html(&report))
}

/// The page, the text and the figures; gives the length of the page, bytes.
fn save(out: &Path, drawn: &[Figure], text: &str, page: &str) -> Result<usize> {
    let folder = folder_of(out);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder", "choose another --out"))?;
    drawn.par_iter().try_for_each(|figure| {
        let path = |kind: &str| folder.join(format!("{}.{kind}", figure.name));
        write_atomically(&path("svg"), |file| file.write_all(figure.svg.as_bytes()))?;
        let png =
            raster::png(&figure.svg, 2.0).map_err(|e| Error::file(path("png"), e, "this is an error of vibrissa"))?;
        write_atomically(&path("png"), |file| file.write_all(&png))
    })?;
    write_atomically(&folder.join("report.md"), |file| file.write_all(text.as_bytes()))?;
    // Figures of a record before, which this one has nothing for.
    for old in figures_in(&folder) {
        if !drawn.iter().any(|f| old.file_stem().is_some_and(|n| n == f.name.as_str())) {
            let _ = std::fs::remove_file(old);
        }
    }
    write_atomically(out, |file| file.write_all(page.as_bytes()))?;
    Ok(page.len())
}

/// The same of a sweep.
fn write_sweep(folder: &Path, out: &Path, language: Language) -> Result<usize> {
    let again = "make it again with the same vibrissa sweep and --resume";
    let path = folder.join("sweep.json");
    let Some(sweep) = record::read::<SweepRecord>(&path, SWEEP_SCHEMA, again)? else {
        return Err(Error::file(&path, "no such file", again));
    };
    let strips: Vec<Pictures> = of_sweep::side_by_side(&sweep)
        .iter()
        .filter_map(|c| {
            let cell = sweep.cell_of(c)?;
            let own = folder.join("cells").join(&cell.name);
            let read = |name: &str| std::fs::read(own.join(name)).ok();
            Some(Pictures { configuration: c.name.clone(), strip: read(pictures::STRIP)?, wall: read(pictures::WALL)? })
        })
        .collect();
    let originals = std::fs::read(folder.join(pictures::ORIGINALS)).ok();
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = whole.file_name().map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into_owned());
    let report =
        SweepReport { sweep: &sweep, name: &name, originals: originals.as_deref(), pictures: &strips, language };
    let drawn = of_sweep::figures(&report, Target::File);
    let text = of_sweep::markdown(&report, &drawn);
    save(out, &drawn, &text, &of_sweep::html(&report))
}
