//! A test for each failure, named after it, and a round trip for each format.

use super::*;
use crate::block::{Bytes, Dtype};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vibrissa_core::shape::ImageShape;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

fn read(spec: &str) -> Result<LoadedRows> {
    load(spec, &LoadOptions::default())
}

/// Returns the message without the folder's name, which must be one line.
fn failure(result: Result<LoadedRows>) -> String {
    let message = result.expect_err("must fail").to_string();
    assert!(!message.contains('\n'), "{message}");
    match (message.starts_with('/'), message.find(": ")) {
        (true, Some(colon)) => {
            let name = message[..colon].rfind('/').unwrap() + 1;
            message[name..].to_string()
        }
        _ => message,
    }
}

#[track_caller]
fn fails(result: Result<LoadedRows>, expected: &str) {
    let message = failure(result);
    assert!(message.contains(expected), "{message:?} does not say {expected:?}");
}

fn values(block: &Block) -> Vec<f32> {
    let mut out = vec![0.0; block.rows() * block.dim()];
    (0..block.rows()).for_each(|row| block.read(row, &mut out[row * block.dim()..][..block.dim()]));
    out
}

fn npy_of(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    npy_of(1, &format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n"), data)
}

const SIX: [f32; 6] = [0.0, 1.0, -2.5, 0.25, 65504.0, -1e-3];

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn load_npy_bytes(bytes: &[u8]) -> Result<LoadedRows> {
    let folder = Folder::new();
    read(&folder.put("x.npy", bytes))
}

// ---- .npy ----------------------------------------------------------------------------------------------------------

#[test]
fn npy_round_trip_of_every_type_and_version() {
    for version in 1..=3 {
        for order in ['<', '>'] {
            let ordered = |little: Vec<u8>, size: usize| -> Vec<u8> {
                if order == '<' { little } else { little.chunks(size).flat_map(|b| b.iter().rev().copied()).collect() }
            };
            let f16: Vec<u8> = SIX.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
            let f64: Vec<u8> = SIX.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
            let near = SIX.map(|v| half::f16::from_f32(v).to_f32());
            for (kind, size, data, expected) in [("f2", 2, f16, near), ("f4", 4, f32s(&SIX), SIX), ("f8", 8, f64, SIX)]
            {
                let header =
                    format!("{{'descr': '{order}{kind}', 'fortran_order': False, 'shape': (2, 3), }}          \n");
                let rows = load_npy_bytes(&npy_of(version, &header, &ordered(data, size))).unwrap();
                assert_eq!((rows.blocks[0].rows(), rows.blocks[0].dim()), (2, 3));
                assert_eq!(rows.blocks[0].dtype().size(), size);
                assert_eq!(values(&rows.blocks[0]), expected, "version {version} {order}{kind}");
                assert_eq!(rows.blocks[0].origin, "x.npy");
            }
        }
    }
    let rows = load_npy_bytes(&npy("|u1", false, "(3, 2)", &[0, 255, 51, 1, 2, 3])).unwrap();
    assert_eq!(values(&rows.blocks[0])[..3], [0.0, 1.0, 0.2]);
}

#[test]
fn npy_of_python_2_and_of_other_writers() {
    let header = "{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"<f4\"}\n";
    assert_eq!(values(&load_npy_bytes(&npy_of(1, header, &f32s(&SIX))).unwrap().blocks[0]), SIX);
}

#[test]
fn npy_in_fortran_order_is_transposed() {
    for (rows, columns) in [(1, 1), (2, 3), (33, 65), (70, 31)] {
        let at = |r: usize, c: usize| (r * 1000 + c) as f32;
        let little: Vec<f32> = (0..columns).flat_map(|c| (0..rows).map(move |r| at(r, c))).collect();
        let expected: Vec<f32> = (0..rows).flat_map(|r| (0..columns).map(move |c| at(r, c))).collect();
        let shape = format!("({rows}, {columns})");
        let loaded = load_npy_bytes(&npy("<f4", true, &shape, &f32s(&little))).unwrap();
        assert_eq!(values(&loaded.blocks[0]), expected, "{shape}");
        let big: Vec<u8> = little.iter().flat_map(|v| v.to_be_bytes()).collect();
        let loaded = load_npy_bytes(&npy(">f4", true, &shape, &big)).unwrap();
        assert_eq!(values(&loaded.blocks[0]), expected, "big-endian {shape}");
    }
}

#[test]
fn npy_of_other_dimensions() {
    let one_d = load_npy_bytes(&npy("<f4", false, "(100,)", &[0; 400]));
    assert_eq!(
        failure(one_d),
        "x.npy: holds a 1-D array [100]; expected rows × columns: reshape it, e.g. x.reshape(-1, 384)"
    );
    fails(load_npy_bytes(&npy("<f4", false, "()", &[0; 4])), "holds a 0-D array []");
    fails(load_npy_bytes(&npy("<f4", false, "(5, 2, 2)", &[0; 80])), "e.g. x.reshape(5, -1)");
}

#[test]
fn npy_of_other_types() {
    for (descr, expected) in [
        ("|O", "Python objects (dtype |O)"),
        ("<c8", "complex numbers"),
        ("<i4", "integers (dtype <i4); expected u1, f2, f4 or f8: save x.astype('float32')"),
        ("<u2", "integers"),
        ("|b1", "booleans"),
        ("<f16", "long floats"),
        ("<U5", "text"),
        ("<V2", "bfloat16"),
        ("<M8[ns]", "dates"),
        ("", "unknown type"),
        ("<é", "unknown type"),
    ] {
        fails(load_npy_bytes(&npy(descr, false, "(1, 2)", &[0; 16])), expected);
    }
    let structured = "{'descr': [('a', '<f4'), ('b, {', '<f4')], 'fortran_order': False, 'shape': (2, 1), }\n";
    fails(load_npy_bytes(&npy_of(1, structured, &[0; 16])), "structured array");
}

#[test]
fn npy_header_promises_more_than_the_file_holds() {
    fails(
        load_npy_bytes(&npy("<f4", false, "(100, 10)", &[0; 3999])),
        "promises [100, 10] = 4000 bytes, but the file holds 3999; the file is incomplete",
    );
    fails(load_npy_bytes(&npy("<f4", false, "(4294967296, 4294967296)", &[0; 4])), "an impossible number of bytes");
    fails(load_npy_bytes(&npy("<f4", true, "(1000000000, 1000000)", &[0; 4])), "but the file holds 4");
}

#[test]
fn npy_file_holds_more_than_its_header_promises() {
    fails(load_npy_bytes(&npy("<f4", false, "(1, 2)", &[0; 9])), "save each array in a file of its own");
}

#[test]
fn npy_without_rows_or_columns() {
    fails(load_npy_bytes(&npy("<f4", false, "(0, 3)", &[])), "holds 0 rows × 3 columns");
    fails(load_npy_bytes(&npy("<f4", false, "(3, 0)", &[])), "holds 3 rows × 0 columns");
}

#[test]
fn npy_that_is_another_file() {
    fails(load_npy_bytes(b""), "not an .npy file (is empty)");
    fails(load_npy_bytes(b"PK\x03\x04..."), "not an .npy file (starts with 50 4b 03 04)");
}

#[test]
fn npy_with_a_damaged_header() {
    fails(load_npy_bytes(b"\x93NUMPY"), "the file ends within it");
    fails(load_npy_bytes(b"\x93NUMPY\x01\x00\x05"), "the file ends within it");
    fails(load_npy_bytes(b"\x93NUMPY\x04\x00\x05\x00\x00\x00"), "version 4.0");
    fails(load_npy_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), "it claims 4294967295 bytes");
    for (header, expected) in [
        ("", "not a Python dictionary"),
        ("{", "not a Python dictionary"),
        ("{}", "no \"descr\""),
        ("{'descr'}", "not a Python dictionary"),
        ("{'descr: '<f4'}", "not a Python dictionary"),
        ("{descr: '<f4'}", "not a Python dictionary"),
        ("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1, 1)}", "neither True nor False"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1)}", "not a tuple of sizes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999999999999)}", "not a tuple of sizes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': 3}", "not a tuple of sizes"),
        ("{'descr': '<f4', 'fortran_order': False}", "no \"shape\""),
    ] {
        fails(load_npy_bytes(&npy_of(1, header, &[0; 4])), expected);
    }
    let nested = format!("{{'descr': {}", "(".repeat(60_000));
    fails(load_npy_bytes(&npy_of(1, &nested, &[])), "not a Python dictionary");
}

