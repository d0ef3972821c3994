//! What leaves: a frame for each flow, prepared once and patched for each probe.
//!
//! In: a [`Destination`] with the address it is probed from. Out: the bytes of an Ethernet
//! frame whose first 14 bytes, the Ethernet header, the route fills in when it is sent. Pure.
//!
//! The protocols' files say where what stands; how sequence, cookie and checksum hang together
//! says [`identity`](pinger_ebpf::identity), and this file does it.

mod checksum;
pub mod echo;
mod ip;
mod payload;
mod tcp;
mod udp;

use std::net::IpAddr;

use pinger_ebpf::identity::{Prefix, flow_check, tcp_number, udp_checksum};
use pinger_ebpf::layout::{PAYLOAD_MAX, PROTOCOL_TCP};

use crate::destination::{Destination, FlowIndex, Protocol, Ttl};

pub use payload::{PAYLOADS_MAX, Payloads, pattern, payload_key};

/// Bytes of an Ethernet header: two addresses and the EtherType.
pub const ETHERNET_LEN: usize = 14;

/// Length of the frame that probes by this protocol with `size` payload bytes.
pub fn frame_len(protocol: Protocol, size: u16) -> usize {
    transport_at(protocol) + transport_len(protocol) + usize::from(size)
}

/// The most payload bytes that fit an interface's MTU and the kernel program's buffers.
pub fn size_max(protocol: Protocol, mtu: u32) -> u16 {
    let headers = frame_len(protocol, 0) - ETHERNET_LEN;
    let room = (mtu as usize).saturating_sub(headers).min(PAYLOAD_MAX);
    u16::try_from(room).unwrap_or(u16::MAX)
}

/// Where in a frame the transport's header begins.
fn transport_at(protocol: Protocol) -> usize {
    ETHERNET_LEN + ip::header_len(protocol.is_ipv6())
}

/// Bytes of the transport's header.
fn transport_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp | Protocol::Icmp6 => echo::LEN,
        Protocol::Udp | Protocol::Udp6 => udp::LEN,
        Protocol::Tcp | Protocol::Tcp6 => tcp::SYN_LEN,
    }
}

/// What of a prepared frame changes with each probe, and what it takes to change it.
#[derive(Clone, Copy, Debug)]
struct Patch {
    len: u16,
    protocol: Protocol,
    ttl: Ttl,
    /// The flow's check, from which [`identity`](pinger_ebpf::identity) makes those of its probes.
    check: u16,
    /// One's complement sum of all that the checksum covers, with zero for sequence, cookie,
    /// balance and checksum.
    sum: u16,
}

/// The prepared frames of all flows, one after another in one piece of memory.
pub struct Frames {
    stride: usize,
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

impl Frames {
    /// Prepares a frame for each destination; `source` gives the address it is probed from,
    /// `identifiers` the ICMP identifier or local port of each, and `secret` is that of the run.
    ///
    /// # Panics
    ///
    /// If there are fewer identifiers than destinations.
    pub fn prepare(
        destinations: &[Destination],
        identifiers: &[u16],
        secret: [u64; 2],
        source: impl Fn(FlowIndex) -> IpAddr,
    ) -> Self {
        let stride = destinations
            .iter()
            .map(|d| frame_len(d.protocol, d.size))
            .max()
            .unwrap_or(0);
        let mut frames = Self {
            stride,
            bytes: vec![0; stride * destinations.len()],
            patches: Vec::with_capacity(destinations.len()),
        };
        for (index, (destination, identifier)) in destinations.iter().zip(identifiers).enumerate() {
            let flow = FlowIndex(index as u32);
            let frame = &mut frames.bytes[index * stride..][..stride];
            let check = flow_check(secret, flow.0);
            let patch = Patch::prepare(frame, destination, source(flow), *identifier, check);
            frames.patches.push(patch);
        }
        assert_eq!(
            frames.patches.len(),
            destinations.len(),
            "an identifier for each destination"
        );
        frames
    }

    /// The longest frame there is.
    pub fn len_max(&self) -> usize {
        self.stride
    }

