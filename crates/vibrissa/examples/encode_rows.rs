//! Encodes rows with a trained model: `cargo run --release -p vibrissa --example encode_rows -- RUN`.
//!
//! Without an argument it encodes with a random model. An application that only encodes needs `vibrissa-core` alone.

use vibrissa::activation::Activation;
use vibrissa::format::read_model;
use vibrissa::kernels::Isa;
use vibrissa::matrix::{Latents, Mat};
use vibrissa::model::{Config, Sae, Workspace, init};

fn main() -> vibrissa::Result<()> {
    let sae: Sae = match std::env::args().nth(1) {
        Some(run) => read_model(run.as_ref())?.saes.remove(0),
        None => {
            let config = Config { d_in: 16, latents: 64, k: 4, activation: Activation::TopK, ..Config::default() };
            init::kaiming(config, &[0.0; 16], 1, 0)?
        }
    };
    let dim = sae.config().d_in;
    // Three rows of your own, [3, D].
    let rows = Mat::from_vec(3, dim, (0..3 * dim).map(|i| (i as f32).sin()).collect());
    let (mut work, mut latents) = (Workspace::new(Isa::current()), Latents::default());
    sae.encode(rows.view(), &mut work, &mut latents)?;
    for row in 0..3 {
        let (index, value) = latents.row(row);
        println!("row {row}: latents {index:?}, values {value:?}");
    }
    Ok(())
}
