use super::super::shard;
use super::*;
use crate::data::synthetic::Synthetic;
use crate::init::{Init, Sample, init};
use crate::metrics::row_metrics;
use crate::model::{Config, Weights};

fn setting(tied: bool, output: Output) -> (Sae, Dataset) {
    let data = Dataset::from_rows(Synthetic::parse("synthetic:kind=images,rows=150").expect("a spec").rows());
    let data = data.expect("rows");
    let config = Config {
        d_in: data.dim(),
        latents: 60,
        k: 7,
        relu_after: !tied,
        tied,
        decoder_bias: !tied,
        output,
        ..Config::default()
    };
    let (mean, _) = data.moments(&(0..150).collect::<Vec<_>>());
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let none = Mat::zeros(0, data.dim());
    let sample = Sample { mean: &mean, rows: none.view(), held_out: 0, shape: None };
    let (sae, _) = init(config, Init::Kaiming, 1, 0, sample).expect("a model");
    let mut weights: Weights = sae.into_weights();
    weights.W_enc.data_mut().iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + (i % 7) as f32 * 0.1);
    (Sae::new(config, weights).expect("a model"), data)
}

/// Zero the latent, decode again, measure.
#[test]
fn ablation_equals_brute_force() {
    for (tied, output) in [(true, Output::Linear), (false, Output::Linear), (false, Output::Sigmoid)] {
        let (sae, data) = setting(tied, output);
        let rows: Vec<usize> = (0..150).collect();
        let got = accumulate(&[&sae], &data, &rows, &mut |_, _| ControlFlow::Continue(()))
            .expect("finite")
            .expect("all rows");
        let (mut work, mut latents) = (Workspace::default(), Latents::default());
        let mut x = Mat::zeros(150, data.dim());
        data.fill(&rows, 0, x.view_mut());
        sae.encode(x.view(), &mut work, &mut latents).expect("finite");
        let mut whole = Mat::zeros(150, data.dim());
        sae.decode(&latents, &work, whole.view_mut());
        let mut sums = Mat::zeros(150, data.dim());
        sae.decode_logits(&latents, &work, sums.view_mut());
        for h in 0..60 {
            let feature = sae.feature(h);
            let (mut sse, mut pearson, mut count) = (0.0, 0.0, 0);
            for r in 0..150 {
                let (index, value) = latents.row(r);
                let Ok(at) = index.binary_search(&(h as u32)) else { continue };
                let less = |(&y, &w): (&f32, &f32)| match output {
                    Output::Linear => y - value[at] * w,
                    Output::Sigmoid => 1.0 / (1.0 + (value[at] * w - y).exp()),
                };
                let recon: Vec<f32> = sums.row(r).iter().zip(&feature).map(less).collect();
                let (with, without) = (row_metrics(x.row(r), whole.row(r)), row_metrics(x.row(r), &recon));
                sse += without.residual - with.residual;
                pearson += with.pearson - without.pearson;
                count += 1;
            }
            let own = &got.saes[0].latents[h];
            assert_eq!(own.count(), count);
            let close = |a: f64, b: f64, size: f64| (a - b).abs() <= 1e-5 * size.max(b.abs()).max(1e-3);
            assert!(close(own.delta_sse.value(), sse, 0.0), "{h}: {} {sse}", own.delta_sse.value());
            assert!(close(own.delta_pearson.value(), pearson, 1.0), "{h}: {} {pearson}", own.delta_pearson.value());
        }
    }
}

/// Synergy by brute force: what removing both adds beyond what each adds.
#[test]
fn synergy_equals_brute_force() {
    let (sae, data) = setting(false, Output::Linear);
    let rows: Vec<usize> = (0..150).collect();
    let got =
        accumulate(&[&sae], &data, &rows, &mut |_, _| ControlFlow::Continue(())).expect("finite").expect("all rows");
    let (mut work, mut latents) = (Workspace::default(), Latents::default());
    let mut x = Mat::zeros(150, data.dim());
    data.fill(&rows, 0, x.view_mut());
    sae.encode(x.view(), &mut work, &mut latents).expect("finite");
    let features: Vec<Vec<f32>> = (0..60).map(|h| sae.feature(h)).collect();
    let mut pairs = 0;
    for (i, partners) in got.saes[0].partners.as_ref().expect("few pairs").iter().enumerate() {
        for (j, pair) in partners.pairs(i) {
            let j = j as usize;
            let (mut brute, mut count) = (0.0f64, 0);
            for r in 0..150 {
                let (index, value) = latents.row(r);
                let find = |h: usize| index.binary_search(&(h as u32)).ok().map(|p| f64::from(value[p]));
                let (Some(a), Some(b)) = (find(i), find(j)) else { continue };
                let error = |removed: &[(f64, usize)]| -> f64 {
                    (0..data.dim())
                        .map(|d| {
                            let b_dec = sae.b_dec().map_or(0.0, |b| f64::from(b[d]));
                            let mut y = b_dec;
                            index
                                .iter()
                                .zip(value)
                                .for_each(|(&h, &v)| y += f64::from(v) * f64::from(features[h as usize][d]));
                            removed.iter().for_each(|&(v, h)| y -= v * f64::from(features[h][d]));
                            (f64::from(x.row(r)[d]) - y).powi(2)
                        })
                        .sum()
                };
                brute += error(&[(a, i), (b, j)]) - error(&[(a, i)]) - error(&[(b, j)]) + error(&[]);
                count += 1;
            }
            let dot: f64 = features[i].iter().zip(&features[j]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let own = 2.0 * pair.sum() * dot;
            assert_eq!(pair.count, count);
            assert!((own - brute).abs() <= 1e-5 * brute.abs().max(1e-3), "{i} {j}: {own} {brute}");
            pairs += 1;
        }
    }
    assert!(pairs > 50, "{pairs}");
}

#[test]
fn shards_merge_to_the_bits_of_one_pass() {
    let (sae, data) = setting(true, Output::Linear);
    let rows: Vec<usize> = (0..150).collect();
    let sums_of = |rows: &[usize]| {
        let all = accumulate(&[&sae], &data, rows, &mut |_, _| ControlFlow::Continue(())).expect("finite");
        all.expect("all rows")
    };
    let whole = sums_of(&rows);
    let mut merged = sums_of(&rows[70..]);
    merged.merge(sums_of(&rows[..33]));
    merged.merge(sums_of(&rows[33..70]));
    assert_eq!(whole.saes[0].latents, merged.saes[0].latents);
    assert_eq!(whole.saes[0].rows, merged.saes[0].rows);
    assert_eq!(whole.class_rows, merged.class_rows);
    let pairs = |g: &PassSums| -> Vec<_> {
        g.saes[0].partners.as_ref().expect("few").iter().enumerate().map(|(i, p)| p.pairs(i)).collect()
    };
    assert_eq!(pairs(&whole), pairs(&merged));
    // By way of a file as well.
    let (read, key) = shard::from_columns(&shard::to_columns(&whole, &[7; 32])).expect("a shard");
    assert_eq!((read.saes[0].latents.clone(), key), (whole.saes[0].latents.clone(), [7; 32]));
    assert_eq!((&read.saes[0].rows, pairs(&read)), (&whole.saes[0].rows, pairs(&whole)));
}
