//! The filters on one line of an image, their transposes, and the distance at each place of a line. Scales, borders and
//! means are in `perceptual.rs`, which passes lines with a margin.
//!
//! Every loop runs over whole blocks of columns without a condition, so that the compiler vectorises it.

/// Number of pixels that a filter reaches to each side.
pub const REACH: usize = 3;
/// Number of taps of a filter.
pub const TAPS: usize = 2 * REACH + 1;
/// Number of columns of a block. Lines are padded to a multiple of it.
pub const BLOCK: usize = 8;
/// Number of separable filters.
pub const FILTERS: usize = 7;
/// c² of the energy.
const FLOOR: f32 = 0.01 * 0.01;
/// C of the distance.
const MASK: f32 = 0.05 * 0.05;
/// 1 / √8.
const INV_SQRT_8: f32 = 0.353_553_4;

/// e^{-t²} at t = 0, 0.7, 1.4, 2.1.
const GAUSSIAN: [f64; REACH + 1] = [1.0, 0.6126263941844161, 0.140858420921045, 0.012155178329914935];
const SPACING: f64 = 0.7;
/// The gains of G2 and H2 over the largest energy of an edge from 0 to 1.
const G: f64 = 0.9213 / 2.20939;
const H: f64 = 0.9780 / 2.20939;
/// k of G.
const MEAN: f64 = {
    let (mut sum, mut squares, mut j) = (GAUSSIAN[0], 0.0, 1);
    while j <= REACH {
        let t = SPACING * j as f64;
        sum += 2.0 * GAUSSIAN[j];
        squares += 2.0 * t * t * GAUSSIAN[j];
        j += 1;
    }
    2.0 * squares / sum
};
const CUBIC: f64 = 2.254;

/// Taps at distance 0 to 3 of `gain (a + bt + ct² + dt³) e^{-t²}`; the other side is their mirror image, negated where
/// the polynomial is odd.
const fn taps(gain: f64, polynomial: [f64; 4]) -> [f32; REACH + 1] {
    let (mut out, mut j) = ([0.0; REACH + 1], 0);
    while j <= REACH {
        let t = SPACING * j as f64;
        let p = polynomial[0] + t * (polynomial[1] + t * (polynomial[2] + t * polynomial[3]));
        out[j] = (gain * p * GAUSSIAN[j]) as f32;
        j += 1;
    }
    out
}

const EVEN_0: [f64; 4] = [1.0, 0.0, 0.0, 0.0];
const ODD_1: [f64; 4] = [0.0, 1.0, 0.0, 0.0];
const EVEN_2: [f64; 4] = [-MEAN, 0.0, 2.0, 0.0];
const EVEN_Q: [f64; 4] = [-CUBIC / 3.0, 0.0, 1.0, 0.0];
const ODD_3: [f64; 4] = [0.0, -CUBIC, 0.0, 1.0];

/// Profiles down the columns: 1, t, 2t² - k, t³ - 2.254t.
const DOWN: [[f32; REACH + 1]; 4] = [taps(1.0, EVEN_0), taps(1.0, ODD_1), taps(1.0, EVEN_2), taps(1.0, ODD_3)];
/// `t² - 2.254/3 = (2t² - k)/2 + REST`.
const REST: f64 = MEAN / 2.0 - CUBIC / 3.0;
/// Profiles along the lines, with their gains.
const G_0: [f32; REACH + 1] = taps(G, EVEN_0);
const G_1: [f32; REACH + 1] = taps(G, ODD_1);
const G_2: [f32; REACH + 1] = taps(G, EVEN_2);
const H_0: [f32; REACH + 1] = taps(H, EVEN_0);
const H_1_OF_2: [f32; REACH + 1] = taps(0.5 * H, ODD_1);
const H_1_OF_0: [f32; REACH + 1] = taps(REST * H, ODD_1);
const H_Q: [f32; REACH + 1] = taps(H, EVEN_Q);
const H_3: [f32; REACH + 1] = taps(H, ODD_3);

