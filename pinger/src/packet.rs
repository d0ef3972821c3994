//! What leaves: a frame for each flow, prepared once and patched for each probe.
//!
//! In: a [`Destination`] with the addresses it is probed from. Out: the bytes of an Ethernet
//! frame whose first 14 bytes, the Ethernet header, the route fills in when it is sent. Pure.

mod checksum;
pub mod echo;

use std::net::IpAddr;

use pinger_ebpf::layout::{COOKIE_LEN, PAYLOAD_MAX, Payload};
use zerocopy::{FromZeros, IntoBytes};

use crate::destination::{Destination, FlowIndex};

/// Bytes of an Ethernet header: two addresses and the EtherType.
pub const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;

/// Length of the frame that probes an address with `size` payload bytes.
pub fn frame_len(address: IpAddr, size: u16) -> usize {
    let ip = if address.is_ipv4() {
        IPV4_LEN
    } else {
        IPV6_LEN
    };
    ETHERNET_LEN + ip + ICMP_LEN + usize::from(size)
}

/// The most payload bytes that fit an interface's MTU and the kernel program's buffers.
pub fn size_max(address: IpAddr, mtu: u32) -> u16 {
    let headers = frame_len(address, 0) - ETHERNET_LEN;
    let room = (mtu as usize).saturating_sub(headers).min(PAYLOAD_MAX);
    u16::try_from(room).unwrap_or(u16::MAX)
}

/// The payload every probe carries behind its cookie: byte `i` is `i mod 256`, as `ping` sends.
pub fn pattern() -> Payload {
    let mut payload = Payload::new_zeroed();
    for (index, byte) in payload.as_mut_bytes().iter_mut().enumerate() {
        *byte = (index % 256) as u8;
    }
    payload
}

/// What of a prepared frame changes with each probe, and what it takes to change it.
#[derive(Clone, Copy, Debug)]
struct Patch {
    len: u16,
    /// Where the ICMP header begins.
    icmp_at: u8,
    /// Whether the payload is long enough for a cookie.
    has_cookie: bool,
    /// One's complement sum of all that the checksum covers, with sequence, cookie and checksum
    /// zero.
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
    /// `identifiers` the ICMP identifier of each.
    ///
    /// # Panics
    ///
    /// If there are fewer identifiers than destinations.
    pub fn prepare(
        destinations: &[Destination],
        identifiers: &[u16],
        source: impl Fn(FlowIndex) -> IpAddr,
        payload: &Payload,
    ) -> Self {
        let stride = destinations
            .iter()
            .map(|d| frame_len(d.address, d.size))
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
            frames.patches.push(echo::prepare(
                frame,
                destination,
                source(flow),
                *identifier,
                payload,
            ));
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
        payload: &Payload,
    ) {
        let index = flow.0 as usize;
        let frame = &mut self.bytes[index * self.stride..][..self.stride];
        self.patches[index] = echo::prepare(frame, destination, source, identifier, payload);
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
        let index = flow.0 as usize;
        let patch = self.patches[index];
        let len = usize::from(patch.len);
        let frame = &mut buffer[..len];
        frame.copy_from_slice(&self.bytes[index * self.stride..][..len]);
        frame[..ETHERNET_LEN].copy_from_slice(head);
        patch.apply(
            &mut frame[usize::from(patch.icmp_at)..],
            sequence as u16,
            cookie,
        );
        len
    }

    /// Placeholder: the probe's own frame.
    pub fn write_reset(
        &self,
        flow: FlowIndex,
        head: &[u8; ETHERNET_LEN],
        sequence: u64,
        cookie: u64,
        buffer: &mut [u8],
    ) -> usize {
        self.write(flow, head, sequence, cookie, buffer)
    }
}

impl Patch {
    /// Sets sequence, cookie and checksum. What was zero when the sum was taken is only added to
    /// it: the simplest case of RFC 1624.
    fn apply(self, icmp: &mut [u8], sequence: u16, cookie: u64) {
        let mut sum = u64::from(self.sum) + u64::from(sequence);
        icmp[6..8].copy_from_slice(&sequence.to_be_bytes());
        if self.has_cookie {
            let bytes = cookie.to_le_bytes();
            icmp[ICMP_LEN..ICMP_LEN + COOKIE_LEN].copy_from_slice(&bytes);
            sum += checksum::sum(&bytes);
        }
        icmp[2..4].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
