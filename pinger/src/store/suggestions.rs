//! Queries worth trying at the end of a run.

use std::sync::LazyLock;

/// A query with what it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// What it answers, for people.
    pub title: String,
    /// The query, on one line, without a character that a shell would read inside double quotes.
    pub sql: String,
}

/// The files, as in `schema/queries/`: a title as comment, then the query.
const FILES: [&str; 3] = [
    include_str!("../../../schema/queries/worst_now.sql"),
    include_str!("../../../schema/queries/outages.sql"),
    include_str!("../../../schema/queries/per_minute.sql"),
];

static SUGGESTIONS: LazyLock<Vec<Suggestion>> =
    LazyLock::new(|| FILES.iter().map(|file| read(file)).collect());

/// Queries worth trying once results are in; their files are part of the cookbook in
/// `schema/queries/`.
pub fn suggestions() -> &'static [Suggestion] {
    &SUGGESTIONS
}

fn read(file: &str) -> Suggestion {
    let (title, sql) = file.split_once('\n').unwrap_or((file, ""));
    Suggestion {
        title: title.trim_start_matches('-').trim().to_owned(),
        sql: sql.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_pasted_into_a_shell() {
        assert_eq!(suggestions().len(), 3);
        for Suggestion { title, sql } in suggestions() {
            assert!(!title.is_empty() && title.len() <= 72, "{title}");
            assert!(sql.starts_with("SELECT ") && sql.len() <= 140, "{sql}");
            assert!(!sql.contains(['"', '$', '`', '\\', '!', '\n']), "{sql}");
            assert!(!sql.contains("--"), "{sql}");
        }
    }
}
