//! Rollups against raw rows, on the real ClickHouse: exact after repeats, restarts, merges, late
//! rows and an upgrade; quantiles within their error; retention.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use pinger::store::schema::{MIGRATIONS, VERSION};
use store_kit::{Home, Server, await_that, open, required, wall_ns};

const TABLES: [&str; 7] = [
    "results",
    "misses",
    "results_run",
    "results_minute",
    "rtt_minute",
    "results_hour",
    "rtt_hour",
];

const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;

/// The columns that the tests fill; in the others a row has ClickHouse's defaults.
const COLUMNS: &str = "run, source, destination, sequence, time_due, rtt, outcome, hops, hop_limit, \
     datamatch, jitter, hop_limit_changed";

/// What the writer sends along with a block.
const AS_THE_WRITER: &str = "async_insert = 0, insert_deduplicate = 1, optimize_on_insert = 0, \
     deduplicate_blocks_in_dependent_materialized_views = 1";

/// A small generator (xorshift64*): the same rows every time, so a failure can be played again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Rows of many outcomes, round trips and a few days, in few enough minutes that each holds many.
fn rows(random: &mut Random, first_sequence: u64, count: u64) -> String {
    let midnight_ns = wall_ns(Duration::ZERO) / DAY_NS * DAY_NS;
    let mut text = String::new();
    for sequence in first_sequence..first_sequence + count {
        let (source, destination) = (1 + random.below(3), 120 + random.below(4));
        let minute = random.below(3) * 24 * 60 + random.below(3) * 59;
        let due_ns = midnight_ns - (minute + 1) * MINUTE_NS + random.below(MINUTE_NS);
        let outcome = [
            "reply",
            "error",
            "lost",
            "send_failed",
            "late",
            "duplicate",
            "reply",
        ][random.below(7) as usize];
        // From nanoseconds to minutes; an answer may lack its round trip, and what is lost has none.
        let rtt = match outcome {
            "lost" | "send_failed" => "\\N".to_owned(),
            "late" | "error" if random.below(2) == 0 => "\\N".to_owned(),
            _ => (random.below(1 << 31) >> random.below(31) << random.below(8)).to_string(),
        };
        let is_reply = outcome == "reply";
        let hops = 8 * u64::from(random.below(10) == 0);
        let hop_limit = random.below(3) * (50 + random.below(10));
        let datamatch = ["\\N", "false", "true"][random.below(3) as usize];
        let jitter = u64::from(is_reply) * random.below(1_000_000);
        let changed = u64::from(is_reply) & random.below(2);
        writeln!(
            text,
            "7\t{source}\t{destination}\t{sequence}\t{}.{:09}\t{rtt}\t{outcome}\t{hops}\t{hop_limit}\t\
             {datamatch}\t{jitter}\t{changed}",
            due_ns / 1_000_000_000,
            due_ns % 1_000_000_000
        )
        .expect("a string takes all");
    }
    text
}