    /// Prepares one flow's frame anew, because it is sent from another address now.
    pub fn readdress(
        &mut self,
        flow: FlowIndex,
        destination: &Destination,
        source: IpAddr,
        identifier: u16,
    ) {
        let index = flow.0 as usize;
        let frame = &mut self.bytes[index * self.stride..][..self.stride];
        let check = self.patches[index].check;
        self.patches[index] = Patch::prepare(frame, destination, source, identifier, check);
    }

    /// Writes the frame of one probe into `buffer` and returns its length.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than [`Frames::len_max`] or the flow is unknown.
    pub fn write(
        &self,
        flow: FlowIndex,
        head: &[u8; ETHERNET_LEN],
        sequence: u64,
        cookie: u64,
        buffer: &mut [u8],
    ) -> usize {
        let patch = self.patches[flow.0 as usize];
        let len = usize::from(patch.len);
        let frame = self.copy(flow, head, &mut buffer[..len]);
        if matches!(patch.ttl, Ttl::Trace(_)) {
            ip::set_hop_limit(&mut frame[ETHERNET_LEN..], patch.ttl.of(sequence));
        }
        let transport = &mut frame[transport_at(patch.protocol)..];
        match patch.protocol {
            Protocol::Icmp | Protocol::Icmp6 => patch.echo(transport, sequence, cookie),
            Protocol::Udp | Protocol::Udp6 => patch.udp(transport, sequence, cookie),
            Protocol::Tcp | Protocol::Tcp6 => patch.tcp(transport, sequence, cookie),
        }
        len
    }

    /// Whether a flow is one of TCP.
    pub fn is_tcp(&self, flow: FlowIndex) -> bool {
        self.patches[flow.0 as usize].protocol.number() == PROTOCOL_TCP
    }

    /// Writes the frame that takes a TCP probe back, for when it was answered by a SYN-ACK: a RST
    /// with the sequence number that the destination expects next. Returns the frame's length.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than [`Frames::len_max`], the flow is unknown or not one of TCP.
    pub fn write_reset(
        &self,
        flow: FlowIndex,
        head: &[u8; ETHERNET_LEN],
        sequence: u64,
        cookie: u64,
        buffer: &mut [u8],
    ) -> usize {
        let patch = self.patches[flow.0 as usize];
        assert_eq!(patch.protocol.number(), PROTOCOL_TCP, "a flow of TCP");
        let transport_at = transport_at(patch.protocol);
        let len = transport_at + tcp::RST_LEN;
        let frame = self.copy(flow, head, &mut buffer[..len]);
        let packet = &mut frame[ETHERNET_LEN..];
        // It is no probe: where a trace's one has come, it must come, too, and no router on the
        // way is asked for an answer.
        let ttl = match patch.ttl {
            Ttl::Fixed(ttl) => ttl,
            Ttl::Trace(last) => last.get(),
        };
        ip::finish(packet, ttl);
        let pseudo = ip::pseudo_sum(packet, tcp::RST_LEN);
        let segment = &mut frame[transport_at..];
        let number = tcp_number(patch.check, cookie, sequence);
        tcp::reset(segment, number.wrapping_add(1));
        let checksum = checksum::finish(pseudo + checksum::sum(segment));
        put(segment, tcp::CHECKSUM_AT, checksum);
        len
    }

    /// The beginning of a flow's prepared frame, as much as `buffer` holds, behind this head.
    fn copy<'b>(
        &self,
        flow: FlowIndex,
        head: &[u8; ETHERNET_LEN],
        buffer: &'b mut [u8],
    ) -> &'b mut [u8] {
        let prepared = &self.bytes[flow.0 as usize * self.stride..][..buffer.len()];
        buffer[ETHERNET_LEN..].copy_from_slice(&prepared[ETHERNET_LEN..]);
        buffer[..ETHERNET_LEN].copy_from_slice(head);
        buffer
    }
}

