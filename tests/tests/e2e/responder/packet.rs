//! The responder's bytes: probes as they come in, and every kind of answer, honest or not.

use std::net::IpAddr;

use crate::host::checksum;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// By what something is probed, whatever the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    Icmp,
    Udp,
    Tcp,
}

/// A probe, as it stood on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) by: By,
    /// Who asks.
    pub(crate) source: IpAddr,
    /// Who is asked.
    pub(crate) host: IpAddr,
    /// ICMP identifier, or the port that it came from.
    pub(crate) identifier: u16,
    /// The port that it went to; zero for ICMP.
    pub(crate) port: u16,
    /// Time to live or hop limit.
    pub(crate) ttl: u8,
    /// Type of service or traffic class.
    pub(crate) traffic_class: u8,
    /// The Ethernet addresses, and the whole IP packet.
    macs: [u8; 12],
    ip: Vec<u8>,
    transport_at: usize,
}

/// What a frame is to the responder.
pub(crate) enum Seen {
    Probe(Probe),
    /// A TCP segment with RST: to which host and ports, and its sequence number.
    Reset(Reset),
}

/// The end of a half-open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reset {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) identifier: u16,
    pub(crate) number: u32,
}

fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn long(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Reads a frame; none if it is nothing that a prober sends.
pub(crate) fn read(frame: &[u8]) -> Option<Seen> {
    let macs = frame.get(..12)?.try_into().ok()?;
    let ip = frame.get(ETHERNET_LEN..)?;
    let (source, host, ttl, protocol, at, len) = match (number(&frame[12..]), ip.len()) {
        (0x0800, IPV4_LEN..) => (
            IpAddr::from(<[u8; 4]>::try_from(&ip[12..16]).ok()?),
            IpAddr::from(<[u8; 4]>::try_from(&ip[16..20]).ok()?),
            ip[8],
            ip[9],
            usize::from(ip[0] & 0xf) * 4,
            usize::from(number(&ip[2..])),
        ),
        (0x86dd, IPV6_LEN..) => (
            IpAddr::from(<[u8; 16]>::try_from(&ip[8..24]).ok()?),
            IpAddr::from(<[u8; 16]>::try_from(&ip[24..40]).ok()?),
            ip[7],
            ip[6],
            IPV6_LEN,
            IPV6_LEN + usize::from(number(&ip[4..])),
        ),
        _ => return None,
    };
    let ip = ip.get(..len)?;
    let transport = ip.get(at..).filter(|transport| transport.len() >= 8)?;
    let echo = if host.is_ipv4() { 8 } else { 128 };
    let (by, identifier, port) = match protocol {
        ICMP | ICMP6 if transport[0] == echo => (By::Icmp, number(&transport[4..]), 0),
        UDP => (By::Udp, number(transport), number(&transport[2..])),
        TCP if transport.len() >= 20 => (By::Tcp, number(transport), number(&transport[2..])),
        _ => return None,
    };
    if by == By::Tcp && transport[13] & RST != 0 {
        let number = long(&transport[4..]);
        let reset = Reset {
            host,
            port,
            identifier,
            number,
        };
        return Some(Seen::Reset(reset));
    }
    if by == By::Tcp && transport[13] & (SYN | ACK) != SYN {
        return None;
    }
    let traffic_class = if host.is_ipv4() {
        ip[1]
    } else {
        (number(ip) >> 4) as u8
    };
    let ip = ip.to_vec();
    Some(Seen::Probe(Probe {
        by,
        source,
        host,
        identifier,
        port,
        ttl,
        traffic_class,
        macs,
        ip,
        transport_at: at,
    }))
}

/// An ICMP or ICMPv6 error about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IcmpError {
    /// Who sends it.
    pub(crate) from: IpAddr,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// Whether all of the probe is quoted, or the first 8 bytes behind its IP header only.
    pub(crate) whole: bool,
}

