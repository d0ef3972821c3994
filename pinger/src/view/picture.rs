//! The live screen as a picture: cells to SVG, for documents.
//!
//! Text keeps its columns whatever font the reader has, because every run of characters carries
//! its length; bars and lines are drawn as shapes, because fonts disagree about them.

use std::fmt::Write as _;
use std::sync::Arc;

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::screen::Screen;
use super::theme::Theme;
use super::{RunHeader, draw};
use crate::stats::Snapshot;

/// Columns and rows of a picture.
const SIZE: (u16, u16) = (120, 32);

const FONT_SIZE: f64 = 14.0;
/// What common monospace fonts advance per character, at this font size.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 19.0;
/// From the top of a cell to the line that letters stand on.
const BASELINE: f64 = 14.0;
const MARGIN: f64 = 14.0;
const TITLE_BAR: f64 = 36.0;

const BACKGROUND: &str = "#0f1419";
const BAR: &str = "#1a212b";
const FRAME: &str = "#2b3542";
const TEXT: &str = "#d3dae3";
const DIM: &str = "#76828f";

/// The live screen of a run's last state, as an SVG document.
pub fn of_run(header: &RunHeader, snapshot: Arc<Snapshot>) -> String {
    let mut screen = Screen::new(header.clone());
    screen.update(snapshot);
    let area = Rect::new(0, 0, SIZE.0, SIZE.1);
    let mut buffer = Buffer::empty(area);
    draw::draw(&mut screen, area, &mut buffer, Theme { colour: true });
    svg(&buffer, "pinger")
}

/// A terminal window that shows these cells, as an SVG document.
pub(super) fn svg(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let width = f64::from(area.width) * CELL_WIDTH + 2.0 * MARGIN;
    let height = f64::from(area.height) * CELL_HEIGHT + TITLE_BAR + 2.0 * MARGIN;
    let mut out = String::new();
    open(&mut out, width, height, title);
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let end = run_end(buffer, x, y);
            draw_run(&mut out, buffer, x, end, y);
            x = end;
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Writes to a String, which cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {
        let _ = write!($out, $($text)*);
    };
}

fn open(out: &mut String, width: f64, height: f64, title: &str) {
    put!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n",
        escaped(title)
    );
    let (w, h) = (width - 1.0, height - 1.0);
    put!(
        out,
        "<rect x=\"0.5\" y=\"0.5\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"10\" \
         fill=\"{BACKGROUND}\" stroke=\"{FRAME}\"/>\n\
         <path d=\"M1 {TITLE_BAR}V11a10 10 0 0 1 10-10H{:.1}a10 10 0 0 1 10 10V{TITLE_BAR}z\" \
         fill=\"{BAR}\"/>\n",
        width - 11.0
    );
    for (index, colour) in ["#ff5f57", "#febc2e", "#28c840"].into_iter().enumerate() {
        let (x, y) = (20 + 20 * index, TITLE_BAR / 2.0);
        put!(
            out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"6\" fill=\"{colour}\"/>\n"
        );
    }
    put!(
        out,
        "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',\
         'Liberation Mono',monospace\" font-size=\"{FONT_SIZE}\" fill=\"{TEXT}\" \
         xml:space=\"preserve\">\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{DIM}\">{}</text>\n",
        width / 2.0,
        TITLE_BAR / 2.0 + 5.0,
        escaped(title)
    );
}

/// What a cell is drawn as.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Blank,
    /// A bar of so many eighths of the height.
    Bar(u8),
    /// Part of a horizontal line.
    Line,
    Letter,
}

fn shape(cell: &Cell) -> Shape {
    match cell.symbol().chars().next() {
        None | Some(' ') if !cell.modifier.contains(Modifier::REVERSED) => Shape::Blank,
        Some('─') => Shape::Line,
        Some(bar @ '▁'..='█') => Shape::Bar((bar as u32 - '▁' as u32 + 1) as u8),
        _ => Shape::Letter,
    }
}

