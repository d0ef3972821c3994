//! A host that pings while the program probes is not disturbed, and sees nothing of the program.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use xtask::lab::{Lab, Shape};

use crate::harness::{Site, alone};
use crate::host::{EchoReply, RawSocket};

/// Longer than any answer in a lab takes.
const WAIT: Duration = Duration::from_secs(2);

/// Outside of what the program uses: its identifiers begin with the four bits of its source id.
const IDENTIFIER: u16 = 0xf00d;

/// Pings hosts one after the other until told to stop. Gives how many requests were sent, what
/// answers came to them, and what else the stack saw.
fn ping(
    lab: &Lab,
    hosts: &[IpAddr],
    stop: &AtomicBool,
) -> (u64, HashSet<EchoReply>, Vec<EchoReply>) {
    lab.prober()
        .enter(|| {
            let socket = RawSocket::open(hosts[0].is_ipv4(), WAIT);
            let (mut sent, mut own, mut others) = (0_u16, HashSet::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) && sent < u16::MAX {
                socket.request(hosts[usize::from(sent) % hosts.len()], IDENTIFIER, sent);
                let asked = EchoReply {
                    identifier: IDENTIFIER,
                    sequence: sent,
                };
                sent += 1;
                let deadline = Instant::now() + WAIT;
                while Instant::now() < deadline {
                    let Some(reply) = socket.reply() else { break };
                    if reply.identifier == IDENTIFIER {
                        own.insert(reply);
                    } else {
                        others.push(reply);
                    }
                    if reply == asked {
                        break;
                    }
                }
            }
            (u64::from(sent), own, others)
        })
        .unwrap()
}

/// Pings beside a run. Nothing of either reaches the other, and what is not answered is what the
/// hosts could not answer.
fn beside(hosts: &[&str], how: &str) {
    let site = Site::new(Shape::default());
    let addresses: Vec<IpAddr> = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let running = site.start(&format!(
        "run --store none --format json --duration 2s --timeout 3s --source-id 1 {how} {}",
        hosts.join(" ")
    ));
    let stop = AtomicBool::new(false);
    let (report, (sent, own, others)) = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping(&site.lab, &addresses, &stop));
        let ended = running.end();
        stop.store(true, Ordering::Relaxed);
        (ended.report(), pinging.join().unwrap())
    });
    assert!(sent > 100, "only {sent} pings in two seconds");
    assert_eq!(
        others,
        [],
        "replies to the program reached the host's stack"
    );
    assert!(report.count("reply") > 100, "{}", report.0);
    report.assert_counts(&["late", "duplicate", "mismatch", "forged"].map(|name| (name, 0)));
    let (unheard, lost) = (sent - own.len() as u64, report.count("lost"));
    let unanswered = site.unanswered();
    assert_eq!(unheard + lost, unanswered, "{sent} pings; {}", report.0);
}

#[test]
fn a_flood_takes_no_reply_of_the_hosts_own_ping() {
    let _turn = alone();
    beside(&["198.18.0.1", "198.18.0.2"], "--flood");
    beside(&["2001:2:0:1::1", "2001:2:0:1::2"], "--flood");
}

#[test]
fn steady_probes_take_no_reply_of_the_hosts_own_ping() {
    let _turn = alone();
    beside(&["198.18.0.1", "198.18.0.2"], "--interval 1ms");
}
