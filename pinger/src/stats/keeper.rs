//! The keeper itself: notes and events in, metrics and results out.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use pinger_ebpf::layout::{AnswerKind, Event, EventKind, PAYLOAD_MATCHES};
use pinger_ebpf::parse::{ICMP_ECHO_REPLY, ICMP6_ECHO_REPLY};

use super::change::{HopLimit, Jitter, MeanJitter};
use super::distribution::{Fine, Sparse};
use super::{
    AnswerCounts, Counts, DestinationStats, History, LastError, Recent, RowCounts, Snapshot,
};
use crate::destination::{Destination, FlowIndex, Protocol, Ttl};
use crate::engine::{End, Note};
use crate::result::{Answer, Outcome, ProbeResult};
use crate::schedule::Schedule;

/// What the keeper must know of a flow besides its destination.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts {
    /// Identifier on the wire.
    pub identifier: u16,
    /// The address that the flow is probed from.
    pub source: IpAddr,
}

/// One destination's metrics.
struct Metrics {
    name: Arc<str>,
    address: IpAddr,
    protocol: Protocol,
    ttl: Ttl,
    facts: FlowFacts,
    counts: Counts,
    last_ns: Option<u64>,
    error: Option<LastError>,
    closed: bool,
    rtt: Sparse,
    jitter: Jitter,
    hop_limit: HopLimit,
    recent: History,
}

impl Metrics {
    fn new(destination: &Destination, facts: FlowFacts) -> Self {
        Self {
            name: name_with_service(destination).into(),
            address: destination.address,
            protocol: destination.protocol,
            ttl: destination.ttl,
            facts,
            counts: Counts::default(),
            last_ns: None,
            error: None,
            closed: false,
            rtt: Sparse::default(),
            jitter: Jitter::default(),
            hop_limit: HopLimit::default(),
            recent: History::default(),
        }
    }

    fn jitter_ns(&self) -> Option<u64> {
        (self.rtt.count() > 1).then(|| self.jitter.rounded_ns())
    }

