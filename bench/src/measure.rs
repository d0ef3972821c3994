//! A table as data, and how it is measured: its cases in turn, several times over, reduced to
//! medians.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::show;

/// One figure of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) metric: &'static str,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Events per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Probes.
    #[serde(rename = "probes")]
    Probes,
    /// Rows in the store.
    #[serde(rename = "rows")]
    Rows,
    /// Bytes for each row.
    #[serde(rename = "B/row")]
    BytesPerRow,
    /// Seconds of CPU for a million rows.
    #[serde(rename = "s/M")]
    SecondsPerMillion,
    /// How many times as much.
    #[serde(rename = "times")]
    Times,
}

impl Unit {
    /// A figure in this unit.
    pub(crate) fn of(self, metric: &'static str, value: f64) -> Figure {
        Figure {
            metric,
            unit: self,
            value,
        }
    }

    /// A whole number in this unit.
    pub(crate) fn count(self, metric: &'static str, value: u64) -> Figure {
        // Exact up to 2^53, far beyond what a run counts.
        self.of(metric, value as f64)
    }
}

/// Runs a case once and gives its figures, always of the same metrics in the same order.
pub(crate) type Run = Box<dyn Fn(&Bench) -> Result<Vec<Figure>>>;

/// One line of a table.
pub(crate) struct Case {
    /// What is done; the same words for all tools that do the same.
    pub(crate) name: String,
    /// Who does it.
    pub(crate) tool: &'static str,
    /// How long one run takes, about.
    pub(crate) time: Duration,
    /// The most runs, for a case whose time is long.
    pub(crate) runs_max: u32,
    pub(crate) run: Run,
}

/// A table of cases.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What it shows, for someone who has never seen the project: Markdown.
    pub(crate) about: &'static str,
    pub(crate) cases: Vec<Case>,
    /// What follows from the rows, a sentence each.
    pub(crate) findings: fn(&[Row]) -> Vec<String>,
    /// Writes a page of its own, once it is measured.
    pub(crate) page: Option<Page>,
}

/// Writes a page of what a table's runs left.
pub(crate) type Page = Box<dyn Fn() -> Result<()>>;

/// A measured figure, as `results.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) table: String,
    pub(crate) case: String,
    pub(crate) tool: String,
    pub(crate) metric: String,
    pub(crate) unit: Unit,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Measures a table.
///
/// # Errors
/// A run failed, or we were asked to end.
pub(crate) fn measure(bench: &Bench, table: &Table, runs: u32) -> Result<Vec<Row>> {
    let mut figures: Vec<Vec<Vec<Figure>>> = table.cases.iter().map(|_| Vec::new()).collect();
    let planned = |case: &Case| runs.min(case.runs_max);
    let total: Duration = table
        .cases
        .iter()
        .map(|case| bench.time(case.time) * planned(case))
        .sum();
    eprintln!(
        "bench: table {}: {} cases, up to {runs} runs each, at least {}",
        table.name,
        table.cases.len(),
        xtask::progress::spent(total)
    );
    for round in 1..=runs {
        for (case, figures) in table.cases.iter().zip(&mut figures) {
            if round > planned(case) {
                continue;
            }
            let title = format!("{}, {}", case.name, case.tool);
            let got =
                (case.run)(bench).with_context(|| format!("table {}, case {title}", table.name))?;
            let words: Vec<String> = got.iter().map(show::figure).collect();
            eprintln!("  {round}/{}  {title}: {}", planned(case), words.join(", "));
            figures.push(got);
        }
    }
    let rows = table.cases.iter().zip(&figures);
    Ok(rows
        .flat_map(|(case, runs)| reduce(table.name, case, runs))
        .collect())
}

/// The rows of one case, a row a metric.
fn reduce(table: &str, case: &Case, runs: &[Vec<Figure>]) -> Vec<Row> {
    let metrics = runs.first().map_or(0, Vec::len);
    (0..metrics)
        .map(|at| {
            let Figure { metric, unit, .. } = runs[0][at];
            let mut values: Vec<f64> = runs.iter().map(|run| run[at].value).collect();
            values.sort_by(f64::total_cmp);
            Row {
                table: table.into(),
                case: case.name.clone(),
                tool: case.tool.into(),
                metric: metric.into(),
                unit,
                median: rounded(median(&values)),
                min: rounded(values[0]),
                max: rounded(values[values.len() - 1]),
            }
        })
        .collect()
}

/// The middle of sorted values; of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

/// Digits beyond the third after the point are noise, and would change in each run's diff.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_reduced_to_median_least_and_most() {
        let case = Case {
            name: "some".into(),
            tool: "pinger",
            time: Duration::ZERO,
            runs_max: u32::MAX,
            run: Box::new(|_| Ok(Vec::new())),
        };
        let run = |replies, lost| {
            vec![
                Unit::PerSecond.of("replies", replies),
                Unit::Probes.count("lost", lost),
            ]
        };
        let rows = reduce(
            "rate",
            &case,
            &[run(30.0, 0), run(10.000_4, 2), run(20.0, 1)],
        );
        let figures: Vec<_> = rows
            .iter()
            .map(|row| (row.metric.as_str(), row.min, row.median, row.max))
            .collect();
        assert_eq!(
            figures,
            [("replies", 10.0, 20.0, 30.0), ("lost", 0.0, 1.0, 2.0)]
        );
        let rows = reduce("rate", &case, &[run(30.0, 0), run(10.0, 3)]);
        assert_eq!((rows[0].median, rows[1].median), (20.0, 1.5));
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"table": "rate", "case": "some", "tool": "pinger",
                "metric": "replies", "unit": "1/s", "median": 20.0, "min": 10.0, "max": 30.0})
        );
    }
}
