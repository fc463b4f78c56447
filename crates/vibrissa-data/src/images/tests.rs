//! Loads of small folders that are made here: a test for each rule and each failure.

use super::*;
use crate::augment::VariantKey;
use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use tempfile::TempDir;
use vibrissa_core::random::Stream;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Loads a folder, and fails with the message of the error.
fn rows(dir: &Path, options: &LoadOptions) -> LoadedRows {
    load(dir, options, &|_, _| ()).unwrap_or_else(|error| panic!("{error}"))
}

fn error(dir: &Path, options: &LoadOptions) -> String {
    let Err(error) = load(dir, options, &|_, _| ()) else { panic!("must be refused") };
    let error = error.to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error.replace(&format!("{}/", dir.display()), "")
}

fn row(rows: &LoadedRows, r: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.blocks[0].dim()];
    rows.blocks[0].read(r, &mut out);
    out
}

fn names(rows: &LoadedRows) -> Vec<&str> {
    match &rows.names {
        RowNames::Listed(names) => names.iter().map(String::as_str).collect(),
        RowNames::ByBlock => Vec::new(),
    }
}

fn save(dir: &Path, name: &str, image: impl Into<DynamicImage>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("below the folder")).expect("created");
    image.into().save(path).expect("saved");
}

fn colourful(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 9) as u8, (y * 7) as u8, (x * y + 40) as u8]))
}

fn grey(width: u32, height: u32, level: u8) -> image::GrayImage {
    image::GrayImage::from_pixel(width, height, Luma([level]))
}

fn planar_bytes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|c| image.pixels().map(move |p| p.0[c])).collect()
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Jpeg).expect("encoded");
    bytes.into_inner()
}

fn stack<C: ::tiff::encoder::colortype::ColorType>(path: &Path, size: (u32, u32), pages: &[Vec<C::Inner>])
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let file = std::io::BufWriter::new(std::fs::File::create(path).expect("created"));
    let mut encoder = ::tiff::encoder::TiffEncoder::new(file).expect("begun");
    pages.iter().for_each(|page| encoder.write_image::<C>(size.0, size.1, page).expect("written"));
}

#[test]
fn lossless_formats_keep_every_byte() {
    let image = colourful(12, 9);
    for name in ["a.png", "a.PNG", "a.webp", "a.bmp", "a.tiff", "a.gif", "wrong.jpg"] {
        let dir = folder();
        let format = if name == "wrong.jpg" { ImageFormat::Png } else { ImageFormat::from_path(name).expect("known") };
        image.save_with_format(dir.path().join(name), format).expect("saved");
        let rows = rows(dir.path(), &LoadOptions::default());
        assert_eq!(rows.shape, Some(ImageShape { channels: 3, height: 9, width: 12 }), "{name}");
        assert_eq!(rows.blocks[0].row_bytes(0), planar_bytes(&image), "{name}");
        assert_eq!(names(&rows), [name]);
    }
}

#[test]
fn jpeg_comes_close() {
    let smooth = RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 6) as u8, (y * 6) as u8, 90]));
    let dir = folder();
    save(dir.path(), "a.jpeg", smooth.clone());
    let rows = rows(dir.path(), &LoadOptions::default());
    assert!(rows.blocks[0].row_bytes(0).iter().zip(planar_bytes(&smooth)).all(|(a, b)| a.abs_diff(b) <= 12));
}

/// The EXIF block of a photograph whose orientation is `value`.
fn with_orientation(jpeg: &[u8], value: u8) -> Vec<u8> {
    let tiff = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[value, 0, 0, 0, 0, 0, 0, 0]].concat();
    let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn exif_orientation_is_applied() {
    let image = RgbImage::from_fn(16, 8, |x, y| Rgb([(x * 15) as u8, (y * 30) as u8, 128]));
    let bytes = jpeg(&image);
    for value in 1..=8 {
        let dir = folder();
        std::fs::write(dir.path().join("a.jpg"), with_orientation(&bytes, value)).expect("written");
        let mut upright = image::load_from_memory(&bytes).expect("decoded");
        upright.apply_orientation(image::metadata::Orientation::from_exif(value).expect("1 to 8"));
        let rows = rows(dir.path(), &LoadOptions::default());
        assert_eq!(rows.shape.map(|s| s.width), Some(upright.width() as usize), "orientation {value}");
        assert_eq!(rows.blocks[0].row_bytes(0), planar_bytes(&upright.to_rgb8()), "orientation {value}");
    }
}

