//! What is on this machine: looked up, never changed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::{ENGINE_FILE, LINKER_LLVM, Needs, engine_directory, linker_directory};
use crate::process;

/// The one package folder in which Debian keeps the LLVM that the linker is built with.
pub(super) const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Debian's own compiler: never rustup's, whatever `PATH` says.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// Where pinger looks for the engine's library by itself.
const ENGINE_PLACES: [&str; 2] = ["/usr/lib/pinger", "/usr/local/lib/pinger"];

/// A Rust compiler, as far as building for BPF asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Its program file.
    pub rustc: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// Major version of the LLVM inside.
    pub llvm: u32,
    /// Whether the source of `core` is installed with it.
    pub has_source: bool,
}

/// Everything that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether we may install packages.
    pub root: bool,
    /// `ID` of os-release, such as `debian`.
    pub os_id: String,
    /// The system's full name for people.
    pub os_name: String,
    /// Whether `apt-get` is there.
    pub apt: bool,
    /// The processor architecture, in Rust's words.
    pub arch: String,
    /// Whether `ip` is there.
    pub ip: bool,
    /// Whether `fping` is there.
    pub fping: bool,
    /// Whether `npm` is there.
    pub npm: bool,
    /// Whether a C++ compiler is there, which brings the C++ library to link with.
    pub cxx: bool,
    /// Whether LLVM's development files are there.
    pub llvm: bool,
    /// rustup's nightly compiler.
    pub nightly: Option<Compiler>,
    /// The distribution's compiler.
    pub system: Option<Compiler>,
    /// Our own bpf-linker, if it is built and starts.
    pub linker: Option<PathBuf>,
    /// Another bpf-linker on `PATH`.
    pub linker_on_path: Option<PathBuf>,
    /// A full ClickHouse on `PATH`.
    pub clickhouse: Option<PathBuf>,
    /// The engine's library, wherever it was found.
    pub engine: Option<PathBuf>,
}

impl Facts {
    /// Looks around. What `needs` does not ask for may be left out.
    pub fn look(cache: &Path, needs: Needs) -> Self {
        let os = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let mut facts = Self {
            root: process::is_root(),
            os_id: os_release(&os, "ID").unwrap_or_else(|| "unknown".into()),
            os_name: os_release(&os, "PRETTY_NAME").unwrap_or_else(|| "an unknown system".into()),
            apt: process::find("apt-get").is_some(),
            arch: env::consts::ARCH.into(),
            ip: process::find("ip").is_some(),
            fping: process::find("fping").is_some(),
            npm: process::find("npm").is_some(),
            cxx: process::find("g++").is_some() || process::find("clang++").is_some(),
            llvm: Path::new(LLVM_PREFIX).join("lib/libLLVM.so").exists()
                && Path::new(LLVM_PREFIX).join("bin/llvm-config").exists(),
            clickhouse: process::find("clickhouse"),
            engine: engine(cache),
            ..Self::default()
        };
        if needs.build {
            facts.nightly = nightly();
            facts.system = compiler(Path::new(SYSTEM_RUSTC));
            let own = linker_directory(cache).join("bin/bpf-linker");
            facts.linker = starts(&own).then_some(own);
            facts.linker_on_path = process::find("bpf-linker").filter(|path| starts(path));
        }
        facts
    }
}

/// One value of an os-release file, without its quotes.
fn os_release(text: &str, key: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
}

fn engine(cache: &Path) -> Option<PathBuf> {
    let named = env::var_os("PINGER_LIBCHDB").map(PathBuf::from);
    let places = ENGINE_PLACES
        .iter()
        .map(|place| Path::new(place).join(ENGINE_FILE));
    named
        .into_iter()
        .chain(places)
        .chain([engine_directory(cache).join(ENGINE_FILE)])
        .find(|path| path.is_file())
}

/// A linker whose LLVM library was upgraded away is still a file, but does not start.
fn starts(program: &Path) -> bool {
    program.is_file() && process::capture(Command::new(program).arg("--version")).is_ok()
}

/// The newest of rustup's nightlies that has the source of `core`, else any nightly.
fn nightly() -> Option<Compiler> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")))?;
    fs::read_dir(home.join("toolchains"))
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
        .filter_map(|entry| compiler(&entry.path().join("bin/rustc")))
        .max_by_key(|compiler| (compiler.has_source, compiler.version))
}

fn compiler(rustc: &Path) -> Option<Compiler> {
    if !rustc.is_file() {
        return None;
    }
    let mut ask = Command::new(rustc);
    let said = process::capture(process::clean(&mut ask).arg("-vV")).ok()?;
    let sysroot = rustc.parent()?.parent()?;
    let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    read_compiler(rustc, &said, source.is_file())
}

/// Reads what `rustc -vV` says.
fn read_compiler(rustc: &Path, said: &str, has_source: bool) -> Option<Compiler> {
    let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key));
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    Some(Compiler {
        rustc: rustc.to_path_buf(),
        version: numbers(value("release: ")?)?,
        llvm: numbers(value("LLVM version: ")?)?.0,
        has_source,
    })
}

impl Compiler {
    /// Whether it can build this workspace's kernel program, and our linker can read its output.
    pub fn is_usable(&self) -> bool {
        /// The workspace's `rust-version`.
        const OLDEST: (u32, u32) = (1, 95);
        self.has_source && self.version >= OLDEST && self.llvm <= LINKER_LLVM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_come_without_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        let check = |key: &str, expected: Option<&str>| {
            assert_eq!(os_release(text, key).as_deref(), expected, "{key}");
        };
        check("ID", Some("debian"));
        check("PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)"));
        check("VERSION", None);
        assert_eq!(os_release("", "ID"), None);
    }

    #[test]
    fn a_compiler_is_read_from_its_own_words() {
        let said = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
                    release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        let rustc = Path::new("/opt/nightly/bin/rustc");
        let compiler = read_compiler(rustc, said, true).unwrap();
        assert_eq!((compiler.version, compiler.llvm), ((1, 97), 22));
        assert!(compiler.is_usable());
        assert_eq!(read_compiler(rustc, "garbage", true), None);
    }

    #[test]
    fn a_compiler_without_source_too_old_or_too_new_is_not_usable() {
        let good = Compiler {
            rustc: "/usr/bin/rustc".into(),
            version: (1, 96),
            llvm: 22,
            has_source: true,
        };
        assert!(good.is_usable());
        assert!(
            !Compiler {
                has_source: false,
                ..good.clone()
            }
            .is_usable()
        );
        assert!(
            !Compiler {
                version: (1, 63),
                ..good.clone()
            }
            .is_usable()
        );
        assert!(
            !Compiler {
                llvm: LINKER_LLVM + 1,
                ..good
            }
            .is_usable()
        );
    }
}
