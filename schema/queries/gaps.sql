-- What is missing, and why
SELECT
    g.from AS from,
    g.until AS until,
    if(s.name = '', toString(g.source), s.name) AS source,
    g.reason AS reason,
    g.probes AS probes,
    g.rows AS rows,
    g.detail AS detail
FROM gaps AS g
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = g.source
ORDER BY from DESC
LIMIT 20
