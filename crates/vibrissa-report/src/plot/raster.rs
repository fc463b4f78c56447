//! SVG to PNG, with the embedded font: the same image on every machine, even on one without fonts.

use super::font::FONT;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::sync::{Arc, OnceLock};

fn options() -> Options<'static> {
    static ALL: OnceLock<(Arc<fontdb::Database>, String)> = OnceLock::new();
    let (fonts, family) = ALL.get_or_init(|| {
        let mut all = fontdb::Database::new();
        all.load_font_source(fontdb::Source::Binary(Arc::new(FONT)));
        let family = all.faces().next().map(|f| f.families[0].0.clone()).expect("a font");
        all.set_sans_serif_family(family.clone());
        (Arc::new(all), family)
    });
    Options { fontdb: fonts.clone(), font_family: family.clone(), ..Options::default() }
}

/// Renders an SVG as PNG, at `scale` pixels per unit.
///
/// # Errors
/// A description of the fault in the SVG.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, String> {
    let tree = Tree::from_str(svg, &options()).map_err(|e| e.to_string())?;
    let size = tree.size();
    let side = |s: f32| ((s * scale).ceil() as u32).max(1);
    let mut pixels = Pixmap::new(side(size.width()), side(size.height())).ok_or("a figure without size")?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<u8> {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"20\" height=\"20\"><text y=\"15\" font-size=\"16\">{text}</text></svg>"
        );
        png(&svg, 1.0).expect("a figure")
    }

    /// All letters of reports, in every language.
    #[test]
    fn the_font_has_every_letter_of_a_report() {
        let unknown = drawn("\u{10fff0}");
        let words: std::collections::BTreeSet<char> =
            [include_str!("../report/words.json"), include_str!("../report/sweep/words.json")]
                .concat()
                .chars()
                .collect();
        assert!(words.len() > 400, "{}", words.len());
        for letter in words.iter().filter(|c| !c.is_whitespace() && !matches!(c, '<' | '&' | '>')) {
            assert_ne!(drawn(&letter.to_string()), unknown, "{letter} is not in the font");
        }
        assert_ne!(drawn("类"), drawn("别"));
    }

    #[test]
    fn images_within_a_figure_are_drawn() {
        use base64::Engine;
        let red = crate::plot::sprites::image_png(&[255, 0, 0], 3, 1, 1, false);
        let red = base64::engine::general_purpose::STANDARD.encode(red);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"4\" height=\"4\"><image width=\"4\" height=\"4\" href=\"data:image/png;base64,{red}\"/></svg>"
        );
        let image = image::load_from_memory(&png(&svg, 2.0).expect("a figure")).expect("a PNG").to_rgb8();
        assert_eq!((image.dimensions(), image.get_pixel(4, 4).0), ((8, 8), [255, 0, 0]));
    }

    #[test]
    fn malformed_svg_is_an_error() {
        assert!(png("<svg", 1.0).is_err());
    }
}
