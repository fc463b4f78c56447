//! Image files decoded to planes of samples: format by content, orientation, alpha over white, grey where no pixel is
//! coloured. Sizes are left as they are. Pages of TIFF files are in tiff.rs.

use super::resample::{Sample, luma_plane};
use super::tiff;
use crate::rows::{Channels, ValueRange};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use vibrissa_core::error::{Error, Result};

/// Largest size of a decoded image, in bytes; larger images are refused.
pub(crate) const MAX_BYTES: u64 = 512 << 20;

/// Type of the samples of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SampleType {
    /// 8 bits, 0–255.
    Eight,
    /// 16 bits, 0–65535.
    Sixteen,
    /// Floating point, any value.
    Float,
}

/// Samples of an image, plane by plane.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Planes {
    /// 8-bit images.
    Eight(Vec<u8>),
    /// 16-bit and floating-point images, on their own scale.
    Deep(Vec<f32>),
}

/// A decoded image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    /// Width and height.
    pub size: (usize, usize),
    /// 1 (also for colour files whose pixels are all grey) or 3.
    pub channels: usize,
    /// Channel-planar samples.
    pub planes: Planes,
    /// Type of the samples in the file.
    pub sample_type: SampleType,
    /// The largest sample of a deep image.
    pub largest: f32,
}

/// Facts about a file that are read from its header.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Probe {
    /// Number of pages (1 where the format has none).
    pub pages: usize,
    /// True for a TIFF, the only format with pages.
    pub tiff: bool,
    /// True if it holds 16-bit or floating-point samples.
    pub deep: bool,
    /// Width and height of all pages, if they are known and equal.
    pub size: Option<(usize, usize)>,
}

/// Requested colour and scale of the samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeOptions {
    /// Colour of the rows; `Some(Gray)` makes colour images grey.
    pub channels: Option<Channels>,
    /// Scale of the rows; `Full` clips floats at 1.
    pub range: ValueRange,
}

/// Makes an error about an image file.
pub(crate) fn bad(path: &Path, found: impl Into<String>) -> Error {
    Error::file(path, found, "remove it or set `skip_bad`")
}

/// Makes an [`Error::Io`] about an image file.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(path, "read the image", "check its permissions, remove it or set `skip_bad`")
}

/// Returns the format, by the first bytes and not by the extension.
fn sniff(path: &Path, head: &[u8]) -> Result<ImageFormat> {
    if head.is_empty() {
        return Err(bad(path, "empty (0 bytes)"));
    }
    // BigTIFF, which `guess_format` does not know.
    if head.starts_with(b"II\x2b\0") || head.starts_with(b"MM\0\x2b") {
        return Ok(ImageFormat::Tiff);
    }
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    match image::guess_format(head) {
        Ok(format @ (Png | Jpeg | WebP | Bmp | Tiff | Gif)) => Ok(format),
        Ok(other) => Err(bad(path, format!("a {other:?} file; PNG, JPEG, WebP, BMP, TIFF and GIF are read"))),
        Err(_) => {
            let start = &head[..head.len().min(4)];
            let hex: Vec<String> = start.iter().map(|b| format!("{b:02x}")).collect();
            let text: String =
                start.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' }).collect();
            Err(bad(path, format!("not an image (starts with {} \"{text}\")", hex.join(" "))))
        }
    }
}

