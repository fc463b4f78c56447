//! A small stroke font drawn for this program, in the manner of DIN 1451: ASCII, Latin letters with accents and a few
//! signs, no file, no licence.
//!
//! Capitals are 7 units high, small letters 5, descenders 2; at scale 1 a unit is a pixel and every stem lies on pixel
//! centres, so that small labels are crisp; at other scales the control points are rounded to whole pixels.

type Point = (f32, f32);

/// Space between neighbouring letters, units beyond the stems' centres; one more where two upright stems meet, which
/// would look closer than a stem and a curve. Figures stay of one width.
const SPACING: f32 = 2.0;
const STEM_ON_THE_RIGHT: &str = "HIJMNUadghijlmnqu![]()|'\"";
const STEM_ON_THE_LEFT: &str = "BDEFHIKLMNPRUbhiklmnpru![]()|'\"";

/// A glyph: its character, its width in units, its strokes separated by `|`. A stroke is a list of `x,y`; it begins with
/// `~r` where the corners are rounded with radius r, with `or` where it is also closed.
#[rustfmt::skip]
const GLYPHS: &[(char, f32, &str)] = &[
    (' ', 2.0, ""),
    ('!', 0.0, "0,7 0,2|0,0 0,0"),
    ('"', 2.0, "0,7 0,5|2,7 2,5"),
    ('#', 6.0, "1,0 2,7|4,0 5,7|0,2 5.5,2|0.5,5 6,5"),
    ('$', 4.0, "~1.5 4,5 4,6 0,6 0,3.5 4,3.5 4,1 0,1 0,2|2,8 2,-1"),
    ('%', 7.0, "6,7 1,0|o1.5 0,4 3,4 3,7 0,7|o1.5 4,0 7,0 7,3 4,3"),
    ('&', 5.0, "~1.5 5,0 1,5 1,7 4,7 4,5 0,3 0,0 4,0 5,3"),
    ('\'', 0.0, "0,7 0,5"),
    ('(', 2.0, "~3 2,8 0,6 0,0 2,-2"),
    (')', 2.0, "~3 0,8 2,6 2,0 0,-2"),
    ('*', 4.0, "2,7 2,3|0.3,6 3.7,4|0.3,4 3.7,6"),
    ('+', 4.0, "2,1 2,5|0,3 4,3"),
    (',', 1.0, "1,0 1,0|1,0 0.3,-2"),
    ('-', 3.0, "0,3 3,3"),
    ('.', 0.0, "0,0 0,0"),
    ('/', 3.0, "0,-1 3,8"),
    ('0', 4.0, "o2 0,0 4,0 4,7 0,7"),
    ('1', 4.0, "0.5,5.5 2,7 2,0"),
    ('2', 4.0, "~2 0,5 0,7 4,7 4,4 0,0|0,0 4,0"),
    ('3', 4.0, "~2 0,5.5 0,7 4,7 4,4 1.5,4|~2 1.5,4 4,4 4,0 0,0 0,1.5"),
    ('4', 4.0, "3,0 3,7 0,2 4,2"),
    ('5', 4.0, "4,7 0,7 0,4|~2 0,4 4,4 4,0 0,0 0,1.5"),
    ('6', 4.0, "o2 0,0 4,0 4,4 0,4|~2 0,2 0,7 4,7 4,5.5"),
    ('7', 4.0, "0,7 4,7 1.5,0"),
    ('8', 4.0, "o2 0,0 4,0 4,4 0,4|o2 0,4 4,4 4,7 0,7"),
    ('9', 4.0, "o2 0,3 4,3 4,7 0,7|~2 4,5 4,0 0,0 0,1.5"),
    (':', 0.0, "0,0 0,0|0,4 0,4"),
    (';', 1.0, "1,0 0.3,-2|1,4 1,4"),
    ('<', 4.0, "4,6 0,3 4,0"),
    ('=', 4.0, "0,2 4,2|0,4 4,4"),
    ('>', 4.0, "0,6 4,3 0,0"),
    ('?', 4.0, "~2 0,5.5 0,7 4,7 4,4 2,4 2,2|2,0 2,0"),
    ('@', 7.0, "~1.5 5,2 5,5 2,5 2,2 5,2|~2 5,5 5,2 7,2 7,7 0,7 0,-1 6,-1"),
    ('A', 6.0, "0,0 3,7 6,0|0.9,2 5.1,2"),
    ('B', 5.0, "0,7 0,0|~2 0,7 5,7 5,4 0,4|~2 0,4 5,4 5,0 0,0"),
    ('C', 5.0, "~2.5 5,5 5,7 0,7 0,0 5,0 5,2"),
    ('D', 5.0, "0,7 0,0|~2.5 0,7 5,7 5,0 0,0"),
    ('E', 4.0, "4,7 0,7 0,0 4,0|0,4 3.5,4"),
    ('F', 4.0, "4,7 0,7 0,0|0,4 3.5,4"),
    ('G', 5.0, "~2.5 5,5 5,7 0,7 0,0 5,0 5,3|5,3 3,3"),
    ('H', 5.0, "0,7 0,0|5,7 5,0|0,4 5,4"),
    ('I', 0.0, "0,7 0,0"),
    ('J', 3.0, "~2 3,7 3,0 0,0 0,1.5"),
    ('K', 5.0, "0,7 0,0|5,7 0,2.5|1.7,4 5,0"),
    ('L', 4.0, "0,7 0,0 4,0"),
    ('M', 6.0, "0,0 0,7 3,2 6,7 6,0"),
    ('N', 5.0, "0,0 0,7 5,0 5,7"),
    ('O', 5.0, "o2.5 0,0 5,0 5,7 0,7"),
    ('P', 5.0, "0,7 0,0|~2 0,7 5,7 5,3 0,3"),
    ('Q', 5.0, "o2.5 0,0 5,0 5,7 0,7|3,2 5.5,-0.7"),
    ('R', 5.0, "0,7 0,0|~2 0,7 5,7 5,3 0,3|2.5,3 5,0"),
    ('S', 5.0, "~2 5,5.5 5,7 0,7 0,4 5,4 5,0 0,0 0,1.5"),
    ('T', 6.0, "0,7 6,7|3,7 3,0"),
    ('U', 5.0, "~2.5 0,7 0,0 5,0 5,7"),
    ('V', 6.0, "0,7 3,0 6,7"),
    ('W', 8.0, "0,7 2,0 4,6 6,0 8,7"),
    ('X', 5.0, "0,7 5,0|0,0 5,7"),
    ('Y', 6.0, "0,7 3,3 6,7|3,3 3,0"),
    ('Z', 5.0, "0,7 5,7 0,0 5,0"),
    ('[', 2.0, "2,8 0,8 0,-1 2,-1"),
    ('\\', 3.0, "0,8 3,-1"),
    (']', 2.0, "0,8 2,8 2,-1 0,-1"),
    ('^', 4.0, "0,5 2,7 4,5"),
    ('_', 4.0, "0,-1 4,-1"),
    ('`', 1.0, "0,8 1,7"),
    ('a', 4.0, "~2 0.3,5 4,5 4,0|~1.5 4,3 0,3 0,0 3,0 4,1"),
    ('b', 4.0, "0,7 0,0|o2 0,0 4,0 4,5 0,5"),
    ('c', 4.0, "~2 4,4 4,5 0,5 0,0 4,0 4,1"),
    ('d', 4.0, "4,7 4,0|o2 0,0 4,0 4,5 0,5"),
    ('e', 4.0, "~2 4,1 4,0 0,0 0,5 4,5 4,3|4,3 0,3"),
    ('f', 3.0, "~2 1,0 1,7 3,7|0,5 3,5"),
    ('g', 4.0, "o2 0,0 4,0 4,5 0,5|~2 4,5 4,-2 0.3,-2"),
    ('h', 4.0, "0,7 0,0|~2 0,2 0,5 4,5 4,0"),
    ('i', 0.0, "0,5 0,0|0,7 0,7"),
    ('j', 1.0, "~1.5 1,5 1,-2 -0.5,-2|1,7 1,7"),
    ('k', 4.0, "0,7 0,0|4,5 0,2|1.4,3 4,0"),
    ('l', 1.0, "~1.5 0,7 0,0 1.5,0"),
    ('m', 6.0, "0,5 0,0|~1.5 0,2 0,5 3,5 3,0|~1.5 3,2 3,5 6,5 6,0"),
    ('n', 4.0, "0,5 0,0|~2 0,2 0,5 4,5 4,0"),
    ('o', 4.0, "o2 0,0 4,0 4,5 0,5"),
    ('p', 4.0, "0,5 0,-2|o2 0,0 4,0 4,5 0,5"),
    ('q', 4.0, "4,5 4,-2|o2 0,0 4,0 4,5 0,5"),
    ('r', 3.0, "0,5 0,0|~2 0,2 0,5 3,5"),
    ('s', 4.0, "~1.5 3.8,4 3.8,5 0,5 0,3 4,2 4,0 0,0 0,1"),
    ('t', 3.0, "~2 1,7 1,0 3,0|0,5 3,5"),
    ('u', 4.0, "~2 0,5 0,0 4,0 4,3|4,5 4,0"),
    ('v', 4.0, "0,5 2,0 4,5"),
    ('w', 6.0, "0,5 1.5,0 3,4.5 4.5,0 6,5"),
    ('x', 4.0, "0,5 4,0|0,0 4,5"),
    ('y', 4.0, "0,5 2,0|4,5 2,0 1.2,-2 0,-2"),
    ('z', 4.0, "0,5 4,5 0,0 4,0"),
    ('{', 3.0, "~1 3,8 1,8 1,3 0,3|~1 0,3 1,3 1,-1 3,-1"),
    ('|', 0.0, "0,8 0,-2"),
    ('}', 3.0, "~1 0,8 2,8 2,3 3,3|~1 3,3 2,3 2,-1 0,-1"),
    ('~', 5.0, "~1 0,2.5 1,4 4,2 5,3.5"),
    ('×', 4.0, "0,1 4,5|0,5 4,1"),
    ('→', 7.0, "0,3 7,3|4.5,5.5 7,3 4.5,0.5"),
    ('·', 0.0, "0,3 0,3"),
    ('…', 6.0, "0,0 0,0|3,0 3,0|6,0 6,0"),
    ('±', 4.0, "2,6 2,2|0,4 4,4|0,0 4,0"),
    ('²', 2.0, "~1 0,6.5 0,8 2,8 2,6 0,4|0,4 2,4"),
    ('µ', 4.0, "0,5 0,-2|~2 0,2 0,0 4,0 4,3|4,5 4,0"),
    ('σ', 4.0, "o2 0,0 4,0 4,5 0,5|2,5 5,5"),
    ('°', 2.0, "o1 0,5 2,5 2,7 0,7"),
    ('≤', 4.0, "4,7 0,4.5 4,2|0,0 4,0"),
    ('≥', 4.0, "0,7 4,4.5 0,2|0,0 4,0"),
    ('ı', 0.0, "0,5 0,0"),
    ('ø', 4.0, "o2 0,0 4,0 4,5 0,5|-0.5,-1 4.5,6"),
    ('Ø', 5.0, "o2.5 0,0 5,0 5,7 0,7|-0.5,-1 5.5,8"),
    ('æ', 8.0, "~2 0.3,5 4,5 4,0|~1.5 4,3 0,3 0,0 3,0 4,1|~2 8,1 8,0 4,0 4,5 8,5 8,3|8,3 4,3"),
    ('Æ', 8.0, "0,0 4,7 8,7|4,7 4,0 8,0|4,4 7.5,4|1.1,2 4,2"),
    ('ß', 4.0, "~2 0,0 0,7 3.5,7 3.5,4 1.5,4|~2 1.5,4 4,4 4,0 1.5,0"),
];

