//! Finds the ClickHouse engine on this machine.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::store::StoreError;

/// Environment variable that names `libchdb.so`; it goes before anything found.
const LIBRARY_VARIABLE: &str = "PINGER_LIBCHDB";

/// Where an installed library is.
const LIBRARY_PATHS: [&str; 2] = [
    "/usr/lib/pinger/libchdb.so",
    "/usr/local/lib/pinger/libchdb.so",
];

/// The oldest `clickhouse` that has all that the schema uses (`quantileDD` came last).
const OLDEST: (u32, u32) = (24, 2);

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The `clickhouse` program, run as a server.
    Server(PathBuf),
    /// ClickHouse as a library, run inside a process of ours.
    Library(PathBuf),
}

/// The engine to use: what the user named, else `clickhouse` on PATH, else an installed library.
pub(super) fn program() -> Result<Program, StoreError> {
    search(
        std::env::var_os(LIBRARY_VARIABLE),
        std::env::var_os("PATH").as_ref(),
        &LIBRARY_PATHS.map(PathBuf::from),
        version,
    )
}

fn search(
    named: Option<OsString>,
    path: Option<&OsString>,
    installed: &[PathBuf],
    version: impl Fn(&Path) -> Option<(u32, u32)>,
) -> Result<Program, StoreError> {
    if let Some(path) = named.filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(Program::Library(path))
        } else {
            Err(StoreError::EngineNotThere { path })
        };
    }
    let mut looked = vec![format!("the library named by {LIBRARY_VARIABLE} (not set)")];
    let programs = path
        .into_iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join("clickhouse"));
    let mut server = "`clickhouse` on PATH".to_owned();
    for path in programs.filter(|path| is_executable(path)) {
        match version(&path) {
            Some(found) if found >= OLDEST => return Ok(Program::Server(path)),
            Some((year, month)) => {
                server = format!("{} (version {year}.{month} is too old)", path.display());
            }
            None => server = format!("{} (it does not tell its version)", path.display()),
        }
    }
    looked.push(server);
    for path in installed {
        if path.is_file() {
            return Ok(Program::Library(path.clone()));
        }
        looked.push(path.display().to_string());
    }
    Err(StoreError::EngineMissing { looked })
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Year and month of a `clickhouse` program's version.
fn version(path: &Path) -> Option<(u32, u32)> {
    let output = Command::new(path)
        .args(["server", "--version"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_version_line_is_read() {
        for (text, expected) in [
            (
                "ClickHouse server version 26.7.2.1 (official build).",
                Some((26, 7)),
            ),
            ("ClickHouse server version 18.16.1.", Some((18, 16))),
            ("segmentation fault", None),
        ] {
            assert_eq!(parse_version(text), expected);
        }
    }

    #[test]
    fn the_order_is_named_then_program_then_installed() {
        let dir = std::env::temp_dir().join(format!("pinger-find-{}", std::process::id()));
        let (bin, library) = (dir.join("clickhouse"), dir.join("libchdb.so"));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(&library, "").expect("a file");
        fs::write(&bin, "").expect("a file");
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o700)).expect("our own file");
        let path = Some(dir.clone().into_os_string());
        let named = Some(library.clone().into_os_string());
        let installed = [library.clone()];

        let new = |_: &Path| Some((26, 7));
        let old = |_: &Path| Some((18, 16));
        assert_eq!(
            search(named, path.as_ref(), &[], new).ok(),
            Some(Program::Library(library.clone()))
        );
        assert_eq!(
            search(None, path.as_ref(), &installed, new).ok(),
            Some(Program::Server(bin))
        );
        assert_eq!(
            search(None, path.as_ref(), &installed, old).ok(),
            Some(Program::Library(library))
        );
        let missing = search(None, path.as_ref(), &[], old)
            .expect_err("nothing fits")
            .to_string();
        assert!(missing.contains("18.16 is too old"), "{missing}");
        let gone = search(
            Some("/nonexistent/libchdb.so".into()),
            None,
            &installed,
            new,
        );
        assert!(matches!(gone, Err(StoreError::EngineNotThere { .. })));
        fs::remove_dir_all(&dir).expect("our own directory");
    }
}
