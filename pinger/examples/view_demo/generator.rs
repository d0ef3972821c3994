//! Invented runs: snapshots that look like a network's, the same for the same seed.
//!
//! Shared by the demo and the tests of the view; `lib` is whatever the including module calls the
//! library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::lib::stats::{
    AnswerCounts, Counts, DestinationStats, History, Quantiles, Recent, RowCounts, Snapshot,
};

/// Time between two probes to a destination.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Round trips kept per destination for its quantiles.
const KEPT: usize = 64;
/// Round trips kept for those of the run.
const KEPT_TOTAL: usize = 8192;

/// splitmix64: small, and good enough for pictures.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Evenly from 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The newest values, in a ring.
#[derive(Debug, Default)]
struct Kept {
    values: Vec<u64>,
    next: usize,
    count: u64,
    min: u64,
    max: u64,
}

impl Kept {
    fn push(&mut self, value: u64, most: usize) {
        if self.values.len() < most {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
            self.next = (self.next + 1) % most;
        }
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = self.max.max(value);
        self.count += 1;
    }

    fn quantiles(&self) -> Quantiles {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        let at = |permille: usize| match sorted.len() {
            0 => 0,
            count => sorted[(count - 1) * permille / 1000],
        };
        Quantiles {
            count: self.count,
            min_ns: self.min,
            p50_ns: at(500),
            p90_ns: at(900),
            p99_ns: at(990),
            p999_ns: at(999),
            max_ns: self.max,
        }
    }
}

#[derive(Debug)]
struct Invented {
    name: Arc<str>,
    address: IpAddr,
    base_ns: f64,
    jitter: f64,
    loss: f64,
    counts: Counts,
    last_ns: Option<u64>,
    jitter_ns: Option<u64>,
    rtt: Kept,
    recent: History,
}

impl Invented {
    fn new(index: usize, random: &mut Random) -> Self {
        let number = index as u32;
        let v4 = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + number);
        let v6 = Ipv6Addr::from_bits(
            Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 1).to_bits() + u128::from(number),
        );
        let (name, address): (String, IpAddr) = match index % 4 {
            0 => (format!("edge-{index}.example"), v4.into()),
            1 => (v6.to_string(), v6.into()),
            _ => (v4.to_string(), v4.into()),
        };
        let loss = match index % 97 {
            11 => 1.0,
            5 | 42 => 0.3,
            7 | 23 | 60 => 0.02,
            _ => 0.0,
        };
        let slow = if index % 53 == 9 { 6.0 } else { 1.0 };
        Self {
            name: name.into(),
            address,
            base_ns: slow * (8_000.0 + 12_000.0 * random.unit()),
            jitter: 0.05 + random.unit(),
            loss,
            counts: Counts::default(),
            last_ns: None,
            jitter_ns: None,
            rtt: Kept::default(),
            recent: History::default(),
        }
    }

    /// Ends the probe in flight, if any, and sends the next; returns a round trip.
    fn step(&mut self, random: &mut Random) -> Option<u64> {
        let was_open = self.counts.in_flight > 0;
        self.counts.sent += 1;
        self.counts.in_flight = 1;
        if !was_open {
            return None;
        }
        let lost = random.unit() < self.loss;
        let rtt_ns = (!lost).then(|| {
            let spread = -(1.0 - random.unit()).ln() * self.jitter * 0.3;
            (self.base_ns * (1.0 + spread)) as u64
        });
        match rtt_ns {
            Some(rtt_ns) => {
                self.counts.reply += 1;
                if let Some(last_ns) = self.last_ns {
                    // As RFC 3550 section 6.4.1 has it.
                    let jitter_ns = self.jitter_ns.unwrap_or(0);
                    let difference_ns = rtt_ns.abs_diff(last_ns);
                    self.jitter_ns = Some(jitter_ns - jitter_ns / 16 + difference_ns / 16);
                }
                self.last_ns = Some(rtt_ns);
                self.rtt.push(rtt_ns, KEPT);
            }
            None => self.counts.lost += 1,
        }
        self.recent.push(rtt_ns.map_or(Recent::Lost, Recent::Reply));
        rtt_ns
    }
}

/// A run that never was.
#[derive(Debug)]
pub(super) struct Generator {
    random: Random,
    destinations: Vec<Invented>,
    rtt: Kept,
    lag: Kept,
    elapsed: Duration,
}

impl Generator {
    /// A run with so many destinations.
    pub(super) fn new(destinations: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let destinations = (0..destinations)
            .map(|index| Invented::new(index, &mut random))
            .collect();
        Self {
            random,
            destinations,
            rtt: Kept::default(),
            lag: Kept::default(),
            elapsed: Duration::ZERO,
        }
    }

    /// Lets one interval pass.
    pub(super) fn step(&mut self) {
        self.elapsed += INTERVAL;
        for destination in &mut self.destinations {
            if let Some(rtt_ns) = destination.step(&mut self.random) {
                self.rtt.push(rtt_ns, KEPT_TOTAL);
            }
            let lag = -(1.0 - self.random.unit()).ln() * 1_200.0;
            self.lag.push(lag as u64, KEPT_TOTAL);
        }
    }

    /// Mean of the destinations' jitter.
    fn jitter_ns(&self) -> Option<u64> {
        let known = self.destinations.iter().filter_map(|one| one.jitter_ns);
        let (sum_ns, count) = known.fold((0, 0), |(sum, count), ns| (sum + ns, count + 1));
        u64::checked_div(sum_ns, count)
    }

    /// The state now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut totals = Counts::default();
        for destination in &self.destinations {
            let counts = &destination.counts;
            totals.sent += counts.sent;
            totals.reply += counts.reply;
            totals.lost += counts.lost;
            totals.in_flight += counts.in_flight;
        }
        let seconds = self.elapsed.as_secs();
        totals.late = seconds / 3;
        totals.duplicate = seconds / 7;
        let spooled = totals.reply.min(self.destinations.len() as u64 * 4);
        Snapshot {
            elapsed: self.elapsed,
            answers: AnswerCounts {
                echo: totals.reply,
                ..AnswerCounts::default()
            },
            totals,
            rtt: self.rtt.quantiles(),
            jitter_ns: self.jitter_ns(),
            lag: self.lag.quantiles(),
            ring_dropped: 0,
            forged: 0,
            rows: RowCounts {
                written: totals.reply + totals.lost - spooled.min(totals.reply + totals.lost),
                spooled,
                dropped: 0,
            },
            destinations: self.destinations.iter().map(stats).collect(),
        }
    }
}

fn stats(destination: &Invented) -> DestinationStats {
    DestinationStats {
        name: Arc::clone(&destination.name),
        address: destination.address,
        counts: destination.counts,
        last_ns: destination.last_ns,
        error: None,
        closed: false,
        rtt: destination.rtt.quantiles(),
        jitter_ns: destination.jitter_ns,
        recent: destination.recent,
    }
}
