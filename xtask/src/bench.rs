//! `cargo xtask bench [NAME…]`: measures pinger beside other probers.
//!
//! All that is missing and the build come first; the measuring itself is `pinger-bench`.

use anyhow::{Result, bail, ensure};

use crate::setup::plan::{Engine, Needs};
use crate::signals::Held;
use crate::{build, process, setup};

/// The tables that there are, in the order in which they are measured.
pub const TABLES: [&str; 9] = [
    "rate",
    "pacing",
    "protocols",
    "floor",
    "trace",
    "program",
    "store",
    "outage",
    "queries",
];

/// Those of them that are measured only when they are named, because they take long.
pub const ASKED_FOR: [&str; 1] = ["queries"];

/// What to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// How often each case is run.
    pub runs: Option<u32>,
    /// How long each run takes, seconds.
    pub seconds: Option<u64>,
    /// Rows for the table `queries`.
    pub rows: Option<u64>,
    /// Only these tables; if there are none, all but [`ASKED_FOR`].
    pub names: Vec<String>,
}

impl Choice {
    /// Asked before anything is built: a slip is told at once.
    fn check(&self) -> Result<()> {
        let unknown = |name: &&String| !TABLES.contains(&name.as_str());
        if let Some(name) = self.names.iter().find(unknown) {
            let tables = TABLES.join(", ");
            bail!("there is no table `{name}`; the tables are: {tables}");
        }
        Ok(())
    }

    /// The choice as arguments of `pinger-bench`, which knows the defaults and the limits.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(runs) = self.runs {
            arguments.extend(["--runs".into(), runs.to_string()]);
        }
        if let Some(seconds) = self.seconds {
            arguments.extend(["--seconds".into(), seconds.to_string()]);
        }
        if let Some(rows) = self.rows {
            arguments.extend(["--rows".into(), rows.to_string()]);
        }
        arguments.extend(self.names.iter().cloned());
        arguments
    }
}

/// The subcommand; gives the exit code of the measurements.
///
/// # Errors
/// There is no such table; or something could not be got or built. Nothing was measured.
pub fn command(choice: &Choice) -> Result<i32> {
    choice.check()?;
    ensure!(
        process::is_root(),
        "measuring needs root, for the lab and for sending: {}",
        process::as_root("bench")
    );
    let tools = setup::ensure(Needs {
        build: true,
        lab: true,
        engine: Engine::Any,
        fping: true,
    })?;
    let built = build::build(&tools)?;
    let mut bench = process::cargo("run");
    bench
        .args(["--quiet", "--release", "--package", "pinger-bench", "--"])
        .args(choice.arguments())
        .envs(built.environment())
        .envs(tools.environment());
    Held::new()?.supervise(&mut bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_passed_on_as_it_was_said() {
        assert!(Choice::default().arguments().is_empty());
        assert!(Choice::default().check().is_ok());
        let choice = Choice {
            runs: Some(3),
            seconds: Some(1),
            rows: Some(5_000_000),
            names: vec!["rate".into()],
        };
        assert_eq!(
            choice.arguments(),
            ["--runs", "3", "--seconds", "1", "--rows", "5000000", "rate"]
        );
    }

    #[test]
    fn an_unknown_table_is_answered_with_the_known_ones() {
        let choice = Choice {
            names: vec!["rate".into(), "speed".into()],
            ..Choice::default()
        };
        let text = choice.check().unwrap_err().to_string();
        assert!(
            text.contains("`speed`") && text.contains("rate, pacing"),
            "{text}"
        );
    }
}
