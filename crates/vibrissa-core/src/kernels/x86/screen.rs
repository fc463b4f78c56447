//! The screen by products in bf16, whatever multiplies them: `amx.rs` or `bf16.rs`.

use super::super::screen::{
    CHUNK, Columns, Found, Line, PANEL, SIDE, STEP, Search, Weights, panel_lines, scratch_lines,
};
use std::arch::x86_64::*;
use std::ops::Range;

/// What multiplies tiles of 16 rows and 32 columns.
///
/// # Safety
/// Of all three: this CPU has the instructions, and the system lets this process use them.
pub struct Unit {
    /// Before products, and after them, in the same thread.
    pub begin: unsafe fn(),
    /// See `begin`.
    pub end: unsafe fn(),
    /// Products of two groups of 16 rows of `w`, one behind the other, with a block of 16 rows of `x`, and with another one so many lines
    /// behind it if there is one, over some steps, into `out [block][group][16, 16]`.
    ///
    /// # Safety
    /// `begin` ran. `steps` is 1 or more; each block of `x` is valid for so many tiles, `w` for twice as many, `out` for two tiles a block.
    pub multiply: unsafe fn(w: *const Line, x: *const Line, apart: Option<usize>, steps: usize, out: *mut Line),
}

/// Rows in advance of which memory is asked for, where they are long.
const AHEAD: usize = 4;

/// Rounds some steps of rows of `w` to bf16 into tiles `[row / 16][step][row % 16]` of lines, zeros beyond the last column, and
/// adds to `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
fn round_rows(w: &[f32], dim: usize, steps: Range<usize>, tiles: &mut [Line], squares: &mut [[f32; 2]]) {
    let n = squares.len();
    assert!(w.len() == n * dim && steps.end <= dim.div_ceil(STEP));
    assert!(tiles.len() >= n.div_ceil(SIDE) * steps.len() * SIDE);
    for (j, square) in squares.iter_mut().enumerate() {
        let first = j / SIDE * steps.len() * SIDE + j % SIDE;
        let zero = _mm512_setzero_ps();
        let mut sums = [zero; 4];
        // What comes AHEAD rows later: the same columns, then the next ones of the first rows, or the first ones of those below.
        let later = match (j + AHEAD).checked_sub(n) {
            None => (j + AHEAD) * dim,
            Some(row) if steps.end < dim.div_ceil(STEP) => row * dim + steps.len() * STEP,
            Some(_) => ((j + AHEAD) * dim).wrapping_sub(steps.start * STEP),
        };
        let later = w.as_ptr().wrapping_add(later);
        for s in steps.clone() {
            let left = dim - s * STEP;
            for half in [0, STEP / 2] {
                _mm_prefetch::<_MM_HINT_T0>(later.wrapping_add(s * STEP + half).cast());
            }
            // SAFETY: reads stay within row `j`, masked at its end; the line lies within the tiles of its group.
            unsafe {
                let p = w.as_ptr().add(j * dim + s * STEP);
                let (a, b) = if left >= STEP {
                    (_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16)))
                } else {
                    let mask = (1u32 << left) - 1;
                    let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, p.wrapping_add(16));
                    (_mm512_maskz_loadu_ps(mask as u16, p), high)
                };
                let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
                _mm512_store_si512(tiles.as_mut_ptr().add(first + (s - steps.start) * SIDE).cast(), pairs);
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

/// See [`super::super::scalar::lay_out`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub fn lay_out(x: &[f32], dim: usize, lines: &mut [Line], squares: &mut [[f32; 2]]) {
    if squares.len() < SIDE {
        lines.fill(Line::default());
    }
    squares.fill([0.0; 2]);
    round_rows(x, dim, 0..dim.div_ceil(STEP), lines, squares);
    for tile in lines.chunks_exact_mut(SIDE) {
        let mut columns = [Line::default(); SIDE];
        // SAFETY: a line is as long and as aligned as a vector.
        transpose(tile, |c, v| unsafe { _mm512_store_ps(columns[c].0.as_mut_ptr().cast(), v) });
        tile.copy_from_slice(&columns);
    }
}

