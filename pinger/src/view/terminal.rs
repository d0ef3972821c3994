//! The terminal in raw mode and on its alternate screen, and back again whatever happens.
//!
//! The one file that changes the terminal's state. It is restored when the guard is dropped, and
//! before a panic of any thread prints its message.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};

use super::draw;
use super::screen::Screen;
use super::theme::Theme;

/// Whether the terminal is in our hands.
static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Whether standard output is a terminal that can place its cursor.
pub(super) fn can_draw() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Collects a frame, so that it reaches the terminal in one write; what is left of a frame that
/// failed is dropped, not written over whatever stands there by then.
#[derive(Default)]
struct FrameWriter {
    bytes: Vec<u8>,
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.bytes).and_then(|()| out.flush());
        self.bytes.clear();
        written
    }
}

/// The terminal while it is in our hands.
pub(super) struct Guard {
    terminal: Terminal<CrosstermBackend<FrameWriter>>,
}

impl Guard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is no terminal, or does not do what is asked.
    pub(super) fn take() -> io::Result<Self> {
        if !can_draw() {
            return Err(io::Error::other(
                "the live table needs a terminal as standard output: try --format plain",
            ));
        }
        HOOK.call_once(|| {
            let print = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                print(info);
            }));
        });
        TAKEN.store(true, Ordering::SeqCst);
        Self::enter().inspect_err(|_| restore())
    }

    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        let mut out = FrameWriter::default();
        execute!(out, EnterAlternateScreen, Hide, DisableLineWrap)?;
        let mut terminal = Terminal::new(CrosstermBackend::new(out))?;
        terminal.clear()?;
        Ok(Self { terminal })
    }

    /// Draws a frame, at the terminal's present size.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub(super) fn draw(&mut self, screen: &mut Screen, theme: Theme) -> io::Result<()> {
        // After a panic elsewhere the terminal is the user's again: nothing may cover the message.
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal
            .draw(|frame| draw::draw(screen, frame.area(), frame.buffer_mut(), theme))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once. What fails is not told: there is nowhere to tell it.
pub(super) fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = execute!(
            out,
            EndSynchronizedUpdate,
            EnableLineWrap,
            LeaveAlternateScreen,
            Show
        );
        let _ = disable_raw_mode();
    }
}
