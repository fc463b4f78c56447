use super::rounded::BATCHES;
use super::*;
use crate::activation::select::rank::{TopK, select};
use crate::kernels::prefilter::{from_bf16, to_bf16};
use crate::matrix::{Latents, Mat};
use crate::model::step::{Engine, State, StepOptions};
use crate::model::{self, Workspace};
use crate::random::Stream;

fn sae(d_in: usize, latents: usize, k: usize, weights: Mat, bias: Vec<f32>) -> Sae {
    let config = Config { d_in, latents, k, relu_after: false, tied: true, decoder_bias: false, ..Config::default() };
    Sae::new(config, model::Weights { W_enc: weights, b_enc: bias, ..model::Weights::default() }).expect("consistent")
}

/// Indices, and bits of values, of a row.
type Row = Vec<(u32, u32)>;

/// The latents of every row by the dense product.
fn dense(sae: &Sae, x: &Mat) -> Vec<Vec<(u32, u32)>> {
    let (mut work, mut latents) = (Workspace::new(Isa::SCALAR), Latents::default());
    sae.encode(x.view(), &mut work, &mut latents).expect("finite");
    assert!(!work.prefiltered);
    rows(&latents)
}

fn rows(latents: &Latents) -> Vec<Vec<(u32, u32)>> {
    let row = |b| {
        let (index, value) = latents.row(b);
        index.iter().zip(value).map(|(&i, v)| (i, v.to_bits())).collect()
    };
    (0..latents.rows()).map(row).collect()
}

/// [`dense`] by a prefilter without a guess, then with one; `None` for rows that it left unresolved.
fn prefiltered(isa: Isa, sae: &Sae, x: &Mat) -> Option<[Vec<Option<Row>>; 2]> {
    let k = sae.config.k;
    let candidates = PerThread::<Candidates>::new();
    let mut latents = Latents::default();
    let mut prefilter = Prefilter { guess: Guess::new(-1e30), capacity: sae.config.latents, ..Prefilter::new(isa) };
    let mut bounded = true;
    let all = [(); 2].map(|()| {
        bounded &= prefilter.find(sae, x.data(), Wanted::Top(k), &candidates);
        if !bounded {
            return Vec::new();
        }
        prefilter.compute_exact(sae, x.data());
        let find = |b: usize, scratch: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
            TopK { isa, k }.of_prefiltered(prefilter.row(b), scratch, index, value)
        };
        select(k, false, x.rows(), &candidates, &mut latents, find);
        prefilter.learn_from_batch(|b| latents.row(b).1.iter().fold(0.0, |m, &v| m.min(v)));
        let row = |(b, row)| (!prefilter.unresolved.contains(&(b as u32))).then_some(row);
        rows(&latents).into_iter().enumerate().map(row).collect()
    });
    bounded.then_some(all)
}

/// Checks that the prefilter finds what the dense product finds; returns the number of rows that it left unresolved
/// with a guess.
fn same(isa: Isa, sae: &Sae, x: &Mat, case: &str) -> usize {
    let want: Vec<Option<Row>> = dense(sae, x).into_iter().map(Some).collect();
    let [first, second] = prefiltered(isa, sae, x).expect("a bound");
    assert_eq!(first, want, "{} {case}", isa.name());
    for (got, want) in second.iter().zip(&want).filter(|(got, _)| got.is_some()) {
        assert_eq!(got, want, "{} {case} with a guess", isa.name());
    }
    second.iter().filter(|row| row.is_none()).count()
}

