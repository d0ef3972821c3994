//! Measures the store: rows a second through the writer into an embedded engine, and their size.
//!
//! `cargo run --release -p pinger --example store_rate -- PINGER [ROWS] [--spool disk|memory]
//! [--spool-sync chunk|batch|never]`, with the path of a `pinger` program to run as the engine. It
//! works in a temporary directory.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use pinger::config::{Source, SpoolOptions, SpoolPlace, SpoolSync, StoreChoice, StoreOptions};
use pinger::destination::{Destination, FlowIndex, Protocol};
use pinger::result::{Answer, Outcome, ProbeResult};
use pinger::rows::{Chunker, RowKeys};
use pinger::stats::Counts;
use pinger::store::{QUEUE_ROWS, RunInfo, Store};
use pinger_ebpf::layout::AnswerKind;

const SOURCE: Source = Source {
    id: 1,
    location: 37,
    host: 12,
    sourceid: 1,
};
const DESTINATIONS: u64 = 1000;
const INTERVAL_NS: u64 = 100_000_000;

/// Rows a chunk: those of 25 ms at 700,000 a second.
const CHUNK_ROWS: u64 = 17_500;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let program = args.next().context("the path of `pinger` is missing")?;
    let (mut rows, mut spool) = (5_000_000, SpoolOptions::default());
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--spool" => {
                spool.place = match value()?.as_str() {
                    "memory" => SpoolPlace::Memory,
                    _ => SpoolPlace::Disk,
                }
            }
            "--spool-sync" => {
                spool.sync = match value()?.as_str() {
                    "chunk" => SpoolSync::Chunk,
                    "never" => SpoolSync::Never,
                    _ => SpoolSync::Batch,
                }
            }
            number => rows = number.parse().context("ROWS is no number")?,
        }
    }
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("PINGER_BIN", program) };
    let data_dir = std::env::temp_dir().join(format!("pinger-store-rate-{}", std::process::id()));
    let result = measure(&data_dir, rows, spool);
    std::fs::remove_dir_all(&data_dir)?;
    result
}

fn measure(data_dir: &Path, rows: u64, spool: SpoolOptions) -> anyhow::Result<()> {
    let destinations: Vec<_> = (0..DESTINATIONS).map(destination).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let span_ns = rows / DESTINATIONS * INTERVAL_NS;
    let run = RunInfo {
        run: now - span_ns,
        interface: "lo".to_owned(),
        mode: "measurement".to_owned(),
        wall_offset_ns: (now - span_ns) as i64,
        address: None,
    };
    let options = StoreOptions {
        choice: StoreChoice::Embedded,
        port: None,
        password_file: None,
        data_dir: data_dir.to_owned(),
        spool,
    };
    let opened = Instant::now();
    let store = Store::open(&options, &SOURCE, &destinations, &run)?;
    println!("opened in {:?}: {}", opened.elapsed(), store.description());

    let (own, began) = (cpu("self"), Instant::now());
    feed(&store, &destinations, &run, rows);
    let seconds = began.elapsed().as_secs_f64();
    let own = cpu("self") - own;
    println!(
        "{rows} rows in {seconds:.2} s: {:.0} rows/s; own CPU {own:.2} s",
        rows as f64 / seconds
    );
    for engine in engines() {
        let (cpu, memory) = (cpu(&engine), memory_kb(&engine));
        println!("engine: CPU {cpu:.2} s, memory {memory} kB");
    }
    for notice in store.notices().try_iter() {
        println!("notice: {notice}");
    }
    println!(
        "{:?}",
        store.close(&Counts::default(), Duration::from_secs(10))
    );
    Ok(())
}

/// Makes rows and gives them to the store as fast as it takes them, until all are written.
fn feed(store: &Store, destinations: &[Destination], run: &RunInfo, rows: u64) {
    let keys = RowKeys {
        run: run.run,
        source: SOURCE.id,
        rsite: SOURCE.location,
        rhost: SOURCE.host,
        wall_offset_ns: run.wall_offset_ns,
    };
    let mut chunker = Chunker::new();
    let mut random = Random(42);
    let sender = store.sender();
    let await_room = |rows: u64| {
        while sender.counts().spooled > rows {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for number in 0..rows {
        let result = probe_result(number, &mut random);
        let destination = &destinations[(number % DESTINATIONS) as usize];
        // A clock that stands still: chunks are cut by count.
        let row = keys.row(destination.id, &result);
        let full = chunker.push(0, run.wall_offset_ns, row);
        let chunk = match (number + 1) % CHUNK_ROWS {
            0 => full.or_else(|| chunker.flush(run.wall_offset_ns)),
            _ => full,
        };
        if let Some(chunk) = chunk {
            await_room(QUEUE_ROWS / 2);
            sender.offer(chunk);
        }
    }
    if let Some(chunk) = chunker.flush(run.wall_offset_ns) {
        sender.offer(chunk);
    }
    await_room(0);
}

fn destination(number: u64) -> Destination {
    let address = IpAddr::from([198, 18, (number / 250) as u8, (number % 250) as u8 + 1]);
    Destination {
        id: 1 << 63 | number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1,
        name: address.to_string(),
        address,
        protocol: Protocol::echo(address),
        interval_ns: INTERVAL_NS,
        timeout_ns: 1_000_000_000,
        size: 56,
        ..Destination::echo(address)
    }
}

fn probe_result(number: u64, random: &mut Random) -> ProbeResult {
    let (flow, sequence) = (number % DESTINATIONS, number / DESTINATIONS);
    let due_ns = sequence * INTERVAL_NS + flow * (INTERVAL_NS / DESTINATIONS);
    let lost = random.below(100) == 0;
    let rtt_ns = 2_000_000 + flow * 198_000 + random.below(400_000) * random.below(4);
    ProbeResult {
        flow: FlowIndex(flow as u32),
        sequence,
        identifier: (flow.wrapping_mul(40_503) & 0xffff) as u16,
        ttl: 64,
        hops: 0,
        due_ns,
        tx_ns: due_ns + 120 + random.below(160),
        outcome: if lost { Outcome::Lost } else { Outcome::Reply },
        answer: (!lost).then(|| Answer {
            rtt_ns: Some(rtt_ns),
            responder: destination(flow).address,
            kind: Some(AnswerKind::Echo),
            icmp_type: 0,
            icmp_code: 0,
            hop_limit: Some(64 - (flow % 20) as u8),
            traffic_class: Some(0),
            mismatch_at: None,
        }),
        jitter_ns: 0,
        hop_limit_changed: false,
    }
}

/// A small generator (xorshift64*): the same rows every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Seconds of CPU that a process has used.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

fn memory_kb(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap_or_default();
    line.chars().filter(char::is_ascii_digit).collect()
}

/// Our child processes: the engine.
fn engines() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|pids| {
            pids.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}
