//! `cargo xtask test`: every check that there is, the same for people and for CI.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::progress::{say, spent};
use crate::setup::plan::{Engine, Needs};
use crate::signals::Held;
use crate::{build, process, setup};

/// One check, by the name under which it can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    what: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Looks at the sources only.
    Source,
    /// Runs tests that need nothing of the machine.
    Tests,
    /// Needs root, namespaces and the engine.
    Machine,
}

/// The cheap ones first, so that a slip is told soon.
const STEPS: [Step; 5] = [
    Step {
        name: "format",
        what: "rustfmt changes nothing",
        kind: Kind::Source,
    },
    Step {
        name: "lint",
        what: "clippy has nothing to say",
        kind: Kind::Source,
    },
    Step {
        name: "docs",
        what: "the documentation builds without a warning",
        kind: Kind::Source,
    },
    Step {
        name: "unit",
        what: "tests without root: core, parser, xtask",
        kind: Kind::Tests,
    },
    Step {
        name: "end-to-end",
        what: "the program against real kernels and a real ClickHouse",
        kind: Kind::Machine,
    },
];

/// What to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Leave out what needs root, the engine or the kernel program.
    pub quick: bool,
    /// Only the step of this name.
    pub step: Option<String>,
    /// Only tests whose names contain one of these.
    pub filters: Vec<String>,
}

impl Choice {
    /// The steps that are chosen; a filter chooses among tests, so it leaves out all else.
    fn steps(&self) -> Result<Vec<Step>> {
        if let Some(name) = &self.step {
            let found = STEPS.iter().find(|step| step.name == name);
            let names = STEPS.map(|step| step.name).join(", ");
            let found = found
                .with_context(|| format!("there is no step `{name}`; the steps are {names}"))?;
            return Ok(vec![*found]);
        }
        let chosen = STEPS
            .into_iter()
            .filter(|step| !self.quick || step.kind != Kind::Machine)
            .filter(|step| self.filters.is_empty() || step.kind != Kind::Source);
        Ok(chosen.collect())
    }

    /// The arguments that repeat one step of this choice.
    fn again(&self, step: &str) -> String {
        let mut words = vec!["test".to_owned(), "--step".into(), step.into()];
        words.extend(self.filters.iter().map(|filter| process::quoted(filter)));
        words.join(" ")
    }
}

/// The subcommand; gives the exit code of the first check that failed.
///
/// # Errors
/// There is no such step; or something could not be got or built.
pub fn command(choice: &Choice) -> Result<i32> {
    let steps = choice.steps()?;
    let machine = steps.iter().any(|step| step.kind == Kind::Machine);
    ensure!(
        !machine || process::is_root(),
        "the end-to-end tests need root, for network namespaces and for sending: {}\n  \
         without root: cargo xtask test --quick",
        process::as_root("test")
    );
    // Asked before anything is compiled: cargo may build xtask again on the way, and from then on
    // the kernel calls the running one "deleted".
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut done: Vec<(&str, Duration)> = Vec::new();
    let mut environment = known_object();
    for step in &steps {
        if step.kind == Kind::Machine {
            let started = Instant::now();
            environment = prepare(&this)?;
            done.push(("setup and build", started.elapsed()));
        }
        say(&format!("{}: {}", step.name, step.what));
        let started = Instant::now();
        let mut check = check(step, &choice.filters);
        let code = Held::new()?.supervise(check.envs(environment.iter().cloned()))?;
        if code != 0 {
            table(&done);
            let spent = spent(started.elapsed());
            say(&format!("FAILED: {} (after {spent})", step.name));
            eprintln!(
                "  only this step again: cargo xtask {}",
                choice.again(step.name)
            );
            return Ok(code);
        }
        done.push((step.name, started.elapsed()));
    }
    table(&done);
    say("all passed");
    Ok(0)
}

