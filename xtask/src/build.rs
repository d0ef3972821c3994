//! `cargo xtask build`: the kernel program from source, then pinger with that program inside.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::process;
use crate::progress::{self, say};
use crate::setup::plan::Needs;
use crate::setup::{self, Tools};

/// The BPF target of this machine's byte order.
const TARGET: &str = if cfg!(target_endian = "little") {
    "bpfel-unknown-none"
} else {
    "bpfeb-unknown-none"
};
/// Flags that the user may have set for host programs, and that would break the kernel's.
const HOST_FLAGS: [&str; 7] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
];

/// What a build leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The program, complete in one file.
    pub program: PathBuf,
    /// The kernel program's object file, which is also inside the program.
    pub object: PathBuf,
}

impl Built {
    /// What tests and benches must find in their environment to use this build.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("PINGER_BIN", self.program.clone().into_os_string()),
            ("PINGER_BPF_OBJECT", self.object.clone().into_os_string()),
        ]
    }
}

/// Builds both; takes well under a second when nothing changed.
///
/// # Errors
/// A compiler failed; its last lines have been shown and the error names its log.
pub fn build(tools: &Tools) -> Result<Built> {
    let object = kernel_program(tools)?;
    let mut cargo = process::cargo("build");
    cargo
        .args(["--release", "--package", "pinger", "--bin", "pinger"])
        .env("PINGER_BPF_OBJECT", &object);
    progress::Step {
        title: "building pinger in release mode",
        usual: "usually two minutes the first time",
        log: "build-pinger",
        watched: None,
    }
    .run(&mut cargo)?;
    let program = paths::target().join("release/pinger");
    ensure!(
        program.is_file(),
        "cargo built pinger, yet {} is not there: does a cargo setting `build.target` send it \
         elsewhere?",
        program.display()
    );
    Ok(Built { program, object })
}

/// Compiles the kernel program and gives the object file's path.
///
/// # Errors
/// As [`build`].
pub fn kernel_program(tools: &Tools) -> Result<PathBuf> {
    let missing = "was not set up: run `cargo xtask setup`";
    let (_, rustc) = tools
        .compiler
        .as_ref()
        .with_context(|| format!("a compiler for BPF {missing}"))?;
    let linker = tools
        .linker
        .as_ref()
        .with_context(|| format!("bpf-linker {missing}"))?;

    let linker_variable = format!(
        "CARGO_TARGET_{}_LINKER",
        TARGET.to_uppercase().replace('-', "_")
    );
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    process::clean(&mut cargo);
    for name in HOST_FLAGS {
        cargo.env_remove(name);
    }
    cargo
        .current_dir(paths::root())
        .env("RUSTC", rustc)
        // `-Z build-std` on a stable compiler: the kernel has no core library but our own build.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags.join(" "))
        .env(linker_variable, linker)
        .args([
            "build",
            "--release",
            "--package",
            "pinger-ebpf",
            "--bin",
            "pinger-xdp",
        ])
        .args([
            "--features",
            "bpf",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
            "--target-dir",
        ])
        .arg(directory());
    progress::Step {
        title: "building the kernel program",
        usual: "usually one minute the first time",
        log: "build-kernel-program",
        watched: None,
    }
    .run(&mut cargo)?;
    Ok(object_path())
}

/// Where [`kernel_program`] leaves the object file.
pub fn object_path() -> PathBuf {
    directory().join(TARGET).join("release/pinger-xdp")
}

/// Apart from the host's builds, which another compiler makes.
fn directory() -> PathBuf {
    paths::target().join("bpf")
}

/// The subcommand.
///
/// # Errors
/// As [`setup::ensure`] and [`build`].
pub fn command() -> Result<()> {
    let tools = setup::ensure(Needs::BUILD)?;
    let built = build(&tools)?;
    say(&format!("built {}", built.program.display()));
    eprintln!(
        "  It is complete: the kernel program is inside. Try: {} --help",
        built.program.display()
    );
    Ok(())
}
