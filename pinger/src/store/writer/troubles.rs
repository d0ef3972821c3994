//! Which troubles the store has: when each kind begins and when it is over, as far as that is worth
//! telling.
//!
//! In: how inserts ended, of which segment, and when. Out: [`Change`]s. One table or one segment
//! may fail for ever while the others flow, so a trouble is kept by the segments that have it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::store::disk::RunKey;

/// Failures before a trouble is told: one alone is an idle connection that the server closed. A
/// segment that failed otherwise so often has a trouble no more.
const FAILURES_TOLD: u32 = 2;

/// A trouble that comes back within this is not told: a store that stumbles now and then says so
/// once.
const OUTAGES_APART: Duration = Duration::from_secs(60);

/// A segment that has not failed for so long is forgotten: it is tried each few seconds, and a try
/// ends within minutes, so it is none of the spool's any more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Kinds of trouble that are told at a time. More of them are told one a minute.
const KINDS_MAX: usize = 8;

/// A segment, and whose.
pub(super) type Segment = (RunKey, u64);

/// What the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Rows wait for this reason.
    Begun(String),
    /// The trouble that was told with this reason is over; another goes on.
    Over(String),
    /// The last trouble that was told is over.
    AllOver,
}

/// What goes wrong at the moment, and what was told of it.
#[derive(Default)]
pub(super) struct Troubles {
    /// Inserts that failed since the last one that did not.
    in_a_row: u32,
    kinds: Vec<Trouble>,
    told_at: Option<Instant>,
    is_hushed: bool,
}

/// A kind of trouble.
struct Trouble {
    kind: String,
    /// The words in which it was met last.
    reason: String,
    failures: u32,
    failed_at: Instant,
    /// The segments that have it.
    by: BTreeMap<Segment, Failing>,
    /// Whether anything was written since it was met last.
    is_passed: bool,
    /// What was told of it, until its end is told.
    told: Option<Told>,
    told_at: Option<Instant>,
}

/// A trouble that was told.
struct Told {
    reason: String,
    /// The segment that had it; none of a store that was away at the start.
    by: Option<Segment>,
}

/// A segment that has a trouble.
struct Failing {
    at: Instant,
    /// How often it failed otherwise since.
    otherwise: u32,
}

impl Troubles {
    /// Those of a store that was away at the start, for a reason that was told.
    pub(super) fn since_start(reason: &str, now: Instant) -> Self {
        Self {
            kinds: vec![Trouble {
                told: Some(Told {
                    reason: reason.to_owned(),
                    by: None,
                }),
                told_at: Some(now),
                ..Trouble::new(reason, now)
            }],
            told_at: Some(now),
            ..Self::default()
        }
    }

    /// Why rows wait; `None` while the store takes them all.
    pub(super) fn now(&self) -> Option<&str> {
        let lasting = self.kinds.iter().filter(|trouble| trouble.is_lasting());
        let newest = lasting.max_by_key(|trouble| trouble.failed_at);
        newest.map(|trouble| trouble.reason.as_str())
    }

    /// From now on no trouble is told: the run ends, and says what waits.
    pub(super) fn hush(&mut self) {
        self.is_hushed = true;
    }

    /// An insert of that segment failed.
    pub(super) fn failed(&mut self, segment: Segment, reason: &str, now: Instant) -> Vec<Change> {
        self.in_a_row += 1;
        let kind = kind(reason);
        for other in self.kinds.iter_mut().filter(|other| other.kind != kind) {
            other.failed_otherwise(segment);
        }
        let known = self.kinds.iter().position(|trouble| trouble.kind == kind);
        let index = known.unwrap_or_else(|| {
            self.kinds.push(Trouble::new(reason, now));
            self.kinds.len() - 1
        });
        self.kinds[index].failed(segment, reason, now);
        let begun = self.tell(index, segment, now);
        begun.into_iter().chain(self.settle(now)).collect()
    }

    /// A segment is written.
    pub(super) fn written(&mut self, segment: Segment, now: Instant) -> Vec<Change> {
        self.in_a_row = 0;
        for trouble in &mut self.kinds {
            trouble.by.remove(&segment);
            trouble.is_passed = true;
        }
        self.settle(now)
    }

    /// The server does not want this segment, so it is not waited for.
    pub(super) fn refused(&mut self, segment: Segment) {
        for trouble in &mut self.kinds {
            trouble.by.remove(&segment);
        }
    }

