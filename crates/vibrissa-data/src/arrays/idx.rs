//! MNIST's idx files, `.gz` or not: a folder of images with labels, divided into training and test rows by its authors.
//! idx files of other ranks are not read.

use super::{byte_count, file, rows_of};
use crate::block::{Block, Bytes, Dtype};
use crate::rows::LoadedRows;
use flate2::read::MultiGzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vibrissa_core::error::{Error, Result};
use vibrissa_core::shape::ImageShape;

const DAMAGED: &str = "download it again";

/// One of the four files.
struct IdxFile {
    /// Name in the original distribution, by which rows are named whatever the spelling of the file.
    name: &'static str,
    /// Number of dimensions.
    dims: usize,
}

const TRAIN_IMAGES: IdxFile = IdxFile { name: "train-images-idx3-ubyte", dims: 3 };
const TRAIN_LABELS: IdxFile = IdxFile { name: "train-labels-idx1-ubyte", dims: 1 };
const TEST_IMAGES: IdxFile = IdxFile { name: "t10k-images-idx3-ubyte", dims: 3 };
const TEST_LABELS: IdxFile = IdxFile { name: "t10k-labels-idx1-ubyte", dims: 1 };

impl IdxFile {
    /// Returns the path of the file under any of its spellings; an unpacked one is preferred, since it can be mapped.
    fn find(&self, folder: &Path) -> Option<PathBuf> {
        let dotted = self.name.replace("-idx", ".idx");
        [self.name.to_string(), dotted.clone(), format!("{}.gz", self.name), format!("{dotted}.gz")]
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
    }
}

pub(super) fn is_folder(path: &Path) -> bool {
    TRAIN_IMAGES.find(path).is_some() || TEST_IMAGES.find(path).is_some()
}

/// Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`,
/// each plain (mapped) or `.gz` (unpacked in memory). Rows are the training images, then the test images, of shape
/// `1 × height × width`; labels become classes named by their number. Labels may be absent altogether, and so may
/// the test files.
///
/// # Errors
/// Missing training images, labels for only the training or only the test images, a damaged file, sizes that do not
/// agree.
pub fn load_idx(folder: &Path) -> Result<LoadedRows> {
    let Some(train_images) = TRAIN_IMAGES.find(folder) else {
        return Err(Error::file(
            folder,
            format!("holds no {}", TRAIN_IMAGES.name),
            "put it there, with or without .gz",
        ));
    };
    let (train, train_shape) = load_images(&train_images, TRAIN_IMAGES)?;
    let train_labels = load_labels(folder, TRAIN_LABELS, &train_images, train.rows())?;
    let train_rows = train.rows();
    let mut blocks = vec![train];
    let mut labels = train_labels;
    let mut test_from = None;
    if let Some(test_images) = TEST_IMAGES.find(folder) {
        let (test, shape) = load_images(&test_images, TEST_IMAGES)?;
        if shape != train_shape {
            return Err(Error::file(
                &test_images,
                format!(
                    "its images are {} × {}, those of {} are {} × {}",
                    shape.height, shape.width, TRAIN_IMAGES.name, train_shape.height, train_shape.width
                ),
                "keep one data set a folder",
            ));
        }
        let test_labels = load_labels(folder, TEST_LABELS, &test_images, test.rows())?;
        labels = match (labels, test_labels) {
            (Some(train), Some(test)) => Some([train, test].concat()),
            (None, None) => None,
            (train, _) => {
                let absent = if train.is_some() { TEST_LABELS } else { TRAIN_LABELS };
                return Err(Error::file(
                    folder,
                    format!("holds labels of either training or test images, but no {}", absent.name),
                    "add it, or remove the other labels",
                ));
            }
        };
        blocks.push(test);
        test_from = Some(train_rows);
    } else if let Some(path) = TEST_LABELS.find(folder) {
        return Err(Error::file(path, format!("labels without {}", TEST_IMAGES.name), "add the images, or remove it"));
    }
    let labels = labels.unwrap_or_default();
    let mut present = [false; 256];
    labels.iter().for_each(|&label| present[usize::from(label)] = true);
    let digits: Vec<u8> = (0..=255).filter(|&digit| present[usize::from(digit)]).collect();
    let mut class_of = [0u16; 256];
    digits.iter().enumerate().for_each(|(class, &digit)| class_of[usize::from(digit)] = class as u16);
    Ok(LoadedRows {
        shape: Some(train_shape),
        classes: digits.iter().map(u8::to_string).collect(),
        labels: labels.iter().map(|&label| class_of[usize::from(label)]).collect(),
        test_from,
        ..rows_of(blocks, Vec::new())
    })
}

