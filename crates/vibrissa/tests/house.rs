//! Which room may import which (ARCHITECTURE.md): any other `crate::` import between rooms fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A room and what it may import, besides itself and the rooms in [`COMMON`]. The whole table.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("random", &[]),
    ("matrix", &[]),
    ("record", &[]),
    ("plot", &[]),
    ("kernels", &["matrix"]),
    ("activation", &["kernels", "matrix"]),
    ("loss", &["kernels", "matrix"]),
    ("optim", &["kernels", "matrix"]),
    ("metrics", &["kernels", "matrix"]),
    ("data", &["kernels", "matrix"]),
    ("model", &["activation", "loss", "optim", "kernels", "matrix"]),
    ("format", &["model", "matrix", "record"]),
    // Its options name an activation, the terms of a loss and an optimiser.
    ("train", &["data", "format", "model", "metrics", "record", "activation", "loss", "optim", "kernels", "matrix"]),
    ("report", &["plot", "record"]),
    // Trainers in company: rows are read here, models written, records made.
    ("sweep", &["train", "data", "format", "model", "record", "matrix"]),
    ("analysis", &["data", "format", "model", "metrics", "record", "kernels", "matrix"]),
];

/// Rooms that import nothing and that every other may use.
const COMMON: [&str; 2] = ["error", "random"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files, by room: `src/room.rs` and everything below `src/room/`.
fn files() -> BTreeMap<String, Vec<PathBuf>> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let (root, mut all, mut rooms) = (source(), Vec::new(), BTreeMap::<_, Vec<_>>::new());
    walk(&root, &mut all);
    for path in all {
        let first = path.strip_prefix(&root).expect("below src").components().next().expect("a name");
        let room = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        if room != "lib" {
            rooms.entry(room).or_default().push(path);
        }
    }
    rooms
}

/// Rooms that a source text names: `crate::room`, `crate::{room, …}`, `super::room` where `room` is one of `rooms`.
fn imports(text: &str, rooms: &BTreeSet<&str>) -> BTreeSet<String> {
    let code: String = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    let name = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, start) in code.match_indices("crate::") {
        let rest = code[at + start.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (i, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && !c.is_whitespace() => {
                    found.insert(name(&group[i..]));
                    fresh = false;
                }
                _ => (),
            }
        }
    }
    for (at, start) in code.match_indices("super::") {
        let next = name(&code[at + start.len()..]);
        if rooms.contains(next.as_str()) {
            found.insert(next);
        }
    }
    // The front door re-exports these two.
    found.into_iter().map(|f| if f == "Error" || f == "Result" { "error".into() } else { f }).collect()
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let rooms: BTreeSet<&str> = MAY_IMPORT.iter().map(|r| r.0).collect();
    let mut wrong = Vec::new();
    for (room, paths) in files() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|r| r.0 == room) else {
            wrong.push(format!("{room}: a room that the table does not know"));
            continue;
        };
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a source file");
            for import in imports(&text, &rooms) {
                if import != room && !COMMON.contains(&import.as_str()) && !allowed.contains(&import.as_str()) {
                    let file = path.strip_prefix(source()).expect("below src");
                    wrong.push(format!("{}: imports {import}, which {room} may not", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "a new arrow needs an ADR and a line in this table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_knows_only_rooms_that_exist() {
    let there = files();
    for (room, allowed) in MAY_IMPORT {
        for name in allowed.iter().chain([room]) {
            assert!(there.contains_key(*name), "{name}: no such room");
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let rooms = BTreeSet::from(["data", "model", "train", "plot"]);
    let text = "use crate::data::Dataset;\nuse crate::{model::{Sae, Work}, train};\n// use crate::no::Thing;\nlet x = super::plot::f();";
    let found: Vec<String> = imports(text, &rooms).into_iter().collect();
    assert_eq!(found, ["data", "model", "plot", "train"]);
    assert_eq!(imports("crate::Error::option(super::own)", &rooms), BTreeSet::from(["error".to_owned()]));
}
