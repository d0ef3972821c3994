//! The threads of a run: the sender and the gatherer, made ready, started and joined.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded, unbounded};
use pinger_ebpf::layout::{Settings, Slot};
use thiserror::Error;

use super::gather::{Gatherer, Request};
use super::kernel_log::KernelLog;
use super::notes;
use super::outlets::{Outlets, Rows};
use super::resets;
use super::routes::{Kept, Way};
use super::sender::{Control, Sender, Stopped};
use super::{RunError, system};
use crate::config::RunOptions;
use crate::engine::{Engine, Heads, Limits};
use crate::flight::{Flight, Runs};
use crate::flow::Flows;
use crate::packet;
use crate::result::ProbeResult;
use crate::schedule::Schedule;
use crate::stats::{FlowFacts, Snapshot, StatsKeeper};
use crate::wire::bpf::{Mode, Plan, Program};
use crate::wire::clock;
use crate::wire::realtime::{self, RealtimeReport};
use crate::wire::tally::Tally;
use crate::wire::xsk::Xsk;

/// The queue of each interface that probes leave through.
const QUEUE: u32 = 0;

/// In a flood, the most probes in flight: enough to keep a busy peer busy. No queue of a virtual
/// link holds so many (a veth 256, the ICMP socket of a Linux host that answers 159): it fills up
/// only where a CPU stands still for milliseconds while the other goes on.
const FLOOD_IN_FLIGHT: u64 = 512;

/// Time between the moment when all is ready and the first probe: enough to start a thread and to
/// tell another one.
const START_DELAY_NS: u64 = 50_000_000;

/// Between two looks of the sender whether it is to start.
const START_LOOK_NS: u64 = 1_000_000;

/// The most memory for the flight table, bytes.
const FLIGHT_MEMORY_MAX: u64 = 4 << 30;

/// How long a snapshot may take before the gatherer is taken to have ended.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(5);

/// The run as asked for would have too many probes in flight.
#[derive(Debug, Error)]
#[error(
    "up to {slots} probes could be in flight at once, and the flight table holds {max}: use \
     longer intervals, a shorter --timeout or fewer destinations"
)]
pub struct TooManySlots {
    slots: u64,
    max: u64,
}

/// Everything between the options and the threads: flows, schedule, kernel program and sockets.
pub(super) struct Machine {
    flows: Arc<Flows>,
    schedule: Schedule,
    runs: Runs,
    program: Program,
    /// One for each interface, in the places that heads name.
    sockets: Vec<Xsk>,
    secret: [u64; 2],
    /// How the program is attached to each interface.
    modes: Vec<Mode>,
}

/// What else the threads need.
pub(super) struct Crew {
    /// The sender's CPU.
    pub(super) cpu: Option<usize>,
    /// The way to the store.
    pub(super) rows: Option<Rows>,
    /// Where the sender counts what it sent, so that a crash leaves the count.
    pub(super) tally: Option<Arc<Tally>>,
    /// Whether the view wants each result.
    pub(super) results: bool,
}

impl Machine {
    /// Loads the kernel program, attaches it to each interface and opens the sockets.
    pub(super) fn load(
        options: &RunOptions,
        way: &Way,
        identifiers: Vec<u16>,
        secret: [u64; 2],
    ) -> Result<Self, RunError> {
        let schedule = Schedule::new(&way.destinations, 0, options.flood);
        let flows = Arc::new(Flows::new(way.destinations.clone(), identifiers, secret));
        let max = FLIGHT_MEMORY_MAX / size_of::<Slot>() as u64;
        let slots = flows.slots(&schedule);
        if slots > max {
            return Err(TooManySlots { slots, max }.into());
        }
        let runs = flows.runs(&schedule);
        let mut program = Program::load(&Plan {
            flows: &flows.table(&runs),
            payloads: flows.payloads(),
            slots: runs.slots(),
            settings: Settings {
                secret,
                verify: u32::from(options.verify),
                log: u32::from(options.kernel_log),
            },
        })?;
        let frames = way
            .destinations
            .iter()
            .map(|d| packet::frame_len(d.protocol, d.size));
        let frame_len = frames.max().unwrap_or(0);
        let (mut sockets, mut modes) = (Vec::new(), Vec::new());
        for link in &way.links {
            sockets.push(Xsk::open(&link.name, link.index, QUEUE, frame_len)?);
            modes.push(program.attach(&link.name, link.index)?);
        }
        Ok(Self {
            flows,
            schedule,
            runs,
            program,
            sockets,
            secret,
            modes,
        })
    }

    /// How the kernel program is attached: one word for all interfaces if it is the same.
    pub(super) fn mode(&self, way: &Way) -> String {
        describe_modes(way.links.iter().map(|link| link.name.as_str()), &self.modes)
    }

