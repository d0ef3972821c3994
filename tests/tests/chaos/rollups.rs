//! Whether the rollups say the same as the raw rows: to the last reply and nanosecond.

use crate::place::Place;

/// What both tell of a destination in a span of time: counts, extremes and sum, NULLs as 0.
const RAW: &str = "countIf(outcome = 'reply') AS a, countIf(outcome = 'error') AS b, \
    countIf(outcome = 'lost') AS c, countIf(outcome = 'send_failed') AS d, \
    countIf(outcome = 'late') AS e, countIf(outcome = 'duplicate') AS f, \
    ifNull(minIf(rtt, outcome = 'reply'), 0) AS g, ifNull(maxIf(rtt, outcome = 'reply'), 0) AS h, \
    sumIf(ifNull(rtt, 0), outcome = 'reply') AS i";
const ROLLED: &str = "sum(reply) AS a, sum(error) AS b, sum(lost) AS c, sum(send_failed) AS d, \
    sum(late) AS e, sum(duplicate) AS f, \
    ifNull(min(rtt_min), 0) AS g, ifNull(max(rtt_max), 0) AS h, sum(rtt_sum) AS i";

/// Tables of counts, and their times in raw rows.
const COUNTS: [(&str, &str, &str); 2] = [
    ("results_minute", "minute", "toStartOfMinute(time_due)"),
    ("results_hour", "hour", "toStartOfHour(time_due)"),
];

/// The same of histograms.
const HISTOGRAMS: [(&str, &str, &str); 2] = [
    ("rtt_minute", "minute", "toStartOfMinute(time_due)"),
    ("rtt_hour", "hour", "toStartOfHour(time_due)"),
];

/// What is counted by run, traces included.
const RUNS: &str = "run, source";
const RAW_RUN: &str = "min(time_due) AS a, max(time_due) AS b, countIf(outcome = 'reply') AS c, \
    countIf(outcome = 'error') AS d, countIf(outcome = 'lost') AS e, \
    countIf(outcome = 'send_failed') AS f, countIf(outcome = 'late') AS g, \
    countIf(outcome = 'duplicate') AS h";
const ROLLED_RUN: &str = "min(first) AS a, max(last) AS b, sum(reply) AS c, sum(error) AS d, \
    sum(lost) AS e, sum(send_failed) AS f, sum(late) AS g, sum(duplicate) AS h";

/// Tables that differ from the raw rows, and how.
pub(crate) fn complaints(place: &Place) -> Vec<String> {
    match place.sql(&query()) {
        Ok(text) => text
            .lines()
            .filter(|line| !line.ends_with("\t0"))
            .map(|line| format!("rollup and raw rows differ, by so many groups or rows: {line}"))
            .collect(),
        Err(error) => vec![format!("cannot ask: {error}")],
    }
}

fn query() -> String {
    let counts = COUNTS.map(|(table, time, raw)| {
        let only = "WHERE hops = 0";
        differing([table, &spans(raw), &spans(time), only, RAW, ROLLED])
    });
    let histograms = HISTOGRAMS.map(|(table, time, raw)| {
        let only = "WHERE hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL";
        let (raw, time) = (spans(raw), spans(time));
        differing([table, &raw, &time, only, "count() AS a", "sum(count) AS a"])
    });
    let runs = differing(["results_run", RUNS, RUNS, "", RAW_RUN, ROLLED_RUN]);
    let misses = "SELECT 'misses', toUInt64(abs(toInt64((SELECT count() FROM misses)) \
        - toInt64((SELECT count() FROM results \
            WHERE hops = 0 AND outcome IN ('error', 'lost', 'send_failed')))))"
        .to_owned();
    let parts: Vec<String> = counts
        .into_iter()
        .chain(histograms)
        .chain([runs, misses])
        .collect();
    parts.join("\nUNION ALL ")
}

/// The groups of a table by time.
fn spans(time: &str) -> String {
    format!("{time} AS t, source, destination")
}

/// How many groups are in only one of both, or not the same in both.
fn differing([table, raw_group, group, only, raw, rolled]: [&str; 6]) -> String {
    format!(
        "SELECT '{table}', count() FROM (SELECT count() AS copies FROM (SELECT tuple(*) AS told FROM (\
         SELECT {raw_group}, {raw} FROM results {only} GROUP BY ALL \
         UNION ALL \
         SELECT {group}, {rolled} FROM {table} GROUP BY ALL)) GROUP BY told) WHERE copies != 2"
    )
}
