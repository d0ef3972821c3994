//! Gaps: what is missing in the results, and why.
//!
//! In: what was lost. Out: rows of the table `gaps`, few of them: what was lost in a row for one
//! reason is one gap.

use super::segment::{Marker, Totals};
use crate::native::{Block, Columns, TIME};

/// The column's type; where it is declared otherwise the server converts.
const REASON: &str = "Enum8('crash' = 1, 'spool_full' = 2, 'too_old' = 3, 'refused' = 4, \
                      'queue_full' = 5, 'corrupt' = 6, 'interrupted' = 7)";

/// Why results are missing; the numbers are the schema's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum GapReason {
    /// The prober ended before it had written them down.
    Crash = 1,
    /// There was no more room on disk, or the spool's limit was reached.
    SpoolFull = 2,
    /// They had waited longer than the spool may keep them.
    TooOld = 3,
    /// The server refused them for good.
    Refused = 4,
    /// They came faster than they could be written down.
    QueueFull = 5,
    /// Their file was damaged.
    Corrupt = 6,
    /// The run was told to end at once while these probes were in flight.
    Interrupted = 7,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Crash,
        Self::SpoolFull,
        Self::TooOld,
        Self::Refused,
        Self::QueueFull,
        Self::Corrupt,
        Self::Interrupted,
    ];

    /// The name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::SpoolFull => "spool_full",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
            Self::QueueFull => "queue_full",
            Self::Corrupt => "corrupt",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A row of the table `gaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Key of the source.
    pub source: u32,
    /// Start of the run, wall clock nanoseconds.
    pub run: u64,
    /// Results before this are there, wall clock nanoseconds.
    pub from_ns: i64,
    /// Results after this are there; `None` if that is not known.
    pub until_ns: Option<i64>,
    /// Probes that were sent and whose result is missing; `None` if that is not known.
    pub probes: Option<u64>,
    /// Results that are missing, late answers and duplicates included; `None` if not known.
    pub rows: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// The same in words.
    pub detail: String,
}

impl Gap {
    /// Columns of `gaps`, in the order in which [`Self::block`] writes them; `updated` is the
    /// server's.
    pub const COLUMNS: &[&str] = &[
        "source", "run", "from", "until", "probes", "rows", "reason", "detail",
    ];

    /// Gaps as one block of the table `gaps`.
    pub fn block(gaps: &[Self]) -> Block {
        let mut to = Columns::new(Self::COLUMNS, gaps);
        to.column("UInt32", |gap| gap.source);
        to.column("UInt64", |gap| gap.run);
        to.column(TIME, |gap| gap.from_ns);
        to.nullable(TIME, |gap| gap.until_ns);
        to.nullable("UInt64", |gap| gap.probes);
        to.nullable("UInt64", |gap| gap.rows);
        to.column(REASON, |gap| gap.reason as i8);
        to.strings(|gap| gap.detail.as_bytes());
        to.finish()
    }

    /// The marker of a row of `gaps`: `time_due` is its `from`, `outcome` its reason.
    pub(super) fn marker(&self) -> Marker {
        Marker {
            destination: 0,
            sequence: 0,
            time_due: self.from_ns,
            outcome: self.reason as i8,
        }
    }
}

/// Results that were lost on the way to the spool or in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How many results, and how many probes they end; `None` if that is not known.
    pub size: Option<Totals>,
    /// When the first of them came, wall clock nanoseconds.
    pub from_ns: i64,
    /// When the last of them came.
    pub until_ns: i64,
    /// Why.
    pub reason: GapReason,
    /// The same in words.
    pub detail: String,
}

impl Loss {
    /// What was lost for the same reason.
    pub(super) fn add(&mut self, more: &Self) {
        self.size = self.size.zip(more.size).map(|(one, two)| one.plus(two));
        self.from_ns = self.from_ns.min(more.from_ns);
        self.until_ns = self.until_ns.max(more.until_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::tests::{plain, text};

    #[test]
    fn a_gap_is_these_bytes() {
        let gap = Gap {
            source: 2,
            run: 1,
            from_ns: -1,
            until_ns: None,
            probes: Some(3),
            rows: None,
            reason: GapReason::Corrupt,
            detail: "it is".to_owned(),
        };
        let long = |number: u8| vec![number, 0, 0, 0, 0, 0, 0, 0];
        let null = [vec![1], long(0)].concat();
        let columns: [(&str, &str, Vec<u8>); 8] = [
            ("source", "UInt32", vec![2, 0, 0, 0]),
            ("run", "UInt64", long(1)),
            ("from", TIME, vec![255; 8]),
            ("until", "Nullable(DateTime64(9, 'UTC'))", null.clone()),
            ("probes", "Nullable(UInt64)", [vec![0], long(3)].concat()),
            ("rows", "Nullable(UInt64)", null),
            ("reason", REASON, vec![6]),
            ("detail", "String", text("it is")),
        ];
        let mut expected = vec![8, 1];
        for (name, kind, value) in columns {
            expected.extend([text(name), text(kind), value].concat());
        }
        assert_eq!(plain(&Gap::block(&[gap])), expected);
    }

    #[test]
    fn names_and_values_of_reasons_agree() {
        for reason in GapReason::ALL {
            let value = format!("'{}' = {}", reason.name(), reason as i8);
            assert!(REASON.contains(&value), "{value}");
        }
    }
}
