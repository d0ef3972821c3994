//! The loop that shows a run while it lasts, and ends it when the user asks for that.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::signals::Watch;
use super::threads::{Left, Threads};
use super::{Ended, RunError, STORE_CLOSE_MAX};
use crate::config::{RunOptions, StoreChoice};
use crate::destination::Destination;
use crate::mistake::counted;
use crate::route::{HopState, HopView};
use crate::stats::{Counts, RowCounts};
use crate::store::{self, Store};
use crate::view::{self, Action, Level, RunHeader, SnapshotDetail, Summary, View, picture};

/// Names the command that starts pinger, for hints; `pinger` without it.
const COMMAND_ENV: &str = "PINGER_COMMAND";

/// The longest sleep between two looks at signals and notices.
const LOOK: Duration = Duration::from_millis(100);

/// The longest that writing the last rows may take without a word.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Tells the user something before the view is there.
pub(super) fn say(level: Level, text: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "pinger: {}{text}", level.prefix());
}

/// What to say of a next hop that has not answered before probing begins.
pub(super) fn silent_hop(hop: &HopView, interface: &str) -> String {
    let state = match hop.state {
        HopState::Unreachable => "does not answer",
        HopState::Pending | HopState::Ready(_) => "has not answered yet",
    };
    format!(
        "{} on {interface} {state}: probes of {} through it count as errors until it does",
        hop.key.next_hop,
        counted(hop.flows.into(), "destination")
    )
}

/// What to say of connections that were not closed.
fn half_open(count: u64) -> String {
    format!(
        "{} could not be reset and will be half open until the listeners give up: probe more \
         slowly, or look at the sender's lateness",
        counted(count.into(), "connection")
    )
}

/// What to say while the last rows are being written.
fn still_writing(rows: u64, asked: bool) -> String {
    let rows = counted(rows.into(), "row");
    let again = if asked { "again" } else { "twice" };
    format!("writing {rows} to ClickHouse; Ctrl-C {again} gives up")
}

/// What is shown, and what for.
pub(super) struct Show {
    view: Box<dyn View>,
    header: RunHeader,
    picture: Option<PathBuf>,
    stored: bool,
    /// The first failure to write; after it nothing more is written.
    failed: Option<io::Error>,
    /// How often the view reported that the user wants to end.
    quits: u32,
}

impl Show {
    /// The view that the options ask for.
    pub(super) fn open(
        options: &RunOptions,
        header: RunHeader,
        destinations: &Arc<[Destination]>,
    ) -> Self {
        Self {
            view: view::open(options.format, destinations),
            header,
            picture: options.picture.clone(),
            stored: options.store.choice != StoreChoice::None,
            failed: None,
            quits: 0,
        }
    }

    /// Whether the view wants each result.
    pub(super) fn wants_results(&self) -> bool {
        self.view.wants() == SnapshotDetail::Results
    }

    /// Shows the run until it has ended, then how.
    pub(super) fn run(
        mut self,
        mut threads: Threads,
        store: Option<Store>,
        watch: &Watch,
    ) -> Result<Ended, RunError> {
        watch.probing();
        let started = self.view.start(&self.header);
        self.attempt(started);
        for line in &threads.report.refused {
            self.view.notice(Level::Warning, line);
        }
        let interrupted = self.watch(&threads, store.as_ref(), watch);
        if let Some(log) = &mut threads.kernel_log {
            log.finish();
        }
        self.pass_on(&threads, store.as_ref());
        let mut left = threads.join();
        let asked = watch.count() + self.quits > 0;
        watch.end_at_next(asked);
        if left.resets_missed > 0 {
            let text = half_open(left.resets_missed);
            self.view.notice(Level::Warning, &text);
        }
        if let Some(store) = store {
            let limit = if interrupted {
                Duration::ZERO
            } else {
                STORE_CLOSE_MAX
            };
            // What may take long is waited for on the user's own screen, where Ctrl-C is a signal.
            self.view.leave();
            left.snapshot.rows = self.close(store, &left, limit, asked);
        }
        let Counts {
            sent, reply, late, ..
        } = left.snapshot.totals;
        self.finish(left)?;
        Ok(if interrupted {
            Ended::Interrupted
        } else if sent > 0 && reply + late == 0 {
            Ended::Unanswered
        } else {
            Ended::Well
        })
    }

