//! A block of rows in one numeric format, owned or memory-mapped, and its conversion to f32. The meaning of the values
//! is not known here.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::ops::Range;
use std::sync::Arc;

/// The numeric format of stored values (little-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Bytes 0–255, read as value / 255.
    U8,
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
    /// Double precision, rounded to f32 when read.
    F64,
}

impl Dtype {
    /// Returns the number of bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

/// Bytes of a file, or of rows made in memory.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// Bytes in memory.
    Owned(Arc<Vec<u8>>),
    /// A memory-mapped file.
    Mapped(Arc<memmap2::Mmap>),
}

impl Bytes {
    /// Returns all bytes.
    pub fn all(&self) -> &[u8] {
        match self {
            Bytes::Owned(v) => v,
            Bytes::Mapped(m) => m,
        }
    }
}

/// `rows` rows of `dim` values of one format, from byte `offset` of `bytes` on.
#[derive(Clone, Debug)]
pub struct Block {
    /// The source of the rows, for messages and names: a path relative to the data set where there is one.
    pub origin: String,
    bytes: Bytes,
    offset: usize,
    dtype: Dtype,
    rows: usize,
    dim: usize,
}

impl Block {
    /// Makes a block over bytes whose length was checked.
    ///
    /// # Panics
    /// If `bytes` is shorter than `offset + rows * dim * dtype.size()`.
    pub fn new(origin: String, bytes: Bytes, offset: usize, dtype: Dtype, rows: usize, dim: usize) -> Block {
        let end = rows
            .checked_mul(dim)
            .and_then(|n| n.checked_mul(dtype.size()))
            .and_then(|n| n.checked_add(offset))
            .expect("the loader checked the size");
        assert!(bytes.all().len() >= end, "{origin}: the loader must check that the bytes are there");
        Block { origin, bytes, offset, dtype, rows, dim }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns the stored format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the bytes of one row.
    pub fn row_bytes(&self, row: usize) -> &[u8] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let width = self.dim * self.dtype.size();
        &self.bytes.all()[self.offset + row * width..][..width]
    }

    /// Returns the bytes of consecutive rows.
    ///
    /// # Panics
    /// If there are fewer rows than that.
    pub fn rows_bytes(&self, rows: Range<usize>) -> &[u8] {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let width = self.dim * self.dtype.size();
        &self.bytes.all()[self.offset + rows.start * width..][..rows.len() * width]
    }

    /// Writes one row as f32 into `out` (`dim` values). The bytes need no alignment.
    pub fn read(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.dim);
        self.read_part(row, 0, out);
    }

    /// Writes the values of a row from number `from` on, to the length of `out`.
    ///
    /// # Panics
    /// If the row has fewer.
    pub fn read_part(&self, row: usize, from: usize, out: &mut [f32]) {
        let size = self.dtype.size();
        let bytes = &self.row_bytes(row)[from * size..][..out.len() * size];
        match self.dtype {
            Dtype::U8 => out.iter_mut().zip(bytes).for_each(|(o, &b)| *o = f32::from(b) / 255.0),
            Dtype::F16 => convert_in_chunks(bytes, out, |bits, out| {
                bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(out)
            }),
            Dtype::BF16 => convert_in_chunks(bytes, out, |bits, out| {
                bits.reinterpret_cast::<half::bf16>().convert_to_f32_slice(out)
            }),
            Dtype::F32 => {
                out.iter_mut()
                    .zip(bytes.chunks_exact(4))
                    .for_each(|(o, b)| *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            }
            Dtype::F64 => out.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(o, b)| {
                *o = f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32;
            }),
        }
    }
}

/// Converts 16-bit values in chunks of 256: `half` converts slices several times faster than single values, but only
/// aligned ones, and a file promises no alignment.
fn convert_in_chunks(bytes: &[u8], out: &mut [f32], convert: impl Fn(&[u16], &mut [f32])) {
    let mut bits = [0u16; 256];
    for (bytes, out) in bytes.chunks(512).zip(out.chunks_mut(256)) {
        let bits = &mut bits[..out.len()];
        bits.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(o, b)| *o = u16::from_le_bytes([b[0], b[1]]));
        convert(bits, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_bit_pattern(dtype: Dtype, expected: impl Fn(u16) -> f32) {
        for lead in [0, 1] {
            let mut bytes = vec![0u8; lead];
            (0..=u16::MAX).for_each(|bits| bytes.extend(bits.to_le_bytes()));
            let block = Block::new("t".into(), Bytes::Owned(Arc::new(bytes)), lead, dtype, 1, 1 << 16);
            let mut out = vec![0.0; 1 << 16];
            block.read(0, &mut out);
            for (bits, value) in out.iter().enumerate() {
                assert_eq!(value.to_bits(), expected(bits as u16).to_bits(), "{dtype:?} {bits:04x} from byte {lead}");
            }
        }
    }

    #[test]
    fn every_half_reads_as_itself_at_any_alignment() {
        every_bit_pattern(Dtype::F16, |bits| half::f16::from_bits(bits).to_f32());
        every_bit_pattern(Dtype::BF16, |bits| half::bf16::from_bits(bits).to_f32());
    }

    #[test]
    fn rows_shorter_and_longer_than_a_chunk_read_alike() {
        for dim in [0, 1, 7, 255, 256, 257, 600] {
            let bytes = (0..2 * dim).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect();
            let block = Block::new("t".into(), Bytes::Owned(Arc::new(bytes)), 0, Dtype::F16, 2, dim);
            let mut out = vec![f32::NAN; dim];
            block.read(1, &mut out);
            assert!(out.iter().enumerate().all(|(i, &v)| v == (dim + i) as f32), "{dim} columns");
            assert_eq!(block.rows_bytes(1..2), block.row_bytes(1));
        }
    }
}
