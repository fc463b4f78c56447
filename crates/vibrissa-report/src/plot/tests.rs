//! Tests of the sheets: places and colours of their parts, and odd inputs.

use super::colour::{AREA, BACKGROUND, HAIRLINE, NOT_A_NUMBER};
use super::features::PROFILE;
use super::*;

const GREY: Option<ImageShape> = Some(ImageShape { channels: 1, height: 28, width: 28 });

fn gradient(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 / n as f32 * 2.0 - 1.0).collect()
}

fn ink(canvas: &Canvas, x: std::ops::Range<usize>, y: std::ops::Range<usize>) -> usize {
    y.flat_map(|y| x.clone().map(move |x| (x, y))).filter(|&(x, y)| canvas.pixel(x, y).iter().all(|&v| v < 120)).count()
}

fn feature(index: usize, row: &[f32]) -> Feature<'_> {
    Feature { index, share: None, row }
}

fn strings(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|s| s.to_string()).collect()
}

#[test]
fn images_are_enlarged_by_integer_factors() {
    for (side, want) in [(8, 96), (16, 96), (28, 84), (32, 96), (64, 128), (96, 96), (224, 224)] {
        assert_eq!(image_size((1, side, side).into()), (want, want));
    }
    assert_eq!(image_size((3, 20, 40).into()), (80, 40));
}

#[test]
fn features_lie_on_a_grid_and_keep_their_sign() {
    let mut row = vec![0.0f32; 784];
    row[0] = 0.5;
    row[27] = -0.5;
    row[783] = 0.25;
    let features: Vec<Feature> = (0..5).map(|index| Feature { index, share: None, row: &row }).collect();
    let sheet = feature_sheet(&features, GREY, 3, "", "");
    assert_eq!(sheet.width(), 2 * MARGIN + 3 * 84 + 2 * GAP);
    for n in 0..5 {
        let (x, y) = (MARGIN + n % 3 * (84 + GAP), MARGIN + n / 3 * (84 + CAPITAL_HEIGHT + 10 + GAP));
        assert_eq!(sheet.pixel(x, y), diverging(1.0));
        assert_eq!(sheet.pixel(x + 2, y + 2), diverging(1.0));
        assert_eq!(sheet.pixel(x + 81, y), diverging(-1.0));
        assert_eq!(sheet.pixel(x + 40, y + 40), diverging(0.0));
        assert_eq!(sheet.pixel(x + 83, y + 83), diverging(0.5));
        assert_eq!(sheet.pixel(x - 1, y + 9), HAIRLINE);
    }
    let unused_cell = (MARGIN + 2 * (84 + GAP), MARGIN + 84 + CAPITAL_HEIGHT + 10 + GAP);
    assert_eq!(sheet.pixel(unused_cell.0 + 40, unused_cell.1 + 40), BACKGROUND);
}

#[test]
fn colour_features_are_drawn_around_mid_grey() {
    let mut row = vec![0.0f32; 3 * 32 * 32];
    row[0] = 2.0;
    row[2 * 1024] = -2.0;
    let sheet = feature_sheet(&[feature(7, &row)], Some((3, 32, 32).into()), 4, "", "");
    let x = MARGIN;
    assert_eq!(sheet.pixel(x, MARGIN), [255, 128, 0]);
    assert_eq!(sheet.pixel(x + 50, MARGIN + 50), [128, 128, 128]);
}

#[test]
fn titles_notes_and_indices_are_drawn() {
    let row = gradient(784);
    let plain = feature_sheet(&[feature(1234, &row)], GREY, 1, "", "");
    let below = MARGIN + 84..MARGIN + 84 + CAPITAL_HEIGHT + 8;
    assert!(ink(&plain, MARGIN..MARGIN + 84, below) > 20, "the index");
    let full = feature_sheet(
        &[feature(1234, &row)],
        GREY,
        1,
        "Features",
        "a note that is long enough to be broken into lines",
    );
    let more = full.height() - plain.height();
    assert!(more >= (CAPITAL_HEIGHT as f32 * TITLE_SCALE) as usize + 2 * LINE_HEIGHT, "{more}");
    assert!(ink(&full, 0..full.width(), MARGIN..MARGIN + 13) > 60, "the title");
    let (a, b) =
        (feature_sheet(&[feature(1, &row)], GREY, 1, "", ""), feature_sheet(&[feature(2, &row)], GREY, 1, "", ""));
    assert_ne!(a, b, "another index gives another image");
}

