//! What subcommands that do not probe print, and how they end.

use std::io::{self, Write};
use std::process::ExitCode;

use pinger::cli::SchemaAction;
use pinger::store::schema::{self, Applied, command, write_tables};

use crate::store_options;

/// `schema status`: the schema is not the one that this program needs.
const EXIT_DIFFERS: u8 = 3;

/// `pinger schema …`
pub(crate) fn schema(action: &SchemaAction) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    match action {
        SchemaAction::Apply(args) => {
            let Applied { from, to } = command::apply(&store_options(args)?, &mut say)?;
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
            let tables = command::retention(&options, &args.change(), &mut say)?;
            let mut text = String::new();
            write_tables(&mut text, &tables)?;
            out(|out| out.write_all(text.as_bytes()))?;
        }
        SchemaAction::Print(args) => out(|out| schema::print(out, &args.script()))?,
    }
    Ok(code)
}

fn say(text: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "pinger: schema: {text}");
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn out(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> anyhow::Result<()> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
