//! The table `queries`: how long each query of the cookbook takes on a hundred million rows; and
//! `docs/queries.md`, the cookbook with what each answers there.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::paths;

use crate::bench::Bench;
use crate::generate::Generated;
use crate::measure::{Case, Figure, Row, Table, Unit};

/// The table's name.
pub(crate) const NAME: &str = "queries";
/// Rows that the queries are asked on, unless the user says otherwise.
pub(crate) const ROWS: u64 = 100_000_000;

/// The folder of the queries, and the page, below the workspace's root.
const FOLDER: &str = "schema/queries";
const PAGE: &str = "docs/queries.md";
/// Lines of an answer that the page shows; more would not be read.
const LINES_MAX: usize = 16;
/// Columns of text that it shows of each line.
const COLUMNS_MAX: usize = 150;

/// How soon an answer shall be there.
#[derive(Clone, Copy)]
enum Goal {
    /// Questions that a dashboard asks again and again, about the last hour at most.
    Dashboard,
    /// Questions that a person asks, about all there is.
    Question,
}

impl Goal {
    fn time(self) -> Duration {
        match self {
            Self::Dashboard => Duration::from_millis(100),
            Self::Question => Duration::from_secs(1),
        }
    }
}

/// The queries in the order of the page: the file's name, and its goal.
const QUERIES: &[(&str, Goal)] = &[
    ("worst_now", Goal::Dashboard),
    ("per_minute", Goal::Dashboard),
    ("loss_and_rtt", Goal::Dashboard),
    ("heat_map", Goal::Dashboard),
    ("quantiles", Goal::Question),
    ("outages", Goal::Question),
    ("slo_burn", Goal::Question),
    ("compare_sources", Goal::Question),
    ("paths", Goal::Question),
    ("path_changes", Goal::Question),
    ("hops", Goal::Question),
    ("hop_changes", Goal::Question),
    ("who_answered", Goal::Dashboard),
    ("last_results", Goal::Dashboard),
    ("own_lateness", Goal::Dashboard),
    ("runs", Goal::Question),
    ("gaps", Goal::Question),
    ("disk", Goal::Question),
    ("disk_columns", Goal::Question),
];

/// What all cases share: the database, made when the first one runs.
#[derive(Default)]
struct Shared {
    generated: Option<Generated>,
    /// The last answer to each query, in their order.
    answers: Vec<String>,
}

pub(crate) fn table(rows: u64) -> Table {
    let shared = Rc::new(RefCell::new(Shared {
        generated: None,
        answers: vec![String::new(); QUERIES.len()],
    }));
    let case = |(at, &(name, goal)): (usize, &(&'static str, Goal))| {
        let shared = Rc::clone(&shared);
        Case {
            name: name.into(),
            tool: "pinger",
            time: goal.time(),
            runs_max: u32::MAX,
            run: Box::new(move |bench| run(bench, &mut shared.borrow_mut(), rows, at, goal)),
        }
    };
    let cases = QUERIES.iter().enumerate().map(case).collect();
    Table {
        name: NAME,
        about: "How long each query of the [cookbook](../docs/queries.md) takes, from the request \
            to the last byte of its answer, on a hundred million invented results (`rows stored`) \
            that were inserted as pinger inserts: 1,000 destinations, two sources, 10,000 rows a \
            second up to the moment of the question. Nothing else is asked, inserted or merged \
            meanwhile. `goal` is what it should take at most: 100 ms where a dashboard asks it of \
            the last hour, a second where a person asks.",
        cases,
        findings,
        page: Some(Box::new(move || {
            let mut shared = shared.borrow_mut();
            let generated = shared.generated.take().context("nothing was measured")?;
            write_page(&page(&shared.answers, generated.rows())?)
        })),
    }
}

fn run(
    bench: &Bench,
    shared: &mut Shared,
    rows: u64,
    at: usize,
    goal: Goal,
) -> Result<Vec<Figure>> {
    let generated = match &mut shared.generated {
        Some(generated) => generated,
        none => none.insert(Generated::new(bench, rows)?),
    };
    generated.go_on(bench)?;
    // Minutes are inserted in one go here, and merged with as much haste: a host that probes does
    // little of that at a time.
    generated.database().rest()?;
    let (_, query) = read(QUERIES[at].0)?;
    let answer = generated.database().ask(&query, "PrettyCompactMonoBlock")?;
    shared.answers[at] = answer.text;
    Ok(vec![
        Unit::Nanoseconds.of("time", answer.took.as_nanos() as f64),
        Unit::Nanoseconds.of("goal", goal.time().as_nanos() as f64),
        Unit::Rows.count("rows read", answer.rows_read),
        Unit::Rows.count("rows stored", generated.stored()),
    ])
}

/// A file's title and its statement.
fn read(name: &str) -> Result<(String, String)> {
    let path = paths::root().join(FOLDER).join(name).with_extension("sql");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let (title, query) = text
        .split_once('\n')
        .with_context(|| format!("{path:?} has no title in its first line"))?;
    let title = title.trim_start_matches('-').trim().to_owned();
    Ok((title, query.trim().trim_end_matches(';').to_owned()))
}

/// Those that take longer than they should.
fn findings(rows: &[Row]) -> Vec<String> {
    let of = |case: &str, metric: &str| {
        rows.iter()
            .find(|row| row.case == case && row.metric == metric)
    };
    let slow: Vec<&str> = QUERIES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| match (of(name, "time"), of(name, "goal")) {
            (Some(time), Some(goal)) => time.median > goal.median,
            _ => false,
        })
        .collect();
    vec![if slow.is_empty() {
        "Each takes less than its goal in the median.".into()
    } else {
        format!("Slower than the goal: {}.", slow.join(", "))
    }]
}

