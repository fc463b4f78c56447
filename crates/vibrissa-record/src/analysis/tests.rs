use super::columns::*;
use super::*;
use crate::columns::{Array, StoredColumn, StoredColumns};
use vibrissa_core::io::write_json;

const CLASSES: usize = 2;
const H: usize = 3;

/// A column of the definition's type, each dimension of the record's length or 2.
fn filled(definition: &ColumnDefinition) -> StoredColumn {
    let length = |letter: &&str| match *letter {
        "H" => H,
        "C" => CLASSES,
        _ => 2,
    };
    let shape: Vec<usize> = definition.shape.iter().map(length).collect();
    let n = shape.iter().product();
    match definition.element {
        "f64" => StoredColumn::F64(Array::new(&shape, vec![0.5; n])),
        "u32" => StoredColumn::U32(Array::new(&shape, vec![1; n])),
        _ => StoredColumn::U8(Array::new(&shape, vec![7; n])),
    }
}

/// A record that calls for every column, and all columns.
fn analysis() -> (AnalysisRecord, StoredColumns) {
    let sae = SaeAnalysis {
        latents: H as u64,
        classes: Some(ClassesRecord::default()),
        history: vec![CheckpointRecord::default(); 2],
        ..SaeAnalysis::default()
    };
    let left_out = MetadataRecord::default();
    let record = AnalysisRecord {
        schema: ANALYSIS_SCHEMA.into(),
        tool_version: String::new(),
        run: String::new(),
        data: String::new(),
        split: String::new(),
        rows: 4,
        classes: [("a".into(), 2), ("b".into(), 2)].into_iter().collect(),
        images: Some([1, 2, 2]),
        patches: Some(PatchesRecord::default()),
        weights: [0.7, 0.3],
        k: 1,
        saes: vec![sae; 2],
        ensemble: Some(EnsembleAnalysis::default()),
        metadata: vec![left_out.clone(), MetadataRecord { kind: "number".into(), ..left_out }],
        cited: vec![CitedRow::default(); 2],
        histograms: HistogramsRecord::CURRENT,
        columns_hash: String::new(),
        seconds: Number(None),
        rows_per_s: Number(None),
    };
    let mut stored = StoredColumns::default();
    let mut add = |prefix: String, definitions: &[ColumnDefinition]| {
        for definition in definitions {
            stored.0.insert(format!("{prefix}{}", definition.name), filled(definition));
        }
    };
    add("sample.".into(), SampledRows::DEFINITIONS);
    add(String::new(), CitedImages::DEFINITIONS);
    add(String::new(), PatchedImages::DEFINITIONS);
    for s in 0..2 {
        for definitions in [
            LatentColumns::DEFINITIONS,
            HistogramColumns::DEFINITIONS,
            QualityColumns::DEFINITIONS,
            ClassColumns::DEFINITIONS,
            ExampleColumns::DEFINITIONS,
            SampleColumns::DEFINITIONS,
            ReconstructedImages::DEFINITIONS,
            TileColumns::DEFINITIONS,
            LargeTileColumns::DEFINITIONS,
            MapColumns::DEFINITIONS,
            HistoryColumns::DEFINITIONS,
            EnsembleColumns::DEFINITIONS,
        ] {
            add(format!("{s}."), definitions);
        }
        add(format!("{s}.metadata.1."), MetadataColumns::DEFINITIONS);
    }
    (record, stored)
}

