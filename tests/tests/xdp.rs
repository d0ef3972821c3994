//! The compiled XDP program on packets, by BPF_PROG_TEST_RUN: the same bytes go through it and
//! through its twin on the host, which calls the same parser and matching. Verdict, event, slot
//! and counters must agree. Needs root, and the object that `cargo xtask test` builds.

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pinger::flight::AtomicSlot;
use pinger::wire::bpf::{Counters, Plan, Program, SlotMemory};
use pinger::wire::clock;
use pinger_ebpf::cookie::cookie;
use pinger_ebpf::identity::{Prefix, tcp_number, udp_checksum};
use pinger_ebpf::layout::{
    AnswerKind, COOKIE_LEN, Counter, Event, EventKind, Flow, FlowKey, PAYLOAD_MATCHES, PAYLOAD_MAX,
    PROGRAM, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, SLOTS_MAP, Settings, SlotState,
};
use pinger_ebpf::matching::SlotCell as _;
use pinger_tests::sim::kernel::{Kernel, Slots, Verdict};
use pinger_tests::sim::rng::Rng;
use pinger_tests::vectors::{self, Expected, Preset, SENT_AGO_NS, SETTINGS, SLOTS, Said, Vector};
use zerocopy::{FromBytes, IntoBytes};

/// `XDP_DROP` and `XDP_PASS` of `include/uapi/linux/bpf.h`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The shortest and the longest packet that a test run of XDP takes: an Ethernet header, and one
/// page without headroom and trailer.
const PACKET_LEN: std::ops::RangeInclusive<usize> = 14..=3520;

const COUNTERS: [Counter; 4] = [
    Counter::Ours,
    Counter::RingDropped,
    Counter::Forged,
    Counter::Malformed,
];

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    dropped: bool,
    event: Option<Vec<u8>>,
    slots: Vec<[u64; 2]>,
    counters: [u64; 4],
}

/// The program in the kernel, with no interface.
struct Loaded {
    program: Program,
    events: RingBuf<MapData>,
    counters: Counters,
    memory: SlotMemory,
    /// The counters, unless the program has run since they were read.
    counted: Option<[u64; 4]>,
}