fn page(answers: &[String], generated: u64) -> Result<String> {
    let mut page = format!(
        "# Queries\n\nWritten by `cargo xtask bench queries`; do not edit. Each query is a file \
         of [schema/queries](../schema/queries): its first line is the title, the rest is one \
         statement. `pinger sql - < schema/queries/NAME.sql` runs it on your own results.\n\n\
         The answers below are real, the network is invented: {} million rows of 1,000 \
         destinations that two sources probe up to the moment of the question, with loss, \
         outages, destinations that never answer, an hour in which one source hears nobody, path \
         changes, and a crash. Long answers are cut. How long each takes stands in \
         [bench/RESULTS.md](../bench/RESULTS.md#queries).\n",
        generated / 1_000_000
    );
    for ((name, _), answer) in QUERIES.iter().zip(answers) {
        let (title, query) = read(name)?;
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n[`{name}.sql`](../{FOLDER}/{name}.sql)\n\n```sql\n{query}\n```\n\n```text\n{}```\n",
            cut(answer)
        );
    }
    Ok(page)
}

/// An answer as long and as wide as a reader wants it.
fn cut(answer: &str) -> String {
    let lines: Vec<&str> = answer.trim_end().lines().collect();
    let narrow = |line: &str| {
        let mut text: String = line.chars().take(COLUMNS_MAX).collect();
        if line.chars().count() > COLUMNS_MAX {
            text.push('…');
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text: String = lines
        .iter()
        .take(LINES_MAX)
        .map(|line| narrow(line))
        .collect();
    if lines.len() > LINES_MAX {
        // The heads are two lines and the foot is one.
        let _ = writeln!(text, "… {} more lines", lines.len() - LINES_MAX);
    }
    text
}

fn write_page(text: &str) -> Result<()> {
    fs::write(paths::root().join(PAGE), text).with_context(|| format!("cannot write {PAGE}"))?;
    eprintln!("bench: wrote {PAGE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_query_of_the_folder_is_measured() {
        let files: BTreeSet<String> = fs::read_dir(paths::root().join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .map(|name| {
                Path::new(&name)
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let measured: BTreeSet<String> =
            QUERIES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(measured, files);
    }

    #[test]
    fn what_is_slower_than_its_goal_is_named() {
        let row = |case: &str, metric: &str, median| Row {
            table: NAME.into(),
            case: case.into(),
            tool: "pinger".into(),
            metric: metric.into(),
            unit: Unit::Nanoseconds,
            median,
            min: median,
            max: median,
        };
        let mut rows = vec![row("worst_now", "time", 9e7), row("worst_now", "goal", 1e8)];
        let found = findings(&rows);
        assert_eq!(found, ["Each takes less than its goal in the median."]);
        rows.extend([row("outages", "time", 2e9), row("outages", "goal", 1e9)]);
        assert_eq!(findings(&rows), ["Slower than the goal: outages."]);
    }

    #[test]
    fn a_long_answer_is_cut_and_says_so() {
        assert_eq!(cut("a  \nb\n\n"), "a\nb\n");
        let long: String = (0..LINES_MAX + 3).map(|line| format!("{line}\n")).collect();
        let text = cut(&long);
        assert_eq!(text.lines().count(), LINES_MAX + 1);
        assert!(text.ends_with("15\n… 3 more lines\n"), "{text}");
        let wide = "x".repeat(COLUMNS_MAX + 1);
        assert_eq!(cut(&wide).trim_end().chars().count(), COLUMNS_MAX + 1);
        assert!(cut(&wide).ends_with("x…\n"));
    }
}
