//! How an answer is shown, for commands that tell the same to people and to scripts.

use crate::mistake::{Mistake, nearest};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In columns, for people.
    Table,
    /// As JSON, for scripts.
    Json,
}

/// Reads one of its names.
pub(super) fn style(text: &str) -> Result<Style, Mistake> {
    match text {
        "table" => Ok(Style::Table),
        "json" => Ok(Style::Json),
        _ => {
            let meant = nearest(text, &["table", "json"]);
            let meant = meant.map(|word| format!(" Did you mean {word}?"));
            Err(Mistake::new(
                format!("{text:?} is not a format of this command"),
                format!("Allowed are table and json.{}", meant.unwrap_or_default()),
            ))
        }
    }
}
