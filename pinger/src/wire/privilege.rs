//! Whether this kernel and this process can probe at all: asked before anything is touched.
//!
//! What is needed was found out by taking capabilities away one by one on Linux 6.18:
//!
//! | step | needs |
//! |---|---|
//! | make the maps, map the flight table, read the ring | CAP_BPF |
//! | load the XDP program | CAP_BPF, CAP_NET_ADMIN, and CAP_PERFMON to compare packet pointers |
//! | attach it | what it took to load it |
//! | open an AF_XDP socket | CAP_NET_RAW |
//! | let the kernel resolve a next hop | CAP_NET_ADMIN |
//! | ask for routes, listen to changes | nothing |
//!
//! CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON. CAP_SYS_NICE (a real-time sender) and
//! CAP_IPC_LOCK (locked memory) make it better and are not required.

use std::fmt;
use std::io;

use thiserror::Error;

/// The oldest kernel that has all we use. Compare-exchange in BPF came last, with 5.12 (kernel
/// commit 5ffa25502b5a); BPF links of XDP with 5.9, the ring buffer and CAP_BPF with 5.8, maps
/// that can be mapped into memory with 5.5.
pub const KERNEL_MIN: KernelVersion = KernelVersion {
    major: 5,
    minor: 12,
};

/// Bytes that may have to be locked for the packet memory where CAP_IPC_LOCK is missing.
pub const MEMLOCK_MIN: u64 = 8 << 20;

