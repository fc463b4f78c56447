//! The specification of every kernel: plain loops, no unsafe code.
//!
//! The SIMD twins in `x86.rs` have the same names and signatures and give the same bits, because the order of every sum
//! is part of the specification. Only [`prefilter`] and the squared norms of [`round_batch_block`] and
//! [`round_weights`] may be summed in another order: they are used as bounds.
//!
//! A dot product has 16 partial sums: element d goes to partial sum `d mod 16` by a fused multiply-add, and the partial
//! sums are folded 16 → 8 → 4 → 2 → 1. Its error is at most `(n/16 + 5) · 2⁻²⁴ · Σ_d |a[d] b[d]|`.

use super::prefilter::{
    CHUNK_TILES, CacheLine, Hit, Hits, PANEL_ROWS, PanelBounds, PrefilterQuery, PrefilterWeights, TILE_COLUMNS,
    TILE_ROWS, from_bf16, line_index, panel_lines, to_bf16,
};

/// Number of partial sums of a dot product.
pub const LANES: usize = 16;

/// Folds 16 partial sums: `s[i] + s[i + 8]`, then `s[i] + s[i + 4]`, `+ 2`, `+ 1`.
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

/// The dense product of the encoder: `out[b * n + j] = x[b] · w[j] + bias[j]`.
///
/// # Shapes
/// `x [B, dim]`, `w [n, dim]`, `bias [n]` → `out [B, n]`. `_scratch` is used by the SIMD twins (see
/// [`super::dots_scratch_len`]).
pub fn dots(x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], _scratch: &mut [f32]) {
    let n = bias.len();
    for (b, row) in x.chunks_exact(dim).enumerate() {
        for j in 0..n {
            out[b * n + j] = dot(row, &w[j * dim..][..dim]) + bias[j];
        }
    }
}

/// Rounds one block of [`BatchTiles`](super::prefilter::BatchTiles) to bf16: at most 16 rows of `x`, laid side by side.
/// Writes the squared norms `[‖x[b]‖², ‖x[b] - x̂[b]‖²]` to `squares`.
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

/// Rounds a panel of at most 32 rows of `w` to bf16, into the lines given by [`line_index`]; other lines stay. Writes
/// the squared norms `[‖w[j]‖², ‖w[j] - ŵ[j]‖²]` to `squares`.
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

/// Finds the pre-activations `p[b, j] = x[b] · w[j] + bias[j]` that may reach both the limit of row b and the limit of
/// latent j.
///
/// Products are of bf16 values, summed in f32 in any order over chunks of [`CHUNK_TILES`] × [`TILE_COLUMNS`] columns;
/// the sums of the chunks are added in order. With the error bound
///
/// `e[b, j] = error_per_norm[b] · ‖w[j]‖ + error_per_residual[b] · ‖w[j] - ŵ[j]‖ + constant[j]`,
///
/// a hit is a pair where `p + e ≥ max(limit[b], latent_limit[j])`. A row with more hits than its capacity keeps the
/// right count and no further hits.
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

/// `out[j] = rows[index[j]] · a`.
///
/// # Shapes
/// `a [D]`, `index [n]`, `rows [_, D]` → `out [n]`.
pub fn gather_dots(a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
    let dim = a.len();
    for (o, &i) in out.iter_mut().zip(index) {
        *o = dot(&rows[i as usize * dim..][..dim], a);
    }
}

/// `out[d] += Σ_j coef[j] · rows[index[j]][first + d]`, in the order of j, each by a fused multiply-add.
///
/// # Shapes
/// `coef [n]`, `index [n]`, `rows [_, dim]`; `out` has at most `dim - first` values.
pub fn add_columns(out: &mut [f32], first: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
    for (&c, &i) in coef.iter().zip(index) {
        for (o, &r) in out.iter_mut().zip(&rows[i as usize * dim + first..(i as usize + 1) * dim]) {
            *o = c.mul_add(r, *o);
        }
    }
}

/// `out[i] += Σ_j coef[i, j] · rows[index[j]]`: [`add_columns`] to every row of `out`, of the same rows with different
/// coefficients.
///
/// # Shapes
/// `coef [n, T]`, `index [T]`, `rows [_, dim]`, `out [n, dim]`.
pub fn add_combinations(out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
    for (i, out) in out.chunks_exact_mut(dim).enumerate() {
        add_columns(out, 0, &coef[i * index.len()..][..index.len()], index, rows, dim);
    }
}

/// [`gather_dots`] and [`add_columns`] of the same rows, in one pass over them. `out` is set to zero first unless
/// `accumulate`.
pub fn dots_and_add(
    a: &[f32],
    coef: &[f32],
    index: &[u32],
    rows: &[f32],
    dots: &mut [f32],
    out: &mut [f32],
    accumulate: bool,
) {
    if !accumulate {
        out.fill(0.0);
    }
    gather_dots(a, index, rows, dots);
    add_columns(out, 0, coef, index, rows, a.len());
}

/// Gradients of the pre-activations of one latent, from the dot products `d [n]` of residuals with its decoder
/// direction: `d[b] = factor · d[b] + offset`.
///
/// Returns `[Σ_b latents[b] · factor · d[b], Σ_b gradient[b]]`, each a single chain of additions in the order of b.
#[inline(always)]
pub fn pre_act_gradients(latents: &[f32], factor: f32, offset: f32, d: &mut [f32]) -> [f32; 2] {
    let (mut along, mut sum) = (0.0f32, 0.0);
    for (d, &latent) in d.iter_mut().zip(latents) {
        let scaled = factor * *d;
        along = latent.mul_add(scaled, along);
        *d = scaled + offset;
        sum += *d;
    }
    [along, sum]
}

