//! The writer: a thread that takes batches and sees them into ClickHouse.
//!
//! In: batches from a bounded queue. Out: inserts, each under its batch's token, repeated until
//! the server has it; counts; notices. It never blocks those who offer batches: when the queue is
//! full a batch is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::watch;

use super::StoreError;
use super::clickhouse::Connection;
use super::clickhouse::fault::Verdict;
use super::session::runtime;
use crate::rows::Batch;
use crate::stats::RowCounts;

/// Batches that wait at most: 1.6 million rows, 170 megabytes when all are full. That bridges half
/// a minute of a busy disk at 50,000 rows a second; longer outages are the spool's to bridge.
pub const QUEUE_BATCHES: usize = 32;

/// Notices that wait to be shown at most; there are one or two an outage.
const QUEUE_NOTICES: usize = 64;

/// The wait before the second try of a batch; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait: a server that is back is used within this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What goes through the queue.
enum Message {
    Batch(Batch),
    /// Nothing follows.
    Close,
}

/// What became of the rows; `spooled` is what is left of `accepted`.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    fn counts(&self) -> RowCounts {
        // `accepted` last, and Acquire pairs with Release: it is never below the other two.
        let written = self.written.load(Ordering::Acquire);
        let dropped = self.dropped.load(Ordering::Acquire);
        let accepted = self.accepted.load(Ordering::Acquire);
        RowCounts {
            written,
            spooled: accepted - written - dropped,
            dropped,
        }
    }

    fn add(counter: &AtomicU64, batch: &Batch) {
        counter.fetch_add(batch.rows.len() as u64, Ordering::AcqRel);
    }
}

/// The way into the store: never blocks, may be cloned.
#[derive(Clone)]
pub struct BatchSender {
    queue: Sender<Message>,
    counters: Arc<Counters>,
}

impl BatchSender {
    /// Gives a batch to the writer; if it has [`QUEUE_BATCHES`] waiting, the batch is dropped and
    /// its rows counted.
    pub fn offer(&self, batch: Batch) {
        Counters::add(&self.counters.accepted, &batch);
        let unsent = match self.queue.try_send(Message::Batch(batch)) {
            Ok(()) => return,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => message,
        };
        if let Message::Batch(batch) = unsent {
            Counters::add(&self.counters.dropped, &batch);
        }
    }

    /// What became of all rows so far.
    pub fn counts(&self) -> RowCounts {
        self.counters.counts()
    }
}

/// The writer's thread, from outside.
pub(super) struct Writer {
    sender: BatchSender,
    /// When to give up, once the store is being closed.
    closing: watch::Sender<Option<Instant>>,
    notify: Sender<String>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; also returns where its notices come out.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(connection: Connection) -> Result<(Self, Receiver<String>), StoreError> {
        let (queue, batches) = bounded(QUEUE_BATCHES);
        let (notify, notices) = bounded(QUEUE_NOTICES);
        let (closing, closed) = watch::channel(None);
        let sender = BatchSender {
            queue,
            counters: Arc::default(),
        };
        let mut work = Work {
            connection,
            counters: Arc::clone(&sender.counters),
            closing: closed,
            notify: notify.clone(),
            refused: false,
        };
        let runtime = runtime()?;
        let thread = std::thread::Builder::new()
            .name("pinger-writer".to_owned())
            .spawn(move || {
                for message in batches {
                    match message {
                        Message::Batch(batch) => runtime.block_on(work.write(batch)),
                        Message::Close => break,
                    }
                }
            })
            .map_err(StoreError::file(
                "start",
                "the writer's thread",
                "free some memory",
            ))?;
        Ok((
            Self {
                sender,
                closing,
                notify,
                thread: Some(thread),
            },
            notices,
        ))
    }

    pub(super) fn sender(&self) -> BatchSender {
        self.sender.clone()
    }

    pub(super) fn counts(&self) -> RowCounts {
        self.sender.counts()
    }

    /// Tells the user something.
    pub(super) fn notify(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }

    /// Writes what is queued, until `limit` has passed, and ends the thread.
    pub(super) fn close(&mut self, limit: Duration) -> RowCounts {
        self.end(limit);
        self.counts()
    }

    fn end(&mut self, limit: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let deadline = Instant::now() + limit;
        self.closing.send_replace(Some(deadline));
        // Behind a full queue this waits for the writer, which past the deadline only counts.
        // It fails only if the thread is gone.
        let _ = self.sender.queue.send(Message::Close);
        let _ = thread.join();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// The writer's thread, from inside.
struct Work {
    connection: Connection,
    counters: Arc<Counters>,
    closing: watch::Receiver<Option<Instant>>,
    notify: Sender<String>,
    /// Whether the user was told of refused rows.
    refused: bool,
}

impl Work {
    /// Sees one batch to its end: written, refused, or given up at closing time.
    async fn write(&mut self, batch: Batch) {
        let mut backoff = BACKOFF_MIN;
        let mut told = false;
        loop {
            let insert = self
                .connection
                .try_insert("results", Some(&batch.token), &batch.rows);
            let result = tokio::select! {
                result = insert => result,
                () = past_deadline(self.closing.clone()) => return self.give_up(&batch),
            };
            let Err(error) = result else {
                if told {
                    self.tell("the store takes rows again".to_owned());
                }
                return Counters::add(&self.counters.written, &batch);
            };
            match Verdict::of(&error) {
                Verdict::Refused(reason) => return self.refuse(&batch, &reason),
                // One failure in a row is an idle connection that the server closed.
                Verdict::Retry(reason) if !told && backoff > BACKOFF_MIN => {
                    told = true;
                    self.tell(format!(
                        "the store does not take rows, they wait: {reason} ({})",
                        self.connection.url()
                    ));
                }
                Verdict::Retry(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
                () = past_deadline(self.closing.clone()) => return self.give_up(&batch),
            }
        }
    }

    fn give_up(&self, batch: &Batch) {
        Counters::add(&self.counters.dropped, batch);
    }

    fn refuse(&mut self, batch: &Batch, reason: &str) {
        Counters::add(&self.counters.dropped, batch);
        if !std::mem::replace(&mut self.refused, true) {
            self.tell(format!(
                "ClickHouse refused {} rows (batch {}), which are lost; further ones are only \
                 counted: {reason}",
                batch.rows.len(),
                batch.token
            ));
        }
    }

    fn tell(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }
}

/// Returns when the store is being closed and its time is over.
async fn past_deadline(mut closing: watch::Receiver<Option<Instant>>) {
    let deadline = match closing.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        // The writer is gone from outside: there is no more time.
        Err(_) => None,
    };
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.into()).await;
    }
}