    /// Tells of a trouble that a segment just met, if that is to be told.
    fn tell(&mut self, index: usize, segment: Segment, now: Instant) -> Option<Change> {
        let is_full = self.told().count() >= KINDS_MAX;
        let trouble = &self.kinds[index];
        if self.is_hushed
            || trouble.failures.max(self.in_a_row) < FAILURES_TOLD
            || trouble.is_known()
            || is_recent(trouble.told_at, now)
            || is_full && is_recent(self.told_at, now)
        {
            return None;
        }
        if is_full && trouble.told.is_none() {
            let oldest = self.told().min_by_key(|trouble| trouble.told_at);
            oldest?.told = None;
        }
        let trouble = &mut self.kinds[index];
        trouble.told = Some(Told {
            reason: trouble.reason.clone(),
            by: Some(segment),
        });
        trouble.told_at = Some(now);
        self.told_at = Some(now);
        Some(Change::Begun(trouble.reason.clone()))
    }

    /// Troubles that were told and whose end was not.
    fn told(&mut self) -> impl Iterator<Item = &mut Trouble> {
        self.kinds
            .iter_mut()
            .filter(|trouble| trouble.told.is_some())
    }

    /// Ends what is over, and forgets what was told long ago.
    fn settle(&mut self, now: Instant) -> Vec<Change> {
        let mut over = Vec::new();
        for trouble in &mut self.kinds {
            let age = |failing: &Failing| now.saturating_duration_since(failing.at);
            trouble.by.retain(|_, failing| age(failing) < FORGOTTEN);
            if trouble.is_lasting() {
                continue;
            }
            trouble.failures = 0;
            let told = trouble.told.take_if(|_| trouble.is_passed);
            over.extend(told.map(|told| Change::Over(told.reason)));
        }
        self.kinds.retain(|trouble| {
            trouble.is_lasting() || trouble.told.is_some() || is_recent(trouble.told_at, now)
        });
        if !over.is_empty() && self.told().count() == 0 {
            return vec![Change::AllOver];
        }
        over
    }
}

/// Whether what was told then need not be told again yet.
fn is_recent(told_at: Option<Instant>, now: Instant) -> bool {
    told_at.is_some_and(|at| now.saturating_duration_since(at) < OUTAGES_APART)
}

impl Trouble {
    fn new(reason: &str, now: Instant) -> Self {
        Self {
            kind: kind(reason),
            reason: reason.to_owned(),
            failures: 0,
            failed_at: now,
            by: BTreeMap::new(),
            is_passed: false,
            told: None,
            told_at: None,
        }
    }

    /// Whether a segment has it.
    fn is_lasting(&self) -> bool {
        !self.by.is_empty()
    }

    /// Whether it was told and goes on. When the segment that had it has it no more and others
    /// still do, it is another one: of their table, say.
    fn is_known(&self) -> bool {
        let has_it = |told: &Told| told.by.is_none_or(|by| self.by.contains_key(&by));
        self.told.as_ref().is_some_and(has_it)
    }

    fn failed(&mut self, segment: Segment, reason: &str, now: Instant) {
        self.failures += 1;
        self.failed_at = now;
        self.is_passed = false;
        reason.clone_into(&mut self.reason);
        let otherwise = 0;
        self.by.insert(segment, Failing { at: now, otherwise });
    }

    /// A segment that may have this trouble failed with another one.
    fn failed_otherwise(&mut self, segment: Segment) {
        if let Some(failing) = self.by.get_mut(&segment) {
            failing.otherwise += 1;
            if failing.otherwise >= FAILURES_TOLD {
                self.by.remove(&segment);
            }
        }
    }
}

/// What our own words have before those of the server.
const QUOTE: &str = "; ClickHouse says: ";

