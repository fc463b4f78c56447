//! Small pictures beside each other with clear gaps, for a page that may be light or dark.

use super::Shape;
use super::colour::{byte, diverging};
use super::sheet::encode;
use image::ExtendedColorType;

/// The longer side of a tile, pixels, at most: larger pictures are made smaller by the mean of whole blocks.
const SIDE: usize = 64;

/// Pictures in [0, 1], or with `signed` each scaled to its own largest |value|, `columns` in a line, as PNG.
///
/// # Panics
/// If a picture does not have the shape's size.
pub fn tiles(pictures: &[&[f32]], shape: Shape, columns: usize, signed: bool) -> Vec<u8> {
    let (channels, height, width) = shape;
    let block = height.max(width).div_ceil(SIDE).max(1);
    let [tall, wide] = [height, width].map(|s| s.div_ceil(block).max(1));
    let gap = (tall.max(wide) / 12).max(1);
    let columns = columns.min(pictures.len()).max(1);
    let lines = pictures.len().div_ceil(columns).max(1);
    let size = [columns * (wide + gap) - gap, lines * (tall + gap) - gap];
    let mut out = vec![0u8; size[0] * size[1] * 4];
    for (i, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.len(), channels * height * width, "a picture has its shape's size");
        let largest =
            picture.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE);
        let mean = |c: usize, y: usize, x: usize| {
            let (ys, xs) = (y * block..((y + 1) * block).min(height), x * block..((x + 1) * block).min(width));
            let n = (ys.len() * xs.len()) as f32;
            let at = |y: usize| xs.clone().map(move |x| picture[(c * height + y) * width + x]);
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
    fn tiles_lie_in_lines_with_clear_gaps() {
        let (black, white) = (vec![0.0; 4], vec![1.0; 4]);
        let png = tiles(&[&black, &white, &white], (1, 2, 2), 2, false);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgba8();
        assert_eq!(image.dimensions(), (5, 5));
        let at = |x, y| image.get_pixel(x, y).0;
        assert_eq!([at(0, 0), at(2, 0), at(3, 1), at(1, 4)], [[0, 0, 0, 255], [0; 4], [255; 4], [255; 4]]);
        assert_eq!(at(4, 4), [0; 4]);
    }

    #[test]
    fn large_pictures_become_small_and_signs_stay() {
        let mut picture = vec![0.5f32; 3 * 100 * 130];
        picture[0] = -1.0;
        let png = tiles(&[&picture], (3, 100, 130), 8, true);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgba8();
        assert_eq!(image.dimensions(), (44, 34));
        assert!(image.get_pixel(0, 0).0[0] < image.get_pixel(1, 0).0[0]);
        let png = tiles(&[&[-1.0, 1.0]], (1, 1, 2), 1, true);
        let image = image::load_from_memory(&png).expect("a PNG").to_rgb8();
        assert_eq!([image.get_pixel(0, 0).0, image.get_pixel(1, 0).0], [diverging(-1.0), diverging(1.0)]);
    }
}