fn one_line(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes an error of a decoder.
pub(crate) fn undecodable(path: &Path, error: impl std::fmt::Display) -> Error {
    bad(path, format!("cannot be decoded ({})", one_line(error)))
}

/// Reads the header of a file: number of pages, depth, and with `want_size` the size after orientation.
///
/// # Errors
/// As [`decode`], as far as the header shows the fault.
pub(crate) fn probe(path: &Path, want_size: bool) -> Result<Probe> {
    let file = File::open(path).map_err(unreadable(path))?;
    let mut head = Vec::with_capacity(32);
    (&file).take(32).read_to_end(&mut head).map_err(unreadable(path))?;
    let format = sniff(path, &head)?;
    if format == ImageFormat::Tiff {
        return tiff::probe(path);
    }
    // Byte 24 of a PNG is the bit depth in its IHDR.
    let deep = format == ImageFormat::Png && head.get(24) == Some(&16);
    let size = if want_size {
        let reader = BufReader::new(File::open(path).map_err(unreadable(path))?);
        let mut decoder = ImageReader::with_format(reader, format).into_decoder().map_err(|e| undecodable(path, e))?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        if width == 0 || height == 0 {
            return Err(without_pixels(path));
        }
        Some(if swaps_sides(orientation(&mut decoder)) { (height, width) } else { (width, height) })
    } else {
        None
    };
    Ok(Probe { pages: 1, tiff: false, deep, size })
}

/// Returns the orientation of an image; none where its EXIF block is broken, since the image can still be read.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Returns true if an orientation swaps width and height.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Decodes a file of one image (the first frame of a GIF or WebP animation).
///
/// # Errors
/// A file that is unreadable, empty, not an image, truncated, broken or too large when decoded.
pub(crate) fn decode(path: &Path, options: DecodeOptions) -> Result<Decoded> {
    let bytes = std::fs::read(path).map_err(unreadable(path))?;
    let format = sniff(path, &bytes[..bytes.len().min(32)])?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(&bytes) {
        // The decoder would fill in grey for missing data.
        return Err(bad(path, format!("a truncated JPEG ({} bytes, no end marker)", bytes.len())));
    }
    if format == ImageFormat::Tiff {
        // A TIFF whose header can be read is read page by page instead.
        return Err(tiff::probe(path).err().unwrap_or_else(|| bad(path, "changed while it was read")));
    }
    let mut decoder =
        ImageReader::with_format(Cursor::new(&bytes), format).into_decoder().map_err(|e| undecodable(path, e))?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MAX_BYTES {
        return Err(too_large(path, width as usize, height as usize));
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    decoder.set_limits(limits).map_err(|e| undecodable(path, e))?;
    let orientation = orientation(&mut decoder);
    let image = DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, e))?;
    let size = (width as usize, height as usize);
    let samples = match &image {
        DynamicImage::ImageLuma8(p) => Samples::Eight(p.as_raw(), 1),
        DynamicImage::ImageLumaA8(p) => Samples::Eight(p.as_raw(), 2),
        DynamicImage::ImageRgb8(p) => Samples::Eight(p.as_raw(), 3),
        DynamicImage::ImageRgba8(p) => Samples::Eight(p.as_raw(), 4),
        DynamicImage::ImageLuma16(p) => Samples::Sixteen(p.as_raw(), 1),
        DynamicImage::ImageLumaA16(p) => Samples::Sixteen(p.as_raw(), 2),
        DynamicImage::ImageRgb16(p) => Samples::Sixteen(p.as_raw(), 3),
        DynamicImage::ImageRgba16(p) => Samples::Sixteen(p.as_raw(), 4),
        other => return Err(bad(path, format!("pixels of type {:?} are not read", other.color()))),
    };
    samples.decoded(path, size, orientation, options)
}

/// Makes an error about an image of no width or no height.
pub(crate) fn without_pixels(path: &Path) -> Error {
    bad(path, "an image without pixels")
}

/// Makes an error about an image that would take too much memory.
pub(crate) fn too_large(path: &Path, width: usize, height: usize) -> Error {
    bad(path, format!("{width} × {height} pixels take more than {} MiB when decoded", MAX_BYTES >> 20))
}

/// Interleaved samples of a decoder, and the number of samples of a pixel: 1 grey, 2 grey and alpha, 3 colour, 4 colour
/// and alpha.
pub(crate) enum Samples<'a> {
    /// 8 bits.
    Eight(&'a [u8], usize),
    /// 16 bits.
    Sixteen(&'a [u16], usize),
    /// Floats.
    Float(&'a [f32], usize),
}

impl Samples<'_> {
    /// Sorts the samples into upright planes.
    ///
    /// # Errors
    /// An image without pixels, or a float that is not finite.
    pub(crate) fn decoded(
        self,
        path: &Path,
        size: (usize, usize),
        orientation: Orientation,
        options: DecodeOptions,
    ) -> Result<Decoded> {
        if size.0 == 0 || size.1 == 0 {
            return Err(without_pixels(path));
        }
        Ok(match self {
            Samples::Eight(samples, n) => {
                let (size, channels, planes) = upright(planar(samples, n, 255, options), size, orientation);
                Decoded { size, channels, planes: Planes::Eight(planes), sample_type: SampleType::Eight, largest: 0.0 }
            }
            Samples::Sixteen(samples, n) => {
                let floats: Vec<f32> = samples.iter().map(|v| f32::from(*v)).collect();
                deep(&floats, n, SampleType::Sixteen, size, orientation, options)
            }
            Samples::Float(samples, n) => {
                if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
                    let (x, y) = (at / n % size.0, at / n / size.0);
                    return Err(bad(path, format!("{} at pixel ({x}, {y}); every value must be finite", samples[at])));
                }
                let most = if options.range == ValueRange::Full { 1.0 } else { f32::MAX };
                let floats: Vec<f32> = samples.iter().map(|v| v.clamp(0.0, most)).collect();
                deep(&floats, n, SampleType::Float, size, orientation, options)
            }
        })
    }
}

