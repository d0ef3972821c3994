-- Schema version 3: what pinger inserts into, what is missing, and rollups that outlive raw rows.
--
-- pinger inserts results into `incoming`, which keeps nothing: the materialized views below write
-- each block into `results` and into the rollups. A block that is sent again under its token
-- changes none of them, if the insert sets deduplicate_blocks_in_dependent_materialized_views=1.
-- The views write with the rights of whoever applied this: who inserts need not read anything.
-- With optimize_on_insert=0 it is not merged once more before it is written: the views have
-- grouped it already, and that takes half the time of an insert.

-- By bytes instead of bits: smaller near and far, and read in half the time; see schema/README.md.
ALTER TABLE results MODIFY COLUMN rtt CODEC(T64, ZSTD(3));

CREATE TABLE IF NOT EXISTS incoming
(
    run UInt64 COMMENT 'As in results; so are all columns but the last two',
    source UInt32,
    destination UInt64,
    sequence UInt64,
    time_due DateTime64(9, 'UTC'),
    lag UInt64,
    rtt Nullable(UInt64),
    outcome Enum8('reply' = 1, 'error' = 2, 'lost' = 3, 'send_failed' = 4, 'late' = 5, 'duplicate' = 6),
    answer Enum8('none' = 0, 'echo' = 1, 'datagram' = 2, 'syn_ack' = 3, 'reset' = 4, 'icmp_error' = 5),
    address IPv6,
    rsite UInt32,
    rhost UInt32,
    rtype UInt8,
    rcode UInt8,
    rid UInt16,
    rseq UInt16,
    ttl UInt8,
    hops UInt8,
    hop_limit UInt8,
    traffic_class UInt8,
    datamatch Nullable(Bool),
    mismatch_at Nullable(UInt16),
    jitter UInt64 COMMENT 'RFC 3550''s jitter of the destination''s round trips after this reply, nanoseconds; 0 for what is no reply',
    hop_limit_changed Bool COMMENT 'Whether this reply came with another hop limit than the destination''s reply before it'
)
ENGINE = Null
COMMENT 'Where pinger inserts results; keeps nothing, its views fill results and the rollups';

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_results TO results
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    run, source, destination, sequence, time_due, lag, rtt, outcome, answer, address, rsite, rhost,
    rtype, rcode, rid, rseq, ttl, hops, hop_limit, traffic_class, datamatch, mismatch_at
FROM incoming
COMMENT 'Raw rows';

-- Rows that are never merged into one another: two gaps may begin at the same moment.
CREATE TABLE IF NOT EXISTS gaps
(
    source UInt32 COMMENT 'Whose results are missing; sources.id',
    run UInt64 COMMENT 'In which run; runs.run',
    from DateTime64(9, 'UTC') COMMENT 'Results before this are there' CODEC(DoubleDelta, ZSTD(1)),
    until Nullable(DateTime64(9, 'UTC')) COMMENT 'Results after this are there; NULL if that is not known',
    probes Nullable(UInt64) COMMENT 'Probes that were sent and whose result is missing; NULL if not known',
    rows Nullable(UInt64) COMMENT 'Results that are missing, late answers and duplicates included; NULL if not known',
    reason Enum8('crash' = 1, 'spool_full' = 2, 'too_old' = 3, 'refused' = 4, 'queue_full' = 5, 'corrupt' = 6, 'interrupted' = 7) COMMENT 'Why',
    detail String COMMENT 'The same in words',
    updated DateTime64(9, 'UTC') DEFAULT now64(9) COMMENT 'When this row was written'
)
ENGINE = MergeTree
PARTITION BY toYear(from)
ORDER BY (run, source, from)
TTL toDateTime(from) + INTERVAL 5 YEAR
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Results that pinger made or would have made and that are not in the store, and why';

-- Traces and errors are few and lie together: views of paths and of errors skip all else. The
-- two take 40 KB for 100,000,000 rows.
ALTER TABLE results
    ADD INDEX IF NOT EXISTS hops_range hops TYPE minmax GRANULARITY 1,
    ADD INDEX IF NOT EXISTS outcome_set outcome TYPE set(6) GRANULARITY 1;

