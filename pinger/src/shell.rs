//! Text as words for a shell, for commands that a user may copy and run. Pure.

/// Text as one word, as it is where that needs no quotes.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Text as one word: in double quotes where nothing in it means anything to a shell there.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", text.replace('\'', r"'\''"))
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_copied_survives_the_shell() {
        for text in [
            "SELECT count() FROM results WHERE name = 'a'",
            r#"SELECT "a" FROM `b` WHERE c = '$HOME \ !'"#,
            "/var/lib/pinger",
            "",
        ] {
            for word in [word(text), quoted(text)] {
                let script = format!("printf %s {word}");
                let output = Command::new("sh").args(["-c", &script]).output().unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stdout), text);
            }
        }
        assert_eq!(word("/var/lib/pinger"), "/var/lib/pinger");
    }
}
