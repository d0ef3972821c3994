-- The last hour of the destination that misses most and still answers, step by step for each source
SELECT time, step, source, name, sent, loss_percent, rtt_min_ms, rtt_p50_ms, rtt_p99_ms, jitter_ms
FROM loss_and_rtt(from = now() - INTERVAL 1 HOUR, until = now())
WHERE destination =
(
    SELECT destination
    FROM results_minute
    WHERE minute > now() - INTERVAL 1 HOUR
    GROUP BY destination
    HAVING sum(reply) > 0
    ORDER BY sum(error + lost) / sum(reply + error + lost + send_failed) DESC
    LIMIT 1
)
ORDER BY time DESC, source
LIMIT 60 BY source
