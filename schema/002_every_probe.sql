-- Schema version 2: UDP, TCP, ICMP errors and traces; what each probe was sent with.
--
-- A trace is told by `results.hops`: the probes of one pass have the hop limits 1, 2, … `hops`,
-- in the order of their sequences, so `intDiv(sequence, hops)` is the pass. Most of its probes are
-- meant to end as errors; views of loss, outages and round trips leave traces out (`hops = 0`).

ALTER TABLE destinations
    ADD COLUMN IF NOT EXISTS port UInt16 COMMENT 'Port of UDP and TCP; 0 for ICMP' AFTER protocol,
    MODIFY COLUMN ttl UInt8 COMMENT 'Time to live or hop limit of the probes; of a trace, of its first',
    ADD COLUMN IF NOT EXISTS hops UInt8 COMMENT 'Of a trace: how far it goes; 0 for what is probed with one ttl' AFTER ttl,
    ADD COLUMN IF NOT EXISTS traffic_class UInt8 COMMENT 'Type of service or traffic class of the probes' AFTER size,
    ADD COLUMN IF NOT EXISTS dont_fragment Bool DEFAULT true COMMENT 'Whether IPv4 routers may not fragment the probes' AFTER traffic_class,
    ADD COLUMN IF NOT EXISTS from_address IPv6 COMMENT 'Address that the probes must come from; :: if the route or from_interface says' AFTER dont_fragment,
    ADD COLUMN IF NOT EXISTS from_interface LowCardinality(String) COMMENT 'Interface whose first address the probes come from; empty if none is named' AFTER from_address,
    ADD COLUMN IF NOT EXISTS interface LowCardinality(String) COMMENT 'Interface that the probes leave through; empty if the run or the route says' AFTER from_interface;

-- Constant or periodic columns cost next to nothing, see schema/README.md. Version 1 had echoes
-- only, and this host's own errors: the default says so of its rows.
ALTER TABLE results
    ADD COLUMN IF NOT EXISTS ttl UInt8 COMMENT 'Time to live or hop limit of the probe; 0 in rows of schema version 1' CODEC(ZSTD(1)) AFTER rseq,
    ADD COLUMN IF NOT EXISTS hops UInt8 COMMENT 'Of a trace: its hop limits go from 1 to this, again and again; 0 for any other probe' CODEC(ZSTD(1)) AFTER ttl,
    ADD COLUMN IF NOT EXISTS answer Enum8('none' = 0, 'echo' = 1, 'datagram' = 2, 'syn_ack' = 3, 'reset' = 4, 'icmp_error' = 5)
        DEFAULT multiIf(outcome IN ('reply', 'late', 'duplicate'), 'echo', outcome = 'error', 'icmp_error', 'none')
        COMMENT 'What kind of packet answered; none where nothing came, or where that is not known' CODEC(ZSTD(1)) AFTER outcome,
    ADD COLUMN IF NOT EXISTS traffic_class UInt8 COMMENT 'Type of service or traffic class of the answer on arrival; 0 if unknown' CODEC(ZSTD(1)) AFTER hop_limit,
    ADD COLUMN IF NOT EXISTS mismatch_at Nullable(UInt16) COMMENT 'Offset of the first payload byte that came back changed; NULL where none did' CODEC(ZSTD(1)) AFTER datamatch;

CREATE OR REPLACE VIEW results_readable AS
SELECT
    r.time_due AS time_due,
    if(s.name = '', toString(r.source), s.name) AS source,
    if(d.name = '', toString(r.destination), d.name) AS destination,
    d.protocol AS protocol,
    d.port AS port,
    r.sequence AS sequence,
    r.ttl AS ttl,
    r.outcome AS outcome,
    r.answer AS answer,
    round(r.rtt / 1e6, 6) AS rtt_ms,
    round(r.lag / 1e6, 6) AS lag_ms,
    if(r.address = toIPv6('::'), '', replaceOne(toString(r.address), '::ffff:', '')) AS address,
    r.hop_limit AS hop_limit,
    r.rtype AS rtype,
    r.rcode AS rcode,
    r.datamatch AS datamatch,
    r.mismatch_at AS mismatch_at,
    r.time_sent AS time_sent,
    r.rtime AS rtime
FROM results AS r
LEFT ANY JOIN (SELECT id, name, protocol, port FROM destinations FINAL) AS d ON d.id = r.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = r.source
COMMENT 'Results with names, plain addresses and milliseconds';

-- As in version 1, without traces. Loss is (error + lost) of all probes that left the host; a failed send is the prober's fault.
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
    WHERE hops = 0
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
    WHERE time_due >= now64(9) - INTERVAL 5 MINUTE AND outcome IN ('reply', 'error', 'lost') AND hops = 0
    GROUP BY destination, source
) AS w
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = w.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = w.source
ORDER BY loss_percent DESC, rtt_p99_ms DESC
COMMENT 'The last five minutes, worst destination first';

