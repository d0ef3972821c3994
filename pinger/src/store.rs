//! The store: from batches of rows to ClickHouse.
