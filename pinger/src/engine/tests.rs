//! The engine alone, with a link and a sink that do as they are told. The simulator in the
//! `tests` package drives it with everything else.

mod resets;

use std::cell::Cell;
use std::rc::Rc;

use pinger_ebpf::layout::SlotState;
use pinger_ebpf::matching::SlotCell;

use super::*;
use crate::destination::{Destination, Protocol};
use crate::flight::Runs;
use crate::link::Refused;
use crate::packet::ETHERNET_LEN;

const MS: u64 = 1_000_000;
const START_NS: u64 = 5_000 * MS;

/// Slots that the test, as the kernel program, shares with the engine.
#[derive(Clone)]
struct Shared(Rc<[AtomicSlot]>);

impl AsRef<[AtomicSlot]> for Shared {
    fn as_ref(&self) -> &[AtomicSlot] {
        &self.0
    }
}

/// Takes frames, or refuses them.
#[derive(Default)]
struct TestLink {
    buffer: Vec<u8>,
    frames: Vec<Vec<u8>>,
    queued: u64,
    sent: u64,
    flushes: u64,
    refuses: bool,
    /// How many of each flush it sends before it refuses the others.
    sends_first: u64,
    is_full: bool,
}

impl Link for TestLink {
    fn frame(&mut self) -> Option<&mut [u8]> {
        self.buffer.resize(256, 0);
        (!self.is_full).then_some(&mut self.buffer)
    }

    fn submit(&mut self, len: usize) {
        self.queued += 1;
        self.frames.push(self.buffer[..len].to_vec());
    }

    fn flush(&mut self) -> Result<(), Refused> {
        self.flushes += 1;
        let queued = std::mem::take(&mut self.queued);
        if self.refuses {
            let sent = self.sends_first.min(queued);
            self.sent += sent;
            return Err(Refused {
                errno: 105,
                unsent: (queued - sent) as usize,
            });
        }
        self.sent += queued;
        Ok(())
    }
}

/// Keeps notes, as many as it has room for.
struct TestSink {
    notes: Vec<Note>,
    room: usize,
}

impl Sink for TestSink {
    fn room(&self) -> usize {
        self.room - self.notes.len()
    }

    fn push(&mut self, note: Note) {
        assert!(self.room() > 0, "pushed without room");
        self.notes.push(note);
    }

    fn answered(&self) -> u64 {
        0
    }
}

/// An engine with all that it needs, on a clock that the test sets.
struct Bench {
    engine: Engine<Shared>,
    slots: Shared,
    /// What the heads name.
    links: [TestLink; 2],
    sink: TestSink,
    now_ns: Cell<u64>,
}

impl Bench {
    fn new(flows: usize, interval_ns: u64, timeout_ns: u64, limits: Limits) -> Self {
        let destination = Destination {
            interval_ns,
            timeout_ns,
            size: 16,
            ..Destination::echo("192.0.2.9".parse().unwrap())
        };
        Self::of(destination, flows, limits)
    }

    /// So many flows to one destination.
    fn of(destination: Destination, flows: usize, limits: Limits) -> Self {
        Self::with(destination, flows, limits, false)
    }

    fn with(destination: Destination, flows: usize, limits: Limits, flood: bool) -> Self {
        let destinations = vec![destination; flows];
        let schedule = Schedule::new(&destinations, START_NS, flood);
        let source = "192.0.2.1".parse().unwrap();
        let identifiers = vec![7; flows];
        let frames = Frames::prepare(&destinations, &identifiers, [1, 2], |_| source);
        let mut runs = Runs::default();
        for flow in 0..flows {
            runs.push(schedule.cycle_of(FlowIndex(flow as u32)).in_flight_max());
        }
        let slots = Shared((0..runs.slots()).map(|_| AtomicSlot::default()).collect());
        let heads = Heads {
            hops: [0, 1].map(|link| Some(head(link))).to_vec(),
            flows: vec![Some(0); flows],
        };
        let flight = Flight::new(slots.clone(), runs);
        Self {
            engine: Engine::new(schedule, frames, flight, heads, [1, 2], limits),
            slots,
            links: Default::default(),
            sink: TestSink {
                notes: Vec::new(),
                room: 1000,
            },
            now_ns: Cell::new(START_NS),
        }
    }

    fn poll_at(&mut self, now_ns: u64) -> Poll {
        self.now_ns.set(now_ns);
        self.engine
            .poll(&|| self.now_ns.get(), &mut self.links, &mut self.sink)
    }

