-- The prober's own lateness, minute by minute, by 20 destinations (never part of a round trip)
SELECT
    toStartOfMinute(time_due) AS minute,
    count() AS probes,
    round(quantileExact(0.5)(lag) / 1e3, 1) AS lag_p50_us,
    round(quantileExact(0.99)(lag) / 1e3, 1) AS lag_p99_us,
    round(max(lag) / 1e3, 1) AS lag_max_us
FROM results
WHERE time_due > now() - INTERVAL 10 MINUTE AND outcome IN ('reply', 'error', 'lost')
    AND destination IN
    (
        SELECT DISTINCT destination
        FROM results_minute
        WHERE minute > now() - INTERVAL 10 MINUTE
        ORDER BY cityHash64(destination)
        LIMIT 20
    )
GROUP BY minute
ORDER BY minute DESC
