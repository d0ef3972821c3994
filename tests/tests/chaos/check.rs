//! Counts in SQL what became of every probe, and compares with what the witness saw.

use std::collections::BTreeMap;

use crate::place::Place;
use crate::plan::{Act, Ending, Plan};
use crate::rollups;
use crate::round::{PROBES_A_SECOND, Ran};

/// How many probes a run that was killed may have announced and not sent, or have in the send
/// queue: one pass of its loop.
const IN_THE_ACT_MAX: u64 = 64;

/// How many probes a kill may take with it. What came in its last 100 ms is what is promised; the
/// rest is for a machine that is busy otherwise.
const KILLED_MAX: u64 = PROBES_A_SECOND;

/// What a run that ended by itself leaves open; a second Ctrl-C also ends what is in flight.
const NONE: u64 = 0;

/// Per run: results that end a probe, how many of them are there twice, failed sends, sequences
/// left out, probes in gaps, gaps of unknown size, their reasons, whether its end is known.
const RUNS: &str = "
SELECT run, sum(e), sum(d), sum(f), sum(m), sum(g), sum(u), arrayStringConcat(groupArrayArray(w), ' | '), sum(x)
FROM
(
    SELECT run, sum(c) AS e, sum(c - s) AS d, sum(n) AS f, sum(top + 1 - s) AS m, 0 AS g, 0 AS u, emptyArrayString() AS w, 0 AS x
    FROM
    (
        SELECT run, destination, count() AS c, uniqExact(sequence) AS s, max(sequence) AS top, countIf(outcome = 'send_failed') AS n
        FROM results WHERE outcome IN ('reply', 'error', 'lost', 'send_failed') GROUP BY run, destination
    )
    GROUP BY run
    UNION ALL
    SELECT run, 0, 0, 0, 0, sum(ifNull(probes, 0)), countIf(probes IS NULL),
        groupArray(concat(toString(reason), ' ', ifNull(toString(probes), '?'), '/', ifNull(toString(rows), '?'), ' ', detail)), 0
    FROM gaps GROUP BY run
    UNION ALL
    SELECT run, 0, 0, 0, 0, 0, 0, emptyArrayString(), 1 FROM runs FINAL WHERE ended IS NOT NULL
)
GROUP BY run ORDER BY run";

/// What the checks found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) complaints: Vec<String>,
    /// What they saw, for the history.
    pub(crate) seen: Vec<String>,
    pub(crate) in_gaps: u64,
    /// The most probes that a kill took, where no disk was full.
    pub(crate) killed: u64,
}

/// A run as the store knows it.
#[derive(Debug, Default)]
struct Stored {
    ends: u64,
    doubled: u64,
    send_failed: u64,
    left_out: u64,
    in_gaps: u64,
    gaps_unknown: u64,
    reasons: String,
    ended: u64,
}

pub(crate) fn judge(place: &Place, plan: &Plan, ran: &[Ran]) -> Found {
    let mut found = Found::default();
    let stored = match place.sql(RUNS) {
        Ok(text) => parse(&text),
        Err(error) => {
            found.complaints.push(format!("cannot ask: {error}"));
            return found;
        }
    };
    found.seen = stored
        .iter()
        .map(|(run, stored)| format!("run {run}: {stored:?}"))
        .collect();
    // A disk that was filled in one run may be full in the next.
    let may_write = !plan.runs.iter().any(crate::plan::Run::fills_disk);
    let mut known = 0;
    for (number, run) in ran.iter().enumerate() {
        let key = stored
            .keys()
            .find(|key| (run.lived[0]..run.lived[1]).contains(key));
        known += usize::from(key.is_some());
        let empty = Stored::default();
        let stored = key.map_or(&empty, |key| &stored[key]);
        found.in_gaps += stored.in_gaps;
        if run.was_killed() && may_write {
            found.killed = found.killed.max(stored.in_gaps);
        }
        let troubled = plan.runs.get(number).is_some_and(|run| run.fills_disk());
        for complaint in complaints(run, stored, troubled) {
            found.complaints.push(format!("run {number}: {complaint}"));
        }
    }
    if found.killed > KILLED_MAX {
        found.complaints.push(format!(
            "a kill took {} probes, {KILLED_MAX} are the most",
            found.killed
        ));
    }
    if known < stored.len() {
        found.complaints.push("runs that never were".to_owned());
    }
    if ran.last().is_none_or(|run| run.code != Some(0)) {
        found.complaints.push("the last run failed".to_owned());
    }
    found.complaints.extend(rollups::complaints(place));
    let waiting = place.waiting();
    if !waiting.is_empty() {
        found.complaints.push(format!("still waiting: {waiting:?}"));
    }
    found
}

