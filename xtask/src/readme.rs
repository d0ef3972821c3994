//! `cargo xtask readme`: runs the commands that README.md shows, puts what they print into it, and
//! draws its picture, so that no figure there is typed by hand.
//!
//! In: README.md, in which a block stands between two lines of their own,
//! `<!-- output of: COMMAND -->` and `<!-- end -->`. Out: the same text with each block filled
//! anew. Commands begin with `cargo xtask`; their results are kept in a directory that is gone at
//! the end, never in the user's.

use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::machine::{self, Raised};
use crate::progress::say;
use crate::signals::Held;
use crate::{paths, process};

/// The picture of the live table, below the workspace's root.
const PICTURE: &str = "docs/live.svg";
/// The lab's host that falls silent for a while in each run, so that there is an outage to show.
const SILENT_HOST: &str = "198.18.0.7";
/// From the start of a run until then: longer than anything takes before the first probe, and well
/// within the runs that README.md shows.
const SILENT_AFTER: Duration = Duration::from_secs(15);
const SILENT_FOR: Duration = Duration::from_secs(2);

const BEGIN: &str = "<!-- output of: ";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- end -->";
const COMMAND: &str = "cargo xtask ";

/// A block of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// The command as a person types it.
    command: String,
    /// What stands between its two lines, as bytes of the text.
    inside: Range<usize>,
}

/// The subcommand.
///
/// # Errors
/// Not root; a block is malformed; or a command failed. README.md is unchanged then.
pub fn command() -> Result<()> {
    ensure!(
        process::is_root(),
        "the README's commands probe a lab, which needs root: {}",
        process::as_root("readme")
    );
    let path = paths::root().join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let blocks = blocks(&text)?;
    ensure!(
        !blocks.is_empty(),
        "{path:?} has no line `{BEGIN}…{BEGIN_END}`"
    );

    let held = Held::new()?;
    let place = Place::make()?;
    let mut outputs = Vec::with_capacity(blocks.len());
    for block in &blocks {
        say(&format!("running {}", block.command));
        outputs.push(place.run(&held, &block.command)?);
    }
    drop(place);
    let filled = fill(&text, &blocks, &outputs);
    fs::write(&path, filled).with_context(|| format!("cannot write {path:?}"))?;
    say(&format!("wrote {} and {PICTURE}", path.display()));
    Ok(())
}

/// Finds the blocks, in their order.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize)> = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = at + line.len();
        let command = line
            .trim_end()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(BEGIN_END));
        match (command, line.trim_end() == END) {
            (Some(command), _) => {
                ensure!(
                    open.is_none(),
                    "line {}: a block begins before the one above has its `{END}`",
                    number + 1
                );
                open = Some((command.to_owned(), next));
            }
            (None, true) => {
                let (command, begin) = open
                    .take()
                    .with_context(|| format!("line {}: this ends no block", number + 1))?;
                blocks.push(Block {
                    command,
                    inside: begin..at,
                });
            }
            (None, false) => {}
        }
        at = next;
    }
    if let Some((command, _)) = open {
        bail!("the block of `{command}` has no line `{END}`");
    }
    Ok(blocks)
}

/// The text with each block's inside replaced by its command and what that printed.
fn fill(text: &str, blocks: &[Block], outputs: &[String]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut at = 0;
    for (Block { command, inside }, output) in blocks.iter().zip(outputs) {
        filled.push_str(&text[at..inside.start]);
        filled.push_str("```console\n# ");
        filled.push_str(command);
        filled.push('\n');
        for line in output.trim_end().lines() {
            filled.push_str(line.trim_end());
            filled.push('\n');
        }
        filled.push_str("```\n");
        at = inside.end;
    }
    filled.push_str(&text[at..]);
    filled
}

/// The words of a command line, as a shell would part them; quotes only, no expansions.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote is not closed in: {line}");
    words.extend(word);
    Ok(words)
}

/// The arguments for xtask itself: those of the line, and what makes the output a document's.
fn arguments(line: &str) -> Result<Vec<String>> {
    let rest = line
        .strip_prefix(COMMAND)
        .with_context(|| format!("only commands of `{COMMAND}` are run, not: {line}"))?;
    let mut words = words(rest)?;
    match words.first().map(String::as_str) {
        Some("run") => {
            let picture = paths::root().join(PICTURE);
            words.push(format!("--picture={}", picture.display()));
        }
        // As on a terminal.
        Some("sql") => words.push("--format=PrettyCompact".into()),
        _ => bail!("only `run` and `sql` are run, not: {line}"),
    }
    Ok(words)
}

/// Where the commands work: the lab, and a directory for results. Undone on drop.
struct Place {
    directory: PathBuf,
    /// The lab is ours to remove.
    made_lab: bool,
}

