-- Loss and round trips of the last thirty days as a whole, worst first
SELECT name, source, sent, loss_percent, rtt_min_ms, rtt_p50_ms, rtt_p90_ms, rtt_p99_ms, rtt_max_ms, jitter_ms
FROM loss_and_rtt_total(from = now() - INTERVAL 30 DAY, until = now())
ORDER BY loss_percent DESC, rtt_p99_ms DESC
LIMIT 20
