//! Arrays of numbers from `.npy` and `.safetensors` files, folders of such files (shards), and folders of MNIST's idx
//! files. Files are memory-mapped where the format allows. Decodes no images and splits no rows.
//!
//! A numeric array is rows × columns; each file becomes one [`Block`] and its rows are named `file:row`. Of the options
//! only [`LoadOptions::skip_bad`] has an effect: arrays are never resized.

mod file;
mod finite;
mod idx;
pub(crate) mod npy;
mod safetensors;

pub use finite::check_finite;
pub use idx::load_idx;
pub use npy::load_npy;
pub use safetensors::load_safetensors;

use crate::block::Block;
use crate::images;
use crate::rows::{LoadOptions, LoadedRows, RowNames, SkippedFile};
use std::path::{Path, PathBuf};
use vibrissa_core::error::{Error, Result};

/// Reads `array.npy`, `array.safetensors`, `array.safetensors:tensor`, a folder of such files (`folder:tensor` where
/// its safetensors files hold several), or a folder with MNIST's idx files.
///
/// # Errors
/// A file that is missing, damaged or of another format.
pub fn load(path_spec: &str, options: &LoadOptions) -> Result<LoadedRows> {
    let (path, tensor) = split_spec(path_spec);
    if is_idx_folder(&path) {
        return load_idx(&path);
    }
    if path.is_dir() {
        return load_shards(&path, tensor.as_deref(), options);
    }
    let block = load_file(&path, tensor.as_deref(), file_name(&path))?;
    Ok(rows_of(vec![block], Vec::new()))
}

/// Returns true if [`load`] reads this: an array file (by its extension), a folder of them, or an idx folder.
pub fn is_array_spec(path_spec: &str) -> bool {
    let (path, _) = split_spec(path_spec);
    is_array_file(&path) || is_idx_folder(&path) || is_shard_folder(&path)
}

/// Returns true for a name that ends in `.npy` or `.safetensors` and is no folder; the file need not exist.
pub fn is_array_file(path: &Path) -> bool {
    ArrayFormat::of(path).is_some() && !path.is_dir()
}

/// Returns true for a folder with MNIST's image files in it, compressed or not.
pub fn is_idx_folder(path: &Path) -> bool {
    idx::is_folder(path)
}

/// Returns true for a folder that directly holds at least one `.npy` or `.safetensors` file.
pub fn is_shard_folder(path: &Path) -> bool {
    shards(path).is_ok_and(|shards| !shards.is_empty())
}

/// Splits `file.safetensors:tensor` into the file and the tensor's name. A path that exists is never split, so a file
/// name may hold a colon; so may a tensor's name, since the shortest path that fits is taken.
pub fn split_spec(path_spec: &str) -> (PathBuf, Option<String>) {
    let whole = PathBuf::from(path_spec);
    if whole.exists() {
        return (whole, None);
    }
    let splits = || path_spec.match_indices(':').map(|(at, _)| (Path::new(&path_spec[..at]), &path_spec[at + 1..]));
    splits()
        .find(|(path, _)| path.is_dir() || (path.is_file() && ArrayFormat::of(path).is_some()))
        .or_else(|| splits().find(|(path, _)| ArrayFormat::of(path) == Some(ArrayFormat::Safetensors)))
        .map_or((whole, None), |(path, tensor)| (path.to_path_buf(), Some(tensor.to_string())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArrayFormat {
    Npy,
    Safetensors,
}

impl ArrayFormat {
    fn of(path: &Path) -> Option<ArrayFormat> {
        let extension = path.extension()?;
        if extension.eq_ignore_ascii_case("npy") {
            Some(ArrayFormat::Npy)
        } else if extension.eq_ignore_ascii_case("safetensors") {
            Some(ArrayFormat::Safetensors)
        } else {
            None
        }
    }
}

fn load_file(path: &Path, tensor: Option<&str>, origin: String) -> Result<Block> {
    match ArrayFormat::of(path) {
        Some(ArrayFormat::Npy) if tensor.is_none() => load_npy(path, origin),
        Some(ArrayFormat::Npy) => Err(Error::file(
            path,
            format!("an .npy file has no tensor {:?}", tensor.unwrap_or_default()),
            "leave out the colon and what follows it",
        )),
        Some(ArrayFormat::Safetensors) => load_safetensors(path, tensor, origin),
        None if !path.exists() => Err(file::missing(path)),
        None => Err(Error::file(
            path,
            "not an array that this program reads",
            "expected .npy, .safetensors, a folder of these, or a folder of MNIST's idx files",
        )),
    }
}

/// Reads every `.npy` and `.safetensors` file directly in `folder`, in the order of their names, as one array; other
/// files are ignored. `tensor` picks the tensor in the safetensors files.
///
/// # Errors
/// No shard at all, a shard that cannot be read (with `skip_bad` it is left out and listed), or shards of different
/// widths (even with `skip_bad`, since it is unknown which width was meant).
pub fn load_shards(folder: &Path, tensor: Option<&str>, options: &LoadOptions) -> Result<LoadedRows> {
    let paths = shards(folder).map_err(Error::io(folder, "list", "check the path and its permissions"))?;
    if paths.is_empty() {
        return Err(Error::file(
            folder,
            "holds no .npy or .safetensors file",
            "name the folder that directly holds the shards",
        ));
    }
    if let Some(n) = images::list::list(folder).ok().map(|l| l.files.len()).filter(|&n| n > 0) {
        let found = format!("an array among {n} images: it is not clear which are meant");
        return Err(Error::file(&paths[0], found, "name this file itself, or move it out of the images' folder"));
    }
    let mut blocks: Vec<Block> = Vec::with_capacity(paths.len());
    let mut skipped = Vec::new();
    for path in paths {
        let tensor = tensor.filter(|_| ArrayFormat::of(&path) == Some(ArrayFormat::Safetensors));
        match load_file(&path, tensor, file_name(&path)) {
            Ok(block) => blocks.push(block),
            Err(error) if options.skip_bad => skipped.push(SkippedFile { path, reason: error.to_string() }),
            Err(error) => return Err(error),
        }
    }
    let Some(first) = blocks.first() else {
        return Err(Error::file(
            folder,
            format!("none of its {} shards can be read (the first: {})", skipped.len(), skipped[0].reason),
            "name a folder with at least one good shard",
        ));
    };
    if let Some(other) = blocks.iter().find(|block| block.dim() != first.dim()) {
        return Err(Error::file(
            folder.join(&other.origin),
            format!("has {} columns, but {} has {}", other.dim(), first.origin, first.dim()),
            "keep shards of the same width together in one folder",
        ));
    }
    Ok(rows_of(blocks, skipped))
}

/// Lists the shards of a folder. Hidden files are left out: macOS puts `._x.npy` beside `x.npy` on foreign disks.
fn shards(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = file_name(&path).starts_with('.');
        if !hidden && is_array_file(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns unnamed rows without classes.
fn rows_of(blocks: Vec<Block>, skipped: Vec<SkippedFile>) -> LoadedRows {
    LoadedRows {
        blocks,
        shape: None,
        names: RowNames::ByBlock,
        classes: Vec::new(),
        labels: Vec::new(),
        test_from: None,
        skipped,
        variants: None,
        working_images: Vec::new(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Returns the product of sizes, such as rows, columns and bytes of a value, if a file of that size can exist.
fn byte_count(sizes: &[u64]) -> Option<usize> {
    let product = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size))?;
    // Half of the address space is the most that a slice can span.
    usize::try_from(product).ok().filter(|&n| n <= isize::MAX as usize)
}

#[cfg(test)]
mod tests;
