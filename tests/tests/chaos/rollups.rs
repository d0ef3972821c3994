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
    let counts = COUNTS.map(|(table, time, raw)| differing([table, time, raw, "", RAW, ROLLED]));
    let histograms = HISTOGRAMS.map(|(table, time, raw)| {
        let only = "AND outcome = 'reply' AND rtt IS NOT NULL";
        differing([table, time, raw, only, "count() AS a", "sum(count) AS a"])
    });
    let misses = "SELECT 'misses', toUInt64(abs(toInt64((SELECT count() FROM misses)) \
        - toInt64((SELECT count() FROM results \
            WHERE hops = 0 AND outcome IN ('error', 'lost', 'send_failed')))))"
        .to_owned();
    let parts: Vec<String> = counts
        .into_iter()
        .chain(histograms)
        .chain([misses])
        .collect();
    parts.join("\nUNION ALL ")
}

/// How many groups are in only one of both, or not the same in both.
fn differing([table, time, raw_time, only, raw, rolled]: [&str; 6]) -> String {
    format!(
        "SELECT '{table}', count() FROM (SELECT count() AS copies FROM (SELECT tuple(*) AS told FROM (\
         SELECT {raw_time} AS t, source, destination, {raw} FROM results WHERE hops = 0 {only} \
         GROUP BY t, source, destination \
         UNION ALL \
         SELECT {time} AS t, source, destination, {rolled} FROM {table} \
         GROUP BY t, source, destination)) GROUP BY told) WHERE copies != 2"
    )
}
