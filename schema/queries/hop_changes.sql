-- Destinations whose hop limit on arrival changed within the last day: the way back moved
SELECT
    if(d.name = '', toString(m.destination), d.name) AS name,
    sum(m.hop_limit_changes) AS changes,
    min(m.hop_limit_min) AS lowest,
    max(m.hop_limit_max) AS highest,
    minIf(m.minute, m.hop_limit_changes > 0) AS first,
    maxIf(m.minute, m.hop_limit_changes > 0) AS last
FROM results_minute AS m
LEFT ANY JOIN (SELECT id, name FROM destinations FINAL) AS d ON d.id = m.destination
WHERE m.minute > now() - INTERVAL 1 DAY
GROUP BY m.destination, d.name
HAVING changes > 0
ORDER BY changes DESC
LIMIT 20
