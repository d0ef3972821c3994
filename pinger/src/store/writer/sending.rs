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
use super::super::clickhouse::fault::{ServerFault, Verdict};
use super::super::disk::RunKey;
use super::super::timeouts::{Timeouts, in_time};
use super::super::{StoreError, schema, tables};
use super::LATE;
use super::doubt::Doubt;
use crate::spool::{End, Job};

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
    pub(super) timeouts: Timeouts,
    /// Whether the schema is known to be the right one.
    pub(super) is_checked: Arc<AtomicBool>,
    /// Whether the server may have forgotten a token by the time it gets it again. The embedded
    /// engine has no other writer that would make it forget, and its log is put right at its start.
    pub(super) forgets: bool,
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
        if let Err(words) = self.check_schema().await {
            return End::Retry(words);
        }
        let doubt = if self.forgets {
            Doubt::of(&task.job, self.timeouts.question)
        } else {
            None
        };
        if let Some(doubt) = doubt.as_ref().filter(|_| task.job.ask_first) {
            match doubt.is_settled(&self.connection).await {
                Ok(true) => return End::Written,
                Ok(false) => {}
                Err(words) => return End::Doubtful(words),
            }
        }
        let job = &mut task.job;
        let body = Bytes::from(std::mem::take(&mut job.body));
        let statement = tables::statement(job.table, job.is_once_more);
        let insert = self
            .connection
            .insert_blocks(&statement, &job.token, body, &self.timeouts);
        match insert.await {
            Ok(()) => match doubt {
                Some(doubt) => doubt.confirm(&self.connection).await,
                None => End::Written,
            },
            Err(error) => match Verdict::of(&error) {
                Verdict::Refused(reason) => End::Refused(reason),
                Verdict::Retry(reason) if never_arrived(&error) => End::Retry(reason),
                Verdict::Retry(reason) if was_answered(&error) => End::Failed(reason),
                Verdict::Retry(reason) => End::Doubtful(reason),
            },
        }
    }

    /// A store that was away at the start is looked at before it gets the first row.
    async fn check_schema(&self) -> Result<(), String> {
        if !self.is_checked.load(Ordering::Relaxed) {
            in_time(self.timeouts.question, schema::check(&self.connection))
                .await?
                .map_err(|error| one_line(&error))?;
            self.is_checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
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

/// Whether the server itself says that the insert failed, and not somebody before it.
fn was_answered(error: &clickhouse::error::Error) -> bool {
    ServerFault::of(error).is_some_and(|fault| !fault.is_foreign())
}

/// An error with its advice on one line.
pub(super) fn one_line(error: &StoreError) -> String {
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
