//! NumPy's `.npy` format, versions 1 to 3: arrays are read, and headers written. The header is not parsed by a general
//! parser of Python literals, since those recurse, and a header of ten thousand parentheses would overflow the stack.

use super::{byte_count, file};
use crate::block::{Block, Bytes, Dtype};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use vibrissa_core::error::{Error, Result};

/// The fields of a header.
struct NpyHeader {
    dtype: Dtype,
    big_endian: bool,
    fortran: bool,
    rows: u64,
    columns: u64,
    /// Offset of the values, in bytes.
    offset: usize,
}

/// Reads a 2-D array `[rows, columns]` of u8, f2, f4 or f8. C-ordered little-endian files are mapped; others are
/// converted in memory.
///
/// # Errors
/// A file that is not `.npy`, is damaged or cut short, or holds another number of dimensions or another type.
pub fn load_npy(path: &Path, origin: String) -> Result<Block> {
    let bytes = file::bytes(path)?;
    let header = read_header(path, bytes.all())?;
    let size = header.dtype.size();
    let held = bytes.all().len() - header.offset;
    let (rows, columns) = (header.rows, header.columns);
    let promised = byte_count(&[rows, columns, size as u64]);
    if promised != Some(held) {
        let promise = promised.map_or("an impossible number of".to_string(), |n| n.to_string());
        let remedy = if promised.is_some_and(|n| n < held) {
            "save each array in a file of its own"
        } else {
            "the file is incomplete: copy or save it again"
        };
        let found = format!("its header promises [{rows}, {columns}] = {promise} bytes, but the file holds {held}");
        return Err(Error::file(path, found, remedy));
    }
    if rows == 0 || columns == 0 {
        return Err(Error::file(path, format!("holds {rows} rows × {columns} columns"), "save at least one of each"));
    }
    // Both fit in usize: their product times the size is the length of a slice.
    let (rows, columns) = (rows as usize, columns as usize);
    if !header.fortran && !header.big_endian {
        return Ok(Block::new(origin, bytes, header.offset, header.dtype, rows, columns));
    }
    let values = &bytes.all()[header.offset..];
    let mut owned = if header.fortran { transposed(values, rows, columns, size) } else { values.to_vec() };
    if header.big_endian {
        owned.par_chunks_mut(size << 16).for_each(|part| part.chunks_exact_mut(size).for_each(<[u8]>::reverse));
    }
    Ok(Block::new(origin, Bytes::Owned(Arc::new(owned)), 0, header.dtype, rows, columns))
}

/// Transposes column-major values to row-major order, in tiles of 32 columns so that each cache line of the source is
/// used whole.
fn transposed(values: &[u8], rows: usize, columns: usize, size: usize) -> Vec<u8> {
    const TILE: usize = 32;
    let mut out = vec![0u8; values.len()];
    out.par_chunks_mut(TILE * columns * size).enumerate().for_each(|(tile, out)| {
        let first_row = tile * TILE;
        for first_column in (0..columns).step_by(TILE) {
            for column in first_column..(first_column + TILE).min(columns) {
                for (r, row) in out.chunks_exact_mut(columns * size).enumerate() {
                    let from = (column * rows + first_row + r) * size;
                    row[column * size..][..size].copy_from_slice(&values[from..][..size]);
                }
            }
        }
    });
    out
}

