//! Products of tiles on AMX (Sapphire Rapids and later): 16 × 16 sums of 32 columns an instruction.

use super::super::prefilter::{CacheLine, TILE_ROWS};
use super::prefilter::TileMultiplier;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// The multiplier over the eight tile registers, which a thread configures before its products and releases after them.
pub static MULTIPLIER: TileMultiplier = TileMultiplier { begin, end, multiply };

/// True if this CPU has the instructions and the system lets this process use them.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        let leaf = __cpuid_count(7, 0);
        leaf.edx & (BF16 | TILES) == BF16 | TILES && permitted()
    })
}

/// Asks Linux to save the tile registers of this process, which it does only on request.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and changes only the permissions of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The configuration of the tile registers (the operand of `ldtilecfg`): all eight have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// # Safety
/// [`available`] is true.
unsafe fn begin() {
    // SAFETY: `CONFIG` describes eight tiles of 16 lines.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, preserves_flags, readonly)) };
}

/// # Safety
/// [`available`] is true.
unsafe fn end() {
    // SAFETY: releases the tiles, which are not read any more.
    unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
}

/// # Safety
/// As [`TileMultiplier::multiply`]: `begin` has configured the tiles as [`CONFIG`].
unsafe fn multiply(w: *const CacheLine, x: *const CacheLine, apart: Option<usize>, steps: usize, out: *mut CacheLine) {
    // SAFETY: the caller guarantees the lengths and the tiles.
    unsafe {
        match apart {
            Some(apart) => two_by_two(w, x, apart, steps, out),
            None => two_by_one(w, x, steps, out),
        }
    }
}

/// The `asm!` block of a product of `$steps` tiles of two groups of rows at `$w` with those at `$x`, sums stored at
/// `$out`; the instructions depend on the number of blocks of `x`.
macro_rules! tiles {
    ($w:ident, $x:ident, $steps:ident, $out:ident, [$($line:literal),*], {$($more:tt)*}) => {
        asm!(
            $($line,)*
            a = inout(reg) $w => _,
            b = inout(reg) $w.add($steps * TILE_ROWS) => _,
            x = inout(reg) $x => _,
            steps = inout(reg) $steps => _,
            row = in(reg) 64usize,
            out = in(reg) $out,
            $($more)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Products of two groups of 16 rows of `w` with two blocks of 16 rows of `x`, `apart` lines apart, over some steps,
/// into `out [block][group][16, 16]`.
///
/// # Safety
/// The tiles are configured as [`CONFIG`]; `x` and `x + apart` are valid for `steps` tiles, 1 or more, `w` for twice as
/// many, `out` for four tiles.
#[target_feature(enable = "avx512f")]
unsafe fn two_by_two(w: *const CacheLine, x: *const CacheLine, apart: usize, steps: usize, out: *mut CacheLine) {
    // SAFETY: the caller guarantees the lengths; only tiles and the named registers are changed.
    unsafe {
        tiles!(
            w,
            x,
            steps,
            out,
            [
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm6, [{x} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{b} + {row}]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "tileloadd tmm7, [{y} + {row}]",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 1024",
                "add {b}, 1024",
                "add {x}, 1024",
                "add {y}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}], tmm0",
                "tilestored [{out} + {row} + 1024], tmm1",
                "tilestored [{out} + {row} + 2048], tmm2",
                "tilestored [{out} + {row} + 3072], tmm3"
            ],
            { y = inout(reg) x.add(apart) => _, }
        );
    }
}

/// [`two_by_two`] with a single block of `x`.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f")]
unsafe fn two_by_one(w: *const CacheLine, x: *const CacheLine, steps: usize, out: *mut CacheLine) {
    // SAFETY: the caller guarantees the lengths; only tiles and the named registers are changed.
    unsafe {
        tiles!(
            w,
            x,
            steps,
            out,
            [
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm6, [{x} + {row}]",
                "tileloadd tmm4, [{a} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{b} + {row}]",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "add {a}, 1024",
                "add {b}, 1024",
                "add {x}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}], tmm0",
                "tilestored [{out} + {row} + 1024], tmm1"
            ],
            {}
        );
    }
}