    /// Starts the threads; the first probe leaves a moment later.
    ///
    /// When that is, is known last: with many destinations it takes seconds to make all this.
    pub(super) fn start(
        mut self,
        options: &RunOptions,
        way: &Way,
        kept: Kept,
        crew: Crew,
    ) -> Result<Threads, RunError> {
        let kernel_log = options
            .kernel_log
            .then(|| KernelLog::start(&mut self.program));
        let kernel_log = kernel_log.transpose()?;
        let control = Arc::new(Control::default());
        let (sink, source) = notes::channel(crew.tally);
        let (reset_sink, reset_source) = resets::channel(&self.flows).unzip();
        let (requests, asked) = unbounded();
        let (results, told) = if crew.results {
            Some(unbounded())
        } else {
            None
        }
        .unzip();
        let mut gatherer = Gatherer {
            events: self.program.take_events()?,
            counters: self.program.take_counters()?,
            notes: source,
            keeper: self.keeper(way),
            outlets: Outlets {
                rows: crew.rows,
                results: results.map(|results| (results, thread::current())),
            },
            resets: reset_sink,
            requests: asked,
            start_ns: 0,
            taken: Vec::new(),
            answered: 0,
        };
        let sender = Sender {
            engine: self.engine(options, way)?,
            links: self.sockets,
            notes: sink,
            updates: kept.updates.clone(),
            flows: self.flows,
            control: Arc::clone(&control),
            until_ns: u64::MAX,
            resets: reset_source,
            resets_missed: 0,
            rest: None,
        };
        let waiting = WaitingSender::make_ready(sender, crew.cpu, !options.flood)?;
        let start = Start::now(options);
        gatherer.start_at(start.start_ns);
        let gatherer = thread::Builder::new()
            .name("gatherer".into())
            .spawn(move || gatherer.run())
            .map_err(system("start the gatherer"))?;
        let (sender, report) = waiting.start(start);
        Ok(Threads {
            control,
            results: told,
            report,
            kernel_log,
            start_ns: start.start_ns,
            requests,
            program: self.program,
            sender,
            gatherer,
            kept,
        })
    }

    fn keeper(&self, way: &Way) -> StatsKeeper {
        let facts: Vec<FlowFacts> = self
            .flows
            .identifiers()
            .iter()
            .zip(&way.sources)
            .map(|(identifier, source)| FlowFacts {
                identifier: *identifier,
                source: *source,
            })
            .collect();
        StatsKeeper::new(&way.destinations, &facts, Arc::new(self.schedule.clone()))
    }

    fn engine(
        &self,
        options: &RunOptions,
        way: &Way,
    ) -> Result<Engine<crate::wire::bpf::SlotMemory>, RunError> {
        let frames = self.flows.frames(|flow| way.source(flow));
        let flight = Flight::new(self.program.slots()?, self.runs.clone());
        let heads = Heads {
            hops: Vec::new(),
            flows: vec![None; way.destinations.len()],
        };
        let limits = Limits {
            count: options.count,
            until_ns: u64::MAX,
            batch: options.batch as usize,
            in_flight: FLOOD_IN_FLIGHT,
        };
        Ok(Engine::new(
            self.schedule.clone(),
            frames,
            flight,
            heads,
            self.secret,
            limits,
        ))
    }
}

fn describe_modes<'a>(names: impl Iterator<Item = &'a str>, modes: &[Mode]) -> String {
    match modes {
        [first, rest @ ..] if rest.iter().all(|mode| mode == first) => first.to_string(),
        _ => {
            let of_each: Vec<_> = names
                .zip(modes)
                .map(|(name, mode)| format!("{name}: {mode}"))
                .collect();
            of_each.join(", ")
        }
    }
}

/// When probes begin and end.
#[derive(Clone, Copy, Debug)]
struct Start {
    start_ns: u64,
    until_ns: u64,
}

impl Start {
    /// In a moment.
    fn now(options: &RunOptions) -> Self {
        let start_ns = clock::now_ns() + START_DELAY_NS;
        let until_ns = options.duration.map_or(u64::MAX, |duration| {
            start_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        });
        Self { start_ns, until_ns }
    }
}

/// The sender's thread, which is ready to send and waits to be told when.
struct WaitingSender {
    thread: JoinHandle<Stopped>,
    report: RealtimeReport,
    start: crossbeam_channel::Sender<Start>,
}

