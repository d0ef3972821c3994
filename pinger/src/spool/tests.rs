use super::*;
use crate::native::{Block, checksum};
use proptest::prelude::*;

mod bad_disk;
mod pair;
mod refused;
mod syncs;

use pair::Pair;

const SECOND_NS: u64 = 1_000_000_000;

fn options() -> Options {
    Options {
        bytes_max: u64::MAX,
        age_max_ns: i64::MAX,
        drop: DropPolicy::Oldest,
        sync: SyncPolicy::Batch,
    }
}

fn identity() -> Identity {
    Identity {
        source: 7,
        run: 12,
        store: "embedded".to_owned(),
    }
}

fn spool(options: Options) -> Pair<MemoryDisk> {
    let disk = MemoryDisk::new();
    Pair::new(disk.same(), disk, options)
}

fn at(seconds: u64) -> Now {
    Now {
        mono_ns: seconds * SECOND_NS,
        wall_ns: (seconds * SECOND_NS).cast_signed(),
    }
}

/// `rows` rows in `bytes` bytes, of which all but one end a probe.
fn chunk(now: Now, rows: u64, bytes: usize) -> Chunk {
    let content = vec![rows as u8; bytes];
    let mut block = checksum(&content).to_vec();
    block.extend_from_slice(&content);
    Chunk {
        block: Block { bytes: block, rows },
        markers: vec![Marker {
            destination: 121,
            sequence: 5,
            time_due: now.wall_ns,
            outcome: 1,
        }],
        probes: rows - 1,
        from_ns: now.wall_ns,
        until_ns: now.wall_ns,
    }
}

fn names(spool: &mut Spool<MemoryDisk>) -> Vec<String> {
    let files = spool.disk_mut().list().expect("memory does not fail");
    files.into_iter().map(|file| file.name).collect()
}

/// Length of all segments but those in `refused/`.
fn file_bytes(spool: &mut Spool<MemoryDisk>) -> u64 {
    let files = spool.disk_mut().list().expect("memory does not fail");
    let is_counted =
        |file: &&Entry| files::parse(&file.name).is_some_and(|(_, state)| state != State::Aside);
    files.iter().filter(is_counted).map(|file| file.bytes).sum()
}

/// A segment of `rows` rows that waits.
fn sealed(spool: &mut Pair<MemoryDisk>, now: Now, rows: u64) {
    spool.put(now, chunk(now, rows, 1000));
    spool.seal(now);
}

#[test]
fn a_row_goes_its_way() {
    let mut spool = spool(options());
    spool.put(at(1), chunk(at(1), 10, 100));
    assert_eq!(names(&mut spool), ["00000001.open", "store"]);
    assert!(spool.next(at(1)).is_none());
    spool.seal(at(1));
    assert_eq!(names(&mut spool), ["00000001.seg", "store"]);
    let job = spool.next(at(1)).expect("a job");
    assert_eq!(names(&mut spool), ["00000001.try", "store"]);
    assert_eq!((job.token.as_str(), job.rows), ("7-12-1", 10));
    assert_eq!(job.body, chunk(at(1), 10, 100).block.bytes);
    assert_eq!(job.question, None);
    assert!(spool.next(at(1)).is_none());
    spool.done(at(1), job, End::Written);
    // The newest stays, for its number and totals.
    assert_eq!(names(&mut spool), ["00000001.done", "store"]);
    let counts = spool.counts();
    assert_eq!(
        (counts.accepted, counts.written, counts.spooled),
        (10, 10, 0)
    );
    sealed(&mut spool, at(2), 1);
    let job = spool.next(at(2)).expect("a job");
    spool.done(at(2), job, End::Written);
    assert_eq!(names(&mut spool), ["00000002.done", "store"]);
    assert!(!spool.is_drained());
    spool.end(at(3)).expect("memory does not fail");
    assert!(spool.is_drained());
    assert_eq!(spool.clear(), Ok(true));
    assert!(names(&mut spool).is_empty());
}

#[test]
fn a_segment_is_sealed_by_size() {
    let mut spool = spool(options());
    spool.put(at(1), chunk(at(1), BATCH_ROWS - 1, 10));
    assert!(spool.next(at(1)).is_none());
    spool.put(at(1), chunk(at(1), 1, 10));
    let job = spool.next(at(1)).expect("it is full");
    assert_eq!((job.rows, job.body.len()), (BATCH_ROWS, 2 * 26));
    spool.put(at(1), chunk(at(1), 1, BATCH_BYTES as usize));
    assert_eq!(spool.next(at(1)).expect("it is full").rows, 1);
}

