//! A block of rows in one numeric format, owned or memory-mapped, and its conversion to f32. What the values mean is
//! not known here.

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
    /// Bytes a value.
    pub fn size(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

/// Where the bytes are.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// In memory.
    Owned(Arc<Vec<u8>>),
    /// In a mapped file.
    Mapped(Arc<memmap2::Mmap>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Owned(v) => v,
            Bytes::Mapped(m) => m,
        }
    }
}

/// `rows` rows of `dim` values of one format, beginning `offset` bytes into `bytes`.
#[derive(Clone, Debug)]
pub struct Block {
    /// What the rows came from, for messages and identities: a path relative to the data set where there is one.
    pub origin: String,
    bytes: Bytes,
    offset: usize,
    dtype: Dtype,
    rows: usize,
    dim: usize,
}

impl Block {
    /// A block over bytes that were checked to be long enough.
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

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The stored format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The bytes of one row.
    pub fn row_bytes(&self, row: usize) -> &[u8] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let width = self.dim * self.dtype.size();
        &self.bytes.all()[self.offset + row * width..][..width]
    }

    /// Writes one row as f32 into `out` (`dim` values). The bytes need no alignment.
    pub fn read(&self, row: usize, out: &mut [f32]) {
        let bytes = self.row_bytes(row);
        assert_eq!(out.len(), self.dim);
        match self.dtype {
            Dtype::U8 => out.iter_mut().zip(bytes).for_each(|(o, &b)| *o = f32::from(b) / 255.0),
            Dtype::F16 => {
                out.iter_mut()
                    .zip(bytes.chunks_exact(2))
                    .for_each(|(o, b)| *o = half::f16::from_le_bytes([b[0], b[1]]).to_f32());
            }
            Dtype::BF16 => {
                out.iter_mut()
                    .zip(bytes.chunks_exact(2))
                    .for_each(|(o, b)| *o = half::bf16::from_le_bytes([b[0], b[1]]).to_f32());
            }
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
