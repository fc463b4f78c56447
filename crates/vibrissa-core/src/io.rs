//! Files without their meaning: atomic writes, JSON, safetensors. Knows no model, no data set and no record.

pub mod safetensors;

use crate::error::{Error, Result};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// The prefix of a file's name while the file is written.
pub const TEMPORARY_PREFIX: &str = ".vibrissa-";

/// Writes a file whole or not at all: into a temporary file of the same folder, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be written or the disk is full; an existing file stays as it was.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let failed = || Error::io(path, "write", "free some space or choose another `out`; nothing was half-written");
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(folder).map_err(failed())?;
    {
        let mut buffer = std::io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
        write(&mut buffer).map_err(failed())?;
        buffer.flush().map_err(failed())?;
    }
    file.as_file().sync_all().map_err(failed())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed())?;
    }
    file.persist(path).map_err(|e| failed()(e.error))?;
    Ok(())
}

/// Writes a value as indented JSON with a final newline, whole or not at all.
///
/// # Errors
/// As [`write_atomically`].
///
/// # Panics
/// If the value cannot be written as JSON, such as a map whose keys are not text.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("plain data can be written as JSON");
    write_atomically(path, |out| writeln!(out, "{text}"))
}

/// Returns the name and the version of a schema such as `"vibrissa.eval/1"`.
pub fn version_of(schema: &str) -> Option<(&str, u32)> {
    let (name, version) = schema.rsplit_once('/')?;
    Some((name, version.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_ends_with_a_newline() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        write_json(&path, &std::collections::BTreeMap::from([("k", 1)])).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\n  \"k\": 1\n}\n");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.txt");
        write_atomically(&path, |out| out.write_all(b"old")).expect("written");
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(failed.is_err_and(|e| e.to_string().contains("nothing was half-written")));
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
