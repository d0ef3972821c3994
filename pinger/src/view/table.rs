//! The table behind the screen: which destinations are shown, and in which order.
//!
//! Only indices move. What depends on names alone (search texts, alphabetical ranks, widths) is
//! made once per list, so a frame with many destinations costs one sort of small numbers.

use std::cmp::Ordering;
use std::iter;
use std::sync::Arc;

use super::columns::{self, Column};
use crate::stats::DestinationStats;

/// What rows can be sorted by, from left to right; `None` is the order in which the user gave the
/// destinations.
fn orders() -> impl Iterator<Item = Option<Column>> {
    let columns = columns::ALL.into_iter().filter(|column| column.sorts());
    iter::once(None).chain(columns.map(Some))
}

/// The order so many steps further on, round and round.
fn step(sorted: Option<Column>, by: isize) -> Option<Column> {
    let orders: Vec<_> = orders().collect();
    let at = orders.iter().position(|order| *order == sorted);
    let at = at.unwrap_or(0) as isize + by;
    orders[at.rem_euclid(orders.len() as isize) as usize]
}

/// Whether the largest values come first until the user reverses it.
fn starts_descending(sorted: Option<Column>) -> bool {
    !matches!(sorted, None | Some(Column::Name | Column::Address))
}

/// What is known of a destination from its name and address alone.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// Name and address in lower case, for the filter.
    haystack: String,
    name_rank: u32,
    address_rank: u32,
}

/// The visible part of the list and its order.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    order: Vec<u32>,
    scratch: Vec<(Option<u64>, u32)>,
    /// None: in the order of the list.
    sorted: Option<Column>,
    descending: bool,
    filter: String,
    top: usize,
    page: usize,
    name_width: usize,
    address_width: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            order: Vec::new(),
            scratch: Vec::new(),
            sorted: None,
            descending: false,
            filter: String::new(),
            top: 0,
            page: 1,
            name_width: 0,
            address_width: 0,
        }
    }
}

impl Table {
    /// Filters and sorts anew, for new figures or a new wish.
    pub(super) fn refresh(&mut self, destinations: &[DestinationStats]) {
        if !self.knows(destinations) {
            self.learn(destinations);
        }
        let wanted = self.filter.to_lowercase();
        self.scratch.clear();
        for (index, entry) in self.entries.iter().enumerate() {
            if wanted.is_empty() || entry.haystack.contains(&wanted) {
                let key = key(self.sorted, entry, &destinations[index]);
                self.scratch.push((key, index as u32));
            }
        }
        let descending = self.descending;
        self.scratch
            .sort_unstable_by(|a, b| compare(*a, *b, descending, self.sorted));
        self.order.clear();
        self.order
            .extend(self.scratch.iter().map(|(_, index)| *index));
        self.clamp();
    }

    /// Indices of the rows on the page, from the top.
    pub(super) fn visible(&self) -> &[u32] {
        let end = (self.top + self.page).min(self.order.len());
        &self.order[self.top.min(end)..end]
    }

    /// How many rows pass the filter.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Position of the first row on the page.
    pub(super) fn top(&self) -> usize {
        self.top
    }

    /// Rows on a page.
    pub(super) fn page(&self) -> usize {
        self.page
    }

