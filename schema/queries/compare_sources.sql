-- Destinations that one source sees worse than another: is it the destination, or the way to it?
SELECT
    any(t.name) AS name,
    count() AS sources,
    argMax(if(s.name = '', toString(t.source), s.name), t.loss_percent) AS most_loss_from,
    max(t.loss_percent) AS most_loss_percent,
    min(t.loss_percent) AS least_loss_percent,
    argMax(if(s.name = '', toString(t.source), s.name), t.rtt_p50_ms) AS slowest_from,
    max(t.rtt_p50_ms) AS slowest_p50_ms,
    min(t.rtt_p50_ms) AS fastest_p50_ms
FROM loss_and_rtt_total(from = now() - INTERVAL 1 DAY, until = now()) AS t
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = t.source
GROUP BY t.destination
ORDER BY most_loss_percent - least_loss_percent DESC, slowest_p50_ms / fastest_p50_ms DESC
LIMIT 20
