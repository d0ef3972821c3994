//! Decides what must be got, from facts alone: pure data in, pure data out.
//!
//! The same steps are executed for root on Debian and printed as commands for everyone else, so
//! the two cannot drift apart.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Tools;
use super::facts::{Facts, LLVM_PREFIX};
use crate::process::quoted;

/// bpf-linker's version and the LLVM it is built with. Debian 12 has this LLVM.
pub(super) const LINKER_VERSION: &str = "0.13.0";
pub(super) const LINKER_LLVM: u32 = 22;
/// The engine's file inside its folder.
pub(super) const ENGINE_FILE: &str = "libchdb.so";

/// What a subcommand is going to do, as far as tools matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Compile the kernel program and pinger.
    pub build: bool,
    /// Make or use the lab.
    pub lab: bool,
    /// Store results in an engine of our own.
    pub engine: Engine,
    /// Measure beside fping.
    pub fping: bool,
}

/// Which embedded ClickHouse will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// None is used.
    None,
    /// A `clickhouse` program on `PATH`, or the library.
    Any,
    /// The library, so that tests are the same everywhere.
    Library,
}

impl Needs {
    /// What all subcommands together need.
    pub const EVERYTHING: Self = Self {
        build: true,
        lab: true,
        engine: Engine::Library,
        fping: true,
    };
    /// What compiling needs.
    pub const BUILD: Self = Self {
        build: true,
        lab: false,
        engine: Engine::None,
        fping: false,
    };
}

/// How the kernel program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By rustup's nightly, which has its `rust-src` component.
    Nightly,
    /// By the compiler that Debian packages for browsers, with the source beside it.
    Debian,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc-web with rust-web-src",
        })
    }
}

/// A Debian package, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    /// What needs it, for the person who is asked to install it.
    pub why: &'static str,
}

/// ClickHouse's engine as an npm package.
#[derive(Debug, PartialEq, Eq)]
pub struct EnginePackage {
    /// The package's name.
    pub name: &'static str,
    /// The pinned version.
    pub version: &'static str,
    /// SHA-512 of the package file, in hexadecimal.
    pub sha512: &'static str,
    /// Size of the package file, bytes.
    pub size: u64,
    arch: &'static str,
}

/// The version's folder is shared by all architectures, for a machine has only one.
const ENGINE_VERSION: &str = "26.7.3-stable.1";

/// To move to another version: `npm pack NAME@VERSION`, then `sha512sum` of the file, after a
/// look that `npm view NAME@VERSION dist.integrity` says the same.
const ENGINES: [EnginePackage; 1] = [EnginePackage {
    name: "@chdb/lib-linux-x64-gnu",
    version: ENGINE_VERSION,
    sha512: ENGINE_X86_64_SHA512,
    size: 177_817_999,
    arch: "x86_64",
}];
const ENGINE_X86_64_SHA512: &str = concat!(
    "5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35",
    "a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7",
);

/// One thing to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Debian packages, in one transaction.
    Packages(Vec<Package>),
    /// A nightly compiler with the source of `core`; only ever done by hand.
    Nightly,
    /// bpf-linker, compiled into the cache.
    Linker,
    /// The engine, fetched into the cache.
    Engine(&'static EnginePackage),
}

/// Why the steps are not for us to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Packages are missing and we may not install any.
    NotRoot,
    /// No Debian: the packages have other names there.
    NotDebian(String),
    /// There is no engine package for this processor.
    NoEngine(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => write!(out, "packages are missing and only root can install them"),
            Self::NotDebian(name) => {
                write!(
                    out,
                    "this is {name}, and setup installs packages on Debian only"
                )
            }
            Self::NoEngine(arch) => write!(
                out,
                "there is no embedded ClickHouse for {arch}: put a `clickhouse` program on PATH, \
                 set PINGER_LIBCHDB to a libchdb.so, or run with --store none or a server's URL"
            ),
        }
    }
}

/// What to do, and what will be there afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is missing, in the order in which it must be got.
    pub steps: Vec<Step>,
    /// Why we cannot do these steps ourselves, if so.
    pub obstacle: Option<Obstacle>,
    /// The tools that are there already.
    pub tools: Tools,
}

