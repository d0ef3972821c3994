//! Colours and weights, for dark and light terminals and for none at all.
//!
//! Only the terminal's own named colours are used, so its theme decides what is readable. Nothing
//! is told by colour alone: alarms are bold as well, and losses have a mark of their own.

use ratatui::style::{Color, Modifier, Style};

/// How much a figure wants to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Plain,
    Quiet,
    Warn,
    Alarm,
}

/// The styles of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theme {
    /// Whether colours may be used.
    pub(super) colour: bool,
}

impl Theme {
    /// Colours unless the user asked for none: `NO_COLOR` set to anything but nothing.
    pub(super) fn from_environment() -> Self {
        Self {
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    /// Labels and what is zero.
    pub(super) fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Names of groups, keys, the column that sorts.
    pub(super) fn accent(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Bars of sparklines.
    pub(super) fn bar(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// A state that the user should not forget, such as a pause.
    pub(super) fn badge(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    pub(super) fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Plain => self.plain(),
            Mood::Quiet => self.quiet(),
            Mood::Warn => self.coloured(Color::Yellow).add_modifier(Modifier::BOLD),
            Mood::Alarm => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}
