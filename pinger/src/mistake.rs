//! A mistake in what the user wrote: what is wrong, and what to write instead.
//!
//! The command line, the config file and destination lists all report through this one type, so
//! a wrong value reads the same wherever it stood. Pure text, no I/O.

use std::fmt;

/// The most mistakes shown at once; further ones are only counted, because the first few are
/// usually the cause of the rest.
pub const MISTAKES_SHOWN_MAX: usize = 10;

/// The most reasons repeated behind an error; the rest is counted.
pub const REASONS_SHOWN_MAX: usize = 5;

/// One mistake of the user, in two parts: what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n  {}", advice.replace('\n', "\n  "))]
pub struct Mistake {
    /// What is wrong, naming the input. One line, no full stop at its end.
    pub what: String,
    /// What to write instead: short sentences, a line break where a line should end.
    pub advice: String,
}

impl Mistake {
    /// A mistake in these words.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// The same mistake, told with the place where it was found in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }
}

/// Several mistakes, found in one reading; never empty when it is returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// `Ok` when there are none.
    ///
    /// # Errors
    ///
    /// All of them, when there are any.
    pub fn none_or_all(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.0.iter().take(MISTAKES_SHOWN_MAX).enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        match self.0.len().saturating_sub(MISTAKES_SHOWN_MAX) {
            0 => Ok(()),
            1 => f.write_str("\n  … and 1 more mistake."),
            more => write!(f, "\n  … and {more} more mistakes."),
        }
    }
}

impl std::error::Error for Mistakes {}

/// The known word that was most likely meant, if one is near enough to suggest it.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // One slip in three letters is a typing error; more is another word.
    let slips_max = (word.chars().count() / 3).max(1);
    let word = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word, &candidate.replace('-', "_")),
                *candidate,
            )
        })
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Words separated by commas, in lines short enough for a terminal of 80 columns.
pub fn listed(words: &[&str]) -> String {
    const WIDTH: usize = 74;
    let mut text = String::new();
    let mut column = 0;
    for (position, word) in words.iter().enumerate() {
        if position > 0 {
            let wrap = column + 2 + word.len() > WIDTH;
            text.push_str(if wrap { ",\n" } else { ", " });
            column = if wrap { 0 } else { column + 2 };
        }
        text.push_str(word);
        column += word.len();
    }
    text
}

/// The first reasons, a line each and indented, to stand behind an error and its colon.
pub fn reasons<T: fmt::Display>(reasons: &[T]) -> String {
    let mut text = String::new();
    for reason in reasons.iter().take(REASONS_SHOWN_MAX) {
        text.push_str(&format!("\n  {reason}"));
    }
    if reasons.len() > REASONS_SHOWN_MAX {
        text.push_str(&format!(
            "\n  … and {} more",
            reasons.len() - REASONS_SHOWN_MAX
        ));
    }
    text
}

/// "1 probe", "2 probes": a count with its noun, thousands separated by commas.
pub fn counted(count: u128, noun: &str) -> String {
    let plural = if count == 1 {
        ""
    } else if noun.ends_with("ss") {
        "es"
    } else {
        "s"
    };
    format!("{} {noun}{plural}", grouped(count))
}

/// A number with its thousands separated by commas.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people read them.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_shown_up_to_their_limit() {
        let all = |count| Mistakes(vec![Mistake::new("a is wrong", "write b\nor c"); count]);
        assert_eq!(all(1).to_string(), "a is wrong\n  write b\n  or c");
        assert_eq!(all(2).to_string().lines().count(), 6);
        assert!(all(11).to_string().ends_with("\n  … and 1 more mistake."));
        assert!(all(12).to_string().ends_with("\n  … and 2 more mistakes."));
        assert_eq!(all(0).none_or_all(), Ok(()));
        assert_eq!(all(2).none_or_all(), Err(all(2)));
    }

    #[test]
    fn a_typing_error_finds_its_word() {
        let known = ["interval", "interface", "timeout", "ttl", "data_dir"];
        for (word, expected) in [
            ("intervall", Some("interval")),
            ("Timeout", Some("timeout")),
            ("tll", Some("ttl")),
            ("data-dir", Some("data_dir")),
            ("size", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }

    #[test]
    fn lists_are_wrapped() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        let text = listed(&["twelve_bytes"; 12]);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [69, 69, 26]);
    }

    #[test]
    fn reasons_are_shown_up_to_their_limit() {
        assert_eq!(reasons::<&str>(&[]), "");
        assert_eq!(reasons(&["a", "b"]), "\n  a\n  b");
        let text = reasons(&["a"; REASONS_SHOWN_MAX + 2]);
        assert_eq!(text.lines().count(), 1 + REASONS_SHOWN_MAX + 1);
        assert!(text.ends_with("\n  … and 2 more"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (65_000, "65,000"),
            (1_048_576, "1,048,576"),
        ] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(counted(1, "probe"), "1 probe");
        assert_eq!(counted(2_000, "address"), "2,000 addresses");
    }

    #[test]
    fn bytes_are_short() {
        let shown = [0, 1023, 1024, 5_872_025, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "5.6 MiB", "16777216.0 TiB"]
        );
    }
}
