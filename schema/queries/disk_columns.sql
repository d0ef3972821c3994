-- Disk used by each column of the raw results
SELECT
    column,
    formatReadableSize(sum(column_data_compressed_bytes)) AS size,
    round(sum(column_data_compressed_bytes) / sum(rows), 3) AS bytes_per_row
FROM system.parts_columns
WHERE database = currentDatabase() AND table = 'results' AND active
GROUP BY column
ORDER BY sum(column_data_compressed_bytes) DESC
LIMIT 40
