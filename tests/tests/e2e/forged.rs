//! Nobody can fool the program: what is not the answer to a probe in flight never counts, and is
//! counted as what it is.

use std::time::Duration;

use xtask::lab::Shape;

use crate::harness::{Site, alone};
use crate::responder::{Forgery, Responder, What};

/// One destination for each protocol.
const ALL: &str = "icmp://198.18.0.1 udp://198.18.0.1:7 tcp://198.18.0.1:80 \
    icmp://[2001:2:0:1::1] udp://[2001:2:0:1::1]:7 tcp://[2001:2:0:1::1]:80";
const DESTINATIONS: u64 = 6;
const PROBES: u64 = 5;
const HOW: &str = "--count 5 --interval 200ms --timeout 400ms";

#[test]
fn forgeries_of_every_kind_are_no_answers() {
    let _turn = alone();
    for forgery in Forgery::ALL {
        let site = Site::new(Shape::default());
        let act = What::Forged(forgery).now();
        let _responder = Responder::start(&site.lab, move |_, _| vec![act; 2]);
        let report = site.report(&format!("{HOW} {ALL}"));
        let sent = DESTINATIONS * PROBES;
        let forged = if forgery.is_counted() { 2 * sent } else { 0 };
        println!("{forgery:?}: {}", report.0);
        report.assert_counts(&[("sent", sent), ("lost", sent), ("forged", forged)]);
        report.assert_counts(&["reply", "error", "late", "duplicate"].map(|name| (name, 0)));
    }
}

#[test]
fn a_forgery_before_the_answer_does_not_keep_it_from_counting() {
    let _turn = alone();
    for forgery in Forgery::ALL {
        let site = Site::new(Shape::default());
        let acts = [
            What::Forged(forgery).now(),
            What::Honest.after(Duration::from_millis(20)),
        ];
        let _responder = Responder::start(&site.lab, move |_, _| acts.to_vec());
        let report = site.report(&format!("{HOW} {ALL}"));
        let sent = DESTINATIONS * PROBES;
        report.assert_counts(&[
            ("sent", sent),
            ("reply", sent),
            ("lost", 0),
            ("duplicate", 0),
        ]);
    }
}

#[test]
fn answers_replayed_later_are_duplicates_and_stale_ones_late() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    // Four slots of 200 ms: after 300 ms the slot is still the probe's, after 1.1 s another's.
    let acts = [
        What::Honest.now(),
        What::Honest.after(Duration::from_millis(300)),
        What::Honest.after(Duration::from_millis(1100)),
    ];
    let _responder = Responder::start(&site.lab, move |probe, _| {
        let keeps_open = probe.host == std::net::IpAddr::from([198, 18, 0, 250]);
        if keeps_open {
            Vec::new()
        } else {
            acts.to_vec()
        }
    });
    let all: Vec<String> = ALL
        .split_whitespace()
        .map(|word| format!("{word:?}"))
        .collect();
    let config = format!(
        "count = {PROBES}\ninterval = \"200ms\"\ntimeout = \"400ms\"\ndestinations = [{}]\n\
         [[destination]]\nhost = \"198.18.0.250\"\ntimeout = \"5s\"\n",
        all.join(", ")
    );
    let config = site.folder.file("pinger.toml", &config);
    let report = site.report(&format!("--config {config}"));
    let sent = DESTINATIONS * PROBES;
    println!("{}", report.0);
    report.assert_counts(&[("reply", sent), ("error", 0), ("forged", 0)]);
    let further = report.count("duplicate") + report.count("late");
    assert_eq!(further, 2 * sent, "{}", report.0);
    assert!(report.count("duplicate") >= sent, "{}", report.0);
}

#[test]
fn errors_about_what_was_never_sent_reach_the_host() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let act = What::Forged(Forgery::Quote).now();
    let _responder = Responder::start(&site.lab, move |_, _| vec![act]);
    let before = errors_seen(&site);
    let report = site.report(&format!("{HOW} icmp://198.18.0.1 udp://198.18.0.1:7"));
    report.assert_counts(&[("error", 0), ("forged", 2 * PROBES)]);
    assert_eq!(
        errors_seen(&site) - before,
        2 * PROBES,
        "the kernel has them"
    );
}

/// ICMP messages that say "destination unreachable", as the prober's kernel counted them.
fn errors_seen(site: &Site) -> u64 {
    let prober = site.lab.prober();
    prober.counters(["IcmpInDestUnreachs"]).unwrap()[0]
}
