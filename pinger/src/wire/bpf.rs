//! Loads the XDP program, fills its maps, attaches it, and gives access to what it shares: the
//! flight table, the events and the counters.

use std::io;
use std::os::fd::AsFd;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::links::{FdLink, Link as _};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use pinger_ebpf::layout::{
    self, COUNTERS_MAP, Counter, EVENTS_MAP, FLOWS_MAP, Flow, FlowKey, PAYLOADS_MAP, Payload,
    SETTINGS_GLOBAL, SLOTS_MAP, Settings,
};
use thiserror::Error;

use super::mapping::Mapping;
use crate::flight::AtomicSlot;

/// Bytes of the ring buffer: room for a quarter million events, half a second at 500,000 a
/// second, if the stats thread should be held up.
const EVENTS_LEN: u32 = 1 << 24;

/// How often the kernel is asked to take the program. Where the process is stopped, or a signal
/// comes, while the program is looked at, that ends with EAGAIN (`do_check` in
/// kernel/bpf/verifier.c).
const LOADS_MAX: usize = 10;

/// The most lines shown of the kernel's reasons to refuse the program.
const LOG_LINES_MAX: usize = 10;

/// The XDP program as `cargo xtask build` compiled it; empty in other builds.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinger-xdp"));

/// What went wrong with the kernel program.
#[derive(Debug, Error)]
pub enum BpfError {
    /// `cargo build` alone does not build the kernel program.
    #[error("this pinger was built without its kernel program: build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refused the program or a map.
    #[error("the kernel does not take the XDP program: {}", shortened(.0))]
    Load(#[from] EbpfError),
    /// The kernel refused the verified program.
    #[error("the kernel does not take the XDP program: {}", shortened(.0))]
    Program(#[from] ProgramError),
    /// A map refused an operation.
    #[error("cannot {step}: {source}")]
    Map {
        /// What was tried.
        step: &'static str,
        /// The kernel's word.
        source: MapError,
    },
    /// The flight table could not be mapped.
    #[error("cannot map the flight table: {0}")]
    Mmap(io::Error),
    /// The object is not the one this program was written for.
    #[error("the XDP object has no {0}: build both anew with `cargo xtask build`")]
    Missing(&'static str),
    /// Somebody else's program is there.
    #[error(
        "{interface} has an XDP program already, perhaps of another pinger: see `ip link show \
         {interface}`, and stop what attached it"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// Neither native nor generic mode works.
    #[error("cannot attach the XDP program to {interface}: {source}")]
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's word on the generic mode.
        source: ProgramError,
    },
    /// The kernel has no BPF links for XDP, so the program could outlive us.
    #[error("the kernel cannot tie an XDP program to a process: Linux 5.9 or newer is needed")]
    NoLink,
}

/// What the kernel said, without the middle of a long verifier log: its last lines say what was
/// refused, after thousands that say what was not.
fn shortened(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let left_out = lines.len().saturating_sub(1 + LOG_LINES_MAX);
    if left_out == 0 {
        return lines.join("\n");
    }
    let last = lines[1 + left_out..].join("\n");
    format!("{}\n({left_out} lines left out)\n{last}", lines[0])
}

/// Has the kernel look at the program and take it.
fn verify(program: &mut Xdp) -> Result<(), ProgramError> {
    for _ in 1..LOADS_MAX {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    program.load()
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the interface's driver.
    Native,
    /// In the kernel's stack, behind the driver: slower, and later stamps.
    Generic,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native XDP",
            Self::Generic => "generic XDP",
        })
    }
}

/// What the program is loaded with.
pub struct Plan<'a> {
    /// All flows with their keys.
    pub flows: &'a [(FlowKey, Flow)],
    /// What probes carry behind their cookies.
    pub payloads: &'a [Payload],
    /// Number of slots in the flight table.
    pub slots: u32,
    /// The program's settings.
    pub settings: Settings,
}

/// The loaded program. It is detached and unloaded when this is dropped, or the process ends in
/// any way.
pub struct Program {
    ebpf: Ebpf,
    links: Vec<FdLink>,
}

impl Program {
    /// Loads the program and fills its maps. It sees no packet before [`Program::attach`].
    ///
    /// # Errors
    ///
    /// If the program was not built, or the kernel refuses it.
    pub fn load(plan: &Plan<'_>) -> Result<Self, BpfError> {
        if OBJECT.is_empty() {
            return Err(BpfError::NotBuilt);
        }
        // To write down each step takes the kernel seconds, so it does when it has refused.
        Self::load_telling(plan, VerifierLogLevel::STATS)
            .or_else(|_| Self::load_telling(plan, VerifierLogLevel::default()))
    }

    /// The same, with so much said of a refusal.
    fn load_telling(plan: &Plan<'_>, level: VerifierLogLevel) -> Result<Self, BpfError> {
        let ebpf = EbpfLoader::new()
            .verifier_log_level(level)
            .override_global(SETTINGS_GLOBAL, &plan.settings, true)
            .map_max_entries(FLOWS_MAP, plan.flows.len().max(1) as u32)
            .map_max_entries(SLOTS_MAP, plan.slots.max(1))
            .map_max_entries(PAYLOADS_MAP, plan.payloads.len().max(1) as u32)
            .map_max_entries(EVENTS_MAP, EVENTS_LEN)
            .load(OBJECT)?;
        let mut program = Self {
            ebpf,
            links: Vec::new(),
        };
        program.fill(plan)?;
        verify(program.xdp()?)?;
        Ok(program)
    }

