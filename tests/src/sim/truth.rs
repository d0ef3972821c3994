//! What really happened in a run, kept by those who did it: what left when, what arrived when and
//! what it really was. At the end every probe's results are compared with it, one by one.

mod check;
mod expected;
mod resets;
mod sent;

use std::collections::HashMap;
use std::net::IpAddr;

use pinger::destination::Destination;
use pinger::schedule::PASS_SPREAD_NS;
use pinger_ebpf::layout::PROTOCOL_TCP;

use super::answer::{Genuine, Nature, Way};
use super::kernel::Verdict;

pub use sent::Leaving;

/// The most rounds of the 16 bits on the wire that a held-up sender may leave out.
const ROUNDS_MAX: u64 = 16;
/// The least time between two probes of traces.
const TRACE_GAP_NS: u64 = 10_000;

/// What of a destination every probe to it must show.
pub struct Target {
    /// The destination.
    pub destination: Destination,
    /// Identifier on the wire.
    pub identifier: u16,
    /// Its slots.
    pub run: u64,
    /// Its position in its cycle, and the cycle's length; `None` in a flood.
    pub place: Option<(u64, u64)>,
    /// Its next hop.
    pub hop: u32,
    /// The way to it.
    pub way: Way,
    probes: Vec<Probe>,
    /// The answers to its probes, by sequence, as they came.
    arrivals: Vec<(u64, Arrived)>,
    /// RSTs: for which probe, and when.
    resets: Vec<(u64, u64)>,
}

impl Target {
    /// A destination that nothing was sent to yet.
    pub fn new(
        destination: Destination,
        identifier: u16,
        run: u64,
        place: Option<(u64, u64)>,
        hop: u32,
        way: Way,
    ) -> Self {
        Self {
            destination,
            identifier,
            run,
            place,
            hop,
            way,
            probes: Vec::new(),
            arrivals: Vec::new(),
            resets: Vec::new(),
        }
    }

    fn index_of(&self, sequence: u64) -> Option<usize> {
        let found = self
            .probes
            .binary_search_by_key(&sequence, |probe| probe.sequence);
        found.ok()
    }

    /// The probe in the slot of a probe when something arrives at a time: itself, or a newer one.
    fn occupant(&self, sequence: u64, at_ns: u64) -> Option<usize> {
        let sent = self.probes.partition_point(|probe| probe.tx_ns < at_ns);
        let newest = self.probes[..sent].last()?.sequence;
        let rounds = newest.checked_sub(sequence)? / self.run;
        (0..=rounds)
            .rev()
            .find_map(|round| self.index_of(sequence + round * self.run))
    }

    fn is_tcp(&self) -> bool {
        self.destination.protocol.number() == PROTOCOL_TCP
    }
}

/// One probe that the link took.
#[derive(Debug)]
struct Probe {
    sequence: u64,
    tx_ns: u64,
    /// When the link refused it.
    refused_ns: Option<u64>,
    arrivals: Vec<Arrived>,
}

/// One genuine answer.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    rx_ns: u64,
    genuine: Genuine,
    room: bool,
    verdict: Verdict,
}

/// The whole truth.
pub struct Truth {
    /// By flow.
    pub targets: Vec<Target>,
    /// Frames that the link had no memory for.
    pub no_frame: u64,
    /// For each hop, since when it is up or down, in order.
    pub hops: Vec<Vec<(u64, bool)>>,
    /// Polls, from when to when, after which the sender had nothing more to do for a while.
    pub idle: Vec<(u64, u64)>,
    /// Packets of ours that passed because their slot's state kept only 16 bits of the sequence.
    pub unknowable: u64,
    start_ns: u64,
    secret: [u64; 2],
    by_key: HashMap<(IpAddr, u8, u16, u16), u32>,
    /// Answers taken for probes that never left: by flow and sequence.
    strays: Vec<((u32, u64), Arrived)>,
    failure: Option<String>,
}

impl Truth {
    /// Nothing happened yet.
    pub fn new(targets: Vec<Target>, hops: usize, start_ns: u64, secret: [u64; 2]) -> Self {
        let key = |(index, target): (usize, &Target)| {
            let Destination {
                address,
                protocol,
                port,
                ..
            } = target.destination;
            (
                (address, protocol.number(), target.identifier, port),
                index as u32,
            )
        };
        let by_key = targets.iter().enumerate().map(key).collect();
        Self {
            targets,
            no_frame: 0,
            hops: vec![vec![(0, true)]; hops],
            idle: Vec::new(),
            unknowable: 0,
            start_ns,
            secret,
            by_key,
            strays: Vec::new(),
            failure: None,
        }
    }

