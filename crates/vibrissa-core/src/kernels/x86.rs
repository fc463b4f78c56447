//! AVX2 and AVX-512 twins of `scalar.rs`, and the only unsafe of the library. Every kernel is written once over a
//! 16-lane vector (`x86/lanes.rs`) and compiled for each instruction set, so both give the
//! bits of the scalar definition; the prefilter (`x86/prefilter.rs`, with `amx.rs` or `bf16.rs`) adds in
//! another order, which its error bound allows for.
//! Private to `kernels`: an [`Isa`](super::Isa) proves that the CPU has the features.
#![allow(unsafe_code)]

mod adam;
pub mod amx;
pub mod bf16;
mod dots;
mod lanes;
pub mod prefilter;

use super::scalar::{self, AdamStep, LANES, Lacking, Left, of_rank, rank};
use adam::{adam_and_add_body, adam_body};
use dots::dots_body;
pub use dots::spill_len;
use lanes::{V, V256, V512};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Columns handled before the next rows of `w` are taken, so that a tile of `w` stays in the L1 cache.
const COLUMNS: usize = 1024;

#[inline(always)]
unsafe fn dot_body<S: V>(a: &[f32], b: &[f32]) -> f32 {
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

/// `$work::<S, N>` with `N = $count`, 1 to 8.
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
use by_count;

/// Runs `$work::<S, N>` for as many of the next rows as `$most` allows, `$at` moving on.
macro_rules! by_groups {
    ($lanes:ty, $most:ident, $at:ident, $count:expr, $work:ident $args:tt) => {
        while $at < $count {
            let n = $most.min($count - $at);
            by_count!($lanes, n, $work $args);
            $at += n;
        }
    };
}

#[inline(always)]
fn check_rows(index: &[u32], dim: usize, rows: &[f32]) {
    let last = index.iter().fold(0, |m, &i| m.max(i)) as usize;
    assert!(index.is_empty() || (last + 1) * dim <= rows.len(), "row {last} of {}", rows.len() / dim.max(1));
}

/// `N` dot products at once: a single one waits for its own chain of additions.
#[inline(always)]
unsafe fn dots_of<S: V, const N: usize>(a: &[f32], index: &[u32], rows: *const f32, out: &mut [f32]) {
    let n = a.len();
    // SAFETY: `index` has `N` rows of `n` values each, which the caller checked.
    unsafe {
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * n));
        let mut s = [S::splat(0.0); N];
        let mut d = 0;
        while d + LANES <= n {
            let y = S::load(a.as_ptr().add(d));
            for t in 0..N {
                s[t] = S::load(p[t].add(d)).fma(y, s[t]);
            }
            d += LANES;
        }
        if d < n {
            let y = S::load_n(a.as_ptr().add(d), n - d);
            for t in 0..N {
                s[t] = S::load_n(p[t].add(d), n - d).fma(y, s[t]);
            }
        }
        for t in 0..N {
            out[t] = s[t].fold();
        }
    }
}

#[inline(always)]
unsafe fn gather_dots_body<S: V, const MOST: usize>(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
    assert_eq!(out.len(), index.len());
    check_rows(index, a.len(), rows);
    let mut j = 0;
    // SAFETY: every index was checked against `rows`.
    unsafe {
        by_groups!(S, MOST, j, index.len(), dots_of(a, &index[j..], rows.as_ptr(), &mut out[j..]));
    }
}

/// Adds `N` rows in one pass over columns `from..to` of `out`.
#[inline(always)]
unsafe fn add_group<S: V, const N: usize>(
    out: *mut f32,
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dim: usize,
    from: usize,
    to: usize,
) {
    // SAFETY: `index` has `N` rows, `dim` values apart and with `to` values from `rows` on, which the caller checked.
    unsafe {
        let c: [S; N] = std::array::from_fn(|t| S::splat(coef[t]));
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * dim));
        let mut d = from;
        while d + LANES <= to {
            let mut s = S::load(out.add(d));
            for t in 0..N {
                s = c[t].fma(S::load(p[t].add(d)), s);
            }
            s.store(out.add(d));
            d += LANES;
        }
        if d < to {
            let mut s = S::load_n(out.add(d), to - d);
            for t in 0..N {
                s = c[t].fma(S::load_n(p[t].add(d), to - d), s);
            }
            s.store_n(out.add(d), to - d);
        }
    }
}

