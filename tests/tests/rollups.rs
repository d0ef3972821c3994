//! Rollups against raw rows, on the real ClickHouse: exact after repeats, restarts, merges, late
//! rows and an upgrade; quantiles within their error; retention.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use pinger::store::schema::MIGRATIONS;
use store_kit::{Home, Server, open, required, wall_ns};

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

/// A server with a database that version 2 made.
fn server_of_version_2() -> Server {
    required("PINGER_BIN");
    let server = Server::start();
    server.sql_in("default", "CREATE DATABASE pinger");
    for migration in &MIGRATIONS[..2] {
        statements(migration.sql).for_each(|statement| drop(server.sql(statement)));
        server.sql(&format!(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ({}, '{}', '{}')",
            migration.version,
            migration.name,
            migration.checksum()
        ));
    }
    server
}

#[test]
fn an_upgrade_says_which_runs_it_cannot_count() {
    let server = server_of_version_2();
    // The first run is older than all results, the second older than some of its own.
    server.sql(
        "INSERT INTO runs (run, source, started, ended, reply) \
         SELECT number, 1, now64(9) - toIntervalDay([9, 3, 1][number]) - 60, now64(9), 10 \
         FROM numbers(1, 3)",
    );
    server.sql(
        "INSERT INTO results (run, source, destination, sequence, time_due, outcome) \
         SELECT if(number < 5, 2, 3), 1, 7, number, now64(9) - \
         toIntervalDay(if(number < 5, 2, 1)), \
         'reply' FROM numbers(13)",
    );
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server.sql(
        "INSERT INTO runs (run, source, started, ended, reply) \
         VALUES (4, 1, now64(9), now64(9), 10)",
    );
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
    let server = server_of_version_2();
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

#[test]
fn a_range_is_answered_from_what_is_fine_enough_and_still_there() {
    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    // Three replies and a miss in one minute of each age. What a table holds begins with its
    // oldest row, so the ages that are asked for have an older one behind them.
    let ages = [
        120,
        6 * DAY,
        20 * DAY,
        220 * DAY,
        1700 * DAY,
        6 * DAY + HOUR,
        100 * DAY,
    ];
    for age in ages {
        server.sql(&format!(
            "INSERT INTO incoming (run, source, destination, sequence, time_due, rtt, outcome) \
             SELECT 1, 1, 7, number, toStartOfMinute(now() - {age}) + number, \
             if(number = 3, NULL, 1000000 * (1 + number)), if(number = 3, 'lost', 'reply') \
             FROM numbers(4)"
        ));
    }
    for (around, seconds, step) in [
        (ages[0], 10 * 60, 1),
        (ages[0], 10 * HOUR, 60),
        (ages[0], 2 * DAY, 300),
        (ages[0], 15 * DAY, 3600),
        (ages[0], 40 * DAY, 86_400),
        (ages[1], 10 * 60, 1),
        // Raw results have expired, then minutes.
        (ages[2], 10 * 60, 60),
        (ages[2], DAY, 300),
        (ages[3], 10 * 60, 3600),
        (ages[4], DAY, 3600),
    ] {
        let (since, until) = (around + seconds / 2, around as i64 - (seconds / 2) as i64);
        let range = format!("from = now() - {since}, until = now() - ({until})");
        let rows = format!(
            "SELECT any(step), sum(sent), sum(reply), min(rtt_min_ms), max(rtt_max_ms) \
             FROM loss_and_rtt({range}) WHERE destination = 7 FORMAT TSV"
        );
        let within = |age: &&u64| age.abs_diff(around) <= seconds / 2;
        let times = ages.iter().filter(within).count();
        let expected = format!("{step}\t{}\t{}\t1\t3\n", 4 * times, 3 * times);
        assert_eq!(server.sql(&rows), expected, "{range}");
        let unknown =
            format!("SELECT countIf(hop_limit_changes IS NULL) > 0 FROM loss_and_rtt({range})");
        assert_eq!(
            server.sql(&format!("{unknown} FORMAT TSV")),
            format!("{}\n", u8::from(step == 1))
        );
        let total = format!(
            "SELECT step, sent / 4, rtt_mean_ms, rtt_p50_ms BETWEEN 1.98 AND 2.02, rtt_p99_ms = 3, \
             (SELECT sum(replies) FROM rtt_heat_map({range})) = reply \
             FROM loss_and_rtt_total({range}) FORMAT TSV"
        );
        assert_eq!(
            server.sql(&total),
            format!("{step}\t{times}\t2\t1\t1\t1\n"),
            "{range}"
        );
    }
    let burn = "SELECT sent, missed, availability_percent, budget_left_percent, burn_1h, burn_3d \
         FROM slo_burn(objective = 50, days = 30) FORMAT TSV";
    assert_eq!(server.sql(burn), "16\t4\t75\t50\t0.5\t0.5\n");
    // No budget, so nothing is left of it and nothing burns it; nothing of the last minutes.
    let burn = "SELECT budget_left_percent, burn_5m, burn_1h, burn_3d \
         FROM slo_burn(objective = 100, days = 30) FORMAT TSV";
    assert_eq!(server.sql(burn), "\\N\t\\N\t\\N\t\\N\n");
    server.sql("TRUNCATE TABLE results_minute");
    let burn = "SELECT burn_5m, burn_1h, burn_6h, burn_3d \
         FROM slo_burn(objective = 50, days = 30) FORMAT TSV";
    assert_eq!(server.sql(burn), "\\N\t\\N\t\\N\t0.5\n");
}

#[test]
fn a_range_is_answered_whichever_table_is_empty_or_short() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    // A reply an hour for five days.
    server.sql(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, rtt, outcome) \
         SELECT 1, 1, 7, number, now64(9) - toIntervalHour(120 - number), 1000000, 'reply' \
         FROM numbers(120)",
    );
    let range = |hours: u32, seconds: u32| {
        format!(
            "from = now() - {hours} * 3600 - {seconds} / 2, \
             until = now() - {hours} * 3600 + {seconds} / 2"
        )
    };
    let check = |when: &str, hours: u32, seconds: u32, step: u32| {
        let range = range(hours, seconds);
        let each = [
            "loss_and_rtt",
            "loss_and_rtt_total",
            "rtt_heat_map",
            "results_steps",
        ];
        for view in each {
            let query = format!("SELECT max(step) FROM {view}({range}) FORMAT TSV");
            assert_eq!(server.sql(&query), format!("{step}\n"), "{view}, {when}");
        }
    };
    check("all is there", 80, 600, 1);
    // Minutes kept for three days only, so shorter than raw results.
    for table in ["results_minute", "rtt_minute"] {
        server.sql(&format!(
            "DELETE FROM {table} WHERE minute < now() - INTERVAL 3 DAY"
        ));
    }
    check("short minutes", 80, 600, 1);
    check("short minutes", 80, 7200, 3600);
    check("short minutes", 50, 7200, 60);
    server.sql("TRUNCATE TABLE results");
    check("no results", 50, 600, 60);
    check("no results", 80, 600, 3600);
    for table in ["results_minute", "rtt_minute"] {
        server.sql(&format!("TRUNCATE TABLE {table}"));
    }
    check("no minutes", 50, 600, 3600);
    check("no minutes", 50, 7200, 3600);
}

