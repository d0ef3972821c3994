//! Puts right what a killed engine or a full disk left behind: tokens without their rows.
//!
//! In: the files of an engine that does not run. Out: deduplication logs in which every token at
//! the end stands for a part that is there. It never touches rows, nor a file of a running engine.
//!
//! ClickHouse writes a token into the table's log first and renames the part into its place next
//! (seen by strace, engine 26.7). Killed in between, it takes the rows sent again under that token
//! for known ones and drops them: in that one table they would be missing for ever. Both steps
//! happen under one lock, so only the last line of a log can be such a one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::listing::{HINT, entries, subdirectories};
use crate::store::StoreError;

/// What a log's line about a new part begins with; others tell of parts that were dropped.
const ADDED: &str = "1";

/// The directory of a table's logs, beside its parts.
const LOGS: &str = "deduplication_logs";

/// Looks through all tables below `engine`, ClickHouse's directory; gives the parts whose tokens
/// were freed.
///
/// # Errors
/// When a file cannot be read or cut.
pub(super) fn free_burnt_tokens(engine: &Path) -> Result<Vec<String>, StoreError> {
    let mut freed = Vec::new();
    for group in subdirectories(&engine.join("store"))? {
        for table in subdirectories(&group)? {
            if table.join(LOGS).is_dir() {
                mend_table(&table, &mut freed)?;
            }
        }
    }
    Ok(freed)
}

fn mend_table(table: &Path, freed: &mut Vec<String>) -> Result<(), StoreError> {
    let names = entries(table)?;
    let parts: Vec<Part> = names.iter().filter_map(|name| Part::parse(name)).collect();
    for log in newest_first(&table.join(LOGS))? {
        let read = StoreError::file("read", &log, HINT);
        let text = fs::read_to_string(&log).map_err(read)?;
        let keep = kept(&text, &parts, freed);
        if keep < text.len() {
            let cut = |log: &Path| File::options().write(true).open(log)?.set_len(keep as u64);
            cut(&log).map_err(StoreError::file("cut", &log, HINT))?;
        }
        // A line that stands ends the search; the log before it was complete.
        if keep > 0 {
            break;
        }
    }
    Ok(())
}

/// How many bytes of a log to keep: all before the lines at its end that are torn (by a full
/// disk), or name a part that is not there. Adds those parts to `freed`.
fn kept(log: &str, parts: &[Part], freed: &mut Vec<String>) -> usize {
    let mut keep = log.len();
    for line in log.split_inclusive('\n').rev() {
        let mut fields = line.split('\t');
        let (operation, name) = (fields.next(), fields.next());
        if line.ends_with('\n') {
            let Some((ADDED, part)) = operation.zip(name) else {
                break;
            };
            let there = Part::parse(part).is_none_or(|part| parts.iter().any(|p| p.covers(&part)));
            if there {
                break;
            }
            freed.push(part.to_owned());
        }
        keep -= line.len();
    }
    keep
}

/// What the name of a part tells: its partition and the first and last block in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part<'a> {
    partition: &'a str,
    first: u64,
    last: u64,
}

impl<'a> Part<'a> {
    /// Reads `PARTITION_FIRST_LAST_LEVEL`, with `_MUTATION` behind it or not; anything else, such
    /// as the directory of an insert that never came to its end, is no part.
    fn parse(name: &'a str) -> Option<Self> {
        let mut fields = name.split('_');
        let partition = fields.next()?;
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (first, last, _level) = (number()?, number()?, number()?);
        let rest: Vec<&str> = fields.collect();
        let whole = rest.len() <= 1 && rest.iter().all(|field| field.parse::<u64>().is_ok());
        whole.then_some(Self {
            partition,
            first,
            last,
        })
    }

    /// Whether that one's rows are in this one: it is the same part, or was merged into it.
    fn covers(&self, other: &Part<'_>) -> bool {
        self.partition == other.partition && self.first <= other.first && other.last <= self.last
    }
}

