//! Trains sparse autoencoders (SAEs) on images or on any rows of numbers, ranks the features they learn, and measures what can
//! be believed.
//!
//! This is the front door: [`run`](mod@run) trains, [`sweep`] compares configurations, [`analysis`] ranks features, [`report`]
//! writes a page. The layers below are crates of their own and are re-exported here: `vibrissa-core` (kernels, models, one training
//! step, model files), `vibrissa-data` ([`data`]), `vibrissa-record` ([`record`]), `vibrissa-report` ([`plot`], [`report`]). Nothing
//! here prints, exits, or parses arguments.
//!
//! ```text
//! files ──► data::Dataset ──► batch [B, D] ──► train::Trainer ──► model::Sae ──► matrix::Latents [B, H] ──► record (JSON) ──► report
//! ```
//!
//! Data never sees models. All that computes ends in a record; all that displays starts from one.
//!
//! Conventions: matrices are row-major f32, `[rows, cols]`; a row of `W_enc` and `W_dec` `[H, D]` is one latent; images are
//! channel-planar; ties go to the lower index; reported sums are kept in f64; the number of threads never changes a result.
//! B = rows of a batch, D = values a row, H = latents, k = active latents a row.
//!
//! From data to a report:
//!
//! ```
//! use std::ops::ControlFlow::Continue;
//! use vibrissa::analysis::{AnalyzeRequest, analyze};
//! use vibrissa::options::RunOptions;
//! use vibrissa::report::{self, ReportOptions};
//! use vibrissa::run::{Outcome, RunRequest, run};
//!
//! let folder = tempfile::tempdir()?;
//! let (data, out) = ("synthetic:rows=300,seed=7", folder.path().join("run"));
//! let mut options = RunOptions::default();
//! options.set("latents", "64")?;
//! options.set("k", "6")?;
//! options.set("epochs", "2")?;
//! let request = RunRequest { data: data.into(), out: out.clone(), options, ..RunRequest::default() };
//! let Outcome::Finished(finished) = run(&request, &mut |_| Continue(()))? else { unreachable!("nothing stops it") };
//! println!("held-out fvu {:?}", finished.eval.saes[0].scores.reconstruction.fvu);
//!
//! let request = AnalyzeRequest { run: out.clone(), data: data.into(), ..AnalyzeRequest::default() };
//! let analyzed = analyze(&request, &mut |_| Continue(()))?.expect("nothing stops it");
//! println!("{} dead latents", analyzed.analysis.record.saes[0].dead);
//!
//! report::write(&out, &ReportOptions::default())?;
//! assert!(out.join("report.html").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod analysis;
pub mod directions;
pub mod facts;
pub mod init;
pub mod metrics;
pub mod options;
pub mod recovery;
pub mod run;
pub mod sweep;
pub mod train;

pub use vibrissa_core::{
    Error, Result, activation, error, format, io, kernels, loss, matrix, model, optim, random, shape,
};
pub use vibrissa_data as data;
pub use vibrissa_record as record;
pub use vibrissa_report::{plot, report};
