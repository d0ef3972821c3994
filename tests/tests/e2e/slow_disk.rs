//! A disk that takes seconds to sync: what is in memory only stays young all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pinger::spool::segment::{FRAME_SIZE, FrameHeader, HEADER_SIZE, MARKER_SIZE};
use xtask::lab::Shape;

use crate::harness::{Folder, PATIENCE, Pinger, Site, alone, program, until};

/// So many syncs are looked at. Each takes two seconds, so this is most of the test's time.
const SYNCS: u64 = 4;

/// What is promised of results that are not on disk yet.
const AGE_MAX: Duration = Duration::from_millis(100);

/// What is asked of the oldest ones, on a machine that may have other work: far less than a sync
/// takes.
const AGE_BUSY: Duration = Duration::from_millis(1000);

/// Compiles what makes syncs slow. A linker is there where cargo is.
fn slow_disk(folder: &Folder) -> PathBuf {
    let library = folder.path().join("slow_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/slow_disk.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .expect("cc compiles the library for this test: install a C compiler");
    assert!(output.status.success(), "{output:?}");
    library
}

/// The folder of the only run.
fn run_folder(site: &Site) -> Option<PathBuf> {
    let spool = Path::new(&site.data_dir()).join("spool");
    let mut entries = fs::read_dir(spool).ok()?;
    Some(entries.next()?.ok()?.path())
}

/// When the last result that is on disk came, wall clock nanoseconds; `None` while there is none
/// in the newest segment, or when that changes its name just now.
fn newest_ns(folder: &Path) -> Option<i64> {
    let names = fs::read_dir(folder).ok()?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = names.filter(|name| name.ends_with(".open")).max()?;
    let bytes = fs::read(folder.join(newest)).ok()?;
    let (mut at, mut until_ns) = (HEADER_SIZE, None);
    while let Some((header, markers)) = bytes.get(at..).and_then(FrameHeader::parse) {
        at += FRAME_SIZE + markers.len() * MARKER_SIZE + header.body as usize;
        if at <= bytes.len() {
            until_ns = Some(header.until_ns);
        }
    }
    until_ns
}

/// How old what is not on disk is at most: as old as the last that is.
fn age(folder: &Path) -> Option<Duration> {
    let newest_ns = newest_ns(folder)?;
    let now = UNIX_EPOCH.elapsed().unwrap();
    Some(now.saturating_sub(Duration::from_nanos(newest_ns.cast_unsigned())))
}

/// Looks again and again while syncs go on; gives the ages, youngest first.
fn ages(running: &mut Pinger, folder: &Path, syncs: impl Fn() -> u64) -> Vec<Duration> {
    let (goal, began) = (syncs() + SYNCS, Instant::now());
    let mut ages = Vec::new();
    while syncs() < goal {
        assert!(began.elapsed() < PATIENCE, "the spool does not sync");
        running.assert_runs();
        ages.extend(age(folder));
        std::thread::sleep(Duration::from_millis(10));
    }
    ages.sort_unstable();
    ages
}

#[test]
fn a_slow_disk_keeps_nothing_in_memory_for_long() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let log = site.folder.path().join("syncs");
    let mut command = site.lab.prober().command("env");
    command
        .arg(format!("LD_PRELOAD={}", slow_disk(&site.folder).display()))
        .arg(format!("SLOW_DISK_LOG={}", log.display()))
        .arg(program())
        .args(["run", "--data-dir", &site.data_dir()])
        .args("--format json --interval 5ms --timeout 200ms 198.18.0.1".split(' '));
    let mut running = Pinger::start(command);
    let mut folder = None;
    until("results are on disk", || {
        running.assert_runs();
        folder = run_folder(&site);
        folder.as_deref().and_then(newest_ns).is_some()
    });
    let folder = folder.unwrap();
    let syncs = || fs::metadata(&log).map_or(0, |file| file.len());
    let ages = ages(&mut running, &folder, syncs);

    let [usual, busy] = [ages[ages.len() * 9 / 10], ages[ages.len() - 1]];
    println!(
        "{} looks during {SYNCS} syncs of 2 s: nine in ten {usual:?} at most, all {busy:?}",
        ages.len()
    );
    assert!(usual <= AGE_MAX, "{usual:?}");
    assert!(busy <= AGE_BUSY, "{busy:?}");

    running.signal(libc::SIGKILL);
    drop(running);
    until("the XDP program is gone", || !site.has_xdp());
    let next = site.start_stored("--format json --count 5 --interval 20ms 198.18.0.1");
    next.end().report();
    // From the last result on disk to the last that was made.
    let gap = site.sql(
        "SELECT toUnixTimestamp64Nano(until) - toUnixTimestamp64Nano(`from`) FROM gaps \
         WHERE reason = 'crash'",
    );
    let gap = Duration::from_nanos(gap.trim_end().parse().expect("one gap"));
    println!("the crash took {gap:?}");
    assert!(gap <= AGE_BUSY, "{gap:?}");
}
