//! The live view: a table that fills the terminal and moves.
//!
//! It ties together the screen's state, its drawing and the terminal. A frame never takes more
//! than a tenth of the time, however many destinations there are: the period stretches instead.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};

use super::screen::{Notice, Screen};
use super::summary;
use super::terminal::Guard;
use super::theme::Theme;
use super::{Action, Level, RunHeader, SnapshotDetail, Summary, View};
use crate::stats::Snapshot;

/// Between two updates, as long as frames are cheap.
const PERIOD: Duration = Duration::from_millis(250);
/// The longest time between two updates.
const PERIOD_MAX: Duration = Duration::from_secs(2);
/// Frames may take one part in this many of the time.
const FRAME_SHARE: u32 = 10;
/// The longest wait for keys in one go: signals do not end it.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How long frames took: filtering, sorting, drawing and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameTimes {
    /// Frames drawn.
    pub count: u32,
    /// Time for all of them.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    last: Duration,
}

impl FrameTimes {
    fn add(&mut self, frame: Duration) {
        self.count += 1;
        self.total += frame;
        self.max = self.max.max(frame);
        self.last = frame;
    }

    /// Time between updates that keeps frames within their share.
    fn period(&self) -> Duration {
        (self.last * FRAME_SHARE).clamp(PERIOD, PERIOD_MAX)
    }
}

/// A table of all destinations on the terminal's alternate screen, with keys.
///
/// Needs standard output to be a terminal. Keys come from standard input, or from the controlling
/// terminal if that is something else; without either, the table is shown all the same.
pub struct Live {
    theme: Theme,
    screen: Option<Screen>,
    guard: Option<Guard>,
    keys: bool,
    frames: FrameTimes,
}

impl Live {
    /// A view that takes the terminal when it is started.
    #[expect(clippy::new_without_default, reason = "it reads the environment")]
    pub fn new() -> Self {
        Self {
            theme: Theme::from_environment(),
            screen: None,
            guard: None,
            keys: true,
            frames: FrameTimes::default(),
        }
    }

    /// How long frames took so far.
    pub fn frame_times(&self) -> FrameTimes {
        self.frames
    }

    fn redraw(&mut self, since: Instant) -> io::Result<()> {
        if let (Some(screen), Some(guard)) = (&mut self.screen, &mut self.guard) {
            guard.draw(screen, self.theme)?;
            self.frames.add(since.elapsed());
        }
        Ok(())
    }

    /// Waits for a key and does what all keys at hand say, so that a held key does not lag.
    fn read_keys(&mut self, timeout: Duration) -> io::Result<(bool, Action)> {
        let mut action = Action::None;
        let mut changed = false;
        let mut wait = timeout.min(WAIT_MAX);
        while event::poll(wait)? {
            wait = Duration::ZERO;
            match (event::read()?, &mut self.screen) {
                (Event::Key(key), Some(screen)) => {
                    changed = true;
                    if screen.key(key) == Action::Quit {
                        action = Action::Quit;
                        // Each Ctrl-C is told by itself; what follows it waits for the next call.
                        break;
                    }
                }
                (Event::Resize(..), _) => changed = true,
                _ => {}
            }
        }
        Ok((changed, action))
    }

    /// Repeats on the terminal what was said while the table covered it.
    fn uncover(&mut self) {
        if self.guard.take().is_some()
            && let Some(screen) = &mut self.screen
        {
            let (notices, dropped) = screen.take_notices();
            let _ = print_notices(&mut io::stderr(), &notices, dropped);
        }
    }
}

fn print_notices(out: &mut impl Write, notices: &[Notice], dropped: u64) -> io::Result<()> {
    if dropped > 0 {
        writeln!(out, "pinger: {dropped} older notices are not repeated here")?;
    }
    for notice in notices {
        let at = super::units::clock(notice.at);
        writeln!(out, "pinger: {at} {}{}", notice.level.prefix(), notice.text)?;
    }
    Ok(())
}

impl View for Live {
    fn start(&mut self, header: &RunHeader) -> io::Result<()> {
        self.guard = Some(Guard::take()?);
        self.screen = Some(Screen::new(header.clone()));
        self.redraw(Instant::now())
    }

    fn notice(&mut self, level: Level, text: &str) {
        match (&mut self.screen, &self.guard) {
            (Some(screen), Some(_)) => screen.notice(level, text),
            _ => super::print_notice(&mut io::stderr(), level, text),
        }
    }

    fn update(&mut self, snapshot: Arc<Snapshot>) -> io::Result<()> {
        let since = Instant::now();
        if let Some(screen) = &mut self.screen {
            screen.update(snapshot);
        }
        self.redraw(since)
    }

    fn poll(&mut self, timeout: Duration) -> io::Result<Action> {
        if !self.keys || self.guard.is_none() {
            thread::park_timeout(timeout.min(WAIT_MAX));
            return Ok(Action::None);
        }
        match self.read_keys(timeout) {
            Ok((changed, action)) => {
                if changed {
                    self.redraw(Instant::now())?;
                }
                Ok(action)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Action::None),
            Err(error) => {
                self.keys = false;
                self.notice(Level::Warning, &format!("keys cannot be read: {error}"));
                Ok(Action::None)
            }
        }
    }

    fn leave(&mut self) {
        self.uncover();
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.uncover();
        match &self.screen {
            Some(screen) => summary::write(&mut io::stdout().lock(), &screen.header, summary),
            None => Ok(()),
        }
    }

    fn wants(&self) -> SnapshotDetail {
        SnapshotDetail::Destinations
    }

    fn period(&self) -> Duration {
        self.frames.period()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.uncover();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_frames_stretch_the_period() {
        for (frame_ms, period_ms) in [(1, 250), (25, 250), (60, 600), (900, 2000)] {
            let mut frames = FrameTimes::default();
            frames.add(Duration::from_millis(frame_ms));
            assert_eq!(
                frames.period(),
                Duration::from_millis(period_ms),
                "{frame_ms} ms"
            );
        }
    }

    #[test]
    fn notices_are_repeated_with_time_and_level() {
        let notices = [Notice {
            at: Duration::from_secs(61),
            level: Level::Warning,
            text: "10.0.0.1 has no route".to_owned(),
        }];
        let mut out = Vec::new();
        print_notices(&mut out, &notices, 2).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "pinger: 2 older notices are not repeated here\n\
             pinger: 00:01:01 warning: 10.0.0.1 has no route\n"
        );
    }
}
