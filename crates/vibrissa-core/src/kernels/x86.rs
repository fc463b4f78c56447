//! The AVX2 and AVX-512 twins of `scalar.rs`. This module has the only unsafe arithmetic of the library.
//!
//! Every kernel is written once, over a vector of 16 lanes (`x86/lanes.rs`), and compiled for each instruction set.
//! Lane i holds partial sum i of the specification, so all give the same bits. The prefilter (`x86/prefilter.rs`, with
//! `amx.rs` or `bf16.rs`) adds in another order, which its error bound allows for. The module is private to `kernels`:
//! an [`Isa`](super::Isa) proves that the CPU has the features.
#![allow(unsafe_code)]

mod adam;
pub mod amx;
pub mod bf16;
mod dots;
mod gathered;
mod lanes;
pub mod prefilter;
mod select;

use super::scalar::{self, AdamStep, GradientTerms, LANES, MomentDecay};
use adam::{adam_body, adam_with_terms_body};
use dots::dots_body;
pub use dots::dots_scratch_len;
use gathered::{add_columns_body, add_combinations_body, dots_and_add_body, gather_dots_body};
use lanes::{Lanes, Lanes256, Lanes512};
use select::{append_above_body, kth_largest_body};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Columns that are processed before the next rows are taken, so that one block of columns stays in the L1 cache.
const COLUMNS: usize = 1024;

/// Calls `$work::<$lanes, N>` with `N = $count`, 1 to 8.
macro_rules! by_count {
    ($lanes:ty, $count:expr, $work:ident $args:tt) => {
        match $count {
            1 => $work::<$lanes, 1> $args,
            2 => $work::<$lanes, 2> $args,
            3 => $work::<$lanes, 3> $args,
            4 => $work::<$lanes, 4> $args,
            5 => $work::<$lanes, 5> $args,
            6 => $work::<$lanes, 6> $args,
            7 => $work::<$lanes, 7> $args,
            _ => $work::<$lanes, 8> $args,
        }
    };
}

/// Calls `$work::<$lanes, N>` for groups of at most `$most` rows, from row `$at` to row `$count`.
macro_rules! by_groups {
    ($lanes:ty, $most:ident, $at:ident, $count:expr, $work:ident $args:tt) => {
        while $at < $count {
            let n = $most.min($count - $at);
            by_count!($lanes, n, $work $args);
            $at += n;
        }
    };
}
use {by_count, by_groups};

/// Panics if an index is beyond `rows [_, dim]`.
#[inline(always)]
fn check_rows(index: &[u32], dim: usize, rows: &[f32]) {
    let last = index.iter().fold(0, |m, &i| m.max(i)) as usize;
    assert!(index.is_empty() || (last + 1) * dim <= rows.len(), "row {last} of {}", rows.len() / dim.max(1));
}

#[inline(always)]
unsafe fn dot_body<S: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let n = a.len();
    // SAFETY: every load stays within `n` values of both.
    unsafe {
        let mut s = S::splat(0.0);
        let mut d = 0;
        while d + LANES <= n {
            s = S::load(a.as_ptr().add(d)).fma(S::load(b.as_ptr().add(d)), s);
            d += LANES;
        }
        if d < n {
            s = S::load_n(a.as_ptr().add(d), n - d).fma(S::load_n(b.as_ptr().add(d), n - d), s);
        }
        s.fold()
    }
}

#[inline(always)]
unsafe fn add_scaled_body<S: Lanes>(out: &mut [f32], c: f32, row: &[f32]) {
    assert_eq!(out.len(), row.len());
    let n = out.len();
    // SAFETY: every access stays within `n` values.
    unsafe {
        let (o, r, c) = (out.as_mut_ptr(), row.as_ptr(), S::splat(c));
        let mut d = 0;
        while d + LANES <= n {
            c.fma(S::load(r.add(d)), S::load(o.add(d))).store(o.add(d));
            d += LANES;
        }
        if d < n {
            c.fma(S::load_n(r.add(d), n - d), S::load_n(o.add(d), n - d)).store_n(o.add(d), n - d);
        }
    }
}

/// Calls `each` with one address in every cache line of these values.
#[inline(always)]
fn each_line<T>(values: &[T], each: impl Fn(*const i8)) {
    let first = values.as_ptr().cast::<i8>();
    (0..size_of_val(values)).step_by(64).for_each(|at| each(first.wrapping_add(at)));
}

/// Prefetches values that will be read.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    // SAFETY: a prefetch changes no value, and every x86-64 CPU has this one.
    each_line(values, |line| unsafe { _mm_prefetch::<_MM_HINT_T0>(line) });
}

/// Prefetches values that will be written.
#[inline(always)]
pub fn prefetch_to_write<T>(values: &[T]) {
    each_line(values, prefetch_line_to_write);
}

/// Prefetches the cache line of a value that will be written, so that no other core shares it.
#[inline(always)]
fn prefetch_line_to_write<T>(value: *const T) {
    // SAFETY: a prefetch changes no value; every CPU with AVX2 decodes this one, at least as a no-op.
    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) value, options(nostack, preserves_flags)) };
}