/// A table's logs, by the numbers in their names.
fn newest_first(logs: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let number = |name: &String| {
        let digits = name.strip_suffix(".txt")?.rsplit('_').next()?;
        digits.parse::<u64>().ok()
    };
    let names = entries(logs)?;
    let mut numbered: Vec<(u64, &String)> = names
        .iter()
        .filter_map(|name| Some((number(name)?, name)))
        .collect();
    numbered.sort_unstable();
    Ok(numbered
        .iter()
        .rev()
        .map(|(_, name)| logs.join(name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(log: &str, directories: &[&str], kept_lines: usize, freed_parts: &[&str]) {
        let parts: Vec<Part> = directories.iter().filter_map(|n| Part::parse(n)).collect();
        let mut freed = Vec::new();
        let keep = kept(log, &parts, &mut freed);
        let expected: String = log.split_inclusive('\n').take(kept_lines).collect();
        assert_eq!(&log[..keep], expected);
        assert_eq!(freed, freed_parts);
    }

    #[test]
    fn only_lines_at_the_end_without_a_part_are_cut() {
        let two = "1\t20261121_1_1_0\t20261121_9\n1\t20261121_2_2_0\t20261121_8\n";
        check(two, &["20261121_1_1_0", "20261121_2_2_0"], 2, &[]);
        check(two, &["20261121_1_1_0"], 1, &["20261121_2_2_0"]);
        check(two, &["20261121_1_2_1"], 2, &[]);
        check(two, &["20261121_1_2_1_7"], 2, &[]);
        check(
            two,
            &["20261122_1_2_1", "20261121_1_1_0"],
            1,
            &["20261121_2_2_0"],
        );
        check(two, &[], 0, &["20261121_2_2_0", "20261121_1_1_0"]);
        // The first one's part is long gone, as retention has it: what follows stands.
        check(two, &["20261121_2_2_0"], 2, &[]);
        // An insert that was not finished is no part.
        let unfinished = ["tmp_insert_20261121_2_2_0", "20261121_1_1_0", "detached"];
        check(two, &unfinished, 1, &["20261121_2_2_0"]);
        check("", &["20261121_1_1_0"], 0, &[]);
    }

    #[test]
    fn a_torn_line_and_what_was_burnt_before_it_are_cut() {
        let torn = "1\t20261121_1_1_0\t20261121_9\n1\t20261121_2_2_0\t2026";
        check(torn, &["20261121_1_1_0", "20261121_2_2_0"], 1, &[]);
        check(torn, &[], 0, &["20261121_1_1_0"]);
    }

    #[test]
    fn a_dropped_part_and_an_unknown_name_end_the_search() {
        let dropped = "1\t2026_1_1_0\t2026_9\n2\t2026_1_1_0\t2026_9\n";
        check(dropped, &[], 2, &[]);
        check("1\tall_odd\tx\n", &[], 1, &[]);
    }

    #[test]
    fn logs_are_read_by_number_and_no_engine_has_none() {
        let folder = std::env::temp_dir().join(format!("pinger-mend-{}", std::process::id()));
        let table = folder.join("store/abc/abcdef");
        let logs = table.join(LOGS);
        assert_eq!(free_burnt_tokens(&folder).unwrap(), Vec::<String>::new());
        fs::create_dir_all(&logs).unwrap();
        fs::create_dir_all(table.join("2026_9_9_0")).unwrap();
        let log = |number: u32| logs.join(format!("deduplication_log_{number}.txt"));
        fs::write(log(9), "1\t2026_9_9_0\t2026_5\n1\t2026_10_10_0\t2026_6\n").unwrap();
        fs::write(log(10), "1\t2026_11_11_0\t2026_7\n").unwrap();
        let freed = free_burnt_tokens(&folder).unwrap();
        assert_eq!(freed, ["2026_11_11_0", "2026_10_10_0"]);
        assert_eq!(fs::read_to_string(log(10)).unwrap(), "");
        assert_eq!(
            fs::read_to_string(log(9)).unwrap(),
            "1\t2026_9_9_0\t2026_5\n"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
