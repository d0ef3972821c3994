//! However a run ends, nothing of it stays but its rows.

use std::path::Path;
use std::time::{Duration, Instant};

use pinger::wire::tally::{Tallied, Tally};
use xtask::lab::Shape;

use crate::harness::{Pinger, Site, alone, until};
use crate::rows;

/// A host that answers, and one that nobody hears of.
const HOSTS: &str = "198.18.0.1 198.18.9.1";

/// To both, so slowly that a CPU that stands still for some time makes no probe an interval late:
/// such a one is skipped.
const UNHURRIED: &str = "--interval 200ms --timeout 200ms 198.18.0.1 198.18.9.1";

/// A lab where 198.18.9.0/24 is a black hole.
fn site() -> Site {
    let site = Site::new(Shape::default());
    site.lab
        .hosts()
        .ip(&["route add blackhole 198.18.9.0/24"])
        .unwrap();
    site
}

/// Waits until the store, asked while the run goes on, has rows.
fn until_rows(site: &Site, running: &mut Pinger) -> u64 {
    let endpoint = Path::new(&site.data_dir()).join("endpoint.json");
    // Asked any earlier, `pinger sql` would take the directory for itself.
    until("the run shares its store", || {
        running.assert_runs();
        endpoint.exists()
    });
    let mut rows = 0;
    until("the running store has rows", || {
        running.assert_runs();
        rows = site
            .sql("SELECT count() FROM results")
            .trim_end()
            .parse()
            .unwrap();
        rows > 0
    });
    rows
}

/// The figure behind a word in a line of the plain format.
fn figure(line: &str, name: &str) -> u64 {
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    words.nth(1).and_then(|word| word.parse().ok()).unwrap()
}

fn is_figures(line: &str) -> bool {
    line.contains("  rate ")
}

fn ends_well(signal: libc::c_int) {
    let site = site();
    let mut running = site.start_stored(&format!(
        "--format json --interval 50ms --timeout 1500ms {HOSTS}"
    ));
    until_rows(&site, &mut running);
    assert!(site.has_xdp());
    running.signal(signal);
    let started = Instant::now();
    let report = running.end().report();
    // The last probe into the black hole was at most an interval old.
    assert!(started.elapsed() > Duration::from_millis(1000));
    report.assert_counts(&[("in_flight", 0), ("error", 0), ("send_failed", 0)]);
    // Both hosts have got as many probes, but for the one between two turns.
    let (reply, lost) = (report.count("reply"), report.count("lost"));
    assert!(
        lost > 0 && (lost..=lost + 1).contains(&reply),
        "{}",
        report.0
    );
    site.assert_clean();
    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    rows::assert_whole(&rows, report.count("skipped"));
    let ended = site.sql("SELECT count() FROM runs FINAL WHERE ended IS NOT NULL");
    assert_eq!(ended.trim_end(), "1");
}

#[test]
fn ctrl_c_awaits_what_is_in_flight_and_stores_it() {
    let _turn = alone();
    ends_well(libc::SIGINT);
}

#[test]
fn sigterm_does_as_ctrl_c_does() {
    let _turn = alone();
    ends_well(libc::SIGTERM);
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_still_detaches() {
    let _turn = alone();
    let site = site();
    let mut running = site.start_stored(&format!(
        "--format plain --interval 10ms --timeout 5m {HOSTS}"
    ));
    running.line("a probe is in flight that nobody answers", |line| {
        is_figures(line) && figure(line, "flight") > 0
    });
    running.signal(libc::SIGINT);
    // It is heard when no more probes leave.
    let mut sent = 0;
    loop {
        let now = figure(&running.line("a line of figures", is_figures), "sent");
        if now == sent {
            break;
        }
        sent = now;
    }
    running.signal(libc::SIGINT);
    let started = Instant::now();
    let ended = running.end();
    assert_eq!(
        ended.status.code(),
        Some(130),
        "{}\n{}",
        ended.out,
        ended.err
    );
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?} is not at once",
        started.elapsed()
    );
    site.assert_clean();
    // Nobody waits for the gap to be sent, and the user hears of it.
    assert!(ended.err.contains("1 gap wait"), "{}", ended.err);
    assert_accounted(&site);
}

