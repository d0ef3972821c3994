//! The program in the kernel and its twin on the host, side by side: both must make the same of a
//! packet.

use pinger::flight::AtomicSlot;
use pinger::wire::clock;
use pinger_ebpf::layout::{AnswerKind, Event, EventKind, PAYLOAD_MATCHES, SlotState};
use pinger_ebpf::matching::SlotCell as _;
use pinger_tests::sim::kernel::{Kernel, Slots, Verdict};
use pinger_tests::vectors::{self, Expected, Preset, SENT_AGO_NS, SETTINGS, SLOTS, Said};
use zerocopy::{FromBytes, IntoBytes};

use crate::loaded::{Loaded, Outcome};

/// The twin on the host.
struct Twin(Kernel);

impl Twin {
    fn new() -> Self {
        let slots = Slots((0..SLOTS).map(|_| AtomicSlot::default()).collect());
        Self(Kernel::new(
            vectors::flows(),
            slots,
            vectors::payload(),
            SETTINGS,
            usize::MAX,
        ))
    }

    /// Takes the slots over as they stand in the kernel.
    fn set_slots(&mut self, slots: &[[u64; 2]]) {
        self.0.slots = Slots(
            slots
                .iter()
                .map(|[tx, state]| slot_of(*tx, *state))
                .collect(),
        );
    }

    fn counts(&self) -> [u64; 4] {
        [
            self.0.ours,
            self.0.ring_dropped,
            self.0.forged,
            self.0.malformed,
        ]
    }

    fn outcome(&mut self, packet: &[u8], now_ns: u64) -> Outcome {
        let counters = self.counts();
        let verdict = self.0.receive(packet, now_ns);
        let after = self.counts();
        Outcome {
            dropped: verdict != Verdict::Passed,
            event: self
                .0
                .ring
                .pop_front()
                .map(|event| event.as_bytes().to_vec()),
            slots: self
                .0
                .slots
                .0
                .iter()
                .map(|slot| [slot.tx_ns(), slot.state().0])
                .collect(),
            counters: std::array::from_fn(|index| after[index] - counters[index]),
        }
    }
}

fn slot_of(tx_ns: u64, state: u64) -> AtomicSlot {
    AtomicSlot::preset(tx_ns, SlotState(state))
}

/// Both, side by side.
pub(crate) struct Pair {
    pub(crate) loaded: Loaded,
    twin: Twin,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            loaded: Loaded::new(),
            twin: Twin::new(),
        }
    }

    pub(crate) fn preset(&mut self, preset: Option<Preset>) {
        for slot in 0..SLOTS {
            self.loaded.set_slot(slot, [0, 0]);
        }
        if let Some(preset) = preset {
            self.set(preset);
        }
    }

    pub(crate) fn set(&mut self, preset: Preset) {
        let sent_ns = clock::now_ns() - SENT_AGO_NS;
        self.loaded
            .set_slot(preset.slot(), [sent_ns, preset.state.0]);
    }

    /// The one check: both make the same of a packet. Returns what that is.
    pub(crate) fn check(&mut self, packet: &[u8], what: &dyn Fn() -> String) -> Outcome {
        let slots = self.loaded.all_slots();
        self.twin.set_slots(&slots);
        let (found, [before_ns, after_ns]) = self.loaded.outcome(packet);
        let rx_ns = found
            .event
            .as_ref()
            .map_or(before_ns, |event| event_of(event).rx_ns);
        assert!(
            (before_ns..=after_ns).contains(&rx_ns),
            "{}: stamped at {rx_ns}",
            what()
        );
        let expected = self.twin.outcome(packet, rx_ns);
        assert_eq!(found, expected, "{}", what());
        found
    }
}

pub(crate) fn event_of(bytes: &[u8]) -> Event {
    Event::read_from_bytes(bytes).expect("an event has the length of its layout")
}

pub(crate) fn meaning(outcome: &Outcome) -> Expected {
    let [ours, ring_dropped, forged, malformed] = outcome.counters;
    assert_eq!(ring_dropped, 0, "nothing fills the ring here");
    let event = outcome.event.as_deref().map(event_of);
    match (outcome.dropped, ours, forged, malformed, event) {
        (true, 1, 0, 0, Some(event)) => {
            let kind = EventKind::from_u8(event.kind).expect("a known kind");
            let mismatch = (event.mismatch_at != PAYLOAD_MATCHES).then_some(event.mismatch_at);
            Expected::Told(kind, mismatch)
        }
        (true, 1, 0, 0, None) => Expected::Untold,
        (false, 0, 1, 0, None) => Expected::Forged,
        (false, 0, 0, 1, None) => Expected::Malformed,
        (false, 0, 0, 0, None) => Expected::Pass,
        other => panic!("nothing a packet can come to: {other:?}"),
    }
}

pub(crate) fn said(event: &Event) -> Said {
    match AnswerKind::from_u8(event.answer).expect("a known kind") {
        AnswerKind::IcmpError => Said::Error(event.icmp_type, event.icmp_code, event.responder),
        kind => Said::Kind(kind),
    }
}
