//! Which columns fit a width, and where each stands.

use crate::stats::DestinationStats;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Address,
    Sent,
    Loss,
    Last,
    Min,
    P50,
    P99,
    Max,
    Jitter,
    Recent,
}

/// From left to right.
pub(super) const ALL: [Column; 11] = [
    Column::Name,
    Column::Address,
    Column::Sent,
    Column::Loss,
    Column::Last,
    Column::Min,
    Column::P50,
    Column::P99,
    Column::Max,
    Column::Jitter,
    Column::Recent,
];

/// What a narrow screen gives up, first things first. The name is never given up.
const LEAST_MISSED_FIRST: [Column; 10] = [
    Column::Jitter,
    Column::Address,
    Column::Min,
    Column::Max,
    Column::Sent,
    Column::Last,
    Column::P99,
    Column::Recent,
    Column::P50,
    Column::Loss,
];

/// Names shorter than this are given no more room than they need.
const NAME_MIN: u16 = 16;
/// Longer names are cut, so that the figures stay near them.
const NAME_MAX: u16 = 40;
const RECENT_MIN: u16 = 8;
const RECENT_MAX: u16 = crate::stats::RECENT as u16;
/// From this width on, columns are two characters apart.
const AIRY: u16 = 100;

impl Column {
    /// The heading, without the unit.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Name => "destination",
            Self::Address => "address",
            Self::Sent => "sent",
            Self::Loss => "loss",
            Self::Last => "last",
            Self::Min => "min",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Max => "max",
            Self::Jitter => "jitter",
            Self::Recent => "recent",
        }
    }

    /// Whether it holds round trips, which share a unit.
    pub(super) fn is_rtt(self) -> bool {
        matches!(
            self,
            Self::Last | Self::Min | Self::P50 | Self::P99 | Self::Max | Self::Jitter
        )
    }

    /// Whether its text starts at the left; figures end at the right.
    pub(super) fn is_left(self) -> bool {
        matches!(self, Self::Name | Self::Address | Self::Recent)
    }

    /// Whether rows can be sorted by it.
    pub(super) fn sorts(self) -> bool {
        self != Self::Recent
    }

    /// The round trip, or what is told in its unit, that it shows of a destination; none before
    /// there is one, and of columns that show something else.
    pub(super) fn rtt_ns(self, destination: &DestinationStats) -> Option<u64> {
        let rtt = Some(destination.rtt).filter(|rtt| rtt.count > 0)?;
        match self {
            Self::Last => destination.last_ns,
            Self::Min => Some(rtt.min_ns),
            Self::P50 => Some(rtt.p50_ns),
            Self::P99 => Some(rtt.p99_ns),
            Self::Max => Some(rtt.max_ns),
            Self::Jitter => destination.jitter_ns,
            Self::Name | Self::Address | Self::Sent | Self::Loss | Self::Recent => None,
        }
    }
}

/// A column with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) column: Column,
    /// Distance from the table's left edge.
    pub(super) x: u16,
    pub(super) width: u16,
}

/// Places columns in `width` characters, for names and addresses of the given longest lengths
/// (no addresses if zero), with rows sorted by a column or not.
pub(super) fn place(
    width: u16,
    name_width: usize,
    address_width: usize,
    sorted: Option<Column>,
) -> Vec<Placed> {
    let name_want = clamp(
        name_width,
        Column::Name.heading().len() as u16 + 1,
        NAME_MAX,
    );
    let address_want = clamp(address_width, 0, NAME_MAX);
    let gap = if width >= AIRY { 2 } else { 1 };
    let mut columns: Vec<(Column, u16)> = ALL
        .into_iter()
        .filter(|column| *column != Column::Address || address_want > 0)
        .map(|column| (column, min_width(column, name_want, address_want)))
        .collect();
    let mut order = least_missed_first(sorted);
    while total(&columns, gap) > width {
        match order.next() {
            Some(least) => columns.retain(|(column, _)| *column != least),
            None => break,
        }
    }
    for (column, want) in [
        (Column::Name, name_want),
        (Column::Recent, RECENT_MAX),
        (Column::Address, address_want),
    ] {
        let left = width.saturating_sub(total(&columns, gap));
        if let Some((_, have)) = columns.iter_mut().find(|(other, _)| *other == column) {
            *have += left.min(want.saturating_sub(*have));
        }
    }
    let mut x = 0;
    columns
        .into_iter()
        .map(|(column, column_width)| {
            let placed = Placed {
                column,
                x,
                width: column_width.min(width.saturating_sub(x)),
            };
            x += column_width + gap;
            placed
        })
        .collect()
}

