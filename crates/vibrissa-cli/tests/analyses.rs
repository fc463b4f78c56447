//! analyze, merge, encode, prune and report on small runs: what their files hold, and what they refuse.

mod common;

use common::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct TrainedRun {
    dir: TempDir,
    data: String,
    run: PathBuf,
}

/// A run of two SAEs on images of two classes.
fn trained_run() -> TrainedRun {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 60, 12, &["a", "b"]);
    let run = dir.path().join("run");
    let options = ["--latents", "40", "-k", "5", "--batch", "8", "--epochs", "5", "--lr", "1e-3", "--saes", "2"];
    train(&data, &run, &options).ok();
    TrainedRun { dir, data, run }
}

fn read_table(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let text = String::from_utf8(read(path)).expect("UTF-8");
    let split = |l: &str| l.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines();
    (split(lines.next().expect("a head")), lines.map(split).collect())
}

#[test]
fn features_csv_has_every_column_and_latent() {
    let r = trained_run();
    let ran = vibrissa(&["analyze", s(&r.run), &r.data, "--json"]).ok();
    let json = ran.json();
    assert_eq!((&json["schema"], &json["rows"]), (&Value::from("vibrissa.analysis/1"), &Value::from(60)));
    let (head, rows) = read_table(&r.run.join("features.csv"));
    let first = "sae,latent,rank,count,frequency,strength,score,score_scaled,delta_sse,delta_pearson,share";
    assert!(head.join(",").starts_with(first), "{head:?}");
    for class in ["a", "b"] {
        for kind in ["mean", "frequency", "auc", "q"] {
            assert!(head.contains(&format!("{kind}_{class}")), "no {kind}_{class} in {head:?}");
        }
    }
    assert_eq!(rows.len(), 80);
    let at = |name: &str| head.iter().position(|h| h == name).expect("a column");
    let number = |row: &[String], name: &str| row[at(name)].parse::<f64>().expect("a number");
    for sae in 0..2 {
        let own: Vec<&Vec<String>> = rows.iter().filter(|r| r[0] == sae.to_string()).collect();
        let numbers: Vec<f64> = own.iter().map(|r| number(r, "latent")).collect();
        assert_eq!(numbers, (0..40).map(f64::from).collect::<Vec<_>>());
        let mut ranks: Vec<usize> = own.iter().map(|r| number(r, "rank") as usize).collect();
        let best = own[ranks.iter().position(|&r| r == 1).expect("a first")];
        assert!(own.iter().all(|r| number(r, "score") <= number(best, "score")));
        ranks.sort_unstable();
        assert_eq!(ranks, (1..=40).collect::<Vec<_>>());
        assert!((own.iter().map(|r| number(r, "share")).sum::<f64>() - 1.0).abs() < 1e-9);
        for row in own {
            let score = 0.7 * number(row, "frequency") + 0.3 * number(row, "strength");
            assert!((score - number(row, "score")).abs() < 1e-12);
            assert!((number(row, "frequency") - number(row, "count") / 60.0).abs() < 1e-12);
            assert!((number(row, "share") == 0.0) == (number(row, "delta_sse") <= 0.0));
        }
    }
}

#[test]
fn shards_merge_to_the_bytes_of_one_pass() {
    let r = trained_run();
    let (parts, merged, whole) = (r.dir.path().join("parts"), r.dir.path().join("merged"), r.dir.path().join("whole"));
    for shard in ["3/3", "1/3", "2/3"] {
        vibrissa(&["analyze", s(&r.run), &r.data, "--shard", shard, "--out", s(&parts)]).ok();
    }
    let shards: Vec<String> =
        (1..=3).map(|i| s(&parts.join(format!("shard-{i}-of-3.safetensors"))).to_owned()).collect();
    let args = ["merge", s(&r.run), &r.data, &shards[1], &shards[2], &shards[0], "--out", s(&merged)];
    vibrissa(&args).ok();
    vibrissa(&["analyze", s(&r.run), &r.data, "--out", s(&whole), "--threads", "1"]).ok();
    for name in ["features.csv", "analysis.safetensors"] {
        assert!(read(&merged.join(name)) == read(&whole.join(name)), "{name} differs");
    }
    let twice = vibrissa(&["merge", s(&r.run), &r.data, &shards[0], &shards[0], &shards[1]]);
    twice.refused(&["shards", "every row once"]);
    let other = vibrissa(&["merge", s(&r.run), &r.data, &shards[0], "--split", "test"]);
    other.refused(&["shard-1-of-3", "other rows"]);
    vibrissa(&["analyze", s(&r.run), &r.data, "--shard", "4/3"]).refused(&["--shard", "I/N"]);
}

