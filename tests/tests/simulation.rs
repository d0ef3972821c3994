//! The engine, the matching and the stats keeper on a virtual clock: scenarios from files, and
//! scenarios drawn at random. A failure prints the seed that plays it again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use pinger::flow::UDP_SEQUENCE_SIZE;
use pinger_tests::sim::scenario::{Faults, Group, HopChange, Run, Scenario, Stall, Transport};
use pinger_tests::sim::{Report, run};
use proptest::prelude::*;

/// Replaces the seed of every scenario, to play one again or to try others.
const SEED_VARIABLE: &str = "PINGER_SIM_SEED";

/// The one check: the scenario runs, and all that must hold of it holds.
fn check(scenario: &Scenario) -> Report {
    run(scenario).unwrap_or_else(|error| panic!("{error}"))
}

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(&folder).expect("the scenarios are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let read = fs::read_to_string(path).map_err(anyhow::Error::from);
        read.and_then(|text| Ok(toml::from_str(&text)?))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn line(scenario: &Scenario, report: &Report) -> String {
    format!(
        "{:48} {:9} probes, {:8.1} s in {:7.1} ms: {:6.0} times as fast as the clock",
        scenario.name,
        report.counts.sent,
        report.elapsed.as_secs_f64(),
        report.took.as_secs_f64() * 1e3,
        report.elapsed.as_secs_f64() / report.took.as_secs_f64(),
    )
}

#[test]
fn every_scenario_ends_as_it_must() {
    let scenarios = scenarios();
    assert!(
        scenarios.len() >= 28,
        "the scenarios are in tests/scenarios"
    );
    let seed = env::var(SEED_VARIABLE)
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    for mut scenario in scenarios {
        scenario.seed = seed.unwrap_or(scenario.seed);
        let report = check(&scenario);
        println!("{}", line(&scenario, &report));
    }
}

#[test]
fn a_seed_reproduces_its_run() {
    // Some of ICMP alone, and the last one, which has everything.
    let scenarios = scenarios();
    for scenario in scenarios.iter().take(3).chain(scenarios.last()) {
        let (first, second) = (check(scenario), check(scenario));
        assert_eq!(first.counts, second.counts, "{}", scenario.name);
        assert_eq!(first.elapsed, second.elapsed, "{}", scenario.name);
    }
}

/// A probability: mostly none, sometimes small, sometimes large.
fn probability() -> impl Strategy<Value = f64> {
    prop_oneof![4 => Just(0.0), 2 => 0.0..0.1, 1 => 0.0..0.9]
}

prop_compose! {
    fn faults()(
        loss in probability(),
        delay_us in (0..3000_u64, 0..5000_u64),
        spike in probability(),
        spike_us in (0..20_000_u64, 0..100_000_u64),
        duplicate in probability(),
        corrupt in probability(),
        resize in probability(),
        corrupt_cookie in probability(),
        corrupt_header in probability(),
        forge in probability(),
        icmp_error in (probability(), probability()),
        replay in probability(),
        refusals in (probability(), probability(), probability()),
    ) -> Faults {
        Faults {
            loss,
            delay_us: [delay_us.0, delay_us.0 + delay_us.1],
            spike,
            spike_us: [spike_us.0, spike_us.0 + spike_us.1],
            duplicate,
            corrupt,
            resize,
            corrupt_cookie,
            corrupt_header,
            forge,
            icmp_error: icmp_error.0,
            change_quotes: icmp_error.1,
            replay,
            refuse: refusals.0,
            refuse_sent: refusals.1,
            no_frame: refusals.2,
        }
    }
}

prop_compose! {
    fn group()(
        count in 1..6_u32,
        v6: bool,
        protocol in prop_oneof![Just(Transport::Icmp), Just(Transport::Udp), Just(Transport::Tcp)],
        (interval_us, timeout_us) in (200..20_000_u64, 200..60_000_u64),
        size in prop_oneof![0..14_u16, 8..64_u16, Just(1400)],
        data in prop_oneof![3 => Just(None), 1 => "[a-z]{1,20}".prop_map(Some)],
        closed: bool,
        trace in prop_oneof![2 => Just(0_u8), 1 => 1..12_u8],
        (routers, hop) in (0..8_u8, 0..2_u32),
    ) -> Group {
        // A sender that waits for the only probe that may be in flight spins, which takes long.
        let size = size.max(data.as_ref().map_or(0, String::len) as u16);
        let is_alone = protocol == Transport::Udp && size < UDP_SEQUENCE_SIZE;
        let (trace, timeout_us) = match is_alone {
            true => (0, timeout_us.min(interval_us)),
            false => (trace, timeout_us),
        };
        Group {
            count, v6, protocol, interval_us, timeout_us, size, data, closed, trace, routers, hop,
        }
    }
}

prop_compose! {
    fn settings()(
        count in prop::option::of(0..200_u64), duration_ms in prop::option::of(0..300_u64),
        flood: bool, batch in 1..40_usize,
        in_flight in 1..300_u64, ring in prop_oneof![0..20_usize, Just(1 << 16)],
        notes in 3..200_usize, gather_us in 1..5000_u64, wake_late_us in 0..300_u64,
    ) -> Run {
        Run { count, duration_ms, flood, batch, in_flight, ring, notes, gather_us, wake_late_us }
    }
}

prop_compose! {
    fn scenario()(
        seed: u64,
        destinations in prop::collection::vec(group(), 1..4),
        run in settings(),
        faults in faults(),
        stalls in prop::collection::vec((0..300_u64, 1..200_u64), 0..3),
        hops in prop::collection::vec((0..300_u64, 0..2_u32, any::<bool>()), 0..6),
    ) -> Scenario {
        let stop_ms = if run.flood { 20 } else { 300 };
        let last_hop = destinations.iter().map(|group| group.hop).max().unwrap_or(0);
        let change = |(at_ms, hop, up): (u64, u32, bool)| {
            let hop = hop.min(last_hop);
            HopChange { at_ms, hop, up }
        };
        Scenario {
            name: "drawn".to_owned(),
            seed,
            stop_ms,
            destinations,
            run,
            faults,
            stalls: stalls.into_iter().map(|(at_ms, for_ms)| Stall { at_ms, for_ms }).collect(),
            hops: hops.into_iter().map(change).collect(),
            expect: Default::default(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1000)
    })]

    #[test]
    fn whatever_goes_wrong_every_probe_ends_as_it_did(scenario in scenario()) {
        if let Err(error) = run(&scenario) {
            prop_assert!(false, "{}", error);
        }
    }
}
