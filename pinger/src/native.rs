//! Rows to blocks: ClickHouse's *Native* format, a column after the other, compressed by LZ4 in
//! the frame that the server takes with `decompress=1`.
//!
//! In: rows. Out: the very bytes that an insert sends. Several blocks after each other are one
//! insert. Does no I/O and reads nothing back.

use std::net::Ipv6Addr;

use crate::rows::ResultRow;

/// Rows as bytes; given away whole, so never cloned.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// One compressed block: checksum, lengths, and columns.
    pub bytes: Vec<u8>,
    /// How many rows it holds.
    pub rows: u64,
}

/// Checksum before a compressed block, bytes: CityHash128 of all that follows it.
pub(crate) const CHECKSUM_SIZE: usize = 16;

/// What follows the checksum before the compressed bytes: method, and two lengths.
const FRAME_SIZE: usize = 9;

/// The number of LZ4 in that frame.
const METHOD_LZ4: u8 = 0x82;

/// Types of the columns of `incoming`; where a column is declared otherwise the server converts.
const OUTCOME: &str = "Enum8('reply' = 1, 'error' = 2, 'lost' = 3, 'send_failed' = 4, \
                       'late' = 5, 'duplicate' = 6)";
const ANSWER: &str = "Enum8('none' = 0, 'echo' = 1, 'datagram' = 2, 'syn_ack' = 3, \
                      'reset' = 4, 'icmp_error' = 5)";
/// Nanoseconds since 1970.
pub const TIME: &str = "DateTime64(9, 'UTC')";

/// Columns of `incoming`, in the order in which [`results`] writes them.
pub const RESULT_COLUMNS: &[&str] = &[
    "run",
    "source",
    "destination",
    "sequence",
    "time_due",
    "lag",
    "rtt",
    "outcome",
    "address",
    "rsite",
    "rhost",
    "rtype",
    "rcode",
    "rid",
    "rseq",
    "hop_limit",
    "datamatch",
    "ttl",
    "hops",
    "answer",
    "traffic_class",
    "mismatch_at",
    "jitter",
    "hop_limit_changed",
];

/// Results as one block of the table `incoming`.
pub fn results(rows: &[ResultRow]) -> Block {
    let mut to = Columns::new(RESULT_COLUMNS, rows);
    to.column("UInt64", |row| row.run);
    to.column("UInt32", |row| row.source);
    to.column("UInt64", |row| row.destination);
    to.column("UInt64", |row| row.sequence);
    to.column(TIME, |row| row.time_due);
    to.column("UInt64", |row| row.lag);
    to.nullable("UInt64", |row| row.rtt);
    to.column(OUTCOME, |row| row.outcome);
    to.column("IPv6", |row| row.address);
    to.column("UInt32", |row| row.rsite);
    to.column("UInt32", |row| row.rhost);
    to.column("UInt8", |row| row.rtype);
    to.column("UInt8", |row| row.rcode);
    to.column("UInt16", |row| row.rid);
    to.column("UInt16", |row| row.rseq);
    to.column("UInt8", |row| row.hop_limit);
    to.nullable("Bool", |row| row.datamatch);
    to.column("UInt8", |row| row.ttl);
    to.column("UInt8", |row| row.hops);
    to.column(ANSWER, |row| row.answer);
    to.column("UInt8", |row| row.traffic_class);
    to.nullable("UInt16", |row| row.mismatch_at);
    to.column("UInt64", |row| row.jitter);
    to.column("Bool", |row| row.hop_limit_changed);
    to.finish()
}

