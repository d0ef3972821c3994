//! Splits SQL text into its statements, since ClickHouse's HTTP interface takes one at a time.

/// Characters of a summary: a line of a terminal holds them with what stands before.
const SUMMARY_MAX: usize = 60;

/// The statements of `sql`, trimmed, without their semicolons; comments stay inside.
///
/// A semicolon inside a string, a quoted name or a comment ends nothing. What holds comments
/// only is no statement.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at, mut has_code) = (0, 0, false);
    while let Some(byte) = sql.as_bytes().get(at) {
        let rest = &sql[at..];
        let length = match byte {
            b'\'' | b'"' | b'`' => quoted(rest, *byte),
            b'-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            b';' => {
                if has_code {
                    found.push(sql[start..at].trim_ascii());
                }
                start = at + 1;
                has_code = false;
                at = start;
                continue;
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        let comment = rest.starts_with("--") || rest.starts_with("/*");
        has_code |= !comment && !byte.is_ascii_whitespace();
        at += length;
    }
    if has_code {
        found.push(sql[start..].trim_ascii());
    }
    found
}

/// What a statement does, in a few words: its first line of code.
pub(super) fn summary(statement: &str) -> &str {
    let code = statement
        .lines()
        .find(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"));
    let words = code.unwrap_or_default().split('(').next();
    let words = words.unwrap_or_default().trim_end();
    match words.char_indices().nth(SUMMARY_MAX) {
        Some((end, _)) => &words[..end],
        None => words,
    }
}

/// Length of the quoted text at the start of `text`: a doubled quote or one behind a backslash
/// does not end it.
fn quoted(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn semicolons_split_where_they_are_code() {
        for (sql, expected) in [
            ("", vec![]),
            (" ;; \n", vec![]),
            ("-- only; a comment\n", vec![]),
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT 1;SELECT 2 ;\n", vec!["SELECT 1", "SELECT 2"]),
            ("SELECT ';' ; SELECT 2", vec!["SELECT ';'", "SELECT 2"]),
            ("SELECT 'it''s;' ;", vec!["SELECT 'it''s;'"]),
            (r"SELECT '\';' ;", vec![r"SELECT '\';'"]),
            ("SELECT \"a;b\", `c;d`;", vec!["SELECT \"a;b\", `c;d`"]),
            ("A -- it's; so\n;B", vec!["A -- it's; so", "B"]),
            ("A /* x; y */ B; C", vec!["A /* x; y */ B", "C"]),
            ("-- head\nA;", vec!["-- head\nA"]),
            ("SELECT 'µ;é';x", vec!["SELECT 'µ;é'", "x"]),
            ("SELECT 'open; ", vec!["SELECT 'open;"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql:?}");
        }
    }

    #[test]
    fn a_summary_is_the_first_line_of_code() {
        for (statement, expected) in [
            ("", ""),
            ("-- why\n\nDROP TABLE x", "DROP TABLE x"),
            ("CREATE TABLE x (\n a UInt8)", "CREATE TABLE x"),
            ("INSERT INTO x (a, b)\nSELECT 1, 2", "INSERT INTO x"),
        ] {
            assert_eq!(summary(statement), expected);
        }
        assert_eq!(summary(&"é".repeat(99)).chars().count(), SUMMARY_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_panic(sql in "[a';\"`\\\\/*\n -]{0,40}|.{0,40}") {
            for statement in statements(&sql) {
                prop_assert!(!statement.is_empty() && sql.contains(statement));
            }
        }
    }
}
