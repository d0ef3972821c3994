//! The simulator: the whole engine, the real matching and the real stats keeper on a virtual
//! clock, with a network that does what a scenario asks for, by a seed.
//!
//! In: a [`Scenario`]. Out: a [`Report`], or what was wrong. After every step the sum of the
//! counts must hold; at the end every probe's results are compared with what really happened.

pub mod answer;
mod cast;
mod forge;
pub mod host;
pub mod kernel;
pub mod network;
pub mod rng;
pub mod scenario;
pub mod truth;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinger::destination::{Destination, FlowIndex};
use pinger::engine::{Engine, Limits, Note, Poll, Reset, Sink};
use pinger::flight::{AtomicSlot, Flight};
use pinger::flow::Flows;
use pinger::result::{Outcome, ProbeResult};
use pinger::schedule::Schedule;
use pinger::stats::{Counts, Outside, StatsKeeper};
use pinger_ebpf::layout::{AnswerKind, PROTOCOL_TCP, PROTOCOL_UDP, Settings};

use cast::{PORTS_TCP, PORTS_UDP, destinations, facts, head, head_index, heads, places, source};
use kernel::{Kernel, Slots};
use network::{Network, SimLink};
use rng::Rng;
use scenario::Scenario;
use truth::{Target, Truth};

const MS: u64 = 1_000_000;
/// When the simulated machine's probing starts: an hour after it was booted.
const START_NS: u64 = 3_600_000 * MS;
/// The soonest that a sender that does not sleep comes back.
const SPIN_NS: u64 = 500;
/// The longest that a sender sleeps where connections are to be reset.
const RESET_SLEEP_NS: u64 = MS;
/// The most resets sent in one go.
const RESETS_PER_TURN: usize = 4;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The counts at the end.
    pub counts: Counts,
    /// Packets to our flows that were none of their answers.
    pub forged: u64,
    /// Answers that found the ring buffer full.
    pub ring_dropped: u64,
    /// RSTs that closed connections.
    pub resets: u64,
    /// Virtual time.
    pub elapsed: Duration,
    /// Real time.
    pub took: Duration,
}

/// Runs a scenario and checks all that can be checked.
///
/// # Errors
///
/// What was wrong, with the scenario's name and its seed.
pub fn run(scenario: &Scenario) -> Result<Report, String> {
    let started = Instant::now();
    let mut world = World::new(scenario);
    let outcome = world.run().and_then(|()| world.check());
    let named = |error| {
        format!(
            "scenario \"{}\", seed {}: {error}",
            scenario.name, scenario.seed
        )
    };
    outcome.map_err(named)?;
    let report = world.report(started.elapsed());
    check_counts(scenario, &report).map_err(named)?;
    Ok(report)
}

/// The notes on their way to the stats keeper.
#[derive(Default)]
struct Notes {
    queue: VecDeque<Note>,
    max: usize,
    answered: u64,
    overfull: bool,
}

impl Sink for Notes {
    fn room(&self) -> usize {
        self.max - self.queue.len().min(self.max)
    }

    fn push(&mut self, note: Note) {
        self.overfull |= self.room() == 0;
        self.queue.push_back(note);
    }

    fn answered(&self) -> u64 {
        self.answered
    }
}

