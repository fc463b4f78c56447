use super::*;
use crate::Dataset;
use crate::augment::{self, VariantKey};
use crate::rows::LoadOptions;
use crate::split::{SplitOptions, folds, split, validation};
use std::collections::HashSet;

const NO: &(dyn Fn(usize, usize) + Sync) = &|_, _| ();

fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
    ImageShape { channels, height, width }
}

fn cut(image: ImageShape, height: usize, width: usize, stride: [usize; 2]) -> PatchLayout {
    PatchLayout::new(image, PatchGrid { height, width, stride }).expect("they fit")
}

/// Values that no sum in f32 would keep.
fn speckled(rows: usize, dim: usize) -> Mat {
    Mat::from_vec(rows, dim, (0..rows * dim).map(|i| (i * 7919 % 1009) as f32 / 1009.0 + 1e-3).collect())
}

/// Every size and stride of a few ragged shapes.
fn every(mut f: impl FnMut(&PatchLayout)) {
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
        let ImageShape { channels, height, width } = patches.image();
        let mut seen = vec![0.0f64; channels * height * width];
        for position in 0..patches.patches_per_image() {
            let [top, left] = patches.at(position);
            assert!(top + patches.grid.height <= height && left + patches.grid.width <= width);
            patches.add(position, &vec![1.0; patches.shape().dim()], &mut seen);
        }
        for (i, &n) in seen.iter().enumerate() {
            let covered = patches.coverage[0][i / width % height] * patches.coverage[1][i % width];
            assert!(n >= 1.0 && n == f64::from(covered), "{patches:?}: pixel {i} lies in {n} patches");
        }
        let positions: HashSet<[usize; 2]> = (0..patches.patches_per_image()).map(|p| patches.at(p)).collect();
        assert_eq!(positions.len(), patches.patches_per_image(), "no position comes twice");
    });
}

#[test]
fn averaged_patches_of_an_image_are_the_image_bit_for_bit() {
    every(|patches| {
        let images = speckled(3, patches.image().dim());
        let mut back = Mat::zeros(3, images.cols());
        let mut from = Vec::new();
        map_images(Some(patches), images.view(), back.view_mut(), &mut |patched, x, mut out| {
            from.extend_from_slice(patched);
            out.data().copy_from_slice(x.data());
        });
        assert_eq!(images, back, "{patches:?}");
        let each = patches.patches_per_image();
        assert_eq!(from, (0..3 * each).map(|i| i / each).collect::<Vec<_>>());
    });
}

#[test]
fn where_patches_overlap_their_mean_is_taken() {
    // Patches of 2 every 1 pixel of 3, and patch number i reconstructed as i + 1.
    let patches = cut(shape(1, 1, 3), 1, 2, [1, 1]);
    let mut back = Mat::zeros(1, 3);
    map_images(Some(&patches), Mat::zeros(1, 3).view(), back.view_mut(), &mut |_, _, mut out| {
        (0..2).for_each(|b| out.row(b).fill(b as f32 + 1.0));
    });
    assert_eq!(back.data(), [1.0, 1.5, 2.0]);
    // The last one ends at the border, closer to the one before than the stride.
    let ragged = cut(shape(1, 3, 8), 3, 3, [1, 3]);
    assert_eq!((0..ragged.patches_per_image()).map(|p| ragged.at(p)).collect::<Vec<_>>(), [[0, 0], [0, 3], [0, 5]]);
    assert_eq!(ragged.coverage[1], [1, 1, 1, 1, 1, 2, 1, 1]);
}

#[test]
fn without_patches_the_model_is_given_whole_rows() {
    let rows = speckled(4, 5);
    let mut out = Mat::zeros(4, 5);
    map_images(None, rows.view(), out.view_mut(), &mut |from, x, mut out| {
        assert_eq!(from, [0, 1, 2, 3]);
        out.data().copy_from_slice(x.data());
    });
    assert_eq!(rows, out);
}

#[test]
fn invalid_patches_are_refused() {
    let refused = |height, width, stride, option: &str| {
        let error = PatchLayout::new(shape(1, 8, 6), PatchGrid { height, width, stride }).expect_err("it is invalid");
        assert!(error.to_string().starts_with(option), "{error}");
    };
    refused(9, 6, [1, 1], "patch: ");
    refused(8, 7, [1, 1], "patch: ");
    refused(0, 6, [1, 1], "patch: ");
    refused(8, 0, [1, 1], "patch: ");
    refused(4, 4, [0, 1], "stride: ");
    refused(4, 4, [1, 0], "stride: ");
    refused(4, 4, [5, 4], "stride: ");
    refused(4, 4, [4, 5], "stride: ");
    let rows = Dataset::open("synthetic:kind=directions,rows=40", &LoadOptions::default(), NO);
    let error = rows.expect("rows").set_patches(PatchGrid::half_overlapping(2, 2)).expect_err("no images");
    assert!(error.to_string().contains("patch: "), "{error}");
}

fn data(options: &LoadOptions) -> Dataset {
    Dataset::open("synthetic:kind=images,rows=60,seed=3", options, NO).expect("a data set")
}

fn whole_and_cut(options: LoadOptions) -> (Dataset, Dataset) {
    let size = PatchGrid { height: 5, width: 4, stride: [3, 4] };
    (data(&options), data(&LoadOptions { patches: Some(size), ..options }))
}

