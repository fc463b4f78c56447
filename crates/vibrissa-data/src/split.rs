//! Training and test rows. Test rows are the files' own, or are listed, or are chosen by a hash of each row's name, so
//! that adding a file moves no other row. Variants follow their original.

use crate::Dataset;
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use vibrissa_core::error::{Error, Result};

/// Options of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitOptions {
    /// Share of the originals (or groups) that is held out; 0 to below 1, default 0.1.
    pub test_fraction: f64,
    /// Names of the test rows; overrides the fraction.
    pub test_list: Option<TestList>,
    /// Regular expression; rows whose names give the same captured group stay on one side.
    pub group: Option<String>,
}

/// Names of test rows.
#[derive(Clone, Debug, PartialEq)]
pub struct TestList {
    /// The file that lists them.
    pub path: PathBuf,
    /// Names, one for each line of the file.
    pub names: Vec<String>,
}

impl Default for SplitOptions {
    fn default() -> Self {
        SplitOptions { test_fraction: 0.1, test_list: None, group: None }
    }
}

/// Training and test originals, each ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Training originals.
    pub train: Vec<usize>,
    /// Test originals, which are held out.
    pub test: Vec<usize>,
}

/// Reads a list of names, one on each line; blank lines are skipped.
///
/// # Errors
/// [`Error::Io`] when it cannot be read as text.
pub fn read_list(path: &Path) -> Result<TestList> {
    let text = std::fs::read_to_string(path).map_err(Error::io(
        path,
        "read the list of test rows",
        "give a text file with one relative path a line",
    ))?;
    let names = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    Ok(TestList { path: path.to_path_buf(), names })
}

/// Returns at most `most` of the rows, evenly spaced, in order.
pub fn evenly_spaced(rows: &[usize], most: usize) -> Vec<usize> {
    let n = most.min(rows.len());
    (0..n).map(|i| rows[i * rows.len() / n]).collect()
}