#[test]
fn the_prefilter_selects_what_the_dense_product_selects() {
    let (mut s, mut left, mut all) = (Stream::new(5, "screen", &[]), 0, 0);
    for (b, d, h, k) in [(20, 33, 100, 5), (17, 784, 256, 20), (64, 8, 500, 3), (3, 2000, 64, 64), (1, 1, 60, 7)] {
        let mut noise = |rows: usize, cols: usize, size: f64| {
            Mat::from_vec(rows, cols, (0..rows * cols).map(|_| (size * s.normal()) as f32).collect())
        };
        let (x, w) = (noise(b, d, 1.0), noise(h, d, 0.1));
        // Ties and neighbours one rounding apart; rows of zeros; weights that bf16 holds exactly; wide ranges.
        let mut close = w.clone();
        for i in 0..h {
            let from = w.row(i / 8 * 8).to_vec();
            let nudge = |(j, v): (usize, f32)| if j == i % 8 && i % 3 == 0 { v.next_up() } else { v };
            close.row_mut(i).copy_from_slice(&from.into_iter().enumerate().map(nudge).collect::<Vec<_>>());
        }
        let mut sparse = x.clone();
        (0..b).step_by(3).for_each(|r| sparse.row_mut(r).fill(0.0));
        let coarse = Mat::from_vec(h, d, w.data().iter().map(|v| (v * 16.0).round() / 16.0).collect());
        let whole = Mat::from_vec(b, d, x.data().iter().map(|v| v.round()).collect());
        let scale = |m: &Mat, f: &dyn Fn(usize) -> f32| {
            Mat::from_vec(m.rows(), d, m.data().iter().enumerate().map(|(i, v)| v * f(i / d)).collect())
        };
        let wild = scale(&w, &|h| 10f32.powi(h as i32 % 25 - 12));
        let tiny = scale(&x, &|_| 1e-30);
        for (case, x, w) in [
            ("normal", &x, &w),
            ("close", &x, &close),
            ("zero rows", &sparse, &close),
            ("exact in bf16", &whole, &coarse),
            ("wild", &x, &wild),
            ("tiny", &tiny, &w),
            ("tiny and wild", &tiny, &wild),
        ] {
            for bias in [vec![0.0; h], noise(1, h, 1.0).data().to_vec(), noise(1, h, 1e5).data().to_vec()] {
                let sae = sae(d, h, k, w.clone(), bias);
                for isa in Isa::available() {
                    left += same(isa, &sae, x, &format!("{case} {d}→{h}"));
                    all += b;
                }
            }
        }
    }
    // Ties and rows of zeros give poor guesses; elsewhere a guess from the same rows resolves nearly all.
    assert!(4 * left < all, "{left} of {all} rows left");
}

/// Batches that are rounded once for all workers select the same as those that each worker rounds for itself, also in
/// turns.
#[test]
fn large_batches_are_encoded_as_small_ones_are() {
    let mut s = Stream::new(13, "screen", &[]);
    let (d, h, k) = (128, 400, 7);
    let mut noise =
        |rows: usize, cols: usize| Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect());
    let sae = sae(d, h, k, noise(h, d), vec![0.0; h]);
    let [small, large] = [SMALL_BATCH / d, SMALL_BATCH / d + 1].map(|rows| noise(rows, d));
    for isa in Isa::available() {
        let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
        for x in [&small, &large, &small, &large] {
            sae.encode(x.view(), &mut work, &mut latents).expect("finite");
            assert_eq!(rows(&latents), dense(&sae, x), "{}", isa.name());
            assert_eq!(work.prefiltered, isa.has_prefilter());
        }
    }
}

/// Weights that were rounded once select the same, and are dropped when a step moves the weights.
#[test]
fn rounded_weights_select_the_same_and_do_not_outlive_a_step() {
    let mut s = Stream::new(8, "screen", &[]);
    let (b, d, h, k) = (64, 1100, 500, 6);
    let mut noise =
        |rows: usize, cols: usize| Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect());
    let (x, w) = (noise(b, d), noise(h, d));
    let isa = *Isa::available().last().expect("scalar");
    let state = State::new(sae(d, h, k, w.clone(), vec![0.0; h]).config());
    let mut engine = Engine::new(isa, sae(d, h, k, w, vec![0.0; h]), state, StepOptions::default());
    for _ in 0..2 {
        let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
        for _ in 0..BATCHES + 3 {
            engine.sae().encode(x.view(), &mut work, &mut latents).expect("finite");
            assert_eq!(rows(&latents), dense(engine.sae(), &x));
        }
        assert_eq!(
            (engine.sae().rounded.get().is_some(), work.prefiltered),
            (isa.has_prefilter(), isa.has_prefilter())
        );
        engine.step(x.view(), 0.1, None).expect("finite");
    }
}

