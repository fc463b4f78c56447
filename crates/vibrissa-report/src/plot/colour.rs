//! Colours of the sheets, and the diverging map for signed values.

use super::canvas::Rgb;

/// Background of a sheet.
pub(super) const BACKGROUND: Rgb = [253, 252, 250];
/// Colour of titles and labels.
pub(super) const INK: Rgb = [45, 45, 48];
/// Colour of notes.
pub(super) const MUTED: Rgb = [112, 112, 116];
/// Colour of frames and axes.
pub(super) const HAIRLINE: Rgb = [214, 212, 208];
/// Colour of a value that is not a number.
pub(super) const NOT_A_NUMBER: Rgb = [255, 0, 255];
/// Colour of originals drawn as areas.
pub(super) const AREA: Rgb = [190, 191, 196];
/// Colour of reconstructions drawn as lines.
pub(super) const ACCENT: Rgb = [202, 66, 52];

/// The colour of a value in [-1, 1] (clamped): blue below 0, near-white at 0, red above.
///
/// Computed in Oklab (Ottosson 2020), so that lightness falls linearly with |value| and is the same for both signs.
/// Chroma rises early, so that small values already show their sign.
pub fn diverging(value: f32) -> Rgb {
    if value.is_nan() {
        return NOT_A_NUMBER;
    }
    let magnitude = value.abs().min(1.0);
    let lightness = 0.975 - 0.595 * magnitude;
    let chroma = 0.155 * (1.0 - (1.0 - magnitude).powf(2.2)) * (1.0 - 0.22 * magnitude * magnitude);
    let hue: f32 = if value < 0.0 { 254.0 } else { 27.0 };
    let (sin, cos) = hue.to_radians().sin_cos();
    oklab(lightness, chroma * cos, chroma * sin)
}

/// A value in [0, 1] (clamped) as a byte.
pub(super) fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

fn oklab(lightness: f32, a: f32, b: f32) -> Rgb {
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    let linear = [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ];
    linear.map(|v| byte(if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_white_in_the_middle_and_balanced() {
        let [r, g, b] = diverging(0.0);
        assert!(r.min(g).min(b) > 240 && r.max(g).max(b) - r.min(g).min(b) <= 2);
        let luma = |c: Rgb| 0.2126 * f32::from(c[0]) + 0.7152 * f32::from(c[1]) + 0.0722 * f32::from(c[2]);
        let mut last = 256.0;
        for i in 0..=20 {
            let (red, blue) = (diverging(i as f32 / 20.0), diverging(i as f32 / -20.0));
            assert!(luma(red) < last, "darker outwards");
            assert!((luma(red) - luma(blue)).abs() < 26.0, "{i}: {red:?} {blue:?}");
            assert!(i == 0 || (red[0] > red[2] && blue[2] > blue[0]));
            last = luma(red);
        }
        assert_eq!((diverging(7.0), diverging(f32::NEG_INFINITY)), (diverging(1.0), diverging(-1.0)));
        assert_eq!(diverging(f32::NAN), NOT_A_NUMBER);
    }
}
