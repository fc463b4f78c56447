//! `.safetensors` files: an 8-byte length, a JSON header, the values (<https://github.com/huggingface/safetensors>).
//!
//! The layout is checked here, tensor by tensor and against the length of the file, before anything is allocated. The
//! `safetensors` crate checks a layout only with all of the data in memory, names no tensor in its messages, and adds
//! offsets without a check for overflow. Files are written here too, because that crate keeps metadata in a hash map of
//! random order, and the same tensors must give the same bytes.

use super::write_atomically;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The limit of the format itself, so that no header keeps the parser busy for minutes.
const MAX_HEADER: u64 = 100_000_000;

/// Type, shape and place of one tensor.
#[derive(Clone, Debug, Deserialize)]
pub struct TensorInfo {
    /// The format's name of the type, such as `F32`.
    pub dtype: String,
    /// Lengths, the slowest first.
    pub shape: Vec<u64>,
    /// First byte and the byte after the last one, from the start of the values.
    pub data_offsets: (u64, u64),
}

/// A header that agrees with the length of its file.
#[derive(Clone, Debug)]
pub struct Header {
    /// Names and places of the tensors, in the order of the file.
    pub tensors: Vec<(String, TensorInfo)>,
    /// The file's metadata.
    pub metadata: HashMap<String, String>,
    /// Offset of the values in the file, in bytes.
    pub data_start: u64,
}

impl Header {
    /// Reads the header of a file of `file_len` bytes from its start. `remedy` ends every message.
    ///
    /// # Errors
    /// [`Error::Io`] when reading fails; [`Error::File`] for a damaged or shortened file; [`Error::Tensor`] for tensors
    /// that overlap, leave a gap, leave the file or do not have the bytes that their shape needs.
    pub fn read(path: &Path, reader: &mut dyn Read, file_len: u64, remedy: &'static str) -> Result<Header> {
        let damaged = |found: String| Error::file(path, found, remedy);
        let mut length = [0u8; 8];
        if file_len < 8 {
            return Err(damaged(format!("not a .safetensors file ({file_len} bytes, too short for a header)")));
        }
        reader.read_exact(&mut length).map_err(Error::io(path, "read", remedy))?;
        let (length, rest) = (u64::from_le_bytes(length), file_len - 8);
        if length > MAX_HEADER || length > rest {
            let found = format!("its header claims {length} bytes, but {rest} follow");
            return Err(damaged(format!("not a .safetensors file, or cut short: {found}")));
        }
        let mut text = vec![0; length as usize];
        reader.read_exact(&mut text).map_err(Error::io(path, "read", remedy))?;
        let parsed: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("damaged header ({error})")))?;
        let (mut tensors, mut metadata) = (Vec::with_capacity(parsed.len()), HashMap::new());
        for (name, value) in parsed {
            if name == "__metadata__" {
                metadata = serde_json::from_value(value).unwrap_or_default();
                continue;
            }
            let info: TensorInfo = serde_json::from_value(value).map_err(|error| {
                damaged(format!("damaged header: tensor {}: {}", printable(&name), printable(&error.to_string())))
            })?;
            tensors.push((name, info));
        }
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        check_layout(path, &tensors, rest - length, remedy)?;
        Ok(Header { tensors, metadata, data_start: 8 + length })
    }

    /// Returns what the header says of a tensor.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, info)| info)
    }
}

/// Checks that each tensor is as long as its shape says and begins where the one before it ends, up to the end of the
/// values.
fn check_layout(path: &Path, tensors: &[(String, TensorInfo)], data_len: u64, remedy: &'static str) -> Result<()> {
    let (mut previous_end, mut previous_name) = (0, "");
    for (name, info) in tensors {
        let (start, end) = info.data_offsets;
        let refuse = |expected: String, got: String| Error::Tensor {
            path: path.to_path_buf(),
            tensor: printable(name),
            expected,
            got,
            remedy: remedy.to_owned(),
        };
        let got = format!("bytes {start} to {end}");
        if end < start || end > data_len {
            return Err(refuse(format!("bytes within the {data_len} that the file holds"), got));
        }
        if start < previous_end {
            let name = printable(previous_name);
            return Err(refuse(format!("bytes from {previous_end} on, where {name} ends (they overlap)"), got));
        }
        if start > previous_end {
            return Err(refuse(format!("bytes from {previous_end} on (a gap is not allowed)"), got));
        }
        if let Some(bits) = bits(&info.dtype) {
            let needed = info.shape.iter().try_fold(bits, |n, &size| n.checked_mul(size));
            if needed.is_none() || needed != (end - start).checked_mul(8) {
                let expected = format!("the bytes of {} {:?}", info.dtype, info.shape);
                return Err(refuse(expected, format!("{} bytes", end - start)));
            }
        }
        (previous_end, previous_name) = (end, name);
    }
    if previous_end != data_len {
        let found = format!("its header promises {previous_end} bytes of tensors, but the file holds {data_len}");
        return Err(Error::file(path, found, remedy));
    }
    Ok(())
}

