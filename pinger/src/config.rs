//! What a run is asked to do: settings from the command line and the TOML file, checked.
//!
//! In: [`Settings`] of the command line, the texts of the config file and of a destination list.
//! Out: [`RunOptions`], complete and within their limits, or all [`Mistakes`] found. Reads no
//! file, looks no name up: that is done before and after.
//!
//! One rule decides between sources: the command line beats the config file, for every
//! destination; within the file a destination's own setting beats the general one; what nobody
//! sets has the default of [`value`]. Protocol and port in a destination's own word, a URL, are
//! part of what it is, so nothing overrides them.
//!
//! [`Mistakes`]: crate::mistake::Mistakes

mod assemble;
mod bytes;
mod duration;
mod file;
mod lines;
mod moment;
pub mod spool;
pub mod value;

use std::collections::HashMap;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::destination::{self, ProtocolName};

pub use assemble::{assemble, store_options};
pub use bytes::show as show_bytes;
pub use duration::show as show_duration;
pub use file::settings_of_file;
pub use lines::destinations_of_list;
pub use moment::Moment;
pub(crate) use moment::moment;
pub use spool::{DropPolicy, SpoolOptions, SpoolPlace, SyncPolicy};

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// A ClickHouse of our own, as a child process.
    Embedded,
    /// Nowhere.
    None,
    /// A ClickHouse by URL, which never holds a password.
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
    /// One line a reply, as every ping: what `pinger ping` shows.
    Replies,
}

/// Which addresses of host names are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
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
    /// Host name, address, block or range, or such in a URL: anything that
    /// [`Written`](crate::destination::Written) reads.
    pub host: String,
    /// Key in the `destinations` table, if the user gave one; then `host` is one destination.
    pub id: Option<u64>,
    /// How it is probed.
    pub protocol: ProtocolName,
    /// Port of UDP and TCP, never 0 there; 0 for ICMP.
    pub port: u16,
    /// Time between two probes, nanoseconds.
    pub interval_ns: u64,
    /// How long an answer is awaited, nanoseconds; at most [`value::IN_FLIGHT_MAX`] intervals.
    pub timeout_ns: u64,
    /// Payload bytes, with the room that `data` takes; 0 for TCP.
    pub size: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// What the payload repeats; `None` for the built-in pattern, and for TCP.
    pub data: Option<Arc<[u8]>>,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// Whether IPv4 routers may not fragment the probes.
    pub dont_fragment: bool,
    /// Where its probes come from, if not from where the route says.
    pub from: Option<destination::From>,
    /// The interface that it alone leaves through, instead of the run's or the route's.
    pub interface: Option<String>,
}

/// Where the store is, which is all that `pinger schema` and `pinger sql` need to know, and how
/// results wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where results go.
    pub choice: StoreChoice,
    /// Port of the embedded store on loopback; a free one is chosen if there is none.
    pub port: Option<u16>,
    /// File that holds the password for a store by URL, instead of the environment.
    pub password_file: Option<PathBuf>,
    /// Where the embedded store keeps its files, and results wait on disk for any store.
    pub data_dir: PathBuf,
    /// How results wait for the store.
    pub spool: SpoolOptions,
}

/// One run, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Send through this interface instead of the one the route names.
    pub interface: Option<String>,
    /// What to probe, never empty.
    pub destinations: Vec<DestinationSpec>,
    /// Only addresses of this family.
    pub family: Option<Family>,
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
    pub store: StoreOptions,
    /// How the run is shown.
    pub format: Format,
    /// Write the last live screen to this SVG file.
    pub picture: Option<PathBuf>,
    /// Let the kernel program log.
    pub kernel_log: bool,
    /// Trace the paths up to this hop: [`Ttl::Trace`](crate::destination::Ttl::Trace) instead of
    /// each destination's time to live.
    pub trace: Option<NonZeroU8>,
}

/// A text that was read, and the name to use for it in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// File name, or "standard input".
    pub name: String,
    /// Its content.
    pub body: String,
}

/// A destination as written, before general settings fill its gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As in [`DestinationSpec`].
    pub host: String,
    /// As in [`DestinationSpec`].
    pub id: Option<u64>,
    /// What it sets itself; the rest is as set for all.
    pub probe: ProbeSettings,
    /// As in [`DestinationSpec`].
    pub interface: Option<String>,
    /// Where it stands ("pinger.toml:7:1"); `None` on the command line.
    pub place: Option<String>,
}

/// What shapes probes, as one place sets it for a destination or for all; `None` where it is
/// silent. The fields are those of [`DestinationSpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented where its value ends up"
)]
pub struct ProbeSettings {
    pub protocol: Option<ProtocolName>,
    pub port: Option<u16>,
    pub interval_ns: Option<u64>,
    pub timeout_ns: Option<u64>,
    pub size: Option<u16>,
    pub ttl: Option<u8>,
    pub data: Option<Arc<[u8]>>,
    pub traffic_class: Option<u8>,
    pub dont_fragment: Option<bool>,
    pub from: Option<destination::From>,
}

/// What one place (command line, file, a command's own defaults) sets; `None` where it is silent.
/// The fields are those of [`RunOptions`], [`Source`], [`StoreOptions`] and [`SpoolOptions`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is documented where its value ends up"
)]
pub struct Settings {
    pub interface: Option<String>,
    pub destinations: Vec<Asked>,
    pub family: Option<Family>,
    /// For all destinations.
    pub probe: ProbeSettings,
    /// Where settings for all probes stand, if in a file, by key: what is set elsewhere can clash
    /// with them.
    pub places: HashMap<&'static str, String>,
    pub count: Option<u64>,
    pub duration: Option<Duration>,
    pub flood: Option<bool>,
    pub batch: Option<u32>,
    pub verify: Option<bool>,
    pub cpu: Option<usize>,
    pub source_id: Option<u32>,
    pub source_location: Option<u32>,
    pub source_host: Option<u32>,
    pub source_sourceid: Option<u32>,
    pub store: Option<StoreChoice>,
    pub store_port: Option<u16>,
    pub store_password_file: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub spool_place: Option<SpoolPlace>,
    pub spool_bytes_max: Option<u64>,
    pub spool_age_max_ns: Option<u64>,
    pub spool_drop: Option<DropPolicy>,
    pub spool_sync: Option<SyncPolicy>,
    pub format: Option<Format>,
    pub picture: Option<PathBuf>,
    pub kernel_log: Option<bool>,
}
