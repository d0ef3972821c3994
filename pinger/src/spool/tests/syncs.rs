//! What is synced, and when: the promise that a user chooses, which no content of files shows.

use std::rc::Rc;

use super::bad_disk::Bad;
use super::*;

/// Two chunks in one segment, which is sealed and sent. What the disk was asked to make safe until
/// then, in order, with the renames that must not come before it.
fn asked_of_the_disk(sync: SyncPolicy) -> Vec<Vec<String>> {
    let files = MemoryDisk::new();
    let filler = Bad::new(files.same());
    let disk = Bad::new(files);
    for each in [&disk, &filler] {
        each.room_bytes.set(u64::MAX);
    }
    let asked = Rc::clone(&disk.asked);
    let asked_by_filler = Rc::clone(&filler.asked);
    let mut spool = Pair::new(disk, filler, Options { sync, ..options() });
    let mut steps = vec![asked.take()];
    for _ in 0..2 {
        spool.put(at(1), chunk(at(1), 5, 100));
        steps.push(asked.take());
    }
    spool.seal(at(1));
    steps.push(asked.take());
    let job = spool.next(at(1)).expect("a job");
    steps.push(asked.take());
    spool.done(at(1), job, End::Written);
    asked.take();
    spool.end(at(2)).expect("memory does not fail");
    steps.push(asked.take());
    // Filling waits for nothing.
    assert!(asked_by_filler.take().is_empty());
    steps
}

#[test]
fn as_much_is_synced_as_the_user_chose() {
    let made_whole = ["sync 00000001.open", "rename 00000001.seg"];
    let sent = ["rename 00000001.try", "sync folder"];
    let ended = ["sync folder", "sync ended"];
    let none: [&str; 0] = [];
    // When the folder is made, with each chunk, when a segment is sealed, before it is sent, at
    // the end.
    let batch = [
        &["sync store"][..],
        &none,
        &none,
        &made_whole,
        &sent,
        &ended,
    ];
    assert_eq!(asked_of_the_disk(SyncPolicy::Batch), batch);

    let mut chunk = batch;
    chunk[1..3].fill(&["sync 00000001.open"]);
    assert_eq!(asked_of_the_disk(SyncPolicy::Chunk), chunk);

    let never = [
        &none[..],
        &none,
        &none,
        &["rename 00000001.seg"],
        &["rename 00000001.try"],
        &none,
    ];
    assert_eq!(asked_of_the_disk(SyncPolicy::Never), never);
}
