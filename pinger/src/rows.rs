//! Results to rows, cut into chunks.
//!
//! In: [`ProbeResult`]s on the monotonic clock. Out: rows on the wall clock with the keys of source
//! and destination, in the types of ClickHouse's columns. Does no I/O.

use std::net::{IpAddr, Ipv6Addr};

use pinger_ebpf::layout::AnswerKind;
use serde::{Deserialize, Serialize};

use crate::result::{Outcome, ProbeResult};

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
    /// An [`Outcome`] as its number.
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
    /// Time to live or hop limit of the answer on arrival; zero if unknown.
    pub hop_limit: u8,
    /// Whether the payload came back as it was sent; `NULL` where that is not known.
    pub datamatch: Option<bool>,
    /// Time to live or hop limit of the probe.
    pub ttl: u8,
    /// Of a trace: the highest hop limit of its probes; zero otherwise.
    pub hops: u8,
    /// An [`AnswerKind`] as its number; zero where nothing came back, or it is not known.
    pub answer: i8,
    /// Type of service or traffic class of the answer; zero if unknown.
    pub traffic_class: u8,
    /// Offset of the first payload byte that differed; `NULL` where none did, or it is not known.
    pub mismatch_at: Option<u16>,
    /// RFC 3550's jitter of the destination's round trips after this reply, nanoseconds.
    pub jitter: u64,
    /// Whether this reply came with another hop limit than the destination's reply before it.
    pub hop_limit_changed: bool,
}

/// What all rows of a run share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowKeys {
    /// Start of the run, wall clock nanoseconds.
    pub run: u64,
    /// Key of the source.
    pub source: u32,
    /// Site of the source.
    pub rsite: u32,
    /// Host number of the source.
    pub rhost: u32,
    /// Wall clock minus CLOCK_MONOTONIC, nanoseconds; the clock edge refreshes it.
    pub wall_offset_ns: i64,
}

impl RowKeys {
    /// The row of a result; `destination` is the key of the destination it probed.
    pub fn row(&self, destination: u64, result: &ProbeResult) -> ResultRow {
        let answer = result.answer.as_ref();
        ResultRow {
            run: self.run,
            source: self.source,
            destination,
            sequence: result.sequence,
            time_due: self.wall_offset_ns.saturating_add_unsigned(result.due_ns),
            lag: result.tx_ns.saturating_sub(result.due_ns),
            rtt: answer.and_then(|answer| answer.rtt_ns),
            outcome: result.outcome as i8,
            address: answer.map_or(Ipv6Addr::UNSPECIFIED, |answer| mapped(answer.responder)),
            rsite: self.rsite,
            rhost: self.rhost,
            rtype: answer.map_or(0, |answer| answer.icmp_type),
            rcode: answer.map_or(0, |answer| answer.icmp_code),
            rid: result.identifier,
            rseq: result.sequence as u16,
            hop_limit: answer.and_then(|answer| answer.hop_limit).unwrap_or(0),
            datamatch: datamatch(result),
            ttl: result.ttl,
            hops: result.hops,
            answer: answer
                .and_then(|answer| answer.kind)
                .map_or(0, |kind| kind as i8),
            traffic_class: answer.and_then(|answer| answer.traffic_class).unwrap_or(0),
            mismatch_at: answer.and_then(|answer| answer.mismatch_at),
            jitter: result.jitter_ns,
            hop_limit_changed: result.hop_limit_changed,
        }
    }
}

/// TCP brings no payload back, an ICMP error quotes too little to compare, and an answer whose
/// details were lost was not reported: all are unknown, not a match.
fn datamatch(result: &ProbeResult) -> Option<bool> {
    let answer = result.answer.as_ref()?;
    let carries = matches!(answer.kind, Some(AnswerKind::Echo | AnswerKind::Datagram));
    let compared = carries && answer.hop_limit.is_some();
    compared.then_some(answer.mismatch_at.is_none())
}

/// The address as the schema keeps it: IPv4 as `::ffff:a.b.c.d`.
pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The most rows in a chunk: one block of ClickHouse's own size, seven megabytes in memory.
pub const CHUNK_ROWS: usize = 65_536;

/// The longest a row waits for its chunk to fill: with the time to write it down this stays far
/// below the 100 ms of results that a kill may cost.
pub const CHUNK_AGE_NS: u64 = 25_000_000;