impl Patch {
    /// Writes a frame with zero for all that changes with each probe.
    fn prepare(
        frame: &mut [u8],
        destination: &Destination,
        source: IpAddr,
        identifier: u16,
        check: u16,
    ) -> Self {
        let Destination {
            protocol,
            port,
            size,
            ttl,
            ..
        } = *destination;
        let len = frame_len(protocol, size);
        let frame = &mut frame[..len];
        frame.fill(0);
        ip::prepare(&mut frame[ETHERNET_LEN..], destination, source);
        let transport_at = transport_at(protocol);
        let transport_len = len - transport_at;
        let pseudo = match protocol {
            // RFC 792 has no pseudo-header.
            Protocol::Icmp => 0,
            _ => ip::pseudo_sum(&frame[ETHERNET_LEN..], transport_len),
        };
        let ipv6 = protocol.is_ipv6();
        let transport = &mut frame[transport_at..];
        match protocol {
            Protocol::Icmp | Protocol::Icmp6 => echo::prepare(transport, ipv6, identifier),
            Protocol::Udp | Protocol::Udp6 => {
                udp::prepare(transport, identifier, port, transport_len);
            }
            Protocol::Tcp | Protocol::Tcp6 => tcp::prepare(transport, ipv6, identifier, port),
        }
        let payload = &mut transport[self::transport_len(protocol)..];
        payload::fill(destination.data.as_deref(), payload);
        payload[..Prefix::of(protocol.number(), usize::from(size)).len].fill(0);
        Self {
            len: len as u16,
            protocol,
            ttl,
            check,
            sum: checksum::fold(pseudo + checksum::sum(transport)),
        }
    }

    /// What was zero when the sum was taken is only added to it: the simplest case of RFC 1624.
    fn echo(self, icmp: &mut [u8], sequence: u64, cookie: u64) {
        put(icmp, echo::SEQUENCE_AT, sequence as u16);
        let sum = u64::from(self.sum) + u64::from(sequence as u16);
        let checksum = self.prefix(&mut icmp[echo::LEN..], sum, (0, cookie), self.check);
        put(icmp, echo::CHECKSUM_AT, checksum);
    }

    fn udp(self, udp: &mut [u8], sequence: u64, cookie: u64) {
        let wanted = udp_checksum(self.check, sequence);
        let own = (sequence as u16, cookie);
        let checksum = self.prefix(&mut udp[udp::LEN..], u64::from(self.sum), own, wanted);
        // RFC 768: zero would say that there is none.
        let checksum = if checksum == 0 { u16::MAX } else { checksum };
        put(udp, udp::CHECKSUM_AT, checksum);
    }

    fn tcp(self, segment: &mut [u8], sequence: u64, cookie: u64) {
        let number = tcp_number(self.check, cookie, sequence).to_be_bytes();
        segment[tcp::NUMBER_AT..tcp::NUMBER_AT + 4].copy_from_slice(&number);
        let sum = u64::from(self.sum) + checksum::sum(&number);
        put(segment, tcp::CHECKSUM_AT, checksum::finish(sum));
    }

    /// Writes what has room of sequence, cookie and balance, and returns the checksum: `wanted`,
    /// if there is room for the balance. `sum` is that of all else.
    fn prefix(
        self,
        payload: &mut [u8],
        mut sum: u64,
        (sequence, cookie): (u16, u64),
        wanted: u16,
    ) -> u16 {
        let prefix = Prefix::of(self.protocol.number(), payload.len());
        if let Some(at) = prefix.sequence_at {
            put(payload, at, sequence);
            sum += u64::from(sequence);
        }
        // All offsets are even, so the words of these bytes are words of the checksum.
        let bytes = &cookie.to_le_bytes()[..prefix.cookie_len];
        payload[prefix.cookie_at..][..prefix.cookie_len].copy_from_slice(bytes);
        sum += checksum::sum(bytes);
        match prefix.balance_at {
            Some(at) => {
                put(payload, at, checksum::balance(sum, wanted));
                wanted
            }
            None => checksum::finish(sum),
        }
    }
}

/// Writes a word in network byte order.
fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

#[cfg(test)]
mod tests;