/// `out[d] += c · row[d]`, by a fused multiply-add.
pub fn add_scaled(out: &mut [f32], c: f32, row: &[f32]) {
    for (o, &r) in out.iter_mut().zip(row) {
        *o = c.mul_add(r, *o);
    }
}

/// `w[d] *= c`.
pub fn scale(w: &mut [f32], c: f32) {
    w.iter_mut().for_each(|w| *w *= c);
}

/// `recon[d] = x[d] - recon[d]`.
pub fn residual(x: &[f32], recon: &mut [f32]) {
    recon.iter_mut().zip(x).for_each(|(r, &x)| *r = x - *r);
}

/// The coefficients of one Adam step; see [`crate::optim`] for the equation.
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
    /// `ε`, added to the bias-corrected root (Adam) or to the raw root (SparseAdam).
    pub eps: f32,
    /// `1 - lr · weight_decay`.
    pub keep: f32,
}

/// The decay of stored moments over n steps without gradient: `β1^n` and `β2^n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentDecay {
    /// Factor of the first moment, `β1^n`.
    pub m: f32,
    /// Factor of the second moment, `β2^n`.
    pub v: f32,
}

impl MomentDecay {
    /// No decay: the moments were written by the last step.
    pub const NONE: MomentDecay = MomentDecay { m: 1.0, v: 1.0 };
}

/// Moments below 2⁻¹⁰⁰ become 0. They would move nothing, and CPUs are a hundred times slower on the subnormal numbers
/// that moments without gradient decay to.
pub const TINY: f32 = f32::from_bits((127 - 100) << 23);

#[inline]
fn flush(x: f32) -> f32 {
    if x.abs() < TINY { 0.0 } else { x }
}

/// One Adam step of a row, or of a chunk of it, with weights `w`, moments `m` and `v` and gradient `g`:
///
/// `m ← decay.m · m`, `v ← decay.v · v`, `m ← m + (1-β1)(g - m)`, `v ← β2 v + (1-β2) g²`, both 0 below [`TINY`],
/// `w ← keep · w - step_size · m / (√v · inv_sqrt_bias2 + ε)`.
///
/// An empty `g` means a gradient of zero; `m` and `v` then keep their stored values, and the next `decay` has one step
/// more. Adds the squares of the new `w` to `square`, the 16 partial sums of `w · w`; all chunks but the last have a
/// multiple of 16 values. The SIMD twins prefetch the rows in `_ahead`.
pub fn adam(
    [w, m, v]: [&mut [f32]; 3],
    g: &[f32],
    decay: MomentDecay,
    s: &AdamStep,
    _ahead: [&[f32]; 3],
    square: &mut [f32; LANES],
) {
    for i in 0..w.len() {
        let (mut m1, mut v1, g1) = (decay.m * m[i], decay.v * v[i], g.get(i).copied().unwrap_or(0.0));
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

/// Terms that are still to be added to a gradient: `weight_coef · w + Σ_j coef[j] · rows[index[j]][first..]`, in this
/// order.
#[derive(Clone, Copy, Debug)]
pub struct GradientTerms<'a> {
    /// Coefficient of the weights themselves.
    pub weight_coef: f32,
    /// Coefficients of the rows `[n]`.
    pub coef: &'a [f32],
    /// Indices of the rows `[n]`.
    pub index: &'a [u32],
    /// All rows `[_, dim]`.
    pub rows: &'a [f32],
    /// The column of `rows` that the first value of the gradient belongs to.
    pub first: usize,
    /// Values a row.
    pub dim: usize,
}

/// [`adam`] with the gradient `g + terms`; `g` is scratch afterwards.
pub fn adam_with_terms(
    row: [&mut [f32]; 3],
    g: &mut [f32],
    terms: &GradientTerms,
    decay: MomentDecay,
    s: &AdamStep,
    ahead: [&[f32]; 3],
    square: &mut [f32; LANES],
) {
    let GradientTerms { weight_coef, coef, index, rows, first, dim } = *terms;
    add_scaled(g, weight_coef, row[0]);
    let columns = g.len();
    for (&c, &i) in coef.iter().zip(index) {
        add_scaled(g, c, &rows[i as usize * dim + first..][..columns]);
    }
    adam(row, g, decay, s, ahead, square);
}

/// An integer whose order is the order of the values.
#[inline]
pub fn order_key(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The value of an [`order_key`].
#[inline]
pub fn from_order_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key })
}

/// The `k`-th largest of values, `1 ≤ k ≤ values.len()`, none of them NaN; zeros of both signs are equal.
pub fn kth_largest(values: &[f32], k: usize) -> f32 {
    // At least `k` values reach the lower end, fewer than `k` the upper end.
    let (mut low, mut high) = (order_key(f32::NEG_INFINITY), order_key(f32::INFINITY) + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let t = from_order_key(middle);
        let enough = values.iter().filter(|&&v| v >= t).count() >= k;
        *(if enough { &mut low } else { &mut high }) = middle;
    }
    from_order_key(low)
}

/// Appends `(base + i, row[i])` for every `row[i] > threshold` to `index` and `value`, from `len` on. Returns the new
/// length.
///
/// `index` and `value` have room for `row.len()` more values, rounded up to a multiple of 16.
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
