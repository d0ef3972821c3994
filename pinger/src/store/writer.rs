//! The writer: threads that bring chunks of rows onto the disk and from there into ClickHouse.
//!
//! In: chunks from a bounded queue. Out: files of the spool, inserts, each under its segment's
//! token and repeated until the server has it; counts; notices. It never blocks those who offer
//! chunks: when the queue is full a chunk is dropped, counted, and told as a gap.
//!
//! One thread writes chunks down (`filling`), one owns the rest of the spool (`spooler`), two send
//! (`sending`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use tokio::sync::watch;

use super::StoreError;
use super::clickhouse::Connection;
use super::disk::RunKey;
use super::session::runtime;
use super::tables::RunRow;
use super::timeouts::Timeouts;
use crate::config::SpoolOptions;
use crate::native::Block;
use crate::rows::RowChunk;
use crate::spool::{GapReason, Loss, Table, Totals};
use crate::stats::{Counts, RowCounts};
use crate::wire::tally::Tally;
use filling::Filling;
use line::Line;
use sending::Sending;
use spooler::Spooler;
use voice::Voice;

pub(super) mod doubt;
mod filling;
mod line;
mod sending;
mod spooler;
mod troubles;
mod voice;

/// Rows that wait at most to get onto the disk, 200 megabytes: what 50,000 a second come to in
/// 40 seconds of a disk that stands still.
pub const QUEUE_ROWS: u64 = 2_000_000;

/// Chunks that wait at most. At low rates they are small, so their number is limited too: this
/// many take more than a minute and a half to come.
pub const QUEUE_CHUNKS: usize = 4096;

/// Segments on their way at a time: while the server sorts and stores one, the next one is sent.
/// More would only take the server's cores from each other.
const SENDERS: usize = 2;

/// Notices that wait to be shown at most; there are one or two an outage.
const QUEUE_NOTICES: usize = 64;

/// How often it is looked for what others left: a pinger that shares the data directory may have
/// been killed.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// Why rows are dropped when the store said nothing.
const TOO_MANY: &str = "more results came than could be written down";
const LATE: &str = "there was no time left to write them";
const CLOSED: &str = "the store was closed already";

/// What goes through the queue.
enum Message {
    Chunk(RowChunk),
    /// Nothing follows.
    Close(Closing),
}

/// How the writer is to end.
struct Closing {
    deadline: Instant,
    /// The run's row and its final counts; none of a run that never began.
    end: Option<Box<(RunRow, Counts)>>,
}

/// What became of the rows; what is left of `accepted` waits.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    /// Rows in the queue.
    queued: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    /// What did not fit into the queue, until the spool is told.
    missed: Mutex<Option<Loss>>,
    trouble: Mutex<Trouble>,
}

/// Why rows wait or were lost.
#[derive(Debug, Default)]
struct Trouble {
    /// What the store says at the moment; `None` while it takes all rows.
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

    fn drop_rows(&self, rows: u64, reason: &str) {
        self.dropped.fetch_add(rows, Ordering::AcqRel);
        self.trouble().dropped = Some(reason.to_owned());
    }

    /// Drops a chunk that finds no room, for the spool to tell.
    fn miss(&self, chunk: &RowChunk) {
        let size = Totals {
            rows: chunk.rows.len() as u64,
            probes: chunk.probes,
        };
        {
            let mut missed = held(&self.missed);
            let loss = missed.get_or_insert_with(|| Loss {
                size: None,
                from_ns: chunk.from_ns,
                until_ns: chunk.until_ns,
                reason: GapReason::QueueFull,
                detail: TOO_MANY.to_owned(),
            });
            loss.size = Some(loss.size.unwrap_or_default().plus(size));
            loss.until_ns = chunk.until_ns;
        }
        self.drop_rows(size.rows, TOO_MANY);
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        held(&self.trouble)
    }
}

/// Never held for longer than a move, and a thread that panicked left it whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way into the store: never blocks, may be cloned.
#[derive(Clone)]
pub struct ChunkSender {
    queue: Sender<Message>,
    counters: Arc<Counters>,
}