-- Rollups: what is asked of months and years. Rows of one key are added up by background merges,
-- so a query adds them up too. Traces have their own views and are left out. Two tables, because
-- a minute has one row of counts and extremes, but one row of two small numbers for each bucket
-- of round trips that was met; that takes a third of what one table with all columns takes.
-- Order: hour or week first, as in results, and then the place in it: if the time itself were part
-- of the order, conditions on it would be compared with that part and not with the first one.
CREATE TABLE IF NOT EXISTS results_minute
(
    minute DateTime('UTC') COMMENT 'Start of the minute in which the probes were due' CODEC(DoubleDelta, ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    reply SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered in time' CODEC(T64, ZSTD(1)),
    error SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered by an ICMP error' CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes without an answer' CODEC(T64, ZSTD(1)),
    send_failed SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes that never left the host' CODEC(T64, ZSTD(1)),
    late SimpleAggregateFunction(sum, UInt64) COMMENT 'Answers after the timeout' CODEC(T64, ZSTD(1)),
    duplicate SimpleAggregateFunction(sum, UInt64) COMMENT 'Further answers to answered probes' CODEC(T64, ZSTD(1)),
    mismatch SimpleAggregateFunction(sum, UInt64) COMMENT 'Replies whose payload was not what had been sent' CODEC(T64, ZSTD(1)),
    rtt_min SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Shortest round trip of a reply, nanoseconds' CODEC(T64, ZSTD(1)),
    rtt_max SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Longest round trip of a reply, nanoseconds' CODEC(T64, ZSTD(1)),
    rtt_sum SimpleAggregateFunction(sum, UInt64) COMMENT 'Sum of the replies'' round trips, nanoseconds' CODEC(T64, ZSTD(1)),
    jitter_sum SimpleAggregateFunction(sum, UInt64) COMMENT 'Sum of incoming.jitter; 0 for what came before schema version 3' CODEC(T64, ZSTD(1)),
    jitter_max SimpleAggregateFunction(max, UInt64) COMMENT 'Greatest incoming.jitter' CODEC(T64, ZSTD(1)),
    hop_limit_min SimpleAggregateFunction(min, Nullable(UInt8)) COMMENT 'Lowest hop limit of a reply on arrival' CODEC(ZSTD(1)),
    hop_limit_max SimpleAggregateFunction(max, Nullable(UInt8)) COMMENT 'Highest hop limit of a reply on arrival' CODEC(ZSTD(1)),
    hop_limit_changes SimpleAggregateFunction(sum, UInt64) COMMENT 'How often it changed; 0 for what came before schema version 3' CODEC(T64, ZSTD(1)),
    last_reply SimpleAggregateFunction(max, Nullable(DateTime64(9, 'UTC'))) COMMENT 'When the last probe was due that a reply came to' CODEC(DoubleDelta, ZSTD(1)),
    -- The rest is for outages. Sequences are those of reply, error and lost.
    first_reply SimpleAggregateFunction(min, Nullable(DateTime64(9, 'UTC'))) COMMENT 'When the first probe was due that a reply came to' CODEC(DoubleDelta, ZSTD(1)),
    first_miss SimpleAggregateFunction(min, Nullable(DateTime64(9, 'UTC'))) COMMENT 'When the first probe was due that ended as error or lost' CODEC(DoubleDelta, ZSTD(1)),
    last_miss SimpleAggregateFunction(max, Nullable(DateTime64(9, 'UTC'))) COMMENT 'When the last probe was due that ended so' CODEC(DoubleDelta, ZSTD(1)),
    first_sequence SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Lowest sequence' CODEC(DoubleDelta, ZSTD(1)),
    last_sequence SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Highest sequence' CODEC(DoubleDelta, ZSTD(1)),
    first_run SimpleAggregateFunction(min, UInt64) COMMENT 'First run that these results are of; runs.run' CODEC(ZSTD(1)),
    run SimpleAggregateFunction(max, UInt64) COMMENT 'Latest run that they are of' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (toStartOfHour(minute), destination, source, toMinute(minute))
TTL minute + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Counts, and round trips of replies, per destination, source and minute; for 180 days';

CREATE TABLE IF NOT EXISTS results_hour
(
    hour DateTime('UTC') COMMENT 'Start of the hour in which the probes were due' CODEC(DoubleDelta, ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    reply SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered in time' CODEC(T64, ZSTD(1)),
    error SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered by an ICMP error' CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes without an answer' CODEC(T64, ZSTD(1)),
    send_failed SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes that never left the host' CODEC(T64, ZSTD(1)),
    late SimpleAggregateFunction(sum, UInt64) COMMENT 'Answers after the timeout' CODEC(T64, ZSTD(1)),
    duplicate SimpleAggregateFunction(sum, UInt64) COMMENT 'Further answers to answered probes' CODEC(T64, ZSTD(1)),
    mismatch SimpleAggregateFunction(sum, UInt64) COMMENT 'Replies whose payload was not what had been sent' CODEC(T64, ZSTD(1)),
    rtt_min SimpleAggregateFunction(min, Nullable(UInt64)) COMMENT 'Shortest round trip of a reply, nanoseconds' CODEC(T64, ZSTD(1)),
    rtt_max SimpleAggregateFunction(max, Nullable(UInt64)) COMMENT 'Longest round trip of a reply, nanoseconds' CODEC(T64, ZSTD(1)),
    rtt_sum SimpleAggregateFunction(sum, UInt64) COMMENT 'Sum of the replies'' round trips, nanoseconds' CODEC(T64, ZSTD(1)),
    jitter_sum SimpleAggregateFunction(sum, UInt64) COMMENT 'Sum of incoming.jitter; 0 for what came before schema version 3' CODEC(T64, ZSTD(1)),
    jitter_max SimpleAggregateFunction(max, UInt64) COMMENT 'Greatest incoming.jitter' CODEC(T64, ZSTD(1)),
    hop_limit_min SimpleAggregateFunction(min, Nullable(UInt8)) COMMENT 'Lowest hop limit of a reply on arrival' CODEC(ZSTD(1)),
    hop_limit_max SimpleAggregateFunction(max, Nullable(UInt8)) COMMENT 'Highest hop limit of a reply on arrival' CODEC(ZSTD(1)),
    hop_limit_changes SimpleAggregateFunction(sum, UInt64) COMMENT 'How often it changed; 0 for what came before schema version 3' CODEC(T64, ZSTD(1)),
    last_reply SimpleAggregateFunction(max, Nullable(DateTime64(9, 'UTC'))) COMMENT 'When the last probe was due that a reply came to' CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(hour)
ORDER BY (toMonday(hour), destination, source, toDayOfWeek(hour), toHour(hour))
TTL hour + INTERVAL 5 YEAR
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'The same per hour, for five years';

-- A bucket is 2 % wide, so its middle is at most 1 % from any round trip in it.
CREATE TABLE IF NOT EXISTS rtt_minute
(
    minute DateTime('UTC') COMMENT 'Start of the minute in which the probes were due' CODEC(DoubleDelta, ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    bucket UInt16 COMMENT 'Round trips from 1.02^(bucket - 1) nanoseconds up to 1.02^bucket' CODEC(Delta, ZSTD(1)),
    count SimpleAggregateFunction(sum, UInt64) COMMENT 'How many replies' CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (toStartOfHour(minute), destination, source, toMinute(minute), bucket)
TTL minute + INTERVAL 180 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Histogram of the replies round trips per destination, source and minute; for 180 days';

CREATE TABLE IF NOT EXISTS rtt_hour
(
    hour DateTime('UTC') COMMENT 'Start of the hour in which the probes were due' CODEC(DoubleDelta, ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    bucket UInt16 COMMENT 'Round trips from 1.02^(bucket - 1) nanoseconds up to 1.02^bucket' CODEC(Delta, ZSTD(1)),
    count SimpleAggregateFunction(sum, UInt64) COMMENT 'How many replies' CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(hour)
ORDER BY (toMonday(hour), destination, source, toDayOfWeek(hour), toHour(hour), bucket)
TTL hour + INTERVAL 5 YEAR
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'The same per hour, for five years';

-- Where outages begin and end within a minute: of billions of results only few are misses. Small
-- granules, because an outage of hours is skipped but for its two ends.
CREATE TABLE IF NOT EXISTS misses
(
    run UInt64 COMMENT 'Which run of pinger; runs.run' CODEC(ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the probe within its run and destination' CODEC(DoubleDelta, ZSTD(1)),
    time_due DateTime64(9, 'UTC') COMMENT 'When the probe was due' CODEC(DoubleDelta, ZSTD(1)),
    outcome Enum8('reply' = 1, 'error' = 2, 'lost' = 3, 'send_failed' = 4, 'late' = 5, 'duplicate' = 6) COMMENT 'error, lost or send_failed' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time_due)
ORDER BY (toStartOfHour(time_due), destination, source, time_due)
TTL toDateTime(time_due) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'Probes that no reply came to, traces left out; for seven days, as results';

-- Traces are probes of a run, so here they count. As few rows as there are runs: they are kept.
CREATE TABLE IF NOT EXISTS results_run
(
    run UInt64 COMMENT 'Which run of pinger; runs.run',
    source UInt32 COMMENT 'Who probed; sources.id',
    first SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'When the first of these results was due',
    last SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'When the last one was',
    reply SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered in time',
    error SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes answered by an ICMP error',
    lost SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes without an answer',
    send_failed SimpleAggregateFunction(sum, UInt64) COMMENT 'Probes that never left the host',
    late SimpleAggregateFunction(sum, UInt64) COMMENT 'Answers after the timeout',
    duplicate SimpleAggregateFunction(sum, UInt64) COMMENT 'Further answers to answered probes',
    is_partial SimpleAggregateFunction(max, UInt8) COMMENT 'Whether results of it may have expired before schema version 3 counted them; then first and last may be when the run began'
)
ENGINE = AggregatingMergeTree
ORDER BY (run, source)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'How many results of each run came into this store, whether they are still there or not; of what came before schema version 3, what was there then';

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_run TO results_run
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    run,
    source,
    min(time_due) AS first,
    max(time_due) AS last,
    countIf(outcome = 'reply') AS reply,
    countIf(outcome = 'error') AS error,
    countIf(outcome = 'lost') AS lost,
    countIf(outcome = 'send_failed') AS send_failed,
    countIf(outcome = 'late') AS late,
    countIf(outcome = 'duplicate') AS duplicate
FROM incoming
GROUP BY run, source
COMMENT 'Counts results by run';

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_misses TO misses
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT run, source, destination, sequence, time_due, outcome
FROM incoming
WHERE hops = 0 AND outcome IN ('error', 'lost', 'send_failed')
COMMENT 'Probes that no reply came to';

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_minute TO results_minute
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    toStartOfMinute(time_due) AS minute,
    source,
    destination,
    countIf(outcome = 'reply') AS reply,
    countIf(outcome = 'error') AS error,
    countIf(outcome = 'lost') AS lost,
    countIf(outcome = 'send_failed') AS send_failed,
    countIf(outcome = 'late') AS late,
    countIf(outcome = 'duplicate') AS duplicate,
    countIf(outcome = 'reply' AND datamatch = false) AS mismatch,
    minIf(rtt, outcome = 'reply') AS rtt_min,
    maxIf(rtt, outcome = 'reply') AS rtt_max,
    sumIf(ifNull(rtt, 0), outcome = 'reply') AS rtt_sum,
    sum(jitter) AS jitter_sum,
    max(jitter) AS jitter_max,
    minIf(nullIf(hop_limit, 0), outcome = 'reply') AS hop_limit_min,
    maxIf(nullIf(hop_limit, 0), outcome = 'reply') AS hop_limit_max,
    sum(hop_limit_changed) AS hop_limit_changes,
    maxOrNullIf(time_due, outcome = 'reply') AS last_reply,
    minOrNullIf(time_due, outcome = 'reply') AS first_reply,
    minOrNullIf(time_due, outcome IN ('error', 'lost')) AS first_miss,
    maxOrNullIf(time_due, outcome IN ('error', 'lost')) AS last_miss,
    minOrNullIf(sequence, outcome IN ('reply', 'error', 'lost')) AS first_sequence,
    maxOrNullIf(sequence, outcome IN ('reply', 'error', 'lost')) AS last_sequence,
    min(incoming.run) AS first_run,
    max(incoming.run) AS run
FROM incoming
WHERE hops = 0
GROUP BY minute, source, destination
COMMENT 'Adds results up per minute';

CREATE MATERIALIZED VIEW IF NOT EXISTS results_minute_to_hour TO results_hour
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    toStartOfHour(minute) AS hour,
    source,
    destination,
    sum(m.reply) AS reply,
    sum(m.error) AS error,
    sum(m.lost) AS lost,
    sum(m.send_failed) AS send_failed,
    sum(m.late) AS late,
    sum(m.duplicate) AS duplicate,
    sum(m.mismatch) AS mismatch,
    min(m.rtt_min) AS rtt_min,
    max(m.rtt_max) AS rtt_max,
    sum(m.rtt_sum) AS rtt_sum,
    sum(m.jitter_sum) AS jitter_sum,
    max(m.jitter_max) AS jitter_max,
    min(m.hop_limit_min) AS hop_limit_min,
    max(m.hop_limit_max) AS hop_limit_max,
    sum(m.hop_limit_changes) AS hop_limit_changes,
    max(m.last_reply) AS last_reply
FROM results_minute AS m
GROUP BY hour, source, destination
COMMENT 'Adds minutes up per hour';

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_rtt_minute TO rtt_minute
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    toStartOfMinute(time_due) AS minute,
    source,
    destination,
    toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)) AS bucket,
    count() AS count
FROM incoming
WHERE hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL
GROUP BY minute, source, destination, bucket
COMMENT 'Sorts round trips into buckets';

CREATE MATERIALIZED VIEW IF NOT EXISTS rtt_minute_to_hour TO rtt_hour
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toStartOfHour(minute) AS hour, source, destination, bucket, sum(m.count) AS count
FROM rtt_minute AS m
GROUP BY hour, source, destination, bucket
COMMENT 'Adds minutes up per hour';

-- The rollups of what is there already, once: the record of this migration, which is written last,
-- says whether that was done. What a try left that was cut short is deleted first. The views above
-- make the hours of it.
ALTER TABLE misses DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

ALTER TABLE results_run DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

ALTER TABLE results_minute DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

ALTER TABLE results_hour DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

ALTER TABLE rtt_minute DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

ALTER TABLE rtt_hour DELETE WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS mutations_sync = 2, allow_nondeterministic_mutations = 1;

INSERT INTO misses (run, source, destination, sequence, time_due, outcome)
SELECT run, source, destination, sequence, time_due, outcome
FROM results
WHERE hops = 0 AND outcome IN ('error', 'lost', 'send_failed')
    AND (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS insert_deduplicate = 0;

INSERT INTO results_run (run, source, first, last, reply, error, lost, send_failed, late, duplicate)
SELECT
    run,
    source,
    min(time_due) AS first,
    max(time_due) AS last,
    countIf(outcome = 'reply') AS reply,
    countIf(outcome = 'error') AS error,
    countIf(outcome = 'lost') AS lost,
    countIf(outcome = 'send_failed') AS send_failed,
    countIf(outcome = 'late') AS late,
    countIf(outcome = 'duplicate') AS duplicate
FROM results
WHERE (SELECT count() FROM schema_migrations WHERE version = 3) = 0
GROUP BY run, source
SETTINGS insert_deduplicate = 0;

-- Results expire by the day: of a run that began before the oldest day, some may have.
INSERT INTO results_run (run, source, first, last, is_partial)
SELECT run, source, started, started, 1
FROM runs FINAL
WHERE toDate(started) < (SELECT if(count() = 0, toDate(4294967295, 'UTC'), toDate(min(time_due))) FROM results)
    AND (SELECT count() FROM schema_migrations WHERE version = 3) = 0
SETTINGS insert_deduplicate = 0;

INSERT INTO results_minute
    (minute, source, destination, reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min,
    rtt_max, rtt_sum, hop_limit_min, hop_limit_max, last_reply, first_reply, first_miss, last_miss,
    first_sequence, last_sequence, first_run, run)
SELECT
    toStartOfMinute(time_due) AS minute,
    source,
    destination,
    countIf(outcome = 'reply') AS reply,
    countIf(outcome = 'error') AS error,
    countIf(outcome = 'lost') AS lost,
    countIf(outcome = 'send_failed') AS send_failed,
    countIf(outcome = 'late') AS late,
    countIf(outcome = 'duplicate') AS duplicate,
    countIf(outcome = 'reply' AND datamatch = false) AS mismatch,
    minIf(rtt, outcome = 'reply') AS rtt_min,
    maxIf(rtt, outcome = 'reply') AS rtt_max,
    sumIf(ifNull(rtt, 0), outcome = 'reply') AS rtt_sum,
    minIf(nullIf(hop_limit, 0), outcome = 'reply') AS hop_limit_min,
    maxIf(nullIf(hop_limit, 0), outcome = 'reply') AS hop_limit_max,
    maxOrNullIf(time_due, outcome = 'reply') AS last_reply,
    minOrNullIf(time_due, outcome = 'reply') AS first_reply,
    minOrNullIf(time_due, outcome IN ('error', 'lost')) AS first_miss,
    maxOrNullIf(time_due, outcome IN ('error', 'lost')) AS last_miss,
    minOrNullIf(sequence, outcome IN ('reply', 'error', 'lost')) AS first_sequence,
    maxOrNullIf(sequence, outcome IN ('reply', 'error', 'lost')) AS last_sequence,
    min(results.run) AS first_run,
    max(results.run) AS run
FROM results
WHERE hops = 0 AND (SELECT count() FROM schema_migrations WHERE version = 3) = 0
-- In the order of the table, so that only the groups in the making are in memory.
GROUP BY toStartOfHour(time_due), destination, source, minute
SETTINGS optimize_aggregation_in_order = 1, insert_deduplicate = 0;

INSERT INTO rtt_minute (minute, source, destination, bucket, count)
SELECT
    toStartOfMinute(time_due) AS minute,
    source,
    destination,
    toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)) AS bucket,
    count() AS count
FROM results
WHERE hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL
    AND (SELECT count() FROM schema_migrations WHERE version = 3) = 0
GROUP BY toStartOfHour(time_due), destination, source, minute, bucket
SETTINGS optimize_aggregation_in_order = 1, insert_deduplicate = 0;

-- Loss is (error + lost) of all probes that left the host; a failed send is the prober's fault.
-- Quantiles are middles of buckets, so at most 1 % off, and never outside of what was met. Jitter is
-- the mean of RFC 3550's; NULL in what came before schema version 3.
CREATE OR REPLACE VIEW per_minute AS
SELECT
    m.minute AS minute,
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
    round(nullIf(least(greatest(h.middles[1], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(h.middles[2], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p90_ms,
    round(nullIf(least(greatest(h.middles[3], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms,
    round(nullIf(m.jitter_sum, 0) / nullIf(m.reply, 0) / 1e6, 6) AS jitter_ms,
    m.hop_limit_changes AS hop_limit_changes
FROM
(
    SELECT
        minute,
        source,
        destination,
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
        sum(t.hop_limit_changes) AS hop_limit_changes
    FROM results_minute AS t
    GROUP BY minute, source, destination
) AS m
LEFT ANY JOIN
(
    SELECT
        minute, source, destination,
        arrayMap(b -> 1.0099 * pow(1.02, b - 1) / 1e6, quantilesExactWeighted(0.5, 0.9, 0.99)(bucket, count)) AS middles
    FROM rtt_minute
    GROUP BY minute, source, destination
) AS h ON h.minute = m.minute AND h.source = m.source AND h.destination = m.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trip times per destination, source and minute; ask with a range of minute';

CREATE OR REPLACE VIEW per_hour AS
SELECT
    m.hour AS hour,
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
    round(nullIf(least(greatest(h.middles[1], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(h.middles[2], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p90_ms,
    round(nullIf(least(greatest(h.middles[3], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms,
    round(nullIf(m.jitter_sum, 0) / nullIf(m.reply, 0) / 1e6, 6) AS jitter_ms,
    m.hop_limit_changes AS hop_limit_changes
FROM
(
    SELECT
        hour,
        source,
        destination,
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
        sum(t.hop_limit_changes) AS hop_limit_changes
    FROM results_hour AS t
    GROUP BY hour, source, destination
) AS m
LEFT ANY JOIN
(
    SELECT
        hour, source, destination,
        arrayMap(b -> 1.0099 * pow(1.02, b - 1) / 1e6, quantilesExactWeighted(0.5, 0.9, 0.99)(bucket, count)) AS middles
    FROM rtt_hour
    GROUP BY hour, source, destination
) AS h ON h.hour = m.hour AND h.source = m.source AND h.destination = m.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trip times per destination, source and hour; ask with a range of hour';

-- Whole minutes: the present one and the five before it.
CREATE OR REPLACE VIEW worst_now AS
SELECT
    if(d.name = '', toString(w.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    if(s.name = '', toString(w.source), s.name) AS source,
    w.sent AS sent,
    w.missed AS missed,
    round(100 * w.missed / w.sent, 3) AS loss_percent,
    round(nullIf(least(greatest(h.middles[1], w.rtt_min / 1e6), w.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(h.middles[2], w.rtt_min / 1e6), w.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(w.rtt_max / 1e6, 6) AS rtt_max_ms,
    w.last_reply AS last_reply
FROM
(
    SELECT
        source,
        destination,
        sum(t.reply + t.error + t.lost) AS sent,
        sum(t.error + t.lost) AS missed,
        min(t.rtt_min) AS rtt_min,
        max(t.rtt_max) AS rtt_max,
        max(t.last_reply) AS last_reply
    FROM results_minute AS t
    WHERE minute >= toStartOfMinute(now() - INTERVAL 5 MINUTE)
    GROUP BY source, destination
    HAVING sent > 0
) AS w
LEFT ANY JOIN
(
    SELECT
        source, destination,
        arrayMap(b -> 1.0099 * pow(1.02, b - 1) / 1e6, quantilesExactWeighted(0.5, 0.99)(bucket, count)) AS middles
    FROM rtt_minute
    WHERE minute >= toStartOfMinute(now() - INTERVAL 5 MINUTE)
    GROUP BY source, destination
) AS h ON h.source = w.source AND h.destination = w.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = w.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = w.source
ORDER BY loss_percent DESC, rtt_p99_ms DESC
COMMENT 'The last five minutes, worst destination first';

-- An outage is three or more probes in a row without a reply; fewer are packet loss. Only a reply
-- ends one: rounds that the prober skipped and sends that failed say nothing of the destination, so
-- both are passed over. It lasts until the probe was due that a reply came to, or while there is
-- none, one interval longer than its last miss; so does one behind which nobody probed for more
-- than a minute and three intervals. The interval is that of the run, from its own times and
-- sequences: `destinations` knows only the latest that anybody asked for.
--
-- What is in order of time here is a reply or misses behind one another. A minute without a reply
-- is one such event, whatever it holds, and of a minute without an outage its first reply is
-- enough. Of the others each miss is taken. In between, a sequence that is no miss is a reply if
-- all sequences of the minute have their result, else the replies are looked up in `results`.
CREATE OR REPLACE VIEW outages_in AS
WITH
minutes AS
(
    SELECT
        source, destination, minute, first_reply, first_miss, last_miss, last_sequence, lost, run,
        reply AS replies,
        error + lost AS missed,
        missed >= 3 OR first_miss < first_reply OR last_miss > last_reply AS may_matter,
        replies > 0 AND missed > 0 AND may_matter AS is_mixed,
        -- Of two runs the sequences may add up by chance.
        first_run = run AND last_sequence - first_sequence + 1 = replies + missed AS is_whole
    FROM results_minute FINAL
    WHERE minute >= toStartOfMinute({from:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
        -- Misses expire with raw results; without them the ends of outages are not known.
        AND minute >= (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results)
)
SELECT
    fromUnixTimestamp64Nano(o.found.1, 'UTC') AS start,
    -- Where the range ends and the run does not, nothing says that the outage does.
    if(ongoing OR o.found.7 AND ifNull(r.ended >= {until:DateTime('UTC')}, true), NULL, fromUnixTimestamp64Nano(o.found.2, 'UTC')) AS end,
    round((o.found.2 - o.found.1) / 1e9, 3) AS seconds,
    if(o.name = '', toString(o.destination), o.name) AS name,
    replaceOne(toString(o.address), '::ffff:', '') AS address,
    if(s.name = '', toString(o.source), s.name) AS source,
    o.found.3 AS probes,
    o.found.4 AS lost,
    o.found.3 - o.found.4 AS error,
    -- A killed run never ends in `runs`: its outage goes on until the next result would have come,
    -- which is known an interval, the timeout and a minute after the last.
    o.found.5 AND r.ended IS NULL AND o.found.2 >= toUnixTimestamp64Nano(now64(9)) - 60000000000 - o.timeout AS ongoing,
    o.found.6 AS run,
    o.destination AS destination
FROM
(
    -- An outage is: start, end, misses, lost, whether nothing is behind it, its run, and whether it
    -- may go on behind the range.
    SELECT
        c.source AS source, c.destination AS destination, d.name AS name, d.address AS address, d.timeout AS timeout,
        i.intervals AS intervals,
        d.interval AS registered,
        c.chain.2 AS behind,
        arraySplit(
            (event, before) -> event.1 > before.2 + 60000000000
                + 3 * if(mapContains(intervals, before.7), intervals[before.7], registered),
            c.chain.1,
            arrayPushFront(arrayPopBack(c.chain.1), c.chain.1[1])
        ) AS pieces,
        arrayJoin(arrayFilter(
            outage -> outage.3 >= 3,
            arrayMap(
                (piece, next, interval) -> (
                    if(piece[1].3 = 0, piece[2].1, piece[1].1),
                    if(
                        piece[-1].6 > 0 OR next.2 != 0 OR next.1 > piece[-1].2 + 60000000000 + 3 * interval,
                        piece[-1].2 + interval,
                        next.1
                    ),
                    arraySum(event -> event.3, piece),
                    arraySum(event -> event.4, piece),
                    piece[-1].6 = 0 AND next.2 = -1,
                    piece[-1].7,
                    piece[-1].6 = 0 AND next.2 = -1 AND piece[-1].2 + 60000000000 + 3 * interval
                        >= toUnixTimestamp64Nano(toDateTime64(toStartOfMinute({until:DateTime('UTC')} + 59), 9, 'UTC'))
                ),
                pieces,
                arrayPushBack(arrayPopFront(arrayMap(piece -> (piece[1].1, toInt64(piece[1].3)), pieces)), behind),
                arrayMap(piece -> if(mapContains(intervals, piece[-1].7), intervals[piece[-1].7], registered), pieces)
            )
        )) AS found
    FROM
    (
        -- An event is: its first and last time, how many misses, how many of them lost, its
        -- sequence, the sequence behind it if that is a reply or an event, and its run. A chain is:
        -- three or more misses with no reply known in between, maybe a reply before them, and the
        -- time and misses of what is behind, -1 misses if nothing is.
        SELECT
            source, destination,
            arraySort(event -> event.1, e.events) AS events,
            arraySplit(
                (event, before) -> event.3 = 0 OR before.6 > 0 AND before.6 != event.5,
                events,
                arrayPushFront(arrayPopBack(events), events[1])
            ) AS chains,
            arrayJoin(arrayFilter(
                chain -> arraySum(event -> event.3, chain.1) >= 3,
                arrayZip(
                    chains,
                    arrayPushBack(arrayPopFront(arrayMap(chain -> (chain[1].1, toInt64(chain[1].3)), chains)), (toInt64(0), toInt64(-1)))
                )
            )) AS chain
        FROM
        (
            SELECT
                source, destination,
                groupArray((time, last, missed, lost, sequence, next_sequence, run)) AS events
            FROM
            (
                SELECT
                    source, destination,
                    toUnixTimestamp64Nano(assumeNotNull(if(replies > 0, first_reply, first_miss))) AS time,
                    if(replies > 0, time, toUnixTimestamp64Nano(assumeNotNull(last_miss))) AS last,
                    if(replies > 0, 0, missed) AS missed,
                    if(replies > 0, 0, lost) AS lost,
                    toUInt64(0) AS sequence,
                    toUInt64(0) AS next_sequence,
                    run
                FROM minutes
                WHERE replies > 0 OR missed > 0
                UNION ALL
                SELECT
                    m.source, m.destination,
                    toUnixTimestamp64Nano(m.time_due) AS time, time AS last,
                    1 AS missed, m.outcome = 'lost' AS lost,
                    m.sequence,
                    if(t.is_whole AND m.sequence < t.last_sequence, m.sequence + 1, 0),
                    m.run
                FROM misses AS m
                INNER JOIN (SELECT source, destination, minute, last_sequence, is_whole FROM minutes WHERE is_mixed) AS t
                    ON t.source = m.source AND t.destination = m.destination AND t.minute = toStartOfMinute(m.time_due)
                WHERE m.outcome != 'send_failed'
                    AND (toStartOfHour(m.time_due), m.destination, m.source, toStartOfMinute(m.time_due)) IN
                    (SELECT toStartOfHour(minute), destination, source, minute FROM minutes WHERE is_mixed)
                UNION ALL
                SELECT source, destination, toUnixTimestamp64Nano(time_due) AS time, time AS last, 0, 0, 0, 0, run
                FROM results
                WHERE outcome = 'reply' AND hops = 0
                    AND (toStartOfHour(time_due), destination, source, toStartOfMinute(time_due)) IN
                    (SELECT toStartOfHour(minute), destination, source, minute FROM minutes WHERE is_mixed AND NOT is_whole)
            )
            GROUP BY source, destination
        ) AS e
    ) AS c
    LEFT ANY JOIN
    (
        -- A run's interval is the same all the time, so minutes with misses are enough.
        SELECT source, destination, mapFromArrays(groupArray(run), groupArray(between)) AS intervals
        FROM
        (
            SELECT
                source, destination, run,
                intDiv(
                    toUnixTimestamp64Nano(max(greatest(assumeNotNull(last_miss), ifNull(last_reply, last_miss))))
                        - toUnixTimestamp64Nano(min(least(assumeNotNull(first_miss), ifNull(first_reply, first_miss)))),
                    max(last_sequence) - min(first_sequence)
                ) AS between
            FROM results_minute
            WHERE minute >= toStartOfMinute({from:DateTime('UTC')}) AND minute < {until:DateTime('UTC')}
                AND first_run = run AND error + lost > 0
            GROUP BY source, destination, run
            HAVING max(last_sequence) > min(first_sequence)
        )
        GROUP BY source, destination
    ) AS i ON i.source = c.source AND i.destination = c.destination
    LEFT ANY JOIN (SELECT id, name, address, interval, timeout FROM destinations FINAL) AS d ON d.id = c.destination
) AS o
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = o.source
LEFT ANY JOIN (SELECT run, source, ended FROM runs FINAL) AS r ON r.run = o.found.6 AND r.source = o.source
ORDER BY start DESC
COMMENT 'Three or more probes in a row without a reply: from when to when, and who saw it; with from and until: what began before from begins with it, what goes on behind until has no end';

CREATE OR REPLACE VIEW outages AS
SELECT *
FROM outages_in(from = toDateTime(0, 'UTC'), until = toDateTime('2106-01-01 00:00:00', 'UTC'))
COMMENT 'The same as far back as raw results go';

-- The views below take a range: SELECT … FROM loss_and_rtt(from = now() - 3600, until = now()).
-- They read raw results, minutes or hours, whichever gives up to about 600 steps and is still
-- there: one that begins behind `from` is passed over for a coarser one that reaches further back.
-- One that is empty begins at the end of time. The first step may begin a little before the range.
CREATE OR REPLACE VIEW results_steps AS
WITH
    dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) AS seconds,
    multiIf(seconds <= 600, 1, seconds <= 36000, 60, seconds <= 172800, 300, seconds <= 2678400, 3600, 86400) AS wanted,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results) AS results_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(minute)) FROM results_minute) AS minutes_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(hour)) FROM results_hour) AS hours_since,
    {from:DateTime('UTC')} >= results_since OR results_since <= minutes_since AND toStartOfHour(results_since) <= hours_since AS in_results,
    {from:DateTime('UTC')} >= minutes_since OR toStartOfHour(minutes_since) <= hours_since AS in_minutes,
    toUInt32(multiIf(wanted = 1 AND in_results, 1, wanted <= 300 AND in_minutes, greatest(wanted, 60), greatest(wanted, 3600))) AS grain,
    toStartOfInterval({from:DateTime('UTC')}, toIntervalSecond(grain)) AS first
SELECT
    toStartOfInterval(minute, toIntervalSecond(grain)) AS time, grain AS step, source, destination,
    reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
    hop_limit_changes
FROM results_minute
WHERE grain IN (60, 300) AND minute >= first AND minute < {until:DateTime('UTC')}
UNION ALL
SELECT
    toStartOfInterval(hour, toIntervalSecond(grain)) AS time, grain AS step, source, destination,
    reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
    hop_limit_changes
FROM results_hour
WHERE grain >= 3600 AND hour >= first AND hour < {until:DateTime('UTC')}
UNION ALL
SELECT
    toDateTime(time_due) AS time, grain AS step, source, destination,
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
    NULL
FROM results
WHERE grain = 1 AND hops = 0 AND time_due >= first AND time_due < {until:DateTime('UTC')}
COMMENT 'Counts of a range, not yet added up; with from and until';

CREATE OR REPLACE VIEW rtt_heat_map AS
WITH
    dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) AS seconds,
    multiIf(seconds <= 600, 1, seconds <= 36000, 60, seconds <= 172800, 300, seconds <= 2678400, 3600, 86400) AS wanted,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results) AS results_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(minute)) FROM results_minute) AS minutes_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(hour)) FROM results_hour) AS hours_since,
    {from:DateTime('UTC')} >= results_since OR results_since <= minutes_since AND toStartOfHour(results_since) <= hours_since AS in_results,
    {from:DateTime('UTC')} >= minutes_since OR toStartOfHour(minutes_since) <= hours_since AS in_minutes,
    toUInt32(multiIf(wanted = 1 AND in_results, 1, wanted <= 300 AND in_minutes, greatest(wanted, 60), greatest(wanted, 3600))) AS grain,
    toStartOfInterval({from:DateTime('UTC')}, toIntervalSecond(grain)) AS first,
    -- Where each bucket ends, looked up and not computed for each row; 2^64 is in the last one.
    arrayMap(b -> round(pow(1.02, b) / 1e6, 6), range(2300)) AS ends
SELECT
    h.time AS time,
    h.step AS step,
    h.source AS source,
    h.destination AS destination,
    ends[h.bucket] AS rtt_from_ms,
    ends[h.bucket + 1] AS rtt_until_ms,
    h.bucket AS bucket,
    h.count AS replies
FROM
(
    SELECT toStartOfInterval(minute, toIntervalSecond(grain)) AS time, grain AS step, source, destination, bucket, count
    FROM rtt_minute
    WHERE grain IN (60, 300) AND minute >= first AND minute < {until:DateTime('UTC')}
    UNION ALL
    SELECT toStartOfInterval(hour, toIntervalSecond(grain)) AS time, grain AS step, source, destination, bucket, count
    FROM rtt_hour
    WHERE grain >= 3600 AND hour >= first AND hour < {until:DateTime('UTC')}
    UNION ALL
    SELECT
        toDateTime(time_due) AS time, grain AS step, source, destination,
        toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)) AS bucket,
        toUInt64(1) AS count
    FROM results
    WHERE grain = 1 AND hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL AND time_due >= first AND time_due < {until:DateTime('UTC')}
) AS h
COMMENT 'How many replies took how long, per source, destination and step of a range, to be added up; with from and until';

-- Not made of the two above, though it says the same: ClickHouse analyses a view of a view again at
-- each level, which took longer than the answer to what dashboards ask every few seconds.
CREATE OR REPLACE VIEW loss_and_rtt AS
WITH
    dateDiff('second', {from:DateTime('UTC')}, {until:DateTime('UTC')}) AS seconds,
    multiIf(seconds <= 600, 1, seconds <= 36000, 60, seconds <= 172800, 300, seconds <= 2678400, 3600, 86400) AS wanted,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), toStartOfMinute(min(time_due))) FROM results) AS results_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(minute)) FROM results_minute) AS minutes_since,
    (SELECT if(count() = 0, toDateTime(4294967295, 'UTC'), min(hour)) FROM results_hour) AS hours_since,
    {from:DateTime('UTC')} >= results_since OR results_since <= minutes_since AND toStartOfHour(results_since) <= hours_since AS in_results,
    {from:DateTime('UTC')} >= minutes_since OR toStartOfHour(minutes_since) <= hours_since AS in_minutes,
    toUInt32(multiIf(wanted = 1 AND in_results, 1, wanted <= 300 AND in_minutes, greatest(wanted, 60), greatest(wanted, 3600))) AS grain,
    toStartOfInterval({from:DateTime('UTC')}, toIntervalSecond(grain)) AS first
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
    round(nullIf(least(greatest(h.middles[1], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(h.middles[2], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p90_ms,
    round(nullIf(least(greatest(h.middles[3], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms,
    round(nullIf(m.jitter_sum, 0) / nullIf(m.reply, 0) / 1e6, 6) AS jitter_ms,
    m.hop_limit_changes AS hop_limit_changes
FROM
(
    SELECT
        time, source, destination,
        any(t.step) AS step,
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
        sum(t.hop_limit_changes) AS hop_limit_changes
    FROM
    (
        SELECT
            toStartOfInterval(minute, toIntervalSecond(grain)) AS time, grain AS step, source, destination,
            reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
            hop_limit_changes
        FROM results_minute
        WHERE grain IN (60, 300) AND minute >= first AND minute < {until:DateTime('UTC')}
        UNION ALL
        SELECT
            toStartOfInterval(hour, toIntervalSecond(grain)) AS time, grain AS step, source, destination,
            reply, error, lost, send_failed, late, duplicate, mismatch, rtt_min, rtt_max, rtt_sum, jitter_sum,
            hop_limit_changes
        FROM results_hour
        WHERE grain >= 3600 AND hour >= first AND hour < {until:DateTime('UTC')}
        UNION ALL
        SELECT
            toDateTime(time_due) AS time, grain AS step, source, destination,
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
            NULL
        FROM results
        WHERE grain = 1 AND hops = 0 AND time_due >= first AND time_due < {until:DateTime('UTC')}
    ) AS t
    GROUP BY time, source, destination
) AS m
LEFT ANY JOIN
(
    SELECT
        time, source, destination,
        arrayMap(b -> 1.0099 * pow(1.02, b - 1) / 1e6, quantilesExactWeighted(0.5, 0.9, 0.99)(bucket, count)) AS middles
    FROM
    (
        SELECT toStartOfInterval(minute, toIntervalSecond(grain)) AS time, grain AS step, source, destination, bucket, count
        FROM rtt_minute
        WHERE grain IN (60, 300) AND minute >= first AND minute < {until:DateTime('UTC')}
        UNION ALL
        SELECT toStartOfInterval(hour, toIntervalSecond(grain)) AS time, grain AS step, source, destination, bucket, count
        FROM rtt_hour
        WHERE grain >= 3600 AND hour >= first AND hour < {until:DateTime('UTC')}
        UNION ALL
        SELECT
            toDateTime(time_due) AS time, grain AS step, source, destination,
            toUInt16(1 + log(greatest(assumeNotNull(rtt), 1)) / log(1.02)) AS bucket,
            toUInt64(1) AS count
        FROM results
        WHERE grain = 1 AND hops = 0 AND outcome = 'reply' AND rtt IS NOT NULL AND time_due >= first AND time_due < {until:DateTime('UTC')}
    )
    GROUP BY time, source, destination
) AS h ON h.time = m.time AND h.source = m.source AND h.destination = m.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trips per source, destination and step of a range; with from and until';

CREATE OR REPLACE VIEW loss_and_rtt_total AS
SELECT
    m.first AS time,
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
    round(nullIf(least(greatest(h.middles[1], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p50_ms,
    round(nullIf(least(greatest(h.middles[2], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p90_ms,
    round(nullIf(least(greatest(h.middles[3], m.rtt_min / 1e6), m.rtt_max / 1e6), 0), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms,
    round(nullIf(m.jitter_sum, 0) / nullIf(m.reply, 0) / 1e6, 6) AS jitter_ms,
    m.hop_limit_changes AS hop_limit_changes
FROM
(
    SELECT
        source, destination,
        min(t.time) AS first,
        any(t.step) AS step,
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
        sum(t.hop_limit_changes) AS hop_limit_changes
    FROM results_steps(from = {from:DateTime('UTC')}, until = {until:DateTime('UTC')}) AS t
    GROUP BY source, destination
) AS m
LEFT ANY JOIN
(
    SELECT
        source, destination,
        arrayMap(b -> 1.0099 * pow(1.02, b - 1) / 1e6, quantilesExactWeighted(0.5, 0.9, 0.99)(bucket, replies)) AS middles
    FROM rtt_heat_map(from = {from:DateTime('UTC')}, until = {until:DateTime('UTC')})
    GROUP BY source, destination
) AS h ON h.source = m.source AND h.destination = m.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trips of a whole range per source and destination; with from and until';

-- A burn of 1 uses the whole budget of misses in just the days that are asked for. NULL where
-- nothing was probed, or where the objective leaves no budget.
CREATE OR REPLACE VIEW slo_burn AS
WITH nullIf(1 - {objective:Float64} / 100, 0) AS budget
SELECT
    if(d.name = '', toString(h.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    if(s.name = '', toString(h.source), s.name) AS source,
    h.sent AS sent,
    h.missed AS missed,
    round(100 * (1 - h.missed / h.sent), 4) AS availability_percent,
    round(100 * (1 - h.missed / h.sent / budget), 1) AS budget_left_percent,
    round(m.missed_5m / nullIf(m.sent_5m, 0) / budget, 2) AS burn_5m,
    round(m.missed_1h / nullIf(m.sent_1h, 0) / budget, 2) AS burn_1h,
    round(m.missed_6h / nullIf(m.sent_6h, 0) / budget, 2) AS burn_6h,
    round(h.missed_3d / nullIf(h.sent_3d, 0) / budget, 2) AS burn_3d,
    h.destination AS destination
FROM
(
    SELECT
        source,
        destination,
        sum(t.reply + t.error + t.lost) AS sent,
        sum(t.error + t.lost) AS missed,
        sumIf(t.reply + t.error + t.lost, hour > now() - INTERVAL 3 DAY) AS sent_3d,
        sumIf(t.error + t.lost, hour > now() - INTERVAL 3 DAY) AS missed_3d
    FROM results_hour AS t
    WHERE hour > now() - toIntervalDay({days:UInt32})
    GROUP BY source, destination
    HAVING sent > 0
) AS h
LEFT ANY JOIN
(
    SELECT
        source,
        destination,
        sum(t.reply + t.error + t.lost) AS sent_6h,
        sum(t.error + t.lost) AS missed_6h,
        sumIf(t.reply + t.error + t.lost, minute > now() - INTERVAL 1 HOUR) AS sent_1h,
        sumIf(t.error + t.lost, minute > now() - INTERVAL 1 HOUR) AS missed_1h,
        sumIf(t.reply + t.error + t.lost, minute > now() - INTERVAL 6 MINUTE) AS sent_5m,
        sumIf(t.error + t.lost, minute > now() - INTERVAL 6 MINUTE) AS missed_5m
    FROM results_minute AS t
    WHERE minute > now() - INTERVAL 6 HOUR
    GROUP BY source, destination
) AS m ON m.source = h.source AND m.destination = h.destination
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = h.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = h.source
ORDER BY budget_left_percent, burn_1h DESC
COMMENT 'How fast each destination uses up what an objective allows to miss; with objective, percent, and days';
