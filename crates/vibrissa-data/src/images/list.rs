//! The image files of a folder, their order and their classes. Opens no file.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use vibrissa_core::error::{Error, Result};

/// Extensions of images, lower case.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif"];
/// Extensions that other loaders read.
const ARRAYS: [&str; 6] = ["npy", "npz", "safetensors", "parquet", "idx", "gz"];

/// A file that is an image by its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Its path.
    pub path: PathBuf,
    /// Its path relative to the folder, with `/`; bytes that are not UTF-8 are replaced.
    pub name: String,
}

impl Candidate {
    /// Returns the first sub-folder on the path to the file; `.` where there is none.
    pub(crate) fn class(&self) -> &str {
        self.name.split_once('/').map_or(".", |(class, _)| class)
    }
}

/// The contents of a folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Image files, sorted by name.
    pub files: Vec<Candidate>,
    /// Sub-folders that could not be read.
    pub unreadable: Vec<Error>,
    /// Number of other files.
    others: usize,
    /// A file that the loader of arrays would read.
    array: Option<String>,
}

/// Lists the images of a folder and of all folders below it; a single file is a list of one.
///
/// Hidden files and folders and `__MACOSX` are left out. Symbolic links are followed, each folder is visited once.
///
/// # Errors
/// A folder that is missing, unreadable, or holds no image.
pub(crate) fn list(dir: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    let meta = std::fs::metadata(dir).map_err(Error::io(dir, "open it", "check the path"))?;
    if !meta.is_dir() {
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
        listing.files.push(Candidate { path: dir.to_path_buf(), name });
        return Ok(listing);
    }
    let mut seen = HashSet::new();
    seen.extend(std::fs::canonicalize(dir));
    let mut links = VecDeque::new();
    walk(dir, "", &mut listing, &mut seen, &mut links).map_err(Error::io(
        dir,
        "read the folder",
        "check its permissions",
    ))?;
    // Links come after real folders, so that images keep the names of the real folders.
    while let Some((path, name)) = links.pop_front() {
        folder(&path, &name, &mut listing, &mut seen, &mut links);
    }
    listing.files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()).then_with(|| a.path.cmp(&b.path)));
    if listing.files.is_empty() && listing.unreadable.is_empty() {
        let found = format!("no images (.{}) among {} files", EXTENSIONS.join(" ."), listing.others);
        let remedy = match &listing.array {
            Some(name) => format!("to load arrays, pass the array file itself ({name})"),
            None => "check the path".to_string(),
        };
        return Err(Error::file(dir, found, remedy));
    }
    Ok(listing)
}

type Links = VecDeque<(PathBuf, String)>;

fn walk(
    dir: &Path,
    prefix: &str,
    listing: &mut Listing,
    seen: &mut HashSet<PathBuf>,
    links: &mut Links,
) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in &entries {
        let file_name = entry.file_name();
        if file_name.as_encoded_bytes().starts_with(b".") || file_name == "__MACOSX" {
            continue;
        }
        let path = entry.path();
        let name = format!("{prefix}{}", file_name.to_string_lossy());
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && path.is_symlink() => links.push_back((path, name)),
            Ok(meta) if meta.is_dir() => folder(&path, &name, listing, seen, links),
            // Reading a pipe would block.
            Ok(meta) if !meta.is_file() => {}
            // A dangling link has no metadata, and is reported when it is read.
            _ if has_extension(&path, &EXTENSIONS) => listing.files.push(Candidate { path, name }),
            _ => {
                listing.others += 1;
                if listing.array.is_none() && has_extension(&path, &ARRAYS) {
                    listing.array = Some(name);
                }
            }
        }
    }
    Ok(())
}

fn folder(path: &Path, name: &str, listing: &mut Listing, seen: &mut HashSet<PathBuf>, links: &mut Links) {
    let result = std::fs::canonicalize(path).and_then(|real| {
        if seen.insert(real) { walk(path, &format!("{name}/"), listing, seen, links) } else { Ok(()) }
    });
    if let Err(source) = result {
        let remedy = "check its permissions, or set `skip_bad`";
        listing.unreadable.push(Error::io(path, "read the folder", remedy)(source));
    }
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    wanted.iter().any(|w| w.eq_ignore_ascii_case(extension))
}

