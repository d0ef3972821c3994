//! `pinger export`: a range of time out of the store, into a file or to standard output.
//!
//! In: a table, a range, a format. Out: bytes as ClickHouse makes them, so that the embedded engine
//! needs no right that it lacks: it answers a question, and pinger writes the file. What is not
//! whole never gets its name.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;
use super::clickhouse::{Asked, Connection};
use super::session::{Session, Sharing, look};
use crate::config::StoreOptions;
use target::Target;

mod target;

/// How often progress is told, so that a second's work is done in silence.
const PROGRESS: Duration = Duration::from_secs(2);

/// What to export, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// The store. An embedded one that is running is joined, else started for the export.
    pub store: StoreOptions,
    /// What.
    pub table: ExportTable,
    /// From this moment on, wall clock nanoseconds; `None`: from the beginning.
    pub from_ns: Option<i64>,
    /// Before this moment.
    pub until_ns: i64,
    /// As what.
    pub format: ExportFormat,
    /// Where to.
    pub output: Output,
}

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file, replaced when all is there.
    File(PathBuf),
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a line of names.
    Csv,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Parquet, Self::Csv];

    /// What it is called, and what files of it end in.
    pub fn word(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }

    /// The one that is called so.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }

    /// ClickHouse's name of it.
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSVWithNames",
        }
    }

    /// Settings that make it what other programs read best.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &[],
            Self::Csv => &[
                "format_csv_null_representation = ''",
                "date_time_output_format = 'iso'",
            ],
        }
    }
}

/// What can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportTable {
    /// Each result, with names.
    Results,
    /// Loss and round trips of each minute.
    PerMinute,
    /// The same of each hour.
    PerHour,
    /// When destinations were away.
    Outages,
    /// What is missing of the results, and why.
    Gaps,
    /// The runs of pinger.
    Runs,
}

impl ExportTable {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Results,
        Self::PerMinute,
        Self::PerHour,
        Self::Outages,
        Self::Gaps,
        Self::Runs,
    ];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::PerMinute => "per_minute",
            Self::PerHour => "per_hour",
            Self::Outages => "outages",
            Self::Gaps => "gaps",
            Self::Runs => "runs",
        }
    }

    /// The column of time by which a range is chosen.
    fn time(self) -> &'static str {
        match self {
            Self::Results => "time_due",
            Self::PerMinute => "minute",
            Self::PerHour => "hour",
            Self::Outages => "start",
            Self::Gaps => "from",
            Self::Runs => "started",
        }
    }

    /// The question, for a condition on time.
    fn question(self, range: &str, leave: Leave) -> String {
        let simple = |from: &str, order: &str| {
            format!("SELECT * FROM {from} WHERE {range} ORDER BY {order}")
        };
        match self {
            Self::Results => {
                // One thread keeps the order through the joins; where it cannot be asked for, all
                // is sorted behind them, which takes memory.
                let (inside, behind) = match leave {
                    Leave::Settings => (ORDER, ""),
                    Leave::Nothing => ("", ORDER),
                };
                format!(
                    "{RESULTS} FROM (SELECT *, time_sent, rtime FROM results \
                     WHERE {range}{inside}) AS r {NAMES}{behind}"
                )
            }
            Self::PerMinute => simple("per_minute", "minute, destination, source"),
            Self::PerHour => simple("per_hour", "hour, destination, source"),
            Self::Outages => simple("outages", "start, name"),
            Self::Gaps => simple("gaps", "from, source, run"),
            Self::Runs => simple("runs FINAL", "started, source"),
        }
    }

    /// Settings that the question needs.
    fn settings(self) -> &'static [&'static str] {
        match self {
            // Rows are read in the order in which they lie, and go through the joins one by one in
            // that order: nothing is sorted, so any range takes little memory.
            Self::Results => &["max_threads = 1", "join_algorithm = 'hash'"],
            _ => &[],
        }
    }
}

/// Whether a user may change settings; with `readonly` = 1 nobody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Settings,
    Nothing,
}

impl Leave {
    /// What the server allows.
    async fn ask(connection: &Connection) -> Result<Self, StoreError> {
        let readonly: u64 = connection
            .fetch_one("SELECT toUInt64(getSetting('readonly'))")
            .await?;
        Ok(match readonly {
            1 => Self::Nothing,
            _ => Self::Settings,
        })
    }
}

/// What is written otherwise by a user who may not change settings.
const PLAIN_CSV: &str = "this user may not change settings (readonly = 1), so what is unknown is \
    written as \\N and times without T and Z; with readonly = 2 it is as usual";

/// The order in which results lie.
const ORDER: &str = " ORDER BY toStartOfHour(time_due), destination, source, time_due";

/// Results with names. Enumerations and addresses are texts, since not every reader knows the
/// types; what is unknown is NULL.
const RESULTS: &str = "\
SELECT r.time_due AS time_due, r.source AS source_id, s.name AS source, \
r.destination AS destination_id, d.name AS destination, \
replaceOne(toString(d.address), '::ffff:', '') AS destination_address, \
toString(d.protocol) AS protocol, d.port AS port, r.run AS run, r.sequence AS sequence, \
r.ttl AS ttl, r.hops AS trace_hops, toString(r.outcome) AS outcome, r.rtt AS rtt_ns, \
r.lag AS lag_ns, r.time_sent AS time_sent, r.rtime AS time_answered, \
nullIf(toString(r.answer), 'none') AS answer, \
if(r.address = toIPv6('::'), NULL, replaceOne(toString(r.address), '::ffff:', '')) AS responder, \
r.rtype AS icmp_type, r.rcode AS icmp_code, nullIf(r.hop_limit, 0) AS hop_limit, \
r.traffic_class AS traffic_class, r.datamatch AS payload_intact, \
r.mismatch_at AS payload_differs_at";

