//! A thread that sends segments.
//!
//! In: jobs of the spool. Out: how each insert ended. It decides nothing about what comes next,
//! and tries each job once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use hyper_util::client::legacy::Error as HttpError;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::super::clickhouse::Connection;
use super::super::clickhouse::fault::Verdict;
use super::super::disk::RunKey;
use super::super::{StoreError, schema, tables};
use super::LATE;
use crate::spool::{End, Job, Marker, Table};

/// A job, and whose.
pub(super) struct Task {
    pub(super) key: RunKey,
    pub(super) job: Job,
}

/// A task that was tried.
pub(super) struct Done {
    pub(super) task: Task,
    pub(super) end: End,
}

/// What one of the threads owns.
pub(super) struct Sending {
    pub(super) connection: Connection,
    /// When to give up, once the store is being closed.
    pub(super) closing: watch::Receiver<Option<Instant>>,
    /// Whether the schema is known to be the right one.
    pub(super) is_checked: Arc<AtomicBool>,
}

impl Sending {
    /// Works until no task comes any more.
    pub(super) fn run(&self, runtime: &Runtime, tasks: &Receiver<Task>, ended: &Sender<Done>) {
        for mut task in tasks {
            let end = runtime.block_on(async {
                tokio::select! {
                    end = self.send(&mut task) => end,
                    () = past_deadline(self.closing.clone()) => End::Doubtful(LATE.to_owned()),
                }
            });
            if ended.send(Done { task, end }).is_err() {
                return;
            }
        }
    }

    async fn send(&self, task: &mut Task) -> End {
        if let Err(error) = self.check_schema().await {
            return End::Retry(one_line(&error));
        }
        let job = &mut task.job;
        let body = Bytes::from(std::mem::take(&mut job.body));
        let statement = tables::statement(job.table, job.is_once_more);
        let insert = self
            .connection
            .insert_blocks(&statement, &job.token, [body]);
        match insert.await {
            Ok(()) if job.is_doubtful && !job.markers.is_empty() => self.confirm(task).await,
            Ok(()) => End::Written,
            Err(error) => match Verdict::of(&error) {
                Verdict::Refused(reason) => End::Refused(reason),
                Verdict::Retry(reason) if never_arrived(&error) => End::Retry(reason),
                Verdict::Retry(reason) => End::Doubtful(reason),
            },
        }
    }

    /// A store that was away at the start is looked at before it gets the first row.
    async fn check_schema(&self) -> Result<(), StoreError> {
        if !self.is_checked.load(Ordering::Relaxed) {
            schema::check(&self.connection).await?;
            self.is_checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks whether the rows are there that the server says it has: one that was killed may
    /// remember a token whose rows never came to be.
    async fn confirm(&self, task: &Task) -> End {
        let sql = question(task.key, task.job.table, &task.job.markers);
        match self.connection.fetch_one::<u64>(&sql).await {
            Ok(0) => End::Missing,
            Ok(_) => End::Written,
            Err(error) => End::Doubtful(one_line(&error)),
        }
    }
}

/// How many of the rows that the markers describe the store has.
fn question(key: RunKey, table: Table, markers: &[Marker]) -> String {
    let RunKey { run, source } = key;
    let row = |marker: &Marker| {
        let Marker {
            destination,
            sequence,
            time_due,
            outcome,
        } = marker;
        let time = format!("fromUnixTimestamp64Nano({time_due})");
        match table {
            Table::Gaps => format!("(`from` = {time} AND toInt8(reason) = {outcome})"),
            _ => format!(
                "(time_due = {time} AND destination = {destination} \
                 AND sequence = {sequence} AND toInt8(outcome) = {outcome})"
            ),
        }
    };
    let place = match table {
        Table::Gaps => "gaps",
        _ => "results",
    };
    let rows: Vec<String> = markers.iter().map(row).collect();
    format!(
        "SELECT count() FROM {place} WHERE run = {run} AND source = {source} AND ({})",
        rows.join(" OR ")
    )
}

/// Whether an insert failed before it had a connection.
fn never_arrived(error: &clickhouse::error::Error) -> bool {
    match error {
        clickhouse::error::Error::Network(cause) => cause
            .downcast_ref::<HttpError>()
            .is_some_and(HttpError::is_connect),
        _ => false,
    }
}

/// An error with its advice on one line.
fn one_line(error: &StoreError) -> String {
    let text = error.to_string();
    text.split('\n')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Returns when the store is being closed and its time is over.
async fn past_deadline(mut closing: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *closing.borrow_and_update();
        let changed = closing.changed();
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            // It may have been set, or been moved to now.
            changed = changed => if changed.is_err() {
                // The writer is gone from outside: there is no more time.
                return;
            }
        }
    }
}
