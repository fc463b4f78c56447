//! Comparison of the accumulators with sums over all rows at once.

use super::evaluation::COLUMN_CHUNK;
use super::perceptual::{FilterBank, Scratch};
use super::*;
use crate::matrix::Mat;
use crate::shape::ImageShape;

const D: usize = 13 * 12;
const CLASSES: usize = 4;
const H: usize = 40;

fn shape() -> Option<ImageShape> {
    Some(ImageShape { channels: 1, height: 13, width: 12 })
}

/// Rows around an offset that depends on the class, with reconstructions; class 2 never occurs.
fn rows(n: usize) -> (Mat, Mat, Vec<u16>) {
    let mut seed = 1u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((seed >> 40) as f32) / (1u64 << 24) as f32
    };
    let labels: Vec<u16> = (0..n).map(|b| [0, 1, 3, 1, 0][b % 5]).collect();
    let mut x = Mat::zeros(n, D);
    let mut recon = Mat::zeros(n, D);
    for b in 0..n {
        for j in 0..D {
            let v = f32::from(labels[b]) * 0.1 + (j % 7) as f32 * 0.05 + next() * 0.4;
            x.row_mut(b)[j] = v;
            recon.row_mut(b)[j] = 0.8 * v + 0.1 * next();
        }
    }
    (x, recon, labels)
}

/// The active latents of row b; the last entry is stored but zero.
fn latents(b: usize) -> (Vec<u32>, Vec<f32>) {
    let n = b % 4 + 1;
    let indices = (0..=n).map(|i| ((b * 3 + i * 5) % (H - 3)) as u32).collect();
    (indices, (0..=n).map(|i| if i == n { 0.0 } else { 0.5 - i as f32 }).collect())
}

fn evaluate(x: &Mat, recon: &Mat, labels: &[u16], batch: usize) -> Evaluation {
    let mut e = Evaluation::new(D, CLASSES, shape(), H);
    feed(&mut e, x, recon, labels, 0..x.rows(), batch);
    e
}

fn feed(e: &mut Evaluation, x: &Mat, recon: &Mat, labels: &[u16], range: std::ops::Range<usize>, batch: usize) {
    let mut at = range.start;
    while at < range.end {
        let n = batch.min(range.end - at);
        let part = |m: &'_ Mat| Mat::from_vec(n, D, m.data()[at * D..][..n * D].to_vec());
        let (a, b) = (part(x), part(recon));
        e.add(a.view(), b.view(), if labels.is_empty() { &[] } else { &labels[at..][..n] });
        for b in at..at + n {
            let (indices, values) = latents(b);
            e.count_latents(labels.get(b).copied(), &indices, &values);
        }
        at += n;
    }
}

/// The same measures from their definitions, with all rows in memory.
fn naive(x: &Mat, recon: &Mat, which: &[usize]) -> Summary {
    let n = which.len() as f64;
    let column_mean: Vec<f64> =
        (0..D).map(|j| which.iter().map(|&b| f64::from(x.row(b)[j])).sum::<f64>() / n).collect();
    let (mut residual, mut variance) = (0.0, 0.0);
    let mut ssim = Ssim::new(shape().unwrap()).unwrap();
    let mut s = Summary { rows: which.len() as u64, latents: Some(H as u64), ..Summary::default() };
    let (bank, mut scratch) = (FilterBank::new(shape().unwrap(), 1.0), Scratch::default());
    let mut sums = [0.0f64; 7];
    let mut active = vec![0u64; H];
    for &b in which {
        let (x, recon) = (x.row(b), recon.row(b));
        for j in 0..D {
            residual += (f64::from(x[j]) - f64::from(recon[j])).powi(2);
            variance += (f64::from(x[j]) - column_mean[j]).powi(2);
        }
        let row = row_metrics(x, recon);
        s.constant_rows += u64::from(row.constant);
        let entropy = x.iter().zip(recon).map(|(&x, &y)| {
            let (x, y) = (f64::from(x), f64::from(y).clamp(1e-6, 1.0 - 1e-6));
            -(x * y.ln() + (1.0 - x) * (1.0 - y).ln()) / D as f64
        });
        let of_images = [ssim.mean(x, recon), bank.distance(x, recon, &mut scratch), entropy.sum()];
        for (sum, v) in sums.iter_mut().zip([row.pearson, row.mse, row.cosine, row.psnr].iter().chain(&of_images)) {
            *sum += v / n;
        }
        let (indices, values) = latents(b);
        indices.iter().zip(values).filter(|(_, v)| *v != 0.0).for_each(|(&h, _)| active[h as usize] += 1);
    }
    let [pearson, mse, cosine, psnr, ssim, perceptual, cross_entropy] = sums.map(Some);
    let fvu = Some(residual / variance);
    s.reconstruction = Reconstruction { pearson, mse, fvu, cosine, ssim, perceptual, cross_entropy, psnr };
    let l0 = active.iter().sum::<u64>() as f64 / n;
    s.l0 = Some(l0);
    s.l0_fraction = Some(l0 / H as f64);
    s.dead_latents = Some(active.iter().filter(|&&a| a == 0).count() as u64);
    s.rare_latents = Some(active.iter().filter(|&&a| (a as f64) < n / 1000.0).count() as u64);
    s.density = Some(density(&active, which.len() as u64));
    s
}

