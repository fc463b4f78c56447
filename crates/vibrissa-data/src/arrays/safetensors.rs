//! Rows from `.safetensors` files, whose headers are read and checked by [`vibrissa_core::io::safetensors`].

use super::file;
use crate::block::{Block, Dtype};
use std::path::Path;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::io::safetensors::{Header, TensorInfo, printable};

const COPY_AGAIN: &str = "copy or save the file again";

/// Reads the 2-D tensor `[rows, columns]` called `tensor`, or the only 2-D tensor of the file. U8, F16, BF16, F32 and
/// F64 are mapped as they are.
///
/// # Errors
/// A damaged file, tensors that overlap or leave the file, no or several candidates (all are listed), another type.
pub fn load_safetensors(path: &Path, tensor: Option<&str>, origin: String) -> Result<Block> {
    let bytes = file::bytes(path)?;
    let header = Header::read(path, &mut bytes.all(), bytes.all().len() as u64, COPY_AGAIN)?;
    let (name, info) = pick(path, &header.tensors, tensor)?;
    let refuse = |expected: &str, got: String, remedy: &str| Error::Tensor {
        path: path.to_path_buf(),
        tensor: printable(name),
        expected: expected.to_string(),
        got,
        remedy: remedy.to_string(),
    };
    let &[rows, columns] = info.shape.as_slice() else {
        let got = format!("{}-D {:?}", info.shape.len(), info.shape);
        return Err(refuse("rows × columns", got, "reshape it before saving"));
    };
    let dtype = match info.dtype.as_str() {
        "U8" => Dtype::U8,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        other => return Err(refuse("U8, F16, BF16, F32 or F64", printable(other), "save it as F32")),
    };
    if rows == 0 || columns == 0 {
        return Err(refuse("rows and columns", format!("{:?}", info.shape), "save at least one of each"));
    }
    // Checked against the file, so everything fits into usize.
    let offset = (header.data_start + info.data_offsets.0) as usize;
    Ok(Block::new(origin, bytes, offset, dtype, rows as usize, columns as usize))
}

/// Returns the requested tensor, or the only one that is rows × columns.
fn pick<'a>(
    path: &Path,
    tensors: &'a [(String, TensorInfo)],
    wanted: Option<&str>,
) -> Result<(&'a str, &'a TensorInfo)> {
    let candidates: Vec<&(String, TensorInfo)> = match wanted {
        Some(wanted) => tensors.iter().filter(|(name, _)| name == wanted).collect(),
        None => tensors.iter().filter(|(_, info)| info.shape.len() == 2).collect(),
    };
    if let [(name, info)] = candidates.as_slice() {
        return Ok((name, info));
    }
    let (found, listed) = match wanted {
        Some(wanted) => (format!("has no tensor {}", printable(wanted)), tensors.iter().collect()),
        None if candidates.is_empty() => ("holds no 2-D tensor".to_string(), tensors.iter().collect()),
        None => (format!("holds {} tensors that are rows × columns", candidates.len()), candidates),
    };
    let remedy = if listed.is_empty() {
        "it is empty: name another file".to_string()
    } else if listed.iter().any(|(_, info)| info.shape.len() == 2) {
        format!("name one as FILE:TENSOR: {}", list(&listed))
    } else {
        format!("save one as rows × columns: {}", list(&listed))
    };
    Err(Error::file(path, found, remedy))
}

/// Lists names and shapes by name, twelve at most: a language model has thousands.
fn list(tensors: &[&(String, TensorInfo)]) -> String {
    const MOST: usize = 12;
    let mut sorted = tensors.to_vec();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut parts: Vec<String> =
        sorted.iter().take(MOST).map(|(name, info)| format!("{} {:?}", printable(name), info.shape)).collect();
    if sorted.len() > MOST {
        parts.push(format!("and {} more", sorted.len() - MOST));
    }
    parts.join(", ")
}
