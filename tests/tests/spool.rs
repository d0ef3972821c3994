//! The spool before a simulated disk and server: thousands of histories, each of one seed.

use std::env;

use pinger::spool::GapReason;
use pinger_tests::spool_sim::{Seen, play};

/// Plays one history again.
const SEED_VARIABLE: &str = "PINGER_SPOOL_SEED";

/// How many histories are played, in place of [`SEEDS`].
const SEEDS_VARIABLE: &str = "PINGER_SPOOL_SEEDS";

/// So many take some seconds.
const SEEDS: u64 = 2000;

fn variable(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn add(sum: &mut Seen, seen: &Seen) {
    sum.rows += seen.rows;
    sum.lives += seen.lives;
    sum.kills += seen.kills;
    sum.power_losses += seen.power_losses;
    sum.clean_ends += seen.clean_ends;
    sum.slow_calls += seen.slow_calls;
    sum.rows_meanwhile += seen.rows_meanwhile;
    sum.flips += seen.flips;
    sum.flips_elsewhere += seen.flips_elsewhere;
    for (sum, gaps) in sum.gaps.iter_mut().zip(seen.gaps) {
        *sum += gaps;
    }
    sum.written += seen.written;
    sum.repeated += seen.repeated;
    sum.landed_and_broke += seen.landed_and_broke;
    sum.burnt += seen.burnt;
    sum.missing += seen.missing;
    sum.refused += seen.refused;
    sum.asked += seen.asked;
}

fn play_all(seeds: impl Iterator<Item = u64>) -> (Seen, Vec<String>) {
    let mut sum = Seen::default();
    let play = |seed| play(seed).map(|seen| add(&mut sum, &seen)).err();
    let failures = seeds.filter_map(play).collect();
    (sum, failures)
}

#[test]
fn every_row_is_in_the_store_once_or_told_by_a_gap() {
    let seeds = match variable(SEED_VARIABLE) {
        Some(seed) => seed..seed + 1,
        None => 0..variable(SEEDS_VARIABLE).unwrap_or(SEEDS),
    };
    let is_one = seeds.end - seeds.start == 1;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<(Seen, Vec<String>)> = std::thread::scope(|scope| {
        let part = |first| {
            let seeds = seeds.clone().skip(first).step_by(threads);
            scope.spawn(move || play_all(seeds))
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        let joined = parts
            .into_iter()
            .map(|part| part.join().expect("histories end"));
        joined.collect()
    });
    let mut sum = Seen::default();
    let mut failures = Vec::new();
    for (seen, failed) in parts {
        add(&mut sum, &seen);
        failures.extend(failed);
    }
    println!("{sum:#?}");
    assert!(
        failures.is_empty(),
        "{} histories failed; {SEED_VARIABLE}=N plays one again:\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
    if is_one {
        return;
    }
    // The histories have all that they are to have.
    for (what, times) in [
        ("kill", sum.kills),
        ("power loss", sum.power_losses),
        ("clean end", sum.clean_ends),
        ("slow call", sum.slow_calls),
        ("row written meanwhile", sum.rows_meanwhile),
        ("flipped bit", sum.flips),
        ("flipped bit of what does not wait", sum.flips_elsewhere),
        ("insert that landed and broke", sum.landed_and_broke),
        ("repeated token", sum.repeated),
        ("burnt token", sum.burnt),
        ("missing row noticed", sum.missing),
        ("poison", sum.refused),
        ("row found before it was sent again", sum.asked),
    ] {
        assert!(times > 0, "no {what} in any history");
    }
    // A run that is told to end at once is the edge's to tell of.
    let reasons = GapReason::ALL.into_iter();
    for reason in reasons.filter(|reason| *reason != GapReason::Interrupted) {
        assert!(
            sum.gaps[reason as usize] > 0,
            "no gap of reason {}",
            reason.name()
        );
    }
}
