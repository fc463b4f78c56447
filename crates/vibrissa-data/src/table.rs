//! What is known of the rows: a CSV file with a column of names, then any columns.

use crate::Dataset;
use std::collections::BTreeMap;
use std::path::Path;
use vibrissa_core::error::{Error, Result};

/// One column, a cell for each row of the data that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its heading.
    pub name: String,
    /// What its cells are.
    pub cells: Cells,
}

/// Cells of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// Numbers; NaN where there is none.
    Numbers(Vec<f64>),
    /// One of a few values: their names in order, and which one each row has.
    Levels(Vec<String>, Vec<Option<u32>>),
    /// Nothing to compare rows by, and why.
    Useless(String),
}

/// A table matched with rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its columns but the first.
    pub columns: Vec<Known>,
    /// Rows that it names.
    pub matched: usize,
    /// Names in it that no row has, at most ten, and how many there are.
    pub strangers: (Vec<String>, usize),
}

/// Most values a column of levels may have.
const MOST_LEVELS: usize = 50;

/// Any other word is a value: `none` may be a control group.
fn is_missing(cell: &str) -> bool {
    matches!(cell, "" | "NA" | "NaN" | "nan")
}

impl Table {
    /// Reads a CSV file whose first column names rows of `data` by their path, or by their file name where only one row has
    /// it; `originals` are the rows asked for.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is no table, names a row twice, or names none of these rows.
    pub fn read(path: &Path, data: &Dataset, originals: &[usize]) -> Result<Table> {
        let broken = |found: String| Error::file(path, found, "give a CSV file: names of files, then any columns");
        if path.is_dir() {
            return Err(broken("is a folder".into()));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path, "read", "name a file that exists"))?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Err(Error::file(path, "is not UTF-8", "save it as \"CSV UTF-8\""));
        };
        // Spreadsheets separate by semicolons where the comma is decimal.
        let head = text.lines().next().unwrap_or("");
        let separator =
            *[b',', b';', b'\t'].iter().max_by_key(|&&c| (head.matches(c as char).count(), c == b',')).expect("three");
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(false).from_reader(text.as_bytes());
        let heads: Vec<String> = reader
            .headers()
            .map_err(|e| broken(format!("is no table: {e}")))?
            .iter()
            .map(|h| h.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        if heads.len() < 2 {
            return Err(broken("has fewer than two columns".into()));
        }
        // What a name means does not depend on the rows asked for.
        let all: Vec<String> = (0..data.originals()).map(|o| data.name(o)).collect();
        let mut places: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for (o, name) in all.iter().enumerate() {
            let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
            if file != name {
                places.entry(file).and_modify(|p| *p = None).or_insert(Some(o));
            }
        }
        for (o, name) in all.iter().enumerate() {
            places.insert(name, Some(o));
        }
        let asked: BTreeMap<usize, usize> = originals.iter().enumerate().map(|(i, &o)| (o, i)).collect();
        let mut text: Vec<Vec<String>> = vec![vec![String::new(); originals.len()]; heads.len() - 1];
        let mut seen = vec![false; originals.len()];
        let (mut strangers, mut unknown) = (Vec::new(), 0);
        for record in reader.records() {
            let record = record.map_err(|e| broken(format!("is no table: {e}")))?;
            let name = record[0].trim().replace('\\', "/");
            let row = match places.get(name.trim_start_matches("./")) {
                Some(Some(original)) => asked.get(original).copied(),
                Some(None) => {
                    return Err(broken(format!("names {name}, which several folders have: name it by its path")));
                }
                None => {
                    unknown += 1;
                    if strangers.len() < 10 {
                        strangers.push(name);
                    }
                    continue;
                }
            };
            // A row of another split.
            let Some(row) = row else { continue };
            if std::mem::replace(&mut seen[row], true) {
                return Err(broken(format!("names {name} twice")));
            }
            text.iter_mut().zip(record.iter().skip(1)).for_each(|(column, cell)| column[row] = cell.trim().to_owned());
        }
        let matched = seen.iter().filter(|s| **s).count();
        if matched == 0 {
            let example = all.first().map_or(String::new(), |n| format!("; the first row is called {n}"));
            let stranger = strangers.first().cloned().unwrap_or_default();
            return Err(broken(format!("names none of the rows ({stranger} is its first name{example})")));
        }
        let columns =
            heads[1..].iter().zip(&text).map(|(name, cells)| Known { name: name.clone(), cells: cells_of(cells) });
        Ok(Table { columns: columns.collect(), matched, strangers: (strangers, unknown) })
    }
}

fn cells_of(text: &[String]) -> Cells {
    let present: Vec<&String> = text.iter().filter(|c| !is_missing(c)).collect();
    let mut names: Vec<String> = present.iter().map(|c| (*c).clone()).collect();
    names.sort();
    names.dedup();
    if names.len() < 2 {
        return Cells::Useless("all rows have the same value".into());
    }
    let number = |c: &String| c.parse::<f64>().ok().filter(|v| v.is_finite());
    if names.iter().all(|n| number(n).is_some()) {
        names.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)).then(a.cmp(b)));
    }
    if names.len() > 2 && present.iter().all(|c| number(c).is_some()) {
        return Cells::Numbers(text.iter().map(|c| number(c).unwrap_or(f64::NAN)).collect());
    }
    let others = present.iter().filter(|c| number(c).is_none()).count();
    if 0 < others && 2 * others < present.len() {
        let one = present.iter().find(|c| number(c).is_none()).expect("counted");
        return Cells::Useless(format!(
            "{others} of {} values are no numbers ({one}): leave such cells empty",
            present.len()
        ));
    }
    if names.len() > MOST_LEVELS || 2 * names.len() > present.len() {
        return Cells::Useless(format!("{} different values in {} rows", names.len(), present.len()));
    }
    let level = |c: &String| if is_missing(c) { None } else { names.iter().position(|n| n == c).map(|l| l as u32) };
    let of = text.iter().map(level).collect();
    Cells::Levels(names, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_are_what_their_cells_are() {
        assert!(matches!(cells_of(&text(&["1", "x", "1"])), Cells::Useless(_)), "two values in three rows");
        let Cells::Numbers(v) = cells_of(&text(&["1", "2.5", "", "-3e2"])) else { panic!() };
        assert!(v[2].is_nan() && v[3] == -300.0);
        assert_eq!(
            cells_of(&text(&["b", "a", "NA", "b", "a"])),
            Cells::Levels(text(&["a", "b"]), vec![Some(1), Some(0), None, Some(1), Some(0)])
        );
        assert_eq!(
            cells_of(&text(&["0", "1", "1", "0"])),
            Cells::Levels(text(&["0", "1"]), vec![Some(0), Some(1), Some(1), Some(0)])
        );
        let Cells::Useless(why) = cells_of(&text(&["1", "2", "unknown", "4"])) else { panic!() };
        assert!(why.contains("1 of 4") && why.contains("unknown"), "{why}");
        // Levels that are numbers go by value, and no word but those named is a missing one.
        assert!(matches!(cells_of(&text(&["10", "5", "5", "10"])), Cells::Levels(l, _) if l == ["5", "10"]));
        assert!(
            matches!(cells_of(&text(&["none", "drug", "none", "drug"])), Cells::Levels(l, _) if l == ["drug", "none"])
        );
        assert!(matches!(cells_of(&text(&["q", "q", ""])), Cells::Useless(_)));
        assert!(matches!(cells_of(&text(&["a", "b", "c", "d"])), Cells::Useless(_)));
    }
}
