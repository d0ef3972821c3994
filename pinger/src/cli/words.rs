//! clap's errors in our words: what happened, and what to write instead.

use std::error::Error as _;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::mistake::{Mistake, nearest};

/// What a user can ask for; `engine` is between us.
const COMMANDS: [&str; 7] = ["run", "ping", "trace", "schema", "spool", "sql", "export"];

/// Flags of ping, fping and others that are called differently here.
const ELSEWHERE: [(&str, &str); 10] = [
    ("-I", "the interface is -i NAME"),
    ("-t", "the time to live is --ttl HOPS"),
    ("-m", "the time to live is --ttl HOPS"),
    (
        "-W",
        "the timeout is --timeout TIME, with a unit: --timeout 500ms",
    ),
    (
        "-w",
        "the length of a run is --duration TIME, with a unit: --duration 10s",
    ),
    (
        "-p",
        "the interval is --interval TIME, with a unit: --interval 100ms",
    ),
    ("-Q", "the type of service is --tos N"),
    ("-S", "the source address is --from ADDRESS"),
    (
        "-g",
        "write blocks and ranges as destinations: 10.0.0.0/24 or 10.0.0.1-10.0.0.9",
    ),
    (
        "-q",
        "a quiet run is --format plain or --format json of `pinger run`",
    ),
];

/// Says in two parts what clap found wrong. `command` is the first word of the command line.
pub fn explain(error: &clap::Error, command: Option<&str>) -> Mistake {
    let context = |kind| error.get(kind).map(text_of).unwrap_or_default();
    let argument = context(ContextKind::InvalidArg);
    let found = context(ContextKind::InvalidValue);
    let help = help_hint(&context(ContextKind::Usage), command);
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(error, &argument, &help),
        ErrorKind::ValueValidation => match error.source().and_then(|e| e.downcast_ref()) {
            Some(Mistake { what, advice }) => {
                let place = argument.split(' ').next().unwrap_or_default();
                let mistake = Mistake::new(what, advice);
                if place.starts_with('-') {
                    mistake.at(place)
                } else {
                    mistake
                }
            }
            None => Mistake::new(format!("{argument}: {found:?} is not possible here"), help),
        },
        ErrorKind::InvalidValue if found.is_empty() => {
            Mistake::new(format!("{argument} needs a value after it"), help)
        }
        ErrorKind::TooManyValues => Mistake::new(
            format!("{argument} takes no value, but has {found:?}"),
            help,
        ),
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg);
            let option = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
            let both = format!("{} and {}", option(&argument), option(&other));
            Mistake::new(format!("{both} cannot both be given"), help)
        }
        ErrorKind::InvalidSubcommand => no_command(error, &help),
        ErrorKind::MissingRequiredArgument => Mistake::new(format!("{argument} is missing"), help),
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Mistake::new(first.strip_prefix("error: ").unwrap_or(first), help)
        }
    }
}

fn no_command(error: &clap::Error, help: &str) -> Mistake {
    let word = error
        .get(ContextKind::InvalidSubcommand)
        .map(text_of)
        .unwrap_or_default();
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(near) => Some(first_of(near)),
        None => nearest(&word, &COMMANDS).map(str::to_owned),
    };
    let advice = match near {
        Some(near) => format!("Did you mean {near}? {help}"),
        // Most often an address, written as for other pings.
        None if word.contains(['.', ':']) => format!("To probe it: pinger ping {word}\n{help}"),
        None => help.to_owned(),
    };
    Mistake::new(format!("there is no command {word:?}"), advice)
}

fn unknown(error: &clap::Error, argument: &str, help: &str) -> Mistake {
    let elsewhere = ELSEWHERE.iter().find(|(flag, _)| *flag == argument);
    let advice = match (elsewhere, error.get(ContextKind::SuggestedArg)) {
        (Some((_, here)), _) => format!("With pinger {here}."),
        (None, Some(near)) => format!("Did you mean {}? {help}", first_of(near)),
        (None, None) if is_of_run(argument) => {
            format!("Options of a command stand behind it: pinger run {argument} …\n{help}")
        }
        (None, None) => help.to_owned(),
    };
    Mistake::new(format!("there is no option {argument} here"), advice)
}

fn is_of_run(argument: &str) -> bool {
    let cli = Cli::command();
    let long = argument.trim_start_matches('-');
    cli.find_subcommand("run").is_some_and(|run| {
        run.get_arguments()
            .any(|known| known.get_long() == Some(long))
    })
}

/// "See `pinger run --help`.", for the command of clap's usage line or else of the command line.
fn help_hint(usage: &str, command: Option<&str>) -> String {
    let usage = usage.lines().next().unwrap_or_default();
    let mut words: Vec<_> = usage
        .strip_prefix("Usage: ")
        .unwrap_or(usage)
        .split_whitespace()
        .take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        .collect();
    if words.is_empty() {
        words.push("pinger");
        words.extend(command.filter(|command| COMMANDS.contains(command)));
    }
    format!("See `{} --help`.", words.join(" "))
}

fn first_of(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(all) => all.first().cloned().unwrap_or_default(),
        other => text_of(other),
    }
}

fn text_of(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(all) => all.join(", "),
        // Styled usage: without its colours.
        other => other.to_string(),
    }
}
