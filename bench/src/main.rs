//! `pinger-bench [NAME…]`, called by `cargo xtask bench`: measures table after table in a lab of
//! its own and writes `bench/results.json` and `bench/RESULTS.md`.
//!
//! A table is a list of cases. They run in turn, A B C A B C …, so that whatever else the machine
//! does meanwhile hits all of them alike; each figure is the median of the runs, with the least
//! and the most beside it. Nothing here asserts a speed.

mod bench;
mod busy;
mod database;
mod feed;
mod fping;
mod generate;
mod machine;
mod measure;
mod outage;
mod pacing;
mod process;
mod program;
mod protocols;
mod queries;
mod rate;
mod report;
mod show;
mod store;
mod trace;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use xtask::bench::{ASKED_FOR, TABLES};
use xtask::signals::Held;

use bench::Bench;
use machine::Facts;
use measure::{Table, measure};
use report::Record;

/// The tables, in the order in which they are measured and shown.
fn tables(rows: u64) -> Vec<Table> {
    vec![
        rate::table(),
        pacing::table(),
        protocols::table(),
        protocols::floor(),
        trace::table(),
        program::table(),
        store::table(),
        outage::table(),
        queries::table(rows),
    ]
}

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Choice {
    /// Only these tables; if none is named, all but those that take long.
    #[arg(value_parser = TABLES)]
    name: Vec<String>,
    /// How often each case is run.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// How long each run takes, seconds, instead of each case's own time: for a quick look.
    #[arg(long)]
    seconds: Option<u64>,
    /// Rows for the table `queries`, for a quick look.
    #[arg(long, default_value_t = queries::ROWS)]
    rows: u64,
}

impl Choice {
    /// Those that are named; `cargo xtask bench` has checked that they exist.
    fn tables(&self) -> Vec<Table> {
        let chosen = |table: &Table| match self.name.is_empty() {
            true => !ASKED_FOR.contains(&table.name),
            false => self.name.iter().any(|name| name == table.name),
        };
        tables(self.rows).into_iter().filter(chosen).collect()
    }
}

fn main() -> ExitCode {
    match run(&Choice::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(choice: &Choice) -> Result<()> {
    let chosen = choice.tables();
    // Before there is any other thread; from here on a signal ends us between two steps.
    let held = Held::new()?;
    let bench = Bench::new(&held, choice.seconds)?;
    let mut record = Record::read()?;
    for table in &chosen {
        let facts = Facts::look(choice.runs).context("cannot describe this machine")?;
        let rows = measure(&bench, table, choice.runs)?;
        // After each table: what was measured is kept, whatever becomes of the next.
        if let Some(page) = &table.page {
            page()?;
        }
        record.put(table.name, rows, facts);
        record.write(&tables(choice.rows))?;
    }
    eprintln!("bench: wrote {}", report::shown_paths());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_that_xtask_knows() {
        let names: Vec<&str> = tables(queries::ROWS)
            .iter()
            .map(|table| table.name)
            .collect();
        assert_eq!(names, TABLES);
    }
}
