//! The table of all options in docs/options.md.

use super::RunOptions;
use std::fmt::Write as _;

/// Returns docs/options.md: every option with its default and range, by group.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Options\n\n\
         All options of `vibrissa train` and `vibrissa sweep`. As a flag, an option is written with dashes (`--k-aux 64`; `-k` for k); \
         in `config.toml` as a key (`k-aux = 64`); in Rust, and in the texts of this page, as a field (`k_aux`). *Columns* is the number of values of a row, D; \
         *H* the number of latents.\n\n\
         This page is generated from crates/vibrissa/src/options.rs by `cargo run --release -p vibrissa --example options`.\n",
    );
    let mut group = "";
    for option in RunOptions::options() {
        if option.group != group {
            group = option.group;
            let _ = write!(out, "\n## {group}\n\n| option | meaning | default | range |\n| --- | --- | --- | --- |\n");
        }
        let escaped = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            out,
            "| `{}` {} | {} | {} | {} |",
            option.key(),
            option.value_name,
            escaped(&option.text()),
            escaped(option.default),
            escaped(option.range)
        );
    }
    out
}