#[test]
fn a_segment_is_sealed_by_age_and_later_while_others_wait() {
    let mut spool = spool(options());
    let born = at(1);
    spool.put(born, chunk(born, 1, 10));
    let later = |ns| Now {
        mono_ns: born.mono_ns + ns,
        ..born
    };
    spool.tick(later(BATCH_AGE_NS - 1));
    assert!(spool.next(born).is_none());
    spool.tick(later(BATCH_AGE_NS));
    let first = spool.next(born).expect("it is old enough");

    sealed(&mut spool, born, 1);
    spool.put(born, chunk(born, 1, 10));
    spool.tick(later(BACKLOG_AGE_NS - 1));
    assert_eq!(spool.counts().segments, 2);
    // As soon as the store takes rows, they are sent while they are fresh.
    spool.done(born, first, End::Written);
    spool.tick(later(BACKLOG_AGE_NS - 1));
    assert_eq!(spool.counts().segments, 2);
}

#[test]
fn what_fails_is_sent_again_under_its_token_and_later_each_time() {
    let mut spool = spool(options());
    sealed(&mut spool, at(0), 3);
    let mut now = at(1);
    let ends: [fn(String) -> End; 3] = [End::Doubtful, End::Retry, End::Retry];
    let mut backoff_ns = BACKOFF_MIN_NS;
    for attempt in 0..12 {
        let job = spool.next(now).expect("its time has come");
        assert_eq!(job.token, "7-12-1");
        assert_eq!(job.question.is_some(), attempt > 0);
        assert!(!job.ask_first);
        spool.done(now, job, ends[attempt as usize % 3]("why".to_owned()));
        now.mono_ns += backoff_ns - 1;
        assert!(spool.next(now).is_none());
        now.mono_ns += 1;
        backoff_ns = (backoff_ns * 2).min(BACKOFF_MAX_NS);
    }
}

#[test]
fn a_token_without_its_rows_is_given_up() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 3);
    for (second, token) in [(1, "7-12-1"), (2, "7-12-1-2"), (3, "7-12-1-3")] {
        let job = spool.next(at(second)).expect("a job");
        assert_eq!((job.token.as_str(), job.is_once_more), (token, second > 1));
        spool.done(at(second), job, End::Missing);
        assert!(spool.next(at(second)).is_none(), "not at once");
    }
}

#[test]
fn few_are_tried_while_the_store_is_away() {
    let mut spool = spool(options());
    for _ in 0..5 {
        sealed(&mut spool, at(1), 1);
    }
    let tried = |spool: &mut Spool<MemoryDisk>| {
        let names = names(spool);
        names.iter().filter(|name| name.ends_with(".try")).count()
    };
    let until = |second, spool: &mut Spool<MemoryDisk>| {
        for second in 1..second {
            while let Some(job) = spool.next(at(second)) {
                spool.done(at(second), job, End::Retry("away".to_owned()));
            }
        }
    };
    until(60, &mut spool);
    assert_eq!(tried(&mut spool), TRIED_MAX);
    // What fails for so long may be at fault itself: others get their turn.
    until(200, &mut spool);
    assert!(tried(&mut spool) > TRIED_MAX);
}

#[test]
fn small_tables_do_not_keep_results_waiting() {
    let mut spool = spool(options());
    for table in [Table::Sources, Table::Runs, Table::Destinations] {
        let block = chunk(at(1), 1, 10).block;
        spool.add(at(1), table, block);
    }
    sealed(&mut spool, at(1), 5);
    let mut jobs = Vec::new();
    while let Some(job) = spool.next(at(1)) {
        jobs.push(job.table);
        spool.done(at(1), job, End::Retry("no right to insert".to_owned()));
    }
    assert!(jobs.contains(&Table::Incoming), "{jobs:?}");
}

#[test]
fn a_server_that_refuses_everything_is_waited_for() {
    let mut spool = spool(options());
    for _ in 0..20 {
        sealed(&mut spool, at(1), 5);
    }
    for second in 1..300 {
        while let Some(job) = spool.next(at(second)) {
            let (is_result, given_up) = (job.table == Table::Incoming, spool.counts().dropped);
            let end = match is_result {
                true => End::Refused("a constraint".to_owned()),
                false => End::Written,
            };
            let is_all_refused = spool.done(at(second), job, end);
            assert_eq!(is_all_refused, is_result && given_up == 8 * 5);
        }
    }
    assert_eq!(spool.counts().dropped, 8 * 5);
    // Somebody has mended it.
    let mut second = 300;
    while spool.counts().spooled > 0 && second < 400 {
        while let Some(job) = spool.next(at(second)) {
            spool.done(at(second), job, End::Written);
        }
        second += 1;
    }
    assert_eq!((spool.counts().written, spool.counts().dropped), (60, 40));
}

