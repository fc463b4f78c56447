//! The dense product, in tiles whose sums fit the registers.

use super::super::scalar::LANES;
use super::COLUMNS;
use super::lanes::{Lanes, fold4};
use std::arch::x86_64::{_MM_HINT_T1, _mm_add_ps, _mm_loadu_ps, _mm_prefetch, _mm_storeu_ps};

/// Number of rows of `w` whose partial sums are stored between blocks of columns.
const GROUP: usize = 48;

/// Number of rows of `x` in a block that stays in the L2 cache while all of `w` is read.
#[inline(always)]
fn block_rows(dim: usize) -> usize {
    (131_072 / dim.max(1)).clamp(64, 256) / 4 * 4
}

/// Number of columns that [`GROUP`] rows of `w` are multiplied over before the next columns are taken, so that these
/// columns of `rows` rows of `x` stay in the L2 cache, too.
#[inline(always)]
fn block_columns(rows: usize) -> usize {
    (131_072 / rows.max(1) / COLUMNS).max(1) * COLUMNS
}

/// See [`super::super::dots_scratch_len`].
pub fn dots_scratch_len(rows: usize, dim: usize) -> usize {
    let rows = rows.min(block_rows(dim));
    let group = if dim <= block_columns(rows) { 6 } else { GROUP };
    if dim <= COLUMNS { 0 } else { rows.next_multiple_of(4) * group * LANES }
}

/// Products of `M` rows of `x` with `N` rows of `w` over columns `from..to`. Partial sums are read from `spill` unless
/// these are the `first` columns, and written to it unless they are the `last`.
///
/// # Safety
/// `x` has `M` and `w` has `N` rows of stride `dim`, `to <= dim`; `out` is valid for rows `0..M` of stride `ld`,
/// columns `0..N`; `spill` for `M * N * 16` values unless `first && last`. The CPU has the features of `S`.
#[inline(always)]
unsafe fn tile<S: Lanes, const M: usize, const N: usize, const P: usize>(
    x: *const f32,
    w: *const f32,
    dim: usize,
    from: usize,
    to: usize,
    first: bool,
    last: bool,
    spill: *mut f32,
    bias: *const f32,
    out: *mut f32,
    ld: usize,
    ahead: [*const f32; P],
) {
    // SAFETY: all offsets stay inside the rows that the caller guarantees.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        if !first {
            for i in 0..M {
                for j in 0..N {
                    acc[i][j] = S::load(spill.add((i * N + j) * LANES));
                }
            }
        }
        let mut d = from;
        while d + LANES <= to {
            for row in ahead {
                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(d).cast());
            }
            let mut xs = [S::splat(0.0); M];
            for i in 0..M {
                xs[i] = S::load(x.add(i * dim + d));
            }
            for j in 0..N {
                let y = S::load(w.add(j * dim + d));
                for i in 0..M {
                    acc[i][j] = xs[i].fma(y, acc[i][j]);
                }
            }
            d += LANES;
        }
        if d < to {
            for j in 0..N {
                let y = S::load_n(w.add(j * dim + d), to - d);
                for i in 0..M {
                    acc[i][j] = S::load_n(x.add(i * dim + d), to - d).fma(y, acc[i][j]);
                }
            }
        }
        for i in 0..M {
            let mut j = 0;
            while last && j + 4 <= N {
                let sums = fold4([acc[i][j], acc[i][j + 1], acc[i][j + 2], acc[i][j + 3]]);
                _mm_storeu_ps(out.add(i * ld + j), _mm_add_ps(sums, _mm_loadu_ps(bias.add(j))));
                j += 4;
            }
            while j < N {
                if last {
                    *out.add(i * ld + j) = acc[i][j].fold() + *bias.add(j);
                } else {
                    acc[i][j].store(spill.add((i * N + j) * LANES));
                }
                j += 1;
            }
        }
    }
}

