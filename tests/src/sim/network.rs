//! The virtual clock and everything that happens by it: frames leave by the simulated link, the
//! far end answers, answers arrive at the simulated kernel program.
//!
//! Each reading of the clock first lets arrive what is due by then, as if the kernel ran on
//! another CPU; so answers come between any two steps of the engine, and never after a time that
//! the engine has seen.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pinger::link::{Link, Refused};

use super::host::{self, Nature};
use super::kernel::Kernel;
use super::rng::Rng;
use super::scenario::Faults;
use super::truth::Truth;

/// What a reading of the clock takes: as on a real machine, no two readings are the same.
const READING_NS: u64 = 25;
/// Longest frame that the link takes.
const FRAME_MAX: usize = 4096;
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
    queue: Vec<(Vec<u8>, u64)>,
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
    fn send(&mut self, frame: &[u8], tx_ns: u64, now_ns: u64, refused: bool) {
        let request = match host::read(frame) {
            Ok(request) => request,
            Err(error) => return self.truth.fail(format!("a bad frame left: {error}")),
        };
        let Some(probe) = self.truth.sent(frame, &request, tx_ns, refused) else {
            return;
        };
        for (frame, nature) in host::answers(&request, &self.faults, &mut self.rng) {
            let mut delay_us = self.rng.between(self.faults.delay_us);
            if self.rng.chance(self.faults.spike) {
                delay_us += self.rng.between(self.faults.spike_us);
            }
            let rx_ns = now_ns + delay_us * 1000 + self.rng.below(1000);
            self.number += 1;
            let nature = SortedNature(nature);
            let arrival = Arrival {
                rx_ns,
                number: self.number,
                frame,
                probe,
                nature,
            };
            self.arrivals.push(Reverse(arrival));
        }
    }

    fn flush(&mut self, now_ns: u64) -> Result<(), Refused> {
        let refused = self.rng.chance(self.faults.refuse);
        let refused_sent = self.rng.chance(self.faults.refuse_sent);
        let queue = std::mem::take(&mut self.queue);
        let unsent = queue.len();
        for (frame, tx_ns) in queue {
            if refused && !refused_sent {
                match host::read(&frame) {
                    Ok(request) => drop(self.truth.sent(&frame, &request, tx_ns, true)),
                    Err(error) => self.truth.fail(format!("a bad frame was refused: {error}")),
                }
            } else {
                self.send(&frame, tx_ns, now_ns, refused_sent);
            }
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
        self.network.with(|inner| inner.queue.push((frame, tx_ns)));
    }

    fn flush(&mut self) -> Result<(), Refused> {
        let now_ns = self.network.now_ns();
        self.network.with(|inner| inner.flush(now_ns))
    }
}
