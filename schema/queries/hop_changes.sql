-- Destinations whose hop limit on arrival changed within the last hour: the path back moved
SELECT
    d.name AS name,
    groupUniqArray(r.hop_limit) AS hop_limits,
    min(r.time_due) AS first,
    max(r.time_due) AS last
FROM results AS r
INNER JOIN (SELECT id, name FROM destinations FINAL) AS d ON d.id = r.destination
WHERE r.time_due > now() - 3600 AND r.outcome = 'reply' AND r.hop_limit > 0
GROUP BY name
HAVING length(hop_limits) > 1
ORDER BY name
LIMIT 20