/// Adds all rows to `N` vectors of `out`, the last of `tail` values: so few sums stay in registers.
#[inline(always)]
unsafe fn add_all<S: V, const N: usize>(
    out: *mut f32,
    tail: usize,
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dim: usize,
) {
    // SAFETY: `rows` has those of `index`, `dim` values apart, and they as `out` all values of the vectors, which the caller checked.
    unsafe {
        let whole = tail == LANES;
        let load = |p: *const f32, j: usize| {
            if whole || j + 1 < N { S::load(p.add(j * LANES)) } else { S::load_n(p.add(j * LANES), tail) }
        };
        let mut s: [S; N] = std::array::from_fn(|j| load(out, j));
        for (&c, &i) in coef.iter().zip(index) {
            let (c, p) = (S::splat(c), rows.add(i as usize * dim));
            for j in 0..N {
                s[j] = c.fma(load(p, j), s[j]);
            }
        }
        for j in 0..N {
            let o = out.add(j * LANES);
            if whole || j + 1 < N { s[j].store(o) } else { s[j].store_n(o, tail) }
        }
    }
}

/// Vectors of sums that stay in registers while rows go by.
const IN_REGISTERS: usize = 6;

#[inline(always)]
unsafe fn add_columns_body<S: V>(out: &mut [f32], first: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
    const MOST: usize = 8;
    let n = out.len();
    assert!(coef.len() == index.len() && first + n <= dim);
    check_rows(index, dim, rows);
    let (o, r) = (out.as_mut_ptr(), rows.as_ptr().wrapping_add(first));
    let tail = match n % LANES {
        0 => LANES,
        rest => rest,
    };
    // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
    unsafe {
        match n.div_ceil(LANES) {
            0 => return,
            few @ ..=IN_REGISTERS => return by_count!(S, few, add_all(o, tail, coef, index, r, dim)),
            _ => {}
        }
    }
    let mut from = 0;
    while from < n {
        // A block of `out` that stays in L1 while the rows go by.
        let to = (from + COLUMNS).min(n);
        let mut j = 0;
        // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
        unsafe {
            by_groups!(S, MOST, j, index.len(), add_group(o, &coef[j..], &index[j..], r, dim, from, to));
        }
        from = to;
    }
}

/// Adds combinations of the same rows to `M` rows of `out`, in `N` vectors of columns, the last of `tail` columns.
///
/// # Safety
/// `out` has `M` rows and `rows` those of `index`, `dim` values apart, with the columns of this tile; `coef` has `M` rows
/// of `ld` values, as many of them valid as `index` has. The CPU has the features of `S`.
#[inline(always)]
unsafe fn combine<S: V, const M: usize, const N: usize>(
    out: *mut f32,
    coef: *const f32,
    ld: usize,
    index: &[u32],
    rows: *const f32,
    dim: usize,
    tail: usize,
) {
    // SAFETY: all offsets stay inside the rows that the caller vouches for.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        let whole = tail == LANES;
        let load = |p: *const f32, j: usize| {
            if whole || j + 1 < N { S::load(p.add(j * LANES)) } else { S::load_n(p.add(j * LANES), tail) }
        };
        for i in 0..M {
            for j in 0..N {
                acc[i][j] = load(out.add(i * dim), j);
            }
        }
        for (t, &r) in index.iter().enumerate() {
            let row = rows.add(r as usize * dim);
            let c: [S; M] = std::array::from_fn(|i| S::splat(*coef.add(i * ld + t)));
            for j in 0..N {
                let y = load(row, j);
                for i in 0..M {
                    acc[i][j] = c[i].fma(y, acc[i][j]);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                let o = out.add(i * dim + j * LANES);
                if whole || j + 1 < N { acc[i][j].store(o) } else { acc[i][j].store_n(o, tail) }
            }
        }
    }
}

/// Rows that are combined before the next columns are taken: with the columns of a tile they stay in the L1 cache.
const COMBINED: usize = 64;

#[inline(always)]
unsafe fn add_combinations_body<S: V, const M: usize, const N: usize>(
    out: &mut [f32],
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dim: usize,
) {
    let (n, count) = (out.len() / dim, index.len());
    assert!(out.len() == n * dim && coef.len() == n * count);
    check_rows(index, dim, rows);
    let mut from = 0;
    while from < dim {
        let wide = from + N * LANES <= dim;
        for t in (0..count).step_by(COMBINED) {
            let index = &index[t..count.min(t + COMBINED)];
            let mut i = 0;
            while i < n {
                let many = i + M <= n;
                // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
                unsafe {
                    let (o, r) = (out.as_mut_ptr().add(i * dim + from), rows.as_ptr().add(from));
                    let c = coef.as_ptr().add(i * count + t);
                    let tail = (dim - from).min(LANES);
                    match (many, wide) {
                        (true, true) => combine::<S, M, N>(o, c, count, index, r, dim, LANES),
                        (true, false) => combine::<S, M, 1>(o, c, count, index, r, dim, tail),
                        (false, true) => combine::<S, 1, N>(o, c, count, index, r, dim, LANES),
                        (false, false) => combine::<S, 1, 1>(o, c, count, index, r, dim, tail),
                    }
                }
                i += if many { M } else { 1 };
            }
        }
        from += if wide { N * LANES } else { LANES };
    }
}

