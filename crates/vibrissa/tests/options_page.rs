//! docs/options.md is generated: it must be that of the current options.

#[test]
fn options_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
    let text = std::fs::read_to_string(path).expect("docs/options.md");
    assert_eq!(text, vibrissa::options::markdown(), "run cargo run --release -p vibrissa --example options");
}
