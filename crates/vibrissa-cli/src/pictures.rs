//! The two pictures that every run leaves: its features, and originals over reconstructions.

use std::path::Path;
use vibrissa::Result;
use vibrissa::data::Dataset;
use vibrissa::format::write_atomically;
use vibrissa::kernels::Isa;
use vibrissa::matrix::{Latents, Mat};
use vibrissa::metrics::row_metrics;
use vibrissa::model::{Sae, Work};
use vibrissa::plot::{Column, feature_sheet, reconstruction_sheet};

/// Features on the sheet.
const FEATURES: usize = 100;
/// Columns of reconstructions.
const COLUMNS: usize = 12;
/// Rows over which features are counted.
const COUNTED: usize = 2000;

/// Writes `features.png` (the most used features of the first SAE) and `reconstructions.png`.
pub fn write(run: &Path, saes: &[Sae], data: &Dataset, rows: &[usize]) -> Result<()> {
    let shape = data.shape().map(|s| (s.channels, s.height, s.width));
    let isa = Isa::current();
    let (mut work, mut latents) = (Work::default(), Latents::default());
    let mut encode = |sae: &Sae, rows: &[usize], latents: &mut Latents, recon: Option<&mut Mat>| {
        let mut x = Mat::zeros(rows.len(), data.dim());
        data.fill(rows, 0, x.view_mut());
        let _ = sae.encode(isa, x.view(), &mut work, latents);
        if let Some(recon) = recon {
            sae.decode(isa, latents, &work, recon.view_mut());
        }
        x
    };

    let mut counts = vec![0u32; saes[0].config().latents];
    let counted = &rows[..rows.len().min(COUNTED)];
    for batch in counted.chunks(256) {
        encode(&saes[0], batch, &mut latents, None);
        for b in 0..batch.len() {
            let (index, value) = latents.row(b);
            index.iter().zip(value).filter(|p| *p.1 != 0.0).for_each(|(&h, _)| counts[h as usize] += 1);
        }
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&h| (std::cmp::Reverse(counts[h]), h));
    order.truncate(FEATURES);
    let features: Vec<(usize, Vec<f32>)> = order.iter().map(|&h| (h, saes[0].feature(h))).collect();
    let borrowed: Vec<(usize, &[f32])> = features.iter().map(|(h, f)| (*h, &f[..])).collect();
    let note = format!("the {} features that most of {} rows use, by latent index", borrowed.len(), counted.len());
    let sheet = feature_sheet(&borrowed, shape, 10, "Learned features", &note);
    write_atomically(&run.join("features.png"), |out| out.write_all(&sheet.encode_png()))?;

    // Spread over the rows, so that every class is likely to be seen.
    let n = rows.len().min(COLUMNS);
    let shown: Vec<usize> = (0..n).map(|i| rows[i * rows.len() / n]).collect();
    let mut x = Mat::default();
    let recons: Vec<Mat> = saes
        .iter()
        .take(3)
        .map(|sae| {
            let mut recon = Mat::zeros(n, data.dim());
            x = encode(sae, &shown, &mut latents, Some(&mut recon));
            recon
        })
        .collect();
    let rows_of: Vec<Vec<&[f32]>> = (0..n).map(|b| recons.iter().map(|r| r.row(b)).collect()).collect();
    let pearson: Vec<Vec<f64>> =
        (0..n).map(|b| rows_of[b].iter().map(|r| row_metrics(x.row(b), r).pearson).collect()).collect();
    let name = |row: usize| match data.label(row) {
        Some(c) => data.classes()[c as usize].clone(),
        None => String::new(),
    };
    let columns: Vec<Column> = (0..n)
        .map(|b| Column { label: name(shown[b]), original: x.row(b), recons: &rows_of[b], pearson: &pearson[b] })
        .collect();
    let mut labels = vec!["original".to_owned()];
    labels.extend((0..recons.len()).map(|i| if saes.len() == 1 { "SAE".into() } else { format!("SAE {i}") }));
    let sheet = reconstruction_sheet(&columns, shape, &labels, "Originals over reconstructions (Pearson's r below)");
    write_atomically(&run.join("reconstructions.png"), |out| out.write_all(&sheet.encode_png()))
}
