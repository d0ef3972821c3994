-- Schema version 3: what pinger inserts into, what is missing, and rollups that outlive raw rows.
--
-- pinger inserts results into `incoming`, which keeps nothing: the materialized views below write
-- each block into `results` and into the rollups. A block that is sent again under its token
-- changes none of them, if the insert sets deduplicate_blocks_in_dependent_materialized_views=1.

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

CREATE MATERIALIZED VIEW IF NOT EXISTS incoming_to_results TO results AS
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
    reason Enum8('crash' = 1, 'spool_full' = 2, 'too_old' = 3, 'refused' = 4, 'queue_full' = 5, 'corrupt' = 6) COMMENT 'Why',
    detail String COMMENT 'The same in words',
    updated DateTime64(9, 'UTC') DEFAULT now64(9) COMMENT 'When this row was written'
)
ENGINE = MergeTree
PARTITION BY toYear(from)
ORDER BY (run, source, from)
TTL toDateTime(from) + INTERVAL 5 YEAR
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000
COMMENT 'Results that pinger made or would have made and that are not in the store, and why';
