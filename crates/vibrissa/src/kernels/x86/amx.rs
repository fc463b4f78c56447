//! The screen on AMX (Sapphire Rapids and later): bf16 products of tiles of 16 × 16, 32 columns an instruction.

use super::super::screen::{CHUNK, GROUPS, Line, SIDE, STEP, Tiles, Weights, panel_lines, scratch_lines};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Whether this CPU has the instructions and the system lets this process use them.
pub fn available() -> bool {
    static YES: OnceLock<bool> = OnceLock::new();
    *YES.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        let leaf = __cpuid_count(7, 0);
        leaf.edx & (BF16 | TILES) == BF16 | TILES && is_x86_feature_detected!("avx512bf16") && permitted()
    })
}

/// Linux keeps the registers of the tiles for those processes only that ask.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and changes only what this process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// All eight tiles: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_a_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Rows in advance of which memory is asked for, where they are long.
const AHEAD: usize = 4;

/// Rounds some steps of rows of `w` to bf16 into tiles `[row / 16][step][row % 16]` of lines, zeros beyond the last column, and
/// adds to `[‖w[j]‖², ‖w[j] - bf16(w[j])‖²]`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl")]
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

/// Products of three groups of 16 rows of `w` with 16 rows of `x` over some steps, into `out [48, 16]`, added to what is there
/// where `more`.
///
/// # Safety
/// The tiles are set as [`SHAPES`]; `x` is valid for `steps` tiles, 1 or more, `w` for three times as many, `out` for three tiles.
#[target_feature(enable = "avx512f")]
unsafe fn three_tiles(w: *const Line, x: *const Line, steps: usize, out: *mut Line, more: bool) {
    // SAFETY: the caller's; only tiles and the registers named are changed.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "test {more}, {more}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {row}]",
            "tileloadd tmm1, [{out} + {row} + 1024]",
            "tileloadd tmm2, [{out} + {row} + 2048]",
            "2:",
            "tileloadd tmm6, [{x} + {row}]",
            "tileloadd tmm3, [{a} + {row}]",
            "tdpbf16ps tmm0, tmm3, tmm6",
            "tileloadd tmm4, [{b} + {row}]",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tileloadd tmm5, [{c} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {x}, 1024",
            "add {a}, 1024",
            "add {b}, 1024",
            "add {c}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 1024], tmm1",
            "tilestored [{out} + {row} + 2048], tmm2",
            x = inout(reg) x => _,
            a = inout(reg) w => _,
            b = inout(reg) w.add(steps * SIDE) => _,
            c = inout(reg) w.add(2 * steps * SIDE) => _,
            steps = inout(reg) steps => _,
            more = in(reg) usize::from(more),
            row = in(reg) 64usize,
            out = in(reg) out,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// See [`super::super::scalar::round`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl")]
pub fn round(w: &[f32], dim: usize, lines: &mut [Line], squares: &mut [[f32; 2]]) {
    let steps = dim.div_ceil(STEP);
    squares.fill([0.0; 2]);
    for from in (0..steps).step_by(CHUNK) {
        round_rows(w, dim, from..steps.min(from + CHUNK), &mut lines[from * GROUPS * SIDE..], squares);
    }
}

/// See [`super::super::scalar::screen`].
///
/// # Safety
/// [`available`] said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512dq,avx512vl")]
pub unsafe fn screen(x: &Tiles, mut w: Weights, bias: &[f32], dim: usize, out: &mut [f32], tiles: &mut Vec<Line>) {
    let (rows, steps, n) = (x.rows(), x.steps(), bias.len());
    assert!(steps == dim.div_ceil(STEP) && out.len() == rows * n);
    match &w {
        Weights::Rows(w, squares) => assert!(w.len() == n * dim && squares.len() == n),
        Weights::Rounded(lines) => assert!(lines.len() == n.div_ceil(GROUPS * SIDE) * panel_lines(dim)),
    }
    let (group, blocks, chunk) = (steps * SIDE, rows.div_ceil(SIDE), steps.min(CHUNK));
    let need = scratch_lines(rows, dim);
    if tiles.len() < need {
        tiles.resize(need, Line::default());
    }
    // Sums of every block of x, where one chunk of columns is not all.
    let (tiles, sums) = tiles.split_at_mut(GROUPS * SIDE * chunk);
    for first in (0..n).step_by(GROUPS * SIDE) {
        let own = (n - first).min(GROUPS * SIDE);
        if let Weights::Rows(_, squares) = &mut w {
            squares[first..first + own].fill([0.0; 2]);
        }
        // SAFETY: `SHAPES` describes eight tiles of 16 lines.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, preserves_flags, readonly)) };
        for from in (0..steps).step_by(CHUNK) {
            let here = from..steps.min(from + CHUNK);
            let tiles = match &mut w {
                Weights::Rows(w, squares) => {
                    let (w, squares) = (&w[first * dim..(first + own) * dim], &mut squares[first..first + own]);
                    round_rows(w, dim, here.clone(), tiles, squares);
                    &*tiles
                }
                Weights::Rounded(lines) => &lines[(first * steps + from * GROUPS * SIDE)..],
            };
            assert!(tiles.len() >= GROUPS * SIDE * here.len());
            for block in 0..blocks {
                let x = &x.lines()[block * group + from * SIDE..][..here.len() * SIDE];
                if here.end == steps {
                    for r in block * SIDE..rows.min((block + 1) * SIDE) {
                        super::prefetch_to_write(&out[r * n + first..][..own]);
                    }
                }
                let products = &mut sums[if steps > CHUNK { block } else { 0 } * GROUPS * SIDE..][..GROUPS * SIDE];
                // SAFETY: `tiles` holds three groups of tiles (rows beyond the last keep what was there before: numbers that
                // nobody reads), `x` one; `products` has three tiles.
                unsafe { three_tiles(tiles.as_ptr(), x.as_ptr(), here.len(), products.as_mut_ptr(), from > 0) };
                if here.end == steps {
                    hand_out(products, bias, out, block, rows, first, own);
                }
            }
        }
        // SAFETY: gives the tiles back; nobody reads them any more.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// Writes the products of 48 rows of `w` from `first` on, `own` of which there are, with a block of rows of `x`.
#[target_feature(enable = "avx512f,avx512dq")]
fn hand_out(products: &[Line], bias: &[f32], out: &mut [f32], block: usize, rows: usize, first: usize, own: usize) {
    let n = bias.len();
    let here = SIDE.min(rows - block * SIDE);
    for (g, tile) in products.chunks_exact(SIDE).enumerate() {
        let from = g * SIDE;
        if here == SIDE && from + SIDE <= own {
            let bias = &bias[first + from..][..SIDE];
            let to = &mut out[block * SIDE * n + first + from..][..(SIDE - 1) * n + SIDE];
            // SAFETY: 16 values of the bias, and 16 of each of 16 rows of `out`, as their slices say.
            unsafe {
                let (bias, to) = (_mm512_loadu_ps(bias.as_ptr()), to.as_mut_ptr());
                transpose(tile, |r, v| _mm512_storeu_ps(to.add(r * n), _mm512_add_ps(v, bias)));
            }
        } else {
            for (j, line) in tile.iter().enumerate().take(own.saturating_sub(from)) {
                for (r, &bits) in line.0.iter().enumerate().take(here) {
                    let column = first + from + j;
                    out[(block * SIDE + r) * n + column] = f32::from_bits(bits) + bias[column];
                }
            }
        }
    }
}

/// Hands out the columns of a tile of f32.
#[target_feature(enable = "avx512f,avx512dq")]
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
