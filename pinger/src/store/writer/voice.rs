//! What the writer tells the user: each trouble once, and once its end.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::spool::{GapReason, Notice};
use crate::store::disk::RunKey;

/// Failures in a row before the user is told: one alone is an idle connection that the server
/// closed.
const FAILURES_TOLD: u32 = 2;

/// An outage that follows another one within this is not told: a store that stumbles now and then
/// says so once.
const OUTAGES_APART: Duration = Duration::from_secs(60);

/// Remembers what was said.
pub(super) struct Voice {
    notify: Sender<String>,
    url: String,
    /// Inserts that failed since the last one that did not.
    failures: u32,
    /// Of an outage that goes on.
    is_told: bool,
    told: Option<Instant>,
    /// Whether there was something of earlier runs to be sent.
    has_left: bool,
    /// Reasons for losses that were told.
    losses: Vec<GapReason>,
}

impl Voice {
    /// A voice about the store at `url`; `is_told`: that it is away was said already.
    pub(super) fn new(notify: Sender<String>, url: String, is_told: bool) -> Self {
        Self {
            notify,
            url,
            failures: 0,
            is_told,
            told: None,
            has_left: false,
            losses: Vec::new(),
        }
    }

    fn tell(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }

    /// An insert failed.
    pub(super) fn failed(&mut self, reason: &str) {
        self.failures += 1;
        let is_soon = self.told.is_some_and(|told| told.elapsed() < OUTAGES_APART);
        if self.failures >= FAILURES_TOLD && !self.is_told && !is_soon {
            self.is_told = true;
            self.told = Some(Instant::now());
            let url = &self.url;
            self.tell(format!(
                "the store does not take rows, they wait: {reason} ({url})"
            ));
        }
    }

    /// An insert succeeded.
    pub(super) fn written(&mut self) {
        self.failures = 0;
        if std::mem::take(&mut self.is_told) {
            self.tell("the store takes rows again".to_owned());
        }
    }

    /// What a spool has to say; why rows were dropped, if they were.
    pub(super) fn of_spool(&mut self, notice: Notice, key: RunKey) -> Option<String> {
        match notice {
            Notice::Disk(words) => {
                self.tell(format!(
                    "results cannot be written down and wait in memory: {words}"
                ));
                None
            }
            Notice::DiskAgain => {
                self.tell("results are written down again".to_owned());
                None
            }
            Notice::Lost(reason, words) => {
                if !self.losses.contains(&reason) {
                    self.losses.push(reason);
                    let RunKey { run, source } = key;
                    self.tell(format!(
                        "results are lost (run {run} of source {source}); the table gaps tells \
                         which, further ones are only counted: {words}"
                    ));
                }
                Some(words)
            }
        }
    }

    /// Earlier runs left these.
    pub(super) fn adopted(&mut self, rows: u64, runs: usize, data_dir: &Path) {
        if rows > 0 {
            self.has_left = true;
            self.tell(format!(
                "{rows} results of earlier runs ({runs}) wait in {} and are sent now",
                data_dir.display()
            ));
        }
    }

    /// An earlier run did not end as it should.
    pub(super) fn killed(&self, key: RunKey) {
        let RunKey { run, source } = key;
        self.tell(format!(
            "run {run} of source {source} ended without warning; the table gaps tells how many of \
             its results are missing"
        ));
    }

    /// The run ends while rows of earlier ones wait.
    pub(super) fn still_waiting(&self, rows: u64, data_dir: &Path) {
        self.tell(format!(
            "{rows} results of earlier runs still wait in {}; the next `pinger run` goes on",
            data_dir.display()
        ));
    }

    /// All that earlier runs left is written.
    pub(super) fn left_is_written(&mut self) {
        if std::mem::take(&mut self.has_left) {
            self.tell("the results of earlier runs are written".to_owned());
        }
    }

    /// A folder is for another store.
    pub(super) fn foreign(&self, path: &Path, store: &str) {
        self.tell(format!(
            "{} holds results for another store ({store}); they stay until a run that writes \
             there sends them",
            path.display()
        ));
    }

    /// A folder cannot be taken over.
    pub(super) fn cannot_adopt(&self, path: &Path, words: &str) {
        self.tell(format!(
            "results of an earlier run wait in {}, which cannot be read: {words}; the next run \
             tries again",
            path.display()
        ));
    }

    /// The folder of all folders cannot be listed.
    pub(super) fn cannot_list(&self, data_dir: &Path, error: &impl Display) {
        self.tell(format!(
            "cannot look for results of earlier runs in {}: {error}; the next run tries again",
            data_dir.display()
        ));
    }

    /// The run ends while rows wait.
    pub(super) fn waiting(&self, rows: u64, path: &Path) {
        self.tell(format!(
            "{rows} results wait in {}; the next `pinger run` sends them",
            path.display()
        ));
    }
}
