//! The virtual clock and everything that happens by it: frames leave by the simulated link, the
//! far end answers, answers arrive at the simulated kernel program.
//!
//! Each reading of the clock first lets arrive what is due by then, as if the kernel ran on
//! another CPU; so answers come between any two steps of the engine, and never after a time that
//! the engine has seen.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use pinger::link::{Link, Refused};

use super::answer::{self, Nature};
use super::host;
use super::kernel::Kernel;
use super::rng::Rng;
use super::scenario::Faults;
use super::truth::{Leaving, Truth};

/// What a reading of the clock takes: as on a real machine, no two readings are the same.
const READING_NS: u64 = 25;
/// Longest frame that the link takes.
const FRAME_MAX: usize = 4096;
/// How many answers are remembered to be replayed.
const HISTORY_MAX: usize = 256;
/// `ENOBUFS`: what a full link says.
const ENOBUFS: i32 = 105;

/// An answer on its way; the earliest first, and of one time the first sent first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    rx_ns: u64,
    number: u64,
    frame: Vec<u8>,
    /// The probe that it answers, by flow and sequence, and what it is.
    probe: (u32, u64),
    nature: SortedNature,
}

/// A [`Nature`] that does not take part in the order.
struct SortedNature(Nature);

impl PartialEq for SortedNature {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for SortedNature {}
impl PartialOrd for SortedNature {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for SortedNature {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// What stands behind the clock.
pub struct Inner {
    /// The near end.
    pub kernel: Kernel,
    /// What really happened.
    pub truth: Truth,
    rng: Rng,
    faults: Faults,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    number: u64,
    queue: Vec<Queued>,
    /// The last genuine answers that were on their way.
    history: VecDeque<(Vec<u8>, (u32, u64), Nature)>,
}

/// A frame that the link has taken.
struct Queued {
    frame: Vec<u8>,
    tx_ns: u64,
    /// What the flight table says of the only probe in flight of flows that have one slot.
    only: Option<u64>,
}

/// The clock, and the network that runs by it.
pub struct Network {
    now_ns: Cell<u64>,
    inner: RefCell<Inner>,
}

impl Network {
    /// A quiet network at `start_ns`.
    pub fn new(start_ns: u64, kernel: Kernel, truth: Truth, faults: Faults, rng: Rng) -> Self {
        let inner = Inner {
            kernel,
            truth,
            rng,
            faults,
            arrivals: BinaryHeap::new(),
            number: 0,
            queue: Vec::new(),
            history: VecDeque::new(),
        };
        Self {
            now_ns: Cell::new(start_ns),
            inner: RefCell::new(inner),
        }
    }

    /// Reads the clock, which takes its time.
    pub fn read_ns(&self) -> u64 {
        self.advance_to(self.now_ns.get() + READING_NS);
        self.now_ns.get()
    }

    /// The time, without reading the clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    /// Lets time pass, and arrive what is due by then.
    pub fn advance_to(&self, to_ns: u64) {
        let to_ns = to_ns.max(self.now_ns.get());
        self.inner.borrow_mut().arrive(to_ns);
        self.now_ns.set(to_ns);
    }

    /// When the next answer arrives.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        let inner = self.inner.borrow();
        inner.arrivals.peek().map(|Reverse(arrival)| arrival.rx_ns)
    }

    /// Looks at what stands behind the clock, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.borrow_mut())
    }
}

/// What became of frames whose flush the link has refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// They stayed.
    Kept,
    /// They left all the same.
    Sent,
}

impl Inner {
    fn arrive(&mut self, to_ns: u64) {
        while self
            .arrivals
            .peek()
            .is_some_and(|Reverse(arrival)| arrival.rx_ns <= to_ns)
        {
            let Some(Reverse(arrival)) = self.arrivals.pop() else {
                return;
            };
            let room = self.kernel.has_room();
            let verdict = self.kernel.receive(&arrival.frame, arrival.rx_ns);
            self.truth.arrived(
                arrival.probe,
                arrival.nature.0,
                arrival.rx_ns,
                room,
                verdict,
            );
        }
    }