/// See [`super::super::scalar::round`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub fn round(w: &[f32], dim: usize, lines: &mut [Line], squares: &mut [[f32; 2]]) {
    let steps = dim.div_ceil(STEP);
    squares.fill([0.0; 2]);
    for from in (0..steps).step_by(CHUNK) {
        round_rows(w, dim, from..steps.min(from + CHUNK), &mut lines[from * PANEL..], squares);
    }
}

/// See [`super::super::scalar::screen`].
///
/// # Safety
/// This CPU has what the unit uses, and the system allows it.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl,popcnt")]
pub unsafe fn screen(unit: &Unit, s: &Search, w: Weights, found: &mut Found, scratch: &mut Vec<Line>) {
    let (dim, rows, steps, n) = (s.dim, s.x.rows(), s.x.steps(), s.bias.len());
    assert!(steps == dim.div_ceil(STEP) && s.rows.len() == rows && s.limits.len() == n);
    match w {
        Weights::Rows(w) => assert_eq!(w.len(), n * dim),
        Weights::Rounded(lines, squares) => {
            assert!(lines.len() == n.div_ceil(PANEL) * panel_lines(dim) && squares.len() == n);
        }
    }
    let (group, blocks) = (steps * SIDE, rows.div_ceil(SIDE));
    let need = scratch_lines(rows, dim);
    if scratch.len() < need {
        scratch.resize(need, Line::default());
    }
    let (tiles, rest) = scratch.split_at_mut(PANEL * steps.min(CHUNK));
    let (products, sums) = rest.split_at_mut(2 * PANEL);
    for first in (0..n).step_by(PANEL) {
        let own = (n - first).min(PANEL);
        let mut squares = [[0.0; 2]; PANEL];
        // SAFETY: the caller's.
        unsafe { (unit.begin)() };
        for from in (0..steps).step_by(CHUNK) {
            let here = from..steps.min(from + CHUNK);
            let tiles = match w {
                Weights::Rows(w) => {
                    let w = &w[first * dim..(first + own) * dim];
                    round_rows(w, dim, here.clone(), tiles, &mut squares[..own]);
                    &*tiles
                }
                Weights::Rounded(lines, of) => {
                    squares[..own].copy_from_slice(&of[first..first + own]);
                    &lines[first * steps + from * PANEL..]
                }
            };
            assert!(tiles.len() >= PANEL * here.len());
            let last = here.end == steps;
            let columns = last.then(|| Columns::new(s, first, &squares[..own], found));
            for block in (0..blocks).step_by(2) {
                let pair = block + 1 < blocks;
                let x = &s.x.lines()[block * group + from * SIDE..];
                assert!(x.len() >= if pair { group } else { 0 } + here.len() * SIDE);
                // SAFETY: `tiles` holds two groups of tiles (rows beyond the last keep what was there before: numbers that
                // nobody reads), `x` one or two blocks, `group` lines apart; `products` has four tiles.
                unsafe {
                    let apart = pair.then_some(group);
                    (unit.multiply)(tiles.as_ptr(), x.as_ptr(), apart, here.len(), products.as_mut_ptr());
                }
                if steps > CHUNK {
                    let sums = &mut sums[block * PANEL..][..2 * PANEL];
                    add(sums, products, from > 0, last);
                }
                if let Some(columns) = &columns {
                    for (i, tile) in products.chunks_exact(SIDE).enumerate().take(if pair { 4 } else { 2 }) {
                        pick(s, tile, columns, first, i % 2 * SIDE, block + i / 2, found);
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { (unit.end)() };
    }
}

/// Adds products to the sums, or begins them; the last ones are left in the products.
#[target_feature(enable = "avx512f")]
fn add(sums: &mut [Line], products: &mut [Line], more: bool, last: bool) {
    for (sum, product) in sums.iter_mut().zip(products) {
        // SAFETY: a line is as long and as aligned as a vector.
        unsafe {
            let (s, p) = (sum.0.as_mut_ptr().cast::<f32>(), product.0.as_mut_ptr().cast::<f32>());
            let v = _mm512_load_ps(p);
            let v = if more { _mm512_add_ps(_mm512_load_ps(s), v) } else { v };
            _mm512_store_ps(if last { p } else { s }, v);
        }
    }
}

/// What a tile of products, of 16 latents from `from` of these columns on with a block of rows, has to be found.
#[target_feature(enable = "avx512f,avx512dq,popcnt")]
fn pick(s: &Search, tile: &[Line], columns: &Columns, first: usize, from: usize, block: usize, found: &mut Found) {
    let here = SIDE.min(s.rows.len() - block * SIDE);
    let rows = &s.rows[block * SIDE..][..here];
    let (len, entries, room) = found.parts_mut();
    assert!(from + SIDE <= PANEL && len.len() == s.rows.len() && room >= SIDE && entries.len() >= len.len() * room);
    let (len, entries) = (&mut len[block * SIDE..][..here], &mut entries[block * SIDE * room..]);
    // SAFETY: 16 latents of each of the columns; 16 entries or fewer from one that lies 16 before the end of its row's room, or earlier.
    unsafe {
        let load = |of: &[f32; PANEL]| _mm512_load_ps(of.as_ptr().add(from));
        let (bias, norm, lost) = (load(&columns.bias), load(&columns.norm), load(&columns.lost));
        let (rest, limits) = (load(&columns.rest), load(&columns.limit));
        let ids = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let ids = _mm512_add_epi32(ids, _mm512_set1_epi32((first + from) as i32));
        // Tags of entries and values in turns: the first eight entries, and the others.
        let front = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        let back = _mm512_add_epi32(front, _mm512_set1_epi32(8));
        transpose(tile, |r, v| {
            if r >= here {
                return;
            }
            let [limit, by_norm, by_lost] = rows[r];
            let (limit, by_norm, by_lost) = (_mm512_set1_ps(limit), _mm512_set1_ps(by_norm), _mm512_set1_ps(by_lost));
            let p = _mm512_add_ps(v, bias);
            let e = _mm512_fmadd_ps(by_norm, norm, _mm512_fmadd_ps(by_lost, lost, rest));
            let found = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_add_ps(p, e), _mm512_max_ps(limit, limits));
            if found != 0 {
                let (n, count) = (len[r] as usize, found.count_ones());
                if n + SIDE <= room {
                    let to = entries.as_mut_ptr().add(r * room + n);
                    let e = _mm512_add_epi32(_mm512_castps_si512(e), _mm512_set1_epi32(0xffff));
                    let tags = _mm512_or_si512(_mm512_and_si512(e, _mm512_set1_epi32(!0xffff)), ids);
                    let h = _mm512_maskz_compress_epi32(found, tags);
                    let p = _mm512_castps_si512(_mm512_maskz_compress_ps(found, p));
                    let both = _mm512_permutex2var_epi32(h, front, p);
                    if count <= 4 {
                        _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(both));
                    } else {
                        _mm512_storeu_si512(to.cast(), both);
                        if count > 8 {
                            _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(h, back, p));
                        }
                    }
                }
                len[r] += count;
            }
        });
    }
}

/// Hands out the columns of a tile of f32.
#[target_feature(enable = "avx512f,avx512dq,popcnt")]
#[inline]
fn transpose(tile: &[Line], mut each: impl FnMut(usize, __m512)) {
    assert_eq!(tile.len(), SIDE);
    // SAFETY: a line is as long and as aligned as a vector.
    let rows: [__m512; SIDE] = std::array::from_fn(|i| unsafe { _mm512_load_ps(tile[i].0.as_ptr().cast()) });
    let mut pairs = [_mm512_setzero_ps(); SIDE];
    for i in 0..SIDE / 2 {
        pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Of rows 4q..4q + 4: columns c, c + 4, c + 8, c + 12 for c = 0..4.
    let mut fours = [_mm512_setzero_ps(); SIDE];
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
