//! Results to rows: the bytes that ClickHouse gets.
//!
//! In: [`ProbeResult`](crate::result::ProbeResult)s on the monotonic clock. Out: rows on the wall
//! clock with the keys of source and destination. Does no I/O.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// A row of the `results` table, in the order of its insert columns.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, Serialize, Deserialize)]
pub struct ResultRow {
    /// Which run of the prober: its start, wall clock nanoseconds.
    pub run: u64,
    /// Key of the source.
    pub source: u32,
    /// Key of the destination.
    pub destination: u64,
    /// Sequence of the probe since its flow began.
    pub sequence: u64,
    /// When the probe was due: `DateTime64(9)`, nanoseconds since 1970 UTC.
    pub time_due: i64,
    /// From due to sent, nanoseconds. `time_sent` is an alias made of both.
    pub lag: u64,
    /// Round trip, nanoseconds; `NULL` where nothing came back. `rtime` is an alias.
    pub rtt: Option<u64>,
    /// An [`Outcome`](crate::result::Outcome) as its number.
    pub outcome: i8,
    /// Who answered; `::` where nobody did.
    pub address: Ipv6Addr,
    /// Site of the source when the result came.
    pub rsite: u32,
    /// Host number of the source when the result came.
    pub rhost: u32,
    /// ICMP type of the answer.
    pub rtype: u8,
    /// ICMP code of the answer.
    pub rcode: u8,
    /// Identifier on the wire.
    pub rid: u16,
    /// Sequence on the wire.
    pub rseq: u16,
    /// Time to live or hop limit of the answer on arrival.
    pub hop_limit: u8,
    /// Whether the payload came back as it was sent; `NULL` where nothing came back.
    pub datamatch: Option<bool>,
}

/// Rows on their way to ClickHouse; given away whole, so never cloned.
#[derive(Debug)]
pub struct Batch {
    /// Names this content and no other, for ever: ClickHouse drops a batch whose token it has.
    pub token: String,
    /// The rows, never empty.
    pub rows: Vec<ResultRow>,
}
