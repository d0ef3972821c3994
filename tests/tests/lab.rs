//! The lab for real, as root: its hosts answer, its parts can be changed, and nothing is left.
//!
//! The machine's lab is tested in a sandbox with a network and a `/run` of its own, so these tests
//! can run beside a lab that somebody uses.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::FromRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use xtask::lab::{
    BLACK_HOLE, DEAD_ENDS, DeadEnd, ECHO_PORT, INTERFACE, Lab, Namespace, SECOND_INTERFACE, Shape,
    TCP_PORTS, direct_ipv4, direct_ipv6,
};

/// Longer than any answer in a lab takes, also on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where no answer is expected this much is waited for it in vain.
const SILENCE: Duration = Duration::from_millis(300);

/// One echo request from the calling thread's namespace; whether its answer came.
fn ping(host: IpAddr, ttl: u32, wait: Duration) -> bool {
    let (family, protocol, option) = match host {
        IpAddr::V4(_) => (
            libc::AF_INET,
            libc::IPPROTO_ICMP,
            (libc::IPPROTO_IP, libc::IP_TTL),
        ),
        IpAddr::V6(_) => (
            libc::AF_INET6,
            libc::IPPROTO_ICMPV6,
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        ),
    };
    // SAFETY: socket takes numbers only; setsockopt reads four bytes of a live number.
    let (socket, set) = unsafe {
        let socket = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol);
        let set = libc::setsockopt(socket, option.0, option.1, (&raw const ttl).cast(), 4);
        (socket, set)
    };
    assert!(
        socket >= 0 && set == 0,
        "no ICMP socket: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the descriptor is open and ours alone; a ping socket is used as UDP's is.
    let socket = unsafe { UdpSocket::from_raw_fd(socket) };
    socket.set_read_timeout(Some(wait)).unwrap();
    let request = if host.is_ipv4() { 8 } else { 128 };
    let reply = if host.is_ipv4() { 0 } else { 129 };
    if socket
        .connect((host, 0))
        .and_then(|()| socket.send(&[request, 0, 0, 0, 0, 0, 0, 7]))
        .is_err()
    {
        return false;
    }
    let mut answer = [0; 64];
    matches!(socket.recv(&mut answer), Ok(8..) if answer[0] == reply && answer[7] == 7)
}

/// Pings from the prober of a lab.
fn ping_from(lab: &Lab, host: impl Into<IpAddr>, ttl: u32, wait: Duration) -> bool {
    let host = host.into();
    // Who may open ping sockets is set for each namespace, and is nobody at first.
    let allowed = [("net/ipv4/ping_group_range".to_owned(), "0 0")];
    lab.prober().sysctl(&allowed).unwrap();
    lab.prober().enter(|| ping(host, ttl, wait)).unwrap()
}

#[track_caller]
fn answers(lab: &Lab, host: &str) {
    let host: IpAddr = host.parse().unwrap();
    assert!(ping_from(lab, host, 64, PATIENCE), "{host} does not answer");
}

