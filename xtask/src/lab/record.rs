//! Who removes the lab, written down where every xtask finds it.
//!
//! A run is named by process id and start time, so that one that was killed is known to be gone
//! even when its id is used again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where the record is; the directory itself is the lock. Both are gone when the lab is.
pub(super) const DIRECTORY: &str = "/run/pinger";
const RECORD: &str = "lab.json";

/// Who removes the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "owner")]
pub enum Owner {
    /// Whoever says `lab down`.
    Kept,
    /// The run that made it, at its end.
    Run {
        /// Its process.
        pid: u32,
        /// When that process began, in clock ticks since boot.
        started: u64,
    },
}

impl Owner {
    pub(super) fn this_process() -> Result<Self> {
        let pid = std::process::id();
        let started = start_time(pid).context("cannot read /proc/self/stat: is /proc mounted?")?;
        Ok(Self::Run { pid, started })
    }

    /// Whether the owner can still remove the lab.
    pub fn is_alive(&self) -> bool {
        match *self {
            Self::Kept => true,
            Self::Run { pid, started } => start_time(pid) == Some(started),
        }
    }
}

/// What is written down about the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who removes it.
    #[serde(flatten)]
    pub owner: Owner,
    /// When it was made, seconds since 1970.
    pub made: u64,
}

fn record_path() -> PathBuf {
    Path::new(DIRECTORY).join(RECORD)
}

/// A record that cannot be read says as much as none: the lab is then replaced.
pub(super) fn read_record() -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(record_path()).ok()?).ok()
}

pub(super) fn write_record(owner: Owner) -> Result<()> {
    let made = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let text = serde_json::to_string(&Record { owner, made })?;
    let new = record_path().with_extension("new");
    fs::write(&new, text + "\n")
        .and_then(|()| fs::rename(&new, record_path()))
        .with_context(|| format!("cannot write {}", record_path().display()))
}

/// Removes the record, if there is one.
pub(super) fn remove_record() -> Result<()> {
    match fs::remove_file(record_path()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", record_path().display()))
        }
        _ => Ok(()),
    }
}

/// When a process began, in clock ticks since boot: field 22 of its `stat` (proc(5)).
fn start_time(pid: u32) -> Option<u64> {
    read_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn read_start_time(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold spaces itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    // A zombie has ended; it is only not waited for yet, which may take for ever.
    fields.next().filter(|state| !matches!(*state, "Z" | "X"))?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_read_behind_any_program_name() {
        let stat = "77 (a b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 99";
        assert_eq!(read_start_time(stat), Some(4242));
        assert_eq!(read_start_time("77 (cut"), None);
        assert_eq!(
            read_start_time(&stat.replace(" S ", " Z ")),
            None,
            "a zombie has ended"
        );
    }

    #[test]
    fn an_owner_is_alive_only_while_it_is_the_same_process() {
        let this = Owner::this_process().unwrap();
        assert!(this.is_alive() && Owner::Kept.is_alive());
        let Owner::Run { pid, started } = this else {
            panic!("{this:?}")
        };
        assert!(
            !Owner::Run {
                pid,
                started: started + 1
            }
            .is_alive(),
            "the id is used again"
        );
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for owner in [Owner::Kept, Owner::Run { pid: 7, started: 9 }] {
            let record = Record {
                owner,
                made: 1_700_000_000,
            };
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(
                serde_json::from_str::<Record>(&text).unwrap(),
                record,
                "{text}"
            );
        }
    }
}
