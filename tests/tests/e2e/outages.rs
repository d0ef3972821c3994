//! A link that goes and comes back: what was lost is told, and nothing else.

use std::time::Duration;

use xtask::lab::Shape;

use crate::harness::{Ended, Pinger, Site, alone};
use crate::rows::{self, Row};

const TIMEOUT: Duration = Duration::from_millis(500);

/// The figures that begin with these words in a line of the plain format, summed.
fn figures(line: &str, names: &[&str]) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| names.contains(&pair[0]))
        .filter_map(|pair| pair[1].parse::<u64>().ok())
        .sum()
}

const MISSES: [&str; 3] = ["lost", "error", "send_failed"];

/// Waits until the run has so many more of these than now.
fn more(running: &mut Pinger, names: &[&str], by: u64) {
    let is_figures = |line: &str| line.contains("  rate ");
    let line = running.line("figures", is_figures);
    let goal = figures(&line, names) + by;
    running.line(&format!("{goal} {names:?}"), |line| {
        is_figures(line) && figures(line, names) >= goal
    });
}

impl Site {
    /// Sets what the kernel has removed with the interface that it went through.
    fn restore_routes(&self) {
        let commands = [
            "route replace 198.18.0.0/16 via 198.19.0.2 dev pinger0",
            "neighbour replace 198.19.0.2 lladdr 02:70:69:6e:00:02 dev pinger0 nud permanent",
        ];
        self.lab.prober().ip(&commands).unwrap();
    }
}

/// Takes something away until so many probes are missed, and gives it back until so many more are
/// answered.
fn take_away(
    site: &Site,
    running: &mut Pinger,
    set: impl Fn(&Site, bool),
    [missed, answered]: [u64; 2],
) {
    set(site, false);
    more(running, &MISSES, missed);
    set(site, true);
    more(running, &["reply"], answered);
}

fn end_well(site: &Site, running: Pinger) -> Ended {
    running.signal(libc::SIGINT);
    let ended = running.end();
    assert!(ended.status.success(), "{}\n{}", ended.out, ended.err);
    site.assert_clean();
    ended
}

/// Takes something away in the middle of a run and gives it back.
fn interrupt(hosts: &str, set: impl Fn(&Site, bool)) {
    let site = Site::new(Shape::default());
    let mut running = site.start_stored(&format!(
        "-i pinger0 --format plain --interval 10ms --timeout {}ms {hosts}",
        TIMEOUT.as_millis()
    ));
    more(&mut running, &["reply"], 100);
    take_away(&site, &mut running, &set, [100, 100]);
    let ended = end_well(&site, running);
    let skipped = ended
        .out
        .lines()
        .map(|line| figures(line, &["skipped"]))
        .max();
    check(&rows::all(&site), skipped.unwrap_or(0));
    // Every view tells the same sum.
    let runs = site.sql("SELECT sent - reply - error - lost - send_failed FROM runs FINAL");
    assert_eq!(runs.trim_end(), "0");
    let outages = site.sql("SELECT count() FROM outages WHERE ongoing");
    assert_eq!(outages.trim_end(), "0", "an outage that is over goes on");
}

fn check(rows: &[Row], skipped: u64) {
    rows::assert_whole(rows, skipped);
    rows.iter().for_each(rows::assert_sound);
    let missed =
        rows::count(rows, "lost") + rows::count(rows, "error") + rows::count(rows, "send_failed");
    assert!(missed >= 100, "{missed}");
    let answered = rows.iter().filter(|row| row.outcome == "reply");
    for row in answered {
        // An answer that comes when its probe has been given up is no reply.
        let in_time = row
            .rtt
            .is_some_and(|rtt| u128::from(rtt) <= TIMEOUT.as_nanos() * 2);
        assert!(in_time && row.datamatch == Some(true), "{row:?}");
    }
    for destination in rows.chunk_by(|a, b| a.destination == b.destination) {
        let ends = [destination.first(), destination.last()];
        for end in ends {
            assert_eq!(end.unwrap().outcome, "reply", "{end:?}");
        }
    }
}

#[test]
fn a_cable_pulled_for_a_while() {
    let _turn = alone();
    interrupt("198.18.0.1 2001:2:0:1::1", |site, up| {
        site.lab.set_carrier(up).unwrap();
        if up {
            // The hosts' end has lost its IPv6 address with the link.
            let address = "address replace 2001:2::2/126 dev far nodad";
            site.lab.neighbour().ip(&[address]).unwrap();
        }
    });
}

#[test]
fn an_interface_set_down_for_a_while() {
    let _turn = alone();
    interrupt("198.18.0.1", |site, up| {
        site.lab.set_interface(up).unwrap();
        if up {
            site.restore_routes();
        }
    });
}

fn flood_meets(what: &str, set: impl Fn(&Site, bool)) {
    let site = Site::new(Shape::default());
    let mut running =
        site.start("run --store none --format plain --timeout 200ms --flood 198.18.0.1");
    more(&mut running, &["reply"], 1000);
    take_away(&site, &mut running, &set, [5, 20_000]);
    let ended = end_well(&site, running);
    let last = ended.out.lines().rfind(|line| line.contains("  rate "));
    let last = last.unwrap();
    let ends = ["reply", "lost", "error", "send_failed", "flight"];
    assert_eq!(figures(last, &["sent"]), figures(last, &ends), "{last}");
    // What was not sent is never answered.
    assert_eq!(figures(last, &["late"]), 0, "{what}: {last}");
}

#[test]
fn a_flood_outlives_its_interface() {
    let _turn = alone();
    flood_meets("an interface set down", |site, up| {
        site.lab.set_interface(up).unwrap();
        if up {
            site.restore_routes();
        }
    });
}

#[test]
fn a_flood_outlives_its_cable() {
    let _turn = alone();
    flood_meets("a cable pulled", |site, up| {
        site.lab.set_carrier(up).unwrap();
    });
}

#[test]
fn a_network_that_swallows_everything_for_a_while() {
    let _turn = alone();
    interrupt("198.18.0.1 2001:2:0:1::1", |site, up| {
        let verb = if up { "delete" } else { "add" };
        let swallow = |prefix: &str| format!("route {verb} blackhole {prefix}");
        site.lab
            .hosts()
            .ip(&[swallow("198.18.0.1/32"), swallow("2001:2:0:1::1/128")])
            .unwrap();
    });
}