    fn ended_flows(&self) -> Vec<FlowIndex> {
        let flow = |note: &Note| match note {
            Note::Ended { flow, .. } => Some(*flow),
            _ => None,
        };
        self.sink.notes.iter().filter_map(flow).collect()
    }

    fn ends(&self) -> Vec<(u64, End)> {
        let end = |note: &Note| match note {
            Note::Ended { sequence, end, .. } => Some((*sequence, *end)),
            _ => None,
        };
        self.sink.notes.iter().filter_map(end).collect()
    }
}

/// The head of frames that leave through this link.
fn head(link: u8) -> Head {
    Head {
        bytes: [link; ETHERNET_LEN],
        link: LinkPlace(link),
    }
}

const fn limits(count: Option<u64>) -> Limits {
    Limits {
        count,
        until_ns: u64::MAX,
        batch: 8,
        in_flight: 1000,
    }
}

#[test]
fn the_last_probe_is_ended_when_its_timeout_is_over() {
    let mut bench = Bench::new(1, 10 * MS, 3 * MS, limits(Some(1)));
    assert_eq!(bench.poll_at(START_NS), Poll::At(START_NS + 3 * MS));
    assert_eq!(bench.poll_at(START_NS + 3 * MS), Poll::Done);
    assert_eq!(bench.ends(), [(0, End::Lost)]);
}

#[test]
fn a_start_set_later_moves_every_turn_and_the_end() {
    let mut bench = Bench::new(2, 10 * MS, 3 * MS, limits(None));
    let start_ns = START_NS + 77 * MS;
    bench.engine.start_at(start_ns, start_ns + 12 * MS);
    assert_eq!(bench.poll_at(START_NS), Poll::At(start_ns));
    for now_ns in [0, 3, 5, 8, 10, 13].map(|ms| start_ns + ms * MS) {
        bench.poll_at(now_ns);
    }
    assert_eq!(bench.links[0].sent, 3, "due at 0, 5 and 10 ms");
    assert_eq!(
        bench.ends(),
        [(0, End::Lost), (0, End::Lost), (1, End::Lost)]
    );
}

#[test]
fn a_timeout_shorter_than_the_interval_is_kept() {
    let mut bench = Bench::new(1, 1000 * MS, 3 * MS, limits(None));
    assert_eq!(bench.poll_at(START_NS), Poll::At(START_NS + 3 * MS));
    assert_eq!(
        bench.poll_at(START_NS + 3 * MS),
        Poll::At(START_NS + 1000 * MS)
    );
    assert_eq!(bench.ends(), [(0, End::Lost)]);
}

#[test]
fn a_late_probe_has_its_whole_timeout() {
    let mut bench = Bench::new(1, 10 * MS, 3 * MS, limits(Some(1)));
    bench.poll_at(START_NS + 2 * MS);
    assert_eq!(
        bench.poll_at(START_NS + 3 * MS),
        Poll::At(START_NS + 5 * MS)
    );
    assert_eq!(bench.poll_at(START_NS + 5 * MS), Poll::Done);
}

#[test]
fn what_the_link_refuses_has_failed_and_what_was_answered_has_not() {
    let mut bench = Bench::new(2, 10 * MS, 3 * MS, limits(Some(1)));
    bench.links[0].refuses = true;
    bench.poll_at(START_NS + 5 * MS);
    assert_eq!(bench.ends(), [(0, End::Refused), (0, End::Refused)]);
    assert_eq!(bench.poll_at(START_NS + 20 * MS), Poll::Done);
    assert_eq!(bench.ends().len(), 2, "told once");
}

#[test]
fn only_what_the_link_did_not_send_has_failed() {
    let mut bench = Bench::new(6, 6 * MS, 3 * MS, limits(Some(1)));
    bench.engine.heads_mut().flows = [0, 1, 0, 0, 1, 0].map(Some).to_vec();
    bench.links[0].refuses = true;
    bench.links[0].sends_first = 2;
    bench.poll_at(START_NS + 5 * MS);
    assert_eq!(bench.ended_flows(), [3, 5].map(FlowIndex));
    assert_eq!((bench.links[0].sent, bench.links[1].sent), (2, 2));
    bench.poll_at(START_NS + 8 * MS);
    assert_eq!(bench.ended_flows(), [3, 5, 0, 1, 2, 4].map(FlowIndex));
}

