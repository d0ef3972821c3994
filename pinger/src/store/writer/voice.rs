//! What the writer tells the user: each trouble once, and once its end.

use std::collections::{BTreeMap, BTreeSet};
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

/// A segment that has not failed for so long is forgotten: it is tried each few seconds, and a try
/// ends within minutes, so it is none of the spool's any more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Kinds of trouble that are remembered at most. More of them at a time are told one a minute.
const KINDS_MAX: usize = 8;

/// What is said of a store that was away at the start.
const AWAY: &str = "the server cannot be reached";

/// A segment, and whose.
pub(super) type Segment = (RunKey, u64);

/// A segment whose last insert failed.
struct Failing {
    /// How often in a row.
    failures: u32,
    at: Instant,
}

/// A kind of trouble that was told.
struct Told {
    kind: String,
    /// The segment that had it, until it is written; none of a store that was away at the start.
    by: Option<Segment>,
    at: Instant,
}

/// Remembers what was said.
pub(super) struct Voice {
    notify: Sender<String>,
    url: String,
    /// Inserts that failed since the last one that did not.
    in_a_row: u32,
    /// What must be written before the trouble is over. Each segment has its own: one table or one
    /// segment may fail for ever while the others flow.
    failing: BTreeMap<Segment, Failing>,
    /// What was told of a trouble that goes on, [`KINDS_MAX`] at most.
    told: Vec<Told>,
    told_at: Option<Instant>,
    /// Whether there was something of earlier runs to be sent.
    has_left: bool,
    /// Folders that were told to stay as they are; they are found again and again.
    strange: BTreeSet<PathBuf>,
}

impl Voice {
    /// A voice about the store at `url`; `is_away`: that it is away was said already.
    pub(super) fn new(notify: Sender<String>, url: String, is_away: bool) -> Self {
        let away = Told {
            kind: kind(AWAY),
            by: None,
            at: Instant::now(),
        };
        Self {
            notify,
            url,
            in_a_row: 0,
            failing: BTreeMap::new(),
            told: is_away.then_some(away).into_iter().collect(),
            told_at: None,
            has_left: false,
            strange: BTreeSet::new(),
        }
    }

    fn tell(&self, notice: String) {
        // If nobody reads, nobody wants to know.
        let _ = self.notify.try_send(notice);
    }

    /// An insert of that segment failed.
    pub(super) fn failed(&mut self, segment: Segment, reason: &str, now: Instant) {
        self.in_a_row += 1;
        let failing = self.failing.entry(segment);
        let failing = failing.or_insert(Failing {
            failures: 0,
            at: now,
        });
        failing.failures += 1;
        failing.at = now;
        let is_one_alone = failing.failures.max(self.in_a_row) < FAILURES_TOLD;
        let kind = kind(reason);
        let is_known = self
            .told
            .iter()
            .any(|told| told.kind == kind && self.goes_on(told, now));
        if is_one_alone || is_known {
            return;
        }
        let is_soon = self.told_at.is_some_and(|told| now - told < OUTAGES_APART);
        if is_soon && (self.told.is_empty() || self.told.len() >= KINDS_MAX) {
            return;
        }
        self.told.retain(|told| told.kind != kind);
        if self.told.len() >= KINDS_MAX {
            self.told.remove(0);
        }
        self.told.push(Told {
            kind,
            by: Some(segment),
            at: now,
        });
        self.told_at = Some(now);
        let url = &self.url;
        self.tell(format!(
            "the store does not take rows, they wait: {reason} ({url})"
        ));
    }

    /// Whether what was told need not be told again. When the segment that had the trouble is
    /// written and others still have it a minute later, it is another one: of their table, say.
    fn goes_on(&self, told: &Told, now: Instant) -> bool {
        told.by
            .is_some_and(|segment| self.failing.contains_key(&segment))
            || now.saturating_duration_since(told.at) < OUTAGES_APART
    }

    /// A segment is written. The trouble is over when no other one still has it.
    pub(super) fn written(&mut self, segment: Segment, now: Instant) {
        self.in_a_row = 0;
        self.failing.remove(&segment);
        self.failing
            .retain(|_, failing| now.saturating_duration_since(failing.at) < FORGOTTEN);
        for told in &mut self.told {
            told.by.take_if(|by| *by == segment);
        }
        if self.failing.is_empty() && !std::mem::take(&mut self.told).is_empty() {
            self.tell("the store takes rows again".to_owned());
        }
    }

