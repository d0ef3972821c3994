//! The near end: what the XDP program does, on the host, with the same parser and the same
//! matching over the very slots that the engine uses. The ring buffer is a queue of limited room.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use pinger::flight::AtomicSlot;
use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{Event, Flow, FlowKey, PAYLOAD_MATCHES, Payload, Settings};
use pinger_ebpf::matching::{Context, Match};
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
    /// What all probes carry.
    pub payload: Payload,
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
    /// A program that has seen no packet yet.
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
            payload,
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
        received.first_difference(packet, &self.payload)
    }
}
