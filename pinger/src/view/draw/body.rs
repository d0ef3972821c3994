//! The table of the live screen: one row a destination.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::head::loss_mood;
use crate::stats::DestinationStats;
use crate::view::columns::{self, Column, Placed};
use crate::view::icmp;
use crate::view::screen::Screen;
use crate::view::spark;
use crate::view::table::CLOSED;
use crate::view::theme::{Mood, Theme};
use crate::view::units::{self, Scale};

/// Draws the heading and the rows of the page.
pub(super) fn table(screen: &mut Screen, mut area: Rect, buffer: &mut Buffer, theme: Theme) {
    let heading = super::take(&mut area, 1);
    screen.table.set_page(area.height.into());
    if heading.height == 0 {
        return;
    }
    let table = &screen.table;
    let placed = columns::place(
        area.width,
        table.name_width(),
        table.address_width(),
        table.sort().0,
    );
    for column in &placed {
        draw_heading(screen, column, heading, buffer, theme);
    }
    for (index, y) in table.visible().iter().zip(area.top()..area.bottom()) {
        let destination = &screen.snapshot.destinations[*index as usize];
        let corner = (area.x, y);
        let text = error(destination);
        for column in &placed {
            if !column.column.is_rtt() || text.is_none() {
                draw_cell(destination, screen.scale, column, corner, buffer, theme);
            }
        }
        if let Some(text) = text {
            draw_error(&text, &placed, corner, buffer, theme);
        }
    }
    if table.len() == 0 && area.height > 0 {
        let text = if table.filter().is_empty() {
            "no destinations yet".to_owned()
        } else {
            format!(
                "no destination contains “{}”: Esc shows all",
                table.filter()
            )
        };
        buffer.set_stringn(area.x, area.y, text, area.width.into(), theme.quiet());
    }
}

/// What the page shows of the list, for the footer.
pub(super) fn position(screen: &Screen) -> String {
    let table = &screen.table;
    let (sorted, descending) = table.sort();
    let arrow = if descending { '▼' } else { '▲' };
    let rows = table.visible().len();
    let first = if rows == 0 { 0 } else { table.top() + 1 };
    let range = format!(
        "{}–{} of {}",
        units::grouped(first as u64),
        units::grouped((table.top() + rows) as u64),
        units::grouped(table.len() as u64)
    );
    let filter = match table.filter() {
        "" => String::new(),
        text => format!("with “{}”  ", columns::shorten(text, 16)),
    };
    let order = sorted.map_or("list order", Column::heading);
    format!("{filter}{order} {arrow}  {range}")
}

fn draw_heading(screen: &Screen, placed: &Placed, line: Rect, buffer: &mut Buffer, theme: Theme) {
    let column = placed.column;
    let unit = match column {
        Column::Loss => " %".to_owned(),
        _ if column.is_rtt() => format!(" {}", screen.scale.unit()),
        _ => String::new(),
    };
    let mut text = format!("{}{unit}", column.heading());
    let (sorted, descending) = screen.table.sort();
    let sorts = sorted == Some(column);
    if sorts {
        text.push(if descending { '▼' } else { '▲' });
    }
    let style = if sorts {
        theme.accent()
    } else {
        theme.strong()
    };
    let width = usize::from(placed.width);
    let text = if column.is_left() {
        format!("{text:<width$}")
    } else {
        format!("{text:>width$}")
    };
    buffer.set_stringn(line.x + placed.x, line.y, text, width, style);
}

fn draw_cell(
    destination: &DestinationStats,
    scale: Scale,
    placed: &Placed,
    (left, y): (u16, u16),
    buffer: &mut Buffer,
    theme: Theme,
) {
    let width = usize::from(placed.width);
    let x = left + placed.x;
    if placed.column == Column::Recent {
        draw_recent(destination, (x, y), width, buffer, theme);
        return;
    }
    let (text, mood) = cell(destination, scale, placed.column, width);
    let style = theme.mood(mood);
    if placed.column.is_left() {
        buffer.set_stringn(x, y, columns::shorten(&text, width), width, style);
    } else {
        buffer.set_stringn(x, y, format!("{text:>width$}"), width, style);
    }
}

/// What the latest probe got instead of a reply: an ICMP error, and from whom.
fn error(destination: &DestinationStats) -> Option<String> {
    let error = destination.error?;
    let text = icmp::error_text(destination.address, error.icmp_type, error.icmp_code);
    Some(
        if error.responder == destination.address || error.responder.is_unspecified() {
            text
        } else {
            format!("{text}, says {}", error.responder)
        },
    )
}

/// An error takes the place of the round trips, which there are none of now.
fn draw_error(
    text: &str,
    placed: &[Placed],
    (left, y): (u16, u16),
    buffer: &mut Buffer,
    theme: Theme,
) {
    let mut columns = placed.iter().filter(|placed| placed.column.is_rtt());
    let Some(first) = columns.next() else { return };
    let last = columns.next_back().unwrap_or(first);
    let width = usize::from(last.x + last.width - first.x);
    let text = columns::shorten(text, width);
    let text = format!("{text:>width$}");
    buffer.set_stringn(left + first.x, y, text, width, theme.mood(Mood::Alarm));
}

/// The bars end at the right, so that the newest result is always in the same place.
fn draw_recent(
    destination: &DestinationStats,
    (x, y): (u16, u16),
    width: usize,
    buffer: &mut Buffer,
    theme: Theme,
) {
    let recent: Vec<_> = destination.recent.iter().collect();
    let count = recent.len().min(width);
    let first = x + (width - count) as u16;
    for (x, symbol) in (first..).zip(spark::bars(&recent, width)) {
        let style = if symbol == spark::LOST {
            theme.mood(Mood::Alarm)
        } else {
            theme.bar()
        };
        buffer[(x, y)].set_char(symbol).set_style(style);
    }
}

fn cell(
    destination: &DestinationStats,
    scale: Scale,
    column: Column,
    width: usize,
) -> (String, Mood) {
    match column {
        Column::Name if destination.closed => {
            let name = columns::shorten(&destination.name, width.saturating_sub(CLOSED.len()));
            (format!("{name}{CLOSED}"), Mood::Warn)
        }
        Column::Name => (destination.name.to_string(), Mood::Plain),
        Column::Address => (address(destination), Mood::Quiet),
        Column::Sent => (units::count_in(destination.counts.sent, width), Mood::Plain),
        Column::Loss => {
            let loss = destination.counts.loss_percent();
            (units::percent(loss), loss_mood(loss))
        }
        _ => match column.rtt_ns(destination) {
            Some(ns) => (scale.format(ns), Mood::Plain),
            None => ("–".to_owned(), Mood::Quiet),
        },
    }
}

/// The address, unless the name says it already.
fn address(destination: &DestinationStats) -> String {
    if destination.is_named_by_address() {
        String::new()
    } else {
        destination.address.to_string()
    }
}
