-- Loss and round trip times, minute by minute
SELECT minute, name, sent, loss_percent, rtt_p50_ms, rtt_p99_ms FROM per_minute WHERE minute > now() - 600 ORDER BY minute DESC LIMIT 20
