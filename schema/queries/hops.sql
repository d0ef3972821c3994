-- Hops of the latest trace: who answered, loss and round trips
SELECT name, ttl, addresses, sent, loss_percent, rtt_min_ms, rtt_p50_ms, rtt_max_ms
FROM hops
WHERE run = (SELECT max(run) FROM results WHERE hops > 0)
ORDER BY name, ttl
LIMIT 50