/// What is given up, first things first, where rows are sorted by a column: that one is missed more
/// than any but the loss.
fn least_missed_first(sorted: Option<Column>) -> impl Iterator<Item = Column> {
    let [others @ .., loss] = LEAST_MISSED_FIRST;
    let (sorted, others): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|column| Some(*column) == sorted);
    others.into_iter().chain(sorted).chain([loss])
}

fn min_width(column: Column, name_want: u16, address_want: u16) -> u16 {
    match column {
        Column::Name => name_want.min(NAME_MIN),
        Column::Address => address_want.min(NAME_MIN),
        Column::Sent => 9,
        Column::Loss => 7,
        // Its heading is the longest of the figures'.
        Column::Jitter => 10,
        Column::Recent => RECENT_MIN,
        _ => 8,
    }
}

fn total(columns: &[(Column, u16)], gap: u16) -> u16 {
    let gaps = gap * (columns.len() as u16).saturating_sub(1);
    columns.iter().map(|(_, width)| width).sum::<u16>() + gaps
}

fn clamp(length: usize, min: u16, max: u16) -> u16 {
    u16::try_from(length)
        .unwrap_or(max)
        .clamp(min, max.max(min))
}

/// A text cut in its middle to `width` characters: both ends of a long address tell it apart.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head = kept.div_ceil(2);
    let start = text.chars().take(head);
    let end = text.chars().skip(length - (kept - head));
    start.chain(['…']).chain(end).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        width: u16,
        name_width: usize,
        address_width: usize,
        sorted: Option<Column>,
    ) -> String {
        let placed = place(width, name_width, address_width, sorted);
        let mut next = 0;
        for column in &placed {
            assert!(column.x >= next, "columns overlap at width {width}");
            next = column.x + column.width;
            assert!(next <= width, "{column:?} leaves width {width}");
        }
        let names: Vec<_> = placed
            .iter()
            .map(|placed| placed.column.heading())
            .collect();
        names.join(" ")
    }

    #[test]
    fn narrow_screens_keep_what_matters() {
        for (width, name, address, columns) in [
            (
                160,
                14,
                14,
                "destination address sent loss last min p50 p99 max jitter recent",
            ),
            (
                120,
                14,
                14,
                "destination address sent loss last min p50 p99 max recent",
            ),
            (
                120,
                39,
                0,
                "destination sent loss last min p50 p99 max jitter recent",
            ),
            (80, 14, 14, "destination sent loss last p50 p99 max recent"),
            (80, 39, 0, "destination sent loss last p50 p99 max recent"),
            (60, 14, 0, "destination loss last p50 p99 recent"),
            (40, 14, 0, "destination loss p50 recent"),
            (24, 14, 0, "destination loss"),
            (10, 14, 0, "destination"),
            (0, 14, 0, "destination"),
        ] {
            assert_eq!(shown(width, name, address, None), columns, "width {width}");
        }
    }

    #[test]
    fn what_rows_are_sorted_by_is_shown_wherever_it_fits() {
        for (width, column, columns) in [
            (
                120,
                Column::Jitter,
                "destination sent loss last min p50 p99 max jitter recent",
            ),
            (
                80,
                Column::Jitter,
                "destination sent loss last p50 p99 jitter recent",
            ),
            (
                80,
                Column::Min,
                "destination sent loss last min p50 p99 recent",
            ),
            (40, Column::Jitter, "destination loss jitter"),
            (24, Column::Jitter, "destination loss"),
            (24, Column::Loss, "destination loss"),
        ] {
            assert_eq!(shown(width, 14, 14, Some(column)), columns, "width {width}");
        }
    }

    #[test]
    fn every_width_holds_together() {
        for width in 0..300 {
            for lengths in [(0, 0), (9, 15), (39, 39), (1000, 1000)] {
                for sorted in [None, Some(Column::Address), Some(Column::Jitter)] {
                    shown(width, lengths.0, lengths.1, sorted);
                }
            }
        }
    }

    #[test]
    fn long_texts_lose_their_middle() {
        for (text, width, short) in [
            ("host", 4, "host"),
            ("2001:db8:10::1f4", 12, "2001:d…::1f4"),
            ("straße.example", 7, "str…ple"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(shorten(text, width), short);
        }
    }
}
