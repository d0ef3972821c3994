//! The table `store`: how fast rows go through the whole writer into an embedded ClickHouse, what
//! that costs in CPU and on disk, and how soon a backlog is gone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pinger::config::{SpoolOptions, SpoolPlace, SpoolSync};

use crate::bench::Bench;
use crate::database::{Database, wall_ns};
use crate::feed::{self, Distance, Feed};
use crate::measure::{Case, Figure, Run, Table, Unit};
use crate::process::{Stopped, children, cpu_s, other_threads_cpu_s};

/// Rows of a run: seconds of work, so that what a start costs does not count.
const ROWS: u64 = 5_000_000;
const MILLION: f64 = 1e6;
/// The source in whose name rows are fed.
const SOURCE: u32 = 1;
/// Rows a second while the store stands still, and after: what 50,000 probes a second make.
const LIVE: u64 = 50_000;
/// How long it stands still: less than any wait for it is long.
const AWAY: Duration = Duration::from_secs(10);
/// How long rows come before that.
const WARM: Duration = Duration::from_secs(2);
/// Rows a second of the run that leaves some: more than most probers make, and as many in all as
/// eight hours of a hundred probes a second.
const LEFT_RATE: u64 = 300_000;
/// The longest that a backlog may take.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// Rows that wait at any time though the store keeps up: those of a second, in segments in the
/// making and on their way.
const USUAL: u64 = LIVE;
/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The longest that closing a store may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);
/// A run takes less time than its start and its rest; this many show how they differ.
const RUNS_MAX: u32 = 3;

/// Where rows wait until the store has them: what a case is called, and how the spool is set.
const SPOOLS: [(&str, SpoolPlace, SpoolSync); 4] = [
    ("spool in memory", SpoolPlace::Memory, SpoolSync::Never),
    (
        "spool on disk, fsync never",
        SpoolPlace::Disk,
        SpoolSync::Never,
    ),
    (DURABLE, SpoolPlace::Disk, SpoolSync::Batch),
    (
        "spool on disk, fsync each chunk",
        SpoolPlace::Disk,
        SpoolSync::Chunk,
    ),
];
/// As pinger does it unless told otherwise.
const DURABLE: &str = "spool on disk, fsync each segment";

pub(crate) fn table() -> Table {
    let case = |name: String, time, run: Run| Case {
        name,
        tool: "pinger",
        time,
        runs_max: RUNS_MAX,
        run,
    };
    let mut cases: Vec<Case> = Vec::new();
    for (name, place, sync) in SPOOLS {
        let run = move |bench: &Bench| flat_out(bench, &spool(place, sync), Distance::Far);
        cases.push(case(name.into(), Duration::from_secs(8), Box::new(run)));
    }
    let near = |bench: &Bench| flat_out(bench, &SpoolOptions::default(), Distance::Near);
    cases.push(case(
        format!("{DURABLE}, near"),
        Duration::from_secs(8),
        Box::new(near),
    ));
    let away = AWAY * 3;
    cases.push(case("store away for 10 s".into(), away, Box::new(catch_up)));
    cases.push(case(
        "left by an earlier run".into(),
        away,
        Box::new(adopted),
    ));
    Table {
        name: "store",
        about: "Rows through the whole writer into an embedded ClickHouse on the same CPUs, which \
            also makes the rollups: five million results of 1,000 destinations, given as fast as \
            they are taken, until the last one is written. Round trips are 2 to 200 ms with 1 % \
            jitter and 1 % loss; `near`, 4 to 8 µs without loss. CPU is for a million rows: \
            `pinger` is everything from a row to the request, but not the making of the row. \
            `raw` is what a row takes on disk in `results`, `all` counts the rollups too, for \
            destinations probed every 100 ms.\n\nThen the store stands still for 10 s while \
            50,000 rows a second go on coming: `rows` is what it takes from then on until no more \
            than a second's rows wait, and `live rate` how many times what comes that is. And a \
            run ends while the store stands still: `rows` is what the next run sends of what was \
            left on disk.",
        cases,
        findings: |_| Vec::new(),
        page: None,
    }
}

fn spool(place: SpoolPlace, sync: SpoolSync) -> SpoolOptions {
    SpoolOptions {
        place,
        sync,
        ..SpoolOptions::default()
    }
}

