//! The specification of every kernel: plain loops, no unsafe. The SIMD twins in `x86.rs` keep these names and
//! signatures and give the same bits, because the order of every sum is part of the definition:
//! a dot product is 16 partial sums (lane `d mod 16`, each a chain of fused multiply-adds), folded 16→8→4→2→1.

use super::prefilter::{
    CHUNK_TILES, CacheLine, Hit, Hits, PANEL_ROWS, PanelBounds, PrefilterQuery, PrefilterWeights, TILE_COLUMNS,
    TILE_ROWS, from_bf16, line_index, panel_lines, to_bf16,
};

/// Partial sums of a dot product.
pub const LANES: usize = 16;

/// Folds 16 partial sums: `s[i] + s[i + 8]`, then `+ 4`, `+ 2`, `+ 1`.
#[inline]
pub fn fold(mut s: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            s[i] += s[i + half];
        }
    }
    s[0]
}

/// `Σ_d a[d] · b[d]`.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut s = [0.0f32; LANES];
    for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
        s[i % LANES] = x.mul_add(y, s[i % LANES]);
    }
    fold(s)
}

/// `out[b * n + j] = x[b] · w[j] + bias[j]` for `x [B, dim]`, `w [n, dim]`, `bias [n]`, `out [B, n]`.
/// `spill` is scratch of the SIMD twins (see [`super::spill_len`]).
pub fn dots(x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], _spill: &mut [f32]) {
    let n = bias.len();
    for (b, row) in x.chunks_exact(dim).enumerate() {
        for j in 0..n {
            out[b * n + j] = dot(row, &w[j * dim..][..dim]) + bias[j];
        }
    }
}

/// Rounds one block of [`BatchTiles`](super::prefilter::BatchTiles) to bf16: at most 16 rows of `x`, laid side by side. Writes the squared
/// norms `[‖x[b]‖², ‖x[b] - x̂[b]‖²]` to `squares`.
///
/// The rounded values are exact; the SIMD twins may add the squares in another order.
pub fn round_batch_block(x: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
    lines.fill(CacheLine::default());
    for (r, (row, square)) in x.chunks_exact(dim).zip(squares).enumerate() {
        let rounded: Vec<u32> = row.iter().map(|&v| to_bf16(v)).collect();
        for (line, pair) in lines.iter_mut().zip(rounded.chunks(2)) {
            line.0[r] = pair.get(1).copied().unwrap_or(0) << 16 | pair[0];
        }
        *square = squared_norms(row, &rounded);
    }
}

/// Rounds a panel of at most 32 rows of `w` to bf16, into the lines given by [`line_index`]; other lines stay. Writes the squared norms
/// `[‖w[j]‖², ‖w[j] - ŵ[j]‖²]` to `squares`.
///
/// The rounded values are exact; the SIMD twins may add the squares in another order.
pub fn round_weights(w: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
    for (j, (row, square)) in w.chunks_exact(dim).zip(squares).enumerate() {
        let rounded: Vec<u32> = row.iter().map(|&v| to_bf16(v)).collect();
        for (step, values) in rounded.chunks(TILE_COLUMNS).enumerate() {
            let line = &mut lines[line_index(dim, j, step)];
            *line = CacheLine::default();
            for (out, pair) in line.0.iter_mut().zip(values.chunks(2)) {
                *out = pair.get(1).copied().unwrap_or(0) << 16 | pair[0];
            }
        }
        *square = squared_norms(row, &rounded);
    }
}

/// The squared norms of a row and of its difference from the rounded row.
fn squared_norms(row: &[f32], rounded: &[u32]) -> [f32; 2] {
    let residual: Vec<f32> = row.iter().zip(rounded).map(|(v, &bits)| v - from_bf16(bits)).collect();
    [dot(row, row), dot(&residual, &residual)]
}

