//! From a file to planes of samples: sniffing, decoding, orientation, alpha over white, grey where nothing is coloured.
//! Sizes are left as they are. Pages of TIFF files are in tiff.rs.

use super::resample::{Sample, luma_plane};
use super::tiff;
use crate::rows::{Channels, Range};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use vibrissa_core::error::{Error, Result};

/// A picture that takes more than this when decoded is refused.
pub(crate) const MOST_BYTES: u64 = 512 << 20;

/// The scale of the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// 0–255.
    Eight,
    /// 0–65535.
    Sixteen,
    /// Any.
    Float,
}

/// Samples of one or three planes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Planes {
    /// 8-bit pictures.
    Eight(Vec<u8>),
    /// 16-bit and floating-point pictures, on their own scale.
    Deep(Vec<f32>),
}

/// A decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decoded {
    /// Width and height.
    pub size: (usize, usize),
    /// 1 (also for colour files whose pixels are all grey) or 3.
    pub channels: usize,
    /// Channel-planar samples.
    pub planes: Planes,
    /// What the samples mean.
    pub scale: Scale,
    /// The largest sample of a deep picture.
    pub largest: f32,
}

/// What is known of a file before it is decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Probe {
    /// Number of pages (1 where the format has none).
    pub pages: usize,
    /// A TIFF, which alone has pages.
    pub tiff: bool,
    /// Holds 16-bit or floating-point samples.
    pub deep: bool,
    /// Width and height of all pages, if they are known and equal.
    pub size: Option<(usize, usize)>,
}

/// How samples are brought in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// `Some(Gray)` makes colour pictures grey.
    pub channels: Option<Channels>,
    /// Clips floats.
    pub range: Range,
}

/// An error about one picture file.
pub(crate) fn bad(path: &Path, found: impl Into<String>) -> Error {
    Error::file(path, found, "remove it or pass --skip-bad")
}

/// An [`Error::Io`] about one picture file.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(path, "read the image", "check its permissions, remove it or pass --skip-bad")
}

/// The format by the first bytes, whatever the extension.
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

/// An error of a decoder.
pub(crate) fn undecodable(path: &Path, error: impl std::fmt::Display) -> Error {
    bad(path, format!("cannot be decoded ({})", one_line(error)))
}

/// Looks at the header: pages and depth always, the size (after orientation) where `want_size`.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
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
            return Err(pixelless(path));
        }
        Some(if turns(orientation(&mut decoder)) { (height, width) } else { (width, height) })
    } else {
        None
    };
    Ok(Probe { pages: 1, tiff: false, deep, size })
}

