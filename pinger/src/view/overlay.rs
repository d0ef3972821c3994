//! The help that lies over the live screen: keys, and what the words mean.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::theme::Theme;

const KEYS: [(&str, &str); 8] = [
    ("↑ ↓  j k", "scroll one row"),
    ("PgUp PgDn  space", "scroll one page"),
    ("Home End  g G", "first or last row"),
    ("s  < >  ← →", "choose the column to sort by"),
    ("r", "reverse the order"),
    ("/  Esc", "show only rows with a text; show all again"),
    ("p", "pause the display; probing goes on"),
    ("q  Ctrl-C", "stop; Ctrl-C again: at once"),
];

const WORDS: [(&str, &str); 10] = [
    ("loss", "no answer in time, or an ICMP error"),
    ("late", "answered, but after the timeout"),
    ("mismatch", "the payload came back changed"),
    ("forged", "looked like an answer, but was not to our probe"),
    ("jitter", "how RTTs differ from reply to reply (RFC 3550)"),
    ("lag", "how late we sent a probe; never part of an RTT"),
    ("unsent", "the interface refused the probe"),
    ("skipped", "we were a whole interval late, so never sent"),
    ("ring full", "answers counted, but their details dropped"),
    ("rows lost", "results that did not reach the store"),
];

/// Width of the box with its frame: the longest line and its margins.
const WIDTH: u16 = 72;
const LABEL: u16 = 18;

/// Draws the help in the middle of `area`, as much of it as fits.
pub(super) fn draw(area: Rect, buffer: &mut Buffer, theme: Theme) {
    let lines = KEYS.len() + WORDS.len() + 1;
    let height = (lines as u16 + 4).min(area.height);
    let width = WIDTH.min(area.width);
    let frame = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    for y in frame.top()..frame.bottom() {
        for x in frame.left()..frame.right() {
            buffer[(x, y)].reset();
        }
    }
    if width < 4 || height < 3 {
        return;
    }
    border(frame, buffer, theme);
    buffer.set_stringn(
        frame.x + 2,
        frame.y,
        " help ",
        width as usize - 4,
        theme.accent(),
    );
    let close = " any key closes this ";
    if width as usize > close.len() + 4 {
        let x = frame.right() - close.len() as u16 - 2;
        buffer.set_string(x, frame.bottom() - 1, close, theme.quiet());
    }
    let gap = ("", "");
    let text = KEYS.iter().chain([&gap]).chain(&WORDS);
    // A low screen has no room for the margins above and below.
    let margin = if height == lines as u16 + 4 { 2 } else { 1 };
    for ((label, meaning), y) in text.zip(frame.y + margin..frame.bottom() - 1) {
        let room = width.saturating_sub(4) as usize;
        let x = frame.x + 2;
        buffer.set_stringn(x, y, label, room, theme.accent());
        let room = room.saturating_sub(LABEL as usize);
        if room > 0 {
            buffer.set_stringn(x + LABEL, y, meaning, room, theme.plain());
        }
    }
}

fn border(frame: Rect, buffer: &mut Buffer, theme: Theme) {
    let (left, right) = (frame.left(), frame.right() - 1);
    let (top, bottom) = (frame.top(), frame.bottom() - 1);
    let mut put = |x, y, symbol: &str| {
        buffer[(x, y)].set_symbol(symbol).set_style(theme.quiet());
    };
    for x in left + 1..right {
        put(x, top, "─");
        put(x, bottom, "─");
    }
    for y in top + 1..bottom {
        put(left, y, "│");
        put(right, y, "│");
    }
    for (x, y, symbol) in [
        (left, top, "╭"),
        (right, top, "╮"),
        (left, bottom, "╰"),
        (right, bottom, "╯"),
    ] {
        put(x, y, symbol);
    }
}
