//! Carries out the steps of a plan: as root, on Debian, into the cache.
//!
//! What goes into the cache is made in a folder of its own and renamed when complete, so a folder
//! with the final name is always whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{self as std_process, Command};

use anyhow::{Context, Result, bail, ensure};

use super::plan::{
    ENGINE_FILE, EnginePackage, LINKER_ENVIRONMENT, Package, Step, engine_directory,
    linker_arguments, linker_directory,
};
use crate::process;
use crate::progress;

/// Unfinished folders begin with this.
const UNFINISHED: &str = ".unfinished-";

/// Does one step.
///
/// # Errors
/// A program failed; the error names it and its log.
pub(super) fn step(step: &Step, cache: &Path) -> Result<()> {
    match step {
        Step::Packages(packages) => install(packages),
        Step::Nightly => bail!("rustup's nightly is the user's to install; this step is printed"),
        Step::Linker => make(&linker_directory(cache), build_linker),
        Step::Engine(package) => make(&engine_directory(cache), |folder| {
            fetch_engine(package, folder)
        }),
    }
}

/// Removes what interrupted setups left. Only for the holder of the cache's lock.
pub(super) fn sweep(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // What cannot be removed only costs space; the next setup tries again.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn install(packages: &[Package]) -> Result<()> {
    run_apt(
        "apt-update",
        "refreshing Debian's package lists",
        "usually 5 s",
        &["update"],
    )?;
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let title = format!("installing Debian packages: {}", names.join(", "));
    // Never at the price of a package that is there.
    let mut arguments = vec!["install", "-y", "--no-install-recommends", "--no-remove"];
    arguments.extend(&names);
    run_apt(
        "apt-install",
        &title,
        "usually two minutes for all of them",
        &arguments,
    )
    .context(
        "Debian's packages did not install. If the output above speaks of packages to be removed, \
         Debian's own `rustc` or `rustup` stands in the way: remove it and use rustup's",
    )
}

fn run_apt(log: &str, title: &str, usual: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "a")
        // Another apt may be at work, such as a nightly upgrade: wait for it.
        .args([
            "-q",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(arguments);
    progress::Step {
        title,
        usual,
        log,
        watched: None,
    }
    .run(&mut command)
}

/// Makes the folder `finished` whole or not at all.
fn make(finished: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = finished.file_name().unwrap_or_default().to_string_lossy();
    let folder = finished.with_file_name(format!("{UNFINISHED}{name}-{}", std_process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let result = fill(&folder).and_then(|()| {
        match fs::remove_dir_all(finished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                bail!("cannot replace {}: {error}", finished.display())
            }
            _ => {}
        }
        fs::rename(&folder, finished)
            .with_context(|| format!("cannot move a tool to {}", finished.display()))
    });
    if result.is_err() {
        drop(fs::remove_dir_all(&folder));
    }
    result
}

fn build_linker(folder: &Path) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let build = folder.join("build");
    process::clean(&mut command)
        .envs(LINKER_ENVIRONMENT)
        // The user's flags are for the user's programs.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .arg("install")
        .args(linker_arguments(folder))
        .arg("--target-dir")
        .arg(&build);
    progress::Step {
        title: "compiling bpf-linker",
        usual: "usually one minute, once on this machine",
        log: "bpf-linker",
        watched: None,
    }
    .run(&mut command)?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

fn fetch_engine(package: &EnginePackage, folder: &Path) -> Result<()> {
    let mut fetch = Command::new("npm");
    fetch
        .arg("pack")
        .arg(format!("{}@{}", package.name, package.version))
        .arg("--pack-destination")
        .arg(folder)
        // npm keeps a second copy in its cache: let that be thrown away with the folder.
        .arg("--cache")
        .arg(folder.join("npm"))
        .args(["--loglevel", "warn", "--no-update-notifier"])
        .current_dir(folder);
    progress::Step {
        title: "fetching the embedded ClickHouse engine",
        usual: "usually half a minute, once on this machine",
        log: "engine-fetch",
        watched: Some((&folder.join("npm"), package.size)),
    }
    .run(&mut fetch)?;

    let archive = folder.join(package.file_name());
    verify(&archive, package)?;
    let mut unpack = Command::new("tar");
    unpack
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(folder)
        .args([
            "--strip-components=1",
            "--no-same-owner",
            &format!("package/{ENGINE_FILE}"),
        ]);
    progress::Step {
        title: "unpacking the engine",
        usual: "usually 10 s",
        log: "engine-unpack",
        watched: None,
    }
    .run(&mut unpack)?;
    remove(&archive)?;
    remove(&folder.join("npm"))
}

/// The package must be, byte for byte, the one that was examined when its version was pinned.
fn verify(archive: &Path, package: &EnginePackage) -> Result<()> {
    let said = process::capture(Command::new("sha512sum").arg("--binary").arg(archive))?;
    let found = said.split_whitespace().next().unwrap_or_default();
    // sha512sum marks a name with special characters by a backslash before the digest.
    let found = found.trim_start_matches('\\');
    ensure!(
        found == package.sha512,
        "{} {} is not the package it should be, so it was not unpacked\n  expected sha512 {}\n  \
         got             {found}\n  try again; if it stays so, the registry in use serves another \
         file",
        package.name,
        package.version,
        package.sha512,
    );
    Ok(())
}

fn remove(path: &PathBuf) -> Result<()> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std_process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_tool_is_there_whole_or_not_at_all() {
        let cache = scratch("make");
        let tool = cache.join("tool-1");
        let failed = make(&tool, |folder| {
            fs::write(folder.join("half"), "half").unwrap();
            bail!("interrupted")
        });
        assert_eq!(failed.unwrap_err().to_string(), "interrupted");
        assert_eq!(
            fs::read_dir(&cache).unwrap().count(),
            0,
            "nothing is left behind"
        );

        for content in ["first", "second"] {
            make(&tool, |folder| {
                Ok(fs::write(folder.join("whole"), content)?)
            })
            .unwrap();
            assert_eq!(fs::read_to_string(tool.join("whole")).unwrap(), content);
        }
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn only_unfinished_folders_are_swept() {
        let cache = scratch("sweep");
        fs::create_dir(cache.join(format!("{UNFINISHED}tool-1-77"))).unwrap();
        fs::create_dir(cache.join("tool-1")).unwrap();
        sweep(&cache);
        let left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["tool-1"]);
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let cache = scratch("verify");
        let archive = cache.join("package.tgz");
        fs::write(&archive, "not an engine").unwrap();
        let package = crate::setup::plan::tests::any_engine();
        let text = verify(&archive, package).unwrap_err().to_string();
        assert!(text.contains("not the package it should be"), "{text}");
        fs::remove_dir_all(cache).unwrap();
    }
}
