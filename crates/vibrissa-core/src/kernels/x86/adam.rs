//! One Adam step of a row of weights, with the last terms of its gradient.

use super::super::scalar::{AdamStep, GradientTerms, LANES, MomentDecay};
use super::gathered::add_columns_body;
use super::lanes::Lanes;
use super::{add_scaled_body, by_count, check_rows, prefetch_line_to_write};

/// The coefficients of a step in every lane; see [`AdamStep`] and [`MomentDecay`].
#[derive(Clone, Copy)]
struct AdamLanes<S> {
    decay: [S; 2],
    one_minus_beta1: S,
    beta2: S,
    one_minus_beta2: S,
    minus_step: S,
    inv: S,
    eps: S,
    keep: S,
}

#[inline(always)]
unsafe fn adam_lanes<S: Lanes>(w: S, m: S, v: S, g: S, s: &AdamLanes<S>) -> (S, S, S) {
    // SAFETY: arithmetic on registers; the caller's CPU has the features.
    unsafe {
        let (m, v) = (s.decay[0].mul(m), s.decay[1].mul(v));
        let m = s.one_minus_beta1.fma(g.sub(m), m).flush();
        let v = s.beta2.fma(v, s.one_minus_beta2.mul(g.mul(g))).flush();
        let denom = v.sqrt().fma(s.inv, s.eps);
        (s.minus_step.fma(m.div(denom), s.keep.mul(w)), m, v)
    }
}

/// Adam over a row; rows `ahead`, at most as long as `w`, are prefetched on the way. With `SUM` the gradient is `g +
/// weight_coef · w + Σ_j coef[j] · row_j`, with `N` rows from `rows` on, `dim` values apart: these additions cost
/// little, as Adam waits for a root and a division.
///
/// # Safety
/// `index` has `N` rows, with as many values from `rows` on as `w` has. The CPU has the features of `S`.
#[inline(always)]
unsafe fn adam_loop<S: Lanes, const SUM: bool, const N: usize>(
    [w, m, v]: [&mut [f32]; 3],
    g: &[f32],
    (weight_coef, coef, index, rows, dim): (f32, &[f32], &[u32], *const f32, usize),
    decay: MomentDecay,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    let n = w.len();
    let prefetches = ahead.iter().any(|row| !row.is_empty());
    assert!(m.len() == n && v.len() == n && (g.len() == n || (g.is_empty() && !SUM)));
    // SAFETY: every access stays within `n` values of each.
    unsafe {
        let lanes = AdamLanes {
            decay: [S::splat(decay.m), S::splat(decay.v)],
            one_minus_beta1: S::splat(s.one_minus_beta1),
            beta2: S::splat(s.beta2),
            one_minus_beta2: S::splat(s.one_minus_beta2),
            minus_step: S::splat(-s.step_size),
            inv: S::splat(s.inv_sqrt_bias2),
            eps: S::splat(s.eps),
            keep: S::splat(s.keep),
        };
        let weight_coef = S::splat(weight_coef);
        let c: [S; N] = std::array::from_fn(|t| S::splat(coef[t]));
        let p: [*const f32; N] = std::array::from_fn(|t| rows.add(index[t] as usize * dim));
        let (wp, mp, vp, gp) = (w.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr(), g.as_ptr());
        let zero = S::splat(0.0);
        let (mut square, mut d) = (S::load(squares.as_ptr()), 0);
        while d + LANES <= n {
            if prefetches {
                for row in ahead {
                    if let Some(line) = row.get(d) {
                        prefetch_line_to_write(line);
                    }
                }
            }
            let wd = S::load(wp.add(d));
            let mut gd = if g.is_empty() { zero } else { S::load(gp.add(d)) };
            if SUM {
                gd = weight_coef.fma(wd, gd);
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
                gd = weight_coef.fma(wd, gd);
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
            let a = S::load_n(wp.add(d), r); // lanes beyond the row are 0
            square = a.fma(a, square);
        }
        square.store(squares.as_mut_ptr());
    }
}

/// [`adam_loop`] with `SUM`, in the form that `by_count` needs.
#[inline(always)]
unsafe fn adam_sum<S: Lanes, const N: usize>(
    row: [&mut [f32]; 3],
    g: &[f32],
    sum: (f32, &[f32], &[u32], *const f32, usize),
    decay: MomentDecay,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    // SAFETY: the caller guarantees what `adam_loop` needs.
    unsafe { adam_loop::<S, true, N>(row, g, sum, decay, s, ahead, squares) }
}

#[inline(always)]
pub unsafe fn adam_body<S: Lanes>(
    row: [&mut [f32]; 3],
    g: &[f32],
    decay: MomentDecay,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    // SAFETY: there are no rows.
    unsafe { adam_loop::<S, false, 0>(row, g, (0.0, &[], &[], std::ptr::null(), 0), decay, s, ahead, squares) }
}

#[inline(always)]
pub unsafe fn adam_with_terms_body<S: Lanes, const MOST: usize>(
    row: [&mut [f32]; 3],
    g: &mut [f32],
    terms: &GradientTerms,
    decay: MomentDecay,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    squares: &mut [f32; LANES],
) {
    let GradientTerms { mut weight_coef, coef, index, rows, first, dim } = *terms;
    assert!(coef.len() == index.len() && first + g.len() <= dim);
    check_rows(index, dim, rows);
    // All but the last rows are added before.
    let before = index.len().saturating_sub(1) / MOST * MOST;
    // SAFETY: every index was checked against `rows`, and every column lies below `dim`.
    unsafe {
        if before > 0 {
            add_scaled_body::<S>(g, weight_coef, row[0]);
            add_columns_body::<S>(g, first, &coef[..before], &index[..before], rows, dim);
            weight_coef = 0.0;
        }
        let sum = (weight_coef, &coef[before..], &index[before..], rows.as_ptr().wrapping_add(first), dim);
        match index.len() - before {
            0 => adam_loop::<S, true, 0>(row, g, sum, decay, s, ahead, squares),
            n => by_count!(S, n, adam_sum(row, g, sum, decay, s, ahead, squares)),
        }
    }
}
