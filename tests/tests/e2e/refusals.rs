//! What cannot be done is said before the first probe, in words that help, and nothing is left.

use xtask::lab::Shape;

use crate::foreign::pass_all;
use crate::harness::{Folder, Pinger, Site, alone, outside, program, until};

const REFUSED: i32 = 1;
const USAGE: i32 = 2;

/// Refused in a fresh lab, with these words, and nothing left behind.
#[track_caller]
fn refused(arguments: &str, told: &[&str]) {
    let site = Site::new(Shape::default());
    let ended = site.run(&format!("run --store none --format json {arguments}"));
    ended.assert_refused(REFUSED, told);
    site.assert_clean();
}

#[test]
fn an_interface_that_is_not_there() {
    let _turn = alone();
    refused(
        "-i eth99 198.18.0.1",
        &["there is no interface eth99", "this host has:", "pinger0"],
    );
}

#[test]
fn a_cpu_that_is_not_there() {
    let _turn = alone();
    refused(
        "--cpu 999 198.18.0.1",
        &["cannot send on CPU 999", "this process may use are 0"],
    );
}

#[test]
fn an_interface_that_is_down() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    site.lab.set_interface(false).unwrap();
    let ended = site.run("run --store none --format json -i pinger0 198.18.0.1");
    ended.assert_refused(REFUSED, &["pinger0 is down", "ip link set pinger0 up"]);
    site.assert_clean();
}

#[test]
fn an_interface_without_carrier() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    site.lab.set_carrier(false).unwrap();
    let ended = site.run("run --store none --format json -i pinger0 198.18.0.1");
    ended.assert_refused(REFUSED, &["pinger0 is up but has no carrier", "peer"]);
    site.assert_clean();
}

#[test]
fn the_loopback_interface() {
    let _turn = alone();
    refused("-i lo 127.0.0.1", &["lo is the loopback interface", "-i"]);
}

#[test]
fn only_this_host_itself() {
    let _turn = alone();
    for address in ["198.19.0.1", "2001:2::1", "127.0.0.1"] {
        refused(
            address,
            &[
                "none of the destinations can be probed",
                &format!("{address} is not probed: it is this host itself"),
            ],
        );
    }
}

#[test]
fn only_names_and_addresses_that_lead_nowhere() {
    let _turn = alone();
    refused(
        "no-such-host.invalid",
        &[
            "none of the destinations can be probed",
            "no-such-host.invalid",
        ],
    );
    refused(
        "192.0.2.1",
        &[
            "none of the destinations can be probed",
            "192.0.2.1",
            "no route",
            "ip route get 192.0.2.1",
        ],
    );
}

#[test]
fn a_payload_that_does_not_fit_the_interface() {
    let _turn = alone();
    refused(
        "--size 1473 198.18.0.1",
        &["1473", "MTU of 1500", "1472 or less"],
    );
}

#[test]
fn a_config_file_with_mistakes() {
    let _turn = alone();
    let folder = Folder::new();
    let text = "interval = \"soon\"\nsized = 3\ndestinations = [\"198.18.0.1\"]\n";
    let config = folder.file("bad.toml", text);
    let ended = outside(["run", "--config", &config]).end();
    ended.assert_refused(
        USAGE,
        &[
            &format!("{config}:1:"),
            "interval",
            "100ms",
            &format!("{config}:2:"),
            "sized",
            "size",
        ],
    );
    let gone = folder.path().join("gone.toml");
    let ended = outside(["run".as_ref(), "--config".as_ref(), gone.as_os_str()]).end();
    ended.assert_refused(USAGE, &["gone.toml", "cannot read the config file"]);
}

#[test]
fn nothing_to_probe() {
    let _turn = alone();
    let ended = outside(["run", "--store", "none"]).end();
    ended.assert_refused(USAGE, &["destination"]);
}

#[test]
fn another_pinger_on_the_interface() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let mut first = site.start("ping -c 100000 --interval 50ms 198.18.0.1");
    first.line("a reply", |line| line.contains("bytes from"));
    let second = site.run("run --store none --format json 198.18.0.2");
    second.assert_refused(REFUSED, &["pinger0", "another", "pinger"]);
    // The first goes on.
    assert!(site.has_xdp());
    first.line("a reply", |line| line.contains("bytes from"));
    first.signal(libc::SIGINT);
    let ended = first.end();
    assert!(ended.status.success(), "{}", ended.err);
    assert!(ended.out.contains(" 0% loss"), "{}", ended.out);
    site.assert_clean();
}

#[test]
fn somebody_elses_xdp_program_stays() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let loader = pass_all(site.lab.prober(), "pinger0");
    assert!(site.has_xdp());
    let ended = site.run("run --store none --format json 198.18.0.2");
    ended.assert_refused(
        REFUSED,
        &["pinger0 has an XDP program already", "ip link show pinger0"],
    );
    assert!(site.has_xdp(), "it was not ours to remove");
    drop(loader);
    until("it is gone", || !site.has_xdp());
}

#[test]
fn a_user_without_the_capabilities() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    // Where the build is, that user may not look.
    let copy = site.folder.path().join("pinger");
    std::fs::copy(program(), &copy).unwrap();
    let mut command = site.lab.prober().command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["run", "--store", "none", "198.18.0.1"]);
    let ended = Pinger::start(command).end();
    ended.assert_refused(
        REFUSED,
        &[
            "CAP_NET_ADMIN",
            "CAP_NET_RAW",
            "CAP_BPF",
            "CAP_PERFMON",
            "root",
            "setcap",
        ],
    );
    site.assert_clean();
}

#[test]
fn an_address_of_many_hosts() {
    let _turn = alone();
    let ended = outside(["run", "--store", "none", "224.0.0.1"]).end();
    ended.assert_refused(USAGE, &["224.0.0.1 is a multicast address", "one by one"]);
}
