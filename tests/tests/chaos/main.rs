//! Chaos: real runs in a lab while things go wrong at random moments, then a count in SQL of what
//! became of every probe.
//!
//! `cargo xtask test --chaos N` runs N rounds, a line each. A round is drawn from a seed, and a
//! failure prints it: `PINGER_CHAOS_SEED` plays that round again. Moments are those of the seed,
//! but what two CPUs make of them is not, so a rare failure may need several tries:
//! `PINGER_CHAOS_ROUNDS` says how many. `PINGER_CHAOS_KEEP` names a directory that then keeps the
//! data of a failed round.
//!
//! The witness is the kernel of the probed hosts: it counts the echo requests that reach it, and
//! has no part in what is tested.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot do its work has failed"
)]

mod check;
mod place;
mod plan;
mod rollups;
mod round;
mod server;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use plan::{Plan, StoreKind};
use round::Verdict;

/// Rounds of the plain test, besides one that is drawn anew each time: together they have every
/// kind of trouble.
const FIXED_SEEDS: [u64; 3] = [14, 0, 25];

/// The sender takes a CPU for itself, so the tests run one after another.
static MACHINE: Mutex<()> = Mutex::new(());

fn play(plan: &Plan) -> Verdict {
    // A test that failed does not spoil the others.
    let _turn = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    round::play(plan)
}

#[test]
fn every_probe_is_in_the_store_once_or_in_a_gap() {
    let mut killed = 0;
    for (number, seed) in seeds().into_iter().enumerate() {
        let began = Instant::now();
        let plan = Plan::draw(seed);
        let verdict = play(&plan);
        let seconds = began.elapsed().as_secs_f32();
        println!(
            "round {}: seed {seed}, {seconds:.1} s, {}",
            number + 1,
            verdict.told
        );
        assert!(
            verdict.complaints.is_empty(),
            "seed {seed} (PINGER_CHAOS_SEED={seed} plays it again):\n  {}\n{}",
            verdict.complaints.join("\n  "),
            verdict.history
        );
        killed = killed.max(verdict.killed);
    }
    println!("the most that a kill took: {}", told(killed));
}

/// Probes, and how long it takes to send them.
fn told(probes: u64) -> String {
    let ms = probes * 1000 / round::PROBES_A_SECOND;
    format!("{probes} probes, those of {ms} ms")
}

/// In the rounds above runs may be too short to lose more than is allowed.
#[test]
fn a_kill_takes_a_moment_only_however_long_the_store_is_away() {
    for store in [StoreKind::Embedded, StoreKind::Server] {
        let verdict = play(&Plan::kills(store));
        println!("{store:?}: a kill took {}", told(verdict.killed));
        expect_clean(&verdict);
    }
}

fn expect_clean(verdict: &Verdict) {
    let complaints = verdict.complaints.join("\n");
    assert!(complaints.is_empty(), "{complaints}\n{}", verdict.history);
}

/// The checks can fail: what a run keeps in memory only is lost with its process, and that is
/// found out.
#[test]
fn a_store_that_loses_rows_is_found_out() {
    let verdict = play(&Plan::loses());
    assert!(
        verdict
            .complaints
            .iter()
            .any(|complaint| complaint.contains("probes were sent")),
        "nothing was found: {:?}\n{}",
        verdict.complaints,
        verdict.history
    );
}

#[test]
fn a_gap_is_there_once_though_the_answer_was_lost() {
    expect_clean(&play(&Plan::doubts_gap()));
}

/// All kinds of trouble and of endings in these plans, by their names.
fn kinds(plans: &[Plan]) -> BTreeSet<String> {
    let name = |debug: String| debug.split('(').next().unwrap().to_owned();
    let runs = plans.iter().flat_map(|plan| &plan.runs);
    let acts = runs
        .clone()
        .flat_map(|run| run.early.iter().chain(&run.acts));
    acts.map(|(_, act)| name(format!("{act:?}")))
        .chain(runs.map(|run| name(format!("{:?}", run.ending))))
        .collect()
}

#[test]
fn the_fixed_seeds_have_every_kind_of_trouble() {
    let fixed = kinds(&FIXED_SEEDS.map(Plan::draw));
    let some: Vec<Plan> = (0..1000).map(Plan::draw).collect();
    assert_eq!(fixed, kinds(&some));
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        let number = text.parse();
        Some(number.unwrap_or_else(|error| panic!("{name} is no number: {text}: {error}")))
    };
    let rounds = number("PINGER_CHAOS_ROUNDS");
    if let Some(seed) = number("PINGER_CHAOS_SEED") {
        return vec![seed; rounds.unwrap_or(1) as usize];
    }
    let anew = UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 >> 10;
    match rounds {
        Some(rounds) => (anew..anew + rounds).collect(),
        None => FIXED_SEEDS.into_iter().chain([anew]).collect(),
    }
}
