//! Lists the ten features with the largest exact contribution of an analysis that `vibrissa analyze RUN DATA` wrote:
//! `cargo run --release -p vibrissa --example read_analysis -- RUN`.

use vibrissa::record::analysis::Analysis;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(run) = std::env::args().nth(1) else {
        println!("usage: read_analysis RUN");
        return Ok(());
    };
    let analysis = Analysis::read(run.as_ref())?;
    let latents = &analysis.columns.saes[0].latents;
    let mut order: Vec<usize> = (0..latents.delta_sse.len()).collect();
    order.sort_by(|&a, &b| latents.delta_sse[b].total_cmp(&latents.delta_sse[a]));
    println!("latent  frequency  increase of the squared error without it");
    for &h in order.iter().take(10) {
        println!("{h:>6}  {:>9.4}  {:>10.5}", latents.frequency[h], latents.delta_sse[h]);
    }
    Ok(())
}
