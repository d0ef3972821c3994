//! Rows of the small tables: who probes, what is probed, which run.

use std::net::Ipv6Addr;

use serde::{Serialize, Serializer};

use super::{RunInfo, mapped, wall_ns};
use crate::config::Source;
use crate::destination::{Destination, From};
use crate::stats::{Counts, RowCounts};

/// A row of `sources`.
#[derive(Debug, clickhouse::Row, Serialize)]
pub(super) struct SourceRow {
    id: u32,
    location: u32,
    host: u32,
    sourceid: u32,
    address: Ipv6Addr,
    name: String,
    version: String,
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
        }
    }
}

/// A row of `destinations`.
#[derive(Debug, clickhouse::Row, Serialize)]
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
    #[serde(serialize_with = "bytes")]
    data: Vec<u8>,
    size: u16,
    traffic_class: u8,
    dont_fragment: bool,
    from_address: Ipv6Addr,
    from_interface: String,
    interface: String,
    name: String,
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
        }
    }
}

/// ClickHouse's `String` is bytes, and so is what a payload repeats.
#[expect(clippy::ptr_arg, reason = "serde gives what the field is")]
fn bytes<S: Serializer>(data: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(data)
}

/// A row of `runs`, and the address that goes into `sources`.
#[derive(Clone, Debug, clickhouse::Row, Serialize)]
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
    #[serde(skip)]
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
            address: info.address.map_or(Ipv6Addr::UNSPECIFIED, mapped),
        }
    }

    /// The row that replaces it at the end.
    pub(super) fn end(&self, counts: &Counts, rows: &RowCounts) -> Self {
        Self {
            ended: Some(wall_ns()),
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
}
