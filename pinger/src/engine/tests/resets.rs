//! RSTs of TCP probes: when one leaves, by which link, and which SYN it goes ahead of.

use super::*;

/// An open port, probed that often.
fn port(interval_ns: u64) -> Destination {
    Destination {
        protocol: Protocol::Tcp,
        port: 80,
        size: 0,
        interval_ns,
        timeout_ns: 200 * MS,
        ..Destination::echo("192.0.2.9".parse().unwrap())
    }
}

fn reset(flow: u32, sequence: u64, again: bool) -> Reset {
    let flow = FlowIndex(flow);
    Reset {
        flow,
        sequence,
        again,
    }
}

impl Bench {
    /// The TCP segments submitted to the first link: SYN or RST, and the number by which they
    /// belong together.
    fn segments(&self) -> Vec<(bool, u32)> {
        let segment = |frame: &Vec<u8>| {
            let tcp = &frame[ETHERNET_LEN + 20..];
            let number = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
            let is_reset = tcp[13] & 4 != 0;
            (is_reset, number.wrapping_sub(u32::from(is_reset)))
        };
        self.links[0].frames.iter().map(segment).collect()
    }

    /// Answers the only flow's probe, by [`SlotState::ANSWERED`] or its like.
    fn answer(&self, sequence: u64, tag: u64) {
        let slot = &self.slots.0[sequence as usize % self.slots.0.len()];
        let sent = SlotState::new(SlotState::SENT, sequence);
        slot.compare_exchange(sent, SlotState::new(tag, sequence))
            .unwrap();
    }
}

#[test]
fn a_syn_that_may_meet_a_half_open_connection_follows_its_reset() {
    // Each before the last one has been told of, answered or not.
    let mut bench = Bench::of(port(MS), 1, limits(Some(3)));
    bench.poll_at(START_NS);
    bench.answer(0, SlotState::ANSWERED_OPEN);
    bench.poll_at(START_NS + MS);
    bench.poll_at(START_NS + 2 * MS);
    let segments = bench.segments();
    let resets: Vec<_> = segments.iter().map(|(is_reset, _)| *is_reset).collect();
    assert_eq!(resets, [false, true, false, true, false]);
    assert_eq!(segments[0].1, segments[1].1, "the first is reset");
    assert_eq!(segments[2].1, segments[3].1, "and the second");

    // Late news of them is no news; more than one answer is.
    let mut tell = |reset| bench.engine.reset([reset].into_iter(), 9, &mut bench.links);
    assert_eq!((tell(reset(0, 0, false)), tell(reset(0, 1, false))), (0, 0));
    assert_eq!(bench.links[0].frames.len(), 5);
    bench
        .engine
        .reset([reset(0, 1, true)].into_iter(), 9, &mut bench.links);
    bench
        .engine
        .reset([reset(0, 2, false)].into_iter(), 9, &mut bench.links);
    let (last, all) = (segments[4].1, bench.segments());
    assert_eq!(all[5..], [(true, segments[2].1), (true, last)]);
}

#[test]
fn a_syn_after_a_refusal_or_a_reset_needs_none_but_one_after_silence_does() {
    let mut bench = Bench::of(port(100 * MS), 1, limits(Some(4)));
    bench.poll_at(START_NS);
    // Refused by the port: nobody asks for a reset.
    bench.answer(0, SlotState::ANSWERED);
    bench.poll_at(START_NS + 100 * MS);
    // Open, and told of in time.
    bench.answer(1, SlotState::ANSWERED_OPEN);
    bench
        .engine
        .reset([reset(0, 1, false)].into_iter(), 9, &mut bench.links);
    bench.poll_at(START_NS + 200 * MS);
    // Not answered yet: the round trip is longer than the interval.
    bench.poll_at(START_NS + 300 * MS);
    let segments = bench.segments();
    let resets: Vec<_> = segments.iter().map(|(is_reset, _)| *is_reset).collect();
    assert_eq!(resets, [false, false, true, false, true, false]);
    assert_eq!(segments[1].1, segments[2].1);
    assert_eq!(segments[3].1, segments[4].1);
}

#[test]
fn no_more_resets_are_taken_than_are_sent_and_those_not_due_do_not_count() {
    let mut bench = Bench::of(port(MS), 1, limits(Some(3)));
    for sequence in 0..3 {
        bench.poll_at(START_NS + sequence * MS);
    }
    let before = bench.links[0].frames.len();
    let told = [(0, false), (1, false), (0, true), (1, true), (2, false)];
    let mut told = told
        .into_iter()
        .map(|(sequence, again)| reset(0, sequence, again));
    assert_eq!(bench.engine.reset(told.by_ref(), 2, &mut bench.links), 0);
    assert_eq!(bench.links[0].frames.len() - before, 2);
    assert_eq!(
        told.next(),
        Some(reset(0, 2, false)),
        "left for the next time"
    );
}

#[test]
fn resets_leave_by_their_flows_links_and_what_cannot_leave_is_counted() {
    let mut bench = Bench::of(port(8 * MS), 4, limits(Some(1)));
    bench.engine.heads_mut().flows = vec![Some(1), Some(0), Some(1), None];
    let probes = || [0, 1, 2, 2, 3].map(|flow| reset(flow, 7, true)).into_iter();
    let failed = bench.engine.reset(probes(), 9, &mut bench.links);
    assert_eq!(failed, 1, "one has no way");
    let sent = bench.links.each_ref().map(|link| (link.sent, link.flushes));
    assert_eq!(sent, [(1, 1), (3, 1)]);

    bench.links[1].refuses = true;
    assert_eq!(bench.engine.reset(probes(), 9, &mut bench.links), 4);
    bench.links[0].is_full = true;
    assert_eq!(bench.engine.reset(probes(), 9, &mut bench.links), 5);
    assert_eq!(bench.links[0].sent, 2);
    assert_eq!(bench.sink.notes, [], "no probe is concerned");
}

#[test]
fn a_reset_before_a_refused_probe_is_counted_in_the_links_queue() {
    let mut bench = Bench::of(port(MS), 1, limits(Some(2)));
    bench.poll_at(START_NS);
    // The reset of the first probe and the second probe, of which only the former leaves.
    bench.links[0].refuses = true;
    bench.links[0].sends_first = 1;
    bench.poll_at(START_NS + MS);
    assert_eq!(bench.links[0].frames.len(), 3);
    assert_eq!(bench.ends(), [(1, End::Refused)]);
}