#[test]
fn alpha_is_laid_over_white() {
    let dir = folder();
    save(dir.path(), "a.png", image::RgbaImage::from_fn(2, 1, |x, _| Rgba([0, 100, 200, [0, 128][x as usize]])));
    let rows8 = rows(dir.path(), &LoadOptions::default());
    assert_eq!(rows8.blocks[0].row_bytes(0), [255, 127, 255, 177, 255, 227]);

    let dir = folder();
    let deep = image::ImageBuffer::from_fn(2, 1, |x, _| LumaA([0u16, [0, 0x8000][x as usize]]));
    save(dir.path(), "a.png", DynamicImage::ImageLumaA16(deep));
    let half = row(&rows(dir.path(), &LoadOptions { range: ValueRange::Full, ..Default::default() }), 0);
    assert!(half[0] == 1.0 && (half[1] - 0.5).abs() < 1e-4, "{half:?}");
}

#[test]
fn sixteen_bits_scale_by_the_largest_of_all_or_of_the_format() {
    let dir = folder();
    for (name, level) in [("a.png", 1000u16), ("b.png", 4000), ("c.tif", 2000)] {
        save(dir.path(), name, DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(3, 3, Luma([level]))));
    }
    let auto = rows(dir.path(), &LoadOptions::default());
    assert_eq!(auto.blocks[0].dtype(), Dtype::F32);
    assert_eq!([0, 1, 2].map(|r| row(&auto, r)[0]), [0.25, 1.0, 0.5]);
    let full = rows(dir.path(), &LoadOptions { range: ValueRange::Full, ..Default::default() });
    assert_eq!(row(&full, 1)[0], 4000.0 / 65535.0);
}

#[test]
fn eight_bits_among_sixteen_are_value_over_255() {
    let dir = folder();
    save(dir.path(), "a.png", grey(4, 4, 51));
    save(dir.path(), "b.png", DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(4, 4, Luma([500u16]))));
    let rows = rows(dir.path(), &LoadOptions::default());
    assert_eq!([row(&rows, 0)[0], row(&rows, 1)[0]], [0.2, 1.0]);
}

#[test]
fn floats_are_clipped_at_0_and_scaled() {
    use ::tiff::encoder::colortype::Gray32Float;
    let dir = folder();
    stack::<Gray32Float>(&dir.path().join("a.tif"), (2, 2), &[vec![-1.0, 0.5, 2.0, 4.0]]);
    assert_eq!(row(&rows(dir.path(), &LoadOptions::default()), 0), [0.0, 0.125, 0.5, 1.0]);
    let full = LoadOptions { range: ValueRange::Full, ..Default::default() };
    assert_eq!(row(&rows(dir.path(), &full), 0), [0.0, 0.5, 1.0, 1.0]);

    stack::<Gray32Float>(&dir.path().join("a.tif"), (2, 2), &[vec![0.0, 0.5, f32::NAN, 4.0]]);
    let error = error(dir.path(), &LoadOptions::default());
    assert!(error.starts_with("a.tif: NaN at pixel (0, 1); every value must be finite; remove it"), "{error}");
}

#[test]
fn every_page_of_a_stack_is_a_row() {
    use ::tiff::encoder::colortype::{Gray8, Gray16, RGB8};
    let dir = folder();
    let file = dir.path().join("s.tif");
    stack::<Gray16>(&file, (5, 4), &(0..150u16).map(|page| vec![page + 1; 20]).collect::<Vec<_>>());
    for from in [dir.path(), &file] {
        let rows = rows(from, &LoadOptions::default());
        assert_eq!(rows.blocks[0].rows(), 150);
        assert_eq!((names(&rows)[0], names(&rows)[149]), ("s.tif#0", "s.tif#149"));
        assert!((0..150).all(|r| row(&rows, r) == [(r + 1) as f32 / 150.0; 20]));
        assert!(rows.classes.is_empty() && rows.labels.is_empty());
    }
    stack::<Gray8>(&file, (5, 4), &[vec![7; 20], vec![8; 20]]);
    stack::<RGB8>(&dir.path().join("t.tif"), (5, 4), &[(0..60).collect()]);
    let mixed = rows(dir.path(), &LoadOptions::default());
    assert_eq!(names(&mixed), ["s.tif#0", "s.tif#1", "t.tif"]);
    assert_eq!(mixed.blocks[0].row_bytes(1), [8; 60]);
    assert_eq!(mixed.blocks[0].row_bytes(2)[..3], [0, 3, 6]);
}

