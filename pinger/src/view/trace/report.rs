//! Traces for programs.

use serde::{Deserialize, Serialize};

use super::paths::{Hop, Path};
use super::words;
use crate::destination::Destination;

/// One traced destination. No field is ever null or absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceReport {
    /// What the user wrote.
    pub destination: String,
    /// Where the probes went.
    pub address: String,
    /// How: `ICMP`, `UDP`, … as in the schema.
    pub protocol: String,
    /// Port of UDP and TCP; zero for ICMP.
    pub port: u16,
    /// How many passes there were.
    pub passes: u64,
    /// Whether the destination itself answered; then it is the last hop.
    pub reached: bool,
    /// The hops from the first on; up to the end of the path, or up to the last that answered.
    pub hops: Vec<HopReport>,
}

/// One hop of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopReport {
    /// Hop limit of the probes.
    pub ttl: u8,
    /// Who answered first; empty if nobody did.
    pub address: String,
    /// All who answered, in the order of their first answers.
    pub addresses: Vec<String>,
    /// Probes whose end is known.
    pub sent: u64,
    /// Those answered, by whomever.
    pub replies: u64,
    /// The others, in percent.
    pub loss: f64,
    /// What ended the path here, in words: `open`, `closed`, or an error; empty otherwise.
    pub said: String,
    /// Round trips, nanoseconds; zero without any.
    pub rtt_ns: HopRttReport,
}

/// Round trips of a hop, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopRttReport {
    /// The latest.
    pub last: u64,
    /// The shortest.
    pub min: u64,
    /// The mean.
    pub avg: u64,
    /// The longest.
    pub max: u64,
}

impl TraceReport {
    pub(super) fn new(destination: &Destination, path: &Path) -> Self {
        Self {
            destination: destination.name.clone(),
            address: destination.address.to_string(),
            protocol: destination.protocol.to_string(),
            port: destination.port,
            passes: path.passes(),
            reached: path.is_reached(),
            hops: path
                .shown()
                .iter()
                .zip(1..)
                .map(|(hop, ttl)| HopReport::new(destination, hop, ttl))
                .collect(),
        }
    }
}

impl HopReport {
    fn new(destination: &Destination, hop: &Hop, ttl: u8) -> Self {
        let addresses: Vec<String> = hop.addresses.iter().map(ToString::to_string).collect();
        Self {
            ttl,
            address: addresses.first().cloned().unwrap_or_default(),
            addresses,
            sent: hop.sent,
            replies: hop.replies,
            loss: hop.loss_percent(),
            said: words(destination, hop.said),
            rtt_ns: HopRttReport {
                last: hop.rtt.last_ns,
                min: hop.rtt.min_ns,
                avg: hop.rtt.avg_ns(),
                max: hop.rtt.max_ns,
            },
        }
    }
}
