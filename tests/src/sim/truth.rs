//! What really happened in a run, kept by those who did it: what left when, what arrived when and
//! what it really was. At the end every probe's results are compared with it, one by one.

use std::collections::HashMap;

use pinger::destination::Destination;
use pinger::packet;
use pinger::result::{Answer, Outcome, ProbeResult};
use pinger_ebpf::cookie::cookie;
use pinger_ebpf::identity::{Prefix, flow_check};
use pinger_ebpf::layout::Payload;
use zerocopy::IntoBytes;

use super::host::{Nature, Request};
use super::kernel::Verdict;

/// The most rounds of the 16 bits on the wire that a held-up sender may leave out.
const ROUNDS_MAX: u64 = 16;

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
    probes: Vec<Probe>,
}

impl Target {
    /// A destination that nothing was sent to yet.
    pub fn new(
        destination: Destination,
        identifier: u16,
        run: u64,
        place: Option<(u64, u64)>,
        hop: u32,
    ) -> Self {
        Self {
            destination,
            identifier,
            run,
            place,
            hop,
            probes: Vec::new(),
        }
    }

    /// The probe whose slot a probe shares at a time: itself, or a newer one.
    fn occupant(&self, sequence: u64, at_ns: u64) -> Option<&Probe> {
        let sent = self.probes.partition_point(|probe| probe.tx_ns < at_ns);
        let newest = self.probes[..sent].iter().rev();
        newest
            .take_while(|probe| probe.sequence >= sequence)
            .find(|probe| (probe.sequence - sequence).is_multiple_of(self.run))
    }

    /// Whether the program cannot know an answer to this probe: its slot's probe is so much newer
    /// that the 16 bits on the wire have come round, or the slot holds an answer not told of,
    /// with no more than 16 bits of its sequence.
    fn is_unknowable(&self, sequence: u64) -> bool {
        self.occupant(sequence, u64::MAX).is_some_and(|occupant| {
            let apart = occupant.sequence - sequence;
            let untold = occupant
                .arrivals
                .iter()
                .any(|a| a.verdict == Verdict::Untold);
            apart > 0xffff || (untold && (apart > 0 || sequence > 0xffff))
        })
    }
}

/// One probe that the link took.
#[derive(Debug)]
struct Probe {
    sequence: u64,
    tx_ns: u64,
    refused: bool,
    arrivals: Vec<Arrived>,
}

/// One genuine answer.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    rx_ns: u64,
    mismatch_at: Option<u16>,
    hop_limit: u8,
    room: bool,
    verdict: Verdict,
}

/// One result but for what all results of a probe share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    outcome: i8,
    rtt_ns: Option<u64>,
    hop_limit: Option<u8>,
    mismatch_at: Option<u16>,
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
    pattern: Payload,
    by_key: HashMap<(std::net::IpAddr, u16), u32>,
    failure: Option<String>,
}

