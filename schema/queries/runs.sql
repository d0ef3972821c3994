-- Runs of the last week: what came of them, and whether each sent probe has its row or its gap
SELECT
    r.started AS started,
    r.ended AS ended,
    r.interface AS interface,
    r.mode AS mode,
    r.sent AS sent,
    r.reply AS reply,
    r.error AS error,
    r.lost AS lost,
    r.send_failed AS send_failed,
    s.stored AS stored,
    g.missing AS missing,
    r.rows_dropped AS rows_dropped
FROM (SELECT * FROM runs FINAL WHERE started > now() - INTERVAL 6 DAY ORDER BY started DESC LIMIT 10) AS r
LEFT JOIN
(
    SELECT run, source, count() AS stored
    FROM results
    WHERE outcome IN ('reply', 'error', 'lost', 'send_failed')
        AND run IN (SELECT run FROM runs WHERE started > now() - INTERVAL 6 DAY ORDER BY started DESC LIMIT 10)
    GROUP BY run, source
) AS s ON s.run = r.run AND s.source = r.source
LEFT JOIN
(
    SELECT run, source, sum(probes) AS missing
    FROM gaps
    GROUP BY run, source
) AS g ON g.run = r.run AND g.source = r.source
ORDER BY started DESC
