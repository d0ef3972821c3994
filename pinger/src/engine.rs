//! The engine ties schedule, packets, routes, flight table and link together: `poll` sends what
//! is due and ends what timed out.
//!
//! In: the time, the [`Link`]s and a [`Sink`] as arguments, route changes through
//! [`Engine::heads_mut`] and [`Engine::frames_mut`].
//! Out: frames to the links, [`Note`]s to the sink. Single-threaded; it never sleeps, never reads
//! a clock of its own and cannot fail.

mod note;
mod outgoing;
mod readings;
mod resets;

use pinger_ebpf::cookie::cookie;

pub use self::note::{End, Note, Sink};
use self::note::{ended_note, unreported};
use self::outgoing::Outgoing;
use self::readings::{Readings, readings};
use self::resets::Half;
pub use self::resets::Reset;
use crate::destination::FlowIndex;
use crate::flight::{AtomicSlot, Flight, Standing};
use crate::link::Link;
use crate::packet::Frames;
use crate::route::{Head, LinkPlace};
use crate::schedule::{Schedule, Turn};

/// The most probes ended in one [`Engine::poll`]: a few microseconds' work, so that a burst of
/// timeouts does not make the next probe late.
const EXPIRE_MAX: usize = 64;

/// The most turns that a flood passes over in one [`Engine::poll`] because their flows have no way,
/// for the same reason.
const PASSED_OVER_MAX: u64 = 64;

/// How long a flood waits when no flow has a way: soon enough for one that comes back.
const NO_WAY_PAUSE_NS: u64 = 1_000_000;

/// When to probe how much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Probes to each destination; `None`: no end.
    pub count: Option<u64>,
    /// Only probes due before this leave, CLOCK_MONOTONIC nanoseconds; `u64::MAX`: no end.
    pub until_ns: u64,
    /// The most probes in one flush.
    pub batch: usize,
    /// In a flood, the most probes in flight.
    pub in_flight: u64,
}

/// See the module's description.
pub struct Engine<M> {
    schedule: Schedule,
    readings: Vec<Readings>,
    frames: Frames,
    flight: Flight<M>,
    /// For each flow: the Ethernet header of its next hop's, or none if unreachable.
    heads: Heads,
    secret: [u64; 2],
    limits: Limits,
    stopping: bool,
    /// Probes sent, and of those ended by this engine; the difference to the answered ones is
    /// in flight.
    sent: u64,
    ended: u64,
    queued: Vec<Queued>,
    outgoing: Outgoing,
    /// Of each flow; empty if none is TCP.
    halves: Vec<Half>,
    /// When a flow without a way is tried again, of each flow; empty but in a flood without a
    /// count.
    retries_ns: Vec<u64>,
}

/// What frames begin with and where they leave, by next hop, and each flow's next hop.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    /// For each next hop: the head of frames to it, or `None` while it cannot be reached.
    pub hops: Vec<Option<Head>>,
    /// For each flow: the index of its next hop, or `None` without a route.
    pub flows: Vec<Option<u32>>,
}

impl Heads {
    fn of(&self, flow: FlowIndex) -> Option<Head> {
        let hop = (*self.flows.get(flow.0 as usize)?)?;
        *self.hops.get(hop as usize)?
    }
}

/// A probe that is in a link's queue but not flushed.
#[derive(Clone, Copy)]
struct Queued {
    turn: Turn,
    tx_ns: u64,
    link: LinkPlace,
    /// How many frames were queued on the link before this one.
    place: usize,
}

/// What one poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Call again at this time, CLOCK_MONOTONIC nanoseconds, or as soon as possible after it.
    At(u64),
    /// Stopped, and no probe is in flight any more.
    Done,
}

impl<M: AsRef<[AtomicSlot]>> Engine<M> {
    /// An engine at the start of its schedule.
    pub fn new(
        schedule: Schedule,
        frames: Frames,
        flight: Flight<M>,
        heads: Heads,
        secret: [u64; 2],
        limits: Limits,
    ) -> Self {
        let readings = readings(&schedule, &limits, &flight);
        let queued = Vec::with_capacity(limits.batch);
        let flows = heads.flows.len();
        let has_tcp = (0..flows as u32).any(|flow| frames.is_tcp(FlowIndex(flow)));
        let is_flood = schedule.cycles().iter().any(|cycle| cycle.interval_ns == 0);
        let is_paced = is_flood && limits.count.is_none();
        let halves = vec![Half::default(); if has_tcp { flows } else { 0 }];
        Self {
            schedule,
            readings,
            frames,
            flight,
            heads,
            secret,
            limits,
            stopping: false,
            sent: 0,
            ended: 0,
            queued,
            outgoing: Outgoing::default(),
            halves,
            retries_ns: vec![0; if is_paced { flows } else { 0 }],
        }
    }

