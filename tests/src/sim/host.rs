//! The far end as it reads: takes a frame of ours as a strict host or router would, by
//! etherparse's reading.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};
use pinger_ebpf::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};

const ETHERNET_LEN: usize = 14;

/// A packet of ours as the host sees it: a probe, or the RST that takes one back.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub source: IpAddr,
    /// Who is asked.
    pub to: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// ICMP identifier, or the port that asks.
    pub identifier: u16,
    /// The port that is asked; zero for ICMP.
    pub port: u16,
    /// ICMP sequence number, or TCP's; zero for UDP.
    pub number: u32,
    /// Checksum of ICMP, UDP or TCP.
    pub checksum: u16,
    /// Whether it is a RST, and no probe.
    pub is_reset: bool,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// What follows the header of ICMP, UDP or TCP.
    pub payload: Vec<u8>,
    /// The IP packet as it left.
    pub packet: Vec<u8>,
}

impl Request {
    /// Where in the IP packet the header of ICMP, UDP or TCP begins.
    pub fn transport_at(&self) -> usize {
        if self.to.is_ipv4() { 20 } else { 40 }
    }
}

/// What the header of ICMP, UDP or TCP says.
#[derive(Default)]
struct Transport<'a> {
    protocol: u8,
    identifier: u16,
    port: u16,
    number: u32,
    checksum: u16,
    /// What the checksum should be.
    expected: u16,
    is_reset: bool,
    payload: &'a [u8],
}

/// Reads a frame as a strict host: every checksum and length must be right.
pub fn read(frame: &[u8]) -> Result<Request, String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (source, to, hop_limit) = match sliced.net.as_ref().ok_or("no IP header")? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            if header.header_checksum != header.calc_header_checksum() {
                return Err("wrong IPv4 checksum".to_owned());
            }
            (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
                header.time_to_live,
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.hop_limit(),
            )
        }
        NetSlice::Arp(_) => return Err("an ARP packet".to_owned()),
    };
    let transport = sliced.transport.as_ref().ok_or("no transport header")?;
    let read = transport_of(transport, source, to)?;
    if read.checksum != read.expected {
        return Err(format!("wrong checksum {:#06x}", read.checksum));
    }
    Ok(Request {
        source,
        to,
        protocol: read.protocol,
        identifier: read.identifier,
        port: read.port,
        number: read.number,
        checksum: read.checksum,
        is_reset: read.is_reset,
        hop_limit,
        payload: read.payload.to_vec(),
        packet: frame[ETHERNET_LEN..].to_vec(),
    })
}

fn transport_of<'a>(
    slice: &TransportSlice<'a>,
    source: IpAddr,
    to: IpAddr,
) -> Result<Transport<'a>, String> {
    match slice {
        TransportSlice::Icmpv4(icmp) => {
            let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else {
                return Err("no echo request".to_owned());
            };
            Ok(Transport {
                protocol: PROTOCOL_ICMP,
                identifier: echo.id,
                number: echo.seq.into(),
                checksum: icmp.checksum(),
                expected: icmp.icmp_type().calc_checksum(icmp.payload()),
                payload: icmp.payload(),
                ..Transport::default()
            })
        }
        TransportSlice::Icmpv6(icmp) => {
            let (Icmpv6Type::EchoRequest(echo), IpAddr::V6(from), IpAddr::V6(to)) =
                (icmp.icmp_type(), source, to)
            else {
                return Err("no echo request".to_owned());
            };
            let is_right = icmp.is_checksum_valid(from.octets(), to.octets());
            let checksum = icmp.checksum();
            Ok(Transport {
                protocol: PROTOCOL_ICMP6,
                identifier: echo.id,
                number: echo.seq.into(),
                checksum,
                expected: if is_right { checksum } else { !checksum },
                payload: icmp.payload(),
                ..Transport::default()
            })
        }
        TransportSlice::Udp(udp) => datagram(udp, source, to),
        TransportSlice::Tcp(tcp) => segment(tcp, source, to),
        other => Err(format!("no probe: {other:?}")),
    }
}

fn datagram<'a>(udp: &UdpSlice<'a>, source: IpAddr, to: IpAddr) -> Result<Transport<'a>, String> {
    let header = udp.to_header();
    let payload = udp.payload();
    let expected = match (source, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
        }
        _ => return Err("two families".to_owned()),
    };
    Ok(Transport {
        protocol: PROTOCOL_UDP,
        identifier: header.source_port,
        port: header.destination_port,
        checksum: header.checksum,
        expected: expected.map_err(|error| error.to_string())?,
        payload,
        ..Transport::default()
    })
}

fn segment<'a>(tcp: &TcpSlice<'a>, source: IpAddr, to: IpAddr) -> Result<Transport<'a>, String> {
    let expected = match (source, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
        _ => return Err("two families".to_owned()),
    };
    if tcp.syn() == tcp.rst() || tcp.ack() || tcp.fin() {
        return Err("neither a SYN nor a RST".to_owned());
    }
    Ok(Transport {
        protocol: PROTOCOL_TCP,
        identifier: tcp.source_port(),
        port: tcp.destination_port(),
        number: tcp.sequence_number(),
        checksum: tcp.checksum(),
        expected: expected.map_err(|error| error.to_string())?,
        is_reset: tcp.rst(),
        payload: tcp.payload(),
    })
}