#[inline(always)]
unsafe fn scale_body<S: Lanes>(w: &mut [f32], c: f32) {
    let n = w.len();
    // SAFETY: every access stays within `n` values.
    unsafe {
        let (p, c) = (w.as_mut_ptr(), S::splat(c));
        let mut d = 0;
        while d + LANES <= n {
            S::load(p.add(d)).mul(c).store(p.add(d));
            d += LANES;
        }
        if d < n {
            S::load_n(p.add(d), n - d).mul(c).store_n(p.add(d), n - d);
        }
    }
}

#[inline(always)]
unsafe fn residual_body<S: Lanes>(x: &[f32], recon: &mut [f32]) {
    assert_eq!(x.len(), recon.len());
    let n = x.len();
    // SAFETY: every access stays within `n` values.
    unsafe {
        let (x, r) = (x.as_ptr(), recon.as_mut_ptr());
        let mut d = 0;
        while d + LANES <= n {
            S::load(x.add(d)).sub(S::load(r.add(d))).store(r.add(d));
            d += LANES;
        }
        if d < n {
            S::load_n(x.add(d), n - d).sub(S::load_n(r.add(d), n - d)).store_n(r.add(d), n - d);
        }
    }
}

macro_rules! twins {
    ($module:ident, $lanes:ty, $features:literal, $m:literal, $n:literal, $g:literal) => {
        /// The kernels compiled for one instruction set.
        ///
        /// # Safety
        /// Each function may be called only on a CPU that has the features it is compiled for.
        pub mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub fn dot(a: &[f32], b: &[f32]) -> f32 {
                // SAFETY: this function is compiled for the features that the lanes need.
                unsafe { dot_body::<$lanes>(a, b) }
            }
            #[target_feature(enable = $features)]
            pub fn dots(x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], scratch: &mut [f32]) {
                // SAFETY: as above.
                unsafe { dots_body::<$lanes, $m, $n>(x, w, bias, dim, out, scratch) }
            }
            #[target_feature(enable = $features)]
            pub fn gather_dots(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { gather_dots_body::<$lanes, $g>(a, index, rows, out) }
            }
            #[target_feature(enable = $features)]
            pub fn add_columns(out: &mut [f32], first: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
                // SAFETY: as above.
                unsafe { add_columns_body::<$lanes>(out, first, coef, index, rows, dim) }
            }
            #[target_feature(enable = $features)]
            pub fn add_combinations(out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
                // SAFETY: as above.
                unsafe { add_combinations_body::<$lanes, $m, $n>(out, coef, index, rows, dim) }
            }
            #[target_feature(enable = $features)]
            pub fn dots_and_add(
                a: &[f32],
                coef: &[f32],
                index: &[u32],
                rows: &[f32],
                dots: &mut [f32],
                out: &mut [f32],
                accumulate: bool,
            ) {
                // SAFETY: as above.
                unsafe { dots_and_add_body::<$lanes, $g>(a, coef, index, rows, dots, out, accumulate) }
            }
            #[target_feature(enable = $features)]
            pub fn pre_act_gradients(latents: &[f32], factor: f32, offset: f32, d: &mut [f32]) -> [f32; 2] {
                // The same chain of additions, compiled with the FMA instruction.
                scalar::pre_act_gradients(latents, factor, offset, d)
            }
            #[target_feature(enable = $features)]
            pub fn add_scaled(out: &mut [f32], c: f32, row: &[f32]) {
                // SAFETY: as above.
                unsafe { add_scaled_body::<$lanes>(out, c, row) }
            }
            #[target_feature(enable = $features)]
            pub fn scale(w: &mut [f32], c: f32) {
                // SAFETY: as above.
                unsafe { scale_body::<$lanes>(w, c) }
            }
            #[target_feature(enable = $features)]
            pub fn residual(x: &[f32], recon: &mut [f32]) {
                // SAFETY: as above.
                unsafe { residual_body::<$lanes>(x, recon) }
            }
            #[target_feature(enable = $features)]
            pub fn adam(
                row: [&mut [f32]; 3],
                g: &[f32],
                decay: MomentDecay,
                s: &AdamStep,
                ahead: [&[f32]; 3],
                square: &mut [f32; LANES],
            ) {
                // SAFETY: as above.
                unsafe { adam_body::<$lanes>(row, g, decay, s, ahead, square) }
            }
            #[target_feature(enable = $features)]
            pub fn adam_with_terms(
                row: [&mut [f32]; 3],
                g: &mut [f32],
                terms: &GradientTerms,
                decay: MomentDecay,
                s: &AdamStep,
                ahead: [&[f32]; 3],
                square: &mut [f32; LANES],
            ) {
                // SAFETY: as above.
                unsafe { adam_with_terms_body::<$lanes, $g>(row, g, terms, decay, s, ahead, square) }
            }
            #[target_feature(enable = $features)]
            pub fn append_above(
                row: &[f32],
                base: u32,
                threshold: f32,
                index: &mut [u32],
                value: &mut [f32],
                len: usize,
            ) -> usize {
                // SAFETY: as above.
                unsafe { append_above_body::<$lanes>(row, base, threshold, index, value, len) }
            }
            #[target_feature(enable = $features)]
            pub fn kth_largest(values: &[f32], k: usize) -> f32 {
                // SAFETY: as above.
                unsafe { kth_largest_body::<$lanes>(values, k) }
            }
        }
    };
}

twins!(avx512, Lanes512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt", 4, 6, 8);
twins!(avx2, Lanes256, "avx2,fma,popcnt", 2, 3, 4);