/// What is the same in all that is said of one kind of trouble: our own words before the details,
/// else the server's name of it, else its words without numbers, paths, addresses and names.
fn kind(reason: &str) -> String {
    if let Some((words, _)) = reason.split_once(QUOTE) {
        return words.to_owned();
    }
    if let Some(name) = error_name(reason) {
        return name.to_owned();
    }
    let mut plain = Vec::new();
    for word in reason.split_whitespace() {
        let end = word.trim_end_matches([':', ';']);
        let bare = end.trim_end_matches(['.', ',', '!', ')']);
        if bare.chars().all(|c| c.is_alphabetic() || "-'(".contains(c)) {
            plain.push(bare);
        }
        // What follows is about this one.
        if end.len() < word.len() {
            break;
        }
    }
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

    use super::*;
    use crate::store::clickhouse::fault::Verdict;

    const GONE: &str = "the server cannot be reached: connection refused";
    const PASSWORD: &str = "set PINGER_STORE_PASSWORD; ClickHouse says: p";
    const NO_RIGHT: &str = "no right; ClickHouse says: gaps";

    fn segment(number: u64) -> Segment {
        (RunKey { run: 1, source: 7 }, number)
    }

    fn begun(reason: &str) -> Vec<Change> {
        vec![Change::Begun(reason.to_owned())]
    }

    fn over(reason: &str) -> Vec<Change> {
        vec![Change::Over(reason.to_owned())]
    }

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// Lets a segment fail so often; gives what is to be told of it.
    fn fail(troubles: &mut Troubles, number: u64, reasons: &[&str], now: Instant) -> Vec<Change> {
        let fail = |reason: &&str| troubles.failed(segment(number), reason, now);
        reasons.iter().flat_map(fail).collect()
    }

    #[test]
    fn each_kind_of_trouble_is_told_once_an_outage() {
        let now = Instant::now();
        let mut troubles = Troubles::default();
        let told = fail(
            &mut troubles,
            1,
            &[GONE, GONE, PASSWORD, GONE, PASSWORD],
            now,
        );
        assert_eq!(told, [begun(GONE), begun(PASSWORD)].concat());
        assert_eq!(troubles.now(), Some(PASSWORD));
        assert_eq!(troubles.written(segment(1), now), [Change::AllOver]);
        assert_eq!(troubles.now(), None);
        // One alone is not told, nor the same again within the minute.
        assert_eq!(fail(&mut troubles, 2, &["odd"], now), []);
        assert_eq!(troubles.written(segment(2), now), []);
        let soon = after(59, now);
        assert_eq!(fail(&mut troubles, 2, &[GONE, GONE], soon), []);
        assert_eq!(troubles.written(segment(2), soon), []);
        let later = after(60, now);
        assert_eq!(fail(&mut troubles, 2, &[GONE, GONE], later), begun(GONE));
    }

    #[test]
    fn a_trouble_that_was_told_at_the_start_is_not_told_again() {
        let now = Instant::now();
        let at_start = "cannot reach ClickHouse at http://db:8123/pinger: connection refused";
        let mut troubles = Troubles::since_start(at_start, now);
        let words = "cannot reach ClickHouse at http://db:8123/pinger: reset; check this";
        for second in [0, 1, 100, 1000] {
            let told = fail(&mut troubles, 1, &[words, words], after(second, now));
            assert_eq!(told, [], "second {second}");
        }
        // Another one is.
        let told = fail(&mut troubles, 1, &[PASSWORD, PASSWORD], after(1001, now));
        assert_eq!(told, begun(PASSWORD));
        let told = troubles.written(segment(1), after(1002, now));
        assert_eq!(told, [Change::AllOver]);
    }

    #[test]
    fn a_segment_that_fails_while_others_flow_is_told_until_it_is_written() {
        let start = Instant::now();
        let mut troubles = Troubles::default();
        let mut told = Vec::new();
        for second in 0..100 {
            let now = after(second, start);
            told.extend(fail(&mut troubles, 1, &[NO_RIGHT], now));
            told.extend(troubles.written(segment(10 + second), now));
            assert_eq!(troubles.now(), Some(NO_RIGHT));
        }
        assert_eq!(told, begun(NO_RIGHT));
        let told = troubles.written(segment(1), after(100, start));
        assert_eq!(told, [Change::AllOver]);
    }

    #[test]
    fn an_outage_is_told_with_its_end_though_a_segment_stays_stuck() {
        let start = Instant::now();
        let mut troubles = Troubles::default();
        let told = fail(&mut troubles, 1, &[NO_RIGHT, NO_RIGHT], start);
        assert_eq!(told, begun(NO_RIGHT));
        for minute in [1, 2, 3] {
            let now = after(60 * minute, start);
            // All that is tried fails; then all but the one is well.
            assert_eq!(fail(&mut troubles, 2, &[GONE, GONE], now), begun(GONE));
            assert_eq!(fail(&mut troubles, 1, &[GONE], now), []);
            assert_eq!(troubles.now(), Some(GONE));
            assert_eq!(troubles.written(segment(2), now), []);
            let told = fail(&mut troubles, 1, &[NO_RIGHT, NO_RIGHT], now);
            assert_eq!(told, over(GONE), "minute {minute}");
            assert_eq!(troubles.now(), Some(NO_RIGHT));
        }
        let told = troubles.written(segment(1), after(300, start));
        assert_eq!(told, [Change::AllOver]);
    }

    #[test]
    fn a_segment_that_fails_now_so_now_so_is_told_once_of_each() {
        let start = Instant::now();
        let mut troubles = Troubles::default();
        let mut told = Vec::new();
        for second in 0..300 {
            let reason = [GONE, NO_RIGHT][usize::from(second % 2 == 0)];
            told.extend(fail(&mut troubles, 1, &[reason], after(second, start)));
            told.extend(troubles.written(segment(10), after(second, start)));
        }
        assert_eq!(told, [begun(NO_RIGHT), begun(GONE)].concat());
    }

    #[test]
    fn the_same_trouble_of_another_table_is_told_when_the_first_is_mended() {
        let now = Instant::now();
        let mut troubles = Troubles::default();
        let runs = "no right; ClickHouse says: runs";
        let told = fail(&mut troubles, 1, &[NO_RIGHT, NO_RIGHT], now);
        assert_eq!(told, begun(NO_RIGHT));
        // As long as the first one has it, the other is part of it.
        let late = after(600, now);
        assert_eq!(fail(&mut troubles, 1, &[NO_RIGHT], late), []);
        assert_eq!(fail(&mut troubles, 2, &[runs, runs], late), []);
        assert_eq!(troubles.written(segment(1), late), []);
        assert_eq!(fail(&mut troubles, 2, &[runs], late), begun(runs));
    }

    #[test]
    fn what_is_put_aside_or_gone_from_the_spool_is_not_waited_for() {
        let now = Instant::now();
        let mut troubles = Troubles::default();
        assert_eq!(fail(&mut troubles, 1, &[GONE, GONE], now), begun(GONE));
        troubles.refused(segment(1));
        assert_eq!(troubles.now(), None);
        assert_eq!(troubles.written(segment(2), now), [Change::AllOver]);
        let told = fail(&mut troubles, 3, &[NO_RIGHT, NO_RIGHT], now);
        assert_eq!(told, begun(NO_RIGHT));
        let last = now + FORGOTTEN;
        assert_eq!(troubles.written(segment(4), last - OUTAGES_APART), []);
        assert_eq!(troubles.written(segment(5), last), [Change::AllOver]);
        assert_eq!(troubles.now(), None);
    }

    #[test]
    fn what_fails_at_the_end_of_a_run_is_known_and_not_told() {
        let now = Instant::now();
        let mut troubles = Troubles::default();
        troubles.hush();
        assert_eq!(fail(&mut troubles, 1, &[GONE, GONE, GONE], now), []);
        assert_eq!(troubles.now(), Some(GONE));
        assert_eq!(troubles.written(segment(1), now), []);
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
            let mut troubles = Troubles::default();
            let mut told = Vec::new();
            for number in 0..50 {
                let verdict = Verdict::of(&Error::BadResponse(text(number)));
                let Verdict::Retry(reason) = verdict else {
                    panic!("{verdict:?}");
                };
                told.extend(fail(&mut troubles, 1, &[&reason], Instant::now()));
            }
            assert_eq!(told.len(), 1, "{told:?}");
        }
    }

    #[test]
    fn what_is_said_of_one_address_is_of_several_kinds() {
        let kinds = [
            "cannot reach ClickHouse at http://db:8123/net: connection refused",
            "ClickHouse at http://db:8123/net refuses user `me`; set this",
            "ClickHouse at http://db:8123/net has no database `net`; do that",
            "https://db/net answers HTTP 502, but is no ClickHouse; check host and port",
        ];
        let kinds = kinds.map(kind);
        let expected = [
            "cannot reach ClickHouse at",
            "ClickHouse at refuses user",
            "ClickHouse at has no database",
            "answers HTTP but is no ClickHouse",
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn many_kinds_are_told_one_a_minute() {
        let start = Instant::now();
        let mut troubles = Troubles::default();
        let mut told = 0;
        for second in 0..600 {
            let reason = format!("odd (KIND_{second})");
            told += fail(&mut troubles, 1, &[&reason], after(second, start)).len();
            assert!(troubles.told().count() <= KINDS_MAX);
            assert!(troubles.kinds.len() <= 2 * KINDS_MAX + 2, "it is bounded");
        }
        // The first ones at once, the others one a minute.
        assert!((KINDS_MAX..=KINDS_MAX + 10).contains(&told), "{told}");
        assert_eq!(troubles.written(segment(1), start), [Change::AllOver]);
    }
}