/// Rows that came within [`CHUNK_AGE_NS`]; given away whole, so never cloned.
#[derive(Debug)]
pub struct RowChunk {
    /// The rows, never empty, in the order in which they came.
    pub rows: Vec<ResultRow>,
    /// How many of them end a probe; the rest are late or duplicate answers.
    pub probes: u64,
    /// When the first row came, wall clock nanoseconds.
    pub from_ns: i64,
    /// When the last row came, wall clock nanoseconds.
    pub until_ns: i64,
}

/// Cuts the rows of one run into chunks, by count and by age.
#[derive(Debug, Default)]
pub struct Chunker {
    rows: Vec<ResultRow>,
    probes: u64,
    /// When the first and the last of `rows` came, on the clock that `push` is given.
    first_ns: u64,
    last_ns: u64,
}

impl Chunker {
    /// A chunker without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row that came at `now_ns`; returns the chunk that it filled, if it did. The wall
    /// clock is `wall_offset_ns` ahead of that clock.
    pub fn push(&mut self, now_ns: u64, wall_offset_ns: i64, row: ResultRow) -> Option<RowChunk> {
        if self.rows.is_empty() {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
        // Late answers and duplicates end none.
        self.probes += u64::from(row.outcome <= Outcome::SendFailed as i8);
        self.rows.push(row);
        if self.rows.len() >= CHUNK_ROWS {
            self.flush(wall_offset_ns)
        } else {
            self.poll(now_ns, wall_offset_ns)
        }
    }

    /// Returns the chunk whose oldest row has waited [`CHUNK_AGE_NS`], if there is one.
    pub fn poll(&mut self, now_ns: u64, wall_offset_ns: i64) -> Option<RowChunk> {
        if now_ns.saturating_sub(self.first_ns) >= CHUNK_AGE_NS {
            self.flush(wall_offset_ns)
        } else {
            None
        }
    }

    /// Returns whatever has been added since the last chunk, if anything.
    pub fn flush(&mut self, wall_offset_ns: i64) -> Option<RowChunk> {
        if self.rows.is_empty() {
            return None;
        }
        // The next chunk is most likely about as long as this one.
        let next = Vec::with_capacity(self.rows.len());
        Some(RowChunk {
            rows: std::mem::replace(&mut self.rows, next),
            probes: std::mem::take(&mut self.probes),
            from_ns: wall_offset_ns.saturating_add_unsigned(self.first_ns),
            until_ns: wall_offset_ns.saturating_add_unsigned(self.last_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::destination::FlowIndex;
    use crate::result::Answer;

    const KEYS: RowKeys = RowKeys {
        run: 7,
        source: 3,
        rsite: 37,
        rhost: 12,
        wall_offset_ns: 1_000_000_000_000,
    };

    fn answer() -> Answer {
        Answer {
            rtt_ns: Some(1_234_567),
            responder: "192.0.2.4".parse().expect("an address"),
            kind: Some(AnswerKind::Echo),
            icmp_type: 0,
            icmp_code: 0,
            hop_limit: Some(57),
            traffic_class: Some(8),
            mismatch_at: None,
        }
    }

    fn result(outcome: Outcome, answer: Option<Answer>) -> ProbeResult {
        ProbeResult {
            flow: FlowIndex(0),
            sequence: 0x1_0005,
            identifier: 39_821,
            ttl: 64,
            hops: 0,
            due_ns: 5_000,
            tx_ns: 5_250,
            outcome,
            answer,
            jitter_ns: 0,
            hop_limit_changed: false,
        }
    }

    #[test]
    fn a_reply_becomes_a_full_row() {
        let result = ProbeResult {
            jitter_ns: 4_321,
            hop_limit_changed: true,
            ..result(Outcome::Reply, Some(answer()))
        };
        let row = KEYS.row(121, &result);
        let expected = ResultRow {
            run: 7,
            source: 3,
            destination: 121,
            sequence: 0x1_0005,
            time_due: 1_000_000_005_000,
            lag: 250,
            rtt: Some(1_234_567),
            outcome: 1,
            address: "::ffff:192.0.2.4".parse().expect("an address"),
            rsite: 37,
            rhost: 12,
            rtype: 0,
            rcode: 0,
            rid: 39_821,
            rseq: 5,
            hop_limit: 57,
            datamatch: Some(true),
            ttl: 64,
            hops: 0,
            answer: 1,
            traffic_class: 8,
            mismatch_at: None,
            jitter: 4_321,
            hop_limit_changed: true,
        };
        assert_eq!(row, expected);
    }

    #[test]
    fn what_is_not_known_is_not_claimed() {
        let lost = KEYS.row(1, &result(Outcome::Lost, None));
        assert_eq!(
            (lost.rtt, lost.address, lost.hop_limit),
            (None, Ipv6Addr::UNSPECIFIED, 0)
        );

        let stale = Answer {
            rtt_ns: None,
            ..answer()
        };
        assert_eq!(KEYS.row(1, &result(Outcome::Late, Some(stale))).rtt, None);

        let unreported = Answer {
            hop_limit: None,
            ..answer()
        };
        let mismatch = Answer {
            mismatch_at: Some(9),
            ..answer()
        };
        let syn_ack = Answer {
            kind: Some(AnswerKind::SynAck),
            ..answer()
        };
        let untold = Answer {
            kind: None,
            hop_limit: None,
            ..answer()
        };
        let quoted = Answer {
            kind: Some(AnswerKind::IcmpError),
            icmp_type: 3,
            icmp_code: 1,
            ..answer()
        };
        for (outcome, answer, datamatch) in [
            (Outcome::Reply, Some(answer()), Some(true)),
            (Outcome::Reply, Some(mismatch), Some(false)),
            (Outcome::Duplicate, Some(mismatch), Some(false)),
            (Outcome::Reply, Some(unreported), None),
            (Outcome::Error, Some(quoted), None),
            (Outcome::Late, Some(quoted), None),
            (Outcome::Reply, Some(syn_ack), None),
            (Outcome::Reply, Some(untold), None),
            (Outcome::Lost, None, None),
            (Outcome::SendFailed, None, None),
        ] {
            assert_eq!(
                KEYS.row(1, &result(outcome, answer)).datamatch,
                datamatch,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn addresses_of_both_families_fit_one_column() {
        for (address, expected) in [
            ("192.0.2.4", "::ffff:192.0.2.4"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(mapped(address).to_string(), expected);
        }
    }

    #[test]
    fn a_chunk_is_cut_by_count_and_tells_what_it_holds() {
        let mut chunker = Chunker::new();
        let late = KEYS.row(1, &result(Outcome::Late, None));
        let lost = KEYS.row(1, &result(Outcome::Lost, None));
        assert!(chunker.push(10, 100, late).is_none());
        for _ in 2..CHUNK_ROWS {
            assert!(chunker.push(20, 100, lost.clone()).is_none());
        }
        let chunk = chunker.push(30, 100, lost).expect("the chunk is full");
        assert_eq!(
            (chunk.rows.len(), chunk.probes),
            (CHUNK_ROWS, CHUNK_ROWS as u64 - 1)
        );
        assert_eq!((chunk.from_ns, chunk.until_ns), (110, 130));
        assert!(chunker.flush(0).is_none());
    }

    proptest! {
        /// Every row comes out once, in order, and none waits longer than it may.
        #[test]
        fn chunks_lose_nothing(gaps in prop::collection::vec(0..2 * CHUNK_AGE_NS, 1..200)) {
            let mut chunker = Chunker::new();
            let (mut now, mut chunks) = (0, Vec::new());
            for (sequence, gap) in gaps.iter().enumerate() {
                now += gap;
                chunks.extend(chunker.poll(now, 0));
                let mut result = result(Outcome::Lost, None);
                result.sequence = sequence as u64;
                chunks.extend(chunker.push(now, 0, KEYS.row(1, &result)));
            }
            chunks.extend(chunker.flush(0));
            let out: Vec<u64> =
                chunks.iter().flat_map(|chunk| &chunk.rows).map(|row| row.sequence).collect();
            prop_assert_eq!(out, (0..gaps.len() as u64).collect::<Vec<_>>());
            for chunk in &chunks {
                prop_assert!(chunk.until_ns - chunk.from_ns <= CHUNK_AGE_NS as i64);
                prop_assert_eq!(chunk.probes, chunk.rows.len() as u64);
            }
        }
    }
}
