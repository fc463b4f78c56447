//! One Adam step of a row of weights, and the last terms of its gradient.

use super::super::scalar::{AdamStep, LANES, Lacking, Left};
use super::lanes::V;
use super::{add_columns_body, add_scaled_body, ask_to_write, by_count, check_rows};

#[derive(Clone, Copy)]
struct AdamLanes<S> {
    left: [S; 2],
    one_minus_beta1: S,
    beta2: S,
    one_minus_beta2: S,
    minus_step: S,
    inv: S,
    eps: S,
    keep: S,
}

#[inline(always)]
unsafe fn adam_lanes<S: V>(w: S, m: S, v: S, g: S, s: &AdamLanes<S>) -> (S, S, S) {
    // SAFETY: arithmetic on registers; the caller's CPU has the features.
    unsafe {
        let (m, v) = (s.left[0].mul(m), s.left[1].mul(v));
        let m = s.one_minus_beta1.fma(g.sub(m), m).flush();
        let v = s.beta2.fma(v, s.one_minus_beta2.mul(g.mul(g))).flush();
        let denom = v.sqrt().fma(s.inv, s.eps);
        (s.minus_step.fma(m.div(denom), s.keep.mul(w)), m, v)
    }
}

/// What is `ahead`, at most as long as `w`, is asked for on the way. With `SUM` the gradient begins with `g` and goes on with `own · w` and
/// `N` rows from `rows` on, `dim` values apart: memory and additions, while a root and a division keep Adam waiting.
///
/// # Safety
/// `index` has `N` rows, with as many values from `rows` on as `w` has. The CPU has the features of `S`.
#[inline(always)]
unsafe fn adam_loop<S: V, const SUM: bool, const N: usize>(
    [w, m, v]: [&mut [f32]; 3],
    g: &[f32],
    (own, coef, index, rows, dim): (f32, &[f32], &[u32], *const f32, usize),
    left: Left,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    let n = w.len();
    let asks = ahead.iter().any(|row| !row.is_empty());
    assert!(m.len() == n && v.len() == n && (g.len() == n || (g.is_empty() && !SUM)));
    // SAFETY: every access stays within `n` values of each.
    unsafe {
        let lanes = AdamLanes {
            left: [S::splat(left.m), S::splat(left.v)],
            one_minus_beta1: S::splat(s.one_minus_beta1),
            beta2: S::splat(s.beta2),
            one_minus_beta2: S::splat(s.one_minus_beta2),
            minus_step: S::splat(-s.step_size),
            inv: S::splat(s.inv_sqrt_bias2),
            eps: S::splat(s.eps),
            keep: S::splat(s.keep),
        };
        let own = S::splat(own);
        let c: [S; N] = std::array::from_fn(|t| S::splat(coef[t]));
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * dim));
        let (wp, mp, vp, gp) = (w.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr(), g.as_ptr());
        let zero = S::splat(0.0);
        let (mut square, mut d) = (S::load(squares.as_ptr()), 0);
        while d + LANES <= n {
            if asks {
                for row in ahead {
                    if let Some(line) = row.get(d) {
                        ask_to_write(line);
                    }
                }
            }
            let wd = S::load(wp.add(d));
            let mut gd = if g.is_empty() { zero } else { S::load(gp.add(d)) };
            if SUM {
                gd = own.fma(wd, gd);
                for t in 0..N {
                    gd = c[t].fma(S::load(p[t].add(d)), gd);
                }
            }
            let (a, b, c) = adam_lanes(wd, S::load(mp.add(d)), S::load(vp.add(d)), gd, &lanes);
            a.store(wp.add(d));
            if !g.is_empty() {
                b.store(mp.add(d));
                c.store(vp.add(d));
            }
            square = a.fma(a, square);
            d += LANES;
        }
        if d < n {
            let r = n - d;
            let wd = S::load_n(wp.add(d), r);
            let mut gd = if g.is_empty() { zero } else { S::load_n(gp.add(d), r) };
            if SUM {
                gd = own.fma(wd, gd);
                for t in 0..N {
                    gd = c[t].fma(S::load_n(p[t].add(d), r), gd);
                }
            }
            let (a, b, c) = adam_lanes(wd, S::load_n(mp.add(d), r), S::load_n(vp.add(d), r), gd, &lanes);
            a.store_n(wp.add(d), r);
            if !g.is_empty() {
                b.store_n(mp.add(d), r);
                c.store_n(vp.add(d), r);
            }
            let a = S::load_n(wp.add(d), r); // what lies beyond the row counts as 0
            square = a.fma(a, square);
        }
        square.store(squares.as_mut_ptr());
    }
}

/// [`adam_loop`] with the sum.
#[inline(always)]
unsafe fn adam_sum<S: V, const N: usize>(
    row: [&mut [f32]; 3],
    g: &[f32],
    sum: (f32, &[f32], &[u32], *const f32, usize),
    left: Left,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    // SAFETY: the caller's.
    unsafe { adam_loop::<S, true, N>(row, g, sum, left, s, ahead, squares) }
}

#[inline(always)]
pub unsafe fn adam_body<S: V>(
    row: [&mut [f32]; 3],
    g: &[f32],
    left: Left,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    // SAFETY: there are no rows.
    unsafe { adam_loop::<S, false, 0>(row, g, (0.0, &[], &[], std::ptr::null(), 0), left, s, ahead, squares) }
}

#[inline(always)]
pub unsafe fn adam_and_add_body<S: V, const MOST: usize>(
    row: [&mut [f32]; 3],
    g: &mut [f32],
    lacking: &Lacking,
    left: Left,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    let Lacking { mut own, coef, index, rows, from, dim } = *lacking;
    assert!(coef.len() == index.len() && from + g.len() <= dim);
    check_rows(index, dim, rows);
    // Of many rows the last ones only.
    let before = index.len().saturating_sub(1) / MOST * MOST;
    // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
    unsafe {
        if before > 0 {
            add_scaled_body::<S>(g, own, row[0]);
            add_columns_body::<S>(g, from, &coef[..before], &index[..before], rows, dim);
            own = 0.0;
        }
        let sum = (own, &coef[before..], &index[before..], rows.as_ptr().wrapping_add(from), dim);
        match index.len() - before {
            0 => adam_loop::<S, true, 0>(row, g, sum, left, s, ahead, squares),
            n => by_count!(S, n, adam_sum(row, g, sum, left, s, ahead, squares)),
        }
    }
}
