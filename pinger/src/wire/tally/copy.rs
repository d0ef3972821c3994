//! A copy of a run's tally in the run's own folder, for those who find the folder and not the
//! memory: after a reboot, or in a container that was made anew.
//!
//! In: a tally, looked at with each tick of the spooler. Out: its last counts that came so far.
//! They only grow, so an old copy is still right about the least that the run had come to.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Tallied, Tally};
use crate::native::checksum;

/// What a copy begins with, which also names its form.
const MAGIC: u64 = u64::from_be_bytes(*b"tally\0c\x01");

/// Four numbers, little endian, and a checksum, so that a torn write is noticed.
const NUMBERS: usize = 4;
const LEN: usize = NUMBERS * 8 + 16;

/// The copy of a running run.
#[derive(Debug)]
pub struct TallyCopy {
    tally: Arc<Tally>,
    path: PathBuf,
    file: Option<File>,
    last: Tallied,
}

impl TallyCopy {
    /// The name of its file in the run's folder.
    pub const NAME: &str = "tally";

    /// The copy of a tally in that folder, where there is none yet.
    pub fn of(tally: Arc<Tally>, folder: &Path) -> Self {
        Self {
            tally,
            path: folder.join(Self::NAME),
            file: None,
            last: Tallied::default(),
        }
    }

    /// Writes the counts down, if they are news. May wait for the disk.
    pub fn keep(&mut self) {
        let counts = self.tally.counts();
        // What fails now is done the next time; a disk that fails is told by those who write rows.
        if counts != self.last && self.write(counts).is_ok() {
            self.last = counts;
        }
    }

    fn write(&mut self, counts: Tallied) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let mut options = File::options();
                options.write(true).create(true).truncate(true).mode(0o600);
                self.file.insert(options.open(&self.path)?)
            }
        };
        file.write_all_at(&emit(counts), 0)
    }

    /// What a folder's copy says; `None` if there is none, or a damaged one.
    pub fn read(folder: &Path) -> Option<Tallied> {
        let mut bytes = [0; LEN];
        let file = File::open(folder.join(Self::NAME)).ok()?;
        file.read_exact_at(&mut bytes, 0).ok()?;
        parse(&bytes)
    }
}

fn emit(counts: Tallied) -> [u8; LEN] {
    let Tallied {
        sent,
        rows,
        last_ns,
    } = counts;
    let mut bytes = [0; LEN];
    let numbers = [MAGIC, sent, rows, last_ns];
    for (number, to) in numbers.iter().zip(bytes.chunks_exact_mut(8)) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(&bytes[..NUMBERS * 8]);
    bytes[NUMBERS * 8..].copy_from_slice(&sum);
    bytes
}

fn parse(bytes: &[u8; LEN]) -> Option<Tallied> {
    let (numbers, sum) = bytes.split_at(NUMBERS * 8);
    (checksum(numbers) == *sum).then_some(())?;
    let (numbers, _) = numbers.as_chunks::<8>();
    match numbers
        .iter()
        .map(|is| u64::from_le_bytes(*is))
        .collect::<Vec<_>>()[..]
    {
        [MAGIC, sent, rows, last_ns] => Some(Tallied {
            sent,
            rows,
            last_ns,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mapping;
    use super::*;

    const COUNTS: Tallied = Tallied {
        sent: u64::MAX,
        rows: 7,
        last_ns: 5,
    };

    #[test]
    fn a_copy_is_these_bytes_and_any_other_is_none() {
        let bytes = emit(COUNTS);
        assert_eq!(bytes[..8], *b"\x01c\0yllat");
        assert_eq!(
            bytes[8..24],
            *b"\xff\xff\xff\xff\xff\xff\xff\xff\x07\0\0\0\0\0\0\0"
        );
        assert_eq!(parse(&bytes), Some(COUNTS));
        assert_eq!(parse(&[0; LEN]), None);
        for bit in 0..LEN * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&torn), None, "bit {bit}");
        }
    }

    #[test]
    fn the_last_counts_are_kept() {
        let folder = std::env::temp_dir().join(format!("pinger-copy-{}", std::process::id()));
        assert_eq!(TallyCopy::read(&folder), None);
        let page = Mapping::anonymous(super::super::LEN).unwrap();
        let tally = Arc::new(Tally { page, _file: None });
        let mut copy = TallyCopy::of(Arc::clone(&tally), &folder);
        tally.rows(COUNTS.rows, COUNTS.last_ns);
        copy.keep();
        assert_eq!(TallyCopy::read(&folder), None, "there is no such folder");
        std::fs::create_dir(&folder).unwrap();
        for sent in [1, 2, 2] {
            tally.sent(sent);
            copy.keep();
            let counts = Tallied { sent, ..COUNTS };
            assert_eq!(TallyCopy::read(&folder), Some(counts));
        }
        std::fs::write(folder.join(TallyCopy::NAME), &emit(COUNTS)[..LEN - 1]).unwrap();
        assert_eq!(TallyCopy::read(&folder), None, "it is cut short");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
