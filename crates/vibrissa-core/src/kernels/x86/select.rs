//! Selection: the values above a threshold, and the k-th largest value.

use super::super::scalar::{LANES, from_order_key, order_key};
use super::lanes::Lanes;

#[inline(always)]
pub unsafe fn append_above_body<S: Lanes>(
    row: &[f32],
    base: u32,
    threshold: f32,
    index: &mut [u32],
    value: &mut [f32],
    mut len: usize,
) -> usize {
    let room = len + row.len().next_multiple_of(LANES);
    assert!(index.len() >= room && value.len() >= room, "room for all values");
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

/// Reduces the lanes of `v` by `of`, half by half.
#[inline(always)]
unsafe fn reduce<S: Lanes>(v: S, of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: there are as many values as lanes.
    unsafe { v.store(lanes.as_mut_ptr()) };
    for half in [8, 4, 2, 1] {
        (0..half).for_each(|i| lanes[i] = of(lanes[i], lanes[i + half]));
    }
    lanes[0]
}

/// Values of a block: eight vectors.
const BLOCK: usize = 8 * LANES;

/// Number of values of a block that are at least `t`.
#[inline(always)]
unsafe fn count_reaching<S: Lanes>(block: &[f32; BLOCK], t: S) -> u32 {
    let mut n = 0;
    for i in 0..8 {
        // SAFETY: there are eight vectors.
        n += unsafe { S::load(block.as_ptr().add(i * LANES)).count_at_least(t) };
    }
    n
}

/// Bisects the order keys until a value is found that exactly `k` values reach: about ten passes over the values, none
/// of which is moved.
#[inline(always)]
pub unsafe fn kth_largest_body<S: Lanes>(values: &[f32], k: usize) -> f32 {
    assert!((1..=values.len()).contains(&k));
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut last = [f32::NEG_INFINITY; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: every load stays within a block.
    unsafe {
        let (mut least, mut most) = (S::splat(f32::INFINITY), S::splat(f32::NEG_INFINITY));
        for block in blocks.iter().chain([&last]) {
            for i in 0..8 {
                let v = S::load(block.as_ptr().add(i * LANES));
                most = most.max(v);
                least = least.min(v.keep_at_least(S::splat(f32::MIN), S::splat(f32::INFINITY)));
            }
        }
        let least = reduce(least, |a, b| if b < a { b } else { a });
        let most = reduce(most, |a, b| if b > a { b } else { a });
        // At least `k` values reach the lower end, fewer than `k` the upper end.
        let (mut low, mut high) = (order_key(f32::NEG_INFINITY), order_key(most) + 1);
        let mut middle = order_key(least);
        while low < middle && middle < high {
            let t = from_order_key(middle);
            let mut n = count_reaching(&last, S::splat(t)) as usize;
            for block in blocks {
                n += count_reaching(block, S::splat(t)) as usize;
            }
            if n == k {
                let mut next = S::splat(most);
                for block in blocks.iter().chain([&last]) {
                    for i in 0..8 {
                        let v = S::load(block.as_ptr().add(i * LANES));
                        next = next.min(v.keep_at_least(S::splat(t), S::splat(most)));
                    }
                }
                return reduce(next, |a, b| if b < a { b } else { a });
            }
            (low, high) = if n > k { (middle, high) } else { (low, middle) };
            middle = low + (high - low) / 2;
        }
        from_order_key(low)
    }
}
