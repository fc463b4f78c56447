//! Writes docs/options.md from the definitions of all options: `cargo run --release -p vibrissa --example options`.

fn main() -> vibrissa::Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/options.md");
    let text = vibrissa::options::markdown();
    vibrissa::io::write_atomically(&path, |out| out.write_all(text.as_bytes()))
}
