-- Schema version 4: what dashboards ask takes less. The rows stay the same.

-- What an ICMP error ended lies together with what other probes met. Traces end nearly all their
-- probes so; with the two columns in one index, they no longer hide where the few others are. What
-- was there before is in the older index until it expires.
ALTER TABLE results ADD INDEX IF NOT EXISTS hops_and_outcome (hops, outcome) TYPE set(32) GRANULARITY 1;

-- Where some destinations are dead and others lose a probe now and then, the few misses of the
-- latter are looked for. Two granules of 1024 rows share a block then, not eight, so less of what
-- lies between is decompressed. It takes 0.1 bytes a miss more.
ALTER TABLE misses MODIFY SETTING min_compress_block_size = 16384;

-- Mostly it is the analysis of a query that takes time here, not the reading. So counts and
-- histogram are added up together instead of being joined, and what the tables hold is asked for
-- once. The range's length alone rules out the finer tables; `kind` then keeps those that `grain`
-- was chosen for, and ClickHouse reads no others. Their lower bounds are those of the coarsest step
-- that is made of them.
CREATE OR REPLACE VIEW loss_and_rtt AS
SELECT
    m.time AS time,
    m.step AS step,
    m.source AS source,
    m.destination AS destination,
    if(d.name = '', toString(m.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    m.reply + m.error + m.lost AS sent,
    m.reply AS reply,
    m.error AS error,
    m.lost AS lost,
    if(sent = 0, NULL, round(100 * (m.error + m.lost) / sent, 3)) AS loss_percent,
    m.late AS late,
    m.duplicate AS duplicate,
    m.mismatch AS mismatch,
    m.send_failed AS send_failed,
    round(m.rtt_min / 1e6, 6) AS rtt_min_ms,
    round(m.rtt_sum / nullIf(m.reply, 0) / 1e6, 6) AS rtt_mean_ms,
    round(nullIf(least(greatest(m.middles[1], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(m.middles[2], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p90_ms,
    round(nullIf(least(greatest(m.middles[3], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms,
    round(nullIf(m.jitter_sum, 0) / nullIf(m.reply, 0) / 1e6, 6) AS jitter_ms,
    m.hop_limit_changes AS hop_limit_changes
FROM
(
    WITH
        dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) AS seconds,
        multiIf(seconds <= 600, 1, seconds <= 36000, 60, seconds <= 172800, 300, seconds <= 2678400, 3600, 86400) AS wanted,
        (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results) AS results_since,
        (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(minute)) FROM results_minute) AS minutes_since,
        (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(hour)) FROM results_hour) AS hours_since,
        {from:DateTime('UTC')} >= results_since OR results_since <= minutes_since AND toStartOfHour(results_since) <= hours_since AS in_results,
        {from:DateTime('UTC')} >= minutes_since OR toStartOfHour(minutes_since) <= hours_since AS in_minutes,
        toUInt32(multiIf(wanted = 1 AND in_results, 1, wanted <= 300 AND in_minutes, greatest(wanted, 60), greatest(wanted, 3600))) AS grain
    SELECT
        toStartOfInterval(t.at, toIntervalSecond(grain)) AS time,
        t.source AS source,
        t.destination AS destination,
        any(grain) AS step,
        sum(t.reply) AS reply,
        sum(t.error) AS error,
        sum(t.lost) AS lost,
        sum(t.send_failed) AS send_failed,
        sum(t.late) AS late,
        sum(t.duplicate) AS duplicate,
        sum(t.mismatch) AS mismatch,
        min(t.rtt_min) AS rtt_min,
        max(t.rtt_max) AS rtt_max,
        sum(t.rtt_sum) AS rtt_sum,
        sum(t.jitter_sum) AS jitter_sum,
        sum(t.hop_limit_changes) AS hop_limit_changes,
        -- Of arrays: a quantile's own state takes more than twice as much memory for each step.
        arrayReduce('quantilesExactWeighted(0.5, 0.9, 0.99)', groupArrayIf(t.bucket, t.count > 0), groupArrayIf(t.count, t.count > 0)) AS buckets,
        arrayMap(b -> if(b = 0, 0, 1.0099 * pow(1.02, b - 1) / 1e6), buckets) AS middles
    FROM
    (
        SELECT
            60 AS kind, minute AS at, source, destination,
            reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
            hop_limit_changes, 0 AS bucket, 0 AS count
        FROM results_minute
        WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 172800
            AND minute >= toStartOfFiveMinutes({from:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
        UNION ALL
        SELECT 60, minute, source, destination, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, bucket, count
        FROM rtt_minute
        WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 172800
            AND minute >= toStartOfFiveMinutes({from:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
        UNION ALL
        SELECT
            3600, hour, source, destination,
            reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
            hop_limit_changes, 0, 0
        FROM results_hour
        WHERE hour >= toStartOfDay({from:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
        UNION ALL
        SELECT 3600, hour, source, destination, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, bucket, count
        FROM rtt_hour
        WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 2678400
            AND hour >= toStartOfDay({from:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
        UNION ALL
        -- Of a day, the same bucket comes up to 24 times: once is enough for the array.
        SELECT 3600, toDateTime(toStartOfDay(hour), 'UTC') AS day, source, destination, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, NULL, bucket, sum(h.count)
        FROM rtt_hour AS h
        WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) > 2678400
            AND hour >= toStartOfDay({from:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
        GROUP BY day, source, destination, bucket
        UNION ALL
        SELECT
            1, toDateTime(time_due), source, destination,
            toUInt64(outcome = 'reply'),
            toUInt64(outcome = 'error'),
            toUInt64(outcome = 'lost'),
            toUInt64(outcome = 'send_failed'),
            toUInt64(outcome = 'late'),
            toUInt64(outcome = 'duplicate'),
            toUInt64(outcome = 'reply' AND ifNull(NOT datamatch, false)),
            if(outcome = 'reply', rtt, NULL) AS reply_rtt,
            reply_rtt,
            ifNull(reply_rtt, 0),
            0,
            NULL,
            toUInt16(1 + log(greatest(ifNull(reply_rtt, 1), 1)) / log(1.02)),
            toUInt64(reply_rtt IS NOT NULL)
        FROM results
        WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 600
            AND hops = 0 AND time_due >= {from:DateTime('UTC')} AND time_due < {until:DateTime('UTC')}
    ) AS t
    WHERE t.kind = multiIf(grain = 1, 1, grain <= 300, 60, 3600)
        AND t.at >= toStartOfInterval({from:DateTime('UTC')}, toIntervalSecond(grain))
    GROUP BY time, source, destination
    -- A histogram whose counts have expired is none.
    HAVING reply + error + lost + send_failed + late + duplicate > 0
) AS m
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trips per source, destination and step of a range; with from and until';

CREATE OR REPLACE VIEW rtt_heat_map AS
WITH
    dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) AS seconds,
    multiIf(seconds <= 600, 1, seconds <= 36000, 60, seconds <= 172800, 300, seconds <= 2678400, 3600, 86400) AS wanted,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results) AS results_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(minute)) FROM results_minute) AS minutes_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(hour)) FROM results_hour) AS hours_since,
    {from:DateTime('UTC')} >= results_since OR results_since <= minutes_since AND toStartOfHour(results_since) <= hours_since AS in_results,
    {from:DateTime('UTC')} >= minutes_since OR toStartOfHour(minutes_since) <= hours_since AS in_minutes,
    toUInt32(multiIf(wanted = 1 AND in_results, 1, wanted <= 300 AND in_minutes, greatest(wanted, 60), greatest(wanted, 3600))) AS grain
SELECT
    toStartOfInterval(h.at, toIntervalSecond(grain)) AS time,
    grain AS step,
    h.source AS source,
    h.destination AS destination,
    -- 1.02^n as e^(n ln 1.02), which ClickHouse computes many times as fast.
    round(exp((h.bucket - 1) * log(1.02)) / 1e6, 6) AS rtt_from_ms,
    round(exp(h.bucket * log(1.02)) / 1e6, 6) AS rtt_until_ms,
    h.bucket AS bucket,
    h.count AS replies
FROM
(
    SELECT 60 AS kind, minute AS at, source, destination, bucket, count
    FROM rtt_minute
    WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 172800
        AND minute >= toStartOfFiveMinutes({from:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
    UNION ALL
    SELECT 3600, hour, source, destination, bucket, count
    FROM rtt_hour
    WHERE hour >= toStartOfDay({from:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
    UNION ALL
    SELECT
        1, toDateTime(time_due), source, destination,
        toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)),
        1
    FROM results
    WHERE dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) <= 600
        AND hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL
        AND time_due >= {from:DateTime('UTC')} AND time_due < {until:DateTime('UTC')}
) AS h
WHERE h.kind = multiIf(grain = 1, 1, grain <= 300, 60, 3600)
    AND h.at >= toStartOfInterval({from:DateTime('UTC')}, toIntervalSecond(grain))
COMMENT 'How many replies took how long, per source, destination and step of a range, to be added up; with from and until';