/// `test --chaos`: rounds of the chaos test, each with a seed drawn anew and a line that tells it.
///
/// # Errors
/// Not root; or something could not be got or built.
pub fn chaos(rounds: u32) -> Result<i32> {
    ensure!(
        process::is_root(),
        "the chaos test needs root, for network namespaces and for sending: {}",
        process::as_root(&format!("test --chaos {rounds}"))
    );
    let this = env::current_exe().context("cannot tell where this program is")?;
    let environment = prepare(&this)?;
    say(&format!("chaos: {rounds} rounds; the first failure stops"));
    let started = Instant::now();
    let mut test = process::cargo("test");
    test.args(["-p", "pinger-tests", "--test", "chaos", "--"])
        .args(["--nocapture", "every_probe"])
        .envs(environment)
        .env("PINGER_CHAOS_ROUNDS", rounds.to_string());
    let code = Held::new()?.supervise(&mut test)?;
    let spent = spent(started.elapsed());
    if code == 0 {
        say(&format!("{rounds} rounds passed in {spent}"));
    } else {
        say(&format!("FAILED: chaos (after {spent})"));
    }
    Ok(code)
}

/// The kernel program of an earlier build: with it in every step's environment, cargo does not
/// compile pinger twice in each run, once with it and once without.
fn known_object() -> Vec<(&'static str, OsString)> {
    let object = build::object_path();
    if object.is_file() {
        vec![("PINGER_BPF_OBJECT", object.into_os_string())]
    } else {
        Vec::new()
    }
}

/// What the tests need on this machine, as the environment that tells them of it.
fn prepare(this: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let needs = Needs {
        build: true,
        lab: true,
        engine: Engine::Library,
        fping: false,
    };
    let tools = setup::ensure(needs)?;
    let built = build::build(&tools)?;
    let mut environment = built.environment();
    environment.extend(tools.environment());
    environment.push(("XTASK_BIN", this.into()));
    if !environment
        .iter()
        .any(|(name, _)| *name == "PINGER_LIBCHDB")
    {
        bail!("setup found no embedded engine, so the end-to-end tests cannot run");
    }
    Ok(environment)
}

fn check(step: &Step, filters: &[String]) -> Command {
    let mut command = match step.name {
        "format" => {
            let mut command = Command::new("cargo");
            process::clean(&mut command).current_dir(crate::paths::root());
            command.args(["fmt", "--all", "--check"]);
            return command;
        }
        "lint" => process::cargo("clippy"),
        "docs" => process::cargo("doc"),
        _ => process::cargo("test"),
    };
    match step.name {
        "lint" => command.args(["--workspace", "--all-targets", "--", "-D", "warnings"]),
        "docs" => command
            .args(["--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
        "unit" => command.args(["-p", "pinger", "-p", "pinger-ebpf", "-p", "xtask", "--"]),
        _ => command.args(["-p", "pinger-tests", "--"]),
    };
    if step.kind != Kind::Source {
        command.args(filters);
    }
    command
}

fn table(done: &[(&str, Duration)]) {
    for (name, duration) in done {
        eprintln!("  passed  {name:<16} {:>12}", spent(*duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(choice: &Choice) -> Vec<&'static str> {
        choice
            .steps()
            .unwrap()
            .into_iter()
            .map(|step| step.name)
            .collect()
    }

    #[test]
    fn a_choice_names_its_steps() {
        let all = Choice::default();
        assert_eq!(
            names(&all),
            ["format", "lint", "docs", "unit", "end-to-end"]
        );
        let quick = Choice {
            quick: true,
            ..Choice::default()
        };
        assert_eq!(names(&quick), ["format", "lint", "docs", "unit"]);
        let filters = vec!["rtt".to_owned()];
        assert_eq!(
            names(&Choice {
                filters: filters.clone(),
                ..all
            }),
            ["unit", "end-to-end"]
        );
        let one = Choice {
            step: Some("lint".into()),
            filters,
            ..Choice::default()
        };
        assert_eq!(names(&one), ["lint"]);
        assert_eq!(one.again("unit"), "test --step unit rtt");
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let choice = Choice {
            step: Some("fuzz".into()),
            ..Choice::default()
        };
        let text = choice.steps().unwrap_err().to_string();
        assert!(
            text.contains("fuzz") && text.contains("end-to-end"),
            "{text}"
        );
    }
}
