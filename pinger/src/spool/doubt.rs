//! What to ask the server when nobody knows whether it has the rows of a segment.
//!
//! A token is no answer by itself. A server that was killed may remember one whose rows never
//! came to be, and it forgets the oldest ones: who was away for long would write rows twice.

use std::collections::BTreeSet;

use super::segment::{Marker, Table, day};
use super::terms::{Identity, Question};

/// How old a doubt may be for the server to know the token still. Its window holds 10,000 of them
/// a table, which a hundred probers with two inserts a second fill in 50 seconds.
pub const DOUBT_FRESH_NS: i64 = 30_000_000_000;

/// Asks of how many days the server has a row that a marker describes; `None` where there are no
/// markers. Each chunk of a segment has some, most of them of one day.
pub(super) fn question(identity: &Identity, table: Table, markers: &[Marker]) -> Option<Question> {
    let (Identity { source, run, .. }, false) = (identity, markers.is_empty()) else {
        return None;
    };
    let row = |marker: &Marker| {
        let Marker {
            destination,
            sequence,
            time_due: time,
            outcome,
        } = marker;
        match table {
            Table::Gaps => {
                format!("(`from` = fromUnixTimestamp64Nano({time}) AND toInt8(reason) = {outcome})")
            }
            _ => format!(
                "(time_due = fromUnixTimestamp64Nano({time}) AND destination = {destination} \
                 AND sequence = {sequence} AND toInt8(outcome) = {outcome})"
            ),
        }
    };
    let rows: Vec<String> = markers.iter().map(row).collect();
    let (from, time) = match table {
        Table::Incoming => ("results", "time_due"),
        other => (other.name(), "`from`"),
    };
    let rows = rows.join(" OR ");
    let days: BTreeSet<i64> = markers.iter().map(|is| day(is.time_due)).collect();
    Some(Question {
        sql: format!(
            "SELECT uniqExact(toDate({time})), toUInt64(uptime()) FROM {from} \
             WHERE run = {run} AND source = {source} AND ({rows})"
        ),
        days: days.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_name_the_rows() {
        let identity = Identity {
            source: 7,
            run: 12,
            store: "embedded".to_owned(),
        };
        let marker = Marker {
            destination: 121,
            sequence: 5,
            time_due: -1,
            outcome: 3,
        };
        let ask = |table, markers: &[Marker]| {
            let Question { sql, days } = question(&identity, table, markers)?;
            // However many chunks: they are of one day.
            assert_eq!(days, 1);
            Some(sql)
        };
        assert_eq!(ask(Table::Incoming, &[]), None);
        let row = "(time_due = fromUnixTimestamp64Nano(-1) AND destination = 121 AND sequence = 5 \
                   AND toInt8(outcome) = 3)";
        assert_eq!(
            ask(Table::Incoming, &[marker, marker]).as_deref(),
            Some(
                format!(
                    "SELECT uniqExact(toDate(time_due)), toUInt64(uptime()) FROM results WHERE \
                     run = 12 AND source = 7 AND ({row} OR {row})"
                )
                .as_str()
            )
        );
        let next = Marker {
            time_due: 0,
            ..marker
        };
        let question = question(&identity, Table::Incoming, &[marker, next, marker]);
        assert_eq!(question.map(|question| question.days), Some(2));
        assert_eq!(
            ask(Table::Gaps, &[marker]).as_deref(),
            Some(
                "SELECT uniqExact(toDate(`from`)), toUInt64(uptime()) FROM gaps WHERE run = 12 \
                 AND source = 7 AND ((`from` = fromUnixTimestamp64Nano(-1) AND toInt8(reason) = 3))"
            )
        );
    }
}
