use super::*;

fn all(rows: &LoadedRows) -> &[u8] {
    rows.blocks[0].rows_bytes(0..rows.blocks[0].rows())
}

fn matrix(rows: &LoadedRows) -> Mat {
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
    assert_eq!(print(Synthetic::directions()), "996128cf50e683d5");
}

#[test]
fn normal_numbers_have_the_moments_of_the_normal_distribution() {
    let mut stream = row_stream(3, "test", 0);
    let n = 400_000;
    let sample: Vec<f64> = (0..n).map(|_| stream.paired_normal()).collect();
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
fn directions_have_their_probabilities_and_sum_to_the_rows() {
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
fn images_are_rarely_clipped_balanced_and_distinguished_by_the_features_of_their_class() {
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
        let of_class = (0..4000).filter(|&r| rows.labels[r] == class);
        of_class.map(|r| f64::from(dot(pixels.row(r), features.row(feature)))).sum::<f64>() / 2000.0
    };
    let lead =
        |of_class: usize| (0..64).filter(|i| i % 4 == of_class).map(|i| mean_of(i, 0) - mean_of(i, 1)).sum::<f64>();
    // Overlapping figures blur the means, so the margin is half of what the smaller one was found to be.
    assert!(lead(0) > 0.45 && lead(1) < -0.45, "{} {}", lead(0), lead(1));
    let (one, two) = (it.probabilities(0), it.probabilities(1));
    assert!(one[0] > 10.0 * two[0] && two[1] > 10.0 * one[1] && (one[2] / two[2] - 1.0).abs() < 0.2);
}

/// Shares of `n` rows in which features fire, alone and in pairs.
fn shares(spec: &str, n: usize) -> (Synthetic, Vec<f64>, Vec<f64>) {
    let it = Synthetic::parse(spec).unwrap();
    let (firing, mut fires) = (it.firing(), Vec::new());
    let (mut one, mut two) = (vec![0.0; it.features], vec![0.0; it.features * it.features]);
    for r in 0..n {
        firing.row(r, &mut fires);
        assert!(fires.windows(2).all(|w| w[0].0 < w[1].0));
        for &(i, _) in &fires {
            one[i as usize] += 1.0 / n as f64;
            fires.iter().for_each(|&(j, _)| two[i as usize * it.features + j as usize] += 1.0 / n as f64);
        }
    }
    for (i, (share, p)) in one.iter().zip(it.probabilities(0)).enumerate() {
        let deviation = (p * (1.0 - p) / n as f64).sqrt();
        assert!((share - p).abs() < 4.5 * deviation + 1e-9, "{spec}: feature {i} fires in {share}, p {p}");
    }
    (it, one, two)
}

#[test]
fn correlated_features_fire_as_often_but_together() {
    let (n, common) = (100_000, "synthetic:kind=directions,features=30,active=4,z=0.7");
    let (_, _, alone) = shares(common, n);
    let (_, one, tied) = shares(&format!("{common},correlation=0.4,factors=3"), n);
    // P(both) of two normal numbers that correlate by 0.4 with P = p_0 and p_3, by a sum over the factor.
    let p = Synthetic::parse(common).unwrap().probabilities(0);
    let both = |i: usize, j: usize, of: &[f64]| of[i * 30 + j];
    for (i, j) in [(0, 3), (1, 4), (5, 8), (2, 29)] {
        let independent = p[i] * p[j];
        assert!((both(i, j, &alone) - independent).abs() < 5.0 * (independent / n as f64).sqrt());
        assert!(both(i, j, &tied) > 1.25 * independent, "{i} and {j}: {} of {independent}", both(i, j, &tied));
    }
    // Other factors, nothing in common.
    for (i, j) in [(0, 1), (3, 5), (4, 9)] {
        let independent = one[i] * one[j];
        assert!((both(i, j, &tied) - independent).abs() < 5.0 * (independent / n as f64).sqrt(), "{i} and {j}");
    }
    // Φ₂(0, 0; ρ) = ¼ + arcsin(ρ)/2π: two features of one factor with probability a half.
    let (_, _, halves) = shares("synthetic:kind=directions,features=2,active=1,z=0,correlation=0.4,factors=1", n);
    let want = 0.25 + 0.4f64.asin() / (2.0 * std::f64::consts::PI);
    assert!((halves[1] - want).abs() < 5.0 * (want / n as f64).sqrt(), "{} instead of {want}", halves[1]);
}

#[test]
fn children_fire_only_with_their_parents_and_as_often_as_without() {
    for more in ["", ",correlation=0.3,factors=4"] {
        let n = 100_000;
        let spec = format!("synthetic:kind=directions,features=40,active=4,z=0.5,parents=8{more}");
        let (_, one, two) = shares(&spec, n);
        for child in 8..40 {
            assert_eq!(two[child * 40 + child % 8], one[child], "{child} fires with {}", child % 8);
            // Another parent, and a sister (independent given their parent).
            let (other, sister) = ((child + 3) % 8, 8 + (child + 8) % 32);
            assert!(two[child * 40 + other] < one[child]);
            let want = one[child] * one[sister] / one[child % 8];
            let deviation = (want / n as f64).sqrt();
            assert!((two[child * 40 + sister] - want).abs() < 6.0 * deviation, "{child} and {sister}");
        }
    }
}

#[test]
fn rows_are_sums_of_the_features_that_fire() {
    for spec in
        ["synthetic:kind=directions,rows=30,correlation=0.2,parents=50", "synthetic:kind=directions,rows=30,z=1"]
    {
        let it = Synthetic::parse(spec).unwrap();
        let (features, rows, firing, mut fires) = (it.features(), matrix(&it.rows()), it.firing(), Vec::new());
        for r in 0..30 {
            firing.row(r, &mut fires);
            for d in 0..256 {
                let sum: f64 = fires.iter().map(|&(i, a)| a * f64::from(features.row(i as usize)[d])).sum();
                assert!((sum - f64::from(rows.row(r)[d])).abs() < 1e-6, "{spec}: row {r}");
            }
        }
    }
}

#[test]
fn spec_without_options_is_the_default() {
    assert_eq!(Synthetic::parse("synthetic").unwrap(), Synthetic::images());
    assert_eq!(Synthetic::parse("synthetic:").unwrap(), Synthetic::images());
    assert_eq!(Synthetic::parse("synthetic:kind=directions").unwrap(), Synthetic::directions());
}

#[test]
fn spec_sets_every_option() {
    let it = Synthetic::parse(
        "synthetic:dim=9,kind=directions, rows=5,features=7,active=2.5,noise=.1,z=0,seed=3,correlation=0.5,factors=2,parents=3",
    );
    let kind = SyntheticKind::Directions { dim: 9 };
    let expected = Synthetic {
        kind,
        rows: 5,
        features: 7,
        active: 2.5,
        noise: 0.1,
        z: 0.0,
        correlation: 0.5,
        factors: 2,
        parents: 3,
        seed: 3,
    };
    assert_eq!(it.unwrap(), expected);
}

#[test]
fn spec_with_a_bad_key_or_value() {
    for (spec, expected) in [
        ("mnist", "data: expected synthetic"),
        ("synthetics", "data: expected synthetic"),
        ("synthetic:rows", "synthetic:rows: expected KEY=VALUE"),
        ("synthetic:row=3", "expected one of kind, rows, features, active, noise, z, seed, size, got row"),
        ("synthetic:kind=directions,size=3", "seed, dim, correlation, factors, parents, got size"),
        ("synthetic:parents=3", "seed, size, got parents"),
        ("synthetic:kind=directions,correlation=1", "synthetic:correlation: expected a number from 0 to 0.99, got 1"),
        ("synthetic:kind=directions,parents=1025", "synthetic:parents: expected at most features = 1024"),
        ("synthetic:kind=directions,features=8,correlation=.1", "synthetic:factors: expected at most features = 8"),
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
