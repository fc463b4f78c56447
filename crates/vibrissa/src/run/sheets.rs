//! The images in the folder of a run: a sheet of its features, and one of reconstructions below their originals.

use crate::data::Dataset;
use crate::data::split::evenly_spaced;
use crate::error::Result;
use crate::io::write_atomically;
use crate::kernels::Isa;
use crate::matrix::{Latents, Mat};
use crate::metrics::row_metrics;
use crate::model::{Sae, Workspace};
use crate::plot::tiles::tiles;
use crate::plot::{Canvas, Feature, ReconstructedRow, feature_sheet, reconstruction_sheet};
use crate::report::sweep::{FEATURES_FILE, ORIGINALS_FILE, RECONSTRUCTIONS_FILE};
use crate::report::words::{capital, count};
use crate::run::RunRows;
use crate::shape::ImageShape;
use crate::train::evaluate::reconstruct_images;
use std::cmp::Reverse;
use std::path::Path;

/// Largest number of features on the sheet.
const FEATURES: usize = 100;
/// Number of reconstructed rows on the sheet: of images, and of plain vectors.
const RECONSTRUCTED: [usize; 2] = [12, 8];
/// Largest number of members of an ensemble whose reconstructions are shown.
const MEMBERS: usize = 3;
/// Largest difference of two channels that count as equal: one and a half steps of eight bits.
const EQUAL: f32 = 1.5 / 255.0;
/// Largest number of training rows over which uses of features are counted.
const COUNTED: usize = 2000;

/// Writes `features.png` (the features of the first SAE that training rows use most) and `reconstructions.png` (of
/// held-out rows, or of training rows where none is held out). `trained` is false if training
/// took no step.
pub fn write(run: &Path, saes: &[Sae], data: &Dataset, rows: &RunRows, trained: bool) -> Result<()> {
    let save = |name: &str, sheet: Canvas| write_atomically(&run.join(name), |out| out.write_all(&sheet.encode_png()));
    save("features.png", features(saes, data, &rows.train, trained))?;
    save("reconstructions.png", reconstructions(saes, data, rows, trained))
}

/// Encodes rows, and returns them as read.
fn encode(sae: &Sae, data: &Dataset, rows: &[usize], latents: &mut Latents) -> Mat {
    let mut x = Mat::zeros(rows.len(), data.dim());
    data.fill(rows, 0, x.view_mut());
    sae.encode_lossy(x.view(), &mut Workspace::default(), latents);
    x
}

/// Returns the word for a row: patch or row.
fn row_word(data: &Dataset) -> &'static str {
    if data.patches().is_some() { "patch" } else { "row" }
}

/// The features that training rows use most.
struct MostUsedFeatures {
    /// Number of rows in which each latent is active.
    counts: Vec<u32>,
    /// Number of rows counted over.
    counted: usize,
    /// Latents, the most used first.
    order: Vec<usize>,
    /// Decoder direction of each.
    rows: Vec<Vec<f32>>,
    /// True if the three channels of all rows are equal; directions then have one channel.
    grey: bool,
    /// Shape of a direction, where rows are images.
    shape: Option<ImageShape>,
}

/// Counts in how many training rows each latent is active, and returns the features that are used most.
fn most_used_features(sae: &Sae, data: &Dataset, train: &[usize]) -> MostUsedFeatures {
    let mut counts = vec![0u32; sae.config().latents];
    let counted = data.subsample_rows(train, COUNTED);
    let mut latents = Latents::default();
    let mut grey = data.shape().is_some_and(|s| s.channels == 3);
    for batch in counted.chunks(256) {
        let x = encode(sae, data, batch, &mut latents);
        grey = grey && (0..batch.len()).all(|b| is_grey(x.row(b)));
        for b in 0..batch.len() {
            let (index, value) = latents.row(b);
            index.iter().zip(value).filter(|p| *p.1 != 0.0).for_each(|(&h, _)| counts[h as usize] += 1);
        }
    }
    let order = most_used(&counts);
    let row = |h: usize| if grey { mean_channel(&sae.feature(h)) } else { sae.feature(h) };
    let rows: Vec<Vec<f32>> = order.iter().map(|&h| row(h)).collect();
    let shape = data.shape().map(|s| if grey { ImageShape { channels: 1, ..s } } else { s });
    MostUsedFeatures { counts, counted: counted.len(), order, rows, grey, shape }
}

