//! The safe entries to the kernels: the instruction set is probed once, then each call goes to the scalar definition
//! or to its twin. All paths give the same bits (`scalar.rs` defines the order of every sum), so the choice changes
//! speed only. `VIBRISSA_KERNELS=scalar|avx2|avx512|avx512bf16|amx` forces one.

mod per_thread;
pub mod prefilter;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use per_thread::PerThread;
use prefilter::{CacheLine, Hits, PrefilterQuery, PrefilterWeights};
pub use scalar::{AdamStep, LANES, Lacking, Left};
use std::sync::OnceLock;

/// An instruction set that this CPU was seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512, with its bf16 products for the prefilter.
    #[cfg(target_arch = "x86_64")]
    Bf16,
    /// AVX-512, with AMX for the prefilter.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Isa {
    /// The plain loops.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// All that this CPU has, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
            {
                all.push(Isa(Kind::Avx2));
                if ["avx512f", "avx512bw", "avx512dq", "avx512vl"].iter().all(|f| has_avx512(f)) {
                    all.push(Isa(Kind::Avx512));
                    if x86::bf16::available() {
                        all.push(Isa(Kind::Bf16));
                        if x86::amx::available() {
                            all.push(Isa(Kind::Amx));
                        }
                    }
                }
            }
        }
        all
    }

    /// The one in use: the fastest, or what `VIBRISSA_KERNELS` names if this CPU has it.
    pub fn current() -> Isa {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let all = Isa::available();
            let wanted = std::env::var("VIBRISSA_KERNELS").unwrap_or_default();
            let fastest = || all.iter().rfind(|isa| isa.pays()).expect("scalar is always there");
            *all.iter().find(|isa| isa.name() == wanted).unwrap_or_else(fastest)
        })
    }

    /// `scalar`, `avx2`, `avx512`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx",
        }
    }

    /// Whether it is faster on this CPU than those before it.
    fn pays(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 != Kind::Bf16 || x86::bf16::pays();
        #[cfg(not(target_arch = "x86_64"))]
        return true;
    }

    /// True if [`Isa::prefilter`] is faster than [`Isa::dots`].
    pub fn has_prefilter(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Kind::Bf16 | Kind::Amx);
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
            Kind::Scalar => scalar::$name($($arg),*),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` of this kind is only made after the CPU was seen to have these features.
            Kind::Avx2 => unsafe { x86::avx2::$name($($arg),*) },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            Kind::Avx512 | Kind::Bf16 | Kind::Amx => unsafe { x86::avx512::$name($($arg),*) },
        }
    };
}

/// Asks ahead of time for values that will be read; changes nothing.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Asks ahead of time for values that will be written; changes nothing.
#[inline]
pub fn prefetch_to_write<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch_to_write(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Asks for large pages under these bytes, so that walking over them waits less for the table of pages; changes no
/// value, and a system that refuses is left alone.
pub fn large_pages((start, bytes): (*const u8, usize)) {
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
                // SAFETY: neither advice changes what a program reads, whose memory it ever is.
                unsafe { libc::madvise(from, end - first, advice) };
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

/// Floats of scratch that [`Isa::dots`] needs for `rows` rows of `dim` values.
pub fn spill_len(rows: usize, dim: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    return x86::spill_len(rows, dim);
    #[cfg(not(target_arch = "x86_64"))]
    return 0;
}

impl Isa {
    /// See [`scalar::dot`].
    #[inline]
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        dispatch!(self, dot(a, b))
    }

    /// See [`scalar::dots`]: the dense product of the encoder, a panel of latents at a time.
    #[inline]
    pub fn dots(self, x: &[f32], w: &[f32], bias: &[f32], dim: usize, out: &mut [f32], spill: &mut [f32]) {
        dispatch!(self, dots(x, w, bias, dim, out, spill))
    }

    /// See [`scalar::round_batch_block`].
    pub fn round_batch_block(self, x: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` of this kind is only made after the CPU was seen to have these features.
            Kind::Bf16 | Kind::Amx => unsafe { x86::prefilter::round_batch_block(x, dim, lines, squares) },
            _ => scalar::round_batch_block(x, dim, lines, squares),
        }
    }

    /// See [`scalar::round_weights`].
    pub fn round_weights(self, w: &[f32], dim: usize, lines: &mut [CacheLine], squares: &mut [[f32; 2]]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            Kind::Bf16 | Kind::Amx => unsafe { x86::prefilter::round_weights(w, dim, lines, squares) },
            _ => scalar::round_weights(w, dim, lines, squares),
        }
    }

    /// See [`scalar::prefilter`]: approximate products that show which exact ones are needed. `scratch` is used by the SIMD
    /// twins.
    pub fn prefilter(self, query: &PrefilterQuery, w: PrefilterWeights, hits: &mut Hits, scratch: &mut Vec<CacheLine>) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: as above.
            Kind::Bf16 => unsafe { x86::prefilter::prefilter(&x86::bf16::MULTIPLIER, query, w, hits, scratch) },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: an `Isa` of this kind is only made after the CPU was seen to have AMX, and the system allowed it.
            Kind::Amx => unsafe { x86::prefilter::prefilter(&x86::amx::MULTIPLIER, query, w, hits, scratch) },
            _ => scalar::prefilter(query, w, hits, scratch),
        }
    }

    /// See [`scalar::gather_dots`].
    #[inline]
    pub fn gather_dots(self, a: &[f32], index: &[u32], rows: &[f32], out: &mut [f32]) {
        dispatch!(self, gather_dots(a, index, rows, out))
    }

    /// [`Isa::add_columns`] of rows as long as `out`.
    #[inline]
    pub fn add_rows(self, out: &mut [f32], coef: &[f32], index: &[u32], rows: &[f32]) {
        let dim = out.len();
        self.add_columns(out, 0, coef, index, rows, dim);
    }

    /// See [`scalar::add_columns`].
    #[inline]
    pub fn add_columns(self, out: &mut [f32], from: usize, coef: &[f32], index: &[u32], rows: &[f32], dim: usize) {
        dispatch!(self, add_columns(out, from, coef, index, rows, dim))
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
        begun: bool,
    ) {
        dispatch!(self, dots_and_add(a, coef, index, rows, dots, out, begun))
    }

    /// See [`scalar::pre_gradients`].
    #[inline]
    pub fn pre_gradients(self, a: &[f32], factor: f32, more: f32, d: &mut [f32]) -> [f32; 2] {
        dispatch!(self, pre_gradients(a, factor, more, d))
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

    /// [`Isa::adam_piece`] of a whole row `[w, m, v]`; returns `w · w`.
    #[inline]
    pub fn adam(self, row: [&mut [f32]; 3], g: &[f32], left: Left, s: &AdamStep, ahead: [&[f32]; 3]) -> f32 {
        let mut square = [0.0; LANES];
        self.adam_piece(row, g, left, s, ahead, &mut square);
        scalar::fold(square)
    }

    /// See [`scalar::adam`]. Meanwhile memory is asked for other rows `ahead`, as long at most, that will be
    /// written; nothing changes in them.
    #[inline]
    pub fn adam_piece(
        self,
        row: [&mut [f32]; 3],
        g: &[f32],
        left: Left,
        s: &AdamStep,
        ahead: [&[f32]; 3],
        square: &mut [f32; LANES],
    ) {
        dispatch!(self, adam(row, g, left, s, ahead, square))
    }

    /// See [`scalar::adam_and_add`]; `ahead` as for [`Isa::adam_piece`].
    #[inline]
    pub fn adam_and_add(
        self,
        row: [&mut [f32]; 3],
        g: &mut [f32],
        lacking: &Lacking,
        left: Left,
        s: &AdamStep,
        ahead: [&[f32]; 3],
        square: &mut [f32; LANES],
    ) {
        dispatch!(self, adam_and_add(row, g, lacking, left, s, ahead, square))
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