/// Outages as their definition says, of every raw result: each reply begins a new island, and so
/// does a pause.
const OUTAGES_OF_EVERY_RESULT: &str = "
    SELECT minIf(time_due, is_miss) AS start,
        if(following > last AND following_is_reply AND following <= last + pause, following,
            addNanoseconds(last, any(interval))) AS end,
        source, destination, countIf(is_miss) AS probes, countIf(outcome = 'lost') AS lost,
        any(60 + 3 * interval / 1e9) AS pause_s, toIntervalSecond(pause_s) AS pause,
        max(time_due) AS last, argMax(next, time_due) AS following,
        argMax(next_is_reply, time_due) AS following_is_reply
    FROM
    (
        SELECT *, sum(is_break) OVER (PARTITION BY source, destination ORDER BY time_due) AS island
        FROM
        (
            SELECT r.source AS source, r.destination AS destination, r.time_due AS time_due,
                r.outcome AS outcome, d.interval AS interval, outcome != 'reply' AS is_miss,
                lagInFrame(time_due) OVER w AS before,
                leadInFrame(time_due) OVER w AS next,
                leadInFrame(outcome = 'reply') OVER w AS next_is_reply,
                NOT is_miss OR time_due > before + toIntervalSecond(60 + 3 * interval / 1e9) AS is_break
            FROM results AS r
            INNER JOIN destinations AS d ON d.id = r.destination
            WHERE r.hops = 0 AND r.outcome IN ('reply', 'error', 'lost')
            WINDOW w AS (PARTITION BY source, destination ORDER BY time_due
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
        )
    )
    GROUP BY source, destination, island
    HAVING probes >= 3";

#[test]
fn outages_are_those_that_every_result_shows() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server.sql(
        "INSERT INTO destinations (id, interval) \
         SELECT number, multiIf(number = 6, 90, number = 3, 20, 1) * 1000000000 FROM numbers(7)",
    );
    // Bursts of misses, single ones, failed sends, late answers, traces. The first three are
    // probed by two runs at once that skip rounds; the others by one run after another: the
    // fourth every 20 seconds, so that outages of three go from one minute to the next; the fifth
    // with a pause in the middle of an outage; the sixth, which never answers; and the last every
    // 90 seconds.
    server.sql(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome, hops) \
         WITH number % 28 AS flow, intDiv(number, 28) AS step, intDiv(flow, 4) AS host, \
         host < 3 AS is_shared, flow % 2 AS half, multiIf(host = 6, 90, host = 3, 20, 1) AS interval, \
         sipHash64(flow, intDiv(step, 10)) % 4 = 0 AS burst, sipHash64(number, 2) % 100 AS roll \
         SELECT if(is_shared, 1 + half, 1 + (step >= 2500)), 1 + intDiv(flow, 2) % 2, host, \
         if(is_shared, step, step % 2500), \
         now64(9) - INTERVAL 130 HOUR + toIntervalMillisecond(step * interval * 1000 \
         + if(is_shared, 300 * half, 0) + if(host = 4 AND step >= 2500, 600000, 0)), \
         multiIf(is_shared AND roll < 5 OR roll < 1, 'send_failed', \
         host = 5 OR host = 4 AND step BETWEEN 1000 AND 2900, 'lost', \
         roll < 8 AND step % 3 = 0, 'late', burst AND roll < 60, 'lost', \
         burst AND roll < 80, 'error', roll < 12, 'lost', 'reply'), \
         if(roll = 90 AND step % 3 = 0, 8, 0) \
         FROM numbers(140000) \
         WHERE (is_shared OR half = 0) AND NOT (step % 3 = 1 AND sipHash64(number, 3) % 3 = 0 \
         AND (is_shared OR step BETWEEN 3000 AND 3300))",
    );
    let text = |from: &str| {
        format!(
            "SELECT toString(start), toString(assumeNotNull(end)), toString(source), destination, \
             probes, lost FROM {from}"
        )
    };
    let (fast, exact) = (
        text("outages"),
        text(&format!("({OUTAGES_OF_EVERY_RESULT})")),
    );
    let differences = format!(
        "SELECT (SELECT uniqExact(destination) FROM outages), (SELECT count() FROM outages) > 100, \
         (SELECT count() FROM ({fast} EXCEPT {exact})), \
         (SELECT count() FROM ({exact} EXCEPT {fast})) FORMAT TSV"
    );
    assert_eq!(server.sql(&differences), "7\t1\t0\t0\n");
    // A range is one of whole minutes.
    let range = "WITH now() - 466300 AS since, now() - 466000 AS till \
         SELECT count(), min(start) >= toStartOfMinute(since), sum(probes) = \
         (SELECT count() FROM misses WHERE destination = 5 AND outcome != 'send_failed' \
         AND toStartOfMinute(time_due) >= toStartOfMinute(since) AND toStartOfMinute(time_due) < till) \
         FROM outages_in(from = now() - 466300, until = now() - 466000) WHERE destination = 5 FORMAT TSV";
    assert_eq!(server.sql(range), "2\t1\t1\n");
}

