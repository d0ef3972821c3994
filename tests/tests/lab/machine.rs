//! The machine's lab, as `cargo xtask lab` and `cargo xtask run` make and remove it.

use std::time::{Duration, Instant};

use crate::ask::PATIENCE;
use crate::sandbox::{Sandbox, text};

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

    sandbox.shell("ip link add other type veth peer name another");
    sandbox.shell("ip link set other up; ip link set another up");
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
