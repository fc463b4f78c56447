//! The prefilter on AVX-512: rounding, and the search over tiles whose products `amx.rs` or `bf16.rs` computes.

use super::super::prefilter::{
    CHUNK_TILES, CacheLine, Hits, PANEL_ROWS, PanelBounds, PrefilterQuery, PrefilterWeights, TILE_COLUMNS, TILE_ROWS,
    panel_lines, scratch_lines,
};
use std::arch::x86_64::*;
use std::ops::Range;

/// The instructions that multiply tiles of 16 rows and 32 columns.
///
/// # Safety
/// All three functions need a CPU that has the instructions, and a system that lets this process use them.
pub struct TileMultiplier {
    /// Runs before the first product, in the same thread.
    pub begin: unsafe fn(),
    /// Runs after the last product, in the same thread.
    pub end: unsafe fn(),
    /// Multiplies two groups of 16 rows of `w`, one after the other, with a block of 16 rows of `x`, over `steps` tiles
    /// of columns, into `out [block][group][16, 16]`. With `apart`, also with the block that starts `apart` lines after
    /// the first.
    ///
    /// # Safety
    /// `begin` ran. `steps` is at least 1; each block of `x` is valid for `steps` tiles, `w` for twice as many, `out`
    /// for two tiles a block.
    pub multiply:
        unsafe fn(w: *const CacheLine, x: *const CacheLine, apart: Option<usize>, steps: usize, out: *mut CacheLine),
}

/// Number of rows of `w` by which memory is prefetched.
const PREFETCH_ROWS: usize = 4;

/// Rounds the columns of `steps` of rows of `w` to bf16, into tiles `[row / 16][step][row % 16]` of lines, zeros beyond
/// the last column, and adds to the squared norms `[‖w[j]‖², ‖w[j] - ŵ[j]‖²]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
fn round_rows(w: &[f32], dim: usize, steps: Range<usize>, tiles: &mut [CacheLine], squares: &mut [[f32; 2]]) {
    let n = squares.len();
    assert!(w.len() == n * dim && steps.end <= dim.div_ceil(TILE_COLUMNS));
    assert!(tiles.len() >= n.div_ceil(TILE_ROWS) * steps.len() * TILE_ROWS);
    for (j, square) in squares.iter_mut().enumerate() {
        let first = j / TILE_ROWS * steps.len() * TILE_ROWS + j % TILE_ROWS;
        let zero = _mm512_setzero_ps();
        let mut sums = [zero; 4];
        // Prefetches the same columns some rows later, then the next columns of the first rows, or the first columns of
        // the rows below.
        let later = match (j + PREFETCH_ROWS).checked_sub(n) {
            None => (j + PREFETCH_ROWS) * dim,
            Some(row) if steps.end < dim.div_ceil(TILE_COLUMNS) => row * dim + steps.len() * TILE_COLUMNS,
            Some(_) => ((j + PREFETCH_ROWS) * dim).wrapping_sub(steps.start * TILE_COLUMNS),
        };
        let later = w.as_ptr().wrapping_add(later);
        for s in steps.clone() {
            let left = dim - s * TILE_COLUMNS;
            for half in [0, TILE_COLUMNS / 2] {
                _mm_prefetch::<_MM_HINT_T0>(later.wrapping_add(s * TILE_COLUMNS + half).cast());
            }
            // SAFETY: reads stay within row `j`, masked at its end; the line lies within the tiles of its group.
            unsafe {
                let p = w.as_ptr().add(j * dim + s * TILE_COLUMNS);
                let (a, b) = if left >= TILE_COLUMNS {
                    (_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16)))
                } else {
                    let mask = (1u32 << left) - 1;
                    let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, p.wrapping_add(16));
                    (_mm512_maskz_loadu_ps(mask as u16, p), high)
                };
                let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
                _mm512_store_si512(tiles.as_mut_ptr().add(first + (s - steps.start) * TILE_ROWS).cast(), pairs);
                let [low, high] = [_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64::<1>(pairs)]
                    .map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))));
                let (da, db) = (_mm512_sub_ps(a, low), _mm512_sub_ps(b, high));
                sums[0] = _mm512_fmadd_ps(a, a, sums[0]);
                sums[1] = _mm512_fmadd_ps(b, b, sums[1]);
                sums[2] = _mm512_fmadd_ps(da, da, sums[2]);
                sums[3] = _mm512_fmadd_ps(db, db, sums[3]);
            }
        }
        square[0] += _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
        square[1] += _mm512_reduce_add_ps(_mm512_add_ps(sums[2], sums[3]));
    }
}

/// See [`super::super::scalar::round_batch_block`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub fn round_batch_block(x: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
    if squares.len() < TILE_ROWS {
        lines.fill(CacheLine::default());
    }
    squares.fill([0.0; 2]);
    round_rows(x, dim, 0..dim.div_ceil(TILE_COLUMNS), lines, squares);
    for tile in lines.chunks_exact_mut(TILE_ROWS) {
        let mut columns = [CacheLine::default(); TILE_ROWS];
        // SAFETY: a line is as long and as aligned as a vector.
        transpose(tile, |c, v| unsafe { _mm512_store_ps(columns[c].0.as_mut_ptr().cast(), v) });
        tile.copy_from_slice(&columns);
    }
}

