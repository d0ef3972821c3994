//! Turns, due times and what is left out, against exact arithmetic.

use proptest::prelude::*;

use super::*;
use crate::destination::{Protocol, Ttl};

fn destination(interval_ns: u64, timeout_ns: u64) -> Destination {
    Destination {
        id: 0,
        name: String::new(),
        address: "192.0.2.1".parse().unwrap(),
        protocol: Protocol::Icmp,
        interval_ns,
        timeout_ns,
        size: 0,
        ..Destination::echo("192.0.2.1".parse().unwrap())
    }
}

fn cycle(flows: usize, start_ns: u64, interval_ns: u64) -> Cycle {
    let destinations = vec![destination(interval_ns, 1); flows];
    let schedule = Schedule::new(&destinations, start_ns, false);
    schedule.cycles()[0].clone()
}

fn traces(flows: usize, hops: u8, start_ns: u64, interval_ns: u64) -> Cycle {
    let destination = Destination {
        ttl: Ttl::Trace(hops.try_into().unwrap()),
        ..destination(interval_ns, 1)
    };
    let schedule = Schedule::new(&vec![destination; flows], start_ns, false);
    schedule.cycles()[0].clone()
}

/// From 10 µs to an hour.
fn interval() -> std::ops::Range<u64> {
    10_000..3_600_000_000_000
}

/// An hour to ten years of nanoseconds since boot.
const START: std::ops::Range<u64> = 3_600_000_000_000..315_360_000_000_000_000;

/// A hundred years of nanoseconds.
const ELAPSED_MAX: u64 = 3_153_600_000_000_000_000;

/// How many turns there are in a time.
fn turns_in(elapsed_ns: u64, flows: usize, interval_ns: u64) -> u64 {
    (u128::from(elapsed_ns) * flows as u128 / u128::from(interval_ns)) as u64
}

proptest! {
    #[test]
    fn turns_come_in_order_and_spread_evenly(
        flows in 1..2000_usize, start_ns in START, interval_ns in interval(),
        elapsed_ns in 0..ELAPSED_MAX,
    ) {
        let turn = turns_in(elapsed_ns, flows, interval_ns);
        let cycle = cycle(flows, start_ns, interval_ns);
        let (this, next) = (cycle.turn(turn), cycle.turn(turn + 1));
        prop_assert_eq!(u64::from(this.flow.0), turn % flows as u64);
        prop_assert_eq!(this.sequence, turn / flows as u64);
        let gap = next.due_ns - this.due_ns;
        let even = interval_ns / flows as u64;
        prop_assert!(gap == even || gap == even + 1, "{} between turns, not {}", gap, even);
    }

    #[test]
    fn a_flow_never_drifts(
        flows in 1..2000_usize, start_ns in START, interval_ns in interval(),
        turn in 0..1_u64 << 20, rounds in 0..1_u64 << 20,
    ) {
        let cycle = cycle(flows, start_ns, interval_ns);
        let later = turn + rounds * flows as u64;
        prop_assert_eq!(cycle.turn(later).flow, cycle.turn(turn).flow);
        prop_assert_eq!(cycle.due_ns(later) - cycle.due_ns(turn), rounds * interval_ns);
    }

    #[test]
    fn what_is_due_is_exact_to_a_nanosecond(
        flows in 1..2000_usize, start_ns in START, interval_ns in interval(),
        elapsed_ns in 0..ELAPSED_MAX,
    ) {
        let turn = turns_in(elapsed_ns, flows, interval_ns);
        // due − start = turn × interval / flows, as a fraction: due never comes after it and
        // always within a nanosecond.
        let cycle = cycle(flows, start_ns, interval_ns);
        let due = u128::from(cycle.due_ns(turn) - start_ns) * flows as u128;
        let exact = u128::from(turn) * u128::from(interval_ns);
        prop_assert!(due <= exact && exact < due + flows as u128);
    }

    #[test]
    fn the_turns_before_a_time_are_those_due_before_it(
        flows in 1..2000_usize, start_ns in START, interval_ns in interval(),
        span_ns in 1..ELAPSED_MAX,
    ) {
        let cycle = cycle(flows, start_ns, interval_ns);
        let turns = cycle.turns_before(start_ns + span_ns);
        prop_assert!(turns > 0 && cycle.due_ns(turns - 1) < start_ns + span_ns);
        prop_assert!(cycle.due_ns(turns) >= start_ns + span_ns);
        prop_assert_eq!(cycle.turns_before(start_ns), 0);
    }

    #[test]
    fn what_is_left_out_leaves_the_sender_less_than_an_interval_late(
        flows in 1..2000_usize, interval_ns in interval(),
        turn in 0..1_u64 << 20, late in 0..1_u64 << 45,
    ) {
        let cycle = cycle(flows, 7, interval_ns);
        let now_ns = cycle.due_ns(turn) + late;
        let rounds = cycle.rounds_behind(turn, now_ns);
        let due_ns = cycle.due_ns(turn + rounds * flows as u64);
        prop_assert!(due_ns <= now_ns, "nothing is left out that is not due");
        prop_assert!(now_ns - due_ns < interval_ns);
        prop_assert_eq!(rounds > 0, late >= interval_ns);
    }

    #[test]
    fn cycles_and_flows_agree_on_when_a_probe_is_due(
        intervals in prop::collection::vec((1..4_u64, 1..3_u64), 1..40), sequence in 0..1000_u64,
    ) {
        let destinations: Vec<_> = intervals
            .iter()
            .map(|(interval, timeout)| destination(interval * 1_000_003, timeout * 1_000_000))
            .collect();
        let schedule = Schedule::new(&destinations, 11, false);
        let mut seen = 0;
        for cycle in schedule.cycles() {
            for position in 0..cycle.len() {
                let turn = cycle.turn(sequence * cycle.len() + position);
                let wanted = &destinations[turn.flow.0 as usize];
                prop_assert_eq!(cycle.interval_ns, wanted.interval_ns);
                prop_assert_eq!(cycle.timeout_ns, wanted.timeout_ns);
                prop_assert_eq!(schedule.due_ns(turn.flow, sequence), Some(turn.due_ns));
                seen += 1;
            }
        }
        prop_assert_eq!(seen, destinations.len(), "each flow has a turn a round, in one cycle");
    }
}

