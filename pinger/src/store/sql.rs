//! `pinger sql`: one statement in, the answer on stdout.

use std::io::{self, IsTerminal, Write};

use super::StoreError;
use super::clickhouse::Asked;
use super::session::{Session, Sharing};
use crate::config::StoreOptions;

/// What to ask, and where.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// One statement; may end with a FORMAT clause of its own.
    pub query: String,
    /// ClickHouse's name of a format; `None`: a table on a terminal, else TSVWithNames.
    pub format: Option<String>,
    /// The store to ask. An embedded one that is running is joined, else started for the query.
    pub store: StoreOptions,
}

/// Asks the store and writes the answer to stdout as it comes.
///
/// # Errors
/// When the store cannot be reached or refuses the statement, or stdout cannot be written.
pub fn run(options: &SqlOptions) -> Result<(), StoreError> {
    let out = io::stdout();
    let format = match &options.format {
        Some(format) => format,
        None if out.is_terminal() => "PrettyCompact",
        None => "TSVWithNames",
    };
    ask(options, format, &mut out.lock())
}

fn ask(options: &SqlOptions, format: &str, out: &mut impl Write) -> Result<(), StoreError> {
    let session = Session::open(&options.store, Sharing::Guest)?;
    let connection = session.connection();
    let answer = session
        .block_on(connection.ask(&options.query, format, |chunk| out.write_all(chunk)))
        .and_then(|()| out.flush().map_err(Asked::Out));
    match answer {
        Ok(()) => Ok(()),
        // Whoever read it has seen enough, as `head` does.
        Err(Asked::Out(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Asked::Out(error)) => Err(StoreError::file(
            "write",
            "standard output",
            "check where it leads",
        )(error)),
        Err(Asked::Store(error)) => Err(error),
    }
}