/// All probes that the first run sent end in a row, or in its one gap. What it had no time to send
/// is sent by the next one.
fn assert_accounted(site: &Site) {
    let mut next = site.start_stored("--format json --interval 20ms --timeout 200ms 198.18.0.1");
    until_rows(site, &mut next);
    let ask = |what: &str, of: &str| {
        let first = "SELECT min(run) FROM runs";
        let answer = site.sql(&format!("SELECT {what} FROM {of} AND run = ({first})"));
        answer.trim_end().to_owned()
    };
    let ended = "runs FINAL WHERE ended IS NOT NULL";
    until("the next run sends what the first one left", || {
        next.assert_runs();
        ask("count()", ended) == "1" && ask("count()", "gaps WHERE true") != "0"
    });
    next.signal(libc::SIGINT);
    next.end().report();
    let gaps = ask("reason, probes > 0, probes = rows", "gaps WHERE true");
    assert_eq!(gaps, "interrupted\t1\t1");
    let number = |what: &str, of: &str| ask(what, of).parse::<u64>().unwrap();
    let ends = "results WHERE outcome IN ('reply', 'error', 'lost', 'send_failed')";
    assert_eq!(
        number("count()", ends) + number("sum(probes)", "gaps WHERE true"),
        number("sent", ended)
    );
}

fn wall_ns() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// The tallies of runs of source 0 that began since then, wall clock nanoseconds.
fn tallies_since(began: u64) -> Vec<(u64, Tallied)> {
    let runs = Tally::all().into_iter();
    runs.filter(|(source, run)| *source == 0 && *run >= began)
        .filter_map(|(source, run)| Some((run, Tally::read(source, run)?)))
        .collect()
}

/// Kills a run that cannot do anything about it.
fn kill(site: &Site, running: Pinger) {
    running.signal(libc::SIGKILL);
    drop(running);
    until("the XDP program is gone", || !site.has_xdp());
}

#[test]
fn a_killed_run_leaves_nothing_and_the_next_sees_its_rows() {
    let _turn = alone();
    let site = site();
    let arguments = format!("--format json --interval 20ms --timeout 200ms {HOSTS}");
    let began = wall_ns();
    let mut running = site.start_stored(&arguments);
    let before = until_rows(&site, &mut running);
    let engine = || crate::harness::processes_with(&site.data_dir());
    assert!(engine().len() > 1, "the engine is a process of its own");
    kill(&site, running);
    let tallies = tallies_since(began);
    let [(run, tallied)] = tallies[..] else {
        panic!("one killed run, but {tallies:?}");
    };
    // Two rows each 20 ms, of which the last are not in the store yet.
    assert!(tallied.sent >= before, "{tallied:?}, {before} rows");
    // The endpoint stays, but leads nowhere; the next run clears it.
    assert!(Path::new(&site.data_dir()).join("endpoint.json").exists());
    until("the engine has ended with the run", || engine().is_empty());

    let next = site.start_stored(&format!("--format json --count 5 {UNHURRIED}"));
    let report = next.end().report();
    report.assert_counts(&[
        ("sent", 10),
        ("reply", 5),
        ("lost", 5),
        ("rows.written", 10),
    ]);
    site.assert_clean();
    let rows = rows::all(&site);
    let runs: Vec<u64> = {
        let mut runs: Vec<u64> = rows.iter().map(|row| row.run).collect();
        runs.dedup();
        runs
    };
    assert_eq!(runs.len(), 2, "rows of both runs");
    assert_eq!(runs[0], run, "the tally is of the killed run");
    assert_eq!(
        Tally::read(0, runs[1]),
        None,
        "that of a whole run goes with it"
    );
    let (killed, whole): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.run == runs[0]);
    assert!(
        killed.len() as u64 >= before,
        "{} of {before}",
        killed.len()
    );
    rows::assert_agree(&whole, &report);
    let killed = site.sql("SELECT count() FROM runs FINAL WHERE ended IS NULL");
    assert_eq!(killed.trim_end(), "1", "a killed run has no end");
    Tally::remove(0, run);
}

#[test]
fn a_run_can_follow_a_killed_one_at_once() {
    let _turn = alone();
    let site = site();
    let arguments = format!("--format json --interval 20ms --timeout 200ms {HOSTS}");
    for _ in 0..2 {
        let mut running = site.start_stored(&arguments);
        until("it probes", || {
            running.assert_runs();
            site.has_xdp()
        });
        running.signal(libc::SIGKILL);
        drop(running);
    }
    let next = site.start_stored(&format!("--format json --count 5 {UNHURRIED}"));
    let report = next.end().report();
    report.assert_counts(&[("sent", 10), ("reply", 5), ("rows.written", 10)]);
    site.assert_clean();
}

#[test]
fn a_reader_that_goes_away_ends_the_run_well() {
    let _turn = alone();
    let site = site();
    let program = crate::harness::program();
    let mut shell = site.lab.prober().command("sh");
    shell.arg("-c").arg(format!(
        "{{ {} run --store none --format plain --interval 10ms --timeout 100ms 198.18.0.1; \
         echo $? >&2; }} | head -n 2",
        program.display()
    ));
    let ended = Pinger::start(shell).end();
    assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
    assert_eq!(ended.err.lines().last(), Some("0"), "{}", ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    assert!(!site.has_xdp());
}
