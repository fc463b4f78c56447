//! The check that every value is finite. It changes nothing.

use crate::block::{Block, Dtype};
use crate::rows::{LoadedRows, OnProgress};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use vibrissa_core::error::{Error, Result};

/// Bytes of a task: large enough that starting one costs nothing, small enough that progress is smooth.
const TASK_BYTES: usize = 1 << 20;

/// Bytes between two checks for a bad value: within the first-level cache, so that locating the value reads them again
/// at no cost.
const STRIDE_BYTES: usize = 1 << 13;

/// Checks that every value of every block of floating-point values is finite; f64 values must be within the range of
/// f32, since they are read as f32. `on_progress` counts the rows of those blocks.
///
/// # Errors
/// [`Error::NotFinite`] for the first such value in the order of the rows, whatever the number of threads.
pub fn check_finite(rows: &LoadedRows, on_progress: OnProgress) -> Result<()> {
    let blocks = || rows.blocks.iter().filter(|block| block.dtype() != Dtype::U8);
    let total: usize = blocks().map(Block::rows).sum();
    let tasks: Vec<(&Block, Range<usize>)> = blocks()
        .flat_map(|block| {
            let step = (TASK_BYTES / (block.dim() * block.dtype().size()).max(1)).max(1);
            (0..block.rows()).step_by(step).map(move |start| (block, start..(start + step).min(block.rows())))
        })
        .collect();
    let done = AtomicUsize::new(0);
    let first_bad = tasks.par_iter().find_map_first(|(block, range)| {
        let bad = first_bad(block.dtype(), block.rows_bytes(range.clone()));
        on_progress(done.fetch_add(range.len(), Ordering::Relaxed) + range.len(), total);
        bad.map(|(at, value)| Error::NotFinite {
            origin: block.origin.clone(),
            row: range.start + at / block.dim(),
            column: at % block.dim(),
            value,
        })
    });
    first_bad.map_or(Ok(()), Err)
}

/// Returns the index and the value of the first value that is not finite.
fn first_bad(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    match dtype {
        Dtype::U8 => None,
        Dtype::F16 => {
            search(bytes, |b: [u8; 2]| half::f16::from_le_bytes(b), |v| v.to_bits() & 0x7c00 == 0x7c00, |v| v.to_f32())
        }
        Dtype::BF16 => {
            search(bytes, |b: [u8; 2]| half::bf16::from_le_bytes(b), |v| v.to_bits() & 0x7f80 == 0x7f80, |v| v.to_f32())
        }
        Dtype::F32 => search(bytes, f32::from_le_bytes, |v| v.to_bits() & 0x7f80_0000 == 0x7f80_0000, |v| v),
        Dtype::F64 => search(bytes, f64::from_le_bytes, |v| !(v as f32).is_finite(), |v| v as f32),
    }
}

fn search<T: Copy, const N: usize>(
    bytes: &[u8],
    parse: impl Fn([u8; N]) -> T,
    is_bad: impl Fn(T) -> bool,
    to_f32: impl Fn(T) -> f32,
) -> Option<(usize, f32)> {
    for (stride, part) in bytes.chunks(STRIDE_BYTES).enumerate() {
        let (values, _) = part.as_chunks::<N>();
        // No early exit within a stride: a loop without one is what the compiler turns into vector instructions.
        if values.iter().fold(false, |bad, &value| bad | is_bad(parse(value))) {
            let at = values.iter().position(|&value| is_bad(parse(value)))?;
            return Some((stride * (STRIDE_BYTES / N) + at, to_f32(parse(values[at]))));
        }
    }
    None
}