#[test]
fn the_same_numbers_give_the_same_png() {
    let row = gradient(784);
    let draw = || feature_sheet(&[feature(3, &row), feature(4, &row)], GREY, 2, "T", "n").encode_png();
    let bytes = draw();
    assert_eq!(bytes, draw());
    let decoded = image::load_from_memory(&bytes).unwrap().to_rgb8();
    let sheet = feature_sheet(&[feature(3, &row), feature(4, &row)], GREY, 2, "T", "n");
    assert_eq!(decoded.as_raw(), sheet.pixels());
    assert_eq!((decoded.width() as usize, decoded.height() as usize), (sheet.width(), sheet.height()));
}

#[test]
fn reconstructions_are_below_their_originals() {
    let (bright, dark) = (vec![0.8f32; 784], vec![-0.3f32; 784]);
    let recons: [&[f32]; 2] = [&dark, &bright];
    let column = ReconstructedRow {
        label: "7".into(),
        name: String::new(),
        original: &bright,
        recons: &recons,
        pearson: &[0.5, f64::NAN],
    };
    let sheet = reconstruction_sheet(&[column.clone(), column], GREY, &strings(&["original", "SAE", "both"]), "", "");
    let left = MARGIN + font::width("Pearson r", LABEL_SCALE) + GAP;
    let top = MARGIN + LINE_HEIGHT + GAP / 2;
    for x in [left, left + 84 + GAP] {
        assert_eq!(sheet.pixel(x, top), [204; 3]);
        assert_eq!(sheet.pixel(x + 83, top + 83), [204; 3]);
        let second = top + 84 + GAP / 2;
        assert_eq!(sheet.pixel(x, second), [0; 3]);
        let third = second + 84 + CAPITAL_HEIGHT + 10 + GAP;
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
fn features_of_vectors_are_drawn_as_profiles() {
    let mut row = vec![0.0f32; 1000];
    row[250] = 1.0;
    row[750] = -1.0;
    let sheet = feature_sheet(&[feature(0, &row)], None, 4, "", "");
    let (middle, quarter) = (MARGIN + PROFILE.1 / 2, PROFILE.0 / 4);
    assert_eq!(sheet.pixel(MARGIN + quarter, middle - 20), diverging(0.75));
    assert_eq!(sheet.pixel(MARGIN + quarter, middle + 20), [255; 3]);
    assert_eq!(sheet.pixel(MARGIN + 3 * quarter, middle + 20), diverging(-0.75));
}

/// Left, top and width of the first panel: from the first to the last white pixel of the first line that has many.
fn panel(sheet: &Canvas) -> (usize, usize, usize) {
    let white = |x: usize, y: usize| sheet.pixel(x, y) == [255; 3];
    let many = |&y: &usize| (0..sheet.width()).filter(|&x| white(x, y)).count() > 100;
    let top = (0..sheet.height()).find(many).expect("a panel");
    let left = (0..sheet.width()).find(|&x| white(x, top)).expect("a panel");
    (left, top, (left..sheet.width()).take_while(|&x| white(x, top)).count())
}

#[test]
fn vectors_are_drawn_in_panels_that_show_row_and_reconstruction() {
    // (values, panels side by side, width of one): an integer number of pixels per value where there is space.
    for (dim, columns, width) in [(5, 4, 380), (40, 4, 360), (384, 2, 768), (1000, 2, 780)] {
        let mut original = vec![0.25f32; dim];
        original[dim / 2] = 2.0;
        let below = vec![-1.0f32; dim];
        let recons: [&[f32]; 1] = [&below];
        let column = ReconstructedRow {
            label: "a".into(),
            name: "f".into(),
            original: &original,
            recons: &recons,
            pearson: &[0.5],
        };
        let sheet = reconstruction_sheet(&vec![column; 8], None, &strings(&["x", "SAE"]), "", "");
        let (left, top, wide) = panel(&sheet);
        assert_eq!(wide, width, "{dim}");
        let pitch = (sheet.width() - 2 * MARGIN + GAP) / columns;
        assert_eq!(sheet.pixel(left + (columns - 1) * pitch, top), [255; 3], "{dim}: a panel in the last column");
        // An axis from 2 to -1: zero at two thirds, the reconstruction at the bottom, the original between 2 and 0.
        let y = |value: f32| top + 4 + ((2.0 - value) / 3.0 * 87.0).round() as usize;
        let peak = left + dim / 2 * width / dim;
        assert_eq!((sheet.pixel(peak, y(1.0)), sheet.pixel(left, y(1.0))), (AREA, [255; 3]), "{dim}");
        assert_eq!((sheet.pixel(left, y(0.1)), sheet.pixel(left + 1, y(-0.5))), (AREA, [255; 3]), "{dim}");
        let red = |x: usize, y: usize| sheet.pixel(x, y)[0].saturating_sub(sheet.pixel(x, y)[2]) > 90;
        let wrong = (width / 4..width / 2).find(|x| !red(left + x, y(-1.0)) || red(left + x, y(1.0)));
        assert_eq!(wrong, None, "{dim}: the line {:?}", wrong.map(|x| sheet.pixel(left + x, y(-1.0))));
        assert!(ink(&sheet, left + width / 2 - 20..left + width / 2 + 20, top + 98..top + 112) > 20, "{dim}: r");
        assert!(ink(&sheet, left..left + 8, top - 14..top - 2) > 5, "{dim}: the label");
    }
}

#[test]
fn several_reconstructions_of_a_vector_are_side_by_side() {
    let (row, other) = (vec![1.0f32; 30], vec![-1.0f32; 30]);
    let recons: [&[f32]; 3] = [&row, &other, &row];
    let column =
        ReconstructedRow { label: String::new(), name: "f".into(), original: &row, recons: &recons, pearson: &[] };
    let labels = strings(&["x", "SAE 0", "SAE 1", "mean of all"]);
    let one = reconstruction_sheet(std::slice::from_ref(&column), None, &labels, "", "");
    let two = reconstruction_sheet(&[column.clone(), column], None, &labels, "", "");
    assert_eq!(one.width(), two.width());
    assert!(two.height() > one.height() + 96);
    let (left, top, width) = panel(&one);
    let pitch = (one.width() - 2 * MARGIN + GAP) / 3;
    for place in 0..3 {
        let x = left + place * pitch;
        assert!(ink(&one, x..x + width, top + 98..top + 112) > 20, "each is named");
        assert_eq!(ink(&one, x..x + width, top - 14..top - 2) > 0, place == 0, "the row is named once");
    }
}

#[test]
fn shares_are_drawn_below_the_index() {
    let row = gradient(784);
    let without = feature_sheet(&[feature(5, &row)], GREY, 1, "", "");
    let with = feature_sheet(&[Feature { share: Some(0.034), ..feature(5, &row) }], GREY, 1, "", "");
    assert_eq!(with.height(), without.height() + LINE_HEIGHT - 2);
    let below = MARGIN + 84 + CAPITAL_HEIGHT + 8..MARGIN + 84 + 2 * CAPITAL_HEIGHT + 14;
    assert!(ink(&with, MARGIN..MARGIN + 84, below.clone()) > 0 && ink(&without, MARGIN..MARGIN + 84, below) == 0);
}

#[test]
fn nothing_is_clipped_at_the_edges() {
    let row = gradient(784);
    let recons: [&[f32]; 2] = [&row, &row];
    let long = "a very long name of a class and of a file.jpg".to_owned();
    let labels = strings(&["original", "SAE of a long name", "mean of all 12"]);
    let (title, note) = ("A long title above few things", "and a note of many words that must be broken into lines");
    let mut sheets = Vec::new();
    for shape in [GREY, None, Some((1, 784, 1).into()), Some((1, 1, 784).into())] {
        for n in [0, 1, 3] {
            let cell = Feature { share: Some(1.0), ..feature(123_456_789, &row) };
            sheets.push(feature_sheet(&vec![cell; n], shape, 2, title, note));
            for pearson in [&[][..], &[0.5, -0.25]] {
                let (label, name) = (long.clone(), long.clone());
                let column = ReconstructedRow { label, name, original: &row, recons: &recons, pearson };
                sheets.push(reconstruction_sheet(&vec![column.clone(); n], shape, &labels, title, note));
                let single = ReconstructedRow { recons: &recons[..1], ..column };
                sheets.push(reconstruction_sheet(&vec![single; n], shape, &labels[..2], "", ""));
            }
        }
    }
    for (i, sheet) in sheets.iter().enumerate() {
        let (width, height) = (sheet.width(), sheet.height());
        let edge = |&(x, y): &(usize, usize)| x.min(y).min(width - 1 - x).min(height - 1 - y) < MARGIN / 2 - 2;
        let mut pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).filter(edge);
        assert_eq!(pixels.find(|&(x, y)| sheet.pixel(x, y) != BACKGROUND), None, "sheet {i} of {width}×{height}");
    }
}

#[test]
fn empty_and_odd_inputs_do_not_panic() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e38, -1e38, 1e-45];
    let wild: Vec<f32> = (0..3 * 784).map(|i| strange[i % 7]).collect();
    let zeros = vec![0.0f32; 3 * 784];
    let all_nan = vec![f32::NAN; 3 * 784];
    let shapes = [(1, 28, 28), (3, 28, 28), (2, 28, 28), (1, 1, 1), (1, 0, 0)].map(|s| Some(ImageShape::from(s)));
    for shape in [None].into_iter().chain(shapes) {
        let d = shape.map_or(784, |s| s.dim());
        for columns in [0, 1, 9] {
            assert!(!feature_sheet(&[], shape, columns, "", "").encode_png().is_empty());
            for row in [&wild, &zeros, &all_nan] {
                let sheet = feature_sheet(&[feature(usize::MAX, &row[..d])], shape, columns, "é \u{4e00}", "n");
                assert!(!sheet.encode_png().is_empty());
            }
        }
        assert!(!reconstruction_sheet(&[], shape, &[], "", "").encode_png().is_empty());
        for row in [&wild, &zeros, &all_nan] {
            let recons: [&[f32]; 2] = [&row[..d], &zeros[..d]];
            let label = "a very long file name/of/many/parts.jpg".to_string();
            let column = ReconstructedRow {
                name: label.clone(),
                label,
                original: &row[..d],
                recons: &recons,
                pearson: &[f64::NAN],
            };
            let none = ReconstructedRow { label: String::new(), recons: &[], ..column.clone() };
            assert!(!reconstruction_sheet(&[column, none], shape, &[], "", "").encode_png().is_empty());
        }
    }
    let empty: &[f32] = &[];
    feature_sheet(&[feature(0, empty)], None, 1, "", "");
    let recons = [empty];
    let column =
        ReconstructedRow { label: "x".into(), name: String::new(), original: empty, recons: &recons, pearson: &[] };
    reconstruction_sheet(&[column], None, &[], "", "");
}

