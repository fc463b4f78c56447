//! The analysis of a model on given rows: importance and exact ablation of each latent, relation to classes and
//! metadata, co-activation, agreement of the SAEs of an ensemble, history over training; also adaptive numbers of active
//! latents. Figures and pages of the results are made in `plot` and `report`, not here.
//!
//! ```text
//! rows ──► pass (one streaming pass, one shard or all) ──► PassSums ──► finish ──► Analysis (record and columns)
//! ```
//!
//! All results are computed from the sums of a pass, so that merged shards give the same bits as one pass.

mod ablation;
pub mod adaptive;
pub mod classes;
pub mod exact;
pub mod finish;
pub mod groups;
pub mod history;
pub mod images;
pub mod metadata;
pub mod options;
pub mod pairs;
pub mod pass;
pub mod ranks;
pub mod run;
pub mod separation;
pub mod shard;
pub mod sums;
mod table;
pub mod usage;

pub use options::{AnalyzeOptions, Shard};
pub use run::{
    AnalyzeEvent, AnalyzeRequest, Analyzed, AnalyzedShard, OnAnalyzeEvent, analyze, analyze_shard, merge,
    write_analysis,
};