/// Bits of a value; `None` for types newer than this program, whose tensors can only be passed over.
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

/// A name from a file, escaped and shortened for one line of a message.
pub fn printable(name: &str) -> String {
    let mut escaped: String = name.escape_debug().take(100).collect();
    if escaped.is_empty() {
        escaped.push_str("\"\"");
    }
    escaped
}

/// A type of values that tensors can hold.
pub trait Element: bytemuck::Pod {
    /// The format's name of the type.
    const DTYPE: &'static str;
}

impl Element for u8 {
    const DTYPE: &'static str = "U8";
}
impl Element for u32 {
    const DTYPE: &'static str = "U32";
}
impl Element for u64 {
    const DTYPE: &'static str = "U64";
}
impl Element for f32 {
    const DTYPE: &'static str = "F32";
}
impl Element for f64 {
    const DTYPE: &'static str = "F64";
}

/// An open file whose header is sound; tensors are read one by one.
#[derive(Debug)]
pub struct TensorFile<'a> {
    path: &'a Path,
    file: std::fs::File,
    header: Header,
    remedy: &'static str,
}

impl<'a> TensorFile<'a> {
    /// Opens a file and checks its header. `remedy` ends every message about damage, `missing` the one about a file
    /// that cannot be opened.
    ///
    /// # Errors
    /// As [`Header::read`].
    pub fn open(path: &'a Path, missing: &'static str, remedy: &'static str) -> Result<TensorFile<'a>> {
        let mut file = std::fs::File::open(path).map_err(Error::io(path, "open", missing))?;
        let len = file.metadata().map_err(Error::io(path, "open", missing))?.len();
        let header = Header::read(path, &mut file, len, remedy)?;
        Ok(TensorFile { path, file, header, remedy })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads a tensor of this type and shape.
    ///
    /// # Errors
    /// [`Error::Tensor`] when there is none of that name, type and shape; [`Error::Io`] when reading fails.
    pub fn read<T: Element>(&mut self, name: &str, shape: &[usize]) -> Result<Vec<T>> {
        let wrong = |got: String| Error::Tensor {
            path: self.path.to_path_buf(),
            tensor: name.to_owned(),
            expected: format!("{} {shape:?}", T::DTYPE),
            got,
            remedy: self.remedy.to_owned(),
        };
        let info = self.header.get(name).ok_or_else(|| wrong("nothing of that name".into()))?;
        if info.dtype != T::DTYPE || !info.shape.iter().copied().eq(shape.iter().map(|&n| n as u64)) {
            return Err(wrong(format!("{} {:?}", info.dtype, info.shape)));
        }
        let from = self.header.data_start + info.data_offsets.0;
        let mut out = vec![T::zeroed(); shape.iter().product()];
        let failed = || Error::io(self.path, "read", self.remedy);
        self.file.seek(SeekFrom::Start(from)).map_err(failed())?;
        self.file.read_exact(bytemuck::cast_slice_mut(&mut out)).map_err(failed())?;
        Ok(out)
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData<'a> {
    /// Its name.
    pub name: String,
    /// Lengths, the slowest first.
    pub shape: Vec<usize>,
    /// The format's name of its type.
    pub dtype: &'static str,
    /// Its values, row-major.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> TensorData<'a> {
    /// A tensor of borrowed values.
    pub fn new<T: Element>(name: String, shape: &[usize], values: &'a [T]) -> TensorData<'a> {
        let bytes = Cow::Borrowed(bytemuck::cast_slice(values));
        TensorData { name, shape: shape.to_vec(), dtype: T::DTYPE, bytes }
    }

    /// A one-dimensional tensor of values that are computed for the file.
    pub fn owned<T: Element>(name: String, values: &[T]) -> TensorData<'static> {
        let bytes = Cow::Owned(bytemuck::cast_slice(values).to_vec());
        TensorData { name, shape: vec![values.len()], dtype: T::DTYPE, bytes }
    }
}

/// Writes a file whole or not at all; the same tensors and metadata give the same bytes.
///
/// # Errors
/// As [`write_atomically`].
pub fn write(path: &Path, metadata: &BTreeMap<&str, String>, tensors: &[TensorData]) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut at = 0;
    for t in tensors {
        let end = at + t.bytes.len();
        let info = serde_json::json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, end]});
        header.insert(t.name.clone(), info);
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

#[cfg(test)]
mod tests {
    use super::*;