#[test]
fn a_truncated_stack() {
    use ::tiff::encoder::colortype::Gray8;
    let dir = folder();
    let file = dir.path().join("s.tif");
    stack::<Gray8>(&file, (40, 40), &(0..9).map(|page| vec![page; 1600]).collect::<Vec<_>>());
    let bytes = std::fs::read(&file).expect("read");
    for part in [30, 60, 95] {
        std::fs::write(&file, &bytes[..bytes.len() * part / 100]).expect("written");
        let error = error(dir.path(), &LoadOptions::default());
        assert!(error.starts_with("s.tif") && error.contains("cannot be decoded"), "{part} %: {error}");
    }
}

#[test]
fn classes_are_sub_folders_and_a_dot_beside_them() {
    let dir = folder();
    for name in ["10/a.png", "9/deep/er/b.png", "9/a.png", "top.png"] {
        save(dir.path(), name, grey(3, 3, 0));
    }
    let rows = rows(dir.path(), &LoadOptions::default());
    assert_eq!(names(&rows), ["10/a.png", "9/a.png", "9/deep/er/b.png", "top.png"]);
    assert_eq!(rows.classes, ["9", "10", "."]);
    assert_eq!(rows.labels, [1, 0, 0, 2]);
}

#[test]
fn sizes_follow_the_images_up_to_64() {
    let of = |sizes: &[(u32, u32)]| {
        let dir = folder();
        for (i, (w, h)) in sizes.iter().enumerate() {
            save(dir.path(), &format!("{i}.png"), grey(*w, *h, 9));
        }
        rows(dir.path(), &LoadOptions::default()).shape.map(|s| (s.width, s.height))
    };
    assert_eq!(of(&[(28, 20), (28, 20)]), Some((28, 20)));
    assert_eq!(of(&[(28, 20), (20, 28)]), Some((64, 64)));
    assert_eq!(of(&[(65, 20), (65, 20)]), Some((64, 64)));
}

#[test]
fn grey_pixels_are_grey_whatever_the_format_says() {
    let dir = folder();
    save(dir.path(), "a.png", RgbImage::from_pixel(4, 4, Rgb([9, 9, 9])));
    save(dir.path(), "b.png", grey(4, 4, 7));
    let all_grey = rows(dir.path(), &LoadOptions::default());
    assert_eq!(all_grey.blocks[0].row_bytes(0), [9; 16]);
    // A coloured image makes the earlier and the later grey ones RGB.
    save(dir.path(), "aa.png", RgbImage::from_pixel(4, 4, Rgb([9, 8, 7])));
    let mixed = rows(dir.path(), &LoadOptions { augment: 2, ..Default::default() });
    assert_eq!(mixed.shape.map(|s| s.channels), Some(3));
    assert_eq!(mixed.blocks[0].row_bytes(0), [9; 48]);
    assert_eq!(mixed.blocks[0].row_bytes(1)[14..18], [9, 9, 8, 8]);
    assert_eq!(mixed.blocks[0].row_bytes(2), [7; 48]);
    assert_eq!(mixed.variants.map(|v| (v.rows(), v.dim())), Some((6, 48)));
    let luma = rows(dir.path(), &LoadOptions { channels: Some(Channels::Gray), ..Default::default() });
    assert_eq!(luma.blocks[0].row_bytes(1), [((9 * 19595 + 8 * 38470 + 7 * 7471 + 0x8000) >> 16) as u8; 16]);
    save(dir.path(), "aa.png", grey(4, 4, 3));
    let rgb = rows(dir.path(), &LoadOptions { channels: Some(Channels::Rgb), ..Default::default() });
    assert_eq!(rgb.blocks[0].row_bytes(1), [3; 48]);
}

