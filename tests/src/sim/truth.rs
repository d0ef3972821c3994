//! What really happened in a run, kept by those who did it: what left when, what arrived when and
//! what it really was. At the end every probe's results are compared with it, one by one.

mod sent;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use pinger::destination::Destination;
use pinger::result::{Answer, Outcome, ProbeResult};
use pinger::schedule::PASS_SPREAD_NS;
use pinger_ebpf::layout::{AnswerKind, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};

use super::answer::{Genuine, Nature, Way, traffic_class};
use super::kernel::Verdict;

pub use sent::Leaving;

/// The most rounds of the 16 bits on the wire that a held-up sender may leave out.
const ROUNDS_MAX: u64 = 16;
/// Where SYNs follow each other sooner, the sender does not wait to be told of a SYN-ACK.
const TELLING_NS: u64 = 25_000_000;
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

    /// How a probe ends that this answers first, in time.
    fn ending(&self, arrived: &Arrived) -> Outcome {
        let genuine = &arrived.genuine;
        let is_host = genuine.responder == self.destination.address;
        match genuine.kind {
            // The host's own word that a UDP port is closed.
            AnswerKind::IcmpError if is_host && arrived.verdict == Verdict::Told => Outcome::Reply,
            AnswerKind::IcmpError => Outcome::Error,
            _ => Outcome::Reply,
        }
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

/// One result but for what all results of a probe share.
type Told = (Outcome, Option<Answer>);

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

    /// Compares all results with what happened.
    pub fn check(&mut self, results: &[ProbeResult]) -> Result<(), String> {
        self.attribute()?;
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
            self.check_resets(target)
                .map_err(|error| format!("flow {flow}: {error}"))?;
        }
        self.check_strays(&mut by_probe)?;
        self.check_never_sent(by_probe.into_values().flatten())
    }

    /// Takes the results of answers that had to be taken for those of probes that never left.
    fn check_strays(
        &self,
        by_probe: &mut HashMap<(u32, u64), Vec<&ProbeResult>>,
    ) -> Result<(), String> {
        for (probe, arrived) in &self.strays {
            if arrived.verdict != Verdict::Told {
                continue;
            }
            let wanted = (Outcome::Late, Some(answer(arrived, None)));
            let found = by_probe.get_mut(probe).and_then(|results| {
                let is_wanted = |r: &&ProbeResult| (r.outcome, r.answer) == wanted;
                let index = results.iter().position(is_wanted)?;
                Some(results.swap_remove(index))
            });
            if found.is_none() {
                return Err(format!("nothing told of {arrived:?}, taken for {probe:?}"));
            }
        }
        Ok(())
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
        // The link may have had no memory for a RST, of which no result tells.
        let has_tcp = self.targets.iter().any(Target::is_tcp);
        if refused == self.no_frame || (has_tcp && refused < self.no_frame) {
            Ok(())
        } else {
            Err(format!(
                "{refused} probes without a frame, not {}",
                self.no_frame
            ))
        }
    }

    /// What a listener has half open must be closed, and nothing else: by a RST once a SYN-ACK is
    /// told of, or before the next SYN.
    fn check_resets(&self, target: &Target) -> Result<(), String> {
        let is_open = |arrived: &&Arrived| arrived.genuine.kind == AnswerKind::SynAck;
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for &(sequence, at_ns) in &target.resets {
            let newest = target.probes.partition_point(|probe| probe.tx_ns < at_ns);
            let newest = target.probes[..newest].last();
            let ahead = newest.is_none_or(|probe| probe.sequence <= sequence);
            let probe = target.index_of(sequence).map(|index| &target.probes[index]);
            let arrivals = probe.map_or(&[][..], |probe| &probe.arrivals);
            let told = |arrived: &Arrived| {
                let untold = arrived.verdict == Verdict::Untold;
                arrived.rx_ns <= at_ns && (is_open(&arrived) || untold)
            };
            if !ahead && !arrivals.iter().any(told) {
                return Err(format!(
                    "a RST at {at_ns} for {probe:?}, which opened nothing"
                ));
            }
            let count = counts.entry(sequence).or_default();
            *count += 1;
            if *count > 1 + arrivals.iter().filter(is_open).count() {
                return Err(format!("{count} RSTs for {probe:?}"));
            }
        }
        if self.no_frame > 0 || self.hops[target.hop as usize].len() > 1 {
            return Ok(()); // some could not be sent
        }
        self.check_resets_ahead(target)?;
        let last = target.resets.iter().map(|(sequence, _)| *sequence).max();
        let open = target.probes.iter().rev().find(|probe| {
            let told = |a: &Arrived| a.verdict == Verdict::Told;
            probe.arrivals.iter().filter(is_open).any(told)
        });
        match open {
            Some(open) if last.is_none_or(|last| last < open.sequence) => {
                Err(format!("no RST closed what {open:?} has half opened"))
            }
            _ => Ok(()),
        }
    }

    /// No SYN may follow one that a listener has half open, or may have soon: where the next one
    /// follows too soon to be told of a SYN-ACK, or the last one is in flight, a RST must have
    /// left ahead of it.
    fn check_resets_ahead(&self, target: &Target) -> Result<(), String> {
        if !target.is_tcp() {
            return Ok(());
        }
        let first_ns = |probe: &Probe| probe.arrivals.first().map_or(u64::MAX, |a| a.rx_ns);
        let mut resets: HashMap<u64, u64> = HashMap::new();
        for &(sequence, at_ns) in target.resets.iter().rev() {
            resets.insert(sequence, at_ns); // the first one stays
        }
        for pair in target.probes.windows(2) {
            let [last, next] = pair else { continue };
            let due_ns = |probe: &Probe| self.due_ns(target, probe.sequence, probe.tx_ns);
            let is_open = last.arrivals.first().map(|a| a.genuine.kind) == Some(AnswerKind::SynAck);
            let told_late = is_open && due_ns(next) - due_ns(last) < TELLING_NS;
            let end_ns = first_ns(last).min(last.tx_ns + target.destination.timeout_ns);
            let in_flight = last.refused_ns.is_none() && end_ns > next.tx_ns;
            let reset_ns = resets.get(&last.sequence);
            if (told_late || in_flight) && reset_ns.is_none_or(|at_ns| *at_ns > next.tx_ns) {
                return Err(format!("no RST for {last:?} ahead of {next:?}"));
            }
        }
        Ok(())
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
            let stale = result.outcome == Outcome::Late
                && result.answer.is_some_and(|answer| answer.rtt_ns.is_none());
            let wanted_tx_ns = if stale && target.place.is_some() {
                due_ns
            } else {
                probe.tx_ns
            };
            let exact = result.due_ns == due_ns && result.tx_ns == wanted_tx_ns;
            // Of a stale answer in a flood no more is known than when it came.
            let exact = exact || (stale && target.place.is_none());
            let ttl = target.destination.ttl;
            let is_whose = result.identifier == target.identifier
                && (result.ttl, result.hops) == (ttl.of(probe.sequence), ttl.hops());
            if !exact || !is_whose || due_ns > probe.tx_ns {
                return Err(format!("due {due_ns}, sent {}: {result:?}", probe.tx_ns));
            }
        }
        let (endings, why) = self.endings(target, probe);
        let mut found: Vec<Told> = found
            .iter()
            .map(|result| (result.outcome, result.answer))
            .collect();
        found.sort_unstable_by_key(sort_key);
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
        Err(format!("{why}: expected one of {expected:#?}"))
    }

    /// How a probe may have ended, and why.
    fn endings(&self, target: &Target, probe: &Probe) -> (Vec<Outcome>, String) {
        let deadline_ns = probe.tx_ns + target.destination.timeout_ns;
        let first = probe.arrivals.first();
        let Some(first_ns) = first.map(|first| first.rx_ns) else {
            let ending = match probe.refused_ns {
                Some(_) => Outcome::SendFailed,
                None => Outcome::Lost,
            };
            return (vec![ending], "no answer".to_owned());
        };
        // Who was faster can be told unless the sender was held up around the deadline.
        let idle = self
            .idle
            .partition_point(|(from_ns, _)| *from_ns < deadline_ns);
        let idle_ns = self.idle.get(idle).map_or(u64::MAX, |(_, to_ns)| *to_ns);
        let answered = first.map_or(Outcome::Lost, |first| target.ending(first));
        let endings = match probe.refused_ns {
            // An answer to an older probe without a number may come before the link refuses.
            Some(refused_ns) if first_ns > refused_ns => vec![Outcome::SendFailed],
            _ if first_ns <= deadline_ns => vec![answered],
            _ if first_ns > idle_ns => vec![Outcome::Lost],
            _ => vec![answered, Outcome::Lost],
        };
        let why = format!("deadline {deadline_ns}, the sender idle at {idle_ns}");
        (endings, why)
    }
}

