//! clap's errors in our words: what happened, and what to write instead.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::mistake::Mistake;

/// Flags of ping, fping and others that are called differently here.
const ELSEWHERE: [(&str, &str); 8] = [
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
    (
        "-g",
        "write blocks and ranges as destinations: 10.0.0.0/24 or 10.0.0.1-10.0.0.9",
    ),
    (
        "-q",
        "a quiet run is --format plain or --format json of `pinger run`",
    ),
];

/// Says in two parts what clap found wrong.
pub fn explain(error: &clap::Error) -> Mistake {
    let context = |kind| error.get(kind).map(text_of).unwrap_or_default();
    let argument = context(ContextKind::InvalidArg);
    let found = context(ContextKind::InvalidValue);
    let more = || help_hint(&context(ContextKind::Usage));
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(error, &argument, &more()),
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
            None => Mistake::new(
                format!("{argument}: {found:?} is not possible here"),
                more(),
            ),
        },
        ErrorKind::InvalidValue if found.is_empty() => {
            Mistake::new(format!("{argument} needs a value after it"), more())
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand);
            let advice = match error.get(ContextKind::SuggestedSubcommand) {
                Some(near) => format!("Did you mean {}? {}", first_of(near), more()),
                None => format!("To probe it: pinger ping {word}\n{}", more()),
            };
            Mistake::new(format!("there is no command {word:?}"), advice)
        }
        ErrorKind::MissingSubcommand => Mistake::new("a command is missing", more()),
        ErrorKind::MissingRequiredArgument => {
            Mistake::new(format!("{argument} is missing"), more())
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg);
            let advice = format!("Leave one of them out. {}", more());
            Mistake::new(format!("{argument} and {other} exclude each other"), advice)
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Mistake::new(first.strip_prefix("error: ").unwrap_or(first), more())
        }
    }
}

fn unknown(error: &clap::Error, argument: &str, more: &str) -> Mistake {
    let elsewhere = ELSEWHERE.iter().find(|(flag, _)| *flag == argument);
    let advice = match (elsewhere, error.get(ContextKind::SuggestedArg)) {
        (Some((_, here)), _) => format!("With pinger {here}."),
        (None, Some(near)) => format!("Did you mean {}? {more}", first_of(near)),
        (None, None) => more.to_owned(),
    };
    Mistake::new(format!("there is no option {argument}"), advice)
}

/// "See `pinger run --help`.", for the command that clap's usage line names.
fn help_hint(usage: &str) -> String {
    let line = usage.lines().next().unwrap_or_default();
    let line = line.strip_prefix("Usage: ").unwrap_or(line);
    let command: Vec<_> = line
        .split_whitespace()
        .take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        .collect();
    let command = if command.is_empty() {
        "pinger".to_owned()
    } else {
        command.join(" ")
    };
    format!("See `{command} --help`.")
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
