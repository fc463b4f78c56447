//! Encoding of images as PNG, and sprite sheets: many small images in one PNG, from which a page cuts its tiles.

use super::colour::diverging;
use super::svg::series_rgb;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// Images of the same size in one PNG, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct SpriteSheet {
    /// PNG, 8 bits, grey or RGB.
    pub png: Vec<u8>,
    /// Number of images.
    pub n: usize,
    /// Images in a row of the sheet.
    pub columns: usize,
    /// Width of an image, pixels.
    pub width: usize,
    /// Height of an image, pixels.
    pub height: usize,
    /// Channels, 1 or 3.
    pub channels: usize,
}

/// Arranges images `[n, channels, height, width]` on a sheet that is roughly square.
///
/// # Panics
/// If the number of bytes does not match the shape.
pub fn sprite_sheet(images: &[u8], shape: &[usize]) -> SpriteSheet {
    let &[n, channels, height, width] = shape else { panic!("images [n, channels, height, width]") };
    assert_eq!(images.len(), n * channels * height * width, "the number of bytes matches the shape");
    let shown = if channels == 3 { 3 } else { 1 };
    let columns = ((n * height) as f64 / width.max(1) as f64).sqrt().ceil().max(1.0) as usize;
    let rows = n.div_ceil(columns).max(1);
    let across = columns * width;
    let mut out = vec![0u8; across.max(1) * (rows * height).max(1) * shown];
    for (i, image) in images.chunks_exact((channels * height * width).max(1)).enumerate() {
        let (x0, y0) = (i % columns * width, i / columns * height);
        for y in 0..height {
            for x in 0..width {
                for c in 0..shown {
                    out[((y0 + y) * across + x0 + x) * shown + c] = image[(c * height + y) * width + x];
                }
            }
        }
    }
    let colour = if shown == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let png = encode(&out, across.max(1), (rows * height).max(1), colour);
    SpriteSheet { png, n, columns, width, height, channels: shown }
}

/// Encodes one image `[channels, height, width]` as PNG. If `signed`, grey values go through the diverging map, with 0
/// at 128.
pub fn image_png(bytes: &[u8], channels: usize, height: usize, width: usize, signed: bool) -> Vec<u8> {
    let plane = height * width;
    let pixels: Vec<u8> = (0..plane)
        .flat_map(|i| match channels {
            3 => [bytes[i], bytes[plane + i], bytes[2 * plane + i]],
            _ if signed => diverging((f32::from(bytes[i]) - 128.0) / 127.0),
            _ => [bytes[i]; 3],
        })
        .collect();
    encode(&pixels, width, height, ExtendedColorType::Rgb8)
}

/// Encodes pixels as PNG, each `(series, opacity in [0, 1])` in the colour of its series, `width` per line; `None` is
/// transparent.
pub fn series_png(pixels: &[Option<(usize, f64)>], width: usize) -> Vec<u8> {
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|p| match p {
            Some((series, opacity)) => {
                let [r, g, b] = series_rgb(*series);
                [r, g, b, (255.0 * opacity.clamp(0.0, 1.0)).round() as u8]
            }
            None => [0; 4],
        })
        .collect();
    encode(&bytes, width, pixels.len() / width.max(1), ExtendedColorType::Rgba8)
}

/// Encodes pixels as PNG; the same pixels give the same bytes.
pub(super) fn encode(pixels: &[u8], width: usize, height: usize, colour: ExtendedColorType) -> Vec<u8> {
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
        .write_image(pixels, width as u32, height as u32, colour)
        .expect("a non-empty buffer in memory always encodes");
    png
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_where_the_sheet_says() {
        let bytes: Vec<u8> = (0..5 * 3 * 2 * 4).map(|i| i as u8).collect();
        let s = sprite_sheet(&bytes, &[5, 3, 2, 4]);
        let image = image::load_from_memory(&s.png).expect("a PNG").to_rgb8();
        for i in 0..5 {
            for c in 0..3 {
                for y in 0..2 {
                    for x in 0..4 {
                        let at = image.get_pixel((i % s.columns * 4 + x) as u32, (i / s.columns * 2 + y) as u32);
                        assert_eq!(at.0[c], bytes[((i * 3 + c) * 2 + y) * 4 + x]);
                    }
                }
            }
        }
        assert_eq!(sprite_sheet(&[], &[0, 1, 3, 3]).n, 0);
    }
}
