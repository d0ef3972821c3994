//! A disk that runs short of room, as one that other programs fill does, or that does not sync, and
//! that notes what it is asked to make safe.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;

/// Memory that says how much room it has, and does not sync a file.
#[derive(Debug)]
pub(super) struct Bad {
    files: MemoryDisk,
    pub(super) room_bytes: Rc<Cell<u64>>,
    /// A file that cannot be synced.
    unsafe_name: Rc<Cell<&'static str>>,
    /// What was synced, and the new names of what was renamed, in order.
    pub(super) asked: Rc<RefCell<Vec<String>>>,
}

impl Bad {
    pub(super) fn new(files: MemoryDisk) -> Self {
        Self {
            files,
            room_bytes: Rc::new(Cell::new(0)),
            unsafe_name: Rc::default(),
            asked: Rc::default(),
        }
    }

    fn note(&self, what: String) {
        self.asked.borrow_mut().push(what);
    }
}

impl Disk for Bad {
    fn list(&mut self) -> Result<Vec<Entry>, DiskError> {
        self.files.list()
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        self.files.read(name, from, bytes)
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.files.create(name)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.files.append(name, bytes)
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.files.truncate(name, bytes)
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        if name == self.unsafe_name.get() {
            return Err(DiskError {
                is_full: false,
                words: "input/output error".to_owned(),
            });
        }
        self.note(format!("sync {name}"));
        self.files.sync(name)
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.note("sync folder".to_owned());
        self.files.sync_folder()
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.note(format!("rename {to}"));
        self.files.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.files.remove(name)
    }

    fn room(&mut self) -> Option<u64> {
        Some(self.room_bytes.get())
    }
}

#[test]
fn a_short_disk_is_waited_for_and_looked_at_again() {
    let disk = Bad::new(MemoryDisk::new());
    let room_bytes = Rc::clone(&disk.room_bytes);
    let same = Bad {
        room_bytes: Rc::clone(&room_bytes),
        ..Bad::new(disk.files.same())
    };
    let mut spool = Pair::new(disk, same, options());
    spool.tick(at(1));
    spool.put(at(1), chunk(at(1), 5, 100));
    assert_eq!((spool.unwritten(), spool.counts().dropped), (5, 0));

    // Somebody makes room: it is seen with the next chunk, whenever the disk was looked at last.
    room_bytes.set(1 << 20);
    spool.put(at(1), chunk(at(1), 7, 100));
    assert_eq!((spool.unwritten(), spool.counts().dropped), (0, 0));
    assert_eq!(spool.audit(), 12);
}

#[test]
fn a_run_is_closed_when_all_that_it_left_is_safe() {
    let mut killed = spool(options());
    killed.put(at(1), chunk(at(1), 5, 100));
    let disk = Bad::new(killed.disk_mut().copy());
    let unsafe_name = Rc::clone(&disk.unsafe_name);
    unsafe_name.set("00000001.open");
    let mut adopted = Spool::adopt(disk, identity(), options(), None, at(2)).expect("it is ours");
    assert!(!adopted.is_closed());
    unsafe_name.set("");
    adopted.tick(at(3));
    assert!(adopted.is_closed());
    assert_eq!(adopted.counts().spooled, 5);
}

#[test]
fn damage_before_a_later_segment_is_told() {
    let mut killed = spool(options());
    // The spool's thread got no turn, so the first has no end.
    for rows in [5, 4] {
        killed.filler.put(at(1), chunk(at(1), rows, 100));
    }
    killed.filler.seal();
    killed.filler.put(at(2), chunk(at(2), 3, 100));
    let tally = Tally {
        sent: 9,
        rows: 12,
        last_ns: at(2).wall_ns,
        is_least: false,
    };
    for is_damaged in [false, true] {
        let mut disk = killed.disk_mut().copy();
        let first = "00000001.open";
        if is_damaged {
            let mut content = disk.read(first, 0, u64::MAX).expect("it is there");
            *content.last_mut().expect("rows") ^= 1;
            disk.create(first).expect("memory does not fail");
            disk.append(first, &content).expect("memory does not fail");
        }
        let adopted = Spool::adopt(disk, identity(), options(), Some(tally), at(9));
        let mut adopted = adopted.expect("it is ours");
        let mut rows = 0;
        while let Some(job) = adopted.next(at(9)) {
            rows += if job.table == Table::Incoming {
                job.rows
            } else {
                0
            };
            adopted.done(at(9), job, End::Written);
        }
        let told = adopted.notices();
        let is_told = matches!(&told[..], [Notice::Lost(GapReason::Corrupt, _)]);
        assert_eq!(
            (rows, is_told),
            (if is_damaged { 8 } else { 12 }, is_damaged),
            "{told:?}"
        );
    }
}
