//! One network namespace with a name: make it, run programs and `ip` in it, set its kernel.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process;

/// Where iproute2 keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace of ours, removed on drop together with the interfaces in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kept: bool,
}

impl Namespace {
    /// Makes a namespace with only its loopback interface, which is down.
    ///
    /// # Errors
    /// Not root, no iproute2, or the name is taken.
    pub fn new(name: String) -> Result<Self> {
        if !process::is_root() {
            bail!("network namespaces need root: run this again as root");
        }
        process::capture(Command::new(ip_program()?).args(["netns", "add", &name]))?;
        Ok(Self { name, kept: false })
    }

    /// Takes charge of a namespace that is there already.
    pub fn adopt(name: String) -> Self {
        Self { name, kept: false }
    }

    /// Leaves the namespace in place: the guard is over.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// The names of all namespaces that have one.
    pub fn list() -> Vec<String> {
        let Ok(entries) = fs::read_dir(NAMES) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Whether a namespace of this name is there.
    pub fn exists(name: &str) -> bool {
        Path::new(NAMES).join(name).exists()
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in this namespace, with its own view of `/sys`.
    ///
    /// The process that is started is the program itself: its process id, signals and exit code
    /// are the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let ip = ip_program().unwrap_or_else(|_| "ip".into());
        let mut command = Command::new(ip);
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs lines of `ip`'s batch language in this namespace, all or up to the first refused one.
    ///
    /// # Errors
    /// The refused line and the kernel's reason.
    pub fn ip(&self, lines: &[impl AsRef<str>]) -> Result<()> {
        ip_batch(Some(&self.name), lines)
    }

    /// Does work of our own in this namespace: the sockets it opens belong there.
    ///
    /// # Errors
    /// Not root, or the namespace is gone; the work was not done.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        // A thread of its own, for a thread's namespace cannot be trusted to be set back.
        let worker = || -> Result<T> {
            self.settle()?;
            Ok(work())
        };
        match thread::scope(|scope| scope.spawn(worker).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Moves the calling thread into this namespace for good.
    ///
    /// # Errors
    /// Not root, or the namespace is gone.
    pub(super) fn settle(&self) -> Result<()> {
        let inside = fs::File::open(Path::new(NAMES).join(&self.name))
            .with_context(|| format!("network namespace {} is not there", self.name))?;
        // SAFETY: setns takes numbers only; the descriptor is open for the whole call.
        if unsafe { libc::setns(inside.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            let error = std::io::Error::last_os_error();
            bail!("cannot enter network namespace {}: {error}", self.name);
        }
        Ok(())
    }

    /// Writes kernel settings, each a path below `/proc/sys` and its value.
    ///
    /// # Errors
    /// A setting is refused, or does not exist and is not marked as optional by a leading `?`.
    pub fn sysctl(&self, settings: &[(String, &str)]) -> Result<()> {
        self.enter(|| write_sysctls(settings))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Ok(ip) = ip_program() {
            // A guard cannot fail; what stays is found and removed by the next lab.
            drop(process::capture(
                Command::new(ip).args(["netns", "delete", &self.name]),
            ));
        }
    }
}

/// Writes settings in the namespace of the calling thread.
///
/// # Errors
/// As [`Namespace::sysctl`].
pub(super) fn write_sysctls(settings: &[(String, &str)]) -> Result<()> {
    for (name, value) in settings {
        let (optional, name) = match name.strip_prefix('?') {
            Some(name) => (true, name),
            None => (false, name.as_str()),
        };
        let path = Path::new("/proc/sys").join(name);
        match fs::write(&path, value) {
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.with_context(|| {
                let ipv6 = name.contains("/ipv6/") && !Path::new("/proc/sys/net/ipv6").exists();
                let hint = if ipv6 {
                    ": this kernel has no IPv6"
                } else {
                    ""
                };
                format!("cannot set {} to {value}{hint}", path.display())
            })?,
        }
    }
    Ok(())
}

/// Runs `ip -batch` in a namespace, or in the caller's.
///
/// # Errors
/// The refused line and the kernel's reason.
pub(super) fn ip_batch(namespace: Option<&str>, lines: &[impl AsRef<str>]) -> Result<()> {
    let mut command = Command::new(ip_program()?);
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip`")?;
    let mut text = String::new();
    for line in lines {
        text += line.as_ref();
        text.push('\n');
    }
    if let Some(mut input) = child.stdin.take() {
        // If `ip` ends early this write fails, and why is in what it said.
        drop(input.write_all(text.as_bytes()));
    }
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let (line, reason) = refused(&said);
    let line = line
        .and_then(|line| lines.get(line - 1))
        .map_or("", AsRef::as_ref);
    let place = namespace.map_or(String::new(), |name| format!(" in namespace {name}"));
    bail!("the kernel refused `ip {line}`{place}: {reason}")
}

/// Reads which line of a batch was refused, and why, from what `ip` said.
fn refused(said: &str) -> (Option<usize>, String) {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:"))
        .and_then(|number| number.trim().parse().ok())
        .filter(|&number| number > 0);
    let reason: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("Command failed"))
        .map(str::trim)
        .collect();
    (line, reason.join("; "))
}

/// Asks `ip` for something as JSON: an empty list where there is nothing.
///
/// # Errors
/// `ip` fails, as it does for an interface that does not exist.
pub(super) fn ip_json(namespace: Option<&str>, arguments: &str) -> Result<serde_json::Value> {
    let mut command = Command::new(ip_program()?);
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    let said = process::capture(command.arg("-json").args(arguments.split_whitespace()))?;
    if said.trim().is_empty() {
        return Ok(serde_json::Value::Array(Vec::new()));
    }
    serde_json::from_str(&said).with_context(|| format!("`ip {arguments}` printed no JSON"))
}

fn ip_program() -> Result<std::path::PathBuf> {
    process::find("ip").context("`ip` is missing: install the package iproute2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_line_is_named_with_the_kernels_reason() {
        let said = "RTNETLINK answers: File exists\nCommand failed -:3\n";
        assert_eq!(
            refused(said),
            (Some(3), "RTNETLINK answers: File exists".into())
        );
        let said = "Error: argument \"x\" is wrong: bad\n";
        assert_eq!(refused(said), (None, said.trim().into()));
    }
}
