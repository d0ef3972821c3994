//! The real disk does what the one in memory does; folders have one holder.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

/// A data directory of our own, removed when dropped.
pub(super) struct Home(pub(super) PathBuf);

impl Home {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pinger-disk-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A directory left in the temporary one is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) const KEY: RunKey = RunKey {
    run: 1_700_000_000_000_000_000,
    source: 3,
};

#[derive(Clone, Debug)]
enum Call {
    Create(usize),
    Append(usize, Vec<u8>),
    Truncate(usize, u64),
    Read(usize, u64, u64),
    Rename(usize, usize),
    Remove(usize),
    Sync(usize),
}

const NAMES: [&str; 4] = [
    "00000001.open",
    "00000001.seg",
    "refused/00000001.seg",
    "ended",
];

fn call() -> impl Strategy<Value = Call> {
    let name = || 0..NAMES.len();
    prop_oneof![
        name().prop_map(Call::Create),
        (name(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(name, bytes)| Call::Append(name, bytes)),
        (name(), 0..40_u64).prop_map(|(name, bytes)| Call::Truncate(name, bytes)),
        (name(), 0..40_u64, 0..40_u64)
            .prop_map(|(name, from, bytes)| Call::Read(name, from, bytes)),
        (name(), name()).prop_map(|(from, to)| Call::Rename(from, to)),
        name().prop_map(Call::Remove),
        name().prop_map(Call::Sync),
    ]
}

/// What a disk says to a call: bytes, nothing, or that it failed.
fn make(disk: &mut impl Disk, call: &Call) -> Result<Vec<u8>, ()> {
    let nothing = |()| Vec::new();
    match call {
        Call::Create(name) => disk.create(NAMES[*name]).map(nothing),
        Call::Append(name, bytes) => disk.append(NAMES[*name], bytes).map(nothing),
        Call::Truncate(name, bytes) => {
            // Only ever to a length that it has had.
            let content = disk.read(NAMES[*name], 0, u64::MAX).map_err(drop)?;
            let bytes = (*bytes).min(content.len() as u64);
            disk.truncate(NAMES[*name], bytes).map(nothing)
        }
        Call::Read(name, from, bytes) => disk.read(NAMES[*name], *from, *bytes),
        Call::Rename(from, to) => disk.rename(NAMES[*from], NAMES[*to]).map(nothing),
        Call::Remove(name) => disk.remove(NAMES[*name]).map(nothing),
        Call::Sync(name) => disk.sync(NAMES[*name]).map(nothing),
    }
    .map_err(drop)
}

fn listed(disk: &mut impl Disk) -> Vec<(String, u64)> {
    let entries = disk.list().expect("it can be listed").into_iter();
    let mut entries: Vec<_> = entries.map(|entry| (entry.name, entry.bytes)).collect();
    entries.sort();
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the spool does, disk and memory answer alike.
    #[test]
    fn disk_and_memory_agree(calls in prop::collection::vec(call(), 1..40)) {
        let home = Home::new();
        let held = Held::create(&home.0, KEY).expect("it is new");
        let mut disk = held.disk().expect("it is there");
        let mut memory = MemoryDisk::new();
        // The folder of refused segments is made by the first file in it.
        for disk in [&mut disk as &mut dyn Disk, &mut memory] {
            disk.create(NAMES[2]).expect("it can be made");
        }
        for call in &calls {
            prop_assert_eq!(make(&mut disk, call), make(&mut memory, call), "{:?}", call);
            prop_assert_eq!(listed(&mut disk), listed(&mut memory), "after {:?}", call);
        }
    }
}

#[test]
fn a_folder_has_one_holder_is_private_and_goes_when_it_is_empty() {
    let home = Home::new();
    let held = Held::create(&home.0, KEY).expect("it is new");
    let path = held.path().to_owned();
    assert_eq!(path, home.0.join("spool/3-1700000000000000000"));
    let mut disk = held.disk().expect("it is there");
    disk.create("00000001.open").expect("it can be made");
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&home.0.join("spool")), 0o700);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("00000001.open")), 0o600);
    assert_eq!(
        listed(&mut disk),
        [("00000001.open".to_owned(), 0)],
        "not the lock"
    );

    let left = take_left(&home.0).expect("it can be listed");
    assert!(
        left.ours.is_empty() && left.broken.is_empty(),
        "somebody has it"
    );
    drop(held);
    fs::create_dir(home.0.join("spool/other")).expect("our own directory");
    let mut left = take_left(&home.0).expect("it can be listed");
    let (key, held) = left.ours.pop().expect("it is free");
    assert!(left.ours.is_empty(), "what is no run's is not touched");
    assert_eq!(key, KEY);

    let error = held.remove().expect_err("a file is in it");
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    let held = take_left(&home.0).expect("it can be listed").ours.pop();
    disk.remove("00000001.open").expect("it is there");
    let (_, held) = held.expect("it is there still");
    held.remove().expect("it is empty");
    assert!(!path.exists());
}

#[test]
fn a_spool_that_never_was_is_not_made_by_looking() {
    let home = Home::new();
    let left = take_left(&home.0).expect("nothing is no failure");
    assert!(left.ours.is_empty() && !home.0.exists());
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let folder = Folder {
        path: "/x".into(),
        directory: File::open("/").expect("it is there"),
        open: None,
    };
    for (number, is_full) in [
        (libc::ENOSPC, true),
        (libc::EDQUOT, true),
        (libc::EIO, false),
    ] {
        let error = folder.failed("write", "a")(io::Error::from_raw_os_error(number));
        assert_eq!(error.is_full, is_full, "{error}");
        assert!(error.words.starts_with("write /x/a: "), "{error}");
    }
}
