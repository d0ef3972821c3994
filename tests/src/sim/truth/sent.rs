//! What leaves: each frame is held against what its probe must be, and noted.

use pinger::destination::{Destination, Ttl};
use pinger_ebpf::cookie::cookie;
use pinger_ebpf::identity::{Prefix, flow_check, tcp_number, tcp_sequence, udp_checksum};
use pinger_ebpf::layout::{PROTOCOL_TCP, PROTOCOL_UDP};

use super::super::host::Request;
use super::{Probe, ROUNDS_MAX, Target, Truth};

/// When and how a frame left, or did not.
#[derive(Clone, Copy)]
pub struct Leaving {
    /// The send stamp; of a RST, when it was queued.
    pub tx_ns: u64,
    /// When it was flushed.
    pub flush_ns: u64,
    /// Whether the link refused it.
    pub refused: bool,
    /// Where the flow has one slot: the sequence of the probe there, which its frame may not say.
    pub only: Option<u64>,
}

impl Truth {
    /// A frame left, or was refused. Returns whose it is, by flow and sequence; `None` if it was
    /// no probe.
    pub fn sent(
        &mut self,
        frame: &[u8],
        request: &Request,
        leaving: Leaving,
    ) -> Option<(u32, u64)> {
        let key = (
            request.to,
            request.protocol,
            request.identifier,
            request.port,
        );
        let Some(&flow) = self.by_key.get(&key) else {
            self.fail(format!("a frame to nobody left: {request:?}"));
            return None;
        };
        let hop = self.targets[flow as usize].hop;
        let is_sent_right =
            frame[..6] == super::super::cast::mac(hop) && self.is_up(hop, leaving.tx_ns);
        if request.is_reset {
            self.reset(flow, request, leaving.tx_ns, is_sent_right);
            return None;
        }
        let sequence = leaving.only.unwrap_or_else(|| self.sequence(flow, request));
        let target = &self.targets[flow as usize];
        let is_newer = target.probes.last().is_none_or(|p| p.sequence < sequence);
        let right = is_sent_right
            && is_newer
            && request.payload == self.payload(flow, target, sequence, request)
            && self.is_checked(flow, target, sequence, request)
            && request.hop_limit == target.destination.ttl.of(sequence);
        if !right {
            self.fail(format!(
                "probe {sequence} of flow {flow} is not as it should be: {request:?}"
            ));
            return None;
        }
        self.targets[flow as usize].probes.push(Probe {
            sequence,
            tx_ns: leaving.tx_ns,
            refused_ns: leaving.refused.then_some(leaving.flush_ns),
            arrivals: Vec::new(),
        });
        Some((flow, sequence))
    }

    /// The sequence of a probe that leaves: the next one whose low bits are those on the wire and
    /// whose cookie is right. A sender that was held up may have left a whole round of 65,536 out.
    fn sequence(&self, flow: u32, request: &Request) -> u64 {
        let target = &self.targets[flow as usize];
        let low = match request.protocol {
            PROTOCOL_TCP => tcp_sequence(flow_check(self.secret, flow), request.number),
            PROTOCOL_UDP => request
                .payload
                .first_chunk()
                .map_or(0, |bytes| u16::from_be_bytes(*bytes)),
            _ => request.number as u16,
        };
        let from = target.probes.last().map_or(0, |probe| probe.sequence + 1);
        let next = from + u64::from(low.wrapping_sub(from as u16));
        let mut rounds = (0..ROUNDS_MAX).map(|round| next + (round << 16));
        let is_own = |sequence: &u64| self.has_cookie(flow, *sequence, request);
        rounds.find(is_own).unwrap_or(next)
    }

    /// Whether what a packet of ours holds of a cookie is that of this probe.
    fn has_cookie(&self, flow: u32, sequence: u64, request: &Request) -> bool {
        let cookie = cookie(self.secret, flow, sequence);
        if request.protocol == PROTOCOL_TCP {
            return request.number == tcp_number(flow_check(self.secret, flow), cookie, sequence);
        }
        let prefix = Prefix::of(request.protocol, request.payload.len());
        let wanted = &cookie.to_le_bytes()[..prefix.cookie_len];
        request.payload[prefix.cookie_at..].starts_with(wanted)
    }

    /// What a probe must carry; as balance, whatever makes the checksum come out.
    fn payload(&self, flow: u32, target: &Target, sequence: u64, request: &Request) -> Vec<u8> {
        let Destination {
            size,
            data,
            protocol,
            ..
        } = &target.destination;
        let size = usize::from(*size);
        let mut payload: Vec<u8> = match data {
            Some(data) => data.repeat(size / data.len()),
            None => (0..size).map(|index| index as u8).collect(),
        };
        payload.resize(size, 0);
        let prefix = Prefix::of(protocol.number(), size);
        let cookie = cookie(self.secret, flow, sequence).to_le_bytes();
        payload[prefix.cookie_at..][..prefix.cookie_len]
            .copy_from_slice(&cookie[..prefix.cookie_len]);
        if let Some(at) = prefix.sequence_at {
            payload[at..at + 2].copy_from_slice(&(sequence as u16).to_be_bytes());
        }
        if let Some(at) = prefix.balance_at.filter(|_| request.payload.len() == size) {
            payload[at..at + 2].copy_from_slice(&request.payload[at..at + 2]);
        }
        payload
    }

    /// Whether the headers of a probe hold what tells that it is ours.
    fn is_checked(&self, flow: u32, target: &Target, sequence: u64, request: &Request) -> bool {
        let check = flow_check(self.secret, flow);
        let size = usize::from(target.destination.size);
        let is_balanced = Prefix::of(request.protocol, size).balance_at.is_some();
        match request.protocol {
            PROTOCOL_TCP => self.has_cookie(flow, sequence, request),
            PROTOCOL_UDP => !is_balanced || request.checksum == udp_checksum(check, sequence),
            _ => {
                let is_numbered = request.number == u32::from(sequence as u16);
                is_numbered && (!is_balanced || request.checksum == check)
            }
        }
    }

    /// Whether a made-up initial sequence number is by chance that of a probe: its 16 bits of the
    /// cookie let one of 65,536 through.
    pub fn is_number_of_a_probe(&self, flow: u32, number: u32) -> bool {
        let check = flow_check(self.secret, flow);
        let low = u64::from(tcp_sequence(check, number));
        let mut rounds = (0..ROUNDS_MAX).map(|round| low + (round << 16));
        rounds.any(|s| tcp_number(check, cookie(self.secret, flow, s), s) == number)
    }

    /// A RST left, or was refused: with the number that follows a SYN's, and a hop limit that
    /// takes it to the destination.
    fn reset(&mut self, flow: u32, request: &Request, at_ns: u64, is_sent_right: bool) {
        let syn = Request {
            number: request.number.wrapping_sub(1),
            ..request.clone()
        };
        let low = tcp_sequence(flow_check(self.secret, flow), syn.number);
        let mut rounds = (0..ROUNDS_MAX).map(|round| u64::from(low) + (round << 16));
        let sequence = rounds.find(|sequence| self.has_cookie(flow, *sequence, &syn));
        let hop_limit = match self.targets[flow as usize].destination.ttl {
            Ttl::Fixed(ttl) => ttl,
            Ttl::Trace(last) => last.get(),
        };
        match sequence {
            Some(sequence) if is_sent_right && request.hop_limit == hop_limit => {
                let target = &mut self.targets[flow as usize];
                target.resets.push((sequence, at_ns));
            }
            _ => self.fail(format!("a RST that closes nothing left: {request:?}")),
        }
    }
}
