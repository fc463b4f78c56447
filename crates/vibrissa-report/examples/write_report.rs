//! Writes the report of an analysed run, or of a sweep, in English or Chinese:
//!
//! ```text
//! cargo run --release -p vibrissa-report --example write_report -- RUN [en|zh] [PAGE.html]
//! ```

use std::path::Path;
use vibrissa_report::report::{Language, ReportOptions, write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let run = args.next().ok_or("name the folder of a run")?;
    let language = args.next().and_then(|code| Language::from_code(&code)).unwrap_or_default();
    let written = write(Path::new(&run), &ReportOptions { out: args.next().map(Into::into), language })?;
    println!("{}", written.page.display());
    Ok(())
}
