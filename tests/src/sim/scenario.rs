//! A scenario as data: what is probed, what goes wrong, and what must come of it.

use std::collections::BTreeMap;

use pinger::destination::ProtocolName;
use serde::Deserialize;

/// One simulated run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub name: String,
    /// Reproduces all that is random in it.
    pub seed: u64,
    /// When probing stops, milliseconds; probes in flight are awaited.
    pub stop_ms: u64,
    /// Who is probed.
    pub destinations: Vec<Group>,
    /// The engine's settings and those of its surroundings.
    #[serde(default)]
    pub run: Run,
    /// What the network does to packets.
    #[serde(default)]
    pub faults: Faults,
    /// Times during which the sender's thread does not run.
    #[serde(default)]
    pub stalls: Vec<Stall>,
    /// Next hops that come and go. All are there at the start.
    #[serde(default)]
    pub hops: Vec<HopChange>,
    /// Counts at the end: the least and the most.
    #[serde(default)]
    pub expect: BTreeMap<String, [u64; 2]>,
}

/// Destinations of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// Whether by IPv6.
    #[serde(default)]
    pub v6: bool,
    /// Time between two probes to each, microseconds.
    pub interval_us: u64,
    /// How long an answer is awaited, microseconds.
    pub timeout_us: u64,
    /// How it is probed.
    #[serde(default)]
    pub protocol: Transport,
    /// Payload bytes; a SYN has none.
    #[serde(default)]
    pub size: u16,
    /// What the payload repeats, if not the built-in pattern; it is as long as that at least.
    #[serde(default)]
    pub data: Option<String>,
    /// Whether its port is closed.
    #[serde(default)]
    pub closed: bool,
    /// A trace up to this hop limit; zero: none.
    #[serde(default)]
    pub trace: u8,
    /// How many routers are on the way.
    #[serde(default)]
    pub routers: u8,
    /// The next hop they share.
    #[serde(default)]
    pub hop: u32,
}

/// How destinations are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Echo requests.
    #[default]
    Icmp,
    /// Datagrams, to an echo service unless the port is closed.
    Udp,
    /// SYNs.
    Tcp,
}

impl From<Transport> for ProtocolName {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Icmp => Self::Icmp,
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
        }
    }
}

/// The engine's settings and those of its surroundings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Probes to each destination.
    pub count: Option<u64>,
    /// Probes due before this time, milliseconds, and no others.
    pub duration_ms: Option<u64>,
    /// As fast as answers come.
    pub flood: bool,
    /// The most probes in one flush.
    pub batch: usize,
    /// In a flood, the most probes in flight.
    pub in_flight: u64,
    /// Events that the ring buffer holds.
    pub ring: usize,
    /// Notes that the queue to the stats keeper holds.
    pub notes: usize,
    /// How often the stats keeper looks, microseconds.
    pub gather_us: u64,
    /// How late the sender's thread wakes up at most, microseconds.
    pub wake_late_us: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            count: None,
            duration_ms: None,
            flood: false,
            batch: 1,
            in_flight: 256,
            ring: 1 << 16,
            notes: 1 << 16,
            gather_us: 200,
            wake_late_us: 0,
        }
    }
}

/// What the network does to packets; probabilities from 0 to 1, of each request or answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// A request is lost on its way.
    pub loss: f64,
    /// From request to answer, microseconds: the least and the most.
    pub delay_us: [u64; 2],
    /// An answer is delayed by more than that.
    pub spike: f64,
    /// By how much more, microseconds.
    pub spike_us: [u64; 2],
    /// An answer comes a further time, at its own time.
    pub duplicate: f64,
    /// A payload byte behind the cookie is changed.
    pub corrupt: f64,
    /// The payload comes back shorter or longer.
    pub resize: f64,
    /// A byte of the cookie is changed.
    pub corrupt_cookie: f64,
    /// What makes an answer ours is changed in its headers.
    pub corrupt_header: f64,
    /// Somebody answers who has not seen the request.
    pub forge: f64,
    /// A router says by an ICMP error that the probe goes no further.
    pub icmp_error: f64,
    /// An ICMP error quotes an IP header that was changed on the way, as NAT does.
    pub change_quotes: f64,
    /// An earlier answer comes once more, at any time.
    pub replay: f64,
    /// The link refuses a flush.
    pub refuse: f64,
    /// The link refuses a flush whose frames leave nevertheless.
    pub refuse_sent: f64,
    /// The link has no memory for a frame.
    pub no_frame: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            delay_us: [50, 400],
            spike: 0.0,
            spike_us: [0, 0],
            duplicate: 0.0,
            corrupt: 0.0,
            resize: 0.0,
            corrupt_cookie: 0.0,
            corrupt_header: 0.0,
            forge: 0.0,
            icmp_error: 0.0,
            change_quotes: 0.0,
            replay: 0.0,
            refuse: 0.0,
            refuse_sent: 0.0,
            no_frame: 0.0,
        }
    }
}

/// A time during which the sender's thread does not run.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// From when, milliseconds.
    pub at_ms: u64,
    /// For how long, milliseconds.
    pub for_ms: u64,
}

/// A next hop that comes or goes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopChange {
    /// When, milliseconds.
    pub at_ms: u64,
    /// Which.
    pub hop: u32,
    /// Whether it can be reached from then on.
    pub up: bool,
}
