//! What the writer tells the user: each trouble once, and once its end.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
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

/// What is said of a store that was away at the start.
const AWAY: &str = "the server cannot be reached";

/// Remembers what was said.
pub(super) struct Voice {
    notify: Sender<String>,
    url: String,
    /// Inserts that failed since the last one that did not.
    failures: u32,
    /// Kinds of trouble that were told, of an outage that goes on.
    told: Vec<String>,
    told_at: Option<Instant>,
    /// Whether there was something of earlier runs to be sent.
    has_left: bool,
    /// Folders that were told to stay as they are; they are found again and again.
    strange: BTreeSet<PathBuf>,
}

impl Voice {
    /// A voice about the store at `url`; `is_away`: that it is away was said already.
    pub(super) fn new(notify: Sender<String>, url: String, is_away: bool) -> Self {
        Self {
            notify,
            url,
            failures: 0,
            told: is_away.then(|| AWAY.to_owned()).into_iter().collect(),
            told_at: None,
            has_left: false,
            strange: BTreeSet::new(),
        }
    }

    fn tell(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }

    /// An insert failed.
    pub(super) fn failed(&mut self, reason: &str) {
        self.failures += 1;
        let kind = kind(reason);
        let is_known = self.told.iter().any(|told| told == kind);
        let is_soon = self
            .told_at
            .is_some_and(|told| told.elapsed() < OUTAGES_APART);
        if self.failures < FAILURES_TOLD || is_known || is_soon && self.told.is_empty() {
            return;
        }
        self.told.push(kind.to_owned());
        self.told_at = Some(Instant::now());
        let url = &self.url;
        self.tell(format!(
            "the store does not take rows, they wait: {reason} ({url})"
        ));
    }

    /// An insert succeeded.
    pub(super) fn written(&mut self) {
        self.failures = 0;
        if !std::mem::take(&mut self.told).is_empty() {
            self.tell("the store takes rows again".to_owned());
        }
    }

    /// What a spool has to say; why rows were dropped, if they were.
    pub(super) fn of_spool(&self, notice: Notice, key: RunKey, path: &Path) -> Option<String> {
        match notice {
            Notice::Disk(words) => {
                self.tell(format!(
                    "the spool's disk fails, what it does not take waits in memory: {words}"
                ));
                None
            }
            Notice::DiskAgain => {
                self.tell("the spool's disk works again".to_owned());
                None
            }
            Notice::Lost(reason, words) => {
                let RunKey { run, source } = key;
                let kept = match reason {
                    GapReason::Refused => format!(
                        "; they are kept in {}/refused, and `pinger spool retry` sends them again",
                        path.display()
                    ),
                    _ => String::new(),
                };
                self.tell(format!(
                    "results of run {run} of source {source} are missing in the store, the table \
                     gaps tells which: {words}{kept}"
                ));
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

    /// Says something of a folder, unless something was said of it before.
    fn tell_of(&mut self, path: &Path, notice: String) {
        if self.strange.insert(path.to_owned()) {
            self.tell(notice);
        }
    }

    /// A folder is for another store.
    pub(super) fn foreign(&mut self, path: &Path, store: &str) {
        let notice = format!(
            "{} holds results for another store ({store}); they stay until a run that writes \
             there sends them",
            path.display()
        );
        self.tell_of(path, notice);
    }

    /// A folder cannot be taken over.
    pub(super) fn cannot_adopt(&mut self, path: &Path, words: &str) {
        let notice = format!(
            "results of an earlier run wait in {}, which cannot be read: {words}; it is tried \
             again each minute",
            path.display()
        );
        self.tell_of(path, notice);
    }

    /// The folder of all folders cannot be listed.
    pub(super) fn cannot_list(&mut self, data_dir: &Path, error: &impl Display) {
        let notice = format!(
            "cannot look for results of earlier runs in {}: {error}; it is tried again each minute",
            data_dir.display()
        );
        self.tell_of(data_dir, notice);
    }

    /// The run ends while rows wait.
    pub(super) fn waiting(&self, rows: u64, path: &Path) {
        self.tell(format!(
            "{rows} results wait in {}; the next `pinger run` sends them",
            path.display()
        ));
    }
}

/// What is the same in all that is said of one kind of trouble: what stands before the details.
fn kind(reason: &str) -> &str {
    reason.split([':', ';']).next().unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn each_kind_of_trouble_is_told_once_an_outage() {
        let (notify, notices) = unbounded();
        let mut voice = Voice::new(notify, "http://db".to_owned(), true);
        let gone = "the server cannot be reached: connection refused";
        let password = "set PINGER_STORE_PASSWORD; ClickHouse says: p";
        for reason in [gone, gone, password, gone, password] {
            voice.failed(reason);
        }
        let told: Vec<String> = notices.try_iter().collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(password), "{told:?}");
        voice.written();
        assert_eq!(
            notices.try_iter().collect::<Vec<_>>(),
            ["the store takes rows again"]
        );
        // One alone is not told, nor another outage within the minute.
        voice.failed(gone);
        voice.failed(gone);
        voice.written();
        assert_eq!(notices.try_iter().count(), 0);
    }
}
