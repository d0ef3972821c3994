-- Disk used by raw results, per day and column
SELECT
    partition,
    column,
    formatReadableSize(sum(column_data_compressed_bytes)) AS size,
    round(sum(column_data_compressed_bytes) / sum(rows), 3) AS bytes_per_row
FROM system.parts_columns
WHERE database = currentDatabase() AND table = 'results' AND active
GROUP BY partition, column
ORDER BY partition DESC, sum(column_data_compressed_bytes) DESC
LIMIT 40
