//! What every host of a lab answers: echo requests, datagrams, connections.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Instant;

use xtask::lab::{ECHO_PORT, Lab, Shape, TCP_PORTS};

use crate::ask::{HOSTS, PATIENCE, answers, datagrams, ip};

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
