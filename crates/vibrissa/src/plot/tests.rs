//! Sheets: what is where, and what must not panic.

use super::*;

const GREY: Option<Shape> = Some((1, 28, 28));

fn gradient(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 / n as f32 * 2.0 - 1.0).collect()
}

fn ink(canvas: &Canvas, x: std::ops::Range<usize>, y: std::ops::Range<usize>) -> usize {
    y.flat_map(|y| x.clone().map(move |x| (x, y))).filter(|&(x, y)| canvas.pixel(x, y).iter().all(|&v| v < 120)).count()
}

fn strings(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|s| s.to_string()).collect()
}

#[test]
fn pictures_are_enlarged_by_whole_factors() {
    for (side, want) in [(8, 96), (16, 96), (28, 84), (32, 96), (64, 128), (96, 96), (224, 224)] {
        assert_eq!(picture_size((1, side, side)), (want, want));
    }
    assert_eq!(picture_size((3, 20, 40)), (80, 40));
}

#[test]
fn features_lie_on_a_grid_and_keep_their_sign() {
    let mut row = vec![0.0f32; 784];
    row[0] = 0.5;
    row[27] = -0.5;
    row[783] = 0.25;
    let features: Vec<(usize, &[f32])> = (0..5).map(|i| (i, row.as_slice())).collect();
    let sheet = feature_sheet(&features, GREY, 3, "", "");
    assert_eq!(sheet.width(), 2 * MARGIN + 3 * 84 + 2 * GAP);
    for n in 0..5 {
        let (x, y) = (MARGIN + n % 3 * (84 + GAP), MARGIN + n / 3 * (84 + CAPITAL + 10 + GAP));
        assert_eq!(sheet.pixel(x, y), diverging(1.0));
        assert_eq!(sheet.pixel(x + 2, y + 2), diverging(1.0));
        assert_eq!(sheet.pixel(x + 81, y), diverging(-1.0));
        assert_eq!(sheet.pixel(x + 40, y + 40), diverging(0.0));
        assert_eq!(sheet.pixel(x + 83, y + 83), diverging(0.5));
        assert_eq!(sheet.pixel(x - 1, y + 9), HAIRLINE);
    }
    let empty_place = (MARGIN + 2 * (84 + GAP), MARGIN + 84 + CAPITAL + 10 + GAP);
    assert_eq!(sheet.pixel(empty_place.0 + 40, empty_place.1 + 40), PAPER);
}

#[test]
fn colour_features_are_drawn_around_mid_grey() {
    let mut row = vec![0.0f32; 3 * 32 * 32];
    row[0] = 2.0;
    row[2 * 1024] = -2.0;
    let sheet = feature_sheet(&[(7, &row)], Some((3, 32, 32)), 4, "", "");
    let x = MARGIN;
    assert_eq!(sheet.pixel(x, MARGIN), [255, 128, 0]);
    assert_eq!(sheet.pixel(x + 50, MARGIN + 50), [128, 128, 128]);
}

#[test]
fn titles_notes_and_indices_are_drawn() {
    let row = gradient(784);
    let plain = feature_sheet(&[(1234, &row)], GREY, 1, "", "");
    let below = MARGIN + 84..MARGIN + 84 + CAPITAL + 8;
    assert!(ink(&plain, MARGIN..MARGIN + 84, below) > 20, "the index");
    let full =
        feature_sheet(&[(1234, &row)], GREY, 1, "Features", "a note that is long enough to be broken into lines");
    let more = full.height() - plain.height();
    assert!(more >= (CAPITAL as f32 * TITLE) as usize + 2 * LINE, "{more}");
    assert!(ink(&full, 0..full.width(), MARGIN..MARGIN + 13) > 60, "the title");
    let (a, b) = (feature_sheet(&[(1, &row)], GREY, 1, "", ""), feature_sheet(&[(2, &row)], GREY, 1, "", ""));
    assert_ne!(a, b, "another index is another picture");
}

#[test]
fn the_same_numbers_give_the_same_png() {
    let row = gradient(784);
    let draw = || feature_sheet(&[(3, &row), (4, &row)], GREY, 2, "T", "n").encode_png();
    let bytes = draw();
    assert_eq!(bytes, draw());
    let decoded = image::load_from_memory(&bytes).unwrap().to_rgb8();
    let sheet = feature_sheet(&[(3, &row), (4, &row)], GREY, 2, "T", "n");
    assert_eq!(decoded.as_raw(), sheet.pixels());
    assert_eq!((decoded.width() as usize, decoded.height() as usize), (sheet.width(), sheet.height()));
}

#[test]
fn reconstructions_stand_below_their_originals() {
    let (bright, dark) = (vec![0.8f32; 784], vec![-0.3f32; 784]);
    let recons: [&[f32]; 2] = [&dark, &bright];
    let column = Column { label: "7".into(), original: &bright, recons: &recons, pearson: &[0.5, f64::NAN] };
    let sheet = reconstruction_sheet(&[column.clone(), column], GREY, &strings(&["original", "SAE", "both"]), "");
    let left = MARGIN + font::width("Pearson r", LABEL).min(font::width("original", LABEL)) + GAP;
    let top = MARGIN + LINE + GAP / 2;
    for x in [left, left + 84 + GAP] {
        assert_eq!(sheet.pixel(x, top), [204; 3]);
        assert_eq!(sheet.pixel(x + 83, top + 83), [204; 3]);
        let second = top + 84 + GAP / 2;
        assert_eq!(sheet.pixel(x, second), [0; 3]);
        let third = second + 84 + CAPITAL + 10 + GAP;
        assert_eq!(sheet.pixel(x + 83, third + 83), [204; 3]);
        assert!(ink(&sheet, x..x + 84, top - 16..top - 2) > 5, "the label");
        let score = |y: usize| {
            let dim = |x: usize, y: usize| sheet.pixel(x, y).iter().all(|&v| v < 160);
            (y + 86..y + 102).flat_map(|y| (x..x + 84).map(move |x| (x, y))).filter(|&(x, y)| dim(x, y)).count()
        };
        assert!(score(second) > 20 && score(third) == 0, "the score, and none where it is not a number");
    }
}

