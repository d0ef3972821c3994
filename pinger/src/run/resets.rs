//! The lock-free way of TCP resets: the gatherer hears that a listener has answered, and the
//! sender closes the connection that is half open there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pinger_ebpf::layout::{AnswerKind, Event, EventKind, PROTOCOL_TCP};

use crate::destination::FlowIndex;
use crate::engine::{End, Note, Reset};
use crate::flow::Flows;

/// Resets that may wait for the sender: those of 50 ms at 300,000 answers a second. What finds no
/// room is counted; the listener then gives the connection up by itself, after a minute or so.
const RESETS_MAX: usize = 1 << 14;

/// Both ends of a new queue, if there is a TCP flow to reset.
pub(super) fn channel(flows: &Arc<Flows>) -> Option<(ResetSink, ResetSource)> {
    let is_tcp = |index| is_tcp(flows, FlowIndex(index));
    let count = flows.destinations().len() as u32;
    (0..count).any(is_tcp).then(|| {
        let (producer, consumer) = rtrb::RingBuffer::new(RESETS_MAX);
        let idle = Arc::new(AtomicU64::new(0));
        let sink = ResetSink {
            producer,
            idle: Arc::clone(&idle),
            flows: Arc::clone(flows),
            missed: 0,
        };
        (sink, ResetSource { consumer, idle })
    })
}

fn is_tcp(flows: &Flows, flow: FlowIndex) -> bool {
    flows.destinations()[flow.0 as usize].protocol.number() == PROTOCOL_TCP
}

/// The gatherer's end.
pub(super) struct ResetSink {
    producer: rtrb::Producer<Reset>,
    idle: Arc<AtomicU64>,
    flows: Arc<Flows>,
    missed: u64,
}

impl ResetSink {
    /// Asks for a reset if the event tells of a listener's answer, be it the first, a late one or
    /// one more: each says that the connection is half open.
    pub(super) fn take_event(&mut self, event: &Event) {
        if event.answer == AnswerKind::SynAck as u8 {
            self.push(Reset {
                flow: FlowIndex(event.flow),
                sequence: event.sequence,
                again: event.kind != EventKind::Reply as u8,
            });
        }
    }

    /// Asks for a reset if the note tells of an answer of which no more is known: it may have
    /// been a listener's.
    pub(super) fn take_note(&mut self, note: &Note) {
        if let Note::Ended {
            flow,
            sequence,
            end: End::Unreported { .. },
            ..
        } = note
            && is_tcp(&self.flows, *flow)
        {
            self.push(Reset {
                flow: *flow,
                sequence: *sequence,
                again: false,
            });
        }
    }

    /// There was nothing to take: all that was there when this turn began is asked for.
    pub(super) fn idle(&self) {
        self.idle.fetch_add(1, Ordering::Release);
    }

    /// How many found no room.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    fn push(&mut self, reset: Reset) {
        self.missed += u64::from(self.producer.push(reset).is_err());
    }
}

/// The sender's end.
pub(super) struct ResetSource {
    consumer: rtrb::Consumer<Reset>,
    idle: Arc<AtomicU64>,
}

impl ResetSource {
    /// Takes up to `max` resets.
    pub(super) fn take(&mut self, max: usize) -> impl Iterator<Item = Reset> {
        std::iter::from_fn(|| self.consumer.pop().ok()).take(max)
    }

    /// Whether none is there.
    pub(super) fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// How many turns of the gatherer found nothing to take. When two more have passed, it has
    /// asked for all resets that anything up to now gave cause for: the first may have been
    /// under way, the second began later.
    pub(super) fn idle_turns(&self) -> u64 {
        self.idle.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{Destination, Protocol};

    /// Flow 0 is ICMP, flow 1 is TCP.
    fn flows() -> Arc<Flows> {
        let icmp = Destination::echo("192.0.2.1".parse().unwrap());
        let tcp = Destination {
            protocol: Protocol::Tcp,
            port: 80,
            size: 0,
            ..icmp.clone()
        };
        Arc::new(Flows::new(vec![icmp, tcp], vec![7, 40_000], [1, 2]))
    }

    fn reset(sequence: u64, again: bool) -> Reset {
        let flow = FlowIndex(1);
        Reset {
            flow,
            sequence,
            again,
        }
    }

    fn event(answer: AnswerKind, sequence: u64) -> Event {
        Event {
            flow: 1,
            sequence,
            answer: answer as u8,
            kind: EventKind::Reply as u8,
            ..Event::default()
        }
    }

    fn unreported(flow: u32, end: End) -> Note {
        Note::Ended {
            flow: FlowIndex(flow),
            sequence: 9,
            due_ns: 0,
            tx_ns: 0,
            end,
        }
    }

    #[test]
    fn without_tcp_there_is_nothing_to_reset() {
        let icmp = Destination::echo("192.0.2.1".parse().unwrap());
        let flows = Arc::new(Flows::new(vec![icmp], vec![7], [1, 2]));
        assert!(channel(&flows).is_none());
    }

    #[test]
    fn answers_of_listeners_are_reset_and_those_of_which_nothing_is_known() {
        let (mut sink, mut source) = channel(&flows()).unwrap();
        for (sequence, answer) in (0..).zip(AnswerKind::ALL) {
            sink.take_event(&event(answer, sequence));
        }
        let answered = (0..).zip(AnswerKind::ALL);
        let open: Vec<_> = answered
            .filter(|(_, answer)| *answer == AnswerKind::SynAck)
            .map(|(sequence, _)| reset(sequence, false))
            .collect();
        assert_eq!(source.take(10).collect::<Vec<_>>(), open);

        sink.take_note(&unreported(
            0,
            End::Unreported {
                rtt_ns: 1,
                error: false,
            },
        ));
        sink.take_note(&unreported(1, End::Lost));
        assert!(source.is_empty());
        sink.take_note(&unreported(
            1,
            End::Unreported {
                rtt_ns: 1,
                error: false,
            },
        ));
        assert_eq!(source.take(10).collect::<Vec<_>>(), [reset(9, false)]);
    }

    #[test]
    fn an_answer_that_is_not_the_first_asks_for_a_reset_once_more() {
        let (mut sink, mut source) = channel(&flows()).unwrap();
        let kinds = [EventKind::Duplicate, EventKind::Late, EventKind::Stale];
        for kind in kinds {
            sink.take_event(&Event {
                kind: kind as u8,
                ..event(AnswerKind::SynAck, 4)
            });
        }
        assert_eq!(source.take(10).collect::<Vec<_>>(), [reset(4, true); 3]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_comes_in_order() {
        let (mut sink, mut source) = channel(&flows()).unwrap();
        for sequence in 0..RESETS_MAX as u64 + 3 {
            sink.take_event(&event(AnswerKind::SynAck, sequence));
        }
        assert_eq!(sink.missed(), 3);
        let first: Vec<_> = source.take(2).collect();
        assert_eq!(first, [0, 1].map(|sequence| reset(sequence, false)));
        assert_eq!(source.take(usize::MAX).count(), RESETS_MAX - 2);
        assert!(source.is_empty());
    }

    #[test]
    fn idle_turns_are_counted() {
        let (sink, source) = channel(&flows()).unwrap();
        assert_eq!(source.idle_turns(), 0);
        sink.idle();
        assert_eq!(source.idle_turns(), 1);
    }
}
