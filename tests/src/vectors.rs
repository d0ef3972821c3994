//! Packet vectors: their files, the flows they belong to, and a table of slots as they ask for.

use std::fs;
use std::path::Path;

use pinger::packet;
use pinger_ebpf::layout::{
    EventKind, Flow, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMP6, Payload, Settings, SlotState,
};

/// When probes of preset slots were sent, nanoseconds before now.
pub const SENT_AGO_NS: u64 = 1_000_000;

/// The settings of the program that runs the vectors; their cookies are made with this secret.
pub const SETTINGS: Settings = Settings {
    secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
    verify: 1,
    log: 0,
};

/// Slots of all flows.
pub const SLOTS: u32 = 24;

/// The flows of the vectors, by index. The last has probes as long as they can be.
pub fn flows() -> Vec<(FlowKey, Flow)> {
    let v4 = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
    let v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let key = |address, identifier, protocol| FlowKey {
        address,
        identifier,
        port: 0,
        protocol,
        reserved: 0,
    };
    let flow = |index, slot_base, slot_mask, payload_len| Flow {
        index,
        slot_base,
        slot_mask,
        payload_len,
        payload: 0,
        check: 1,
        reserved: 0,
    };
    vec![
        (key(v4(9), 0x1234, PROTOCOL_ICMP), flow(0, 0, 7, 24)),
        (key(v6, 0x1234, PROTOCOL_ICMP6), flow(1, 8, 7, 24)),
        (key(v4(10), 7, PROTOCOL_ICMP), flow(2, 16, 3, 4)),
        (
            key(v4(11), 0x1234, PROTOCOL_ICMP),
            flow(3, 20, 3, pinger_ebpf::layout::PAYLOAD_MAX as u16),
        ),
    ]
}

/// What all probes of the vectors carry.
pub fn payload() -> Payload {
    packet::pattern()
}

/// One slot as it stands before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Index of the flow.
    pub flow: usize,
    /// State and sequence.
    pub state: SlotState,
}

impl Preset {
    /// Where in the table the slot lies.
    pub fn slot(&self) -> u32 {
        let flow = flows()[self.flow].1;
        flow.slot_base + (u32::from(self.state.wire_sequence()) & flow.slot_mask)
    }
}

/// What must come of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Passed, and counted as nothing.
    Pass,
    /// Passed, and counted as forged.
    Forged,
    /// Passed, and counted as malformed.
    Malformed,
    /// Dropped, and not told of.
    Untold,
    /// Dropped and told of: as this kind, with the first payload byte that differs.
    Told(EventKind, Option<u16>),
}

/// One packet with what must come of it.
#[derive(Clone, Debug)]
pub struct Vector {
    /// What it shows.
    pub name: String,
    /// The slot it may meet.
    pub preset: Option<Preset>,
    /// What must come of it.
    pub expected: Expected,
    /// Its bytes.
    pub packet: Vec<u8>,
}

/// All vectors of all files.
///
/// # Panics
///
/// If a file cannot be read or says something that it cannot say.
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    ["matching.txt", "headers.txt", "foreign.txt"]
        .iter()
        .flat_map(|name| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            text.split("\n\n").filter_map(block).collect::<Vec<_>>()
        })
        .collect()
}

/// One block of a file; `None` for one of comments.
fn block(text: &str) -> Option<Vector> {
    let mut name = None;
    let mut preset = None;
    let mut expected = None;
    let mut bytes = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(": ") {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(("slot", value)) => preset = Some(preset_of(value)),
            Some(("expect", value)) => expected = Some(expected_of(value)),
            _ if line == "packet:" => {}
            _ => bytes.extend(hex(line)),
        }
    }
    let name = name?;
    let expected = expected.unwrap_or_else(|| panic!("{name}: nothing is expected"));
    Some(Vector {
        name,
        preset,
        expected,
        packet: bytes,
    })
}

fn hex(line: &str) -> Vec<u8> {
    let digits: Vec<u32> = line
        .split('#')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            c.to_digit(16)
                .unwrap_or_else(|| panic!("not hexadecimal: {line}"))
        })
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte: {line}");
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn preset_of(text: &str) -> Preset {
    let words: Vec<&str> = text.split(' ').collect();
    let [flow, tag, sequence] = words[..] else {
        panic!("a slot has three words: {text}")
    };
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("a number: {text}"));
    let sequence = number(sequence);
    let state = match tag {
        "free" => SlotState::new(SlotState::FREE, sequence),
        "sent" => SlotState::new(SlotState::SENT, sequence),
        "answered" => SlotState::new(SlotState::ANSWERED, sequence),
        "expired" => SlotState::new(SlotState::EXPIRED, sequence),
        "unreported" => SlotState::unreported(sequence, SENT_AGO_NS / 2),
        _ => panic!("no state of a slot: {text}"),
    };
    Preset {
        flow: number(flow) as usize,
        state,
    }
}

fn expected_of(text: &str) -> Expected {
    let words: Vec<&str> = text.split(' ').collect();
    let kind = |word| match word {
        "reply" => EventKind::Reply,
        "duplicate" => EventKind::Duplicate,
        "late" => EventKind::Late,
        "stale" => EventKind::Stale,
        _ => panic!("no kind of event: {text}"),
    };
    match words[..] {
        ["pass"] => Expected::Pass,
        ["pass", "forged"] => Expected::Forged,
        ["pass", "malformed"] => Expected::Malformed,
        ["drop", "untold"] => Expected::Untold,
        ["drop", word] => Expected::Told(kind(word), None),
        ["drop", word, "mismatch", at] => {
            Expected::Told(kind(word), Some(at.parse().expect("an offset")))
        }
        _ => panic!("nothing can come of a packet like this: {text}"),
    }
}
