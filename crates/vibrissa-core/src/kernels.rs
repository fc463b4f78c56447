//! Arithmetic kernels and their dispatch to an instruction set.
//!
//! `scalar.rs` specifies every kernel; `x86.rs` has the AVX2, AVX-512, bf16 and AMX twins. The CPU is probed once, and
//! each method of [`Isa`] calls the scalar function or its twin. All give the same bits, so the choice changes the
//! speed only. `VIBRISSA_KERNELS=scalar|avx2|avx512|avx512bf16|amx` selects one.

// A kernel takes its slices, their shapes and its coefficients one by one: a struct for each would hide what it reads
// and writes.
#![allow(clippy::too_many_arguments)]

mod per_thread;
pub mod prefilter;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use per_thread::PerThread;
use prefilter::{CacheLine, Hits, PrefilterQuery, PrefilterWeights};
pub use scalar::{AdamStep, GradientTerms, LANES, MomentDecay};
use std::sync::OnceLock;

/// An instruction set that this CPU has. The value is the proof of that: only [`Isa::available`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(InstructionSet);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InstructionSet {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512, and its bf16 products in the prefilter.
    #[cfg(target_arch = "x86_64")]
    Bf16,
    /// AVX-512, and AMX in the prefilter.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Isa {
    /// The plain loops of the specification.
    pub const SCALAR: Isa = Isa(InstructionSet::Scalar);

    /// The instruction sets that this CPU has, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
            {
                all.push(Isa(InstructionSet::Avx2));
                if ["avx512f", "avx512bw", "avx512dq", "avx512vl"].iter().all(|f| has_avx512(f)) {
                    all.push(Isa(InstructionSet::Avx512));
                    if x86::bf16::available() {
                        all.push(Isa(InstructionSet::Bf16));
                        if x86::amx::available() {
                            all.push(Isa(InstructionSet::Amx));
                        }
                    }
                }
            }
        }
        all
    }

    /// The instruction set in use: the one that `VIBRISSA_KERNELS` names if this CPU has it, else the fastest.
    pub fn current() -> Isa {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let all = Isa::available();
            let wanted = std::env::var("VIBRISSA_KERNELS").unwrap_or_default();
            let fastest = || all.iter().rfind(|isa| isa.is_faster()).expect("scalar is always available");
            *all.iter().find(|isa| isa.name() == wanted).unwrap_or_else(fastest)
        })
    }

    /// `scalar`, `avx2`, `avx512`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        match self.0 {
            InstructionSet::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Amx => "amx",
        }
    }

    /// True if it is faster on this CPU than the instruction sets before it in [`Isa::available`].
    fn is_faster(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 != InstructionSet::Bf16 || x86::bf16::is_faster_than_f32();
        #[cfg(not(target_arch = "x86_64"))]
        return true;
    }

    /// True if [`Isa::prefilter`] is faster than [`Isa::dots`].
    pub fn has_prefilter(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, InstructionSet::Bf16 | InstructionSet::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        _ => is_x86_feature_detected!("avx512vl"),
    }
}

