//! The grid of a sweep: options with several values, and the cells that they span.

use crate::error::{Error, Result};
use crate::options::{PartialTrainOptions, RunOptions};

/// Options that a grid cannot vary, with the reason.
const FIXED: [(&str, &str); 8] = [
    ("from", "cells start from the same initialisation"),
    ("saes", "a cell is one SAE; vary the seed"),
    ("consistency", "a cell is one SAE"),
    ("early_stop", "`halving` stops cells that are worse than others"),
    ("augment_each_epoch", "all cells see the same rows"),
    ("no_shuffle", "all cells see the rows in one order"),
    ("checkpoint_every", "cells are saved every minute"),
    ("keep", "cells keep their last weights"),
];

/// An option with the values that it takes in a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The key of the option, such as `k-aux`.
    pub key: String,
    /// Texts of its values.
    pub values: Vec<String>,
}

/// A cell of a grid before its options are resolved: the values of the axes, and all options given.
pub type GridCell = (Vec<(String, String)>, PartialTrainOptions);

impl Axis {
    /// Parses `OPTION=VALUES`, values separated by commas, or by semicolons where values have commas.
    ///
    /// # Errors
    /// [`Error::Option`] for another form, a repeated value, or an option that cells cannot differ in.
    pub fn parse(text: &str) -> Result<Axis> {
        let example = "write for example k=16,32,64";
        let Some((key, values)) = text.split_once('=') else {
            return Err(Error::option("grid", "OPTION=VALUES", text, example));
        };
        let name = key.trim().trim_start_matches('-').replace('-', "_");
        let separator = if values.contains(';') { ';' } else { ',' };
        let values: Vec<String> = values.split(separator).map(|v| v.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(Error::option("grid", "a value after each comma", text, example));
        }
        if let Some(value) = values.iter().enumerate().find_map(|(i, v)| values[..i].contains(v).then_some(v)) {
            return Err(Error::option("grid", "each value once", format!("{name}={value} twice"), "leave one out"));
        }
        if let Some((_, why)) = FIXED.iter().find(|n| n.0 == name) {
            return Err(Error::option("grid", "an option that cells may differ in", name, *why));
        }
        let Some(option) = PartialTrainOptions::OPTIONS.iter().find(|o| o.name == name) else {
            let all = PartialTrainOptions::OPTIONS.iter().filter(|o| FIXED.iter().all(|f| f.0 != o.name));
            let known: Vec<String> = all.map(|o| o.key()).collect();
            return Err(Error::option("grid", format!("one of {}", known.join(", ")), name, "see docs/options.md"));
        };
        Ok(Axis { key: option.key(), values })
    }

    /// Parses all axes of a grid.
    ///
    /// # Errors
    /// As [`Axis::parse`]; an option that occurs twice, or in the given options too.
    pub fn parse_all(texts: &[String], given: &RunOptions) -> Result<Vec<Axis>> {
        let grid: Vec<Axis> = texts.iter().map(|g| Axis::parse(g)).collect::<Result<_>>()?;
        for (i, Axis { key, .. }) in grid.iter().enumerate() {
            if grid[..i].iter().any(|g| g.key == *key) {
                return Err(Error::option(
                    "grid",
                    "each option once",
                    format!("{key} twice"),
                    "put its values together",
                ));
            }
            if given.to_table().contains_key(key) {
                let found = format!("{key} in `grid` and beside it");
                return Err(Error::option("grid", "each option once", found, "leave out one of them"));
            }
        }
        Ok(grid)
    }
}

/// Refuses options that a sweep does not have.
///
/// # Errors
/// [`Error::Option`] naming the first.
pub(super) fn check_given(given: &RunOptions) -> Result<()> {
    for (name, is_given) in [
        ("saes", given.train.saes.is_some_and(|n| n > 1)),
        ("from", given.session.from.is_some()),
        ("folds", given.split.folds.is_some()),
        ("augment_each_epoch", given.data.augment_each_epoch == Some(true)),
        ("early_stop", given.train.early_stop.is_some_and(|p| p > 0)),
        ("checkpoint_every", given.session.checkpoint_every.is_some()),
        ("keep", given.session.keep.is_some()),
    ] {
        if is_given {
            let why = FIXED.iter().find(|n| n.0 == name).map_or("a cell is one SAE", |n| n.1);
            return Err(Error::option(name, "no such option in a sweep", "it", format!("leave it out: {why}")));
        }
    }
    Ok(())
}

/// Returns every combination of the values; the last axis varies fastest.
///
/// # Errors
/// [`Error::Option`] for a value that its option does not take.
pub fn cells(grid: &[Axis], given: &RunOptions) -> Result<Vec<GridCell>> {
    let mut all = vec![(Vec::new(), given.clone())];
    for Axis { key, values } in grid {
        let mut next = Vec::with_capacity(all.len() * values.len());
        for (own, options) in &all {
            for value in values {
                let mut own: Vec<(String, String)> = own.clone();
                own.push((key.clone(), value.clone()));
                let mut options: RunOptions = options.clone();
                let name = key.replace('-', "_");
                options
                    .set(&name, value)
                    .map_err(|e| Error::option("grid", format!("a value of `{name}`"), value, e.to_string()))?;
                next.push((own, options));
            }
        }
        all = next;
    }
    Ok(all.into_iter().map(|(values, options)| (values, options.train)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination_in_order() {
        let grid =
            vec![Axis::parse("k=4,8").expect("an axis"), Axis::parse("--activation=topk,relu").expect("an axis")];
        let train = PartialTrainOptions { lr: Some(0.5), ..PartialTrainOptions::default() };
        let all = cells(&grid, &RunOptions { train, ..RunOptions::default() }).expect("cells");
        let names: Vec<String> =
            all.iter().map(|(v, _)| v.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(names, ["k=4 activation=topk", "k=4 activation=relu", "k=8 activation=topk", "k=8 activation=relu"]);
        assert_eq!((all[2].1.k, all[2].1.lr), (Some(8), Some(0.5)));
        let nested = Axis::parse("matryoshka=off;4,8").expect("an axis");
        assert_eq!(nested.values, ["off", "4,8"]);
        for wrong in ["k", "k=", "k=4,,8", "k=4,4", "colour=red", "saes=2"] {
            assert!(Axis::parse(wrong).is_err(), "{wrong}");
        }
        let many = Axis { key: "k".into(), values: vec!["many".into()] };
        assert!(cells(&[many], &RunOptions::default()).is_err());
    }
}