    /// Sets when the first turn of every cycle is due, and when to send no more, before the first
    /// poll.
    pub fn start_at(&mut self, start_ns: u64, until_ns: u64) {
        debug_assert_eq!(self.sent, 0, "nothing was sent yet");
        self.schedule.start_at(start_ns);
        self.limits.until_ns = until_ns;
        self.readings = readings(&self.schedule, &self.limits, &self.flight);
    }

    /// The next hops, to be changed where routes change.
    pub fn heads_mut(&mut self) -> &mut Heads {
        &mut self.heads
    }

    /// The prepared frames, to be changed where source addresses change.
    pub fn frames_mut(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// Sends no more probes; those in flight are awaited.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Ends floods, in which no probe is the last one by itself. All others know theirs, which a
    /// late sender still sends: none is left out without a word.
    pub fn end_floods(&mut self) {
        let cycles = self.schedule.cycles().iter();
        for (cycle, readings) in cycles.zip(&mut self.readings) {
            if cycle.interval_ns == 0 {
                readings.turns = readings.turns.min(readings.next);
            }
        }
    }

    /// Whether no cycle sends any more.
    pub fn has_sent_all(&self) -> bool {
        (0..self.readings.len()).all(|index| self.finished(index))
    }

    /// Ends what timed out, sends what is due, and says when to come again. `clock` reads the
    /// time, CLOCK_MONOTONIC nanoseconds; `links` stand in the places that the heads name.
    ///
    /// # Panics
    ///
    /// If a head names a place where no link is.
    pub fn poll(
        &mut self,
        clock: &impl Fn() -> u64,
        links: &mut [impl Link],
        sink: &mut impl Sink,
    ) -> Poll {
        let mut wake_ns = u64::MAX;
        let mut done = true;
        for index in 0..self.readings.len() {
            let expire_ns = self.expire(index, clock(), sink);
            let due_ns = self.send(index, clock, links, sink);
            let cycle = &self.schedule.cycles()[index];
            let readings = &self.readings[index];
            wake_ns = wake_ns.min(due_ns).min(expire_ns);
            if expire_ns == u64::MAX && readings.end < readings.next {
                // Nothing was in flight before these were sent; the first of them may end next.
                wake_ns = wake_ns.min(cycle.due_ns(readings.end) + cycle.timeout_ns);
            }
            done &= self.finished(index) && readings.end == readings.next;
        }
        if done { Poll::Done } else { Poll::At(wake_ns) }
    }

    /// Whether a cycle sends no more.
    fn finished(&self, index: usize) -> bool {
        self.stopping || self.readings[index].next >= self.readings[index].turns
    }

    /// Ends the probes of a cycle whose timeout has passed, in the order in which they were sent.
    /// Returns when the next one may end.
    fn expire(&mut self, index: usize, now_ns: u64, sink: &mut impl Sink) -> u64 {
        let finished = self.finished(index);
        let cycle = &self.schedule.cycles()[index];
        let readings = &mut self.readings[index];
        let full = readings.next - readings.end >= readings.capacity;
        // Answered probes need not wait for their timeout where we want to be done with them, or
        // where their slots are needed.
        let eager = finished || cycle.interval_ns == 0 || full;
        for _ in 0..EXPIRE_MAX {
            if readings.end == readings.next {
                return u64::MAX;
            }
            if sink.room() == 0 {
                return now_ns;
            }
            let turn = cycle.turn(readings.end);
            let earliest_ns = turn.due_ns + cycle.timeout_ns;
            if !eager && earliest_ns > now_ns {
                return earliest_ns;
            }
            let ended = match self.flight.look(turn.flow, turn.sequence) {
                Standing::InFlight { tx_ns } if tx_ns + cycle.timeout_ns > now_ns => {
                    return tx_ns + cycle.timeout_ns;
                }
                Standing::InFlight { tx_ns } => {
                    match self.flight.expire(turn.flow, turn.sequence) {
                        Ok(()) => Some((tx_ns, End::Lost)),
                        Err(standing) => unreported(standing),
                    }
                }
                standing => unreported(standing),
            };
            readings.end += 1;
            let Some((tx_ns, end)) = ended else { continue };
            if matches!(end, End::Unreported { .. }) {
                self.flight.settle(turn.flow, turn.sequence);
            }
            self.ended += 1;
            sink.push(ended_note(cycle, turn, tx_ns, end));
        }
        now_ns
    }

    /// Sends at most one batch of a cycle's due probes. Returns when the next one is due.
    fn send(
        &mut self,
        index: usize,
        clock: &impl Fn() -> u64,
        links: &mut [impl Link],
        sink: &mut impl Sink,
    ) -> u64 {
        let mut wake_ns = u64::MAX;
        let mut passed_over = 0;
        loop {
            let now_ns = clock();
            if !self.finished(index) {
                self.skip(index, now_ns, sink);
            }
            if self.finished(index) {
                break;
            }
            let turn = self.schedule.cycles()[index].turn(self.readings[index].next);
            if turn.due_ns > now_ns {
                wake_ns = turn.due_ns;
                break;
            }
            if self.queued.len() >= self.limits.batch || !self.may_send(index, sink) {
                wake_ns = now_ns;
                break;
            }
            self.readings[index].next += 1;
            if self.must_rest(index, turn.flow, now_ns) {
                let readings = &mut self.readings[index];
                if readings.end + 1 == readings.next {
                    // Nothing is in flight, and nothing is to be ended.
                    readings.end = readings.next;
                }
                passed_over += 1;
                if self.has_no_way(index) {
                    wake_ns = now_ns + NO_WAY_PAUSE_NS;
                    break;
                }
                if passed_over == PASSED_OVER_MAX {
                    wake_ns = now_ns;
                    break;
                }
                continue;
            }
            self.probe(index, turn, clock, links, sink);
        }
        self.flush(index, links, sink);
        wake_ns
    }

    /// Whether a flow's turn in a flood is passed over: without a way nothing slows it down, so it
    /// is tried once a timeout.
    fn must_rest(&mut self, index: usize, flow: FlowIndex, now_ns: u64) -> bool {
        let Some(retry_ns) = self.retries_ns.get_mut(flow.0 as usize) else {
            return false;
        };
        let passed_over = &mut self.readings[index].passed_over;
        if self.heads.of(flow).is_some() {
            *passed_over = 0;
            return false;
        }
        *passed_over += 1;
        if now_ns < *retry_ns {
            return true;
        }
        *retry_ns = now_ns + self.schedule.cycles()[index].timeout_ns;
        false
    }

    /// Whether no flow of a cycle had a way when it was last its turn.
    fn has_no_way(&self, index: usize) -> bool {
        self.readings[index].passed_over >= self.schedule.cycles()[index].len()
    }

    /// Leaves out whole rounds where the sender is more than an interval late.
    fn skip(&mut self, index: usize, now_ns: u64, sink: &mut impl Sink) {
        let cycle = &self.schedule.cycles()[index];
        let next = self.readings[index].next;
        let rounds = cycle.rounds_behind(next, now_ns);
        if rounds == 0 || sink.room() == 0 {
            return;
        }
        let turns = (rounds * cycle.len()).min(self.readings[index].turns - next);
        self.readings[index].next += turns;
        sink.push(Note::Skipped { turns });
    }

    /// Whether there is room for one more probe: in the flight table, in the sink (which gets up
    /// to two notes for each probe), and, in a flood, under the limit of probes in flight.
    fn may_send(&self, index: usize, sink: &impl Sink) -> bool {
        let cycle = &self.schedule.cycles()[index];
        let Readings {
            next,
            end,
            capacity,
            ..
        } = self.readings[index];
        // Neither is ever too low: the gatherer tells of answers a nap late, and behind a probe
        // that is lost `end` stands still for a timeout.
        let told = self.sent.saturating_sub(self.ended + sink.answered());
        let in_flight = told.min(next - end);
        next - end < capacity
            && sink.room() > 2 * self.queued.len() + 2
            && (cycle.interval_ns > 0 || in_flight < self.limits.in_flight)
    }

    /// Writes one probe's frame, stamps it and queues it.
    fn probe(
        &mut self,
        index: usize,
        turn: Turn,
        clock: &impl Fn() -> u64,
        links: &mut [impl Link],
        sink: &mut impl Sink,
    ) {
        let Turn { flow, sequence, .. } = turn;
        sink.push(Note::Sent { flow });
        self.sent += 1;
        self.reset_before(turn, links);
        let cycle = &self.schedule.cycles()[index];
        let Some(head) = self.heads.of(flow) else {
            self.ended += 1;
            return sink.push(ended_note(cycle, turn, clock(), End::Unreachable));
        };
        let link = &mut links[usize::from(head.link.0)];
        let Some(buffer) = link.frame() else {
            self.ended += 1;
            return sink.push(ended_note(cycle, turn, clock(), End::Refused));
        };
        let cookie = cookie(self.secret, flow.0, sequence);
        let len = self
            .frames
            .write(flow, &head.bytes, sequence, cookie, buffer);
        let tx_ns = clock();
        self.flight.send(flow, sequence, tx_ns);
        link.submit(len);
        let place = self.outgoing.submitted(head.link);
        self.queued.push(Queued {
            turn,
            tx_ns,
            link: head.link,
            place,
        });
    }

    /// Sends what is queued; probes that a link refuses have failed.
    fn flush(&mut self, index: usize, links: &mut [impl Link], sink: &mut impl Sink) {
        if self.queued.is_empty() {
            return;
        }
        let refused = self.outgoing.flush(links);
        for queued in self.queued.drain(..) {
            let Queued { turn, tx_ns, .. } = queued;
            let refused = refused.contain(queued.link, queued.place);
            if refused && self.flight.expire(turn.flow, turn.sequence).is_ok() {
                self.ended += 1;
                sink.push(ended_note(
                    &self.schedule.cycles()[index],
                    turn,
                    tx_ns,
                    End::Refused,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