/// The words of all gaps that wait to be sent, as the files have them.
fn gap_segments(spool: &Spool<MemoryDisk>) -> usize {
    let segments = spool.segments.values();
    segments
        .filter(|segment| segment.table == Table::Gaps)
        .count()
}

#[test]
fn a_full_spool_drops_the_oldest_that_was_never_sent() {
    let mut spool = spool(Options {
        bytes_max: 10_000,
        ..options()
    });
    let second = |number: u64| at(number);
    sealed(&mut spool, second(1), 2);
    let out = spool.next(second(1)).expect("a job");
    for number in 2..20 {
        sealed(&mut spool, second(number), 2);
        assert!(spool.counts().bytes <= 10_000, "{:?}", spool.counts());
        assert_eq!(spool.audit(), spool.counts().spooled);
    }
    let counts = spool.counts();
    assert_eq!(counts.accepted, 38);
    assert!(counts.dropped > 0 && counts.dropped.is_multiple_of(2));
    assert!(gap_segments(&spool) > 0);
    // What is in doubt, and the newest, are there.
    let names = names(&mut spool);
    assert!(names.contains(&"00000001.try".to_owned()), "{names:?}");
    assert!(!names.contains(&"00000002.seg".to_owned()), "{names:?}");
    spool.done(second(20), out, End::Written);
    let notices = spool.notices();
    assert!(
        matches!(&notices[..], [Notice::Lost(GapReason::SpoolFull, _)]),
        "{notices:?}"
    );
}

#[test]
fn a_full_spool_refuses_the_newest() {
    let mut spool = spool(Options {
        bytes_max: 5_000,
        drop: DropPolicy::Newest,
        ..options()
    });
    for number in 1..20 {
        sealed(&mut spool, at(number), 2);
        spool.tick(at(number));
    }
    let counts = spool.counts();
    assert_eq!(counts.accepted, 38);
    assert_eq!(counts.spooled + counts.dropped, 38);
    assert!(counts.dropped > 20, "{counts:?}");
    assert!(names(&mut spool).contains(&"00000001.seg".to_owned()));
    // One soon after the first loss, then one each ten seconds.
    assert_eq!(gap_segments(&spool), 2);
}

#[test]
fn what_waits_too_long_is_dropped() {
    let mut spool = spool(Options {
        age_max_ns: 60 * SECOND_NS.cast_signed(),
        ..options()
    });
    sealed(&mut spool, at(1), 2);
    sealed(&mut spool, at(40), 3);
    spool.tick(at(61));
    assert_eq!(spool.counts().dropped, 0);
    // The clock may have jumped: it must be so for a tenth of that time.
    spool.tick(at(63));
    assert_eq!(spool.counts().dropped, 0);
    spool.tick(at(69));
    assert_eq!(spool.counts().dropped, 2);
    assert_eq!(gap_segments(&spool), 1);
}

#[test]
fn a_wall_clock_that_jumps_costs_nothing() {
    let options = Options {
        age_max_ns: 60 * SECOND_NS.cast_signed(),
        ..options()
    };
    let later = |second: u64, years: i64| Now {
        wall_ns: at(second).wall_ns + years * 365 * 86_400 * SECOND_NS.cast_signed(),
        ..at(second)
    };
    let mut spool = spool(options);
    sealed(&mut spool, at(1), 2);
    for second in 2..50 {
        spool.tick(later(second, 50));
    }
    assert_eq!(spool.counts().dropped, 0);
    // An adopted one has no other clock, so it waits whether the jump stays.
    let disk = spool.disk_mut().copy();
    let mut adopted = Spool::adopt(disk, identity(), options, None, at(50)).expect("it is ours");
    for (second, years) in [(51, 50), (54, 50), (55, 0), (56, 50), (60, 50)] {
        adopted.tick(later(second, years));
        assert_eq!(adopted.counts().dropped, 0, "{second}");
    }
    adopted.tick(later(63, 50));
    assert_eq!(adopted.counts().dropped, 2);
}