/// What the names of results are taken from.
const NAMES: &str = "\
LEFT ANY JOIN (SELECT id, name, address, protocol, port FROM destinations FINAL) AS d \
ON d.id = r.destination \
LEFT ANY JOIN (SELECT id, name FROM sources FINAL) AS s ON s.id = r.source";

/// The whole question.
fn sql(options: &ExportOptions, leave: Leave) -> String {
    let (time, until_ns) = (options.table.time(), options.until_ns);
    let mut range = format!("{time} < fromUnixTimestamp64Nano({until_ns})");
    if let Some(from_ns) = options.from_ns {
        range += &format!(" AND {time} >= fromUnixTimestamp64Nano({from_ns})");
    }
    let question = options.table.question(&range, leave);
    let settings = [options.table.settings(), options.format.settings()].concat();
    if settings.is_empty() || leave == Leave::Nothing {
        question
    } else {
        format!("{question} SETTINGS {}", settings.join(", "))
    }
}

/// Exports, telling `progress` every other second how many bytes are written, and `note` what is
/// not as usual. Returns how many bytes there are in all.
///
/// # Errors
/// When the store cannot be reached or refuses, or the file cannot be written; then there is no
/// new file, and an old one of that name is as it was.
pub fn run(
    options: &ExportOptions,
    progress: &mut dyn FnMut(u64),
    note: &mut dyn FnMut(&str),
) -> Result<u64, StoreError> {
    let mut target = Target::open(&options.output)?;
    look(&options.store)?;
    let session = Session::open(&options.store, Sharing::Guest)?;
    let leave = session.block_on(Leave::ask(session.connection()))?;
    if leave == Leave::Nothing && !options.format.settings().is_empty() {
        note(PLAIN_CSV);
    }
    let (mut written, mut told) = (0_u64, Instant::now());
    let take = |chunk: &[u8]| {
        target.write_all(chunk)?;
        written += chunk.len() as u64;
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            progress(written);
        }
        Ok(())
    };
    let question = sql(options, leave);
    let asking = session
        .connection()
        .ask(&question, options.format.name(), take);
    let answer = session.block_on(asking);
    match answer.and_then(|()| target.finish().map_err(Asked::Out)) {
        Ok(()) => Ok(written),
        Err(Asked::Store(error)) => Err(error),
        // Whoever read it has seen enough, as `head` does.
        Err(Asked::Out(error))
            if error.kind() == io::ErrorKind::BrokenPipe && options.output == Output::Stdout =>
        {
            Ok(written)
        }
        Err(Asked::Out(error)) => Err(unwritable(&options.output, error)),
    }
}

fn unwritable(output: &Output, error: io::Error) -> StoreError {
    let path = match output {
        Output::Stdout => Path::new("standard output"),
        Output::File(path) => path,
    };
    StoreError::file(
        "write",
        path,
        "check the path, its rights and its disk's space",
    )(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, store_options};

    fn options(table: ExportTable, from_ns: Option<i64>, format: ExportFormat) -> ExportOptions {
        ExportOptions {
            store: store_options(&[&Settings::default()]),
            table,
            from_ns,
            until_ns: 9,
            format,
            output: Output::Stdout,
        }
    }

    #[test]
    fn a_range_is_asked_for_by_the_time_of_the_table() {
        let hours = options(ExportTable::PerHour, Some(-7), ExportFormat::Parquet);
        assert_eq!(
            sql(&hours, Leave::Settings),
            "SELECT * FROM per_hour WHERE hour < fromUnixTimestamp64Nano(9) AND \
             hour >= fromUnixTimestamp64Nano(-7) ORDER BY hour, destination, source"
        );
        let runs = options(ExportTable::Runs, None, ExportFormat::Csv);
        let all = sql(&runs, Leave::Settings);
        assert!(
            all.ends_with(
                "FINAL WHERE started < fromUnixTimestamp64Nano(9) ORDER BY started, source \
                 SETTINGS format_csv_null_representation = '', date_time_output_format = 'iso'"
            ),
            "{all}"
        );
        let results = options(ExportTable::Results, None, ExportFormat::Parquet);
        let plain = sql(&results, Leave::Nothing);
        assert!(!plain.contains("SETTINGS"), "{plain}");
        assert!(plain.ends_with(ORDER), "{plain}");
        let results = sql(&results, Leave::Settings);
        assert!(
            results.contains("WHERE time_due < fromUnixTimestamp64Nano(9) ORDER BY toStart"),
            "{results}"
        );
        assert!(
            results.ends_with("SETTINGS max_threads = 1, join_algorithm = 'hash'"),
            "{results}"
        );
    }

    #[test]
    fn each_word_names_one() {
        for format in ExportFormat::ALL {
            assert_eq!(ExportFormat::of_word(format.word()), Some(format));
        }
        assert_eq!(ExportFormat::of_word("xml"), None);
    }
}