    /// An answer of which only the round trip survived, because the ring buffer was full: what
    /// else the protocol implies is known, and no more. An error of which nobody knows who sent it
    /// is no destination's reply, even to UDP.
    fn bare_answer(&self, rtt_ns: u64, error: bool) -> Answer {
        let kind = match self.protocol {
            _ if error => Some(AnswerKind::IcmpError),
            Protocol::Icmp | Protocol::Icmp6 => Some(AnswerKind::Echo),
            Protocol::Udp | Protocol::Udp6 => Some(AnswerKind::Datagram),
            Protocol::Tcp | Protocol::Tcp6 => None,
        };
        let icmp_type = match (kind, self.address) {
            (Some(AnswerKind::Echo), IpAddr::V4(_)) => ICMP_ECHO_REPLY,
            (Some(AnswerKind::Echo), IpAddr::V6(_)) => ICMP6_ECHO_REPLY,
            _ => 0,
        };
        let responder = match self.address {
            // Any router may have sent it.
            _ if error => Ipv6Addr::UNSPECIFIED.into(),
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

    /// Whether the destination itself says that the port is closed: that is its reply.
    fn is_closed(&self, answer: &Answer) -> bool {
        answer.is_closed_port(self.protocol, self.address)
    }
}

/// See the description of [`stats`](crate::stats).
pub struct StatsKeeper {
    schedule: Arc<Schedule>,
    flows: Vec<Metrics>,
    totals: Counts,
    answers: AnswerCounts,
    rtt: Fine,
    jitter: MeanJitter,
    lag: Fine,
}

impl StatsKeeper {
    /// A keeper for these destinations, in the order of their flows.
    pub fn new(destinations: &[Destination], facts: &[FlowFacts], schedule: Arc<Schedule>) -> Self {
        let flows = destinations
            .iter()
            .zip(facts)
            .map(|(d, f)| Metrics::new(d, *f))
            .collect();
        Self {
            schedule,
            flows,
            totals: Counts::default(),
            answers: AnswerCounts::default(),
            rtt: Fine::new(),
            jitter: MeanJitter::default(),
            lag: Fine::new(),
        }
    }

    /// Sets when the first turn of every cycle is due, before any result is made.
    pub fn start_at(&mut self, start_ns: u64) {
        Arc::make_mut(&mut self.schedule).start_at(start_ns);
    }

    /// Sums over all destinations.
    pub fn totals(&self) -> &Counts {
        &self.totals
    }

    /// The counts of one destination.
    ///
    /// # Panics
    ///
    /// If there is no such flow.
    pub fn counts_of(&self, flow: FlowIndex) -> &Counts {
        &self.flows[flow.0 as usize].counts
    }

    /// Takes a note of the engine's. Returns the result if the note ends a probe.
    pub fn note(&mut self, note: Note) -> Option<ProbeResult> {
        match note {
            Note::Sent { flow } => {
                self.count(flow, |counts| {
                    counts.sent += 1;
                    counts.in_flight += 1;
                });
                None
            }
            Note::Skipped { turns } => {
                self.totals.skipped += turns;
                None
            }
            Note::Ended {
                flow,
                sequence,
                due_ns,
                tx_ns,
                end,
            } => {
                let metrics = &self.flows[flow.0 as usize];
                let (outcome, answer) = match end {
                    End::Lost => (Outcome::Lost, None),
                    End::Refused => (Outcome::SendFailed, None),
                    End::Unreachable => (Outcome::Error, Some(unreachable(metrics.facts.source))),
                    End::Unreported { rtt_ns, error } => {
                        let outcome = if error {
                            Outcome::Error
                        } else {
                            Outcome::Reply
                        };
                        (outcome, Some(metrics.bare_answer(rtt_ns, error)))
                    }
                };
                let identifier = metrics.facts.identifier;
                let mut result = ProbeResult {
                    flow,
                    sequence,
                    identifier,
                    ttl: metrics.ttl.of(sequence),
                    hops: metrics.ttl.hops(),
                    due_ns,
                    tx_ns,
                    outcome,
                    answer,
                    jitter_ns: 0,
                    hop_limit_changed: false,
                };
                self.keep(&mut result);
                Some(result)
            }
        }
    }

    /// Takes an event of the kernel program's. `None` if it names no flow of this run.
    pub fn event(&mut self, event: &Event) -> Option<ProbeResult> {
        let flow = FlowIndex(event.flow);
        let kind = AnswerKind::from_u8(event.answer)?;
        let event_kind = EventKind::from_u8(event.kind)?;
        let metrics = self.flows.get(event.flow as usize)?;
        let ttl = metrics.ttl;
        let known = event.tx_ns > 0;
        // Of a stale answer in a flood, only the time when it came is known.
        let known_ns = if known { event.tx_ns } else { event.rx_ns };
        let due_ns = self
            .schedule
            .due_ns(flow, event.sequence)
            .unwrap_or(known_ns);
        let answer = Answer {
            rtt_ns: known.then(|| event.rx_ns.saturating_sub(event.tx_ns)),
            responder: Ipv6Addr::from(event.responder).to_canonical(),
            kind: Some(kind),
            icmp_type: event.icmp_type,
            icmp_code: event.icmp_code,
            hop_limit: Some(event.hop_limit),
            traffic_class: Some(event.traffic_class),
            mismatch_at: (event.mismatch_at != PAYLOAD_MATCHES).then_some(event.mismatch_at),
        };
        let outcome = match event_kind {
            EventKind::Reply if kind == AnswerKind::IcmpError && !metrics.is_closed(&answer) => {
                Outcome::Error
            }
            EventKind::Reply => Outcome::Reply,
            EventKind::Duplicate => Outcome::Duplicate,
            EventKind::Late | EventKind::Stale => Outcome::Late,
        };
        let mut result = ProbeResult {
            flow,
            sequence: event.sequence,
            identifier: event.identifier,
            ttl: ttl.of(event.sequence),
            hops: ttl.hops(),
            due_ns,
            tx_ns: if known { event.tx_ns } else { due_ns },
            outcome,
            answer: Some(answer),
            jitter_ns: 0,
            hop_limit_changed: false,
        };
        self.keep(&mut result);
        Some(result)
    }

    /// Counts a result, and tells it how it differs from the reply before it.
    fn keep(&mut self, result: &mut ProbeResult) {
        let mismatch = result
            .answer
            .is_some_and(|answer| answer.mismatch_at.is_some());
        let ends = !matches!(result.outcome, Outcome::Late | Outcome::Duplicate);
        self.count(result.flow, |counts| {
            *counts.of_mut(result.outcome) += 1;
            counts.mismatch += u64::from(mismatch && result.outcome == Outcome::Reply);
            counts.in_flight -= u64::from(ends);
        });
        if !ends {
            return;
        }
        self.lag.record(result.tx_ns.saturating_sub(result.due_ns));
        if let Some(kind) = result.answer.and_then(|answer| answer.kind) {
            *self.answers.of_mut(kind) += 1;
        }
        let metrics = &mut self.flows[result.flow.0 as usize];
        metrics.error = last_error(result);
        metrics.closed = result
            .answer
            .is_some_and(|answer| metrics.is_closed(&answer));
        match (
            result.outcome,
            result.answer.and_then(|answer| answer.rtt_ns),
        ) {
            (Outcome::Reply, Some(rtt_ns)) => {
                let hop_limit = result.answer.and_then(|answer| answer.hop_limit);
                let before_ns = metrics.jitter_ns();
                result.jitter_ns = metrics.jitter.add(metrics.last_ns, rtt_ns);
                result.hop_limit_changed = metrics.hop_limit.changes_to(hop_limit);
                self.rtt.record(rtt_ns);
                metrics.last_ns = Some(rtt_ns);
                metrics.rtt.record(rtt_ns);
                if let Some(jitter_ns) = metrics.jitter_ns() {
                    self.jitter.change(before_ns, jitter_ns);
                }
                metrics.recent.push(Recent::Reply(rtt_ns));
            }
            _ => metrics.recent.push(Recent::Lost),
        }
    }

    fn count(&mut self, flow: FlowIndex, change: impl Fn(&mut Counts)) {
        change(&mut self.totals);
        change(&mut self.flows[flow.0 as usize].counts);
    }

    /// Everything there is to show. `destinations` says whether to look at each of them too,
    /// which takes a few microseconds each.
    pub fn snapshot(&self, outside: &Outside, destinations: bool) -> Snapshot {
        let flows: &[Metrics] = if destinations { &self.flows } else { &[] };
        Snapshot {
            elapsed: outside.elapsed,
            totals: self.totals,
            answers: self.answers,
            rtt: self.rtt.quantiles(),
            jitter_ns: self.jitter.ns(),
            lag: self.lag.quantiles(),
            ring_dropped: outside.ring_dropped,
            forged: outside.forged,
            rows: outside.rows,
            destinations: flows
                .iter()
                .map(|metrics| DestinationStats {
                    name: Arc::clone(&metrics.name),
                    address: metrics.address,
                    counts: metrics.counts,
                    last_ns: metrics.last_ns,
                    error: metrics.error,
                    closed: metrics.closed,
                    rtt: metrics.rtt.quantiles(),
                    jitter_ns: metrics.jitter_ns(),
                    recent: metrics.recent,
                })
                .collect(),
        }
    }
}

/// What the user wrote, and the service where there is a port: one host may be probed at several.
fn name_with_service(destination: &Destination) -> String {
    let Destination { name, port, .. } = destination;
    match destination.protocol {
        Protocol::Icmp | Protocol::Icmp6 => name.clone(),
        Protocol::Tcp | Protocol::Tcp6 => format!("{name} tcp/{port}"),
        Protocol::Udp | Protocol::Udp6 => format!("{name} udp/{port}"),
    }
}

/// The ICMP error by which a probe ended, if it did.
fn last_error(result: &ProbeResult) -> Option<LastError> {
    let answer = result.answer.filter(|_| result.outcome == Outcome::Error)?;
    Some(LastError {
        responder: answer.responder,
        icmp_type: answer.icmp_type,
        icmp_code: answer.icmp_code,
    })
}

/// What a snapshot shows that others count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outside {
    /// Since probing began.
    pub elapsed: Duration,
    /// See [`Snapshot::ring_dropped`].
    pub ring_dropped: u64,
    /// See [`Snapshot::forged`].
    pub forged: u64,
    /// See [`Snapshot::rows`].
    pub rows: RowCounts,
}

/// What this host says of a destination it has no way to: as the kernel's own ICMP error would,
/// RFC 792 (host unreachable) and RFC 4443 section 3.1 (address unreachable).
fn unreachable(source: IpAddr) -> Answer {
    let (icmp_type, icmp_code) = if source.is_ipv4() { (3, 1) } else { (1, 3) };
    Answer {
        rtt_ns: None,
        responder: source,
        kind: Some(AnswerKind::IcmpError),
        icmp_type,
        icmp_code,
        hop_limit: None,
        traffic_class: None,
        mismatch_at: None,
    }
}

#[cfg(test)]
mod tests;
