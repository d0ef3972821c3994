//! The table `store`: how fast rows go through the whole writer into an embedded ClickHouse, and
//! what that costs in CPU and on disk.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pinger::config::{SpoolOptions, SpoolPlace, SyncPolicy};

use crate::bench::Bench;
use crate::database::{Database, wall_ns};
use crate::feed::{self, Distance, Feed};
use crate::measure::{Case, Figure, Row, Run, Table, Unit};
use crate::process::{cpu_s, other_threads_cpu_s};

/// Rows of a run: seconds of work, so that what a start costs does not count.
const ROWS: u64 = 5_000_000;
const MILLION: f64 = 1e6;
/// The source in whose name rows are fed.
const SOURCE: u32 = 1;
/// A run takes less time than its start and its rest; this many show how they differ.
const RUNS_MAX: u32 = 3;

/// Where rows wait until the store has them: what a case is called, and how the spool is set.
const SPOOLS: [(&str, SpoolPlace, SyncPolicy); 4] = [
    ("spool in memory", SpoolPlace::Memory, SyncPolicy::Never),
    (
        "spool on disk, fsync never",
        SpoolPlace::Disk,
        SyncPolicy::Never,
    ),
    (DURABLE, SpoolPlace::Disk, SyncPolicy::Batch),
    (
        "spool on disk, fsync each chunk",
        SpoolPlace::Disk,
        SyncPolicy::Chunk,
    ),
];
/// Rows a second that the writer should see into the store on two CPUs: with the spool in memory,
/// and with it on disk.
const MEMORY_GOAL: f64 = 1e6;
const DISK_GOAL: f64 = 7e5;
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
    Table {
        name: "store",
        about: "Rows through the whole writer into an embedded ClickHouse on the same CPUs, which \
            also makes the rollups: five million results of 1,000 destinations, given as fast as \
            they are taken, until the last one is written. Round trips are 2 to 200 ms with 1 % \
            jitter and 1 % loss; `near`, 4 to 8 µs without loss. CPU is for a million rows: \
            `pinger` is everything from a row to the request, but not the making of the row. \
            `raw` is what a row takes on disk in `results`, `all` counts the rollups too, for \
            destinations probed every 100 ms. `floor` is the entropy of a row's round trip, lag \
            and outcome as they are drawn, to the nanosecond: no codec gets below it.",
        cases,
        findings,
        page: None,
    }
}

fn spool(place: SpoolPlace, sync: SyncPolicy) -> SpoolOptions {
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
    let engine = database.engine()?.to_string();
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
        Unit::BytesPerRow.of("floor", distance.floor_bytes()),
    ])
}

/// Whether the goals are met.
fn findings(rows: &[Row]) -> Vec<String> {
    let of = |case: &str, metric: &str| {
        rows.iter()
            .find(|row| row.case == case && row.metric == metric)
            .map(|row| row.median)
    };
    let rate = |case: &str, goal: f64| {
        let reached = of(case, "rows")? / goal;
        Some(format!(
            "{case}: {:.0} % of the goal, {goal:.0} rows/s.",
            100.0 * reached
        ))
    };
    let size = of(DURABLE, "all").zip(of(DURABLE, "floor"));
    let size = size.map(|(bytes, floor)| {
        format!(
            "A result takes {bytes:.2} B on disk, rollups included, of which {floor:.2} B are \
             noise that nothing can compress; the goal is below 3 B."
        )
    });
    let rates = [rate(SPOOLS[0].0, MEMORY_GOAL), rate(DURABLE, DISK_GOAL)];
    rates.into_iter().chain([size]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_size_are_judged_by_their_goals() {
        let row = |case: &str, metric: &str, unit, median| Row {
            table: "store".into(),
            case: case.into(),
            tool: "pinger".into(),
            metric: metric.into(),
            unit,
            median,
            min: median,
            max: median,
        };
        let rows = [
            row(SPOOLS[0].0, "rows", Unit::PerSecond, 1.5e6),
            row(DURABLE, "rows", Unit::PerSecond, 3.5e5),
            row(DURABLE, "all", Unit::BytesPerRow, 2.5),
            row(DURABLE, "floor", Unit::BytesPerRow, 2.25),
        ];
        let texts = findings(&rows);
        assert!(texts[0].contains("150 % of the goal, 1000000"), "{texts:?}");
        assert!(texts[1].contains("50 % of the goal, 700000"), "{texts:?}");
        assert!(
            texts[2].contains("2.50 B") && texts[2].contains("2.25 B"),
            "{texts:?}"
        );
        assert!(findings(&[]).is_empty());
    }
}