/// Draws the sheet of features.
fn features(saes: &[Sae], data: &Dataset, train: &[usize], trained: bool) -> Canvas {
    let MostUsedFeatures { counts, counted, order, rows, grey, shape } = most_used_features(&saes[0], data, train);
    let share = |h: usize| f64::from(counts[h]) / counted as f64;
    let cells: Vec<Feature> =
        order.iter().zip(&rows).map(|(&h, row)| Feature { index: h, share: Some(share(h)), row }).collect();
    let title = if trained { "Learned features" } else { "Features before training" };
    let member = if saes.len() > 1 { format!(" · SAE 0 of {}", saes.len()) } else { String::new() };
    let mut note =
        feature_note(&counts, cells.len(), &part_of(counted, train.len(), &format!("training {}", row_word(data))));
    if grey && !cells.is_empty() {
        note += " These rows are grey: of each feature's three channels the mean is drawn.";
    }
    feature_sheet(&cells, shape, 10, &format!("{title}{member}"), &note)
}

/// Returns true if the three planes of an image are equal: a grey image read as colour. On these rows a feature acts by
/// the mean of its channels alone; differences between them are left over from the initialisation.
fn is_grey(row: &[f32]) -> bool {
    let (red, others) = row.split_at(row.len() / 3);
    others.chunks_exact(red.len().max(1)).all(|plane| plane.iter().zip(red).all(|(a, b)| (a - b).abs() <= EQUAL))
}

/// Returns the mean of three planes, as one plane.
fn mean_channel(row: &[f32]) -> Vec<f32> {
    let plane = row.len() / 3;
    (0..plane).map(|i| (row[i] + row[plane + i] + row[2 * plane + i]) / 3.0).collect()
}

/// Returns the latents that are active in most rows, the most used first, at most [`FEATURES`] and without dead ones.
fn most_used(counts: &[u32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..counts.len()).filter(|&h| counts[h] > 0).collect();
    order.sort_by_key(|&h| (Reverse(counts[h]), h));
    order.truncate(FEATURES);
    order
}

/// Describes the features on the sheet; `rows` describes the rows that are counted.
fn feature_note(counts: &[u32], shown: usize, rows: &str) -> String {
    let used = counts.iter().filter(|&&c| c > 0).count();
    let all = count(counts.len() as u64);
    let which = match (used, shown) {
        (0, _) => return format!("None of {all} features is in use, counted over {rows}."),
        (1, _) => format!("The only one of {all} features that is in use"),
        (used, shown) if used == shown => format!("The {used} of {all} features that are in use, the most used first"),
        (_, shown) => format!("The {shown} most used of {all} features, the most used first"),
    };
    format!("{which}, counted over {rows}. Below each: the latent's index, and the share of those rows that use it.")
}

/// Returns the images of which some are reconstructed: the held-out ones, or else the training images without variants.
fn candidates(data: &Dataset, rows: &RunRows) -> Vec<usize> {
    match rows.test.is_empty() {
        false => data.images(&rows.test),
        true => data.images(&rows.train).into_iter().filter(|p| p % data.copies() == 0).collect(),
    }
}

/// Number of features and of columns of a wall: of images, and of plain vectors.
const WALLS: [(usize, usize); 2] = [(64, 8), (18, 6)];
/// Number of rows on a strip: of images, and of plain vectors.
const STRIPS: [usize; 2] = [12, 4];

/// Writes the images by which the report of a sweep compares a cell with others; `own` is the folder of the cell.
pub fn write_for_sweep(sweep: &Path, own: &Path, saes: &[Sae], data: &Dataset, rows: &RunRows) -> Result<()> {
    let save = |path: &Path, png: Vec<u8>| write_atomically(path, |out| out.write_all(&png));
    let plain = usize::from(data.shape().is_none());
    let chosen = over_classes(&candidates(data, rows), STRIPS[plain], |p| data.label_of_image(p));
    let (x, recon) = reconstruct_images(&saes[0], data, &chosen);
    let (most, columns) = WALLS[plain];
    let used = most_used_features(&saes[0], data, &rows.train);
    let wall: Vec<&[f32]> = used.rows.iter().take(most).map(Vec::as_slice).collect();
    let lines = |m: &Mat| -> Vec<u8> {
        let all: Vec<&[f32]> = (0..chosen.len()).map(|b| m.row(b)).collect();
        tiles(&all, data.image_shape().expect("images"), all.len(), false)
    };
    if plain == 0 {
        save(&sweep.join(ORIGINALS_FILE), lines(&x))?;
        save(&own.join(FEATURES_FILE), tiles(&wall, used.shape.expect("images"), columns, true))?;
        return save(&own.join(RECONSTRUCTIONS_FILE), lines(&recon));
    }
    let cells: Vec<Feature> =
        used.order.iter().zip(&wall).map(|(&h, row)| Feature { index: h, share: None, row }).collect();
    save(&own.join(FEATURES_FILE), feature_sheet(&cells, None, columns, "", "").encode_png())?;
    let recons: Vec<[&[f32]; 1]> = (0..chosen.len()).map(|b| [recon.row(b)]).collect();
    let pearson: Vec<[f64; 1]> = (0..chosen.len()).map(|b| [row_metrics(x.row(b), recon.row(b)).pearson]).collect();
    let panels: Vec<ReconstructedRow> = (0..chosen.len())
        .map(|b| ReconstructedRow {
            label: String::new(),
            name: file_name(&data.name(chosen[b] / data.copies())),
            original: x.row(b),
            recons: &recons[b],
            pearson: &pearson[b],
        })
        .collect();
    let labels = ["original".to_owned(), "SAE".to_owned()];
    save(&own.join(RECONSTRUCTIONS_FILE), reconstruction_sheet(&panels, None, &labels, "", "").encode_png())
}

