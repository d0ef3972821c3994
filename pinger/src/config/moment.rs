//! Moments as people write them: `2026-11-21 10:00`, RFC 3339 with an offset, or an age, `2h`.
//!
//! In: text. Out: a [`Moment`], or the [`Mistake`] that says how to write one. Without an offset
//! times are UTC, as all times in the store are.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::duration;
use crate::mistake::Mistake;

/// A point in time, wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nanoseconds since 1970 UTC.
    At(i64),
    /// So many nanoseconds before now.
    Ago(u64),
}

impl Moment {
    /// Nanoseconds since 1970 UTC, if it is `now_ns`.
    pub fn ns(self, now_ns: i64) -> i64 {
        match self {
            Self::At(ns) => ns,
            Self::Ago(ns) => now_ns.saturating_sub_unsigned(ns),
        }
    }
}

/// Reads a moment.
pub(crate) fn moment(text: &str) -> Result<Moment, Mistake> {
    if let Ok(ns) = duration::parse(text) {
        return Ok(Moment::Ago(ns));
    }
    let at = whole(text.trim())
        .and_then(|whole| OffsetDateTime::parse(&whole, &Rfc3339).ok())
        .and_then(|time| i64::try_from(time.unix_timestamp_nanos()).ok());
    at.map(Moment::At).ok_or_else(|| {
        Mistake::new(
            format!("{text:?} is not a moment"),
            "Write a date, with a time or without, for example 2026-11-21 or \"2026-11-21 10:00\" \
             (UTC)\nor 2026-11-21T10:00:00.5+01:00; or how long ago it was, for example 2h or 7d.",
        )
    })
}

/// The text with all that RFC 3339 wants: seconds and an offset.
fn whole(text: &str) -> Option<String> {
    let (date, rest) = text.split_at_checked("2026-11-21".len())?;
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let offset_at = clock.find(['Z', 'z', '+', '-']);
    let (clock, offset) = clock.split_at(offset_at.unwrap_or(clock.len()));
    let seconds = if clock.len() == "10:00".len() {
        ":00"
    } else {
        ""
    };
    let offset = if offset.is_empty() { "Z" } else { offset };
    Some(format!("{date}T{clock}{seconds}{offset}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_exact() {
        const DAY: i64 = 1_795_219_200_000_000_000;
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2026-11-21", DAY),
            ("2026-11-21 10:00", DAY + 36_000_000_000_000),
            ("2026-11-21T10:00:00Z", DAY + 36_000_000_000_000),
            ("2026-11-21 10:00+01:00", DAY + 32_400_000_000_000),
            ("2026-11-21 00:00:00.123456789", DAY + 123_456_789),
            ("2026-11-20T23:00:00-01:00", DAY),
        ] {
            assert_eq!(moment(text), Ok(Moment::At(expected)), "{text}");
        }
        assert_eq!(moment("2h"), Ok(Moment::Ago(7_200_000_000_000)));
        assert_eq!(Moment::Ago(7).ns(10), 3);
        assert_eq!(Moment::At(7).ns(10), 7);
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_is() {
        for text in [
            "",
            "now",
            "10:00",
            "2026-11-31",
            "2026-11-21 25:00",
            "2026-11-21 10",
            "21.11.2026",
            "2026-11-21x10:00",
            "1500-01-01",
            "2300-01-01",
            "5",
            "2026-11-2\u{fc}",
        ] {
            let mistake = moment(text).expect_err(text);
            assert!(mistake.what.contains("is not a moment"), "{mistake}");
            assert!(mistake.advice.contains("2h or 7d"), "{mistake}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_not(text in "\\PC{0,30}|[-0-9T:Z+. ]{0,30}") {
            let _ = moment(&text);
        }
    }
}
