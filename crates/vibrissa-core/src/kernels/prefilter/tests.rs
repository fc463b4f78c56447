use super::super::tests::noise;
use super::*;

/// Index of the first latent of the range in these tests.
const FIRST: usize = 32;

/// All hits of a query on `[rows, n]`, `[p, error]` by row and latent; `None` where there is no hit.
fn all_hits(isa: Isa, query: &PrefilterQuery, w: PrefilterWeights) -> Vec<Option<[f32; 2]>> {
    let (n, rows) = (query.bias.len(), query.rows.len());
    let (mut hits, mut scratch) = (Hits::default(), vec![CacheLine([u32::MAX; 16]); 7]);
    hits.reset(FIRST..FIRST + n, rows, n);
    isa.prefilter(query, w, &mut hits, &mut scratch);
    let mut all = vec![None; rows * n];
    for b in 0..rows {
        let row = hits.row(b).expect("capacity for all");
        assert!(row.is_sorted_by_key(|hit| hit.offset()));
        for hit in row {
            all[b * n + hits.latent(*hit) as usize - FIRST] = Some([hit.p, hit.error()]);
        }
    }
    all
}

/// Blocks may be rounded one by one in any order, or together after some of them; values of an earlier batch do not
/// matter.
#[test]
fn blocks_of_a_batch_are_rounded_as_the_whole_batch_is() {
    for isa in Isa::available() {
        for (rows, dim) in [(1, 1), (16, 32), (33, 50), (70, 784)] {
            let x = noise(rows * dim, 31);
            let (mut whole, mut by_block) = (BatchTiles::default(), BatchTiles::default());
            let mut squares = vec![[0.0; 2]; rows];
            whole.round(isa, &x, dim, &mut squares);
            for (first, want) in squares.chunks(TILE_ROWS).enumerate().rev() {
                by_block.round(isa, &noise(90 * dim, 32), dim, &mut [[0.0; 2]; 90]);
                by_block.reset(rows, dim);
                let mut got = vec![[f32::NAN; 2]; want.len()];
                by_block.round_block(isa, &x, dim, first, &mut got);
                assert_eq!(got, want);
                by_block.round_rest(isa, &x, dim);
                assert_eq!((by_block.rows(), by_block.steps()), (rows, whole.steps()));
                assert_eq!(by_block.lines().len(), whole.lines().len());
                assert!(by_block.lines().iter().zip(whole.lines()).all(|(a, b)| a.0 == b.0), "{}", isa.name());
            }
        }
    }
}