    /// Tells how many rows fit on the screen.
    pub(super) fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.clamp();
    }

    /// Moves the page down, or up if negative.
    pub(super) fn scroll(&mut self, rows: isize) {
        self.top = self.top.saturating_add_signed(rows);
        self.clamp();
    }

    /// What rows are sorted by, if not by the order of the list, and whether the largest come first.
    pub(super) fn sort(&self) -> (Option<Column>, bool) {
        (self.sorted, self.descending)
    }

    /// Sorts by the next column, or the one before if negative; starts at the top again.
    pub(super) fn step_sort(&mut self, by: isize) {
        self.sorted = step(self.sorted, by);
        if self.sorted == Some(Column::Address) && self.address_width == 0 {
            self.sorted = step(self.sorted, by);
        }
        self.descending = starts_descending(self.sorted);
        self.top = 0;
    }

    /// Turns the order round.
    pub(super) fn reverse(&mut self) {
        self.descending = !self.descending;
        self.top = 0;
    }

    /// The text that rows must contain.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Changes the text that rows must contain.
    pub(super) fn edit_filter(&mut self, edit: impl FnOnce(&mut String)) {
        edit(&mut self.filter);
        self.top = 0;
    }

    /// Characters of the longest name.
    pub(super) fn name_width(&self) -> usize {
        self.name_width
    }

    /// Characters of the longest address; zero if every name is its address.
    pub(super) fn address_width(&self) -> usize {
        self.address_width
    }

    fn clamp(&mut self) {
        self.top = self.top.min(self.order.len().saturating_sub(self.page));
    }

    /// Whether the list is the one that was learnt; names are shared, so their pointers tell.
    fn knows(&self, destinations: &[DestinationStats]) -> bool {
        self.entries.len() == destinations.len()
            && self
                .entries
                .iter()
                .zip(destinations)
                .all(|(entry, destination)| Arc::ptr_eq(&entry.name, &destination.name))
    }

    fn learn(&mut self, destinations: &[DestinationStats]) {
        self.entries.clear();
        self.name_width = 0;
        self.address_width = 0;
        for destination in destinations {
            let address = destination.address.to_string();
            let name = &destination.name;
            let shown = name.chars().count() + closed_room(destination);
            self.name_width = self.name_width.max(shown);
            if !destination.is_named_by_address() {
                self.address_width = self.address_width.max(address.len());
            }
            self.entries.push(Entry {
                name: Arc::clone(name),
                haystack: format!("{name} {address}").to_lowercase(),
                name_rank: 0,
                address_rank: 0,
            });
        }
        let mut ranked: Vec<u32> = (0..destinations.len() as u32).collect();
        let at = |index: &u32| &destinations[*index as usize];
        ranked.sort_by(|a, b| natural(&at(a).name, &at(b).name));
        for (rank, index) in ranked.iter().enumerate() {
            self.entries[*index as usize].name_rank = rank as u32;
        }
        ranked.sort_by_key(|index| at(index).address);
        for (rank, index) in ranked.iter().enumerate() {
            self.entries[*index as usize].address_rank = rank as u32;
        }
    }
}

/// What the name of a destination whose port is closed is followed by.
pub(super) const CLOSED: &str = " closed";

/// Room for [`CLOSED`] where it may come, so that columns stay where they are when it does.
fn closed_room(destination: &DestinationStats) -> usize {
    if destination.parts().1.is_empty() {
        0
    } else {
        CLOSED.len()
    }
}

/// What a row is sorted by; nothing if it has no such figure yet.
fn key(sorted: Option<Column>, entry: &Entry, destination: &DestinationStats) -> Option<u64> {
    match sorted {
        None => Some(0),
        Some(Column::Name) => Some(entry.name_rank.into()),
        Some(Column::Address) => Some(entry.address_rank.into()),
        Some(Column::Sent) => Some(destination.counts.sent),
        // The bits of floats that are not negative are in the order of the floats.
        Some(Column::Loss) => Some(destination.counts.loss_percent().to_bits()),
        Some(column) => column.rtt_ns(destination),
    }
}

/// Rows without the figure come last either way; equal rows keep the order of the list.
fn compare(
    (a, a_index): (Option<u64>, u32),
    (b, b_index): (Option<u64>, u32),
    descending: bool,
    sorted: Option<Column>,
) -> Ordering {
    if sorted.is_none() && descending {
        return b_index.cmp(&a_index);
    }
    let by_key = if descending { b.cmp(&a) } else { a.cmp(&b) };
    a.is_none()
        .cmp(&b.is_none())
        .then(by_key)
        .then(a_index.cmp(&b_index))
}

