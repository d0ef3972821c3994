//! The `cargo xtask` command: reads its arguments, calls one subcommand, tells the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, build, lab, readme, run, setup, sql, test};

/// Prepares, builds, runs, tests and measures pinger.
///
/// Everything that a subcommand needs is got first, outside the tree, once for all clones.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds and starts pinger; with nothing named to probe, in a lab made for it.
    ///
    /// ARGS are those of `pinger run`. With no destination among them a network namespace is
    /// made that answers for 1,000 IPv4 and 1,000 IPv6 addresses, and removed at the end.
    #[command(after_help = "Examples:
  cargo xtask run                                       the lab, until Ctrl-C
  cargo xtask run --duration 10s --format json          the lab for ten seconds, figures at the end
  cargo xtask run -- -i eth0 192.0.2.1 2001:db8::1      real hosts, through eth0
  cargo xtask run -- --help                             all of pinger's own options")]
    Run {
        /// Arguments for `pinger run`, after `--` or directly.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Runs a query over the results that were stored.
    #[command(after_help = "Example:
  cargo xtask sql \"SELECT outcome, count() FROM results GROUP BY outcome\"")]
    Sql {
        /// The query, and arguments for `pinger sql`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        query: Vec<OsString>,
    },
    /// Makes, shows or removes the lab: tens of thousands of hosts that never leave this machine.
    #[command(subcommand)]
    Lab(LabTask),
    /// Gets what is missing on this machine; every other subcommand does so too.
    Setup,
    /// Builds the kernel program and pinger, complete in one file.
    Build,
    /// Runs every check there is; the first failure stops.
    Test {
        /// Leave out what needs root: the end-to-end tests.
        #[arg(long)]
        quick: bool,
        /// Only this step: format, lint, docs, unit or end-to-end.
        #[arg(long)]
        step: Option<String>,
        /// Only the chaos test, this many rounds of 5 to 8 seconds: runs while things go wrong.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
              conflicts_with_all = ["quick", "step", "filter"])]
        chaos: Option<u32>,
        /// Only tests whose names contain one of these.
        filter: Vec<String>,
    },
    /// Measures pinger beside other probers.
    Bench {
        /// How often each case is run [default: 5].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        runs: Option<u32>,
        /// How long each run takes, in seconds, instead of each case's own time.
        #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: Option<u64>,
        /// Rows for the table `queries`, instead of a hundred million: for a quick look.
        #[arg(long, value_name = "N",
            value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        rows: Option<u64>,
        /// Only these tables, such as `rate` or `pacing`; `queries` is measured only when it is
        /// named, for it takes minutes to make its rows.
        name: Vec<String>,
    },
    /// Fills README.md with what the commands in it print, and draws its picture.
    Readme,
}

#[derive(Subcommand)]
enum LabTask {
    /// Makes the lab, or repairs it; it stays until `lab down`.
    Up,
    /// Shows its interfaces, namespaces and prefixes; exit code 3 if it is not up.
    Status,
    /// Removes the lab.
    Down,
    /// What the lab's hosts offer, as a process that `up` starts.
    #[command(hide = true)]
    Serve {
        /// The hosts' namespace.
        namespace: String,
    },
}

fn main() -> ExitCode {
    let result = perform(Arguments::parse().command);
    match result {
        // A code beyond a byte cannot be told; no program has one.
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<i32> {
    match task {
        Task::Run { args } => run::command(&args),
        Task::Sql { query } => sql::command(&query),
        Task::Lab(LabTask::Up) => lab::command::up().map(|()| 0),
        Task::Lab(LabTask::Status) => lab::command::status(),
        Task::Lab(LabTask::Down) => lab::command::down().map(|()| 0),
        Task::Lab(LabTask::Serve { namespace }) => lab::services::serve(&namespace).map(|()| 0),
        Task::Setup => setup::command().map(|()| 0),
        Task::Build => build::command().map(|()| 0),
        Task::Test {
            quick,
            step,
            chaos,
            filter,
        } => match chaos {
            Some(rounds) => test::chaos(rounds),
            None => test::command(&test::Choice {
                quick,
                step,
                filters: filter,
            }),
        },
        Task::Bench {
            runs,
            seconds,
            rows,
            name,
        } => bench::command(&bench::Choice {
            runs,
            seconds,
            rows,
            names: name,
        }),
        Task::Readme => readme::command().map(|()| 0),
    }
}
