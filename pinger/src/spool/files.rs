//! Names of a spool's files, and what stands in `store`.

use super::terms::Identity;

/// What a segment's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Being filled.
    Open,
    /// Being written at once; void.
    New,
    /// Whole, never sent.
    Whole,
    /// Sent at least once.
    Tried,
    /// Written.
    Done,
    /// Refused for good.
    Aside,
}

/// Which store, source and run a folder is of.
pub const STORE: &str = "store";

/// The run has ended and lost nothing that no gap tells of.
pub const ENDED: &str = "ended";

/// Where refused segments are.
const ASIDE: &str = "refused/";

const STATES: [(State, &str); 5] = [
    (State::Open, "open"),
    (State::New, "new"),
    (State::Whole, "seg"),
    (State::Tried, "try"),
    (State::Done, "done"),
];

/// The name of segment `number` in that state.
pub(super) fn name(number: u64, state: State) -> String {
    if state == State::Aside {
        return format!("{ASIDE}{number:08}.seg");
    }
    let ending = STATES.iter().find(|(is, _)| *is == state);
    let ending = ending.map_or("seg", |(_, ending)| ending);
    format!("{number:08}.{ending}")
}

/// The name of the file that says why segment `number` was refused.
pub(super) fn reason_name(number: u64) -> String {
    format!("{ASIDE}{number:08}.txt")
}

/// Number and state of a segment of that name; `None` for another file.
pub(super) fn parse(name: &str) -> Option<(u64, State)> {
    let (rest, is_aside) = match name.strip_prefix(ASIDE) {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let (number, ending) = rest.split_once('.')?;
    if number.len() < 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = number.parse().ok()?;
    let (state, _) = STATES.iter().find(|(_, is)| *is == ending)?;
    match (is_aside, state) {
        (false, _) => Some((number, *state)),
        (true, State::Whole) => Some((number, State::Aside)),
        (true, _) => None,
    }
}

/// Whether this is a file in the folder of what was refused.
pub(super) fn is_aside(name: &str) -> bool {
    name.starts_with(ASIDE)
}

/// What stands in `store`.
pub(super) fn store_text(identity: &Identity) -> String {
    let Identity { source, run, store } = identity;
    format!("pinger spool 1\nstore {store}\nsource {source}\nrun {run}\n")
}

/// Whether it is all that stands in such a file, of whatever run, and not a torn write.
pub(super) fn is_store_text(text: &str) -> bool {
    let starts = ["pinger spool ", "store ", "source ", "run "];
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_line = |(line, start): (&&str, &str)| line.starts_with(start) && line.ends_with('\n');
    lines.len() == starts.len() && lines.iter().zip(starts).all(is_line)
}

/// The store that a `store` file names, for messages.
pub(super) fn store_of(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("store "));
    line.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_store_file_is_none() {
        let text = store_text(&Identity {
            source: 7,
            run: 12,
            store: "https://db.example.com:8443/pinger".to_owned(),
        });
        assert_eq!(store_of(&text), "https://db.example.com:8443/pinger");
        assert!(is_store_text(&text));
        for cut in 0..text.len() {
            assert!(!is_store_text(&text[..cut]), "{cut}");
            let zeroed = format!("{}{}", &text[..cut], "\0".repeat(text.len() - cut));
            assert!(!is_store_text(&zeroed), "{cut}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for (number, state, expected) in [
            (1, State::Open, "00000001.open"),
            (2, State::New, "00000002.new"),
            (3, State::Whole, "00000003.seg"),
            (4, State::Tried, "00000004.try"),
            (123_456_789, State::Done, "123456789.done"),
            (5, State::Aside, "refused/00000005.seg"),
        ] {
            assert_eq!(name(number, state), expected);
            assert_eq!(parse(expected), Some((number, state)));
        }
        for other in [
            "store",
            "ended",
            "lock",
            "1.seg",
            "0000000x.seg",
            "00000001.txt",
            "refused/00000001.txt",
            "refused/00000001.open",
            "00000001",
            "99999999999999999999999.seg",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
