//! The responder by itself: what it sends is what a strict parser and the prober's own kernel
//! take it for.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use xtask::lab::{Lab, Shape};

use super::packet::{Seen, read};
use super::{Act, By, Forgery, IcmpError, Probe, Responder, What};
use crate::host::{RawSocket, checksum};

const WAIT: Duration = Duration::from_secs(5);
/// In vain for what must not come.
const SILENCE: Duration = Duration::from_millis(200);
const HOSTS: [&str; 2] = ["198.18.0.1", "2001:2:0:1::1"];

/// Each port has a manner of its own; ICMP is answered as by any host.
fn manner(probe: &Probe, _: u64) -> Vec<Act> {
    let unreachable = if probe.host.is_ipv4() { (3, 3) } else { (1, 4) };
    match probe.port {
        1 => vec![What::Closed.now()],
        2 => vec![What::Corrupt(3).now()],
        3 => Vec::new(),
        4 => vec![What::Honest.now(); 3],
        5 => vec![What::Honest.after(Duration::from_millis(50))],
        6 => vec![What::Forged(Forgery::Address).now()],
        7 => vec![
            What::Error(IcmpError {
                from: probe.host,
                kind: unreachable.0,
                code: unreachable.1,
                whole: false,
            })
            .now(),
        ],
        _ => vec![What::Honest.now()],
    }
}

fn datagrams(host: IpAddr, port: u16, wait: Duration) -> UdpSocket {
    let any = if host.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.connect((host, port)).unwrap();
    socket.send(b"hello").unwrap();
    socket
}