#[test]
fn latents_are_written_as_scipy_reads_them() {
    let r = trained_run();
    let out = r.dir.path().join("latents.npz");
    vibrissa(&["encode", s(&r.run), &r.data, "-o", s(&out), "--sae", "1"]).ok();
    assert_eq!(&read(&out)[..2], b"PK");
    assert_eq!(String::from_utf8(read(&out.with_extension("rows.txt"))).expect("UTF-8").lines().count(), 60);
    vibrissa(&["encode", s(&r.run), &r.data, "-o", s(&out), "--sae", "2"]).refused(&["--sae", "0 to 1"]);
    let python = "import sys, scipy.sparse as s; m = s.load_npz(sys.argv[1]); print(m.shape, m.nnz, m.format)";
    let got = std::process::Command::new("python3").args(["-c", python, s(&out)]).output();
    match got {
        Ok(o) if o.status.success() => {
            let text = String::from_utf8_lossy(&o.stdout).into_owned();
            assert!(text.starts_with("(60, 40) ") && text.trim().ends_with("csr"), "{text}");
        }
        _ => eprintln!("no SciPy here: the file was not read back"),
    }
}

#[test]
fn prune_keeps_the_most_important_features() {
    let r = trained_run();
    let out = r.dir.path().join("small");
    let args = ["prune", s(&r.run), "--top", "9", "--by", "frequency", "--out", s(&out)];
    vibrissa(&args).refused(&["analysis.safetensors", "vibrissa analyze"]);
    vibrissa(&["analyze", s(&r.run), &r.data]).ok();
    vibrissa(&args).ok();
    let record: Value = serde_json::from_slice(&read(&out.join("prune.json"))).expect("JSON");
    let kept: Vec<usize> =
        record["kept"][0].as_array().expect("a list").iter().map(|h| h.as_u64().expect("a number") as usize).collect();
    let (head, rows) = read_table(&r.run.join("features.csv"));
    let frequency = head.iter().position(|h| h == "frequency").expect("a column");
    let value = |h: usize| rows[h][frequency].parse::<f64>().expect("a number");
    let least = kept.iter().map(|&h| value(h)).fold(f64::INFINITY, f64::min);
    assert_eq!(kept.len(), 9);
    assert!((0..40).filter(|h| !kept.contains(h)).all(|h| value(h) <= least));
    let json = vibrissa(&["eval", s(&out), &r.data, "--split", "all", "--json"]).ok().json();
    assert_eq!(json["saes"][0]["latents"], 9);
    vibrissa(&["prune", s(&r.run), "--top", "41", "--out", "x"]).refused(&["--top", "1 to 40"]);
    vibrissa(&["prune", s(&r.run), "--top", "4", "--by", "beauty", "--out", "x"]).refused(&["--by", "delta_sse"]);
}

#[test]
fn the_report_needs_neither_data_nor_network() {
    let r = trained_run();
    vibrissa(&["report", s(&r.run)]).refused(&["analysis.json", "vibrissa analyze"]);
    vibrissa(&["analyze", s(&r.run), &r.data]).ok();
    let images = r.dir.path().join("images");
    std::fs::rename(&images, r.dir.path().join("away")).expect("moved");
    vibrissa(&["report", s(&r.run)]).ok();
    std::fs::rename(r.dir.path().join("away"), &images).expect("moved back");
    let page = String::from_utf8(read(&r.run.join("report.html"))).expect("UTF-8");
    let addresses: Vec<&str> = page.match_indices("http").map(|(i, _)| &page[i..(i + 26).min(page.len())]).collect();
    assert!(addresses.iter().all(|a| a.starts_with("http://www.w3.org/2000/svg")), "{addresses:?}");
    assert!(!page.contains("{{"), "a place was not filled");
    vibrissa(&["report", s(&r.run), "--lang", "zh"]).ok();
    assert!(String::from_utf8(read(&r.run.join("report.html"))).expect("UTF-8").contains("lang=\"zh-CN\""));
    vibrissa(&["report", s(&r.run), "--lang", "fr"]).refused(&["--lang"]);
    vibrissa(&["report", s(&r.run), "--out", s(r.dir.path())]).refused(&["--out", "report.html"]);
    // Columns of another analysis.
    let other = r.dir.path().join("other");
    vibrissa(&["analyze", s(&r.run), &r.data, "--split", "train", "--out", s(&other)]).ok();
    std::fs::copy(other.join("analysis.json"), r.run.join("analysis.json")).expect("copied");
    vibrissa(&["report", s(&r.run)]).refused(&["analysis.safetensors", "beside it", "vibrissa analyze"]);
    write(&r.run.join("analysis.json"), "{\"schema\": \"vibrissa.analysis/2\"}");
    vibrissa(&["report", s(&r.run)]).refused(&["analysis.json", "newer"]);
}

