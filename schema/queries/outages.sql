-- Outages: from when to when, and who saw them
SELECT start, end, seconds, name, source, probes FROM outages LIMIT 10