/// Decides what is missing for `needs`.
pub fn plan(facts: &Facts, needs: Needs) -> Plan {
    let debian = facts.os_id == "debian" && facts.apt;
    let mut missing = Missing {
        debian,
        ..Missing::default()
    };
    missing.package(
        needs.lab && !facts.ip,
        "iproute2",
        "makes the lab's network namespaces",
    );
    missing.package(
        needs.fping && !facts.fping,
        "fping",
        "the prober to measure beside",
    );
    if needs.build {
        missing.for_build(facts);
    }
    match needs.engine {
        Engine::None => {}
        Engine::Any if facts.clickhouse.is_some() => {}
        Engine::Any | Engine::Library => missing.for_engine(facts),
    }

    let Missing {
        packages,
        own,
        tools,
        mut obstacle,
        ..
    } = missing;
    let mut steps = Vec::new();
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    steps.extend(own);
    let system = steps
        .iter()
        .any(|step| matches!(step, Step::Packages(_) | Step::Nightly));
    if !steps.is_empty() && !debian {
        obstacle.get_or_insert(Obstacle::NotDebian(facts.os_name.clone()));
    } else if system && !facts.root {
        obstacle.get_or_insert(Obstacle::NotRoot);
    }
    Plan {
        steps,
        obstacle,
        tools,
    }
}

/// A plan in the making.
#[derive(Default)]
struct Missing {
    debian: bool,
    packages: Vec<Package>,
    /// Steps after the packages, which they use.
    own: Vec<Step>,
    tools: Tools,
    obstacle: Option<Obstacle>,
}

impl Missing {
    fn package(&mut self, is_missing: bool, name: &'static str, why: &'static str) {
        if is_missing {
            self.packages.push(Package { name, why });
        }
    }

    fn for_build(&mut self, facts: &Facts) {
        self.tools.compiler = compiler(facts);
        if self.tools.compiler.is_none() && self.debian {
            self.package(
                true,
                "rustc-web",
                "a Rust compiler that can build for the kernel",
            );
            let why = "the source of Rust's core library, to be built for the kernel";
            self.package(true, "rust-web-src", why);
        } else if self.tools.compiler.is_none() {
            self.own.push(Step::Nightly);
        }
        // Whether a stranger's linker fits is unknown: where we can build ours, we do.
        let foreign = facts.linker_on_path.clone().filter(|_| !self.debian);
        self.tools.linker = facts.linker.clone().or(foreign);
        if self.tools.linker.is_none() {
            let why = "LLVM's library, to build bpf-linker with";
            self.package(self.debian && !facts.llvm, "llvm-22-dev", why);
            self.package(
                !facts.cxx,
                "g++",
                "the C++ library, to link bpf-linker with",
            );
            self.own.push(Step::Linker);
        }
    }

    fn for_engine(&mut self, facts: &Facts) {
        self.tools.engine_library.clone_from(&facts.engine);
        if facts.engine.is_some() {
            return;
        }
        match ENGINES.iter().find(|package| package.arch == facts.arch) {
            Some(package) => {
                self.package(!facts.npm, "npm", "fetches the embedded ClickHouse engine");
                self.own.push(Step::Engine(package));
            }
            None => self.obstacle = Some(Obstacle::NoEngine(facts.arch.clone())),
        }
    }
}

/// Nightly first: it is what most people who write kernel programs in Rust have.
fn compiler(facts: &Facts) -> Option<(Way, PathBuf)> {
    let usable = |way, compiler: &Option<super::facts::Compiler>| {
        compiler
            .as_ref()
            .filter(|found| found.is_usable())
            .map(|found| (way, found.rustc.clone()))
    };
    usable(Way::Nightly, &facts.nightly).or_else(|| usable(Way::Debian, &facts.system))
}

/// Where our bpf-linker is kept.
pub(super) fn linker_directory(cache: &Path) -> PathBuf {
    cache.join(format!("bpf-linker-{LINKER_VERSION}-llvm{LINKER_LLVM}"))
}

/// Where the engine is kept.
pub(super) fn engine_directory(cache: &Path) -> PathBuf {
    cache.join(format!("chdb-{ENGINE_VERSION}"))
}

