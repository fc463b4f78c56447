//! A buffer of RGB pixels with anti-aliased rectangles, images, lines and text. No layout.

use super::font;
use super::sprites::encode;
use image::ExtendedColorType;

/// Red, green, blue, 0–255 (sRGB).
pub type Rgb = [u8; 3];

/// An RGB image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// Horizontal alignment of a text at its x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// The text starts at x.
    Left,
    /// The text is centred at x.
    Centre,
    /// The text ends at x.
    Right,
}

impl Canvas {
    /// A canvas of one colour; at least 1×1 pixels, so that it can always be encoded.
    pub fn new(width: usize, height: usize, colour: Rgb) -> Canvas {
        let (width, height) = (width.max(1), height.max(1));
        Canvas { width, height, pixels: colour.repeat(width * height) }
    }

    /// Width, pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height, pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All pixels as red, green, blue, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixel at column `x` and row `y`.
    ///
    /// # Panics
    /// If it lies outside the canvas.
    pub fn pixel(&self, x: usize, y: usize) -> Rgb {
        assert!(x < self.width && y < self.height, "pixel {x}, {y} of {}×{}", self.width, self.height);
        let at = (y * self.width + x) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// The image encoded as PNG; the same pixels give the same bytes.
    pub fn encode_png(&self) -> Vec<u8> {
        encode(&self.pixels, self.width, self.height, ExtendedColorType::Rgb8)
    }

    /// Mixes a colour into one pixel. Does nothing outside the canvas.
    pub(super) fn blend(&mut self, x: i64, y: i64, colour: Rgb, coverage: f32) {
        if x < 0 || y < 0 || x >= self.width as i64 || y >= self.height as i64 || coverage <= 0.0 {
            return;
        }
        let at = (y as usize * self.width + x as usize) * 3;
        let coverage = coverage.min(1.0);
        for (old, new) in self.pixels[at..at + 3].iter_mut().zip(colour) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * coverage).round() as u8;
        }
    }

    /// Draws a filled rectangle.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        for y in y..(y + height).min(self.height) {
            for x in x..(x + width).min(self.width) {
                self.pixels[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
            }
        }
    }

    /// Draws a frame of one pixel just outside the rectangle.
    pub(super) fn frame(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        let (left, top) = (x.saturating_sub(1), y.saturating_sub(1));
        self.fill(left, top, width + 2, 1, colour);
        self.fill(left, y + height, width + 2, 1, colour);
        self.fill(left, top, 1, height + 2, colour);
        self.fill(x + width, top, 1, height + 2, colour);
    }

    /// Draws an image of `width × height` pixels, each as a square of `factor × factor` pixels.
    pub(super) fn image(
        &mut self,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        factor: usize,
        at: impl Fn(usize) -> Rgb,
    ) {
        for i in 0..height {
            for j in 0..width {
                self.fill(x + j * factor, y + i * factor, factor, factor, at(i * width + j));
            }
        }
    }

    /// Draws a polyline with round joins, `thickness` pixels wide. Coordinates are pixel centres; the line is
    /// interrupted at points that are not finite.
    pub(super) fn polyline(&mut self, points: &[(f32, f32)], thickness: f32, colour: Rgb) {
        let reach = thickness / 2.0 + 1.0;
        for (i, pair) in points.windows(2).enumerate() {
            let (a, b) = (pair[0], pair[1]);
            if ![a.0, a.1, b.0, b.1].iter().all(|v| v.is_finite()) {
                continue;
            }
            // The join of two segments is drawn with the second one only: drawn twice, it would be darker.
            let before = i.checked_sub(1).map(|i| points[i]).filter(|p| p.0.is_finite() && p.1.is_finite());
            for y in (a.1.min(b.1) - reach).floor() as i64..=(a.1.max(b.1) + reach).ceil() as i64 {
                for x in (a.0.min(b.0) - reach).floor() as i64..=(a.0.max(b.0) + reach).ceil() as i64 {
                    let p = (x as f32, y as f32);
                    let cover = |d: f32| (0.5 + thickness / 2.0 - d).clamp(0.0, 1.0);
                    let here = cover(distance(p, a, b));
                    let painted = before.map_or(0.0, |z| cover(distance(p, z, a)));
                    if here > painted {
                        self.blend(x, y, colour, (here - painted) / (1.0 - painted));
                    }
                }
            }
        }
    }

    /// Draws text on a baseline, with capitals `8 * scale` pixels high.
    pub(super) fn text(&mut self, x: usize, baseline: usize, text: &str, scale: f32, align: Align, colour: Rgb) {
        let width = font::width(text, scale);
        let left = match align {
            Align::Left => x as i64,
            Align::Centre => x as i64 - (width / 2) as i64,
            Align::Right => x as i64 - width as i64,
        };
        font::draw(text, scale, |dx, dy, coverage| self.blend(left + dx, baseline as i64 + dy, colour, coverage));
    }
}

/// Distance between a point and a segment.
fn distance(p: (f32, f32), a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let t = if length > 0.0 { (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (p.0 - a.0 - t * dx).hypot(p.1 - a.1 - t * dy)
}