    /// Sends a frame on its way: the far end reads it and answers.
    fn send(&mut self, queued: &Queued, now_ns: u64, refused: Option<Refusal>) {
        let request = match host::read(&queued.frame) {
            Ok(request) => request,
            Err(error) => return self.truth.fail(format!("a bad frame left: {error}")),
        };
        let leaving = Leaving {
            tx_ns: queued.tx_ns,
            flush_ns: now_ns,
            refused: refused.is_some(),
            only: queued.only,
        };
        let probe = self.truth.sent(&queued.frame, &request, leaving);
        let Some(probe) = probe.filter(|_| refused != Some(Refusal::Kept)) else {
            return;
        };
        let way = self.truth.targets[probe.0 as usize].way;
        for (frame, nature) in answer::answers(&request, way, &self.faults, &mut self.rng) {
            if let Nature::Foreign(Some(number)) = nature
                && self.truth.is_number_of_a_probe(probe.0, number)
            {
                continue; // a lucky guess, which nobody can tell
            }
            if self.faults.replay > 0.0 && matches!(nature, Nature::Genuine(_)) {
                self.history.push_back((frame.clone(), probe, nature));
                if self.history.len() > HISTORY_MAX {
                    self.history.pop_front();
                }
            }
            self.deliver(frame, probe, nature, now_ns);
        }
        if self.rng.chance(self.faults.replay) && !self.history.is_empty() {
            let index = self.rng.below(self.history.len() as u64) as usize;
            let (frame, probe, nature) = self.history[index].clone();
            self.deliver(frame, probe, nature, now_ns);
        }
    }

    /// Lets an answer arrive after a delay.
    fn deliver(&mut self, frame: Vec<u8>, probe: (u32, u64), nature: Nature, now_ns: u64) {
        let mut delay_us = self.rng.between(self.faults.delay_us);
        if self.rng.chance(self.faults.spike) {
            delay_us += self.rng.between(self.faults.spike_us);
        }
        let rx_ns = now_ns + delay_us * 1000 + self.rng.below(1000);
        self.number += 1;
        self.arrivals.push(Reverse(Arrival {
            rx_ns,
            number: self.number,
            frame,
            probe,
            nature: SortedNature(nature),
        }));
    }

    fn flush(&mut self, now_ns: u64) -> Result<(), Refused> {
        let refused = self.rng.chance(self.faults.refuse);
        let refused_sent = self.rng.chance(self.faults.refuse_sent);
        let refusal = match (refused, refused_sent) {
            (_, true) => Some(Refusal::Sent),
            (true, false) => Some(Refusal::Kept),
            (false, false) => None,
        };
        let queue = std::mem::take(&mut self.queue);
        let unsent = queue.len();
        for queued in queue {
            self.send(&queued, now_ns, refusal);
        }
        if refused || refused_sent {
            Err(Refused {
                errno: ENOBUFS,
                unsent,
            })
        } else {
            Ok(())
        }
    }
}

/// The link: one frame of memory, and a queue until the flush.
pub struct SimLink<'a> {
    network: &'a Network,
    buffer: Vec<u8>,
}

impl<'a> SimLink<'a> {
    /// A link into this network.
    pub fn new(network: &'a Network) -> Self {
        Self {
            network,
            buffer: vec![0xa5; FRAME_MAX],
        }
    }
}

impl Link for SimLink<'_> {
    fn frame(&mut self) -> Option<&mut [u8]> {
        let no_frame = self.network.with(|inner| {
            let no_frame = inner.rng.chance(inner.faults.no_frame);
            inner.truth.no_frame += u64::from(no_frame);
            no_frame
        });
        (!no_frame).then_some(&mut self.buffer)
    }

    fn submit(&mut self, len: usize) {
        // The engine's last reading of the clock before this was for the send stamp.
        let tx_ns = self.network.now_ns();
        let frame = self.buffer[..len].to_vec();
        self.network.with(|inner| {
            let only = inner.kernel.only_probe(&frame);
            inner.queue.push(Queued { frame, tx_ns, only });
        });
    }

    fn flush(&mut self) -> Result<(), Refused> {
        let now_ns = self.network.now_ns();
        self.network.with(|inner| inner.flush(now_ns))
    }
}
