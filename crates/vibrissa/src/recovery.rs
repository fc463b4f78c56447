//! Recovery of the true features of synthetic rows: as directions (cosine of decoder direction and feature) and in use
//! (agreement of "the latent is active" and "the feature fires").

use crate::data::Dataset;
use crate::data::synthetic::{Synthetic, gaussian_directions};
use crate::directions::{for_all_products, match_one_to_one};
use crate::matrix::{Latents, Mat, MatRef};
use crate::metrics::mean;
use crate::model::{Sae, Workspace};
use crate::record::Recovery;

/// |cosine| from which a feature counts as found.
const FOUND: f64 = 0.9;

/// The generator of a data set that was opened as `spec`; `None` for other data, and for rows brought to another shape,
/// in which the features are unknown.
pub fn truth_of(spec: &str, data: &Dataset) -> Option<Synthetic> {
    let truth = Synthetic::parse(spec).ok()?;
    (truth.shape() == data.shape() && truth.dim() == data.dim() && truth.rows == data.originals()).then_some(truth)
}

/// Measures how well each SAE recovered the true features of synthetic data; empty for other data.
pub fn recover(saes: &[&Sae], spec: &str, data: &Dataset, rows: &[usize]) -> Vec<Recovery> {
    truth_of(spec, data).map_or(Vec::new(), |t| saes.iter().map(|sae| recovery(sae, &t, data, rows)).collect())
}

/// Measures how well one SAE recovered the true features of `data`. Augmented variants among `rows` do not count.
///
/// # Panics
/// If model, generator and data do not have the same number of columns.
pub fn recovery(sae: &Sae, truth: &Synthetic, data: &Dataset, rows: &[usize]) -> Recovery {
    let features = truth.features();
    let mut decoder = Mat::zeros(sae.config().latents, data.dim());
    (0..decoder.rows()).for_each(|h| decoder.row_mut(h).copy_from_slice(&sae.feature(h)));
    let (unit, decoder) = (units(features.view()), units(decoder.view()));
    let best = largest_cosines(decoder.view(), unit.view());
    let chance = gaussian_directions("chance", decoder.rows(), data.dim(), truth.seed);
    let partners = match_one_to_one(unit.view(), decoder.view());
    let uses = partners.as_ref().map(|partners| {
        let latents: Vec<Option<u32>> = partners.iter().map(|p| p.map(|p| p.0)).collect();
        count_uses(sae, &latents, truth, data, rows)
    });
    // With a sigmoid every latent is always active.
    let used = uses.as_deref().filter(|_| !sae.config().activation.is_dense()).map(Agreement::of).unwrap_or_default();
    Recovery {
        features: features.rows() as u64,
        rows: rows.iter().filter(|&r| r % data.copies() == 0).count() as u64,
        fired: uses.map(|uses| uses.iter().filter(|u| u.fires > 0).count() as u64),
        mcc: partners.map(|p| mcc(&p)),
        mcc_chance: match_one_to_one(unit.view(), chance.view()).map(|p| mcc(&p)),
        mmcs: mean(best.iter().copied()),
        mmcs_chance: mean(largest_cosines(chance.view(), unit.view())),
        found: mean(best.iter().map(|&c| f64::from(c >= FOUND))),
        f1: used.f1,
        precision: used.precision,
        recall: used.recall,
    }
}

/// Mean |cosine| over the true features (MCC); those without a partner count as 0.
fn mcc(partners: &[Option<(u32, f64)>]) -> f64 {
    partners.iter().map(|p| p.map_or(0.0, |p| p.1)).sum::<f64>() / partners.len().max(1) as f64
}

/// Mean over the true features of the largest |cosine| with any row of the decoder (MMCS); 1 if all were found. Rows of
/// zeros and rows with values that are not finite have a cosine of 0.
///
/// # Shapes
/// `decoder [H, D]`, `truth [features, D]`
///
/// # Panics
/// If the widths differ.
pub fn mmcs(decoder: MatRef, truth: MatRef) -> f64 {
    assert_eq!(decoder.cols(), truth.cols(), "decoder and features have the same number of columns");
    mean(largest_cosines(units(decoder).view(), units(truth).view())).unwrap_or(0.0)
}

/// [`mmcs`] of `n_decoder` random Gaussian directions, the value for a decoder that learnt nothing.
///
/// # Shapes
/// `truth [features, D]`
pub fn mmcs_chance(n_decoder: usize, truth: MatRef, seed: u64) -> f64 {
    mmcs(gaussian_directions("chance", n_decoder, truth.cols(), seed).view(), truth)
}

