//! A vector of 16 f32 lanes: one AVX-512 register, or two AVX2 registers.

use super::super::scalar::{LANES, TINY};
use std::arch::x86_64::*;

/// Sixteen f32 lanes; lane i holds partial sum i of a dot product.
///
/// # Safety
/// Methods may run only on a CPU with the features of the implementing type, and pointers must be valid for 16 values
/// (`load_n`, `store_n`: `n < 16` values).
pub trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn load_n(p: *const f32, n: usize) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn store_n(self, p: *mut f32, n: usize);
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// 0 in lanes whose size is below [`TINY`].
    unsafe fn flush(self) -> Self;
    /// See [`super::super::scalar::fold`].
    unsafe fn fold(self) -> f32;
    /// The first step of the fold: `s[i] + s[i + 8]`.
    unsafe fn halves(self) -> __m256;
    /// The smaller value of each lane; no lane is NaN.
    unsafe fn min(self, b: Self) -> Self;
    /// The larger value of each lane; no lane is NaN.
    unsafe fn max(self, b: Self) -> Self;
    /// Keeps the lanes that are at least those of `t`, and takes those of `other` elsewhere.
    unsafe fn keep_at_least(self, t: Self, other: Self) -> Self;
    /// Number of lanes that are at least those of `t`.
    unsafe fn count_at_least(self, t: Self) -> u32;
    /// Writes the first `n` lanes that are `> threshold`, and their indices counted from `base`, without gaps. Returns
    /// their number.
    unsafe fn pack_above(self, threshold: f32, base: u32, n: usize, index: *mut u32, value: *mut f32) -> usize;
}

#[inline(always)]
unsafe fn fold8(s: __m256) -> f32 {
    // SAFETY: the caller's CPU has AVX.
    unsafe {
        let s = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps::<1>(s));
        let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)))
    }
}

/// Four folds at once, each in the order of [`Lanes::fold`].
#[inline(always)]
pub unsafe fn fold4<S: Lanes>(v: [S; 4]) -> __m128 {
    // SAFETY: the caller's CPU has the features of `S`, which include AVX.
    unsafe {
        let [a, b, c, d] = [v[0].halves(), v[1].halves(), v[2].halves(), v[3].halves()];
        // [a0..a3 | b0..b3] of s[i] + s[i + 4], likewise c and d.
        let ab = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        let cd = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
        // s[i] + s[i + 2]: [a0 a1 c0 c1 | b0 b1 d0 d1].
        let (x, y) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        let low = _mm256_castpd_ps(_mm256_unpacklo_pd(x, y));
        let sum = _mm256_add_ps(low, _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
        // s[0] + s[1]: [a c . . | b d . .].
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(sum, sum);
        let sum = _mm256_add_ps(even, _mm256_shuffle_ps::<0b11_01_11_01>(sum, sum));
        _mm_unpacklo_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum))
    }
}

/// 16 lanes in one AVX-512 register.
#[derive(Clone, Copy)]
pub struct Lanes512(__m512);

