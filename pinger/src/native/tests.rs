//! Blocks as literal bytes, and as a reader of the format takes them apart.

use super::*;

/// What a block holds, uncompressed, after its frame was checked.
pub(crate) fn plain(block: &Block) -> Vec<u8> {
    let bytes = &block.bytes;
    assert_eq!(bytes[..16], checksum(&bytes[16..]));
    assert_eq!(bytes[16], 0x82);
    let packed = u32::from_le_bytes(bytes[17..21].try_into().expect("four bytes"));
    assert_eq!(packed as usize, bytes.len() - 16);
    let plain = u32::from_le_bytes(bytes[21..25].try_into().expect("four bytes"));
    lz4_flex::block::decompress(&bytes[25..], plain as usize).expect("LZ4")
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[test]
fn columns_are_these_bytes() {
    let rows = [(1_u16, Some(-2_i64), "ab"), (0x0304, None, "")];
    let mut to = Columns::new(&["a", "b", "c"], &rows);
    to.column("UInt16", |row| row.0);
    to.nullable("Int64", |row| row.1);
    to.strings(|row| row.2.as_bytes());
    let block = to.finish();
    let mut expected = vec![3, 2];
    expected.extend([text("a"), text("UInt16"), vec![1, 0, 4, 3]].concat());
    expected.extend([text("b"), text("Nullable(Int64)"), vec![0, 1]].concat());
    expected.extend([
        254, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    expected.extend([text("c"), text("String"), text("ab"), vec![0]].concat());
    assert_eq!(plain(&block), expected);
    assert_eq!(block.rows, 2);
}

#[test]
fn a_frame_is_these_bytes() {
    // Five literals: LZ4's last ones are never matched.
    let frame = compress(b"hello");
    let content = [
        0x82, 15, 0, 0, 0, 5, 0, 0, 0, 0x50, b'h', b'e', b'l', b'l', b'o',
    ];
    assert_eq!(frame[16..], content);
    assert_eq!(frame[..16], checksum(&content));
}

#[test]
fn lengths_have_seven_bits_a_byte() {
    for (length, expected) in [
        (0, &[0][..]),
        (127, &[127]),
        (128, &[128, 1]),
        (65_536, &[128, 128, 4]),
    ] {
        let mut bytes = Vec::new();
        put_length(&mut bytes, length);
        assert_eq!(bytes, expected);
    }
}

fn row() -> ResultRow {
    ResultRow {
        run: 1,
        source: 2,
        destination: 3,
        sequence: 4,
        time_due: 5,
        lag: 6,
        rtt: Some(7),
        outcome: 1,
        address: "::ffff:192.0.2.4".parse().expect("an address"),
        rsite: 8,
        rhost: 9,
        rtype: 10,
        rcode: 11,
        rid: 12,
        rseq: 13,
        hop_limit: 14,
        datamatch: None,
        ttl: 15,
        hops: 16,
        answer: 5,
        traffic_class: 17,
        mismatch_at: None,
        jitter: 18,
        hop_limit_changed: true,
    }
}

#[test]
fn a_result_is_these_bytes() {
    let long = |number: u8| vec![number, 0, 0, 0, 0, 0, 0, 0];
    let address = [[0; 10].to_vec(), vec![255, 255, 192, 0, 2, 4]].concat();
    let columns: [(&str, &str, Vec<u8>); 24] = [
        ("run", "UInt64", long(1)),
        ("source", "UInt32", vec![2, 0, 0, 0]),
        ("destination", "UInt64", long(3)),
        ("sequence", "UInt64", long(4)),
        ("time_due", TIME, long(5)),
        ("lag", "UInt64", long(6)),
        ("rtt", "Nullable(UInt64)", [vec![0], long(7)].concat()),
        ("outcome", OUTCOME, vec![1]),
        ("address", "IPv6", address),
        ("rsite", "UInt32", vec![8, 0, 0, 0]),
        ("rhost", "UInt32", vec![9, 0, 0, 0]),
        ("rtype", "UInt8", vec![10]),
        ("rcode", "UInt8", vec![11]),
        ("rid", "UInt16", vec![12, 0]),
        ("rseq", "UInt16", vec![13, 0]),
        ("hop_limit", "UInt8", vec![14]),
        ("datamatch", "Nullable(Bool)", vec![1, 0]),
        ("ttl", "UInt8", vec![15]),
        ("hops", "UInt8", vec![16]),
        ("answer", ANSWER, vec![5]),
        ("traffic_class", "UInt8", vec![17]),
        ("mismatch_at", "Nullable(UInt16)", vec![1, 0, 0]),
        ("jitter", "UInt64", long(18)),
        ("hop_limit_changed", "Bool", vec![1]),
    ];
    let mut expected = vec![24, 1];
    for (name, kind, value) in columns {
        expected.extend([text(name), text(kind), value].concat());
    }
    assert_eq!(plain(&results(&[row()])), expected);
}

#[test]
fn names_and_values_of_enums_agree() {
    for outcome in crate::result::Outcome::ALL {
        let value = format!("'{}' = {}", outcome.name(), outcome as i8);
        assert!(OUTCOME.contains(&value), "{value}");
    }
}