fn assert_close(got: &Summary, want: &Summary, tolerance: f64) {
    let floats = |s: &Summary| {
        let Reconstruction { pearson, mse, fvu, cosine, ssim, perceptual, cross_entropy, psnr } = s.reconstruction;
        [pearson, mse, fvu, cosine, ssim, perceptual, cross_entropy, psnr, s.l0, s.l0_fraction]
    };
    for (i, (g, w)) in floats(got).into_iter().zip(floats(want)).enumerate() {
        assert_eq!(g.is_some(), w.is_some(), "value {i}: {got:?} against {want:?}");
        let (g, w) = (g.unwrap_or(0.0), w.unwrap_or(0.0));
        assert!((g - w).abs() <= tolerance * w.abs(), "value {i}: {g} against {w}");
    }
    let counts = |s: &Summary| (s.rows, s.constant_rows, s.dead_latents, s.rare_latents, s.latents, s.density.clone());
    assert_eq!(counts(got), counts(want));
}

#[test]
fn overall_and_by_class_match_the_definitions() {
    let (x, mut recon, labels) = rows(203);
    recon.row_mut(7).fill(0.3);
    let e = evaluate(&x, &recon, &labels, 32);
    let all: Vec<usize> = (0..203).collect();
    assert_close(&e.overall(), &naive(&x, &recon, &all), 1e-11);
    assert_eq!(e.overall().constant_rows, 1);
    assert!(e.overall().dead_latents.unwrap() >= 3 && e.overall().rare_latents >= e.overall().dead_latents);
    for class in [0u16, 1, 3] {
        let which: Vec<usize> = all.iter().copied().filter(|&b| labels[b] == class).collect();
        assert_close(&e.class(class as usize), &naive(&x, &recon, &which), 1e-11);
    }
}

#[test]
fn rows_without_labels_count_overall_only() {
    let (x, recon, labels) = rows(60);
    let labelled = evaluate(&x, &recon, &labels, 16).overall();
    let plain = evaluate(&x, &recon, &[], 16);
    assert_close(&plain.overall(), &labelled, 1e-11);
    assert_eq!(plain.class(0), Summary { latents: Some(H as u64), ..Summary::default() });
}

#[test]
fn an_empty_class_has_no_values() {
    let (x, recon, labels) = rows(30);
    let e = evaluate(&x, &recon, &labels, 30);
    assert_eq!(e.class(2), Summary { latents: Some(H as u64), ..Summary::default() });
    assert_eq!(Evaluation::new(D, 0, None, 0).overall(), Summary::default());
}

#[test]
fn merging_equals_one_pass() {
    let (x, recon, labels) = rows(150);
    let one = evaluate(&x, &recon, &labels, 50);
    let mut merged = Evaluation::new(D, CLASSES, shape(), H);
    for range in [0..3, 3..90, 90..150] {
        let mut part = Evaluation::new(D, CLASSES, shape(), H);
        feed(&mut part, &x, &recon, &labels, range, 50);
        merged.merge(&part);
    }
    merged.merge(&Evaluation::new(D, CLASSES, shape(), H));
    assert_close(&merged.overall(), &one.overall(), 1e-11);
    for class in 0..CLASSES {
        assert_close(&merged.class(class), &one.class(class), 1e-11);
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let (x, recon, labels) = rows(301);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&x, &recon, &labels, 128)).overall()
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one);
    }
}

#[test]
fn wide_rows_are_summed_over_every_column() {
    let d = 2 * COLUMN_CHUNK + 9;
    let x = Mat::from_vec(2, d, (0..2 * d).map(|i| if i < d { 0.0 } else { (i % 5) as f32 }).collect());
    let mut e = Evaluation::new(d, 2, None, 0);
    e.add_against(x.view(), &vec![0.0; d], &[1, 0]);
    let squares: f64 = x.row(1).iter().map(|&v| f64::from(v * v)).sum();
    assert!((e.overall().reconstruction.fvu.unwrap() - squares / (squares / 2.0)).abs() < 1e-12);
    assert_eq!((e.overall().reconstruction.ssim, e.overall().reconstruction.perceptual), (None, None));
    assert_eq!((e.overall().l0, e.overall().latents), (None, None));
}

