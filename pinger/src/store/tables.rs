//! Rows of the small tables (who probes, what is probed, which run) as blocks, and the statement
//! that inserts the blocks of each table.
//!
//! Each row says itself when it was written, which decides which row of a key counts: rows of
//! several runs may reach the store in any order.

use std::net::Ipv6Addr;

use super::{RunInfo, mapped, wall_ns};
use crate::config::Source;
use crate::destination::{Destination, From};
use crate::native::{self, Block, Columns, TIME};
use crate::spool::{Gap, Table};
use crate::stats::{Counts, RowCounts};

const SOURCE_COLUMNS: &[&str] = &[
    "id", "location", "host", "sourceid", "address", "name", "version", "updated",
];

const DESTINATION_COLUMNS: &[&str] = &[
    "id",
    "active",
    "address",
    "protocol",
    "port",
    "interval",
    "timeout",
    "ttl",
    "hops",
    "data",
    "size",
    "traffic_class",
    "dont_fragment",
    "from_address",
    "from_interface",
    "interface",
    "name",
    "updated",
];

const RUN_COLUMNS: &[&str] = &[
    "run",
    "source",
    "started",
    "ended",
    "version",
    "interface",
    "mode",
    "wall_offset",
    "destinations",
    "sent",
    "reply",
    "error",
    "lost",
    "send_failed",
    "late",
    "duplicate",
    "mismatch",
    "rows_dropped",
    "updated",
];

/// Without naming columns: those of the block that the table has not are skipped.
const RESULTS_ONCE_MORE: &str =
    "INSERT INTO results SETTINGS input_format_skip_unknown_fields = 1 FORMAT Native";

/// The statement that inserts blocks of a table, the first time or once more under another token.
///
/// Results that are missing from `results` go there and nowhere else: what `incoming` fills
/// besides has them, and would count them twice under the other token.
pub(super) fn statement(table: Table, is_once_more: bool) -> String {
    let columns = match table {
        Table::Incoming if is_once_more => return RESULTS_ONCE_MORE.to_owned(),
        Table::Incoming => native::RESULT_COLUMNS,
        Table::Sources => SOURCE_COLUMNS,
        Table::Destinations => DESTINATION_COLUMNS,
        Table::Runs => RUN_COLUMNS,
        Table::Gaps => Gap::COLUMNS,
    };
    // Quoted, because a column may be called `from`.
    format!(
        "INSERT INTO {} (`{}`) FORMAT Native",
        table.name(),
        columns.join("`, `")
    )
}

/// A row of `sources`.
#[derive(Debug)]
pub(super) struct SourceRow {
    id: u32,
    location: u32,
    host: u32,
    sourceid: u32,
    address: Ipv6Addr,
    name: String,
    version: String,
    updated: i64,
}

impl SourceRow {
    pub(super) fn new(source: &Source, run: &RunRow) -> Self {
        // A host without a name is shown by its number.
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            id: source.id,
            location: source.location,
            host: source.host,
            sourceid: source.sourceid,
            address: run.address,
            name: name.trim().to_owned(),
            version: run.version.clone(),
            updated: wall_ns(),
        }
    }

    /// As a block of the table `sources`.
    pub(super) fn block(&self) -> Block {
        let rows = std::slice::from_ref(self);
        let mut to = Columns::new(SOURCE_COLUMNS, rows);
        to.column("UInt32", |row| row.id);
        to.column("UInt32", |row| row.location);
        to.column("UInt32", |row| row.host);
        to.column("UInt32", |row| row.sourceid);
        to.column("IPv6", |row| row.address);
        to.strings(|row| row.name.as_bytes());
        to.strings(|row| row.version.as_bytes());
        to.column(TIME, |row| row.updated);
        to.finish()
    }
}

/// A row of `destinations`.
#[derive(Debug)]
pub(super) struct DestinationRow {
    id: u64,
    active: bool,
    address: Ipv6Addr,
    protocol: i8,
    port: u16,
    interval: u64,
    timeout: u64,
    ttl: u8,
    hops: u8,
    data: Vec<u8>,
    size: u16,
    traffic_class: u8,
    dont_fragment: bool,
    from_address: Ipv6Addr,
    from_interface: String,
    interface: String,
    name: String,
    updated: i64,
}

