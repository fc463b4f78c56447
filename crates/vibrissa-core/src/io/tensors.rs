//! Safetensors files: a deterministic writer, and a reader that checks the header before it allocates.

use super::write_atomically;
use crate::error::{Error, Result};
pub use safetensors::tensor::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// One tensor on its way to a file.
pub struct TensorOut<'a> {
    /// Name.
    pub name: String,
    /// Lengths, the slowest first.
    pub shape: Vec<usize>,
    /// Type as safetensors spells it, such as `F32`.
    pub dtype: &'static str,
    /// Values, little-endian.
    pub bytes: Cow<'a, [u8]>,
}

/// A tensor of f32 values.
pub fn floats<'a>(name: String, shape: &[usize], values: &'a [f32]) -> TensorOut<'a> {
    TensorOut { name, shape: shape.to_vec(), dtype: "F32", bytes: Cow::Borrowed(bytemuck::cast_slice(values)) }
}

/// The layout of a safetensors file, written by hand so that the same model gives the same bytes (the crate keeps its
/// metadata in a hash map of random order).
pub fn write_tensors(path: &Path, metadata: &BTreeMap<&str, String>, tensors: &[TensorOut]) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut at = 0;
    for t in tensors {
        let end = at + t.bytes.len();
        header
            .insert(t.name.clone(), serde_json::json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    write_atomically(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(&text)?;
        tensors.iter().try_for_each(|t| out.write_all(&t.bytes))
    })
}

/// A safetensors file whose header was checked against its length.
pub struct TensorFile<'a> {
    /// The file's path.
    pub path: &'a Path,
    file: std::fs::File,
    data: u64,
    /// The header.
    pub metadata: Metadata,
}

/// The crate checks a layout only with all of the data in memory: tensors follow each other without gap or overlap, and
/// each has the bytes that its shape needs.
fn check_layout(metadata: &Metadata) -> std::result::Result<(), String> {
    let tensors = metadata.tensors();
    let mut all: Vec<_> = tensors.iter().collect();
    all.sort_by_key(|t| t.1.data_offsets);
    let mut at = 0;
    for (name, info) in all {
        let (from, to) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &s| n.checked_mul(s));
        if from != at || bits.map(|b| b / 8) != to.checked_sub(from) {
            return Err(format!("tensor {name} does not lie where its shape says"));
        }
        at = to;
    }
    Ok(())
}

/// The remedy for a damaged file.
pub const BROKEN: &str = "the file is damaged: copy it again or train anew";

impl<'a> TensorFile<'a> {
    /// Opens a file and checks its header and layout.
    ///
    /// # Errors
    /// A file that is missing, not safetensors or damaged.
    pub fn open(path: &'a Path) -> Result<TensorFile<'a>> {
        let io = || Error::io(path, "read the model", "give a run folder or a model.safetensors that exists");
        let mut file = std::fs::File::open(path).map_err(io())?;
        let size = file.metadata().map_err(io())?.len();
        let mut head = [0u8; 8];
        file.read_exact(&mut head).map_err(|_| Error::file(path, format!("holds only {size} bytes"), BROKEN))?;
        let length = u64::from_le_bytes(head);
        if length > size - 8 || length > 100_000_000 {
            let found = format!("not a safetensors file (its header would have {length} bytes, the file has {size})");
            return Err(Error::file(path, found, BROKEN));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(io())?;
        let broken = |why: String| Error::file(path, format!("not a safetensors file ({why})"), BROKEN);
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        check_layout(&metadata).map_err(broken)?;
        let data = 8 + length;
        let want = metadata.data_len() as u64;
        if size - data != want {
            let found = format!("its header promises {want} bytes of tensors, the file holds {}", size - data);
            return Err(Error::file(path, found, BROKEN));
        }
        Ok(TensorFile { path, file, data, metadata })
    }

    /// Type, shape and place of a tensor; `None` if there is none of that name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`Error::Tensor`] if it is missing or has another type or shape.
    pub fn read<T: bytemuck::Pod>(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<T>> {
        let (path, wrong) = (self.path, |got: String| Error::Tensor {
            path: self.path.to_path_buf(),
            tensor: name.to_owned(),
            expected: format!("{dtype:?} {shape:?}"),
            got,
            remedy: BROKEN.to_owned(),
        });
        let info = self.info(name).ok_or_else(|| wrong("nothing of that name".into()))?;
        if info.dtype != dtype || info.shape != shape {
            return Err(wrong(format!("{:?} {:?}", info.dtype, info.shape)));
        }
        let from = self.data + info.data_offsets.0 as u64;
        let mut out = vec![T::zeroed(); shape.iter().product()];
        let io = || Error::io(path, "read the model", BROKEN);
        self.file.seek(SeekFrom::Start(from)).map_err(io())?;
        self.file.read_exact(bytemuck::cast_slice_mut(&mut out)).map_err(io())?;
        Ok(out)
    }

    /// Returns a text of the file's metadata.
    ///
    /// # Errors
    /// A key that is missing.
    pub fn text(&self, key: &str) -> Result<String> {
        self.metadata.metadata().as_ref().and_then(|m| m.get(key)).cloned().ok_or_else(|| {
            Error::file(self.path, format!("its metadata has no {key}"), "give a model that vibrissa wrote")
        })
    }
}