/// The first latent is the largest by a hair, and rounding to bf16 makes it the smallest of all by as much as the
/// bound allows.
#[test]
fn rounding_that_misleads_changes_nothing() {
    let (d, h) = (64, 400);
    let half = |sign: [f32; 2]| (0..d).map(move |j| sign[usize::from(j >= d / 2)]);
    // bf16 has 8 bits: `down` becomes 1, `up` becomes 1 + 2⁻⁷.
    let (down, up) = (1.0 + 2f32.powi(-8), (1.0 + 2f32.powi(-8)).next_up());
    let one_and_others = |one: Vec<f32>, other: Vec<f32>| {
        Mat::from_vec(h, d, (0..h).flat_map(|i| if i == h - 1 { one.clone() } else { other.clone() }).collect())
    };
    let mut first = vec![0.0; h];
    first[h - 1] = 2e-5;
    let by_weights = (vec![1.0; d], one_and_others(vec![down; d], vec![up; d]), first);
    let (plus, minus) = (half([1.0, -1.0]).collect(), half([-1.0, 1.0]).collect());
    first = vec![0.0; h];
    first[h - 1] = 3e-5;
    let by_input = (half([down, up]).collect(), one_and_others(plus, minus), first);
    for (x, w, bias) in [by_weights, by_input] {
        let x = Mat::from_vec(3, d, x.repeat(3));
        let sae = sae(d, h, 1, w, bias);
        assert!(dense(&sae, &x).iter().all(|row: &Vec<(u32, u32)>| row[0].0 == h as u32 - 1), "as it was meant");
        Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "misled"));
    }
}

/// All latents that may exceed their thresholds are found, with one threshold a latent and with one for all.
#[test]
fn latents_that_may_exceed_their_threshold_are_requested() {
    let mut s = Stream::new(9, "screen", &[]);
    let (b, d, h) = (40, 1100, 300);
    let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
    let (x, w) = (Mat::from_vec(b, d, noise(b * d, 1.0)), Mat::from_vec(h, d, noise(h * d, 0.03)));
    let (bias, mut each) = (noise(h, 0.1), noise(h, 1.0));
    let sae = sae(d, h, h, w, bias);
    let all = dense(&sae, &x);
    // Some are exactly the value of a row, which is then not above its threshold.
    (0..h).step_by(7).for_each(|i| each[i] = f32::from_bits(all[i % b][i].1));
    let candidates = PerThread::<Candidates>::new();
    for isa in Isa::available() {
        for each in [&each[..], &each[..1]] {
            let mut prefilter = Prefilter { capacity: h, ..Prefilter::new(isa) };
            let wanted = Wanted::Above(Thresholds { each, margin: 0.0 });
            assert!(prefilter.find(&sae, x.data(), wanted, &candidates) && prefilter.unresolved.is_empty());
            prefilter.compute_exact(&sae, x.data());
            assert!(prefilter.count_requests().0 < b * h * 4 / 5);
            for (b, row) in all.iter().enumerate() {
                let exceeds = |h: u32, v: u32| f32::from_bits(v) > each[h as usize % each.len()];
                let got: Vec<(u32, u32)> =
                    prefilter.row(b).entries().map(|(h, p)| (h, p.to_bits())).filter(|e| exceeds(e.0, e.1)).collect();
                let want: Vec<(u32, u32)> = row.iter().copied().filter(|e| exceeds(e.0, e.1)).collect();
                assert_eq!(got, want, "{} row {b}", isa.name());
            }
        }
    }
}

/// A guess that does not fit the next batch costs only time.
#[test]
fn rows_that_differ_from_those_before_are_encoded_the_same() {
    let mut s = Stream::new(10, "screen", &[]);
    let (b, d, h, k) = (64, 100, 400, 9);
    let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
    let sae = sae(d, h, k, Mat::from_vec(h, d, noise(h * d, 0.1)), noise(h, 0.5));
    let isa = *Isa::available().last().expect("scalar");
    let (mut work, mut latents) = (Workspace::new(isa), Latents::default());
    for round in 0..60 {
        let mut x = Mat::from_vec(b, d, noise(b * d, [1.0, 30.0, 0.01][round / 4 % 3]));
        (0..b).filter(|r| r % 7 == round % 7).for_each(|r| x.row_mut(r).iter_mut().for_each(|v| *v *= 0.001));
        sae.encode(x.view(), &mut work, &mut latents).expect("finite");
        assert_eq!(rows(&latents), dense(&sae, &x), "round {round}");
    }
}

