//! What a server has of a segment whose insert ended in doubt.
//!
//! In: a job that was tried before. Out: whether its rows have landed. ClickHouse remembers the
//! tokens of the last inserts only, whoever made them, so a segment that waited out an outage while
//! others went on writing is asked for before it is sent again. And a server that was killed may
//! remember a token whose rows never came to be, so it is asked once more afterwards.

use super::super::clickhouse::Connection;
use super::super::disk::RunKey;
use super::super::{StoreError, wall_ns};
use super::sending::{in_time, one_line};
use crate::spool::{End, Job, Marker, Table};

/// Seconds that clocks of two hosts may differ.
const CLOCKS_APART: u64 = 60;

/// How much of a segment a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// A row of each day.
    All,
    /// Rows of some days only: each day is a part of its own, and a crash may have taken one.
    Part,
    /// No row that it was asked for.
    None,
    /// We may not ask: then the token alone must do.
    Unknown,
}

/// A question to the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    sql: String,
    days: u64,
    /// When the last row of the segment came, wall clock nanoseconds.
    until_ns: i64,
}

impl Doubt {
    /// The question about a job that was tried before; `None` of one that needs none.
    pub(super) fn of(key: RunKey, job: &Job) -> Option<Self> {
        let is_asked = job.is_doubtful && !job.markers.is_empty();
        is_asked.then(|| Self {
            sql: question(key, job.table, &job.markers),
            days: job.markers.len() as u64,
            until_ns: job.until_ns,
        })
    }

    /// Asks what is there.
    ///
    /// # Errors
    /// When there is no answer: why, in words.
    pub(super) async fn ask(&self, connection: &Connection) -> Result<Landed, String> {
        self.fetch(connection).await.map(|(landed, _)| landed)
    }

    /// Asks again after an insert that was acknowledged.
    pub(super) async fn confirm(&self, connection: &Connection) -> End {
        match self.fetch(connection).await {
            // A server that ran all the time keeps what it takes: others of a cluster may not
            // have it yet, or it was deleted since.
            Ok((Landed::None, uptime_s)) if uptime_s < self.age_s() + CLOCKS_APART => End::Missing,
            Ok(_) => End::Written,
            Err(words) => End::Doubtful(words),
        }
    }

    /// Seconds since the first insert may have been tried.
    fn age_s(&self) -> u64 {
        let age_ns = wall_ns().saturating_sub(self.until_ns);
        u64::try_from(age_ns / 1_000_000_000).unwrap_or(0)
    }

    async fn fetch(&self, connection: &Connection) -> Result<(Landed, u64), String> {
        match in_time(connection.fetch_one::<(u64, u64)>(&self.sql)).await? {
            Ok((0, uptime_s)) => Ok((Landed::None, uptime_s)),
            Ok((days, uptime_s)) if days < self.days => Ok((Landed::Part, uptime_s)),
            Ok((_, uptime_s)) => Ok((Landed::All, uptime_s)),
            Err(error) if is_forbidden(&error) => Ok((Landed::Unknown, u64::MAX)),
            Err(error) => Err(one_line(&error)),
        }
    }
}

/// ACCESS_DENIED: what was granted by an older version of `schema/users.sql`.
fn is_forbidden(error: &StoreError) -> bool {
    matches!(error, StoreError::Server { code: 497, .. })
}

/// Of how many days the store has the row that a marker describes, and for how many seconds the
/// server has run.
fn question(key: RunKey, table: Table, markers: &[Marker]) -> String {
    let RunKey { run, source } = key;
    let time = |ns: i64| format!("fromUnixTimestamp64Nano({ns})");
    let (place, day, row): (_, _, fn(&Marker, String) -> String) = match table {
        Table::Gaps => ("gaps", "toDate(`from`)", |marker, time| {
            format!("(`from` = {time} AND toInt8(reason) = {})", marker.outcome)
        }),
        _ => ("results", "toDate(time_due)", |marker, time| {
            let Marker {
                destination,
                sequence,
                outcome,
                ..
            } = marker;
            format!(
                "(time_due = {time} AND destination = {destination} AND sequence = {sequence} \
                 AND toInt8(outcome) = {outcome})"
            )
        }),
    };
    let rows: Vec<String> = markers
        .iter()
        .map(|marker| row(marker, time(marker.time_due)))
        .collect();
    format!(
        "SELECT uniqExact({day}), toUInt64(uptime()) FROM {place} \
         WHERE run = {run} AND source = {source} AND ({})",
        rows.join(" OR ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_asked_for_by_a_row_of_each_day() {
        let key = RunKey { run: 7, source: 3 };
        let marker = |time_due| Marker {
            destination: 121,
            sequence: 5,
            time_due,
            outcome: 1,
        };
        assert_eq!(
            question(key, Table::Incoming, &[marker(10), marker(20)]),
            "SELECT uniqExact(toDate(time_due)), toUInt64(uptime()) FROM results \
             WHERE run = 7 AND source = 3 AND (\
             (time_due = fromUnixTimestamp64Nano(10) AND destination = 121 AND sequence = 5 \
             AND toInt8(outcome) = 1) OR \
             (time_due = fromUnixTimestamp64Nano(20) AND destination = 121 AND sequence = 5 \
             AND toInt8(outcome) = 1))"
        );
        assert_eq!(
            question(key, Table::Gaps, &[marker(10)]),
            "SELECT uniqExact(toDate(`from`)), toUInt64(uptime()) FROM gaps \
             WHERE run = 7 AND source = 3 AND (\
             (`from` = fromUnixTimestamp64Nano(10) AND toInt8(reason) = 1))"
        );
    }
}
