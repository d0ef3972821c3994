//! The writer: threads that take batches and see them into ClickHouse.
//!
//! In: batches from a bounded queue. Out: inserts, each under its batch's token, repeated until
//! the server has it; counts; notices. It never blocks those who offer batches: when the queue is
//! full a batch is dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::StoreError;
use super::clickhouse::Connection;
use super::clickhouse::fault::Verdict;
use super::session::runtime;
use crate::rows::Batch;
use crate::stats::RowCounts;

/// Rows that wait at most, 200 megabytes: what 50,000 a second come to in 40 seconds of a busy
/// disk. Longer outages are the spool's to bridge.
pub const QUEUE_ROWS: u64 = 2_000_000;

/// Batches that wait at most. At low rates they are small, so their number is limited too: this
/// many take more than eight minutes to come.
pub const QUEUE_BATCHES: usize = 1024;

/// Batches on their way at a time: while the server sorts and stores one, the next one is made
/// into bytes. More would only take the server's cores from each other.
const WRITERS: usize = 2;

/// Notices that wait to be shown at most; there are one or two an outage.
const QUEUE_NOTICES: usize = 64;

/// The wait before the second try of a batch; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait: a server that is back is used within this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why rows are dropped when the store said nothing.
const TOO_MANY: &str = "more results came than it could write";
const LATE: &str = "there was no time left to write them";
const CLOSED: &str = "it was closed already";

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
    trouble: Mutex<Trouble>,
}

/// Why rows wait or were lost.
#[derive(Debug, Default)]
struct Trouble {
    /// What the store says at the moment; `None` while it takes rows.
    now: Option<String>,
    /// Why rows were dropped last.
    dropped: Option<String>,
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

    /// Counts a batch as dropped: for what the store said, or else for `reason`.
    fn drop_batch(&self, batch: &Batch, reason: &str) {
        self.drop_rows(batch.rows.len() as u64, reason);
    }

    fn drop_rows(&self, rows: u64, reason: &str) {
        self.dropped.fetch_add(rows, Ordering::AcqRel);
        let mut trouble = self.trouble();
        let reason = trouble.now.clone().unwrap_or_else(|| reason.to_owned());
        trouble.dropped = Some(reason);
    }

    /// Never held for longer than a move, and a writer that panicked left it whole.
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way into the store: never blocks, may be cloned.
#[derive(Clone)]
pub struct BatchSender {
    queue: Sender<Message>,
    counters: Arc<Counters>,
}

impl BatchSender {
    /// Gives a batch to the writer; if [`QUEUE_ROWS`] or [`QUEUE_BATCHES`] wait already, the batch
    /// is dropped and its rows counted.
    pub fn offer(&self, batch: Batch) {
        Counters::add(&self.counters.accepted, &batch);
        if self.counts().spooled > QUEUE_ROWS {
            return self.counters.drop_batch(&batch, TOO_MANY);
        }
        let (unsent, reason) = match self.queue.try_send(Message::Batch(batch)) {
            Ok(()) => return,
            Err(TrySendError::Full(message)) => (message, TOO_MANY),
            Err(TrySendError::Disconnected(message)) => (message, CLOSED),
        };
        if let Message::Batch(batch) = unsent {
            self.counters.drop_batch(&batch, reason);
        }
    }

    /// Why rows were dropped last, in the store's own words if it has any.
    pub fn last_loss(&self) -> Option<String> {
        self.counters.trouble().dropped.clone()
    }