    /// The server does not want this segment, so it is not waited for; the spool tells of it.
    pub(super) fn refused(&mut self, segment: Segment) {
        self.failing.remove(&segment);
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

/// What our own words have before those of the server.
const QUOTE: &str = "; ClickHouse says: ";

/// What is the same in all that is said of one kind of trouble: our own words before the details,
/// else the server's name of it, else its words without numbers, paths and names.
fn kind(reason: &str) -> String {
    if let Some((words, _)) = reason.split_once(QUOTE) {
        return words.to_owned();
    }
    if let Some(name) = error_name(reason) {
        return name.to_owned();
    }
    let words = reason.split([':', ';']).next().unwrap_or(reason);
    let is_plain = |word: &&str| {
        let word = word.trim_end_matches(['.', ',', '!', ')']);
        word.chars().all(|c| c.is_alphabetic() || "-'(".contains(c))
    };
    let plain: Vec<&str> = words.split_whitespace().filter(is_plain).collect();
    plain.join(" ")
}

/// `NAME` of a text that ends with `(NAME)`, as the server's do.
fn error_name(text: &str) -> Option<&str> {
    let (_, name) = text.strip_suffix(')')?.rsplit_once('(')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use clickhouse::error::Error;
    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::store::clickhouse::fault::Verdict;

    const GONE: &str = "the server cannot be reached: connection refused";
    const AGAIN: &str = "the store takes rows again";

    fn voice(is_away: bool) -> (Voice, Receiver<String>) {
        let (notify, notices) = unbounded();
        (Voice::new(notify, "http://db".to_owned(), is_away), notices)
    }

    fn segment(number: u64) -> Segment {
        (RunKey { run: 1, source: 7 }, number)
    }

    fn all(notices: &Receiver<String>) -> Vec<String> {
        notices.try_iter().collect()
    }

    #[test]
    fn each_kind_of_trouble_is_told_once_an_outage() {
        let (mut voice, notices) = voice(true);
        let now = Instant::now();
        let password = "set PINGER_STORE_PASSWORD; ClickHouse says: p";
        for reason in [GONE, GONE, password, GONE, password] {
            voice.failed(segment(1), reason, now);
        }
        let told = all(&notices);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(password), "{told:?}");
        voice.written(segment(1), now);
        assert_eq!(all(&notices), [AGAIN]);
        // One alone is not told, nor another outage within the minute.
        voice.failed(segment(2), GONE, now);
        voice.failed(segment(2), GONE, now);
        voice.written(segment(2), now);
        assert!(all(&notices).is_empty());
    }

    #[test]
    fn a_segment_that_fails_while_others_flow_is_told_until_it_is_written() {
        let (mut voice, notices) = voice(false);
        let now = Instant::now();
        for second in 0..100 {
            let now = now + Duration::from_secs(second);
            voice.failed(segment(1), "no right; ClickHouse says: gaps", now);
            voice.written(segment(10 + second), now);
        }
        let told = all(&notices);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("gaps"), "{told:?}");
        let now = now + Duration::from_secs(100);
        // What goes wrong besides is told, each time.
        for minute in [0, 2] {
            let now = now + Duration::from_secs(60 * minute);
            voice.failed(segment(2), GONE, now);
            voice.failed(segment(2), GONE, now);
            let told = all(&notices);
            assert!(told.len() == 1 && told[0].contains(GONE), "{told:?}");
            voice.failed(segment(1), "no right; ClickHouse says: gaps", now);
            voice.written(segment(2), now);
            assert!(all(&notices).is_empty());
        }
        voice.written(segment(1), now);
        assert_eq!(all(&notices), [AGAIN]);
    }

    #[test]
    fn the_same_trouble_of_another_table_is_told_when_the_first_is_mended() {
        let (mut voice, notices) = voice(false);
        let now = Instant::now();
        for number in [1, 1, 2, 2] {
            voice.failed(segment(number), "no right; ClickHouse says: x", now);
        }
        assert_eq!(all(&notices).len(), 1);
        voice.written(segment(1), now);
        let now = now + OUTAGES_APART;
        voice.failed(segment(2), "no right; ClickHouse says: runs", now);
        let told = all(&notices);
        assert!(told.len() == 1 && told[0].contains("runs"), "{told:?}");
        // What is put aside, or gone from the spool, is not waited for.
        voice.failed(segment(3), GONE, now);
        voice.refused(segment(2));
        all(&notices);
        voice.written(segment(4), now + FORGOTTEN);
        assert_eq!(all(&notices), [AGAIN]);
    }

    #[test]
    fn a_trouble_that_is_told_with_other_numbers_and_paths_each_time_is_the_same() {
        let texts: [fn(u32) -> String; 3] = [
            |n| {
                format!(
                    "Code: 1001. DB::Exception: std::filesystem: rename /data/store/{n}/tmp_{n} \
                     {n}: {n} bytes. (STD_EXCEPTION) (version 26.7)"
                )
            },
            |n| format!("Code: 49. DB::Exception: Part all_{n}_{n}_0 at /data/{n} is lost"),
            |n| format!("Code: 2{n}00. DB::Exception: Bad file /a/{n}.bin: {n} bytes too long"),
        ];
        for text in texts {
            let (mut voice, notices) = voice(false);
            for number in 0..50 {
                let verdict = Verdict::of(&Error::BadResponse(text(number)));
                let Verdict::Retry(reason) = verdict else {
                    panic!("{verdict:?}");
                };
                voice.failed(segment(1), &reason, Instant::now());
            }
            let told = all(&notices);
            assert_eq!(told.len(), 1, "{told:?}");
        }
    }

    #[test]
    fn many_kinds_are_told_one_a_minute() {
        let (mut voice, notices) = voice(false);
        let start = Instant::now();
        let mut told = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            let reason = format!("odd (KIND_{second})");
            voice.failed(segment(1), &reason, now);
            assert!(voice.told.len() <= KINDS_MAX);
            told += all(&notices).len();
        }
        // The first ones at once, the others one a minute.
        assert!((KINDS_MAX..=KINDS_MAX + 10).contains(&told), "{told}");
        voice.written(segment(1), start);
        assert_eq!(all(&notices), [AGAIN]);
    }
}
