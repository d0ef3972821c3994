//! The command line: what `pinger` understands, and what `--help` teaches.
//!
//! In: arguments. Out: a [`Cli`], from which [`ProbeArgs::settings`] and its kin make
//! [`Settings`]; the values themselves are checked by [`config::value`](crate::config::value),
//! as those of the config file are. Reads no file.

mod export;
mod help;
mod schema;
mod spooled;
mod style;
mod trace;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{
    Asked, DropPolicy, Family, Format, ProbeSettings, Settings, SpoolPlace, StoreChoice,
    SyncPolicy, spool, value,
};
use crate::destination::{self, ProtocolName, Written};
use crate::mistake::Mistake;

pub use export::ExportArgs;
pub use schema::{PrintArgs, RetentionArgs, SchemaAction};
pub use spooled::{SpoolAction, SpoolStatusArgs};
pub use style::Style;
pub use trace::TraceArgs;
pub use words::explain;

/// A parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "pinger",
    version,
    about = help::ABOUT,
    after_help = help::AFTER,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    args_override_self = true,
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Probe destinations until told to stop, and keep every result
    #[command(after_help = help::AFTER_RUN, args_override_self = true)]
    Run(Box<RunArgs>),
    /// Send a few probes and show a line for each reply, as ping does
    #[command(after_help = help::AFTER_PING, args_override_self = true)]
    Ping(Box<PingArgs>),
    /// Show the routers on the way to destinations, with loss and round trips of each
    #[command(after_help = trace::AFTER, args_override_self = true)]
    Trace(Box<TraceArgs>),
    /// Create the tables in a ClickHouse server, look at them, set for how long rows are kept
    #[command(after_help = schema::AFTER)]
    Schema {
        /// What to do with the schema.
        #[command(subcommand)]
        action: SchemaAction,
    },
    /// Tell what waits on disk for the store, and send again what it refused
    #[command(after_help = spooled::AFTER)]
    Spool {
        /// What to do with what waits.
        #[command(subcommand)]
        action: SpoolAction,
    },
    /// Ask the store a question in SQL
    #[command(after_help = help::AFTER_SQL)]
    Sql(SqlArgs),
    /// Write results of a range of time to a Parquet or CSV file
    #[command(after_help = export::AFTER)]
    Export(Box<ExportArgs>),
    /// The embedded engine: `pinger run` starts itself with this word.
    #[command(hide = true, disable_help_flag = true)]
    Engine {
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// What to probe and how: the part that `run` and `ping` share.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What to probe: host names, addresses, blocks such as 10.0.0.0/24, ranges such as
    /// 10.0.0.1-10.0.0.9, each also with protocol and port, such as tcp://example.org:443; at most
    /// 1,048,576 addresses
    #[arg(value_name = "DEST", value_parser = written, help_heading = help::WHAT,
        display_order = 0)]
    pub destinations: Vec<String>,
    /// Read destinations from a file as well, one a line, # begins a comment; - is standard input
    #[arg(short, long, value_name = "FILE", display_order = 1, help_heading = help::WHAT)]
    pub file: Option<PathBuf>,
    /// icmp: echo; tcp: a SYN, taken back when it is answered; udp: a datagram, answered by an
    /// echo service or by a closed port [default: icmp]
    #[arg(long, value_name = "PROTOCOL", display_order = 2, value_parser = value::protocol,
        help_heading = help::WHAT)]
    pub protocol: Option<ProtocolName>,
    /// Port of tcp or udp, where the destination names none, 1 to 65535
    #[arg(long, value_name = "PORT", display_order = 3, value_parser = value::port,
        help_heading = help::WHAT)]
    pub port: Option<u16>,
    /// Send through this interface [default: the one that the route names]
    #[arg(short, long, value_name = "NAME", display_order = 4, value_parser = value::interface,
        help_heading = help::WHAT)]
    pub interface: Option<String>,
    /// Send from this address, or from the first one of this interface [default: the one that the
    /// route names]
    #[arg(long, value_name = "ADDRESS", display_order = 5, value_parser = value::from,
        help_heading = help::WHAT)]
    pub from: Option<destination::From>,
    /// Only IPv4: of a host name take its first IPv4 address
    #[arg(short = '4', long, display_order = 6, overrides_with = "ipv6",
        help_heading = help::WHAT)]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long, display_order = 7, overrides_with = "ipv4",
        help_heading = help::WHAT)]
    pub ipv6: bool,

    /// Time between two probes to one destination, 10us to 1d [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = value::interval, help_heading = help::HOW)]
    pub interval: Option<u64>,
    /// How long a reply is awaited, 10us to 15m and at most 32,000 intervals [default: 1s, or
    /// 32,000 intervals if that is less]
    #[arg(long, value_name = "TIME", value_parser = value::timeout, help_heading = help::HOW)]
    pub timeout: Option<u64>,
    /// Payload of a probe in bytes, 0 to 3456; tcp has none [default: 56, or the length of --data]
    #[arg(short, long, value_name = "BYTES", value_parser = value::size,
        help_heading = help::HOW)]
    pub size: Option<u16>,
    /// Time to live (IPv6: hop limit), 1 to 255 [default: 64]
    #[arg(long, value_name = "HOPS", value_parser = value::ttl, help_heading = help::HOW)]
    pub ttl: Option<u8>,
    /// Payload of a probe: this text, repeated as often as it fits into --size; the first bytes
    /// are replaced by the probe's number and cookie
    #[arg(long, value_name = "TEXT", value_parser = value::data, help_heading = help::HOW)]
    pub data: Option<Arc<[u8]>>,
    /// Type of service (IPv6: traffic class), 0 to 255 [default: 0]
    #[arg(long, value_name = "N", value_parser = value::tos, conflicts_with = "dscp",
        help_heading = help::HOW)]
    pub tos: Option<u8>,
    /// The same by its upper six bits, 0 to 63: 46 is expedited forwarding
    #[arg(long, value_name = "N", value_parser = value::dscp, help_heading = help::HOW)]
    pub dscp: Option<u8>,
    /// Let IPv4 routers fragment probes [default: they must not]
    #[arg(long, help_heading = help::HOW)]
    pub fragment: bool,
    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = value::duration, help_heading = help::HOW)]
    pub duration: Option<Duration>,
}