impl Place {
    fn make() -> Result<Self> {
        let directory = env::temp_dir().join(format!("pinger-readme-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("cannot create {directory:?}"))?;
        let mut place = Self {
            directory,
            made_lab: false,
        };
        // Kept, so that it does not belong to the first command alone.
        place.made_lab = machine::up()? == Raised::Made;
        Ok(place)
    }

    /// Runs a command to its end and gives what it printed.
    fn run(&self, held: &Held, line: &str) -> Result<String> {
        let arguments = arguments(line)?;
        let this = env::current_exe().context("cannot tell where this program is")?;
        let path = self.directory.join("stdout");
        let stdout = File::create(&path).with_context(|| format!("cannot write {path:?}"))?;
        let mut command = Command::new(this);
        command
            .args(&arguments)
            .env("PINGER_DATA_DIR", self.directory.join("data"))
            .env("PINGER_COMMAND", COMMAND.trim_end())
            .stdout(stdout);
        let code = if arguments[0] == "run" {
            beside_a_silent_host(|| held.supervise(&mut command))?
        } else {
            held.supervise(&mut command)?
        };
        ensure!(code == 0, "`{line}` ended with exit code {code}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            say(&format!(
                "cannot remove {}: {error}",
                self.directory.display()
            ));
        }
        if self.made_lab
            && let Err(error) = machine::down()
        {
            say(&format!("cannot remove the lab: {error:#}"));
        }
    }
}

/// Does `work` while one of the lab's hosts falls silent for [`SILENT_FOR`].
fn beside_a_silent_host<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, ended) = channel::<()>();
    thread::scope(|scope| {
        let silence = scope.spawn(move || silence(&ended));
        let result = work();
        drop(done);
        match silence.join() {
            Ok(Ok(())) => result,
            Ok(Err(error)) => result.and(Err(error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Silences the host for its time; leaves it as it was when `ended` is closed earlier.
fn silence(ended: &Receiver<()>) -> Result<()> {
    let route = |verb| {
        let host = ["blackhole", SILENT_HOST, "table", "local"];
        let mut ip = Command::new("ip");
        ip.args(["-n", machine::NAMESPACE, "route", verb])
            .args(host);
        process::capture(&mut ip).map(drop)
    };
    // Nothing is ever sent: a time that is over is a timeout, an end is a closed channel.
    let over = |time| ended.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
    if !over(SILENT_AFTER) {
        return Ok(());
    }
    route("add")?;
    let _ = over(SILENT_FOR);
    route("delete")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\
        <!-- output of: cargo xtask sql \"SELECT 1\" -->\nold\nold\n<!-- end -->\n\
        between\n\
        <!-- output of: cargo xtask run --duration 5s -->\n<!-- end -->\nlast, without an end";

    #[test]
    fn blocks_are_found_and_filled_and_all_else_stays() {
        let found = blocks(TEXT).unwrap();
        let commands: Vec<_> = found.iter().map(|block| block.command.as_str()).collect();
        assert_eq!(
            commands,
            [
                "cargo xtask sql \"SELECT 1\"",
                "cargo xtask run --duration 5s"
            ]
        );
        assert_eq!(&TEXT[found[0].inside.clone()], "old\nold\n");
        assert_eq!(&TEXT[found[1].inside.clone()], "");

        let outputs = ["1 \n2\n\n".to_owned(), "{}\n".to_owned()];
        let filled = fill(TEXT, &found, &outputs);
        assert_eq!(
            filled,
            "# Title\n\
             <!-- output of: cargo xtask sql \"SELECT 1\" -->\n\
             ```console\n# cargo xtask sql \"SELECT 1\"\n1\n2\n```\n<!-- end -->\n\
             between\n\
             <!-- output of: cargo xtask run --duration 5s -->\n\
             ```console\n# cargo xtask run --duration 5s\n{}\n```\n<!-- end -->\n\
             last, without an end"
        );
        // Filling again with the same changes nothing.
        assert_eq!(fill(&filled, &blocks(&filled).unwrap(), &outputs), filled);
    }

    #[test]
    fn a_malformed_block_is_named() {
        let check = |text: &str, expected: &str| {
            let error = blocks(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("<!-- output of: a -->\n", "`a` has no line");
        check("x\n<!-- end -->\n", "line 2");
        check("<!-- output of: a -->\n<!-- output of: b -->\n", "line 2");
    }

    #[test]
    fn commands_are_parted_as_a_shell_would() {
        let check = |line: &str, expected: &[&str]| assert_eq!(words(line).unwrap(), expected);
        check("run  --duration 5s", &["run", "--duration", "5s"]);
        check("sql \"SELECT 'a' > 1\"", &["sql", "SELECT 'a' > 1"]);
        check("a'b c'd ''", &["ab cd", ""]);
        assert!(words("sql \"SELECT").is_err());
    }

    #[test]
    fn only_commands_that_leave_nothing_behind_are_run() {
        let check = |line: &str, last: &str| {
            let arguments = arguments(line).unwrap();
            assert!(arguments.last().unwrap().starts_with(last), "{arguments:?}");
        };
        check("cargo xtask run --format json", "--picture=");
        check("cargo xtask sql \"SELECT 1\"", "--format=PrettyCompact");
        assert!(arguments("cargo xtask lab down").is_err());
        assert!(arguments("rm -r x").is_err());
    }
}
