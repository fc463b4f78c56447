//! Small images side by side with transparent gaps, for pages on a light or dark background.

use super::colour::{byte, diverging};
use super::sprites::encode;
use image::ExtendedColorType;
use vibrissa_core::shape::ImageShape;

/// Largest side of a tile, pixels: larger images are reduced to the means of blocks.
const MAX_SIDE: usize = 64;

/// Draws images with values in [0, 1], `columns` per line, as PNG. If `signed`, each image is scaled to its largest
/// |value|.
///
/// # Panics
/// If an image does not have the size of the shape.
pub fn tiles(images: &[&[f32]], shape: ImageShape, columns: usize, signed: bool) -> Vec<u8> {
    let ImageShape { channels, height, width } = shape;
    let block = height.max(width).div_ceil(MAX_SIDE).max(1);
    let [tall, wide] = [height, width].map(|s| s.div_ceil(block).max(1));
    let gap = (tall.max(wide) / 12).max(1);
    let columns = columns.min(images.len()).max(1);
    let lines = images.len().div_ceil(columns).max(1);
    let size = [columns * (wide + gap) - gap, lines * (tall + gap) - gap];
    let mut out = vec![0u8; size[0] * size[1] * 4];
    for (i, image) in images.iter().enumerate() {
        assert_eq!(image.len(), shape.dim(), "an image has the size of the shape");
        let largest = image.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE);
        let mean = |c: usize, y: usize, x: usize| {
            let (ys, xs) = (y * block..((y + 1) * block).min(height), x * block..((x + 1) * block).min(width));
            let n = (ys.len() * xs.len()) as f32;
            let at = |y: usize| xs.clone().map(move |x| image[(c * height + y) * width + x]);
            ys.flat_map(at).sum::<f32>() / n
        };
        let (left, top) = (i % columns * (wide + gap), i / columns * (tall + gap));
        for y in 0..tall {
            for x in 0..wide {
                let tone = |c: usize| match signed {
                    true => byte(0.5 + 0.5 * mean(c, y, x) / largest),
                    false => byte(mean(c, y, x)),
                };
                let rgb = match channels {
                    3 => [0, 1, 2].map(tone),
                    _ if signed => diverging(mean(0, y, x) / largest),
                    _ => [tone(0); 3],
                };
                let at = ((top + y) * size[0] + left + x) * 4;
                out[at..at + 4].copy_from_slice(&[rgb[0], rgb[1], rgb[2], 255]);
            }
        }
    }
    encode(&out, size[0], size[1], ExtendedColorType::Rgba8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_in_lines_with_transparent_gaps() {
        let (black, white) = (vec![0.0; 4], vec![1.0; 4]);
        let png = tiles(&[&black, &white, &white], (1, 2, 2).into(), 2, false);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgba8();
        assert_eq!(image.dimensions(), (5, 5));
        let at = |x, y| image.get_pixel(x, y).0;
        assert_eq!([at(0, 0), at(2, 0), at(3, 1), at(1, 4)], [[0, 0, 0, 255], [0; 4], [255; 4], [255; 4]]);
        assert_eq!(at(4, 4), [0; 4]);
    }

    #[test]
    fn large_images_are_reduced_and_keep_their_signs() {
        let mut large = vec![0.5f32; 3 * 100 * 130];
        large[0] = -1.0;
        let png = tiles(&[&large], (3, 100, 130).into(), 8, true);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgba8();
        assert_eq!(image.dimensions(), (44, 34));
        assert!(image.get_pixel(0, 0).0[0] < image.get_pixel(1, 0).0[0]);
        let png = tiles(&[&[-1.0, 1.0]], (1, 1, 2).into(), 1, true);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!([image.get_pixel(0, 0).0, image.get_pixel(1, 0).0], [diverging(-1.0), diverging(1.0)]);
    }
}
