//! Measures the stats keeper without a network: replies a second in each round, memory for each
//! destination, and the time of a snapshot of all.
//!
//! `cargo run --release -p pinger --example keeper_rate -- [DESTINATIONS] [ROUNDS]`; as root it
//! locks memory, as a run does.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use pinger::destination::{Destination, FlowIndex};
use pinger::engine::Note;
use pinger::schedule::Schedule;
use pinger::stats::{FlowFacts, Outside, StatsKeeper};
use pinger_ebpf::layout::{AnswerKind, Event, EventKind, PAYLOAD_MATCHES};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u32| {
        args.next()
            .map_or(Ok(default), |text| text.parse().context("no number"))
    };
    let (destinations, rounds) = (number(500_000)?, number(5)?);
    // SAFETY: takes one integer, and changes no memory.
    let locked =
        unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    println!(
        "{destinations} destinations, memory locked: {}",
        locked == 0
    );
    // As in a run: what another thread allocates comes from another arena.
    std::thread::spawn(move || measure(destinations, rounds))
        .join()
        .map_err(|_| anyhow::anyhow!("the measurement panicked"))?
}

fn measure(count: u32, rounds: u32) -> anyhow::Result<()> {
    let before = resident()?;
    let list: Vec<_> = (0..count)
        .map(|index| Destination::echo(Ipv4Addr::from(0x0a00_0000 + index).into()))
        .collect();
    let facts = vec![
        FlowFacts {
            identifier: 7,
            source: SOURCE,
        };
        list.len()
    ];
    let schedule = Arc::new(Schedule::new(&list, 1, false));
    let mut keeper = StatsKeeper::new(&list, &facts, schedule);
    drop(list);
    let bytes = |now: u64| (now.saturating_sub(before)) / u64::from(count);
    println!("start      {:>6} bytes a destination", bytes(resident()?));
    for round in 0..rounds {
        let begun = Instant::now();
        for flow in 0..count {
            keeper.note(Note::Sent {
                flow: FlowIndex(flow),
            });
            keeper.event(&reply(flow, round));
        }
        let taken = begun.elapsed();
        let rate = f64::from(count) / taken.as_secs_f64();
        println!(
            "round {round:<4} {rate:>9.0} replies/s, {:>6} bytes a destination",
            bytes(resident()?)
        );
    }
    for _ in 0..2 {
        let begun = Instant::now();
        let snapshot = keeper.snapshot(&Outside::default(), true);
        let taken = begun.elapsed();
        anyhow::ensure!(snapshot.destinations.len() == count as usize);
        println!("snapshot   {:>9.1} ms", taken.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// A reply with a round trip of its destination's own, from 20 µs to 80 ms, and some jitter.
fn reply(flow: u32, round: u32) -> Event {
    let mixed = u64::from(flow ^ round << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let base_ns = 20_000_u64 << (flow % 13);
    let tx_ns = 1_000_000_000 * u64::from(round + 1);
    Event {
        rx_ns: tx_ns + base_ns + base_ns * mixed / (10 << 32),
        tx_ns,
        sequence: round.into(),
        responder: Ipv4Addr::from(0x0a00_0000 + flow).to_ipv6_mapped().octets(),
        flow,
        identifier: 7,
        mismatch_at: PAYLOAD_MATCHES,
        kind: EventKind::Reply as u8,
        answer: AnswerKind::Echo as u8,
        icmp_type: 0,
        icmp_code: 0,
        hop_limit: 60,
        traffic_class: 0,
        reserved: [0; 2],
    }
}

/// Bytes of memory that this process has.
fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .context("statm has a second field")?;
    Ok(pages.parse::<u64>()? * 4096)
}
