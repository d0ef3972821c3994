//! TCP probes leave nothing behind: no queue at the listener, no answer of the host's kernel, and
//! no port that the host could need.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xtask::lab::{Namespace, Shape};

use crate::harness::{Site, alone, until};
use crate::responder::{By, Responder, What};

/// A twentieth of a second's SYNs: what may be half open while a busy machine keeps the prober
/// from its CPU. The listener's queue holds 4,096.
const HALF_OPEN_MAX: usize = 500;
/// How often the listener's queue is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Connections of a namespace in the state `TCP_SYN_RECV` of the kernel's `tcp_states.h`.
fn half_open(namespace: &Namespace) -> usize {
    const SYN_RECV: &str = "03";
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|file| {
            let path = format!("/proc/thread-self/net/{file}");
            let read = || std::fs::read_to_string(path).unwrap();
            let text = namespace.enter(read).unwrap();
            let states = text
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(3));
            states
                .filter(|state| *state == SYN_RECV)
                .map(drop)
                .collect::<Vec<_>>()
        })
        .count()
}

/// Counters of the listeners' kernel that tell of a queue that was full.
const OVERFLOWS: [&str; 4] = [
    "TcpExtListenOverflows",
    "TcpExtListenDrops",
    "TcpExtTCPReqQFullDoCookies",
    "TcpExtTCPReqQFullDrop",
];

#[test]
fn ten_thousand_probes_a_second_leave_the_listeners_queue_empty() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let (prober, hosts) = (site.lab.prober(), site.lab.hosts());
    let seen = || {
        prober
            .counters(["TcpInSegs", "TcpOutRsts", "TcpOutSegs"])
            .unwrap()
    };
    let overflows = || hosts.counters(OVERFLOWS).unwrap();
    let closed = || hosts.counters(["TcpExtEmbryonicRsts"]).unwrap()[0];
    let before = (seen(), overflows(), closed());
    // 37 hosts, and the 63 of a block that are not its anycast address, each 10 ms.
    let running = site.start(
        "run --store none --format json --interval 10ms --duration 3s --timeout 2s \
         tcp://198.18.0.1-198.18.0.37:80 tcp://[2001:2:0:1::/122]:443",
    );
    let ending = AtomicBool::new(false);
    let (report, most) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !ending.load(Ordering::Relaxed) {
                most = most.max(half_open(hosts));
                std::thread::sleep(LOOK);
            }
            most
        });
        let ended = running.end();
        ending.store(true, Ordering::Relaxed);
        (ended.report(), looking.join().unwrap())
    });
    println!("at most {most} half open; {}", report.0);
    let replies = report.count("reply");
    assert!(replies > 20_000, "{}", report.0);
    report.assert_counts(&[("error", 0), ("late", 0), ("duplicate", 0), ("forged", 0)]);
    let (sent, lost) = (report.count("sent"), report.count("lost"));
    assert_eq!(replies + lost, sent, "{}", report.0);
    // Fewer, where the listener's kernel has said it again in time.
    assert!(lost <= site.unanswered(), "{}", report.0);
    assert!(most < HALF_OPEN_MAX, "{most} half open");
    assert_eq!(half_open(hosts), 0);
    let closed = closed() - before.2;
    assert!(
        (replies..=sent).contains(&closed),
        "each connection was closed by a RST, not {closed} of {sent}"
    );
    assert_eq!(overflows(), before.1, "{OVERFLOWS:?}");
    assert_eq!(seen(), before.0, "the prober's kernel saw or sent TCP");
    site.assert_clean();
}

#[test]
fn open_and_closed_ports_are_told_apart() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let ended = site.start_stored(
        "--format json --count 3 --interval 200ms --timeout 2s tcp://198.18.0.1:80 \
         tcp://198.18.0.1:81 tcp://[2001:2:0:1::1]:443 tcp://[2001:2:0:1::1]:444",
    );
    ended
        .end()
        .report()
        .assert_counts(&[("sent", 12), ("reply", 12)]);
    let told = site.sql(
        "SELECT d.port, r.answer, count() FROM results AS r JOIN (SELECT * FROM destinations \
         FINAL) AS d ON d.id = r.destination GROUP BY ALL ORDER BY ALL",
    );
    assert_eq!(
        told.trim_end(),
        "80\tsyn_ack\t3\n81\treset\t3\n443\tsyn_ack\t3\n444\treset\t3"
    );
}

#[test]
fn source_ports_are_reserved_for_the_run() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let responder = Responder::start(&site.lab, |_, _| vec![What::Honest.now()]);
    let mut running = site.start(
        "run --store none --format json --interval 100ms --duration 1h \
         tcp://198.18.0.1:80 udp://198.18.0.1:7",
    );
    let port = |by: By| {
        let log = responder.log();
        log.probes
            .iter()
            .find(|entry| entry.probe.by == by)
            .map(|entry| entry.probe.identifier)
    };
    until("probes of both protocols", || {
        port(By::Tcp).is_some() && port(By::Udp).is_some()
    });
    let (tcp, udp) = (port(By::Tcp).unwrap(), port(By::Udp).unwrap());
    let any = Ipv4Addr::UNSPECIFIED;
    let taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    let refused = || {
        let listener = TcpListener::bind((any, tcp)).is_err_and(taken);
        let socket = UdpSocket::bind((any, udp)).is_err_and(taken);
        (listener, socket)
    };
    let free = || {
        (
            TcpListener::bind((any, tcp)).is_ok(),
            UdpSocket::bind((any, udp)).is_ok(),
        )
    };
    assert_eq!(
        site.lab.prober().enter(refused).unwrap(),
        (true, true),
        "{tcp} and {udp}"
    );
    running.assert_runs();
    running.signal(libc::SIGTERM);
    running.end();
    assert_eq!(
        site.lab.prober().enter(free).unwrap(),
        (true, true),
        "free again"
    );
}

#[test]
fn the_hosts_own_connections_and_datagrams_are_undisturbed() {
    const ROUNDS: usize = 300;
    let _turn = alone();
    let site = Site::new(Shape::default());
    let running = site.start(
        "run --store none --format json --interval 1ms --duration 3s --timeout 2s \
         tcp://198.18.0.1:80 udp://198.18.0.1:7 tcp://[2001:2:0:1::1]:80 udp://[2001:2:0:1::1]:7",
    );
    let patience = Duration::from_secs(5);
    let talk = |host: &str| {
        let host: IpAddr = host.parse().unwrap();
        let any = if host.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.connect(SocketAddr::new(host, 7)).unwrap();
        for round in 0..ROUNDS {
            let to = SocketAddr::new(host, 80);
            let mut stream = TcpStream::connect_timeout(&to, patience).unwrap();
            stream.set_read_timeout(Some(patience)).unwrap();
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "closed by the host");
            let sent = round.to_be_bytes();
            socket.send(&sent).unwrap();
            let mut got = [0; 16];
            assert_eq!(socket.recv(&mut got).unwrap(), sent.len());
            assert_eq!(&got[..sent.len()], sent);
        }
    };
    let work = || {
        ["198.18.0.1", "2001:2:0:1::1"]
            .iter()
            .for_each(|host| talk(host));
    };
    site.lab.prober().enter(work).unwrap();
    let report = running.end().report();
    report.assert_counts(&["lost", "error", "duplicate", "forged"].map(|name| (name, 0)));
    assert!(report.count("reply") > 1000, "{}", report.0);
}
