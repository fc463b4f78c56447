//! Reading of the records of a run or a sweep, and writing of its report.

use super::figures::Figure;
use super::sweep::{self, ConfigurationImages, SweepReport};
use super::{Language, RunReport, figures, html, markdown};
use crate::plot::raster;
use crate::plot::svg::Target;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use vibrissa_core::io::write_atomically;
use vibrissa_core::{Error, Result};
use vibrissa_record::analysis::{Analysis, PRUNE_SCHEMA, PruneRecord};
use vibrissa_record::sweep::{SWEEP_SCHEMA, SweepRecord};
use vibrissa_record::{self as record, EVAL_SCHEMA, EvalRecord, MetricsLine};

/// Options of [`write`].
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// The page. Default: `report.html` in the folder of the run.
    pub out: Option<PathBuf>,
    /// Language of the report. Default: English.
    pub language: Language,
}

/// The files that [`write`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenReport {
    /// The page.
    pub page: PathBuf,
    /// Size of the page, bytes.
    pub page_bytes: usize,
    /// The folder of its text (`report.md`) and of its figures as SVG and PNG.
    pub folder: PathBuf,
}

/// Writes the report of a run that `vibrissa analyze` has analysed, or of a sweep: one HTML page, and beside it a
/// folder with the text as Markdown and every figure as SVG and PNG. Figures of an earlier report are removed from the
/// folder.
///
/// ```no_run
/// use vibrissa_report::report::{Language, ReportOptions, write};
/// let written = write("run".as_ref(), &ReportOptions { language: Language::Zh, ..ReportOptions::default() })?;
/// println!("open {}", written.page.display());
/// # Ok::<(), vibrissa_core::Error>(())
/// ```
///
/// # Errors
/// A folder without the records that a report needs; a record that is damaged or newer than this version; a file that
/// cannot be written. Each file is written whole or not at all.
pub fn write(folder: &Path, options: &ReportOptions) -> Result<WrittenReport> {
    let out = options.out.clone().unwrap_or_else(|| folder.join("report.html"));
    if out.is_dir() {
        let remedy = format!("name a file, for example {}", out.join("report.html").display());
        return Err(Error::option("out", "a file", format!("the folder {}", out.display()), remedy));
    }
    // A sweep that was interrupted has cells, but no record yet.
    if folder.join("sweep.json").exists() || folder.join("cells").is_dir() {
        write_sweep(folder, out, options.language)
    } else {
        write_run(folder, out, options.language)
    }
}

/// The folder of the text and the figures of a page: `report-figures` beside `report.html`.
pub fn figures_folder(page: &Path) -> PathBuf {
    let name = page.file_stem().map_or_else(|| "report".into(), |n| n.to_string_lossy());
    page.with_file_name(format!("{name}-figures"))
}

/// The figures in a folder; none if it cannot be read.
pub fn figures_in(folder: &Path) -> Vec<PathBuf> {
    let is_figure = |path: &PathBuf| path.extension().is_some_and(|e| e == "svg" || e == "png");
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).filter(is_figure).collect()
}

fn write_run(run: &Path, out: PathBuf, language: Language) -> Result<WrittenReport> {
    let analysis = Analysis::read(run)?;
    let eval = |name: &str| record::read::<EvalRecord>(&run.join(name), EVAL_SCHEMA, "remove it, or make it again");
    // Scores of rows that were held out once each say more than scores of training rows.
    let eval = match eval("eval-folds.json")? {
        Some(folds) => Some(folds),
        None => eval("eval.json")?,
    };
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let metrics: Vec<MetricsLine> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let curve = |p: &PathBuf| record::read(p, PRUNE_SCHEMA, "remove it, or run vibrissa prune again").transpose();
    let pruning: Vec<PruneRecord> = PruneRecord::paths(run).iter().filter_map(curve).collect::<Result<_>>()?;
    let report = RunReport {
        analysis: &analysis.record,
        columns: &analysis.columns,
        eval: eval.as_ref(),
        metrics: &metrics,
        pruning: &pruning,
        language,
    };
    let drawn = figures(&report, Target::File);
    let text = markdown(&report, &drawn);
    save(out, &drawn, &text, &html(&report))
}

fn write_sweep(folder: &Path, out: PathBuf, language: Language) -> Result<WrittenReport> {
    let remedy = "make it again with the same vibrissa sweep and --resume";
    let path = folder.join("sweep.json");
    let Some(sweep) = record::read::<SweepRecord>(&path, SWEEP_SCHEMA, remedy)? else {
        return Err(Error::file(&path, "no such file", remedy));
    };
    let images: Vec<ConfigurationImages> = sweep::side_by_side(&sweep)
        .iter()
        .filter_map(|c| {
            let cell = folder.join("cells").join(&sweep.cell_of(c)?.name);
            let read = |name: &str| std::fs::read(cell.join(name)).ok();
            Some(ConfigurationImages {
                configuration: c.name.clone(),
                reconstructions: read(sweep::RECONSTRUCTIONS_FILE)?,
                features: read(sweep::FEATURES_FILE)?,
            })
        })
        .collect();
    let originals = std::fs::read(folder.join(sweep::ORIGINALS_FILE)).ok();
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = absolute.file_name().map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into_owned());
    let report = SweepReport { sweep: &sweep, name: &name, originals: originals.as_deref(), images: &images, language };
    let drawn = sweep::figures(&report, Target::File);
    let text = sweep::markdown(&report, &drawn);
    save(out, &drawn, &text, &sweep::html(&report))
}

/// Writes figures and text into the folder of the page, then the page.
fn save(page: PathBuf, drawn: &[Figure], text: &str, html: &str) -> Result<WrittenReport> {
    let folder = figures_folder(&page);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder", "choose another place"))?;
    drawn.par_iter().try_for_each(|figure| {
        let path = |kind: &str| folder.join(format!("{}.{kind}", figure.name));
        write_atomically(&path("svg"), |file| file.write_all(figure.svg.as_bytes()))?;
        let png =
            raster::png(&figure.svg, 2.0).map_err(|e| Error::file(path("png"), e, "this is a bug in vibrissa"))?;
        write_atomically(&path("png"), |file| file.write_all(&png))
    })?;
    write_atomically(&folder.join("report.md"), |file| file.write_all(text.as_bytes()))?;
    for earlier in figures_in(&folder) {
        if !drawn.iter().any(|f| earlier.file_stem().is_some_and(|n| n == f.name.as_str())) {
            let _ = std::fs::remove_file(earlier);
        }
    }
    write_atomically(&page, |file| file.write_all(html.as_bytes()))?;
    Ok(WrittenReport { page, page_bytes: html.len(), folder })
}
