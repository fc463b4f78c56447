//! Snapshots of every section, from a small record made by hand: an ensemble of two SAEs with four latents on six
//! images of 2×2 pixels in two classes. `INSTA_UPDATE=always cargo test -p vibrissa-report` writes them anew; read the
//! difference.

use super::*;
use vibrissa_record::analysis::columns::*;
use vibrissa_record::analysis::*;
use vibrissa_record::columns::Array;
use vibrissa_record::{ByClass, Number, OfClass, Ordered, Reconstruction, SaeLine, Scores};

const LATENTS: usize = 4;

/// The records of an analysed run.
struct Records {
    analysis: AnalysisRecord,
    columns: AnalysisColumns,
    eval: EvalRecord,
    metrics: Vec<MetricsLine>,
    pruning: Vec<PruneRecord>,
}

impl Records {
    fn report(&self, language: Language) -> RunReport<'_> {
        RunReport {
            analysis: &self.analysis,
            columns: &self.columns,
            eval: Some(&self.eval),
            metrics: &self.metrics,
            pruning: &self.pruning,
            language,
        }
    }
}

fn n(v: f64) -> Number {
    Number::from(v)
}

fn sae_analysis() -> SaeAnalysis {
    let pair =
        |a, b, pmi, synergy, cosine| PairRecord { a, b, count: 3, pmi: n(pmi), synergy: n(synergy), cosine: n(cosine) };
    let moment = |step, alive, born, died, stability| CheckpointRecord { step, alive, born, died, stability };
    SaeAnalysis {
        latents: LATENTS as u64,
        dead: 1,
        rare: 0,
        dense: 1,
        l0: n(1.5),
        pearson: n(0.875),
        class_pearson: vec![n(0.9), n(0.85)],
        mse: n(0.01),
        usage: UsageRecord {
            curve: (0..=100).map(|p| f64::from(p).sqrt() / 10.0).collect(),
            gini: n(0.4),
            carry_80: n(0.5),
            negative: 1,
            tail: n(0.7),
            tail_r2: n(0.95),
        },
        density: vec![(-1.0, 1), (-0.75, 0), (-0.5, 2)],
        order: OrderRecord {
            top: 4,
            share: [n(0.25), n(0.25)],
            sharpness: [n(0.5), n(0.4)],
            top_frequency: n(2.0 / 3.0),
            top_least_frequency: n(0.0),
            rank_index: n(-0.4),
        },
        classes: Some(ClassesRecord {
            significant: 2,
            selective: vec![vec![0], Vec::new()],
            shared: 1,
            silhouette: n(0.2),
            probe: n(0.83),
            majority: n(0.5),
        }),
        pairs: Some(CoactivationRecord {
            pairs: 2,
            overlap: vec![pair(0, 1, 0.5, 0.02, 0.6)],
            correct: vec![pair(1, 2, -0.25, -0.01, -0.3)],
            together: vec![pair(0, 1, 0.5, 0.02, 0.6)],
            redundant: Vec::new(),
            groups: vec![GroupRecord { latents: vec![0, 1], npmi: n(0.45), cosine: n(0.6), share: n(0.9) }],
        }),
        history: vec![moment(10, 2, 0, 0, Number(None)), moment(20, 3, 1, 0, n(0.8))],
        reconstructions: vec![
            ReconstructionRecord { cited: 0, rank: "worst".into(), pearson: n(0.5), active: vec![(0, 1.5)] },
            ReconstructionRecord { cited: 1, rank: "best".into(), pearson: n(0.99), active: vec![(1, 0.5), (2, 0.25)] },
        ],
    }
}