/// Returns the class names of the rows (numbers first, by value; then text) and the index of each row's class; both are
/// empty where no image lies in a sub-folder.
///
/// # Errors
/// More classes than a label of 16 bits can number.
pub(crate) fn classes<'a>(dir: &Path, rows: &[&'a str]) -> Result<(Vec<String>, Vec<u16>)> {
    let mut names: Vec<&'a str> = rows.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.iter().all(|name| *name == ".") {
        return Ok((Vec::new(), Vec::new()));
    }
    if names.len() > usize::from(u16::MAX) + 1 {
        let found = format!("{} sub-folders, each of them a class; at most 65536 classes are possible", names.len());
        return Err(Error::file(dir, found, "put the images into fewer folders"));
    }
    names.sort_by(|a, b| match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (x, y) => x.is_none().cmp(&y.is_none()).then_with(|| a.cmp(b)),
    });
    let index: HashMap<&str, u16> = names.iter().enumerate().map(|(i, name)| (*name, i as u16)).collect();
    let labels = rows.iter().map(|class| index[class]).collect();
    Ok((names.into_iter().map(str::to_string).collect(), labels))
}

/// Returns the value of a name such as `7`, `-3` or `0.25`, but not of `inf` or `1e5`.
fn number(name: &str) -> Option<f64> {
    let plain = name.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    if plain { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("created");
            std::fs::write(path, b"x").expect("written");
        }
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        list(dir).expect("listed").files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn other_files_hidden_files_and_macosx_are_left_out() {
        let dir = tree(&["b.PNG", "a/x.Jpg", "README.txt", ".h.png", ".hidden/x.png", "__MACOSX/x.png", "a-b/x.tiff"]);
        assert_eq!(names(dir.path()), ["a-b/x.tiff", "a/x.Jpg", "b.PNG"]);
    }

    #[test]
    fn a_single_file_is_a_list_of_one() {
        let dir = tree(&["stack.tif"]);
        assert_eq!(names(&dir.path().join("stack.tif")), ["stack.tif"]);
    }

    #[cfg(unix)]
    #[test]
    fn symlink_loops_end() {
        let dir = tree(&["a/x.png", "b/y.png"]);
        for (to, link) in [("..", "a/up"), ("../b", "a/side"), ("../a", "b/side"), ("nowhere", "gone.png")] {
            std::os::unix::fs::symlink(to, dir.path().join(link)).expect("linked");
        }
        std::os::unix::fs::symlink("b", dir.path().join("0")).expect("linked");
        assert_eq!(names(dir.path()), ["a/x.png", "b/y.png", "gone.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree(&[]);
        std::fs::write(dir.path().join(OsStr::from_bytes(b"\xff.png")), b"x").expect("written");
        assert_eq!(names(dir.path()), ["\u{fffd}.png"]);
        assert!(list(dir.path()).expect("listed").files[0].path.exists());
    }

    #[test]
    fn missing_folder() {
        let error = list(Path::new("no/such")).expect_err("missing").to_string();
        assert!(error.starts_with("no/such: cannot open it: ") && error.ends_with("; check the path"), "{error}");
    }

    #[test]
    fn folder_without_images_names_the_extensions() {
        let error = list(tree(&["a.txt", "b.md"]).path()).expect_err("no images").to_string();
        assert!(error.ends_with("among 2 files; check the path") && error.contains(".png .jpg"), "{error}");
        let error = list(tree(&["sub/acts.npy"]).path()).expect_err("no images").to_string();
        assert!(error.ends_with("pass the array file itself (sub/acts.npy)"), "{error}");
        assert!(list(tree(&[]).path()).expect_err("empty").to_string().contains("among 0 files"));
    }

    #[test]
    fn classes_are_the_first_level_and_numbers_sort_by_value() {
        let rows = ["10/a.png", "9/b/c.png", "x.png", "zebra/1.png", "0.5/q.png", "1e5/a.png", "ape/1.png"];
        let candidates = rows.map(|name| Candidate { path: PathBuf::new(), name: name.to_string() });
        let of_rows: Vec<&str> = candidates.iter().map(Candidate::class).collect();
        let (classes, labels) = classes(Path::new("d"), &of_rows).expect("few classes");
        assert_eq!(classes, ["0.5", "9", "10", ".", "1e5", "ape", "zebra"]);
        assert_eq!(labels, [2, 1, 3, 6, 0, 4, 5]);
    }

    #[test]
    fn no_sub_folders_no_classes() {
        let (classes, labels) = classes(Path::new("d"), &[".", "."]).expect("none");
        assert!(classes.is_empty() && labels.is_empty());
    }
}
