//! The state behind the live screen: what it shows, and what each key changes.
//!
//! In: snapshots, notices and keys. Out: the state that `draw` turns into cells, and the user's
//! wish to stop. Does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rate::Rate;
use super::table::Table;
use super::units::Scale;
use super::{Action, Level, RunHeader};
use crate::stats::Snapshot;

/// Notices kept for the end of the run; older ones are counted only.
const NOTICES_MAX: usize = 200;

/// The longest filter: no name is longer.
const FILTER_MAX: usize = 255;

/// Something that happened beside the measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// Since the start.
    pub(super) at: Duration,
    pub(super) level: Level,
    pub(super) text: String,
}

/// What keys mean at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// Typing a filter.
    Filter,
    /// Reading the help.
    Help,
}

/// Everything the live screen shows.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) header: RunHeader,
    /// What is shown: the newest state, or the one at which the display was paused.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) rate_pps: f64,
    pub(super) scale: Scale,
    pub(super) table: Table,
    pub(super) mode: Mode,
    pub(super) paused: bool,
    /// The user asked to stop; the run ends in its own time.
    pub(super) stopping: bool,
    latest: Arc<Snapshot>,
    rate: Rate,
    notices: VecDeque<Notice>,
    notices_dropped: u64,
}

impl Screen {
    pub(super) fn new(header: RunHeader) -> Self {
        let empty = Arc::<Snapshot>::default();
        Self {
            header,
            snapshot: Arc::clone(&empty),
            rate_pps: 0.0,
            scale: Scale::default(),
            table: Table::default(),
            mode: Mode::Table,
            paused: false,
            stopping: false,
            latest: empty,
            rate: Rate::default(),
            notices: VecDeque::new(),
            notices_dropped: 0,
        }
    }

    /// Takes a new state; shown at once unless the display is paused.
    pub(super) fn update(&mut self, snapshot: Arc<Snapshot>) {
        self.rate_pps = self.rate.update(snapshot.elapsed, snapshot.totals.sent);
        self.latest = snapshot;
        if !self.paused {
            self.show_latest();
        }
    }

