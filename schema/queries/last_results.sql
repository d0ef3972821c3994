-- The latest results, readable
SELECT time_due, source, destination, outcome, rtt_ms, lag_ms, address FROM results_readable WHERE time_due > now() - 2 ORDER BY time_due DESC LIMIT 10
