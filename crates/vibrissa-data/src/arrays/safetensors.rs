//! `.safetensors`: an 8-byte length, a JSON header, the values. The layout is checked here, tensor by tensor, because
//! the message must name the tensor at fault, and the `safetensors` crate adds offsets without a look at overflow.

use super::{byte_count, file};
use crate::block::{Block, Dtype};
use std::path::Path;
use vibrissa_core::error::{Error, Result};

/// The format's own limit, so that no header makes the parser run for minutes.
const MAX_HEADER: u64 = 100_000_000;

const COPY_AGAIN: &str = "copy or save the file again";

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads the 2-D tensor `[rows, columns]` called `tensor`, or the only 2-D tensor of the file. U8, F16, BF16, F32 and
/// F64 are mapped as they are.
///
/// # Errors
/// A damaged file, tensors that overlap or leave the file, no or several candidates (all are listed), another type.
pub fn load_safetensors(path: &Path, tensor: Option<&str>, origin: String) -> Result<Block> {
    let bytes = file::bytes(path)?;
    let (entries, data_start) = read_header(path, bytes.all())?;
    let (name, entry) = pick(path, &entries, tensor)?;
    let refuse = |expected: &str, got: String, remedy: &str| Error::Tensor {
        path: path.to_path_buf(),
        tensor: shown(name),
        expected: expected.to_string(),
        got,
        remedy: remedy.to_string(),
    };
    let &[rows, columns] = entry.shape.as_slice() else {
        let got = format!("{}-D {:?}", entry.shape.len(), entry.shape);
        return Err(refuse("rows × columns", got, "reshape it before saving"));
    };
    let dtype = match entry.dtype.as_str() {
        "U8" => Dtype::U8,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        other => return Err(refuse("U8, F16, BF16, F32 or F64", shown(other), "save it as F32")),
    };
    if rows == 0 || columns == 0 {
        return Err(refuse("rows and columns", format!("{:?}", entry.shape), "save at least one of each"));
    }
    // Checked against the file, so everything fits into usize.
    let offset = data_start + entry.data_offsets.0 as usize;
    Ok(Block::new(origin, bytes, offset, dtype, rows as usize, columns as usize))
}

fn pick<'a>(path: &Path, entries: &'a [(String, Entry)], wanted: Option<&str>) -> Result<(&'a str, &'a Entry)> {
    let candidates: Vec<&(String, Entry)> = match wanted {
        Some(wanted) => entries.iter().filter(|(name, _)| name == wanted).collect(),
        None => entries.iter().filter(|(_, entry)| entry.shape.len() == 2).collect(),
    };
    if let [(name, entry)] = candidates.as_slice() {
        return Ok((name, entry));
    }
    let (found, listed) = match wanted {
        Some(wanted) => (format!("has no tensor {}", shown(wanted)), entries.iter().collect()),
        None if candidates.is_empty() => ("holds no 2-D tensor".to_string(), entries.iter().collect()),
        None => (format!("holds {} tensors that are rows × columns", candidates.len()), candidates),
    };
    let remedy = if listed.is_empty() {
        "it is empty: name another file".to_string()
    } else if listed.iter().any(|(_, entry)| entry.shape.len() == 2) {
        format!("name one as FILE:TENSOR: {}", list(&listed))
    } else {
        format!("save one as rows × columns: {}", list(&listed))
    };
    Err(Error::file(path, found, remedy))
}

/// Names and shapes by name, twelve at most: a language model has thousands.
fn list(entries: &[&(String, Entry)]) -> String {
    const MOST: usize = 12;
    let mut sorted = entries.to_vec();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut parts: Vec<String> =
        sorted.iter().take(MOST).map(|(name, entry)| format!("{} {:?}", shown(name), entry.shape)).collect();
    if sorted.len() > MOST {
        parts.push(format!("and {} more", sorted.len() - MOST));
    }
    parts.join(", ")
}

/// A name from a file, fit for one line of a terminal.
fn shown(name: &str) -> String {
    let mut escaped: String = name.escape_debug().take(100).collect();
    if escaped.is_empty() {
        escaped.push_str("\"\"");
    }
    escaped
}

/// The tensors in the order of the file, their ranges proved to tile it, and where the values begin.
fn read_header(path: &Path, bytes: &[u8]) -> Result<(Vec<(String, Entry)>, usize)> {
    let damaged = |found: String| Error::file(path, found, COPY_AGAIN);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(format!("not a .safetensors file ({} bytes, too short for a header)", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || length > rest.len() as u64 {
        let found = format!("its header claims {length} bytes, but {} follow", rest.len());
        return Err(damaged(format!("not a .safetensors file, or cut short: {found}")));
    }
    let (header, data) = rest.split_at(length as usize);
    let parsed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| damaged(format!("damaged header ({error})")))?;
    let mut entries = Vec::with_capacity(parsed.len());
    for (name, value) in parsed {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(value).map_err(|error| {
            damaged(format!("damaged header: tensor {}: {}", shown(&name), shown(&error.to_string())))
        })?;
        entries.push((name, entry));
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    check_layout(path, &entries, data.len() as u64)?;
    Ok((entries, 8 + length as usize))
}

/// Proves that each tensor is as long as its shape says and begins where the one before it ended, up to the end.
fn check_layout(path: &Path, entries: &[(String, Entry)], data_len: u64) -> Result<()> {
    let mut end_before = 0;
    let mut name_before = "";
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let refuse = |expected: String, got: String| Error::Tensor {
            path: path.to_path_buf(),
            tensor: shown(name),
            expected,
            got,
            remedy: COPY_AGAIN.to_string(),
        };
        let got = format!("bytes {start} to {end}");
        if end < start || end > data_len {
            return Err(refuse(format!("bytes within the {data_len} that the file holds"), got));
        }
        if start < end_before {
            let expected = format!("bytes from {end_before} on, where {} ends (they overlap)", shown(name_before));
            return Err(refuse(expected, got));
        }
        if start > end_before {
            return Err(refuse(format!("bytes from {end_before} on (a gap is not allowed)"), got));
        }
        if let Some(bits) = bits(&entry.dtype) {
            let shape = [entry.shape.as_slice(), &[bits]].concat();
            if byte_count(&shape).map(|bits| bits as u64) != (end - start).checked_mul(8) {
                let expected = format!("the bytes of {} {:?}", entry.dtype, entry.shape);
                return Err(refuse(expected, format!("{} bytes", end - start)));
            }
        }
        (end_before, name_before) = (end, name);
    }
    if end_before != data_len {
        let found = format!("its header promises {end_before} bytes of tensors, but the file holds {data_len}");
        return Err(Error::file(path, found, COPY_AGAIN));
    }
    Ok(())
}

/// Bits a value; `None` for formats newer than this program, whose tensors can only be passed over.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F32" | "I32" | "U32" => 32,
        "F64" | "I64" | "U64" | "C64" => 64,
        _ => return None,
    })
}