#[test]
fn an_outage_goes_on_as_long_as_its_run_does() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server.sql("INSERT INTO destinations (id, interval) VALUES (7, 1000000000)");
    server.sql("INSERT INTO runs (run, source, started) VALUES (1, 1, now64(9) - 10)");
    server.sql(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome) \
         SELECT 1, 1, 7, number, now64(9) - 10 + number, if(number = 4, 'reply', 'lost') \
         FROM numbers(10)",
    );
    let outages = "SELECT probes, seconds, ongoing, end IS NULL FROM outages FORMAT TSV";
    assert_eq!(server.sql(outages), "5\t5\t1\t1\n4\t4\t0\t0\n");
    server.sql(
        "INSERT INTO runs (run, source, started, ended) VALUES (1, 1, now64(9) - 10, now64(9))",
    );
    assert_eq!(server.sql(outages), "5\t5\t0\t0\n4\t4\t0\t0\n");
}

/// Start of the minute so many minutes ago, seconds since 1970.
fn minute_ago(minutes: u64) -> u64 {
    (wall_ns(Duration::ZERO) / MINUTE_NS - minutes) * 60
}

/// Outages of destination 7: how long, how many probes, whether it has no end, whether it goes on.
fn outages_of_7(server: &Server, from: &str) -> String {
    server.sql(&format!(
        "SELECT seconds, probes, end IS NULL, ongoing FROM {from} \
         WHERE destination = 7 FORMAT TSV"
    ))
}