/// Returns a number in [0, 1) that depends on a name alone: the first 53 bits of its BLAKE3 hash.
fn unit_hash(name: &str) -> f64 {
    let hash = blake3::hash(name.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns the group of every original: the text that the pattern captures in its name, or the name.
fn groups(data: &Dataset, pattern: Option<&str>) -> Result<Vec<String>> {
    let names = (0..data.originals()).map(|i| data.name(i));
    let Some(pattern) = pattern else { return Ok(names.collect()) };
    let regex = Regex::new(pattern).map_err(|e| {
        let why = e.to_string().lines().last().unwrap_or_default().to_owned();
        Error::option("group", "a regular expression", pattern, why)
    })?;
    let mut hits = 0;
    let found = names
        .map(|name| match regex.captures(&name) {
            Some(c) => {
                hits += 1;
                c.get(1).or(c.get(0)).map_or(String::new(), |m| m.as_str().to_owned())
            }
            None => name,
        })
        .collect();
    if hits == 0 {
        let remedy = format!("it matches no row name, such as {}", data.name(0));
        return Err(Error::option("group", "an expression that matches row names", pattern, remedy));
    }
    Ok(found)
}

/// Divides a data set into training and test originals.
///
/// # Errors
/// A fraction outside [0, 1), a list that names rows which are not there, an invalid pattern, or no training row left.
///
/// ```
/// use vibrissa_data::split::{SplitOptions, split};
/// use vibrissa_data::{Dataset, rows::LoadOptions};
///
/// let data = Dataset::open("synthetic:rows=1000,size=8", &LoadOptions::default(), &|_, _| ())?;
/// let rows = split(&data, &SplitOptions { test_fraction: 0.2, ..SplitOptions::default() })?;
/// assert_eq!(rows.train.len() + rows.test.len(), 1000);
/// # Ok::<(), vibrissa_core::Error>(())
/// ```
pub fn split(data: &Dataset, options: &SplitOptions) -> Result<Split> {
    let fraction = options.test_fraction;
    if !(0.0..1.0).contains(&fraction) {
        return Err(Error::option("test_fraction", "0 to below 1", fraction, "0.1 holds out one row in ten"));
    }
    let mut split = Split::default();
    if let Some(list) = &options.test_list {
        let wanted: HashSet<&str> = list.names.iter().map(String::as_str).collect();
        let mut seen = HashSet::new();
        for i in 0..data.originals() {
            let name = data.name(i);
            if wanted.contains(name.as_str()) {
                split.test.push(i);
                seen.insert(name);
            } else {
                split.train.push(i);
            }
        }
        // A file that was left out as unreadable may be on the list.
        let skipped = |name: &str| data.skipped().iter().any(|s| s.path.ends_with(name));
        let missing: Vec<&String> = list.names.iter().filter(|l| !seen.contains(*l) && !skipped(l)).collect();
        if let Some(first) = missing.first() {
            let found = format!("{} of its {} names are not in the data, such as {first}", missing.len(), wanted.len());
            let remedy = format!("rows are named like {}: correct the list", data.name(0));
            return Err(Error::file(&list.path, found, remedy));
        }
    } else if let Some(first) = data.test_from() {
        split.train = (0..first).collect();
        split.test = (first..data.originals()).collect();
    } else {
        let groups = groups(data, options.group.as_deref())?;
        for (i, group) in groups.iter().enumerate() {
            if unit_hash(group) < fraction { split.test.push(i) } else { split.train.push(i) }
        }
        // Groups are few: where the fraction selects none, the one with the smallest hash is held out.
        let distinct: HashSet<&String> = groups.iter().collect();
        if options.group.is_some() && split.test.is_empty() && fraction > 0.0 && distinct.len() > 1 {
            let smallest = distinct.into_iter().min_by(|a, b| unit_hash(a).total_cmp(&unit_hash(b)).then(a.cmp(b)));
            (split.test, split.train) = (0..groups.len()).partition(|&i| Some(&groups[i]) == smallest);
        }
    }
    if split.train.is_empty() {
        let remedy = "hold out fewer rows or add data";
        return Err(Error::option("test_fraction", "at least one training row", "none", remedy));
    }
    Ok(split)
}

/// Divides these originals into `n` folds, each held out once; other originals are in no fold.
///
/// # Errors
/// As [`split`]; fewer than two folds, or more folds than rows or groups.
pub fn folds(data: &Dataset, originals: &[usize], n: usize, group: Option<&str>) -> Result<Vec<Split>> {
    let groups = groups(data, group)?;
    let distinct: HashSet<&String> = originals.iter().map(|&i| &groups[i]).collect();
    if n < 2 || n > distinct.len() {
        let expected = format!("2 to {} (rows or groups)", distinct.len());
        return Err(Error::option("folds", expected, n, "5 is usual for small sets"));
    }
    // Groups are assigned in turn, in the order of their hashes: folds are of equal size even for few rows.
    let mut order: Vec<&String> = distinct.into_iter().collect();
    order.sort_by(|a, b| unit_hash(a).total_cmp(&unit_hash(b)).then(a.cmp(b)));
    let fold: HashMap<&String, usize> = order.into_iter().enumerate().map(|(i, g)| (g, i % n)).collect();
    Ok((0..n)
        .map(|f| {
            let (test, train) = originals.iter().partition(|&&i| fold[&groups[i]] == f);
            Split { train, test }
        })
        .collect())
}

/// Divides the training originals into training and validation originals, by a second hash of each row or group. At
/// least one training original remains.
///
/// # Errors
/// An invalid pattern.
pub fn validation(
    data: &Dataset,
    split: &Split,
    fraction: f64,
    group: Option<&str>,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let groups = groups(data, group)?;
    let (train, taken): (Vec<usize>, Vec<usize>) =
        split.train.iter().partition(|&&i| unit_hash(&format!("validation {}", groups[i])) >= fraction);
    Ok(if train.is_empty() { (split.train.clone(), train) } else { (train, taken) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, Bytes, Dtype};
    use crate::rows::{LoadedRows, RowNames};
    use std::sync::Arc;

    fn data(names: &[&str]) -> Dataset {
        let bytes = Bytes::Owned(Arc::new(vec![0; names.len()]));
        Dataset::from_rows(LoadedRows {
            blocks: vec![Block::new("x".into(), bytes, 0, Dtype::U8, names.len(), 1)],
            shape: None,
            names: RowNames::Listed(names.iter().map(|&n| n.to_owned()).collect()),
            classes: vec![],
            labels: vec![],
            test_from: None,
            skipped: vec![],
            variants: None,
            working_images: vec![],
        })
        .expect("rows")
    }

    fn many(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("animal{}/frame{i}.png", i % 7)).collect()
    }

    fn all_originals(d: &Dataset) -> Vec<usize> {
        (0..d.originals()).collect()
    }

    fn refs(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_new_file_moves_no_other_row() {
        let names = many(500);
        let all = data(&refs(&names));
        let without: Vec<&str> = refs(&names).into_iter().filter(|n| *n != names[123]).collect();
        let fewer = data(&without);
        let side = |d: &Dataset| -> HashSet<String> {
            split(d, &SplitOptions::default()).expect("a split").test.iter().map(|&i| d.name(i)).collect()
        };
        let (mut a, b) = (side(&all), side(&fewer));
        a.remove(&names[123]);
        assert_eq!(a, b);
        assert!((30..70).contains(&b.len()), "{}", b.len());
    }

    #[test]
    fn groups_stay_on_one_side() {
        let names = many(300);
        let d = data(&refs(&names));
        let options = SplitOptions { test_fraction: 0.4, group: Some("animal(\\d)".into()), ..Default::default() };
        let s = split(&d, &options).expect("a split");
        let animal = |i: &usize| names[*i][6..7].to_owned();
        let test: HashSet<String> = s.test.iter().map(animal).collect();
        let train: HashSet<String> = s.train.iter().map(animal).collect();
        assert!(test.is_disjoint(&train) && !test.is_empty() && !train.is_empty());
        for f in folds(&d, &all_originals(&d), 3, Some("animal(\\d)")).expect("folds") {
            let test: HashSet<String> = f.test.iter().map(animal).collect();
            assert!(f.train.iter().all(|i| !test.contains(&animal(i))));
        }
    }

    #[test]
    fn folds_cover_every_row_once() {
        let names = many(39);
        let d = data(&refs(&names));
        let all = folds(&d, &all_originals(&d), 5, None).expect("folds");
        let mut rows: Vec<usize> = all.iter().flat_map(|f| f.test.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..39).collect::<Vec<_>>());
        assert!(all.iter().all(|f| f.test.len() >= 7));
    }

    #[test]
    fn lists_override_and_must_match() {
        let d = data(&["a", "b", "c"]);
        let list = |l: &[&str]| SplitOptions {
            test_list: Some(TestList { path: "list.txt".into(), names: l.iter().map(|&s| s.to_owned()).collect() }),
            ..Default::default()
        };
        assert_eq!(split(&d, &list(&["b"])).expect("a split"), Split { train: vec![0, 2], test: vec![1] });
        let error = split(&d, &list(&["b", "z"])).expect_err("z is not there").to_string();
        assert!(error.starts_with("list.txt: ") && error.contains("such as z"), "{error}");
        assert!(split(&d, &list(&["a", "b", "c"])).is_err(), "nothing left to train on");
    }

    #[test]
    fn validation_leaves_the_test_side_alone() {
        let names = many(200);
        let d = data(&refs(&names));
        let s = split(&d, &SplitOptions::default()).expect("a split");
        let (train, valid) = validation(&d, &s, 0.1, None).expect("rows");
        assert!(!valid.is_empty() && train.len() + valid.len() == s.train.len());
        assert!(valid.iter().all(|i| !s.test.contains(i)));
        // Groups stay together here too.
        let (train, valid) = validation(&d, &s, 0.5, Some("animal(\\d)")).expect("rows");
        let animals = |rows: &[usize]| rows.iter().map(|&i| names[i][6..7].to_owned()).collect::<HashSet<_>>();
        assert!(!valid.is_empty() && animals(&train).is_disjoint(&animals(&valid)));
        // And some row is always left to train on.
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let one = data(&[name]);
            let s = Split { train: vec![0], test: vec![] };
            assert_eq!(validation(&one, &s, 0.9, None).expect("rows"), (vec![0], vec![]));
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        let d = data(&["a"]);
        for bad in ["(", "zzz"] {
            let options = SplitOptions { group: Some(bad.into()), ..Default::default() };
            assert!(split(&d, &options).expect_err("refused").to_string().starts_with("group: "));
        }
    }
}