/// `pinger ping …`
#[derive(Debug, Args)]
pub struct PingArgs {
    /// What to probe and how.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Stop after this many probes to each destination [default: 5]
    #[arg(short, long, value_name = "N", value_parser = value::count, help_heading = help::HOW)]
    pub count: Option<u64>,
}

/// `pinger run …`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to probe and how.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Stop after this many probes to each destination [default: go on until Ctrl-C]
    #[arg(short, long, value_name = "N", value_parser = value::count, help_heading = help::HOW)]
    pub count: Option<u64>,
    /// Where results go.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How results wait for it.
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// live: a table that fills the terminal; plain: a line a second; json: one object at the
    /// end [default: live on a terminal, else plain]
    #[arg(long, value_name = "FORMAT", value_parser = value::format, help_heading = help::SEE)]
    pub format: Option<Format>,
    /// Expert settings.
    #[command(flatten)]
    pub expert: ExpertArgs,
    /// At the end, write the last live screen to this SVG file
    #[arg(long, value_name = "FILE", hide = true)]
    pub picture: Option<PathBuf>,
}

/// Where results go: for all commands that speak to the store.
#[derive(Debug, Default, Args)]
pub struct StoreArgs {
    /// Settings from a TOML file; the command line beats it
    #[arg(long, value_name = "FILE", help_heading = help::WHERE)]
    pub config: Option<PathBuf>,
    /// embedded: a ClickHouse of pinger's own; none: keep nothing (run only); or the URL of a
    /// server, http://user@host:8123/database, or https and 8443 [default: embedded]
    #[arg(long, value_name = "STORE", value_parser = value::store, help_heading = help::WHERE)]
    pub store: Option<StoreChoice>,
    /// File that holds the password for the server [default: environment variable
    /// PINGER_STORE_PASSWORD]
    #[arg(long, value_name = "FILE", help_heading = help::WHERE)]
    pub store_password_file: Option<PathBuf>,
    /// TCP port of the embedded store on loopback, 1 to 65535 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = value::port, help_heading = help::WHERE)]
    pub store_port: Option<u16>,
    /// Where the embedded store keeps its files, and results wait on disk until a store has them
    /// [default: /var/lib/pinger]
    #[arg(long, value_name = "DIR", env = "PINGER_DATA_DIR", hide_env_values = true,
        help_heading = help::WHERE)]
    pub data_dir: Option<PathBuf>,
}

/// How results wait for the store: for the commands that probe.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = help::WHERE)]
pub struct SpoolArgs {
    /// Where results wait until the store has them; disk: in --data-dir, so that they survive a
    /// crash and are sent at the next start; memory: faster [default: disk]
    #[arg(long, value_name = "PLACE", value_parser = spool::place)]
    pub spool: Option<SpoolPlace>,
    /// The most bytes that wait, 1MiB to 1024TiB [default: 10GiB, in memory
    /// 256MiB]
    #[arg(long, value_name = "BYTES", value_parser = spool::size)]
    pub spool_size: Option<u64>,
    /// The longest that results wait, 1s to 3650d [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = spool::age)]
    pub spool_age: Option<u64>,
    /// What goes when that is too much, oldest or newest; each loss is written down in the table
    /// of gaps [default: oldest]
    #[arg(long, value_name = "WHICH", value_parser = spool::drop)]
    pub spool_drop: Option<DropPolicy>,
    /// When results are forced to the disk; chunk: 40 times a second; batch: before they are sent;
    /// never: by the kernel alone, so that they survive a crash of pinger, not of this host
    /// [default: batch]
    #[arg(long, value_name = "WHEN", value_parser = spool::sync)]
    pub spool_sync: Option<SyncPolicy>,
}