#[test]
fn the_mean_of_the_rows_has_an_fvu_of_one() {
    let (x, _, labels) = rows(90);
    let mean: Vec<f32> = (0..D).map(|j| (0..90).map(|b| x.row(b)[j]).sum::<f32>() / 90.0).collect();
    let mut e = Evaluation::new(D, CLASSES, shape(), 0);
    e.add_against(x.view(), &mean, &labels);
    assert!((e.overall().reconstruction.fvu.unwrap() - 1.0).abs() < 1e-6);
    assert!(e.class(0).reconstruction.fvu.unwrap() > 1.0, "a class is measured against its own mean");
}

#[test]
fn rows_without_variance_have_no_fvu() {
    let row: Vec<f32> = (0..D).map(|j| 0.1 + j as f32).collect();
    let x = Mat::from_vec(9, D, row.repeat(9));
    let (_, recon, labels) = rows(9);
    let mut e = Evaluation::new(D, CLASSES, None, 0);
    e.add(x.view(), recon.view(), &labels);
    assert_eq!((e.overall().reconstruction.fvu, e.class(0).reconstruction.fvu), (None, None));
    assert!(e.overall().reconstruction.mse.is_some());
}

#[test]
fn variance_is_accurate_with_a_large_mean() {
    let n = 64;
    let at = |b: usize| 65536.0 + (b % 4) as f32 * 0.0078125;
    let x = Mat::from_vec(n, 3, (0..n * 3).map(|i| at(i / 3)).collect());
    let mut e = Evaluation::new(3, 2, None, 0);
    let labels: Vec<u16> = (0..n).map(|b| (b % 2) as u16).collect();
    e.add_against(x.view(), &[65536.0; 3], &labels);
    // Levels 0, 1, 2, 3: mean square 3.5, variance 1.25; class 0 has 0 and 2: 2 and 1.
    assert!((e.overall().reconstruction.fvu.unwrap() - 3.5 / 1.25).abs() < 1e-9);
    assert!((e.class(0).reconstruction.fvu.unwrap() - 2.0).abs() < 1e-9);
}

#[test]
fn nan_rows_give_nan() {
    let mut x = Mat::zeros(2, 4);
    x.row_mut(1)[2] = f32::NAN;
    let mut e = Evaluation::new(4, 0, None, 0);
    e.add_against(x.view(), &[0.0; 4], &[]);
    assert!(e.overall().reconstruction.fvu.unwrap().is_nan() && e.overall().reconstruction.mse.unwrap().is_nan());
}

#[test]
fn latents_are_counted_where_not_zero() {
    let mut e = Evaluation::new(1, 0, None, 4);
    for b in 0..2000 {
        let rare = if b == 5 { 0.1 } else { 0.0 };
        let second = if b < 200 { -1.0 } else { 0.0 };
        e.count_latents(None, &[0, 1, 2], &[1.0, second, rare]);
    }
    let s = e.overall();
    assert_eq!((s.l0, s.l0_fraction), (Some(2201.0 / 2000.0), Some(2201.0 / 8000.0)));
    assert_eq!((s.dead_latents, s.rare_latents, s.latents), (Some(1), Some(2), Some(4)));
    let histogram = s.density.unwrap();
    assert_eq!((histogram.never, histogram.counts.len(), histogram.counts.iter().sum::<u64>()), (1, 60, 3));
    // 1 falls into the last bucket, 0.1 opens the last decade, 1/2000 = 10^-3.301 lies in [-3.4, -3.3).
    assert_eq!((histogram.counts[59], histogram.counts[50], histogram.counts[26]), (1, 1, 1));
    assert_eq!(density(&[1], 100_000_000).counts[0], 1, "below the axis");
}

#[test]
#[should_panic(expected = "label 4 of 4 classes")]
fn a_label_out_of_range_panics() {
    Evaluation::new(1, 4, None, 1).count_latents(Some(4), &[], &[]);
}

#[test]
fn small_images_have_a_perceptual_distance_and_no_ssim() {
    let mut e = Evaluation::new(12, 0, Some((1, 3, 4).into()), 0);
    let x = Mat::from_vec(1, 12, (0..12).map(|i| i as f32 / 12.0).collect());
    e.add_against(x.view(), &[0.5; 12], &[]);
    let s = e.overall();
    assert!(
        s.reconstruction.ssim.is_none() && s.reconstruction.perceptual.is_some_and(|d| d > 0.05 && d < 1.0),
        "{s:?}"
    );
}
