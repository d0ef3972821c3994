//! Results of traces, gathered by hop. Pure.

use std::net::{IpAddr, Ipv6Addr};

use pinger_ebpf::layout::AnswerKind;

use crate::destination::Destination;
use crate::result::{Answer, Outcome, ProbeResult};

/// The most addresses kept of one hop: more than that take turns behind no balancer that a path
/// could be drawn through, and a liar shall not fill our memory.
const ADDRESSES_MAX: usize = 16;

/// What the last answer of a hop was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Time exceeded: a router on the way.
    OnTheWay,
    /// The destination's own answer, whatever its kind.
    Reached(Reached),
    /// Another error: no way on from here.
    NoWay {
        /// Its ICMP type.
        icmp_type: u8,
        /// Its ICMP code.
        icmp_code: u8,
    },
}

/// How the destination answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// An echo, a datagram, or an answer whose kind was lost.
    Answer,
    /// TCP: SYN and ACK.
    Open,
    /// TCP: RST; UDP: port unreachable.
    Closed,
}

/// One hop limit of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// Probes that ended by an answer or as lost.
    pub(super) sent: u64,
    /// Those answered, by whomever.
    pub(super) replies: u64,
    /// Round trips, nanoseconds.
    pub(super) rtt: Rtt,
    /// Who answered, in the order of their first answers.
    pub(super) addresses: Vec<IpAddr>,
    /// The last answer; `None` before the first.
    pub(super) said: Option<Said>,
}

/// Round trips of a hop, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rtt {
    pub(super) count: u64,
    pub(super) last_ns: u64,
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    sum_ns: u64,
}

impl Rtt {
    fn record(&mut self, ns: u64) {
        self.min_ns = if self.count == 0 {
            ns
        } else {
            self.min_ns.min(ns)
        };
        self.max_ns = self.max_ns.max(ns);
        self.last_ns = ns;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.count += 1;
    }

    /// The mean; zero without any.
    pub(super) fn avg_ns(&self) -> u64 {
        self.sum_ns.checked_div(self.count).unwrap_or(0)
    }
}

impl Hop {
    /// Probes without an answer, in percent; zero before any ended.
    pub(super) fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            return 0.0;
        }
        (self.sent - self.replies) as f64 * 100.0 / self.sent as f64
    }

    fn answered_by(&mut self, address: IpAddr) {
        let is_known = address != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let has_room = self.addresses.len() < ADDRESSES_MAX;
        if is_known && has_room && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }
}

/// The hops of one destination, as far as they have been probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    hops: Vec<Hop>,
}

impl Path {
    /// Takes a result of this destination's.
    pub(super) fn add(&mut self, destination: &Destination, result: &ProbeResult) {
        let index = usize::from(result.ttl.max(1) - 1);
        if self.hops.len() <= index {
            self.hops.resize(index + 1, Hop::default());
        }
        let hop = &mut self.hops[index];
        match (result.outcome, &result.answer) {
            // What never left tells nothing of the path, and a second answer nothing new.
            (Outcome::SendFailed | Outcome::Duplicate, _) => {}
            (Outcome::Late, answer) => {
                // It stays lost, but who is there is known.
                if let Some(answer) = answer {
                    hop.answered_by(answer.responder);
                    hop.said = said(destination, answer).or(hop.said);
                }
            }
            (Outcome::Reply | Outcome::Error, Some(answer)) => {
                hop.sent += 1;
                hop.replies += 1;
                hop.answered_by(answer.responder);
                hop.said = said(destination, answer).or(hop.said);
                if let Some(rtt_ns) = answer.rtt_ns {
                    hop.rtt.record(rtt_ns);
                }
            }
            (Outcome::Lost | Outcome::Reply | Outcome::Error, _) => hop.sent += 1,
        }
    }

    /// Index of the hop where the path ends: the lowest one whose last answer was not that of a
    /// router on the way. Those beyond it get the same answer.
    pub(super) fn end(&self) -> Option<usize> {
        self.hops
            .iter()
            .position(|hop| !matches!(hop.said, None | Some(Said::OnTheWay)))
    }

    /// Whether the destination itself answered where the path ends.
    pub(super) fn is_reached(&self) -> bool {
        self.end()
            .is_some_and(|end| matches!(self.hops[end].said, Some(Said::Reached(_))))
    }

    /// The hops worth showing: up to the end, or up to the last that ever answered.
    pub(super) fn shown(&self) -> &[Hop] {
        let count = match self.end() {
            Some(end) => end + 1,
            None => self
                .hops
                .iter()
                .rposition(|hop| !hop.addresses.is_empty() || hop.replies > 0)
                .map_or(0, |last| last + 1),
        };
        &self.hops[..count]
    }

    /// How many passes there were.
    pub(super) fn passes(&self) -> u64 {
        self.hops.iter().map(|hop| hop.sent).max().unwrap_or(0)
    }
}

/// What an answer says of the path; `None` if that was lost because the ring buffer was full.
fn said(destination: &Destination, answer: &Answer) -> Option<Said> {
    if answer.is_closed_port(destination.protocol, destination.address) {
        return Some(Said::Reached(Reached::Closed));
    }
    match answer.kind {
        Some(AnswerKind::IcmpError) => {}
        Some(AnswerKind::SynAck) => return Some(Said::Reached(Reached::Open)),
        _ => return Some(Said::Reached(Reached::Answer)),
    }
    let told = answer.hop_limit.is_some() || answer.rtt_ns.is_none();
    let (icmp_type, icmp_code) = (answer.icmp_type, answer.icmp_code);
    // RFC 792 and RFC 4443.
    let time_exceeded = match destination.address {
        IpAddr::V4(_) => 11,
        IpAddr::V6(_) => 3,
    };
    told.then_some(if icmp_type == time_exceeded {
        Said::OnTheWay
    } else {
        Said::NoWay {
            icmp_type,
            icmp_code,
        }
    })
}