/// Inserts rows by `pinger sql`, which starts the engine if no store has it open.
fn insert(home: &Home, table: &str, token: &str, rows: &str) {
    let mut child = home
        .command(&["sql", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("PINGER_BIN runs");
    let head = format!(
        "INSERT INTO {table} ({COLUMNS}) SETTINGS {AS_THE_WRITER}, \
         insert_deduplication_token = '{token}' FORMAT TSV\n"
    );
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all((head + rows).as_bytes())
        .expect("it reads all");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

/// Counts rows that differ between a rollup and what `rows` makes of each `unit` of time.
fn differences(unit: &str, rows: &str) -> String {
    let start = match unit {
        "minute" => "toStartOfMinute(time_due)",
        _ => "toStartOfHour(time_due)",
    };
    let counts = format!(
        "SELECT {start} AS {unit}, source, destination, \
         countIf(outcome = 'reply') AS reply, countIf(outcome = 'error') AS error, \
         countIf(outcome = 'lost') AS lost, countIf(outcome = 'send_failed') AS send_failed, \
         countIf(outcome = 'late') AS late, countIf(outcome = 'duplicate') AS duplicate, \
         countIf(outcome = 'reply' AND datamatch = false) AS mismatch, \
         minIf(rtt, outcome = 'reply') AS rtt_min, maxIf(rtt, outcome = 'reply') AS rtt_max, \
         sumIf(assumeNotNull(rtt), outcome = 'reply') AS rtt_sum, \
         sum(jitter) AS jitter_sum, max(jitter) AS jitter_max, \
         minOrNullIf(hop_limit, outcome = 'reply' AND hop_limit > 0) AS hop_limit_min, \
         maxOrNullIf(hop_limit, outcome = 'reply' AND hop_limit > 0) AS hop_limit_max, \
         countIf(hop_limit_changed) AS hop_limit_changes, \
         maxOrNullIf(time_due, outcome = 'reply') AS last_reply \
         FROM {rows} WHERE hops = 0 GROUP BY ALL"
    );
    let rolled_up = format!(
        "SELECT {unit}, source, destination, sum(r.reply), sum(r.error), sum(r.lost), \
         sum(r.send_failed), sum(r.late), sum(r.duplicate), sum(r.mismatch), min(r.rtt_min), \
         max(r.rtt_max), sum(r.rtt_sum), sum(r.jitter_sum), max(r.jitter_max), \
         min(r.hop_limit_min), max(r.hop_limit_max), sum(r.hop_limit_changes), max(r.last_reply) \
         FROM results_{unit} AS r GROUP BY ALL"
    );
    // A round trip lies in its bucket, so the buckets between two round trips count the same.
    let buckets = format!(
        "SELECT {start} AS {unit}, source, destination, \
         toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)) AS bucket, count() \
         FROM {rows} WHERE hops = 0 AND outcome = 'reply' GROUP BY ALL"
    );
    let sorted = format!(
        "SELECT {unit}, source, destination, bucket, sum(r.count) FROM rtt_{unit} AS r GROUP BY ALL"
    );
    format!(
        "SELECT (SELECT count() FROM ({counts})) > 0, (SELECT count() FROM ({buckets})) > 0, \
         (SELECT count() FROM ({counts} EXCEPT {rolled_up})), \
         (SELECT count() FROM ({rolled_up} EXCEPT {counts})), \
         (SELECT count() FROM ({buckets} EXCEPT {sorted})), \
         (SELECT count() FROM ({sorted} EXCEPT {buckets})) FORMAT TSV"
    )
}

const SAME: &str = "1\t1\t0\t0\t0\t0\n";

/// Counts rows that differ between what outages are found with and what `rows` makes of it, and
/// between the counts of runs and theirs: how many there are, and in how many they differ.
fn other_differences(rows: &str) -> String {
    let minutes = format!(
        "SELECT toStartOfMinute(time_due) AS minute, source, destination, max(run), \
         minOrNullIf(time_due, outcome = 'reply'), minOrNullIf(time_due, is_miss), \
         maxOrNullIf(time_due, is_miss), minOrNullIf(sequence, is_miss OR outcome = 'reply'), \
         maxOrNullIf(sequence, is_miss OR outcome = 'reply'), min(run) \
         FROM (SELECT *, outcome IN ('error', 'lost') AS is_miss FROM {rows}) \
         WHERE hops = 0 GROUP BY ALL"
    );
    let rolled_up = "SELECT minute, source, destination, max(m.run), min(m.first_reply), \
         min(m.first_miss), max(m.last_miss), min(m.first_sequence), max(m.last_sequence), \
         min(m.first_run) \
         FROM results_minute AS m GROUP BY ALL";
    let outcomes = ["reply", "error", "lost", "send_failed", "late", "duplicate"];
    let counts = |each: &dyn Fn(&str) -> String| outcomes.map(each).join(", ");
    let raw = counts(&|outcome| format!("countIf(outcome = '{outcome}')"));
    let runs =
        format!("SELECT run, source, min(time_due), max(time_due), {raw} FROM {rows} GROUP BY ALL");
    let sums = counts(&|outcome| format!("sum(r.{outcome})"));
    let counted = format!(
        "SELECT run, source, min(r.first), max(r.last), {sums} FROM results_run AS r GROUP BY ALL"
    );
    format!(
        "SELECT (SELECT count() FROM ({minutes})) > 0, (SELECT count() FROM ({runs})) > 0, \
         (SELECT count() FROM ({minutes} EXCEPT {rolled_up})), \
         (SELECT count() FROM ({rolled_up} EXCEPT {minutes})), \
         (SELECT count() FROM ({runs} EXCEPT {counted})), \
         (SELECT count() FROM ({counted} EXCEPT {runs})) FORMAT TSV"
    )
}

/// Raw rows, misses and rollups are what was offered, each row once.
fn assert_exact(home: &Home, when: &str) {
    for unit in ["minute", "hour"] {
        assert_eq!(
            home.sql(&differences(unit, "offered")),
            SAME,
            "{unit}, {when}"
        );
    }
    assert_eq!(home.sql(&other_differences("offered")), SAME, "{when}");
    let columns = COLUMNS.trim_end_matches(", jitter, hop_limit_changed");
    for (table, condition) in [
        ("results", "1"),
        (
            "misses",
            "hops = 0 AND outcome IN ('error', 'lost', 'send_failed')",
        ),
    ] {
        let columns = match table {
            "misses" => "run, source, destination, sequence, time_due, outcome",
            _ => columns,
        };
        let query = format!(
            "SELECT (SELECT count() FROM {table}) = (SELECT count() FROM offered WHERE {condition}), \
             (SELECT count() FROM (SELECT {columns} FROM offered WHERE {condition} \
             EXCEPT SELECT {columns} FROM {table})) FORMAT TSV"
        );
        assert_eq!(home.sql(&query), "1\t0\n", "{table}, {when}");
    }
}

#[test]
fn rollups_are_exact_after_repeats_restarts_and_merges() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    home.sql("CREATE TABLE offered AS incoming ENGINE = MergeTree ORDER BY sequence");
    let mut random = Random(42);
    let blocks: Vec<String> = (0..4).map(|n| rows(&mut random, n * 600, 600)).collect();
    for (number, block) in blocks.iter().enumerate() {
        insert(&home, "offered", &format!("o{number}"), block);
    }
    for (number, block) in blocks.iter().enumerate() {
        for _ in 0..2 {
            insert(&home, "incoming", &format!("3-7-{number}"), block);
        }
    }
    insert(&home, "incoming", "3-7-0", &blocks[0]);
    assert_exact(&home, "after repeated inserts");

    for table in TABLES {
        home.sql(&format!("OPTIMIZE TABLE {table} FINAL"));
    }
    assert_exact(&home, "after merges");
    insert(&home, "incoming", "3-7-1", &blocks[1]);
    assert_exact(&home, "after a repeat behind merges");

    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);
    let store = open(&home.embedded(), run + 1).expect("the engine starts again");
    insert(&home, "incoming", "3-7-2", &blocks[2]);
    assert_exact(&home, "after a restart and a repeat");

    // Late rows for minutes that were merged long ago.
    let late = rows(&mut random, 10_000, 300);
    insert(&home, "offered", "o4", &late);
    insert(&home, "incoming", "3-7-4", &late);
    assert_exact(&home, "after late rows");
    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);
}