/// The rows brought to unit length; rows of zeros and rows with values that are not finite become zeros.
fn units(rows: MatRef) -> Mat {
    let mut out = Mat::zeros(rows.rows(), rows.cols());
    for r in 0..rows.rows() {
        let norm = rows.row(r).iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm > 0.0 && norm.is_finite() {
            out.row_mut(r).iter_mut().zip(rows.row(r)).for_each(|(o, &v)| *o = (f64::from(v) / norm) as f32);
        }
    }
    out
}

/// For each true feature, the largest |cosine| with a row of the decoder; all rows have unit length.
fn largest_cosines(decoder: MatRef, truth: MatRef) -> Vec<f64> {
    let blocks = for_all_products(
        truth,
        decoder,
        |first| (first, vec![0.0f32; truth.rows() - first]),
        |(first, own), i, _, v| own[i - *first] = own[i - *first].max(v.abs()),
    );
    let mut best = vec![0.0f64; truth.rows()];
    for (first, own) in blocks {
        best[first..].iter_mut().zip(own).for_each(|(b, v)| *b = b.max(f64::from(v).min(1.0)));
    }
    best
}

/// Rows in which a feature fires, in which its partner is active, and in which both hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FeatureUse {
    fires: u64,
    active: u64,
    both: u64,
}

/// Agreement of features and partners, means over the features that fire.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Agreement {
    f1: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
}

impl Agreement {
    /// A feature whose partner is never active has 0 in all three.
    fn of(uses: &[FeatureUse]) -> Agreement {
        let part = |of: u64, n: u64| if n > 0 { of as f64 / n as f64 } else { 0.0 };
        let over = |figure: &dyn Fn(&FeatureUse) -> f64| mean(uses.iter().filter(|u| u.fires > 0).map(figure));
        Agreement {
            f1: over(&|u| part(2 * u.both, u.fires + u.active)),
            precision: over(&|u| part(u.both, u.active)),
            recall: over(&|u| part(u.both, u.fires)),
        }
    }
}

