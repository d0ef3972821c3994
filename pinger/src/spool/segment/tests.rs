use proptest::prelude::*;

use super::*;

/// A block as far as segments look at it: its checksum, and whatever that is of.
fn block(content: &[u8]) -> Vec<u8> {
    let mut block = checksum(content).to_vec();
    block.extend_from_slice(content);
    block
}

fn header() -> Header {
    Header {
        table: Table::Incoming,
        closes: false,
        source: 7,
        run: 0x0102_0304_0506_0708,
        number: 9,
        accounts: Accounts {
            filled: Totals {
                rows: 100,
                probes: 90,
            },
            told: Totals { rows: 8, probes: 7 },
        },
    }
}

fn rows_frame(content: &[u8], rows: u64, filled: Totals, markers: &[Marker]) -> Vec<u8> {
    let block = block(content);
    let header = FrameHeader {
        kind: Kind::Rows,
        markers: markers.len() as u8,
        body: block.len() as u32,
        size: Totals { rows, probes: rows },
        filled,
        from_ns: 1_000,
        until_ns: 2_000,
        sum: block[..16].try_into().expect("a checksum"),
    };
    let mut bytes = header.emit(markers);
    bytes.extend_from_slice(&block);
    bytes
}

fn end_frame(size: Totals, filled: Totals) -> Vec<u8> {
    let header = FrameHeader {
        kind: Kind::End,
        markers: 0,
        body: 0,
        size,
        filled,
        from_ns: 1_000,
        until_ns: 2_000,
        sum: checksum(&[]),
    };
    header.emit(&[])
}

const MARKER: Marker = Marker {
    destination: 121,
    sequence: 5,
    time_due: -1,
    outcome: 3,
};

/// A segment of `count` frames, and where each of its parts ends.
fn segment(count: u64) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().emit().to_vec();
    let mut ends = vec![bytes.len()];
    let (mut size, mut filled) = (Totals::default(), header().accounts.filled);
    for number in 0..count {
        let content = vec![number as u8; 3 + number as usize];
        let rows = number + 1;
        let more = Totals { rows, probes: rows };
        (size, filled) = (size.plus(more), filled.plus(more));
        bytes.extend_from_slice(&rows_frame(&content, rows, filled, &[MARKER]));
        ends.push(bytes.len());
    }
    bytes.extend_from_slice(&end_frame(size, filled));
    ends.push(bytes.len());
    (bytes, ends)
}

#[test]
fn a_header_is_these_bytes() {
    let mut expected = b"pingseg1".to_vec();
    expected.extend_from_slice(&[1, 0, 0, 0]);
    expected.extend_from_slice(&[7, 0, 0, 0]);
    expected.extend_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
    expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[100, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[90, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0]);
    let bytes = header().emit();
    assert_eq!(bytes[..64], expected[..]);
    assert_eq!(bytes[64..], checksum(&expected)[..8]);
    assert_eq!(Header::parse(&bytes), Some(header()));

    let closing = Header {
        closes: true,
        table: Table::Gaps,
        ..header()
    };
    assert_eq!(closing.emit()[8..10], [5, 1]);
    assert_eq!(Header::parse(&closing.emit()), Some(closing));
}

#[test]
fn a_frame_is_these_bytes() {
    let filled = Totals {
        rows: 104,
        probes: 94,
    };
    let bytes = rows_frame(b"abc", 4, filled, &[MARKER]);
    let mut expected = vec![1, 1, 0, 0, 19, 0, 0, 0];
    for number in [4_u64, 4, 104, 94, 1_000, 2_000] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(&checksum(b"abc"));
    assert_eq!(bytes[..72], expected[..]);
    let mut marker = vec![121, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    marker.extend_from_slice(&[255; 8]);
    marker.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[80..112], marker[..]);
    assert_eq!(bytes[112..128], checksum(b"abc"));
    assert_eq!(bytes[128..], *b"abc");
    expected.extend_from_slice(&marker);
    assert_eq!(bytes[72..80], checksum(&expected)[..8]);

    let (frame, length) = frame(&bytes).expect("it is whole");
    assert_eq!(length, bytes.len());
    assert_eq!((frame.header.filled, frame.markers), (filled, vec![MARKER]));
    assert_eq!(frame.body, block(b"abc"));
}