/// Returns the header of an array, version 1.0, padded so that the values are aligned to 64 bytes.
pub(crate) fn header(descr: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(text.len() + 11).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<NpyHeader> {
    if !bytes.starts_with(b"\x93NUMPY") {
        let found = format!("not an .npy file ({})", file::starts_with(bytes));
        return Err(Error::file(path, found, "save it with numpy.save"));
    }
    let damaged = |what: &str| Error::file(path, format!("damaged .npy header: {what}"), "copy or save it again");
    let (version, length_size) = match bytes.get(6..8) {
        Some(&[version @ 1, 0]) => (version, 2),
        Some(&[version @ (2 | 3), 0]) => (version, 4),
        Some(&[major, minor]) => return Err(damaged(&format!("version {major}.{minor}, expected 1.0 to 3.0"))),
        _ => return Err(damaged("the file ends within it")),
    };
    let length = bytes.get(8..8 + length_size).ok_or_else(|| damaged("the file ends within it"))?;
    let length = length.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    let offset = 8 + length_size + length;
    let text = bytes
        .get(8 + length_size..offset)
        .ok_or_else(|| damaged(&format!("it claims {length} bytes, the file has {}", bytes.len())))?;
    // Versions 1 and 2 are Latin-1; the fields needed are ASCII in all three.
    let text = String::from_utf8_lossy(text);
    let fields = fields(&text).ok_or_else(|| damaged(&format!("version {version}, not a Python dictionary")))?;
    let field = |key: &str| {
        let found = fields.iter().find(|(name, _)| *name == key);
        found.map(|&(_, value)| value).ok_or_else(|| damaged(&format!("no {key:?}")))
    };
    let (descr, fortran, shape) = (field("descr")?, field("fortran_order")?, field("shape")?);
    let (dtype, big_endian) = dtype(path, descr)?;
    let fortran = match fortran {
        "True" => true,
        "False" => false,
        _ => return Err(damaged("fortran_order is neither True nor False")),
    };
    let shape = shape_of(shape).ok_or_else(|| damaged("shape is not a tuple of sizes"))?;
    let &[rows, columns] = shape.as_slice() else {
        return Err(Error::file(path, format!("holds a {}-D array {shape:?}", shape.len()), reshape_remedy(&shape)));
    };
    Ok(NpyHeader { dtype, big_endian, fortran, rows, columns, offset })
}

fn reshape_remedy(shape: &[u64]) -> String {
    match shape {
        [] => "expected rows × columns: save the whole array".to_string(),
        [_] => "expected rows × columns: reshape it, e.g. x.reshape(-1, 384)".to_string(),
        [rows, ..] => format!("expected rows × columns: reshape it, e.g. x.reshape({rows}, -1)"),
    }
}

/// Parses a type such as `'<f4'`. Returns the format, and true if it is big-endian.
fn dtype(path: &Path, descr: &str) -> Result<(Dtype, bool)> {
    let refuse = |what: String, remedy: &str| Err(Error::file(path, what, remedy));
    let Some(name) = unquoted(descr) else {
        return refuse("holds a structured array".to_string(), "save its numeric columns as one float32 array");
    };
    // NumPy omits the byte order of single bytes, never of anything longer.
    let (order, kind) = match name.as_bytes().first() {
        Some(order @ (b'<' | b'>' | b'|' | b'=')) => (*order, &name[1..]),
        _ => (b'|', name),
    };
    let dtype = match kind {
        "u1" => Dtype::U8,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => {
            let what = match kind.as_bytes().first() {
                Some(b'O') => "Python objects",
                Some(b'c') => "complex numbers",
                Some(b'i' | b'u') => "integers",
                Some(b'b') => "booleans",
                Some(b'f') => "long floats",
                Some(b'S' | b'U' | b'a') => "text",
                Some(b'M' | b'm') => "dates or times",
                Some(b'V') => "raw bytes (bfloat16?)",
                _ => "an unknown type",
            };
            let remedy = match kind.as_bytes().first() {
                Some(b'c') => "expected u1, f2, f4 or f8: save abs(x) or both parts as columns",
                Some(b'V') => "expected u1, f2, f4 or f8: save bfloat16 as .safetensors, or x.astype('float32')",
                _ => "expected u1, f2, f4 or f8: save x.astype('float32')",
            };
            return refuse(format!("holds {what} (dtype {})", name.escape_debug()), remedy);
        }
    };
    Ok((dtype, order == b'>' && dtype.size() > 1))
}

/// Parses a shape such as `(3, 4)`; Python 2 wrote `3L`.
fn shape_of(text: &str) -> Option<Vec<u64>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let inner = inner.strip_suffix(',').unwrap_or(inner);
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|size| size.trim().trim_end_matches('L').parse().ok()).collect()
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.or_else(|| text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')))
}

/// Returns the keys and the texts of the values of a Python dictionary with string keys.
fn fields(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_at(item_end(rest, ':')?);
        let after = after.strip_prefix(':')?;
        let end = item_end(after, ',').unwrap_or(after.len());
        fields.push((unquoted(key.trim())?, after[..end].trim()));
        rest = after.get(end + 1..).unwrap_or("").trim();
    }
    Some(fields)
}

/// Returns the position of `stop` outside of quotes and brackets.
fn item_end(text: &str, stop: char) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0i64, None, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == stop && depth == 0 => return Some(at),
            None => match c {
                '\'' | '"' => quote = Some(c),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            },
        }
    }
    None
}
