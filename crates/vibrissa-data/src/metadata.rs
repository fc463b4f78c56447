//! Metadata of rows: a CSV file whose first column names the rows, followed by any columns.

use crate::Dataset;
use std::collections::BTreeMap;
use std::path::Path;
use vibrissa_core::error::{Error, Result};

/// One column of metadata, with a value for each of the requested rows.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataColumn {
    /// Its heading.
    pub name: String,
    /// Its values.
    pub values: MetadataValues,
}

/// Values of one column of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValues {
    /// Numbers; NaN where one is missing.
    Numbers(Vec<f64>),
    /// One of a few values: their names in order, and the index of each row's value.
    Levels(Vec<String>, Vec<Option<u32>>),
    /// Values by which rows cannot be compared, with the reason.
    Unusable(String),
}

/// A table of metadata, matched with rows.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataTable {
    /// Its columns except the first.
    pub columns: Vec<MetadataColumn>,
    /// Number of the requested rows that it names.
    pub matched: usize,
    /// Up to ten names in it that no row has.
    pub unknown_names: Vec<String>,
    /// Number of names in it that no row has.
    pub unknown: usize,
}

/// Largest number of different values in a column of levels.
const MAX_LEVELS: usize = 50;

/// Returns true for a missing value. Any other word is a value: `none` may be a control group.
fn is_missing(cell: &str) -> bool {
    matches!(cell, "" | "NA" | "NaN" | "nan")
}

impl MetadataTable {
    /// Reads a CSV file whose first column names rows of `data` by their path, or by their file name where only one row
    /// has it; `originals` are the requested rows.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is not a table, names a row twice, or names none of these rows.
    pub fn read(path: &Path, data: &Dataset, originals: &[usize]) -> Result<MetadataTable> {
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
            .map_err(|e| broken(format!("is not a table: {e}")))?
            .iter()
            .map(|h| h.trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        if heads.len() < 2 {
            return Err(broken("has fewer than two columns".into()));
        }
        // The meaning of a name does not depend on the requested rows.
        let all: Vec<String> = (0..data.originals()).map(|o| data.name(o)).collect();
        let mut originals_by_name: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for (o, name) in all.iter().enumerate() {
            let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
            if file != name {
                originals_by_name.entry(file).and_modify(|o| *o = None).or_insert(Some(o));
            }
        }
        for (o, name) in all.iter().enumerate() {
            originals_by_name.insert(name, Some(o));
        }
        let requested: BTreeMap<usize, usize> = originals.iter().enumerate().map(|(i, &o)| (o, i)).collect();
        let mut text: Vec<Vec<String>> = vec![vec![String::new(); originals.len()]; heads.len() - 1];
        let mut seen = vec![false; originals.len()];
        let (mut unknown_names, mut unknown) = (Vec::new(), 0);
        for record in reader.records() {
            let record = record.map_err(|e| broken(format!("is not a table: {e}")))?;
            let name = record[0].trim().replace('\\', "/");
            let row = match originals_by_name.get(name.trim_start_matches("./")) {
                Some(Some(original)) => requested.get(original).copied(),
                Some(None) => {
                    return Err(broken(format!("names {name}, which several folders have: name it by its path")));
                }
                None => {
                    unknown += 1;
                    if unknown_names.len() < 10 {
                        unknown_names.push(name);
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
            let unknown_name = unknown_names.first().cloned().unwrap_or_default();
            return Err(broken(format!("names none of the rows ({unknown_name} is its first name{example})")));
        }
        let columns = heads[1..]
            .iter()
            .zip(&text)
            .map(|(name, cells)| MetadataColumn { name: name.clone(), values: parse_values(cells) });
        Ok(MetadataTable { columns: columns.collect(), matched, unknown_names, unknown })
    }
}

/// Decides what the cells of a column are: numbers, levels, or nothing that rows can be compared by.
fn parse_values(text: &[String]) -> MetadataValues {
    let present: Vec<&String> = text.iter().filter(|c| !is_missing(c)).collect();
    let mut names: Vec<String> = present.iter().map(|c| (*c).clone()).collect();
    names.sort();
    names.dedup();
    if names.len() < 2 {
        return MetadataValues::Unusable("all rows have the same value".into());
    }
    let number = |c: &String| c.parse::<f64>().ok().filter(|v| v.is_finite());
    if names.iter().all(|n| number(n).is_some()) {
        names.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)).then(a.cmp(b)));
    }
    if names.len() > 2 && present.iter().all(|c| number(c).is_some()) {
        return MetadataValues::Numbers(text.iter().map(|c| number(c).unwrap_or(f64::NAN)).collect());
    }
    let others = present.iter().filter(|c| number(c).is_none()).count();
    if 0 < others && 2 * others < present.len() {
        let one = present.iter().find(|c| number(c).is_none()).expect("counted");
        return MetadataValues::Unusable(format!(
            "{others} of {} values are not numbers ({one}): leave such cells empty",
            present.len()
        ));
    }
    if names.len() > MAX_LEVELS || 2 * names.len() > present.len() {
        return MetadataValues::Unusable(format!("{} different values in {} rows", names.len(), present.len()));
    }
    let level = |c: &String| if is_missing(c) { None } else { names.iter().position(|n| n == c).map(|l| l as u32) };
    let of = text.iter().map(level).collect();
    MetadataValues::Levels(names, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_are_what_their_cells_are() {
        assert!(
            matches!(parse_values(&text(&["1", "x", "1"])), MetadataValues::Unusable(_)),
            "two values in three rows"
        );
        let MetadataValues::Numbers(v) = parse_values(&text(&["1", "2.5", "", "-3e2"])) else { panic!() };
        assert!(v[2].is_nan() && v[3] == -300.0);
        assert_eq!(
            parse_values(&text(&["b", "a", "NA", "b", "a"])),
            MetadataValues::Levels(text(&["a", "b"]), vec![Some(1), Some(0), None, Some(1), Some(0)])
        );
        assert_eq!(
            parse_values(&text(&["0", "1", "1", "0"])),
            MetadataValues::Levels(text(&["0", "1"]), vec![Some(0), Some(1), Some(1), Some(0)])
        );
        let MetadataValues::Unusable(why) = parse_values(&text(&["1", "2", "unknown", "4"])) else { panic!() };
        assert!(why.contains("1 of 4") && why.contains("unknown"), "{why}");
        // Levels that are numbers go by value, and no word but those named is a missing one.
        assert!(
            matches!(parse_values(&text(&["10", "5", "5", "10"])), MetadataValues::Levels(l, _) if l == ["5", "10"])
        );
        assert!(
            matches!(parse_values(&text(&["none", "drug", "none", "drug"])), MetadataValues::Levels(l, _) if l == ["drug", "none"])
        );
        assert!(matches!(parse_values(&text(&["q", "q", ""])), MetadataValues::Unusable(_)));
        assert!(matches!(parse_values(&text(&["a", "b", "c", "d"])), MetadataValues::Unusable(_)));
    }
}