macro_rules! dispatch {
    ($isa:expr, $name:ident ( $($arg:expr),* )) => {
        match $isa.0 {
            InstructionSet::Scalar => scalar::$name($($arg),*),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` with this value proves that the CPU has these features.
            InstructionSet::Avx2 => unsafe { x86::avx2::$name($($arg),*) },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            InstructionSet::Avx512 | InstructionSet::Bf16 | InstructionSet::Amx => unsafe {
                x86::avx512::$name($($arg),*)
            },
        }
    };
}

/// Prefetches values that will be read. Changes no value.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Prefetches values that will be written. Changes no value.
#[inline]
pub fn prefetch_to_write<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch_to_write(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Asks the operating system for large pages under a range `(start, bytes)` of memory, which saves address
/// translations. Changes no value; a refusal is ignored.
pub fn advise_large_pages((start, bytes): (*const u8, usize)) {
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)]
    {
        const LARGE_PAGE: usize = crate::matrix::Aligned::LARGE_PAGE;
        // Since Linux 6.1; libc names it for some targets only.
        const MADV_COLLAPSE: libc::c_int = 25;
        let first = start.addr().next_multiple_of(LARGE_PAGE);
        let end = (start.addr() + bytes) / LARGE_PAGE * LARGE_PAGE;
        if first < end {
            let from = start.with_addr(first).cast_mut().cast();
            for advice in [libc::MADV_HUGEPAGE, MADV_COLLAPSE] {
                // SAFETY: neither advice changes the contents of any memory, whatever the address.
                unsafe { libc::madvise(from, end - first, advice) };
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

/// Number of f32 values of scratch that [`Isa::dots`] needs for `rows` rows of `dim` values.
pub fn dots_scratch_len(rows: usize, dim: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    return x86::dots_scratch_len(rows, dim);
    #[cfg(not(target_arch = "x86_64"))]
    return 0;
}

impl Isa {
    /// See [`scalar::dot`].
    #[inline]
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        dispatch!(self, dot(a, b))
    }

    /// See [`scalar::dots`].
    #[inline]
    pub fn dots(self, x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], scratch: &mut [f32]) {
        dispatch!(self, dots(x, w, bias, dim, out, scratch))
    }

    /// See [`scalar::round_batch_block`].
    pub fn round_batch_block(self, x: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` with this value proves that the CPU has these features.
            InstructionSet::Bf16 | InstructionSet::Amx => unsafe {
                x86::prefilter::round_batch_block(x, dim, lines, squares)
            },
            _ => scalar::round_batch_block(x, dim, lines, squares),
        }
    }

    /// See [`scalar::round_weights`].
    pub fn round_weights(self, w: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            InstructionSet::Bf16 | InstructionSet::Amx => unsafe {
                x86::prefilter::round_weights(w, dim, lines, squares)
            },
            _ => scalar::round_weights(w, dim, lines, squares),
        }
    }

    /// See [`scalar::prefilter`]: finds the latents whose exact pre-activations are needed. The SIMD twins use
    /// `scratch`.
    pub fn prefilter(self, query: &PrefilterQuery, w: PrefilterWeights, hits: &mut Hits, scratch: &mut Vec<CacheLine>) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            InstructionSet::Bf16 => unsafe {
                x86::prefilter::prefilter(&x86::bf16::MULTIPLIER, query, w, hits, scratch)
            },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` with this value proves that the CPU has AMX and that the system lets this process use
            // it.
            InstructionSet::Amx => unsafe { x86::prefilter::prefilter(&x86::amx::MULTIPLIER, query, w, hits, scratch) },
            _ => scalar::prefilter(query, w, hits, scratch),
        }
    }

    /// See [`scalar::gather_dots`].
    #[inline]
    pub fn gather_dots(self, a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
        dispatch!(self, gather_dots(a, index, rows, out))
    }

    /// [`Isa::add_columns`] of all columns: rows are as long as `out`.
    #[inline]
    pub fn add_rows(self, out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32]) {
        let dim = out.len();
        self.add_columns(out, 0, coef, index, rows, dim);
    }

    /// See [`scalar::add_columns`].
    #[inline]
    pub fn add_columns(self, out: &mut [f32], first: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
        dispatch!(self, add_columns(out, first, coef, index, rows, dim))
    }

    /// See [`scalar::add_combinations`].
    #[inline]
    pub fn add_combinations(self, out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
        dispatch!(self, add_combinations(out, coef, index, rows, dim))
    }

    /// See [`scalar::dots_and_add`].
    #[inline]
    pub fn dots_and_add(
        self,
        a: &[f32],
        coef: &[f32],
        index: &[u32],
        rows: &[f32],
        dots: &mut [f32],
        out: &mut [f32],
        accumulate: bool,
    ) {
        dispatch!(self, dots_and_add(a, coef, index, rows, dots, out, accumulate))
    }

    /// See [`scalar::pre_act_gradients`].
    #[inline]
    pub fn pre_act_gradients(self, latents: &[f32], factor: f32, offset: f32, d: &mut [f32]) -> [f32; 2] {
        dispatch!(self, pre_act_gradients(latents, factor, offset, d))
    }

    /// See [`scalar::add_scaled`].
    #[inline]
    pub fn add_scaled(self, out: &mut [f32], c: f32, row: &[f32]) {
        dispatch!(self, add_scaled(out, c, row))
    }

    /// See [`scalar::scale`].
    #[inline]
    pub fn scale(self, w: &mut [f32], c: f32) {
        dispatch!(self, scale(w, c))
    }

    /// See [`scalar::residual`].
    #[inline]
    pub fn residual(self, x: &[f32], recon: &mut [f32]) {
        dispatch!(self, residual(x, recon))
    }

    /// [`scalar::adam`] of a whole row `[w, m, v]`. Returns `w · w` of the new weights.
    #[inline]
    pub fn adam(self, row: [&mut [f32]; 3], g: &[f32], decay: MomentDecay, s: &AdamStep, ahead: [&[f32]; 3]) -> f32 {
        let mut square = [0.0; LANES];
        self.adam_chunk(row, g, decay, s, ahead, &mut square);
        scalar::fold(square)
    }

    /// See [`scalar::adam`]: a row or a chunk of it. Rows in `ahead`, at most as long as this one, are prefetched for
    /// writing.
    #[inline]
    pub fn adam_chunk(
        self,
        row: [&mut [f32]; 3],
        g: &[f32],
        decay: MomentDecay,
        s: &AdamStep,
        ahead: [&[f32]; 3],
        square: &mut [f32; LANES],
    ) {
        dispatch!(self, adam(row, g, decay, s, ahead, square))
    }

    /// See [`scalar::adam_with_terms`]; `ahead` as for [`Isa::adam_chunk`].
    #[inline]
    pub fn adam_with_terms(
        self,
        row: [&mut [f32]; 3],
        g: &mut [f32],
        terms: &GradientTerms,
        decay: MomentDecay,
        s: &AdamStep,
        ahead: [&[f32]; 3],
        square: &mut [f32; LANES],
    ) {
        dispatch!(self, adam_with_terms(row, g, terms, decay, s, ahead, square))
    }

    /// See [`scalar::append_above`].
    #[inline]
    pub fn append_above(
        self,
        row: &[f32],
        base: u32,
        threshold: f32,
        index: &mut [u32],
        value: &mut [f32],
        len: usize,
    ) -> usize {
        dispatch!(self, append_above(row, base, threshold, index, value, len))
    }

    /// See [`scalar::kth_largest`].
    #[inline]
    pub fn kth_largest(self, values: &[f32], k: usize) -> f32 {
        dispatch!(self, kth_largest(values, k))
    }
}

#[cfg(test)]
mod tests;
