//! Pages of TIFF files: every page is an image. They are read with the tiff crate, because the image crate reads only
//! the first page and no grey floats.

use super::decode::{self, DecodeOptions, Decoded, MAX_BYTES, Probe, Samples, bad, undecodable};
use image::metadata::Orientation;
use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use vibrissa_core::error::{Error, Result};

type Pages = Decoder<BufReader<File>>;

fn open(path: &Path) -> Result<Pages> {
    let reader = BufReader::new(File::open(path).map_err(decode::unreadable(path))?);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    limits.ifd_value_size = 16 << 20;
    Ok(Decoder::new(reader).map_err(|e| undecodable(path, e))?.with_limits(limits))
}

fn orientation(value: Option<u16>) -> Orientation {
    value.and_then(|v| Orientation::from_exif(v.min(255) as u8)).unwrap_or(Orientation::NoTransforms)
}

/// Reads the directories of a file without decoding its pages.
///
/// # Errors
/// A broken directory.
pub(crate) fn probe(path: &Path) -> Result<Probe> {
    let mut decoder = open(path)?;
    let mut probe = Probe { tiff: true, ..Probe::default() };
    let mut next = decoder.ifd_pointer();
    let mut seen = HashSet::new();
    while let Some(pointer) = next {
        if !seen.insert(pointer.0) {
            return Err(bad(path, "a TIFF whose pages lead back to an earlier page"));
        }
        let mut page = || -> tiff::TiffResult<()> {
            let directory = decoder.read_directory(pointer)?;
            next = directory.next();
            let mut tags = decoder.read_directory_tags(&directory);
            let bits = tags.find_tag_unsigned_vec::<u16>(Tag::BitsPerSample)?.unwrap_or_default();
            probe.deep |= bits.iter().any(|b| *b > 8);
            let width = tags.get_tag_unsigned::<u32>(Tag::ImageWidth)? as usize;
            let height = tags.get_tag_unsigned::<u32>(Tag::ImageLength)? as usize;
            let turned = decode::swaps_sides(orientation(tags.find_tag_unsigned(Tag::Orientation)?));
            let size = if turned { (height, width) } else { (width, height) };
            probe.size = if probe.pages == 0 { Some(size) } else { probe.size.filter(|s| *s == size) };
            Ok(())
        };
        page().map_err(|e| undecodable(path, e))?;
        if probe.size.is_some_and(|(width, height)| width == 0 || height == 0) {
            return Err(decode::without_pixels(&page_path(path, probe.pages)));
        }
        probe.pages += 1;
    }
    if probe.pages == 0 {
        return Err(bad(path, "a TIFF without pages"));
    }
    Ok(probe)
}

/// Returns the path of a page, as messages name it.
fn page_path(path: &Path, page: usize) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!("#{page}"));
    PathBuf::from(name)
}

/// Decodes pages and gives each to `each` as soon as it is decoded. Messages name the page where the file is a `stack`.
pub(crate) fn pages(
    path: &Path,
    range: Range<usize>,
    stack: bool,
    options: DecodeOptions,
    mut each: impl FnMut(usize, Result<Decoded>),
) {
    let mut decoder = match open(path) {
        Ok(decoder) => decoder,
        // The header could be read before: an error of the first page is enough.
        Err(error) => return each(range.start, Err(error)),
    };
    for page in range {
        let named = if stack { page_path(path, page) } else { path.to_path_buf() };
        let result = match decoder.seek_to_image(page) {
            Ok(()) => read(&mut decoder, &named, options),
            Err(error) => Err(undecodable(&named, error)),
        };
        each(page, result);
    }
}