impl WaitingSender {
    /// Starts the thread and waits until it is ready; `punctual` where probes are due at a time.
    fn make_ready(
        mut sender: Sender<Xsk>,
        cpu: Option<usize>,
        punctual: bool,
    ) -> Result<Self, RunError> {
        let (ready, report) = bounded(1);
        let (start, started) = bounded::<Start>(1);
        let body = move || {
            let report = realtime::prepare_sender(cpu);
            sender.rest = report.policy.rest(punctual, clock::now_ns());
            sender.apply_updates();
            // The other side waits for exactly this.
            let _ = ready.send(report);
            match await_start(&started) {
                Some(start) => sender.start_at(start.start_ns, start.until_ns),
                // Whoever was to say has given up.
                None => sender.engine.stop(),
            }
            sender.run()
        };
        let thread = thread::Builder::new()
            .name("sender".into())
            .spawn(body)
            .map_err(system("start the sender"))?;
        let report = report.recv().unwrap_or_default();
        Ok(Self {
            thread,
            report,
            start,
        })
    }

    /// Lets it send.
    fn start(self, start: Start) -> (JoinHandle<Stopped>, RealtimeReport) {
        // A thread that has ended is joined, which tells why.
        let _ = self.start.send(start);
        (self.thread, self.report)
    }
}

/// Waits for the word by looking: a thread with SCHED_DEADLINE stays on its CPU where its own timer
/// wakes it, and has been seen to go to another's where that one wakes it.
fn await_start(started: &Receiver<Start>) -> Option<Start> {
    loop {
        match started.try_recv() {
            Ok(start) => return Some(start),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => clock::sleep_until(clock::now_ns() + START_LOOK_NS),
        }
    }
}

/// The running threads, from outside.
pub(super) struct Threads {
    control: Arc<Control>,
    /// Each result, if the view wants them.
    pub(super) results: Option<Receiver<ProbeResult>>,
    /// How the sender runs.
    pub(super) report: RealtimeReport,
    pub(super) kernel_log: Option<KernelLog>,
    start_ns: u64,
    requests: crossbeam_channel::Sender<Request>,
    program: Program,
    sender: JoinHandle<Stopped>,
    gatherer: JoinHandle<Gatherer>,
    /// What the routes do meanwhile.
    pub(super) kept: Kept,
}

/// What the threads leave behind.
pub(super) struct Left {
    /// The last state.
    pub(super) snapshot: Snapshot,
    /// How long probes were sent.
    pub(super) sending: Duration,
    /// How many connections stay half open for lack of a RST.
    pub(super) resets_missed: u64,
}

impl Threads {
    /// Sends no more; what is in flight is awaited.
    pub(super) fn stop(&self) {
        self.control.stop.store(true, Ordering::Relaxed);
    }

    /// Ends at once.
    pub(super) fn abort(&self) {
        self.control.abort.store(true, Ordering::Relaxed);
    }

    /// Whether all that was to be done is done.
    pub(super) fn finished(&self) -> bool {
        self.gatherer.is_finished()
    }

    /// When probing begins, which may be in a moment.
    pub(super) fn begins(&self) -> Instant {
        let now = Instant::now();
        let now_ns = clock::now_ns();
        let ahead = Duration::from_nanos(self.start_ns.saturating_sub(now_ns));
        let past = Duration::from_nanos(now_ns.saturating_sub(self.start_ns));
        now.checked_sub(past).unwrap_or(now) + ahead
    }

    /// Everything there is to show now; `None` when the gatherer has ended.
    pub(super) fn snapshot(&self, destinations: bool) -> Option<Snapshot> {
        let (reply, answer) = bounded(1);
        self.requests
            .send(Request {
                destinations,
                reply,
            })
            .ok()?;
        answer.recv_timeout(SNAPSHOT_WAIT).ok()
    }

    /// Waits for the threads and detaches the kernel program.
    pub(super) fn join(mut self) -> Left {
        let stopped = joined(self.sender);
        let gatherer = joined(self.gatherer);
        self.program.detach();
        Left {
            snapshot: gatherer.snapshot(true),
            sending: Duration::from_nanos(stopped.at_ns.saturating_sub(self.start_ns)),
            resets_missed: stopped.resets_missed + gatherer.resets_missed(),
        }
    }
}

/// What a thread returned; if it panicked, so does this one, after the same message.
fn joined<T>(thread: JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named_once_if_they_are_the_same() {
        let describe = |modes: &[Mode]| describe_modes(["eth0", "eth1"].into_iter(), modes);
        assert_eq!(describe(&[Mode::Native]), "native XDP");
        assert_eq!(describe(&[Mode::Generic; 2]), "generic XDP");
        let mixed = describe(&[Mode::Native, Mode::Generic]);
        assert_eq!(mixed, "eth0: native XDP, eth1: generic XDP");
    }
}
