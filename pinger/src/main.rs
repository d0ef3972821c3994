//! The `pinger` command: reads what it is told, does it, and says what went wrong.

mod commands;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use clap::error::ErrorKind;
use pinger::cli::{
    Cli, Command, ExportArgs, PingArgs, ProbeArgs, RunArgs, SqlArgs, StoreArgs, TraceArgs, explain,
};
use pinger::config::{self, RunOptions, Settings, StoreChoice, StoreOptions, Text};
use pinger::mistake::{self, Mistake, Mistakes};
use pinger::run::{EXIT_INTERRUPTED, Ended, RunError};
use pinger::store::export::Output;
use pinger::store::sql::SqlOptions;
use pinger::store::{self, StoreError};

/// The command line or the config file is wrong.
const EXIT_USAGE: u8 = 2;

/// The run went as asked for, but results are missing from the store.
const EXIT_ROWS_LOST: u8 = 3;

/// The most bytes of a config file or destination list: a million long names fit.
const TEXT_LEN_MAX: u64 = 64 << 20;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer_clap(&error),
    };
    let error = match dispatch(cli.command) {
        Ok(code) => return code,
        Err(error) => error,
    };
    // A closed stderr leaves nobody to tell.
    let mut stderr = io::stderr().lock();
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        let _ = stderr.write_all(told(&mistakes.to_string()).as_bytes());
        return ExitCode::from(EXIT_USAGE);
    }
    let _ = stderr.write_all(told(&error.to_string()).as_bytes());
    for cause in further_causes(&error) {
        let _ = writeln!(stderr, "  because: {cause}");
    }
    if is_wrong_url(&error) {
        return ExitCode::from(EXIT_USAGE);
    }
    ExitCode::FAILURE
}

/// Whether --store is to blame: a URL is taken apart only when it is used.
fn is_wrong_url(error: &anyhow::Error) -> bool {
    let of_run = error.downcast_ref().and_then(|error| match error {
        RunError::Store(error) => Some(error),
        _ => None,
    });
    let of_store = of_run.or_else(|| error.downcast_ref());
    matches!(of_store, Some(StoreError::Url { .. }))
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => return run(&run_options(&args)?),
        Command::Ping(args) => return ping(&ping_options(&args)?),
        Command::Trace(args) => return run(&trace_options(&args)?),
        Command::Schema { action } => return commands::schema(&action),
        Command::Spool { action } => return commands::spool(&action),
        Command::Sql(args) => sql(&args)?,
        Command::Export(args) => export(&args)?,
        Command::Engine { args } => engine(&args),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_options(args: &RunArgs) -> Result<RunOptions, Mistakes> {
    let command_line = with_list(args.settings(), &args.probe)?;
    let file = file_settings(&args.store)?;
    let terminal = io::stdout().is_terminal();
    let options = config::assemble(&command_line, &file, &Settings::default(), terminal)?;
    check_password(&options.store)?;
    Ok(options)
}

fn ping_options(args: &PingArgs) -> Result<RunOptions, Mistakes> {
    let command_line = with_list(args.settings(), &args.probe)?;
    let terminal = io::stdout().is_terminal();
    config::assemble(
        &command_line,
        &Settings::default(),
        &PingArgs::own_defaults(),
        terminal,
    )
}

fn trace_options(args: &TraceArgs) -> Result<RunOptions, Mistakes> {
    let command_line = with_list(args.settings()?, &args.probe)?;
    let terminal = io::stdout().is_terminal();
    let options = config::assemble(
        &command_line,
        &Settings::default(),
        &TraceArgs::own_defaults(),
        terminal,
    )?;
    Ok(args.traced(options)?)
}

fn store_options(args: &StoreArgs) -> Result<StoreOptions, Mistakes> {
    let options = config::store_options(&[&args.settings(), &file_settings(args)?]);
    check_password(&options)?;
    Ok(options)
}

/// Whether the password file, if there is one, can be read: said before anything starts.
fn check_password(options: &StoreOptions) -> Result<(), Mistake> {
    let (StoreChoice::Url(_), Some(path)) = (&options.choice, &options.password_file) else {
        return Ok(());
    };
    let checked = std::fs::metadata(path).and_then(|found| {
        // A pipe can be opened once only.
        if found.is_file() {
            File::open(path).map(drop)
        } else {
            Ok(())
        }
    });
    checked.map_err(|error| {
        Mistake::new(
            format!("cannot read the password file {}: {error}", path.display()),
            "Check the path given as --store-password-file (in [store]: password_file), and its \
             permissions.",
        )
    })
}

/// Adds the destinations of `--file` to those of the command line.
fn with_list(mut settings: Settings, args: &ProbeArgs) -> Result<Settings, Mistakes> {
    if let Some(path) = &args.file {
        let list = read_text(path, "the list of destinations")?;
        settings
            .destinations
            .extend(config::destinations_of_list(&list)?);
    }
    Ok(settings)
}

fn file_settings(args: &StoreArgs) -> Result<Settings, Mistakes> {
    match &args.config {
        Some(path) => config::settings_of_file(&read_text(path, "the config file")?),
        None => Ok(Settings::default()),
    }
}

/// Reads a whole file, or standard input for `-`.
fn read_text(path: &Path, what: &str) -> Result<Text, Mistake> {
    let mut body = String::new();
    let (name, read) = if path.as_os_str() == "-" {
        let read = io::stdin()
            .lock()
            .take(TEXT_LEN_MAX + 1)
            .read_to_string(&mut body);
        ("standard input".to_owned(), read)
    } else {
        let read =
            File::open(path).and_then(|file| file.take(TEXT_LEN_MAX + 1).read_to_string(&mut body));
        (path.display().to_string(), read)
    };
    match read {
        Ok(len) if len as u64 > TEXT_LEN_MAX => Err(Mistake::new(
            format!("{what} {name} is larger than {} MiB", TEXT_LEN_MAX >> 20),
            "Is it the right file?",
        )),
        Ok(_) => Ok(Text { name, body }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Mistake::new(
            format!("{what} {name} is not text in UTF-8"),
            "Is it the right file?",
        )),
        Err(error) => Err(Mistake::new(
            format!("cannot read {what} {name}: {error}"),
            "Check its path and its permissions.",
        )),
    }
}

/// The text with our name before each thing that happened; advice is indented and stays as it is.
fn told(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.starts_with("  ") {
                format!("{line}\n")
            } else {
                format!("pinger: {line}\n")
            }
        })
        .collect()
}