/// Compares names with the numbers in them as numbers, so that `host9` precedes `host10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&first_a), Some(&first_b)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        let order = if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let (number_a, rest_a) = split_number(a);
            let (number_b, rest_b) = split_number(b);
            (a, b) = (rest_a, rest_b);
            number_a
                .len()
                .cmp(&number_b.len())
                .then(number_a.cmp(number_b))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            first_a
                .to_ascii_lowercase()
                .cmp(&first_b.to_ascii_lowercase())
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The leading digits without zeros in front, and what follows.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Counts, History, Quantiles};

    fn destination(name: &str, lost: u64, last_ns: Option<u64>) -> DestinationStats {
        let reply = u64::from(last_ns.is_some());
        let p50_ns = last_ns.unwrap_or(0);
        DestinationStats {
            name: name.into(),
            address: name.parse().unwrap_or([192, 0, 2, 1].into()),
            counts: Counts {
                sent: reply + lost,
                reply,
                lost,
                ..Counts::default()
            },
            last_ns,
            error: None,
            closed: false,
            rtt: Quantiles {
                count: reply,
                p50_ns,
                ..Quantiles::default()
            },
            jitter_ns: last_ns.map(|ns| 100 - ns),
            recent: History::default(),
        }
    }

    fn list() -> Vec<DestinationStats> {
        vec![
            destination("10.0.0.10", 1, Some(30)),
            destination("10.0.0.9", 0, Some(10)),
            destination("gateway", 3, None),
            destination("10.0.0.8", 0, Some(20)),
        ]
    }

    fn shown(sorted: Option<Column>, descending: bool) -> Vec<u32> {
        let mut table = Table {
            sorted,
            descending,
            page: 10,
            ..Table::default()
        };
        table.refresh(&list());
        table.visible().to_vec()
    }

    #[test]
    fn rows_are_sorted_with_unknown_figures_last() {
        for (sorted, descending, order) in [
            (None, false, [0, 1, 2, 3]),
            (None, true, [3, 2, 1, 0]),
            (Some(Column::Name), false, [3, 1, 0, 2]),
            (Some(Column::Name), true, [2, 0, 1, 3]),
            (Some(Column::Address), false, [3, 1, 0, 2]),
            (Some(Column::Sent), true, [2, 0, 1, 3]),
            (Some(Column::Loss), true, [2, 0, 1, 3]),
            (Some(Column::Last), true, [0, 3, 1, 2]),
            (Some(Column::P50), false, [1, 3, 0, 2]),
            (Some(Column::Jitter), true, [1, 3, 0, 2]),
        ] {
            assert_eq!(
                shown(sorted, descending),
                order,
                "{sorted:?}, descending: {descending}"
            );
        }
    }

    #[test]
    fn the_filter_finds_names_and_addresses() {
        let mut table = Table {
            page: 10,
            ..Table::default()
        };
        for (text, found) in [
            ("", 4),
            ("GATE", 1),
            ("192.0.2", 1),
            ("10.0.0.1", 1),
            ("x", 0),
        ] {
            table.edit_filter(|filter| text.clone_into(filter));
            table.refresh(&list());
            assert_eq!(table.len(), found, "{text:?}");
        }
    }

    #[test]
    fn the_page_stays_inside_the_list() {
        let mut table = Table::default();
        table.refresh(&list());
        table.set_page(3);
        for (rows, top) in [(1, 1), (5, 1), (-9, 0), (isize::MAX, 1), (isize::MIN, 0)] {
            table.scroll(rows);
            assert_eq!(table.top(), top, "after {rows}");
        }
        table.scroll(1);
        table.set_page(50);
        assert_eq!(table.top(), 0, "a taller screen shows from the start");
        table.refresh(&[]);
        assert!(table.visible().is_empty());
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        for (a, b, order) in [
            ("host9", "host10", Ordering::Less),
            ("host10", "host10", Ordering::Equal),
            ("10.0.0.2", "10.0.0.10", Ordering::Less),
            ("a", "B", Ordering::Less),
            ("a", "a1", Ordering::Less),
            ("a01b", "a1c", Ordering::Less),
            (
                "99999999999999999999999",
                "100000000000000000000000",
                Ordering::Less,
            ),
        ] {
            assert_eq!(natural(a, b), order, "{a} {b}");
            assert_eq!(natural(b, a), order.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn every_sort_is_reached_and_comes_round() {
        let mut table = Table {
            address_width: 9,
            ..Table::default()
        };
        let mut seen = Vec::new();
        for _ in orders() {
            seen.push(table.sort().0);
            table.step_sort(1);
        }
        assert!(seen.into_iter().eq(orders()));
        assert_eq!(table.sort(), (None, false));
        table.step_sort(-1);
        assert_eq!(table.sort(), (Some(Column::Jitter), true));
    }
}