#[test]
fn approximate_products_lie_within_the_error_of_bf16() {
    for isa in Isa::available() {
        for (rows, n, dim) in [(1, 1, 1), (16, 48, 32), (17, 49, 33), (5, 30, 31), (40, 130, 784), (40, 130, 2500)] {
            let (x, w, bias) = (noise(rows * dim, 21), noise(n * dim, 22), noise(n, 23));
            let mut batch = BatchTiles::default();
            // Values of an earlier batch do not matter.
            batch.round(isa, &noise(50 * dim, 24), dim, &mut [[0.0; 2]; 50]);
            let mut row_squares = vec![[f32::NAN; 2]; rows];
            batch.round(isa, &x, dim, &mut row_squares);
            let unlimited = RowBound { limit: f32::NEG_INFINITY, error_per_norm: 0.0, error_per_residual: 0.0 };
            let (unlimited, no_limits) = (vec![unlimited; rows], vec![f32::NEG_INFINITY; n]);
            let query = PrefilterQuery { batch: &batch, dim, rows: &unlimited, bias: &bias, latent_limits: &no_limits };
            let got = all_hits(isa, &query, PrefilterWeights::Exact(&w));
            let rounded = RoundedWeights::new(isa, &w, dim);
            assert_eq!(got, all_hits(isa, &query, rounded.range(0..n)), "{}", isa.name());
            let PrefilterWeights::Rounded(lines, squares) = rounded.range(0..n) else { panic!("they are rounded") };
            let specified = RoundedWeights::new(Isa::SCALAR, &w, dim);
            let PrefilterWeights::Rounded(want, _) = specified.range(0..n) else { panic!("they are rounded") };
            assert!(lines.iter().zip(want).all(|(a, b)| a.0 == b.0));
            let round = |v: f32| f64::from(from_bf16(to_bf16(v)));
            let square = |v: &[f32]| v.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>();
            let residual = |v: &[f32]| v.iter().map(|&a| (f64::from(a) - round(a)).powi(2)).sum::<f64>();
            let near = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-5 * want;
            for j in 0..n {
                let w = &w[j * dim..][..dim];
                assert!(near(squares[j][0], square(w)) && near(squares[j][1], residual(w)), "{}", isa.name());
                for b in 0..rows {
                    let row = &x[b * dim..][..dim];
                    let exact: f64 = row.iter().zip(w).map(|(&p, &q)| round(p) * round(q)).sum();
                    let [p, _] = got[b * n + j].expect("all are found").map(f64::from);
                    let error = (p - exact - f64::from(bias[j])).abs();
                    assert!(error <= 1e-5 * dim as f64, "{} {rows}×{n}×{dim} {error}", isa.name());
                    assert!(near(row_squares[b][0], square(row)) && near(row_squares[b][1], residual(row)));
                }
            }
            // The errors of row and latent add up, and both limits count.
            let bounds: Vec<RowBound> = (0..rows)
                .map(|b| RowBound {
                    limit: 0.1 * b as f32 - 1.0,
                    error_per_norm: 0.01 * b as f32,
                    error_per_residual: 0.3,
                })
                .collect();
            let limits = noise(n, 25);
            let query = PrefilterQuery { rows: &bounds, latent_limits: &limits, ..query };
            let limited = all_hits(isa, &query, PrefilterWeights::Exact(&w));
            for ((place, got), all) in limited.iter().enumerate().zip(&got) {
                let (b, j) = (place / n, place % n);
                let ([p, _], bound) = (all.expect("found without limits"), bounds[b]);
                let error =
                    bound.error_per_norm * squares[j][0].sqrt() + bound.error_per_residual * squares[j][1].sqrt();
                let limit = bound.limit.max(limits[j]);
                let close = 1e-5 * (1.0 + p.abs()) + 1e-3 * error;
                match got {
                    Some(got) => {
                        let from_above = got[1] > error - close && got[1] < 1.01 * error + close;
                        assert!(got[0] == p && from_above && p + got[1] >= limit, "{} {b} {j}", isa.name());
                    }
                    None => assert!(p + error < limit + close, "{} {b} {j}", isa.name()),
                }
            }
        }
    }
}

/// A row with more hits than its capacity reports that, and the rows beside it keep theirs.
#[test]
fn hits_beyond_the_capacity_are_counted() {
    let (rows, n, dim) = (20, 70, 40);
    let (x, w, bias) = (noise(rows * dim, 21), noise(n * dim, 22), vec![0.0; n]);
    for isa in Isa::available() {
        let (mut batch, mut hits) = (BatchTiles::default(), Hits::default());
        batch.round(isa, &x, dim, &mut [[0.0; 2]; 20]);
        let bound = |b: usize| {
            let limit = if b.is_multiple_of(3) { f32::NEG_INFINITY } else { f32::INFINITY };
            RowBound { limit, error_per_norm: 0.0, error_per_residual: 0.0 }
        };
        let bounds: Vec<RowBound> = (0..rows).map(bound).collect();
        let no_limits = vec![f32::NEG_INFINITY; n];
        for capacity in [5, 69, 70, 71] {
            hits.reset(0..n, rows, capacity);
            let query = PrefilterQuery { batch: &batch, dim, rows: &bounds, bias: &bias, latent_limits: &no_limits };
            isa.prefilter(&query, PrefilterWeights::Exact(&w), &mut hits, &mut Vec::new());
            assert_eq!(hits.longest_row(), n);
            for b in 0..rows {
                let got = hits.row(b).map(|row| row.iter().map(|hit| hit.offset()).collect::<Vec<u32>>());
                let want: Option<Vec<u32>> = match b % 3 {
                    0 => (capacity >= n).then(|| (0..n as u32).collect()),
                    _ => Some(Vec::new()),
                };
                assert_eq!(got, want, "{} capacity {capacity}", isa.name());
            }
        }
    }
}

#[test]
fn to_bf16_rounds_to_the_nearest() {
    for bits in (0..u32::MAX).step_by(65_521).filter(|b| f32::from_bits(*b).is_finite()) {
        let x = f32::from_bits(bits);
        let near = half::bf16::from_f32(x);
        let want = if x.is_normal() { near.to_bits() } else { near.to_bits() & 0x8000 };
        assert_eq!(to_bf16(x), u32::from(want), "{x:e}");
    }
}
