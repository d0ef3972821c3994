//! What became of a probe: the vocabulary between the engine, the stats keeper and the rows.

use std::net::IpAddr;

use pinger_ebpf::layout::AnswerKind;

use crate::destination::{FlowIndex, Protocol};

/// How a probe ended, or what else came of it.
///
/// Every probe ends as exactly one of the first four. The last two are further events of probes
/// that have ended already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum Outcome {
    /// The destination answered in time.
    Reply = 1,
    /// An ICMP error came instead; but that of a closed UDP port is its reply.
    Error = 2,
    /// Nothing came before the timeout.
    Lost = 3,
    /// The probe never left this host.
    SendFailed = 4,
    /// An answer came after the probe had ended as lost.
    Late = 5,
    /// A further answer came to a probe already answered.
    Duplicate = 6,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 6] = [
        Self::Reply,
        Self::Error,
        Self::Lost,
        Self::SendFailed,
        Self::Late,
        Self::Duplicate,
    ];

    /// Whether it ends a probe by an answer.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Reply | Self::Error)
    }

    /// The name in the schema, in JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Error => "error",
            Self::Lost => "lost",
            Self::SendFailed => "send_failed",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
        }
    }
}

/// What a returning packet said; absent from results where nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From the send stamp to the kernel's receive stamp, nanoseconds; `None` where this host
    /// itself gave the answer, or where the send stamp is no longer known.
    pub rtt_ns: Option<u64>,
    /// Who answered; the unspecified address where that was lost with an error's details.
    pub responder: IpAddr,
    /// What kind of packet it was; `None` if that was lost with the answer's details, see
    /// `hop_limit`, and the protocol does not tell: TCP has two.
    pub kind: Option<AnswerKind>,
    /// ICMP type; zero unless it is an ICMP message.
    pub icmp_type: u8,
    /// ICMP code; zero unless it is an ICMP message.
    pub icmp_code: u8,
    /// Time to live or hop limit on arrival; `None` if the answer's details were lost because
    /// the ring buffer was full.
    pub hop_limit: Option<u8>,
    /// Type of service or traffic class of the answer; `None` as above.
    pub traffic_class: Option<u8>,
    /// Offset of the first payload byte that was not what had been sent.
    pub mismatch_at: Option<u16>,
}

impl Answer {
    /// Whether `destination` itself says that the probed port is closed: by a RST (RFC 9293), or
    /// by port unreachable (RFC 1122 section 3.2.2.1, RFC 4443 section 3.1), which is how a host
    /// answers UDP. The same of a router or a firewall says nothing of the destination.
    pub fn is_closed_port(&self, protocol: Protocol, destination: IpAddr) -> bool {
        let port_unreachable = match protocol {
            Protocol::Tcp | Protocol::Tcp6 => return self.kind == Some(AnswerKind::Reset),
            Protocol::Udp => (3, 3),
            Protocol::Udp6 => (1, 4),
            Protocol::Icmp | Protocol::Icmp6 => return false,
        };
        self.kind == Some(AnswerKind::IcmpError)
            && (self.icmp_type, self.icmp_code) == port_unreachable
            && self.responder == destination
    }
}

/// One result: a row to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Which destination was probed.
    pub flow: FlowIndex,
    /// Sequence of the probe since its flow began; its low 16 bits stand on the wire.
    pub sequence: u64,
    /// Identifier on the wire: ICMP's, or our port of UDP and TCP.
    pub identifier: u16,
    /// Time to live or hop limit that the probe left with.
    pub ttl: u8,
    /// Of a trace: its probes' hop limits go up to this; zero for any other probe.
    pub hops: u8,
    /// When the probe was due, CLOCK_MONOTONIC nanoseconds.
    pub due_ns: u64,
    /// When it was sent, CLOCK_MONOTONIC nanoseconds; never before `due_ns`.
    pub tx_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What came back, if anything.
    pub answer: Option<Answer>,
    /// Of a reply: the jitter of its destination's round trips up to this one, nanoseconds
    /// (RFC 3550 section 6.4.1, with the round trip for the transit time); zero otherwise.
    pub jitter_ns: u64,
    /// Whether this is a reply that came with another hop limit than its destination's reply
    /// before it.
    pub hop_limit_changed: bool,
}
