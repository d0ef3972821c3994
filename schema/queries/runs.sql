-- The latest runs: what came of them, and whether each sent probe has its row or its gap
SELECT
    r.started AS started,
    r.ended AS ended,
    if(s.name = '', toString(r.source), s.name) AS source,
    r.interface AS interface,
    r.sent AS sent,
    r.reply AS reply,
    r.error AS error,
    r.lost AS lost,
    r.send_failed AS send_failed,
    c.reply + c.error + c.lost + c.send_failed AS stored,
    ifNull(g.missing, 0) AS missing,
    -- 0 is as it should be; NULL while the run goes on, or if it was killed, or if results of it
    -- may have expired before schema version 3 counted them.
    if(r.ended IS NULL OR c.is_partial, NULL, toInt64(r.sent) - stored - missing) AS unaccounted
FROM (SELECT * FROM runs FINAL ORDER BY started DESC LIMIT 10) AS r
LEFT JOIN
(
    SELECT run, source, sum(t.reply) AS reply, sum(t.error) AS error, sum(t.lost) AS lost, sum(t.send_failed) AS send_failed,
        max(t.is_partial) AS is_partial
    FROM results_run AS t
    GROUP BY run, source
) AS c ON c.run = r.run AND c.source = r.source
LEFT JOIN
(
    SELECT run, source, sum(probes) AS missing
    FROM gaps
    GROUP BY run, source
) AS g ON g.run = r.run AND g.source = r.source
LEFT JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = r.source
ORDER BY started DESC