/// The arguments of the `cargo install` that builds bpf-linker into `root`.
pub(super) fn linker_arguments(root: &Path) -> Vec<String> {
    let feature = format!("llvm-{LINKER_LLVM}");
    let root = root.display().to_string();
    [
        "bpf-linker",
        "--version",
        LINKER_VERSION,
        "--locked",
        "--no-default-features",
        "--features",
    ]
    .into_iter()
    .map(String::from)
    .chain([feature, "--root".into(), root])
    .collect()
}

/// The variables by which that build finds LLVM.
pub(super) const LINKER_ENVIRONMENT: [(&str, &str); 2] = [
    ("LLVM_PREFIX", LLVM_PREFIX),
    ("LLVM_SYS_221_PREFIX", LLVM_PREFIX),
];

impl Step {
    /// What it gets and why, one line a thing.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Packages(packages) => packages
                .iter()
                .map(|package| format!("Debian package {}: {}", package.name, package.why))
                .collect(),
            Self::Nightly => {
                vec!["Rust nightly with rust-src: compiles the kernel program".into()]
            }
            Self::Linker => vec![format!(
                "bpf-linker {LINKER_VERSION}: links the kernel program"
            )],
            Self::Engine(package) => vec![format!(
                "embedded ClickHouse {}: keeps the results ({} MB to fetch, kept for later runs)",
                package.version,
                package.size / 1_000_000
            )],
        }
    }

    /// The commands that do this step, ready to paste into a shell.
    pub fn by_hand(&self, obstacle: &Obstacle, cache: &Path) -> Vec<String> {
        let foreign = matches!(obstacle, Obstacle::NotDebian(_));
        match self {
            Self::Packages(packages) => {
                let names: Vec<_> = packages.iter().map(|package| package.name).collect();
                let names = names.join(" ");
                if foreign {
                    return vec![format!("# your package manager's equivalent of: {names}")];
                }
                vec![
                    "sudo apt-get update".into(),
                    format!("sudo apt-get install -y --no-install-recommends {names}"),
                ]
            }
            Self::Nightly => {
                vec![
                    "rustup toolchain install nightly --profile minimal --component rust-src"
                        .into(),
                ]
            }
            // Elsewhere LLVM's place is unknown: bpf-linker finds it by llvm-config on PATH.
            Self::Linker if foreign => {
                vec![format!(
                    "cargo install bpf-linker --version {LINKER_VERSION} --locked"
                )]
            }
            Self::Linker => vec![linker_by_hand(&linker_directory(cache))],
            Self::Engine(package) => engine_by_hand(package, &engine_directory(cache)),
        }
    }
}

fn linker_by_hand(directory: &Path) -> String {
    let variables = LINKER_ENVIRONMENT
        .map(|(name, value)| format!("{name}={value}"))
        .join(" ");
    let words: Vec<_> = linker_arguments(directory)
        .iter()
        .map(|word| quoted(word))
        .collect();
    format!("{variables} cargo install {}", words.join(" "))
}

/// One command, for what is pasted goes on after a failure: a wrong file must not be unpacked, and
/// a folder with the final name must be whole.
fn engine_by_hand(package: &EnginePackage, directory: &Path) -> Vec<String> {
    let file = package.file_name();
    let finished = quoted(&directory.display().to_string());
    let unfinished = quoted(&format!("{}.new", directory.display()));
    let parts = [
        format!("mkdir -p {unfinished} && cd {unfinished}"),
        format!("npm pack {}@{}", package.name, package.version),
        format!("echo '{}  {file}' | sha512sum --check", package.sha512),
        format!("tar -xzf {file} --strip-components=1 package/{ENGINE_FILE}"),
        format!("rm {file} && cd - && mv {unfinished} {finished}"),
    ];
    vec![parts.join(" && \\\n  ")]
}

impl EnginePackage {
    /// The file that `npm pack` writes.
    pub fn file_name(&self) -> String {
        let name = self.name.trim_start_matches('@').replace('/', "-");
        format!("{name}-{}.tgz", self.version)
    }
}

#[cfg(test)]
pub(super) mod tests;
