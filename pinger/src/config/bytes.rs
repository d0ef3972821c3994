//! Amounts of bytes as people write them: `10GiB`, `500MB`, `1.5TiB`.
//!
//! In: text. Out: whole bytes, exact: no floating point on the way.

use super::duration::{NotADuration, scaled};

/// Units, largest first; those of [`show`] are the powers of two, in the even places.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Why a text is no amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotBytes {
    /// A plain number.
    NoUnit,
    /// Anything else.
    Malformed,
    /// More than 2^64.
    TooMany,
}

/// Reads an amount of bytes; what is below one is cut off. Units are known in any case of letters.
pub(crate) fn parse(text: &str) -> Result<u64, NotBytes> {
    let text = text.trim();
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    if number.is_empty() {
        return Err(NotBytes::Malformed);
    }
    if unit.is_empty() {
        return Err(NotBytes::NoUnit);
    }
    let bytes = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
        .map(|(_, bytes)| *bytes)
        .ok_or(NotBytes::Malformed)?;
    scaled(number, bytes).map_err(|error| match error {
        NotADuration::TooLong => NotBytes::TooMany,
        NotADuration::NoUnit | NotADuration::Malformed => NotBytes::Malformed,
    })
}

/// Writes bytes in the largest binary unit that needs no fraction. A config file that holds this
/// text means the same number.
pub fn show(bytes: u64) -> String {
    UNITS
        .iter()
        .step_by(2)
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(name, unit)| format!("{}{name}", bytes / unit),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, expected) in [
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("500MB", 500_000_000),
            ("1.5KiB", 1536),
            (" 7B ", 7),
            ("2kb", 2_000),
            ("0.0001kB", 0),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_told_apart() {
        use NotBytes::{Malformed, NoUnit, TooMany};
        for (text, expected) in [
            ("", Malformed),
            ("5", NoUnit),
            ("1.5", NoUnit),
            ("GiB", Malformed),
            ("5G", Malformed),
            ("-1MB", Malformed),
            ("1.2.3MB", Malformed),
            ("1GiB5MiB", Malformed),
            ("16777216TiB", TooMany),
            ("99999999999999999999B", TooMany),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_in_their_largest_unit() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1536, "1536B"),
            (1 << 20, "1MiB"),
            (10 << 30, "10GiB"),
            (3 << 40, "3TiB"),
        ] {
            assert_eq!(show(bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn shown_amounts_read_as_they_were(bytes in any::<u64>()) {
            prop_assert_eq!(parse(&show(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_an_amount_or_not(text in "\\PC{0,20}|[0-9.kKMGTiB ]{0,20}") {
            let _ = parse(&text).map(show);
        }
    }
}
