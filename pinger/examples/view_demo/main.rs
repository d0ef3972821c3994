//! The views on an invented run, to look at and to measure without probing anything.
//!
//! `cargo run --release -p pinger --example view_demo -- live 10000`, then `q`. The first argument
//! is a format (`live`, `plain` or `json`) or `picture`, which prints an SVG document; then come
//! the number of destinations, the seconds to run and the seed.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pinger as lib;
use pinger::config::Format;
use pinger::view::{self, Action, Level, Live, Pace, RunHeader, Suggestion, Summary, View};

mod generator;
use generator::{Generator, INTERVAL};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let format = arguments.next().unwrap_or_else(|| "live".to_owned());
    let mut number = |name: &str, default: u64| match arguments.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("{name} is no number: {text}")),
        None => Ok(default),
    };
    let destinations = number("the number of destinations", 2000)? as usize;
    let duration = Duration::from_secs(number("the number of seconds", 3600)?);
    let mut generator = Generator::new(destinations, number("the seed", 1)?);
    let header = header(destinations);
    match format.as_str() {
        "live" => {
            let mut live = Live::new();
            let summary = run(&mut live, &header, &mut generator, duration)?;
            live.finish(&summary)?;
            print_frame_times(&live)?;
        }
        "plain" | "json" => {
            let format = if format == "plain" {
                Format::Plain
            } else {
                Format::Json
            };
            let mut view = view::open(format, &Arc::from([]));
            let summary = run(&mut *view, &header, &mut generator, duration)?;
            view.finish(&summary)?;
        }
        "picture" => {
            for _ in 0..duration.as_millis() / INTERVAL.as_millis() {
                generator.step();
            }
            let svg = view::picture::of_run(&header, Arc::new(generator.snapshot()));
            io::stdout().write_all(svg.as_bytes())?;
        }
        "panic" => {
            let mut live = Live::new();
            live.start(&header)?;
            panic!("asked for: the terminal must be as it was");
        }
        other => bail!("unknown format {other}: live, plain, json or picture"),
    }
    Ok(())
}

fn header(destinations: usize) -> RunHeader {
    RunHeader {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        interface: "eth0".to_owned(),
        mode: "native XDP".to_owned(),
        store: "embedded ClickHouse".to_owned(),
        destinations,
        pace: Pace::Every {
            min_ns: INTERVAL.as_nanos() as u64,
            max_ns: INTERVAL.as_nanos() as u64,
        },
    }
}

/// Shows the run at its true speed until the user or the time ends it.
fn run(
    view: &mut dyn View,
    header: &RunHeader,
    generator: &mut Generator,
    duration: Duration,
) -> io::Result<Summary> {
    view.start(header)?;
    view.notice(Level::Info, "the network here is invented");
    let start = Instant::now();
    let mut steps = 0;
    let mut next_update = start;
    while start.elapsed() < duration {
        while INTERVAL * steps < start.elapsed() {
            generator.step();
            steps += 1;
            if steps % 50 == 0 {
                view.notice(
                    Level::Warning,
                    &format!("{steps} rounds, and nothing to do"),
                );
            }
        }
        if Instant::now() >= next_update {
            view.update(Arc::new(generator.snapshot()))?;
            next_update = Instant::now() + view.period();
        }
        if view.poll(INTERVAL / 2)? == Action::Quit {
            break;
        }
    }
    Ok(Summary {
        snapshot: Arc::new(generator.snapshot()),
        rows_lost: None,
        sending: start.elapsed(),
        command: "pinger sql".to_owned(),
        suggestions: vec![Suggestion {
            title: "rows per destination".to_owned(),
            sql: "SELECT destination, count() FROM results GROUP BY destination".to_owned(),
        }],
    })
}

fn print_frame_times(live: &Live) -> io::Result<()> {
    let frames = live.frame_times();
    let mean = frames.total / frames.count.max(1);
    writeln!(
        io::stderr(),
        "{} frames, mean {mean:.2?}, longest {:.2?}",
        frames.count,
        frames.max
    )
}
