//! Numbers to text: counts, percentages and durations, each in one scheme everywhere.

use std::time::Duration;

use super::Pace;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// The unit that all round trips on a screen share, so that a column can be compared at a glance.
///
/// It follows the median of the run, and changes back only after the median has fallen to a
/// tenth, so it does not jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scale {
    /// Microseconds with one decimal.
    #[default]
    Micros,
    /// Milliseconds with three decimals.
    Millis,
}

impl Scale {
    const UP_NS: u64 = 10 * MS;
    const DOWN_NS: u64 = MS;

    /// The scale after a look at the median round trip.
    pub(super) fn follow(self, p50_ns: u64) -> Self {
        match self {
            _ if p50_ns >= Self::UP_NS => Self::Millis,
            _ if p50_ns < Self::DOWN_NS => Self::Micros,
            unchanged => unchanged,
        }
    }

    /// The unit's symbol.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::Millis => "ms",
        }
    }

    /// A duration without its unit, at most 8 characters up to 1,000 seconds: decimals give way.
    pub(super) fn format(self, ns: u64) -> String {
        let (unit_ns, decimals) = match self {
            Self::Micros => (US, 1),
            Self::Millis => (MS, 3),
        };
        let value = ns as f64 / unit_ns as f64;
        let decimals = match self {
            Self::Micros if value >= 99_999.95 => 0,
            Self::Millis if value >= 99_999.95 => 0,
            Self::Millis if value >= 9_999.999_5 => 1,
            _ => decimals,
        };
        format!("{value:.decimals$}")
    }

    /// A duration with its unit.
    pub(super) fn with_unit(self, ns: u64) -> String {
        format!("{} {}", self.format(ns), self.unit())
    }
}

/// A count with thousands separators.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in at most `width` characters (never fewer than five): exact where it fits.
pub(super) fn count_in(count: u64, width: usize) -> String {
    let text = grouped(count);
    if text.len() <= width {
        return text;
    }
    let digits = count.to_string();
    if digits.len() <= width {
        return digits;
    }
    let mut value = count as f64;
    for suffix in ["k", "M", "G", "T", "P"] {
        value /= 1000.0;
        if value < 999.5 {
            return format!("{}{suffix}", three_digits(value));
        }
    }
    format!("{}E", three_digits(value / 1000.0))
}

/// A share in percent with two decimals; what is not nothing never reads as nothing, and what is
/// not all never reads as all.
pub(super) fn percent(percent: f64) -> String {
    if percent > 0.0 && percent < 0.005 {
        "<0.01".to_owned()
    } else if (99.995..100.0).contains(&percent) {
        ">99.99".to_owned()
    } else {
        format!("{percent:.2}")
    }
}

/// The same without decimals that say nothing, for sentences.
pub(super) fn percent_short(value: f64) -> String {
    let text = percent(value);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration for sentences, three significant digits and its own unit.
pub(super) fn human(ns: u64) -> String {
    for (unit_ns, unit) in [(1, "ns"), (US, "µs"), (MS, "ms")] {
        let value = ns as f64 / unit_ns as f64;
        if unit_ns == 1 && ns < US {
            return format!("{ns} ns");
        }
        if unit_ns > 1 && value < 999.5 {
            return format!("{} {unit}", three_digits(value));
        }
    }
    format!("{} s", three_digits(ns as f64 / S as f64))
}

/// A time that somebody chose, exact and without decimals that say nothing.
pub(super) fn exact(ns: u64) -> String {
    let (unit_ns, unit) = match ns {
        0..US => (1, "ns"),
        US..MS => (US, "µs"),
        MS..S => (MS, "ms"),
        _ => (S, "s"),
    };
    let whole = ns / unit_ns;
    let rest = ns % unit_ns;
    if rest == 0 {
        return format!("{whole} {unit}");
    }
    let decimals = format!("{:0width$}", rest, width = unit_ns.ilog10() as usize);
    format!("{whole}.{} {unit}", decimals.trim_end_matches('0'))
}

/// How often probes leave, as the end of a sentence: `every 100 ms`.
pub(super) fn pace(pace: Pace) -> String {
    match pace {
        Pace::Flood => "as fast as answers come".to_owned(),
        Pace::Every { min_ns, max_ns } if min_ns == max_ns => format!("every {}", exact(min_ns)),
        Pace::Every { min_ns, max_ns } => {
            format!("every {} to {}", exact(min_ns), exact(max_ns))
        }
    }
}

/// Time since the start as a clock: `00:01:23`, with days in front when there are any.
pub(super) fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}d {time}")
    } else {
        time
    }
}

