-- Disk used by results, misses and rollups, for each table and each result it holds
SELECT
    table,
    sum(rows) AS stored_rows,
    formatReadableSize(sum(bytes_on_disk)) AS size,
    round(sum(bytes_on_disk) / sum(rows), 3) AS bytes_per_row,
    round(sum(bytes_on_disk) / sumIf(sum(rows), table = 'results') OVER (), 3) AS bytes_per_result,
    min(partition) AS first_partition,
    max(partition) AS last_partition
FROM system.parts
WHERE database = currentDatabase() AND active
    AND table IN ('results', 'misses', 'results_run', 'results_minute', 'rtt_minute', 'results_hour', 'rtt_hour', 'gaps')
GROUP BY table
ORDER BY sum(bytes_on_disk) DESC
