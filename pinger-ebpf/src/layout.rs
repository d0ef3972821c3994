//! Every byte that the kernel program and user space share: map names, keys, values and events.
//!
//! All integers are in host byte order unless a name says otherwise. The structs derive
//! zerocopy's traits, which refuse implicit padding, and carry size and offset assertions, so a
//! change of layout fails to compile instead of failing at run time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the hash map from [`FlowKey`] to [`Flow`].
pub const FLOWS_MAP: &str = "FLOWS";
/// Name of the memory-mapped array of [`Slot`]: the flight table.
pub const SLOTS_MAP: &str = "SLOTS";
/// Name of the array of [`Payload`].
pub const PAYLOADS_MAP: &str = "PAYLOADS";
/// Name of the BPF ring buffer of [`Event`].
pub const EVENTS_MAP: &str = "EVENTS";
/// Name of the per-CPU array of kernel counters, indexed by [`Counter`].
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Name of the read-only global that holds [`Settings`].
pub const SETTINGS_GLOBAL: &str = "SETTINGS";
/// Name of the XDP program.
pub const PROGRAM: &str = "pinger_xdp";

/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h`: user space may map the array.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;

/// IANA protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IANA protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IANA protocol number of ICMPv6.
pub const PROTOCOL_ICMP6: u8 = 58;

/// Bytes of a whole cookie; where it stands in a payload says [`identity`](crate::identity).
pub const COOKIE_LEN: usize = 8;

/// The most payload bytes a probe can carry: what one page-sized XDP buffer can still hold behind
/// the longest headers. Native XDP on veth limits the MTU to about 3,500 anyway.
pub const PAYLOAD_MAX: usize = 3456;

/// Words of a [`Payload`]: a power of two above what [`PAYLOAD_MAX`] needs, so that a masked index
/// is within bounds for all to see, the BPF verifier included.
pub const PAYLOAD_WORDS: usize = 512;

/// [`Event::mismatch_at`] when the payload came back as it was sent.
pub const PAYLOAD_MATCHES: u16 = u16::MAX;

/// Identifies a flow on the wire: who answers, by which protocol, to which identifier.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// The destination's address in network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// ICMP identifier, or the local port of UDP and TCP, host byte order.
    pub identifier: u16,
    /// The destination's port, host byte order; zero for ICMP.
    pub port: u16,
    /// IANA protocol number; the address tells the family.
    pub protocol: u8,
    /// Zero: the kernel compares keys byte by byte.
    pub reserved: u8,
}

/// What the kernel must know of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Index of the flow in user space, echoed in each [`Event`].
    pub index: u32,
    /// Index of the flow's first slot in the flight table.
    pub slot_base: u32,
    /// Number of the flow's slots minus one; that number is a power of two.
    pub slot_mask: u32,
    /// Bytes of payload in each probe, all that [`identity`](crate::identity) puts there included.
    pub payload_len: u16,
    /// Index into the payload array of what the probes carry.
    pub payload: u16,
    /// The flow's [`check`](crate::identity), from which the checks of its probes follow.
    pub check: u16,
    /// Zero.
    pub reserved: u16,
}

/// One probe in flight: written by the sender, claimed by the kernel program.
///
/// `state` is a [`SlotState`]; its changes are the only synchronisation between the two.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Slot {
    /// When the probe was sent, CLOCK_MONOTONIC nanoseconds.
    pub tx_ns: u64,
    /// A [`SlotState`] as its integer.
    pub state: u64,
}

/// A payload as it is sent; its first bytes are overwritten by the probe's own prefix.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Payload {
    /// The bytes, as 8-byte words in memory order.
    pub words: [u64; PAYLOAD_WORDS],
}

/// What became of one returning packet of ours.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// When the packet reached the XDP program, CLOCK_MONOTONIC nanoseconds.
    pub rx_ns: u64,
    /// When the probe was sent, CLOCK_MONOTONIC nanoseconds; zero for [`EventKind::Stale`].
    pub tx_ns: u64,
    /// Sequence of the probe since the start of its flow. Where no cookie proves it, only its low
    /// bits are known, and it is the newest such probe of that flow.
    pub sequence: u64,
    /// Source address of the packet, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub responder: [u8; 16],
    /// [`Flow::index`].
    pub flow: u32,
    /// [`FlowKey::identifier`].
    pub identifier: u16,
    /// Offset of the first payload byte that differs from what was sent, or [`PAYLOAD_MATCHES`].
    pub mismatch_at: u16,
    /// An [`EventKind`] as its integer.
    pub kind: u8,
    /// An [`AnswerKind`] as its integer.
    pub answer: u8,
    /// ICMP type; zero unless it is an ICMP message.
    pub icmp_type: u8,
    /// ICMP code; zero unless it is an ICMP message.
    pub icmp_code: u8,
    /// Time to live or hop limit of the packet when it arrived.
    pub hop_limit: u8,
    /// Type of service or traffic class of the packet.
    pub traffic_class: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// What kind of packet answers a probe. The numbers are those of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AnswerKind {
    /// ICMP or ICMPv6 echo reply.
    Echo = 1,
    /// A UDP datagram from where the probe went.
    Datagram = 2,
    /// A TCP segment with SYN and ACK: the port is open.
    SynAck = 3,
    /// A TCP segment with RST: the port is closed.
    Reset = 4,
    /// An ICMP or ICMPv6 error that quotes the probe, from whatever router or host.
    IcmpError = 5,
}

impl AnswerKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Echo,
        Self::Datagram,
        Self::SynAck,
        Self::Reset,
        Self::IcmpError,
    ];

    /// The kind with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What an [`Event`] says of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// The first answer to a probe in flight, whatever its [`AnswerKind`]. Exactly one per
    /// answered probe.
    Reply = 1,
    /// A further answer to a probe that was answered before.
    Duplicate = 2,
    /// An answer to a probe that had been given up as lost.
    Late = 3,
    /// An answer to a probe so old that its slot serves another one by now.
    Stale = 4,
}

impl EventKind {
    /// The kind with this number, if there is one.
    pub fn from_u8(number: u8) -> Option<Self> {
        [Self::Reply, Self::Duplicate, Self::Late, Self::Stale]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The state word of a [`Slot`]: an 8-bit tag and, above it, what the tag needs.
///
/// | tag | upper 56 bits |
/// |---|---|
/// | free, sent, answered, answered open, expired | the probe's sequence |
/// | unreported, unreported error | round trip (40 bits), low 16 bits of the sequence |
///
/// Only two parties change it: the sender (anything but sent → free → sent, sent → expired) and
/// the kernel program (sent → answered or unreported), each by compare-exchange where both may
/// try, so that exactly one of them wins a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotState(pub u64);

impl SlotState {
    /// Never used, or being filled in.
    pub const FREE: u64 = 0;
    /// In flight.
    pub const SENT: u64 = 1;
    /// Answered, and an [`Event`] tells of it.
    pub const ANSWERED: u64 = 2;
    /// The same, by a SYN-ACK, or it is not known by what: a connection may be half open until a
    /// RST has closed it.
    pub const ANSWERED_OPEN: u64 = 6;
    /// Given up by the sender after its timeout.
    pub const EXPIRED: u64 = 3;
    /// Answered while the ring buffer was full: the round trip stands here instead.
    pub const UNREPORTED: u64 = 4;
    /// The same, and the answer was an ICMP error.
    pub const UNREPORTED_ERROR: u64 = 5;

    const TAG_BITS: u32 = 8;
    const TAG_MASK: u64 = (1 << Self::TAG_BITS) - 1;
    const RTT_SHIFT: u32 = Self::TAG_BITS + 16;
    const RTT_MAX: u64 = (1 << 40) - 1;

    /// A state that carries a whole sequence (its low 56 bits).
    #[inline(always)]
    pub const fn new(tag: u64, sequence: u64) -> Self {
        Self(sequence << Self::TAG_BITS | tag)
    }

    /// An unreported answer: the round trip saturates at 2^40 − 1 ns, about 18 minutes.
    #[inline(always)]
    pub const fn unreported(sequence: u64, rtt_ns: u64) -> Self {
        Self::untold(Self::UNREPORTED, sequence, rtt_ns)
    }

    /// An unreported ICMP error; the round trip as of [`SlotState::unreported`].
    #[inline(always)]
    pub const fn unreported_error(sequence: u64, rtt_ns: u64) -> Self {
        Self::untold(Self::UNREPORTED_ERROR, sequence, rtt_ns)
    }

    #[inline(always)]
    const fn untold(tag: u64, sequence: u64, rtt_ns: u64) -> Self {
        let rtt = if rtt_ns > Self::RTT_MAX {
            Self::RTT_MAX
        } else {
            rtt_ns
        };
        Self(rtt << Self::RTT_SHIFT | (sequence & 0xffff) << Self::TAG_BITS | tag)
    }

    /// Whether it is an answer that was not told of.
    #[inline(always)]
    pub const fn is_unreported(self) -> bool {
        // The two tags differ in the lowest bit only.
        self.tag() | 1 == Self::UNREPORTED_ERROR
    }

    /// The tag: one of the constants above.
    #[inline(always)]
    pub const fn tag(self) -> u64 {
        self.0 & Self::TAG_MASK
    }

    /// The sequence (only its low 16 bits, if unreported).
    #[inline(always)]
    pub const fn sequence(self) -> u64 {
        if self.is_unreported() {
            self.wire_sequence() as u64
        } else {
            self.0 >> Self::TAG_BITS
        }
    }

    /// The 16 bits of the sequence that stand on the wire.
    #[inline(always)]
    pub const fn wire_sequence(self) -> u16 {
        (self.0 >> Self::TAG_BITS) as u16
    }

    /// Round trip of an unreported answer, nanoseconds.
    #[inline(always)]
    pub const fn rtt_ns(self) -> u64 {
        self.0 >> Self::RTT_SHIFT
    }
}

/// Counters of the kernel program, one array element each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Packets that were ours: matched to a flow and dropped after matching.
    Ours = 0,
    /// Events that found the ring buffer full. The answers are kept in their slots.
    RingDropped = 1,
    /// Packets that name one of our flows and are not proven to answer a probe of it: passed on.
    Forged = 2,
    /// Packets too short for what their headers promise: passed on.
    Malformed = 3,
}

/// Number of [`Counter`]s.
pub const COUNTERS: u32 = 4;

/// Settings of the kernel program, fixed when it is loaded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// Key of the cookies, drawn at start.
    pub secret: [u64; 2],
    /// Not zero: compare payloads behind the cookie.
    pub verify: u32,
    /// Not zero: log what is matched through aya-log.
    pub log: u32,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<FlowKey>() == 22 && align_of::<FlowKey>() == 2);
    assert!(size_of::<Flow>() == 20);
    assert!(size_of::<Slot>() == 16 && offset_of!(Slot, state) == 8);
    assert!(size_of::<Payload>() == 4096 && PAYLOAD_MAX < 4096);
    assert!(size_of::<Event>() == 56 && offset_of!(Event, flow) == 40);
    assert!(offset_of!(Event, kind) == 48);
    assert!(size_of::<Settings>() == 24);
    assert!(SlotState::UNREPORTED | 1 == SlotState::UNREPORTED_ERROR);
};

#[cfg(feature = "user")]
mod pod {
    //! aya's marker for types that may be copied to and from maps as bytes.
    use super::{Flow, FlowKey, Payload, Settings};

    // SAFETY: each is `repr(C)`, `Copy`, without padding (zerocopy's `IntoBytes` proves it) and
    // valid for any bytes (`FromBytes`).
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Payload {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_words_keep_what_they_are_given() {
        let sent = SlotState::new(SlotState::SENT, 0x00ab_cdef_0123_4567);
        assert_eq!(sent.tag(), SlotState::SENT);
        assert_eq!(sent.sequence(), 0x00ab_cdef_0123_4567);
        assert_eq!(sent.wire_sequence(), 0x4567);

        let unreported = SlotState::unreported(0x1_2345, 1_000_000_007);
        assert_eq!(unreported.tag(), SlotState::UNREPORTED);
        assert_eq!(unreported.sequence(), 0x2345);
        assert_eq!(unreported.rtt_ns(), 1_000_000_007);
        assert_eq!(SlotState::unreported(1, u64::MAX).rtt_ns(), (1 << 40) - 1);

        let error = SlotState::unreported_error(0x1_2345, 1_000_000_007);
        assert_eq!(error.tag(), SlotState::UNREPORTED_ERROR);
        assert_eq!((error.sequence(), error.rtt_ns()), (0x2345, 1_000_000_007));
        for tag in 0..8 {
            let expected = [SlotState::UNREPORTED, SlotState::UNREPORTED_ERROR].contains(&tag);
            assert_eq!(
                SlotState::new(tag, 9).is_unreported(),
                expected,
                "tag {tag}"
            );
        }
    }

    #[test]
    fn event_kinds_survive_their_number() {
        for number in 0..=u8::MAX {
            match EventKind::from_u8(number) {
                Some(kind) => assert_eq!(kind as u8, number),
                None => assert!(!(1..=4).contains(&number)),
            }
        }
    }
}