#[test]
fn an_older_spool_gives_way_to_a_newer_one() {
    let mut old = spool(options());
    for _ in 0..5 {
        sealed(&mut old, at(1), 1000);
    }
    let held = old.counts().bytes;
    let mut new = spool(Options {
        bytes_max: held,
        ..options()
    });
    new.set_bytes_elsewhere(held);
    new.tick(at(2));
    new.filler.put(at(2), chunk(at(2), 10, 100));
    let report = new.filler.report().expect("it asks");
    new.take(at(2), report);
    assert_eq!(new.unwritten(), 10);
    assert!(new.lacks_room(at(2)));
    assert!(old.give_way(at(2), new.wanted()));
    // The smallest part that is enough: one segment of five.
    assert_eq!(old.counts().dropped, 1000);
    new.set_bytes_elsewhere(old.counts().bytes);
    assert!(!new.lacks_room(at(2)));
    new.tick(at(2));
    assert_eq!((new.unwritten(), new.counts().dropped), (0, 0));
    let mut newest = spool(Options {
        drop: DropPolicy::Newest,
        ..options()
    });
    sealed(&mut newest, at(1), 1000);
    assert!(!newest.give_way(at(2), 1));
}

#[test]
fn what_the_server_refuses_is_put_aside_with_its_words() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 2);
    for second in [1, 2] {
        let job = spool.next(at(second)).expect("a job");
        spool.done(at(second), job, End::Refused("bad\n rows".to_owned()));
    }
    let names = names(&mut spool);
    for name in ["refused/00000001.seg", "refused/00000001.txt"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    let words = spool.disk_mut().read("refused/00000001.txt", 0, 999);
    let words = String::from_utf8(words.expect("it is there")).expect("text");
    assert_eq!(words, "token 7-12-1\nincoming: bad rows\n");
    assert_eq!(spool.counts().dropped, 2);
    // The gap, which is no poison.
    let job = spool.next(at(3)).expect("a job");
    assert_eq!((job.table, job.rows), (Table::Gaps, 1));
    spool.done(at(3), job, End::Written);
    spool.end(at(3)).expect("memory does not fail");
    // What was refused is for people to look at.
    assert_eq!(spool.clear(), Ok(false));
    assert_eq!(spool.counts().spooled, 0);
}

#[test]
fn a_killed_run_is_taken_over() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 5);
    let job = spool.next(at(1)).expect("a job");
    drop(job);
    spool.put(at(2), chunk(at(2), 3, 10));
    let disk = spool.disk_mut().copy();
    let tally = Tally {
        sent: 20,
        rows: 11,
        last_ns: at(3).wall_ns,
        is_least: false,
    };
    let adopt = |disk| Spool::adopt(disk, identity(), options(), Some(tally), at(9));
    let mut adopted = adopt(disk).expect("it is ours");
    assert!(adopted.is_closed());
    assert_eq!(adopted.counts().accepted, 8);
    // 5 and 3 rows that end 4 and 2 probes are there: 3 rows and 14 probes are not.
    let gap = &adopted.segments[&3];
    assert_eq!((gap.table, gap.closes), (Table::Gaps, true));
    let names = names(&mut adopted);
    assert_eq!(
        names,
        [
            "00000001.try",
            "00000002.seg",
            "00000003.seg",
            "ended",
            "store"
        ]
    );
    // Once more, and nothing is told twice.
    let again = adopt(adopted.disk_mut().copy()).expect("it is ours");
    assert_eq!(again.segments.len(), 3);

    let mut doubtful = Vec::new();
    while let Some(job) = adopted.next(at(10)) {
        assert!(!job.ask_first);
        doubtful.push((job.number, job.question.is_some()));
        adopted.done(at(10), job, End::Written);
    }
    assert_eq!(doubtful, [(1, true), (2, false), (3, false)]);
    assert!(adopted.is_drained());
}

#[test]
fn an_old_doubt_is_asked_about_first() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 5);
    let job = spool.next(at(1)).expect("a job");
    spool.done(at(1), job, End::Doubtful("it broke".to_owned()));
    for (second, ask_first) in [(10, false), (31, false), (32, true)] {
        let job = spool.next(at(second)).expect("a job");
        assert_eq!((second, job.ask_first), (second, ask_first));
        spool.done(at(second), job, End::Doubtful("it broke".to_owned()));
    }
    let disk = spool.disk_mut().copy();
    let adopted = Spool::adopt(disk, identity(), options(), None, at(100));
    let job = adopted.expect("it is ours").next(at(100)).expect("a job");
    assert!(job.ask_first && job.question.is_some());

    // How it ended may have waited for a disk that stood still.
    sealed(&mut spool, at(200), 5);
    let job = spool.next(at(200)).expect("a job");
    let job = match job.number {
        1 => spool.next(at(200)).expect("another job"),
        _ => job,
    };
    spool.done(at(240), job, End::Doubtful("it broke".to_owned()));
    assert!(spool.next(at(250)).expect("a job").ask_first);
}