/// A broken EXIF block does not make a picture unreadable.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Whether an orientation swaps width and height.
pub(crate) fn turns(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Decodes a file of one picture (the first frame of a GIF or WebP animation).
///
/// # Errors
/// One line, for a file that is unreadable, empty, no image, truncated, broken or too large when decoded.
pub(crate) fn decode(path: &Path, wanted: Wanted) -> Result<Decoded> {
    let bytes = std::fs::read(path).map_err(unreadable(path))?;
    let format = sniff(path, &bytes[..bytes.len().min(32)])?;
    if format == ImageFormat::Jpeg && !jpeg_is_complete(&bytes) {
        // The decoder fills in grey for what is missing.
        return Err(bad(path, format!("a truncated JPEG ({} bytes, no end marker)", bytes.len())));
    }
    if format == ImageFormat::Tiff {
        // It could not be probed, or its pages would have been read one by one.
        return Err(tiff::probe(path).err().unwrap_or_else(|| bad(path, "changed while it was read")));
    }
    let mut decoder =
        ImageReader::with_format(Cursor::new(&bytes), format).into_decoder().map_err(|e| undecodable(path, e))?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MOST_BYTES {
        return Err(too_large(path, width as usize, height as usize));
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    decoder.set_limits(limits).map_err(|e| undecodable(path, e))?;
    let orientation = orientation(&mut decoder);
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, e))?;
    let size = (width as usize, height as usize);
    let samples = match &picture {
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
    samples.decoded(path, size, orientation, wanted)
}

/// An error about a picture of no width or no height.
pub(crate) fn pixelless(path: &Path) -> Error {
    bad(path, "a picture without pixels")
}

/// An error about a picture that would take too much memory.
pub(crate) fn too_large(path: &Path, width: usize, height: usize) -> Error {
    bad(path, format!("{width} × {height} pixels take more than {} MiB when decoded", MOST_BYTES >> 20))
}

/// Interleaved samples as a decoder gives them, and how many make a pixel: 1 grey, 2 grey and alpha, 3 colour,
/// 4 colour and alpha.
pub(crate) enum Samples<'a> {
    /// 8 bits.
    Eight(&'a [u8], usize),
    /// 16 bits.
    Sixteen(&'a [u16], usize),
    /// Floats.
    Float(&'a [f32], usize),
}

impl Samples<'_> {
    /// Sorts the samples into planes, upright.
    ///
    /// # Errors
    /// If a float is not finite.
    pub(crate) fn decoded(
        self,
        path: &Path,
        size: (usize, usize),
        orientation: Orientation,
        wanted: Wanted,
    ) -> Result<Decoded> {
        if size.0 == 0 || size.1 == 0 {
            return Err(pixelless(path));
        }
        Ok(match self {
            Samples::Eight(samples, n) => {
                let (size, channels, planes) = upright(planar(samples, n, 255, wanted), size, orientation);
                Decoded { size, channels, planes: Planes::Eight(planes), scale: Scale::Eight, largest: 0.0 }
            }
            Samples::Sixteen(samples, n) => {
                let floats: Vec<f32> = samples.iter().map(|v| f32::from(*v)).collect();
                deep(&floats, n, Scale::Sixteen, size, orientation, wanted)
            }
            Samples::Float(samples, n) => {
                if let Some(at) = samples.iter().position(|v| !v.is_finite()) {
                    let (x, y) = (at / n % size.0, at / n / size.0);
                    return Err(bad(path, format!("{} at pixel ({x}, {y}); every value must be finite", samples[at])));
                }
                let most = if wanted.range == Range::Full { 1.0 } else { f32::MAX };
                let floats: Vec<f32> = samples.iter().map(|v| v.clamp(0.0, most)).collect();
                deep(&floats, n, Scale::Float, size, orientation, wanted)
            }
        })
    }
}

fn deep(
    samples: &[f32],
    n: usize,
    scale: Scale,
    size: (usize, usize),
    orientation: Orientation,
    wanted: Wanted,
) -> Decoded {
    let white = if scale == Scale::Sixteen { 65535.0 } else { 1.0 };
    let (size, channels, planes) = upright(planar(samples, n, white, wanted), size, orientation);
    // Of the camera's samples, so that the scale does not depend on the colour that was asked for.
    let largest = samples.iter().copied().fold(0.0, f32::max);
    Decoded { size, channels, planes: Planes::Deep(planes), scale, largest }
}

/// One plane if every pixel is grey or grey is wanted, else three; alpha over white.
fn planar<S: Sample>(samples: &[S], n: usize, white: S, wanted: Wanted) -> Vec<S> {
    let pixels = samples.len() / n;
    let solid = |p: &[S], c: usize| if n.is_multiple_of(2) { p[c].over_white(p[n - 1], white) } else { p[c] };
    if n < 3 {
        return samples.chunks_exact(n).map(|p| solid(p, 0)).collect();
    }
    let mut planes = vec![S::default(); 3 * pixels];
    let (r, rest) = planes.split_at_mut(pixels);
    let (g, b) = rest.split_at_mut(pixels);
    let mut coloured = false;
    for (((p, r), g), b) in samples.chunks_exact(n).zip(r).zip(g).zip(b) {
        (*r, *g, *b) = (solid(p, 0), solid(p, 1), solid(p, 2));
        coloured |= *r != *g || *g != *b;
    }
    if !coloured {
        planes.truncate(pixels);
    } else if wanted.channels == Some(Channels::Gray) {
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
    let (w, h) = if turns(orientation) { (height, width) } else { (width, height) };
    // Where in the file the pixel (x, y) of the upright picture is.
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

/// Whether the markers of a JPEG lead to its end marker; what follows that is of no interest.
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

/// The next marker (FF, any number of further FF, a byte that is not 0), wherever it is: entropy-coded data, which has
/// no length, holds none but restarts.
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