/// What a killed server leaves: some tables have a block, others do not. Here a view that is away
/// for a while stands for the table that does not.
#[test]
fn a_repeat_completes_what_only_some_tables_have() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    home.sql("CREATE TABLE offered AS incoming ENGINE = MergeTree ORDER BY sequence");
    let mut random = Random(43);
    let views = [
        "incoming_to_results",
        "incoming_to_misses",
        "incoming_to_run",
        "incoming_to_minute",
        "results_minute_to_hour",
        "incoming_to_rtt_minute",
        "rtt_minute_to_hour",
    ];
    for (number, view) in views.iter().enumerate() {
        let block = rows(&mut random, 300 * number as u64, 300);
        insert(&home, "offered", &format!("o{number}"), &block);
        let token = format!("3-7-{number}");
        home.sql(&format!("DETACH TABLE {view}"));
        insert(&home, "incoming", &token, &block);
        home.sql(&format!("ATTACH TABLE {view}"));
        for _ in 0..2 {
            insert(&home, "incoming", &token, &block);
            assert_exact(&home, view);
        }
    }
    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);
}

/// Round trips at the edges of buckets, and anywhere; in one minute, hour and destination each
/// hundred of them.
fn quantile_rows(due_ns: u64) -> String {
    let mut random = Random(7);
    let mut text = String::new();
    let mut row = |sequence: u64, rtt_ns: u64| {
        let destination = sequence / 100;
        writeln!(
            text,
            "7\t1\t{destination}\t{sequence}\t{}.{:09}\t{rtt_ns}\treply\t0\t64\ttrue\t0\t0",
            due_ns / 1_000_000_000,
            due_ns % 1_000_000_000
        )
        .expect("a string takes all");
    };
    for edge in 0..1000 {
        let exact = 1.02_f64.powi(350 + edge);
        let offset = random.below(3) as i64 - 1;
        row(edge as u64, (exact as u64).saturating_add_signed(offset));
    }
    for sequence in 1000..3000 {
        let magnitude = 1_000_u64 << random.below(30);
        row(sequence, magnitude + random.below(magnitude));
    }
    text
}