#[test]
fn a_server_that_answers_knows_the_token() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 5);
    let failed = || End::Failed("its disk is full".to_owned());
    for second in (1..80).step_by(10) {
        let job = spool.next(at(second)).expect("a job");
        assert!(!job.ask_first, "{second}");
        spool.done(at(second), job, failed());
    }
    // It was silent once: what it answers afterwards says nothing of the token.
    let job = spool.next(at(81)).expect("a job");
    assert!(!job.ask_first && job.question.is_some());
    spool.done(at(81), job, End::Doubtful("it broke".to_owned()));
    for second in [91, 101] {
        let job = spool.next(at(second)).expect("a job");
        assert!(!job.ask_first, "{second}");
        spool.done(at(second), job, failed());
    }
    assert!(spool.next(at(112)).expect("a job").ask_first);
}

#[test]
fn the_highest_totals_stay_on_disk() {
    let mut spool = spool(options());
    let soon = |ns| Now {
        mono_ns: ns,
        wall_ns: 0,
    };
    spool.put(soon(0), chunk(soon(0), 5, 10));
    spool.add(soon(0), Table::Gaps, chunk(soon(0), 1, 10).block);
    spool.put(soon(0), chunk(soon(0), 4, 10));
    spool.seal(soon(0));
    while let Some(job) = spool.next(soon(0)) {
        spool.done(soon(0), job, End::Written);
    }
    // The second is the newest, and the first was written to after it.
    let expected = ["00000001.done", "00000002.done", "store"];
    assert_eq!(names(&mut spool), expected);
    let disk = spool.disk_mut().copy();
    let adopted = Spool::adopt(disk, identity(), options(), None, at(1)).expect("it is ours");
    assert_eq!(adopted.accounts.sum(), Totals { rows: 9, probes: 7 });
}

#[test]
fn another_stores_rows_are_left_alone() {
    let mut spool = spool(options());
    sealed(&mut spool, at(1), 5);
    let other = Identity {
        store: "https://db.example.com:8443/pinger".to_owned(),
        ..identity()
    };
    let adopted = Spool::adopt(spool.disk_mut().copy(), other, options(), None, at(2));
    assert_eq!(
        adopted.err(),
        Some(SpoolError::Foreign("embedded".to_owned()))
    );
}

proptest! {
    /// However chunks, losses and ends of inserts follow each other, each row is counted once.
    #[test]
    fn rows_are_conserved(
        steps in prop::collection::vec((0..7_u8, 1..9_u64), 1..120),
        bytes_max in prop_oneof![Just(u64::MAX), 3_000..30_000_u64],
        is_oldest: bool,
    ) {
        let drop = if is_oldest { DropPolicy::Oldest } else { DropPolicy::Newest };
        let mut spool = spool(Options { bytes_max, drop, ..options() });
        let (mut out, mut made) = (Vec::new(), 0);
        for (second, (step, rows)) in steps.into_iter().enumerate() {
            let now = at(second as u64);
            match step {
                0 | 1 => {
                    made += rows;
                    spool.put(now, chunk(now, rows, 100 * rows as usize));
                }
                2 => spool.seal(now),
                3 => spool.tick(now),
                4 => out.extend(spool.next(now)),
                _ => if let Some(job) = out.pop() {
                    let words = "why".to_owned();
                    let end = match rows {
                        1 => End::Missing,
                        2 => End::Retry(words),
                        3 => End::Doubtful(words),
                        4 | 5 => End::Refused(words),
                        6 => End::Untried,
                        7 => End::Failed(words),
                        _ => End::Written,
                    };
                    spool.done(now, job, end);
                }
            }
            let counts = spool.counts();
            prop_assert_eq!(counts.accepted, made);
            prop_assert_eq!(counts.written + counts.spooled + counts.dropped, made);
            prop_assert_eq!(spool.audit(), counts.spooled);
            // Gaps are few, and are written also when there is no room for results.
            prop_assert!(bytes_max == u64::MAX || counts.bytes <= bytes_max + 8_000);
            prop_assert_eq!(counts.bytes, file_bytes(&mut spool));
        }
    }
}