-- An outage is three or more probes in a row without a reply; fewer are packet loss. Only a reply
-- ends one: rounds that the prober skipped leave gaps in the sequences, and a failed send says
-- nothing of the destination, so both are passed over. An outage lasts until the
-- probe was due that a reply came to, or while there is none, one interval longer than its last
-- miss. Arrays, because a window function takes twice as long: 2 s here for 5,000,000 results.
CREATE OR REPLACE VIEW outages AS
WITH if(o.is_last, addNanoseconds(o.last, d.interval), o.next_reply) AS until
SELECT
    o.first AS start,
    if(ongoing, NULL, until) AS end,
    round((toUnixTimestamp64Nano(until) - toUnixTimestamp64Nano(o.first)) / 1e9, 3) AS seconds,
    if(d.name = '', toString(o.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    if(s.name = '', toString(o.source), s.name) AS source,
    o.probes AS probes,
    o.lost AS lost,
    o.probes - o.lost AS error,
    -- A killed run never ends in `runs`: what is a minute old is not going on.
    o.is_last AND r.ended IS NULL AND until >= now64(9) - INTERVAL 1 MINUTE AS ongoing,
    o.run AS run,
    o.destination AS destination
FROM
(
    SELECT
        run, source, destination,
        fromUnixTimestamp64Nano(found.1, 'UTC') AS first,
        fromUnixTimestamp64Nano(found.2, 'UTC') AS last,
        fromUnixTimestamp64Nano(found.3, 'UTC') AS next_reply,
        found.3 = 0 AS is_last,
        found.4 AS probes,
        found.5 AS lost
    FROM
    (
        -- A probe is one number, so that sorting is cheap: when it was due, and above 0 in the last
        -- two bits if it was missed. Each piece is a reply with the misses behind it; before the
        -- first reply there is none.
        SELECT
            run, source, destination,
            arraySplit(
                probe -> bitAnd(probe, 3) = 0,
                arraySort(groupArray(toUnixTimestamp64Nano(time_due) * 4 + multiIf(outcome = 'reply', 0, outcome = 'lost', 1, 2)))
            ) AS pieces,
            arrayJoin(arrayFilter(
                island -> island.4 >= 3,
                arrayMap(
                    (piece, next) -> (
                        -- The first miss, the last one, the reply behind it or 0, and counts.
                        bitShiftRight(arrayFirst(probe -> bitAnd(probe, 3) > 0, piece), 2),
                        bitShiftRight(piece[-1], 2),
                        bitShiftRight(next[1], 2),
                        length(piece) - (bitAnd(piece[1], 3) = 0),
                        countEqual(arrayMap(probe -> bitAnd(probe, 3), piece), 1)
                    ),
                    pieces,
                    arrayPushBack(arrayPopFront(pieces), CAST([], 'Array(Int64)'))
                )
            )) AS found
        FROM results
        WHERE outcome IN ('reply', 'error', 'lost') AND hops = 0
            -- Most have too few misses for an outage.
            AND (run, source, destination) IN
            (
                SELECT run, source, destination
                FROM results
                WHERE outcome IN ('error', 'lost') AND hops = 0
                GROUP BY run, source, destination
                HAVING count() >= 3
            )
        GROUP BY run, source, destination
    )
) AS o
LEFT ANY JOIN (SELECT run, source, ended FROM runs FINAL) AS r ON r.run = o.run AND r.source = o.source
LEFT ANY JOIN (SELECT id, name, address, interval FROM destinations FINAL) AS d ON d.id = o.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = o.source
ORDER BY start DESC
COMMENT 'Three or more probes in a row without a reply: from when to when, and who saw it';

-- One row a pass. A path ends where something other than time exceeded (ICMP type 11, ICMPv6
-- type 3) came back: the destination itself, or a router that knows no way. Hops beyond it are
-- the same answer again.
CREATE OR REPLACE VIEW paths AS
SELECT
    p.time AS time,
    if(s.name = '', toString(p.source), s.name) AS source,
    if(d.name = '', toString(p.destination), d.name) AS name,
    replaceOne(toString(d.address), '::ffff:', '') AS address,
    p.pass AS pass,
    p.reached AS reached,
    p.length AS length,
    arrayMap(
        hop -> if(p.answered[hop] = toIPv6('::'), '', replaceOne(toString(p.answered[hop]), '::ffff:', '')),
        arrayMap(hop -> toUInt8(hop), range(1, p.length + 1))
    ) AS hops,
    p.run AS run,
    p.destination AS destination
FROM
(
    SELECT
        run,
        source,
        destination,
        intDiv(sequence, hops) AS pass,
        min(time_due) AS time,
        minIf(ttl, is_end) AS end,
        countIf(is_reached) > 0 AS reached,
        toUInt8(if(end > 0, end, maxIf(ttl, address != toIPv6('::')))) AS length,
        CAST(groupArrayIf((ttl, address), address != toIPv6('::')), 'Map(UInt8, IPv6)') AS answered
    FROM
    (
        SELECT
            run, source, destination, sequence, hops, time_due, ttl, address,
            address BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255') AS is_v4,
            answer = 'icmp_error' AS is_error,
            address != toIPv6('::') AND NOT (is_error AND rtype = if(is_v4, 11, 3)) AS is_end,
            -- Port unreachable is the destination's own word.
            is_end AND (NOT is_error OR (rtype, rcode) = if(is_v4, (3, 3), (1, 4))) AS is_reached
        FROM results
        WHERE hops > 0 AND outcome != 'duplicate'
    )
    GROUP BY run, source, destination, pass
) AS p
LEFT ANY JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = p.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = p.source
ORDER BY time DESC
COMMENT 'One row a pass of a trace: the addresses of its hops in order, empty where none answered';

-- A hop that is silent for a pass has not changed: each answer is compared with the hop's answer
-- before it, in whatever pass or run that came.
CREATE OR REPLACE VIEW path_changes AS
SELECT
    c.time AS time,
    if(s.name = '', toString(c.source), s.name) AS source,
    if(d.name = '', toString(c.destination), d.name) AS name,
    c.first_ttl AS ttl,
    replaceOne(toString(c.old), '::ffff:', '') AS before,
    replaceOne(toString(c.new), '::ffff:', '') AS after,
    c.changed AS hops_changed,
    c.pass AS pass,
    c.run AS run,
    c.destination AS destination
FROM
(
    SELECT
        run, source, destination, pass,
        min(time_due) AS time,
        min(ttl) AS first_ttl,
        argMin(previous, ttl) AS old,
        argMin(address, ttl) AS new,
        count() AS changed
    FROM
    (
        SELECT
            run, source, destination, ttl, time_due, address,
            intDiv(sequence, hops) AS pass,
            lagInFrame(address) OVER (
                PARTITION BY source, destination, ttl ORDER BY time_due
                ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
            ) AS previous
        FROM results
        WHERE hops > 0 AND outcome IN ('reply', 'error', 'late') AND address != toIPv6('::')
    )
    WHERE previous != toIPv6('::') AND previous != address
    GROUP BY run, source, destination, pass
) AS c
LEFT ANY JOIN (SELECT id, name FROM destinations FINAL) AS d ON d.id = c.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = c.source
ORDER BY time DESC
COMMENT 'When a path changed: the first hop with another address than before, and both addresses';

-- Per run, so that a range of time is a choice of runs. The end of the path is the lowest hop
-- whose last answer was not time exceeded.
CREATE OR REPLACE VIEW hops AS
SELECT
    fromUnixTimestamp64Nano(toInt64(h.run), 'UTC') AS started,
    if(s.name = '', toString(h.source), s.name) AS source,
    if(d.name = '', toString(h.destination), d.name) AS name,
    h.ttl AS ttl,
    arrayMap(address -> replaceOne(toString(address), '::ffff:', ''), h.addresses) AS addresses,
    h.answered + h.lost AS sent,
    h.lost AS lost,
    if(sent = 0, NULL, round(100 * h.lost / sent, 3)) AS loss_percent,
    round(h.rtt_min / 1e6, 6) AS rtt_min_ms,
    round(least(h.rtt_quantiles[1] / 1e6, h.rtt_max / 1e6), 6) AS rtt_p50_ms,
    round(least(h.rtt_quantiles[2] / 1e6, h.rtt_max / 1e6), 6) AS rtt_p99_ms,
    round(h.rtt_max / 1e6, 6) AS rtt_max_ms,
    h.run AS run,
    h.destination AS destination
FROM
(
    SELECT
        *,
        minIf(ttl, ends) OVER (PARTITION BY run, source, destination) AS end,
        maxIf(ttl, notEmpty(addresses)) OVER (PARTITION BY run, source, destination) AS last
    FROM
    (
        SELECT
            run, source, destination, ttl,
            countIf(outcome IN ('reply', 'error')) AS answered,
            countIf(outcome = 'lost') AS lost,
            argMaxIf(is_end, sequence, address != toIPv6('::')) AS ends,
            groupUniqArrayIf(16)(address, address != toIPv6('::')) AS addresses,
            minIf(rtt, outcome IN ('reply', 'error')) AS rtt_min,
            maxIf(rtt, outcome IN ('reply', 'error')) AS rtt_max,
            quantilesDDIf(0.001, 0.5, 0.99)(assumeNotNull(rtt), outcome IN ('reply', 'error') AND rtt IS NOT NULL) AS rtt_quantiles
        FROM
        (
            SELECT
                run, source, destination, sequence, ttl, outcome, address, rtt,
                address BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255') AS is_v4,
                NOT (answer = 'icmp_error' AND rtype = if(is_v4, 11, 3)) AS is_end
            FROM results
            WHERE hops > 0 AND outcome != 'duplicate'
        )
        GROUP BY run, source, destination, ttl
    )
) AS h
LEFT ANY JOIN (SELECT id, name FROM destinations FINAL) AS d ON d.id = h.destination
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = h.source
WHERE h.ttl <= if(h.end > 0, h.end, h.last)
ORDER BY run DESC, destination, source, ttl
COMMENT 'Each hop of a run''s traces: who answered, loss and round trip times';