fn sae_columns() -> SaeColumns {
    let vector = |values: [f64; LATENTS]| Array::vector(values.to_vec());
    let mut histogram = vec![0; LATENTS * 256];
    // Latent 0: one activation below 0, three from 1 to 2; latent 1: two from 0.5 to 1.
    (histogram[5], histogram[32 + 8 * 16], histogram[256 + 32 + 8 * 15]) = (1, 3, 2);
    let mut pearson_histogram = vec![0; 2 * 100];
    (pearson_histogram[75], pearson_histogram[99], pearson_histogram[100 + 98]) = (1, 2, 3);
    let examples = |values: [u32; 2]| Array::new(&[2, 1], values.to_vec());
    let values = |values: [f64; 2]| Array::new(&[2, 1], values.to_vec());
    SaeColumns {
        latents: LatentColumns {
            rank: Array::vector(vec![1, 2, 3, 4]),
            count: Array::vector(vec![4, 3, 2, 0]),
            frequency: vector([4.0 / 6.0, 0.5, 2.0 / 6.0, 0.0]),
            strength: vector([1.25, 0.75, 0.5, 0.0]),
            score: vector([0.84, 0.575, 0.383, 0.0]),
            score_scaled: vector([0.77, 0.53, 0.35, 0.0]),
            delta_sse: vector([0.1, 0.05, -0.001, 0.0]),
            delta_pearson: vector([0.2, 0.1, 0.0001, 0.0]),
            share: vector([0.667, 0.333, 0.0, 0.0]),
            encoder_norm: vector([1.0; LATENTS]),
            decoder_norm: vector([1.0; LATENTS]),
            cosine: vector([0.9; LATENTS]),
            largest: vector([2.0, 1.0, 0.75, f64::NEG_INFINITY]),
        },
        histogram: HistogramColumns { histogram: Array::new(&[LATENTS, 256], histogram) },
        quality: QualityColumns { pearson_histogram: Array::new(&[2, 100], pearson_histogram) },
        classes: Some(ClassColumns {
            mean: Array::new(&[LATENTS, 2], vec![1.0, 0.25, 0.5, 0.5, -0.1, 0.2, 0.0, 0.0]),
            ..ClassColumns::default()
        }),
        examples: ExampleColumns {
            latent: Array::vector(vec![0, 1]),
            top_row: examples([0, 1]),
            top_value: values([2.0, 1.0]),
            random_row: examples([1, NO_ROW]),
            random_value: values([1.0, f64::NAN]),
            near_row: examples([1, 0]),
            near_value: values([0.5, 0.25]),
        },
        sample: SampleColumns {
            start: Array::vector(vec![0, 1, 3]),
            latent: Array::vector(vec![0, 1, 2]),
            value: Array::vector(vec![2.0, 1.0, 0.5]),
        },
        reconstructions: Reconstructions::Images(ReconstructedImages {
            original: Array::new(&[2, 1, 2, 2], vec![0, 64, 128, 255, 255, 128, 64, 0]),
            recon: Array::new(&[2, 1, 2, 2], vec![0, 60, 120, 250, 250, 120, 60, 0]),
        }),
        tiles: Some(TileColumns {
            latent: Array::vector(vec![0, 1, 2]),
            tile: Array::new(&[3, 1, 2, 2], vec![1, 128, 255, 128, 255, 128, 1, 128, 128, 255, 128, 1]),
        }),
        history: Some(HistoryColumns {
            step: Array::vector(vec![10, 20]),
            frequency: Array::new(&[2, LATENTS], vec![0.5, 0.5, 0.0, 0.0, 0.6, 0.5, 0.3, 0.0]),
        }),
        ensemble: Some(EnsembleColumns { best_partner: vector([0.9, 0.6, 0.2, f64::NAN]) }),
        metadata: vec![
            Some(MetadataColumns { effect: vector([0.5; 4]), p: vector([0.01; 4]), q: vector([0.02; 4]) }),
            None,
        ],
        ..SaeColumns::default()
    }
}

fn scores(pearson: f64) -> Scores {
    let reconstruction = Reconstruction {
        pearson: Some(pearson),
        mse: Some(0.01),
        fvu: Some(0.2),
        ssim: Some(0.7),
        perceptual: Some(0.1),
        psnr: Some(20.0),
        ..Reconstruction::default()
    };
    Scores { reconstruction, ..Scores::default() }
}