#[test]
fn quantiles_are_within_one_percent() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let due_ns = run / DAY_NS * DAY_NS;
    insert(&home, "incoming", "q", &quantile_rows(due_ns));
    for unit in ["minute", "hour"] {
        let shown = [("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99")];
        let worst: Vec<String> = shown
            .iter()
            .map(|(name, _)| format!("max(abs(rtt_{name}_ms * 1e6 / raw.{name} - 1)) <= 0.01"))
            .collect();
        let exact: Vec<String> = shown
            .iter()
            .map(|(name, level)| {
                format!("quantileExactWeighted({level})(assumeNotNull(rtt), 1) AS {name}")
            })
            .collect();
        let query = format!(
            "SELECT count(), {}, max(abs(rtt_mean_ms * 1e6 - raw.mean)) < 0.51, \
             countIf(rtt_p50_ms < rtt_min_ms OR rtt_p99_ms > rtt_max_ms) \
             FROM per_{unit} AS p INNER JOIN \
             (SELECT destination, avg(rtt) AS mean, {} FROM results GROUP BY destination) AS raw \
             ON raw.destination = p.destination FORMAT TSV",
            worst.join(", "),
            exact.join(", ")
        );
        assert_eq!(home.sql(&query), "30\t1\t1\t1\t1\t0\n", "{unit}");
    }
    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);
}

#[test]
fn each_table_keeps_its_rows_as_long_as_it_should() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    for days in [0, 6, 9, 160, 220, 1700, 2600] {
        for outcome in ["reply", "lost"] {
            server.sql(&format!(
                "INSERT INTO incoming (run, source, destination, time_due, rtt, outcome) VALUES \
                 (1, 1, {days}, now64(9) - INTERVAL {days} DAY, 1000, '{outcome}')"
            ));
        }
    }
    server.sql(
        "INSERT INTO gaps (source, run, from, reason) VALUES \
         (1, 1, now64(9) - INTERVAL 1700 DAY, 'crash'), (1, 2, now64(9) - INTERVAL 2600 DAY, 'crash')",
    );
    for (table, kept) in [
        ("results", "[0,6]"),
        ("misses", "[0,6]"),
        ("results_minute", "[0,6,9,160]"),
        ("rtt_minute", "[0,6,9,160]"),
        ("results_hour", "[0,6,9,160,220,1700]"),
        ("rtt_hour", "[0,6,9,160,220,1700]"),
    ] {
        server.sql(&format!("OPTIMIZE TABLE {table} FINAL"));
        let found = server.sql(&format!(
            "SELECT arraySort(groupUniqArray(destination)) FROM {table} FORMAT TSV"
        ));
        assert_eq!(found, format!("{kept}\n"), "{table}");
    }
    server.sql("OPTIMIZE TABLE gaps FINAL");
    assert_eq!(server.sql("SELECT run FROM gaps FORMAT TSV"), "1\n");
    server.sql("OPTIMIZE TABLE results_run FINAL");
    let counted = "SELECT run, reply, lost FROM results_run FORMAT TSV";
    assert_eq!(server.sql(counted), "1\t7\t7\n", "a run's counts stay");
}

/// Statements of a migration, without those that are comments only.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").filter(|statement| {
        statement
            .lines()
            .any(|line| !line.is_empty() && !line.starts_with("--"))
    })
}

/// Makes the tables of a version of the schema, as a pinger of that time did.
fn make_version(version: u32, sql: &dyn Fn(&str) -> String) {
    for migration in &MIGRATIONS[..version as usize] {
        statements(migration.sql).for_each(|statement| drop(sql(statement)));
        sql(&format!(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ({}, '{}', '{}')",
            migration.version,
            migration.name,
            migration.checksum()
        ));
    }
}

/// A server with a database of such a version.
fn server_of_version(version: u32) -> Server {
    required("PINGER_BIN");
    let server = Server::start();
    server.sql_in("default", "CREATE DATABASE pinger");
    make_version(version, &|query| server.sql(query));
    server
}

