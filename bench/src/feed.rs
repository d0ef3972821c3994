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

/// Round trips of destinations far away: their jitter is one of these many nanoseconds, times one
/// of so many factors.
const JITTER_NS: u64 = 400_000;
const JITTER_FACTORS: u64 = 4;
/// Of so many probes one is lost there.
const LOST_OF: u64 = 100;
/// Round trips of near ones differ by as many nanoseconds.
const NEAR_NS: u64 = 4_000;
/// And the lags of all.
const LAG_NS: u64 = 160;

/// How far the destinations are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Round trips of 2 to 200 ms with 1 % jitter, and 1 % loss.
    Far,
    /// Round trips of 4 to 8 µs, and no loss.
    Near,
}

impl Distance {
    /// The least that a row can take whatever the codec, bytes: the entropy of what is drawn for
    /// it, round trip, lag and outcome, to one who knows all else.
    pub(crate) fn floor_bytes(self) -> f64 {
        let lag = (LAG_NS as f64).log2();
        let bits = match self {
            Self::Near => (NEAR_NS as f64).log2() + lag,
            Self::Far => {
                let lost = 1.0 / LOST_OF as f64;
                entropy(&[lost, 1.0 - lost]) + (1.0 - lost) * entropy(&jitter()) + lag
            }
        };
        bits / 8.0
    }
}

/// How likely each jitter of a destination far away is.
fn jitter() -> Vec<f64> {
    let mut likely = vec![0.0; (JITTER_NS * JITTER_FACTORS) as usize];
    let each = 1.0 / (JITTER_NS * JITTER_FACTORS) as f64;
    for factor in 0..JITTER_FACTORS {
        for drawn in 0..JITTER_NS {
            likely[(drawn * factor) as usize] += each;
        }
    }
    likely
}

/// Of a choice between so likely values, bits.
fn entropy(likely: &[f64]) -> f64 {
    let bits = |p: &f64| if *p > 0.0 { -p * p.log2() } else { 0.0 };
    likely.iter().map(bits).sum()
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
            2_000_000 + flow * 198_000 + random.below(JITTER_NS) * random.below(JITTER_FACTORS),
            random.below(LOST_OF) == 0,
        ),
        Distance::Near => (4_000 + random.below(NEAR_NS), false),
    };
    ProbeResult {
        flow: FlowIndex(flow as u32),
        sequence,
        identifier: (flow.wrapping_mul(40_503) & 0xffff) as u16,
        ttl: 64,
        hops: 0,
        due_ns,
        tx_ns: due_ns + 120 + random.below(LAG_NS),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_that_of_the_textbook() {
        assert!((entropy(&[0.5, 0.5]) - 1.0).abs() < 1e-12);
        assert!((entropy(&[0.25; 4]) - 2.0).abs() < 1e-12);
        assert!(entropy(&[1.0, 0.0]).abs() < 1e-12);
        let all: f64 = jitter().iter().sum();
        assert!((all - 1.0).abs() < 1e-9, "{all}");
        // 4,000 round trips and 160 lags, all alike.
        let near = (4_000f64 * 160.0).log2() / 8.0;
        assert!((Distance::Near.floor_bytes() - near).abs() < 1e-12);
        // A quarter is not jittered at all; the others have 18.6 bits and what factor it was.
        let far = Distance::Far.floor_bytes();
        assert!((2.5..3.2).contains(&far), "{far}");
    }
}