fn talk(host: IpAddr) {
    let received = |socket: &UdpSocket| {
        let mut got = [0; 16];
        let len = socket.recv(&mut got).map_err(|error| error.kind())?;
        Ok::<_, ErrorKind>(got[..len].to_vec())
    };
    let answer = |port, wait| received(&datagrams(host, port, wait));
    assert_eq!(answer(1, WAIT), Err(ErrorKind::ConnectionRefused), "closed");
    assert_eq!(
        answer(2, WAIT).unwrap(),
        [b'h', b'e', b'l', b'l' ^ 0xff, b'o']
    );
    assert_eq!(answer(3, SILENCE), Err(ErrorKind::WouldBlock), "silent");
    let socket = datagrams(host, 4, WAIT);
    (0..3).for_each(|_| assert_eq!(received(&socket).unwrap(), b"hello"));
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(received(&socket), Err(ErrorKind::WouldBlock), "a fourth");
    assert_eq!(answer(5, WAIT).unwrap(), b"hello");
    assert_eq!(
        answer(6, SILENCE),
        Err(ErrorKind::WouldBlock),
        "a stranger's"
    );
    assert_eq!(
        answer(7, WAIT),
        Err(ErrorKind::ConnectionRefused),
        "8 bytes quoted"
    );

    let connect = |port| TcpStream::connect_timeout(&SocketAddr::new(host, port), WAIT);
    let error = connect(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    connect(80).unwrap();

    let pings = RawSocket::open(host.is_ipv4(), WAIT);
    pings.request(host, 0xf00d, 7);
    assert_eq!(
        pings
            .reply()
            .map(|reply| (reply.identifier, reply.sequence)),
        Some((0xf00d, 7))
    );
}

#[test]
fn the_prober_s_kernel_takes_its_answers_for_what_they_are() {
    let lab = Lab::new(Shape::default()).unwrap();
    let responder = Responder::start(&lab, manner);
    let hosts = HOSTS.map(|host| host.parse::<IpAddr>().unwrap());
    lab.prober()
        .enter(|| hosts.into_iter().for_each(talk))
        .unwrap();
    let log = responder.log();
    for host in hosts {
        let count = |by: By| {
            let of = |entry: &&super::Entry| entry.probe.host == host && entry.probe.by == by;
            log.probes.iter().filter(of).count()
        };
        assert_eq!((count(By::Icmp), count(By::Udp), count(By::Tcp)), (1, 7, 2));
    }
    let hello = log
        .probes
        .iter()
        .find(|entry| entry.probe.by == By::Udp)
        .unwrap();
    assert_eq!(hello.probe.payload(), b"hello");
}

/// A probe as a prober would send it, its checksum left out.
fn probe(by: By, ipv4: bool) -> Probe {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let mut transport = match (by, ipv4) {
        (By::Icmp, true) => vec![8, 0, 0, 0, 0x12, 0x34, 0, 9],
        (By::Icmp, false) => vec![128, 0, 0, 0, 0x12, 0x34, 0, 9],
        (By::Udp, _) => vec![0x12, 0x34, 0, 7, 0, 32, 0, 0],
        (By::Tcp, _) => {
            let mut syn = vec![
                0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff,
            ];
            syn.extend([0; 4]);
            syn
        }
    };
    if by != By::Tcp {
        transport.extend(0..24);
    }
    let len = transport.len() as u8;
    let number = match (by, ipv4) {
        (By::Icmp, true) => 1,
        (By::Icmp, false) => 58,
        (By::Udp, _) => 17,
        (By::Tcp, _) => 6,
    };
    if ipv4 {
        frame.extend([8, 0, 0x45, 0, 0, 20 + len, 0, 0, 0, 0, 61, number, 0, 0]);
        frame.extend([198, 19, 0, 1, 198, 18, 0, 1]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, len, number, 61]);
        frame.extend(HOSTS[1].parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend(HOSTS[1].parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    frame.extend(transport);
    // What follows on the wire, as a short frame's padding does, is none of the packet.
    frame.extend([0; 6]);
    let Some(Seen::Probe(probe)) = read(&frame) else {
        panic!("{by:?} is a probe")
    };
    assert_eq!((probe.identifier, probe.ttl, probe.by), (0x1234, 61, by));
    probe
}

/// Every checksum of a frame is right, by another reading than the one that made it.
fn check_sums(frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (addresses, protocol) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (
                [header.source, header.destination].concat(),
                header.protocol.0,
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            (
                [header.source, header.destination].concat(),
                header.next_header.0,
            )
        }
        NetSlice::Arp(_) => panic!("an ARP packet"),
    };
    let at = frame.len() - sliced.ip_payload().unwrap().payload.len();
    let transport = &frame[at..];
    let begun = if protocol == 1 {
        0
    } else {
        u32::from(!checksum(&addresses, 0)) + u32::from(protocol) + transport.len() as u32
    };
    assert_eq!(checksum(transport, begun), 0, "{frame:02x?}");
    assert!(matches!(
        (protocol, sliced.transport),
        (1, Some(TransportSlice::Icmpv4(_)))
            | (58, Some(TransportSlice::Icmpv6(_)))
            | (17, Some(TransportSlice::Udp(_)))
            | (6, Some(TransportSlice::Tcp(_)))
    ));
}

#[test]
fn all_its_frames_have_right_checksums_and_each_forgery_differs_from_the_truth() {
    for by in [By::Icmp, By::Udp, By::Tcp] {
        for ipv4 in [true, false] {
            let probe = probe(by, ipv4);
            let honest = probe.honest();
            let closed = probe.closed();
            check_sums(&honest);
            check_sums(&closed);
            let mut different = vec![honest.clone(), closed];
            for forgery in Forgery::ALL {
                let forged = probe.forged(forgery);
                check_sums(&forged);
                // TCP's quote has nothing behind its first 8 bytes that could be wrong.
                let same = by == By::Tcp && forgery == Forgery::QuotedCookie;
                assert_eq!(different.contains(&forged), same, "{by:?} {forgery:?}");
                different.push(forged);
            }
            if by != By::Tcp {
                let corrupt = probe.corrupt(20);
                check_sums(&corrupt);
                let differing: Vec<usize> = (0..honest.len())
                    .filter(|at| honest[*at] != corrupt[*at])
                    .collect();
                assert!(
                    differing.contains(&(honest.len() - 24 + 20)),
                    "{differing:?}"
                );
            }
            for whole in [true, false] {
                let error = IcmpError {
                    from: probe.host,
                    kind: 3,
                    code: 1,
                    whole,
                };
                let error = probe.error(error);
                check_sums(&error);
                let quoted = if whole {
                    honest.len() - 14
                } else {
                    honest.len() - 14 - probe_len(by) + 8
                };
                let header = if ipv4 { 20 } else { 40 };
                assert_eq!(error.len(), 14 + header + 8 + quoted, "{by:?} {whole}");
            }
        }
    }
}

/// Bytes of [`probe`] behind its IP header.
fn probe_len(by: By) -> usize {
    if by == By::Tcp { 20 } else { 32 }
}