#[test]
fn fits_of_a_wide_image() {
    let dir = folder();
    save(
        dir.path(),
        "a.png",
        image::GrayImage::from_fn(12, 4, |x, _| Luma([if (4..8).contains(&x) { 100 } else { 200 }])),
    );
    let with = |fit| rows(dir.path(), &LoadOptions { size: Some((4, 4)), fit, ..Default::default() }).blocks.remove(0);
    assert_eq!(with(Fit::Crop).row_bytes(0), [100; 16]);
    assert_eq!(with(Fit::Stretch).row_bytes(0)[..4], [200, 133, 133, 200]);
    // 28 edge pixels, 8 of them dark.
    let padded = with(Fit::Pad);
    assert_eq!((padded.row_bytes(0)[0], padded.row_bytes(0)[15]), (171, 171));
}

#[test]
fn truncated_jpeg() {
    let dir = folder();
    let bytes = jpeg(&colourful(90, 70));
    let file = dir.path().join("x.jpg");
    for length in
        [30, 60, 95].map(|part| bytes.len() * part / 100).into_iter().chain([bytes.len() - 2, bytes.len() - 1])
    {
        std::fs::write(&file, &bytes[..length]).expect("written");
        let error = error(dir.path(), &LoadOptions::default());
        let wanted = format!("x.jpg: a truncated JPEG ({length} bytes, no end marker); remove it or set `skip_bad`");
        assert_eq!(error, wanted);
    }
    // Bytes after the end marker are ignored.
    std::fs::write(&file, [&bytes[..], b"\0\xff\xd8garbage"].concat()).expect("written");
    assert_eq!(rows(dir.path(), &LoadOptions::default()).blocks[0].rows(), 1);
}

#[test]
fn a_thumbnail_does_not_end_a_jpeg() {
    let dir = folder();
    let bytes = jpeg(&colourful(90, 70));
    let thumbnail = jpeg(&colourful(8, 8));
    let length = (thumbnail.len() as u16 + 2).to_be_bytes();
    let whole = [&bytes[..2], &[0xff, 0xec], &length, &thumbnail, &bytes[2..]].concat();
    std::fs::write(dir.path().join("x.jpg"), &whole[..whole.len() - 9]).expect("written");
    assert!(error(dir.path(), &LoadOptions::default()).contains("truncated"));
    std::fs::write(dir.path().join("x.jpg"), &whole).expect("written");
    assert_eq!(rows(dir.path(), &LoadOptions::default()).blocks[0].rows(), 1);
}

#[test]
fn truncated_files_of_other_formats() {
    for name in ["x.png", "x.webp", "x.bmp", "x.gif", "x.tif"] {
        let dir = folder();
        save(dir.path(), name, colourful(90, 70));
        let file = dir.path().join(name);
        let bytes = std::fs::read(&file).expect("read");
        for part in [30, 60, 95] {
            std::fs::write(&file, &bytes[..bytes.len() * part / 100]).expect("written");
            let error = error(dir.path(), &LoadOptions::default());
            assert!(error.starts_with(&format!("{name}: ")), "{part} %: {error}");
            assert!(error.ends_with("; remove it or set `skip_bad`"), "{error}");
        }
    }
}

#[test]
fn text_and_empty_files_with_image_names() {
    let dir = folder();
    std::fs::write(dir.path().join("x.png"), "<html>").expect("written");
    let text = error(dir.path(), &LoadOptions::default());
    assert_eq!(text, "x.png: not an image (starts with 3c 68 74 6d \"<htm\"); remove it or set `skip_bad`");
    std::fs::write(dir.path().join("x.png"), "").expect("written");
    let empty = error(dir.path(), &LoadOptions::default());
    assert_eq!(empty, "x.png: empty (0 bytes); remove it or set `skip_bad`");
}

