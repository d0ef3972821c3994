//! The `cargo xtask` command.
fn main() {
    let r = match std::env::args().nth(1).as_deref() {
        Some("setup") => xtask::setup::command(),
        _ => xtask::build::command(),
    };
    if let Err(e) = r {
        eprintln!("xtask: {e:#}");
        std::process::exit(1)
    }
}
