-- Runs of the prober: when, what came of them, and whether every sent probe has its row
SELECT
    r.started AS started,
    r.ended AS ended,
    r.interface AS interface,
    r.mode AS mode,
    r.sent AS sent,
    r.reply AS reply,
    r.error AS error,
    r.lost AS lost,
    s.stored AS stored,
    r.rows_dropped AS rows_dropped
FROM (SELECT * FROM runs FINAL) AS r
LEFT JOIN
(
    SELECT run, source, countIf(outcome IN ('reply', 'error', 'lost', 'send_failed')) AS stored
    FROM results
    GROUP BY run, source
) AS s ON s.run = r.run AND s.source = r.source
ORDER BY started DESC
LIMIT 10