/// `1 probe`, `2 probes`, `1,000 probes`.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_and_shortened() {
        for (count, full, in_eight, in_five) in [
            (0, "0", "0", "0"),
            (999, "999", "999", "999"),
            (1_000, "1,000", "1,000", "1,000"),
            (12_345, "12,345", "12,345", "12345"),
            (999_999, "999,999", "999,999", "1.00M"),
            (1_234_567, "1,234,567", "1234567", "1.23M"),
            (123_456_789, "123,456,789", "123M", "123M"),
            (u64::MAX, "18,446,744,073,709,551,615", "18.4E", "18.4E"),
        ] {
            assert_eq!(grouped(count), full);
            assert_eq!(count_in(count, 8), in_eight, "{count} in 8");
            assert_eq!(count_in(count, 5), in_five, "{count} in 5");
        }
    }

    #[test]
    fn shares_never_round_to_none_or_all() {
        for (value, text, short) in [
            (0.0, "0.00", "0"),
            (0.000_01, "<0.01", "<0.01"),
            (0.5, "0.50", "0.5"),
            (33.333_3, "33.33", "33.33"),
            (20.0, "20.00", "20"),
            (99.999_9, ">99.99", ">99.99"),
            (100.0, "100.00", "100"),
        ] {
            assert_eq!(percent(value), text);
            assert_eq!(percent_short(value), short);
        }
    }

    #[test]
    fn durations_keep_three_digits_and_change_unit_after_rounding() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (4_704, "4.70 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (999_600_000, "1.00 s"),
            (61 * S, "61.0 s"),
        ] {
            assert_eq!(human(ns), text, "{ns}");
        }
    }

    #[test]
    fn chosen_times_are_exact() {
        for (ns, text) in [
            (10_000, "10 µs"),
            (1_500_000, "1.5 ms"),
            (100_000_000, "100 ms"),
            (S, "1 s"),
            (1_000_000_001, "1.000000001 s"),
            (1_050, "1.05 µs"),
            (7, "7 ns"),
        ] {
            assert_eq!(exact(ns), text, "{ns}");
        }
        assert_eq!(
            pace(Pace::Every {
                min_ns: MS,
                max_ns: S
            }),
            "every 1 ms to 1 s"
        );
    }

    #[test]
    fn a_scale_has_one_unit_and_bounded_width() {
        for (scale, ns, text) in [
            (Scale::Micros, 4_704, "4.7"),
            (Scale::Micros, 99_999_949, "99999.9"),
            (Scale::Micros, 99_999_950, "100000"),
            (Scale::Micros, 10 * S, "10000000"),
            (Scale::Millis, 4_704, "0.005"),
            (Scale::Millis, 200_123_456, "200.123"),
            (Scale::Millis, 10 * S, "10000.0"),
            (Scale::Millis, 999 * S, "999000"),
        ] {
            assert_eq!(scale.format(ns), text, "{ns}");
            assert!(text.len() <= 8);
        }
    }

    #[test]
    fn a_scale_does_not_jump() {
        let mut scale = Scale::default();
        let mut changes = 0;
        for p50_ns in [
            5 * MS,
            9 * MS,
            11 * MS,
            9 * MS,
            2 * MS,
            11 * MS,
            1_500_000,
            900_000,
            MS,
        ] {
            let next = scale.follow(p50_ns);
            changes += u32::from(next != scale);
            scale = next;
        }
        assert_eq!((changes, scale), (2, Scale::Micros));
    }

    #[test]
    fn the_clock_counts_days() {
        assert_eq!(clock(Duration::from_millis(83_999)), "00:01:23");
        assert_eq!(clock(Duration::from_secs(90_061)), "1d 01:01:01");
    }
}