// SAFETY (whole block): only entered from functions compiled for avx512f, after `Isa` proved it.
impl Lanes for Lanes512 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Lanes512(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Lanes512(_mm512_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        unsafe { Lanes512(_mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Lanes512(_mm512_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { Lanes512(_mm512_sub_ps(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { Lanes512(_mm512_mul_ps(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { Lanes512(_mm512_div_ps(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { Lanes512(_mm512_sqrt_ps(self.0)) }
    }
    #[inline(always)]
    unsafe fn flush(self) -> Self {
        unsafe {
            let stays = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(self.0), _mm512_set1_ps(TINY));
            Lanes512(_mm512_maskz_mov_ps(stays, self.0))
        }
    }
    #[inline(always)]
    unsafe fn fold(self) -> f32 {
        unsafe { fold8(self.halves()) }
    }
    #[inline(always)]
    unsafe fn halves(self) -> __m256 {
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
            _mm256_add_ps(_mm512_castps512_ps256(self.0), high)
        }
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        unsafe { Lanes512(_mm512_min_ps(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        unsafe { Lanes512(_mm512_max_ps(self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn keep_at_least(self, t: Self, other: Self) -> Self {
        unsafe { Lanes512(_mm512_mask_mov_ps(other.0, _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, t.0), self.0)) }
    }
    #[inline(always)]
    unsafe fn count_at_least(self, t: Self) -> u32 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, t.0).count_ones() }
    }
    #[inline(always)]
    unsafe fn pack_above(self, threshold: f32, base: u32, n: usize, index: *mut u32, value: *mut f32) -> usize {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_set1_ps(threshold)) & ((1u32 << n) - 1) as u16;
            if mask == 0 {
                return 0;
            }
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(base as i32));
            _mm512_storeu_ps(value, _mm512_maskz_compress_ps(mask, self.0));
            _mm512_storeu_si512(index.cast(), _mm512_maskz_compress_epi32(mask, numbers));
            mask.count_ones() as usize
        }
    }
}

/// 16 lanes in two AVX2 registers.
#[derive(Clone, Copy)]
pub struct Lanes256(__m256, __m256);

#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    // SAFETY: the caller's CPU has AVX2.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

// SAFETY (whole block): only entered from functions compiled for avx2 and fma, after `Isa` proved it.
impl Lanes for Lanes256 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Lanes256(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Lanes256(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        unsafe {
            let low = _mm256_maskload_ps(p, mask8(n.min(8)));
            let high = if n > 8 { _mm256_maskload_ps(p.wrapping_add(8), mask8(n - 8)) } else { _mm256_setzero_ps() };
            Lanes256(low, high)
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        unsafe {
            _mm256_maskstore_ps(p, mask8(n.min(8)), self.0);
            if n > 8 {
                _mm256_maskstore_ps(p.add(8), mask8(n - 8), self.1);
            }
        }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Lanes256(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { Lanes256(_mm256_sub_ps(self.0, b.0), _mm256_sub_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { Lanes256(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { Lanes256(_mm256_div_ps(self.0, b.0), _mm256_div_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { Lanes256(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }
    #[inline(always)]
    unsafe fn flush(self) -> Self {
        unsafe {
            let size = |x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
            let stays = |x| _mm256_cmp_ps::<_CMP_NLT_UQ>(size(x), _mm256_set1_ps(TINY));
            Lanes256(_mm256_and_ps(stays(self.0), self.0), _mm256_and_ps(stays(self.1), self.1))
        }
    }
    #[inline(always)]
    unsafe fn fold(self) -> f32 {
        unsafe { fold8(self.halves()) }
    }
    #[inline(always)]
    unsafe fn halves(self) -> __m256 {
        unsafe { _mm256_add_ps(self.0, self.1) }
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        unsafe { Lanes256(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        unsafe { Lanes256(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn keep_at_least(self, t: Self, other: Self) -> Self {
        unsafe {
            let one = |a, t, o| _mm256_blendv_ps(o, a, _mm256_cmp_ps::<_CMP_GE_OQ>(a, t));
            Lanes256(one(self.0, t.0, other.0), one(self.1, t.1, other.1))
        }
    }
    #[inline(always)]
    unsafe fn count_at_least(self, t: Self) -> u32 {
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.0, t.0)) as u32;
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(self.1, t.1)) as u32;
            (low | high << 8).count_ones()
        }
    }
    #[inline(always)]
    unsafe fn pack_above(self, threshold: f32, base: u32, n: usize, index: *mut u32, value: *mut f32) -> usize {
        unsafe {
            let t = _mm256_set1_ps(threshold);
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, t)) as u32;
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.1, t)) as u32;
            let mut mask = (low | high << 8) & ((1u32 << n) - 1);
            if mask == 0 {
                return 0;
            }
            let mut lanes = [0.0f32; LANES];
            self.store(lanes.as_mut_ptr());
            let mut count = 0;
            while mask != 0 {
                let i = mask.trailing_zeros();
                *index.add(count) = base + i;
                *value.add(count) = lanes[i as usize];
                count += 1;
                mask &= mask - 1;
            }
            count
        }
    }
}
