//! Reading and writing of files: whole or not at all.

pub mod tensors;

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// How the name of a file begins while it is written.
pub const TEMPORARY: &str = ".vibrissa-";

/// Writes a file whole or not at all: into a temporary file of the same folder, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be written or the disk is full; the old file, if any, is still there.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let failed = || Error::io(path, "write", "free some space or choose another --out; nothing was half-written");
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder).map_err(failed())?;
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

/// Name and version of a schema, `"vibrissa.eval/1"`.
pub fn version_of(schema: &str) -> Option<(&str, u32)> {
    let (name, version) = schema.rsplit_once('/')?;
    Some((name, version.parse().ok()?))
}
