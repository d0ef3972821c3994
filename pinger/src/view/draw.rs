//! The live screen as cells: a head of facts, the table, notices, and a line of keys.
//!
//! In: a [`Screen`] and a size. Out: a [`Buffer`], for a terminal, a test or a picture. Only rows
//! on the page are looked at.

mod body;
mod head;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::overlay;
use super::screen::{Mode, Screen};
use super::theme::{Mood, Theme};
use super::{Level, units};

/// From this height on, the head has all its lines.
const TALL: u16 = 18;
/// From this height on, there is a line to spare above the keys.
const AIRY: u16 = 28;
/// Below this width, the facts of the full head do not fit.
const WIDE: u16 = 60;
/// Notices shown at once.
const NOTICES: u16 = 3;

/// A line of cells to write on from left to right; what does not fit is cut.
struct Pen<'a> {
    buffer: &'a mut Buffer,
    x: u16,
    y: u16,
    right: u16,
}

impl<'a> Pen<'a> {
    fn new(buffer: &'a mut Buffer, line: Rect) -> Self {
        Self {
            buffer,
            x: line.left(),
            y: line.top(),
            right: line.right(),
        }
    }

    fn room(&self) -> usize {
        self.right.saturating_sub(self.x).into()
    }

    fn write(&mut self, text: &str, style: Style) {
        if self.room() > 0 {
            self.x = self
                .buffer
                .set_stringn(self.x, self.y, text, self.room(), style)
                .0;
        }
    }

    /// Writes at the right end of the line, if there is room.
    fn write_right(&mut self, text: &str, style: Style) {
        let length = text.chars().count();
        if length <= self.room() {
            self.buffer
                .set_string(self.right - length as u16, self.y, text, style);
            self.right = self.right.saturating_sub(length as u16 + 2);
        }
    }
}

/// Takes lines off the top of an area.
fn take(area: &mut Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    let taken = Rect {
        height: lines,
        ..*area
    };
    area.y += lines;
    area.height -= lines;
    taken
}

/// Takes lines off the bottom of an area.
fn take_bottom(area: &mut Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    area.height -= lines;
    Rect {
        y: area.bottom(),
        height: lines,
        ..*area
    }
}

/// Draws all of the screen.
pub(super) fn draw(screen: &mut Screen, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let full = area.height >= TALL && area.width >= WIDE;
    let mut inner = Rect {
        x: area.x + 1,
        width: area.width.saturating_sub(2),
        ..area
    };
    if area.width < 4 || area.height == 0 {
        return;
    }
    head::title(screen, take(&mut inner, 1), buffer, theme);
    if full {
        take(&mut inner, 1);
        head::facts(screen, take(&mut inner, head::FACT_LINES), buffer, theme);
        rule(take(&mut inner, 1), buffer, theme);
    } else {
        head::compact(screen, take(&mut inner, 1), buffer, theme);
    }
    let footer = take_bottom(&mut inner, 1);
    if area.height >= AIRY {
        take_bottom(&mut inner, 1);
    }
    let lines = notice_lines(screen, full, inner.height);
    let notices = take_bottom(&mut inner, lines);
    body::table(screen, inner, buffer, theme);
    draw_notices(screen, notices, buffer, theme);
    draw_footer(screen, footer, buffer, theme);
    if screen.mode == Mode::Help {
        overlay::draw(area, buffer, theme);
    }
}

fn rule(line: Rect, buffer: &mut Buffer, theme: Theme) {
    let y = line.y;
    for x in line.left()..line.right() {
        if line.height > 0 {
            buffer[(x, y)].set_symbol("─").set_style(theme.quiet());
        }
    }
}

/// How many lines the notices get, of those left: the table keeps its heading and some rows.
fn notice_lines(screen: &Screen, full: bool, left: u16) -> u16 {
    let most = if full { NOTICES } else { 1 };
    let wanted = u16::try_from(screen.notices().len()).unwrap_or(NOTICES);
    wanted.min(most).min(left.saturating_sub(4))
}

fn draw_notices(screen: &Screen, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let newest = screen.notices().iter().rev().take(area.height.into());
    for (notice, y) in newest.zip((area.top()..area.bottom()).rev()) {
        let mut pen = Pen::new(
            buffer,
            Rect {
                y,
                height: 1,
                ..area
            },
        );
        pen.write(&units::clock(notice.at), theme.quiet());
        pen.write("  ", theme.plain());
        let mood = match notice.level {
            Level::Info => Mood::Plain,
            Level::Warning => Mood::Warn,
            Level::Error => Mood::Alarm,
        };
        pen.write(notice.level.prefix(), theme.mood(mood));
        pen.write(&notice.text, theme.plain());
    }
}

fn draw_footer(screen: &Screen, line: Rect, buffer: &mut Buffer, theme: Theme) {
    if line.height == 0 {
        return;
    }
    let mut pen = Pen::new(buffer, line);
    let mut keys: &[(&str, &str)] = &[
        ("q", "quit"),
        ("s", "sort"),
        ("r", "reverse"),
        ("/", "filter"),
        ("p", "pause"),
        ("?", "help"),
    ];
    pen.write_right(&body::position(screen), theme.quiet());
    if screen.mode == Mode::Filter {
        pen.write("filter ", theme.accent());
        pen.write(screen.table.filter(), theme.strong());
        pen.write(" ", theme.badge());
        pen.write("   ", theme.plain());
        keys = &[("Enter", "keep"), ("Esc", "clear")];
    }
    for (key, meaning) in keys {
        if key.chars().count() + meaning.len() + 1 > pen.room() {
            break;
        }
        pen.write(key, theme.accent());
        pen.write(" ", theme.plain());
        pen.write(meaning, theme.quiet());
        pen.write("   ", theme.plain());
    }
}

#[cfg(test)]
mod tests;