/// Everything in a run.
struct World<'a> {
    scenario: &'a Scenario,
    network: Network,
    engine: Engine<Slots>,
    notes: Notes,
    keeper: StatsKeeper,
    results: Vec<ProbeResult>,
    /// On their way from the stats keeper to the sender; `None` without a TCP flow.
    resets: Option<VecDeque<Reset>>,
    rng: Rng,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let run = &scenario.run;
        let (destinations, hops, ways) = destinations(&scenario.destinations);
        let identifier = |destination: &Destination| match destination.protocol.number() {
            PROTOCOL_UDP => PORTS_UDP[0],
            PROTOCOL_TCP => PORTS_TCP[0],
            _ => rng.draw() as u16,
        };
        let identifiers: Vec<u16> = destinations.iter().map(identifier).collect();
        let secret = [rng.draw(), rng.draw()];
        let schedule = Schedule::new(&destinations, START_NS, run.flood);
        let flows = Flows::new(destinations.clone(), identifiers.clone(), secret);
        let runs = flows.runs(&schedule);
        let slots = Slots((0..runs.slots()).map(|_| AtomicSlot::default()).collect());
        let places = places(&destinations);
        let target = |index: usize| {
            let slots = u64::from(runs.of(FlowIndex(index as u32)).mask) + 1;
            let place = (!run.flood).then_some(places[index]);
            let destination = destinations[index].clone();
            let (hop, way) = (hops[index], ways[index]);
            Target::new(destination, identifiers[index], slots, place, hop, way)
        };
        let targets: Vec<_> = (0..destinations.len()).map(target).collect();
        let settings = Settings {
            secret,
            verify: 1,
            log: 0,
        };
        let mut kernel = Kernel::new(
            flows.table(&runs),
            slots.clone(),
            pinger::packet::pattern(),
            settings,
            run.ring,
        );
        kernel.payloads = flows.payloads().to_vec();
        let is_tcp = |d: &Destination| d.protocol.number() == PROTOCOL_TCP;
        let resets = destinations.iter().any(is_tcp).then(VecDeque::new);
        let facts = facts(&destinations, &identifiers);
        let heads = heads(&destinations, &hops);
        let truth = Truth::new(targets, heads.hops.len() / 2, START_NS, secret);
        let keeper = StatsKeeper::new(&destinations, &facts, Arc::new(schedule.clone()));
        let frames = flows.frames(|flow| source(destinations[flow.0 as usize].address));
        let until_ns = run.duration_ms.map_or(u64::MAX, |ms| START_NS + ms * MS);
        let limits = Limits {
            count: run.count,
            until_ns,
            batch: run.batch,
            in_flight: run.in_flight,
        };
        let flight = Flight::new(slots, runs);
        let (faults, chaos) = (scenario.faults.clone(), Rng::new(rng.draw()));
        Self {
            scenario,
            engine: Engine::new(schedule, frames, flight, heads, secret, limits),
            network: Network::new(START_NS - MS, kernel, truth, faults, chaos),
            notes: Notes {
                max: run.notes,
                ..Notes::default()
            },
            keeper,
            results: Vec::new(),
            resets,
            rng,
        }
    }

    /// Probes until the engine is done, then takes what is still on its way.
    fn run(&mut self) -> Result<(), String> {
        let stop_ns = START_NS + self.scenario.stop_ms * MS;
        let gather_ns = self.scenario.run.gather_us * 1000;
        let mut gather_at_ns = START_NS;
        let mut wake_ns = START_NS;
        let mut changes = self.scenario.hops.clone();
        changes.sort_by_key(|change| change.at_ms);
        let mut changes = VecDeque::from(changes);
        loop {
            let change_ns = changes
                .front()
                .map_or(u64::MAX, |c| START_NS + c.at_ms * MS);
            let look_ns = self.gather_ns(gather_at_ns);
            self.network.advance_to(wake_ns.min(look_ns).min(change_ns));
            let now_ns = self.network.now_ns();
            if now_ns >= change_ns
                && let Some(change) = changes.pop_front()
            {
                self.change_hop(change.hop, change.up, now_ns);
                continue;
            }
            if now_ns >= gather_at_ns {
                self.gather()?;
                gather_at_ns = now_ns + gather_ns;
            }
            if now_ns < wake_ns {
                continue;
            }
            if now_ns >= stop_ns {
                self.engine.stop();
            }
            let poll = self.poll(now_ns);
            self.reset();
            match poll {
                Poll::Done => break,
                Poll::At(at_ns) => wake_ns = self.wake_ns(now_ns, at_ns, stop_ns),
            }
        }
        self.gather()?;
        self.reset();
        while let Some(arrival_ns) = self.network.next_arrival_ns() {
            self.network.advance_to(arrival_ns.max(gather_at_ns));
            gather_at_ns = self.network.now_ns() + gather_ns;
            self.gather()?;
            self.reset();
        }
        Ok(())
    }

    /// When the stats keeper looks next, so that it finds something: what is there waits for its
    /// time, and nothing comes before the next arrival.
    fn gather_ns(&self, at_ns: u64) -> u64 {
        let events = self.network.with(|inner| !inner.kernel.ring.is_empty());
        if events || !self.notes.queue.is_empty() {
            return at_ns;
        }
        let arrival_ns = self.network.next_arrival_ns();
        arrival_ns.map_or(u64::MAX, |arrival_ns| at_ns.max(arrival_ns))
    }

    fn poll(&mut self, now_ns: u64) -> Poll {
        let network = &self.network;
        let mut link = SimLink::new(network);
        let poll = self.engine.poll(
            &|| network.read_ns(),
            std::slice::from_mut(&mut link),
            &mut self.notes,
        );
        let then_ns = network.now_ns();
        if !matches!(poll, Poll::At(at_ns) if at_ns <= then_ns) {
            network.with(|inner| inner.truth.idle.push((now_ns, then_ns)));
        }
        poll
    }

    /// Closes the connections that the stats keeper has told of, as the sender's thread does.
    fn reset(&mut self) {
        let Some(resets) = &mut self.resets else {
            return;
        };
        let mut link = SimLink::new(&self.network);
        while !resets.is_empty() {
            let told = std::iter::from_fn(|| resets.pop_front());
            let links = std::slice::from_mut(&mut link);
            self.engine.reset(told, RESETS_PER_TURN, links);
        }
    }

    /// What the gatherer tells the sender: a SYN-ACK has come, or an answer that may be one.
    fn tell(&mut self, result: &ProbeResult, is_known: bool) {
        let Some(resets) = &mut self.resets else {
            return;
        };
        let kind = result.answer.map(|answer| answer.kind);
        let is_open = match is_known {
            true => kind == Some(Some(AnswerKind::SynAck)),
            // Of a TCP probe no more is known than that it was answered, or by an error.
            false => self.network.with(|inner| {
                let target = &inner.truth.targets[result.flow.0 as usize];
                let is_tcp = target.destination.protocol.number() == PROTOCOL_TCP;
                let rtt_ns = result.answer.and_then(|answer| answer.rtt_ns);
                is_tcp && rtt_ns.is_some()
            }),
        };
        if is_open {
            resets.push_back(Reset {
                flow: result.flow,
                sequence: result.sequence,
                again: !result.outcome.is_answer(),
            });
        }
    }

    /// When the sender's thread really comes back: a sleeper wakes up late, and a stall is as
    /// long as it is.
    fn wake_ns(&mut self, polled_ns: u64, at_ns: u64, stop_ns: u64) -> u64 {
        let now_ns = self.network.now_ns();
        let mut wake_ns = at_ns.max(now_ns + SPIN_NS);
        if polled_ns < stop_ns {
            wake_ns = wake_ns.min(stop_ns.max(now_ns + SPIN_NS));
        }
        if self.resets.is_some() {
            wake_ns = wake_ns.min(now_ns + RESET_SLEEP_NS);
        }
        wake_ns += self.rng.below(self.scenario.run.wake_late_us * 1000);
        for stall in &self.scenario.stalls {
            let from_ns = START_NS + stall.at_ms * MS;
            let to_ns = from_ns + stall.for_ms * MS;
            if (from_ns..to_ns).contains(&wake_ns) {
                wake_ns = to_ns;
            }
        }
        wake_ns
    }

    fn change_hop(&mut self, hop: u32, up: bool, now_ns: u64) {
        for v6 in [false, true] {
            let index = head_index(hop, v6) as usize;
            self.engine.heads_mut().hops[index] = up.then(|| head(hop, v6));
        }
        self.network
            .with(|inner| inner.truth.hops[hop as usize].push((now_ns, up)));
    }

    /// What the gatherer thread does: events first, then notes, so that each event's probe is
    /// known by the time it is counted.
    fn gather(&mut self) -> Result<(), String> {
        let events = self
            .network
            .with(|inner| std::mem::take(&mut inner.kernel.ring));
        while let Some(note) = self.notes.queue.pop_front() {
            if let Some(result) = self.keeper.note(note) {
                self.tell(&result, false);
                self.results.push(result);
            }
            self.check_sums(match note {
                Note::Sent { flow } | Note::Ended { flow, .. } => Some(flow),
                Note::Skipped { .. } => None,
            })?;
        }
        for event in events {
            let Some(result) = self.keeper.event(&event) else {
                return Err(format!("an event of no probe: {event:?}"));
            };
            self.tell(&result, true);
            self.notes.answered += u64::from(result.outcome.is_answer());
            self.results.push(result);
            self.check_sums(Some(result.flow))?;
        }
        self.network.with(|inner| inner.truth.failure())
    }

    /// The sum that holds at every moment, in the totals and for the destination just touched.
    fn check_sums(&self, flow: Option<FlowIndex>) -> Result<(), String> {
        check_sum("the totals", self.keeper.totals())?;
        flow.map_or(Ok(()), |flow| {
            check_sum("a destination's counts", self.keeper.counts_of(flow))
        })
    }

    /// All that can only be said at the end.
    fn check(&self) -> Result<(), String> {
        let snapshot = self.keeper.snapshot(&Outside::default(), true);
        let sum = |count: fn(&Counts) -> u64| {
            snapshot
                .destinations
                .iter()
                .map(|d| count(&d.counts))
                .sum::<u64>()
        };
        if sum(|c| c.sent) != snapshot.totals.sent || sum(|c| c.late) != snapshot.totals.late {
            return Err("the destinations' counts are not the totals'".to_owned());
        }
        if self.notes.overfull {
            return Err("the engine pushed a note without room".to_owned());
        }
        let totals = self.keeper.totals();
        if totals.in_flight != 0 {
            return Err(format!("{} probes never ended", totals.in_flight));
        }
        for outcome in Outcome::ALL {
            let results = self
                .results
                .iter()
                .filter(|result| result.outcome == outcome)
                .count();
            let mut counts = *totals;
            if *counts.of_mut(outcome) != results as u64 {
                return Err(format!("{results} results are {outcome:?}, but {totals:?}"));
            }
        }
        self.network.with(|inner| inner.truth.check(&self.results))
    }

    fn report(&self, took: Duration) -> Report {
        let (forged, ring_dropped, resets) = self.network.with(|inner| {
            let Kernel {
                forged,
                ring_dropped,
                ..
            } = inner.kernel;
            (forged, ring_dropped, inner.truth.resets())
        });
        Report {
            counts: *self.keeper.totals(),
            forged,
            ring_dropped,
            resets,
            elapsed: Duration::from_nanos(self.network.now_ns() - START_NS),
            took,
        }
    }
}

