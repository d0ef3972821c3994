//! The trace view: each destination's hops, with loss and round trips, as `mtr` users know them.
//!
//! On a terminal the table is drawn anew while the trace lasts; at the end it is printed whole,
//! or one JSON object a destination.

mod paths;
mod report;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::terminal;

use super::columns::shorten;
use super::units::{self, Scale, plural};
use super::{Level, RunHeader, SnapshotDetail, Summary, View, icmp, print_notice, summary};
use crate::destination::Destination;
use crate::result::ProbeResult;
use paths::{Hop, Path, Reached, Said};
pub use report::{HopReport, HopRttReport, TraceReport};

/// Longer addresses do not exist.
const ADDRESS_WIDTH_MAX: usize = 39;
/// Room for any IPv4 address, so that most tables have the same columns.
const ADDRESS_WIDTH_MIN: usize = 15;
/// Between two pictures on a terminal: often enough to see a pass grow.
const PERIOD: Duration = Duration::from_millis(250);

/// How a trace is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStyle {
    /// A table that is drawn anew on a terminal while it lasts.
    Refreshed,
    /// The table at the end.
    Table,
    /// A JSON object a destination, at the end, each on a line.
    Json,
}

/// Hops of traced destinations on standard output; notices go to standard error.
#[derive(Debug)]
pub struct Trace<O, E> {
    destinations: Arc<[Destination]>,
    paths: Vec<Path>,
    style: TraceStyle,
    out: O,
    err: E,
    header: String,
    /// Lines on the terminal that the next picture replaces.
    drawn: usize,
    /// Columns and lines of the terminal.
    size: fn() -> io::Result<(u16, u16)>,
}

impl<O: Write, E: Write> Trace<O, E> {
    /// A view of results whose flows are positions in `destinations`.
    pub fn new(destinations: Arc<[Destination]>, style: TraceStyle, out: O, err: E) -> Self {
        Self {
            paths: vec![Path::default(); destinations.len()],
            destinations,
            style,
            out,
            err,
            header: String::new(),
            drawn: 0,
            size: terminal::size,
        }
    }

    /// The lines of all tables; each is only made when it is asked for.
    fn lines(&self) -> impl Iterator<Item = String> {
        let scale = self.scale();
        self.destinations
            .iter()
            .zip(&self.paths)
            .flat_map(move |(destination, path)| table(destination, path, scale))
    }

    /// One unit for all round trips, so that they can be compared at a glance.
    fn scale(&self) -> Scale {
        let hops = self.paths.iter().flat_map(Path::shown);
        let longest_ns = hops.map(|hop| hop.rtt.max_ns).max();
        Scale::default().follow(longest_ns.unwrap_or(0))
    }

    /// Takes the last picture off the terminal.
    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            // Cursor up, and erase to the end of the screen: ECMA-48.
            write!(self.out, "\x1b[{}A\r\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    /// Draws what fits on the terminal.
    fn draw(&mut self) -> io::Result<()> {
        // A terminal that does not tell its size has the size that they all once had.
        let (width, height) = (self.size)().unwrap_or((80, 24));
        // The cursor stands below the last line, and that line may say that there is more.
        let room = usize::from(height).saturating_sub(2);
        let mut lines: Vec<String> = self.lines().take(room + 1).collect();
        if lines.len() > room {
            lines.truncate(room.saturating_sub(1));
            lines.push("… the rest follows at the end".to_owned());
        }
        self.erase()?;
        for line in &lines {
            let shown: String = line.chars().take(width.into()).collect();
            writeln!(self.out, "{}", shown.trim_end())?;
        }
        self.drawn = lines.len();
        self.out.flush()
    }

    fn print(&mut self) -> io::Result<()> {
        let lines: Vec<String> = self.lines().collect();
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }
}

impl<O: Write, E: Write> View for Trace<O, E> {
    fn start(&mut self, header: &RunHeader) -> io::Result<()> {
        if self.style == TraceStyle::Json {
            return Ok(());
        }
        let hops = self
            .destinations
            .first()
            .map_or(0, |first| first.ttl.hops());
        let destinations = plural(header.destinations as u64, "destination", "destinations");
        self.header = format!(
            "TRACE {destinations} up to {} through {} ({})",
            plural(hops.into(), "hop", "hops"),
            header.interface,
            header.mode
        );
        writeln!(self.out, "{}", self.header)?;
        self.out.flush()
    }

    fn notice(&mut self, level: Level, text: &str) {
        // If standard output is gone, the next picture will tell.
        let _ = self.erase().and_then(|()| self.out.flush());
        print_notice(&mut self.err, level, text);
    }

    fn update(&mut self, _snapshot: Arc<crate::stats::Snapshot>) -> io::Result<()> {
        match self.style {
            TraceStyle::Refreshed => self.draw(),
            TraceStyle::Table | TraceStyle::Json => Ok(()),
        }
    }

