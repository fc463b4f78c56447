//! Products with rows that are gathered by index, and weighted sums of such rows.

use super::super::scalar::LANES;
use super::lanes::Lanes;
use super::{COLUMNS, by_count, by_groups, check_rows};

/// `N` dot products at once: a single one would wait for its chain of additions.
#[inline(always)]
unsafe fn dots_of<S: Lanes, const N: usize>(a: &[f32], index: &[u32], rows: *const f32, out: &mut [f32]) {
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
pub unsafe fn gather_dots_body<S: Lanes, const MOST: usize>(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
    assert_eq!(out.len(), index.len());
    check_rows(index, a.len(), rows);
    let mut j = 0;
    // SAFETY: every index was checked against `rows`.
    unsafe {
        by_groups!(S, MOST, j, index.len(), dots_of(a, &index[j..], rows.as_ptr(), &mut out[j..]));
    }
}

/// Adds `N` weighted rows in one pass over columns `from..to` of `out`.
#[inline(always)]
unsafe fn add_group<S: Lanes, const N: usize>(
    out: *mut f32,
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dim: usize,
    from: usize,
    to: usize,
) {
    // SAFETY: `index` has `N` rows, `dim` values apart, with at least `to` values from `rows` on, which the caller
    // checked.
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

/// Adds all weighted rows to `N` vectors of `out`, the last of `tail` values. The sums stay in registers.
#[inline(always)]
unsafe fn add_all<S: Lanes, const N: usize>(
    out: *mut f32,
    tail: usize,
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dim: usize,
) {
    // SAFETY: `rows` has the rows of `index`, `dim` values apart; they and `out` have all values of the vectors, which
    // the caller checked.
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

/// Number of vectors of sums that stay in registers while all rows are added.
const REGISTER_SUMS: usize = 6;

#[inline(always)]
pub unsafe fn add_columns_body<S: Lanes>(
    out: &mut [f32],
    first: usize,
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dim: usize,
) {
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
            few @ ..=REGISTER_SUMS => return by_count!(S, few, add_all(o, tail, coef, index, r, dim)),
            _ => {}
        }
    }
    let mut from = 0;
    while from < n {
        // A block of `out` that stays in the L1 cache while all rows are added.
        let to = (from + COLUMNS).min(n);
        let mut j = 0;
        // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
        unsafe {
            by_groups!(S, MOST, j, index.len(), add_group(o, &coef[j..], &index[j..], r, dim, from, to));
        }
        from = to;
    }
}

/// Adds `M` combinations of the same rows to `M` rows of `out`, in `N` vectors of columns, the last of `tail` columns.
///
/// # Safety
/// `out` has `M` rows and `rows` has the rows of `index`, `dim` values apart, with the columns of this tile; `coef` has
/// `M` rows of stride `ld`, with one value for each index. The CPU has the features of `S`.
#[inline(always)]
unsafe fn combine<S: Lanes, const M: usize, const N: usize>(
    out: *mut f32,
    coef: *const f32,
    ld: usize,
    index: &[u32],
    rows: *const f32,
    dim: usize,
    tail: usize,
) {
    // SAFETY: all offsets stay inside the rows that the caller guarantees.
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

/// Number of rows that are combined before the next columns are taken: their columns of one tile fit the L1 cache.
const COMBINED_ROWS: usize = 64;

#[inline(always)]
pub unsafe fn add_combinations_body<S: Lanes, const M: usize, const N: usize>(
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
        for t in (0..count).step_by(COMBINED_ROWS) {
            let index = &index[t..count.min(t + COMBINED_ROWS)];
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

/// Dot products of `N` rows with `a`, and the weighted rows added to `out`, in one pass.
#[inline(always)]
unsafe fn dots_and_add_of<S: Lanes, const N: usize>(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: *const f32,
    dots: &mut [f32],
    out: *mut f32,
    accumulate: bool,
) {
    let n = a.len();
    // SAFETY: `index` has `N` rows of `n` values each, which the caller checked, and `out` has `n` values.
    unsafe {
        let c: [S; N] = std::array::from_fn(|t| S::splat(coef[t]));
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * n));
        let mut s = [S::splat(0.0); N];
        let mut d = 0;
        while d + LANES <= n {
            let (y, mut o) = (S::load(a.as_ptr().add(d)), if accumulate { S::load(out.add(d)) } else { S::splat(0.0) });
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
            let mut o = if accumulate { S::load_n(out.add(d), n - d) } else { S::splat(0.0) };
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
pub unsafe fn dots_and_add_body<S: Lanes, const MOST: usize>(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dots: &mut [f32],
    out: &mut [f32],
    accumulate: bool,
) {
    assert!(out.len() == a.len() && dots.len() == index.len() && coef.len() == index.len());
    check_rows(index, a.len(), rows);
    let (r, o) = (rows.as_ptr(), out.as_mut_ptr());
    let mut j = 0;
    // SAFETY: every index was checked against `rows`.
    unsafe {
        by_groups!(
            S,
            MOST,
            j,
            index.len(),
            dots_and_add_of(a, &coef[j..], &index[j..], r, &mut dots[j..], o, accumulate || j > 0)
        );
    }
    if index.is_empty() && !accumulate {
        out.fill(0.0);
    }
}