proptest! {
    #[test]
    fn a_pass_is_sent_within_a_moment_and_the_next_one_an_interval_later(
        flows in 1..2000_usize, hops in 2..=255_u8, start_ns in START, interval_ns in interval(),
        pass in 0..1_u64 << 16,
    ) {
        let cycle = traces(flows, hops, start_ns, interval_ns);
        let turns = flows as u64 * u64::from(hops);
        let (first, last) = (cycle.turn(pass * turns), cycle.turn((pass + 1) * turns - 1));
        prop_assert_eq!(first.sequence, pass * u64::from(hops));
        prop_assert_eq!(last.sequence + 1, first.sequence + u64::from(hops));
        let spread_ns = PASS_SPREAD_NS.max(turns * TRACE_GAP_NS);
        prop_assert!(last.due_ns - first.due_ns < spread_ns);
        let next_ns = cycle.due_ns((pass + 1) * turns);
        prop_assert!(next_ns > last.due_ns, "passes do not overlap");
        let after_ns = next_ns - first.due_ns;
        prop_assert!(after_ns == interval_ns || (interval_ns < spread_ns && after_ns <= spread_ns));
    }

    #[test]
    fn traces_count_and_leave_out_turns_as_the_others_do(
        flows in 1..200_usize, hops in 2..=40_u8, interval_ns in interval(), turn in 0..1_u64 << 20,
        late in 0..1_u64 << 45, span_ns in 1..ELAPSED_MAX,
    ) {
        let cycle = traces(flows, hops, 7, interval_ns);
        let turns = cycle.turns_before(7 + span_ns);
        prop_assert!(turns > 0 && cycle.due_ns(turns - 1) < 7 + span_ns);
        prop_assert!(cycle.due_ns(turns) >= 7 + span_ns);
        let now_ns = cycle.due_ns(turn) + late;
        let rounds = cycle.rounds_behind(turn, now_ns);
        prop_assert_eq!(rounds % u64::from(hops), 0, "whole passes");
        let due_ns = cycle.due_ns(turn + rounds * flows as u64);
        prop_assert!(due_ns <= now_ns && now_ns - due_ns < cycle.pass_ns());
    }

    #[test]
    fn the_probes_of_traces_in_a_timeout_fit_in_flight(
        hops in 2..=40_u8, interval_ns in interval(), timeout_ns in 1..10_000_000_000_u64,
        pass in 0..100_u64,
    ) {
        let cycle = Cycle { timeout_ns, ..traces(1, hops, 7, interval_ns) };
        let first = pass * u64::from(hops);
        let room = cycle.in_flight_max();
        prop_assert!(cycle.due_ns(first + room - 1) > cycle.due_ns(first) + timeout_ns);
    }
}

#[test]
fn a_thousand_traces_are_sent_within_a_fifth_of_a_second() {
    let cycle = traces(1000, 16, 0, 1_000_000_000);
    assert!(cycle.due_ns(16_000 - 1) < 200_000_000);
    assert_eq!(cycle.due_ns(16_000), 1_000_000_000);
}

#[test]
fn a_probe_is_never_late_before_it_is_due() {
    let cycle = cycle(3, 1_000_000, 10_000);
    assert_eq!(cycle.rounds_behind(5, 0), 0);
}

#[test]
fn in_a_flood_everything_is_due_at_once_and_nothing_is_left_out() {
    let schedule = Schedule::new(&[destination(10_000, 5), destination(20_000, 5)], 9, true);
    assert_eq!(schedule.cycles().len(), 1);
    let cycle = &schedule.cycles()[0];
    assert_eq!(cycle.due_ns(1_000_000), 9);
    assert_eq!(cycle.rounds_behind(0, u64::MAX), 0);
    assert_eq!(schedule.due_ns(FlowIndex(1), 3), None);
}

#[test]
fn the_probes_of_a_timeout_fit_in_flight() {
    let schedule = Schedule::new(&[destination(100, 1000), destination(100, 1050)], 0, false);
    // A probe is sent each 100 ns and kept for 1000: ten, one being sent, one for a late sender.
    assert_eq!(schedule.cycles()[0].in_flight_max(), 12);
    assert_eq!(schedule.cycles()[1].in_flight_max(), 12);
}