    /// What became of all rows so far.
    pub fn counts(&self) -> RowCounts {
        self.counters.counts()
    }
}

/// The writer's threads, from outside.
pub(super) struct Writer {
    sender: BatchSender,
    /// When to give up, once the store is being closed.
    closing: watch::Sender<Option<Instant>>,
    notify: Sender<String>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the threads; also returns where their notices come out.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(connection: &Connection) -> Result<(Self, Receiver<String>), StoreError> {
        let (queue, batches) = bounded(QUEUE_BATCHES);
        let (notify, notices) = bounded(QUEUE_NOTICES);
        let (closing, closed) = watch::channel(None);
        let sender = BatchSender {
            queue,
            counters: Arc::default(),
        };
        let told = Arc::new(Told::default());
        let mut writer = Self {
            sender,
            closing,
            notify,
            threads: Vec::new(),
        };
        for _ in 0..WRITERS {
            let work = Work {
                // Of its own: connections belong to the runtime that opened them.
                connection: connection.another(),
                counters: Arc::clone(&writer.sender.counters),
                closing: closed.clone(),
                notify: writer.notify.clone(),
                told: Arc::clone(&told),
            };
            let (runtime, batches) = (runtime()?, batches.clone());
            let thread = std::thread::Builder::new()
                .name("pinger-writer".to_owned())
                .spawn(move || work.run(&runtime, &batches))
                .map_err(StoreError::file(
                    "start",
                    "the writer's thread",
                    "free some memory",
                ))?;
            writer.threads.push(thread);
        }
        Ok((writer, notices))
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

    /// Writes what is queued, until `limit` has passed, and ends the threads.
    pub(super) fn close(&mut self, limit: Duration) -> RowCounts {
        let deadline = Instant::now() + limit;
        self.closing.send_replace(Some(deadline));
        for _ in &self.threads {
            // Behind a full queue this waits for the threads, which past the deadline only
            // count. It fails only if they are gone.
            let _ = self.sender.queue.send(Message::Close);
        }
        for thread in self.threads.drain(..) {
            // One that panicked has written nothing that it did not count.
            let _ = thread.join();
        }
        // What came in behind the threads' backs while they ended has nobody to write it.
        let left = self.counts().spooled;
        if left > 0 {
            self.sender.counters.drop_rows(left, CLOSED);
        }
        self.counts()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// What the user was told already.
#[derive(Default)]
struct Told {
    /// Of an outage that goes on.
    outage: AtomicBool,
    /// Of refused rows.
    refused: AtomicBool,
}

/// One of the writer's threads, from inside.
struct Work {
    connection: Connection,
    counters: Arc<Counters>,
    closing: watch::Receiver<Option<Instant>>,
    notify: Sender<String>,
    told: Arc<Told>,
}

impl Work {
    fn run(&self, runtime: &Runtime, batches: &Receiver<Message>) {
        for message in batches {
            match message {
                Message::Batch(batch) => runtime.block_on(self.write(batch)),
                Message::Close => return,
            }
        }
    }

    /// Sees one batch to its end: written, refused, or given up at closing time.
    async fn write(&self, batch: Batch) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let insert = self
                .connection
                .try_insert("incoming", Some(&batch.token), &batch.rows);
            let result = tokio::select! {
                result = insert => result,
                () = past_deadline(self.closing.clone()) => return self.give_up(&batch),
            };
            let Err(error) = result else {
                Counters::add(&self.counters.written, &batch);
                self.counters.trouble().now = None;
                if self.told.outage.swap(false, Ordering::Relaxed) {
                    self.tell("the store takes rows again".to_owned());
                }
                return;
            };
            match Verdict::of(&error) {
                Verdict::Refused(reason) => return self.refuse(&batch, &reason),
                Verdict::Retry(reason) => {
                    // One failure alone is an idle connection that the server closed.
                    if backoff > BACKOFF_MIN {
                        self.tell_of_outage(&reason);
                    }
                    self.counters.trouble().now = Some(reason);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
                () = past_deadline(self.closing.clone()) => return self.give_up(&batch),
            }
        }
    }

    fn give_up(&self, batch: &Batch) {
        self.counters.drop_batch(batch, LATE);
    }

    fn refuse(&self, batch: &Batch, reason: &str) {
        self.counters.trouble().now = Some(reason.to_owned());
        self.counters.drop_batch(batch, reason);
        if !self.told.refused.swap(true, Ordering::Relaxed) {
            self.tell(format!(
                "ClickHouse refused {} rows (batch {}), which are lost; further ones are only \
                 counted: {reason}",
                batch.rows.len(),
                batch.token
            ));
        }
    }

    fn tell_of_outage(&self, reason: &str) {
        if !self.told.outage.swap(true, Ordering::Relaxed) {
            let url = self.connection.url();
            self.tell(format!(
                "the store does not take rows, they wait: {reason} ({url})"
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