impl DestinationRow {
    pub(super) fn new(destination: &Destination) -> Self {
        let (from_address, from_interface) = match &destination.from {
            None => (Ipv6Addr::UNSPECIFIED, String::new()),
            Some(From::Address(address)) => (mapped(*address), String::new()),
            Some(From::Interface(name)) => (Ipv6Addr::UNSPECIFIED, name.clone()),
        };
        Self {
            id: destination.id,
            active: true,
            address: mapped(destination.address),
            protocol: destination.protocol as i8,
            port: destination.port,
            interval: destination.interval_ns,
            timeout: destination.timeout_ns,
            ttl: destination.ttl.of(0),
            hops: destination.ttl.hops(),
            data: destination.data.as_deref().unwrap_or_default().to_vec(),
            size: destination.size,
            traffic_class: destination.traffic_class,
            dont_fragment: destination.dont_fragment,
            from_address,
            from_interface,
            interface: destination.interface.clone().unwrap_or_default(),
            name: destination.name.clone(),
            updated: wall_ns(),
        }
    }

    /// Rows as a block of the table `destinations`.
    pub(super) fn block(rows: &[Self]) -> Block {
        let mut to = Columns::new(DESTINATION_COLUMNS, rows);
        to.column("UInt64", |row| row.id);
        to.column("Bool", |row| row.active);
        to.column("IPv6", |row| row.address);
        to.column("Int8", |row| row.protocol);
        to.column("UInt16", |row| row.port);
        to.column("UInt64", |row| row.interval);
        to.column("UInt64", |row| row.timeout);
        to.column("UInt8", |row| row.ttl);
        to.column("UInt8", |row| row.hops);
        to.strings(|row| &row.data);
        to.column("UInt16", |row| row.size);
        to.column("UInt8", |row| row.traffic_class);
        to.column("Bool", |row| row.dont_fragment);
        to.column("IPv6", |row| row.from_address);
        to.strings(|row| row.from_interface.as_bytes());
        to.strings(|row| row.interface.as_bytes());
        to.strings(|row| row.name.as_bytes());
        to.column(TIME, |row| row.updated);
        to.finish()
    }
}

/// A row of `runs`, and the address that goes into `sources`.
#[derive(Clone, Debug)]
pub(super) struct RunRow {
    run: u64,
    source: u32,
    started: i64,
    ended: Option<i64>,
    version: String,
    interface: String,
    mode: String,
    wall_offset: i64,
    destinations: u32,
    sent: u64,
    reply: u64,
    error: u64,
    lost: u64,
    send_failed: u64,
    late: u64,
    duplicate: u64,
    mismatch: u64,
    rows_dropped: u64,
    updated: i64,
    address: Ipv6Addr,
}

impl RunRow {
    /// The row at the start: nothing counted, no end.
    pub(super) fn start(info: &RunInfo, source: u32, destinations: usize) -> Self {
        Self {
            run: info.run,
            source,
            started: i64::try_from(info.run).unwrap_or(i64::MAX),
            ended: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: info.interface.clone(),
            mode: info.mode.clone(),
            wall_offset: info.wall_offset_ns,
            destinations: u32::try_from(destinations).unwrap_or(u32::MAX),
            sent: 0,
            reply: 0,
            error: 0,
            lost: 0,
            send_failed: 0,
            late: 0,
            duplicate: 0,
            mismatch: 0,
            rows_dropped: 0,
            updated: wall_ns(),
            address: info.address.map_or(Ipv6Addr::UNSPECIFIED, mapped),
        }
    }

    /// Key of the run.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// The row that replaces it at the end.
    pub(super) fn end(&self, counts: &Counts, rows: &RowCounts) -> Self {
        let now = wall_ns();
        Self {
            ended: Some(now),
            updated: now,
            sent: counts.sent,
            reply: counts.reply,
            error: counts.error,
            lost: counts.lost,
            send_failed: counts.send_failed,
            late: counts.late,
            duplicate: counts.duplicate,
            mismatch: counts.mismatch,
            rows_dropped: rows.dropped,
            ..self.clone()
        }
    }

    /// As a block of the table `runs`.
    pub(super) fn block(&self) -> Block {
        let rows = std::slice::from_ref(self);
        let mut to = Columns::new(RUN_COLUMNS, rows);
        to.column("UInt64", |row| row.run);
        to.column("UInt32", |row| row.source);
        to.column(TIME, |row| row.started);
        to.nullable(TIME, |row| row.ended);
        to.strings(|row| row.version.as_bytes());
        to.strings(|row| row.interface.as_bytes());
        to.strings(|row| row.mode.as_bytes());
        to.column("Int64", |row| row.wall_offset);
        to.column("UInt32", |row| row.destinations);
        to.column("UInt64", |row| row.sent);
        to.column("UInt64", |row| row.reply);
        to.column("UInt64", |row| row.error);
        to.column("UInt64", |row| row.lost);
        to.column("UInt64", |row| row.send_failed);
        to.column("UInt64", |row| row.late);
        to.column("UInt64", |row| row.duplicate);
        to.column("UInt64", |row| row.mismatch);
        to.column("UInt64", |row| row.rows_dropped);
        to.column(TIME, |row| row.updated);
        to.finish()
    }
}
