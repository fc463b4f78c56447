use super::super::rows::LoadOptions;
use super::super::split::{SplitOptions, folds, split, validation};
use super::*;
use crate::augment;
use std::collections::HashSet;

const NO: &(dyn Fn(usize, usize) + Sync) = &|_, _| ();

fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
    ImageShape { channels, height, width }
}

fn cut(picture: ImageShape, height: usize, width: usize, stride: [usize; 2]) -> Patches {
    Patches::new(picture, PatchSize { height, width, stride }).expect("they fit")
}

/// Values that no sum in f32 would keep.
fn speckled(rows: usize, dim: usize) -> Mat {
    Mat::from_vec(rows, dim, (0..rows * dim).map(|i| (i * 7919 % 1009) as f32 / 1009.0 + 1e-3).collect())
}

/// Every size and stride of a few ragged shapes.
fn every(mut f: impl FnMut(&Patches)) {
    for (c, h, w) in [(1, 1, 1), (1, 5, 7), (3, 6, 4), (1, 9, 9), (2, 1, 8)] {
        for (p, q) in (1..=h).flat_map(|p| (1..=w).map(move |q| (p, q))) {
            for (s, t) in (1..=p).flat_map(|s| (1..=q).map(move |t| (s, t))) {
                f(&cut(shape(c, h, w), p, q, [s, t]));
            }
        }
    }
}

#[test]
fn every_pixel_is_covered_and_every_patch_lies_inside() {
    every(|patches| {
        let ImageShape { channels, height, width } = patches.picture();
        let mut seen = vec![0.0f64; channels * height * width];
        for place in 0..patches.places() {
            let [top, left] = patches.at(place);
            assert!(top + patches.size.height <= height && left + patches.size.width <= width);
            patches.add(place, &vec![1.0; patches.shape().dim()], &mut seen);
        }
        for (i, &n) in seen.iter().enumerate() {
            let over = patches.over[0][i / width % height] * patches.over[1][i % width];
            assert!(n >= 1.0 && n == f64::from(over), "{patches:?}: pixel {i} lies in {n} patches");
        }
        let places: HashSet<[usize; 2]> = (0..patches.places()).map(|p| patches.at(p)).collect();
        assert_eq!(places.len(), patches.places(), "no place comes twice");
    });
}

#[test]
fn patches_put_back_are_the_picture_to_the_last_bit() {
    every(|patches| {
        let pictures = speckled(3, patches.picture().dim());
        let mut back = Mat::zeros(3, pictures.cols());
        let mut from = Vec::new();
        through(Some(patches), pictures.view(), back.view_mut(), &mut |own, x, mut out| {
            from.extend_from_slice(own);
            out.data().copy_from_slice(x.data());
        });
        assert_eq!(pictures, back, "{patches:?}");
        let each = patches.places();
        assert_eq!(from, (0..3 * each).map(|i| i / each).collect::<Vec<_>>());
    });
}

#[test]
fn where_patches_overlap_their_mean_is_taken() {
    // Patches of 2 every 1 pixel of 3, and patch number i reconstructed as i + 1.
    let patches = cut(shape(1, 1, 3), 1, 2, [1, 1]);
    let mut back = Mat::zeros(1, 3);
    through(Some(&patches), Mat::zeros(1, 3).view(), back.view_mut(), &mut |_, _, mut out| {
        (0..2).for_each(|b| out.row(b).fill(b as f32 + 1.0));
    });
    assert_eq!(back.data(), [1.0, 1.5, 2.0]);
    // The last one ends at the border, closer to the one before than the stride.
    let ragged = cut(shape(1, 3, 8), 3, 3, [1, 3]);
    assert_eq!((0..ragged.places()).map(|p| ragged.at(p)).collect::<Vec<_>>(), [[0, 0], [0, 3], [0, 5]]);
    assert_eq!(ragged.over[1], [1, 1, 1, 1, 1, 2, 1, 1]);
}

#[test]
fn without_patches_rows_go_through_as_they_are() {
    let rows = speckled(4, 5);
    let mut out = Mat::zeros(4, 5);
    through(None, rows.view(), out.view_mut(), &mut |from, x, mut out| {
        assert_eq!(from, [0, 1, 2, 3]);
        out.data().copy_from_slice(x.data());
    });
    assert_eq!(rows, out);
}

#[test]
fn patches_that_cannot_be_are_refused() {
    let refused = |height, width, stride, option: &str| {
        let error = Patches::new(shape(1, 8, 6), PatchSize { height, width, stride }).expect_err("it cannot be");
        assert!(error.to_string().contains(option), "{error}");
    };
    refused(9, 6, [1, 1], "--patch");
    refused(8, 7, [1, 1], "--patch");
    refused(0, 6, [1, 1], "--patch");
    refused(8, 0, [1, 1], "--patch");
    refused(4, 4, [0, 1], "--stride");
    refused(4, 4, [1, 0], "--stride");
    refused(4, 4, [5, 4], "--stride");
    refused(4, 4, [4, 5], "--stride");
    let rows = Dataset::open("synthetic:kind=directions,rows=40", &LoadOptions::default(), NO);
    let error = rows.expect("rows").set_patches(PatchSize::half(2, 2)).expect_err("no pictures");
    assert!(error.to_string().contains("--patch"), "{error}");
}

fn data(options: &LoadOptions) -> Dataset {
    Dataset::open("synthetic:kind=images,rows=60,seed=3", options, NO).expect("a data set")
}

