//! What a run is asked to do: settings from the command line and the TOML file, checked.

use std::path::PathBuf;
use std::time::Duration;

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// A ClickHouse of our own, as a child process.
    Embedded,
    /// Nowhere.
    None,
    /// A ClickHouse by URL.
    Url(String),
}

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table that fills the terminal and moves.
    Live,
    /// One line a second.
    Plain,
    /// One JSON object at the end.
    Json,
}

/// This host as the `sources` table knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Key in the `sources` table; also part of each probe's identifier.
    pub id: u32,
    /// Number of the site where the host stands.
    pub location: u32,
    /// Number of the host.
    pub host: u32,
    /// The operator's own id for this prober.
    pub sourceid: u32,
}

/// A destination as asked for: not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    /// Host name or address.
    pub host: String,
    /// Key in the `destinations` table, if the user gave one.
    pub id: Option<u64>,
    /// Time between two probes, nanoseconds.
    pub interval_ns: u64,
    /// How long an answer is awaited, nanoseconds.
    pub timeout_ns: u64,
    /// Payload bytes.
    pub size: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// One run, complete.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Send through this interface instead of the one the route names.
    pub interface: Option<String>,
    /// What to probe.
    pub destinations: Vec<DestinationSpec>,
    /// Stop after this many probes to each destination.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Probe as fast as answers come back, instead of by interval.
    pub flood: bool,
    /// The most probes sent in one go; more raise throughput and blur the send stamps.
    pub batch: u32,
    /// Compare payloads behind the cookie.
    pub verify: bool,
    /// Pin the sender to this CPU instead of the last one.
    pub cpu: Option<usize>,
    /// Who we are.
    pub source: Source,
    /// Where results go.
    pub store: StoreChoice,
    /// Where the embedded store keeps its files.
    pub data_dir: PathBuf,
    /// How the run is shown.
    pub format: Format,
    /// Let the kernel program log.
    pub kernel_log: bool,
}