    const REMEDY: &str = "copy it again";

    fn two_tensors(path: &Path) {
        let tensors = [
            TensorData::new("b".into(), &[2, 1], &[1.5f32, -2.0]),
            TensorData::new("a".into(), &[3], &[1u32, 2, 3]),
            TensorData::owned("e".into(), &[] as &[f64]),
        ];
        let metadata = BTreeMap::from([("schema", "x/1".to_owned()), ("a", "ä\n".to_owned())]);
        write(path, &metadata, &tensors).expect("written");
    }

    #[test]
    fn what_is_written_reads_back_here_and_with_the_crate() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        two_tensors(&path);
        let mut file = TensorFile::open(&path, "", REMEDY).expect("sound");
        assert_eq!(file.header().metadata["a"], "ä\n");
        assert_eq!(file.read::<f32>("b", &[2, 1]).expect("read"), [1.5, -2.0]);
        assert_eq!(file.read::<u32>("a", &[3]).expect("read"), [1, 2, 3]);
        assert!(file.read::<f64>("e", &[0]).expect("read").is_empty());
        let bytes = std::fs::read(&path).expect("read");
        let other = ::safetensors::SafeTensors::deserialize(&bytes).expect("sound");
        assert_eq!(other.tensor("a").expect("there").shape(), [3]);
        assert!(
            bytes.len().is_multiple_of(4)
                && other.tensor("b").expect("there").data()
                    == 1.5f32.to_le_bytes().iter().chain(&(-2.0f32).to_le_bytes()).copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_same_tensors_give_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [folder.path().join("x"), folder.path().join("y")];
        paths.iter().for_each(|p| two_tensors(p));
        assert_eq!(std::fs::read(&paths[0]).expect("read"), std::fs::read(&paths[1]).expect("read"));
    }

    #[test]
    fn another_type_shape_or_name_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        two_tensors(&path);
        let mut file = TensorFile::open(&path, "", REMEDY).expect("sound");
        let message = |e: Error| e.to_string();
        let e = message(file.read::<f64>("b", &[2, 1]).expect_err("F32"));
        assert!(e.ends_with("tensor b: expected F64 [2, 1], got F32 [2, 1]; copy it again"), "{e}");
        let e = message(file.read::<f32>("b", &[2]).expect_err("2 x 1"));
        assert!(e.contains("expected F32 [2], got F32 [2, 1]"), "{e}");
        assert!(message(file.read::<f32>("z", &[2]).expect_err("no z")).contains("nothing of that name"));
    }

    #[test]
    fn a_file_cut_short_or_lengthened_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        two_tensors(&path);
        let bytes = std::fs::read(&path).expect("read");
        let refused = |bytes: &[u8], part: &str| {
            std::fs::write(&path, bytes).expect("written");
            let e = TensorFile::open(&path, "", REMEDY).expect_err("damaged").to_string();
            assert!(e.contains(part) && e.ends_with(REMEDY), "{e}");
        };
        refused(&bytes[..5], "5 bytes, too short for a header");
        refused(&bytes[..20], "its header claims");
        refused(&bytes[..bytes.len() - 1], "tensor a: expected bytes within the 19 that the file holds");
        refused(&[&bytes[..], &[0]].concat(), "its header promises 20 bytes of tensors, but the file holds 21");
    }
}
