//! `cargo xtask run [-- ARGS…]`: all that is missing, the build, the lab if nothing is named to
//! probe, and then `pinger run ARGS` as if it had been called itself.

pub mod request;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::lab::machine::Visit;
use crate::progress::say;
use crate::setup::plan::{Engine, Needs};
use crate::signals::Held;
use crate::{build, process, setup};
use request::{Request, options_of};

/// Names a program to run instead of building one, for tests of what stands around it.
pub const PROGRAM_VARIABLE: &str = "PINGER_BIN";

/// The subcommand; gives pinger's exit code, or 128 and the signal that ended it.
///
/// stdout is pinger's alone. Whatever ends pinger, the lab of this run is removed after it.
///
/// # Errors
/// Something could not be got, built or made; pinger was not started.
pub fn command(arguments: &[OsString]) -> Result<i32> {
    let probes = !request::is_question(arguments);
    let embedded = probes && !request::brings_own_store(arguments);
    let engine = if embedded { Engine::Any } else { Engine::None };
    let needs = Needs {
        lab: probes,
        engine,
        ..Needs::BUILD
    };
    let (program, environment) = program(needs)?;
    let request = Request::read(arguments, &options_of(&help(&program)));
    let mut run = Command::new(&program);
    process::clean(&mut run).arg("run").envs(environment);
    run.args(request.for_pinger(arguments));

    // From here on a signal must not end us: the lab would stay.
    let held = Held::new()?;
    let visit = if request.wants_lab {
        Some(Visit::begin()?)
    } else {
        None
    };
    if let Some(signal) = held.asked_to_end() {
        drop(visit);
        return Ok(128 + signal);
    }
    let code = held.supervise(&mut run)?;
    drop(visit);
    Ok(code)
}

/// The program to run with what it must find in its environment, built if need be.
///
/// # Errors
/// As [`setup::ensure`] and [`build::build`]; or the named program is not there.
pub fn program(needs: Needs) -> Result<(PathBuf, Vec<(&'static str, OsString)>)> {
    if let Some(named) = env::var_os(PROGRAM_VARIABLE).map(PathBuf::from) {
        ensure!(
            named.is_file(),
            "{PROGRAM_VARIABLE} names {}, which is not a file: unset it to build pinger, or name \
             a program",
            named.display()
        );
        say(&format!(
            "using {} (from {PROGRAM_VARIABLE})",
            named.display()
        ));
        // Whoever brings the program brings its surroundings.
        return Ok((named, Vec::new()));
    }
    let tools = setup::ensure(needs)?;
    ensure!(
        !needs.lab || process::is_root(),
        "sending probes needs root, and so does the lab: {}",
        process::as_root("run")
    );
    let built = build::build(&tools)?;
    Ok((built.program, tools.environment()))
}

/// What `pinger run --help` says: the one place that knows pinger's options.
fn help(program: &Path) -> String {
    let mut ask = Command::new(program);
    // A program without help names no options; what follows a dash then has no value.
    process::capture(process::clean(&mut ask).args(["run", "--help"])).unwrap_or_default()
}