/// Where the run of cells that look alike and start at `x` ends. Single spaces between words
/// belong to their run.
fn run_end(buffer: &Buffer, x: u16, y: u16) -> u16 {
    let first = &buffer[(x, y)];
    let kind = shape(first);
    let mut end = x + 1;
    while end < buffer.area.width {
        let alike = |x| {
            let cell = &buffer[(x, y)];
            cell.fg == first.fg && cell.modifier == first.modifier && shape(cell) == kind
        };
        let is_space = |x| shape(&buffer[(x, y)]) == Shape::Blank;
        let next = end + 1;
        let spans = kind == Shape::Letter && next < buffer.area.width;
        if alike(end) {
            end = next;
        } else if spans && is_space(end) && alike(next) {
            end = next + 1;
        } else {
            break;
        }
    }
    end
}

fn draw_run(out: &mut String, buffer: &Buffer, start: u16, end: u16, y: u16) {
    let cell = &buffer[(start, y)];
    let left = MARGIN + f64::from(start) * CELL_WIDTH;
    let top = TITLE_BAR + MARGIN + f64::from(y) * CELL_HEIGHT;
    let width = f64::from(end - start) * CELL_WIDTH;
    let colour = colour(cell);
    match shape(cell) {
        Shape::Blank => {}
        Shape::Line => {
            let middle = top + CELL_HEIGHT / 2.0;
            put!(
                out,
                "<path d=\"M{left:.1} {middle:.1}h{width:.1}\" stroke=\"{FRAME}\"/>\n"
            );
        }
        Shape::Bar(eighths) => {
            let height = (CELL_HEIGHT - 4.0) * f64::from(eighths) / 8.0;
            let bottom = top + CELL_HEIGHT - 2.0;
            put!(out, "<path d=\"");
            for index in 0..end - start {
                let x = left + f64::from(index) * CELL_WIDTH;
                let bar = CELL_WIDTH - 1.4;
                put!(
                    out,
                    "M{x:.1} {bottom:.1}v-{height:.1}h{bar:.1}v{height:.1}z"
                );
            }
            put!(out, "\" fill=\"{colour}\"/>\n");
        }
        Shape::Letter => draw_text(out, buffer, (start, end, y), (left, top, width), colour),
    }
}

fn draw_text(
    out: &mut String,
    buffer: &Buffer,
    (start, end, y): (u16, u16, u16),
    (left, top, width): (f64, f64, f64),
    colour: &str,
) {
    let cell = &buffer[(start, y)];
    let text: String = (start..end).map(|x| buffer[(x, y)].symbol()).collect();
    let mut fill = colour;
    if cell.modifier.contains(Modifier::REVERSED) {
        put!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" \
             rx=\"3\" fill=\"{colour}\"/>\n"
        );
        fill = BACKGROUND;
    }
    let weight = if cell.modifier.contains(Modifier::BOLD) {
        " font-weight=\"600\""
    } else {
        ""
    };
    put!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{weight}>{}</text>\n",
        top + BASELINE,
        escaped(&text)
    );
}

fn colour(cell: &Cell) -> &'static str {
    match cell.fg {
        Color::Cyan => "#5ccfe6",
        Color::Yellow => "#ffcc66",
        Color::Red => "#ff6b66",
        _ if cell.modifier.contains(Modifier::DIM) => DIM,
        _ => TEXT,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::super::testing::{header, snapshots};
    use super::*;

    /// Checks that tags are balanced and texts escaped; returns the text between the tags.
    fn read(svg: &str) -> String {
        let mut open = Vec::new();
        let mut text = String::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            text.push_str(&rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}> closes what is open");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
        for entity in text.split('&').skip(1) {
            assert!(
                ["amp;", "lt;", "gt;"]
                    .iter()
                    .any(|known| entity.starts_with(known))
            );
        }
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
    }

    #[test]
    fn a_run_becomes_a_sound_document_with_its_text() {
        let text = read(&of_run(&header(2000), Arc::new(snapshots(2000, 1, 40))));
        for expected in [
            "2,000 destinations every 100 ms",
            "edge-0.example",
            "native XDP",
            "×",
        ] {
            assert!(text.contains(expected), "{expected} is missing");
        }
        assert!(!text.contains(['▁', '█', '─']), "bars and lines are shapes");
    }

    #[test]
    fn marks_of_the_format_are_escaped() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "<a & b> ▃─", Style::new());
        let svg = svg(&buffer, "x < y");
        assert!(read(&svg).contains("<a"));
        assert!(svg.contains("x &lt; y"));
    }
}
