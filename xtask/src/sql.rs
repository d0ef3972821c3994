//! `cargo xtask sql "QUERY"`: asks the results that earlier runs left, by `pinger sql QUERY`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::run::{self, request};
use crate::setup::plan::{Engine, Needs};
use crate::signals::Held;

/// The subcommand; gives pinger's exit code.
///
/// # Errors
/// Something could not be got or built; pinger was not started.
pub fn command(arguments: &[OsString]) -> Result<i32> {
    let engine = if request::brings_own_store(arguments) {
        Engine::None
    } else {
        Engine::Any
    };
    let (program, environment) = run::program(Needs {
        engine,
        ..Needs::BUILD
    })?;
    let mut sql = Command::new(program);
    process::clean(&mut sql)
        .arg("sql")
        .args(arguments)
        .envs(environment);
    Held::new()?.supervise(&mut sql)
}