#[test]
fn an_outage_is_measured_by_its_own_interval() {
    let begin = minute_ago(130 * 60);
    for (interval, misses, registered, expected) in [
        (3600, "3 AND 8", 1, "21600\t6\t0\t0\n"),
        (1, "110 AND 114", 10, "5\t5\t0\t0\n"),
        // Nothing behind it: one interval longer than its last miss.
        (3600, "90 AND 119", 1, "108000\t30\t0\t0\n"),
        (1, "110 AND 119", 10, "10\t10\t0\t0\n"),
    ] {
        let server = Server::start();
        pinger::store::apply_schema(&server.boss()).expect("boss may");
        server.sql(
            "INSERT INTO runs (run, source, started, ended) VALUES (1, 1, now64(9), now64(9))",
        );
        server.sql(&format!(
            "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome) \
             SELECT 1, 1, 7, number, toDateTime64({begin}, 9) + number * {interval}, \
             if(number BETWEEN {misses}, 'lost', 'reply') FROM numbers(120)"
        ));
        for seconds in [interval, registered] {
            server.sql(&format!(
                "INSERT INTO destinations (id, interval) VALUES (7, {seconds} * 1000000000)"
            ));
            assert_eq!(
                outages_of_7(&server, "outages"),
                expected,
                "{interval}, {seconds}"
            );
        }
    }
}

#[test]
fn a_minute_of_two_runs_is_not_whole_by_chance() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let begin = minute_ago(60);
    // The first run skips its third round; as many results as sequences there are with the second.
    for (run, rows) in [
        (
            1,
            "(0, 0, 'reply'), (1, 1, 'lost'), (3, 3, 'lost'), (4, 4, 'lost')",
        ),
        (2, "(0, 10, 'reply')"),
    ] {
        server.sql(&format!(
            "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome) \
             SELECT {run}, 1, 7, number, toDateTime64({begin}, 9) + second, word FROM \
             VALUES('number UInt64, second UInt8, word String', {rows})"
        ));
    }
    assert_eq!(outages_of_7(&server, "outages"), "9\t3\t0\t0\n");
}

#[test]
fn an_outage_ends_where_that_is_known() {
    let begin = minute_ago(60);
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server.sql(
        "INSERT INTO destinations (id, interval, timeout) VALUES (7, 1000000000, 300000000000)",
    );
    server.sql(&format!(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome) \
         SELECT 1, 1, 7, number, toDateTime64({begin}, 9) + number, \
         if(number BETWEEN 30 AND 629, 'lost', 'reply') FROM numbers(900)",
    ));
    let range = |seconds: u32| {
        format!("outages_in(from = toDateTime({begin}), until = toDateTime({begin} + {seconds}))")
    };
    assert_eq!(outages_of_7(&server, &range(300)), "270\t270\t1\t0\n");
    assert_eq!(outages_of_7(&server, &range(900)), "600\t600\t0\t0\n");

    // Results come when the timeout is over, five minutes later.
    server.sql(&format!(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome) \
         SELECT 1, 1, 7, number, toDateTime64({begin}, 9) + number, 'lost' \
         FROM numbers(3270, 80)",
    ));
    assert_eq!(
        outages_of_7(&server, "(SELECT * FROM outages LIMIT 1)"),
        "80\t80\t1\t1\n"
    );
    // Without raw results the misses are gone, and with them the ends.
    server.sql("TRUNCATE TABLE results");
    assert_eq!(outages_of_7(&server, "outages"), "");
}