fn records() -> Records {
    let association = MetadataAssociation { significant: 1, top: vec![(0, -0.5, 0.02)] };
    let age = MetadataRecord {
        column: "age".into(),
        kind: "number".into(),
        rows: 6,
        with_classes: n(0.75),
        saes: vec![association; 2],
        ..MetadataRecord::default()
    };
    let animal = MetadataRecord {
        column: "animal".into(),
        left_out: "6 different values".into(),
        rows: 6,
        ..MetadataRecord::default()
    };
    let cited = |row, class| CitedRow { row, name: format!("{class}/{row}.png"), class: Some(class), place: None };
    let analysis = AnalysisRecord {
        schema: ANALYSIS_SCHEMA.into(),
        tool_version: "0".into(),
        run: "small".into(),
        data: "images/ & <more>".into(),
        split: "train".into(),
        rows: 6,
        classes: [("cat".into(), 3), ("dog".into(), 3)].into_iter().collect(),
        images: Some([1, 2, 2]),
        patches: None,
        weights: [0.7, 0.3],
        k: 2,
        saes: vec![sae_analysis(); 2],
        ensemble: Some(EnsembleAnalysis {
            mmcs: vec![vec![n(1.0), n(0.8)], vec![n(0.75), n(1.0)]],
            mcc: vec![(0, 1, n(0.7))],
            shared: vec![2, 2],
            unshared: vec![1, 0],
        }),
        metadata: vec![age, animal],
        cited: vec![cited(4, 0), cited(2, 1)],
        histograms: HistogramsRecord::CURRENT,
        columns_hash: String::new(),
        seconds: n(1.0),
        rows_per_s: n(6.0),
    };
    let columns = AnalysisColumns {
        saes: vec![sae_columns(); 2],
        sampled: SampledRows { row: Array::vector(vec![0, 1]) },
        cited: Some(CitedImages { image: Array::new(&[2, 1, 2, 2], vec![0, 64, 128, 255, 255, 128, 64, 0]) }),
        patched: None,
    };
    let by_class: Ordered<OfClass<Scores>> = [("cat", 0.9), ("dog", 0.8)]
        .map(|(c, r)| (c.to_owned(), OfClass { rows: 3, scores: scores(r) }))
        .into_iter()
        .collect();
    let eval = EvalRecord {
        rows: 6,
        saes: [0.85, 0.8].map(|r| ByClass { scores: scores(r), by_class: Ordered::default() }).into(),
        ensemble: ByClass { scores: scores(0.87), by_class },
        mean_image: ByClass {
            scores: Reconstruction {
                pearson: Some(0.3),
                fvu: Some(1.0),
                perceptual: Some(0.4),
                ..Reconstruction::default()
            },
            by_class: Ordered::default(),
        },
        data: Some("images/".into()),
        split: Some("folds".into()),
        ..EvalRecord::default()
    };
    let line = |step: u64, loss: f64| {
        let loss = [("recon".to_owned(), n(loss))].into_iter().collect();
        let sae = SaeLine { loss, pearson: Some(0.5), dead_latents: Some(1), ..SaeLine::default() };
        MetricsLine { step, saes: vec![sae; 2], ..MetricsLine::default() }
    };
    let point = |features, pearson, fvu| PrunePoint { features, pearson: n(pearson), fvu: n(fvu) };
    let pruning = PruneRecord {
        schema: PRUNE_SCHEMA.into(),
        by: Measure::DeltaSse,
        top: 2,
        data: "images/".into(),
        rows: "held-out rows".into(),
        curve: vec![point(4, 0.85, 0.2), point(2, 0.7, 0.4), point(1, 0.5, 0.6)],
        kept: Vec::new(),
    };
    Records { analysis, columns, eval, metrics: vec![line(10, 0.5), line(20, 0.25)], pruning: vec![pruning] }
}

/// The texts of a drawing: titles, labels, ticks, legends and tooltips.
pub(super) fn texts(svg: &str) -> String {
    let text = |part: &str| {
        let (tag, rest) = part.split_once('>')?;
        (tag.starts_with("text") || tag.starts_with("title")).then(|| rest.to_owned()).filter(|t| !t.is_empty())
    };
    svg.split('<').filter_map(text).collect::<Vec<String>>().join(" | ")
}

/// A section as its Markdown, followed by the texts of its figures.
fn section_text(context: &Context, id: &str) -> String {
    let section = SECTIONS.iter().find(|s| s.id == id).expect("a section");
    let figures = (section.figures)(context, Target::File);
    let body = markdown::figures_of(id, &figures) + &(section.markdown)(context);
    let note = context.words.find(&format!("note_{id}")).unwrap_or_default();
    let mut out = markdown::section_text(&context.t(&format!("section_{id}")), note, &body);
    for f in &figures {
        out += &format!("\nfigure {}: {}\n", f.name, texts(&f.svg));
    }
    out.trim_start().to_owned()
}

#[test]
fn sections_in_english() {
    let (records, words) = (records(), Words::of(Language::En));
    let context = Context { report: &records.report(Language::En), words: &words };
    for section in &SECTIONS {
        insta::assert_snapshot!(format!("en_{}", section.id), section_text(&context, section.id));
    }
}