proptest::proptest! {
    #[test]
    fn npy_header_of_any_text_never_panics(text in ".{0,80}", data in proptest::collection::vec(0u8.., 0..40)) {
        let _ = load_npy_bytes(&npy_of(1, &text, &data));
        let _ = load_npy_bytes(&npy_of(1, &format!("{{'descr': '<f4', 'fortran_order': {text}"), &data));
    }

    #[test]
    fn file_cut_or_changed_anywhere_never_panics(cut in 0usize..200, at in 0usize..200, byte in 0u8..) {
        let folder = Folder::new();
        let tensors = st(r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}"#, &f32s(&SIX));
        for (name, mut bytes) in [("x.npy", npy("<f4", false, "(2, 3)", &f32s(&SIX))), ("x.safetensors", tensors)] {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut / 2));
            let _ = read(&folder.put(name, &bytes));
        }
    }
}

// ---- .safetensors --------------------------------------------------------------------------------------------------

fn st(entries: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{{entries}}}");
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), data].concat()
}

fn load_st(entries: &str, data: &[u8]) -> Result<LoadedRows> {
    let folder = Folder::new();
    read(&folder.put("x.safetensors", &st(entries, data)))
}

#[test]
fn safetensors_round_trip_of_every_type() {
    use ::safetensors::tensor::{Dtype as StDtype, TensorView, serialize};
    let near16 = SIX.map(|v| half::f16::from_f32(v).to_f32());
    let near_b16 = SIX.map(|v| half::bf16::from_f32(v).to_f32());
    let bytes_u8 = [0u8, 255, 0, 255, 255, 0];
    let f16: Vec<u8> = SIX.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let bf16: Vec<u8> = SIX.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    let f64: Vec<u8> = SIX.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    let folder = Folder::new();
    for (dtype, ours, data, expected) in [
        (StDtype::F16, Dtype::F16, f16, near16),
        (StDtype::BF16, Dtype::BF16, bf16, near_b16),
        (StDtype::F32, Dtype::F32, f32s(&SIX), SIX),
        (StDtype::F64, Dtype::F64, f64, SIX),
        (StDtype::U8, Dtype::U8, bytes_u8.to_vec(), bytes_u8.map(|v| f32::from(v) / 255.0)),
    ] {
        let other = [7u8; 10];
        let views = [
            ("x", TensorView::new(dtype, vec![2, 3], &data).unwrap()),
            ("ids", TensorView::new(StDtype::I8, vec![10], &other).unwrap()),
        ];
        let spec = folder.put("x.safetensors", &serialize(views, None).unwrap());
        for spec in [spec.clone(), format!("{spec}:x")] {
            let rows = read(&spec).unwrap();
            assert_eq!(rows.blocks[0].dtype(), ours);
            assert_eq!(rows.blocks[0].origin, "x.safetensors");
            assert_eq!(values(&rows.blocks[0]), expected, "{ours:?}");
        }
    }
}