/// `Σ_j taps[j] (p(j) + p(-j))`: a filter with an even profile, `p(0)` counted once.
#[inline(always)]
fn even(taps: &[f32; REACH + 1], p: impl Fn(usize) -> f32) -> f32 {
    taps[0] * p(3) + taps[1] * (p(2) + p(4)) + taps[2] * (p(1) + p(5)) + taps[3] * (p(0) + p(6))
}

/// `Σ_j taps[j] (p(j) - p(-j))`: a filter with an odd profile.
#[inline(always)]
fn odd(taps: &[f32; REACH + 1], p: impl Fn(usize) -> f32) -> f32 {
    taps[1] * (p(4) - p(2)) + taps[2] * (p(5) - p(1)) + taps[3] * (p(6) - p(0))
}

/// `N` values from `at` on, in each of `L` lines that lie `stride` apart.
#[inline(always)]
fn blocks<const L: usize, const N: usize>(lines: &[f32], stride: usize, at: usize) -> [&[f32; N]; L] {
    std::array::from_fn(|i| lines[i * stride + at..].first_chunk().expect("lines have a margin"))
}

/// The seven blocks that start at the first seven places.
#[inline(always)]
fn shifts(line: &[f32; BLOCK + TAPS - 1]) -> [&[f32; BLOCK]; TAPS] {
    #[inline(always)]
    fn from<const J: usize>(line: &[f32; BLOCK + TAPS - 1]) -> &[f32; BLOCK] {
        line.split_at(J).1.first_chunk().expect("a block and six more")
    }
    [
        from::<0>(line),
        from::<1>(line),
        from::<2>(line),
        from::<3>(line),
        from::<4>(line),
        from::<5>(line),
        from::<6>(line),
    ]
}

/// Writes a block to each of `L` lines.
#[inline(always)]
fn store<const L: usize>(lines: &mut [f32], stride: usize, at: usize, blocks: &[[f32; BLOCK]; L]) {
    for (i, block) in blocks.iter().enumerate() {
        lines[i * stride + at..][..BLOCK].copy_from_slice(block);
    }
}

/// Applies the four profiles down the columns of seven lines: `lines [7, stride]`, `out [4, stride]`.
#[inline(never)]
pub fn filter_down(lines: &[f32], stride: usize, out: &mut [f32]) {
    for at in (0..stride).step_by(BLOCK) {
        let lines: [&[f32; BLOCK]; TAPS] = blocks(lines, stride, at);
        let mut block = [[0.0; BLOCK]; 4];
        for l in 0..BLOCK {
            let p = |j: usize| lines[j][l];
            block[0][l] = even(&DOWN[0], p);
            block[1][l] = odd(&DOWN[1], p);
            block[2][l] = even(&DOWN[2], p);
            block[3][l] = odd(&DOWN[3], p);
        }
        store(out, stride, at, &block);
    }
}

/// Applies the seven separable filters at `n` places of a line: `down [4, stride]`, `out [7, n + 16]`. The filters are
/// ordered by the powers of the coordinates along and down: 20, 11, 02 (of G), 30, 21, 12, 03 (of H).
#[inline(never)]
pub fn filter_along(down: &[f32], stride: usize, out: &mut [f32], n: usize) {
    for at in (0..n).step_by(BLOCK) {
        let [a, b, c, d] = blocks(down, stride, at).map(shifts);
        let mut block = [[0.0; BLOCK]; FILTERS];
        for l in 0..BLOCK {
            block[0][l] = even(&G_2, |j| a[j][l]);
            block[1][l] = odd(&G_1, |j| b[j][l]);
            block[2][l] = even(&G_0, |j| c[j][l]);
            block[3][l] = odd(&H_3, |j| a[j][l]);
            block[4][l] = even(&H_Q, |j| b[j][l]);
            block[5][l] = odd(&H_1_OF_2, |j| c[j][l]) + odd(&H_1_OF_0, |j| a[j][l]);
            block[6][l] = even(&H_0, |j| d[j][l]);
        }
        store(out, n + 2 * BLOCK, BLOCK + at, &block);
    }
}

