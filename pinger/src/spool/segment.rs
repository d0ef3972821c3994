//! The format of a segment: a file of chunks, which is what one insert holds.
//!
//! A header, then frames. Each is bytes on one side and meaning ([`Header`], [`Frame`]) on the
//! other, and has a checksum, so that a torn write or a flipped bit is noticed. All numbers are
//! little endian. This file knows nothing of disks.

use std::ops::Range;

use crate::native::{CHECKSUM_SIZE, checksum};

/// Which table the rows of a segment are for; the numbers stand in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Results.
    Incoming = 1,
    /// Who probes.
    Sources = 2,
    /// What is probed.
    Destinations = 3,
    /// Each run.
    Runs = 4,
    /// What is missing.
    Gaps = 5,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 5] = [
        Self::Incoming,
        Self::Sources,
        Self::Destinations,
        Self::Runs,
        Self::Gaps,
    ];

    /// The name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Sources => "sources",
            Self::Destinations => "destinations",
            Self::Runs => "runs",
            Self::Gaps => "gaps",
        }
    }

    /// Whether the newest row of a key replaces the others, so that it may come twice.
    pub fn is_replacing(self) -> bool {
        matches!(self, Self::Sources | Self::Destinations | Self::Runs)
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// A number of results, and how many probes they end. Late answers and duplicates end none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Results.
    pub rows: u64,
    /// Probes that they end.
    pub probes: u64,
}

impl Totals {
    /// The sum.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(more.rows),
            probes: self.probes.saturating_add(more.probes),
        }
    }

    /// The difference, zero where that would be below.
    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(less.rows),
            probes: self.probes.saturating_sub(less.probes),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            probes: self.probes.max(other.probes),
        }
    }

    fn emit(self, to: &mut [u8]) {
        to[..8].copy_from_slice(&self.rows.to_le_bytes());
        to[8..16].copy_from_slice(&self.probes.to_le_bytes());
    }

    fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            rows: number(bytes, at)?,
            probes: number(bytes, at + 8)?,
        })
    }
}

/// What of a run is accounted for. The two are counted by two hands, so neither can count for the
/// other, and each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What is in segments, or was.
    pub filled: Totals,
    /// What gaps tell of that never was in one.
    pub told: Totals,
}

impl Accounts {
    /// Both.
    pub fn sum(self) -> Totals {
        self.filled.plus(self.told)
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            filled: self.filled.max(other.filled),
            told: self.told.max(other.told),
        }
    }
}

/// A row that stands for its block when the server is asked whether it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Key of the destination.
    pub destination: u64,
    /// Sequence of the probe.
    pub sequence: u64,
    /// When the probe was due, wall clock nanoseconds.
    pub time_due: i64,
    /// An [`Outcome`](crate::result::Outcome) as its number.
    pub outcome: i8,
}

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// The day of a time in UTC, since 1970: tables of results have a partition for each.
pub(super) fn day(time_ns: i64) -> i64 {
    time_ns.div_euclid(DAY_NS)
}

/// The first bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which table the rows are for.
    pub table: Table,
    /// Whether all that the run will ever have is on disk or told by gaps with this segment.
    pub closes: bool,
    /// Key of the source.
    pub source: u32,
    /// Start of the run, wall clock nanoseconds.
    pub run: u64,
    /// Number of the segment within its run.
    pub number: u64,
    /// What of the run is accounted for at the segment's beginning, as far as its writer knows. A
    /// segment of gaps counts those that it holds.
    pub accounts: Accounts,
}

/// Bytes of a header: `pingseg` and the version, table, flags, two of nothing, source, run,
/// number, accounts, checksum.
pub const HEADER_SIZE: usize = 72;
const MAGIC: [u8; 8] = *b"pingseg1";
const FLAG_CLOSES: u8 = 1;

impl Header {
    /// As bytes.
    pub fn emit(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.table as u8;
        bytes[9] = if self.closes { FLAG_CLOSES } else { 0 };
        bytes[12..16].copy_from_slice(&self.source.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.run.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        self.accounts.filled.emit(&mut bytes[32..48]);
        self.accounts.told.emit(&mut bytes[48..64]);
        let sum = short_checksum(&bytes[..64]);
        bytes[64..].copy_from_slice(&sum);
        bytes
    }

    /// What `bytes` begin with; `None` if that is no header, or a damaged one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_SIZE)?;
        let is_whole = bytes[..8] == MAGIC && bytes[64..] == short_checksum(&bytes[..64]);
        is_whole.then_some(())?;
        Some(Self {
            table: Table::of(bytes[8])?,
            closes: bytes[9] & FLAG_CLOSES != 0,
            source: u32::from_le_bytes(array(bytes, 12)?),
            run: number(bytes, 16)?,
            number: number(bytes, 24)?,
            accounts: Accounts {
                filled: Totals::parse(bytes, 32)?,
                told: Totals::parse(bytes, 48)?,
            },
        })
    }
}