impl Loaded {
    fn new() -> Self {
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
    fn set_slot(&mut self, slot: u32, value: [u64; 2]) {
        let map = self
            .program
            .ebpf_mut()
            .map_mut(SLOTS_MAP)
            .expect("the slots");
        let mut slots: Array<_, [u64; 2]> = map.try_into().expect("an array of slots");
        slots.set(slot, value, 0).expect("a slot of the array");
    }

    fn all_slots(&self) -> Vec<[u64; 2]> {
        let slots = self.memory.as_ref().iter();
        slots.map(|slot| [slot.tx_ns(), slot.state().0]).collect()
    }

    fn run(&mut self, packet: &[u8], repeat: u32) -> u32 {
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

    fn counts(&self) -> [u64; 4] {
        COUNTERS.map(|counter| self.counters.get(counter))
    }

    /// Runs one packet. Also returns the times just before and just after.
    fn outcome(&mut self, packet: &[u8]) -> (Outcome, [u64; 2]) {
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
struct Pair {
    loaded: Loaded,
    twin: Twin,
}

impl Pair {
    fn new() -> Self {
        Self {
            loaded: Loaded::new(),
            twin: Twin::new(),
        }
    }

    fn preset(&mut self, preset: Option<Preset>) {
        for slot in 0..SLOTS {
            self.loaded.set_slot(slot, [0, 0]);
        }
        if let Some(preset) = preset {
            self.set(preset);
        }
    }

    fn set(&mut self, preset: Preset) {
        let sent_ns = clock::now_ns() - SENT_AGO_NS;
        self.loaded
            .set_slot(preset.slot(), [sent_ns, preset.state.0]);
    }

    /// The one check: both make the same of a packet. Returns what that is.
    fn check(&mut self, packet: &[u8], what: &dyn Fn() -> String) -> Outcome {
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

fn event_of(bytes: &[u8]) -> Event {
    Event::read_from_bytes(bytes).expect("an event has the length of its layout")
}

fn meaning(outcome: &Outcome) -> Expected {
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

fn said(event: &Event) -> Said {
    match AnswerKind::from_u8(event.answer).expect("a known kind") {
        AnswerKind::IcmpError => Said::Error(event.icmp_type, event.icmp_code, event.responder),
        kind => Said::Kind(kind),
    }
}

#[test]
fn every_vector_comes_to_what_its_file_says() {
    let vectors = vectors::all();
    assert!(vectors.len() > 180, "the vectors are in tests/vectors");
    let mut pair = Pair::new();
    for vector in vectors {
        pair.preset(vector.preset);
        let outcome = pair.check(&vector.packet, &|| vector.name.clone());
        assert_eq!(meaning(&outcome), vector.expected, "{}", vector.name);
        if let Some(event) = outcome.event.as_deref().map(event_of) {
            assert_eq!(said(&event), vector.said, "{}", vector.name);
        }
    }
}

#[test]
fn a_packet_cut_anywhere_comes_to_the_same_in_the_kernel() {
    let mut pair = Pair::new();
    for vector in vectors::all() {
        for len in *PACKET_LEN.start()..vector.packet.len() {
            pair.preset(vector.preset);
            pair.check(&vector.packet[..len], &|| {
                format!("{}, {len} bytes", vector.name)
            });
        }
    }
}

/// Whether a message of this type is an error, by RFC 792 and RFC 4443 written out once more.
fn is_error_type(is_v6: bool, icmp_type: u8) -> bool {
    if is_v6 {
        [1, 2, 3, 4].contains(&icmp_type)
    } else {
        [3, 4, 11, 12].contains(&icmp_type)
    }
}

#[test]
fn every_type_and_code_is_an_error_or_passes() {
    let vectors = vectors::all();
    let mut pair = Pair::new();
    for (name, icmp_at) in [
        ("port unreachable to UDP, 8 bytes quoted", 34),
        ("time exceeded of an echo request", 34),
        ("time exceeded of a SYN, 8 bytes quoted", 34),
        ("port unreachable to UDP over IPv6", 54),
        ("time exceeded of an ICMPv6 echo request", 54),
        ("time exceeded of a SYN over IPv6", 54),
    ] {
        let vector = vectors.iter().find(|vector| vector.name == name);
        let vector = vector.unwrap_or_else(|| panic!("no vector {name}"));
        let mut packet = vector.packet.clone();
        for icmp_type in 0..=u8::MAX {
            let is_error = is_error_type(icmp_at == 54, icmp_type);
            let codes = if is_error { 0..=u8::MAX } else { 0..=3 };
            for code in codes {
                [packet[icmp_at], packet[icmp_at + 1]] = [icmp_type, code];
                pair.preset(vector.preset);
                let what = || format!("{name}: type {icmp_type}, code {code}");
                let outcome = pair.check(&packet, &what);
                let event = outcome.event.as_deref().map(event_of);
                let found = event.map(|event| (event.icmp_type, event.icmp_code));
                assert_eq!(found, is_error.then_some((icmp_type, code)), "{}", what());
            }
        }
    }
}

/// An answer with the longest payload, one byte of it changed, or its end moved.
fn long_answer(change: Option<usize>, len: usize) -> Vec<u8> {
    let mut packet = vectors::all()[0].packet[..42].to_vec();
    packet[29] = 11;
    packet[16..18].copy_from_slice(&(28 + len as u16).to_be_bytes());
    packet.extend_from_slice(&vectors::payload().as_bytes()[..len]);
    packet[42..42 + COOKIE_LEN].copy_from_slice(&cookie(SETTINGS.secret, 3, 5).to_le_bytes());
    if let Some(at) = change {
        packet[42 + at] ^= 1;
    }
    packet
}

#[test]
fn the_longest_payloads_are_compared_to_their_ends() {
    let mut pair = Pair::new();
    let preset = Preset {
        flow: 3,
        state: SlotState::new(SlotState::SENT, 5),
    };
    let own_len = Prefix::of(PROTOCOL_ICMP, PAYLOAD_MAX).len;
    let changes = (own_len..PAYLOAD_MAX)
        .step_by(61)
        .chain(PAYLOAD_MAX - 20..PAYLOAD_MAX);
    let cases = changes
        .map(|at| (Some(at), PAYLOAD_MAX, Some(at as u16)))
        .chain([
            (None, PAYLOAD_MAX, None),
            (None, PAYLOAD_MAX + 1, Some(PAYLOAD_MAX as u16)),
        ])
        .chain((PAYLOAD_MAX - 20..PAYLOAD_MAX).map(|len| (None, len, Some(len as u16))));
    for (change, len, mismatch) in cases {
        pair.preset(Some(preset));
        let what = || format!("change {change:?}, length {len}");
        let outcome = pair.check(&long_answer(change, len), &what);
        assert_eq!(
            meaning(&outcome),
            Expected::Told(EventKind::Reply, mismatch),
            "{}",
            what()
        );
    }
}

/// How many mutants of the vectors run.
const MUTANTS: u64 = 1_000_000;
/// Replaces the seed, to play a failure again or to try others.
const SEED_VARIABLE: &str = "PINGER_XDP_SEED";

/// A vector with some bytes changed, mostly in the headers, and perhaps another length.
fn mutant(vector: &Vector, rng: &mut Rng) -> Vec<u8> {
    let mut packet = vector.packet.clone();
    for _ in 0..rng.below(4) {
        let reach = if rng.chance(0.7) {
            packet.len().min(110)
        } else {
            packet.len()
        };
        let at = rng.below(reach as u64) as usize;
        packet[at] = match rng.below(3) {
            0 => packet[at] ^ (1 << rng.below(8)),
            1 => rng.draw() as u8,
            _ => [0, 1, 6, 17, 44, 58, 60, 0x45, 0x60, 0x81, 0xff][rng.below(11) as usize],
        };
    }
    if rng.chance(0.2) {
        let len = rng.below(packet.len() as u64 + 40) as usize;
        packet.resize(len.max(*PACKET_LEN.start()), 0);
    }
    packet
}

/// A state of a slot near the one that the packet would meet.
fn random_preset(vector: &Vector, rng: &mut Rng) -> Preset {
    let (flow, near) = vector
        .preset
        .map_or((0, 5), |preset| (preset.flow, preset.state.sequence()));
    let sequence = (near & 0xffff) + 0x1_0000 * rng.below(3) + 8 * rng.below(2);
    let state = match rng.below(7) {
        0 => SlotState::unreported(sequence, 9),
        1 => SlotState::unreported_error(sequence, 9),
        2 => SlotState::new(SlotState::FREE, sequence),
        3 => SlotState::new(SlotState::ANSWERED, sequence),
        4 => SlotState::new(SlotState::EXPIRED, sequence),
        _ => SlotState::new(SlotState::SENT, sequence),
    };
    Preset { flow, state }
}

/// What a packet must contain, wherever, to be told as an answer to this probe: found without the
/// parser. Short of it the program was fooled.
fn proof(event: &Event, key: &FlowKey, flow: &Flow) -> Vec<Vec<u8>> {
    let is_error = event.answer == AnswerKind::IcmpError as u8;
    let [identifier, port] = [key.identifier, key.port].map(u16::to_be_bytes);
    let sequence = (event.sequence as u16).to_be_bytes();
    let cookie = cookie(SETTINGS.secret, flow.index, event.sequence);
    let prefix = Prefix::of(key.protocol, flow.payload_len.into());
    let address = match key.address.strip_prefix(&[0; 10]) {
        Some(mapped) => mapped[2..].to_vec(),
        None => key.address.to_vec(),
    };
    let header = match (key.protocol, is_error) {
        (PROTOCOL_TCP, true) => {
            let number = tcp_number(flow.check, cookie, event.sequence);
            [&identifier[..], &port, &number.to_be_bytes()].concat()
        }
        (PROTOCOL_TCP, false) => {
            let number = tcp_number(flow.check, cookie, event.sequence);
            number.wrapping_add(1).to_be_bytes().to_vec()
        }
        (PROTOCOL_UDP, true) if prefix.sequence_at.is_some() => {
            udp_checksum(flow.check, event.sequence)
                .to_be_bytes()
                .to_vec()
        }
        (PROTOCOL_UDP, true) => [identifier, port].concat(),
        (PROTOCOL_UDP, false) => [port, identifier].concat(),
        (_, true) if prefix.balance_at.is_some() => {
            [flow.check.to_be_bytes(), identifier, sequence].concat()
        }
        _ => [identifier, sequence].concat(),
    };
    let mut proof = vec![address, header];
    if !is_error {
        proof.push(cookie.to_le_bytes()[..prefix.cookie_len].to_vec());
    }
    proof
}

fn check_proof(packet: &[u8], event: &Event, (key, flow): &(FlowKey, Flow), seed: u64) {
    for bytes in proof(event, key, flow) {
        assert!(
            bytes.is_empty() || packet.windows(bytes.len()).any(|window| window == bytes),
            "{SEED_VARIABLE}={seed}: without {bytes:02x?} told as {event:?}: {packet:02x?}"
        );
    }
}

#[test]
fn mutants_come_to_the_same_in_the_kernel_as_on_the_host() {
    let seed = std::env::var(SEED_VARIABLE).map_or(1, |seed| seed.parse().expect("a number"));
    let mut rng = Rng::new(seed);
    let vectors = vectors::all();
    let flows = vectors::flows();
    let mut pair = Pair::new();
    let mut told = 0;
    for number in 0..MUTANTS {
        let vector = &vectors[rng.below(vectors.len() as u64) as usize];
        let packet = mutant(vector, &mut rng);
        if rng.chance(0.3) {
            pair.set(random_preset(vector, &mut rng));
        }
        let outcome = pair.check(&packet, &|| {
            format!("{SEED_VARIABLE}={seed}, mutant {number}: {packet:02x?}")
        });
        if let Some(event) = outcome.event.as_deref().map(event_of) {
            told += 1;
            check_proof(&packet, &event, &flows[event.flow as usize], seed);
        }
    }
    assert!(told > MUTANTS / 50, "only {told} mutants are answers still");
}

#[test]
fn when_the_ring_is_full_answers_stay_in_their_slots() {
    let mut pair = Pair::new();
    let vector = &vectors::all()[0];
    let state = |tag| Preset {
        flow: 0,
        state: SlotState::new(tag, 5),
    };
    pair.preset(Some(state(SlotState::ANSWERED)));
    // Duplicates fill the ring; nobody reads it.
    let repeat = 100_000;
    for _ in 0..1000 {
        pair.loaded.run(&vector.packet, repeat);
        if pair.loaded.counters.get(Counter::RingDropped) > 0 {
            break;
        }
    }
    let counts = pair.loaded.counts();
    assert!(counts[1] > 0, "the ring never filled: {counts:?}");

    pair.set(state(SlotState::SENT));
    let [sent_ns, _] = pair.loaded.all_slots()[5];
    let before_ns = clock::now_ns();
    assert_eq!(pair.loaded.run(&vector.packet, 1), XDP_DROP);
    let rtt_ns = before_ns - sent_ns..=clock::now_ns() - sent_ns;
    let [tx_ns, found] = pair.loaded.all_slots()[5];
    let found = SlotState(found);
    assert_eq!(
        (tx_ns, found.tag(), found.sequence()),
        (sent_ns, SlotState::UNREPORTED, 5)
    );
    assert!(
        rtt_ns.contains(&found.rtt_ns()),
        "{} not in {rtt_ns:?}",
        found.rtt_ns()
    );
    let after = pair.loaded.counts();
    assert_eq!(
        [after[0] - counts[0], after[1] - counts[1]],
        [1, 1],
        "ours, and dropped"
    );

    // A further one changes nothing, and is not told of either.
    assert_eq!(pair.loaded.run(&vector.packet, 1), XDP_DROP);
    assert_eq!(SlotState(pair.loaded.all_slots()[5][1]), found);

    // Once read, the ring tells of what comes then.
    let mut read = 0;
    while pair.loaded.events.next().is_some() {
        read += 1;
    }
    assert_eq!(
        read,
        counts[0] - counts[1],
        "each duplicate that found room"
    );
    pair.set(state(SlotState::SENT));
    let outcome = pair.check(&vector.packet, &|| "after the flood".to_owned());
    assert_eq!(meaning(&outcome), Expected::Told(EventKind::Reply, None));
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
