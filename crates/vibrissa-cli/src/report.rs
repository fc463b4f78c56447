//! `vibrissa report`: the report of an analysed run or of a sweep.

use crate::show;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vibrissa::Result;
use vibrissa::report::{self, Language, ReportOptions};

/// Write the report of an analysed run or of a sweep
///
/// Reads what analyze or sweep left in RUN; needs neither data nor network. Writes one HTML page, and beside it a
/// folder with the text as Markdown and every figure as SVG and PNG.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folder of a run that vibrissa analyze has analysed, or of a sweep
    run: PathBuf,
    /// Page to write [default: RUN/report.html]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Language: en or zh
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = language)]
    lang: Language,
}

fn language(code: &str) -> std::result::Result<Language, String> {
    Language::from_code(code).ok_or_else(|| "expected en or zh".into())
}

/// Writes the report.
pub fn run(args: ReportArgs) -> Result<ExitCode> {
    let spinner = show::spinner("writing the report");
    let written = report::write(&args.run, &ReportOptions { out: args.out, language: args.lang });
    spinner.finish_and_clear();
    let written = written?;
    eprintln!("{} · {:.1} MB; open it in a browser", written.page.display(), written.page_bytes as f64 / 1e6);
    eprintln!("{}/: report.md, and every figure as SVG and PNG", written.folder.display());
    Ok(ExitCode::SUCCESS)
}