fn parse(text: &str) -> BTreeMap<u64, Stored> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse::<u64>().unwrap();
        let stored = Stored {
            ends: number(1),
            doubled: number(2),
            send_failed: number(3),
            left_out: number(4),
            in_gaps: number(5),
            gaps_unknown: number(6),
            reasons: fields[7].to_owned(),
            ended: number(8),
        };
        (number(0), stored)
    };
    text.lines().map(line).collect()
}

/// What is wrong with one run.
fn complaints(run: &Ran, stored: &Stored, disk_filled: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |wrong: bool, text: String| {
        if wrong {
            complaints.push(text);
        }
    };
    let sent = run.echoes;
    let known = stored.ends - stored.send_failed + stored.in_gaps;
    let by_force = run.code.is_none_or(|code| code == 130);
    let most = if by_force { IN_THE_ACT_MAX } else { NONE };
    complain(
        known < sent || known > sent + most,
        format!(
            "{sent} probes were sent, and {} are in results + {} in gaps",
            stored.ends - stored.send_failed,
            stored.in_gaps
        ),
    );
    complain(
        stored.doubled > 0,
        format!("{} probes have ended twice", stored.doubled),
    );
    complain(
        stored.gaps_unknown > 0,
        format!("{} gaps are of unknown size", stored.gaps_unknown),
    );
    if by_force || run.code == Some(1) {
        let refused = run.code == Some(1);
        complain(
            refused && sent > 0,
            "it failed after it had sent".to_owned(),
        );
        return complaints;
    }
    if run.report.is_none() && sent == 0 {
        // Told to stop before it had begun to probe.
        return complaints;
    }
    let expected_code = if stored.in_gaps > 0 { 3 } else { 0 };
    let ending = (run.ending, run.code);
    complain(
        run.code != Some(expected_code) && !disk_filled,
        format!("it ended as {ending:?}, {expected_code} is expected"),
    );
    complain(stored.ended == 0, "its end is not in `runs`".to_owned());
    complain(
        stored.in_gaps > 0 && !disk_filled,
        format!("gaps without need: {}", stored.reasons),
    );
    let report = run.report.as_ref();
    let count = |name: &str| report.and_then(|report| report.pointer(name)?.as_u64());
    let counts = (count("/sent"), count("/send_failed"));
    complain(
        counts != (Some(sent + stored.send_failed), Some(stored.send_failed)),
        format!("its report says {counts:?} were sent and not"),
    );
    let skipped = count("/skipped").unwrap_or(0);
    complain(
        stored.left_out > skipped + stored.in_gaps,
        format!(
            "{} sequences are left out, {skipped} were skipped",
            stored.left_out
        ),
    );
    complaints
}

impl crate::plan::Run {
    fn fills_disk(&self) -> bool {
        let mut acts = self.early.iter().chain(&self.acts);
        acts.any(|(_, act)| matches!(act, Act::FillDisk(_)))
    }

    /// It in half a line.
    pub(crate) fn told(&self) -> String {
        let early = self.early.map(|(at, act)| format!("early {at} {act:?}"));
        let acts = self.acts.iter().map(|(at, act)| format!("{at} {act:?}"));
        let when = if self.ends_early { "early " } else { "" };
        let ending = match self.ending {
            Ending::Twice(ms) => format!("Twice({ms})"),
            other => format!("{other:?}"),
        };
        early
            .into_iter()
            .chain(acts)
            .chain([format!("{when}{} {ending}", self.end_ms)])
            .collect::<Vec<_>>()
            .join(", ")
    }
}