/// A value of fixed size, as ClickHouse keeps it in memory: little endian.
pub trait Value: Copy {
    /// Its bytes.
    const SIZE: usize;
    /// What stands in a nullable column where there is no value.
    const NONE: Self;
    /// Writes them; `to` has that many.
    fn write(self, to: &mut [u8]);
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Value for $number {
            const SIZE: usize = size_of::<Self>();
            const NONE: Self = 0;
            fn write(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 i8 i64);

impl Value for bool {
    const SIZE: usize = 1;
    const NONE: Self = false;
    fn write(self, to: &mut [u8]) {
        to.copy_from_slice(&[u8::from(self)]);
    }
}

impl Value for Ipv6Addr {
    const SIZE: usize = 16;
    const NONE: Self = Self::UNSPECIFIED;
    fn write(self, to: &mut [u8]) {
        to.copy_from_slice(&self.octets());
    }
}

/// Makes a block of rows of any kind, a column after the other, in the order of their names.
#[derive(Debug)]
pub struct Columns<'a, R> {
    names: std::slice::Iter<'a, &'a str>,
    rows: &'a [R],
    plain: Vec<u8>,
}

impl<'a, R> Columns<'a, R> {
    /// A block of `rows` that will have these columns.
    pub fn new(names: &'a [&'a str], rows: &'a [R]) -> Self {
        let mut plain = Vec::with_capacity(size_of_val(rows) + 1024);
        put_length(&mut plain, names.len());
        put_length(&mut plain, rows.len());
        let names = names.iter();
        Self { names, rows, plain }
    }

    fn begin(&mut self, kind: [&str; 3]) {
        // One too many has no name, and the server says so.
        let name = self.names.next().copied().unwrap_or_default();
        put_bytes(&mut self.plain, name.as_bytes());
        put_length(&mut self.plain, kind.iter().map(|part| part.len()).sum());
        for part in kind {
            self.plain.extend_from_slice(part.as_bytes());
        }
    }

    /// The next column, of ClickHouse's type `kind`.
    pub fn column<T: Value>(&mut self, kind: &str, value: impl Fn(&R) -> T) {
        self.begin([kind, "", ""]);
        self.put(value);
    }

    /// The next column, of `Nullable(kind)`.
    pub fn nullable<T: Value>(&mut self, kind: &str, value: impl Fn(&R) -> Option<T>) {
        self.begin(["Nullable(", kind, ")"]);
        self.put(|row| value(row).is_none());
        self.put(|row| value(row).unwrap_or(T::NONE));
    }

    /// The next column, of type `String`.
    pub fn strings<'b>(&mut self, value: impl Fn(&'b R) -> &'b [u8])
    where
        'a: 'b,
    {
        self.begin(["String", "", ""]);
        for row in self.rows {
            put_bytes(&mut self.plain, value(row));
        }
    }

    fn put<T: Value>(&mut self, value: impl Fn(&R) -> T) {
        let start = self.plain.len();
        self.plain.resize(start + self.rows.len() * T::SIZE, 0);
        let to = self.plain[start..].chunks_exact_mut(T::SIZE);
        for (row, to) in self.rows.iter().zip(to) {
            value(row).write(to);
        }
    }

    /// The block, compressed.
    pub fn finish(self) -> Block {
        Block {
            bytes: compress(&self.plain),
            rows: self.rows.len() as u64,
        }
    }
}

/// A length as ClickHouse writes them: seven bits a byte, the low ones first.
fn put_length(to: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        to.push(length as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_length(to, bytes.len());
    to.extend_from_slice(bytes);
}

/// `plain` in ClickHouse's frame: checksum, method, both lengths, LZ4.
fn compress(plain: &[u8]) -> Vec<u8> {
    let start = CHECKSUM_SIZE + FRAME_SIZE;
    let room = lz4_flex::block::get_maximum_output_size(plain.len());
    let mut bytes = vec![0; start + room];
    let packed = lz4_flex::block::compress_into(plain, &mut bytes[start..])
        .expect("the room is the most that LZ4 needs");
    bytes.truncate(start + packed);
    bytes[CHECKSUM_SIZE] = METHOD_LZ4;
    bytes[CHECKSUM_SIZE + 1..][..4].copy_from_slice(&length(FRAME_SIZE + packed));
    bytes[CHECKSUM_SIZE + 5..][..4].copy_from_slice(&length(plain.len()));
    let checksum = checksum(&bytes[CHECKSUM_SIZE..]);
    bytes[..CHECKSUM_SIZE].copy_from_slice(&checksum);
    bytes
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("a chunk of rows takes some megabytes")
        .to_le_bytes()
}

/// CityHash128 of version 1.0.2 as ClickHouse writes it, the low half first.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_SIZE] {
    cityhash_rs::cityhash_102_128(bytes)
        .rotate_right(64)
        .to_le_bytes()
}

#[cfg(test)]
pub(crate) mod tests;
