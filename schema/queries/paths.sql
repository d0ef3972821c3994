-- The latest paths of each destination, one row a pass
SELECT time, source, name, reached, hops
FROM paths
WHERE time > now() - 3600
LIMIT 20
