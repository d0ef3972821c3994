//! Puts the compiled kernel program where the sources include it from: `OUT_DIR/pinger-xdp`.
//!
//! `cargo xtask build` names the object file in `PINGER_BPF_OBJECT`. Without it (a plain `cargo
//! check`, or a test of the pure modules) the file is empty, and pinger says so when it starts.

use std::path::PathBuf;
use std::{env, fs, process};

/// Copies the object, or leaves an empty file.
fn main() {
    println!("cargo::rerun-if-env-changed=PINGER_BPF_OBJECT");
    let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        fail("cargo did not name OUT_DIR: build with cargo");
    };
    let target = directory.join("pinger-xdp");
    let result = match env::var_os("PINGER_BPF_OBJECT").filter(|path| !path.is_empty()) {
        Some(object) => {
            let object = PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            fs::read(&object)
                .map_err(|error| {
                    format!(
                        "cannot read the kernel program {}: {error}; `cargo xtask build` makes it",
                        object.display()
                    )
                })
                .and_then(|bytes| write_if_changed(&target, &bytes))
        }
        None => {
            // With no file named, cargo would watch every file of the package.
            println!("cargo::rerun-if-changed=build.rs");
            write_if_changed(&target, b"")
        }
    };
    if let Err(error) = result {
        fail(&error);
    }
}

/// An unchanged file keeps its time, so that nothing is compiled again on its account.
fn write_if_changed(target: &PathBuf, bytes: &[u8]) -> Result<(), String> {
    if fs::read(target).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(target, bytes).map_err(|error| format!("cannot write {}: {error}", target.display()))
}

/// A failure's reason, as cargo shows it.
fn fail(reason: &str) -> ! {
    println!("cargo::error={reason}");
    process::exit(1);
}
