//! What the latents of a model do on given rows: importance, exact ablation, classes, company, stability. Everything is
//! gathered in one streaming pass (`analysis/stream.rs`); what follows from it is computed from those sums alone, so
//! that shards merge to the same result. Pictures and words are the business of `plot` and `report`.

pub mod adaptive;
pub mod classes;
pub mod compare;
pub mod exact;
pub mod finish;
pub mod groups;
pub mod history;
pub mod images;
pub mod metadata;
pub mod pairs;
pub mod recovery;
pub mod separate;
pub mod shard;
pub mod stream;
pub mod sums;
pub mod usage;
