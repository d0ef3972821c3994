//! What was measured so far: read, replaced table by table, and written as `bench/results.json`
//! (every figure), `bench/measured.json` (when and on what, a table) and `bench/RESULTS.md`
//! (generated whole from these two).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use xtask::paths;

use crate::machine::Facts;
use crate::measure::{Row, Table};
use crate::show;

const RESULTS: &str = "bench/results.json";
const MEASURED: &str = "bench/measured.json";
const PAGE: &str = "bench/RESULTS.md";

/// Where results are, for people.
pub(crate) fn shown_paths() -> String {
    format!("{PAGE} and {RESULTS}")
}

/// All tables' results.
#[derive(Debug, Default)]
pub(crate) struct Record {
    rows: Vec<Row>,
    facts: BTreeMap<String, Facts>,
}

impl Record {
    /// Reads what earlier runs left; nothing if there was none.
    ///
    /// # Errors
    /// A file cannot be read, or was written by something else.
    pub(crate) fn read() -> Result<Self> {
        Ok(Self {
            rows: read(RESULTS)?,
            facts: read(MEASURED)?,
        })
    }

    /// Replaces a table's results.
    pub(crate) fn put(&mut self, table: &str, rows: Vec<Row>, facts: Facts) {
        self.rows.retain(|row| row.table != table);
        self.rows.extend(rows);
        self.facts.insert(table.into(), facts);
    }

    /// Writes the files, tables in their order; results of tables that are no more are dropped.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&mut self, tables: &[Table]) -> Result<()> {
        let place = |name: &str| tables.iter().position(|table| table.name == name);
        self.rows.retain(|row| place(&row.table).is_some());
        self.rows.sort_by_key(|row| place(&row.table));
        self.facts.retain(|name, _| place(name).is_some());
        write(RESULTS, &lines(&self.rows)?)?;
        let measured = serde_json::to_string_pretty(&self.facts)? + "\n";
        write(MEASURED, &measured)?;
        write(PAGE, &self.page(tables))
    }

    fn page(&self, tables: &[Table]) -> String {
        let mut page = String::from(
            "# Measurements\n\nWritten by `cargo xtask bench`; do not edit. Every figure is also \
             in [results.json](results.json).\n\nTo repeat them: `cargo xtask bench` as root, on \
             a machine that does nothing else; `cargo xtask bench NAME` measures one table \
             anew.\n\nThe lab is a network namespace on the same machine, joined by a veth pair, \
             whose kernel answers for all hosts: it shares the CPUs with the prober. The cases \
             of a table run in turn, several times over. A figure is the **median** of the \
             runs, then the least and the most in brackets; it stands alone where all runs \
             agree.\n",
        );
        for table in tables {
            let rows: Vec<Row> = self
                .rows
                .iter()
                .filter(|row| row.table == table.name)
                .cloned()
                .collect();
            if let Some(facts) = self.facts.get(table.name).filter(|_| !rows.is_empty()) {
                section(&mut page, table, &rows, facts);
            }
        }
        page
    }
}

/// One table with its heading.
fn section(page: &mut String, table: &Table, rows: &[Row], facts: &Facts) {
    let mut paragraph = |text: &str| {
        page.push('\n');
        page.push_str(text);
        page.push('\n');
    };
    paragraph(&format!("## {}", table.name));
    paragraph(table.about);
    paragraph(&grid(rows));
    for finding in (table.findings)(rows) {
        paragraph(&finding);
    }
    paragraph(&format!(
        "Measured {} with pinger {} and {}, Linux {}, {} CPUs ({}), of which other programs used \
         {} % just before; up to {} runs a case.",
        facts.measured,
        facts.pinger,
        facts.fping,
        facts.kernel,
        facts.cores,
        facts.cpu,
        facts.busy_percent,
        facts.runs
    ));
}

