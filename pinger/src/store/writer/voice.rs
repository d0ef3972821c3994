//! What the writer tells the user, in words.
//!
//! In: what happens. Out: notices. Which troubles are worth one, and when, say the [`Troubles`].

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crossbeam_channel::Sender;

use super::troubles::{Change, Segment, Troubles};
use crate::spool::{GapReason, Notice};
use crate::store::disk::RunKey;

/// Remembers what was said.
pub(super) struct Voice {
    notify: Sender<String>,
    url: String,
    troubles: Troubles,
    /// Whether there was something of earlier runs to be sent.
    has_left: bool,
    /// Folders that were told to stay as they are; they are found again and again.
    strange: BTreeSet<PathBuf>,
}

impl Voice {
    /// A voice about the store at `url`; `away`: why it was not there at the start.
    pub(super) fn new(notify: Sender<String>, url: String, away: Option<String>) -> Self {
        let mut voice = Self {
            notify,
            url,
            troubles: Troubles::default(),
            has_left: false,
            strange: BTreeSet::new(),
        };
        if let Some(reason) = away {
            voice.troubles = Troubles::since_start(&reason, Instant::now());
            voice.tell(format!("{reason}; results wait until it is there"));
        }
        voice
    }

    fn tell(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }

    /// Why rows wait; `None` while the store takes them all.
    pub(super) fn trouble(&self) -> Option<String> {
        self.troubles.now().map(str::to_owned)
    }

    /// The run ends: what still goes wrong is told as what waits.
    pub(super) fn hush(&mut self) {
        self.troubles.hush();
    }

    /// An insert of that segment failed.
    pub(super) fn failed(&mut self, segment: Segment, reason: &str, now: Instant) {
        let changes = self.troubles.failed(segment, reason, now);
        self.changed(changes);
    }

    /// A segment is written.
    pub(super) fn written(&mut self, segment: Segment, now: Instant) {
        let changes = self.troubles.written(segment, now);
        self.changed(changes);
    }

    /// The server does not want this segment, so it is not waited for; the spool tells of it.
    pub(super) fn refused(&mut self, segment: Segment) {
        self.troubles.refused(segment);
    }

    fn changed(&self, changes: Vec<Change>) {
        let url = &self.url;
        for change in changes {
            self.tell(match change {
                Change::Begun(reason) => {
                    format!("the store does not take rows, they wait: {reason} ({url})")
                }
                Change::Over(reason) => {
                    format!("one trouble of the store is over, not yet all: {reason} ({url})")
                }
                Change::AllOver => "the store takes rows again".to_owned(),
            });
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

    /// The run ends while something of earlier ones waits.
    pub(super) fn still_waiting(&self, what: Waiting, data_dir: &Path) {
        self.tell(format!(
            "{} of earlier runs still {} in {}; the next `pinger run` goes on",
            what.words(),
            what.verb(),
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

    /// The run ends while something of it waits.
    pub(super) fn waiting(&self, what: Waiting, path: &Path) {
        self.tell(format!(
            "{} {} in {}; the next `pinger run` sends what is there",
            what.words(),
            what.verb(),
            path.display()
        ));
    }

    /// The run ends, and gaps that it kept in memory end with it.
    pub(super) fn forgotten(&self, what: Waiting) {
        self.tell(format!(
            "the table gaps does not tell of all that is missing: what was kept in memory is \
             lost ({})",
            what.words()
        ));
    }
}

/// What a run leaves unsent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) results: u64,
    pub(super) gaps: u64,
}

impl Waiting {
    fn words(self) -> String {
        let many = |number: u64, noun: &str| match number {
            1 => format!("1 {noun}"),
            _ => format!("{number} {noun}s"),
        };
        match (self.results, self.gaps) {
            (0, 0) => "notes of when runs begin and end".to_owned(),
            (0, gaps) => many(gaps, "gap"),
            (results, 0) => many(results, "result"),
            (results, gaps) => format!("{} and {}", many(results, "result"), many(gaps, "gap")),
        }
    }

    fn verb(self) -> &'static str {
        match self.results + self.gaps {
            1 => "waits",
            _ => "wait",
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn a_trouble_its_end_and_the_end_of_all_are_told_apart() {
        let (notify, notices) = unbounded();
        let away = Some("nobody is there".to_owned());
        let mut voice = Voice::new(notify, "http://db".to_owned(), away);
        let segment = |number| (RunKey { run: 1, source: 7 }, number);
        let now = Instant::now();
        for _ in 0..3 {
            voice.failed(segment(1), "it is slow", now);
        }
        assert_eq!(voice.trouble().as_deref(), Some("it is slow"));
        voice.written(segment(2), now);
        voice.written(segment(1), now);
        assert_eq!(voice.trouble(), None);
        let told: Vec<String> = notices.try_iter().collect();
        let expected = [
            "nobody is there; results wait until it is there",
            "the store does not take rows, they wait: it is slow (http://db)",
            "one trouble of the store is over, not yet all: nobody is there (http://db)",
            "the store takes rows again",
        ];
        assert_eq!(told, expected);
    }
}
