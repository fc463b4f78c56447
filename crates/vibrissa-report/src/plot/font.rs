//! Text as pixels, in an embedded font: Noto Sans SC (SIL Open Font License 1.1, `font/OFL.txt`) with Latin, Greek,
//! signs and the Chinese characters of GB 2312. The result is the same on every machine, even on one without fonts.

use resvg::tiny_skia::{FillRule, Mask, Path, PathBuilder, Transform};
use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider};
use unicode_normalization::UnicodeNormalization;

/// The embedded font, made by `scripts/make_font.py`.
pub(super) static FONT: &[u8] = include_bytes!("font/NotoSansSC-subset.otf");

/// Height of a capital letter at scale 1, pixels.
const CAPITAL_HEIGHT: f32 = 8.0;
/// Height of a capital letter relative to the font size.
const CAPITAL_RATIO: f32 = 0.733;

fn font() -> FontRef<'static> {
    FontRef::new(FONT).expect("the font is part of this program")
}

/// Font size, pixels.
fn size(scale: f32) -> f32 {
    scale * CAPITAL_HEIGHT / CAPITAL_RATIO
}

/// Lays out a text: its glyphs with their x in pixels, and its width. Characters missing from the font are boxes.
fn lay_out(text: &str, scale: f32) -> (Vec<(GlyphId, f32)>, f32) {
    let font = font();
    let (characters, metrics) = (font.charmap(), font.glyph_metrics(Size::new(size(scale)), LocationRef::default()));
    let mut x = 0.0;
    // File names on macOS are decomposed (letter, then accent); the font has composed characters only.
    let glyphs = text.nfc().map(|c| {
        let glyph = characters.map(c).unwrap_or(GlyphId::NOTDEF);
        let at = x;
        x += metrics.advance_width(glyph).unwrap_or(0.0);
        (glyph, at)
    });
    (glyphs.collect(), x)
}

/// Width of a text, pixels.
pub(super) fn width(text: &str, scale: f32) -> usize {
    lay_out(text, scale).1.ceil() as usize
}

/// Collects the outline of a glyph, with y downwards.
struct Pen(PathBuilder);

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, -y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, -y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.0.quad_to(x1, -y1, x, -y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.0.cubic_to(x1, -y1, x2, -y2, x, -y);
    }
    fn close(&mut self) {
        self.0.close();
    }
}

fn outline(glyph: GlyphId, scale: f32) -> Option<Path> {
    let mut pen = Pen(PathBuilder::new());
    let settings = DrawSettings::unhinted(Size::new(size(scale)), LocationRef::default());
    font().outline_glyphs().get(glyph)?.draw(settings, &mut pen).ok()?;
    pen.0.finish()
}

/// Calls `pixel(x, y, coverage)` for every covered pixel of a text that starts at x = 0 on the baseline y = 0.
pub(super) fn draw(text: &str, scale: f32, mut pixel: impl FnMut(i64, i64, f32)) {
    let (glyphs, width) = lay_out(text, scale);
    let (above, below) = ((1.2 * size(scale)).ceil() as u32, (0.4 * size(scale)).ceil() as u32);
    let (columns, rows) = (width.ceil() as u32 + 2, above + below);
    let Some(mut mask) = Mask::new(columns, rows) else { return };
    for (glyph, x) in glyphs {
        if let Some(path) = outline(glyph, scale) {
            mask.fill_path(&path, FillRule::Winding, true, Transform::from_translate(x + 1.0, above as f32));
        }
    }
    for (i, &coverage) in mask.data().iter().enumerate().filter(|p| *p.1 > 0) {
        let (x, y) = (i as u32 % columns, i as u32 / columns);
        pixel(i64::from(x) - 1, i64::from(y) - i64::from(above), f32::from(coverage) / 255.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<(i64, i64, u32)> {
        let mut out = Vec::new();
        draw(text, 1.0, |x, y, c| out.push((x, y, (255.0 * c) as u32)));
        out
    }

    /// All characters of reports and sheets, in every language.
    #[test]
    fn characters_differ_and_none_is_missing() {
        let mut seen = std::collections::BTreeMap::new();
        let unknown = drawn("\u{10fff0}");
        let words = include_str!("../report/words.json").chars().chain(' '..='~').chain("äéîõüñçÅßµ".chars());
        for letter in words.filter(|c| !c.is_whitespace()).collect::<std::collections::BTreeSet<char>>() {
            let glyph = drawn(&letter.to_string());
            assert!(!glyph.is_empty() && glyph != unknown, "{letter} is not in the font");
            if let Some(other) = seen.insert(glyph, letter) {
                // Letters of different alphabets may look the same.
                assert!(!(other.is_ascii() && letter.is_ascii()), "{letter} looks like {other}");
            }
        }
    }

    #[test]
    fn decomposed_accents_are_composed() {
        assert_eq!(drawn("e\u{301}"), drawn("é"));
        assert_ne!(drawn("é"), drawn("e"));
    }

    #[test]
    fn widths_add_up_and_capitals_are_eight_pixels_high() {
        assert!((lay_out("类别", 1.0).1 - lay_out("类", 1.0).1 - lay_out("别", 1.0).1).abs() < 1e-4);
        assert!(width("", 1.0) == 0 && width("mm", 1.0) > width("ii", 1.0) && width("a", 2.0) >= width("a", 1.0));
        let rows: Vec<i64> = drawn("H").into_iter().filter(|p| p.2 > 100).map(|p| p.1).collect();
        assert_eq!((rows.iter().min(), rows.iter().max()), (Some(&-8), Some(&-1)));
    }
}
