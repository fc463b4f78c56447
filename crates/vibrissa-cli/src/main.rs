//! The `vibrissa` command.

fn main() {}
