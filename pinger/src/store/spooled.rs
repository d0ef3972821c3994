//! `pinger spool`: what waits on disk for the store, and what the store refused.
//!
//! In: a data directory, which pingers may be working on. Out: a [`Spooled`], which prints itself.
//! To look changes nothing; `again` sends what was refused.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;

use super::StoreError;
use super::disk::Folder;
use super::disk::visit::{Visited, visit};
use super::schema::write_columns;
use super::session::EMBEDDED;
use crate::config::value::DATA_DIR_DEFAULT;
use crate::mistake::{bytes, grouped};
use crate::shell;
use crate::spool::look::{self, Holdings, look};
use crate::spool::{DiskError, Table};

mod again;

pub use again::{Retried, retry};

/// What `pinger spool status` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spooled {
    data_dir: PathBuf,
    /// Results that wait, of all runs.
    results: u64,
    /// Segments that the store refused, of all runs.
    refused: u64,
    runs: Vec<Run>,
}

/// What waits of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Run {
    source: u32,
    /// A text, because not every reader of JSON knows so large numbers.
    run: String,
    began: String,
    state: State,
    /// `embedded`, or the URL; `None` of a run that wrote nothing.
    store: Option<String>,
    segments: u64,
    results: u64,
    bytes: u64,
    gaps: u64,
    /// When the first and the last of the results came that wait.
    oldest: Option<String>,
    newest: Option<String>,
    refused: Vec<Refused>,
}

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Its pinger lives.
    Running,
    /// It has ended, and a living pinger sends what it left.
    Sending,
    /// It has ended, and what it lost is told by gaps.
    Ended,
    /// It ended without warning; the next `pinger run` tells what is missing.
    Killed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sending => "sending",
            Self::Ended => "ended",
            Self::Killed => "killed",
        }
    }
}

/// A segment that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Refused {
    segment: u64,
    /// `None` if it is too damaged to tell.
    table: Option<&'static str>,
    rows: u64,
    bytes: u64,
    /// When it was refused.
    refused: Option<String>,
    /// The server's words.
    reason: String,
    file: PathBuf,
}

/// Looks at what waits in a data directory.
///
/// # Errors
/// When there is no such directory, or it cannot be read.
pub fn status(data_dir: &Path) -> Result<Spooled, StoreError> {
    let mut runs = Vec::new();
    for (visited, _, holdings) in visit_all(data_dir)? {
        // Of a run that was killed, a gap is still to be told.
        let is_over = holdings.has_ended && holdings.segments == 0;
        if visited.is_held || !is_over || !holdings.refused.is_empty() {
            runs.push(Run::of(&visited, holdings));
        }
    }
    Ok(Spooled {
        data_dir: data_dir.to_owned(),
        results: runs.iter().map(|run| run.results).sum(),
        refused: runs.iter().map(|run| run.refused.len() as u64).sum(),
        runs,
    })
}

/// The folders of all runs, with what is in them; those that go meanwhile are left out.
fn visit_all(data_dir: &Path) -> Result<Vec<(Visited, Folder, Holdings)>, StoreError> {
    let mut all = Vec::new();
    for visited in visit(data_dir).map_err(unreadable(data_dir))? {
        let Some(mut folder) = visited.disk().map_err(unreadable(&visited.path))? else {
            continue;
        };
        match look(&mut folder) {
            Ok(holdings) => all.push((visited, folder, holdings)),
            Err(_) if !visited.path.exists() => {}
            Err(error) => return Err(unreadable(&visited.path)(other(error))),
        }
    }
    Ok(all)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let hint = "check --data-dir, or run as the user who owns it";
    StoreError::file("look for results that wait in", path, hint)
}

/// A failure of the spool's disk as the system's.
fn other(error: DiskError) -> io::Error {
    io::Error::other(error.words)
}

impl Run {
    fn of(visited: &Visited, holdings: Holdings) -> Self {
        let state = match (visited.is_held, holdings.has_ended) {
            (true, false) => State::Running,
            (true, true) => State::Sending,
            (false, true) => State::Ended,
            (false, false) => State::Killed,
        };
        let range = holdings.range_ns.map(|(from_ns, until_ns)| {
            let [from, until] = [from_ns, until_ns].map(moment);
            (from, until)
        });
        let (oldest, newest) = range.unzip();
        let refused = holdings.refused.into_iter();
        Self {
            source: visited.key.source,
            run: visited.key.run.to_string(),
            began: moment(i64::try_from(visited.key.run).unwrap_or(i64::MAX)),
            state,
            store: holdings.store,
            segments: holdings.segments,
            results: holdings.results.rows,
            bytes: holdings.bytes,
            gaps: holdings.gaps,
            oldest,
            newest,
            refused: refused.map(|is| Refused::of(&visited.path, is)).collect(),
        }
    }
}

impl Refused {
    fn of(folder: &Path, refused: look::Refused) -> Self {
        let written = fs::metadata(folder.join(refused.reason_file()));
        let written = written.and_then(|file| file.modified()).ok();
        Self {
            segment: refused.number,
            table: refused.table.map(Table::name),
            rows: refused.size.rows,
            bytes: refused.bytes,
            refused: written.map(|at| moment(since_1970(at))),
            file: folder.join(refused.file()),
            reason: refused.words,
        }
    }
}