/// The causes that no message before them has told already, as most do.
fn further_causes(error: &anyhow::Error) -> Vec<String> {
    let mut told = error.to_string();
    let mut causes = Vec::new();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.push_str(&cause);
            causes.push(cause);
        }
    }
    causes
}

/// Help and version go to standard output; everything else is a mistake in our words.
fn answer_clap(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(EXIT_USAGE)
        }
        _ => {
            let command = std::env::args().nth(1);
            let mistake = explain(error, command.as_deref());
            let _ = io::stderr().write_all(told(&mistake.to_string()).as_bytes());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Probes until done, and fails if no reply came at all, as `ping` does.
fn ping(options: &RunOptions) -> anyhow::Result<ExitCode> {
    Ok(match pinger::run::run(options)? {
        Ended::Well => ExitCode::SUCCESS,
        Ended::Unanswered => ExitCode::FAILURE,
        Ended::RowsLost => ExitCode::from(EXIT_ROWS_LOST),
        Ended::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
    })
}

/// Probes until done; a run that was told twice to end exits as an interrupted process does.
fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    Ok(match pinger::run::run(options)? {
        Ended::Well | Ended::Unanswered => ExitCode::SUCCESS,
        Ended::RowsLost => ExitCode::from(EXIT_ROWS_LOST),
        Ended::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
    })
}

fn sql(args: &SqlArgs) -> anyhow::Result<()> {
    let store = store_options(&args.store)?;
    let query = match args.query.as_str() {
        "-" => read_text(Path::new("-"), "the query")?.body,
        query => query.to_owned(),
    };
    let format = args.format.clone();
    Ok(store::sql::run(&SqlOptions {
        query,
        format,
        store,
    })?)
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let store = store_options(&args.store)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now_ns = i64::try_from(now.as_nanos())?;
    let options = args
        .options(store, now_ns, io::stdout().is_terminal())
        .map_err(Mistakes::from)?;
    let say = |text: &str| {
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(io::stderr(), "pinger: {text}");
    };
    let mut progress = |bytes| say(&format!("exporting: {} so far", mistake::bytes(bytes)));
    let bytes = store::export::run(&options, &mut progress, &mut |text| {
        say(&format!("export: {text}"));
    })?;
    if let Output::File(path) = &options.output {
        say(&format!(
            "wrote {} to {}",
            mistake::bytes(bytes),
            path.display()
        ));
    }
    Ok(())
}

fn engine(args: &[std::ffi::OsString]) -> ! {
    store::embedded::child_main(args.to_vec())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_wrong_url_is_a_wrong_command_line() {
        let wrong = || StoreError::Url {
            url: "http://db:99999".to_owned(),
            reason: "invalid port number".to_owned(),
        };
        assert!(is_wrong_url(&wrong().into()));
        assert!(is_wrong_url(&RunError::from(wrong()).into()));
        assert!(!is_wrong_url(&StoreError::NoStore.into()));
    }

    #[test]
    fn a_cause_is_told_once() {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let file = || StoreError::File {
            action: "read the password from",
            path: "/nonexist".into(),
            hint: "check the path",
            source: gone(),
        };
        for (error, causes) in [
            (anyhow::Error::from(file()), vec![]),
            (RunError::from(file()).into(), vec![]),
            (RunError::View(gone()).into(), vec![]),
            (anyhow!("inner").context("outer"), vec!["inner"]),
            (
                Err::<(), _>(gone())
                    .context("middle")
                    .context("outer")
                    .unwrap_err(),
                vec!["middle", "entity not found"],
            ),
        ] {
            assert_eq!(further_causes(&error), causes, "{error}");
        }
    }
}
