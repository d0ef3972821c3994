-- Worst destinations of the last five minutes
SELECT * FROM worst_now LIMIT 10
