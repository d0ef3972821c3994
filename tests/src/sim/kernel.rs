//! The near end: what the XDP program does, on the host, with the same parser and the same
//! matching over the very slots that the engine uses. The ring buffer is a queue of limited room.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use pinger::destination::wire_address;
use pinger::flight::AtomicSlot;
use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{Event, Flow, FlowKey, PAYLOAD_MATCHES, PROTOCOL_UDP, Payload, Settings};
use pinger_ebpf::matching::{Context, Match, SlotCell};
use pinger_ebpf::parse::{Answer, Packet, parse};
use pinger_ebpf::payload::Received;

/// The flight table, shared with the engine.
#[derive(Clone)]
pub struct Slots(pub Rc<[AtomicSlot]>);

impl AsRef<[AtomicSlot]> for Slots {
    fn as_ref(&self) -> &[AtomicSlot] {
        &self.0
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passed to the host's stack.
    Passed,
    /// Dropped as ours, and told of.
    Told,
    /// Dropped as ours, and not told of.
    Untold,
}

/// The simulated program with its maps.
pub struct Kernel {
    /// The flow table.
    pub flows: HashMap<FlowKey, Flow>,
    /// The flight table.
    pub slots: Slots,
    /// What probes carry; each flow says which is its.
    pub payloads: Vec<Payload>,
    /// The program's settings.
    pub settings: Settings,
    /// The ring buffer.
    pub ring: VecDeque<Event>,
    /// How many events fit there.
    pub ring_max: usize,
    /// Packets shorter than their headers promise.
    pub malformed: u64,
    /// Packets that were ours.
    pub ours: u64,
    /// Packets of a flow of ours that were none of its answers.
    pub forged: u64,
    /// Answers that found the ring buffer full.
    pub ring_dropped: u64,
}

impl Kernel {
    /// A program that has seen no packet yet, and whose flows share one payload.
    pub fn new(
        flows: impl IntoIterator<Item = (FlowKey, Flow)>,
        slots: Slots,
        payload: Payload,
        settings: Settings,
        ring_max: usize,
    ) -> Self {
        Self {
            flows: flows.into_iter().collect(),
            slots,
            payloads: vec![payload],
            settings,
            ring: VecDeque::new(),
            ring_max,
            malformed: 0,
            ours: 0,
            forged: 0,
            ring_dropped: 0,
        }
    }

    /// Whether the ring buffer takes one more event.
    pub fn has_room(&self) -> bool {
        self.ring.len() < self.ring_max
    }

    /// The sequence of the UDP probe in this frame if its flow has one slot and so it says
    /// nowhere in the frame.
    pub fn only_probe(&self, frame: &[u8]) -> Option<u64> {
        let [at, address] = match frame.get(12..14)? {
            [0x08, 0x00] => [34, 30],
            _ => [54, 38],
        };
        let mut key = FlowKey {
            address: [0; 16],
            identifier: u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?),
            port: u16::from_be_bytes(frame.get(at + 2..at + 4)?.try_into().ok()?),
            protocol: PROTOCOL_UDP,
            reserved: 0,
        };
        key.address = match at {
            34 => wire_address(<[u8; 4]>::try_from(frame.get(address..at)?).ok()?.into()),
            _ => frame.get(address..at)?.try_into().ok()?,
        };
        let flow = self.flows.get(&key)?;
        let is_short = Prefix::of(PROTOCOL_UDP, flow.payload_len.into())
            .sequence_at
            .is_none();
        is_short.then(|| self.slots.0[flow.slot_base as usize].state().sequence())
    }

    /// Handles one packet as `main.rs` of the program does.
    pub fn receive(&mut self, packet: &[u8], now_ns: u64) -> Verdict {
        let answer = match parse(packet) {
            Packet::Answer(answer) => answer,
            Packet::Malformed => {
                self.malformed += 1;
                return Verdict::Passed;
            }
            Packet::NotOurs => return Verdict::Passed,
        };
        let Some(flow) = self.flows.get(&answer.key) else {
            return Verdict::Passed;
        };
        let room = self.has_room();
        let context = Context {
            flow,
            settings: &self.settings,
            now_ns,
            room,
        };
        let matched = answer
            .sequence(packet, flow)
            .map_or(Match::Forged, |sequence| {
                let slot = &self.slots.0[sequence.slot_index(flow) as usize];
                answer.claim(packet, sequence, slot, context)
            });
        if matched == Match::Forged {
            self.forged += 1;
            return Verdict::Passed;
        }
        self.ours += 1;
        self.ring_dropped += u64::from(!room);
        let Match::Told(mut event) = matched else {
            return Verdict::Untold;
        };
        event.mismatch_at = self.compare(packet, &answer, flow);
        self.ring.push_back(event);
        Verdict::Told
    }

    /// Compares the payload of an answer with what the flow's probes carry.
    fn compare(&self, packet: &[u8], answer: &Answer, flow: &Flow) -> u16 {
        if !answer.has_payload() {
            return PAYLOAD_MATCHES;
        }
        let sent_len = usize::from(flow.payload_len);
        let received = Received {
            at: answer.payload_at,
            len: answer.payload_len,
            sent_len,
            own_len: Prefix::of(answer.key.protocol, sent_len).len,
        };
        received.first_difference(packet, &self.payloads[usize::from(flow.payload)])
    }
}
