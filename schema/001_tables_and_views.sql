-- Schema version 1: who probes, what is probed, each run, each result; views for everyday questions.
--
-- An applied migration is never edited: `pinger schema apply` records its checksum and refuses a
-- changed one. Names are unqualified; the connection chooses the database. Statements end with a
-- semicolon at the end of a line. All times are UTC; durations are nanoseconds, or carry their
-- unit in the name.

CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number at the start of the file name',
    name String COMMENT 'Rest of the file name, without .sql',
    checksum FixedString(64) COMMENT 'SHA-256 of the file, hexadecimal',
    applied DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was applied',
    program String COMMENT 'Version of the pinger that applied it'
)
ENGINE = ReplacingMergeTree(applied)
ORDER BY version
COMMENT 'Migrations that this database has had; written by pinger schema apply only';

CREATE TABLE IF NOT EXISTS sources
(
    id UInt32 COMMENT 'Key; also part of the identifier in each probe',
    location UInt32 COMMENT 'Number of the site where the host stands',
    host UInt32 COMMENT 'Number of the host',
    sourceid UInt32 COMMENT 'The operator''s own id of this prober',
    address IPv6 COMMENT 'Address the probes are sent from; IPv4 as ::ffff:a.b.c.d, :: if several',
    name String COMMENT 'Host name',
    version String COMMENT 'Version of the pinger that ran last',
    updated DateTime64(9, 'UTC') DEFAULT now64(9) COMMENT 'When this row was written; the newest row of an id counts'
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY id
COMMENT 'Hosts that run pinger; read with FINAL';

CREATE TABLE IF NOT EXISTS destinations
(
    id UInt64 COMMENT 'Key: given by the operator, or derived from protocol and address (top bit set)',
    active Bool DEFAULT true COMMENT 'Whether it is to be probed',
    address IPv6 COMMENT 'Where probes go; IPv4 as ::ffff:a.b.c.d',
    -- IANA's protocol numbers; TCP and UDP over IPv6 have none of their own and add 64.
    protocol Enum8('ICMP' = 1, 'TCP' = 6, 'UDP' = 17, 'ICMP6' = 58, 'TCP6' = 70, 'UDP6' = 81) COMMENT 'How it is probed',
    interval UInt64 COMMENT 'Time between two probes, nanoseconds',
    timeout UInt64 COMMENT 'How long an answer is awaited, nanoseconds',
    ttl UInt8 COMMENT 'Time to live or hop limit of the probes',
    data String COMMENT 'What the payload repeats; empty for the built-in pattern',
    size UInt16 COMMENT 'Payload, bytes',
    name String COMMENT 'What the user wrote: a host name or an address',
    resolved DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the name was last turned into the address',
    updated DateTime64(9, 'UTC') DEFAULT now64(9) COMMENT 'When this row was written; the newest row of an id counts'
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY id
COMMENT 'What is probed, and how; read with FINAL';

CREATE TABLE IF NOT EXISTS runs
(
    run UInt64 COMMENT 'Key: start of the run, nanoseconds since 1970 UTC',
    source UInt32 COMMENT 'Which source ran; sources.id',
    started DateTime64(9, 'UTC') COMMENT 'The same start as a time',
    ended Nullable(DateTime64(9, 'UTC')) COMMENT 'When it ended; NULL while it runs or if it was killed',
    version String COMMENT 'Version of pinger',
    interface LowCardinality(String) COMMENT 'Network interface; empty if the routes chose several',
    mode LowCardinality(String) COMMENT 'How packets were sent and received',
    wall_offset Int64 COMMENT 'Wall clock minus monotonic clock at the start, nanoseconds',
    destinations UInt32 COMMENT 'How many destinations',
    sent UInt64 COMMENT 'Probes sent; like all counts below known once the run has ended',
    reply UInt64 COMMENT 'Probes answered in time',
    error UInt64 COMMENT 'Probes answered by an ICMP error',
    lost UInt64 COMMENT 'Probes without an answer',
    send_failed UInt64 COMMENT 'Probes that never left the host',
    late UInt64 COMMENT 'Answers after the timeout',
    duplicate UInt64 COMMENT 'Further answers to answered probes',
    mismatch UInt64 COMMENT 'Replies whose payload was not what had been sent',
    rows_dropped UInt64 COMMENT 'Results that pinger itself failed to store',
    updated DateTime64(9, 'UTC') DEFAULT now64(9) COMMENT 'When this row was written; the newest row of a run counts'
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (run, source)
COMMENT 'One row a run of pinger; read with FINAL';

-- Order: by hour first, so that a question about the last minutes reads the last hour only, and
-- a destination's results still lie together for its own questions and for the codecs.
-- Codecs: chosen by measured bytes a row, see schema/README.md; rtt and lag are nearly all of it.
CREATE TABLE IF NOT EXISTS results
(
    run UInt64 COMMENT 'Which run of pinger; runs.run' CODEC(ZSTD(1)),
    source UInt32 COMMENT 'Who probed; sources.id' CODEC(ZSTD(1)),
    destination UInt64 COMMENT 'What was probed; destinations.id' CODEC(ZSTD(1)),
    sequence UInt64 COMMENT 'Number of the probe within its run and destination' CODEC(DoubleDelta, ZSTD(1)),
    time_due DateTime64(9, 'UTC') COMMENT 'When the probe was due' CODEC(DoubleDelta, ZSTD(1)),
    lag UInt64 COMMENT 'From due to sent: the prober''s own lateness, nanoseconds' CODEC(T64, ZSTD(1)),
    time_sent DateTime64(9, 'UTC') ALIAS addNanoseconds(time_due, lag) COMMENT 'When the probe was sent',
    rtt Nullable(UInt64) COMMENT 'Round trip, nanoseconds; NULL where nothing came back' CODEC(T64('bit'), ZSTD(1)),
    rtime Nullable(DateTime64(9, 'UTC')) ALIAS addNanoseconds(time_due, lag + rtt) COMMENT 'When the answer came; NULL where none came',
    outcome Enum8('reply' = 1, 'error' = 2, 'lost' = 3, 'send_failed' = 4, 'late' = 5, 'duplicate' = 6) COMMENT 'How the probe ended; late and duplicate are further events of probes that have ended' CODEC(ZSTD(1)),
    address IPv6 COMMENT 'Who answered; IPv4 as ::ffff:a.b.c.d, :: where nobody did' CODEC(ZSTD(1)),
    rsite UInt32 COMMENT 'Site of the source when the result came; sources.location' CODEC(ZSTD(1)),
    rhost UInt32 COMMENT 'Host number of the source when the result came; sources.host' CODEC(ZSTD(1)),
    rtype UInt8 COMMENT 'ICMP type of the answer' CODEC(ZSTD(1)),
    rcode UInt8 COMMENT 'ICMP code of the answer' CODEC(ZSTD(1)),
    rid UInt16 COMMENT 'Identifier on the wire' CODEC(ZSTD(1)),
    rseq UInt16 COMMENT 'Sequence on the wire: the low 16 bits of sequence' CODEC(DoubleDelta, ZSTD(1)),
    hop_limit UInt8 COMMENT 'Time to live or hop limit of the answer on arrival; 0 if unknown' CODEC(ZSTD(1)),
    datamatch Nullable(Bool) COMMENT 'Whether the payload came back as sent; NULL where that is not known' CODEC(ZSTD(1)),
    -- Lets views that group by minute skip what their reader's time range excludes.
    INDEX time_due_range time_due TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time_due)
ORDER BY (toStartOfHour(time_due), destination, source, time_due)
TTL toDateTime(time_due) + INTERVAL 7 DAY
SETTINGS
    ttl_only_drop_parts = 1,
    -- A batch sent again is recognised by its token among so many of the latest.
    non_replicated_deduplication_window = 10000
COMMENT 'One row a result: raw, for seven days';

CREATE OR REPLACE VIEW results_readable AS
SELECT
    r.time_due AS time_due,
    if(s.name = '', toString(r.source), s.name) AS source,
    if(d.name = '', toString(r.destination), d.name) AS destination,
    d.protocol AS protocol,
    r.sequence AS sequence,
    r.outcome AS outcome,
    round(r.rtt / 1e6, 6) AS rtt_ms,
    round(r.lag / 1e6, 6) AS lag_ms,
    if(r.address = toIPv6('::'), '', replaceOne(toString(r.address), '::ffff:', '')) AS address,
    r.hop_limit AS hop_limit,
    r.rtype AS rtype,
    r.rcode AS rcode,
    r.datamatch AS datamatch,
    r.time_sent AS time_sent,
    r.rtime AS rtime
FROM results AS r
LEFT ANY JOIN (SELECT id, name, protocol FROM destinations FINAL) AS d ON d.id = r.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = r.source
COMMENT 'Results with names, plain addresses and milliseconds';

-- Loss is (error + lost) of all probes that left the host; a failed send is the prober's fault.
-- Quantiles have a fixed relative error of 0.1 %; `least` keeps that error below the maximum.
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
    round(least(m.rtt_quantiles[1] / 1e6, m.rtt_max / 1e6), 6) AS rtt_p50_ms,
    round(least(m.rtt_quantiles[2] / 1e6, m.rtt_max / 1e6), 6) AS rtt_p90_ms,
    round(least(m.rtt_quantiles[3] / 1e6, m.rtt_max / 1e6), 6) AS rtt_p99_ms,
    round(m.rtt_max / 1e6, 6) AS rtt_max_ms
FROM
(
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
        quantilesDDIf(0.001, 0.5, 0.9, 0.99)(assumeNotNull(rtt), outcome = 'reply' AND rtt IS NOT NULL) AS rtt_quantiles
    FROM results
    GROUP BY minute, source, destination
) AS m
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = m.destination
COMMENT 'Loss and round trip times per destination, source and minute; ask with a range of minute';

CREATE OR REPLACE VIEW worst_now AS
SELECT
    if(d.name = '', toString(w.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    if(s.name = '', toString(w.source), s.name) AS source,
    w.sent AS sent,
    w.missed AS missed,
    round(100 * w.missed / w.sent, 3) AS loss_percent,
    round(least(w.rtt_quantiles[1] / 1e6, w.rtt_max / 1e6), 6) AS rtt_p50_ms,
    round(least(w.rtt_quantiles[2] / 1e6, w.rtt_max / 1e6), 6) AS rtt_p99_ms,
    round(w.rtt_max / 1e6, 6) AS rtt_max_ms,
    w.last_reply AS last_reply
FROM
(
    SELECT
        destination,
        source,
        count() AS sent,
        countIf(outcome != 'reply') AS missed,
        quantilesDDIf(0.001, 0.5, 0.99)(assumeNotNull(rtt), outcome = 'reply' AND rtt IS NOT NULL) AS rtt_quantiles,
        maxIf(rtt, outcome = 'reply') AS rtt_max,
        maxOrNullIf(time_due, outcome = 'reply') AS last_reply
    FROM results
    WHERE time_due >= now64(9) - INTERVAL 5 MINUTE AND outcome IN ('reply', 'error', 'lost')
    GROUP BY destination, source
) AS w
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = w.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = w.source
ORDER BY loss_percent DESC, rtt_p99_ms DESC
COMMENT 'The last five minutes, worst destination first';

-- An outage is three or more probes in a row without a reply; fewer are packet loss. Sequences
-- of a run and destination have no gaps, so a row of misses is where sequence minus rank among
-- the misses stays the same: only the misses are sorted. The end is one interval after the last
-- miss, which is when the probe was due that a reply came to.
CREATE OR REPLACE VIEW outages AS
SELECT
    o.first AS start,
    if(ongoing, NULL, addNanoseconds(o.last, o.interval_ns)) AS end,
    round((toUnixTimestamp64Nano(o.last) - toUnixTimestamp64Nano(o.first) + o.interval_ns) / 1e9, 3) AS seconds,
    if(d.name = '', toString(o.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    if(s.name = '', toString(o.source), s.name) AS source,
    o.probes AS probes,
    o.lost AS lost,
    o.probes - o.lost AS error,
    -- A killed run never ends in `runs`: what is a minute old is not going on.
    o.last_sequence = l.last_sequence AND r.ended IS NULL
        AND addNanoseconds(o.last, o.interval_ns) >= now64(9) - INTERVAL 1 MINUTE AS ongoing,
    o.run AS run,
    o.destination AS destination
FROM
(
    SELECT
        run,
        source,
        destination,
        min(time_due) AS first,
        max(time_due) AS last,
        max(sequence) AS last_sequence,
        count() AS probes,
        countIf(outcome = 'lost') AS lost,
        intDiv(toUnixTimestamp64Nano(last) - toUnixTimestamp64Nano(first), probes - 1) AS interval_ns
    FROM
    (
        SELECT
            run, source, destination, sequence, time_due, outcome,
            sequence - row_number() OVER (PARTITION BY run, source, destination ORDER BY sequence) AS island
        FROM results
        WHERE outcome IN ('error', 'lost')
    )
    GROUP BY run, source, destination, island
    HAVING probes >= 3
) AS o
LEFT ANY JOIN
(
    SELECT run, source, destination, max(sequence) AS last_sequence
    FROM results
    GROUP BY run, source, destination
) AS l ON l.run = o.run AND l.source = o.source AND l.destination = o.destination
LEFT ANY JOIN (SELECT run, source, ended FROM runs FINAL) AS r ON r.run = o.run AND r.source = o.source
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = o.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = o.source
ORDER BY start DESC
COMMENT 'Three or more probes in a row without a reply: from when to when, and who saw it';