#[test]
fn an_upgrade_says_which_runs_it_cannot_count() {
    let server = server_of_version(2);
    // The first run is older than all results, the second older than some of its own.
    server.sql(
        "INSERT INTO runs (run, source, started, ended, sent, reply) \
         SELECT number, 1, now64(9) - toIntervalDay([9, 3, 1][number]) - 60, now64(9), 10, 10 \
         FROM numbers(1, 3)",
    );
    server.sql(
        "INSERT INTO results (run, source, destination, sequence, time_due, outcome) \
         SELECT if(number < 5, 2, 3), 1, 7, number, now64(9) - \
         toIntervalDay(if(number < 5, 2, 1)), \
         'reply' FROM numbers(13)",
    );
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    // Two probes of this one were in flight when it was told to end at once.
    server.sql(
        "INSERT INTO runs (run, source, started, ended, sent, reply) \
         VALUES (4, 1, now64(9), now64(9), 12, 10)",
    );
    server.sql("INSERT INTO gaps (run, source, from, probes) VALUES (4, 1, now64(9), 2)");
    let runs = format!(
        "SELECT reply, stored, unaccounted FROM ({}) ORDER BY started FORMAT TSV",
        include_str!("../../schema/queries/runs.sql")
    );
    assert_eq!(
        server.sql(&runs),
        "10\t0\t\\N\n10\t5\t\\N\n10\t8\t2\n10\t0\t10\n"
    );
}

#[test]
fn an_upgrade_fills_the_rollups_once() {
    let server = server_of_version(2);
    // Three days, nine destinations, all outcomes, one row in seven of a trace.
    server.sql(
        "INSERT INTO results (run, source, destination, sequence, time_due, rtt, outcome, hops, \
         hop_limit, datamatch) \
         SELECT 1, 1 + number % 2, sipHash64(number, 1) % 9, number, \
         now64(9) - toIntervalMillisecond(sipHash64(number, 2) % 259200000), \
         if(outcome IN ('lost', 'send_failed'), NULL, sipHash64(number, 3) % 1000000000), \
         CAST(1 + sipHash64(number, 4) % 6, \
         'Enum8(\\'reply\\' = 1, \\'error\\' = 2, \\'lost\\' = 3, \\'send_failed\\' = 4, \\'late\\' = 5, \\'duplicate\\' = 6)') AS outcome, \
         if(sipHash64(number, 5) % 7 = 0, 8, 0), sipHash64(number, 6) % 64, number % 3 > 0 \
         FROM numbers(50000)",
    );
    // What an upgrade leaves that is cut short, in several places, and begun again each time.
    let all: Vec<&str> = statements(MIGRATIONS[2].sql).collect();
    for end in (1..=all.len()).rev().step_by(4) {
        all[..end]
            .iter()
            .for_each(|statement| drop(server.sql(statement)));
    }
    let raw = "(SELECT *, 0 AS jitter, false AS hop_limit_changed FROM results)";
    for _ in 0..2 {
        pinger::store::apply_schema(&server.boss()).expect("boss may");
        for unit in ["minute", "hour"] {
            assert_eq!(server.sql(&differences(unit, raw)), SAME, "{unit}");
        }
        assert_eq!(server.sql(&other_differences(raw)), SAME);
        let misses = "SELECT count(), uniqExact(sequence), \
             (SELECT count() FROM results WHERE hops = 0 AND outcome IN ('error', 'lost', 'send_failed')) \
             FROM misses FORMAT TSV";
        let misses = server.sql(misses);
        let counts: Vec<&str> = misses.trim_end().split('\t').collect();
        assert!(counts[0] == counts[1] && counts[0] == counts[2], "{misses}");
    }
    // Whoever applies the printed schema to a database that has it loses nothing.
    let before = server.sql("SELECT sum(reply), sum(rtt_sum) FROM results_hour FORMAT TSV");
    server.sql("TRUNCATE TABLE results");
    all.iter().for_each(|statement| drop(server.sql(statement)));
    assert_eq!(
        server.sql("SELECT sum(reply), sum(rtt_sum) FROM results_hour FORMAT TSV"),
        before
    );
}

