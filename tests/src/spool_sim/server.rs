//! A simulated ClickHouse: takes the very bytes of an insert, remembers tokens in a window, and
//! fails in all the ways that inserts do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pinger::spool::{DOUBT_FRESH_NS, End, Job, Table};

use super::native::{Column, blocks};
use crate::sim::rng::Rng;

/// How many of the latest tokens of a table are remembered.
const WINDOW: usize = 50;

/// And for how long: other probers write as well.
const REMEMBERED_NS: u64 = 2 * DOUBT_FRESH_NS.cast_unsigned();

/// Probabilities of what may become of an insert.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// It cannot be reached at all.
    pub(super) away: bool,
    /// The rows land and the connection breaks.
    pub(super) lands_and_breaks: f64,
    /// The connection breaks first.
    pub(super) breaks: f64,
    /// An error that has nothing to do with the rows: HTTP 500, too many parts, read-only.
    pub(super) error: f64,
    /// It is killed after it noted the token and before the rows landed.
    pub(super) burns: f64,
}

/// A gap as the server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GapRow {
    pub(super) run: u64,
    pub(super) from_ns: i64,
    pub(super) rows: Option<u64>,
    pub(super) probes: Option<u64>,
    pub(super) reason: i8,
}

/// What happened, to see that histories are rich.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) written: u64,
    pub(super) repeated: u64,
    pub(super) landed_and_broke: u64,
    pub(super) burnt: u64,
    pub(super) missing: u64,
    pub(super) refused: u64,
    pub(super) asked: u64,
}

/// The server.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) trouble: Trouble,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(super) now_ns: u64,
    /// Of each run: how often it has the row with this number.
    pub(super) results: BTreeMap<u64, BTreeMap<u64, u32>>,
    pub(super) gaps: Vec<GapRow>,
    /// Rows of `runs`.
    pub(super) runs: BTreeMap<u64, u32>,
    /// Numbers of rows that it refuses.
    pub(super) poison: BTreeSet<(u64, u64)>,
    /// Of each row of results: run, sequence, when it was due, outcome.
    markers: BTreeSet<[i128; 4]>,
    tokens: BTreeMap<&'static str, VecDeque<(String, u64)>>,
    /// What each token named first; never forgotten.
    contents: BTreeMap<String, Vec<u8>>,
    pub(super) seen: Seen,
    /// Runs of which a token named two contents, which must never happen.
    pub(super) two_contents: BTreeMap<u64, String>,
}

impl Server {
    /// What becomes of an insert, told as the sender would tell it.
    pub(super) fn insert(&mut self, job: &Job, rng: &mut Rng) -> End {
        let trouble = self.trouble;
        if trouble.away {
            return End::Retry("connection refused".to_owned());
        }
        if rng.chance(trouble.error) {
            return match rng.chance(0.5) {
                true => End::Retry("no connection".to_owned()),
                false => End::Failed("too many parts".to_owned()),
            };
        }
        if rng.chance(trouble.breaks) {
            return End::Doubtful("connection reset".to_owned());
        }
        // The question of a sender whose doubt is old.
        if job.ask_first && self.has_any(job) {
            self.seen.asked += 1;
            return End::Written;
        }
        if self.is_poison(job) {
            self.seen.refused += 1;
            return End::Refused("violated\n constraint".to_owned());
        }
        if !job.table.is_replacing() && rng.chance(trouble.burns) {
            self.remember(job);
            self.seen.burnt += 1;
            return End::Doubtful("connection reset".to_owned());
        }
        if self.remember(job) {
            self.land(job);
            self.seen.written += 1;
        } else {
            self.seen.repeated += 1;
        }
        if rng.chance(trouble.lands_and_breaks) {
            self.seen.landed_and_broke += 1;
            return End::Doubtful("connection reset".to_owned());
        }
        // The confirming question of the sender.
        if job.question.is_some() && !self.has_any(job) {
            self.seen.missing += 1;
            return End::Missing;
        }
        End::Written
    }

