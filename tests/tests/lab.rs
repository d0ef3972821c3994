//! The lab for real, as root: its hosts answer, its parts can be changed, and nothing is left.
//!
//! The machine's lab is tested in a sandbox with a network and a `/run` of its own, so these tests
//! can run beside a lab that somebody uses.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::FromRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use xtask::lab::{INTERFACE, Lab, Namespace, Shape, direct_ipv4, direct_ipv6};

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
        gateways: 0,
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
