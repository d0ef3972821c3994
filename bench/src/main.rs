//! `pinger-bench [NAME…]`, called by `cargo xtask bench`: measures table after table in a lab of
//! its own and writes `bench/results.json` and `bench/RESULTS.md`.
//!
//! A table is a list of cases. They run in turn, A B C A B C …, so that whatever else the machine
//! does meanwhile hits all of them alike; each figure is the median of the runs, with the least
//! and the most beside it. Nothing here asserts a speed.

mod bench;
mod busy;
mod fping;
mod machine;
mod measure;
mod pacing;
mod rate;
mod report;
mod show;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use xtask::signals::Held;

use bench::Bench;
use machine::Facts;
use measure::{Table, measure};
use report::Record;

/// The tables, in the order in which they are measured and shown.
fn tables() -> Vec<Table> {
    vec![rate::table(), pacing::table()]
}

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Choice {
    /// Only these tables; all if none is named.
    name: Vec<String>,
    /// How often each case is run.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// How long each run takes, seconds, instead of each case's own time: for a quick look.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

impl Choice {
    fn tables(&self) -> Result<Vec<Table>> {
        let known = tables();
        if let Some(name) = self
            .name
            .iter()
            .find(|name| !known.iter().any(|table| table.name == **name))
        {
            let names: Vec<&str> = known.iter().map(|table| table.name).collect();
            bail!(
                "there is no table `{name}`; the tables are: {}",
                names.join(", ")
            );
        }
        let chosen =
            |table: &Table| self.name.is_empty() || self.name.iter().any(|n| n == table.name);
        Ok(known.into_iter().filter(chosen).collect())
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
    let chosen = choice.tables()?;
    // Before there is any other thread; from here on a signal ends us between two steps.
    let held = Held::new()?;
    let bench = Bench::new(&held, choice.seconds)?;
    let mut record = Record::read()?;
    for table in &chosen {
        let facts = Facts::look(choice.runs).context("cannot describe this machine")?;
        let rows = measure(&bench, table, choice.runs)?;
        // After each table: what was measured is kept, whatever becomes of the next.
        record.put(table.name, rows, facts);
        record.write(&tables())?;
    }
    eprintln!("bench: wrote {}", report::shown_paths());
    Ok(())
}