    /// Takes a notice; the same one again in a row is kept once, with its last time.
    pub(super) fn notice(&mut self, level: Level, text: &str) {
        let at = self.latest.elapsed;
        if let Some(last) = self.notices.back_mut()
            && last.level == level
            && last.text == text
        {
            last.at = at;
            return;
        }
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
            self.notices_dropped += 1;
        }
        self.notices.push_back(Notice {
            at,
            level,
            text: text.to_owned(),
        });
    }

    /// The notices kept, oldest first.
    pub(super) fn notices(&self) -> &VecDeque<Notice> {
        &self.notices
    }

    /// Takes all notices, and how many older ones were not kept.
    pub(super) fn take_notices(&mut self) -> (Vec<Notice>, u64) {
        let dropped = std::mem::take(&mut self.notices_dropped);
        (self.notices.drain(..).collect(), dropped)
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'C')) {
            self.stopping = true;
            return Action::Quit;
        }
        match self.mode {
            Mode::Help => {
                self.mode = Mode::Table;
                Action::None
            }
            Mode::Filter => {
                self.filter_key(key.code, control);
                Action::None
            }
            Mode::Table => self.table_key(key.code, control),
        }
    }

    fn show_latest(&mut self) {
        self.snapshot = Arc::clone(&self.latest);
        if self.snapshot.rtt.count > 0 {
            self.scale = self.scale.follow(self.snapshot.rtt.p50_ns);
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        self.table.refresh(&self.snapshot.destinations);
    }

    fn filter_key(&mut self, code: KeyCode, control: bool) {
        match code {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.table.edit_filter(String::clear);
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => self.table.edit_filter(|filter| {
                filter.pop();
            }),
            KeyCode::Char('u') if control => self.table.edit_filter(String::clear),
            KeyCode::Char(letter) if !control && self.table.filter().len() < FILTER_MAX => {
                self.table.edit_filter(|filter| filter.push(letter));
            }
            _ => return,
        }
        self.refresh();
    }

    fn table_key(&mut self, code: KeyCode, control: bool) -> Action {
        let page = self.table.page() as isize;
        match code {
            // A `q` held down repeats: only Ctrl-C can mean "at once".
            KeyCode::Char('q') if self.stopping => {}
            KeyCode::Char('q') => {
                self.stopping = true;
                return Action::Quit;
            }
            KeyCode::Down | KeyCode::Char('j') => self.table.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.table.scroll(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.table.scroll(page),
            KeyCode::Char('f') if control => self.table.scroll(page),
            KeyCode::PageUp => self.table.scroll(-page),
            KeyCode::Char('b') if control => self.table.scroll(-page),
            KeyCode::Home | KeyCode::Char('g') => self.table.scroll(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.table.scroll(isize::MAX),
            KeyCode::Char('s' | '>') | KeyCode::Right => self.step_sort(1),
            KeyCode::Char('S' | '<') | KeyCode::Left => self.step_sort(-1),
            KeyCode::Char('r') => {
                self.table.reverse();
                self.refresh();
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                if !self.paused {
                    self.show_latest();
                }
            }
            KeyCode::Esc => {
                self.table.edit_filter(String::clear);
                self.refresh();
            }
            _ => {}
        }
        Action::None
    }

    fn step_sort(&mut self, by: isize) {
        self.table.step_sort(by);
        self.refresh();
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::Column;
    use super::super::testing::{header, snapshots};
    use super::*;

    fn screen() -> Screen {
        let mut screen = Screen::new(header(40));
        screen.table.set_page(10);
        screen.update(Arc::new(snapshots(40, 1, 3)));
        screen
    }

    fn press(screen: &mut Screen, keys: &str) -> Vec<Action> {
        keys.chars()
            .map(|key| {
                screen.key(match key {
                    '\n' => KeyCode::Enter.into(),
                    '\x1b' => KeyCode::Esc.into(),
                    '\x08' => KeyCode::Backspace.into(),
                    '\x03' => KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
                    letter => KeyCode::Char(letter).into(),
                })
            })
            .collect()
    }

    #[test]
    fn keys_scroll_within_the_list() {
        let mut screen = screen();
        for (keys, top) in [
            ("jj", 2),
            ("k", 1),
            (" ", 11),
            ("G", 30),
            ("j", 30),
            ("g", 0),
        ] {
            press(&mut screen, keys);
            assert_eq!(screen.table.top(), top, "after {keys:?}");
        }
    }

    #[test]
    fn quitting_is_said_once_by_q_and_each_time_by_ctrl_c() {
        let mut screen = screen();
        let quit = Action::Quit;
        assert_eq!(
            press(&mut screen, "qqq"),
            [quit, Action::None, Action::None]
        );
        assert_eq!(press(&mut screen, "\x03\x03"), [quit, quit]);
        assert!(screen.stopping);
    }

    #[test]
    fn ctrl_c_ends_a_run_from_any_mode() {
        for keys in ["/", "?", "p"] {
            let mut screen = screen();
            press(&mut screen, keys);
            assert_eq!(press(&mut screen, "\x03"), [Action::Quit], "after {keys}");
        }
    }

    #[test]
    fn the_filter_takes_letters_that_are_keys_elsewhere() {
        let mut screen = screen();
        let all = screen.table.len();
        assert_eq!(press(&mut screen, "/q?pz"), [Action::None; 5]);
        assert_eq!((screen.table.filter(), screen.table.len()), ("q?pz", 0));
        press(&mut screen, "\x08\x08\x08\x08\n");
        assert_eq!((screen.mode, screen.table.len()), (Mode::Table, all));
        press(&mut screen, "/zz\x1b");
        assert_eq!((screen.mode, screen.table.len()), (Mode::Table, all));
    }

    #[test]
    fn a_pause_keeps_the_display_and_drops_nothing() {
        let mut screen = screen();
        let before = screen.snapshot.elapsed;
        press(&mut screen, "p");
        screen.update(Arc::new(snapshots(40, 1, 9)));
        assert_eq!(screen.snapshot.elapsed, before);
        press(&mut screen, "p");
        assert!(screen.snapshot.elapsed > before);
    }

    #[test]
    fn sorting_steps_both_ways_and_reverses() {
        let mut screen = screen();
        press(&mut screen, "s");
        assert_eq!(screen.table.sort(), (Some(Column::Name), false));
        press(&mut screen, "r");
        assert_eq!(screen.table.sort(), (Some(Column::Name), true));
        press(&mut screen, "<<");
        assert_eq!(screen.table.sort(), (Some(Column::Jitter), true));
    }

    #[test]
    fn repeated_notices_take_one_line_and_their_number_is_bounded() {
        let mut screen = screen();
        screen.notice(Level::Warning, "again");
        screen.notice(Level::Warning, "again");
        assert_eq!(screen.notices().len(), 1);
        for number in 0..NOTICES_MAX {
            screen.notice(Level::Info, &number.to_string());
        }
        let (kept, dropped) = screen.take_notices();
        assert_eq!((kept.len(), dropped), (NOTICES_MAX, 1));
        assert_eq!(kept[0].text, "0");
    }
}