impl ChunkSender {
    /// Gives a chunk to the writer; if [`QUEUE_ROWS`] or [`QUEUE_CHUNKS`] wait already, it is
    /// dropped and counted.
    pub fn offer(&self, chunk: RowChunk) {
        let rows = chunk.rows.len() as u64;
        self.counters.accepted.fetch_add(rows, Ordering::AcqRel);
        if self.counters.queued.fetch_add(rows, Ordering::AcqRel) + rows > QUEUE_ROWS {
            self.counters.queued.fetch_sub(rows, Ordering::AcqRel);
            return self.counters.miss(&chunk);
        }
        let unsent = match self.queue.try_send(Message::Chunk(chunk)) {
            Ok(()) => return,
            Err(unsent) => unsent,
        };
        self.counters.queued.fetch_sub(rows, Ordering::AcqRel);
        match unsent {
            TrySendError::Full(Message::Chunk(chunk)) => self.counters.miss(&chunk),
            // Nobody is left to tell the spool.
            TrySendError::Disconnected(_) | TrySendError::Full(Message::Close(_)) => {
                self.counters.drop_rows(rows, CLOSED);
            }
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

/// What the writer needs to begin.
pub(super) struct Setup<'a> {
    /// Where rows wait.
    pub options: SpoolOptions,
    /// The data directory with the spool.
    pub data_dir: &'a Path,
    /// Which store this is, for those who find rows that wait for it.
    pub store: String,
    /// The run.
    pub key: RunKey,
    /// Rows of the small tables, which go first.
    pub registration: Vec<(Table, Block)>,
    /// Why the store was not there at the start; if it was, its schema is the right one.
    pub away: Option<String>,
    /// Whether the engine is our own.
    pub is_embedded: bool,
    /// How often it is looked for what others left.
    pub look: Duration,
    /// How long a silent server is waited for.
    pub timeouts: Timeouts,
}

/// The writer's threads, from outside.
pub(super) struct Writer {
    sender: ChunkSender,
    /// When to give up, once the store is being closed.
    closing: Arc<watch::Sender<Option<Instant>>>,
    notify: Sender<String>,
    tally: Option<Arc<Tally>>,
    spooler: Option<JoinHandle<()>>,
    senders: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Makes the spool and starts the threads; also returns where their notices come out.
    ///
    /// # Errors
    /// When the disk refuses, or the system has no thread to give.
    pub(super) fn start(
        connection: &Connection,
        mut setup: Setup<'_>,
    ) -> Result<(Self, Receiver<String>), StoreError> {
        let (queue, rows) = bounded(QUEUE_CHUNKS);
        let (notify, notices) = bounded(QUEUE_NOTICES);
        let (closing, closed) = watch::channel(None);
        // As many as the spooler gives out, which it counts.
        let (jobs, tasks) = unbounded();
        let (ended, ends) = unbounded();
        let mut writer = Self {
            sender: ChunkSender {
                queue,
                counters: Arc::default(),
            },
            closing: Arc::new(closing),
            notify,
            tally: None,
            spooler: None,
            senders: Vec::new(),
        };
        // Each is about how things stand, so the last one is enough.
        let (allow, allowances) = bounded(1);
        let (tell, news) = bounded(1);
        let is_checked = Arc::new(setup.away.is_none().into());
        let (own, filler) = Line::create(&mut setup, spooler::now())?;
        let filling = Filling {
            filler,
            rows,
            allowances,
            news: tell,
            counters: Arc::clone(&writer.sender.counters),
            state: filling::State::default(),
        };
        let spooler = Spooler {
            copy: own.tally_copy(),
            own,
            left: Vec::new(),
            options: setup.options,
            data_dir: setup.data_dir.to_owned(),
            store: setup.store,
            look: setup.look,
            close_max: setup.timeouts.close,
            filling: Some(spawn("pinger-filling", move || filling.run())?),
            news,
            allow: Some(allow),
            jobs,
            ends,
            counters: Arc::clone(&writer.sender.counters),
            closing: Arc::clone(&writer.closing),
            voice: Voice::new(
                writer.notify.clone(),
                connection.url().to_owned(),
                setup.away,
            ),
            state: spooler::State::default(),
        };
        writer.tally.clone_from(&spooler.own.tally);
        for _ in 0..SENDERS {
            let sending = Sending {
                // Of its own: connections belong to the runtime that opened them.
                connection: connection.another(),
                closing: closed.clone(),
                timeouts: setup.timeouts,
                is_checked: Arc::clone(&is_checked),
                forgets: !setup.is_embedded,
            };
            let (runtime, tasks, ended) = (runtime()?, tasks.clone(), ended.clone());
            let thread = spawn("pinger-sending", move || {
                sending.run(&runtime, &tasks, &ended);
            })?;
            writer.senders.push(thread);
        }
        let thread = spawn("pinger-spool", move || spooler.run())?;
        writer.spooler = Some(thread);
        Ok((writer, notices))
    }

    pub(super) fn sender(&self) -> ChunkSender {
        self.sender.clone()
    }

    pub(super) fn counts(&self) -> RowCounts {
        self.sender.counts()
    }

    pub(super) fn tally(&self) -> Option<Arc<Tally>> {
        self.tally.clone()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.sender.counters.trouble().now.clone()
    }

    /// Where others put what the user should know.
    pub(super) fn notices_in(&self) -> Sender<String> {
        self.notify.clone()
    }

    /// Writes down what is queued, sends what waits until `limit` has passed, and ends the
    /// threads. `end` makes the run's last row.
    pub(super) fn close(&mut self, end: Option<(RunRow, Counts)>, limit: Duration) -> RowCounts {
        if let Some(spooler) = self.spooler.take() {
            let deadline = Instant::now() + limit;
            self.closing.send_replace(Some(deadline));
            // Behind a full queue this waits for the filling thread. It fails only if that is gone.
            let _ = self.sender.queue.send(Message::Close(Closing {
                deadline,
                end: end.map(Box::new),
            }));
            // One that panicked has written nothing that it did not count.
            let _ = spooler.join();
        }
        for thread in self.senders.drain(..) {
            let _ = thread.join();
        }
        self.counts()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close(None, Duration::ZERO);
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(StoreError::file(
            "start",
            "the writer's thread",
            "free some memory",
        ))
}

#[cfg(test)]
mod tests;
