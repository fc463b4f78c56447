//! Sparse latents in SciPy's compressed sparse row format (`.npz`), as `scipy.sparse.load_npz` reads it.

use crate::arrays::npy::header;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::io::write_atomically;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A writer of sparse rows. Indices and values are kept in temporary files, so that memory does not grow with them.
#[derive(Debug)]
pub struct CsrWriter {
    columns: usize,
    starts: Vec<i64>,
    index: std::io::BufWriter<std::fs::File>,
    value: std::io::BufWriter<std::fs::File>,
}

impl CsrWriter {
    /// Starts a matrix of `columns` columns without rows.
    ///
    /// # Errors
    /// [`Error::Io`] when temporary files cannot be made.
    pub fn new(columns: usize) -> Result<CsrWriter> {
        let folder = std::env::temp_dir();
        let failed = || Error::io(&folder, "make a temporary file", "free some space, or set TMPDIR to another folder");
        let new = || tempfile::tempfile().map(|f| std::io::BufWriter::with_capacity(1 << 20, f));
        Ok(CsrWriter { columns, starts: vec![0], index: new().map_err(failed())?, value: new().map_err(failed())? })
    }

    /// Adds a row: its active latents by ascending index, and their values.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub fn row(&mut self, index: &[u32], value: &[f32]) -> Result<()> {
        let folder = std::env::temp_dir();
        let failed =
            || Error::io(&folder, "write a temporary file", "free some space, or set TMPDIR to another folder");
        for &i in index {
            self.index.write_all(&(i as i32).to_le_bytes()).map_err(failed())?;
        }
        for &v in value {
            self.value.write_all(&v.to_le_bytes()).map_err(failed())?;
        }
        self.starts.push(self.starts[self.starts.len() - 1] + index.len() as i64);
        Ok(())
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self, path: &Path) -> Result<()> {
        let CsrWriter { columns, starts, index, value } = self;
        let n = starts[starts.len() - 1];
        write_atomically(path, |out| {
            let parts = |f: std::io::BufWriter<std::fs::File>| f.into_inner().map_err(|e| e.into_error());
            let (mut index, mut value) = (parts(index)?, parts(value)?);
            // The archive writer seeks back to fill in lengths, which `out` cannot do: the archive is made in a file of
            // its own.
            let mut zip = ZipWriter::new(tempfile::tempfile()?);
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
            let begin = |zip: &mut ZipWriter<std::fs::File>, name: &str, head: Vec<u8>| -> std::io::Result<()> {
                zip.start_file(name, stored).map_err(std::io::Error::other)?;
                zip.write_all(&head)
            };
            begin(&mut zip, "indices.npy", header("<i4", &format!("({n},)")))?;
            index.seek(SeekFrom::Start(0))?;
            std::io::copy(&mut index, &mut zip)?;
            begin(&mut zip, "indptr.npy", header("<i8", &format!("({},)", starts.len())))?;
            for s in &starts {
                zip.write_all(&s.to_le_bytes())?;
            }
            begin(&mut zip, "format.npy", header("|S3", "()"))?;
            zip.write_all(b"csr")?;
            begin(&mut zip, "shape.npy", header("<i8", "(2,)"))?;
            zip.write_all(&(starts.len() as i64 - 1).to_le_bytes())?;
            zip.write_all(&(columns as i64).to_le_bytes())?;
            begin(&mut zip, "data.npy", header("<f4", &format!("({n},)")))?;
            value.seek(SeekFrom::Start(0))?;
            std::io::copy(&mut value, &mut zip)?;
            let mut whole = zip.finish().map_err(std::io::Error::other)?;
            whole.seek(SeekFrom::Start(0))?;
            let mut piece = vec![0u8; 1 << 20];
            loop {
                match whole.read(&mut piece)? {
                    0 => return Ok(()),
                    n => out.write_all(&piece[..n])?,
                }
            }
        })
    }
}