#[test]
fn weights_change_the_score_and_rows_of_numbers_have_no_classes() {
    let dir = tempdir();
    let (data, run) = (npy(dir.path(), "x.npy", 24, &rows(200, 24, 1)), dir.path().join("run"));
    train(&data, &run, &["--latents", "48", "-k", "6", "--steps", "40", "--lr", "1e-3"]).ok();
    vibrissa(&["analyze", s(&run), &data, "--weights", "1"]).refused(&["--weights", "0.7,0.3"]);
    vibrissa(&["analyze", s(&run), &data, "--weights", "1,0", "--split", "test"]).ok();
    let (head, rows) = read_table(&run.join("features.csv"));
    let at = |name: &str| head.iter().position(|h| h == name).expect("a column");
    assert!(rows.iter().all(|r| r[at("score")] == r[at("frequency")]));
    assert!(!head.iter().any(|h| h.starts_with("auc")), "rows of numbers have no classes: {head:?}");
    vibrissa(&["report", s(&run)]).ok();
}

#[test]
fn features_are_related_to_the_columns_of_a_metadata_table() {
    let r = trained_run();
    let csv = r.dir.path().join("known.csv");
    // Columns: the class, a constant, a number, and names. Two rows are not in the table, and one name in it is unknown.
    let mut text = String::from("file,batch,constant,weight,animal\n");
    let names: Vec<String> = ["a", "b"].iter().flat_map(|c| file_names(&Path::new(&r.data).join(c), c)).collect();
    for (i, name) in names.iter().enumerate().skip(2) {
        text += &format!("{name},{},1,{},m{i}\n", if name.starts_with('a') { "x" } else { "y" }, i * 37 % 11);
    }
    text += "no/such.png,x,1,3,m\n";
    std::fs::write(&csv, &text).expect("a table");
    let ran = vibrissa(&["analyze", s(&r.run), &r.data, "--metadata", s(&csv), "--json"]).ok();
    assert!(ran.stderr.contains("58 of 60 rows named") && ran.stderr.contains("no/such.png"), "{}", ran.stderr);
    let json = ran.json();
    let known = json["metadata"].as_array().expect("columns");
    let kinds: Vec<&str> = known.iter().map(|k| k["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["levels", "", "number", ""]);
    assert!((known[0]["with_classes"].as_f64().expect("a figure") - 1.0).abs() < 1e-9, "batch is the class");
    assert_eq!(known[0]["saes"].as_array().map(Vec::len), Some(2));
    assert!(known[3]["left_out"].as_str().expect("why").contains("58 different values"));
    let (head, rows) = read_table(&r.run.join("features-metadata.csv"));
    assert_eq!(head.join(","), "sae,latent,column,kind,effect,p,q");
    assert!(rows.iter().all(|r| r[2] == "batch" || r[2] == "weight"));
    vibrissa(&["report", s(&r.run)]).ok();
    let text = String::from_utf8(read(&r.run.join("report-figures/report.md"))).expect("UTF-8");
    assert!(text.contains("batch is confounded with the classes"), "{text}");
    // Tables that cannot be used are refused with the reason.
    std::fs::write(&csv, "file,batch\nother.png,x\n").expect("a table");
    vibrissa(&["analyze", s(&r.run), &r.data, "--metadata", s(&csv)]).refused(&["names none of the rows", "other.png"]);
    std::fs::write(&csv, format!("file,batch\n{0},x\n{0},y\n", names[0])).expect("a table");
    vibrissa(&["analyze", s(&r.run), &r.data, "--metadata", s(&csv)]).refused(&["twice"]);
    std::fs::write(&csv, "file,batch\na,b,c\n").expect("a table");
    vibrissa(&["analyze", s(&r.run), &r.data, "--metadata", s(&csv)]).refused(&["is not a table"]);
    // An analysis without a table removes the file of the one before.
    vibrissa(&["analyze", s(&r.run), &r.data]).ok();
    assert!(!r.run.join("features-metadata.csv").exists());
}

fn file_names(folder: &Path, class: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| format!("{class}/{}", e.expect("an entry").file_name().to_string_lossy()))
        .collect();
    names.sort();
    names
}

/// Writes every figure as SVG and PNG and names it in the Markdown, in both languages.
#[test]
fn a_report_has_files_of_its_figures_and_its_text() {
    let r = trained_run();
    vibrissa(&["analyze", s(&r.run), &r.data]).ok();
    for by in ["score", "delta_sse"] {
        let out = r.dir.path().join(by);
        vibrissa(&["prune", s(&r.run), "--top", "10", "--by", by, "--out", s(&out)]).ok();
    }
    for (lang, word) in [("en", "Pruning"), ("zh", "剪枝")] {
        let page = r.dir.path().join(lang).join("page.html");
        std::fs::create_dir_all(page.parent().expect("a folder")).expect("a folder");
        vibrissa(&["report", s(&r.run), "-o", s(&page), "--lang", lang]).ok();
        let text = String::from_utf8(read(&page.with_file_name("page-figures/report.md"))).expect("UTF-8");
        assert!(text.contains(&format!("## {word}\n")), "{text}");
        let figures = page.with_file_name("page-figures");
        let mut names: Vec<String> = std::fs::read_dir(&figures)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let of = |kind: &str| -> Vec<String> {
            names.iter().filter_map(|n| n.strip_suffix(kind)).map(str::to_owned).collect()
        };
        assert_eq!(of(".svg"), of(".png"));
        for name in [
            "density",
            "delta_pearson",
            "delta_sse",
            "features",
            "heat",
            "mmcs",
            "pearson_by_class",
            "profile",
            "prune_fvu",
            "prune_pearson",
            "rank_plot",
            "reconstructions",
            "score",
            "strength",
            "usage_curve",
            "values",
        ] {
            assert!(of(".svg").contains(&name.to_owned()), "no figure {name} in {names:?}");
            assert!(text.contains(&format!("({name}.png)")), "{name} is not in the text");
            assert_eq!(&read(&figures.join(format!("{name}.png")))[1..4], b"PNG");
        }
    }
}

#[test]
fn the_report_of_a_sweep_needs_neither_data_nor_network() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 60, 12, &["a", "b"]);
    let out = dir.path().join("sweep");
    let options = ["--latents", "20", "--batch", "8", "--steps", "12"];
    let grid = ["--grid", "k=2,4,8", "seed=1,2"];
    vibrissa(&[&["sweep", &data, "--out", s(&out)], &options[..], &grid].concat()).ok();
    for lang in ["en", "zh"] {
        vibrissa(&["report", s(&out), "--lang", lang]).ok();
        let page = String::from_utf8(read(&out.join("report.html"))).expect("UTF-8");
        let addresses: Vec<&str> =
            page.match_indices("http").map(|(i, _)| &page[i..(i + 26).min(page.len())]).collect();
        assert!(addresses.iter().all(|a| a.starts_with("http://www.w3.org/2000/svg")), "{addresses:?}");
        assert!(!page.contains("{{") && !page.contains("sw_") && page.contains("id=\"side\""));
        let text = String::from_utf8(read(&out.join("report-figures/report.md"))).expect("UTF-8");
        for name in ["fvu_l0", "pearson_l0", "effect_k", "effect_seed", "dead_l0", "side_recons", "side_walls"] {
            assert!(text.contains(&format!("]({name}.png)")), "{name}");
            assert!(["svg", "png"].iter().all(|kind| out.join(format!("report-figures/{name}.{kind}")).exists()));
        }
    }
    // A record of an earlier version, without the newer figures, still gives a page.
    let path = out.join("sweep.json");
    let mut old: Value = serde_json::from_slice(&read(&path)).expect("JSON");
    old["effects"] = Value::Array(Vec::new());
    old["configurations"][0]
        .as_object_mut()
        .expect("a table")
        .retain(|key, _| matches!(key.as_str(), "name" | "l0" | "fvu"));
    write(&path, old.to_string());
    vibrissa(&["report", s(&out)]).ok();
    write(&path, "{\"schema\": \"vibrissa.sweep/1\", \"cells\": [");
    vibrissa(&["report", s(&out)]).refused(&["sweep.json", "--resume"]);
    write(&path, "{\"schema\": \"vibrissa.sweep/2\"}");
    vibrissa(&["report", s(&out)]).refused(&["sweep.json", "newer"]);
}