#[test]
fn columns_survive_a_round_trip() {
    let (record, stored) = analysis();
    let columns = AnalysisColumns::from_stored(stored.clone(), &record).expect("every column");
    assert_eq!(columns.saes[1].latents.score.values, [0.5; H]);
    assert_eq!(columns.saes[1].metadata.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert_eq!(columns.into_stored(), stored);
}

#[test]
fn every_missing_column_is_an_error_that_names_it() {
    let (record, stored) = analysis();
    // Larger tiles are written only where the tiles are smaller than the rows, whose size the record does not have.
    let required = stored.0.keys().filter(|name| !name.ends_with(".large"));
    for name in required {
        let mut fewer = stored.clone();
        fewer.0.remove(name);
        let error = AnalysisColumns::from_stored(fewer, &record).expect_err(name);
        assert_eq!((&error.column, &error.found[..]), (name, "no such column"));
    }
}

#[test]
fn every_column_of_another_type_or_shape_is_an_error_that_names_it() {
    let (record, stored) = analysis();
    for (name, column) in &stored.0 {
        let other = match column {
            StoredColumn::F64(a) => StoredColumn::U32(Array::new(&a.shape, vec![0; a.len()])),
            StoredColumn::U32(a) => StoredColumn::F64(Array::new(&a.shape, vec![0.0; a.len()])),
            StoredColumn::U8(a) => StoredColumn::F64(Array::new(&a.shape, vec![0.0; a.len()])),
        };
        let longer = StoredColumn::F64(Array::new(&[1, 1, 1, 1, 1], vec![0.0]));
        for wrong in [other, longer] {
            let mut changed = stored.clone();
            changed.0.insert(name.clone(), wrong);
            let error = AnalysisColumns::from_stored(changed, &record).expect_err(name);
            assert_eq!(&error.column, name);
        }
    }
    let mut changed = stored.clone();
    changed.0.insert("1.score".into(), StoredColumn::F64(Array::vector(vec![0.0; H + 1])));
    let error = AnalysisColumns::from_stored(changed, &record).expect_err("a latent too many");
    assert_eq!(error.to_string(), "column 1.score: expected f64 [3], got f64 [4]");
}

#[test]
fn an_error_names_file_column_and_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let (record, mut stored) = analysis();
    write_json(&Analysis::record_path(folder.path()), &record).expect("written");
    stored.0.remove("0.delta_sse");
    stored.write(&Analysis::columns_path(folder.path()), ANALYSIS_SCHEMA).expect("written");
    let error = Analysis::read(folder.path()).expect_err("a column is missing").to_string();
    for part in ["analysis.safetensors", "0.delta_sse", "f64", "no such column", "vibrissa analyze"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_analysis_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (record, stored) = analysis();
    let columns = AnalysisColumns::from_stored(stored, &record).expect("every column");
    let mut written = Analysis { record, columns };
    written.write(folder.path()).expect("written");
    assert_eq!(Analysis::read(folder.path()).expect("an analysis"), written);
    // Columns of another analysis.
    let path = Analysis::columns_path(folder.path());
    let mut stored = StoredColumns::read(&path, ANALYSIS_SCHEMA, "").expect("columns");
    stored.insert("0.delta_sse", Array::vector(vec![0.25; H]));
    stored.write(&path, ANALYSIS_SCHEMA).expect("written");
    assert!(Analysis::read(folder.path()).expect_err("another hash").to_string().contains("beside it"));
    std::fs::remove_file(Analysis::record_path(folder.path())).expect("removed");
    assert!(Analysis::read(folder.path()).expect_err("no record").to_string().contains("vibrissa analyze RUN DATA"));
}

#[test]
fn measures_are_columns_of_latents() {
    for measure in Measure::ALL {
        assert!(LatentColumns::DEFINITIONS.iter().any(|d| d.name == measure.name() && d.element == "f64"));
        assert_eq!(serde_json::to_value(measure).expect("plain data"), measure.name());
        assert_eq!(Measure::named(measure.name()), Some(measure));
    }
}

#[test]
fn every_definition_has_a_unit_and_a_meaning() {
    for d in LatentColumns::DEFINITIONS.iter().chain(ClassColumns::DEFINITIONS).chain(ExampleColumns::DEFINITIONS) {
        assert!(!d.unit.is_empty() && d.meaning.trim().ends_with('.'), "{d:?}");
    }
}

#[test]
fn bins_meet_at_their_edges() {
    let bins = HistogramsRecord::CURRENT.activation;
    assert_eq!(bins.edges(bins.negative), [2f64.powi(-16), 2f64.powi(-16) * 1.125]);
    assert_eq!(bins.edges(bins.negative - 1), [-2f64.powi(-15), -2f64.powi(-16)]);
    for b in 1..bins.count() {
        assert!(b == bins.negative || bins.edges(b - 1)[1] == bins.edges(b)[0], "{b}");
    }
    let edges = bins.positive_edges();
    assert!((0..bins.positive).all(|i| [edges[i], edges[i + 1]] == bins.edges(bins.negative + i)));
    let uniform = HistogramsRecord::CURRENT.log10_frequency;
    let edges = uniform.edges();
    assert!((0..uniform.bins).all(|b| uniform.bin(uniform.middle(b)) == b && uniform.bin(edges[b]) == b));
    assert_eq!([-9.0, 0.0, f64::NAN].map(|v| uniform.bin(v)), [0, 23, 0]);
}

#[test]
fn records_without_histogram_bins_have_those_of_the_first_version() {
    let mut json = serde_json::to_value(analysis().0).expect("plain data");
    json.as_object_mut().expect("an object").remove("histograms");
    let record: AnalysisRecord = serde_json::from_value(json).expect("a record");
    assert_eq!(record.histograms, HistogramsRecord::CURRENT);
}