#[test]
fn without_a_way_a_probe_ends_at_once() {
    let mut bench = Bench::new(2, 10 * MS, 3 * MS, limits(Some(2)));
    bench.engine.heads_mut().flows[0] = None;
    bench.poll_at(START_NS + 5 * MS);
    assert_eq!(bench.ends(), [(0, End::Unreachable)]);
    assert_eq!(bench.links[0].sent, 1);
    bench.engine.heads_mut().hops[0] = None;
    bench.poll_at(START_NS + 10 * MS);
    assert_eq!(bench.ends()[1..], [(0, End::Lost), (1, End::Unreachable)]);
}

#[test]
fn a_flood_tries_what_has_no_way_once_a_timeout() {
    let destination = Destination {
        timeout_ns: 100 * MS,
        ..Destination::echo("192.0.2.9".parse().unwrap())
    };
    let unreachable = |bench: &Bench| {
        let ends = bench.ends();
        let all = ends.iter().filter(|(_, end)| *end == End::Unreachable);
        all.count()
    };
    // As often as the engine asks for, or at least each time that something is due.
    let run = |bench: &mut Bench, until_ns: u64| {
        let mut polls = 0;
        while bench.now_ns.get() < until_ns {
            let Poll::At(wake_ns) = bench.poll_at(bench.now_ns.get()) else {
                panic!("a flood has no end");
            };
            bench.now_ns.set(wake_ns.max(bench.now_ns.get() + 1000));
            polls += 1;
        }
        polls
    };
    let mut bench = Bench::with(destination.clone(), 3, limits(None), true);
    bench.engine.heads_mut().hops[0] = None;
    let polls = run(&mut bench, START_NS + 250 * MS);
    assert_eq!(unreachable(&bench), 9, "three flows, at 0, 100 and 200 ms");
    assert!(
        polls < 1000,
        "{polls} polls of an engine with nothing to do"
    );
    // The way comes back: no more waiting.
    bench.engine.heads_mut().hops[0] = Some(head(0));
    bench.poll_at(bench.now_ns.get());
    assert!(bench.links[0].sent >= 3);

    // Others are not held up.
    let mut bench = Bench::with(destination.clone(), 2, limits(None), true);
    bench.engine.heads_mut().flows[0] = None;
    run(&mut bench, START_NS + 150 * MS);
    assert_eq!(unreachable(&bench), 2);
    assert!(bench.links[0].sent >= 2, "{}", bench.links[0].sent);

    // Whoever says how many gets as many.
    let mut bench = Bench::with(destination, 2, limits(Some(20)), true);
    bench.engine.heads_mut().hops[0] = None;
    while bench.poll_at(START_NS) != Poll::Done {}
    assert_eq!(unreachable(&bench), 40);
}

#[test]
fn each_probe_leaves_through_the_link_of_its_next_hop_and_each_link_is_flushed_once_a_batch() {
    let mut bench = Bench::new(4, 8 * MS, 3 * MS, limits(Some(1)));
    bench.engine.heads_mut().flows = vec![Some(1), Some(0), Some(1), Some(1)];
    bench.poll_at(START_NS + 6 * MS);
    let sent = bench.links.each_ref().map(|link| (link.sent, link.flushes));
    assert_eq!(sent, [(1, 1), (3, 1)]);

    // All through the other one: the first is left alone.
    let mut bench = Bench::new(4, 8 * MS, 3 * MS, limits(Some(1)));
    bench.engine.heads_mut().flows = vec![Some(1); 4];
    bench.poll_at(START_NS + 6 * MS);
    let sent = bench.links.each_ref().map(|link| (link.sent, link.flushes));
    assert_eq!(sent, [(0, 0), (4, 1)]);
}

#[test]
fn a_link_that_refuses_does_no_harm_to_the_probes_of_another() {
    let mut bench = Bench::new(4, 8 * MS, 3 * MS, limits(Some(1)));
    bench.engine.heads_mut().flows = vec![Some(1), Some(0), Some(1), Some(0)];
    bench.links[1].refuses = true;
    bench.poll_at(START_NS + 6 * MS);
    assert_eq!(bench.ended_flows(), [0, 2].map(FlowIndex));
    assert_eq!((bench.links[0].sent, bench.links[1].sent), (2, 0));
    bench.poll_at(START_NS + 9 * MS);
    assert_eq!(bench.ended_flows(), [0, 2, 1, 3].map(FlowIndex));
    let lost = bench.ends()[2..].iter().all(|(_, end)| *end == End::Lost);
    assert!(lost, "{:?}", bench.ends());
}

