//! Where things are: the workspace, its build products, and the tools kept outside the tree.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace's root directory.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo puts what it builds: `CARGO_TARGET_DIR`, or `target` in the workspace.
///
/// Every cargo that xtask starts is told this directory, so that both always mean the same one.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// The log file of one step, by the step's short name.
pub fn log(name: &str) -> PathBuf {
    target().join("xtask").join(format!("{name}.log"))
}

/// Tools kept outside the tree, one folder a tool and version, shared by all clones:
/// `$XDG_CACHE_HOME/pinger`, or `~/.cache/pinger`.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` names an absolute directory.
pub fn cache() -> Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|dir| dir.join("pinger"))
        .context("no place to keep tools: set HOME or XDG_CACHE_HOME to an absolute directory")
}