/// See [`super::super::scalar::round_weights`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub fn round_weights(w: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
    let steps = dim.div_ceil(TILE_COLUMNS);
    squares.fill([0.0; 2]);
    for from in (0..steps).step_by(CHUNK_TILES) {
        round_rows(w, dim, from..steps.min(from + CHUNK_TILES), &mut lines[from * PANEL_ROWS..], squares);
    }
}

/// See [`super::super::scalar::prefilter`].
///
/// # Safety
/// This CPU has the instructions of `multiplier`, and the system lets this process use them.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub unsafe fn prefilter(
    multiplier: &TileMultiplier,
    query: &PrefilterQuery,
    w: PrefilterWeights,
    hits: &mut Hits,
    scratch: &mut Vec<CacheLine>,
) {
    let (dim, rows, steps, n) = (query.dim, query.batch.rows(), query.batch.steps(), query.bias.len());
    assert!(steps == dim.div_ceil(TILE_COLUMNS) && query.rows.len() == rows && query.latent_limits.len() == n);
    match w {
        PrefilterWeights::Exact(w) => assert_eq!(w.len(), n * dim),
        PrefilterWeights::Rounded(lines, squares) => {
            assert!(lines.len() == n.div_ceil(PANEL_ROWS) * panel_lines(dim) && squares.len() == n);
        }
    }
    let (block_lines, blocks) = (steps * TILE_ROWS, rows.div_ceil(TILE_ROWS));
    let need = scratch_lines(rows, dim);
    if scratch.len() < need {
        scratch.resize(need, CacheLine::default());
    }
    let (tiles, rest) = scratch.split_at_mut(PANEL_ROWS * steps.min(CHUNK_TILES));
    let (products, sums) = rest.split_at_mut(2 * PANEL_ROWS);
    for first in (0..n).step_by(PANEL_ROWS) {
        let count = (n - first).min(PANEL_ROWS);
        let mut squares = [[0.0; 2]; PANEL_ROWS];
        // SAFETY: the caller guarantees the instructions.
        unsafe { (multiplier.begin)() };
        for from in (0..steps).step_by(CHUNK_TILES) {
            let here = from..steps.min(from + CHUNK_TILES);
            let tiles = match w {
                PrefilterWeights::Exact(w) => {
                    let w = &w[first * dim..(first + count) * dim];
                    round_rows(w, dim, here.clone(), tiles, &mut squares[..count]);
                    &*tiles
                }
                PrefilterWeights::Rounded(lines, all_squares) => {
                    squares[..count].copy_from_slice(&all_squares[first..first + count]);
                    &lines[first * steps + from * PANEL_ROWS..]
                }
            };
            assert!(tiles.len() >= PANEL_ROWS * here.len());
            let last = here.end == steps;
            let bounds = last.then(|| PanelBounds::new(query, first, &squares[..count], hits));
            for block in (0..blocks).step_by(2) {
                let pair = block + 1 < blocks;
                let x = &query.batch.lines()[block * block_lines + from * TILE_ROWS..];
                assert!(x.len() >= if pair { block_lines } else { 0 } + here.len() * TILE_ROWS);
                // SAFETY: `tiles` holds two groups of tiles (rows beyond the last are left over from before: finite
                // values that are never read), `x` one or two blocks, `block_lines` apart; `products` has four tiles.
                unsafe {
                    let apart = pair.then_some(block_lines);
                    (multiplier.multiply)(tiles.as_ptr(), x.as_ptr(), apart, here.len(), products.as_mut_ptr());
                }
                if steps > CHUNK_TILES {
                    let sums = &mut sums[block * PANEL_ROWS..][..2 * PANEL_ROWS];
                    add_products(sums, products, from > 0, last);
                }
                if let Some(bounds) = &bounds {
                    for (i, tile) in products.chunks_exact(TILE_ROWS).enumerate().take(if pair { 4 } else { 2 }) {
                        let place = TilePlace { first, group: i % 2 * TILE_ROWS, block: block + i / 2 };
                        collect_hits(query, tile, bounds, place, hits);
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { (multiplier.end)() };
    }
}

/// Adds the products of one chunk of columns to the sums, or starts the sums where there are none yet (`accumulate` is
/// false). The sums of the `last` chunk are written over the products.
#[target_feature(enable = "avx512f")]
fn add_products(sums: &mut [CacheLine], products: &mut [CacheLine], accumulate: bool, last: bool) {
    for (sum, product) in sums.iter_mut().zip(products) {
        // SAFETY: a line is as long and as aligned as a vector.
        unsafe {
            let (s, p) = (sum.0.as_mut_ptr().cast::<f32>(), product.0.as_mut_ptr().cast::<f32>());
            let v = _mm512_load_ps(p);
            let v = if accumulate { _mm512_add_ps(_mm512_load_ps(s), v) } else { v };
            _mm512_store_ps(if last { p } else { s }, v);
        }
    }
}

/// The latents and the rows of a tile of products: 16 latents from `group` of the panel on, whose first latent is
/// `first`, and the rows of block `block`.
struct TilePlace {
    first: usize,
    group: usize,
    block: usize,
}

/// Appends the hits of one tile of products `[16 latents, 16 rows]`.
#[target_feature(enable = "avx512f,avx512dq,popcnt")]
fn collect_hits(query: &PrefilterQuery, tile: &[CacheLine], bounds: &PanelBounds, place: TilePlace, hits: &mut Hits) {
    let TilePlace { first, group, block } = place;
    let here = TILE_ROWS.min(query.rows.len() - block * TILE_ROWS);
    let rows = &query.rows[block * TILE_ROWS..][..here];
    let (len, all, capacity) = hits.parts_mut();
    assert!(group + TILE_ROWS <= PANEL_ROWS && len.len() == query.rows.len());
    assert!(capacity >= TILE_ROWS && all.len() >= len.len() * capacity);
    let (len, all) = (&mut len[block * TILE_ROWS..][..here], &mut all[block * TILE_ROWS * capacity..]);
    // SAFETY: each array of the bounds has 16 values from `group` on; at most 16 hits are written, from a place at
    // least 16 before the end of the memory of the row.
    unsafe {
        let load = |values: &[f32; PANEL_ROWS]| _mm512_load_ps(values.as_ptr().add(group));
        let (bias, norm, residual) = (load(&bounds.bias), load(&bounds.norm), load(&bounds.residual));
        let (constant, latent_limits) = (load(&bounds.constant), load(&bounds.limit));
        let offsets = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let offsets = _mm512_add_epi32(offsets, _mm512_set1_epi32((first + group) as i32));
        // Interleaves tags and values: the first eight hits, and the last eight.
        let front = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        let back = _mm512_add_epi32(front, _mm512_set1_epi32(8));
        transpose(tile, |r, v| {
            if r >= here {
                return;
            }
            let bound = rows[r];
            let limit = _mm512_set1_ps(bound.limit);
            let (per_norm, per_residual) =
                (_mm512_set1_ps(bound.error_per_norm), _mm512_set1_ps(bound.error_per_residual));
            let p = _mm512_add_ps(v, bias);
            let e = _mm512_fmadd_ps(per_norm, norm, _mm512_fmadd_ps(per_residual, residual, constant));
            let passed = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_add_ps(p, e), _mm512_max_ps(limit, latent_limits));
            if passed != 0 {
                let (n, count) = (len[r] as usize, passed.count_ones());
                if n + TILE_ROWS <= capacity {
                    let to = all.as_mut_ptr().add(r * capacity + n);
                    let e = _mm512_add_epi32(_mm512_castps_si512(e), _mm512_set1_epi32(0xffff));
                    let tags = _mm512_or_si512(_mm512_and_si512(e, _mm512_set1_epi32(!0xffff)), offsets);
                    let tags = _mm512_maskz_compress_epi32(passed, tags);
                    let p = _mm512_castps_si512(_mm512_maskz_compress_ps(passed, p));
                    let both = _mm512_permutex2var_epi32(tags, front, p);
                    if count <= 4 {
                        _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(both));
                    } else {
                        _mm512_storeu_si512(to.cast(), both);
                        if count > 8 {
                            _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(tags, back, p));
                        }
                    }
                }
                len[r] += count;
            }
        });
    }
}

/// Calls `each(column, values)` for the 16 columns of a tile of f32.
#[target_feature(enable = "avx512f,avx512dq,popcnt")]
#[inline]
fn transpose(tile: &[CacheLine], mut each: impl FnMut(usize, __m512)) {
    assert_eq!(tile.len(), TILE_ROWS);
    // SAFETY: a line is as long and as aligned as a vector.
    let rows: [__m512; TILE_ROWS] = std::array::from_fn(|i| unsafe { _mm512_load_ps(tile[i].0.as_ptr().cast()) });
    let mut pairs = [_mm512_setzero_ps(); TILE_ROWS];
    for i in 0..TILE_ROWS / 2 {
        pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Columns c, c + 4, c + 8, c + 12 (c = 0..4) of rows 4q..4q + 4.
    let mut fours = [_mm512_setzero_ps(); TILE_ROWS];
    for q in 0..4 {
        for half in 0..2 {
            let (a, b) = (_mm512_castps_pd(pairs[4 * q + half]), _mm512_castps_pd(pairs[4 * q + 2 + half]));
            fours[4 * q + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[4 * q + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for c in 0..4 {
        let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
        let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
        let (low2, high2) = (_mm512_shuffle_f32x4::<0x44>(d, e), _mm512_shuffle_f32x4::<0xee>(d, e));
        each(c, _mm512_shuffle_f32x4::<0x88>(low, low2));
        each(c + 4, _mm512_shuffle_f32x4::<0xdd>(low, low2));
        each(c + 8, _mm512_shuffle_f32x4::<0x88>(high, high2));
        each(c + 12, _mm512_shuffle_f32x4::<0xdd>(high, high2));
    }
}