/// Dot products of `N` rows with `a`, and the rows added to `out`, in one pass.
#[inline(always)]
unsafe fn both_of<S: V, const N: usize>(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dots: &mut [f32],
    out: *mut f32,
    begun: bool,
) {
    let n = a.len();
    // SAFETY: `index` has `N` rows of `n` values each, which the caller checked, and `out` has `n` values.
    unsafe {
        let c: [S; N] = std::array::from_fn(|t| S::splat(coef[t]));
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * n));
        let mut s = [S::splat(0.0); N];
        let mut d = 0;
        while d + LANES <= n {
            let (y, mut o) = (S::load(a.as_ptr().add(d)), if begun { S::load(out.add(d)) } else { S::splat(0.0) });
            for t in 0..N {
                let row = S::load(p[t].add(d));
                s[t] = row.fma(y, s[t]);
                o = c[t].fma(row, o);
            }
            o.store(out.add(d));
            d += LANES;
        }
        if d < n {
            let y = S::load_n(a.as_ptr().add(d), n - d);
            let mut o = if begun { S::load_n(out.add(d), n - d) } else { S::splat(0.0) };
            for t in 0..N {
                let row = S::load_n(p[t].add(d), n - d);
                s[t] = row.fma(y, s[t]);
                o = c[t].fma(row, o);
            }
            o.store_n(out.add(d), n - d);
        }
        for t in 0..N {
            dots[t] = s[t].fold();
        }
    }
}

#[inline(always)]
unsafe fn dots_and_add_body<S: V, const MOST: usize>(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dots: &mut [f32],
    out: &mut [f32],
    begun: bool,
) {
    assert!(out.len() == a.len() && dots.len() == index.len() && coef.len() == index.len());
    check_rows(index, a.len(), rows);
    let (r, o) = (rows.as_ptr(), out.as_mut_ptr());
    let mut j = 0;
    // SAFETY: every index was checked against `rows`.
    unsafe {
        by_groups!(S, MOST, j, index.len(), both_of(a, &coef[j..], &index[j..], r, &mut dots[j..], o, begun || j > 0));
    }
    if index.is_empty() && !begun {
        out.fill(0.0);
    }
}

#[inline(always)]
unsafe fn add_scaled_body<S: V>(out: &mut [f32], c: f32, row: &[f32]) {
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

/// Calls `ask` with an address in every line of a cache that these values lie in, counted from the first.
#[inline(always)]
fn each_line<T>(values: &[T], ask: impl Fn(*const i8)) {
    let first = values.as_ptr().cast::<i8>();
    (0..size_of_val(values)).step_by(64).for_each(|at| ask(first.wrapping_add(at)));
}

/// Asks for values that will be read.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    // SAFETY: a prefetch changes nothing that a program sees, and every CPU of this kind has it.
    each_line(values, |line| unsafe { _mm_prefetch::<_MM_HINT_T0>(line) });
}

/// Asks for values that will be written.
#[inline(always)]
pub fn prefetch_to_write<T>(values: &[T]) {
    each_line(values, ask_to_write);
}

/// Asks for the line of a value that will be written: it comes alone, not shared with another core.
#[inline(always)]
fn ask_to_write<T>(value: *const T) {
    // SAFETY: a prefetch changes nothing that a program sees; CPUs decode this one (at worst as a no-op) since before AVX2.
    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) value, options(nostack, preserves_flags)) };
}

#[inline(always)]
unsafe fn scale_body<S: V>(w: &mut [f32], c: f32) {
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
unsafe fn residual_body<S: V>(x: &[f32], recon: &mut [f32]) {
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

#[inline(always)]
unsafe fn append_above_body<S: V>(
    row: &[f32],
    base: u32,
    threshold: f32,
    index: &mut [u32],
    value: &mut [f32],
    mut len: usize,
) -> usize {
    let room = len + row.len().next_multiple_of(LANES);
    assert!(index.len() >= room && value.len() >= room, "the caller leaves room");
    // SAFETY: at most 16 values are written from `len` on, and `len` grows by at most those that were read.
    unsafe {
        let (p, ip, vp) = (row.as_ptr(), index.as_mut_ptr(), value.as_mut_ptr());
        let mut d = 0;
        while d + LANES <= row.len() {
            len += S::load(p.add(d)).pack_above(threshold, base + d as u32, LANES, ip.add(len), vp.add(len));
            d += LANES;
        }
        if d < row.len() {
            let n = row.len() - d;
            len += S::load_n(p.add(d), n).pack_above(threshold, base + d as u32, n, ip.add(len), vp.add(len));
        }
    }
    len
}

/// The lanes of `v` put together, one half with the other.
#[inline(always)]
unsafe fn together<S: V>(v: S, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: there are as many values as lanes.
    unsafe { v.store(lanes.as_mut_ptr()) };
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|i| lanes[i] = of(lanes[i], lanes[i + half]));
    }
    lanes[0]
}