/// Rows as a Markdown table: a line a case and tool, a column a metric, in the order in which
/// they first come.
fn grid(rows: &[Row]) -> String {
    let mut metrics: Vec<&str> = Vec::new();
    let mut cases: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !metrics.contains(&row.metric.as_str()) {
            metrics.push(&row.metric);
        }
        if !cases.contains(&(&row.case, &row.tool)) {
            cases.push((&row.case, &row.tool));
        }
    }
    let mut text = format!("| case | tool | {} |\n", metrics.join(" | "));
    text += "|---|---|";
    text += &"---:|".repeat(metrics.len());
    for (case, tool) in cases {
        write!(text, "\n| {case} | {tool} |").unwrap_or_default();
        for metric in &metrics {
            let cell = rows
                .iter()
                .find(|row| row.case == case && row.tool == tool && row.metric == *metric)
                .map_or("–".to_owned(), show::row);
            write!(text, " {cell} |").unwrap_or_default();
        }
    }
    text
}

/// A JSON list with an item a line, so that a diff shows what changed.
fn lines(rows: &[Row]) -> Result<String> {
    let items = rows
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[\n{}\n]\n", items.join(",\n")))
}

fn path(name: &str) -> PathBuf {
    paths::root().join(name)
}

fn read<T: DeserializeOwned + Default>(name: &str) -> Result<T> {
    match fs::read_to_string(path(name)) {
        Ok(text) => serde_json::from_str(&text).with_context(|| {
            format!("{name} is not as `cargo xtask bench` writes it: remove it and measure anew")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

fn write(name: &str, text: &str) -> Result<()> {
    fs::write(path(name), text).with_context(|| format!("cannot write {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Unit;

    fn row(table: &str, case: &str, tool: &str, metric: &str, median: f64) -> Row {
        Row {
            table: table.into(),
            case: case.into(),
            tool: tool.into(),
            metric: metric.into(),
            unit: Unit::Probes,
            median,
            min: median,
            max: median,
        }
    }

    #[test]
    fn metrics_are_columns_and_a_case_without_one_says_so() {
        let rows = [
            row("t", "flood", "pinger", "sent", 1000.0),
            row("t", "flood", "fping", "sent", 65.0),
            row("t", "flood", "fping", "lost", 2.0),
        ];
        let expected = "| case | tool | sent | lost |\n|---|---|---:|---:|\n\
            | flood | pinger | 1,000 | – |\n| flood | fping | 65 | 2 |";
        assert_eq!(grid(&rows), expected);
    }

    #[test]
    fn rows_survive_writing_and_reading() {
        let rows = vec![
            row("rate", "a", "pinger", "sent", 1.0),
            row("rate", "b", "fping", "sent", 0.125),
        ];
        let text = lines(&rows).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert_eq!(serde_json::from_str::<Vec<Row>>(&text).unwrap(), rows);
    }

    #[test]
    fn measuring_one_table_keeps_the_others() {
        let facts = Facts {
            measured: "2026-01-01 00:00 UTC".into(),
            pinger: "v1".into(),
            fping: "fping 5.1".into(),
            cpu: "some".into(),
            cores: 2,
            kernel: "6.18".into(),
            busy_percent: 0,
            runs: 5,
        };
        let mut record = Record::default();
        let old = row("pacing", "x", "pinger", "sent", 1.0);
        record.put("pacing", vec![old.clone()], facts.clone());
        record.put(
            "rate",
            vec![row("rate", "a", "pinger", "sent", 1.0)],
            facts.clone(),
        );
        let new = row("rate", "a", "pinger", "sent", 2.0);
        record.put("rate", vec![new.clone()], facts);
        assert_eq!(record.rows, [old, new]);
        let page = record.page(&crate::tables(crate::queries::ROWS));
        assert!(page.find("## rate").unwrap() < page.find("## pacing").unwrap());
        assert!(
            page.contains("with pinger v1 and fping 5.1, Linux 6.18, 2 CPUs (some)"),
            "{page}"
        );
    }
}
