use super::*;

fn all(rows: &Rows) -> &[u8] {
    rows.blocks[0].rows_bytes(0..rows.blocks[0].rows())
}

fn matrix(rows: &Rows) -> Mat {
    let block = &rows.blocks[0];
    let mut mat = Mat::zeros(block.rows(), block.dim());
    (0..block.rows()).for_each(|r| block.read(r, mat.row_mut(r)));
    mat
}

#[test]
fn the_same_rows_whatever_the_number_of_threads() {
    for it in [Synthetic { rows: 301, ..Synthetic::images() }, Synthetic { rows: 301, ..Synthetic::directions() }] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (it.rows(), it.features()))
        };
        let (one, five) = (with(1), with(5));
        assert!(all(&one.0) == all(&five.0) && one.1 == five.1);
        let fewer = Synthetic { rows: 100, ..it.clone() }.rows();
        assert!(all(&fewer) == &all(&one.0)[..all(&fewer).len()], "a row depends on its number alone");
        let other = Synthetic { seed: 1, ..it.clone() };
        assert!(all(&other.rows()) != all(&one.0) && other.features() != one.1);
    }
}

#[test]
fn the_same_rows_on_every_machine() {
    let print = |it: Synthetic| blake3::hash(all(&Synthetic { rows: 50, ..it }.rows())).to_hex()[..16].to_string();
    assert_eq!(print(Synthetic::images()), "d3e8f36a86f6c32d");
    assert_eq!(print(Synthetic::directions()), "b916c35e1b853ed8");
}

#[test]
fn normal_numbers_have_the_moments_of_the_normal_distribution() {
    let mut draw = Draw::new(3, "test", 0);
    let n = 400_000;
    let sample: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
    let moment = |k: i32| sample.iter().map(|v| v.powi(k)).sum::<f64>() / f64::from(n);
    assert!(moment(1).abs() < 0.006 && (moment(2) - 1.0).abs() < 0.01);
    assert!(moment(3).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.06);
}

#[test]
fn features_have_unit_norm() {
    for it in [Synthetic::images(), Synthetic::directions(), Synthetic::parse("synthetic:size=40").unwrap()] {
        let features = it.features();
        assert_eq!((features.rows(), features.cols()), (it.features, it.dim()));
        for i in 0..features.rows() {
            let norm: f64 = features.row(i).iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((norm - 1.0).abs() < 1e-5, "feature {i}: {norm}");
        }
    }
}

#[test]
fn strokes_are_local_and_unlike_one_another() {
    for seed in 0..5 {
        let features = Synthetic { seed, ..Synthetic::images() }.features();
        let mut sum = 0.0;
        for i in 0..64 {
            let lit = features.row(i).iter().filter(|&&v| v > 0.0).count();
            assert!((8..110).contains(&lit), "feature {i} covers {lit} of 256 pixels");
            sum += (0..64).filter(|&j| j != i).map(|j| dot(features.row(i), features.row(j))).fold(0.0, f32::max);
        }
        assert!(sum / 64.0 < 0.45, "mean of the largest |cos|: {}", sum / 64.0);
    }
}

#[test]
fn probabilities_sum_to_active_and_never_exceed_one() {
    for (active, features) in [(6.0, 64), (60.0, 64), (64.0, 64), (0.5, 3)] {
        for class in 0..2 {
            let p = Synthetic { active, features, z: 2.0, ..Synthetic::images() }.probabilities(class);
            assert!((p.iter().sum::<f64>() - active).abs() < 1e-6 && p.iter().all(|&p| p <= 1.0 + 1e-12));
        }
    }
}

#[test]
fn directions_are_used_as_often_as_asked_and_sum_to_the_rows() {
    // With no more features than dimensions their coefficients can be read off again.
    let it = Synthetic::parse("synthetic:kind=directions,features=16,dim=512,rows=4000,active=3,z=1").unwrap();
    let (features, rows) = (it.features(), matrix(&it.rows()));
    let gram = faer::Mat::from_fn(16, 16, |i, j| f64::from(dot(features.row(i), features.row(j))));
    let solver = faer::linalg::solvers::PartialPivLu::new(gram.as_ref());
    let mut used = [0usize; 16];
    let (mut amplitude, mut amplitude2) = (0.0, 0.0);
    for r in 0..rows.rows() {
        let projected = faer::Mat::from_fn(16, 1, |i, _| f64::from(dot(rows.row(r), features.row(i))));
        let coefficients = faer::linalg::solvers::Solve::solve(&solver, &projected);
        for i in 0..16 {
            let a = coefficients[(i, 0)];
            if a > 1e-3 {
                used[i] += 1;
                (amplitude, amplitude2) = (amplitude + a, amplitude2 + a * a);
            } else {
                assert!(a.abs() < 1e-4, "row {r} holds {a} of feature {i}");
            }
        }
    }
    let total: usize = used.iter().sum();
    assert!((total as f64 / 4000.0 - 3.0).abs() < 0.08, "mean L0 {}", total as f64 / 4000.0);
    for (i, (&used, p)) in used.iter().zip(it.probabilities(0)).enumerate() {
        let deviation = (p * (1.0 - p) / 4000.0).sqrt();
        assert!((used as f64 / 4000.0 - p).abs() < 4.5 * deviation + 1e-9, "feature {i}: {used} of 4000, p {p}");
    }
    let mean = amplitude / total as f64;
    let sd = (amplitude2 / total as f64 - mean * mean).sqrt();
    assert!((mean - 1.0).abs() < 0.01 && (sd - 0.25).abs() < 0.01, "amplitude {mean} ± {sd}");
}