#[test]
fn fates_are_these_bytes() {
    let fates = [(1, Fate::Dropped), (258, Fate::Aside), (3, Fate::Damaged)];
    let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(emit_fates(&fates), expected);
    assert_eq!(parse_fates(&expected), fates);
    assert_eq!(parse_fates(&[9; 16]), []);
}

#[test]
fn a_whole_segment_is_read_whole() {
    let (bytes, _) = segment(3);
    let contents = Contents::of(&bytes);
    assert!(contents.is_whole(bytes.len() as u64));
    assert_eq!(contents.header, Some(header()));
    assert_eq!(contents.size, Totals { rows: 6, probes: 6 });
    assert_eq!(
        contents.accounts.filled,
        Totals {
            rows: 106,
            probes: 96
        }
    );
    assert_eq!(contents.markers, [MARKER; 3]);
    assert_eq!(contents.range_ns, Some((1_000, 2_000)));
    let blocks = contents.blocks.iter().map(|at| bytes[at.clone()].to_vec());
    let expected: Vec<_> = [&[0; 3][..], &[1; 4], &[2; 5]].map(block).to_vec();
    assert_eq!(blocks.collect::<Vec<_>>(), expected);
}

#[test]
fn what_follows_the_end_is_damage() {
    let (mut bytes, _) = segment(1);
    let whole = bytes.len();
    bytes.push(0);
    let contents = Contents::of(&bytes);
    assert!(!contents.is_whole(bytes.len() as u64));
    assert_eq!(contents.valid, whole);
}

#[test]
fn a_damaged_block_costs_no_other() {
    let (mut bytes, ends) = segment(3);
    bytes[ends[2] - 1] ^= 1;
    let contents = Contents::of(&bytes);
    assert_eq!(contents.blocks.len(), 2);
    assert_eq!(contents.size, Totals { rows: 4, probes: 4 });
    assert_eq!(contents.valid, ends[1]);
    assert_eq!(
        contents.end.map(|end| end.size),
        Some(Totals { rows: 6, probes: 6 })
    );
    assert!(!contents.is_whole(bytes.len() as u64));
}

proptest! {
    /// Any cut leaves the frames before it, and nothing else.
    #[test]
    fn a_cut_leaves_a_prefix(count in 0..6_u64, cut: prop::sample::Index) {
        let (bytes, ends) = segment(count);
        let cut = cut.index(bytes.len());
        let contents = Contents::of(&bytes[..cut]);
        let valid = ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0);
        prop_assert_eq!(contents.valid, valid);
        let frames = ends[1..].iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(contents.blocks.len(), frames);
        prop_assert!(!contents.is_whole(cut as u64));
    }

    /// Whatever a failed write left behind the frames, it is not taken for one.
    #[test]
    fn zeros_and_rubbish_behind_are_no_frames(
        count in 0..4_u64,
        rubbish in prop_oneof![
            prop::collection::vec(Just(0), 1..300),
            prop::collection::vec(any::<u8>(), 1..300),
        ],
    ) {
        let (mut bytes, ends) = segment(count);
        let whole = ends[ends.len() - 2];
        bytes.truncate(whole);
        bytes.extend_from_slice(&rubbish);
        let contents = Contents::of(&bytes);
        prop_assert_eq!(contents.valid, whole);
        prop_assert_eq!(contents.blocks.len() as u64, count);
    }

    /// Any flipped bit is noticed, and no block is taken that is not what it was.
    #[test]
    fn a_flipped_bit_is_noticed(count in 0..6_u64, at: prop::sample::Index, bit in 0..8_u32) {
        let (mut bytes, _) = segment(count);
        let before = bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let contents = Contents::of(&bytes);
        prop_assert!(!contents.is_whole(bytes.len() as u64));
        for block in &contents.blocks {
            prop_assert_eq!(&bytes[block.clone()], &before[block.clone()]);
        }
    }

    /// No bytes make the reader panic.
    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let contents = Contents::of(&bytes);
        prop_assert!(contents.valid <= bytes.len());
    }
}
