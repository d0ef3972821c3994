//! Figures as people read them.

use crate::measure::{Figure, Row, Unit};

/// One figure of one run, for the progress.
pub(crate) fn figure(figure: &Figure) -> String {
    format!("{} {}", figure.metric, value(figure.unit, figure.value))
}

/// A measured figure: the median, and where runs differed, the least and the most.
pub(crate) fn row(row: &Row) -> String {
    let value = |number| value(row.unit, number);
    let (median, min, max) = (value(row.median), value(row.min), value(row.max));
    if min == max {
        median
    } else {
        format!("**{median}** ({min} to {max})")
    }
}

fn value(unit: Unit, number: f64) -> String {
    match unit {
        Unit::PerSecond => format!("{}/s", thousands(number)),
        Unit::Nanoseconds => nanoseconds(number),
        Unit::Probes | Unit::Rows => thousands(number),
        Unit::BytesPerRow => format!("{number:.2} B"),
        Unit::SecondsPerMillion => format!("{number:.2} s"),
        Unit::Times => format!("{number:.1}×"),
    }
}

/// Three significant digits, as far as a nanosecond has them.
fn nanoseconds(ns: f64) -> String {
    let (scaled, unit) = match ns {
        ..1e3 => return format!("{ns:.0} ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = match scaled {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {unit}")
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number <= -0.5 {
        format!("−{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_and_commas() {
        let check = |unit: Unit, number: f64, expected: &str| {
            assert_eq!(value(unit, number), expected);
        };
        check(Unit::PerSecond, 183_120.4, "183,120/s");
        check(Unit::Probes, 0.0, "0");
        check(Unit::Rows, 3_000_000.0, "3,000,000");
        check(Unit::Rows, -12.0, "−12");
        check(Unit::Probes, 999.0, "999");
        check(Unit::BytesPerRow, 2.984, "2.98 B");
        check(Unit::SecondsPerMillion, 0.5, "0.50 s");
        check(Unit::Times, 5.04, "5.0×");
        check(Unit::Nanoseconds, 87.0, "87 ns");
        check(Unit::Nanoseconds, 4_703.0, "4.70 µs");
        check(Unit::Nanoseconds, 48_100.0, "48.1 µs");
        check(Unit::Nanoseconds, 142_400.0, "142 µs");
        check(Unit::Nanoseconds, 4_003_000.0, "4.00 ms");
        check(Unit::Nanoseconds, 2e9, "2.00 s");
    }

    #[test]
    fn runs_that_agree_are_one_figure() {
        let of = |median, min, max| {
            row(&Row {
                table: String::new(),
                case: String::new(),
                tool: String::new(),
                metric: String::new(),
                unit: Unit::Probes,
                median,
                min,
                max,
            })
        };
        assert_eq!(of(0.0, 0.0, 0.0), "0");
        assert_eq!(of(1.0, 0.0, 2.0), "**1** (0 to 2)");
    }
}