#[test]
fn images_are_seldom_clipped_balanced_and_told_apart_by_their_own_features() {
    let it = Synthetic::images();
    let (features, rows) = (it.features(), it.rows());
    let pixels = matrix(&rows);
    let clipped = pixels.data().iter().filter(|&&v| v <= 0.0 || v >= 1.0).count() as f64;
    assert!(clipped / (pixels.data().len() as f64) < 0.005, "{} pixels clipped", clipped);
    assert!(pixels.data().iter().all(|v| (0.0..=1.0).contains(v)));
    assert_eq!(rows.classes, ["1", "2"]);
    assert_eq!(rows.labels.iter().filter(|&&label| label == 0).count(), 2000);
    assert_eq!(rows.shape.unwrap().dim(), 256);
    let mean_of = |feature: usize, class: u16| {
        let own = (0..4000).filter(|&r| rows.labels[r] == class);
        own.map(|r| f64::from(dot(pixels.row(r), features.row(feature)))).sum::<f64>() / 2000.0
    };
    let lead = |own: usize| (0..64).filter(|i| i % 4 == own).map(|i| mean_of(i, 0) - mean_of(i, 1)).sum::<f64>();
    // Overlapping figures blur the means, so the margin is half of what the smaller one was found to be.
    assert!(lead(0) > 0.45 && lead(1) < -0.45, "{} {}", lead(0), lead(1));
    let (one, two) = (it.probabilities(0), it.probabilities(1));
    assert!(one[0] > 10.0 * two[0] && two[1] > 10.0 * one[1] && (one[2] / two[2] - 1.0).abs() < 0.2);
}

#[test]
fn recovery_is_one_for_the_truth_in_any_order_sign_and_length() {
    let truth = Synthetic { features: 40, ..Synthetic::directions() }.features();
    let shuffled: Vec<f32> =
        (0..40).rev().flat_map(|i| truth.row(i).iter().map(move |v| v * (i as f32 - 19.5) * 3.0)).collect();
    let found = recovery(Mat::from_vec(40, 256, shuffled).view(), truth.view());
    assert!((found - 1.0).abs() < 1e-6, "{found}");
}

#[test]
fn recovery_of_half_the_features_and_of_none() {
    let truth = Mat::from_vec(2, 2, vec![1.0, 0.0, 0.0, 2.0]);
    let half = Mat::from_vec(3, 2, vec![0.0, -5.0, 0.0, 0.0, f32::NAN, 1.0]);
    assert_eq!(recovery(half.view(), truth.view()), 0.5);
    assert_eq!(recovery(Mat::zeros(4, 2).view(), truth.view()), 0.0);
    assert_eq!(recovery(Mat::zeros(0, 2).view(), truth.view()), 0.0);
    assert_eq!(recovery(truth.view(), Mat::zeros(1, 2).view()), 0.0);
    assert_eq!(recovery(truth.view(), Mat::zeros(0, 2).view()), 0.0);
}

#[test]
fn recovery_by_chance_is_the_expected_largest_cosine() {
    let truth = Synthetic { features: 200, ..Synthetic::directions() }.features();
    // The largest of n |normal| / sqrt(D), n = 1000, D = 256: about 3.4 / 16.
    let chance = recovery_chance(1000, truth.view(), 0);
    assert!((0.19..0.23).contains(&chance), "{chance}");
    assert_eq!(chance, recovery_chance(1000, truth.view(), 0));
}

#[test]
fn spec_without_options_is_the_default() {
    assert_eq!(Synthetic::parse("synthetic").unwrap(), Synthetic::images());
    assert_eq!(Synthetic::parse("synthetic:").unwrap(), Synthetic::images());
    assert_eq!(Synthetic::parse("synthetic:kind=directions").unwrap(), Synthetic::directions());
}

#[test]
fn spec_sets_every_option() {
    let it = Synthetic::parse("synthetic:dim=9,kind=directions, rows=5,features=7,active=2.5,noise=.1,z=0,seed=3");
    let kind = Kind::Directions { dim: 9 };
    let expected = Synthetic { kind, rows: 5, features: 7, active: 2.5, noise: 0.1, z: 0.0, seed: 3 };
    assert_eq!(it.unwrap(), expected);
}

#[test]
fn spec_with_a_bad_key_or_value() {
    for (spec, expected) in [
        ("mnist", "data: expected synthetic"),
        ("synthetics", "data: expected synthetic"),
        ("synthetic:rows", "synthetic:rows: expected KEY=VALUE"),
        ("synthetic:row=3", "expected one of kind, rows, features, active, noise, z, seed, size, got row"),
        ("synthetic:kind=directions,size=3", "seed, dim, got size"),
        ("synthetic:kind=photos", "synthetic:kind: expected images or directions, got photos"),
        ("synthetic:rows=3,rows=4", "synthetic:rows: expected one value, got two"),
        ("synthetic:rows=0", "synthetic:rows: expected a whole number from 1"),
        ("synthetic:rows=4294967296", "synthetic:rows: expected at most 67108864 of 256 values"),
        ("synthetic:rows=99999999999999999999", "expected a whole number"),
        ("synthetic:size=7", "from 8 to 256, got 7"),
        ("synthetic:features=5", "synthetic:active: expected at most features = 5, got 6"),
        ("synthetic:kind=directions,features=1048576,dim=65536", "synthetic:features: expected at most"),
        ("synthetic:noise=nan", "synthetic:noise: expected a number from 0 to 1, got nan"),
        ("synthetic:active=inf", "synthetic:active: expected a number"),
        ("synthetic:seed=-1", "synthetic:seed: expected a whole number"),
        ("synthetic:a\nb=1", "got a\\nb"),
    ] {
        let message = Synthetic::parse(spec).unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{spec}: {message}");
    }
}
