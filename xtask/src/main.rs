//! The `cargo xtask` command.
fn main() -> anyhow::Result<()> { match std::env::args().nth(1).as_deref() { Some("setup") => xtask::setup::command(), _ => xtask::build::command() } }