#[test]
fn a_full_sink_holds_the_sender_up_and_nothing_is_lost() {
    let mut bench = Bench::new(40, 10 * MS, 3 * MS, limits(Some(1)));
    let mut told = Vec::new();
    let mut now_ns = START_NS;
    loop {
        bench.sink = TestSink {
            notes: Vec::new(),
            room: 5,
        };
        let poll = bench.poll_at(now_ns);
        told.append(&mut bench.sink.notes);
        match poll {
            Poll::Done => break,
            Poll::At(wake_ns) => now_ns = wake_ns.max(now_ns),
        }
    }
    let sent = told
        .iter()
        .filter(|note| matches!(note, Note::Sent { .. }))
        .count();
    let lost = told
        .iter()
        .filter(|note| matches!(note, Note::Ended { end: End::Lost, .. }));
    assert_eq!((sent, lost.count()), (40, 40));
}

#[test]
fn a_stalled_sender_leaves_whole_rounds_out() {
    let mut bench = Bench::new(4, 8 * MS, 3 * MS, limits(Some(10)));
    bench.poll_at(START_NS);
    // Turn 1 was due at 2 ms: three rounds of it are past at 27 ms.
    bench.poll_at(START_NS + 27 * MS);
    assert!(
        bench.sink.notes.contains(&Note::Skipped { turns: 12 }),
        "{:?}",
        bench.sink.notes
    );
}

#[test]
fn at_the_end_what_was_due_is_sent_though_late_and_a_flood_stops() {
    let mut bench = Bench::new(4, 8 * MS, 3 * MS, limits(None));
    bench.engine.start_at(START_NS, START_NS + 16 * MS);
    bench.poll_at(START_NS + 7 * MS);
    bench.poll_at(START_NS + 10 * MS);
    bench.engine.end_floods();
    assert!(!bench.engine.has_sent_all());
    bench.poll_at(START_NS + 17 * MS);
    assert!(bench.engine.has_sent_all());
    assert_eq!(bench.links[0].sent, 8, "each 2 ms, before 16 ms");
    let skipped = |note: &Note| matches!(note, Note::Skipped { .. });
    assert!(!bench.sink.notes.iter().any(skipped));

    let destination = Destination::echo("192.0.2.9".parse().unwrap());
    let mut bench = Bench::with(destination, 2, limits(None), true);
    bench.poll_at(START_NS);
    bench.engine.end_floods();
    assert!(bench.engine.has_sent_all());
    let sent = bench.links[0].sent;
    bench.poll_at(START_NS + MS);
    assert_eq!((bench.links[0].sent, sent > 0), (sent, true));
}

#[test]
fn an_answer_told_of_ends_in_the_sender_without_a_note() {
    let mut bench = Bench::new(1, 10 * MS, 3 * MS, limits(Some(1)));
    bench.poll_at(START_NS);
    let slot = &bench.slots.0[0];
    let sent = SlotState::new(SlotState::SENT, 0);
    slot.compare_exchange(sent, SlotState::new(SlotState::ANSWERED, 0))
        .unwrap();
    assert_eq!(
        bench.poll_at(START_NS + MS),
        Poll::Done,
        "nothing to wait for"
    );
    assert_eq!(bench.ends(), []);
}

#[test]
fn an_answer_not_told_of_is_told_by_the_sender_once() {
    let mut bench = Bench::new(1, 10 * MS, 3 * MS, limits(Some(1)));
    bench.poll_at(START_NS);
    let slot = &bench.slots.0[0];
    let sent = SlotState::new(SlotState::SENT, 0);
    slot.compare_exchange(sent, SlotState::unreported(0, 77))
        .unwrap();
    assert_eq!(bench.poll_at(START_NS + MS), Poll::Done);
    assert_eq!(
        bench.ends(),
        [(
            0,
            End::Unreported {
                rtt_ns: 77,
                error: false
            }
        )]
    );
    assert_eq!(
        slot_tag(&bench),
        SlotState::ANSWERED_OPEN,
        "a further answer is a duplicate"
    );
}

fn slot_tag(bench: &Bench) -> u64 {
    bench.slots.0[0].state().tag()
}