/// Finds the pre-activations `p[b, j] = x[b] · w[j] + bias[j]` that may reach both the limit of row b and the limit of latent j.
///
/// Products are of bf16 values, summed in f32 in any order over chunks of [`CHUNK_TILES`] × [`TILE_COLUMNS`] columns; the sums of the chunks are
/// added in order. With the error bound
///
/// `e[b, j] = error_per_norm[b] · ‖w[j]‖ + error_per_residual[b] · ‖w[j] - ŵ[j]‖ + constant[j]`,
///
/// a hit is a pair where `p + e ≥ max(limit[b], latent_limit[j])`. A row with more hits than its capacity keeps the right count and
/// no further hits.
pub fn prefilter(query: &PrefilterQuery, w: PrefilterWeights, hits: &mut Hits, _scratch: &mut Vec<CacheLine>) {
    let (dim, n, panel) = (query.dim, query.bias.len(), panel_lines(query.dim));
    for first in (0..n).step_by(PANEL_ROWS) {
        let rows = (n - first).min(PANEL_ROWS);
        let (mut lines, mut squares) = (vec![CacheLine::default(); panel], vec![[0.0; 2]; rows]);
        match w {
            PrefilterWeights::Exact(w) => {
                round_weights(&w[first * dim..(first + rows) * dim], dim, &mut lines, &mut squares);
            }
            PrefilterWeights::Rounded(all_lines, all_squares) => {
                lines.copy_from_slice(&all_lines[first / PANEL_ROWS * panel..][..panel]);
                squares.copy_from_slice(&all_squares[first..first + rows]);
            }
        }
        let bounds = PanelBounds::new(query, first, &squares, hits);
        for j in 0..rows {
            let value = |d: usize| {
                let pair = lines[line_index(dim, j, d / TILE_COLUMNS)].0[d % TILE_COLUMNS / 2];
                from_bf16(if d.is_multiple_of(2) { pair & 0xffff } else { pair >> 16 })
            };
            let row: Vec<f32> = (0..dim).map(value).collect();
            for (b, bound) in query.rows.iter().enumerate() {
                const CHUNK: usize = CHUNK_TILES * TILE_COLUMNS;
                let chunk_sum = |(c, chunk): (usize, &[f32])| -> f32 {
                    chunk.iter().enumerate().map(|(d, &v)| v * query.batch.get(b, c * CHUNK + d)).sum()
                };
                let sum: f32 = row.chunks(CHUNK).enumerate().map(chunk_sum).sum();
                let rest = bound.error_per_residual.mul_add(bounds.residual[j], bounds.constant[j]);
                let (p, e) = (sum + bounds.bias[j], bound.error_per_norm.mul_add(bounds.norm[j], rest));
                let (len, all, capacity) = hits.parts_mut();
                if p + e >= bound.limit.max(bounds.limit[j]) {
                    let at = len[b] as usize;
                    if at + TILE_ROWS <= capacity {
                        all[b * capacity + at] = Hit::new(first + j, e, p);
                    }
                    len[b] += 1;
                }
            }
        }
    }
}

/// `out[j] = rows[index[j]] · a`, for rows of `a.len()` values.
pub fn gather_dots(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
    let dim = a.len();
    for (o, &i) in out.iter_mut().zip(index) {
        *o = dot(&rows[i as usize * dim..][..dim], a);
    }
}

/// `out[d] += Σ_j coef[j] · rows[index[j] * dim + from + d]`, added in the order of `j`, each by a fused multiply-add.
pub fn add_columns(out: &mut [f32], from: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
    for (&c, &i) in coef.iter().zip(index) {
        for (o, &r) in out.iter_mut().zip(&rows[i as usize * dim + from..(i as usize + 1) * dim]) {
            *o = c.mul_add(r, *o);
        }
    }
}

/// [`add_columns`] to all of every row of `out [n, dim]` with the same `index [T]`, by its own row of `coef [n, T]`.
pub fn add_combinations(out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
    for (i, out) in out.chunks_exact_mut(dim).enumerate() {
        add_columns(out, 0, &coef[i * index.len()..][..index.len()], index, rows, dim);
    }
}

/// [`gather_dots`] of `a` and [`add_columns`] to all of `out`, or to nothing where that is not `begun`, of the same rows in one pass over
/// them.
pub fn dots_and_add(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dots: &mut [f32],
    out: &mut [f32],
    begun: bool,
) {
    if !begun {
        out.fill(0.0);
    }
    gather_dots(a, index, rows, dots);
    add_columns(out, 0, coef, index, rows, a.len());
}

/// Gradients of a latent's pre-activations, from the dot products `d` of residuals with its direction: `d[b] = factor · d[b] + more`.
/// Returns `Σ_b a[b] · factor · d[b]` and the sum of the gradients.
#[inline(always)]
pub fn pre_gradients(a: &[f32], factor: f32, more: f32, d: &mut [f32]) -> [f32; 2] {
    let (mut along, mut sum) = (0.0f32, 0.0);
    for (d, &a) in d.iter_mut().zip(a) {
        let own = factor * *d;
        along = a.mul_add(own, along);
        *d = own + more;
        sum += *d;
    }
    [along, sum]
}

/// `out[d] += c · row[d]`.
pub fn add_scaled(out: &mut [f32], c: f32, row: &[f32]) {
    for (o, &r) in out.iter_mut().zip(row) {
        *o = c.mul_add(r, *o);
    }
}

/// `w[d] *= c`.
pub fn scale(w: &mut [f32], c: f32) {
    w.iter_mut().for_each(|w| *w *= c);
}

/// `residual[d] = x[d] - recon[d]`, written over `recon`.
pub fn residual(x: &[f32], recon: &mut [f32]) {
    recon.iter_mut().zip(x).for_each(|(r, &x)| *r = x - *r);
}

/// What Adam needs at one step; see [`crate::optim`] for the equation.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// `1 - β1`.
    pub one_minus_beta1: f32,
    /// `β2`.
    pub beta2: f32,
    /// `1 - β2`.
    pub one_minus_beta2: f32,
    /// `lr / (1 - β1^t)`.
    pub step_size: f32,
    /// `1 / sqrt(1 - β2^t)`.
    pub inv_sqrt_bias2: f32,
    /// `ε`, added to the bias-corrected norm_upper_bound (Adam) or to the raw norm_upper_bound (SparseAdam).
    pub eps: f32,
    /// `1 - lr · weight_decay`.
    pub keep: f32,
}

