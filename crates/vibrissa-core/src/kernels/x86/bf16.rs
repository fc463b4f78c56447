//! Products of tiles by AVX-512's bf16 instructions (Zen 4 and later): 16 sums of two columns an instruction.

use super::super::prefilter::{CacheLine, TILE_ROWS};
use super::prefilter::TileMultiplier;
use std::arch::x86_64::*;

/// The multiplier over plain vectors, which needs no preparation.
pub static MULTIPLIER: TileMultiplier = TileMultiplier { begin: nothing, end: nothing, multiply };

/// True if this CPU has the instructions.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// True if the instructions do more products a cycle than those of f32: twice as many on AMD, no more on Intel.
pub fn is_faster_than_f32() -> bool {
    let leaf = __cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

fn nothing() {}

/// # Safety
/// As [`TileMultiplier::multiply`]; [`available`] is true.
unsafe fn multiply(w: *const CacheLine, x: *const CacheLine, apart: Option<usize>, steps: usize, out: *mut CacheLine) {
    for group in 0..2 {
        // SAFETY: the caller guarantees the lengths.
        unsafe {
            let (w, out) = (w.add(group * steps * TILE_ROWS), out.add(group * TILE_ROWS));
            match apart {
                Some(apart) => {
                    for some in [0, TILE_ROWS / 2] {
                        products::<{ TILE_ROWS / 2 }, 2>(w.add(some), [x, x.add(apart)], steps, out.add(some));
                    }
                }
                None => products::<TILE_ROWS, 1>(w, [x], steps, out),
            }
        }
    }
}

/// Products of N rows of a group with B blocks of `x`, whose sums lie two groups of `out` apart. All sums stay in
/// registers, and there are enough of them to hide the latency of an instruction.
///
/// # Safety
/// [`available`] is true; `w` is a row of a group of `steps` tiles, at least N rows before its end; the blocks of `x`
/// have as many tiles; `out` has N lines, and for B = 2 another N lines two tiles later.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn products<const N: usize, const B: usize>(
    w: *const CacheLine,
    x: [*const CacheLine; B],
    steps: usize,
    out: *mut CacheLine,
) {
    let mut sums = [[_mm512_setzero_ps(); N]; B];
    for s in 0..steps * TILE_ROWS {
        // SAFETY: a line is as long and as aligned as a vector; a tile of `w` has a line for each row, one of `x` for
        // each pair of columns.
        unsafe {
            let x = x.map(|x| std::mem::transmute::<__m512i, __m512bh>(_mm512_load_si512(x.add(s).cast())));
            let pair = w.add(s / TILE_ROWS * TILE_ROWS).cast::<i32>().add(s % TILE_ROWS);
            for j in 0..N {
                let w = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(*pair.add(j * TILE_ROWS)));
                for (sums, x) in sums.iter_mut().zip(x) {
                    sums[j] = _mm512_dpbf16_ps(sums[j], x, w);
                }
            }
        }
    }
    for (b, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller guarantees the lengths.
            unsafe { _mm512_store_ps(out.add(b * 2 * TILE_ROWS + j).cast(), sum) };
        }
    }
}
