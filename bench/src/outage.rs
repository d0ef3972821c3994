//! The table `outage`: what happens while the store stands still, and how soon it has all that
//! came meanwhile.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pinger::config::SpoolOptions;

use crate::bench::{Bench, DataDir};
use crate::database::{Database, wall_ns};
use crate::feed::{self, Distance, Feed};
use crate::measure::{Case, Figure, Row, Run, Table, Unit};
use crate::process::{Stopped, children};

/// The source in whose name rows are fed.
const SOURCE: u32 = 1;
/// Rows a second while the store stands still, and after: what 50,000 probes a second make.
const LIVE: u64 = 50_000;
/// Hosts and interval that come to that.
const HOSTS: &str = "198.18.0.1-198.18.3.232";
const INTERVAL: &str = "20ms";
/// How long the store stands still: less than any wait for it is long.
const AWAY: Duration = Duration::from_secs(10);
/// How long rows come before that.
const WARM: Duration = Duration::from_secs(2);
/// Of a probing run: from its start until then, and how long it goes on after the outage.
const STEADY: Duration = Duration::from_secs(10);
/// Rows a second of the run that leaves some: more than most probers make, and as many in all as
/// eight hours of a hundred probes a second.
const LEFT_RATE: u64 = 300_000;
/// The longest that a backlog may take.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// The longest that a run may take until it probes.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Rows that wait at any time though the store keeps up: those of a second, in segments in the
/// making and on their way.
const USUAL: u64 = LIVE;
/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The longest that closing a store may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);
/// Each run takes half a minute; this many show how they differ.
const RUNS_MAX: u32 = 3;
/// How many times the live rate a backlog should drain at.
const GOAL_TIMES: f64 = 5.0;

/// The main case, which the findings judge.
const MAIN: &str = "store away for 10 s";

pub(crate) fn table() -> Table {
    let case = |name: &str, run: Run| Case {
        name: name.into(),
        tool: "pinger",
        time: AWAY + STEADY * 2,
        runs_max: RUNS_MAX,
        run,
    };
    Table {
        name: "outage",
        about: "Rows come at 50,000 a second, the store stands still for 10 s, and goes on while \
            they go on coming: `drained` is what it takes from then on until no more than a \
            second's rows wait, and `live rate` how many times what comes that is. Then a run \
            ends while the store stands still, and the next one sends what was left on disk. \
            Then the same outage in a run that probes 1,000 hosts of the lab 50,000 times a \
            second: `lateness` is how late probes are sent before the outage, and in the 5 s in \
            which its backlog is sent. `rows missing` is what was made, minus what SQL counts in \
            the end.",
        cases: vec![
            case(MAIN, Box::new(catch_up)),
            case("rows left by an earlier run", Box::new(adopted)),
            case("store away for 10 s, probing", Box::new(probing)),
        ],
        findings,
        page: None,
    }
}

/// A store that is away for a while, and how soon it has all that came meanwhile.
fn catch_up(bench: &Bench) -> Result<Vec<Figure>> {
    bench.go_on()?;
    let run_ns = wall_ns()?;
    let spool = SpoolOptions::default();
    let database = Database::start(SOURCE, run_ns, &feed::destinations(), &spool)?;
    let mut feed = Feed::new(database.store(), SOURCE, run_ns, Distance::Far);
    feed.steady(LIVE, WARM, |_| false);
    let stopped = Stopped::new(database.engine()?)?;
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
        Unit::PerSecond.of("drained", rate),
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
    let stopped = Stopped::new(database.engine()?)?;
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
        Unit::PerSecond.of("drained", (stored - first) / seconds),
        Unit::Rows.count("backlog", rows.spooled),
        Unit::Nanoseconds.of("caught up in", seconds * 1e9),
        Unit::Times.of("live rate", (stored - first) / seconds / LIVE as f64),
        Unit::Rows.of("rows missing", fed - stored),
    ])
}

/// A run that probes while the store stands still for a while.
fn probing(bench: &Bench) -> Result<Vec<Figure>> {
    let directory = DataDir::new()?;
    let path = directory.argument();
    let arguments = [HOSTS, "--interval", INTERVAL, "--data-dir", &path];
    let (report, stopped) = thread::scope(|scope| {
        let outage = scope.spawn(|| stop_engine(directory.path()));
        let report = bench.pinger(STEADY + AWAY + STEADY, &arguments);
        (report, outage.join())
    });
    let report = report?;
    let Ok(outage) = stopped else {
        bail!("the thread that stops the store failed");
    };
    let (from_ns, until_ns) = outage?;
    let lateness = |from_ns: u64, until_ns: u64| {
        let query = format!(
            "SELECT quantileExact(0.99)(lag) FROM results
            WHERE toUnixTimestamp64Nano(time_due) BETWEEN {from_ns} AND {until_ns}"
        );
        bench.ask(&directory, &query)
    };
    let half_ns = STEADY.as_nanos() as u64 / 2;
    let before = lateness(from_ns - half_ns, from_ns)?;
    let after = lateness(until_ns, until_ns + half_ns)?;
    let counted = bench.ask(
        &directory,
        "SELECT count() FROM results WHERE outcome NOT IN ('late', 'duplicate')",
    )?;
    Ok(vec![
        Unit::Nanoseconds.count("lateness p99 before", before),
        Unit::Nanoseconds.count("lateness p99 after", after),
        Unit::Rows.of("rows missing", report.sent as f64 - counted as f64),
    ])
}

/// Waits for a run in this directory, lets it probe, and stops its engine for a while; gives from
/// when to when, nanoseconds since 1970.
fn stop_engine(directory: &Path) -> Result<(u64, u64)> {
    let deadline = Instant::now() + START_LIMIT;
    while !directory.join("endpoint.json").exists() {
        if Instant::now() > deadline {
            bail!("no run began in {}", directory.display());
        }
        thread::sleep(LOOK);
    }
    thread::sleep(STEADY);
    let path = directory.join("lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let pid = lock.split_whitespace().next().unwrap_or_default();
    let engine = children(pid)?;
    let engine = engine.first().context("the run has no engine")?;
    let stopped = Stopped::new(*engine)?;
    let from_ns = wall_ns()?;
    thread::sleep(AWAY);
    drop(stopped);
    Ok((from_ns, wall_ns()?))
}

/// Whether the goal is met.
fn findings(rows: &[Row]) -> Vec<String> {
    let times = rows
        .iter()
        .find(|row| row.case == MAIN && row.metric == "live rate");
    let words = |row: &Row| {
        let median = row.median;
        format!("A backlog drains at {median:.1} times the live rate; the goal is {GOAL_TIMES:.0}.")
    };
    times.map(words).into_iter().collect()
}
