use super::*;
use serde::Serialize;

fn scores() -> Scores {
    Scores {
        reconstruction: Reconstruction { pearson: Some(0.97), mse: Some(0.005), ..Reconstruction::default() },
        l0: Some(49.5),
        l0_target: Some(50.0),
        l0_distance: Some(-0.5),
        dead_latents: Some(3),
        rare_latents: Some(9),
        latents: Some(1024),
        constant_rows: Some(0),
        density: Some(Density { log10_from: -6, per_decade: 10, counts: vec![0, 5], never: 3 }),
        ..Scores::default()
    }
}

fn eval() -> EvalRecord {
    let classes = ["2", "10", "mouse"];
    let by_class = classes.map(|c| (c.to_string(), OfClass { rows: 4, scores: scores() })).into_iter().collect();
    EvalRecord {
        rows: 12,
        saes: vec![ByClass { scores: scores(), by_class }, ByClass::default()],
        data: Some("digits/".into()),
        seconds: Some(1.5),
        ..EvalRecord::default()
    }
}

#[test]
fn records_survive_a_round_trip() {
    let record = eval();
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(parse::<EvalRecord>(&json, EVAL_SCHEMA).unwrap(), record);
    let demo = DemoRecord {
        pearson: Some(0.9),
        k: Some(8),
        pearson_by_class: [("b".to_string(), 0.5.into()), ("a".to_string(), Number(None))].into_iter().collect(),
        ..DemoRecord::default()
    };
    let json = serde_json::to_string(&demo).unwrap();
    assert_eq!(parse::<DemoRecord>(&json, DEMO_SCHEMA).unwrap(), demo);
    let line = MetricsLine {
        step: 7,
        epoch: 1,
        rows_per_s: Some(1e4),
        wall_s: Some(0.5),
        saes: vec![SaeLine { loss: Ordered(vec![("mse".into(), 1.0.into())]), ..SaeLine::default() }],
    };
    let text = line.to_line();
    assert_eq!(text.matches('\n').count(), 1);
    assert_eq!(serde_json::from_str::<MetricsLine>(&text).unwrap(), line);
}

#[test]
fn the_keys_are_those_of_the_schema() {
    let value: serde_json::Value = serde_json::to_value(eval()).unwrap();
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let scores = "constant_rows cosine cross_entropy dead_latents density fvu l0 l0_distance l0_target latents mse pearson perceptual psnr rare_latents";
    assert_eq!(keys(&value), "data ensemble mean_image rows saes schema seconds");
    assert_eq!(keys(&value["saes"][0]), format!("by_class {scores} ssim"));
    assert_eq!(keys(&value["saes"][0]["by_class"]["10"]), format!("{scores} rows ssim"));
    assert_eq!(keys(&value["ensemble"]), format!("by_class {scores} ssim"));
    assert_eq!(keys(&value["mean_image"]), "by_class cosine cross_entropy fvu mse pearson perceptual psnr ssim");
    assert_eq!(value["schema"], "vibrissa.eval/1");
    assert_eq!(value["ensemble"]["by_class"], serde_json::json!({}));
    assert!(value["ensemble"]["l0"].is_null());
    assert_eq!(
        keys(&serde_json::to_value(DemoRecord::default()).unwrap()),
        "dead_latents pearson pearson_mean_image recovery recovery_chance schema"
    );
}

#[test]
fn nan_and_infinity_are_null_in_every_format() {
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for v in bad {
        let reconstruction = Reconstruction { pearson: Some(v), fvu: Some(v), ..Reconstruction::default() };
        let scores = Scores { reconstruction, l0: Some(v), ..Scores::default() };
        let line = SaeLine { loss: Ordered(vec![("mse".into(), v.into())]), fvu: Some(v), ..SaeLine::default() };
        let record = EvalRecord {
            ensemble: ByClass { scores, ..ByClass::default() },
            seconds: Some(v),
            ..EvalRecord::default()
        };
        let json = serde_json::to_string(&(record, line)).unwrap();
        assert!(!json.contains("NaN") && !json.contains("inf"), "{json}");
        let (record, line): (EvalRecord, SaeLine) = serde_json::from_str(&json).unwrap();
        assert_eq!((record.ensemble.scores.reconstruction.pearson, line.loss.get("mse")), (None, Some(&Number(None))));
        // TOML has no null: a NaN that slipped through would be written as `nan` there.
        #[derive(Serialize)]
        struct Table {
            n: Number,
        }
        assert_eq!(toml::to_string(&Table { n: v.into() }).unwrap(), "");
    }
}

#[test]
fn classes_keep_their_order() {
    let json = serde_json::to_string(&eval()).unwrap();
    let at = |name: &str| json.find(&format!("\"{name}\":{{\"rows\"")).unwrap();
    assert!(at("2") < at("10") && at("10") < at("mouse"));
}

#[test]
fn schemas_are_checked_before_fields() {
    assert_eq!(check("vibrissa.eval/1", EVAL_SCHEMA), Ok(()));
    assert_eq!(check("vibrissa.eval/1", "vibrissa.eval/3"), Ok(()));
    let newer = parse::<EvalRecord>("{\"schema\":\"vibrissa.eval/2\",\"rows\":\"many\"}", EVAL_SCHEMA).unwrap_err();
    assert!(newer.contains("newer") && newer.contains("update vibrissa"), "{newer}");
    let other = parse::<EvalRecord>("{\"schema\":\"vibrissa.demo/1\"}", EVAL_SCHEMA).unwrap_err();
    assert!(other.contains("expected vibrissa.eval/1"), "{other}");
    for text in
        ["{}", "{\"rows\":3}", "[1,2]", "", "{\"schema\":\"vibrissa.eval/x\"}", "{\"schema\":\"vibrissa.eval/1\"}"]
    {
        assert!(parse::<EvalRecord>(text, EVAL_SCHEMA).is_err(), "{text}");
    }
}

#[test]
fn keys_of_later_versions_are_ignored_and_missing_ones_are_undefined() {
    let json = "{\"schema\":\"vibrissa.eval/1\",\"rows\":2,\"saes\":[{\"pearson\":0.5,\"lpips\":1}],\"extra\":{}}";
    let record = parse::<EvalRecord>(json, EVAL_SCHEMA).unwrap();
    let measures = &record.saes[0].scores.reconstruction;
    assert_eq!((record.rows, measures.pearson, measures.mse), (2, Some(0.5), None));
    assert!(record.saes[0].by_class.is_empty());
}
