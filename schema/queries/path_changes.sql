-- Paths that changed: when, at which hop, from whom to whom
SELECT time, source, name, ttl, before, after, hops_changed
FROM path_changes
LIMIT 20