    /// Shows the run while it lasts. Returns whether it was told to end at once.
    fn watch(&mut self, threads: &Threads, store: Option<&Store>, watch: &Watch) -> bool {
        let mut due = Instant::now();
        loop {
            let asked = watch.count() + self.quits + u32::from(self.failed.is_some());
            if asked >= 1 {
                threads.stop();
            }
            if asked >= 2 {
                threads.abort();
            }
            if threads.finished() {
                return asked >= 2;
            }
            self.pass_on(threads, store);
            if Instant::now() >= due {
                due = Instant::now() + self.view.period();
                self.update(threads);
            }
            let wait = due.saturating_duration_since(Instant::now()).min(LOOK);
            let polled = self.view.poll(wait);
            match self.attempt(polled) {
                Some(Action::Quit) => self.quits += 1,
                Some(Action::None) | None => {}
            }
        }
    }

    fn update(&mut self, threads: &Threads) {
        let destinations = self.view.wants() == SnapshotDetail::Destinations;
        if self.failed.is_none()
            && let Some(snapshot) = threads.snapshot(destinations)
        {
            let updated = self.view.update(Arc::new(snapshot));
            self.attempt(updated);
        }
    }

    /// Passes on what others have to say.
    fn pass_on(&mut self, threads: &Threads, store: Option<&Store>) {
        if let Some(results) = &threads.results {
            for result in results.try_iter() {
                let shown = self.view.result(&result);
                self.attempt(shown);
            }
        }
        for notice in threads.kept.notices.try_iter() {
            self.view.notice(Level::Warning, &notice.to_string());
        }
        for notice in store
            .into_iter()
            .flat_map(|store| store.notices().try_iter())
        {
            self.view.notice(Level::Warning, &notice);
        }
        for line in threads
            .kernel_log
            .iter()
            .flat_map(|log| log.lines.try_iter())
        {
            self.view.notice(Level::Info, &line);
        }
    }

    /// Keeps the first failure; once there is one, the view is not asked again.
    fn attempt<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    /// Writes the last rows, and says so if it takes long.
    fn close(&mut self, store: Store, left: &Left, limit: Duration, asked: bool) -> RowCounts {
        let notices = store.notices().clone();
        let text = still_writing(left.snapshot.rows.spooled, asked);
        let rows = thread::scope(|scope| {
            let (_closed, closing) = bounded::<()>(0);
            scope.spawn(move || {
                if closing.recv_timeout(SILENCE_MAX) == Err(RecvTimeoutError::Timeout) {
                    say(Level::Info, &text);
                }
            });
            store.close(&left.snapshot.totals, limit)
        });
        for notice in notices.try_iter() {
            self.view.notice(Level::Warning, &notice);
        }
        rows
    }

    fn finish(mut self, left: Left) -> Result<(), RunError> {
        let snapshot = Arc::new(left.snapshot);
        if let Some(path) = &self.picture {
            let svg = picture::of_run(&self.header, Arc::clone(&snapshot));
            std::fs::write(path, svg).map_err(RunError::View)?;
        }
        let command = std::env::var(COMMAND_ENV).unwrap_or_else(|_| "pinger".into());
        let summary = Summary {
            snapshot,
            sending: left.sending,
            command: format!("{command} sql"),
            suggestions: if self.stored {
                store::suggestions().to_vec()
            } else {
                Vec::new()
            },
        };
        if self.failed.is_none() {
            let finished = self.view.finish(&summary);
            self.attempt(finished);
        }
        match self.failed {
            // Whoever read the output has seen enough: that is no failure.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::View(error)),
            _ => Ok(()),
        }
    }
}
