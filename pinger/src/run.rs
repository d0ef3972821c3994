//! One run: brings the stages together, from options to the last row.
//!
//! In: [`RunOptions`]. Out: whatever the view shows, rows in the store, and how the run ended.
//! Everything that a run sets up on the host is undone when this returns, and by the kernel if
//! the process ends in any other way.

mod gather;
mod kernel_log;
mod notes;
mod outlets;
mod resets;
mod routes;
mod sender;
mod show;
mod signals;
mod threads;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use self::signals::EXIT_INTERRUPTED;

use self::outlets::Rows;
use self::routes::{Kept, Way};
use self::show::Show;
use self::signals::Watch;
pub use self::threads::TooManySlots;
use self::threads::{Crew, Machine};
use crate::config::{RunOptions, StoreChoice};
use crate::destination::{self, Destination, Ttl};
use crate::resolve::{self, ResolveError, Resolved};
use crate::rows::RowKeys;
use crate::store::{RunInfo, Store, StoreError};
use crate::view::{Level, Pace, RunHeader};
use crate::wire::bpf::BpfError;
use crate::wire::netlink::{InterfaceError, NetlinkError};
use crate::wire::ports::{PortsError, ReservedPorts};
use crate::wire::privilege::{self, PrivilegeError};
use crate::wire::realtime::{NoSuchCpu, SenderCpu};
use crate::wire::xsk::XskError;
use crate::wire::{clock, realtime};

/// How long the last rows may take to reach ClickHouse.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(60);

