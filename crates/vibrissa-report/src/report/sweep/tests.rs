use super::*;
use vibrissa_record::sweep::{EffectLine, EffectPoint, EffectRecord};
use vibrissa_record::{Number, Ordered, Reconstruction, Scores};

fn values(k: u64, activation: &str) -> Ordered<String> {
    [("activation", activation.to_owned()), ("k", k.to_string())].map(|(a, b)| (a.to_owned(), b)).into_iter().collect()
}

fn configuration(activation: &str, k: u64, fvu: f64, front: bool) -> ConfigurationRecord {
    ConfigurationRecord {
        name: format!("activation={activation} k={k}"),
        values: values(k, activation),
        k,
        seeds: 2,
        l0: Number::from(k as f64 * 1.2),
        l0_train: Number::from(k as f64),
        l0_far: true,
        fvu: Number::from(fvu),
        fvu_band: Number::from(0.01),
        pearson: Number::from(1.0 - fvu / 2.0),
        dead_share: Number::from(fvu / 4.0),
        seconds: Number::from(k as f64),
        validation_fvu: Number::from(fvu + 0.001),
        front,
        ..ConfigurationRecord::default()
    }
}

fn record() -> SweepRecord {
    let cell = |activation: &str, k: u64, fvu: f64, ended| CellRecord {
        name: format!("activation={activation} k={k} <b>"),
        values: values(k, activation),
        k,
        ended,
        step: 40,
        steps: 320,
        seconds: Some(2.0),
        validation_fvu: Some(fvu),
        scores: (ended == Ended::Finished).then(|| Scores {
            reconstruction: Reconstruction { fvu: Some(fvu), ..Reconstruction::default() },
            ..Scores::default()
        }),
        ..CellRecord::default()
    };
    let done = Ended::Finished;
    let points = [("topk", 0.2), ("relu", 0.4)].map(|(value, fvu)| EffectPoint {
        value: value.into(),
        cells: 1,
        validation_fvu: Number::from(fvu),
        fvu: Number::from(fvu),
    });
    SweepRecord {
        data: "digits & more".into(),
        keys: vec!["activation".into(), "k".into()],
        training_rows: 1000,
        validation_rows: 100,
        test_rows: 120,
        halving: true,
        cells: vec![
            cell("topk", 4, 0.5, done),
            cell("topk", 16, 0.2, done),
            cell("relu", 4, 0.6, done),
            cell("relu", 16, 0.3, Ended::Stopped),
        ],
        configurations: vec![
            configuration("topk", 4, 0.5, true),
            configuration("topk", 16, 0.2, true),
            configuration("relu", 4, 0.6, false),
        ],
        effects: vec![EffectRecord {
            key: "activation".into(),
            spread: Number::from(0.2),
            lines: vec![EffectLine { k: None, points: points.to_vec() }],
        }],
        best: Some("activation=topk k=16".into()),
        knee: Some("activation=topk k=4".into()),
        mean_image: Reconstruction { fvu: Some(1.0), pearson: Some(0.5), ..Reconstruction::default() },
        seconds: Some(61.0),
        tool_version: "0".into(),
        ..SweepRecord::default()
    }
}

fn report<'a>(sweep: &'a SweepRecord, images: &'a [ConfigurationImages], language: Language) -> SweepReport<'a> {
    SweepReport { sweep, name: "a<b", originals: Some(b"not a PNG"), images, language }
}

#[test]
fn the_summary_has_findings_and_caveats() {
    let record = record();
    let (report, words) = (report(&record, &[], Language::En), Words::of(Language::En));
    let context = Context { report: &report, words: &words };
    let facts = summary::facts(&context);
    assert_eq!(facts[0], "Options varied: activation (topk, relu); k (4, 16).");
    assert!(facts[1].contains("activation=topk k=16") && facts[1].contains("fvu is 0.2000 ± 0.0100"), "{}", facts[1]);
    assert!(facts[2].starts_with("The knee of the front is activation=topk k=4, with L0 4.8"), "{}", facts[2]);
    assert!(facts[3].starts_with("On the Pareto front: 2 of 3 finished configurations"), "{}", facts[3]);
    assert!(facts.iter().any(|f| f.starts_with("Cells stopped early") && f.contains("better: 1.")));
    assert!(facts.last().is_some_and(|f| f.contains("61 s")), "{facts:?}");
    let caveats = summary::caveats(&context);
    let starts =
        ["Only 120 test rows", "Error bars are 95 % confidence intervals over 2", "In 3 of 3", "Means leave out"];
    assert_eq!(caveats.len(), starts.len(), "{caveats:?}");
    assert!(caveats.iter().zip(starts).all(|(c, s)| c.starts_with(s)), "{caveats:?}");
}