fn read(decoder: &mut Pages, path: &Path, options: DecodeOptions) -> Result<Decoded> {
    let error = |e: tiff::TiffError| undecodable(path, e);
    let (width, height) = decoder.dimensions().map_err(error)?;
    let size = (width as usize, height as usize);
    let color = decoder.colortype().map_err(error)?;
    let orientation = orientation(decoder.find_tag_unsigned(Tag::Orientation).map_err(error)?);
    let n = samples_per_pixel(decoder, color).ok_or_else(|| bad(path, format!("{color:?} pixels are not read")))?;
    let layout = decoder.image_buffer_layout().map_err(error)?;
    if layout.complete_len as u64 > MAX_BYTES {
        return Err(decode::too_large(path, size.0, size.1));
    }
    let mut buffer = DecodingResult::U8(Vec::new());
    decoder.read_image_to_buffer(&mut buffer).map_err(error)?;
    let float = |values: Vec<f32>| {
        let values = interleaved(path, values, layout.planes, n, size)?;
        Samples::Float(&values, n).decoded(path, size, orientation, options)
    };
    match buffer {
        DecodingResult::U8(v) => {
            let v = interleaved(path, expand_bits(v, size, color), layout.planes, n, size)?;
            Samples::Eight(&v, n).decoded(path, size, orientation, options)
        }
        DecodingResult::U16(v) => {
            let v = interleaved(path, v, layout.planes, n, size)?;
            Samples::Sixteen(&v, n).decoded(path, size, orientation, options)
        }
        DecodingResult::F16(v) => float(v.iter().map(|f| f.to_f32()).collect()),
        DecodingResult::F32(v) => float(v),
        DecodingResult::F64(v) => float(v.iter().map(|f| *f as f32).collect()),
        _ => Err(Error::file(
            path,
            format!("{}-bit integer samples are not read", color.bit_depth()),
            "save it with 8 or 16 bits without sign or as floats, or set `skip_bad`",
        )),
    }
}

/// Returns the number of samples of a decoded pixel; `None` for colours that are not read.
fn samples_per_pixel(decoder: &mut Pages, color: ColorType) -> Option<usize> {
    match color {
        ColorType::Gray(1 | 2 | 4 | 8 | 16 | 32 | 64) => Some(1),
        ColorType::RGB(8 | 16 | 32 | 64) => Some(3),
        ColorType::RGBA(8 | 16 | 32 | 64) => Some(4),
        // Grey with alpha, as opposed to two channels of a microscope.
        ColorType::Multiband { bit_depth: 8 | 16 | 32 | 64, num_samples: 2 } => {
            let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok()??;
            matches!(extra[..], [1 | 2]).then_some(2)
        }
        _ => None,
    }
}

/// Expands samples of 1, 2 or 4 bits, each row of which starts a new byte, to bytes of the full range.
fn expand_bits(packed: Vec<u8>, (width, height): (usize, usize), color: ColorType) -> Vec<u8> {
    let bits = usize::from(color.bit_depth());
    if bits >= 8 {
        return packed;
    }
    let most = (1u16 << bits) - 1;
    let row = (width * bits).div_ceil(8);
    let mut out = Vec::with_capacity(width * height);
    for bytes in packed.chunks_exact(row) {
        out.extend((0..width).map(|x| {
            let at = x * bits;
            let value = u16::from(bytes[at / 8]) >> (8 - bits - at % 8) & most;
            (value * 255 / most) as u8
        }));
    }
    out
}

/// Interleaves samples that the file stores in separate planes.
fn interleaved<T: Copy>(
    path: &Path,
    values: Vec<T>,
    planes: usize,
    n: usize,
    (width, height): (usize, usize),
) -> Result<Vec<T>> {
    let pixels = width * height;
    if values.len() != pixels * n || (planes > 1 && planes != n) {
        return Err(bad(path, format!("{} samples for {width} × {height} pixels of {n}", values.len())));
    }
    if planes <= 1 {
        return Ok(values);
    }
    Ok((0..values.len()).map(|i| values[i % n * pixels + i / n]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_become_bytes_of_the_full_range() {
        // Rows of three samples: padding of the last byte of a row is skipped.
        assert_eq!(expand_bits(vec![0b1011_1111, 0b0100_0000], (3, 2), ColorType::Gray(1)), [255, 0, 255, 0, 255, 0]);
        assert_eq!(expand_bits(vec![0b0001_1011], (3, 1), ColorType::Gray(2)), [0, 85, 170]);
        assert_eq!(expand_bits(vec![0x0f, 0x8f], (3, 1), ColorType::Gray(4)), [0, 255, 136]);
        assert_eq!(expand_bits(vec![1, 2], (2, 1), ColorType::Gray(8)), [1, 2]);
    }

    #[test]
    fn separate_planes_are_interleaved_and_lengths_checked() {
        let path = Path::new("a.tif");
        let planes = vec![1, 2, 10, 20, 100, 200];
        assert_eq!(interleaved(path, planes.clone(), 3, 3, (2, 1)).expect("whole"), [1, 10, 100, 2, 20, 200]);
        assert_eq!(interleaved(path, planes.clone(), 1, 3, (2, 1)).expect("whole"), planes);
        assert!(interleaved(path, planes.clone(), 2, 3, (2, 1)).is_err());
        assert!(interleaved(path, planes, 1, 3, (3, 1)).is_err());
    }
}