/// What is wrong with an answer that nobody may take for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Forgery {
    /// It comes from the next higher address.
    Address,
    /// It has another identifier, or goes to another of our ports.
    Identifier,
    /// It has another sequence; of TCP, another acknowledgment.
    Sequence,
    /// It has another cookie; of TCP, another upper half of the acknowledgment.
    Cookie,
    /// An error that quotes 8 bytes of a probe that was never sent.
    Quote,
    /// An error that quotes a whole probe whose end was never sent so. Not for TCP.
    QuotedCookie,
}

impl Forgery {
    pub(crate) const ALL: [Self; 6] = [
        Self::Address,
        Self::Identifier,
        Self::Sequence,
        Self::Cookie,
        Self::Quote,
        Self::QuotedCookie,
    ];

    /// Whether it names one of our flows, so that the program can tell that it is forged.
    pub(crate) fn is_counted(self) -> bool {
        !matches!(self, Self::Address | Self::Identifier)
    }
}

impl Probe {
    fn transport(&self) -> &[u8] {
        &self.ip[self.transport_at..]
    }

    /// ICMP's sequence number, or the UDP payload's; none of TCP, where it is hidden.
    pub(crate) fn sequence(&self) -> Option<u16> {
        let transport = self.transport();
        match self.by {
            By::Icmp => Some(number(&transport[6..])),
            By::Udp => transport.get(8..10).map(number),
            By::Tcp => None,
        }
    }

    /// The initial sequence number of TCP.
    pub(crate) fn tcp_number(&self) -> u32 {
        long(&self.transport()[4..])
    }

    pub(crate) fn payload(&self) -> &[u8] {
        match self.by {
            By::Icmp | By::Udp => &self.transport()[8..],
            By::Tcp => &[],
        }
    }

    /// The answer of a host that is open to it.
    pub(crate) fn honest(&self) -> Vec<u8> {
        self.by_host(self.open())
    }

    /// The answer of a host whose port is closed: RST, or port unreachable.
    pub(crate) fn closed(&self) -> Vec<u8> {
        if self.by == By::Tcp {
            return self.by_host(self.segment(RST | ACK));
        }
        let (kind, code) = if self.host.is_ipv4() { (3, 3) } else { (1, 4) };
        self.error(IcmpError {
            from: self.host,
            kind,
            code,
            whole: true,
        })
    }

    /// The honest answer with another payload byte at an offset.
    pub(crate) fn corrupt(&self, offset: usize) -> Vec<u8> {
        let mut transport = self.open();
        transport[8 + offset] ^= 0xff;
        self.by_host(transport)
    }

    pub(crate) fn error(&self, error: IcmpError) -> Vec<u8> {
        let mut quote = self.ip.clone();
        if !error.whole {
            quote.truncate(self.transport_at + 8);
        }
        self.error_about(error, &quote)
    }

    pub(crate) fn forged(&self, forgery: Forgery) -> Vec<u8> {
        let mut transport = self.open();
        // The field that names us: in an echo reply the identifier, else the port it goes to.
        let (identifier, sequence) = match self.by {
            By::Icmp => (4..6, 7),
            By::Udp => (2..4, 9),
            By::Tcp => (2..4, 11),
        };
        match forgery {
            Forgery::Address => return self.frame(next(self.host), self.protocol(), transport),
            Forgery::Identifier => transport[identifier][1] ^= 1,
            Forgery::Sequence => transport[sequence] ^= 1,
            Forgery::Cookie => {
                let at = if self.by == By::Icmp { 8 + 3 } else { 8 + 4 };
                transport[if self.by == By::Tcp { 8 } else { at }] ^= 1;
            }
            Forgery::Quote | Forgery::QuotedCookie => return self.made_up(forgery),
        }
        self.by_host(transport)
    }