/// A row is unresolved if not at least k values certainly reach the guess, since a value below the guess may be among
/// the k largest.
#[test]
fn a_guess_that_is_too_high_leaves_rows_unresolved_and_changes_none() {
    let mut s = Stream::new(12, "screen", &[]);
    let (b, d, h, k) = (64, 40, 600, 8);
    let mut noise = |n: usize| (0..n).map(|_| s.normal() as f32).collect::<Vec<_>>();
    let (x, w) = (Mat::from_vec(b, d, noise(b * d)), Mat::from_vec(h, d, noise(h * d)));
    let sae = sae(d, h, k, w, vec![0.0; h]);
    let want = dense(&sae, &x);
    for isa in Isa::available() {
        let (mut left, mut latents, candidates) = ([0; 2], Latents::default(), PerThread::<Candidates>::new());
        for share in 0..60 {
            let guess = 1.0 + 0.05 * share as f32;
            let mut prefilter = Prefilter { guess: Guess::new(guess), capacity: h, ..Prefilter::new(isa) };
            assert!(prefilter.find(&sae, x.data(), Wanted::Top(k), &candidates));
            prefilter.compute_exact(&sae, x.data());
            select(k, false, b, &candidates, &mut latents, |b, scratch, index, value| {
                TopK { isa, k }.of_prefiltered(prefilter.row(b), scratch, index, value)
            });
            for (b, (got, want)) in rows(&latents).iter().zip(&want).enumerate() {
                let is_left = prefilter.unresolved.contains(&(b as u32));
                left[usize::from(is_left)] += 1;
                assert!(is_left || got == want, "{} guess {guess} row {b}", isa.name());
            }
        }
        assert!(left.iter().all(|&n| n > b), "{left:?}");
    }
}

/// With a large bias the sums differ by a few roundings only, and the two products round differently.
#[test]
fn the_rounding_of_the_bias_changes_nothing() {
    let mut s = Stream::new(6, "screen", &[]);
    let (d, h) = (40, 600);
    let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
    let (x, w) = (Mat::from_vec(50, d, noise(50 * d, 0.1)), Mat::from_vec(h, d, noise(h * d, 0.1)));
    let sae = sae(d, h, 20, w, vec![1e5; h]);
    Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "large bias"));
}

/// The same numbers, exact in bf16, in another order for each latent: sums differ by their rounding only, and the two
/// products round differently.
#[test]
fn the_rounding_of_sums_changes_nothing() {
    let mut s = Stream::new(11, "screen", &[]);
    for (d, h, k) in [(900, 400, 5), (2500, 300, 9)] {
        let mut row: Vec<f32> = (0..d).map(|_| from_bf16(to_bf16(s.normal() as f32))).collect();
        let mut w = Mat::zeros(h, d);
        for i in 0..h {
            (1..d).for_each(|j| row.swap(j, s.below(j as u64 + 1) as usize));
            w.row_mut(i).copy_from_slice(&row);
        }
        let (x, sae) = (Mat::from_vec(20, d, vec![1.0; 20 * d]), sae(d, h, k, w, vec![0.0; h]));
        Isa::available().into_iter().for_each(|isa| _ = same(isa, &sae, &x, "another order"));
    }
}

#[test]
fn numbers_near_the_end_of_f32_have_no_bound() {
    for (x, w) in [(1e20, 1.0), (1.0, 3e38), (1e19, 1e19), (f32::NAN, 1.0)] {
        let sae = sae(1, 3, 1, Mat::from_vec(3, 1, vec![w, 1.0, 0.5]), vec![0.0; 3]);
        for isa in Isa::available() {
            assert_eq!(prefiltered(isa, &sae, &Mat::from_vec(1, 1, vec![x])), None, "{} {x} {w}", isa.name());
        }
    }
}