/// An accent: its combining character, the letters that have it, the same letters without, and its strokes. x is counted
/// from the middle of the letter, y from the top of small letters (2 higher on capitals) or, below, from the line.
type Accent = (char, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const ACCENTS: &[Accent] = &[
    ('\u{300}', "àèìòùÀÈÌÒÙ", "aeiouAEIOU", "-1,8 0.7,6.5"),
    ('\u{301}', "áéíóúýÁÉÍÓÚÝ", "aeiouyAEIOUY", "1,8 -0.7,6.5"),
    ('\u{302}', "âêîôûÂÊÎÔÛ", "aeiouAEIOU", "-1.7,6.5 0,8 1.7,6.5"),
    ('\u{303}', "ãñõÃÑÕ", "anoANO", "~1 -2.2,6.6 -1.2,8.2 1.2,6.6 2.2,8.2"),
    ('\u{308}', "äëïöüÿÄËÏÖÜŸ", "aeiouyAEIOUY", "-1,7 -1,7|1,7 1,7"),
    ('\u{30a}', "åÅ", "aA", "o1 -1,6.5 1,6.5 1,8.5 -1,8.5"),
    ('\u{30c}', "čěňřšžČĚŇŘŠŽ", "cenrszCENRSZ", "-1.7,8 0,6.5 1.7,8"),
    ('\u{327}', "çÇ", "cC", "~0.8 0,0 0,-1 1,-1 1,-2.2 -1,-2.2"),
];

/// What stands for a character that the font does not have.
const MISSING: (char, f32, &str) = ('\u{fffd}', 4.0, "0,0 4,0 4,7 0,7 0,0");

/// A character as it is drawn.
#[derive(Debug, PartialEq)]
struct Glyph {
    width: f32,
    /// Strokes, and how far to the right and up they are moved, units.
    parts: [(&'static str, Point); 2],
}

/// The letter and the accent that a character consists of.
fn taken_apart(c: char) -> Option<(char, &'static Accent)> {
    let place = |accent: &Accent| accent.1.chars().zip(accent.2.chars()).find(|p| p.0 == c).map(|p| p.1);
    ACCENTS.iter().find_map(|accent| Some((place(accent)?, accent)))
}

fn glyph(c: char) -> Glyph {
    let c = match c {
        '–' | '—' | '−' | '‐' => '-',
        '’' | '‘' => '\'',
        '“' | '”' => '"',
        'μ' => 'µ',
        c if c.is_whitespace() => ' ',
        c => c,
    };
    let find = |c: char| GLYPHS.iter().find(|g| g.0 == c).unwrap_or(&MISSING);
    let Some((base, accent)) = taken_apart(c) else {
        let (_, width, strokes) = *find(c);
        return Glyph { width, parts: [(strokes, (0.0, 0.0)), ("", (0.0, 0.0))] };
    };
    let (_, width, strokes) = *find(if base == 'i' { 'ı' } else { base });
    // A letter that is a mere stem gets room for what stands on it.
    let room = (2.0 - width).max(0.0);
    let below = accent.3.contains(",-");
    let up = if base.is_uppercase() && !below { 2.0 } else { 0.0 };
    // Whole units to the right keep upright strokes on pixels.
    let middle = ((width + room) / 2.0).floor();
    Glyph { width: width + room, parts: [(strokes, (room / 2.0, 0.0)), (accent.3, (middle, up))] }
}

/// From the left edge of a glyph to that of the next, pixels.
fn advance(c: char, next: Option<char>, scale: f32) -> usize {
    let stems = STEM_ON_THE_RIGHT.contains(c) && next.is_some_and(|n| STEM_ON_THE_LEFT.contains(n));
    ((glyph(c).width + SPACING + f32::from(u8::from(stems))) * scale).round() as usize
}

/// The characters of a text, each with the one after it; a letter followed by an accent (as in file names on macOS) is
/// one.
fn pairs(text: &str) -> impl Iterator<Item = (char, Option<char>)> {
    let mut whole: Vec<char> = Vec::new();
    for c in text.chars() {
        let joined = whole.last().and_then(|&last| {
            let (_, composed, letters, _) = ACCENTS.iter().find(|a| a.0 == c)?;
            letters.chars().zip(composed.chars()).find(|p| p.0 == last).map(|p| p.1)
        });
        match (joined, whole.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => whole.push(c),
        }
    }
    let next: Vec<Option<char>> = whole.iter().skip(1).copied().map(Some).chain([None]).collect();
    whole.into_iter().zip(next)
}

/// Width of a text in pixels, up to the last stem.
pub(super) fn width(text: &str, scale: f32) -> usize {
    let total: usize = pairs(text).map(|(c, next)| advance(c, next, scale)).sum();
    total.saturating_sub(((SPACING - 1.0) * scale).round() as usize)
}

/// Distance of a point from a segment.
pub(super) fn distance(p: Point, a: Point, b: Point) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx * dx + dy * dy;
    let t = if length == 0.0 { 0.0 } else { (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length).clamp(0.0, 1.0) };
    let (x, y) = (p.0 - a.0 - t * dx, p.1 - a.1 - t * dy);
    (x * x + y * y).sqrt()
}

/// Hands out every pixel a text touches: x from its left edge, y from the baseline (downwards), coverage 0–1.
pub(super) fn draw(text: &str, scale: f32, mut pixel: impl FnMut(i64, i64, f32)) {
    let thickness = (1.15 * scale).max(1.15);
    // An even stroke is sharp between two pixels, an odd one on a pixel.
    let shift = if (thickness.round() as i64) % 2 == 0 { -0.5 } else { 0.0 };
    let mut left = 0i64;
    for (c, next) in pairs(text) {
        let Glyph { width, parts } = glyph(c);
        let mut segments: Vec<(Point, Point)> = Vec::new();
        for (strokes, (right, up)) in parts {
            let (right, up) = ((right * scale).round(), (up * scale).round());
            for stroke in strokes.split('|').filter(|s| !s.is_empty()) {
                let points: Vec<Point> = outline(stroke, scale).iter().map(|p| (p.0 + right, p.1 + up)).collect();
                segments.extend(points.windows(2).map(|w| (w[0], w[1])));
            }
        }
        let reach = (2.0 * scale).ceil() as i64 + 1;
        let (right, top, bottom) =
            ((width * scale).ceil() as i64, (8.0 * scale).ceil() as i64, (2.0 * scale).ceil() as i64);
        for y in -top - reach..=bottom + reach {
            for x in -reach..=right + reach {
                let p = (x as f32 - shift, -(y as f32) + shift);
                let nearest = segments.iter().map(|&(a, b)| distance(p, a, b)).fold(f32::INFINITY, f32::min);
                let coverage = (0.5 + thickness / 2.0 - nearest).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    pixel(left + x, y, coverage);
                }
            }
        }
        left += advance(c, next, scale) as i64;
    }
}

/// A stroke as a polyline in pixels, y upwards, its corners rounded where it says so.
fn outline(stroke: &str, scale: f32) -> Vec<Point> {
    let mut words = stroke.split(' ').peekable();
    let head = words.peek().copied().unwrap_or("");
    let closed = head.starts_with('o');
    let radius = head.strip_prefix(['~', 'o']).map_or(0.0, |r| r.parse::<f32>().expect("the table is tested")) * scale;
    if closed || radius > 0.0 {
        words.next();
    }
    // Half units are kept: rounding them as well would pull diagonals and short hooks out of shape.
    let snap = |v: f32| if v.fract() == 0.0 { (v * scale).round() } else { v * scale };
    let points: Vec<Point> = words
        .map(|w| {
            let (x, y) = w.split_once(',').expect("the table is tested");
            let number = |s: &str| s.parse::<f32>().expect("the table is tested");
            (snap(number(x)), snap(number(y)))
        })
        .collect();
    if radius == 0.0 {
        return points;
    }
    let n = points.len();
    let mut out = Vec::new();
    let corners = if closed { 0..n } else { 1..n - 1 };
    if !closed {
        out.push(points[0]);
    }
    for i in corners {
        let (a, b, c) = (points[(i + n - 1) % n], points[i], points[(i + 1) % n]);
        let length = |p: Point, q: Point| ((p.0 - q.0).powi(2) + (p.1 - q.1).powi(2)).sqrt();
        // An edge between two rounded corners is shared by them; one that ends the stroke is not.
        let share = |end: bool, l: f32| if end { l } else { l / 2.0 };
        let before = share(!closed && i == 1, length(a, b));
        let after = share(!closed && i + 2 == n, length(b, c));
        let r = radius.min(before).min(after);
        let toward = |q: Point, l: f32| (b.0 + (q.0 - b.0) / l * r, b.1 + (q.1 - b.1) / l * r);
        let (from, to) = (toward(a, length(a, b)), toward(c, length(b, c)));
        // A cubic with these weights is a quarter circle at a right angle, and smooth at any other.
        const K: f32 = 0.552_28;
        let mix = |p: Point| (p.0 + (b.0 - p.0) * K, p.1 + (b.1 - p.1) * K);
        let (p, q) = (mix(from), mix(to));
        for step in 0..=8 {
            let t = step as f32 / 8.0;
            let u = 1.0 - t;
            let (w0, w1, w2, w3) = (u * u * u, 3.0 * u * u * t, 3.0 * u * t * t, t * t * t);
            let at = |f: fn(Point) -> f32| w0 * f(from) + w1 * f(p) + w2 * f(q) + w3 * f(to);
            out.push((at(|p| p.0), at(|p| p.1)));
        }
    }
    if closed {
        out.push(out[0]);
    } else {
        out.push(points[n - 1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_character_is_drawn() {
        for c in ' '..='~' {
            assert!(GLYPHS.iter().any(|g| g.0 == c), "{c:?} is missing");
        }
        for (c, width, _) in GLYPHS {
            for scale in [1.0, 1.5, 2.0, 3.0] {
                let (mut ink, mut outside) = (0.0, 0);
                draw(&c.to_string(), scale, |x, y, v| {
                    ink += v;
                    let right = ((width + 2.0) * scale) as i64 + 1;
                    outside += i32::from(x < -(2.0 * scale) as i64 || x > right || y.abs() > (10.0 * scale) as i64);
                });
                assert!((ink > 0.0) == (*c != ' ') && outside == 0, "{c:?} at {scale}: {ink}, {outside} outside");
            }
        }
    }

    fn pixels(text: &str, scale: f32) -> Vec<(i64, i64, i32)> {
        let mut pixels = Vec::new();
        draw(text, scale, |x, y, v| pixels.push((x, y, (v * 4.0) as i32)));
        pixels
    }

    #[test]
    fn no_two_characters_look_alike() {
        let composed = ACCENTS.iter().flat_map(|a| a.1.chars());
        let all: Vec<char> = GLYPHS.iter().map(|g| g.0).chain(composed).collect();
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(pixels(&a.to_string(), 1.0), pixels(&b.to_string(), 1.0), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn widths_add_up_and_unknown_characters_are_boxes() {
        assert_eq!(width("", 1.0), 0);
        assert!(width("00", 1.0) == width("11", 1.0) && width("mm", 2.0) > width("mm", 1.0));
        assert_eq!(width("\u{4e00}", 1.0), width("0", 1.0));
        assert_eq!(glyph('\u{4e00}'), glyph('\u{fffd}'));
    }

    #[test]
    fn accented_letters_are_their_letter_and_an_accent_above_or_below() {
        for (mark, composed, letters, _) in ACCENTS {
            assert_eq!(composed.chars().count(), letters.chars().count());
            for (whole, letter) in composed.chars().zip(letters.chars()) {
                for scale in [1.0, 1.5] {
                    assert_eq!(pixels(&format!("{letter}{mark}"), scale), pixels(&whole.to_string(), scale), "{whole}");
                    let base = pixels(if letter == 'i' { "ı".into() } else { letter.to_string() }.as_str(), scale);
                    let all = pixels(&whole.to_string(), scale);
                    let (top, bottom) = (base.iter().map(|p| p.1).min(), base.iter().map(|p| p.1).max());
                    let outside = all.iter().filter(|p| Some(p.1) < top || (Some(p.1) > bottom && letter != 'y'));
                    assert!(outside.count() >= 2, "{whole} at {scale}: no accent");
                    let most = (11.0 * scale) as i64;
                    assert!(all.iter().all(|p| (-most..=most).contains(&p.1)), "{whole} at {scale} reaches too far");
                }
            }
            // What cannot be joined stays visible.
            assert!(!pixels(&format!("x{mark}"), 1.0).is_empty());
        }
        assert_eq!(pairs("e\u{301}t").count(), 2);
        assert_eq!(pairs("x\u{301}").count(), 2);
    }
}