fn deep(
    samples: &[f32],
    n: usize,
    sample_type: SampleType,
    size: (usize, usize),
    orientation: Orientation,
    options: DecodeOptions,
) -> Decoded {
    let white = if sample_type == SampleType::Sixteen { 65535.0 } else { 1.0 };
    let (size, channels, planes) = upright(planar(samples, n, white, options), size, orientation);
    // Taken from the samples of the file, so that the scale does not depend on the requested colour.
    let largest = samples.iter().copied().fold(0.0, f32::max);
    Decoded { size, channels, planes: Planes::Deep(planes), sample_type, largest }
}

/// Returns one plane if every pixel is grey or grey is requested, and three otherwise; alpha is laid over white.
fn planar<S: Sample>(samples: &[S], n: usize, white: S, options: DecodeOptions) -> Vec<S> {
    let pixels = samples.len() / n;
    let opaque = |p: &[S], c: usize| if n.is_multiple_of(2) { p[c].over_white(p[n - 1], white) } else { p[c] };
    if n < 3 {
        return samples.chunks_exact(n).map(|p| opaque(p, 0)).collect();
    }
    let mut planes = vec![S::default(); 3 * pixels];
    let (r, rest) = planes.split_at_mut(pixels);
    let (g, b) = rest.split_at_mut(pixels);
    let mut coloured = false;
    for (((p, r), g), b) in samples.chunks_exact(n).zip(r).zip(g).zip(b) {
        (*r, *g, *b) = (opaque(p, 0), opaque(p, 1), opaque(p, 2));
        coloured |= *r != *g || *g != *b;
    }
    if !coloured {
        planes.truncate(pixels);
    } else if options.channels == Some(Channels::Gray) {
        planes = luma_plane(&planes, pixels);
    }
    planes
}

/// Applies an EXIF orientation; returns the new size, the number of planes and the planes.
fn upright<S: Sample>(
    planes: Vec<S>,
    (width, height): (usize, usize),
    orientation: Orientation,
) -> ((usize, usize), usize, Vec<S>) {
    use Orientation::{
        FlipHorizontal, FlipVertical, NoTransforms, Rotate90, Rotate90FlipH, Rotate180, Rotate270, Rotate270FlipH,
    };
    let channels = planes.len() / (width * height);
    let (w, h) = if swaps_sides(orientation) { (height, width) } else { (width, height) };
    // The pixel of the file that becomes the pixel (x, y) of the upright image.
    let source = |x: usize, y: usize| match orientation {
        NoTransforms => (x, y),
        FlipHorizontal => (width - 1 - x, y),
        Rotate180 => (width - 1 - x, height - 1 - y),
        FlipVertical => (x, height - 1 - y),
        Rotate90FlipH => (y, x),
        Rotate90 => (y, height - 1 - x),
        Rotate270FlipH => (width - 1 - y, height - 1 - x),
        Rotate270 => (width - 1 - y, x),
    };
    if orientation == NoTransforms {
        return ((w, h), channels, planes);
    }
    let mut out = Vec::with_capacity(planes.len());
    for plane in planes.chunks_exact(width * height) {
        for y in 0..h {
            out.extend((0..w).map(|x| {
                let (sx, sy) = source(x, y);
                plane[sy * width + sx]
            }));
        }
    }
    ((w, h), channels, out)
}

/// Returns true if the markers of a JPEG lead to its end marker; bytes after that are ignored.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else { return false };
        match marker {
            0xd9 => return true,
            // These have no length: restarts, start of image, TEM.
            0xd0..=0xd8 | 0x01 => {}
            _ => {
                let Some(length) = bytes.get(at..at + 2) else { return false };
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

/// Returns the next marker (FF, any number of further FF, a byte that is not 0) at any distance: entropy-coded data,
/// which has no length, holds only restart markers.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let ff = bytes.get(*at..)?.iter().position(|b| *b == 0xff)?;
        *at += ff + 1;
        let skip = bytes[*at..].iter().position(|b| *b != 0xff)?;
        *at += skip + 1;
        match bytes[*at - 1] {
            0 => {}
            marker => return Some(marker),
        }
    }
}