/// What results of one probe are put in order by: all that they say.
fn sort_key(told: &Told) -> impl Ord + use<> {
    let (outcome, answer) = told;
    let key = |a: Answer| {
        let numbers = (a.kind.map(|kind| kind as u8), a.icmp_type, a.icmp_code);
        let arrival = (a.hop_limit, a.traffic_class, a.mismatch_at);
        (a.rtt_ns, a.responder, numbers, arrival)
    };
    (*outcome as i8, answer.map(key))
}

/// What must be told of an answer.
fn answer(arrived: &Arrived, rtt_ns: Option<u64>) -> Answer {
    let Genuine {
        kind,
        icmp,
        responder,
        hop_limit,
        mismatch_at,
        ..
    } = arrived.genuine;
    Answer {
        rtt_ns,
        responder,
        kind: Some(kind),
        icmp_type: icmp.0,
        icmp_code: icmp.1,
        hop_limit: Some(hop_limit),
        traffic_class: Some(traffic_class(hop_limit)),
        mismatch_at,
    }
}

/// What must be told of an answer whose details were lost: what else the protocol implies.
fn bare_answer(target: &Target, arrived: &Arrived, rtt_ns: u64) -> Answer {
    let is_error = arrived.genuine.kind == AnswerKind::IcmpError;
    let (kind, icmp_type) = match target.destination.protocol.number() {
        _ if is_error => (Some(AnswerKind::IcmpError), 0),
        PROTOCOL_ICMP => (Some(AnswerKind::Echo), 0),
        PROTOCOL_ICMP6 => (Some(AnswerKind::Echo), 129),
        PROTOCOL_UDP => (Some(AnswerKind::Datagram), 0),
        _ => (None, 0),
    };
    let responder = match target.destination.address {
        _ if is_error => Ipv6Addr::UNSPECIFIED.into(),
        address => address,
    };
    Answer {
        rtt_ns: Some(rtt_ns),
        responder,
        kind,
        icmp_type,
        icmp_code: 0,
        hop_limit: None,
        traffic_class: None,
        mismatch_at: None,
    }
}

