//! Reads from pinger's arguments whether they name something to probe: pure.
//!
//! Which options take a value is learnt from pinger's own help, so that an option that is added
//! there needs no change here.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

/// What the lab is probed with, if nothing is named: a thousand addresses of each family.
const LAB_DESTINATIONS: [&str; 2] = ["198.18.0.1-198.18.3.232", "2001:2:0:1::1-2001:2:0:1::3e8"];
const LAB_INTERVAL: &str = "100ms";
/// Options that name destinations by other means than an argument.
const SOURCES: [&str; 3] = ["--config", "--file", "-f"];
/// Hidden from the help, and with a value.
const HIDDEN: [&str; 1] = ["--picture"];
/// Nothing is probed at all.
const QUESTIONS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// What arguments ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Nothing is named to probe, so the lab it is.
    pub wants_lab: bool,
    options: BTreeSet<String>,
}

impl Request {
    /// Reads arguments; `with_value` holds the options that take their value from the next one.
    pub fn read(arguments: &[OsString], with_value: &BTreeSet<String>) -> Self {
        let mut options = BTreeSet::new();
        let mut destinations = 0;
        let mut words = arguments.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            if word == "--" {
                destinations += words.by_ref().count();
            } else if let Some(long) = word.strip_prefix("--") {
                let name = long.split('=').next().unwrap_or_default();
                let name = format!("--{name}");
                if with_value.contains(&name) && !long.contains('=') {
                    words.next();
                }
                options.insert(name);
            } else if word.starts_with('-') && word.len() > 1 {
                // `-c3` has its value with it, `-c 3` behind it.
                let name: String = word.chars().take(2).collect();
                if with_value.contains(&name) && word.chars().count() == 2 {
                    words.next();
                }
                options.insert(name);
            } else {
                destinations += 1;
            }
        }
        let has = |names: &[&str]| names.iter().any(|name| options.contains(*name));
        let wants_lab = destinations == 0 && !has(&SOURCES) && !has(&QUESTIONS);
        Self { wants_lab, options }
    }

    /// The arguments for `pinger run`: the lab's, unless the user says otherwise, then the user's.
    pub fn for_pinger(&self, arguments: &[OsString]) -> Vec<OsString> {
        let mut all = Vec::new();
        if self.wants_lab {
            if !self.options.contains("-i") && !self.options.contains("--interface") {
                all.extend(["-i", crate::lab::INTERFACE]);
            }
            all.extend(LAB_DESTINATIONS);
            if !self.options.contains("--interval") {
                all.extend(["--interval", LAB_INTERVAL]);
            }
        }
        all.into_iter()
            .map(OsString::from)
            .chain(arguments.iter().cloned())
            .collect()
    }
}

/// Whether only pinger's help or version is asked for.
pub fn is_question(arguments: &[OsString]) -> bool {
    QUESTIONS
        .iter()
        .any(|question| arguments.iter().any(|word| word == question))
}

/// Whether `--store` says that no engine of ours is used.
pub fn brings_own_store(arguments: &[OsString]) -> bool {
    let joined = arguments
        .iter()
        .filter_map(|word| word.to_str()?.strip_prefix("--store="));
    let parted = arguments
        .windows(2)
        .filter(|pair| pair[0] == "--store")
        .filter_map(|pair| OsStr::to_str(&pair[1]));
    joined.chain(parted).any(|store| store != "embedded")
}

/// The options with a value that a help text shows: `-i, --interface <NAME>`.
pub fn options_of(help: &str) -> BTreeSet<String> {
    let mut options: BTreeSet<String> = HIDDEN.map(String::from).into();
    for line in help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
    {
        // The names end where two spaces or the description begin.
        let names = line.split("  ").next().unwrap_or_default();
        // `[=<WHEN>]` is a value that only ever comes with an equals sign.
        if names.contains('<') && !names.contains("[=") {
            let names = names.split([',', ' ']).filter(|name| name.starts_with('-'));
            options.extend(names.map(String::from));
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Probes destinations.\n\nUsage: pinger run [OPTIONS] [DEST]...\n\n\
        Options:\n  -i, --interface <NAME>  Send through it\n      --config <FILE>\n          \
        Reads the same from a file\n  -c, --count <N>\n      --duration <TIME>  -- or 5s\n      \
        --interval <TIME>\n  -f, --file <FILE>  A list\n      --flood    As fast as <possible>\n      \
        --color[=<WHEN>]  Colours\n  -h, --help  Print help\n";

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn read(text: &str) -> Request {
        Request::read(&words(text), &options_of(HELP))
    }

    #[test]
    fn options_with_a_value_are_learnt_from_the_help() {
        let expected = [
            "--config",
            "--count",
            "--duration",
            "--file",
            "--interface",
            "--interval",
            "--picture",
            "-c",
            "-f",
            "-i",
        ];
        assert_eq!(options_of(HELP).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_lab_is_wanted_only_where_nothing_is_named() {
        let check = |text: &str, expected: bool| {
            assert_eq!(read(text).wants_lab, expected, "{text:?}");
        };
        check("", true);
        check("--duration 5s --format json", false); // this help has no --format
        check("--duration 5s --flood", true);
        check("--duration=5s -c 3 -c4", true);
        check("--interval 10ms -i pinger0", true);
        check("--picture x.svg", true);
        check("198.51.100.1", false);
        check("--duration 5s host", false);
        check("--flood host", false);
        check("-i eth0 host1 2001:db8::1", false);
        check("--config a.toml", false);
        check("--config=a.toml", false);
        check("-f -", false);
        check("--flood -- -odd-name", false);
        check("--help", false);
        check("-V", false);
    }

    #[test]
    fn the_labs_arguments_give_way_to_the_users() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text).for_pinger(&words(text)), words(expected));
        };
        let hosts = LAB_DESTINATIONS.join(" ");
        check("", &format!("-i pinger0 {hosts} --interval 100ms"));
        check(
            "--duration 5s",
            &format!("-i pinger0 {hosts} --interval 100ms --duration 5s"),
        );
        check(
            "--interval=1s",
            &format!("-i pinger0 {hosts} --interval=1s"),
        );
        check(
            "-i pinger0",
            &format!("{hosts} --interval 100ms -i pinger0"),
        );
        check("-i eth0 host", "-i eth0 host");
    }

    #[test]
    fn an_engine_is_fetched_only_for_the_embedded_store() {
        let check = |text: &str, expected: bool| {
            assert_eq!(brings_own_store(&words(text)), expected, "{text:?}");
        };
        check("", false);
        check("--store embedded", false);
        check("--store none", true);
        check("--store=none", true);
        check("--store http://db:8123/pinger", true);
        check("--store", false);
    }
}
