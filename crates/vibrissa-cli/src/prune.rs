//! `vibrissa prune`: a smaller model of the most important features, and its loss of fidelity.

use crate::data::{read_data, select_rows};
use crate::show;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vibrissa::analysis::ranks::descending_order;
use vibrissa::data::Dataset;
use vibrissa::format::{self, Model, ModelConfig};
use vibrissa::io::write_json;
use vibrissa::metrics::mean;
use vibrissa::model::Sae;
use vibrissa::options::PartialDataOptions;
use vibrissa::record::analysis::columns::{Measure, SaeColumns};
use vibrissa::record::analysis::{Analysis, PRUNE_SCHEMA, PrunePoint, PruneRecord};
use vibrissa::run::Folder;
use vibrissa::run::{RowSelection, RunSettings};
use vibrissa::train::evaluate::evaluate;
use vibrissa::{Error, Result};

/// Keep only the N most important features of each SAE, and report how fidelity depends on N.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// A run that was analyzed
    run: PathBuf,
    /// Number of features to keep
    #[arg(long, value_name = "N")]
    top: usize,
    /// Measure of importance: score, score_scaled, frequency, strength, delta_sse or delta_pearson
    #[arg(long, value_name = "MEASURE", default_value = "delta_sse")]
    by: String,
    /// Folder for the smaller model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of the analysis [default: RUN]
    #[arg(long, value_name = "DIR")]
    analysis: Option<PathBuf>,
    /// Rows to measure on [default: the data of the run]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
}

/// The features of each SAE by importance, the most important first.
struct Ranking {
    by: Measure,
    orders: Vec<Vec<usize>>,
}

impl Ranking {
    /// Reads the importance of the features from an analysis of the model.
    fn read(analysis: &Path, by: &str, model: &Model) -> Result<Ranking> {
        let Some(by) = Measure::named(by) else {
            let names = Measure::ALL.map(Measure::name).join(", ");
            return Err(Error::option("--by", names, by, "choose one of them"));
        };
        let path = Analysis::columns_path(analysis);
        if !path.exists() {
            return Err(Error::file(&path, "no such file", "run vibrissa analyze RUN DATA first"));
        }
        let columns = Analysis::read(analysis)?.columns;
        let latents = model.config.sae.latents;
        let of_model = |sae: &SaeColumns| sae.latents.count.len() == latents;
        if columns.saes.len() != model.saes.len() || !columns.saes.iter().all(of_model) {
            return Err(Error::file(&path, "is of another model", "run vibrissa analyze RUN DATA again"));
        }
        let orders = columns.saes.iter().map(|sae| descending_order(by.values(&sae.latents))).collect();
        Ok(Ranking { by, orders })
    }

    /// Returns the SAEs of a model with their `n` most important features.
    fn pruned(&self, model: &Model, n: usize) -> Result<Vec<Sae>> {
        model.saes.iter().zip(&self.orders).map(|(sae, order)| sae.subset(&order[..n])).collect()
    }

    /// Returns the fidelity with all features, half of them, a quarter and so on, and with `top` of them.
    fn curve(&self, model: &Model, top: usize, data: &Dataset, rows: &[usize]) -> Result<Vec<PrunePoint>> {
        let latents = model.config.sae.latents;
        let mut sizes: Vec<usize> = std::iter::successors(Some(latents), |n| (*n > 1).then_some(n / 2)).collect();
        sizes.push(top);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        let bar = show::Bar::new("measuring");
        let mut curve = Vec::new();
        for (i, &n) in sizes.iter().enumerate() {
            let saes = self.pruned(model, n)?;
            let refs: Vec<&Sae> = saes.iter().collect();
            let brief = evaluate(&refs, None, data, rows, false, &mut |_, _| ()).brief();
            let (pearson, fvu) = (mean(brief.iter().filter_map(|b| b.0)), mean(brief.iter().filter_map(|b| b.1)));
            curve.push(PrunePoint { features: n as u64, pearson: pearson.into(), fvu: fvu.into() });
            bar.set(i + 1, sizes.len());
        }
        bar.finish();
        Ok(curve)
    }
}

/// Returns the curve as a table, with `top` marked.
fn table(curve: &[PrunePoint], top: usize) -> String {
    let mut rows = vec![["features", "Pearson", "fvu"].map(str::to_owned).to_vec()];
    rows.extend(curve.iter().map(|p| {
        let mark = if p.features == top as u64 { " ←" } else { "" };
        let features = format!("{}{mark}", show::count(p.features as usize));
        vec![features, show::figure(p.pearson.get()), show::figure(p.fvu.get())]
    }));
    show::table(&rows)
}

/// Runs the command.
pub fn run(args: PruneArgs) -> Result<ExitCode> {
    let analysis = args.analysis.as_ref().unwrap_or(&args.run);
    let model = format::read_model(&args.run)?;
    let latents = model.config.sae.latents;
    if args.top == 0 || args.top > latents {
        return Err(Error::option("--top", format!("1 to {latents}"), args.top, "the model has no more features"));
    }
    let ranking = Ranking::read(analysis, &args.by, &model)?;
    let folder = Folder(args.out.clone());
    if folder.in_use() {
        return Err(Error::file(&folder.0, "exists already and is kept as it is", "choose another --out"));
    }
    let spec = match (&args.data, RunSettings::read(&args.run)?.and_then(|s| s.about)) {
        (Some(data), _) => data.clone(),
        (None, Some(about)) => about.data,
        (None, None) => return Err(Error::option("--data", "rows to measure on", "none", "name the data")),
    };
    let data = read_data(
        &args.run,
        &model,
        &spec,
        &PartialDataOptions { skip_bad: Some(true), ..PartialDataOptions::default() },
    )?;
    let runs = std::slice::from_ref(&args.run);
    let (part, originals) = match select_rows(RowSelection::Test, runs, &spec, &data) {
        Ok(test) => ("held-out rows", test),
        Err(_) => ("all rows", select_rows(RowSelection::All, runs, &spec, &data)?),
    };
    let curve = ranking.curve(&model, args.top, &data, &data.without_variants(&originals))?;
    let table = table(&curve, args.top);

    folder.create()?;
    let saes = ranking.pruned(&model, args.top)?;
    let config = ModelConfig { sae: *saes[0].config(), ..model.config.clone() };
    let mut record = PruneRecord {
        schema: PRUNE_SCHEMA.into(),
        by: ranking.by,
        top: args.top as u64,
        data: spec.clone(),
        rows: part.into(),
        curve,
        kept: ranking.orders.iter().map(|order| order[..args.top].to_vec()).collect(),
    };
    write_json(&folder.0.join("prune.json"), &record)?;
    format::write_model(&folder.model(), &config, &saes.iter().collect::<Vec<_>>(), &model.mean, 1.0)?;
    // The report needs the curve only.
    record.kept.clear();
    write_json(&PruneRecord::path(analysis, ranking.by), &record)?;
    println!("{part} of {spec}, features kept by {}:", args.by);
    print!("{table}");
    eprintln!("\nwrote {0}/model.safetensors and prune.json", folder.0.display());
    Ok(ExitCode::SUCCESS)
}
