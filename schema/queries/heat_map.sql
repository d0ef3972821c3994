-- Heat map of all round trips of the last hour: a row is five minutes, a column is a range of round trips
SELECT
    toStartOfInterval(time, INTERVAL 5 MINUTE) AS time,
    sumIf(replies, rtt_until_ms <= 0.01) AS below_10us,
    sumIf(replies, rtt_until_ms > 0.01 AND rtt_until_ms <= 0.1) AS below_100us,
    sumIf(replies, rtt_until_ms > 0.1 AND rtt_until_ms <= 1) AS below_1ms,
    sumIf(replies, rtt_until_ms > 1 AND rtt_until_ms <= 10) AS below_10ms,
    sumIf(replies, rtt_until_ms > 10 AND rtt_until_ms <= 30) AS below_30ms,
    sumIf(replies, rtt_until_ms > 30 AND rtt_until_ms <= 100) AS below_100ms,
    sumIf(replies, rtt_until_ms > 100 AND rtt_until_ms <= 300) AS below_300ms,
    sumIf(replies, rtt_until_ms > 300) AS slower
FROM rtt_heat_map(from = now() - INTERVAL 1 HOUR, until = now())
GROUP BY time
ORDER BY time