fn whole_and_cut(options: LoadOptions) -> (Dataset, Dataset) {
    let size = PatchSize { height: 5, width: 4, stride: [3, 4] };
    (data(&options), data(&LoadOptions { patches: Some(size), ..options }))
}

#[test]
fn rows_are_the_patches_of_pictures_and_of_their_variants() {
    for (augment, each_epoch) in [(0, false), (5, false), (5, true)] {
        let options = LoadOptions { augment, augment_each_epoch: each_epoch, seed: 9, ..LoadOptions::default() };
        let (mut whole, mut own) = whole_and_cut(options);
        whole.set_scale(0.5);
        own.set_scale(0.5);
        let patches = own.patches().expect("cut").clone();
        let rows: Vec<usize> = own.with_variants(&[0, 7, 59]);
        assert_eq!(rows.len(), 3 * (1 + augment) * patches.places());
        let mut out = Mat::zeros(rows.len(), own.dim());
        own.fill(&rows, 2, out.view_mut());
        let (mut picture, mut wanted) = (vec![0.0; whole.dim()], vec![0.0; own.dim()]);
        for (b, &row) in rows.iter().enumerate() {
            whole.read(row / patches.places(), 2, &mut picture);
            patches.cut(&picture, row % patches.places(), &mut wanted);
            assert_eq!(out.row(b), wanted, "row {row}");
            assert_eq!(own.label(row), whole.label(row / patches.places()));
            assert_eq!(own.original(row), row / patches.places() / (1 + augment));
        }
        let mut read = vec![0.0; whole.dim()];
        own.read_picture(7, 2, &mut read);
        whole.read(7, 2, &mut picture);
        assert_eq!(read, picture);
    }
    // Variants were drawn from whole pictures: a flip is found whole, not patch by patch.
    let (whole, own) = whole_and_cut(LoadOptions { augment: 5, seed: 9, ..LoadOptions::default() });
    let shape = whole.shape().expect("pictures");
    let mut original = vec![0.0; whole.dim()];
    whole.read(0, 0, &mut original);
    let picture = super::super::rows::Picture { shape, data: original };
    let drawn = augment::variant(&picture, 9, 0, 0, 2);
    let mut variant = vec![0.0; own.picture_dim()];
    own.read_picture(3, 0, &mut variant);
    assert_eq!(variant, drawn.data);
}

#[test]
fn no_picture_is_on_both_sides_of_a_split() {
    let (whole, own) = whole_and_cut(LoadOptions { augment: 2, ..LoadOptions::default() });
    let options = SplitOptions { test_fraction: 0.3, ..SplitOptions::default() };
    let divided = split(&own, &options).expect("a split");
    assert_eq!(divided, split(&whole, &options).expect("a split"), "the split is that of the pictures");
    let originals = |rows: &[usize]| -> HashSet<usize> { rows.iter().map(|&r| own.original(r)).collect() };
    let (train, test) = (own.with_variants(&divided.train), own.without_variants(&divided.test));
    assert!(!test.is_empty() && originals(&train).is_disjoint(&originals(&test)));
    assert_eq!(train.len(), divided.train.len() * 3 * own.places());
    assert_eq!(test.len(), divided.test.len() * own.places());
    // Test pictures are originals, whole.
    assert_eq!(own.pictures(&test), divided.test.iter().map(|o| o * 3).collect::<Vec<_>>());
    let (rest, taken) = validation(&own, &divided, 0.3, None).expect("taken");
    assert!(
        !taken.is_empty() && originals(&own.with_variants(&rest)).is_disjoint(&originals(&own.with_variants(&taken)))
    );
    for fold in folds(&own, &divided.train, 3, None).expect("folds") {
        assert!(originals(&own.with_variants(&fold.train)).is_disjoint(&originals(&own.with_variants(&fold.test))));
    }
}

#[test]
fn some_rows_take_every_original_and_spread_pictures_keep_them_whole() {
    let (_, own) = whole_and_cut(LoadOptions { augment: 1, ..LoadOptions::default() });
    let places = own.places();
    let all: Vec<usize> = (0..60).rev().collect();
    let (rows, each) = own.some_rows(&all, 400, 1);
    assert_eq!((rows.len(), each), (60 * 2 * 3, 2 * 3));
    assert!(rows.chunks(each).zip(&all).all(|(part, &o)| part.iter().all(|&r| own.original(r) == o)));
    assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
    assert!(rows.iter().any(|r| r % places > 2), "places are drawn at random");
    let few = own.some_rows(&all[..2], 1_000_000, 1);
    assert_eq!((few.0.len(), few.1), (2 * 2 * places, 2 * places));
    let rows = own.without_variants(&(0..60).collect::<Vec<_>>());
    let spread = own.spread_rows(&rows, 60);
    assert!(spread.is_sorted() && spread.len() == 60);
    let met: HashSet<usize> = spread.iter().map(|r| r % places).collect();
    assert!(met.len() > places / 2, "of {places} places only {met:?} are looked at");
    assert_eq!(own.spread_rows(&rows[..7], 60), rows[..7]);
    let probe = own.spread_pictures(&rows, 4);
    assert_eq!(own.pictures(&probe), [0, 30, 60, 90]);
    assert_eq!(probe.len(), 4 * places);
}

#[test]
fn a_patch_is_named_by_its_picture_and_place() {
    let (whole, own) = whole_and_cut(LoadOptions::default());
    assert_eq!(own.row_name(own.places() + 1), format!("{}@4,0", whole.name(1)));
    assert_eq!(whole.row_name(1), whole.name(1));
    assert_ne!(whole.how_read(), own.how_read());
}