/// A kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads what `uname -r` prints: two numbers, then anything.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Self {
            major: number()?,
            minor: number()?,
        })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A capability, by its bit in `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Load XDP programs, and let the kernel resolve next hops.
    NetAdmin = 12,
    /// Open AF_XDP sockets.
    NetRaw = 13,
    /// Lock memory without a limit. Not required.
    IpcLock = 14,
    /// Stands for the two below.
    SysAdmin = 21,
    /// Run a thread with real-time priority. Not required.
    SysNice = 23,
    /// Load programs that compare packet pointers.
    Perfmon = 38,
    /// Make maps and load programs.
    Bpf = 39,
}

impl Capability {
    /// Those that probing cannot do without.
    pub const REQUIRED: [Self; 4] = [Self::NetAdmin, Self::NetRaw, Self::Bpf, Self::Perfmon];
    /// All that are worth having.
    pub const WANTED: [Self; 6] = [
        Self::NetAdmin,
        Self::NetRaw,
        Self::Bpf,
        Self::Perfmon,
        Self::SysNice,
        Self::IpcLock,
    ];

    /// Its name, as capabilities(7) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// A set of effective capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Those of the calling thread.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn of_this_thread() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        Self::parse(&status).ok_or_else(|| io::Error::other("no line CapEff in it"))
    }

    /// Reads the text of `/proc/PID/status`.
    fn parse(status: &str) -> Option<Self> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// This one is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u8 & 1 == 1
    }

    /// The required ones that are not in the set, nor stood for by CAP_SYS_ADMIN.
    pub fn missing(self) -> Vec<Capability> {
        let covered = |capability| {
            let by_admin = matches!(capability, Capability::Bpf | Capability::Perfmon);
            self.has(capability) || by_admin && self.has(Capability::SysAdmin)
        };
        Capability::REQUIRED
            .into_iter()
            .filter(|capability| !covered(*capability))
            .collect()
    }
}

/// Why this process cannot probe.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// The kernel is too old.
    #[error(
        "this kernel is Linux {found}, and pinger needs {KERNEL_MIN} or newer \
         (for compare-exchange in BPF programs)"
    )]
    Kernel {
        /// Its version.
        found: KernelVersion,
    },
    /// Not allowed to do what probing takes.
    #[error(
        "pinger is not allowed to probe: it lacks {}. Run it as root, or grant it once with\n  \
         {}",
        names(missing, Capability::name),
        grant(program)
    )]
    Missing {
        /// What it lacks.
        missing: Vec<Capability>,
        /// The program's file.
        program: String,
    },
    /// Root of a user namespace is not root for BPF.
    #[error(
        "pinger runs in a user namespace (a rootless container?), where the kernel lets nobody \
         load BPF programs. Run it on the host, or in a container with the host's user namespace \
         and these capabilities: {}",
        names(&Capability::REQUIRED, Capability::name)
    )]
    UserNamespace,
    /// The packet memory may not be locked.
    #[error(
        "pinger may lock only {limit_kib} KiB of memory, and packet memory takes {} KiB. Raise \
         the limit with `ulimit -l {}` (as root), or grant CAP_IPC_LOCK with\n  {}",
        MEMLOCK_MIN >> 10,
        MEMLOCK_MIN >> 10,
        grant(program)
    )]
    Memlock {
        /// The limit.
        limit_kib: u64,
        /// The program's file.
        program: String,
    },
    /// Cannot find out.
    #[error("cannot read {path}, which says what pinger may do: {source}; is /proc mounted?")]
    Proc {
        /// What was read.
        path: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// Checks that this kernel and this process can probe.
///
/// # Errors
/// [`PrivilegeError`] says what is missing, and how to get it.
pub fn check() -> Result<(), PrivilegeError> {
    let proc = |path| move |source| PrivilegeError::Proc { path, source };
    let release = "/proc/sys/kernel/osrelease";
    let found = std::fs::read_to_string(release).map_err(proc(release))?;
    // A version that cannot be read is no reason to refuse: loading will tell.
    if let Some(found) = KernelVersion::parse(&found).filter(|found| *found < KERNEL_MIN) {
        return Err(PrivilegeError::Kernel { found });
    }
    let capabilities = Capabilities::of_this_thread().map_err(proc("/proc/thread-self/status"))?;
    let missing = capabilities.missing();
    let program = std::env::current_exe().map_or_else(
        |_| "$(command -v pinger)".into(),
        |path| path.display().to_string(),
    );
    if !missing.is_empty() {
        return Err(PrivilegeError::Missing { missing, program });
    }
    let map = "/proc/self/uid_map";
    if !maps_all_users(&std::fs::read_to_string(map).map_err(proc(map))?) {
        return Err(PrivilegeError::UserNamespace);
    }
    match memlock_limit() {
        Some(limit) if limit < MEMLOCK_MIN && !capabilities.has(Capability::IpcLock) => {
            Err(PrivilegeError::Memlock {
                limit_kib: limit >> 10,
                program,
            })
        }
        _ => Ok(()),
    }
}

/// The most memory this process may lock, bytes; `None`: as much as it likes.
pub(super) fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for an rlimit.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Only the first user namespace maps every user to itself.
fn maps_all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn names<T: Copy>(capabilities: &[T], name: impl Fn(T) -> &'static str) -> String {
    capabilities
        .iter()
        .map(|capability| name(*capability))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The command that gives the program all it can use.
fn grant(program: &str) -> String {
    let wanted = Capability::WANTED.map(|capability| capability.name().to_lowercase());
    format!("sudo setcap {}+ep {program}", wanted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(capabilities: &[Capability]) -> Capabilities {
        Capabilities(
            capabilities
                .iter()
                .fold(0, |bits, one| bits | 1 << *one as u8),
        )
    }

    #[test]
    fn kernel_versions_are_read_from_what_uname_prints() {
        let parse = |text| KernelVersion::parse(text).map(|version| (version.major, version.minor));
        assert_eq!(parse("6.1.0-32-amd64\n"), Some((6, 1)));
        assert_eq!(parse("5.12"), Some((5, 12)));
        assert_eq!(parse("6.18.44-fc-v445"), Some((6, 18)));
        assert_eq!(parse("linux"), None);
        assert!(KernelVersion { major: 5, minor: 4 } < KERNEL_MIN);
        assert!(KernelVersion { major: 6, minor: 0 } > KERNEL_MIN);
    }

    #[test]
    fn missing_capabilities_are_named() {
        use Capability::{Bpf, NetAdmin, NetRaw, Perfmon, SysAdmin};
        assert_eq!(set(&[]).missing(), Capability::REQUIRED);
        assert_eq!(set(&Capability::REQUIRED).missing(), []);
        assert_eq!(set(&[NetAdmin, Bpf]).missing(), [NetRaw, Perfmon]);
        assert_eq!(set(&[SysAdmin]).missing(), [NetAdmin, NetRaw]);
        assert_eq!(set(&[SysAdmin, NetAdmin, NetRaw]).missing(), []);
    }

    #[test]
    fn the_status_file_is_read() {
        let status = "Name:\tpinger\nCapPrm:\tffff\nCapEff:\t000000c000003000\nCapBnd:\t0\n";
        let capabilities = Capabilities::parse(status).expect("it has the line");
        assert_eq!(capabilities.missing(), []);
        assert!(!capabilities.has(Capability::SysNice));
        assert_eq!(Capabilities::parse("Name:\tpinger\n"), None);
        assert!(Capabilities::of_this_thread().is_ok());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = PrivilegeError::Missing {
            missing: vec![Capability::NetRaw, Capability::Bpf],
            program: "/opt/pinger".into(),
        };
        let text = error.to_string();
        assert!(text.contains("lacks CAP_NET_RAW, CAP_BPF."), "{text}");
        assert!(
            text.ends_with(
                "sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_sys_nice,\
                 cap_ipc_lock+ep /opt/pinger"
            ),
            "{text}"
        );
        let found = KernelVersion {
            major: 4,
            minor: 19,
        };
        assert!(
            PrivilegeError::Kernel { found }
                .to_string()
                .contains("4.19, and pinger needs 5.12")
        );
    }

    #[test]
    fn only_the_first_user_namespace_maps_all_users() {
        assert!(maps_all_users("         0          0 4294967295\n"));
        assert!(!maps_all_users("         0       1000          1\n"));
        assert!(!maps_all_users("0 0 1\n1 100000 65536\n"));
    }
}