fn since_1970(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970 as people and programs read them, UTC.
fn moment(ns: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(ns.div_euclid(1_000_000_000));
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (hour, minute, second) = at.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", at.date())
}

impl Spooled {
    /// Results that wait, of all runs.
    pub fn results(&self) -> u64 {
        self.results
    }

    /// Whether the store refused something that is still there.
    pub fn has_refused(&self) -> bool {
        self.refused > 0
    }
}

impl fmt::Display for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.data_dir.display();
        if self.runs.is_empty() {
            return writeln!(f, "{place}: nothing waits, and nothing was refused");
        }
        let results = grouped(self.results.into());
        let refused = grouped(self.refused.into());
        writeln!(
            f,
            "{place}: {results} results wait; segments refused: {refused}"
        )?;
        writeln!(f)?;
        self.write_runs(f)?;
        if self.has_refused() {
            writeln!(f)?;
            self.write_refused(f)?;
        }
        Ok(())
    }
}

impl Spooled {
    fn write_runs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "source", "run", "began", "state", "results", "segments", "size", "gaps", "newest",
            "for",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.runs.iter().map(|run| {
            [
                run.source.to_string(),
                run.run.clone(),
                run.began.clone(),
                run.state.word().to_owned(),
                grouped(run.results.into()),
                grouped(run.segments.into()),
                bytes(run.bytes),
                grouped(run.gaps.into()),
                run.newest.clone().unwrap_or_default(),
                run.store.clone().unwrap_or_default(),
            ]
        }));
        write_columns(f, &rows, &[4, 5, 6, 7])
    }

    fn write_refused(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            for refused in &run.refused {
                let what = match refused.table {
                    Some("incoming") => "results".to_owned(),
                    Some(table) => format!("rows of {table}"),
                    None => "rows of a damaged file".to_owned(),
                };
                let (rows, length) = (grouped(refused.rows.into()), bytes(refused.bytes));
                let at = refused.refused.as_deref().unwrap_or("at an unknown time");
                writeln!(f, "refused {at}: {rows} {what}, {length}")?;
                writeln!(f, "  {}", refused.file.display())?;
                writeln!(f, "  {}", refused.reason)?;
            }
        }
        writeln!(f)?;
        writeln!(f, "when the cause is mended:")?;
        for store in self.refusing() {
            writeln!(f, "  {}", self.retry(store))?;
        }
        Ok(())
    }

    /// The stores that refused something, as they stand in the folders.
    fn refusing(&self) -> BTreeSet<&str> {
        let runs = self.runs.iter().filter(|run| !run.refused.is_empty());
        runs.filter_map(|run| run.store.as_deref()).collect()
    }

    /// The command that sends what a store refused. Which user it was is not on record.
    fn retry(&self, store: &str) -> String {
        let mut command = "pinger spool retry".to_owned();
        if store != EMBEDDED {
            command.push_str(" --store ");
            command.push_str(&store.replacen("://", "://USER@", 1));
        }
        if self.data_dir != Path::new(DATA_DIR_DEFAULT) {
            command.push_str(" --data-dir ");
            command.push_str(&shell::word(&self.data_dir.to_string_lossy()));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run {
            source: 3,
            run: "1763755000000000000".to_owned(),
            began: moment(1_763_755_000_000_000_000),
            state: State::Sending,
            store: Some("embedded".to_owned()),
            segments: 2,
            results: 12_345,
            bytes: 5_872_025,
            gaps: 1,
            oldest: Some(moment(1_763_755_001_999_999_999)),
            newest: Some(moment(1_763_755_002_000_000_000)),
            refused: vec![Refused {
                segment: 7,
                table: Some("incoming"),
                rows: 1000,
                bytes: 2048,
                refused: Some(moment(1_763_755_100_000_000_000)),
                reason: "incoming: a constraint forbids them".to_owned(),
                file: PathBuf::from("/data/spool/3-1763755000000000000/refused/00000007.seg"),
            }],
        }
    }

    #[test]
    fn a_status_tells_all() {
        let spooled = Spooled {
            data_dir: PathBuf::from("/data"),
            results: 12_345,
            refused: 1,
            runs: vec![run()],
        };
        let expected = "\
/data: 12,345 results wait; segments refused: 1

source  run                  began                 state    results  segments     size  gaps  newest                for
3       1763755000000000000  2025-11-21T19:56:40Z  sending   12,345         2  5.6 MiB     1  2025-11-21T19:56:42Z  embedded

refused 2025-11-21T19:58:20Z: 1,000 results, 2.0 KiB
  /data/spool/3-1763755000000000000/refused/00000007.seg
  incoming: a constraint forbids them

when the cause is mended:
  pinger spool retry --data-dir /data
";
        assert_eq!(spooled.to_string(), expected);
        let json = serde_json::to_value(&spooled).unwrap();
        let at = |path: &str| json.pointer(path).unwrap();
        assert_eq!(at("/runs/0/run"), "1763755000000000000");
        assert_eq!(at("/runs/0/state"), "sending");
        assert_eq!(at("/runs/0/oldest"), "2025-11-21T19:56:41Z");
        assert_eq!(at("/runs/0/refused/0/segment"), 7);
    }

    #[test]
    fn a_retry_names_store_and_directory() {
        let spooled = |data_dir: &str| Spooled {
            data_dir: PathBuf::from(data_dir),
            results: 0,
            refused: 1,
            runs: Vec::new(),
        };
        let here = spooled("/var/lib/pinger");
        assert_eq!(here.retry("embedded"), "pinger spool retry");
        assert_eq!(
            spooled("mid").retry("https://db:8443/net"),
            "pinger spool retry --store https://USER@db:8443/net --data-dir mid"
        );
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let spooled = Spooled {
            data_dir: PathBuf::from("/data"),
            results: 0,
            refused: 0,
            runs: Vec::new(),
        };
        assert!(
            spooled
                .to_string()
                .contains("nothing waits, and nothing was refused")
        );
    }
}