/// Draws the sheet of reconstructions.
fn reconstructions(saes: &[Sae], data: &Dataset, rows: &RunRows, trained: bool) -> Canvas {
    let held_out = !rows.test.is_empty();
    let from = candidates(data, rows);
    let label = |p: usize| data.label_of_image(p);
    let shown = over_classes(&from, RECONSTRUCTED[usize::from(data.shape().is_none())], label);
    let n = shown.len();
    let mut x = Mat::default();
    let mut mean = Mat::zeros(n, data.image_dim());
    let mut recons: Vec<Mat> = Vec::new();
    for sae in saes {
        let recon;
        (x, recon) = reconstruct_images(sae, data, &shown);
        Isa::current().add_scaled(mean.data_mut(), 1.0 / saes.len() as f32, recon.data());
        if recons.len() < MEMBERS {
            recons.push(recon);
        }
    }
    let mut labels = vec!["original".to_owned()];
    if saes.len() == 1 {
        labels.push("SAE".into());
    } else {
        labels.extend((0..recons.len()).map(|i| format!("SAE {i}")));
        labels.push(if saes.len() > MEMBERS { format!("mean of all {}", saes.len()) } else { "mean of all".into() });
        recons.push(mean);
    }
    let rows_of: Vec<Vec<&[f32]>> = (0..n).map(|b| recons.iter().map(|r| r.row(b)).collect()).collect();
    let pearson: Vec<Vec<f64>> =
        (0..n).map(|b| rows_of[b].iter().map(|r| row_metrics(x.row(b), r).pearson).collect()).collect();
    let columns: Vec<ReconstructedRow> = (0..n)
        .map(|b| ReconstructedRow {
            label: label(shown[b]).map_or(String::new(), |c| class_label(&data.classes()[c as usize])),
            name: file_name(&data.name(shown[b] / data.copies())),
            original: x.row(b),
            recons: &rows_of[b],
            pearson: &pearson[b],
        })
        .collect();
    let row = if data.patches().is_some() { "image" } else { "row" };
    let kind = &format!("{} {row}", if held_out { "held-out" } else { "training" });
    let untrained = if trained { "" } else { ", before training" };
    let title = match n {
        1 => format!("Reconstruction of a {kind}{untrained}"),
        _ => format!("Reconstructions of {kind}s{untrained}"),
    };
    let evenly = if n < from.len() && !data.classes().is_empty() { ", taken evenly from the classes" } else { "" };
    let picked = part_of(n, from.len(), kind);
    let score = "r is Pearson's correlation of a reconstruction with its original";
    let note = format!("{}{evenly}; {score}.", capital(&picked));
    reconstruction_sheet(&columns, data.image_shape(), &labels, &title, &note)
}

/// Returns the label of a class; names that are numbers get the word class.
fn class_label(name: &str) -> String {
    match name.parse::<u64>() {
        Ok(_) => format!("class {name}"),
        Err(_) => name.to_owned(),
    }
}

/// Returns the name of a file without its folders.
fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// Returns a phrase such as "all 12 held-out rows", "12 of 2,418 held-out rows" or "the only held-out row".
fn part_of(n: usize, all: usize, row: &str) -> String {
    let s = if row.ends_with("ch") { "es" } else { "s" };
    match (n, all) {
        (0, 0) => format!("no {row}"),
        (1, 1) => format!("the only {row}"),
        _ if n == all => format!("all {} {row}{s}", count(n as u64)),
        _ => format!("{} of {} {row}{s}", count(n as u64), count(all as u64)),
    }
}

