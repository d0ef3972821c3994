//! A plain list of destinations: one a line, as fping reads them.

use super::{Asked, Text};
use crate::destination::Written;
use crate::mistake::{Mistake, Mistakes};

/// Reads a list: one destination a line; `#` begins a comment, empty lines are skipped.
///
/// # Errors
///
/// All mistakes, each with its file and line.
pub fn destinations_of_list(list: &Text) -> Result<Vec<Asked>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut destinations = Vec::new();
    for (index, line) in list.body.lines().enumerate() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let Some(host) = words.next() else { continue };
        let place = format!("{}:{}", list.name, index + 1);
        let checked = match words.next() {
            Some(second) => Err(Mistake::new(
                format!("{second:?} follows the destination {host:?}"),
                "Write one destination a line; a comment begins with #.",
            )),
            None => Written::parse(host).map(drop),
        };
        match checked {
            Ok(()) => destinations.push(Asked {
                host: host.to_owned(),
                place: Some(place),
                ..Asked::default()
            }),
            Err(mistake) => mistakes.0.push(mistake.at(place)),
        }
    }
    mistakes.none_or_all()?;
    Ok(destinations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(body: &str) -> Result<Vec<Asked>, Mistakes> {
        destinations_of_list(&Text {
            name: "hosts.txt".into(),
            body: body.into(),
        })
    }

    #[test]
    fn one_destination_a_line() {
        let read =
            list("# routers\n\n  192.0.2.1  # core\r\nexample.org#edge\n10.0.0.0/30").unwrap();
        let expected = [("192.0.2.1", 3), ("example.org", 4), ("10.0.0.0/30", 5)];
        assert_eq!(read.len(), expected.len());
        for (asked, (host, line)) in read.iter().zip(expected) {
            assert_eq!(asked.host, host);
            assert_eq!(asked.place, Some(format!("hosts.txt:{line}")));
        }
        assert_eq!(list(""), Ok(vec![]));
    }

    #[test]
    fn every_wrong_line_is_told() {
        let mistakes = list("a b\nexample.org\n10.0.0.300\n")
            .unwrap_err()
            .to_string();
        assert!(
            mistakes.contains("hosts.txt:1: \"b\" follows the destination \"a\""),
            "{mistakes}"
        );
        assert!(
            mistakes.contains("hosts.txt:3: \"10.0.0.300\" is not an IPv4"),
            "{mistakes}"
        );
        assert!(!mistakes.contains(":2:"), "{mistakes}");
    }
}
