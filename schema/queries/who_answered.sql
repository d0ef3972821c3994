-- Addresses that answered in place of the destination, with ICMP type and code
SELECT
    d.name AS name,
    replaceOne(toString(r.address), '::ffff:', '') AS answered_by,
    r.rtype AS rtype,
    r.rcode AS rcode,
    count() AS answers,
    max(r.time_due) AS last
FROM results AS r
INNER JOIN (SELECT id, name, address FROM destinations FINAL) AS d ON d.id = r.destination
WHERE r.time_due > now() - 3600 AND r.outcome = 'error'
    AND r.address != d.address AND r.hops = 0
GROUP BY name, answered_by, rtype, rcode
ORDER BY answers DESC
LIMIT 20
