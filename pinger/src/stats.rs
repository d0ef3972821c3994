//! The stats keeper: the only owner of all metrics.
//!
//! In: the engine's [`Note`](crate::engine::Note)s and the kernel program's
//! [`Event`](pinger_ebpf::layout::Event)s. Out: one
//! [`ProbeResult`](crate::result::ProbeResult) for each probe's end and each late or duplicate
//! answer, and [`Snapshot`]s of everything. It never
//! waits, and nothing else changes a metric.

mod change;
mod distribution;
mod keeper;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use keeper::{FlowFacts, Outside, StatsKeeper};
use pinger_ebpf::layout::AnswerKind;

use crate::result::Outcome;

/// How many recent round trips a destination keeps for its sparkline.
pub const RECENT: usize = 24;

/// Counts of what was sent and what became of it.
///
/// `sent = reply + error + lost + send_failed + in_flight` holds in every snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes handed to the link.
    pub sent: u64,
    /// Probes answered in time.
    pub reply: u64,
    /// Probes answered by an ICMP error, other than a closed UDP port's own.
    pub error: u64,
    /// Probes without an answer before their timeout.
    pub lost: u64,
    /// Probes that the link refused.
    pub send_failed: u64,
    /// Probes whose end is still open.
    pub in_flight: u64,
    /// Answers after the timeout; not part of the sum.
    pub late: u64,
    /// Further answers to answered probes; not part of the sum.
    pub duplicate: u64,
    /// Answers whose payload was not what had been sent; replies all the same.
    pub mismatch: u64,
    /// Probes that were never sent because the prober itself was a whole interval late.
    pub skipped: u64,
}

impl Counts {
    /// The count of one outcome.
    pub fn of_mut(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Reply => &mut self.reply,
            Outcome::Error => &mut self.error,
            Outcome::Lost => &mut self.lost,
            Outcome::SendFailed => &mut self.send_failed,
            Outcome::Late => &mut self.late,
            Outcome::Duplicate => &mut self.duplicate,
        }
    }

    /// Lost and failed by error, of all that ended, in percent; zero before anything ended.
    pub fn loss_percent(&self) -> f64 {
        let ended = self.reply + self.error + self.lost;
        if ended == 0 {
            0.0
        } else {
            (self.error + self.lost) as f64 * 100.0 / ended as f64
        }
    }
}

/// How many probes ended by which kind of answer.
///
/// Together `reply + error`, but for TCP answers whose kind was lost because the ring buffer was
/// full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerCounts {
    /// Echo replies.
    pub echo: u64,
    /// UDP datagrams.
    pub datagram: u64,
    /// TCP segments with SYN and ACK: open ports.
    pub syn_ack: u64,
    /// TCP segments with RST: closed ports.
    pub reset: u64,
    /// ICMP errors: those of closed UDP ports, which are replies, and this host's own included.
    pub icmp_error: u64,
}

impl AnswerCounts {
    /// The count of one kind.
    pub fn of_mut(&mut self, kind: AnswerKind) -> &mut u64 {
        match kind {
            AnswerKind::Echo => &mut self.echo,
            AnswerKind::Datagram => &mut self.datagram,
            AnswerKind::SynAck => &mut self.syn_ack,
            AnswerKind::Reset => &mut self.reset,
            AnswerKind::IcmpError => &mut self.icmp_error,
        }
    }
}

/// An ICMP error that ended a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastError {
    /// Who sent it; unspecified if that was lost because the ring buffer was full.
    pub responder: IpAddr,
    /// Its type.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
}

/// Order statistics of a distribution of nanoseconds; all zero when `count` is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// The smallest, exact.
    pub min_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// The largest, exact.
    pub max_ns: u64,
}

/// One round in a destination's recent history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recent {
    /// Round trip of a reply, nanoseconds.
    Reply(u64),
    /// The probe was lost, refused or answered by an error.
    Lost,
}

/// The last results of a destination, at most [`RECENT`].
///
/// A million of them are kept, and copied for each snapshot, so they are small and in one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct History {
    /// A ring of round trips, nanoseconds, which are only drawn; below zero where there was none.
    rtts_ns: [f32; RECENT],
    len: u8,
    /// Where the next one goes.
    next: u8,
}

impl History {
    /// Adds the newest; the oldest goes when there are too many.
    pub fn push(&mut self, recent: Recent) {
        self.rtts_ns[usize::from(self.next)] = match recent {
            Recent::Reply(rtt_ns) => rtt_ns as f32,
            Recent::Lost => -1.0,
        };
        self.next = (self.next + 1) % RECENT as u8;
        self.len = (self.len + 1).min(RECENT as u8);
    }

    /// Oldest first; round trips to seven digits.
    pub fn iter(&self) -> impl Iterator<Item = Recent> + '_ {
        let first = usize::from(self.next) + RECENT - usize::from(self.len);
        (first..first + usize::from(self.len)).map(|at| match self.rtts_ns[at % RECENT] {
            rtt_ns if rtt_ns < 0.0 => Recent::Lost,
            rtt_ns => Recent::Reply(rtt_ns as u64),
        })
    }
}

/// One destination as a snapshot shows it.
#[derive(Clone, Debug)]
pub struct DestinationStats {
    /// What the user wrote, and behind a space the service, where there is a port: `tcp/443`.
    pub name: Arc<str>,
    /// The address probed.
    pub address: IpAddr,
    /// Its counts.
    pub counts: Counts,
    /// Round trip of the last reply, nanoseconds.
    pub last_ns: Option<u64>,
    /// The ICMP error that ended the latest probe, if one did.
    pub error: Option<LastError>,
    /// Whether the latest probe's answer was that its port is closed.
    pub closed: bool,
    /// Round trips of the replies of the whole run; errors have none here.
    pub rtt: Quantiles,
    /// How much they vary from one reply to the next, nanoseconds: the estimate of RFC 3550
    /// section 6.4.1; `None` before the second reply.
    pub jitter_ns: Option<u64>,
    /// The last results.
    pub recent: History,
}

impl DestinationStats {
    /// Host and service of the name; the service is empty where there is none.
    pub fn parts(&self) -> (&str, &str) {
        self.name.split_once(' ').unwrap_or((&self.name, ""))
    }

    /// Whether the host was written as the address that it is.
    pub fn is_named_by_address(&self) -> bool {
        self.parts().0.parse() == Ok(self.address)
    }
}

/// What the store did with the rows it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that ClickHouse has acknowledged.
    pub written: u64,
    /// Rows accepted but not acknowledged yet.
    pub spooled: u64,
    /// Rows given up: the writer could not keep up, or ClickHouse refused them.
    pub dropped: u64,
}

/// Everything there is to show at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Since probing began.
    pub elapsed: Duration,
    /// Sums over all destinations.
    pub totals: Counts,
    /// Kinds of answers, over all destinations.
    pub answers: AnswerCounts,
    /// Round trips of all destinations' replies.
    pub rtt: Quantiles,
    /// Mean of the destinations' jitter, nanoseconds; `None` before any has a second reply.
    pub jitter_ns: Option<u64>,
    /// How late the prober sent, after each probe was due.
    pub lag: Quantiles,
    /// Events that found the ring buffer full: their answers count, their details are gone.
    pub ring_dropped: u64,
    /// Packets that looked like ours but were not: wrong sequence or cookie.
    pub forged: u64,
    /// What became of the rows.
    pub rows: RowCounts,
    /// One entry a destination, in the order of the run's list.
    pub destinations: Vec<DestinationStats>,
}
