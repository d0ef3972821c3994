//! What people and programs read: lines, totals, the kernel program's log.

use xtask::lab::Shape;

use crate::harness::{Site, alone};

#[test]
fn ping_shows_a_line_for_each_reply_and_a_summary() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let ended = site.run("ping -c 3 --interval 100ms --timeout 3s 198.18.0.1 2001:2:0:1::1");
    assert!(ended.status.success(), "{}", ended.err);
    for host in ["198.18.0.1", "2001:2:0:1::1"] {
        for sequence in 0..3 {
            let line = format!("64 bytes from {host}: icmp_seq={sequence} ttl=64 time=");
            let times: Vec<&str> = ended
                .out
                .lines()
                .filter_map(|found| found.strip_prefix(&line)?.strip_suffix(" ms"))
                .collect();
            let [time] = times[..] else {
                panic!("{line} in:\n{}", ended.out)
            };
            // Some microseconds, unless a CPU stands still meanwhile.
            assert!(time.parse::<f64>().is_ok_and(|ms| ms > 0.0), "{time}");
        }
        assert!(
            ended.out.contains(&format!("--- {host} ---")),
            "{}",
            ended.out
        );
    }
    let totals = ended
        .out
        .matches("3 probes sent, 3 replies, 0% loss")
        .count();
    assert_eq!(totals, 2, "{}", ended.out);
    assert!(
        ended.out.contains("rtt min/p50/p99/max = "),
        "{}",
        ended.out
    );
}

#[test]
fn ping_fails_and_says_so_when_nobody_answers() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    site.lab
        .hosts()
        .ip(&["route add blackhole 198.18.9.0/24"])
        .unwrap();
    let ended = site.run("ping -c 2 --interval 100ms --timeout 200ms 198.18.9.1");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    for sequence in 0..2 {
        let line = format!("no answer from 198.18.9.1: icmp_seq={sequence} after 200 ms");
        assert!(ended.out.contains(&line), "{line} in:\n{}", ended.out);
    }
    assert!(
        ended.out.contains("2 probes sent, 0 replies, 100% loss"),
        "{}",
        ended.out
    );
}

#[test]
fn plain_shows_a_line_a_second_and_a_summary() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let ended = site.run(
        "run --store none --format plain --duration 3s --interval 100ms --timeout 3s 198.18.0.1",
    );
    assert!(ended.status.success(), "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(
        lines[0].contains("through pinger0 (native XDP)"),
        "{}",
        lines[0]
    );
    let moving: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains("  rate "))
        .collect();
    assert!((3..=5).contains(&moving.len()), "{}", ended.out);
    assert!(ended.out.contains("30 sent"), "{}", ended.out);
}

#[test]
fn count_sends_exactly_so_many_to_each() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let report =
        site.report("--count 7 --interval 200ms --timeout 3s 198.18.0.1-198.18.0.10 2001:2:0:1::1");
    report.assert_counts(&[("sent", 77), ("reply", 77), ("skipped", 0)]);
    // What ends first decides.
    let report = site.report("--count 1000 --duration 1s --interval 100ms --timeout 3s 198.18.0.1");
    report.assert_counts(&[("sent", 10), ("reply", 10), ("skipped", 0)]);
}

#[test]
fn the_kernel_program_logs_only_when_asked() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let how = "run --store none --format plain --count 20 --interval 200ms --timeout 3s 198.18.0.1";
    let quiet = site.run(how);
    assert!(quiet.status.success(), "{}", quiet.err);
    assert!(!quiet.err.contains("kernel:"), "{}", quiet.err);
    let talking = site.run(&format!("{how} --kernel-log"));
    assert!(talking.status.success(), "{}", talking.err);
    let lines = talking.err.lines().filter(|line| line.contains("kernel:"));
    assert_eq!(lines.count(), 20, "{}", talking.err);
}

#[test]
fn every_size_of_payload_comes_back_whole() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    for size in [0, 1, 7, 8, 9, 56, 1400, 1452] {
        let report = site.report(&format!(
            "--count 3 --interval 200ms --timeout 3s --size {size} 198.18.0.1 2001:2:0:1::1"
        ));
        report.assert_counts(&[("sent", 6), ("reply", 6), ("mismatch", 0), ("forged", 0)]);
    }
}