fn check_sum(whose: &str, counts: &Counts) -> Result<(), String> {
    let Counts {
        sent,
        reply,
        error,
        lost,
        send_failed,
        in_flight,
        ..
    } = *counts;
    if sent == reply + error + lost + send_failed + in_flight {
        Ok(())
    } else {
        Err(format!("{whose} do not add up: {counts:?}"))
    }
}

/// Compares the counts with what the scenario expects.
fn check_counts(scenario: &Scenario, report: &Report) -> Result<(), String> {
    let counts = &report.counts;
    for (name, [low, high]) in &scenario.expect {
        let found = match name.as_str() {
            "sent" => counts.sent,
            "reply" => counts.reply,
            "error" => counts.error,
            "lost" => counts.lost,
            "late" => counts.late,
            "duplicate" => counts.duplicate,
            "mismatch" => counts.mismatch,
            "send_failed" => counts.send_failed,
            "skipped" => counts.skipped,
            "forged" => report.forged,
            "ring_dropped" => report.ring_dropped,
            "answered" => counts.reply + counts.error,
            "resets" => report.resets,
            _ => return Err(format!("there is no count \"{name}\"")),
        };
        if !(*low..=*high).contains(&found) {
            return Err(format!(
                "{name} is {found}, not {low} to {high}: {report:?}"
            ));
        }
    }
    Ok(())
}