#[test]
fn rows_are_the_patches_of_images_and_of_their_variants() {
    for (augment, each_epoch) in [(0, false), (5, false), (5, true)] {
        let options = LoadOptions { augment, augment_each_epoch: each_epoch, seed: 9, ..LoadOptions::default() };
        let (whole, patched) = whole_and_cut(options);
        let patches = patched.patches().expect("cut").clone();
        let rows: Vec<usize> = patched.with_variants(&[0, 7, 59]);
        assert_eq!(rows.len(), 3 * (1 + augment) * patches.patches_per_image());
        let mut out = Mat::zeros(rows.len(), patched.dim());
        patched.fill(&rows, 2, out.view_mut());
        let (mut image, mut wanted) = (vec![0.0; whole.dim()], vec![0.0; patched.dim()]);
        for (b, &row) in rows.iter().enumerate() {
            whole.read(row / patches.patches_per_image(), 2, &mut image);
            patches.cut(&image, row % patches.patches_per_image(), &mut wanted);
            assert_eq!(out.row(b), wanted, "row {row}");
            assert_eq!(patched.label(row), whole.label(row / patches.patches_per_image()));
            assert_eq!(patched.original(row), row / patches.patches_per_image() / (1 + augment));
        }
        let mut read = vec![0.0; whole.dim()];
        patched.read_image(7, 2, &mut read);
        whole.read(7, 2, &mut image);
        assert_eq!(read, image);
    }
    // Variants are made of whole images: a flip turns the image, not each patch.
    let (whole, patched) = whole_and_cut(LoadOptions { augment: 5, seed: 9, ..LoadOptions::default() });
    let shape = whole.shape().expect("images");
    let mut original = vec![0.0; whole.dim()];
    whole.read(0, 0, &mut original);
    let image = crate::rows::Image { shape, data: original };
    let made = augment::variant(&image, VariantKey { seed: 9, epoch: 0, row: 0, variant: 2 });
    let mut variant = vec![0.0; patched.image_dim()];
    patched.read_image(3, 0, &mut variant);
    assert_eq!(variant, made.data);
}

#[test]
fn no_image_is_on_both_sides_of_a_split() {
    let (whole, patched) = whole_and_cut(LoadOptions { augment: 2, ..LoadOptions::default() });
    let options = SplitOptions { test_fraction: 0.3, ..SplitOptions::default() };
    let divided = split(&patched, &options).expect("a split");
    assert_eq!(divided, split(&whole, &options).expect("a split"), "the split is that of the images");
    let originals = |rows: &[usize]| -> HashSet<usize> { rows.iter().map(|&r| patched.original(r)).collect() };
    let (train, test) = (patched.with_variants(&divided.train), patched.without_variants(&divided.test));
    assert!(!test.is_empty() && originals(&train).is_disjoint(&originals(&test)));
    assert_eq!(train.len(), divided.train.len() * 3 * patched.rows_per_image());
    assert_eq!(test.len(), divided.test.len() * patched.rows_per_image());
    // Test images are originals, whole.
    assert_eq!(patched.images(&test), divided.test.iter().map(|o| o * 3).collect::<Vec<_>>());
    let (rest, taken) = validation(&patched, &divided, 0.3, None).expect("taken");
    assert!(
        !taken.is_empty()
            && originals(&patched.with_variants(&rest)).is_disjoint(&originals(&patched.with_variants(&taken)))
    );
    for fold in folds(&patched, &divided.train, 3, None).expect("folds") {
        assert!(
            originals(&patched.with_variants(&fold.train)).is_disjoint(&originals(&patched.with_variants(&fold.test)))
        );
    }
}

#[test]
fn sampled_rows_have_every_original_and_evenly_spaced_images_are_whole() {
    let (_, patched) = whole_and_cut(LoadOptions { augment: 1, ..LoadOptions::default() });
    let positions = patched.rows_per_image();
    let all: Vec<usize> = (0..60).rev().collect();
    let (rows, each) = patched.sample_rows(&all, 400, 1);
    assert_eq!((rows.len(), each), (60 * 2 * 3, 2 * 3));
    assert!(rows.chunks(each).zip(&all).all(|(part, &o)| part.iter().all(|&r| patched.original(r) == o)));
    assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
    assert!(rows.iter().any(|r| r % positions > 2), "positions are sampled");
    let few = patched.sample_rows(&all[..2], 1_000_000, 1);
    assert_eq!((few.0.len(), few.1), (2 * 2 * positions, 2 * positions));
    let rows = patched.without_variants(&(0..60).collect::<Vec<_>>());
    let spread = patched.subsample_rows(&rows, 60);
    assert!(spread.is_sorted() && spread.len() == 60);
    let met: HashSet<usize> = spread.iter().map(|r| r % positions).collect();
    assert!(met.len() > positions / 2, "only {met:?} of {positions} positions are sampled");
    assert_eq!(patched.subsample_rows(&rows[..7], 60), rows[..7]);
    let probe = patched.evenly_spaced_images(&rows, 4);
    assert_eq!(patched.images(&probe), [0, 30, 60, 90]);
    assert_eq!(probe.len(), 4 * positions);
}

#[test]
fn a_patch_is_named_by_its_image_and_position() {
    let (whole, patched) = whole_and_cut(LoadOptions::default());
    assert_eq!(patched.row_name(patched.rows_per_image() + 1), format!("{}@4,0", whole.name(1)));
    assert_eq!(whole.row_name(1), whole.name(1));
    // Checkpoints keep a hash of these texts.
    let described = "Some(ImageShape { channels: 1, height: 16, width: 16 }) 0 false 0";
    assert_eq!(whole.load_description(), described);
    let grid = " PatchSize { height: 5, width: 4, stride: [3, 4] }";
    assert_eq!(patched.load_description(), format!("{described}{grid}"));
}