    fn result(&mut self, result: &ProbeResult) -> io::Result<()> {
        let index = result.flow.0 as usize;
        // A flow that is not in the list has nothing that could be shown.
        if let (Some(destination), Some(path)) =
            (self.destinations.get(index), self.paths.get_mut(index))
        {
            path.add(destination, result);
        }
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.erase()?;
        if self.style == TraceStyle::Json {
            for (destination, path) in self.destinations.iter().zip(&self.paths) {
                serde_json::to_writer(&mut self.out, &TraceReport::new(destination, path))?;
                writeln!(self.out)?;
            }
            // What is not the network's doing must not look like it.
            summary::write_drops(&mut self.err, summary)?;
            return self.out.flush();
        }
        self.print()?;
        writeln!(self.out)?;
        summary::write_drops(&mut self.out, summary)?;
        if !summary.suggestions.is_empty() {
            let query = "SELECT time, name, reached, hops FROM paths LIMIT 10";
            writeln!(self.out, "stored: {} \"{query}\"", summary.command)?;
        }
        self.out.flush()
    }

    fn wants(&self) -> SnapshotDetail {
        SnapshotDetail::Results
    }

    fn period(&self) -> Duration {
        PERIOD
    }
}

/// The table of one destination.
fn table(destination: &Destination, path: &Path, scale: Scale) -> Vec<String> {
    let hops = path.shown();
    let addresses = hops.iter().flat_map(|hop| &hop.addresses);
    let width = addresses
        .map(|address| address.to_string().len())
        .max()
        .unwrap_or(0)
        .clamp(ADDRESS_WIDTH_MIN, ADDRESS_WIDTH_MAX);
    let title = |name: &str| format!("{name} {}", scale.unit());
    let mut lines = vec![
        String::new(),
        heading(destination, path),
        format!(
            "hop  {:<width$}  {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
            "address",
            "loss %",
            "sent",
            title("last"),
            title("min"),
            title("avg"),
            title("max")
        ),
    ];
    for (hop, ttl) in hops.iter().zip(1..) {
        lines.extend(rows(destination, hop, ttl, width, scale));
    }
    let highest = usize::from(destination.ttl.hops());
    if path.end().is_none() && path.passes() > 0 && hops.len() < highest {
        let first = hops.len() + 1;
        lines.push(match highest - hops.len() {
            1 => format!("{first:>3}  ??? no answer"),
            _ => format!("{first:>3}  ??? no answer, nor from any hop up to {highest}"),
        });
    }
    lines
}

/// Who is traced and how it stands.
fn heading(destination: &Destination, path: &Path) -> String {
    let name = shorten(&destination.name, ADDRESS_WIDTH_MAX);
    let mut text = if destination.name.parse() == Ok(destination.address) {
        destination.address.to_string()
    } else {
        format!("{name} ({})", destination.address)
    };
    if destination.port > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " {} port {}", destination.protocol, destination.port);
    }
    let passes = plural(path.passes(), "pass", "passes");
    let hops = plural(path.shown().len() as u64, "hop", "hops");
    let state = match (path.end(), path.is_reached()) {
        (_, true) => format!("reached in {hops}"),
        (Some(_), false) => format!("no way beyond {hops}"),
        (None, _) if path.passes() == 0 => "nothing known yet".to_owned(),
        (None, _) => "not reached".to_owned(),
    };
    let _ = write!(text, ": {state}, {passes}");
    text
}

/// The rows of one hop: the figures beside the first address, further addresses below it.
fn rows(destination: &Destination, hop: &Hop, ttl: u8, width: usize, scale: Scale) -> Vec<String> {
    let text = |address: &IpAddr| address.to_string();
    let mut addresses = hop.addresses.iter().map(text);
    let first = addresses.next().unwrap_or_else(|| "???".to_owned());
    let time = |ns| match hop.rtt.count {
        0 => "–".to_owned(),
        _ => scale.format(ns),
    };
    let mut row = format!(
        "{ttl:>3}  {first:<width$}  {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
        units::percent(hop.loss_percent()),
        units::count_in(hop.sent, 7),
        time(hop.rtt.last_ns),
        time(hop.rtt.min_ns),
        time(hop.rtt.avg_ns()),
        time(hop.rtt.max_ns)
    );
    let note = words(destination, hop.said);
    if !note.is_empty() {
        let _ = write!(row, "  {note}");
    }
    let mut rows = vec![row];
    rows.extend(addresses.map(|address| format!("     {address}")));
    rows
}

/// What the end of a path said; nothing where that is a plain answer, or a router on the way.
fn words(destination: &Destination, said: Option<Said>) -> String {
    match said {
        None | Some(Said::OnTheWay | Said::Reached(Reached::Answer)) => String::new(),
        Some(Said::Reached(Reached::Open)) => "open".to_owned(),
        Some(Said::Reached(Reached::Closed)) => "closed".to_owned(),
        Some(Said::NoWay {
            icmp_type,
            icmp_code,
        }) => icmp::error_text(destination.address, icmp_type, icmp_code),
    }
}

#[cfg(test)]
mod tests;