/// What is left of moments by steps without gradient since they were written: `β1^n` and `β2^n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// Of the first moment.
    pub m: f32,
    /// Of the second.
    pub v: f32,
}

impl Left {
    /// Nothing is lost: they were written by the last step.
    pub const ALL: Left = Left { m: 1.0, v: 1.0 };
}

/// Moments below 2⁻¹⁰⁰ become 0: they move nothing, and CPUs are a hundred times slower where numbers approach the end of
/// f32, as the moments of whoever has no gradient do.
pub const TINY: f32 = f32::from_bits((127 - 100) << 23);

#[inline]
fn flush(x: f32) -> f32 {
    if x.abs() < TINY { 0.0 } else { x }
}

/// One Adam step of a row or a piece of it: `m = left.m·m`, `v = left.v·v`, then `m += (1-β1)(g - m)`,
/// `v = β2 v + (1-β2) g²`, both 0 below [`TINY`], `w = keep·w - step·m / (√v·inv + ε)`. An empty `g` is zero everywhere; `m` and
/// `v` then stay in memory as they are, with one step more for `left` to make good. Adds the squares of the new `w` to
/// `square`, the partial sums of `w · w`; a piece that is not the last has a multiple of 16 values. Rows `ahead` are asked for
/// by the SIMD twins.
pub fn adam(
    [w, m, v]: [&mut [f32]; 3],
    g: &[f32],
    left: Left,
    s: &AdamStep,
    _ahead: [&[f32]; 3],
    square: &mut [f32; LANES],
) {
    for i in 0..w.len() {
        let (mut m1, mut v1, g1) = (left.m * m[i], left.v * v[i], g.get(i).copied().unwrap_or(0.0));
        m1 = flush(s.one_minus_beta1.mul_add(g1 - m1, m1));
        v1 = flush(s.beta2.mul_add(v1, s.one_minus_beta2 * (g1 * g1)));
        let denom = v1.sqrt().mul_add(s.inv_sqrt_bias2, s.eps);
        w[i] = (-s.step_size).mul_add(m1 / denom, s.keep * w[i]);
        if !g.is_empty() {
            (m[i], v[i]) = (m1, v1);
        }
        square[i % LANES] = w[i].mul_add(w[i], square[i % LANES]);
    }
}

/// What a gradient still lacks: `own · w + Σ_j coef[j] · rows[index[j] * dim + from ..]`, added in this order.
#[derive(Clone, Copy, Debug)]
pub struct Lacking<'a> {
    /// What its own weights count.
    pub own: f32,
    /// What the rows count.
    pub coef: &'a [f32],
    /// Which rows.
    pub index: &'a [u32],
    /// All rows.
    pub rows: &'a [f32],
    /// The first column.
    pub from: usize,
    /// Values of a row.
    pub dim: usize,
}

/// [`adam`] with a gradient that begins with `g`, which is scratch afterwards.
pub fn adam_and_add(
    row: [&mut [f32]; 3],
    g: &mut [f32],
    lacking: &Lacking,
    left: Left,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    square: &mut [f32; LANES],
) {
    let Lacking { own, coef, index, rows, from, dim } = *lacking;
    add_scaled(g, own, row[0]);
    let columns = g.len();
    for (&c, &i) in coef.iter().zip(index) {
        add_scaled(g, c, &rows[i as usize * dim + from..][..columns]);
    }
    adam(row, g, left, s, ahead, square);
}

/// A number whose order is that of the value.
#[inline]
pub fn rank(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The value of a [`rank`].
#[inline]
pub fn of_rank(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 1 { rank & 0x7fff_ffff } else { !rank })
}

/// The `k`-th largest of values, `1 ≤ k ≤ values.len()`, none of them NaN; zeros of both signs are equal.
pub fn kth_largest(values: &[f32], k: usize) -> f32 {
    // At least `k` reach the lower end, fewer the upper.
    let (mut low, mut high) = (rank(f32::NEG_INFINITY), rank(f32::INFINITY) + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let t = of_rank(middle);
        let enough = values.iter().filter(|&&v| v >= t).count() >= k;
        *(if enough { &mut low } else { &mut high }) = middle;
    }
    of_rank(low)
}

/// Appends `(base + i, row[i])` for every `row[i] > threshold` to `index` and `value`, from `len` on; returns the new
/// length. The caller leaves room for `row.len()` more, rounded up to a multiple of 16.
pub fn append_above(
    row: &[f32],
    base: u32,
    threshold: f32,
    index: &mut [u32],
    value: &mut [f32],
    mut len: usize,
) -> usize {
    for (i, &p) in row.iter().enumerate() {
        if p > threshold {
            index[len] = base + i as u32;
            value[len] = p;
            len += 1;
        }
    }
    len
}
