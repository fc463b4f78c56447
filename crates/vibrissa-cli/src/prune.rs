//! `vibrissa prune`: a smaller model of the most important features, and what it costs.

use crate::data::{DataArgs, read_data};
use crate::part::Part;
use crate::show;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vibrissa::analysis::ranks::descending_order;
use vibrissa::format::{self, ModelConfig};
use vibrissa::io::write_json;
use vibrissa::metrics::mean;
use vibrissa::model::Sae;
use vibrissa::record::analysis::columns::{Measure, SaeColumns};
use vibrissa::record::analysis::{Analysis, PRUNE_SCHEMA, PrunePoint, PruneRecord};
use vibrissa::run::Folder;
use vibrissa::train::evaluate::evaluate;
use vibrissa::{Error, Result};

/// Keep only the N most important features of each SAE, and say how fidelity falls with N.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// A run that analyze has looked at
    run: PathBuf,
    /// Features to keep
    #[arg(long, value_name = "N")]
    top: usize,
    /// Most important by: score, score_scaled, frequency, strength, delta_sse or delta_pearson
    #[arg(long, value_name = "MEASURE", default_value = "delta_sse")]
    by: String,
    /// Folder for the smaller model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where analyze wrote to [default: RUN]
    #[arg(long, value_name = "DIR")]
    analysis: Option<PathBuf>,
    /// Rows to measure on [default: the data of the run]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
}

/// Prunes.
pub fn run(args: PruneArgs) -> Result<ExitCode> {
    let Some(by) = Measure::named(&args.by) else {
        let names = Measure::ALL.map(Measure::name).join(", ");
        return Err(Error::option("--by", names, &args.by, "choose one of them"));
    };
    let model = format::read_model(&args.run)?;
    let latents = model.config.sae.latents;
    if args.top == 0 || args.top > latents {
        return Err(Error::option("--top", format!("1 to {latents}"), args.top, "the model has no more features"));
    }
    let analysis = args.analysis.as_ref().unwrap_or(&args.run);
    let path = Analysis::columns_path(analysis);
    if !path.exists() {
        return Err(Error::file(&path, "no such file", "run vibrissa analyze RUN DATA first"));
    }
    let columns = Analysis::read(analysis)?.columns;
    let folder = Folder(args.out.clone());
    if folder.in_use() {
        return Err(Error::file(&folder.0, "exists already and is kept as it is", "choose another --out"));
    }
    let of_model = |sae: &SaeColumns| sae.latents.count.len() == latents;
    if columns.saes.len() != model.saes.len() || !columns.saes.iter().all(of_model) {
        return Err(Error::file(&path, "is of another model", "run vibrissa analyze RUN DATA again"));
    }
    let orders: Vec<Vec<usize>> = columns.saes.iter().map(|sae| descending_order(by.values(&sae.latents))).collect();
    let spec = match (&args.data, crate::train::settings(&args.run)?.and_then(|s| s.about)) {
        (Some(data), _) => data.clone(),
        (None, Some(about)) => about.data,
        (None, None) => return Err(Error::option("--data", "rows to measure on", "none", "name the data")),
    };
    let data = read_data(&args.run, &model, &spec, DataArgs { skip_bad: true, ..DataArgs::default() })?;
    let runs = std::slice::from_ref(&args.run);
    let (part, originals) = match Part::Test.originals(runs, &spec, &data) {
        Ok(test) => ("held-out rows", test),
        Err(_) => ("all rows", Part::All.originals(runs, &spec, &data)?),
    };
    let rows = data.without_variants(&originals);
    let kept = |n: usize| -> Result<Vec<Sae>> {
        model.saes.iter().zip(&orders).map(|(sae, order)| sae.subset(&order[..n])).collect()
    };
    let mut sizes: Vec<usize> = std::iter::successors(Some(latents), |n| (*n > 1).then_some(n / 2)).collect();
    sizes.push(args.top);
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.dedup();
    let bar = show::Bar::new("measuring");
    let mut table = vec![["features", "Pearson", "fvu"].map(str::to_owned).to_vec()];
    let mut curve = Vec::new();
    for (i, &n) in sizes.iter().enumerate() {
        let saes = kept(n)?;
        let refs: Vec<&Sae> = saes.iter().collect();
        let brief = evaluate(&refs, None, &data, &rows, false, &mut |_, _| ()).brief();
        let (pearson, fvu) = (mean(brief.iter().filter_map(|b| b.0)), mean(brief.iter().filter_map(|b| b.1)));
        let mark = if n == args.top { " ←" } else { "" };
        table.push(vec![format!("{}{mark}", show::count(n)), show::figure(pearson), show::figure(fvu)]);
        curve.push(PrunePoint { features: n as u64, pearson: pearson.into(), fvu: fvu.into() });
        bar.set(i + 1, sizes.len());
    }
    bar.finish();
    folder.create()?;
    let saes = kept(args.top)?;
    let config = ModelConfig { sae: *saes[0].config(), ..model.config.clone() };
    let mut record = PruneRecord {
        schema: PRUNE_SCHEMA.into(),
        by,
        top: args.top as u64,
        data: spec.clone(),
        rows: part.into(),
        curve,
        kept: orders.iter().map(|o| o[..args.top].to_vec()).collect(),
    };
    write_json(&folder.0.join("prune.json"), &record)?;
    format::write_model(&folder.model(), &config, &saes.iter().collect::<Vec<_>>(), &model.mean, 1.0)?;
    // The curve alone stays with the analysis, for the report.
    record.kept.clear();
    write_json(&PruneRecord::path(analysis, by), &record)?;
    println!("{part} of {spec}, features kept by {}:", args.by);
    print!("{}", show::table(&table));
    eprintln!("\nwrote {0}/model.safetensors and prune.json", folder.0.display());
    Ok(ExitCode::SUCCESS)
}