#[test]
fn a_value_that_is_not_a_number_is_visible() {
    let mut row = vec![0.5f32; 784];
    row[0] = f32::NAN;
    let sheet = feature_sheet(&[feature(0, &row)], GREY, 1, "", "");
    assert!(sheet.pixels().chunks_exact(3).filter(|p| *p == NOT_A_NUMBER).count() >= 9);
}

#[test]
#[should_panic(expected = "a row has the shape's width")]
fn a_row_of_another_width_panics() {
    feature_sheet(&[feature(0, &[0.0; 5])], GREY, 1, "", "");
}

#[test]
fn long_texts_are_wrapped_and_shortened() {
    let lines = wrap("one two three four five six seven", 60);
    assert!(lines.len() > 2 && lines.iter().all(|l| font::width(l, LABEL_SCALE) <= 60));
    assert_eq!(lines.join(" "), "one two three four five six seven");
    assert_eq!(shorten("short", 100), "short");
    let cut = shorten("great white shark", 60);
    assert!(cut.starts_with("great") && cut.ends_with('…') && font::width(&cut, LABEL_SCALE) <= 60);
    assert_eq!((shorten("abc", 0), shorten_name("é:1", 0)), ("…".into(), "…".into()));
    let cut = shorten_name("n01484850_great_white_shark.jpg", 90);
    assert!(cut.starts_with("n01") && cut.ends_with(".jpg") && font::width(&cut, LABEL_SCALE) <= 90, "{cut}");
    let cut = shorten_name("t10k-images-idx3-ubyte.gz:5290", 90);
    assert!(cut.starts_with("t10k") && cut.ends_with("…:5290") && font::width(&cut, LABEL_SCALE) <= 90, "{cut}");
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
