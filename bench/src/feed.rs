//! Results without a network: rows of 1,000 destinations as the gatherer makes them, given to a
//! store as fast as it takes them, or so many a second.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pinger::destination::{Destination, FlowIndex, Protocol};
use pinger::result::{Answer, Outcome, ProbeResult};
use pinger::rows::{Chunker, RowKeys};
use pinger::store::{ChunkSender, Store};
use pinger_ebpf::layout::AnswerKind;

const DESTINATIONS: u64 = 1000;
const INTERVAL_NS: u64 = 100_000_000;
/// Rows that wait while feeding as fast as the store takes them: enough that neither side ever
/// waits for the other, and little enough to stay in memory.
const WAITING_MAX: u64 = 1_000_000;
/// Rows of a chunk while feeding so: those of 25 ms at 700,000 a second.
const CHUNK_ROWS: u64 = 17_500;
/// How often a full store is asked.
const LOOK: Duration = Duration::from_millis(1);

/// How far the destinations are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Round trips of 2 to 200 ms with 1 % jitter, and 1 % loss.
    Far,
    /// Round trips of 4 to 8 µs, and no loss.
    Near,
}

/// What is fed, and where to.
pub(crate) struct Feed {
    destinations: Vec<Destination>,
    keys: RowKeys,
    chunker: Chunker,
    sender: ChunkSender,
    random: Random,
    distance: Distance,
    next: u64,
}

/// The destinations that are fed about.
pub(crate) fn destinations() -> Vec<Destination> {
    (0..DESTINATIONS).map(destination).collect()
}

impl Feed {
    /// Rows of a run of this source; its first probe was due at its start.
    pub(crate) fn new(store: &Store, source: u32, run_ns: u64, distance: Distance) -> Self {
        let keys = RowKeys {
            run: run_ns,
            source,
            rsite: 37,
            rhost: 12,
            wall_offset_ns: run_ns as i64,
        };
        Self {
            destinations: destinations(),
            keys,
            chunker: Chunker::new(),
            sender: store.sender(),
            random: Random(42),
            distance,
            next: 0,
        }
    }

    /// Feeds so many rows as fast as the store takes them, and waits until it has them all.
    pub(crate) fn flat_out(&mut self, rows: u64) {
        for number in 1..=rows {
            // A clock that stands still: chunks are cut by number.
            self.push(0);
            if number.is_multiple_of(CHUNK_ROWS) {
                self.flush();
                self.wait_for(WAITING_MAX);
            }
        }
        self.flush();
        self.wait_for(0);
    }

    /// Feeds so many rows a second for a time, or until `enough`.
    pub(crate) fn steady(
        &mut self,
        rows_per_second: u64,
        time: Duration,
        enough: impl Fn(&Self) -> bool,
    ) {
        let (began, first) = (Instant::now(), self.next);
        while began.elapsed() < time && !enough(self) {
            let elapsed = began.elapsed();
            let due = elapsed.as_micros() as u64 * rows_per_second / 1_000_000;
            while self.next - first < due {
                self.push(elapsed.as_nanos() as u64);
            }
            std::thread::sleep(LOOK);
        }
        self.flush();
    }

    /// Rows made so far.
    pub(crate) fn fed(&self) -> u64 {
        self.next
    }

    /// Rows that the store has not written yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.sender.counts().spooled
    }

    /// Rows that the store has lost.
    pub(crate) fn dropped(&self) -> u64 {
        self.sender.counts().dropped
    }

    /// Gives the rows that have not filled a chunk yet.
    fn flush(&mut self) {
        if let Some(chunk) = self.chunker.flush(self.keys.wall_offset_ns) {
            self.sender.offer(chunk);
        }
    }

    fn wait_for(&self, rows: u64) {
        while self.waiting() > rows {
            std::thread::sleep(LOOK);
        }
    }

    /// Makes the next row, at this moment.
    fn push(&mut self, now_ns: u64) {
        let result = result(self.next, self.distance, &mut self.random);
        let destination = &self.destinations[(self.next % DESTINATIONS) as usize];
        self.next += 1;
        let row = self.keys.row(destination.id, &result);
        let offset_ns = self.keys.wall_offset_ns;
        if let Some(chunk) = self.chunker.push(now_ns, offset_ns, row) {
            self.sender.offer(chunk);
        }
    }
}

/// When a run began whose last of so many rows is due now.
pub(crate) fn begin_ns(now_ns: u64, rows: u64) -> u64 {
    now_ns - rows / DESTINATIONS * INTERVAL_NS
}

fn destination(number: u64) -> Destination {
    let address = IpAddr::from([198, 18, (number / 250) as u8, (number % 250) as u8 + 1]);
    Destination {
        id: 1 << 63 | number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1,
        name: address.to_string(),
        address,
        protocol: Protocol::echo(address),
        interval_ns: INTERVAL_NS,
        timeout_ns: 1_000_000_000,
        size: 56,
        ..Destination::echo(address)
    }
}

fn result(number: u64, distance: Distance, random: &mut Random) -> ProbeResult {
    let (flow, sequence) = (number % DESTINATIONS, number / DESTINATIONS);
    let due_ns = sequence * INTERVAL_NS + flow * (INTERVAL_NS / DESTINATIONS);
    let (rtt_ns, lost) = match distance {
        Distance::Far => (
            2_000_000 + flow * 198_000 + random.below(400_000) * random.below(4),
            random.below(100) == 0,
        ),
        Distance::Near => (4_000 + random.below(4_000), false),
    };
    ProbeResult {
        flow: FlowIndex(flow as u32),
        sequence,
        identifier: (flow.wrapping_mul(40_503) & 0xffff) as u16,
        ttl: 64,
        hops: 0,
        due_ns,
        tx_ns: due_ns + 120 + random.below(160),
        jitter_ns: if lost {
            0
        } else {
            rtt_ns / 64 + random.below(rtt_ns / 256)
        },
        hop_limit_changed: false,
        outcome: if lost { Outcome::Lost } else { Outcome::Reply },
        answer: (!lost).then(|| Answer {
            rtt_ns: Some(rtt_ns),
            responder: destination(flow).address,
            kind: Some(AnswerKind::Echo),
            icmp_type: 0,
            icmp_code: 0,
            hop_limit: Some(64 - (flow % 20) as u8),
            traffic_class: Some(0),
            mismatch_at: None,
        }),
    }
}

/// A small generator (xorshift64*): the same rows every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