/// Inserts what a pinger of a version would: three days, nine destinations, all outcomes, and one
/// row in seven of a trace once there are traces.
fn insert_as_version(version: u32, first: u64, sql: &dyn Fn(&str) -> String) {
    // Before version 3 there was no table that fills the others.
    let table = if version < 3 { "results" } else { "incoming" };
    let (hops, of_a_trace) = match version {
        1 => ("", ""),
        _ => (", hops", ", if(sipHash64(number, 5) % 7 = 0, 8, 0)"),
    };
    sql(&format!(
        "INSERT INTO {table} (run, source, destination, sequence, time_due, rtt, outcome, hop_limit, \
         datamatch{hops}) \
         SELECT 1, 1 + number % 2, sipHash64(number, 1) % 9, number, \
         now64(9) - toIntervalMillisecond(sipHash64(number, 2) % 259200000), \
         if(outcome IN ('lost', 'send_failed'), NULL, sipHash64(number, 3) % 1000000000), \
         ['reply', 'error', 'lost', 'send_failed', 'late', 'duplicate'][1 + sipHash64(number, 4) % 6] \
         AS outcome, sipHash64(number, 6) % 64, number % 3 > 0{of_a_trace} \
         FROM numbers({first}, 10000)"
    ));
}

/// A sum of all that each table holds, over the columns that it has now; to be asked again.
fn sums_of_tables(sql: &dyn Fn(&str) -> String) -> Vec<String> {
    let all = TABLES.map(|table| format!("'{table}'")).join(", ");
    let tables = sql(&format!(
        "SELECT table, arrayStringConcat(groupArray(name), ', ') FROM system.columns \
         WHERE database = 'pinger' AND table IN ({all}) AND default_kind != 'ALIAS' \
         GROUP BY table ORDER BY table FORMAT TSV"
    ));
    let sum = |line: &str| {
        let (table, columns) = line.split_once('\t').expect("two columns");
        // Rows that are merged later have another sum.
        sql(&format!("OPTIMIZE TABLE {table} FINAL"));
        format!(
            "SELECT '{table}', count(), sum(sipHash64(formatRow('TSV', {columns}))) FROM {table} FORMAT TSV"
        )
    };
    tables.lines().map(sum).collect()
}

#[test]
fn an_upgrade_from_any_version_keeps_rows_and_rollups() {
    for version in 1..VERSION {
        let server = server_of_version(version);
        let sql = |query: &str| server.sql(query);
        insert_as_version(version, 0, &sql);
        let sums = sums_of_tables(&sql);
        assert_eq!(sums.len(), if version < 3 { 1 } else { TABLES.len() });
        let ask = || -> Vec<String> { sums.iter().map(|sum| server.sql(sum)).collect() };
        let before = ask();
        pinger::store::apply_schema(&server.boss()).expect("boss may");
        assert_eq!(ask(), before, "from version {version}");
        // What was there and what comes now is rolled up, each row once.
        insert_as_version(VERSION, 10_000, &sql);
        assert_eq!(sql("SELECT count() FROM results FORMAT TSV"), "20000\n");
        let raw = "(SELECT *, 0 AS jitter, false AS hop_limit_changed FROM results)";
        for (what, query) in [
            ("minutes", differences("minute", raw)),
            ("hours", differences("hour", raw)),
            ("misses and runs", other_differences(raw)),
        ] {
            assert_eq!(sql(&query), SAME, "{what}, from version {version}");
        }
    }
}

#[test]
fn an_embedded_store_of_an_older_version_is_upgraded_in_place() {
    let home = Home::new();
    let options = home.embedded();
    let run = wall_ns(Duration::from_secs(100));
    // Its engine makes the tables of this version, which give way to those of the version before.
    let store = open(&options, run).expect("the engine starts");
    let registered = "SELECT (SELECT count() FROM runs), (SELECT count() FROM sources), \
         (SELECT count() FROM destinations) FORMAT TSV";
    await_that("the run is registered", || {
        home.sql(registered) == "1\t1\t2\n"
    });
    let sql = |query: &str| home.sql(query);
    let tables = "SELECT name FROM system.tables WHERE database = 'pinger' FORMAT TSV";
    for table in sql(tables).lines() {
        sql(&format!("DROP TABLE `{table}` SYNC"));
    }
    make_version(VERSION - 1, &sql);
    insert_as_version(VERSION - 1, 0, &sql);
    let sums = sums_of_tables(&sql);
    assert_eq!(sums.len(), TABLES.len());
    let ask = || -> Vec<String> { sums.iter().map(|sum| home.sql(sum)).collect() };
    let before = ask();
    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);

    let store = open(&options, run + 1).expect("it is upgraded");
    let versions = "SELECT max(version) FROM schema_migrations FORMAT TSV";
    assert_eq!(home.sql(versions), format!("{VERSION}\n"));
    assert_eq!(ask(), before);
    store.close(&pinger::stats::Counts::default(), store_kit::PATIENCE);
}