fn load_images(path: &Path, kind: IdxFile) -> Result<(Block, ImageShape)> {
    let (bytes, offset, sizes) = load_file(path, &kind)?;
    let (rows, height, width) = (sizes[0], sizes[1], sizes[2]);
    let shape = ImageShape { channels: 1, height, width };
    Ok((Block::new(kind.name.to_string(), bytes, offset, Dtype::U8, rows, shape.dim()), shape))
}

/// Reads the labels of `images`; `None` where there is no such file.
fn load_labels(folder: &Path, kind: IdxFile, images: &Path, n_images: usize) -> Result<Option<Vec<u8>>> {
    let Some(path) = kind.find(folder) else { return Ok(None) };
    let (bytes, offset, sizes) = load_file(&path, &kind)?;
    if sizes[0] != n_images {
        let found = format!("holds {} labels, but {} holds {n_images} images", sizes[0], super::file_name(images));
        return Err(Error::file(path, found, "keep the files of one data set together"));
    }
    Ok(Some(bytes.all()[offset..].to_vec()))
}

/// Returns the bytes of a file, the offset of its values, and its sizes, which were checked against the bytes.
fn load_file(path: &Path, kind: &IdxFile) -> Result<(Bytes, usize, Vec<usize>)> {
    let header_len = 4 + 4 * kind.dims;
    if path.extension().is_none_or(|extension| extension != "gz") {
        let bytes = file::bytes(path)?;
        let (sizes, promised) = read_header(path, kind, &bytes.all()[..header_len.min(bytes.all().len())])?;
        let held = bytes.all().len() - header_len;
        if held != promised {
            return Err(wrong_size(path, &sizes, promised, &held.to_string()));
        }
        return Ok((bytes, header_len, sizes));
    }
    let packed = file::open(path)?;
    let packed_len = packed.metadata().map_err(Error::io(path, "read", DAMAGED))?.len();
    let mut reader = MultiGzDecoder::new(std::io::BufReader::new(packed));
    let mut header = Vec::new();
    let unpack = |reader: &mut dyn Read, out: &mut Vec<u8>| {
        reader.read_to_end(out).map_err(|error| Error::file(path, format!("damaged gzip ({error})"), DAMAGED))
    };
    unpack(&mut (&mut reader).take(header_len as u64), &mut header)?;
    let (sizes, promised) = read_header(path, kind, &header)?;
    // Deflate compresses by a factor of at most 1032: a header that promises more is wrong, and the file is not
    // unpacked.
    if promised as u64 / 1032 > packed_len {
        return Err(wrong_size(path, &sizes, promised, "fewer"));
    }
    // One byte more than promised shows that a file is too long without unpacking the rest of it. Memory grows with the
    // bytes that are read, not with what the header says.
    let mut values = Vec::new();
    unpack(&mut (&mut reader).take(promised as u64 + 1), &mut values)?;
    if values.len() != promised {
        let held = if values.len() > promised { "more".to_string() } else { values.len().to_string() };
        return Err(wrong_size(path, &sizes, promised, &held));
    }
    Ok((Bytes::Owned(Arc::new(values)), 0, sizes))
}

fn wrong_size(path: &Path, sizes: &[usize], promised: usize, held: &str) -> Error {
    Error::file(path, format!("its header promises {sizes:?} = {promised} bytes, but the file holds {held}"), DAMAGED)
}

/// Returns the sizes, none of them zero, and their product.
fn read_header(path: &Path, kind: &IdxFile, bytes: &[u8]) -> Result<(Vec<usize>, usize)> {
    let magic = [0, 0, 8, kind.dims as u8];
    if bytes.len() >= 4 && bytes[..4] != magic {
        let expected = format!("00 00 08 {:02x}", kind.dims);
        let found = format!("not {} ({}, expected {expected})", kind.name, file::starts_with(bytes));
        return Err(Error::file(path, found, "keep the four files under their original names"));
    }
    if bytes.len() < 4 + 4 * kind.dims {
        return Err(Error::file(path, format!("ends within its header ({} bytes)", bytes.len()), DAMAGED));
    }
    let (sizes, _) = bytes[4..].as_chunks::<4>();
    let sizes: Vec<u64> = sizes.iter().map(|&size| u64::from(u32::from_be_bytes(size))).collect();
    if sizes.contains(&0) {
        return Err(Error::file(path, format!("holds nothing: its sizes are {sizes:?}"), DAMAGED));
    }
    match byte_count(&sizes) {
        Some(product) => Ok((sizes.iter().map(|&size| size as usize).collect(), product)),
        None => Err(Error::file(path, format!("its header promises {sizes:?} bytes"), DAMAGED)),
    }
}
