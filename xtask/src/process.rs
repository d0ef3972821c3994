//! Starting other programs with a clean environment, and asking them short questions.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Where administrators' tools live when `PATH` is an ordinary user's.
const ADMIN_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Finds a program on `PATH`, or among the administrators' tools.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMIN_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A cargo on this workspace, the very one that runs us, with a clean environment.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean(&mut command);
    command
        .current_dir(paths::root())
        .arg(subcommand)
        .arg("--target-dir")
        .arg(paths::target());
    command
}

/// Removes what the cargo above us set for this program alone.
///
/// `CARGO_HOME`, proxies and other settings of the user's stay; so does `RUSTUP_TOOLCHAIN`, which
/// keeps an inner cargo on the toolchain that was asked for.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(set_by_cargo_run) {
            command.env_remove(name);
        }
    }
    if let Some(search) = env::var_os("LD_LIBRARY_PATH") {
        // cargo adds the toolchain's and its own directories: another compiler would find
        // libraries there that are not its own.
        let kept = without_build_directories(&search, &paths::target(), toolchain().as_deref());
        match kept {
            Some(kept) => command.env("LD_LIBRARY_PATH", kept),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// The directory of the toolchain that runs us, if cargo said so.
fn toolchain() -> Option<PathBuf> {
    let cargo = PathBuf::from(env::var_os("CARGO")?);
    Some(cargo.parent()?.parent()?.to_path_buf())
}

fn set_by_cargo_run(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
        "CARGO_MAKEFLAGS",
    ];
    const PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn without_build_directories(
    search: &OsStr,
    target: &Path,
    toolchain: Option<&Path>,
) -> Option<OsString> {
    let kept: Vec<PathBuf> = env::split_paths(search)
        .filter(|path| !path.as_os_str().is_empty())
        .filter(|path| !path.starts_with(target))
        .filter(|path| toolchain.is_none_or(|toolchain| !path.starts_with(toolchain)))
        .collect();
    if kept.is_empty() {
        None
    } else {
        env::join_paths(kept).ok()
    }
}

/// Runs a short command and gives what it printed.
///
/// # Errors
/// It cannot be started, or fails: the error holds the command and what it wrote to stderr.
pub fn capture(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{line}`: is the program installed?"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell takes it literally.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether we run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, cannot fail and touches no memory of ours.
    unsafe { libc::geteuid() == 0 }
}

/// How to become root and still use the same Rust and the same kept tools.
pub fn as_root(subcommand: &str) -> String {
    format!("sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask {subcommand}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_change_them() {
        let check = |word: &str, expected: &str| assert_eq!(quoted(word), expected);
        check("ip", "ip");
        check("--path=/a/b", "--path=/a/b");
        check("", "''");
        check("two words", "'two words'");
        check("it's", r"'it'\''s'");
        check("$HOME", "'$HOME'");
    }

    #[test]
    fn only_what_cargo_set_for_this_program_is_removed() {
        let check = |name: &str, expected: bool| assert_eq!(set_by_cargo_run(name), expected);
        check("CARGO", true);
        check("CARGO_PKG_NAME", true);
        check("CARGO_MANIFEST_DIR", true);
        check("CARGO_HOME", false);
        check("CARGO_TARGET_DIR", false);
        check("CARGO_NET_OFFLINE", false);
        check("RUSTUP_TOOLCHAIN", false);
    }

    #[test]
    fn library_search_keeps_the_users_own_directories() {
        let check = |search: &str, expected: Option<&str>| {
            let kept = without_build_directories(
                OsStr::new(search),
                Path::new("/w/target"),
                Some(Path::new("/t/stable")),
            );
            assert_eq!(kept.as_deref(), expected.map(OsStr::new), "{search}");
        };
        check("/w/target/debug/deps:/w/target/debug:/t/stable/lib", None);
        check("/w/target/debug:/opt/lib", Some("/opt/lib"));
        check("", None);
    }
}