/// `pinger run`: what few need.
#[derive(Debug, Args)]
#[command(next_help_heading = help::EXPERT)]
pub struct ExpertArgs {
    /// Probe as fast as replies come back instead of by interval; only on your own network
    #[arg(long)]
    pub flood: bool,
    /// Probes sent in one go, 1 to 256: more is faster, but adds up to their sending time to the
    /// round trips [default: 1, with --flood 8]
    #[arg(long, value_name = "N", value_parser = value::batch)]
    pub batch: Option<u32>,
    /// Pin the sender to this CPU, counted from 0 [default: the last one that no other pinger has]
    #[arg(long, value_name = "CPU", value_parser = value::cpu)]
    pub cpu: Option<usize>,
    /// Do not compare the payloads of replies with what was sent
    #[arg(long)]
    pub no_verify: bool,
    /// Number of this prober in the table of sources; its last four bits go into every probe, so
    /// give probers behind one NAT different ones, 0 to 4294967295 [default: 0]
    #[arg(long, value_name = "N", value_parser = value::source_number)]
    pub source_id: Option<u32>,
    /// Number of the site where this host stands [default: 0]
    #[arg(long, value_name = "N", value_parser = value::source_number)]
    pub source_location: Option<u32>,
    /// Number of this host [default: 0]
    #[arg(long, value_name = "N", value_parser = value::source_number)]
    pub source_host: Option<u32>,
    /// Let the kernel program log each reply that it matches: slow, for debugging
    #[arg(long)]
    pub kernel_log: bool,
}

/// `pinger sql …`
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// One statement in ClickHouse's SQL; - reads it from standard input
    // A query may begin with a comment: two hyphens.
    #[arg(value_name = "QUERY", allow_hyphen_values = true)]
    pub query: String,
    /// Format of the answer, as ClickHouse names it: CSV, JSONEachRow, Vertical, … [default:
    /// PrettyCompact on a terminal, TSVWithNames otherwise]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

impl ProbeArgs {
    /// What these arguments set; destinations of `--file` are not among them yet.
    pub fn settings(&self) -> Settings {
        let asked = |host: &String| Asked {
            host: host.clone(),
            ..Asked::default()
        };
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::Ipv4),
            (_, true) => Some(Family::Ipv6),
            _ => None,
        };
        Settings {
            destinations: self.destinations.iter().map(asked).collect(),
            interface: self.interface.clone(),
            family,
            probe: ProbeSettings {
                protocol: self.protocol,
                port: self.port,
                interval_ns: self.interval,
                timeout_ns: self.timeout,
                size: self.size,
                ttl: self.ttl,
                data: self.data.clone(),
                traffic_class: self.tos.or(self.dscp),
                dont_fragment: self.fragment.then_some(false),
                from: self.from.clone(),
            },
            duration: self.duration,
            ..Settings::default()
        }
    }
}

impl PingArgs {
    /// What the arguments set.
    pub fn settings(&self) -> Settings {
        Settings {
            count: self.count,
            ..self.probe.settings()
        }
    }

    /// Where `ping` differs from `run` when nothing is said.
    pub fn own_defaults() -> Settings {
        Settings {
            count: Some(5),
            store: Some(StoreChoice::None),
            format: Some(Format::Replies),
            ..Settings::default()
        }
    }
}

impl RunArgs {
    /// What the arguments set.
    pub fn settings(&self) -> Settings {
        let given = |flag: bool| flag.then_some(true);
        Settings {
            count: self.count,
            flood: given(self.expert.flood),
            batch: self.expert.batch,
            cpu: self.expert.cpu,
            verify: self.expert.no_verify.then_some(false),
            source_id: self.expert.source_id,
            source_location: self.expert.source_location,
            source_host: self.expert.source_host,
            kernel_log: given(self.expert.kernel_log),
            format: self.format,
            picture: self.picture.clone(),
            ..self.spool.over(self.store.over(self.probe.settings()))
        }
    }
}

impl StoreArgs {
    /// What the arguments set.
    pub fn settings(&self) -> Settings {
        self.over(Settings::default())
    }

    pub(crate) fn over(&self, settings: Settings) -> Settings {
        Settings {
            store: self.store.clone(),
            store_port: self.store_port,
            store_password_file: self.store_password_file.clone(),
            data_dir: self.data_dir.clone(),
            ..settings
        }
    }
}

impl SpoolArgs {
    pub(crate) fn over(&self, settings: Settings) -> Settings {
        Settings {
            spool_place: self.spool,
            spool_bytes_max: self.spool_size,
            spool_age_max_ns: self.spool_age,
            spool_drop: self.spool_drop,
            spool_sync: self.spool_sync,
            ..settings
        }
    }
}

fn written(word: &str) -> Result<String, Mistake> {
    Written::parse(word).map(|_| word.to_owned())
}

#[cfg(test)]
mod tests;