    fn fill(&mut self, plan: &Plan<'_>) -> Result<(), BpfError> {
        let payload = |source| BpfError::Map {
            step: "fill the payloads",
            source,
        };
        let map = self
            .ebpf
            .map_mut(PAYLOADS_MAP)
            .ok_or(BpfError::Missing(PAYLOADS_MAP))?;
        let mut payloads: Array<_, Payload> = map.try_into().map_err(payload)?;
        for (index, bytes) in plan.payloads.iter().enumerate() {
            payloads.set(index as u32, bytes, 0).map_err(payload)?;
        }
        let flow = |source| BpfError::Map {
            step: "fill the flows",
            source,
        };
        let map = self
            .ebpf
            .map_mut(FLOWS_MAP)
            .ok_or(BpfError::Missing(FLOWS_MAP))?;
        let mut flows: HashMap<_, FlowKey, Flow> = map.try_into().map_err(flow)?;
        for (key, value) in plan.flows {
            flows.insert(key, value, 0).map_err(flow)?;
        }
        Ok(())
    }

    fn xdp(&mut self) -> Result<&mut Xdp, BpfError> {
        let program = self.ebpf.program_mut(layout::PROGRAM);
        Ok(program
            .ok_or(BpfError::Missing(layout::PROGRAM))?
            .try_into()?)
    }

    /// Attaches the program to an interface: natively, else generically.
    ///
    /// # Errors
    ///
    /// If another program is attached there, or neither mode works.
    pub fn attach(&mut self, interface: &str, index: u32) -> Result<Mode, BpfError> {
        match self.attach_as(interface, index, XdpMode::Driver) {
            Ok(()) => Ok(Mode::Native),
            Err(error @ (BpfError::Occupied { .. } | BpfError::NoLink)) => Err(error),
            Err(_) => self
                .attach_as(interface, index, XdpMode::Skb)
                .map(|()| Mode::Generic),
        }
    }

    fn attach_as(&mut self, interface: &str, index: u32, mode: XdpMode) -> Result<(), BpfError> {
        let interface = interface.to_owned();
        let xdp = self.xdp()?;
        let id = xdp.attach_to_if_index(index, mode).map_err(|source| {
            // EEXIST: a program is there in the other mode.
            match errno(&source) {
                Some(libc::EBUSY | libc::EEXIST) => BpfError::Occupied { interface },
                _ => BpfError::Attach { interface, source },
            }
        })?;
        // Only a link that is a file descriptor goes away with the process, however it ends.
        let link = FdLink::try_from(xdp.take_link(id)?).map_err(|_| BpfError::NoLink)?;
        self.links.push(link);
        Ok(())
    }

    /// Detaches the program from all interfaces.
    pub fn detach(&mut self) {
        for link in self.links.drain(..) {
            // Closing the descriptor detaches; that cannot fail in a way that we could mend.
            let _ = link.detach();
        }
    }

    /// Maps the flight table.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the mapping.
    pub fn slots(&self) -> Result<SlotMemory, BpfError> {
        let map = self
            .ebpf
            .map(SLOTS_MAP)
            .ok_or(BpfError::Missing(SLOTS_MAP))?;
        let Map::Array(data) = map else {
            return Err(BpfError::Missing(SLOTS_MAP));
        };
        let slots = data.info().map_err(|source| BpfError::Map {
            step: "size the slots",
            source,
        })?;
        let slots = slots.max_entries() as usize;
        let mapping = Mapping::of(data.fd().as_fd(), slots * size_of::<AtomicSlot>(), 0)
            .map_err(BpfError::Mmap)?;
        Ok(SlotMemory { mapping, slots })
    }

    /// Takes the ring buffer of events; once.
    ///
    /// # Errors
    ///
    /// If it was taken before.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, BpfError> {
        let map = self
            .ebpf
            .take_map(EVENTS_MAP)
            .ok_or(BpfError::Missing(EVENTS_MAP))?;
        RingBuf::try_from(map).map_err(|source| BpfError::Map {
            step: "map the events",
            source,
        })
    }

    /// Takes the counters; once.
    ///
    /// # Errors
    ///
    /// If they were taken before.
    pub fn take_counters(&mut self) -> Result<Counters, BpfError> {
        let map = self
            .ebpf
            .take_map(COUNTERS_MAP)
            .ok_or(BpfError::Missing(COUNTERS_MAP))?;
        let counters = PerCpuArray::try_from(map);
        Ok(Counters(counters.map_err(|source| BpfError::Map {
            step: "read counters",
            source,
        })?))
    }

    /// The loaded maps and programs, for aya-log and for tests.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    let ProgramError::SyscallError(error) = error else {
        return None;
    };
    error.io_error.raw_os_error()
}

/// The counters of the kernel program.
pub struct Counters(PerCpuArray<MapData, u64>);

impl Counters {
    /// Sum of a counter over all CPUs; zero if the kernel does not answer.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }
}

/// The flight table in memory.
pub struct SlotMemory {
    mapping: Mapping,
    slots: usize,
}

impl AsRef<[AtomicSlot]> for SlotMemory {
    fn as_ref(&self) -> &[AtomicSlot] {
        // SAFETY: the mapping holds that many slots, is page-aligned and lives as long as `self`;
        // whoever else writes them does so by atomic operations.
        unsafe { std::slice::from_raw_parts(self.mapping.start().cast(), self.slots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_verifier_log_the_end_is_shown() {
        let log = |lines: usize| -> String { (0..lines).map(|n| format!("{n}\n")).collect() };
        assert_eq!(shortened(&"refused"), "refused");
        assert_eq!(shortened(&log(11)), log(11).trim_end());
        let text = shortened(&log(5_000));
        assert!(
            text.starts_with("0\n(4989 lines left out)\n4990\n"),
            "{text}"
        );
        assert!(text.ends_with("\n4999"), "{text}");
    }
}
