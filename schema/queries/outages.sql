-- Outages of the last day: from when to when, and who saw them
SELECT start, end, seconds, name, source, probes
FROM outages_in(from = now() - INTERVAL 1 DAY, until = now())
LIMIT 10
