//! Embeds the kernel program that `cargo xtask build` compiled, if it did.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=PINGER_BPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("pinger-xdp");
    let object = env::var_os("PINGER_BPF_OBJECT").map_or_else(Vec::new, |path| {
        println!("cargo::rerun-if-changed={}", path.display());
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    fs::write(out, object).expect("OUT_DIR is writable");
}