/// What `ip` says in the prober's namespace.
fn ip(lab: &Lab, arguments: &str) -> String {
    let mut command = lab.prober().command("ip");
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_answers_for_every_host() {
    let lab = Lab::new(Shape::default()).unwrap();
    for host in ["198.18.0.1", "198.18.3.232", "198.18.255.254"] {
        answers(&lab, host);
    }
    for host in [
        "2001:2:0:1::1",
        "2001:2:0:1::3e8",
        "2001:2:0:1:ffff:ffff:ffff:ffff",
    ] {
        answers(&lab, host);
    }
    assert!(
        ip(&lab, "neighbour show dev pinger0")
            .matches("PERMANENT")
            .count()
            == 2
    );
}

#[test]
fn a_chain_of_gateways_takes_its_hops() {
    let lab = Lab::new(Shape {
        gateways: 2,
        ..Shape::default()
    })
    .unwrap();
    for host in ["198.18.0.1", "2001:2:0:1::1"] {
        let host: IpAddr = host.parse().unwrap();
        assert!(
            ping_from(&lab, host, 3, PATIENCE),
            "{host} is two gateways and a hop away"
        );
        assert!(
            !ping_from(&lab, host, 2, SILENCE),
            "{host} is nearer than it should be"
        );
    }
}

#[test]
fn direct_hosts_answer_for_themselves_and_may_change_their_mac() {
    let shape = Shape {
        static_neighbours: false,
        direct: true,
        ..Shape::default()
    };
    let lab = Lab::new(shape).unwrap();
    let hosts: [IpAddr; 4] = [
        direct_ipv4(2).into(),
        direct_ipv4(254).into(),
        direct_ipv6(2).into(),
        direct_ipv6(254).into(),
    ];
    let all_answer = |mac: &str| {
        for host in hosts {
            assert!(
                ping_from(&lab, host, 1, PATIENCE),
                "{host} does not answer directly"
            );
            let known = ip(&lab, &format!("neighbour show {host} dev {INTERFACE}"));
            assert!(known.contains(mac), "{host} was not learnt: {known}");
        }
    };
    all_answer("02:70:69:6e:00:02");
    let new = "02:70:69:6e:aa:aa";
    lab.set_neighbour_mac(new).unwrap();
    ip(&lab, &format!("neighbour flush dev {INTERFACE}"));
    all_answer(new);
    answers(&lab, "198.18.0.1");
}

#[test]
fn the_interface_and_its_carrier_go_down_and_up() {
    let lab = Lab::new(Shape::default()).unwrap();
    let state = || ip(&lab, &format!("-brief link show dev {INTERFACE}"));
    assert!(state().contains(" UP "), "{}", state());
    lab.set_carrier(false).unwrap();
    assert!(state().contains("NO-CARRIER"), "{}", state());
    lab.set_carrier(true).unwrap();
    assert!(state().contains(" UP "), "{}", state());
    lab.set_interface(false).unwrap();
    assert!(state().contains("DOWN"), "{}", state());
}

/// Hosts at both ends of both prefixes.
const HOSTS: [&str; 4] = [
    "198.18.0.1",
    "198.18.255.254",
    "2001:2:0:1::1",
    "2001:2:0:1:ffff:ffff:ffff:ffff",
];

/// An unbound datagram socket of the address's family, in the calling thread's namespace.
fn datagrams(host: IpAddr) -> UdpSocket {
    let any = if host.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn every_host_echoes_datagrams_of_any_size_from_the_address_that_was_asked() {
    let lab = Lab::new(Shape::default()).unwrap();
    let check = |host: &str, size: usize| {
        let to = SocketAddr::new(host.parse().unwrap(), ECHO_PORT);
        let socket = datagrams(to.ip());
        let sent: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
        socket.send_to(&sent, to).unwrap();
        let mut got = [0xa5; 2048];
        let (len, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((from, &got[..len]), (to, &sent[..]));
    };
    let work = || {
        for host in HOSTS {
            for size in [0, 1, 4, 56, 1400] {
                check(host, size);
            }
        }
    };
    lab.prober().enter(work).unwrap();
}

#[test]
fn open_ports_accept_and_all_others_are_closed() {
    let lab = Lab::new(Shape::default()).unwrap();
    let work = || {
        for host in HOSTS {
            let host: IpAddr = host.parse().unwrap();
            let connect = |port| TcpStream::connect_timeout(&SocketAddr::new(host, port), PATIENCE);
            for port in TCP_PORTS {
                let mut connection = connect(port).unwrap();
                assert_eq!(
                    connection.read(&mut [0; 8]).unwrap(),
                    0,
                    "it is closed at once"
                );
            }
            for port in [7, 81, 65535] {
                let error = connect(port).unwrap_err();
                assert_eq!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionRefused,
                    "{error}"
                );
            }
            let socket = datagrams(host);
            socket.connect((host, 9)).unwrap();
            socket.send(&[1]).unwrap();
            let error = socket.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{error}"
            );
        }
    };
    lab.prober().enter(work).unwrap();
}

#[test]
fn echo_keeps_up_and_errors_are_not_rationed() {
    /// Datagrams in flight at a time, well within what a socket's buffer holds.
    const BURST: usize = 64;
    const BURSTS: usize = 300;
    let lab = Lab::new(Shape::default()).unwrap();
    let echoed = |host: &str| {
        let to = SocketAddr::new(host.parse().unwrap(), ECHO_PORT);
        let socket = datagrams(to.ip());
        for burst in 0..BURSTS {
            for number in 0..BURST {
                socket.send_to(&[burst as u8, number as u8], to).unwrap();
            }
            for number in 0..BURST {
                let mut got = [0; 8];
                let (len, from) = socket.recv_from(&mut got).unwrap();
                assert_eq!((len, from), (2, to), "{number} of burst {burst}");
            }
        }
    };
    let refused = |host: &str| {
        let host: IpAddr = host.parse().unwrap();
        let socket = datagrams(host);
        socket.connect((host, 9)).unwrap();
        for number in 0..BURST * BURSTS / 4 {
            socket.send(&[0]).unwrap();
            let error = socket.recv(&mut [0; 8]).unwrap_err();
            let kind = error.kind();
            assert_eq!(
                kind,
                std::io::ErrorKind::ConnectionRefused,
                "{number}: {error}"
            );
        }
    };
    let work = || {
        for host in ["198.18.0.1", "2001:2:0:1::1"] {
            let started = Instant::now();
            echoed(host);
            println!(
                "{host}: {} echoes in {:?}",
                BURST * BURSTS,
                started.elapsed()
            );
            refused(host);
        }
    };
    lab.prober().enter(work).unwrap();
}

/// A raw socket that sees all ICMP messages to the calling thread's namespace.
fn icmp_socket(ipv4: bool) -> UdpSocket {
    let (family, protocol) = if ipv4 {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    } else {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    };
    // SAFETY: takes numbers only; the descriptor is then ours alone, and used to receive.
    let socket = unsafe {
        let socket = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        UdpSocket::from_raw_fd(socket)
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next ICMP error: who sent it, its type and its code.
fn icmp_error(socket: &UdpSocket, ipv4: bool) -> Option<(IpAddr, u8, u8)> {
    let mut packet = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut packet).ok()?;
        // An IPv4 raw socket shows the IP header, an IPv6 one does not.
        let at = if ipv4 {
            usize::from(packet[0] & 0xf) * 4
        } else {
            0
        };
        let (kind, code) = (packet[at], packet[at + 1]);
        let error = if ipv4 {
            matches!(kind, 3 | 11 | 12)
        } else {
            kind < 128
        };
        if len > at + 8 && error {
            return Some((from.ip(), kind, code));
        }
    }
}

#[test]
fn dead_ends_answer_as_they_say_or_not_at_all() {
    for gateways in [0, 2] {
        let lab = Lab::new(Shape {
            gateways,
            ..Shape::default()
        })
        .unwrap();
        let check = |prefix: &str, expected: Option<(u8, u8)>| {
            let host: IpAddr = prefix.split('/').next().unwrap().parse().unwrap();
            let host = match host {
                IpAddr::V4(host) => IpAddr::from((host.to_bits() + 9).to_be_bytes()),
                IpAddr::V6(host) => IpAddr::from((host.to_bits() + 9).to_be_bytes()),
            };
            let errors = icmp_socket(host.is_ipv4());
            if expected.is_none() {
                errors.set_read_timeout(Some(SILENCE)).unwrap();
            }
            datagrams(host).send_to(&[0; 16], (host, 7)).unwrap();
            let neighbour: IpAddr = if host.is_ipv4() {
                "198.19.0.2".parse().unwrap()
            } else {
                "2001:2::2".parse().unwrap()
            };
            let expected = expected.map(|(kind, code)| (neighbour, kind, code));
            assert_eq!(icmp_error(&errors, host.is_ipv4()), expected, "{prefix}");
        };
        let work = || {
            for DeadEnd {
                ipv4,
                ipv6,
                icmp,
                icmp6,
                ..
            } in DEAD_ENDS
            {
                check(ipv4, icmp);
                check(ipv6, icmp6);
            }
        };
        lab.prober().enter(work).unwrap();
    }
    assert_eq!((BLACK_HOLE.icmp, BLACK_HOLE.icmp6), (None, None));
}

#[test]
fn a_chain_of_sixteen_hops_names_each_of_its_routers() {
    const ROUTERS: usize = 15;
    let lab = Lab::new(Shape {
        gateways: ROUTERS,
        ..Shape::default()
    })
    .unwrap();
    let check = |host: &str, router: &dyn Fn(usize) -> IpAddr, exceeded: (u8, u8)| {
        let host: IpAddr = host.parse().unwrap();
        let errors = icmp_socket(host.is_ipv4());
        let socket = datagrams(host);
        for hop in 1..=ROUTERS {
            set_ttl(&socket, host.is_ipv4(), hop as u32);
            socket.send_to(&[0; 16], (host, ECHO_PORT)).unwrap();
            let expected = (router(hop), exceeded.0, exceeded.1);
            assert_eq!(
                icmp_error(&errors, host.is_ipv4()),
                Some(expected),
                "hop {hop}"
            );
        }
        set_ttl(&socket, host.is_ipv4(), ROUTERS as u32 + 1);
        socket.send_to(b"here", (host, ECHO_PORT)).unwrap();
        let mut got = [0; 8];
        let (len, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((from.ip(), &got[..len]), (host, &b"here"[..]));
    };
    let work = || {
        check(
            "198.18.0.1",
            &|hop| xtask::lab::router_ipv4(hop).into(),
            (11, 0),
        );
        check(
            "2001:2:0:1::1",
            &|hop| xtask::lab::router_ipv6(hop).into(),
            (3, 0),
        );
    };
    lab.prober().enter(work).unwrap();
    assert_eq!(lab.gateways().len(), ROUTERS);
}

fn set_ttl(socket: &UdpSocket, ipv4: bool, ttl: u32) {
    use std::os::fd::AsRawFd;
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_TTL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
    };
    // SAFETY: reads four bytes of a live number.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const ttl).cast(),
            4,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn the_second_interface_leads_to_hosts_of_its_own() {
    let lab = Lab::new(Shape {
        second: true,
        ..Shape::default()
    })
    .unwrap();
    for host in [
        "198.18.0.1",
        "2001:2:0:1::1",
        "198.19.32.7",
        "2001:2:0:20::7",
    ] {
        answers(&lab, host);
    }
    for (host, interface) in [
        ("198.18.0.1", INTERFACE),
        ("2001:2:0:1::1", INTERFACE),
        ("198.19.32.7", SECOND_INTERFACE),
        ("2001:2:0:20::7", SECOND_INTERFACE),
    ] {
        let route = ip(&lab, &format!("route get {host}"));
        assert!(route.contains(&format!("dev {interface} ")), "{route}");
    }
    // Whoever asks for the second interface reaches the first one's hosts there as well.
    for host in ["198.18.0.1", "2001:2:0:1::1"] {
        let route = ip(&lab, &format!("route get {host} oif {SECOND_INTERFACE}"));
        assert!(
            route.contains(" via ") && route.contains("dev pinger1 "),
            "{route}"
        );
    }
    let second = lab.second_hosts().unwrap();
    assert!(ping_reaches(&lab, second, "198.18.0.1"));
}

/// Whether a datagram to a host by the second interface is echoed; its namespace is looked at.
fn ping_reaches(lab: &Lab, second: &Namespace, host: &str) -> bool {
    let host: IpAddr = host.parse().unwrap();
    let before = echoed(second);
    let work = || {
        let socket = UdpSocket::bind("198.19.229.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        bind_to_device(&socket, SECOND_INTERFACE);
        socket.send_to(&[7], (host, ECHO_PORT)).unwrap();
        socket.recv(&mut [0; 8]).is_ok()
    };
    lab.prober().enter(work).unwrap() && echoed(second) == before + 1
}

fn bind_to_device(socket: &UdpSocket, interface: &str) {
    use std::os::fd::AsRawFd;
    // SAFETY: reads the name's bytes, which live during the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            interface.len() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// UDP datagrams that programs in a namespace have received (`InDatagrams` of RFC 4113).
fn echoed(namespace: &Namespace) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let text = namespace.enter(read).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "InDatagrams");
    values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
}

#[test]
fn nothing_is_left_of_a_lab_nor_of_one_whose_owner_was_killed() {
    let mut gone = Command::new("true").spawn().unwrap();
    let abandoned = format!("pinger-test-{}-0-0", gone.id());
    gone.wait().unwrap();
    Namespace::new(abandoned.clone()).unwrap().keep();

    let lab = Lab::new(Shape {
        gateways: 1,
        ..Shape::default()
    })
    .unwrap();
    assert!(
        !Namespace::exists(&abandoned),
        "{abandoned} has outlived its owner"
    );
    let names: Vec<String> = [lab.prober(), lab.neighbour(), lab.hosts()]
        .map(|place| place.name().to_owned())
        .into();
    assert!(
        names.iter().all(|name| Namespace::exists(name)),
        "{names:?}"
    );
    drop(lab);
    assert!(
        !names.iter().any(|name| Namespace::exists(name)),
        "{names:?}"
    );
}

/// A network and a `/run` of its own, in which the machine's lab is made.
struct Sandbox {
    holder: Child,
}

impl Sandbox {
    fn new() -> Self {
        let script = "mount -t tmpfs none /run && ip link set lo up && echo ready && read end";
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "no sandbox: is this root?");
        Self { holder }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--mount",
            "--net",
            "--target",
            &self.holder.id().to_string(),
            "--",
        ]);
        command.arg(program);
        command
    }

    fn xtask(&self, arguments: &str) -> Output {
        let program = xtask_program();
        let mut command = self.command(program.to_str().unwrap());
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    fn shell(&self, script: &str) -> String {
        let output = self.command("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Interfaces, namespaces, routes, and files below `/run` that are the lab's.
    fn left(&self) -> String {
        self.shell("ls -d /run/pinger /run/netns/* 2>/dev/null; ip route; ip -brief link | grep -v ^lo; true")
    }

    /// A run whose pinger is a stand-in that does what the script says; waits for its first line.
    fn run(&self, script: &str) -> Run {
        let program = std::env::temp_dir().join(format!("lab-test-{}", self.holder.id()));
        std::fs::write(
            &program,
            format!("#!/bin/sh\n[ \"$2\" = --help ] && exit\n{script}\n"),
        )
        .unwrap();
        let made = Command::new("chmod")
            .arg("755")
            .arg(&program)
            .status()
            .unwrap();
        assert!(made.success());
        let mut xtask = self
            .command(xtask_program().to_str().unwrap())
            .arg("run")
            .env("PINGER_BIN", &program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(xtask.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        Run {
            xtask,
            first,
            said,
            program,
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A lab that is left would outlive the sandbox by a moment.
        drop(
            self.command("ip")
                .args(["link", "delete", INTERFACE])
                .output(),
        );
        // It waits for a line on its input: the end of that is its end too.
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

struct Run {
    xtask: Child,
    first: String,
    said: BufReader<std::process::ChildStdout>,
    program: PathBuf,
}

impl Run {
    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.xtask.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Exit code and what xtask itself said; the stand-in has ended too by then.
    fn end(mut self) -> (Option<i32>, String) {
        self.said.read_to_string(&mut String::new()).unwrap();
        let output = self.xtask.wait_with_output().unwrap();
        std::fs::remove_file(self.program).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// The xtask that runs these tests.
fn xtask_program() -> PathBuf {
    let named = std::env::var_os("XTASK_BIN").expect(
        "XTASK_BIN names the xtask to test; run these tests by `cargo xtask test`, which sets it",
    );
    PathBuf::from(named)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const WAIT_FOR_TERM: &str = "trap 'exit 5' TERM; ip -brief link show pinger0; \
                             while :; do sleep 0.05; done";

#[test]
fn up_and_down_may_be_repeated_and_leave_nothing() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.xtask("lab status").status.code(), Some(3));
    for _ in 0..2 {
        let up = sandbox.xtask("lab up");
        assert!(up.status.success(), "{}", text(&up));
        let status = sandbox.xtask("lab status");
        assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    }
    sandbox.shell("ip route get 198.18.7.7 | grep -q pinger0");
    for _ in 0..2 {
        let down = sandbox.xtask("lab down");
        assert!(down.status.success(), "{}", text(&down));
        assert_eq!(sandbox.left(), "");
    }
}

#[test]
fn up_repairs_whatever_is_broken() {
    let sandbox = Sandbox::new();
    assert!(sandbox.xtask("lab up").status.success());
    for breakage in [
        "ip link set pinger0 down",
        "ip address flush dev pinger0",
        "ip -6 route delete 2001:2:0:1::/64",
        "ip neighbour flush dev pinger0 nud permanent",
        "ip link delete pinger0",
        "ip netns delete pinger-lab",
        "ip -n pinger-lab route delete local 198.18.0.0/16 dev lo table local",
        "rm /run/pinger/lab.json",
    ] {
        sandbox.shell(breakage);
        let broken = sandbox.xtask("lab status");
        assert_eq!(
            broken.status.code(),
            Some(3),
            "{breakage}: {}",
            text(&broken)
        );
        let repaired = sandbox.xtask("lab up");
        assert!(repaired.status.success(), "{breakage}: {}", text(&repaired));
        assert_eq!(
            sandbox.xtask("lab status").status.code(),
            Some(0),
            "{breakage}"
        );
    }
}

#[test]
fn a_kept_lab_serves_until_it_is_removed_and_is_repaired_if_it_does_not() {
    let sandbox = Sandbox::new();
    assert!(sandbox.xtask("lab up").status.success());
    let server = || -> u32 {
        let inside = sandbox.shell("ip netns pids pinger-lab");
        inside.trim().parse().expect("one process is inside")
    };
    let ends = |pid: u32| {
        let started = Instant::now();
        while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty()) {
            assert!(started.elapsed() < PATIENCE, "{pid} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let tcp = "exec 3<>/dev/tcp/198.18.7.7/80 && exec 4<>/dev/tcp/2001:2:0:1::7/443";
    sandbox.shell(&format!("bash -c '{tcp}'"));
    let first = server();
    sandbox.shell(&format!("kill {first}"));
    ends(first);
    let broken = sandbox.xtask("lab status");
    assert_eq!(broken.status.code(), Some(3), "{}", text(&broken));
    let told = text(&broken);
    assert!(told.contains("nothing echoes at UDP port 7"), "{told}");
    assert!(sandbox.xtask("lab up").status.success());
    sandbox.shell(&format!("bash -c '{tcp}'"));
    let second = server();
    assert!(sandbox.xtask("lab down").status.success());
    ends(second);
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let sandbox = Sandbox::new();
    sandbox.shell("ip link add pinger0 type veth peer name other");
    let refused = sandbox.xtask("lab up");
    assert!(
        !refused.status.success() && text(&refused).contains("is not the lab's"),
        "{refused:?}"
    );
    assert!(sandbox.xtask("lab down").status.success());
    sandbox.shell("ip link show pinger0 && ip link delete pinger0");

    sandbox.shell("ip link add other type veth peer name another; ip link set other up; ip link set another up");
    sandbox.shell("ip route add 198.18.0.0/16 dev other");
    let refused = sandbox.xtask("lab up");
    assert!(
        !refused.status.success() && text(&refused).contains("has a route"),
        "{refused:?}"
    );
    sandbox.shell("ip route show 198.18.0.0/16 | grep -q other");
}

#[test]
fn a_runs_lab_goes_with_the_run_however_it_ends() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("ip -brief link show pinger0; exit 4");
    assert!(run.first.contains("pinger0"), "{}", run.first);
    let (code, said) = run.end();
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(sandbox.left(), "");

    let run = sandbox.run(WAIT_FOR_TERM);
    assert!(run.first.contains("pinger0"), "{}", run.first);
    let busy = sandbox.xtask("lab down");
    assert!(
        !busy.status.success() && text(&busy).contains("run that is at work"),
        "{busy:?}"
    );
    run.signal("TERM");
    assert_eq!(run.end().0, Some(5));
    assert_eq!(sandbox.left(), "");
}

#[test]
fn the_lab_of_a_killed_run_is_stale_and_replaced() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(WAIT_FOR_TERM);
    run.signal("KILL");
    assert_eq!(run.end().0, None);
    let status = sandbox.xtask("lab status");
    assert!(
        text(&status).contains("a run that is gone"),
        "{}",
        text(&status)
    );

    let (code, said) = sandbox.run("exit 0").end();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("replacing the lab of a run that is gone"),
        "{said}"
    );
    assert_eq!(sandbox.left(), "");
}

#[test]
fn a_kept_lab_is_used_and_stays() {
    let sandbox = Sandbox::new();
    assert!(sandbox.xtask("lab up").status.success());
    let (code, said) = sandbox.run("exit 0").end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("it stays when this run ends"), "{said}");
    assert_eq!(sandbox.xtask("lab status").status.code(), Some(0));

    // A run's own lab is kept as soon as somebody asks for a lab.
    assert!(sandbox.xtask("lab down").status.success());
    let run = sandbox.run(WAIT_FOR_TERM);
    assert!(sandbox.xtask("lab up").status.success());
    run.signal("TERM");
    let (_, said) = run.end();
    assert!(said.contains("has taken it over"), "{said}");
    assert_eq!(sandbox.xtask("lab status").status.code(), Some(0));
}