/// Products of all rows of `x` with `N` rows of `w` over columns `begin..end`. Prefetches the same columns of the rows
/// at `next`.
#[inline(always)]
unsafe fn strip<S: Lanes, const M: usize, const N: usize>(
    x: *const f32,
    rows: usize,
    w: *const f32,
    dim: usize,
    (begin, end): (usize, usize),
    next: *const f32,
    spill: *mut f32,
    bias: *const f32,
    out: *mut f32,
    ld: usize,
) {
    // SAFETY: as for `tile`; the caller gives `rows` rows of x and out, and scratch for `N` sums of each.
    unsafe {
        // While N rows of w are in use, the next ones are prefetched, one or two rows a tile.
        let share = N.div_ceil((rows / M).max(1));
        let mut from = begin;
        while from < end {
            let to = (from + COLUMNS).min(end);
            let (first, last) = (from == 0, to == dim);
            let next = if to == end { next.wrapping_sub(from) } else { w.wrapping_add(to - from) };
            let mut b = 0;
            while b + M <= rows {
                let s = spill.wrapping_add(b * N * LANES);
                let (x, out, prefetched) = (x.add(b * dim), out.add(b * ld), b / M * share);
                let row = |r: usize| next.wrapping_add((prefetched + r) * dim);
                match share {
                    1 if prefetched < N => {
                        tile::<S, M, N, 1>(x, w, dim, from, to, first, last, s, bias, out, ld, [row(0)]);
                    }
                    2 if prefetched < N => {
                        tile::<S, M, N, 2>(x, w, dim, from, to, first, last, s, bias, out, ld, [row(0), row(1)]);
                    }
                    _ => tile::<S, M, N, 0>(x, w, dim, from, to, first, last, s, bias, out, ld, []),
                }
                b += M;
            }
            while b < rows {
                let s = spill.wrapping_add(b * N * LANES);
                tile::<S, 1, N, 0>(x.add(b * dim), w, dim, from, to, first, last, s, bias, out.add(b * ld), ld, []);
                b += 1;
            }
            from = to;
        }
    }
}

#[inline(always)]
pub unsafe fn dots_body<S: Lanes, const M: usize, const N: usize>(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    dim: usize,
    out: &mut [f32],
    spill: &mut [f32],
) {
    let (rows, n) = (x.len() / dim, bias.len());
    assert!(w.len() == n * dim && out.len() == rows * n && spill.len() >= dots_scratch_len(rows, dim));
    let block = block_rows(dim);
    for b in (0..rows).step_by(block) {
        let m = block.min(rows - b);
        let columns = block_columns(m);
        // Values of `spill` a row of w: the strips share one part of it, unless their sums are stored between blocks of
        // columns.
        let stride = if dim <= columns { 0 } else { m * LANES };
        for group in (0..n).step_by(GROUP) {
            let to = n.min(group + GROUP);
            for begin in (0..dim).step_by(columns) {
                let end = dim.min(begin + columns);
                let mut j = group;
                while j < to {
                    let count = if j + N <= to { N } else { 1 };
                    // SAFETY: the assertion above bounds every row of x, w, bias and out; `spill` holds a block.
                    unsafe {
                        let (xp, op) = (x.as_ptr().add(b * dim), out.as_mut_ptr().add(b * n + j));
                        let sp = spill.as_mut_ptr().wrapping_add((j - group) * stride);
                        let (wp, bp) = (w.as_ptr().add(j * dim), bias.as_ptr().add(j));
                        // The next rows, or the next columns of the first row, or the first columns of the next group.
                        let next = if j + count < to || end == dim {
                            wp.wrapping_add(count * dim + if j + count < to { begin } else { 0 })
                        } else {
                            w.as_ptr().add(group * dim + end)
                        };
                        if count == N {
                            strip::<S, M, N>(xp, m, wp, dim, (begin, end), next, sp, bp, op, n);
                        } else {
                            strip::<S, M, 1>(xp, m, wp, dim, (begin, end), next, sp, bp, op, n);
                        }
                    }
                    j += count;
                }
            }
        }
    }
}