#[test]
fn a_decompression_bomb() {
    let dir = folder();
    let mut header = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    header.extend(30000u32.to_le_bytes());
    header.extend(30000u32.to_le_bytes());
    header.extend([1, 0, 24, 0]);
    header.resize(60, 0);
    std::fs::write(dir.path().join("x.bmp"), header).expect("written");
    let error = error(dir.path(), &LoadOptions::default());
    assert!(error.starts_with("x.bmp: 30000 × 30000 pixels take more than 512 MiB when decoded;"), "{error}");
}

#[test]
fn images_without_pixels_or_pages() {
    let dir = folder();
    save(dir.path(), "x.tif", grey(3, 3, 0));
    let bytes = std::fs::read(dir.path().join("x.tif")).expect("read");
    // The width is a long of value 3 under tag 256, alone or among pages of other sizes.
    let tag = b"\0\x01\x04\0\x01\0\0\0\x03";
    let at = bytes.windows(tag.len()).position(|w| w == tag).expect("the width") + tag.len() - 1;
    let mut flat = bytes.clone();
    flat[at] = 0;
    std::fs::write(dir.path().join("x.tif"), flat).expect("written");
    for size in [None, Some((8, 8))] {
        let error = error(dir.path(), &LoadOptions { size, ..Default::default() });
        assert!(error.starts_with("x.tif"), "{error}");
    }
    let mut pageless = bytes;
    pageless[4..8].fill(0);
    std::fs::write(dir.path().join("x.tif"), pageless).expect("written");
    assert!(error(dir.path(), &LoadOptions::default()).starts_with("x.tif: "));
}