/// The responses `([g], [h])` at 0°, 45°, 90°, 135° from those of the separable filters.
#[inline(always)]
fn steer([g20, g11, g02, h30, h21, h12, h03]: [f32; FILTERS]) -> ([f32; 4], [f32; 4]) {
    let (half, cross) = (0.5 * (g20 + g02), 2.0 * g11);
    let (along, across) = (INV_SQRT_8 * (h30 + 3.0 * h12), INV_SQRT_8 * (3.0 * h21 + h03));
    ([g20, half - cross, g02, half + cross], [h30, along - across, h03, along + across])
}

/// The transpose of [`steer`].
#[inline(always)]
fn steer_transposed(g: [f32; 4], h: [f32; 4]) -> [f32; FILTERS] {
    let (half, cross) = (0.5 * (g[1] + g[3]), 2.0 * (g[3] - g[1]));
    let (along, across) = (INV_SQRT_8 * (h[1] + h[3]), INV_SQRT_8 * (h[3] - h[1]));
    [g[0] + half, cross, g[2] + half, h[0] + along, 3.0 * across, 3.0 * along, h[2] + across]
}

/// Writes the distance at each place of a line, summed over the orientations.
///
/// With `E = m²`, `1 - (2 m_x m_y + C) / (E_x + E_y + C) = (E_x + E_y - 2 √(E_x E_y)) / (E_x + E_y + C)`: one root, and
/// exactly 0 for equal energies, since the root of a square is exact.
#[inline(never)]
pub fn distances(response_x: &[f32], response_y: &[f32], line: &mut [f32]) {
    let wide = line.len() + 2 * BLOCK;
    for (k, line) in line.chunks_exact_mut(BLOCK).enumerate() {
        let x: [&[f32; BLOCK]; FILTERS] = blocks(response_x, wide, (k + 1) * BLOCK);
        let y: [&[f32; BLOCK]; FILTERS] = blocks(response_y, wide, (k + 1) * BLOCK);
        for l in 0..BLOCK {
            let (gx, hx) = steer(std::array::from_fn(|f| x[f][l]));
            let (gy, hy) = steer(std::array::from_fn(|f| y[f][l]));
            let mut total = 0.0;
            for o in 0..4 {
                let ex = gx[o] * gx[o] + hx[o] * hx[o] + FLOOR;
                let ey = gy[o] * gy[o] + hy[o] * hy[o] + FLOOR;
                let sum = ex + ey;
                total += (sum - 2.0 * (ex * ey).sqrt()) / (sum + MASK);
            }
            line[l] = total;
        }
    }
}

/// [`distances`], and the derivative with respect to the filter responses of y, times `factor`, written over them.
///
/// `∂/∂E_y = (1 - √(E_x / E_y) - distance) / (E_x + E_y + C)`.
#[inline(never)]
pub fn distances_and_derivatives(response_x: &[f32], response_y: &mut [f32], line: &mut [f32], factor: f32) {
    let wide = line.len() + 2 * BLOCK;
    for (k, line) in line.chunks_exact_mut(BLOCK).enumerate() {
        let x: [&[f32; BLOCK]; FILTERS] = blocks(response_x, wide, (k + 1) * BLOCK);
        let y: [&[f32; BLOCK]; FILTERS] = blocks(response_y, wide, (k + 1) * BLOCK);
        let mut block = [[0.0; BLOCK]; FILTERS];
        for l in 0..BLOCK {
            let (gx, hx) = steer(std::array::from_fn(|f| x[f][l]));
            let (mut gy, mut hy) = steer(std::array::from_fn(|f| y[f][l]));
            let mut total = 0.0;
            for o in 0..4 {
                let ex = gx[o] * gx[o] + hx[o] * hx[o] + FLOOR;
                let ey = gy[o] * gy[o] + hy[o] * hy[o] + FLOOR;
                let (sum, root) = (ex + ey, (ex * ey).sqrt());
                let inverse = 1.0 / (sum + MASK);
                let distance = (sum - 2.0 * root) * inverse;
                total += distance;
                let c = 2.0 * factor * ((1.0 - distance) - root / ey) * inverse;
                gy[o] *= c;
                hy[o] *= c;
            }
            line[l] = total;
            let derivative = steer_transposed(gy, hy);
            for f in 0..FILTERS {
                block[f][l] = derivative[f];
            }
        }
        store(response_y, wide, (k + 1) * BLOCK, &block);
    }
}