/// As many rows as the store takes.
fn flat_out(bench: &Bench, spool: &SpoolOptions, distance: Distance) -> Result<Vec<Figure>> {
    bench.go_on()?;
    let rows = bench.time(Duration::from_secs(8)).as_secs() * ROWS / 8;
    let run_ns = feed::begin_ns(wall_ns()?, rows);
    let database = Database::start(SOURCE, run_ns, &feed::destinations(), spool)?;
    let engine = engine()?.to_string();
    let mut feed = Feed::new(database.store(), SOURCE, run_ns, distance);
    let (own, theirs, began) = (other_threads_cpu_s()?, cpu_s(&engine)?, Instant::now());
    feed.flat_out(rows);
    let seconds = began.elapsed().as_secs_f64();
    let (own, theirs) = (other_threads_cpu_s()? - own, cpu_s(&engine)? - theirs);
    ensure!(
        feed.dropped() == 0,
        "the store dropped {} rows",
        feed.dropped()
    );
    database.rest()?;
    let millions = rows as f64 / MILLION;
    let bytes = |tables: &str| {
        let bytes = database.number(&format!(
            "SELECT sum(bytes_on_disk) FROM system.parts
            WHERE database = currentDatabase() AND active AND {tables}"
        ))?;
        Ok::<_, anyhow::Error>(bytes / rows as f64)
    };
    Ok(vec![
        Unit::PerSecond.of("rows", rows as f64 / seconds),
        Unit::SecondsPerMillion.of("pinger", own / millions),
        Unit::SecondsPerMillion.of("ClickHouse", theirs / millions),
        Unit::BytesPerRow.of("raw", bytes("table = 'results'")?),
        Unit::BytesPerRow.of("all", bytes("1")?),
    ])
}

/// A store that is away for a while, and how soon it has all that came meanwhile.
fn catch_up(bench: &Bench) -> Result<Vec<Figure>> {
    bench.go_on()?;
    let run_ns = wall_ns()?;
    let spool = SpoolOptions::default();
    let database = Database::start(SOURCE, run_ns, &feed::destinations(), &spool)?;
    let mut feed = Feed::new(database.store(), SOURCE, run_ns, Distance::Far);
    feed.steady(LIVE, WARM, |_| false);
    let stopped = Stopped::new(engine()?)?;
    feed.steady(LIVE, AWAY, |_| false);
    let (backlog, fed, began) = (feed.waiting(), feed.fed(), Instant::now());
    drop(stopped);
    feed.steady(LIVE, CATCH_UP_LIMIT, |feed| feed.waiting() <= USUAL);
    let seconds = began.elapsed().as_secs_f64();
    let taken = backlog + feed.fed() - fed - feed.waiting();
    feed.flat_out(0);
    let stored = database.number("SELECT count() FROM results")?;
    let rate = taken as f64 / seconds;
    Ok(vec![
        Unit::PerSecond.of("rows", rate),
        Unit::Rows.count("backlog", backlog),
        Unit::Nanoseconds.of("caught up in", seconds * 1e9),
        Unit::Times.of("live rate", rate / LIVE as f64),
        Unit::Rows.of("rows missing", feed.fed() as f64 - stored),
    ])
}

/// What a run leaves on disk because the store is away at its end, and how soon the next run has
/// sent it.
fn adopted(bench: &Bench) -> Result<Vec<Figure>> {
    bench.go_on()?;
    let run_ns = wall_ns()?;
    let spool = SpoolOptions::default();
    let database = Database::start(SOURCE, run_ns, &feed::destinations(), &spool)?;
    let mut feed = Feed::new(database.store(), SOURCE, run_ns, Distance::Far);
    let stopped = Stopped::new(engine()?)?;
    feed.steady(LEFT_RATE, AWAY, |_| false);
    let fed = feed.fed() as f64;
    drop(feed);
    let (directory, rows) = database.close(CLOSE_LIMIT);
    // It is gone: a process that stands still is ended the hard way.
    drop(stopped);
    let database = Database::resume(directory, SOURCE, wall_ns()?, &[], &spool)?;
    let count = || database.number("SELECT count() FROM results");
    let (first, began) = (count()?, Instant::now());
    let mut stored = first;
    while stored < fed && began.elapsed() < CATCH_UP_LIMIT {
        bench.go_on()?;
        thread::sleep(LOOK);
        stored = count()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(vec![
        Unit::PerSecond.of("rows", (stored - first) / seconds),
        Unit::Rows.count("backlog", rows.spooled),
        Unit::Nanoseconds.of("caught up in", seconds * 1e9),
        Unit::Times.of("live rate", (stored - first) / seconds / LIVE as f64),
        Unit::Rows.of("rows missing", fed - stored),
    ])
}

/// The engine's process: our one child.
fn engine() -> Result<libc::pid_t> {
    let all = children()?;
    ensure!(
        all.len() == 1,
        "there are {} processes where the engine should be",
        all.len()
    );
    Ok(all[0])
}