impl Truth {
    /// Nothing happened yet.
    pub fn new(targets: Vec<Target>, hops: usize, start_ns: u64, secret: [u64; 2]) -> Self {
        let key = |(index, target): (usize, &Target)| {
            (
                (target.destination.address, target.identifier),
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
            pattern: packet::pattern(),
            by_key,
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

    fn is_up(&self, hop: u32, at_ns: u64) -> bool {
        let changes = &self.hops[hop as usize];
        let after = changes.partition_point(|(since_ns, _)| *since_ns <= at_ns);
        changes[after - 1].1
    }

    /// A frame left, or was refused. Returns whose it is, by flow and sequence.
    pub fn sent(
        &mut self,
        frame: &[u8],
        request: &Request,
        tx_ns: u64,
        refused: bool,
    ) -> Option<(u32, u64)> {
        let Some(&flow) = self.by_key.get(&(request.to, request.identifier)) else {
            self.fail(format!("a frame to nobody left: {request:?}"));
            return None;
        };
        let hop = self.targets[flow as usize].hop;
        let is_up = self.is_up(hop, tx_ns);
        let target = &mut self.targets[flow as usize];
        // The sequence is the next one whose low bits are those on the wire and whose cookie is
        // right: a sender that was held up may have left a whole round of 65,536 out.
        let from = target.probes.last().map_or(0, |probe| probe.sequence + 1);
        let next = from + u64::from(request.sequence.wrapping_sub(from as u16));
        let mut wanted = self.pattern.as_bytes()[..target.destination.size.into()].to_vec();
        let mut sequence = next;
        if let Some(first) = wanted.first_chunk_mut() {
            let bytes = |round: &u64| cookie(self.secret, flow, next + (round << 16)).to_le_bytes();
            let round = (0..ROUNDS_MAX).find(|round| request.payload.starts_with(&bytes(round)));
            sequence += round.unwrap_or(0) << 16;
            *first = bytes(&round.unwrap_or(0));
        }
        let protocol = target.destination.protocol;
        let balance_at = Prefix::of(protocol.number(), wanted.len()).balance_at;
        let mut is_balanced = true;
        if let Some(at) = balance_at.filter(|_| request.payload.len() == wanted.len()) {
            // Whatever makes the checksum come out.
            wanted[at..at + 2].copy_from_slice(&request.payload[at..at + 2]);
            let checksum_at = frame.len() - request.payload.len() - 6;
            let check = flow_check(self.secret, flow).to_be_bytes();
            is_balanced = frame[checksum_at..checksum_at + 2] == check;
        }
        let right = request.payload == wanted
            && is_balanced
            && request.hop_limit == target.destination.ttl.of(request.sequence.into())
            && frame[..6] == super::mac(hop)
            && is_up;
        target.probes.push(Probe {
            sequence,
            tx_ns,
            refused,
            arrivals: Vec::new(),
        });
        if !right {
            self.fail(format!(
                "probe {sequence} of flow {flow} is not as it should be: {request:?}"
            ));
        }
        Some((flow, sequence))
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
        let Nature::Genuine {
            mismatch_at,
            hop_limit,
        } = nature
        else {
            if verdict != Verdict::Passed {
                self.fail(format!(
                    "{verdict:?}: a foreign packet about probe {sequence} of {flow}"
                ));
            }
            return;
        };
        let target = &mut self.targets[flow as usize];
        if verdict == Verdict::Passed {
            if !target.is_unknowable(sequence) {
                self.fail(format!(
                    "the answer to probe {sequence} of flow {flow} passed"
                ));
            }
            self.unknowable += 1;
            return;
        }
        let index = target
            .probes
            .binary_search_by_key(&sequence, |probe| probe.sequence);
        let Some(probe) = index.ok().and_then(|index| target.probes.get_mut(index)) else {
            return self.fail(format!(
                "an answer to probe {sequence} of {flow}, which nobody sent"
            ));
        };
        probe.arrivals.push(Arrived {
            rx_ns,
            mismatch_at,
            hop_limit,
            room,
            verdict,
        });
    }

    /// When a probe was due, by arithmetic of its own.
    fn due_ns(&self, target: &Target, sequence: u64, tx_ns: u64) -> u64 {
        target.place.map_or(tx_ns, |(position, len)| {
            let turn = u128::from(sequence) * u128::from(len) + u128::from(position);
            let interval_ns = u128::from(target.destination.interval_ns);
            self.start_ns + (turn * interval_ns / u128::from(len)) as u64
        })
    }

    /// Compares all results with what happened.
    pub fn check(&self, results: &[ProbeResult]) -> Result<(), String> {
        let mut by_probe: HashMap<(u32, u64), Vec<&ProbeResult>> = HashMap::new();
        for result in results {
            by_probe
                .entry((result.flow.0, result.sequence))
                .or_default()
                .push(result);
        }
        for (flow, target) in self.targets.iter().enumerate() {
            for (index, probe) in target.probes.iter().enumerate() {
                let found = by_probe
                    .remove(&(flow as u32, probe.sequence))
                    .unwrap_or_default();
                self.check_probe(target, index, &found).map_err(|error| {
                    format!("flow {flow}, {probe:?}:\n{error}\nresults: {found:#?}")
                })?;
            }
        }
        self.check_never_sent(by_probe.into_values().flatten())
    }

    /// Probes that the link never saw: it had no memory, or there was no way to the destination.
    fn check_never_sent<'a>(
        &self,
        results: impl Iterator<Item = &'a ProbeResult>,
    ) -> Result<(), String> {
        let mut refused = 0;
        for result in results {
            let target = &self.targets[result.flow.0 as usize];
            let is_up = self.is_up(target.hop, result.tx_ns);
            let right = match result.outcome {
                Outcome::SendFailed => {
                    refused += 1;
                    is_up && result.answer.is_none()
                }
                Outcome::Error => {
                    !is_up && result.answer.is_some_and(|answer| answer.rtt_ns.is_none())
                }
                _ => false,
            };
            if !right || result.due_ns != self.due_ns(target, result.sequence, result.tx_ns) {
                return Err(format!("a result of a probe that never left: {result:?}"));
            }
        }
        if refused == self.no_frame {
            Ok(())
        } else {
            Err(format!(
                "{refused} probes without a frame, not {}",
                self.no_frame
            ))
        }
    }

    fn check_probe(
        &self,
        target: &Target,
        index: usize,
        found: &[&ProbeResult],
    ) -> Result<(), String> {
        let probe = &target.probes[index];
        let due_ns = self.due_ns(target, probe.sequence, probe.tx_ns);
        for result in found {
            let stale = result.answer.is_some_and(|answer| answer.rtt_ns.is_none());
            let wanted_tx_ns = if stale && target.place.is_some() {
                due_ns
            } else {
                probe.tx_ns
            };
            let exact = result.due_ns == due_ns && result.tx_ns == wanted_tx_ns;
            // Of a stale answer in a flood no more is known than when it came.
            let exact = exact || (stale && target.place.is_none());
            if !exact || result.identifier != target.identifier || due_ns > probe.tx_ns {
                return Err(format!("due {due_ns}, sent {}: {result:?}", probe.tx_ns));
            }
        }
        let deadline_ns = probe.tx_ns + target.destination.timeout_ns;
        let first = probe.arrivals.first();
        // Who was faster can be told unless the sender was held up around the deadline.
        let in_time = first.is_some_and(|first| first.rx_ns <= deadline_ns);
        let idle = self
            .idle
            .partition_point(|(from_ns, _)| *from_ns < deadline_ns);
        let idle_ns = self.idle.get(idle).map_or(u64::MAX, |(_, to_ns)| *to_ns);
        let too_late = first.is_none_or(|first| first.rx_ns > idle_ns);
        let endings: &[Outcome] = match (probe.refused, in_time, too_late) {
            (true, ..) => &[Outcome::SendFailed],
            (_, true, _) => &[Outcome::Reply],
            (_, _, true) => &[Outcome::Lost],
            _ => &[Outcome::Reply, Outcome::Lost],
        };
        let mut found: Vec<_> = found
            .iter()
            .map(|result| told(target, result))
            .collect::<Result<_, _>>()?;
        found.sort_unstable();
        let expected: Vec<_> = endings
            .iter()
            .map(|ending| expected(target, probe, *ending))
            .collect();
        if expected
            .iter()
            .any(|expected| expected.as_ref() == Ok(&found))
        {
            return Ok(());
        }
        Err(format!(
            "in time {in_time}, the sender idle at {idle_ns}: expected one of {expected:#?}"
        ))
    }
}

/// What a result says, once what it must say is checked.
fn told(target: &Target, result: &ProbeResult) -> Result<Told, String> {
    let icmp_type = if target.destination.address.is_ipv4() {
        0
    } else {
        129
    };
    let is_right = |answer: Answer| {
        answer.responder == target.destination.address
            && (answer.icmp_type, answer.icmp_code) == (icmp_type, 0)
    };
    if !result.answer.is_none_or(is_right) {
        return Err(format!("the answer is wrong: {result:?}"));
    }
    Ok(Told {
        outcome: result.outcome as i8,
        rtt_ns: result.answer.and_then(|answer| answer.rtt_ns),
        hop_limit: result.answer.and_then(|answer| answer.hop_limit),
        mismatch_at: result.answer.and_then(|answer| answer.mismatch_at),
    })
}

/// All results of a probe that ended like this, in order.
fn expected(target: &Target, probe: &Probe, ending: Outcome) -> Result<Vec<Told>, String> {
    let bare = |outcome: Outcome, rtt_ns| Told {
        outcome: outcome as i8,
        rtt_ns,
        hop_limit: None,
        mismatch_at: None,
    };
    let whole = |outcome: Outcome, arrived: &Arrived, rtt_ns| Told {
        outcome: outcome as i8,
        rtt_ns,
        hop_limit: Some(arrived.hop_limit),
        mismatch_at: arrived.mismatch_at,
    };
    let rtt_ns = |arrived: &Arrived| Some(arrived.rx_ns - probe.tx_ns);
    let (end, further, untold) = match (ending, &probe.arrivals[..]) {
        (Outcome::Reply, [first, further @ ..]) => match first.verdict {
            Verdict::Told => (whole(ending, first, rtt_ns(first)), further, false),
            _ => (bare(ending, rtt_ns(first)), further, true),
        },
        (_, arrivals) => (bare(ending, None), arrivals, false),
    };
    let mut list = vec![end];
    for arrived in further {
        let occupant = target.occupant(probe.sequence, arrived.rx_ns);
        let stale = occupant.is_some_and(|occupant| occupant.sequence != probe.sequence);
        if arrived.verdict == Verdict::Untold {
            // A further answer to one not told of is not told of either, until the sender has.
            if arrived.room && (stale || !untold) {
                return Err(format!("not told of, though there was room: {arrived:?}"));
            }
            continue;
        }
        let again = if ending == Outcome::Reply {
            Outcome::Duplicate
        } else {
            Outcome::Late
        };
        list.push(match stale {
            true => whole(Outcome::Late, arrived, None),
            false => whole(again, arrived, rtt_ns(arrived)),
        });
    }
    list.sort_unstable();
    Ok(list)
}