#[test]
fn report_in_chinese() {
    let (records, words) = (records(), Words::of(Language::Zh));
    let context = Context { report: &records.report(Language::Zh), words: &words };
    let all: Vec<String> = SECTIONS.iter().map(|s| section_text(&context, s.id)).collect();
    insta::assert_snapshot!("zh", format!("{}\n\n{}", summary::subtitle(&context), all.join("\n")));
}

/// The page holds the record, the words of one language and nothing that ends its script.
#[test]
fn the_page_is_complete_in_both_languages() {
    let records = records();
    for (language, code) in [(Language::En, "lang=\"en\""), (Language::Zh, "lang=\"zh-CN\"")] {
        let page = html(&records.report(language));
        assert!(page.contains(code) && !page.contains("{{") && !page.contains("<more>"));
        let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        let ids: Vec<&str> =
            data["sections"].as_array().expect("a list").iter().filter_map(|s| s["id"].as_str()).collect();
        assert!(ids.iter().copied().eq(SECTIONS.iter().map(|s| s.id)), "{ids:?}");
        assert!(data["words"]["close"].is_string() && data["words"]["sw_title"].is_null());
        assert_eq!(data["columns"]["0.histogram"]["shape"], serde_json::json!([2, 256]));
        assert!(data["columns"]["0.metadata.0.q"].is_object() && data["columns"]["0.metadata.0.p"].is_null());
    }
    // Every key that the script looks up has a word.
    let words = Words::of(Language::En);
    for key in page::script_keys() {
        assert!(words.find(&key).is_some(), "{key}");
    }
}

#[test]
fn figures_are_those_of_the_sections_with_data() {
    let mut records = records();
    records.metrics.clear();
    records.pruning.clear();
    records.analysis.ensemble = None;
    let names = |target| -> Vec<String> {
        figures(&records.report(Language::En), target).into_iter().map(|f| f.name).collect()
    };
    let page = names(Target::Page);
    let common = ["pearson_by_class", "density", "strength", "score", "delta_sse", "delta_pearson", "values"];
    let rest = ["usage_curve", "rank_plot", "profile", "heat", "alive", "stability"];
    assert_eq!(page, [&common[..], &rest[..]].concat());
    assert_eq!(names(Target::File), [&["reconstructions", "features"][..], &common[..], &rest[..]].concat());
}

/// Files of an earlier report that this one does not have are removed; other files stay.
#[test]
fn a_report_is_written_into_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let Records { analysis, columns, .. } = records();
    let mut analysis = Analysis { record: AnalysisRecord { metadata: Vec::new(), ..analysis }, columns };
    analysis.columns.saes.iter_mut().for_each(|s| s.metadata.clear());
    assert!(write(folder.path(), &ReportOptions::default()).unwrap_err().to_string().contains("vibrissa analyze"));
    analysis.columns.saes.iter_mut().for_each(|s| {
        let empty = || Array::new(&[LATENTS, 2], vec![0.0; LATENTS * 2]);
        let classes = s.classes.as_mut().expect("classes");
        (classes.difference, classes.frequency, classes.auc) = (empty(), empty(), empty());
        let latents = || Array::vector(vec![0.0; LATENTS]);
        (classes.information, classes.p, classes.q) = (latents(), latents(), latents());
    });
    analysis.write(folder.path()).expect("written");
    let options = ReportOptions { out: Some(folder.path().join("page.html")), language: Language::Zh };
    let figures = folder.path().join("page-figures");
    std::fs::create_dir(&figures).expect("a folder");
    for name in ["old.svg", "notes.txt"] {
        std::fs::write(figures.join(name), "").expect("a file");
    }
    let written = write(folder.path(), &options).expect("a report");
    assert_eq!((&written.page, &written.folder), (options.out.as_ref().expect("a page"), &figures));
    assert_eq!(std::fs::read(&written.page).expect("a page").len(), written.page_bytes);
    assert!(std::fs::read_to_string(figures.join("report.md")).expect("a text").contains("## 概要"));
    assert!(!figures.join("old.svg").exists() && figures.join("notes.txt").exists());
    assert!(figures.join("density.svg").exists() && figures.join("density.png").exists());
    let folder_as_page = ReportOptions { out: Some(folder.path().into()), ..ReportOptions::default() };
    assert!(write(folder.path(), &folder_as_page).unwrap_err().to_string().contains("report.html"));
}
