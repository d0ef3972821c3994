//! Two pingers with one data directory: what the one leaves when it is killed, the other takes
//! over while it goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use xtask::lab::Shape;

use crate::harness::{PATIENCE, Pinger, Site, alone, until};

/// A server that is away, so that all that is made stays in the spool.
const STORE: &str = "http://127.0.0.1:9/pinger";

/// Starts one that shares this data directory; gives it with the folder of its run, when that has
/// something in it.
fn start(site: &Site, data_dir: &str) -> (Pinger, PathBuf) {
    let folders = || -> Vec<PathBuf> {
        let spool = fs::read_dir(Path::new(data_dir).join("spool"));
        let entries = spool.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let before = folders();
    let mut running = site.start(&format!(
        "run --store {STORE} --data-dir {data_dir} --format json --interval 20ms 198.18.0.1"
    ));
    let mut folder = None;
    until("a segment is whole", || {
        running.assert_runs();
        folder = folders().into_iter().find(|path| !before.contains(path));
        let folder = folder.as_ref().and_then(|path| fs::read_dir(path).ok());
        let mut names = folder.into_iter().flatten().flatten();
        names.any(|entry| entry.path().extension().is_some_and(|is| is == "seg"))
    });
    (running, folder.unwrap())
}

#[test]
fn a_living_pinger_takes_over_what_a_killed_one_left() {
    let _turn = alone();
    let [one, two] = [Site::new(Shape::default()), Site::new(Shape::default())];
    let data_dir = one.data_dir();
    let (mut living, _) = start(&two, &data_dir);
    let (killed, folder) = start(&one, &data_dir);
    killed.signal(libc::SIGKILL);
    drop(killed);
    assert!(!folder.join("ended").exists());
    // It looks once a minute.
    let began = Instant::now();
    while !folder.join("ended").exists() {
        assert!(began.elapsed() < 2 * PATIENCE, "nobody took it over");
        living.assert_runs();
        std::thread::sleep(PATIENCE / 100);
    }
    living.signal(libc::SIGINT);
    let ended = living.end();
    assert!(ended.err.contains("ended without warning"), "{}", ended.err);
}