    /// Keeps the first thing that was wrong.
    pub fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// The first thing that was wrong, if anything was.
    pub fn failure(&self) -> Result<(), String> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// How many RSTs were sent.
    pub fn resets(&self) -> u64 {
        let resets = self.targets.iter().map(|target| target.resets.len());
        resets.sum::<usize>() as u64
    }

    fn is_up(&self, hop: u32, at_ns: u64) -> bool {
        let changes = &self.hops[hop as usize];
        let after = changes.partition_point(|(since_ns, _)| *since_ns <= at_ns);
        changes[after - 1].1
    }

    /// An answer arrived, and the program decided.
    pub fn arrived(
        &mut self,
        (flow, sequence): (u32, u64),
        nature: Nature,
        rx_ns: u64,
        room: bool,
        verdict: Verdict,
    ) {
        match nature {
            Nature::Genuine(genuine) => {
                let arrived = Arrived {
                    rx_ns,
                    genuine,
                    room,
                    verdict,
                };
                let target = &mut self.targets[flow as usize];
                target.arrivals.push((sequence, arrived));
            }
            Nature::Foreign(_) if verdict == Verdict::Passed => {}
            Nature::Foreign(_) => self.fail(format!(
                "{verdict:?}: a foreign packet about probe {sequence} of {flow}"
            )),
        }
    }

    /// Gives each answer to the probe that it must be taken for: its own, unless that is so old
    /// that the bits which came back of its sequence name a newer one of its slot.
    fn attribute(&mut self) -> Result<(), String> {
        for (flow, target) in self.targets.iter_mut().enumerate() {
            for (sequence, arrived) in std::mem::take(&mut target.arrivals) {
                let proof = arrived.genuine.proof;
                let occupant = target.occupant(sequence, arrived.rx_ns);
                let occupant = occupant.map(|index| &target.probes[index]);
                let newest = occupant.map_or(sequence, |probe| probe.sequence);
                let behind = newest.wrapping_sub(sequence) & u64::from(proof.bits);
                let meant = newest - behind;
                let is_other = proof.is_whole && meant != sequence;
                if arrived.verdict == Verdict::Passed {
                    // The slot of an answer not told of has no more than 16 bits of the sequence.
                    let is_untold = |probe: &Probe| {
                        let mut arrivals = probe.arrivals.iter();
                        arrivals.any(|a| a.verdict == Verdict::Untold)
                    };
                    let is_cut = behind > 0 || (proof.is_whole && meant > 0xffff);
                    let may_pass = is_other || (is_cut && occupant.is_some_and(is_untold));
                    if !may_pass {
                        let what = format!("{arrived:?} to probe {sequence} of {flow} passed");
                        return Err(what);
                    }
                    self.unknowable += 1;
                } else if is_other {
                    return Err(format!(
                        "{arrived:?} to probe {sequence} of {flow} was taken for {meant}'s"
                    ));
                } else if let Some(index) = target.index_of(meant) {
                    target.probes[index].arrivals.push(arrived);
                } else {
                    self.strays.push(((flow as u32, meant), arrived));
                }
            }
        }
        Ok(())
    }

    /// When a probe was due, by arithmetic of its own.
    fn due_ns(&self, target: &Target, sequence: u64, tx_ns: u64) -> u64 {
        let interval_ns = u128::from(target.destination.interval_ns);
        let rounds = u64::from(target.destination.ttl.hops().max(1));
        target.place.map_or(tx_ns, |(position, len)| {
            let round_ns = match rounds {
                1 => interval_ns,
                _ => u128::from((PASS_SPREAD_NS / rounds).max(len * TRACE_GAP_NS)),
            };
            let pass_ns = interval_ns.max(u128::from(rounds) * round_ns);
            let turn = u128::from(sequence % rounds) * u128::from(len) + u128::from(position);
            let within_ns = turn * round_ns / u128::from(len);
            self.start_ns + (u128::from(sequence / rounds) * pass_ns + within_ns) as u64
        })
    }
}