#[test]
fn vectors_are_drawn_as_profiles_and_lines() {
    let mut row = vec![0.0f32; 1000];
    row[250] = 1.0;
    row[750] = -1.0;
    let sheet = feature_sheet(&[(0, &row)], None, 4, "", "");
    let (middle, quarter) = (MARGIN + PROFILE.1 / 2, PROFILE.0 / 4);
    assert_eq!(sheet.pixel(MARGIN + quarter, middle - 20), diverging(0.75));
    assert_eq!(sheet.pixel(MARGIN + quarter, middle + 20), [255; 3]);
    assert_eq!(sheet.pixel(MARGIN + 3 * quarter, middle + 20), diverging(-0.75));
    let flat = vec![0.5f32; 1000];
    for original in [&row[..], &row[..40]] {
        let recons: [&[f32]; 1] = [&flat[..original.len()]];
        let column = Column { label: "a".into(), original, recons: &recons, pearson: &[] };
        let sheet = reconstruction_sheet(&[column], None, &strings(&["x", "SAE"]), "");
        let count = |f: fn(&[u8]) -> bool| sheet.pixels().chunks_exact(3).filter(|p| f(p)).count();
        assert!(count(|p| p[0] > p[2] + 60) > 100, "the reconstruction");
        let (left, top) = (MARGIN + font::width("SAE", LABEL) + GAP, MARGIN + LINE + GAP / 2);
        let grey = |p: Rgb| p[0].abs_diff(p[2]) < 12 && p[0] < 180;
        let cell = (top..top + PROFILE.1 + 8).flat_map(|y| (left..left + PROFILE.0).map(move |x| (x, y)));
        assert!(cell.filter(|&(x, y)| grey(sheet.pixel(x, y))).count() > 60, "the original");
    }
}

#[test]
fn nothing_to_draw_is_no_reason_to_panic() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e38, -1e38, 1e-45];
    let wild: Vec<f32> = (0..3 * 784).map(|i| strange[i % 7]).collect();
    let zeros = vec![0.0f32; 3 * 784];
    let all_nan = vec![f32::NAN; 3 * 784];
    for shape in [None, Some((1, 28, 28)), Some((3, 28, 28)), Some((2, 28, 28)), Some((1, 1, 1)), Some((1, 0, 0))] {
        let d = shape.map_or(784, |(c, h, w)| c * h * w);
        for columns in [0, 1, 9] {
            assert!(!feature_sheet(&[], shape, columns, "", "").encode_png().is_empty());
            for row in [&wild, &zeros, &all_nan] {
                let sheet = feature_sheet(&[(usize::MAX, &row[..d])], shape, columns, "é \u{4e00}", "n");
                assert!(!sheet.encode_png().is_empty());
            }
        }
        assert!(!reconstruction_sheet(&[], shape, &[], "").encode_png().is_empty());
        for row in [&wild, &zeros, &all_nan] {
            let recons: [&[f32]; 2] = [&row[..d], &zeros[..d]];
            let label = "a very long file name/of/many/parts.jpg".to_string();
            let column = Column { label, original: &row[..d], recons: &recons, pearson: &[f64::NAN] };
            let none = Column { label: String::new(), recons: &[], ..column.clone() };
            assert!(!reconstruction_sheet(&[column, none], shape, &[], "").encode_png().is_empty());
        }
    }
    let empty: &[f32] = &[];
    feature_sheet(&[(0, empty)], None, 1, "", "");
    let recons = [empty];
    let column = Column { label: "x".into(), original: empty, recons: &recons, pearson: &[] };
    reconstruction_sheet(&[column], None, &[], "");
}

#[test]
fn a_value_that_is_not_a_number_is_visible() {
    let mut row = vec![0.5f32; 784];
    row[0] = f32::NAN;
    let sheet = feature_sheet(&[(0, &row)], GREY, 1, "", "");
    assert!(sheet.pixels().chunks_exact(3).filter(|p| *p == NOT_A_NUMBER).count() >= 9);
}

#[test]
#[should_panic(expected = "a row has the shape's width")]
fn a_row_of_another_width_panics() {
    feature_sheet(&[(0, &[0.0; 5])], GREY, 1, "", "");
}

#[test]
fn long_texts_are_wrapped_and_shortened() {
    let lines = wrap("one two three four five six seven", 60);
    assert!(lines.len() > 2 && lines.iter().all(|l| font::width(l, LABEL) <= 60));
    assert_eq!(lines.join(" "), "one two three four five six seven");
    assert_eq!(shorten("short", 100), "short");
    let cut = shorten("great white shark", 60);
    assert!(cut.starts_with("great") && cut.ends_with("..") && font::width(&cut, LABEL) <= 60);
    assert_eq!(shorten("abc", 0), "..");
}

#[test]
fn lines_are_as_dark_at_their_joins_as_between() {
    let mut canvas = Canvas::new(40, 20, [255; 3]);
    let points: Vec<(f32, f32)> = (0..8).map(|i| (4.0 + 4.0 * i as f32, 10.3)).collect();
    canvas.polyline(&points, 1.0, [0; 3]);
    let (join, between) = (canvas.pixel(12, 10), canvas.pixel(14, 10));
    assert_eq!(join, between);
    assert!(between[0] < 90);
}
