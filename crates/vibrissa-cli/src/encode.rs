//! `vibrissa encode`: latents of rows, written for other programs.

use crate::data::{read_data, select_rows};
use crate::options::parse_named;
use crate::show;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use vibrissa::data::npz::CsrWriter;
use vibrissa::format;
use vibrissa::io::write_atomically;
use vibrissa::matrix::{Latents, Mat};
use vibrissa::model::Workspace;
use vibrissa::options::PartialDataOptions;
use vibrissa::run::RowSelection;
use vibrissa::{Error, Result};

/// Write the latents of every row as a sparse matrix for SciPy (scipy.sparse.load_npz), and the names of the rows. If the
/// model was trained on patches, a row is a patch, named NAME@LEFT,TOP.
#[derive(Args, Debug)]
pub struct EncodeArgs {
    /// A run (or a model file)
    run: PathBuf,
    /// The data to encode
    data: String,
    /// File to write; the names of the rows are written beside it, as .rows.txt
    #[arg(long, short, value_name = "FILE.npz")]
    out: PathBuf,
    /// Rows to encode
    #[arg(long, value_name = "ROWS", value_parser = parse_named::<RowSelection>, default_value = "all")]
    split: RowSelection,
    /// Number of the SAE, from 0, in an ensemble
    #[arg(long, value_name = "I", default_value_t = 0)]
    sae: usize,
    /// Leave out files that cannot be read, and list them
    #[arg(long)]
    skip_bad: bool,
}

/// Runs the command.
pub fn run(args: EncodeArgs) -> Result<ExitCode> {
    let model = format::read_model(&args.run)?;
    let Some(sae) = model.saes.get(args.sae) else {
        let expected = format!("0 to {}", model.saes.len() - 1);
        return Err(Error::option("--sae", expected, args.sae, "SAEs are numbered from 0"));
    };
    let data = read_data(
        &args.run,
        &model,
        &args.data,
        &PartialDataOptions { skip_bad: Some(args.skip_bad), ..PartialDataOptions::default() },
    )?;
    let originals = select_rows(args.split, std::slice::from_ref(&args.run), &args.data, &data)?;
    let rows = data.without_variants(&originals);
    let mut writer = CsrWriter::new(sae.config().latents)?;
    let (mut workspace, mut latents) = (Workspace::default(), Latents::default());
    let size = data.batch_rows(rows.len());
    let mut x = Mat::zeros(size, data.dim());
    let bar = show::Bar::new("encoding");
    for (b, batch) in rows.chunks(size).enumerate() {
        data.fill(batch, 0, x.first_rows_mut(batch.len()));
        sae.encode(x.first_rows(batch.len()), &mut workspace, &mut latents).map_err(|overflow| {
            let name = data.row_name(batch[overflow.row]);
            Error::option("data", "rows that the model can encode", name, "its values are too large for this model")
        })?;
        for r in 0..batch.len() {
            let (index, value) = latents.row(r);
            writer.row(index, value)?;
        }
        bar.set(b * size + batch.len(), rows.len());
    }
    bar.finish();
    writer.finish(&args.out)?;
    let names = args.out.with_extension("rows.txt");
    write_atomically(&names, |out| rows.iter().try_for_each(|&r| writeln!(out, "{}", data.row_name(r))))?;
    eprintln!(
        "{} · {}, {} latents",
        args.out.display(),
        show::plural(rows.len(), "row"),
        show::count(sae.config().latents)
    );
    Ok(ExitCode::SUCCESS)
}
