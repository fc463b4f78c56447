use super::*;

pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((s >> 8) as f32 / 8_388_608.0 - 1.0) * 2.0
        })
        .collect()
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

/// Lengths around every lane and block boundary.
const LENGTHS: [usize; 15] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 784, 1023, 1025, 2500];

/// Special values: very large and very small numbers, denormals, zeros of both signs.
fn special(n: usize) -> Vec<f32> {
    let kinds = [0.0, -0.0, 1e-40, -1e-40, 1e18, -1e18, 1.0, f32::MIN_POSITIVE, 3.0e-20];
    (0..n).map(|i| kinds[i % kinds.len()]).collect()
}

#[test]
fn every_path_gives_the_bits_of_the_definition() {
    let step = AdamStep {
        one_minus_beta1: 0.1,
        beta2: 0.999,
        one_minus_beta2: 0.001,
        step_size: 1e-3,
        inv_sqrt_bias2: 3.0,
        eps: 1e-8,
        keep: 0.99,
    };
    for isa in Isa::available() {
        for n in LENGTHS {
            for (a, b) in [(noise(n + 1, 1), noise(n + 1, 2)), (special(n + 1), noise(n + 1, 3))] {
                let (a, b) = (&a[1..], &b[1..]); // not aligned
                assert_eq!(isa.dot(a, b).to_bits(), scalar::dot(a, b).to_bits(), "{} dot {n}", isa.name());
                let (mut x, mut y) = (a.to_vec(), a.to_vec());
                isa.add_scaled(&mut x, 0.7, b);
                scalar::add_scaled(&mut y, 0.7, b);
                assert_eq!(bits(&x), bits(&y), "{} add_scaled {n}", isa.name());
                isa.scale(&mut x, 1.7);
                scalar::scale(&mut y, 1.7);
                assert_eq!(bits(&x), bits(&y), "{} scale {n}", isa.name());
                isa.residual(b, &mut x);
                scalar::residual(b, &mut y);
                assert_eq!(bits(&x), bits(&y), "{} residual {n}", isa.name());
                let state = || (a.to_vec(), b.to_vec(), a.iter().map(|v| v * v).collect::<Vec<_>>());
                let (mut w, mut m, mut v) = state();
                let (mut w2, mut m2, mut v2) = state();
                for (g, left) in [
                    (b, MomentDecay::NONE),
                    (&[], MomentDecay { m: 0.9, v: 0.99 }),
                    (b, MomentDecay { m: 0.0, v: 1e-7 }),
                ] {
                    let one = isa.adam([&mut w, &mut m, &mut v], g, left, &step, [a; 3]);
                    let two = Isa::SCALAR.adam([&mut w2, &mut m2, &mut v2], g, left, &step, [&[]; 3]);
                    assert_eq!(one.to_bits(), two.to_bits(), "{} adam's length {n}", isa.name());
                    assert_eq!(one.to_bits(), scalar::dot(&w, &w).to_bits(), "{} adam's length {n}", isa.name());
                    assert_eq!([bits(&w), bits(&m), bits(&v)], [bits(&w2), bits(&m2), bits(&v2)], "{}", isa.name());
                }
                let mut square = [0.0; LANES];
                for piece in (0..n).step_by(32) {
                    let piece = piece..n.min(piece + 32);
                    let own = [&mut w, &mut m, &mut v].map(|a| &mut a[piece.clone()]);
                    isa.adam_chunk(own, &b[piece], MomentDecay::NONE, &step, [&[]; 3], &mut square);
                }
                let whole = Isa::SCALAR.adam([&mut w2, &mut m2, &mut v2], b, MomentDecay::NONE, &step, [&[]; 3]);
                assert_eq!(bits(&w), bits(&w2), "{} adam by pieces {n}", isa.name());
                assert_eq!(scalar::fold(square).to_bits(), whole.to_bits(), "{} adam by pieces {n}", isa.name());
                // With a gradient that lacks some rows still.
                let (dim, rows) = (n + 3, noise(5 * (n + 3), 16));
                for count in [0, 1, 2, 4, 5, 8, 9, 20] {
                    let (coef, index) = (noise(count, 17), (0..count as u32).map(|j| j * 3 % 5).collect::<Vec<_>>());
                    let all =
                        GradientTerms { weight_coef: 0.3, coef: &coef, index: &index, rows: &rows, first: 2, dim };
                    let (mut g, mut g2, mut square2) = (b.to_vec(), b.to_vec(), square);
                    isa.adam_with_terms(
                        [&mut w, &mut m, &mut v],
                        &mut g,
                        &all,
                        MomentDecay::NONE,
                        &step,
                        [a; 3],
                        &mut square,
                    );
                    let twin = [&mut w2, &mut m2, &mut v2].map(|row| &mut row[..]);
                    scalar::adam_with_terms(twin, &mut g2, &all, MomentDecay::NONE, &step, [&[]; 3], &mut square2);
                    assert_eq!([bits(&w), bits(&m), bits(&v)], [bits(&w2), bits(&m2), bits(&v2)], "{} {n}", isa.name());
                    assert_eq!(bits(&square), bits(&square2), "{} adam_with_terms {n} {count}", isa.name());
                }
            }
        }
    }
}

