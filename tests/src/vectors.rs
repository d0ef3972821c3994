//! Packet vectors: their files, the flows they belong to, and a table of slots as they ask for.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use pinger::destination::wire_address;
use pinger::packet;
use pinger_ebpf::identity::flow_check;
use pinger_ebpf::layout::{
    AnswerKind, EventKind, Flow, FlowKey, PAYLOAD_MAX, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP,
    PROTOCOL_UDP, Payload, Settings, SlotState,
};

/// When probes of preset slots were sent, nanoseconds before now.
pub const SENT_AGO_NS: u64 = 1_000_000;

/// The settings of the program that runs the vectors; their cookies are made with this secret.
pub const SETTINGS: Settings = Settings {
    secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
    verify: 1,
    log: 0,
};

/// The flows of the vectors: address, protocol, identifier or our port, port, number of slots,
/// payload bytes.
const FLOWS: [(&str, u8, u16, u16, u32, usize); 10] = [
    ("192.0.2.9", PROTOCOL_ICMP, 0x1234, 0, 8, 24),
    ("2001:db8::9", PROTOCOL_ICMP6, 0x1234, 0, 8, 24),
    ("192.0.2.10", PROTOCOL_ICMP, 7, 0, 4, 4),
    // Probes as long as they can be.
    ("192.0.2.11", PROTOCOL_ICMP, 0x1234, 0, 4, PAYLOAD_MAX),
    ("192.0.2.9", PROTOCOL_UDP, 40_000, 7, 8, 24),
    ("2001:db8::9", PROTOCOL_UDP, 40_000, 7, 8, 24),
    // Too short for a sequence, and for more than half a cookie.
    ("192.0.2.10", PROTOCOL_UDP, 40_000, 7, 1, 2),
    ("192.0.2.11", PROTOCOL_UDP, 40_000, 7, 4, 9),
    ("192.0.2.9", PROTOCOL_TCP, 40_001, 443, 8, 0),
    ("2001:db8::9", PROTOCOL_TCP, 40_001, 443, 8, 0),
];

/// Slots of all flows.
pub const SLOTS: u32 = {
    let (mut slots, mut index) = (0, 0);
    while index < FLOWS.len() {
        slots += FLOWS[index].4;
        index += 1;
    }
    slots
};

/// The flows of the vectors, by index.
pub fn flows() -> Vec<(FlowKey, Flow)> {
    let mut slot_base = 0;
    let flow = |(index, &(address, protocol, identifier, port, slots, payload_len))| {
        let key = FlowKey {
            address: address_of(address),
            identifier,
            port,
            protocol,
            reserved: 0,
        };
        let index = index as u32;
        let flow = Flow {
            index,
            slot_base,
            slot_mask: slots - 1,
            payload_len: payload_len as u16,
            payload: 0,
            check: flow_check(SETTINGS.secret, index),
            reserved: 0,
        };
        slot_base += slots;
        (key, flow)
    };
    FLOWS.iter().enumerate().map(flow).collect()
}

fn address_of(text: &str) -> [u8; 16] {
    let address: IpAddr = text
        .parse()
        .unwrap_or_else(|_| panic!("an address: {text}"));
    wire_address(address)
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

/// What an event must say of the packet itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// That it is an answer of this kind.
    Kind(AnswerKind),
    /// That it is an ICMP error of this type and code, from this responder.
    Error(u8, u8, [u8; 16]),
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
    /// What an event of it says.
    pub said: Said,
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
    let files = [
        "matching.txt",
        "headers.txt",
        "foreign.txt",
        "datagrams.txt",
        "segments.txt",
        "errors.txt",
        "captured.txt",
    ];
    files
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
    let mut said = Said::Kind(AnswerKind::Echo);
    let mut bytes = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(": ") {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(("slot", value)) => preset = Some(preset_of(value)),
            Some(("expect", value)) => expected = Some(expected_of(value)),
            Some(("answer", value)) => said = said_of(value),
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
        said,
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
        "unreported_error" => SlotState::unreported_error(sequence, SENT_AGO_NS / 2),
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

fn said_of(text: &str) -> Said {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("a number: {text}"));
    match words[..] {
        ["datagram"] => Said::Kind(AnswerKind::Datagram),
        ["syn_ack"] => Said::Kind(AnswerKind::SynAck),
        ["reset"] => Said::Kind(AnswerKind::Reset),
        ["icmp_error", icmp_type, code, responder] => {
            Said::Error(number(icmp_type), number(code), address_of(responder))
        }
        _ => panic!("no answer is like this: {text}"),
    }
}
