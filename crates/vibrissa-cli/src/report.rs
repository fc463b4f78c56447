//! `vibrissa report`: what `vibrissa analyze` found as one HTML page.

use crate::show;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vibrissa::format::{self, write_atomically};
use vibrissa::record::analysis::{ANALYSIS_SCHEMA, AnalysisRecord};
use vibrissa::record::{self, EVAL_SCHEMA, EvalRecord, MetricsLine};
use vibrissa::report::{Language, Report, html};
use vibrissa::{Error, Result};

/// Write one HTML page about the features of a run, from what analyze left there; it needs neither data nor network.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// A folder that analyze has written to
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

/// Reads a JSON record of a known schema, `None` where there is no file.
fn read<T: serde::de::DeserializeOwned>(path: &Path, schema: &str, again: &str) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read", "check its permissions"))?;
    record::parse(&text, schema).map(Some).map_err(|e| Error::file(path, e, again))
}

/// Writes the page.
pub fn run(args: ReportArgs) -> Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    let spinner = show::spinner("drawing");
    let size = write(&args.run, &out, args.lang);
    spinner.finish_and_clear();
    eprintln!("{} · {:.1} MB; open it in a browser", out.display(), size? as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}

/// The page of a folder's analysis; gives its length, bytes.
pub fn write(run: &Path, out: &Path, language: Language) -> Result<usize> {
    let again = "make it again with vibrissa analyze RUN DATA";
    let path = run.join("analysis.json");
    let Some(analysis) = read::<AnalysisRecord>(&path, ANALYSIS_SCHEMA, again)? else {
        return Err(Error::file(&path, "no such file", "run vibrissa analyze RUN DATA first"));
    };
    let columns = format::read_columns(&run.join("analysis.safetensors"), ANALYSIS_SCHEMA)?;
    let eval: Option<EvalRecord> = read(&run.join("eval.json"), EVAL_SCHEMA, "remove it, or make it again")?;
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let metrics: Vec<MetricsLine> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let report = Report { analysis: &analysis, columns: &columns, eval: eval.as_ref(), metrics: &metrics, language };
    let page = html(&report);
    write_atomically(out, |file| file.write_all(page.as_bytes()))?;
    Ok(page.len())
}
