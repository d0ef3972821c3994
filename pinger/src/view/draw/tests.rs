//! The screen as texts that are kept in files, and what must hold at every size.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::stats::{LastError, Snapshot};
use crate::view::testing::{check_text, header, snapshots};

const COLOUR: Theme = Theme { colour: true };

fn screen(destinations: usize, intervals: usize) -> Screen {
    let mut screen = Screen::new(header(destinations));
    screen.update(Arc::new(snapshots(destinations, 1, intervals)));
    screen
}

fn keys(screen: &mut Screen, keys: &str) {
    for key in keys.chars() {
        screen.key(
            if key == '\n' {
                KeyCode::Enter
            } else {
                KeyCode::Char(key)
            }
            .into(),
        );
    }
}

/// Draws through a terminal, as the live view does, and returns the cells.
fn drawn(screen: &mut Screen, width: u16, height: u16, theme: Theme) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(screen, frame.area(), frame.buffer_mut(), theme))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let lines = buffer.content().chunks(width).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

#[test]
fn the_screen_looks_as_agreed_at_every_size() {
    for (width, height) in [(160, 40), (120, 32), (80, 24), (60, 20), (40, 10)] {
        let mut screen = screen(2000, 40);
        screen.notice(Level::Warning, "edge-99.example does not resolve: skipped");
        let buffer = drawn(&mut screen, width, height, COLOUR);
        check_text(&format!("screen-{width}x{height}"), &text(&buffer));
    }
}

#[test]
fn filter_help_and_states_look_as_agreed() {
    for (name, pressed) in [("filter", "/edge-1"), ("help", "?"), ("worst", "ssssp")] {
        let mut screen = screen(2000, 40);
        keys(&mut screen, pressed);
        check_text(
            &format!("screen-{name}"),
            &text(&drawn(&mut screen, 100, 28, COLOUR)),
        );
    }
}

#[test]
fn no_size_panics_or_hides_the_loss() {
    let mut screen = screen(300, 40);
    screen.notice(
        Level::Error,
        "a rather long notice that cannot fit on a narrow screen at all",
    );
    for mode in [Mode::Table, Mode::Filter, Mode::Help] {
        screen.mode = mode;
        for width in (0..130).step_by(3) {
            for height in (0..45).step_by(2) {
                let area = Rect::new(0, 0, width, height);
                let mut buffer = Buffer::empty(area);
                draw(&mut screen, area, &mut buffer, COLOUR);
                if mode == Mode::Table && width >= 24 && height >= 4 {
                    assert!(text(&buffer).contains("loss"), "{width}x{height}");
                }
            }
        }
    }
}

#[test]
fn an_empty_run_says_so() {
    let mut screen = Screen::new(header(0));
    screen.update(Arc::default());
    assert!(text(&drawn(&mut screen, 80, 24, COLOUR)).contains("no destinations yet"));
}

#[test]
fn loss_is_coloured_marked_and_bold() {
    let mut screen = screen(12, 40);
    let buffer = drawn(&mut screen, 120, 32, COLOUR);
    let lost: Vec<_> = buffer
        .content()
        .iter()
        .filter(|cell| cell.symbol() == "×")
        .collect();
    assert!(!lost.is_empty());
    for cell in lost {
        assert_eq!(cell.fg, Color::Red);
        assert!(cell.modifier.contains(Modifier::BOLD));
    }
}

#[test]
fn without_colour_there_is_none() {
    let mut screen = screen(300, 40);
    keys(&mut screen, "p");
    let buffer = drawn(&mut screen, 120, 32, Theme { colour: false });
    assert!(
        buffer
            .content()
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
}

#[test]
fn own_drops_are_shown_apart_from_the_networks_loss() {
    let snapshot = Snapshot {
        ring_dropped: 7,
        ..snapshots(30, 1, 3)
    };
    let mut screen = Screen::new(header(30));
    screen.update(Arc::new(snapshot));
    let full = text(&drawn(&mut screen, 120, 32, COLOUR));
    let line = full.lines().find(|line| line.contains("prober")).unwrap();
    assert!(line.contains("ring full      7"), "{line}");
    assert!(text(&drawn(&mut screen, 60, 12, COLOUR)).contains("own drops 7"));
}

#[test]
fn an_error_stands_where_the_round_trips_would() {
    let mut snapshot = snapshots(3, 1, 5);
    let address = "192.0.2.1".parse().unwrap();
    let errors = [
        LastError {
            responder: address,
            icmp_type: 3,
            icmp_code: 3,
        },
        LastError {
            responder: "198.51.100.7".parse().unwrap(),
            icmp_type: 11,
            icmp_code: 0,
        },
    ];
    for (destination, error) in snapshot.destinations.iter_mut().zip(errors) {
        destination.address = address;
        destination.error = Some(error);
    }
    let mut screen = Screen::new(header(3));
    screen.update(Arc::new(snapshot));
    let text = text(&drawn(&mut screen, 120, 32, COLOUR));
    for part in [
        " port unreachable ",
        " time to live exceeded, says 198.51.100.7 ",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_closed_port_says_so_however_long_its_name() {
    let mut snapshot = snapshots(3, 1, 5);
    snapshot.destinations[0].name = "192.0.2.1 udp/9".into();
    snapshot.destinations[1].name = "a.very.long.name.of.a.host.in.example.org tcp/443".into();
    for closed in &mut snapshot.destinations[..2] {
        closed.closed = true;
    }
    let mut screen = Screen::new(header(3));
    screen.update(Arc::new(snapshot));
    let text = text(&drawn(&mut screen, 120, 32, COLOUR));
    for part in ["192.0.2.1 udp/9 closed ", "/443 closed "] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn columns_do_not_move_from_one_update_to_the_next() {
    let mut screen = Screen::new(header(50));
    let mut headings = Vec::new();
    for intervals in [5, 50, 500] {
        screen.update(Arc::new(snapshots(50, 1, intervals)));
        let text = text(&drawn(&mut screen, 120, 32, COLOUR));
        headings.push(
            text.lines()
                .find(|line| line.contains("p50 µs"))
                .unwrap()
                .to_owned(),
        );
    }
    headings.dedup();
    assert_eq!(headings.len(), 1, "{headings:#?}");
}