/// The transpose of [`filter_along`]: `along [7, n + 16]`, zero outside the n places, `out [4, stride]`.
#[inline(never)]
pub fn filter_along_transposed(along: &[f32], n: usize, out: &mut [f32], stride: usize) {
    for at in (0..stride).step_by(BLOCK) {
        // Place p of `out` is column p - 3 of the image, and the seven columns around it contribute.
        let from = at + BLOCK - 2 * REACH;
        let [g20, g11, g02, h30, h21, h12, h03] = blocks(along, n + 2 * BLOCK, from).map(shifts);
        let mut block = [[0.0; BLOCK]; 4];
        for l in 0..BLOCK {
            let even_part = even(&G_2, |j| g20[j][l]);
            block[0][l] = even_part - (odd(&H_3, |j| h30[j][l]) + odd(&H_1_OF_0, |j| h12[j][l]));
            block[1][l] = even(&H_Q, |j| h21[j][l]) - odd(&G_1, |j| g11[j][l]);
            block[2][l] = even(&G_0, |j| g02[j][l]) - odd(&H_1_OF_2, |j| h12[j][l]);
            block[3][l] = even(&H_0, |j| h03[j][l]);
        }
        store(out, stride, at, &block);
    }
}

/// Adds the transpose of [`filter_down`]: `down [4, stride]`, `lines [7, stride]`.
#[inline(never)]
pub fn filter_down_transposed(down: &[f32], stride: usize, lines: &mut [f32]) {
    for at in (0..stride).step_by(BLOCK) {
        let [a, b, c, d]: [&[f32; BLOCK]; 4] = blocks(down, stride, at);
        let mut block = [[0.0; BLOCK]; TAPS];
        for l in 0..BLOCK {
            let even: [f32; REACH + 1] = std::array::from_fn(|j| DOWN[0][j] * a[l] + DOWN[2][j] * c[l]);
            let odd: [f32; REACH + 1] = std::array::from_fn(|j| DOWN[1][j] * b[l] + DOWN[3][j] * d[l]);
            for j in 0..TAPS {
                let (e, o) = (even[j.abs_diff(REACH)], odd[j.abs_diff(REACH)]);
                block[j][l] = if j < REACH { e - o } else { e + o };
            }
        }
        for (j, block) in block.iter().enumerate() {
            let line = &mut lines[j * stride + at..][..BLOCK];
            for l in 0..BLOCK {
                line[l] += block[l];
            }
        }
    }
}

/// The sum of a line, in eight partial sums.
pub fn sum(line: &[f32]) -> f64 {
    let mut lanes = [0.0f32; BLOCK];
    let chunks = line.chunks_exact(BLOCK);
    let rest = chunks.remainder();
    for chunk in chunks {
        for l in 0..BLOCK {
            lanes[l] += chunk[l];
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += v;
    }
    lanes.iter().map(|&v| f64::from(v)).sum()
}

/// `to += c * from`.
pub fn add_scaled(to: &mut [f32], c: f32, from: &[f32]) {
    let from = &from[..to.len()];
    for i in 0..to.len() {
        to[i] += c * from[i];
    }
}