const TWO: &str = r#""b":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]},
    "a:c":{"dtype":"U8","shape":[2,1],"data_offsets":[2,4]},"v":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}"#;

#[test]
fn safetensors_with_several_candidates() {
    fails(
        load_st(TWO, &[0; 5]),
        "holds 2 tensors that are rows × columns; name one as FILE:TENSOR: a:c [2, 1], b [1, 2]",
    );
}

#[test]
fn safetensors_tensor_name_may_hold_a_colon() {
    let folder = Folder::new();
    let spec = folder.put("x.safetensors", &st(TWO, &[0; 5]));
    assert_eq!(read(&format!("{spec}:a:c")).unwrap().blocks[0].rows(), 2);
    assert_eq!(read(&format!("{spec}:b")).unwrap().blocks[0].rows(), 1);
}

#[test]
fn path_with_a_colon_that_exists() {
    let folder = Folder::new();
    let spec = folder
        .put("a.safetensors:b.safetensors", &st(r#""x":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]}"#, &[9]));
    folder.put("a.safetensors", b"no");
    assert_eq!(read(&spec).unwrap().blocks[0].origin, "a.safetensors:b.safetensors");
    assert_eq!(read(&format!("{spec}:x")).err().map(|e| e.to_string().contains("a.safetensors: not a")), Some(true));
}

#[test]
fn safetensors_without_that_tensor() {
    let folder = Folder::new();
    let spec = folder.put("x.safetensors", &st(TWO, &[0; 5]));
    fails(read(&format!("{spec}:z\n")), "has no tensor z\\n; name one as FILE:TENSOR: a:c [2, 1], b [1, 2], v [1]");
}

#[test]
fn safetensors_without_a_2_d_tensor() {
    fails(
        load_st(r#""v":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#, &[0]),
        "holds no 2-D tensor; save one as rows × columns: v [1]",
    );
    fails(load_st(r#""__metadata__":{"a":"b"}"#, &[]), "holds no 2-D tensor; it is empty");
}

#[test]
fn safetensors_tensor_of_other_dimensions_or_type() {
    let folder = Folder::new();
    let spec = folder.put("x.safetensors", &st(TWO, &[0; 5]));
    fails(read(&format!("{spec}:v")), "tensor v: expected rows × columns, got 1-D [1]; reshape");
    let ints = r#""i":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]}"#;
    fails(load_st(ints, &[0; 8]), "tensor i: expected U8, F16, BF16, F32 or F64, got I64; save it as F32");
}

#[test]
fn safetensors_without_rows() {
    fails(
        load_st(r#""a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}"#, &[]),
        "tensor a: expected rows and columns, got [0, 4]",
    );
}

#[test]
fn safetensors_tensors_overlap() {
    let entries = r#""a":{"dtype":"U8","shape":[1,4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1,4],"data_offsets":[2,6]}"#;
    fails(
        load_st(entries, &[0; 6]),
        "tensor b: expected bytes from 4 on, where a ends (they overlap), got bytes 2 to 6; copy",
    );
}

#[test]
fn safetensors_with_a_gap() {
    let entries = r#""a":{"dtype":"U8","shape":[1,4],"data_offsets":[2,6]}"#;
    fails(load_st(entries, &[0; 6]), "tensor a: expected bytes from 0 on (a gap is not allowed)");
}

#[test]
fn safetensors_offsets_past_the_end() {
    let entries = r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}"#;
    fails(
        load_st(entries, &[0; 23]),
        "tensor a: expected bytes within the 23 that the file holds, got bytes 0 to 24; copy",
    );
    let backwards = r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}"#;
    fails(load_st(backwards, &[0; 24]), "tensor a: expected bytes within");
    let huge = r#""a":{"dtype":"U8","shape":[1,18446744073709551607],"data_offsets":[0,18446744073709551607]}"#;
    fails(load_st(huge, &[0; 24]), "tensor a: expected bytes within");
}

#[test]
fn safetensors_shape_does_not_fit_the_offsets() {
    for shape in ["[2,4]", "[4294967296,4294967296]", "[18446744073709551615,2]"] {
        let entries = format!(r#""a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,24]}}"#);
        fails(load_st(&entries, &[0; 24]), "tensor a: expected the bytes of F32 [");
    }
}

#[test]
fn safetensors_file_holds_more_than_its_header_promises() {
    let entries = r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}"#;
    fails(load_st(entries, &[0; 25]), "promises 24 bytes of tensors, but the file holds 25");
}

#[test]
fn safetensors_header_has_a_wrong_size() {
    let folder = Folder::new();
    for length in [u64::MAX, 1 << 40, 100] {
        let bytes = [length.to_le_bytes().as_slice(), b"{}"].concat();
        fails(read(&folder.put("x.safetensors", &bytes)), &format!("claims {length} bytes, but 2 follow"));
    }
    fails(read(&folder.put("x.safetensors", b"1234567")), "7 bytes, too short");
    let bytes = [1u64.to_le_bytes().as_slice(), b"{}"].concat();
    fails(read(&folder.put("x.safetensors", &bytes)), "damaged header (EOF");
}

#[test]
fn safetensors_header_is_not_a_table_of_tensors() {
    fails(load_st(r#""a":3"#, &[]), "damaged header: tensor a: invalid type");
    fails(load_st(r#""a":{"dtype":"F32","shape":[-1,3],"data_offsets":[0,24]}"#, &[0; 24]), "damaged header: tensor a");
    fails(load_st(r#""a":{"dtype":"F32"}"#, &[]), "tensor a: missing field");
    fails(load_st(&format!(r#""a":{}"#, "[".repeat(100_000)), &[]), "damaged header (recursion limit");
}

// ---- folders and paths ---------------------------------------------------------------------------------------------

#[test]
fn shards_of_both_kinds_in_order_of_their_names() {
    let folder = Folder::new();
    folder.put("b.npy", &npy("<f4", false, "(2, 3)", &f32s(&SIX)));
    folder.put("a.safetensors", &st(r#""x":{"dtype":"U8","shape":[1,3],"data_offsets":[0,3]}"#, &[1, 2, 3]));
    folder.put("c.NPY", &npy("|u1", false, "(4, 3)", &[0; 12]));
    folder.put("tokens.txt", b"the");
    folder.put("._b.npy", b"Mac OS X");
    std::fs::create_dir(folder.0.path().join("d.npy")).unwrap();
    let rows = read(folder.path()).unwrap();
    let found: Vec<(&str, usize)> = rows.blocks.iter().map(|block| (block.origin.as_str(), block.rows())).collect();
    assert_eq!(found, [("a.safetensors", 1), ("b.npy", 2), ("c.NPY", 4)]);
    assert!(matches!(rows.names, RowNames::ByBlock) && rows.labels.is_empty() && rows.test_from.is_none());
    assert!(is_array_spec(folder.path()) && is_shard_folder(folder.0.path()) && !is_idx_folder(folder.0.path()));
}

#[test]
fn shards_with_several_tensors_take_one_by_name() {
    let folder = Folder::new();
    folder.put("x.safetensors", &st(TWO, &[0; 5]));
    fails(read(folder.path()), "holds 2 tensors");
    assert_eq!(read(&format!("{}:b", folder.path())).unwrap().blocks[0].dim(), 2);
}

#[test]
fn shards_of_different_widths() {
    let folder = Folder::new();
    folder.put("a.npy", &npy("|u1", false, "(4, 3)", &[0; 12]));
    folder.put("b.npy", &npy("|u1", false, "(3, 4)", &[0; 12]));
    fails(read(folder.path()), "b.npy: has 4 columns, but a.npy has 3; keep shards");
    fails(load(folder.path(), &LoadOptions { skip_bad: true, ..Default::default() }), "has 4 columns");
}

#[test]
fn shard_that_cannot_be_read_is_left_out_only_with_skip_bad() {
    let folder = Folder::new();
    folder.put("a.npy", b"oops");
    folder.put("b.npy", &npy("|u1", false, "(3, 4)", &[0; 12]));
    fails(read(folder.path()), "a.npy: not an .npy file");
    let rows = load(folder.path(), &LoadOptions { skip_bad: true, ..Default::default() }).unwrap();
    assert_eq!(rows.blocks.len(), 1);
    assert!(rows.skipped[0].path.ends_with("a.npy") && rows.skipped[0].reason.contains("not an .npy file"));
    std::fs::remove_file(folder.0.path().join("b.npy")).unwrap();
    fails(
        load(folder.path(), &LoadOptions { skip_bad: true, ..Default::default() }),
        "none of its 1 shards can be read",
    );
}

#[test]
fn folder_without_shards() {
    let folder = Folder::new();
    folder.put("tokens.txt", b"the");
    fails(read(folder.path()), "holds no .npy or .safetensors file");
    assert!(!is_array_spec(folder.path()));
}

#[test]
fn file_that_is_not_there() {
    for spec in ["/no/such.npy", "/no/such.safetensors", "/no/such.safetensors:x", "/no/such", "/no/such:x", ""] {
        fails(read(spec), "cannot open");
        assert!(failure(read(spec)).contains("check the path"));
    }
    assert!(is_array_spec("/no/such.npy") && is_array_spec("/no/such.safetensors:x") && !is_array_spec("/no/such:x"));
}

#[test]
fn file_of_another_kind() {
    let folder = Folder::new();
    fails(read(&folder.put("x.txt", b"1 2 3")), "not an array that this program reads; expected .npy");
    let spec = folder.put("x.npy", &npy("|u1", false, "(3, 4)", &[0; 12]));
    fails(read(&format!("{spec}:x")), "an .npy file has no tensor \"x\"");
}

// ---- idx -----------------------------------------------------------------------------------------------------------

fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes_bytes = sizes.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes_bytes).chain(data.iter().copied()).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three training images of 2 × 3 pixels and two test images, labelled 7 0 9 and 9 4.
fn mnist() -> [(&'static str, Vec<u8>); 4] {
    let pixels: Vec<u8> = (0..30).collect();
    [
        ("train-images-idx3-ubyte", idx(&[3, 2, 3], &pixels[..18])),
        ("train-labels-idx1-ubyte", idx(&[3], &[7, 0, 9])),
        ("t10k-images-idx3-ubyte", idx(&[2, 2, 3], &pixels[18..])),
        ("t10k-labels-idx1-ubyte", idx(&[2], &[9, 4])),
    ]
}

/// MNIST with some of its files replaced (`None`: left out).
fn mnist_but(changes: &[(&str, Option<Vec<u8>>)]) -> Folder {
    let folder = Folder::new();
    for (name, bytes) in mnist() {
        match changes.iter().find(|(changed, _)| *changed == name) {
            Some((_, Some(bytes))) => folder.put(name, bytes),
            Some((_, None)) => continue,
            None => folder.put(name, &bytes),
        };
    }
    folder
}

fn check_mnist(rows: &LoadedRows) {
    assert_eq!(rows.shape, Some(ImageShape { channels: 1, height: 2, width: 3 }));
    assert_eq!(rows.classes, ["0", "4", "7", "9"]);
    assert_eq!(rows.labels, [2, 0, 3, 3, 1]);
    assert_eq!(rows.test_from, Some(3));
    let origins: Vec<&str> = rows.blocks.iter().map(|block| block.origin.as_str()).collect();
    assert_eq!(origins, ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"]);
    let pixels: Vec<f32> = rows.blocks.iter().flat_map(values).collect();
    assert!(pixels.iter().enumerate().all(|(i, &pixel)| pixel == i as f32 / 255.0));
}

#[test]
fn idx_round_trip_in_every_spelling() {
    for (dotted, packed) in [(false, false), (false, true), (true, false), (true, true)] {
        let folder = Folder::new();
        for (name, bytes) in mnist() {
            let name = if dotted { name.replace("-idx", ".idx") } else { name.to_string() };
            match packed {
                true => folder.put(&format!("{name}.gz"), &gz(&bytes)),
                false => folder.put(&name, &bytes),
            };
        }
        assert!(is_array_spec(folder.path()) && is_idx_folder(folder.0.path()));
        check_mnist(&read(folder.path()).unwrap());
    }
}

#[test]
fn idx_without_labels_or_test_images() {
    let folder = mnist_but(&[("train-labels-idx1-ubyte", None), ("t10k-labels-idx1-ubyte", None)]);
    let rows = read(folder.path()).unwrap();
    assert!(rows.labels.is_empty() && rows.classes.is_empty() && rows.test_from == Some(3));
    let folder = mnist_but(&[("t10k-images-idx3-ubyte", None), ("t10k-labels-idx1-ubyte", None)]);
    let rows = read(folder.path()).unwrap();
    assert_eq!((rows.classes.len(), rows.labels.len(), rows.test_from), (3, 3, None));
}

#[test]
fn idx_without_training_images() {
    let folder = mnist_but(&[("train-images-idx3-ubyte", None)]);
    fails(read(folder.path()), "holds no train-images-idx3-ubyte");
}

#[test]
fn idx_with_labels_for_training_or_test_images_only() {
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        fails(
            read(mnist_but(&[(name, None)]).path()),
            &format!("holds labels of either training or test images, but no {name}"),
        );
    }
    fails(read(mnist_but(&[("t10k-images-idx3-ubyte", None)]).path()), "labels without t10k-images-idx3-ubyte");
}

#[test]
fn idx_label_count_is_not_the_image_count() {
    let folder = mnist_but(&[("train-labels-idx1-ubyte", Some(idx(&[2], &[1, 2])))]);
    fails(read(folder.path()), "train-labels-idx1-ubyte: holds 2 labels, but train-images-idx3-ubyte holds 3 images");
}

#[test]
fn idx_images_of_different_sizes() {
    let folder = mnist_but(&[("t10k-images-idx3-ubyte", Some(idx(&[2, 3, 2], &[0; 12])))]);
    fails(read(folder.path()), "its images are 3 × 2, those of train-images-idx3-ubyte are 2 × 3");
}

#[test]
fn idx_header_promises_more_or_less_than_the_file_holds() {
    for held in [17, 19] {
        let wrong = idx(&[3, 2, 3], &vec![0; held]);
        let folder = mnist_but(&[("train-images-idx3-ubyte", Some(wrong.clone()))]);
        fails(read(folder.path()), &format!("promises [3, 2, 3] = 18 bytes, but the file holds {held}; download"));
        let folder = mnist_but(&[("train-images-idx3-ubyte", None)]);
        folder.put("train-images-idx3-ubyte.gz", &gz(&wrong));
        let expected = if held == 17 { "the file holds 17" } else { "the file holds more" };
        fails(read(folder.path()), expected);
    }
}

#[test]
fn idx_header_promises_far_too_much() {
    for sizes in [[u32::MAX; 3], [60_000, 28_000, 28_000]] {
        let folder = mnist_but(&[("train-images-idx3-ubyte", None)]);
        folder.put("train-images-idx3-ubyte.gz", &gz(&idx(&sizes, &[0; 100])));
        fails(read(folder.path()), "header promises");
        fails(read(mnist_but(&[("train-images-idx3-ubyte", Some(idx(&sizes, &[0; 100])))]).path()), "header promises");
    }
}

#[test]
fn idx_gzip_bomb_is_not_unpacked() {
    let folder = mnist_but(&[("train-images-idx3-ubyte", None)]);
    folder.put("train-images-idx3-ubyte.gz", &gz(&idx(&[3, 2, 3], &vec![0; 50_000_000])));
    fails(read(folder.path()), "promises [3, 2, 3] = 18 bytes, but the file holds more");
}

#[test]
fn idx_gzip_is_damaged() {
    let good = gz(&mnist()[0].1);
    let mut bad_sum = good.clone();
    *bad_sum.iter_mut().nth_back(5).unwrap() ^= 1;
    for bytes in [b"nope".to_vec(), good[..good.len() - 9].to_vec(), bad_sum] {
        let folder = mnist_but(&[("train-images-idx3-ubyte", None)]);
        folder.put("train-images-idx3-ubyte.gz", &bytes);
        fails(read(folder.path()), "train-images-idx3-ubyte.gz: damaged gzip");
    }
}

#[test]
fn idx_with_the_wrong_magic() {
    let folder = mnist_but(&[("train-images-idx3-ubyte", Some(idx(&[3], &[7, 0, 9])))]);
    fails(read(folder.path()), "not train-images-idx3-ubyte (starts with 00 00 08 01, expected 00 00 08 03)");
}

#[test]
fn idx_cut_within_its_header_or_empty() {
    fails(read(mnist_but(&[("train-images-idx3-ubyte", Some(vec![]))]).path()), "ends within its header (0 bytes)");
    let cut = mnist()[0].1[..15].to_vec();
    fails(read(mnist_but(&[("train-images-idx3-ubyte", Some(cut))]).path()), "ends within its header (15 bytes)");
    let none = idx(&[0, 2, 3], &[]);
    fails(read(mnist_but(&[("train-images-idx3-ubyte", Some(none))]).path()), "holds nothing: its sizes are [0, 2, 3]");
}

// ---- finite --------------------------------------------------------------------------------------------------------

fn block_of(origin: &str, dtype: Dtype, dim: usize, bytes: Vec<u8>) -> Block {
    let rows = bytes.len() / dtype.size() / dim;
    Block::new(origin.to_string(), Bytes::Owned(Arc::new(bytes)), 0, dtype, rows, dim)
}

fn encode(dtype: Dtype, value: f64) -> Vec<u8> {
    match dtype {
        Dtype::U8 => vec![value as u8],
        Dtype::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F64 => value.to_le_bytes().to_vec(),
    }
}

#[test]
fn first_value_that_is_not_finite_is_found_in_every_type() {
    let (n_rows, dim) = (700, 331);
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in [0, 8191, 100_003, n_rows * dim - 1] {
                let mut bytes = encode(dtype, 1.5).repeat(n_rows * dim);
                bytes[at * dtype.size()..][..dtype.size()].copy_from_slice(&encode(dtype, bad));
                // A second one after it must never be the one that is named.
                bytes[(n_rows * dim - 1) * dtype.size()..].copy_from_slice(&encode(dtype, bad));
                let blocks = vec![
                    block_of("u8", Dtype::U8, dim, vec![255; dim]),
                    block_of("good", dtype, dim, encode(dtype, -2.0).repeat(dim)),
                    block_of("bad", dtype, dim, bytes),
                ];
                let rows = rows_of(blocks, Vec::new());
                for threads in [1, 2, 7] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let error = pool.install(|| check_finite(&rows, &|_, _| {})).unwrap_err();
                    let Error::NotFinite { origin, row, column, value } = error else { panic!("{error}") };
                    assert_eq!((origin.as_str(), row, column), ("bad", at / dim, at % dim), "{dtype:?} {threads}");
                    assert!(value.to_bits() << 1 == (bad as f32).to_bits() << 1 || (value.is_nan() && bad.is_nan()));
                }
            }
        }
    }
}

#[test]
fn finite_extremes_pass_and_progress_ends_at_the_total() {
    let mut blocks = vec![block_of("u8", Dtype::U8, 2, vec![255; 8])];
    for (dtype, largest) in [
        (Dtype::F16, 65504.0),
        (Dtype::BF16, 3.38e38),
        (Dtype::F32, f64::from(f32::MAX)),
        (Dtype::F64, f64::from(f32::MAX)),
    ] {
        let values = [largest, -largest, 5e-324, -0.0];
        blocks.push(block_of("x", dtype, 2, values.iter().flat_map(|&v| encode(dtype, v)).collect()));
    }
    let most = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        assert_eq!(total, 8);
        most.fetch_max(done, Ordering::Relaxed);
    };
    check_finite(&rows_of(blocks, Vec::new()), &progress).unwrap();
    assert_eq!(most.into_inner(), 8);
}

#[test]
fn double_beyond_the_range_of_single_is_not_finite() {
    let rows = rows_of(
        vec![block_of("x", Dtype::F64, 2, [1.0, 1e300].iter().flat_map(|v: &f64| v.to_le_bytes()).collect())],
        Vec::new(),
    );
    assert!(check_finite(&rows, &|_, _| {}).unwrap_err().to_string().starts_with("x: inf at row 0, column 1"));
}
