//! Network namespaces for tests: made with unique names, removed when dropped.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace of our own, with its loopback interface up.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Its name under `ip netns`.
    pub(crate) name: String,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// If the process may not: these tests need root.
    pub(crate) fn new(role: &str) -> Self {
        // SAFETY: only reads the process's user id.
        let user = unsafe { libc::geteuid() };
        assert_eq!(
            user, 0,
            "these tests make network namespaces: run them as root"
        );
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pgt-{role}-{}-{number}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` with these arguments inside.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.name))
    }

    /// Sets a sysctl inside.
    pub(crate) fn sysctl(&self, key: &str, value: u32) {
        self.enter(|| {
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            std::fs::write(&path, value.to_string()).unwrap_or_else(|e| panic!("{path}: {e}"));
        });
    }

    /// Runs `work` on a thread of its own inside. Threads that it starts are inside, too.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // SAFETY: moves this thread only, by a descriptor that is open.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        assert!(
            std::thread::panicking() || removed.is_ok_and(|status| status.success()),
            "cannot remove network namespace {}",
            self.name
        );
    }
}

/// Runs a command of words without quotes, and gives its output.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command has a name");
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("`{command}`: {error}; is iproute2 installed?"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{command}`: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
