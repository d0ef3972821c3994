-- Rights for a ClickHouse server of your own, as roles: give them to users of yours, for example
--     CREATE USER prober IDENTIFIED BY 'a password' DEFAULT ROLE pinger_writer;
--     GRANT pinger_writer TO prober;
-- The database is `pinger` here; write the one of your --store URL in its place.

-- `pinger run`: inserts, looks which schema is there, and after a doubtful insert whether its rows
-- have arrived. It can read what identifies a result, and nothing of what came of it but the
-- outcome.
CREATE ROLE IF NOT EXISTS pinger_writer;
GRANT INSERT ON pinger.incoming TO pinger_writer;
GRANT INSERT ON pinger.gaps TO pinger_writer;
GRANT INSERT ON pinger.runs TO pinger_writer;
GRANT INSERT ON pinger.sources TO pinger_writer;
GRANT INSERT ON pinger.destinations TO pinger_writer;
GRANT SELECT ON pinger.schema_migrations TO pinger_writer;
GRANT SELECT(run, source, destination, sequence, time_due, outcome) ON pinger.results TO pinger_writer;
GRANT SELECT(run, source, from, reason) ON pinger.gaps TO pinger_writer;

-- `pinger sql`, `pinger export`, `pinger schema status`: reads everything, changes nothing. The
-- system tables are for queries/disk.sql.
CREATE ROLE IF NOT EXISTS pinger_reader;
GRANT SELECT ON pinger.* TO pinger_reader;
GRANT SELECT ON system.parts TO pinger_reader;
GRANT SELECT ON system.parts_columns TO pinger_reader;

-- `pinger schema apply` and `retention`. Materialized views write with the rights of whoever made
-- them, so keep the user that applied the schema. The system table is for telling the progress.
CREATE ROLE IF NOT EXISTS pinger_owner;
GRANT ALL ON pinger.* TO pinger_owner;
GRANT TABLE ENGINE ON * TO pinger_owner;
GRANT SELECT ON system.processes TO pinger_owner;
