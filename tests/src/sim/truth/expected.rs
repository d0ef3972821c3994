//! What must be told of a probe, by what arrived and when.

use std::net::Ipv6Addr;

use pinger::result::{Answer, Outcome};
use pinger_ebpf::layout::{AnswerKind, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_UDP};

use super::super::answer::{Genuine, traffic_class};
use super::super::kernel::Verdict;
use super::{Arrived, Probe, Target, Truth};

/// One result but for what all results of a probe share.
pub(super) type Told = (Outcome, Option<Answer>);

impl Target {
    /// How a probe ends that this answers first, in time.
    fn ending(&self, arrived: &Arrived) -> Outcome {
        let genuine = &arrived.genuine;
        let is_host = genuine.responder == self.destination.address;
        match genuine.kind {
            // The host's own word that a UDP port is closed.
            AnswerKind::IcmpError if is_host && arrived.verdict == Verdict::Told => Outcome::Reply,
            AnswerKind::IcmpError => Outcome::Error,
            _ => Outcome::Reply,
        }
    }
}

impl Truth {
    /// How a probe may have ended, and why.
    pub(super) fn endings(&self, target: &Target, probe: &Probe) -> (Vec<Outcome>, String) {
        let deadline_ns = probe.tx_ns + target.destination.timeout_ns;
        let first = probe.arrivals.first();
        let Some(first_ns) = first.map(|first| first.rx_ns) else {
            let ending = match probe.refused_ns {
                Some(_) => Outcome::SendFailed,
                None => Outcome::Lost,
            };
            return (vec![ending], "no answer".to_owned());
        };
        // Who was faster can be told unless the sender was held up around the deadline.
        let idle = self
            .idle
            .partition_point(|(from_ns, _)| *from_ns < deadline_ns);
        let idle_ns = self.idle.get(idle).map_or(u64::MAX, |(_, to_ns)| *to_ns);
        let answered = first.map_or(Outcome::Lost, |first| target.ending(first));
        let endings = match probe.refused_ns {
            // An answer to an older probe without a number may come before the link refuses.
            Some(refused_ns) if first_ns > refused_ns => vec![Outcome::SendFailed],
            _ if first_ns <= deadline_ns => vec![answered],
            _ if first_ns > idle_ns => vec![Outcome::Lost],
            _ => vec![answered, Outcome::Lost],
        };
        let why = format!("deadline {deadline_ns}, the sender idle at {idle_ns}");
        (endings, why)
    }
}

/// What results of one probe are put in order by: all that they say.
pub(super) fn sort_key(told: &Told) -> impl Ord + use<> {
    let (outcome, answer) = told;
    let key = |a: Answer| {
        let numbers = (a.kind.map(|kind| kind as u8), a.icmp_type, a.icmp_code);
        let arrival = (a.hop_limit, a.traffic_class, a.mismatch_at);
        (a.rtt_ns, a.responder, numbers, arrival)
    };
    (*outcome as i8, answer.map(key))
}

/// What must be told of an answer.
pub(super) fn answer(arrived: &Arrived, rtt_ns: Option<u64>) -> Answer {
    let Genuine {
        kind,
        icmp,
        responder,
        hop_limit,
        mismatch_at,
        ..
    } = arrived.genuine;
    Answer {
        rtt_ns,
        responder,
        kind: Some(kind),
        icmp_type: icmp.0,
        icmp_code: icmp.1,
        hop_limit: Some(hop_limit),
        traffic_class: Some(traffic_class(hop_limit)),
        mismatch_at,
    }
}

/// What must be told of an answer whose details were lost: what else the protocol implies.
fn bare_answer(target: &Target, arrived: &Arrived, rtt_ns: u64) -> Answer {
    let is_error = arrived.genuine.kind == AnswerKind::IcmpError;
    let (kind, icmp_type) = match target.destination.protocol.number() {
        _ if is_error => (Some(AnswerKind::IcmpError), 0),
        PROTOCOL_ICMP => (Some(AnswerKind::Echo), 0),
        PROTOCOL_ICMP6 => (Some(AnswerKind::Echo), 129),
        PROTOCOL_UDP => (Some(AnswerKind::Datagram), 0),
        _ => (None, 0),
    };
    let responder = match target.destination.address {
        _ if is_error => Ipv6Addr::UNSPECIFIED.into(),
        address => address,
    };
    Answer {
        rtt_ns: Some(rtt_ns),
        responder,
        kind,
        icmp_type,
        icmp_code: 0,
        hop_limit: None,
        traffic_class: None,
        mismatch_at: None,
    }
}

/// All results of a probe that ended like this, in order.
pub(super) fn expected(
    target: &Target,
    probe: &Probe,
    ending: Outcome,
) -> Result<Vec<Told>, String> {
    let rtt_ns = |arrived: &Arrived| arrived.rx_ns - probe.tx_ns;
    let whole = |arrived: &Arrived| answer(arrived, Some(rtt_ns(arrived)));
    let (end, further, untold) = match (ending.is_answer(), &probe.arrivals[..]) {
        (true, [first, further @ ..]) if first.verdict == Verdict::Told => {
            (Some(whole(first)), further, false)
        }
        (true, [first, further @ ..]) => (
            Some(bare_answer(target, first, rtt_ns(first))),
            further,
            true,
        ),
        (_, arrivals) => (None, arrivals, false),
    };
    let mut list = vec![(ending, end)];
    for arrived in further {
        let occupant = target.occupant(probe.sequence, arrived.rx_ns);
        let stale = occupant.is_some_and(|index| target.probes[index].sequence != probe.sequence);
        if arrived.verdict == Verdict::Untold {
            // A further answer to one not told of is not told of either, until the sender has.
            if arrived.room && (stale || !untold) {
                return Err(format!("not told of, though there was room: {arrived:?}"));
            }
            continue;
        }
        let again = if ending.is_answer() {
            Outcome::Duplicate
        } else {
            Outcome::Late
        };
        list.push(match stale {
            true => (Outcome::Late, Some(answer(arrived, None))),
            false => (again, Some(whole(arrived))),
        });
    }
    list.sort_unstable_by_key(sort_key);
    Ok(list)
}
