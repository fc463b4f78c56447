//! The bytes of a whole file, memory-mapped where the system can. The meaning of the bytes is not known here.

use crate::block::Bytes;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use vibrissa_core::error::{Error, Result};

const REMEDY: &str = "check the path and its permissions";

/// Returns the error for a file that does not exist.
pub(super) fn missing(path: &Path) -> Error {
    Error::io(path, "open", REMEDY)(std::io::ErrorKind::NotFound.into())
}

/// Opens a regular file. A named pipe would block forever, and opening a folder succeeds on some systems.
pub(super) fn open(path: &Path) -> Result<File> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path, "open", REMEDY))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "not a file", "name a file"));
    }
    File::open(path).map_err(Error::io(path, "open", REMEDY))
}

/// Returns the bytes of a file: mapped, or read where the file system cannot map.
pub(super) fn bytes(path: &Path) -> Result<Bytes> {
    let mut file = open(path)?;
    if let Ok(map) = map(&file) {
        return Ok(Bytes::Mapped(Arc::new(map)));
    }
    let mut all = Vec::new();
    file.read_to_end(&mut all).map_err(Error::io(path, "read", REMEDY))?;
    Ok(Bytes::Owned(Arc::new(all)))
}

#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only and lives as long as it is borrowed. What cannot be promised is that no other
    // program changes the file under us: values would change with it, and a file cut short ends this program with a
    // bus error. Every bit pattern is a valid value and every size was checked when the file was opened, so a change
    // of contents alone cannot break memory safety. Data files are therefore not to be rewritten in place meanwhile.
    unsafe { memmap2::Mmap::map(file) }
}

/// Describes the first bytes in hex, for messages about a file whose content does not agree with its name.
pub(super) fn starts_with(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "is empty".to_string();
    }
    let hex: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("starts with {}", hex.join(" "))
}