/// What a frame is; the numbers stand in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A block of rows, with its markers.
    Rows = 1,
    /// Of a segment of gaps: what became of the segments that it speaks of, see [`Fate`].
    Fates = 2,
    /// The segment is whole: its sums. Nothing follows.
    End = 3,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [Self::Rows, Self::Fates, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is.
    pub kind: Kind,
    /// How many markers follow.
    pub markers: u8,
    /// Length of the body behind these, bytes.
    pub body: u32,
    /// What it holds: rows of the table, and probes if that is [`Table::Incoming`]; in the last
    /// frame, what all hold.
    pub size: Totals,
    /// What of the run was in segments with this frame.
    pub filled: Totals,
    /// When the first of its results came, wall clock nanoseconds.
    pub from_ns: i64,
    /// When the last of them came.
    pub until_ns: i64,
    /// Checksum of the body. A block of rows begins with it.
    pub sum: [u8; CHECKSUM_SIZE],
}

/// Bytes of the fixed part: kind, markers, two of nothing, body, size, filled, times, the body's
/// checksum, and one over this and the markers.
pub const FRAME_SIZE: usize = 80;

/// Bytes of a marker: destination, sequence, time, outcome, seven of nothing.
pub const MARKER_SIZE: usize = 32;

/// The longest body: blocks have some megabytes at most, so a longer one is damage.
pub const BODY_MAX: u32 = 64 << 20;

/// The most markers in a frame: rows that come within a chunk's age were due on few days.
pub const MARKERS_MAX: usize = 8;

/// A part of a segment, with its bytes where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fixed part.
    pub header: FrameHeader,
    /// Rows to ask the server for.
    pub markers: Vec<Marker>,
    /// What it holds.
    pub body: &'a [u8],
}

impl FrameHeader {
    /// The fixed part and the markers as bytes, to be followed by the body. Markers beyond
    /// [`MARKERS_MAX`] are left out.
    pub fn emit(&self, markers: &[Marker]) -> Vec<u8> {
        let markers = &markers[..markers.len().min(MARKERS_MAX)];
        let mut bytes = vec![0; FRAME_SIZE];
        bytes[0] = self.kind as u8;
        bytes[1] = markers.len() as u8;
        bytes[4..8].copy_from_slice(&self.body.to_le_bytes());
        self.size.emit(&mut bytes[8..24]);
        self.filled.emit(&mut bytes[24..40]);
        bytes[40..48].copy_from_slice(&self.from_ns.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.until_ns.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.sum);
        for marker in markers {
            bytes.extend_from_slice(&marker.destination.to_le_bytes());
            bytes.extend_from_slice(&marker.sequence.to_le_bytes());
            bytes.extend_from_slice(&marker.time_due.to_le_bytes());
            bytes.extend_from_slice(&[marker.outcome.cast_unsigned(), 0, 0, 0, 0, 0, 0, 0]);
        }
        let sum = frame_checksum(&bytes);
        bytes[72..80].copy_from_slice(&sum);
        bytes
    }

    /// Reads the fixed part and the markers that `bytes` begin with; `None` if they are damaged
    /// or cut short.
    pub fn parse(bytes: &[u8]) -> Option<(Self, Vec<Marker>)> {
        let markers = usize::from(*bytes.get(1)?);
        (markers <= MARKERS_MAX).then_some(())?;
        let bytes = bytes.get(..FRAME_SIZE + markers * MARKER_SIZE)?;
        (bytes[72..80] == frame_checksum(bytes)).then_some(())?;
        let header = Self {
            kind: Kind::of(bytes[0])?,
            markers: bytes[1],
            body: u32::from_le_bytes(array(bytes, 4)?),
            size: Totals::parse(bytes, 8)?,
            filled: Totals::parse(bytes, 24)?,
            from_ns: number(bytes, 40)?.cast_signed(),
            until_ns: number(bytes, 48)?.cast_signed(),
            sum: array(bytes, 56)?,
        };
        (header.body <= BODY_MAX).then_some(())?;
        let markers = bytes[FRAME_SIZE..].chunks_exact(MARKER_SIZE);
        let markers = markers.map(marker).collect::<Option<Vec<_>>>()?;
        Some((header, markers))
    }

    /// Whether `body` is the one that this header speaks of.
    pub fn fits(&self, body: &[u8]) -> bool {
        match self.kind {
            Kind::Rows => {
                body.get(..CHECKSUM_SIZE) == Some(&self.sum)
                    && checksum(&body[CHECKSUM_SIZE..]) == self.sum
            }
            Kind::Fates | Kind::End => checksum(body) == self.sum,
        }
    }
}

/// The frame that `bytes` begin with, and how many bytes it takes.
pub fn frame(bytes: &[u8]) -> Result<(Frame<'_>, usize), Damage> {
    let (header, markers) = FrameHeader::parse(bytes).ok_or(Damage::Header)?;
    let start = FRAME_SIZE + markers.len() * MARKER_SIZE;
    let end = start + header.body as usize;
    let body = bytes.get(start..end).ok_or(Damage::Header)?;
    if !header.fits(body) {
        return Err(Damage::Body(end));
    }
    let frame = Frame {
        header,
        markers,
        body,
    };
    Ok((frame, end))
}

