//! What a run's folder holds, for somebody who only looks.
//!
//! In: a [`Disk`], which another process may be working on. Out: [`Holdings`]. Changes nothing.
//! A file that goes while it is looked at is on its way to the store, and is left out.

use super::disk::{Disk, DiskError};
use super::files::{self, State};
use super::segment::{Contents, FRAME_SIZE, HEADER_SIZE, Header, Table, Totals, tail};

/// What waits in a folder, and what was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The store that it is for; `None` of a run that had not begun to write.
    pub store: Option<String>,
    /// Whether the run has said that it ended.
    pub has_ended: bool,
    /// Segments that wait, of any table.
    pub segments: u64,
    /// Their length.
    pub bytes: u64,
    /// Results among them.
    pub results: Totals,
    /// Gaps among them that the store has not been told of.
    pub gaps: u64,
    /// When the first and the last of these results came, wall clock nanoseconds.
    pub range_ns: Option<(i64, i64)>,
    /// What the store refused for good, the oldest first.
    pub refused: Vec<Refused>,
}

/// A segment that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number within the run.
    pub number: u64,
    /// Which table it is for; `None` if it is too damaged to tell.
    pub table: Option<Table>,
    /// Rows of its table, and of results how many probes they end.
    pub size: Totals,
    /// Its length.
    pub bytes: u64,
    /// What the server said.
    pub words: String,
}

impl Refused {
    /// The name of the segment's file.
    pub fn file(&self) -> String {
        files::name(self.number, State::Aside)
    }

    /// The name of the file with the server's words.
    pub fn reason_file(&self) -> String {
        files::reason_name(self.number)
    }
}

/// What a segment says of itself.
struct Seen {
    table: Option<Table>,
    size: Totals,
    range_ns: Option<(i64, i64)>,
}

/// Looks into a folder.
///
/// # Errors
/// When the disk fails.
pub fn look(disk: &mut impl Disk) -> Result<Holdings, DiskError> {
    let mut holdings = Holdings::default();
    let mut entries = disk.list()?;
    entries.sort_by(|one, two| one.name.cmp(&two.name));
    for entry in entries {
        if entry.name == files::ENDED {
            holdings.has_ended = true;
        } else if entry.name == files::STORE {
            let text = read(disk, files::STORE, 0, entry.bytes)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            holdings.store = files::is_store_text(&text).then(|| files::store_of(&text));
        } else if let Some((number, state)) = files::parse(&entry.name) {
            let Some(seen) = see(disk, &entry.name, state, entry.bytes)? else {
                continue;
            };
            match state {
                State::Open | State::Whole | State::Tried => holdings.add(&seen, entry.bytes),
                State::Aside => holdings.refused.push(Refused {
                    number,
                    table: seen.table,
                    size: seen.size,
                    bytes: entry.bytes,
                    words: words(disk, number)?,
                }),
                State::New | State::Done => {}
            }
        }
    }
    Ok(holdings)
}

impl Holdings {
    fn add(&mut self, seen: &Seen, bytes: u64) {
        if seen.size.rows == 0 && seen.table.is_some() {
            // Just begun.
            return;
        }
        self.segments += 1;
        self.bytes += bytes;
        match seen.table {
            Some(Table::Incoming) => {
                self.results = self.results.plus(seen.size);
                self.range_ns = match (self.range_ns, seen.range_ns) {
                    (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
                    (one, two) => one.or(two),
                };
            }
            Some(Table::Gaps) => self.gaps += seen.size.rows,
            _ => {}
        }
    }
}

/// What a segment holds; `None` if it is gone.
fn see(
    disk: &mut impl Disk,
    name: &str,
    state: State,
    bytes: u64,
) -> Result<Option<Seen>, DiskError> {
    if state == State::Open {
        let content = read(disk, name, 0, bytes)?;
        return Ok(content.map(|content| Seen::all(&Contents::of(&content))));
    }
    let last = bytes.saturating_sub(FRAME_SIZE as u64);
    let head = read(disk, name, 0, HEADER_SIZE as u64)?;
    let end = read(disk, name, last, FRAME_SIZE as u64)?;
    let (Some(head), Some(end)) = (head, end) else {
        return Ok(None);
    };
    if let (Some(header), Some(end)) = (Header::parse(&head), tail(&end)) {
        return Ok(Some(Seen {
            table: Some(header.table),
            size: end.size,
            range_ns: Some((end.from_ns, end.until_ns)),
        }));
    }
    let content = read(disk, name, 0, bytes)?;
    Ok(content.map(|content| Seen::all(&Contents::of(&content))))
}

impl Seen {
    fn all(contents: &Contents) -> Self {
        Self {
            table: contents.header.as_ref().map(|header| header.table),
            size: contents.size,
            range_ns: contents.range_ns,
        }
    }
}

/// Why a segment was refused: what stands behind its token.
fn words(disk: &mut impl Disk, number: u64) -> Result<String, DiskError> {
    let text = read(disk, &files::reason_name(number), 0, u64::from(u16::MAX))?;
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    Ok(lines.join(" "))
}

/// Reads of a file; `None` if it is gone.
fn read(
    disk: &mut impl Disk,
    name: &str,
    from: u64,
    bytes: u64,
) -> Result<Option<Vec<u8>>, DiskError> {
    match disk.read(name, from, bytes) {
        Ok(content) => Ok(Some(content)),
        Err(error) => match disk.list()?.iter().any(|entry| entry.name == name) {
            true => Err(error),
            false => Ok(None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryDisk;
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_no_failure() {
        let mut disk = MemoryDisk::new();
        for state in [State::Open, State::Whole, State::Aside] {
            let seen = see(&mut disk, &files::name(9, state), state, 500);
            assert!(seen.expect("memory does not fail").is_none());
        }
        assert_eq!(words(&mut disk, 9).as_deref(), Ok(""));
    }
}