    /// Notes the token; whether it was new.
    fn remember(&mut self, job: &Job) -> bool {
        let before = self
            .contents
            .entry(job.token.clone())
            .or_insert_with(|| job.body.clone());
        if *before != job.body {
            self.two_contents.insert(run_of(job), job.token.clone());
        }
        let tokens = self.tokens.entry(job.table.name()).or_default();
        // Other probers push out what is old.
        let oldest_ns = self.now_ns.saturating_sub(REMEMBERED_NS);
        tokens.retain(|(_, since_ns)| *since_ns >= oldest_ns);
        if tokens.iter().any(|(token, _)| *token == job.token) {
            return false;
        }
        tokens.push_back((job.token.clone(), self.now_ns));
        if tokens.len() > WINDOW {
            tokens.pop_front();
        }
        true
    }

    fn is_poison(&self, job: &Job) -> bool {
        job.table == Table::Incoming
            && !self.poison.is_empty()
            && blocks(&job.body).iter().any(|block| {
                let (runs, rows) = (&block["run"], &block["sequence"]);
                let row = |index| (number(runs, index), number(rows, index));
                (0..rows.len()).any(|index| self.poison.contains(&row(index)))
            })
    }

    fn land(&mut self, job: &Job) {
        for block in blocks(&job.body) {
            match job.table {
                Table::Incoming => self.land_results(&block),
                Table::Gaps => self.land_gaps(&block),
                _ => {
                    for index in 0..block["run"].len() {
                        *self.runs.entry(number(&block["run"], index)).or_default() += 1;
                    }
                }
            }
        }
    }

    fn land_results(&mut self, block: &BTreeMap<String, Column>) {
        for index in 0..block["run"].len() {
            let at = |name: &str| number(&block[name], index);
            *self
                .results
                .entry(at("run"))
                .or_default()
                .entry(at("sequence"))
                .or_default() += 1;
            let time_due = at("time_due").cast_signed();
            self.markers.insert([
                at("run").into(),
                at("sequence").into(),
                time_due.into(),
                at("outcome").into(),
            ]);
        }
    }

    fn land_gaps(&mut self, block: &BTreeMap<String, Column>) {
        for index in 0..block["run"].len() {
            let at = |name: &str| number(&block[name], index);
            self.gaps.push(GapRow {
                run: at("run"),
                from_ns: at("from").cast_signed(),
                rows: block["rows"][index],
                probes: block["probes"][index],
                reason: at("reason") as i8,
            });
        }
    }

    /// Answers the question of a sender in doubt: whether there is such a row.
    fn has_any(&self, job: &Job) -> bool {
        let question = job.question.as_ref().map_or("", |question| &question.sql);
        let numbers = numbers(question);
        let (run, rows) = (numbers[0], &numbers[2..]);
        if question.contains("FROM gaps") {
            rows.chunks_exact(2).any(|row| {
                let is =
                    |gap: &&GapRow| (i128::from(gap.run), i128::from(gap.from_ns)) == (run, row[0]);
                self.gaps
                    .iter()
                    .filter(is)
                    .any(|gap| i128::from(gap.reason) == row[1])
            })
        } else {
            rows.chunks_exact(4)
                .any(|row| self.markers.contains(&[run, row[2], row[0], row[3]]))
        }
    }
}

/// The numbers in a statement, in their order.
fn numbers(statement: &str) -> Vec<i128> {
    let words = statement
        .replace("toUInt64(uptime())", "")
        .replace("fromUnixTimestamp64Nano", "")
        .replace("toInt8", "");
    let words = words.split(|c: char| !c.is_ascii_digit() && c != '-');
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The token begins with source and run.
fn run_of(job: &Job) -> u64 {
    job.token
        .split('-')
        .nth(1)
        .and_then(|run| run.parse().ok())
        .unwrap_or(0)
}

fn number(column: &Column, index: usize) -> u64 {
    column[index].unwrap_or_default()
}
