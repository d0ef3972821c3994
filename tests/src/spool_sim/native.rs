//! Reads ClickHouse's compressed Native blocks: an oracle for what pinger writes, which never
//! reads them.

use std::collections::BTreeMap;

/// The numbers in a column; `None` for NULL. Strings and addresses are zero.
pub(super) type Column = Vec<Option<u64>>;

/// All blocks of an insert, columns by name.
///
/// # Panics
/// When they are not well formed.
pub(super) fn blocks(mut body: &[u8]) -> Vec<BTreeMap<String, Column>> {
    let mut blocks = Vec::new();
    while !body.is_empty() {
        let packed = u32::from_le_bytes(body[17..21].try_into().expect("four bytes")) as usize;
        let plain = u32::from_le_bytes(body[21..25].try_into().expect("four bytes")) as usize;
        let (block, rest) = body.split_at(16 + packed);
        let plain = lz4_flex::block::decompress(&block[25..], plain).expect("LZ4");
        blocks.push(Reader { plain: &plain }.block());
        body = rest;
    }
    blocks
}

struct Reader<'a> {
    plain: &'a [u8],
}

impl Reader<'_> {
    fn block(&mut self) -> BTreeMap<String, Column> {
        let (columns, rows) = (self.length(), self.length());
        let mut block = BTreeMap::new();
        for _ in 0..columns {
            let (name, kind) = (self.string(), self.string());
            block.insert(name, self.column(&kind, rows));
        }
        assert!(self.plain.is_empty(), "bytes behind the last column");
        block
    }

    fn column(&mut self, kind: &str, rows: usize) -> Column {
        if let Some(kind) = kind.strip_prefix("Nullable(") {
            let nulls = self.take(rows).to_vec();
            let values = self.column(&kind[..kind.len() - 1], rows);
            let value = |(null, value): (&u8, &Option<u64>)| value.filter(|_| *null == 0);
            return nulls.iter().zip(&values).map(value).collect();
        }
        let size = match kind {
            "UInt8" | "Bool" => 1,
            "UInt16" => 2,
            "UInt32" => 4,
            "UInt64" => 8,
            "IPv6" => 16,
            "String" => 0,
            _ if kind.starts_with("Enum8") => 1,
            _ if kind.starts_with("DateTime64(9") => 8,
            _ => panic!("a column of type {kind}"),
        };
        (0..rows).map(|_| Some(self.value(size))).collect()
    }

    fn value(&mut self, size: usize) -> u64 {
        if size == 0 {
            self.string();
            return 0;
        }
        let mut number = [0; 8];
        let bytes = self.take(size);
        if size <= 8 {
            number[..size].copy_from_slice(bytes);
        }
        u64::from_le_bytes(number)
    }

    fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return length;
            }
        }
    }

    fn string(&mut self) -> String {
        let length = self.length();
        String::from_utf8(self.take(length).to_vec()).expect("text")
    }

    fn take(&mut self, bytes: usize) -> &[u8] {
        let (taken, rest) = self.plain.split_at(bytes);
        self.plain = rest;
        taken
    }
}