/// Why a run could not begin, or not go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// The process may not probe.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The sender cannot have the CPU that was asked for.
    #[error(transparent)]
    Cpu(#[from] NoSuchCpu),
    /// Nothing to probe.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The kernel does not tell of its routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The interface cannot be used.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// No destination can be reached.
    #[error("none of the destinations can be probed:{reasons}")]
    NothingToProbe {
        /// Why, a line each.
        reasons: String,
    },
    /// There are no local ports to probe from.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// Too many probes would be in flight.
    #[error(transparent)]
    Slots(#[from] TooManySlots),
    /// The kernel program cannot be used.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// AF_XDP cannot be used.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses randomness, a thread or a signal handler.
    #[error("cannot {step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// Nothing can be shown.
    #[error("cannot write the output: {0}")]
    View(io::Error),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or as asked for.
    Well,
    /// As above, but not all results could be stored.
    RowsLost,
    /// By itself, or as asked for, but no reply has come to any probe.
    Unanswered,
    /// At once, because it was asked for twice.
    Interrupted,
}

fn system(step: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { step, source }
}

/// Probes as asked for, until done or told to stop.
///
/// # Errors
///
/// [`RunError`], before the first probe leaves, except for [`RunError::View`].
pub fn run(options: &RunOptions) -> Result<Ended, RunError> {
    privilege::check()?;
    let cpu = choose_cpu(options)?;
    // Before any other thread is made: they inherit it, the embedded store's included.
    if let Some(cpu) = cpu {
        // Where it is the only one, there is nothing to keep off from.
        let _ = realtime::keep_off(cpu);
    }
    let watch = Watch::start().map_err(system("watch for signals"))?;
    let resolved = resolve(options)?;
    if let Some(ended) = ended_before(&watch) {
        return Ok(ended);
    }
    let way = find_way(options, resolved)?;
    if let Some(ended) = ended_before(&watch) {
        return Ok(ended);
    }
    let routes = keep(&way)?;
    if let Some(ended) = ended_before(&watch) {
        return Ok(ended);
    }
    let entropy = random().map_err(system("draw random numbers"))?;
    let destinations: Arc<[_]> = way.destinations.clone().into();
    let needed = destination::ports_needed(&destinations);
    // Until the run is over.
    let ports = ReservedPorts::reserve(needed.udp, needed.tcp)?;
    let identifiers =
        destination::identifiers(options.source.id, entropy[2], ports.ports(), &destinations);
    let machine = Machine::load(options, &way, identifiers, [entropy[0], entropy[1]])?;
    let info = run_info(&way, machine.mode(&way));
    if let Some(ended) = ended_before(&watch) {
        return Ok(ended);
    }
    let store = open_store(options, &destinations, &info)?;
    let header = header(options, &way, &info, store.as_ref());
    let show = Show::open(options, header, &destinations);
    let tally = store.as_ref().and_then(Store::tally);
    let crew = Crew {
        cpu,
        rows: store.as_ref().map(|store| {
            Rows::new(
                row_keys(options, &info),
                Arc::clone(&destinations),
                store.sender(),
                tally.clone(),
            )
        }),
        tally,
        results: show.wants_results(),
    };
    let threads = machine.start(options, &way, routes, crew)?;
    let ended = show.run(threads, store, &watch);
    drop(ports);
    ended
}

/// The destinations with their addresses.
fn resolve(options: &RunOptions) -> Result<Resolved, RunError> {
    let mut resolved = resolve::resolve(&options.destinations, options.family, &mut |progress| {
        show::say(
            Level::Info,
            &format!("looking up names: {} of {}", progress.done, progress.total),
        );
    })?;
    if let Some(hops) = options.trace {
        for destination in &mut resolved.destinations {
            destination.ttl = Ttl::Trace(hops);
        }
    }
    Ok(resolved)
}

/// The way to each of them; those that have none are told.
fn find_way(options: &RunOptions, resolved: Resolved) -> Result<Way, RunError> {
    let progress = &mut |done, total| {
        show::say(
            Level::Info,
            &format!("looking up routes: {done} of {total}"),
        );
    };
    let way = Way::find(
        options.interface.as_deref(),
        resolved.destinations,
        progress,
    )?;
    for problem in resolved
        .problems
        .iter()
        .map(ToString::to_string)
        .chain(way.problems.clone())
    {
        show::say(Level::Warning, &problem);
    }
    Ok(way)
}

/// Keeps the way current from now on; next hops that do not answer are told.
fn keep(way: &Way) -> Result<Kept, RunError> {
    let (routes, silent) = way.keep()?;
    for hop in silent {
        show::say(
            Level::Warning,
            &show::silent_hop(&hop, way.interface(hop.key.link)),
        );
    }
    Ok(routes)
}

/// How a run ended that was asked to before it began to probe.
fn ended_before(watch: &Watch) -> Option<Ended> {
    match watch.count() {
        0 => None,
        1 => Some(Ended::Well),
        _ => Some(Ended::Interrupted),
    }
}

/// The sender's CPU, if it is to have one.
fn choose_cpu(options: &RunOptions) -> Result<Option<usize>, NoSuchCpu> {
    let choice = realtime::choose_cpu(options.cpu)?;
    if let SenderCpu::Shared(cpu) = choice {
        let text = format!("another pinger sends on CPU {cpu}: probes of both will leave late");
        show::say(Level::Warning, &text);
    }
    Ok(choice.number())
}

fn row_keys(options: &RunOptions, info: &RunInfo) -> RowKeys {
    RowKeys {
        run: info.run,
        source: options.source.id,
        rsite: options.source.location,
        rhost: options.source.host,
        wall_offset_ns: info.wall_offset_ns,
    }
}

fn run_info(way: &Way, mode: String) -> RunInfo {
    let wall_offset_ns = clock::wall_offset_ns();
    RunInfo {
        run: wall_offset_ns
            .saturating_add_unsigned(clock::now_ns())
            .unsigned_abs(),
        interface: way.interfaces(),
        mode,
        wall_offset_ns,
        address: way.sources.first().copied(),
    }
}

fn open_store(
    options: &RunOptions,
    destinations: &[Destination],
    info: &RunInfo,
) -> Result<Option<Store>, RunError> {
    if options.store.choice == StoreChoice::None {
        return Ok(None);
    }
    if options.store.choice == StoreChoice::Embedded {
        show::say(Level::Info, "starting the embedded ClickHouse");
    }
    Ok(Some(Store::open(
        &options.store,
        &options.source,
        destinations,
        info,
    )?))
}

fn header(options: &RunOptions, way: &Way, info: &RunInfo, store: Option<&Store>) -> RunHeader {
    let intervals = way.destinations.iter().map(|d| d.interval_ns);
    RunHeader {
        version: env!("CARGO_PKG_VERSION").into(),
        interface: way.interfaces(),
        mode: info.mode.clone(),
        store: store
            .map(|store| store.description().to_owned())
            .unwrap_or_default(),
        destinations: way.destinations.len(),
        pace: if options.flood {
            Pace::Flood
        } else {
            Pace::Every {
                min_ns: intervals.clone().min().unwrap_or(0),
                max_ns: intervals.max().unwrap_or(0),
            }
        },
    }
}

/// Three random words from the kernel: the secret of the cookies, and the identifiers' entropy.
fn random() -> io::Result<[u64; 3]> {
    let mut words = [0_u64; 3];
    let bytes = size_of_val(&words);
    // SAFETY: the kernel writes at most `bytes` bytes to `words`; any bytes are valid integers.
    let read = unsafe { libc::getrandom(words.as_mut_ptr().cast(), bytes, 0) };
    // Up to 256 bytes come whole or not at all, random(7).
    if read == bytes as isize {
        Ok(words)
    } else {
        Err(io::Error::last_os_error())
    }
}