/// Counts the rows of each true feature, whose partner is `latents[i]`. A row that overflows has the latents that were
/// found before.
fn count_uses(
    sae: &Sae,
    latents: &[Option<u32>],
    truth: &Synthetic,
    data: &Dataset,
    rows: &[usize],
) -> Vec<FeatureUse> {
    let mut feature_of = vec![None; sae.config().latents];
    for (i, h) in latents.iter().enumerate() {
        if let Some(h) = h {
            feature_of[*h as usize] = Some(i as u32);
        }
    }
    let originals: Vec<usize> = rows.iter().copied().filter(|r| r % data.copies() == 0).collect();
    let size = data.batch_rows(originals.len());
    let (mut x, mut work, mut found) = (Mat::zeros(size, data.dim()), Workspace::default(), Latents::default());
    let (firing, mut fires) = (truth.firing(), Vec::new());
    let mut uses = vec![FeatureUse::default(); latents.len()];
    for batch in originals.chunks(size) {
        data.fill(batch, 0, x.first_rows_mut(batch.len()));
        sae.encode_lossy(x.first_rows(batch.len()), &mut work, &mut found);
        for (b, row) in batch.iter().enumerate() {
            firing.row(row / data.copies(), &mut fires);
            fires.iter().for_each(|&(i, _)| uses[i as usize].fires += 1);
            let (index, value) = found.row(b);
            for (&h, _) in index.iter().zip(value).filter(|(_, v)| **v != 0.0) {
                let Some(i) = feature_of[h as usize] else { continue };
                uses[i as usize].active += 1;
                uses[i as usize].both += u64::from(fires.binary_search_by_key(&i, |fires| fires.0).is_ok());
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, Weights};

    fn directions(n: usize) -> Mat {
        Synthetic { features: n, ..Synthetic::directions() }.features()
    }

    fn mcc_of(decoder: &Mat, truth: &Mat) -> f64 {
        mcc(&match_one_to_one(units(truth.view()).view(), units(decoder.view()).view()).expect("few"))
    }

    #[test]
    fn the_true_features_in_any_order_sign_and_length_score_one() {
        let truth = directions(40);
        let shuffled: Vec<f32> =
            (0..40).rev().flat_map(|i| truth.row(i).iter().map(move |v| v * (i as f32 - 19.5) * 3.0)).collect();
        let shuffled = Mat::from_vec(40, 256, shuffled);
        assert!((mmcs(shuffled.view(), truth.view()) - 1.0).abs() < 1e-6);
        assert!((mcc_of(&shuffled, &truth) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn half_of_the_features_score_a_half_and_none_score_zero() {
        let truth = Mat::from_vec(2, 2, vec![1.0, 0.0, 0.0, 2.0]);
        let half = Mat::from_vec(3, 2, vec![0.0, -5.0, 0.0, 0.0, f32::NAN, 1.0]);
        assert_eq!(mmcs(half.view(), truth.view()), 0.5);
        assert_eq!(mmcs(Mat::zeros(4, 2).view(), truth.view()), 0.0);
        assert_eq!(mmcs(Mat::zeros(0, 2).view(), truth.view()), 0.0);
        assert_eq!(mmcs(truth.view(), Mat::zeros(1, 2).view()), 0.0);
        assert_eq!(mmcs(truth.view(), Mat::zeros(0, 2).view()), 0.0);
        assert!((mcc_of(&half, &truth) - 0.5).abs() < 1e-6);
        // Two features in one direction: both have a cosine of 1 with it, but only one is matched.
        let twice = Mat::from_vec(2, 2, vec![1.0, 0.0, 1.0, 0.0]);
        let one = Mat::from_vec(1, 2, vec![-1.0, 0.0]);
        assert_eq!((mmcs(one.view(), twice.view()), mcc_of(&one, &twice)), (1.0, 0.5));
    }

    #[test]
    fn random_directions_score_the_expected_largest_cosine() {
        let truth = directions(200);
        // The largest of n |normal| / sqrt(D), n = 1000, D = 256: about 3.4 / 16.
        let chance = mmcs_chance(1000, truth.view(), 0);
        assert!((0.19..0.23).contains(&chance), "{chance}");
        assert_eq!(chance, mmcs_chance(1000, truth.view(), 0));
        let random = gaussian_directions("test", 200, 256, 1);
        let (matched, best) = (mcc_of(&random, &truth), mmcs(random.view(), truth.view()));
        assert!(matched > 0.12 && matched < best && best < 0.2, "{matched} {best}");
    }

    #[test]
    fn agreement_is_the_mean_over_features_that_fire() {
        let uses = [
            FeatureUse { fires: 4, active: 2, both: 1 },
            FeatureUse { fires: 3, active: 0, both: 0 },
            FeatureUse { fires: 0, active: 9, both: 0 },
            FeatureUse { fires: 5, active: 5, both: 5 },
        ];
        let want = Agreement {
            f1: Some((1.0 / 3.0 + 1.0) / 3.0),
            precision: Some((0.5 + 1.0) / 3.0),
            recall: Some((0.25 + 1.0) / 3.0),
        };
        assert_eq!(Agreement::of(&uses), want);
        assert_eq!(Agreement::of(&uses[2..3]), Agreement::default());
    }

    /// A model with the true features as its weights.
    #[test]
    fn a_model_with_the_true_features_finds_all_and_one_with_half_of_them_half() {
        let spec = "synthetic:kind=directions,dim=512,features=24,active=3,rows=600";
        let truth = Synthetic::parse(spec).expect("a spec");
        let data = Dataset::from_rows(truth.rows()).expect("rows");
        let rows: Vec<usize> = (0..600).collect();
        let model = |latents: usize| {
            let mut weights = Weights { W_enc: Mat::zeros(latents, 512), ..Weights::default() };
            (0..latents).for_each(|h| weights.W_enc.row_mut(h).copy_from_slice(truth.features().row(23 - h)));
            weights.W_dec = Some(weights.W_enc.clone());
            // The other features contribute well below half an amplitude to a latent.
            weights.b_enc = vec![-0.45; latents];
            // All latents are selected; those below 0 are set to 0.
            let config = Config { d_in: 512, latents, k: latents, decoder_bias: false, ..Config::default() };
            Sae::new(config, weights).expect("a model")
        };
        let all = recovery(&model(24), &truth, &data, &rows);
        assert!((all.mcc.expect("few") - 1.0).abs() < 1e-6 && all.found == Some(1.0), "{all:?}");
        assert!(all.f1.expect("few") > 0.98 && all.precision.expect("few") > 0.98, "{all:?}");
        assert_eq!((all.features, all.fired, all.rows), (24, Some(24), 600));
        let half = recovery(&model(12), &truth, &data, &rows);
        assert!((half.mcc.expect("few") - 0.5).abs() < 1e-6 && half.found == Some(0.5), "{half:?}");
        assert!((0.48..0.51).contains(&half.f1.expect("few")), "{half:?}");
        assert!(all.mcc_chance.expect("few") < 0.15, "{all:?}");
        assert_eq!(truth_of(spec, &data), Some(truth));
        assert_eq!(truth_of("synthetic:rows=600", &data), None);
    }
}