#[test]
fn a_size_of_0() {
    let dir = folder();
    save(dir.path(), "a.png", grey(3, 3, 0));
    for size in [(0, 64), (64, 0), (64, 100_000)] {
        let error = error(dir.path(), &LoadOptions { size: Some(size), ..Default::default() });
        assert!(error.starts_with("size: expected a width and a height from 1 to 8192"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_dangling_link() {
    let dir = folder();
    std::os::unix::fs::symlink("nowhere", dir.path().join("x.png")).expect("linked");
    let error = error(dir.path(), &LoadOptions::default());
    assert!(error.starts_with("x.png: cannot read the image: "), "{error}");
}

fn some_bad() -> TempDir {
    let dir = folder();
    for i in 0..40 {
        save(dir.path(), &format!("{i:02}.png"), grey(5, 5, i));
    }
    for i in [31, 7, 20] {
        std::fs::write(dir.path().join(format!("{i:02}.png")), "text").expect("written");
    }
    dir
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

#[test]
fn the_first_bad_file_in_order_is_reported() {
    let dir = some_bad();
    for threads in [1, 4] {
        let error = with_threads(threads, || error(dir.path(), &LoadOptions::default()));
        assert!(error.starts_with("07.png: not an image"), "{error}");
    }
}

#[test]
fn skip_bad_leaves_out_and_lists() {
    let dir = some_bad();
    let options = LoadOptions { skip_bad: true, ..Default::default() };
    let left = rows(dir.path(), &options);
    let skipped: Vec<_> = left.skipped.iter().map(|s| s.path.file_name().expect("a name")).collect();
    assert_eq!(skipped, ["07.png", "20.png", "31.png"]);
    assert!(left.skipped[0].reason.contains("07.png: not an image (starts with 74 65 78 74 \"text\")"));
    assert_eq!((left.blocks[0].rows(), names(&left)[7]), (37, "08.png"));

    let dir = folder();
    std::fs::write(dir.path().join("x.png"), "text").expect("written");
    let nothing = error(dir.path(), &options);
    assert!(nothing.contains(": no image is left of 1; the first: x.png: not an image"), "{nothing}");
}

#[test]
fn progress_counts_to_the_end() {
    let dir = some_bad();
    let seen = std::sync::Mutex::new(Vec::new());
    let options = LoadOptions { skip_bad: true, ..Default::default() };
    load(dir.path(), &options, &|done, of| seen.lock().expect("whole").push((done, of))).expect("loaded");
    let mut seen = seen.into_inner().expect("whole");
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).map(|done| (done, 40)).collect::<Vec<_>>());
}

#[test]
fn broken_bytes_never_panic() {
    let mut stream = Stream::new(3, "broken bytes", &[]);
    for name in ["x.png", "x.jpg", "x.webp", "x.bmp", "x.gif", "x.tif"] {
        let dir = folder();
        save(dir.path(), name, colourful(19, 17));
        let file = dir.path().join(name);
        let bytes = std::fs::read(&file).expect("read");
        for _ in 0..100 {
            let mut broken = bytes.clone();
            for _ in 0..1 + stream.below(4) {
                // Half of the changes are in the headers.
                let most = if stream.below(2) == 0 { broken.len() } else { broken.len().min(64) };
                let at = stream.below(most as u64) as usize;
                broken[at] = stream.below(256) as u8;
            }
            std::fs::write(&file, broken).expect("written");
            let _ = load(dir.path(), &LoadOptions::default(), &|_, _| ());
        }
    }
}

#[test]
fn thirty_nine_images_with_five_variants_on_any_number_of_threads() {
    let dir = folder();
    for i in 0..39u32 {
        let image = image::GrayImage::from_fn(90, 80, |x, y| Luma([(x * i + y * 3) as u8]));
        save(dir.path(), &format!("{}/{i:02}.png", i % 2), image);
    }
    let options = LoadOptions { size: Some((32, 32)), augment: 5, seed: 4, ..Default::default() };
    let one = with_threads(1, || rows(dir.path(), &options));
    let four = with_threads(4, || rows(dir.path(), &options));
    let (a, b) = (one.variants.expect("requested"), four.variants.expect("requested"));
    assert_eq!((one.blocks[0].rows(), a.rows(), a.dtype()), (39, 195, Dtype::U8));
    assert!((0..195).all(|r| a.row_bytes(r) == b.row_bytes(r)));
    assert!((0..39).all(|r| one.blocks[0].row_bytes(r) == four.blocks[0].row_bytes(r)));
    let other = rows(dir.path(), &LoadOptions { seed: 5, ..options }).variants.expect("requested");
    assert!((0..195).filter(|r| a.row_bytes(*r) == other.row_bytes(*r)).count() < 80);
}

#[test]
fn stored_variants_and_those_of_an_epoch_agree() {
    let images: [DynamicImage; 2] = [
        colourful(100, 70).into(),
        DynamicImage::ImageLuma16(image::ImageBuffer::from_fn(100, 70, |x, y| Luma([(x * y) as u16]))),
    ];
    for image in images {
        let dir = folder();
        // A file that is left out must not shift the rows' numbers.
        std::fs::write(dir.path().join("0.png"), "text").expect("written");
        save(dir.path(), "a.png", image.clone());
        save(dir.path(), "b.png", image);
        let stored = LoadOptions { size: Some((30, 20)), augment: 7, skip_bad: true, ..Default::default() };
        let variants = rows(dir.path(), &stored).variants.expect("requested");
        let each = rows(dir.path(), &LoadOptions { augment_each_epoch: true, ..stored });
        assert!(each.variants.is_none() && each.working_images.len() == 2);
        let (shape, dtype) = (each.shape.expect("images"), each.blocks[0].dtype());
        let working = each.working_images[0].shape;
        assert_eq!((working.width, working.height), (60, 40));
        let (mut made, mut stored_row) = (vec![0.0; shape.dim()], vec![0.0; shape.dim()]);
        for (r, image) in each.working_images.iter().enumerate() {
            for v in 0..7 {
                let key = VariantKey { seed: 0, epoch: 0, row: r as u64, variant: v };
                augment::variant_row(image, shape, dtype, key, &mut made);
                variants.read(r * 7 + v as usize, &mut stored_row);
                assert_eq!(made, stored_row, "row {r} variant {v} {dtype:?}");
            }
        }
    }
}

#[test]
fn working_images_are_as_large_as_the_source_allows() {
    assert_eq!(working_size((600, 600), (64, 64), Fit::Crop), (128, 128));
    assert_eq!(working_size((96, 200), (64, 64), Fit::Crop), (96, 96));
    assert_eq!(working_size((30, 20), (64, 64), Fit::Crop), (64, 64));
    assert_eq!(working_size((96, 200), (64, 64), Fit::Pad), (128, 128));
    assert_eq!(working_size((96, 50), (64, 32), Fit::Stretch), (96, 48));
}