#[test]
fn dots_give_the_bits_of_a_single_dot_whatever_the_batch() {
    for isa in Isa::available() {
        for (rows, n, dim) in
            [(1, 1, 1), (3, 7, 17), (4, 6, 16), (5, 13, 1000), (9, 8, 1025), (67, 50, 2500), (130, 51, 1100)]
        {
            let (x, w, bias) = (noise(rows * dim, 5), noise(n * dim, 6), noise(n, 7));
            let mut out = vec![0.0; rows * n];
            let mut scratch = vec![0.0; dots_scratch_len(rows, dim)];
            isa.dots(&x, &w, &bias, dim, &mut out, &mut scratch);
            for b in 0..rows {
                for j in 0..n {
                    let want = scalar::dot(&x[b * dim..][..dim], &w[j * dim..][..dim]) + bias[j];
                    assert_eq!(out[b * n + j].to_bits(), want.to_bits(), "{} {rows}×{n}×{dim}", isa.name());
                }
            }
        }
    }
}

#[test]
fn dot_is_close_to_f64() {
    // Error ≤ c·n·ε·Σ|a b| with c = 1/16 + a few: 16 chains of n/16 roundings, then four more.
    for n in LENGTHS {
        let (a, b) = (noise(n, 8), noise(n, 9));
        let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let size: f64 = a.iter().zip(&b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum();
        let bound = (n as f64 / 16.0 + 5.0) * f64::from(f32::EPSILON) / 2.0 * size;
        assert!((f64::from(scalar::dot(&a, &b)) - exact).abs() <= bound, "{n}");
    }
}

#[test]
fn gathered_rows_are_added_and_multiplied_in_order() {
    for isa in Isa::available() {
        for dim in LENGTHS.into_iter().filter(|&d| d > 0) {
            for n in [0usize, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21] {
                let rows = noise(7 * dim, 11);
                let index: Vec<u32> = (0..n as u32).map(|j| j * 5 % 7).collect();
                let (coef, mut a) = (noise(n, 12), noise(dim, 13));
                let mut dots = vec![0.0; n];
                isa.gather_dots(&a, &index, &rows, &mut dots);
                let one: Vec<f32> = index.iter().map(|&i| scalar::dot(&rows[i as usize * dim..][..dim], &a)).collect();
                assert_eq!(bits(&dots), bits(&one), "{} gather_dots {dim} {n}", isa.name());
                let (mut both, mut sums) = (vec![0.0; n], noise(dim, 15));
                let mut apart = sums.clone();
                for accumulate in [true, false] {
                    if !accumulate {
                        apart.fill(0.0);
                    }
                    isa.dots_and_add(&a, &coef, &index, &rows, &mut both, &mut sums, accumulate);
                    scalar::add_columns(&mut apart, 0, &coef, &index, &rows, dim);
                    assert_eq!(
                        [bits(&both), bits(&sums)],
                        [bits(&one), bits(&apart)],
                        "{} dots_and_add {dim} {n} {accumulate}",
                        isa.name()
                    );
                }
                let (mut d, mut want) = (noise(n, 16), noise(n, 16));
                let (got, more) = (isa.pre_act_gradients(&coef, -0.3, 0.7, &mut d), scalar::pre_act_gradients);
                assert_eq!(bits(&got), bits(&more(&coef, -0.3, 0.7, &mut want)), "{} {n}", isa.name());
                assert_eq!(bits(&d), bits(&want), "{} pre_act_gradients {n}", isa.name());
                let mut b = a.clone();
                isa.add_rows(&mut a, &coef, &index, &rows);
                scalar::add_columns(&mut b, 0, &coef, &index, &rows, dim);
                assert_eq!(bits(&a), bits(&b), "{} {dim} {n}", isa.name());
                let columns = dim / 3..dim / 3 + dim / 2;
                isa.add_columns(&mut a[columns.clone()], columns.start, &coef, &index, &rows, dim);
                scalar::add_columns(&mut b, 0, &coef, &index, &rows, dim);
                assert_eq!(bits(&a[columns.clone()]), bits(&b[columns]), "{} columns {dim} {n}", isa.name());
            }
        }
    }
}

#[test]
fn combinations_of_rows_are_sums_of_rows() {
    for isa in Isa::available() {
        for (n, count, dim) in [(1, 1, 1), (3, 0, 20), (4, 7, 96), (9, 64, 97), (6, 130, 113), (13, 65, 300)] {
            let (rows, coef) = (noise(11 * dim, 17), noise(n * count, 18));
            let index: Vec<u32> = (0..count as u32).map(|t| t * 5 % 11).collect();
            let mut got = noise(n * dim, 19);
            let mut want = got.clone();
            isa.add_combinations(&mut got, &coef, &index, &rows, dim);
            scalar::add_combinations(&mut want, &coef, &index, &rows, dim);
            assert_eq!(bits(&got), bits(&want), "{} {n}×{count}×{dim}", isa.name());
        }
    }
}

#[test]
fn append_above_keeps_order_and_drops_ties_and_nan() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let mut row = noise(n, 14);
            for i in (0..n).step_by(5) {
                row[i] = [0.25, f32::NAN, f32::INFINITY, -f32::INFINITY][i / 5 % 4];
            }
            let room = n.next_multiple_of(LANES) + 3;
            let (mut i1, mut v1, mut i2, mut v2) = (vec![0; room], vec![0.0; room], vec![0; room], vec![0.0; room]);
            let a = isa.append_above(&row, 100, 0.25, &mut i1, &mut v1, 3);
            let b = scalar::append_above(&row, 100, 0.25, &mut i2, &mut v2, 3);
            assert_eq!((a, &i1[3..a], bits(&v1[3..a])), (b, &i2[3..b], bits(&v2[3..b])), "{} {n}", isa.name());
        }
    }
}

#[test]
fn the_kth_largest_is_that_of_the_sort() {
    for isa in Isa::available() {
        for n in LENGTHS.into_iter().filter(|&n| n > 0) {
            let mut equal = noise(n, 27);
            equal.iter_mut().for_each(|v| *v = v.round());
            let mut ends = noise(n, 28);
            ends.iter_mut()
                .zip([f32::INFINITY, -f32::INFINITY, f32::MIN, -0.0, 0.0, f32::MAX, 1e-42])
                .for_each(|(v, e)| *v = e);
            for values in [noise(n, 26), equal, ends, vec![-3.0; n]] {
                let mut sorted = values.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                for k in [1, 2, n / 3, n / 2, n - 1, n].into_iter().filter(|k| (1..=n).contains(k)) {
                    assert_eq!(isa.kth_largest(&values, k), sorted[k - 1], "{} {n} {k}", isa.name());
                }
            }
        }
    }
}