/// All results of a probe that ended like this, in order.
fn expected(target: &Target, probe: &Probe, ending: Outcome) -> Result<Vec<Told>, String> {
    let rtt_ns = |arrived: &Arrived| arrived.rx_ns - probe.tx_ns;
    let whole = |arrived: &Arrived| answer(arrived, Some(rtt_ns(arrived)));
    let (end, further, untold) = match (ending.is_answer(), &probe.arrivals[..]) {
        (true, [first, further @ ..]) if first.verdict == Verdict::Told => {
            (Some(whole(first)), further, false)
        }
        (true, [first, further @ ..]) => (
            Some(bare_answer(target, first, rtt_ns(first))),
            further,
            true,
        ),
        (_, arrivals) => (None, arrivals, false),
    };
    let mut list = vec![(ending, end)];
    for arrived in further {
        let occupant = target.occupant(probe.sequence, arrived.rx_ns);
        let stale = occupant.is_some_and(|index| target.probes[index].sequence != probe.sequence);
        if arrived.verdict == Verdict::Untold {
            // A further answer to one not told of is not told of either, until the sender has.
            if arrived.room && (stale || !untold) {
                return Err(format!("not told of, though there was room: {arrived:?}"));
            }
            continue;
        }
        let again = if ending.is_answer() {
            Outcome::Duplicate
        } else {
            Outcome::Late
        };
        list.push(match stale {
            true => (Outcome::Late, Some(answer(arrived, None))),
            false => (again, Some(whole(arrived))),
        });
    }
    list.sort_unstable_by_key(sort_key);
    Ok(list)
}