    /// An error about something that was never sent.
    fn made_up(&self, forgery: Forgery) -> Vec<u8> {
        let (kind, code) = if self.host.is_ipv4() { (3, 1) } else { (1, 3) };
        let error = IcmpError {
            from: self.host,
            kind,
            code,
            whole: true,
        };
        let mut quote = self.ip.clone();
        let at = self.transport_at;
        if forgery == Forgery::QuotedCookie && self.by != By::Tcp {
            quote[at + 8 + 7] ^= 1;
            return self.error_about(error, &quote);
        }
        quote.truncate(at + 8);
        // Where each protocol's checksum or number proves the probe.
        match self.by {
            By::Icmp => quote[at + 2] ^= 0x55,
            By::Udp => quote[at + 6] ^= 0x80,
            By::Tcp => quote[at + 4] ^= 0x55,
        }
        self.error_about(error, &quote)
    }

    fn error_about(&self, error: IcmpError, quote: &[u8]) -> Vec<u8> {
        let mut transport = vec![error.kind, error.code, 0, 0, 0, 0, 0, 0];
        transport.extend_from_slice(quote);
        let protocol = if self.host.is_ipv4() { ICMP } else { ICMP6 };
        self.frame(error.from, protocol, transport)
    }

    fn protocol(&self) -> u8 {
        match (self.by, self.host.is_ipv4()) {
            (By::Icmp, true) => ICMP,
            (By::Icmp, false) => ICMP6,
            (By::Udp, _) => UDP,
            (By::Tcp, _) => TCP,
        }
    }

    /// What an open host sends back, behind the IP header.
    fn open(&self) -> Vec<u8> {
        let mut transport = self.transport().to_vec();
        match self.by {
            By::Icmp => transport[0] = if self.host.is_ipv4() { 0 } else { 129 },
            By::Udp => transport[..4].rotate_left(2),
            By::Tcp => transport = self.segment(SYN | ACK),
        }
        transport
    }

    /// A TCP segment that acknowledges the probe (RFC 9293 section 3.10.7).
    fn segment(&self, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[..2].copy_from_slice(&self.port.to_be_bytes());
        segment[2..4].copy_from_slice(&self.identifier.to_be_bytes());
        segment[8..12].copy_from_slice(&self.tcp_number().wrapping_add(1).to_be_bytes());
        segment[12] = 5 << 4;
        segment[13] = flags;
        if flags & SYN != 0 {
            segment[4..8].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
            segment[14..16].copy_from_slice(&0xffff_u16.to_be_bytes());
        }
        segment
    }

    fn by_host(&self, transport: Vec<u8>) -> Vec<u8> {
        self.frame(self.host, self.protocol(), transport)
    }

    /// A whole frame back to who asked, with all checksums.
    fn frame(&self, from: IpAddr, protocol: u8, mut transport: Vec<u8>) -> Vec<u8> {
        let len = transport.len();
        let mut frame = [&self.macs[6..], &self.macs[..6]].concat();
        let pseudo = match (from, self.source) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00]);
                let total = ((IPV4_LEN + len) as u16).to_be_bytes();
                let mut ip = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
                ip.extend(from.octets());
                ip.extend(to.octets());
                let sum = checksum(&ip, 0).to_be_bytes();
                ip[10..12].copy_from_slice(&sum);
                frame.extend(&ip);
                pseudo_sum(&ip[12..20], protocol, len)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((len as u16).to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                let addresses = ETHERNET_LEN + 8;
                pseudo_sum(&frame[addresses..], protocol, len)
            }
            (from, to) => unreachable!("from {from} to {to}"),
        };
        let (at, begun) = match protocol {
            ICMP => (2, 0),
            ICMP6 => (2, pseudo),
            UDP => (6, pseudo),
            _ => (16, pseudo),
        };
        transport[at..at + 2].fill(0);
        let sum = match checksum(&transport, begun) {
            // Zero would mean no checksum (RFC 768).
            0 if protocol == UDP => 0xffff,
            sum => sum,
        };
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame.extend(transport);
        frame
    }
}

/// The sum over the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_sum(addresses: &[u8], protocol: u8, len: usize) -> u32 {
    u32::from(!checksum(addresses, 0)) + u32::from(protocol) + len as u32
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => (address.to_bits() + 1).to_be_bytes().into(),
        IpAddr::V6(address) => (address.to_bits() + 1).to_be_bytes().into(),
    }
}
