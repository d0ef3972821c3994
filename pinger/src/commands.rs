//! What subcommands that do not probe print, and how they end.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pinger::cli::{SchemaAction, SpoolAction, Style};
use pinger::store::schema::{self, Applied, command, write_tables};
use pinger::store::spooled::{self, Retried};

use crate::store_options;

/// `schema status`: the schema is not the one that this program needs.
const EXIT_DIFFERS: u8 = 3;

/// `spool`: something is there that the store refused.
const EXIT_REFUSED: u8 = 3;

/// `pinger schema …`
pub(crate) fn schema(action: &SchemaAction) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match action {
        SchemaAction::Apply(args) => {
            let say = &mut |text: &str| say("schema", text);
            let Applied { from, to } = command::apply(&store_options(args)?, say)?;
            say(&match from {
                0 => format!("created, version {to}"),
                _ if from == to => format!("version {to} already, nothing to do"),
                _ => format!("upgraded from version {from} to {to}"),
            });
        }
        SchemaAction::Status(args) => {
            let status = command::status(&store_options(args)?)?;
            if !status.fits() {
                code = ExitCode::from(EXIT_DIFFERS);
            }
            out(|out| write!(out, "{status}"))?;
        }
        SchemaAction::Retention(args) => {
            let options = store_options(&args.store)?;
            let say = &mut |text: &str| say("schema", text);
            let tables = command::retention(&options, &args.change(), say)?;
            let mut text = String::new();
            write_tables(&mut text, &tables)?;
            out(|out| out.write_all(text.as_bytes()))?;
        }
        SchemaAction::Print(args) => out(|out| schema::print(out, &args.script()))?,
    }
    Ok(code)
}

/// `pinger spool …`
pub(crate) fn spool(action: &SpoolAction) -> anyhow::Result<ExitCode> {
    let is_refused = match action {
        SpoolAction::Status(args) => {
            let found = spooled::status(&store_options(&args.store())?.data_dir)?;
            let text = match args.format {
                Some(Style::Json) => format!("{}\n", serde_json::to_string(&found)?),
                Some(Style::Table) | None => found.to_string(),
            };
            out(|out| out.write_all(text.as_bytes()))?;
            found.has_refused()
        }
        SpoolAction::Retry(args) => {
            let say = &mut |text: &str| say("spool", text);
            let Retried { sent, kept } = spooled::retry(&store_options(args)?, say)?;
            for line in stays(&kept) {
                say(&line);
            }
            if sent == 0 && kept.is_empty() {
                say("nothing was refused, nothing to do");
            }
            !kept.is_empty()
        }
    };
    Ok(match is_refused {
        true => ExitCode::from(EXIT_REFUSED),
        false => ExitCode::SUCCESS,
    })
}

/// What was refused and stays, a line for those of one folder that have one reason.
fn stays(kept: &[(PathBuf, String)]) -> Vec<String> {
    let alike = kept.chunk_by(|(one, reason), (other, its_reason)| {
        one.parent() == other.parent() && reason == its_reason
    });
    alike
        .map(|alike| match alike {
            [(file, reason)] => format!("{} stays: {reason}", file.display()),
            _ => {
                let (count, (file, reason)) = (alike.len(), &alike[0]);
                let folder = file.parent().unwrap_or(file).display();
                format!("{count} segments in {folder} stay: {reason}")
            }
        })
        .collect()
}

fn say(command: &str, text: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "pinger: {command}: {text}");
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn out(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> anyhow::Result<()> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_for_one_reason_is_told_once() {
        let kept = |file: &str, reason: &str| (PathBuf::from(file), reason.to_owned());
        let told = stays(&[
            kept("/d/one/refused/1.seg", "busy"),
            kept("/d/one/refused/2.seg", "busy"),
            kept("/d/one/refused/3.seg", "wrong"),
            kept("/d/two/refused/3.seg", "wrong"),
        ]);
        let expected = [
            "2 segments in /d/one/refused stay: busy",
            "/d/one/refused/3.seg stays: wrong",
            "/d/two/refused/3.seg stays: wrong",
        ];
        assert_eq!(told, expected);
    }
}
