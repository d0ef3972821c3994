//! Views against what raw rows say, on the real ClickHouse: which resolution answers a range, and
//! outages with start, end and who saw them.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::time::Duration;

use store_kit::{Server, wall_ns};

const MINUTE_NS: u64 = 60_000_000_000;

/// All views of a range in which destination 7 has so many minutes of three replies and a miss.
fn check_range(server: &Server, range: &str, step: u64, times: u64) {
    let rows = format!(
        "SELECT any(step), sum(sent), sum(reply), min(rtt_min_ms), max(rtt_max_ms), \
         countIf(step > 1 AND rtt_p50_ms NOT BETWEEN 1.98 AND 2.02), max(rtt_p99_ms) \
         FROM loss_and_rtt({range}) WHERE destination = 7 FORMAT TSV"
    );
    let expected = format!("{step}\t{}\t{}\t1\t3\t0\t3\n", 4 * times, 3 * times);
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
        let within = |age: &&u64| age.abs_diff(around) <= seconds / 2;
        let times = ages.iter().filter(within).count();
        check_range(&server, &range, step, times as u64);
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
    // A range is one of whole minutes. It is named by numbers: each `now()` reads the clock anew.
    let since = wall_ns(Duration::from_secs(466_300)) / 1_000_000_000;
    let range = format!(
        "WITH toDateTime({since}) AS since, since + 300 AS till \
         SELECT count(), min(start) >= toStartOfMinute(since), sum(probes) = \
         (SELECT count() FROM misses WHERE destination = 5 AND outcome != 'send_failed' \
         AND toStartOfMinute(time_due) >= toStartOfMinute(since) AND toStartOfMinute(time_due) < till) \
         FROM outages_in(from = toDateTime({since}), until = toDateTime({since} + 300)) \
         WHERE destination = 5 FORMAT TSV"
    );
    assert_eq!(server.sql(&range), "2\t1\t1\n");
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

/// Ten results, one each 30 seconds from `begin` on: which of them are what, and with which
/// columns.
fn ten(server: &Server, begin: u64, source: u8, destination: u8, columns: &str) {
    server.sql(&format!(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, outcome, rtt, address, \
         rtype, rcode, hop_limit, hop_limit_changed, hops) \
         SELECT 1, {source}, {destination}, number, toDateTime64({begin}, 9) + 30 * number, \
         {columns} FROM numbers(10)"
    ));
}

/// A server with two sources that see two destinations differently, and with their traces, which
/// are full of what would change every answer.
fn server_of_two_sources(begin: u64) -> Server {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server.sql("INSERT INTO sources (id, name) VALUES (1, 'east'), (2, 'west')");
    server.sql(
        "INSERT INTO destinations (id, name, address) VALUES \
         (7, 'host7', '::ffff:192.0.2.7'), (8, 'host8', '2001:db8::8')",
    );
    let ten = |source, destination, columns| ten(&server, begin, source, destination, columns);
    // What is unreachable is told by a router, or by the destination itself; late answers are none.
    ten(
        1,
        7,
        "'reply', 1000000, '::ffff:192.0.2.7', 0, 0, if(number < 5, 57, 60), number = 5, 0",
    );
    ten(
        2,
        7,
        "if(number < 4, 'error', 'reply'), if(number < 4, NULL, 5000000), \
         if(number < 3, '::ffff:198.51.100.9', '::ffff:192.0.2.7'), if(number < 4, 3, 0), \
         if(number < 4, 1, 0), 50, false, 0",
    );
    ten(
        1,
        8,
        "if(number = 9, 'lost', 'reply'), if(number = 9, NULL, 2000000), '2001:db8::8', 0, 0, 61, \
         number IN (2, 8), 0",
    );
    ten(2, 8, "'reply', 20000000, '2001:db8::8', 0, 0, 62, false, 0");
    ten(
        2,
        8,
        "'late', 900000000, '2001:db8:1::1', 3, 0, 0, false, 0",
    );
    for (source, destination) in [(1, 7), (2, 7), (1, 8), (2, 8)] {
        ten(
            source,
            destination,
            "if(number < 8, 'error', 'reply'), if(number < 8, NULL, 700000000), \
             '::ffff:198.51.100.1', 11, 0, 200, true, 10",
        );
    }
    server
}

#[test]
fn sources_are_compared_without_their_traces() {
    let server = server_of_two_sources(minute_ago(10));
    let query = include_str!("../../schema/queries/compare_sources.sql");
    assert_eq!(
        server.sql(&format!("{query} FORMAT TSV")),
        "host7\t2\twest\t40\t0\twest\t5\t1\n\
         host8\t2\teast\t10\t0\twest\t20\t2\n"
    );
}

#[test]
fn changes_of_hop_limits_are_counted_without_traces() {
    let begin = minute_ago(10);
    let server = server_of_two_sources(begin);
    let query = format!(
        "SELECT name, changes, lowest, highest, toUnixTimestamp(first) - {begin}, \
         toUnixTimestamp(last) - {begin} FROM ({}) FORMAT TSV",
        include_str!("../../schema/queries/hop_changes.sql")
    );
    assert_eq!(
        server.sql(&query),
        "host8\t2\t61\t62\t60\t240\nhost7\t1\t50\t60\t120\t120\n"
    );
}

#[test]
fn only_errors_from_elsewhere_show_who_answered() {
    let begin = minute_ago(10);
    let server = server_of_two_sources(begin);
    let query = format!(
        "SELECT name, answered_by, rtype, rcode, answers, toUnixTimestamp(last) - {begin} \
         FROM ({}) FORMAT TSV",
        include_str!("../../schema/queries/who_answered.sql")
    );
    assert_eq!(server.sql(&query), "host7\t198.51.100.9\t3\t1\t3\t60\n");
}

#[test]
fn a_histogram_whose_counts_have_expired_is_no_step() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    for age in [90, 300] {
        server.sql(&format!(
            "INSERT INTO incoming (run, source, destination, sequence, time_due, rtt, outcome) \
             SELECT 1, 1, 7, number, now() - INTERVAL {age} DAY, 1000000, 'reply' FROM numbers(3)"
        ));
    }
    let steps = "SELECT count(), min(sent) FROM \
         loss_and_rtt(from = now() - INTERVAL 400 DAY, until = now()) FORMAT TSV";
    assert_eq!(server.sql(steps), "2\t3\n");
    server.sql(
        "ALTER TABLE results_hour DELETE WHERE hour < now() - INTERVAL 200 DAY \
         SETTINGS mutations_sync = 2",
    );
    assert_eq!(server.sql(steps), "1\t3\n");
}