/// Returns at most `n` of the rows, as equally from every class as possible and evenly spaced within each, class by
/// class in the order of the rows.
fn over_classes(rows: &[usize], n: usize, label: impl Fn(usize) -> Option<u16>) -> Vec<usize> {
    let mut classes: std::collections::BTreeMap<Option<u16>, Vec<usize>> = Default::default();
    rows.iter().for_each(|&r| classes.entry(label(r)).or_default().push(r));
    let all: Vec<Vec<usize>> = classes.into_values().collect();
    if all.len() > n {
        return evenly_spaced(&(0..all.len()).collect::<Vec<_>>(), n).into_iter().map(|c| all[c][0]).collect();
    }
    let mut quota = vec![0; all.len()];
    let mut left = n.min(rows.len());
    while left > 0 {
        for (quota, rows) in quota.iter_mut().zip(&all) {
            if left > 0 && *quota < rows.len() {
                *quota += 1;
                left -= 1;
            }
        }
    }
    all.iter().zip(quota).flat_map(|(rows, quota)| evenly_spaced(rows, quota)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_features_in_use_are_shown_the_most_used_first() {
        assert_eq!(most_used(&[0, 3, 7, 3, 0, 1]), [2, 1, 3, 5]);
        assert!(most_used(&[0; 9]).is_empty() && most_used(&[1; 500]).len() == FEATURES);
    }

    #[test]
    fn grey_images_in_three_channels_are_recognised() {
        assert!(is_grey(&[0.1, 0.9, 0.1, 0.9, 0.1, 0.9]) && is_grey(&[0.1, 0.9, 0.104, 0.9, 0.1, 0.897]));
        assert!(!is_grey(&[0.1, 0.9, 0.1, 0.9, 0.1, 0.8]) && !is_grey(&[0.1, 0.9, 0.1, f32::NAN, 0.1, 0.9]));
        assert_eq!(mean_channel(&[1.0, 4.0, 2.0, 5.0, 3.0, 9.0]), [2.0, 6.0]);
    }

    #[test]
    fn notes_are_grammatical() {
        let words = [(0, 0), (1, 1), (4, 4), (1, 5), (2000, 60000)].map(|(n, all)| part_of(n, all, "training row"));
        let want = ["no training row", "the only training row", "all 4 training rows", "1 of 5 training rows"];
        assert_eq!(words[..4], want);
        assert_eq!(words[4], "2,000 of 60,000 training rows");
        assert_eq!(
            feature_note(&[0; 3000], 0, "all 4 rows"),
            "None of 3,000 features is in use, counted over all 4 rows."
        );
        let begins = |counts: &[u32], shown, with| {
            let note = feature_note(counts, shown, "x");
            assert!(note.starts_with(with), "{note}");
        };
        begins(&[0, 2], 1, "The only one of 2 features that is in use, counted over x.");
        begins(&[1, 0, 2], 2, "The 2 of 3 features that are in use, the most used first, counted");
        begins(&[1; 300], 100, "The 100 most used of 300 features, the most used first, counted");
        assert_eq!(
            (class_label("7"), class_label("sit"), file_name("a/b/é.png")),
            ("class 7".into(), "sit".into(), "é.png".into())
        );
    }

    #[test]
    fn rows_are_evenly_spaced_and_taken_equally_from_the_classes() {
        assert_eq!(evenly_spaced(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5]);
        assert_eq!(evenly_spaced(&[1, 2], 3), [1, 2]);
        assert!(evenly_spaced(&[], 3).is_empty() && over_classes(&[], 3, |_| None).is_empty());
        let rows: Vec<usize> = (0..100).collect();
        let rare = |r: usize| Some(if r == 40 { 2 } else { (r % 2) as u16 });
        let chosen = over_classes(&rows, 8, rare);
        let count = |class| chosen.iter().filter(|&&r| rare(r) == Some(class)).count();
        assert_eq!((chosen.len(), count(0), count(1), count(2)), (8, 4, 3, 1));
        assert!(chosen.is_sorted_by_key(|&r| (rare(r), r)));
        assert_eq!(over_classes(&rows, 4, |r| Some(r as u16)), [0, 25, 50, 75]);
        assert_eq!(over_classes(&rows, 4, |_| None), [0, 25, 50, 75]);
        assert_eq!(over_classes(&rows[..3], 4, |_| None), [0, 1, 2]);
    }
}