/// Values that are counted in one go.
const MANY: usize = 8 * LANES;

/// How many of a block reach `t`.
#[inline(always)]
unsafe fn reach<S: V>(block: &[f32; MANY], t: S) -> u32 {
    let mut n = 0;
    for i in 0..8 {
        // SAFETY: there are eight vectors.
        n += unsafe { S::load(block.as_ptr().add(i * LANES)).count_at_least(t) };
    }
    n
}

/// Halves the range of bits that has the k-th largest value until a number is found that exactly `k` reach: some ten passes over few
/// vectors, nothing moved.
#[inline(always)]
unsafe fn kth_largest_body<S: V>(values: &[f32], k: usize) -> f32 {
    assert!((1..=values.len()).contains(&k));
    let (blocks, rest) = values.as_chunks::<MANY>();
    let mut last = [f32::NEG_INFINITY; MANY];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: every load stays within a block.
    unsafe {
        let (mut least, mut most) = (S::splat(f32::INFINITY), S::splat(f32::NEG_INFINITY));
        for block in blocks.iter().chain([&last]) {
            for i in 0..8 {
                let v = S::load(block.as_ptr().add(i * LANES));
                most = most.max(v);
                least = least.min(v.at_least_or(S::splat(f32::MIN), S::splat(f32::INFINITY)));
            }
        }
        let least = together(least, |a, b| if b < a { b } else { a });
        let most = together(most, |a, b| if b > a { b } else { a });
        // At least `k` reach the lower end, fewer the upper.
        let (mut low, mut high) = (rank(f32::NEG_INFINITY), rank(most) + 1);
        let mut middle = rank(least);
        while low < middle && middle < high {
            let t = of_rank(middle);
            let mut n = reach(&last, S::splat(t)) as usize;
            for block in blocks {
                n += reach(block, S::splat(t)) as usize;
            }
            if n == k {
                let mut next = S::splat(most);
                for block in blocks.iter().chain([&last]) {
                    for i in 0..8 {
                        let v = S::load(block.as_ptr().add(i * LANES));
                        next = next.min(v.at_least_or(S::splat(t), S::splat(most)));
                    }
                }
                return together(next, |a, b| if b < a { b } else { a });
            }
            (low, high) = if n > k { (middle, high) } else { (low, middle) };
            middle = low + (high - low) / 2;
        }
        of_rank(low)
    }
}

macro_rules! twins {
    ($module:ident, $lanes:ty, $features:literal, $m:literal, $n:literal, $g:literal) => {
        /// The kernels compiled for this instruction set.
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
            pub fn dots(x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], spill: &mut [f32]) {
                // SAFETY: as above.
                unsafe { dots_body::<$lanes, $m, $n>(x, w, bias, dim, out, spill) }
            }
            #[target_feature(enable = $features)]
            pub fn gather_dots(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { gather_dots_body::<$lanes, $g>(a, index, rows, out) }
            }
            #[target_feature(enable = $features)]
            pub fn add_columns(out: &mut [f32], from: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
                // SAFETY: as above.
                unsafe { add_columns_body::<$lanes>(out, from, coef, index, rows, dim) }
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
                begun: bool,
            ) {
                // SAFETY: as above.
                unsafe { dots_and_add_body::<$lanes, $g>(a, coef, index, rows, dots, out, begun) }
            }
            #[target_feature(enable = $features)]
            pub fn pre_gradients(a: &[f32], factor: f32, more: f32, d: &mut [f32]) -> [f32; 2] {
                // The same chain of additions; here a fused one is an instruction, not a call.
                scalar::pre_gradients(a, factor, more, d)
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
                left: Left,
                s: &AdamStep,
                ahead: [&[f32]; 3],
                square: &mut [f32; LANES],
            ) {
                // SAFETY: as above.
                unsafe { adam_body::<$lanes>(row, g, left, s, ahead, square) }
            }
            #[target_feature(enable = $features)]
            pub fn adam_and_add(
                row: [&mut [f32]; 3],
                g: &mut [f32],
                lacking: &Lacking,
                left: Left,
                s: &AdamStep,
                ahead: [&[f32]; 3],
                square: &mut [f32; LANES],
            ) {
                // SAFETY: as above.
                unsafe { adam_and_add_body::<$lanes, $g>(row, g, lacking, left, s, ahead, square) }
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

twins!(avx512, V512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt", 4, 6, 8);
twins!(avx2, V256, "avx2,fma,popcnt", 2, 3, 4);
