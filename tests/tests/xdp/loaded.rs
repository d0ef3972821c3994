//! The compiled program in the kernel, with no interface: packets go in one by one.

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pinger::wire::bpf::{Counters, Plan, Program, SlotMemory};
use pinger::wire::clock;
use pinger_ebpf::layout::{Counter, PROGRAM, SLOTS_MAP, Settings};
use pinger_ebpf::matching::SlotCell as _;
use pinger_tests::vectors::{self, SETTINGS, SLOTS};

/// `XDP_DROP` and `XDP_PASS` of `include/uapi/linux/bpf.h`.
pub(crate) const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The shortest and the longest packet that a test run of XDP takes: an Ethernet header, and one
/// page without headroom and trailer.
pub(crate) const PACKET_LEN: std::ops::RangeInclusive<usize> = 14..=3520;

const COUNTERS: [Counter; 4] = [
    Counter::Ours,
    Counter::RingDropped,
    Counter::Forged,
    Counter::Malformed,
];

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) dropped: bool,
    pub(crate) event: Option<Vec<u8>>,
    pub(crate) slots: Vec<[u64; 2]>,
    pub(crate) counters: [u64; 4],
}

/// The program in the kernel, with no interface.
pub(crate) struct Loaded {
    program: Program,
    pub(crate) events: RingBuf<MapData>,
    pub(crate) counters: Counters,
    memory: SlotMemory,
    /// The counters, unless the program has run since they were read.
    counted: Option<[u64; 4]>,
}

impl Loaded {
    pub(crate) fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: Settings) -> Self {
        let plan = Plan {
            flows: &vectors::flows(),
            payloads: &[vectors::payload()],
            slots: SLOTS,
            settings,
        };
        let mut program = Program::load(&plan).unwrap_or_else(|error| {
            panic!("{error}\nThis test needs root and the compiled program: run `cargo xtask test`")
        });
        let events = program.take_events().expect("taken once");
        let counters = program.take_counters().expect("taken once");
        let memory = program.slots().expect("a mapping");
        Self {
            program,
            events,
            counters,
            memory,
            counted: None,
        }
    }

    /// Bytes of the program as the kernel runs it, dead code removed.
    fn translated_len(&mut self) -> u32 {
        let program = self
            .program
            .ebpf_mut()
            .program(PROGRAM)
            .expect("the program");
        let info = program.info().expect("a loaded program");
        info.size_translated().expect("root may see it")
    }

    /// By the map, as nobody but a test writes slots; they are read in mapped memory.
    pub(crate) fn set_slot(&mut self, slot: u32, value: [u64; 2]) {
        let map = self
            .program
            .ebpf_mut()
            .map_mut(SLOTS_MAP)
            .expect("the slots");
        let mut slots: Array<_, [u64; 2]> = map.try_into().expect("an array of slots");
        slots.set(slot, value, 0).expect("a slot of the array");
    }

    pub(crate) fn all_slots(&self) -> Vec<[u64; 2]> {
        let slots = self.memory.as_ref().iter();
        slots.map(|slot| [slot.tx_ns(), slot.state().0]).collect()
    }

    pub(crate) fn run(&mut self, packet: &[u8], repeat: u32) -> u32 {
        self.counted = None;
        let xdp: &mut Xdp = self
            .program
            .ebpf_mut()
            .program_mut(PROGRAM)
            .expect("the program")
            .try_into()
            .expect("an XDP program");
        let options = TestRunOptions {
            data_in: Some(packet),
            repeat,
            ..TestRunOptions::new()
        };
        let run = xdp
            .test_run(options)
            .expect("the kernel runs it on a packet of this length");
        run.return_value
    }

    pub(crate) fn counts(&self) -> [u64; 4] {
        COUNTERS.map(|counter| self.counters.get(counter))
    }

    /// Runs one packet. Also returns the times just before and just after.
    pub(crate) fn outcome(&mut self, packet: &[u8]) -> (Outcome, [u64; 2]) {
        let counters = self.counted.unwrap_or_else(|| self.counts());
        let before_ns = clock::now_ns();
        let verdict = self.run(packet, 1);
        let times = [before_ns, clock::now_ns()];
        assert!([XDP_DROP, XDP_PASS].contains(&verdict), "verdict {verdict}");
        let event = self.events.next().map(|item| item.to_vec());
        assert!(self.events.next().is_none(), "one event at most");
        let after = self.counts();
        self.counted = Some(after);
        let outcome = Outcome {
            dropped: verdict == XDP_DROP,
            event,
            slots: self.all_slots(),
            counters: std::array::from_fn(|index| after[index] - counters[index]),
        };
        (outcome, times)
    }
}

/// The settings are read-only, so the verifier removes what they switch off.
#[test]
fn logging_and_verifying_cost_nothing_when_they_are_off() {
    let len = |log, verify| {
        let settings = Settings {
            log,
            verify,
            ..SETTINGS
        };
        Loaded::with(settings).translated_len()
    };
    let (bare, verifying, logging) = (len(0, 0), len(0, 1), len(1, 1));
    assert!(
        bare < verifying,
        "{bare} bytes without, {verifying} with comparing payloads"
    );
    assert!(
        verifying < logging,
        "{verifying} bytes without, {logging} with logging"
    );
}
