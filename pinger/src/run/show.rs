//! The loop that shows a run while it lasts, and ends it when the user asks for that.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::signals::Watch;
use super::threads::{Left, Threads};
use super::{Ended, RunError, STORE_CLOSE_MAX};
use crate::config::value::DATA_DIR_DEFAULT;
use crate::config::{RunOptions, StoreChoice, StoreOptions};
use crate::destination::Destination;
use crate::mistake::counted;
use crate::route::{HopState, HopView};
use crate::shell;
use crate::stats::{Counts, RowCounts};
use crate::store::{self, Store};
use crate::view::{self, Action, Level, RunHeader, SnapshotDetail, Summary, View, picture};

/// Names the command that starts pinger, for hints; `pinger` without it.
const COMMAND_ENV: &str = "PINGER_COMMAND";

/// Where the embedded store is, unless the command line says; the shell that a query is pasted
/// into has it too.
const DATA_DIR_ENV: &str = "PINGER_DATA_DIR";

/// The longest sleep between two looks at signals and notices.
const LOOK: Duration = Duration::from_millis(100);

/// Updates may take one part in this many of the time: a snapshot of very many destinations keeps
/// the gatherer from its work, and what arrives meanwhile waits in the ring buffer.
const UPDATE_SHARE: u32 = 5;

/// A screen that stands still for longer than this looks dead.
const PERIOD_MAX: Duration = Duration::from_secs(2);
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

/// The time between updates of which one took `taken`: at most one part in [`UPDATE_SHARE`] goes
/// into them, unless that is rarer than once in [`PERIOD_MAX`].
fn stretched(period: Duration, taken: Duration) -> Duration {
    period.max((taken * UPDATE_SHARE).min(PERIOD_MAX))
}

/// The next turn of a period, in step with the one that was `due`, and behind `now`.
fn next_turn(due: Instant, period: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due);
    let turns = late.as_nanos() / period.as_nanos().max(1) + 1;
    due + period * u32::try_from(turns).unwrap_or(u32::MAX)
}

/// What `pinger sql` must be told to ask the store of this run, each word behind a blank.
fn store_arguments(store: &StoreOptions) -> String {
    let data_dir = std::env::var_os(DATA_DIR_ENV);
    let data_dir = data_dir
        .as_deref()
        .map_or(DATA_DIR_DEFAULT.as_ref(), Path::new);
    let mut words: Vec<(&str, Cow<'_, str>)> = Vec::new();
    match &store.choice {
        StoreChoice::Embedded if store.data_dir != data_dir => {
            words.push(("--data-dir", store.data_dir.to_string_lossy()));
        }
        StoreChoice::Embedded | StoreChoice::None => {}
        StoreChoice::Url(url) => {
            words.push(("--store", url.into()));
            if let Some(path) = &store.password_file {
                words.push(("--store-password-file", path.to_string_lossy()));
            }
        }
    }
    words
        .into_iter()
        .map(|(name, value)| format!(" {name} {}", shell::word(&value)))
        .collect()
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
    /// What makes `pinger sql` ask the same store.
    store_arguments: String,
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
            store_arguments: store_arguments(&options.store),
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
        let mut rows_lost = None;
        if let Some(store) = store {
            let limit = if interrupted {
                Duration::ZERO
            } else {
                STORE_CLOSE_MAX
            };
            let sender = store.sender();
            // What may take long is waited for on the user's own screen, where Ctrl-C is a signal.
            self.view.leave();
            left.snapshot.rows = self.close(store, &left, limit, asked);
            rows_lost = sender.last_loss();
        }
        let dropped = left.snapshot.rows.dropped > 0;
        let Counts {
            sent, reply, late, ..
        } = left.snapshot.totals;
        self.finish(left, rows_lost)?;
        Ok(if interrupted {
            Ended::Interrupted
        } else if dropped {
            Ended::RowsLost
        } else if sent > 0 && reply + late == 0 {
            Ended::Unanswered
        } else {
            Ended::Well
        })
    }

    /// Shows the run while it lasts. Returns whether it was told to end at once.
    fn watch(&mut self, threads: &Threads, store: Option<&Store>, watch: &Watch) -> bool {
        // In step with the start, so that lines a second apart are of different seconds.
        let mut due = threads.begins();
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
                let begun = Instant::now();
                self.update(threads);
                let ended = Instant::now();
                let period = stretched(self.view.period(), ended - begun);
                due = next_turn(due, period, ended);
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

    fn finish(mut self, left: Left, rows_lost: Option<String>) -> Result<(), RunError> {
        let snapshot = Arc::new(left.snapshot);
        if let Some(path) = &self.picture {
            let svg = picture::of_run(&self.header, Arc::clone(&snapshot));
            std::fs::write(path, svg).map_err(RunError::View)?;
        }
        let command = std::env::var(COMMAND_ENV).unwrap_or_else(|_| "pinger".into());
        let summary = Summary {
            snapshot,
            rows_lost,
            sending: left.sending,
            command: format!("{command} sql{}", self.store_arguments),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpoolOptions;

    #[test]
    fn updates_stay_in_step_whatever_they_take() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        for (due_ms, ended_ms, next_ms) in [
            (0, 0, 1000),
            (1000, 1003, 2000),
            (1000, 1999, 2000),
            // Turns that are over are left out, not caught up with.
            (1000, 2000, 3000),
            (1000, 5500, 6000),
            // Shown before its time.
            (1000, 900, 2000),
        ] {
            let next = next_turn(start + ms(due_ms), ms(1000), start + ms(ended_ms));
            assert_eq!(next - start, ms(next_ms), "due {due_ms}, ended {ended_ms}");
        }
    }

    #[test]
    fn queries_ask_the_store_of_the_run() {
        let of = |choice, password_file: Option<&str>, data_dir: &str| {
            store_arguments(&StoreOptions {
                choice,
                port: Some(1),
                password_file: password_file.map(Into::into),
                data_dir: data_dir.into(),
                spool: SpoolOptions::default(),
            })
        };
        let url = || StoreChoice::Url("http://me@db:8123/net".into());
        for (arguments, expected) in [
            (of(StoreChoice::Embedded, None, "/d/e"), " --data-dir /d/e"),
            (
                of(StoreChoice::Embedded, None, "/d e"),
                " --data-dir \"/d e\"",
            ),
            (of(StoreChoice::None, None, "/d"), ""),
            (of(url(), None, "/d"), " --store http://me@db:8123/net"),
            (
                of(url(), Some("/p"), "/d"),
                " --store http://me@db:8123/net --store-password-file /p",
            ),
        ] {
            assert_eq!(arguments, expected);
        }
    }

    #[test]
    fn long_updates_are_made_less_often() {
        let ms = Duration::from_millis;
        for (period_ms, taken_ms, expected_ms) in [
            (250, 10, 250),
            (250, 100, 500),
            (250, 900, 2000),
            (5000, 900, 5000),
        ] {
            assert_eq!(stretched(ms(period_ms), ms(taken_ms)), ms(expected_ms));
        }
    }
}
