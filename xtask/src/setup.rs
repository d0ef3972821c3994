//! `cargo xtask setup`: finds what is missing on this machine, says what and why, and gets it.
//!
//! [`facts`] looks, [`plan`] decides as pure data, [`execute`] does. What the tools are good for
//! is in [`plan`]; where they end up is in [`Tools`].

pub mod execute;
pub mod facts;
pub mod plan;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::{paths, process};
use facts::Facts;
use plan::{Needs, Plan, Way};

/// The tools that a build and a run use, each by its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tools {
    /// The compiler that can build for the BPF target, and why it was chosen.
    pub compiler: Option<(Way, PathBuf)>,
    /// bpf-linker, built for an LLVM at least as new as that compiler's.
    pub linker: Option<PathBuf>,
    /// ClickHouse's engine as a library, if that is what a run will use.
    pub engine_library: Option<PathBuf>,
}

impl Tools {
    /// What pinger and its tests must find in their environment to use these tools.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        self.engine_library
            .iter()
            .map(|path| ("PINGER_LIBCHDB", path.clone().into_os_string()))
            .collect()
    }
}

/// Makes sure that everything in `needs` is there, and says where.
///
/// When all is there this looks only: nothing is downloaded, no package list is refreshed.
///
/// # Errors
/// Something is missing and cannot be got from here; the commands to get it have been printed.
/// Or a step failed: the error names the step and its log.
pub fn ensure(needs: Needs) -> Result<Tools> {
    let cache = paths::cache()?;
    let first = Facts::look(&cache, needs);
    let plan = plan::plan(&first, needs);
    if plan.steps.is_empty() && plan.obstacle.is_none() {
        return Ok(plan.tools);
    }
    if let Some(obstacle) = &plan.obstacle {
        explain_by_hand(&plan, obstacle, &cache);
        bail!("setup stopped: {obstacle}. The commands above do what is missing");
    }

    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _turn = take_turn(&cache)?;
    // Whoever had the turn before us may have got everything already.
    let plan = plan::plan(&Facts::look(&cache, needs), needs);
    say("some things are missing here; getting them now:");
    for step in &plan.steps {
        for line in step.reasons() {
            eprintln!("  {line}");
        }
    }
    execute::sweep(&cache);
    for step in &plan.steps {
        execute::step(step, &cache)?;
    }

    let after = plan::plan(&Facts::look(&cache, needs), needs);
    if let Some(step) = after.steps.first() {
        bail!(
            "setup did its steps, yet this is still missing: {}. The logs are in {}",
            step.reasons().join("; "),
            paths::log("").with_file_name("").display()
        );
    }
    if let Some((way, _)) = &after.tools.compiler {
        say(&format!("the kernel program is compiled by {way}"));
    }
    Ok(after.tools)
}

/// The subcommand: everything that any other subcommand would get.
///
/// # Errors
/// As [`ensure`].
pub fn command() -> Result<()> {
    let tools = ensure(Needs::EVERYTHING)?;
    say("everything is in place:");
    let shown = |path: &PathBuf| path.display().to_string();
    if let Some((way, path)) = &tools.compiler {
        eprintln!(
            "  compiler for the kernel program  {} ({way})",
            path.display()
        );
    }
    if let Some(path) = tools.linker.as_ref().map(shown) {
        eprintln!("  bpf-linker                       {path}");
    }
    if let Some(path) = tools.engine_library.as_ref().map(shown) {
        eprintln!("  embedded ClickHouse engine       {path}");
    }
    for (program, padding) in [("ip", 31), ("fping", 28)] {
        if let Some(path) = process::find(program) {
            eprintln!("  {program}{:padding$}{}", "", path.display());
        }
    }
    Ok(())
}

/// One setup at a time: two at once would both compile the linker and both fetch the engine.
fn take_turn(cache: &std::path::Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        say("another setup is at work; waiting for it");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn explain_by_hand(plan: &Plan, obstacle: &plan::Obstacle, cache: &std::path::Path) {
    say(&format!(
        "{obstacle}, so these commands are for you to run:"
    ));
    for step in &plan.steps {
        eprintln!();
        for line in step.reasons() {
            eprintln!("# {line}");
        }
        for line in step.by_hand(obstacle, cache) {
            eprintln!("{line}");
        }
    }
    eprintln!("\n# then again what you asked for; what sends packets must be root, for example:");
    eprintln!("{}\n", process::as_root("run"));
}
