//! The `pinger` command.
//!
//! Throw-away dispatch for the store's tests: the command line proper replaces this file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pinger::config::StoreChoice;
use pinger::store::{self, StoreError, StoreOptions};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == "engine") {
        store::embedded::child_main(args);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pinger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), StoreError> {
    let option = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1))
            .cloned()
    };
    let mut options = StoreOptions::embedded(PathBuf::from(
        option("--data-dir").unwrap_or_else(|| "/var/lib/pinger".to_owned()),
    ));
    options.port = option("--store-port").and_then(|port| port.parse().ok());
    options.password_file = option("--store-password-file").map(PathBuf::from);
    match option("--store").as_deref() {
        None | Some("embedded") => {}
        Some("none") => options.choice = StoreChoice::None,
        Some(url) => options.choice = StoreChoice::Url(url.to_owned()),
    }
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["sql", query, ..] => store::sql::run(&store::sql::SqlOptions {
            query: (*query).to_owned(),
            format: option("--format"),
            store: options,
        }),
        ["schema", "print", ..] => {
            // Whoever reads the output may close it early.
            let _ = store::schema::print(&mut io::stdout().lock());
            Ok(())
        }
        ["schema", "apply", ..] => {
            let applied = store::apply_schema(&options)?;
            let _ = writeln!(
                io::stderr(),
                "schema: version {} -> {}",
                applied.from,
                applied.to
            );
            Ok(())
        }
        _ => {
            let _ = writeln!(io::stderr(), "usage: pinger sql|schema|engine");
            Ok(())
        }
    }
}
