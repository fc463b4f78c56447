//! Modules and the modules of the same crate that they may import (ARCHITECTURE.md). Dependencies between crates are in their
//! Cargo.toml; any import between modules that this table does not list fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of a crate, each with the modules of the same crate that it may import besides itself.
struct Crate {
    name: &'static str,
    may_import: &'static [(&'static str, &'static [&'static str])],
}

/// Modules that import no others and that every module may import.
const COMMON: [&str; 2] = ["error", "random"];

/// All crates of the library. The command may import anything of the front crate.
const CRATES: &[Crate] = &[
    Crate {
        name: "vibrissa-core",
        may_import: &[
            ("error", &[]),
            ("random", &[]),
            ("shape", &[]),
            ("matrix", &[]),
            ("io", &[]),
            ("kernels", &["matrix"]),
            ("activation", &["kernels", "matrix"]),
            ("loss", &["kernels", "matrix"]),
            ("optim", &["kernels"]),
            ("model", &["activation", "loss", "optim", "kernels", "matrix"]),
            ("format", &["model", "activation", "matrix", "io", "shape"]),
        ],
    },
    Crate {
        name: "vibrissa",
        may_import: &[
            ("directions", &[]),
            ("facts", &[]),
            ("init", &[]),
            ("metrics", &[]),
            ("options", &["facts", "init"]),
            ("recovery", &["directions", "metrics"]),
            ("train", &["options", "facts", "init", "metrics"]),
            ("run", &["train", "options", "facts", "metrics", "recovery"]),
            ("sweep", &["run", "train", "options", "facts", "recovery"]),
            ("analysis", &["run", "train", "options", "directions", "init", "metrics"]),
        ],
    },
    Crate { name: "vibrissa-report", may_import: &[("plot", &[]), ("report", &["plot"])] },
];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

/// The source files of a crate by module: `src/module.rs` and everything below `src/module/`.
fn files(name: &str) -> BTreeMap<String, Vec<PathBuf>> {
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
    let (root, mut all, mut modules) = (source(name), Vec::new(), BTreeMap::<_, Vec<_>>::new());
    walk(&root, &mut all);
    for path in all {
        let first = path.strip_prefix(&root).expect("below src").components().next().expect("a name");
        let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        if module != "lib" {
            modules.entry(module).or_default().push(path);
        }
    }
    modules
}

/// The modules among `modules` that a source text names: `crate::module`, `crate::{module, …}`, and in a file at
/// the root of the crate `super::module`.
fn imports(text: &str, at_root: bool, modules: &BTreeSet<&str>) -> BTreeSet<String> {
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
    for (at, start) in code.match_indices("super::").filter(|_| at_root) {
        found.insert(name(&code[at + start.len()..]));
    }
    // The root of a crate re-exports these two.
    let found = found.into_iter().map(|f| if f == "Error" || f == "Result" { "error".into() } else { f });
    found.filter(|f: &String| modules.contains(f.as_str())).collect()
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for Crate { name, may_import } in CRATES {
        let modules: BTreeSet<&str> = may_import.iter().map(|m| m.0).collect();
        for (module, paths) in files(name) {
            let Some((_, allowed)) = may_import.iter().find(|m| m.0 == module) else {
                wrong.push(format!("{name}: {module} is not in the table"));
                continue;
            };
            for path in paths {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let file = path.strip_prefix(source(name)).expect("below src");
                for import in imports(&text, file.components().count() == 1, &modules) {
                    if import != module && !COMMON.contains(&import.as_str()) && !allowed.contains(&import.as_str()) {
                        wrong.push(format!("{name}/{}: imports {import}, which {module} may not", file.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "a new dependency needs an ADR and an entry in this table:\n{}", wrong.join("\n"));
}

/// The last column of a row of a table in ARCHITECTURE.md: the names in backquotes.
fn names(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn architecture_page_has_the_same_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
    for Crate { name, may_import } in CRATES.iter().filter(|c| c.name != "vibrissa-report") {
        let start = format!("\n`{name}`\n");
        let table = &text[text.find(&start).expect("a heading") + start.len()..];
        let rows = table.lines().skip_while(|l| l.is_empty()).take_while(|l| l.starts_with('|')).skip(2);
        let page: BTreeMap<&str, BTreeSet<&str>> = rows
            .map(|row| {
                let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
                (cells[0].trim().trim_matches('`'), names(cells.last().expect("a cell")))
            })
            .collect();
        let here: BTreeMap<&str, BTreeSet<&str>> =
            may_import.iter().map(|(module, allowed)| (*module, allowed.iter().copied().collect())).collect();
        assert_eq!(page, here, "{name}");
    }
}

#[test]
fn the_table_lists_only_modules_that_exist() {
    for Crate { name, may_import } in CRATES {
        let there = files(name);
        for (module, allowed) in *may_import {
            for name in allowed.iter().chain([module]) {
                assert!(there.contains_key(*name), "{name}: no such module");
            }
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let modules = BTreeSet::from(["data", "model", "train", "plot", "error"]);
    let text = "use crate::data::Dataset;\nuse crate::{model::{Sae, Workspace}, train};\n// use crate::no::Thing;\nlet x = super::plot::f();";
    let found: Vec<String> = imports(text, true, &modules).into_iter().collect();
    assert_eq!(found, ["data", "model", "plot", "train"]);
    assert_eq!(imports("crate::Error::option(super::own)", true, &modules), BTreeSet::from(["error".to_owned()]));
}
