//! Durations as people write them: `100ms`, `1.5s`, `1m30s`.
//!
//! In: text. Out: whole nanoseconds, exact: no floating point on the way.

/// Units, largest first; `us` is the one to type, `µs` and `μs` are what other programs print.
const UNITS: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotADuration {
    /// A plain number.
    NoUnit,
    /// Anything else.
    Malformed,
    /// More than 2^64 ns, about 584 years.
    TooLong,
}

/// Reads a duration as nanoseconds; digits below a nanosecond are cut off.
pub(crate) fn parse(text: &str) -> Result<u64, NotADuration> {
    let mut rest = text.trim();
    let mut total_ns: u64 = 0;
    let mut unit_before_ns = u64::MAX;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        if after.is_empty() && unit_before_ns == u64::MAX {
            return Err(if number.is_empty() {
                NotADuration::Malformed
            } else {
                NotADuration::NoUnit
            });
        }
        let unit_len = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let unit_ns = UNITS
            .iter()
            .find(|(name, _)| *name == unit.trim())
            .map(|(_, unit_ns)| *unit_ns)
            // "30s1m" is a slip, not a sum.
            .filter(|unit_ns| *unit_ns < unit_before_ns)
            .ok_or(NotADuration::Malformed)?;
        let part_ns = scaled(number, unit_ns)?;
        total_ns = total_ns.checked_add(part_ns).ok_or(NotADuration::TooLong)?;
        unit_before_ns = unit_ns;
        rest = next;
    }
    if unit_before_ns == u64::MAX {
        Err(NotADuration::Malformed)
    } else {
        Ok(total_ns)
    }
}

/// A decimal number of units as a whole number of what a unit is counted in: nanoseconds here.
pub(super) fn scaled(number: &str, unit_ns: u64) -> Result<u64, NotADuration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(fraction) {
        return Err(NotADuration::Malformed);
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| NotADuration::TooLong)?
    };
    // Two dozen digits reach far below a nanosecond, and keep the product below 2^127.
    let fraction = &fraction[..fraction.len().min(24)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let fraction_ns = fraction
        .parse::<u128>()
        .map_or(0, |f| f * u128::from(unit_ns) / scale) as u64;
    let whole_ns = whole.checked_mul(unit_ns).ok_or(NotADuration::TooLong)?;
    whole_ns
        .checked_add(fraction_ns)
        .ok_or(NotADuration::TooLong)
}

/// Writes nanoseconds in the largest unit that needs no fraction, and in microseconds with three
/// decimals where none does. A config file that holds this text means the same number.
pub fn show(ns: u64) -> String {
    UNITS[..6]
        .iter()
        .find(|(_, unit_ns)| ns >= *unit_ns && ns.is_multiple_of(*unit_ns))
        .map_or_else(
            || format!("{}.{:03}us", ns / 1_000, ns % 1_000),
            |(unit, unit_ns)| format!("{}{unit}", ns / unit_ns),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, expected_ns) in [
            ("10us", 10_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            ("100ms", 100_000_000),
            ("100 ms", 100_000_000),
            (" 1s ", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("0.1ms", 100_000),
            ("12.345us", 12_345),
            ("0.000000001s", 1),
            ("0.0000000019s", 1),
            ("1m", 60_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1h0.5m", 3_630_000_000_000),
            ("2d", 172_800_000_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(expected_ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_apart() {
        use NotADuration::{Malformed, NoUnit, TooLong};
        for (text, expected) in [
            ("", Malformed),
            (" ", Malformed),
            ("5", NoUnit),
            ("0.2", NoUnit),
            ("s", Malformed),
            (".s", Malformed),
            ("1.2.3s", Malformed),
            ("-1s", Malformed),
            ("+1s", Malformed),
            ("1e3s", Malformed),
            ("5sec", Malformed),
            ("5 seconds", Malformed),
            ("1S", Malformed),
            ("30s1m", Malformed),
            ("1s1s", Malformed),
            ("1s5", Malformed),
            ("600y", Malformed),
            ("1000000d", TooLong),
            ("99999999999999999999s", TooLong),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_their_largest_unit() {
        for (ns, expected) in [
            (0, "0.000us"),
            (999, "0.999us"),
            (10_000, "10us"),
            (1_500_000, "1500us"),
            (650_000_000, "650ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "90s"),
            (900_000_000_000, "15m"),
            (86_400_000_000_000, "1d"),
        ] {
            assert_eq!(show(ns), expected);
        }
    }

    proptest! {
        #[test]
        fn shown_durations_read_as_they_were(ns in any::<u64>()) {
            prop_assert_eq!(parse(&show(ns)), Ok(ns));
        }

        #[test]
        fn any_text_is_a_duration_or_not(text in "\\PC{0,20}|[0-9.smhdu ]{0,20}") {
            let _ = parse(&text).map(show);
        }
    }
}