/// How a frame is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Where it ends cannot be told, so neither where the next one begins.
    Header,
    /// Its body is not what it was; the next frame begins after so many bytes.
    Body(usize),
}

/// All that can be read of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What it begins with; `None` if that is damaged.
    pub header: Option<Header>,
    /// Where the blocks of rows are in the bytes.
    pub blocks: Vec<Range<usize>>,
    /// The markers of all blocks.
    pub markers: Vec<Marker>,
    /// What became of other segments.
    pub fates: Vec<(u64, Fate)>,
    /// What these blocks hold.
    pub size: Totals,
    /// When the first and the last of their results came; `None` without any.
    pub range_ns: Option<(i64, i64)>,
    /// What of the run is accounted for, as far as this segment knows.
    pub accounts: Accounts,
    /// Its last frame, if that is whole.
    pub end: Option<FrameHeader>,
    /// How many bytes from the beginning are undamaged.
    pub valid: usize,
}

impl Contents {
    /// Reads a whole segment, and of a damaged one what can be read.
    pub fn of(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        let Some(header) = Header::parse(bytes) else {
            contents.end = tail(bytes);
            return contents;
        };
        contents.accounts = header.accounts;
        contents.header = Some(header);
        contents.valid = HEADER_SIZE;
        let mut at = HEADER_SIZE;
        while at < bytes.len() && contents.end.is_none() {
            match frame(&bytes[at..]) {
                Ok((frame, length)) => {
                    if contents.valid == at {
                        contents.valid += length;
                    }
                    at += length;
                    contents.take(&frame, at);
                }
                Err(Damage::Body(length)) => at += length,
                Err(Damage::Header) => {
                    contents.end = tail(bytes);
                    break;
                }
            }
        }
        contents
    }

    fn take(&mut self, frame: &Frame<'_>, end: usize) {
        let header = frame.header;
        self.accounts.filled = self.accounts.filled.max(header.filled);
        match header.kind {
            Kind::Rows => {
                self.blocks.push(end - frame.body.len()..end);
                self.markers.extend_from_slice(&frame.markers);
                self.size = self.size.plus(header.size);
                let (from_ns, until_ns) = self.range_ns.unwrap_or((i64::MAX, i64::MIN));
                self.range_ns = Some((from_ns.min(header.from_ns), until_ns.max(header.until_ns)));
            }
            Kind::Fates => self.fates = parse_fates(frame.body),
            Kind::End => self.end = Some(header),
        }
    }

    /// Whether a segment of so many bytes has all that it had.
    pub fn is_whole(&self, bytes: u64) -> bool {
        self.valid as u64 == bytes && self.end.is_some_and(|end| end.size == self.size)
    }
}

/// The last frame, if the segment is whole at its end.
pub fn tail(bytes: &[u8]) -> Option<FrameHeader> {
    let start = bytes.len().checked_sub(FRAME_SIZE)?;
    let (header, _) = FrameHeader::parse(&bytes[start..])?;
    (header.kind == Kind::End && header.body == 0).then_some(header)
}

/// What becomes of a segment that a segment of gaps speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fate {
    /// It is deleted.
    Dropped = 1,
    /// It is put into `refused/`.
    Aside = 2,
    /// What is whole in it is sent; the gap tells of the rest.
    Damaged = 3,
}

/// Bytes of a fate: the segment's number, the fate, seven of nothing.
pub const FATE_SIZE: usize = 16;

/// Fates as the body of a frame.
pub fn emit_fates(fates: &[(u64, Fate)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fates.len() * FATE_SIZE);
    for (number, fate) in fates {
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[*fate as u8, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes
}

/// The fates in the body of a frame; what is no fate is left out.
pub fn parse_fates(body: &[u8]) -> Vec<(u64, Fate)> {
    let fate = |bytes: &[u8]| {
        let fate = [Fate::Dropped, Fate::Aside, Fate::Damaged]
            .into_iter()
            .find(|fate| *fate as u8 == bytes[8])?;
        Some((number(bytes, 0)?, fate))
    };
    body.chunks_exact(FATE_SIZE).filter_map(fate).collect()
}

fn marker(bytes: &[u8]) -> Option<Marker> {
    Some(Marker {
        destination: number(bytes, 0)?,
        sequence: number(bytes, 8)?,
        time_due: number(bytes, 16)?.cast_signed(),
        outcome: bytes[24].cast_signed(),
    })
}

/// Over the fixed part but for the checksum itself, and the markers.
fn frame_checksum(bytes: &[u8]) -> [u8; 8] {
    let mut covered = bytes[..72].to_vec();
    covered.extend_from_slice(&bytes[FRAME_SIZE..]);
    short_checksum(&covered)
}

fn short_checksum(bytes: &[u8]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&checksum(bytes)[..8]);
    short
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array(bytes, at)?))
}

#[cfg(test)]
mod tests;
