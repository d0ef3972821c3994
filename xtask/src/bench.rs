//! `cargo xtask bench [NAME…]`: measures pinger beside other probers.

use anyhow::{Result, ensure};

use crate::setup::plan::{Engine, Needs};
use crate::signals::Held;
use crate::{build, process, setup};

/// The subcommand; gives the exit code of the measurements.
///
/// # Errors
/// Something could not be got or built; nothing was measured.
pub fn command(names: &[String]) -> Result<i32> {
    ensure!(
        process::is_root(),
        "measuring needs root, for the lab and for sending: {}",
        process::as_root("bench")
    );
    let tools = setup::ensure(Needs {
        build: true,
        lab: true,
        engine: Engine::Any,
        fping: true,
    })?;
    let built = build::build(&tools)?;
    let mut bench = process::cargo("run");
    bench
        .args(["--quiet", "--release", "--package", "pinger-bench", "--"])
        .args(names)
        .envs(built.environment())
        .envs(tools.environment());
    Held::new()?.supervise(&mut bench)
}
