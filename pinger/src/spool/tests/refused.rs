//! What was put aside: looked at, and made ready to be sent again.

use super::super::again::Again;
use super::super::look::{Holdings, Refused, look};
use super::*;

/// A spool with a refused segment of two chunks on two days, and the gap that tells of it.
fn refused() -> Pair<MemoryDisk> {
    let mut spool = spool(options());
    let days = [chunk(at(1), 2, 100), chunk(at(100_000), 3, 200)];
    days.into_iter().for_each(|chunk| spool.put(at(1), chunk));
    spool.seal(at(1));
    for second in [1, 2] {
        let job = spool.next(at(second)).expect("a job");
        spool.done(at(second), job, End::Refused("bad rows".to_owned()));
    }
    spool
}

#[test]
fn what_waits_and_what_was_refused_is_seen_and_stays() {
    let mut spool = refused();
    sealed(&mut spool, at(3), 4);
    spool.put(at(5), chunk(at(5), 6, 70));
    let before = spool.disk_mut().copy();
    let found = look(spool.disk_mut()).expect("memory does not fail");
    let state = format!("{:?}", spool.disk_mut());
    assert!(state == format!("{before:?}"), "to look changes nothing");
    let aside = spool.disk_mut().read("refused/00000001.seg", 0, u64::MAX);
    let refused = Refused {
        number: 1,
        table: Some(Table::Incoming),
        size: Totals { rows: 5, probes: 3 },
        bytes: aside.expect("it is there").len() as u64,
        words: "incoming: bad rows".to_owned(),
    };
    let expected = Holdings {
        store: Some("embedded".to_owned()),
        has_ended: false,
        // The gap, a sealed segment and the one being filled.
        segments: 3,
        bytes: file_bytes(&mut spool),
        results: Totals {
            rows: 10,
            probes: 8,
        },
        gaps: 1,
        range_ns: Some((at(3).wall_ns, at(5).wall_ns)),
        refused: vec![refused],
    };
    assert_eq!(found, expected);
    while let Some(job) = spool.next(at(6)) {
        spool.done(at(6), job, End::Written);
    }
    spool.end(at(6)).expect("memory does not fail");
    while let Some(job) = spool.next(at(6)) {
        spool.done(at(6), job, End::Written);
    }
    let found = look(spool.disk_mut()).expect("memory does not fail");
    let counts = (found.segments, found.results.rows, found.gaps, found.bytes);
    assert_eq!(counts, (0, 0, 0, 0));
    assert!(found.has_ended);
    assert_eq!(found.refused.len(), 1);
}

#[test]
fn what_was_refused_goes_with_its_reason_when_it_is_too_much() {
    let mut spool = refused();
    spool.trim_aside(u64::MAX).expect("memory does not fail");
    let found = look(spool.disk_mut()).expect("memory does not fail");
    assert_eq!(found.refused.len(), 1);
    spool.trim_aside(0).expect("memory does not fail");
    let left = spool.disk_mut().list().expect("memory does not fail");
    assert!(
        left.iter().all(|file| !file.name.starts_with("refused/")),
        "{left:?}"
    );
}

#[test]
fn a_refused_segment_is_sent_again_as_it_was() {
    let mut spool = refused();
    let bytes = spool.disk_mut().read("refused/00000001.seg", 0, u64::MAX);
    let bytes = bytes.expect("it is there");
    let again = Again::of(&identity(), 1, &bytes).expect("it is whole");
    let blocks = [chunk(at(1), 2, 100), chunk(at(100_000), 3, 200)];
    let body: Vec<u8> = blocks
        .iter()
        .flat_map(|chunk| chunk.block.bytes.clone())
        .collect();
    assert_eq!(again.body, body);
    assert_eq!(again.table, Table::Incoming);
    assert_eq!(again.size, Totals { rows: 5, probes: 3 });
    assert_eq!(again.range_ns, (at(1).wall_ns, at(100_000).wall_ns));
    let question = again.question.as_ref().expect("results count once");
    assert!(question.sql.contains("run = 12"), "{question:?}");
    assert_eq!(question.days, 2);
    let tokens: Vec<String> = again.tokens().take(2).collect();
    assert_eq!(tokens, ["7-12-1", "7-12-1-2"]);
    // Another number or run would be another token for the same rows.
    let other = Identity {
        run: 13,
        ..identity()
    };
    assert_eq!(Again::of(&identity(), 2, &bytes), None);
    assert_eq!(Again::of(&other, 1, &bytes), None);
    assert_eq!(Again::of(&identity(), 1, &bytes[..60]), None);
}