#[test]
fn each_section_has_its_figures() {
    let record = record();
    let of = |section: &str| -> Vec<String> {
        let report = report(&record, &[], Language::En);
        figures(&report, Target::Page).into_iter().filter(|f| f.section == section).map(|f| f.name).collect()
    };
    assert_eq!(of("front"), ["fvu_l0", "pearson_l0"]);
    assert_eq!(of("effects"), ["effect_activation"]);
    assert_eq!(of("cost"), ["dead_l0", "seconds_l0"]);
    let fvu = &figures(&report(&record, &[], Language::En), Target::File)[0].svg;
    // Two rings; the names of best and knee; two series.
    assert_eq!(fvu.matches("stroke-width=\"1.3\"").count(), 2);
    assert!(fvu.contains(">best</text>") && fvu.contains(">knee</text>") && fvu.contains(">relu</text>"));
    assert!(fvu.contains("<title>activation=topk k=4: L0 4.8 · fvu 0.5000 ± 0.0100 · r 0.7500 · 2 seeds</title>"));
}

#[test]
fn the_table_leaves_out_measures_without_values() {
    let record = record();
    let (report, words) = (report(&record, &[], Language::En), Words::of(Language::En));
    let context = Context { report: &report, words: &words };
    let columns = tables::measures(&context);
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    assert!(names.starts_with(&["configuration", "mark", "seeds", "k", "L0", "L0 in training"]), "{names:?}");
    assert!(!names.contains(&"SSIM") && names.contains(&"dead"));
    let dead = columns.iter().find(|c| c.name == "dead").expect("a column");
    assert_eq!((dead.cells[2].text.as_str(), dead.cells[2].bar), ("15.0\u{a0}%", Some(1.0)));
    assert_eq!(columns[1].cells.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["knee", "best", ""]);
    let stopped = tables::unfinished(&context);
    assert_eq!((stopped[2].name.as_str(), stopped[2].cells[0].text.as_str()), ("last step", "40"));
}

#[test]
fn side_by_side_are_best_knee_and_distant_configurations() {
    let mut record = record();
    record.configurations =
        (0..40).map(|i| configuration("topk", 10 + i, 1.0 / f64::from(i as u32 + 1), true)).collect();
    record.best = Some("activation=topk k=20".into());
    record.knee = Some("activation=topk k=21".into());
    let shown = side_by_side(&record);
    let ks: Vec<u64> = shown.iter().map(|c| c.k).collect();
    assert_eq!((shown.len(), ks[0], ks[7]), (8, 10, 49), "{ks:?}");
    assert!(ks.contains(&20) && ks.contains(&21) && ks.is_sorted(), "{ks:?}");
    assert!(side_by_side(&SweepRecord::default()).is_empty());
}

#[test]
fn the_page_is_complete_in_both_languages() {
    let record = record();
    let images_of = |name: &str| ConfigurationImages {
        configuration: format!("activation=topk {name}"),
        reconstructions: vec![1],
        features: vec![2],
    };
    let images = [images_of("k=4"), images_of("k=16")];
    for (language, code) in [(Language::En, "lang=\"en\""), (Language::Zh, "lang=\"zh-CN\"")] {
        let report = report(&record, &images, language);
        let page = html(&report);
        for id in ["summary", "front", "effects", "cost", "table", "side", "method"] {
            assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert!(page.contains(code) && !page.contains("{{") && page.contains("a&lt;b") && !page.contains("a<b"));
        assert!(page.contains("<details>") && !page.contains("k=16 <b>") && !page.contains("sw_"));
        let text = markdown(&report, &figures(&report, Target::File));
        assert!(text.contains("](fvu_l0.png)") && text.contains("](side_walls.png)") && !text.contains("sw_"));
    }
    // A sweep of which no cell finished has no figures, but a page.
    let none = SweepRecord { cells: record.cells[3..].to_vec(), ..SweepRecord::default() };
    let empty = html(&SweepReport { sweep: &none, name: "x", originals: None, images: &[], language: Language::En });
    let (main, _) = empty.split_once("<script>").expect("a script");
    assert!(!main.contains("id=\"front\"") && main.contains("id=\"table\"") && !main.contains("NaN"));
}

/// HTML with drawings replaced by their texts and images by their labels, an element a line.
fn readable(html: &str) -> String {
    let mut out = String::new();
    for (i, part) in html.split("<svg").enumerate() {
        match part.split_once("</svg>") {
            Some((svg, rest)) if i > 0 => out += &format!("<svg>{}</svg>{rest}", crate::report::tests::texts(svg)),
            _ => out += part,
        }
    }
    out.replace("data:image/png;base64,", "").replace("><", ">\n<")
}

#[test]
fn sections_in_english() {
    let record = record();
    let names = ["activation=topk k=4", "activation=topk k=16"];
    let images: Vec<ConfigurationImages> = names
        .map(|name| ConfigurationImages { configuration: name.into(), reconstructions: vec![1], features: vec![2] })
        .into();
    let (report, words) = (report(&record, &images, Language::En), Words::of(Language::En));
    let context = Context { report: &report, words: &words };
    let drawn = figures(&report, Target::Page);
    for section in &SECTIONS {
        let [title, note] = context.heading(section.id);
        let html = readable(&(section.html)(&context, &drawn));
        insta::assert_snapshot!(format!("en_{}", section.id), format!("{title}\n{note}\n\n{html}"));
    }
}

#[test]
fn report_in_chinese() {
    let record = record();
    let report = report(&record, &[], Language::Zh);
    insta::assert_snapshot!("zh", markdown(&report, &figures(&report, Target::File)));
}
