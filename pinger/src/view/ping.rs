//! The ping view: a line for every result, in the order of arrival, as `ping` users know it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pinger_ebpf::layout::AnswerKind;

use super::units::{exact, percent_short, plural};
use super::{Level, RunHeader, SnapshotDetail, Summary, View, icmp, print_notice};
use crate::destination::{Destination, Protocol};
use crate::result::{Answer, Outcome, ProbeResult};
use crate::stats::{DestinationStats, Quantiles, Snapshot};

/// With more destinations than this, the first lines say how many instead of naming each.
const NAMED_AT_START: usize = 5;
/// Bytes of the ICMP header, which `ping` counts as part of an answer.
const ICMP_HEADER: u16 = 8;

/// A line per result on standard output, then a summary per destination; notices go to standard
/// error.
#[derive(Debug)]
pub struct Ping<O, E> {
    destinations: Arc<[Destination]>,
    out: O,
    err: E,
}

impl<O: Write, E: Write> Ping<O, E> {
    /// A view of results whose flows are positions in `destinations`.
    pub fn new(destinations: Arc<[Destination]>, out: O, err: E) -> Self {
        Self {
            destinations,
            out,
            err,
        }
    }
}

/// `198.18.0.1`, or `example.org (198.18.0.1)` where the user gave a name.
fn label(name: &str, address: IpAddr) -> String {
    let text = address.to_string();
    // The same address can be written in more than one way.
    if name.parse() == Ok(address) {
        text
    } else {
        format!("{name} ({text})")
    }
}

/// The same with the port, where there is one: `198.18.0.1 port 443`.
fn target(destination: &Destination) -> String {
    let who = label(&destination.name, destination.address);
    match destination.port {
        0 => who,
        port => format!("{who} port {port}"),
    }
}

/// The probe's number, as `ping` names it; only ICMP has a field for it.
fn number(destination: &Destination, result: &ProbeResult) -> String {
    let sequence = result.sequence as u16;
    if destination.protocol.has_port() {
        format!("seq={sequence}")
    } else {
        format!("icmp_seq={sequence}")
    }
}

/// The line for a result.
fn line(destination: &Destination, result: &ProbeResult) -> String {
    let who = target(destination);
    let number = number(destination, result);
    let timeout = exact(destination.timeout_ns);
    let mark = match result.outcome {
        Outcome::Duplicate => " (DUP!)".to_owned(),
        Outcome::Late => format!(" (late: the timeout is {timeout})"),
        _ => String::new(),
    };
    match (result.outcome, &result.answer) {
        (Outcome::Lost, _) => format!("no answer from {who}: {number} after {timeout}"),
        (Outcome::SendFailed, _) => format!("not sent to {who}: {number}"),
        (outcome, None) => format!("{} from {who}: {number}", outcome.name()),
        (outcome, Some(answer))
            if outcome == Outcome::Error
                || answer.kind == Some(AnswerKind::IcmpError)
                    && !answer.is_closed_port(destination.protocol, destination.address) =>
        {
            let text = icmp::error_text(destination.address, answer.icmp_type, answer.icmp_code);
            let from = if answer.responder.is_unspecified() {
                "somebody".to_owned()
            } else {
                answer.responder.to_string()
            };
            let time = time(answer);
            format!("from {from}: {number} to {who}: {text}{time}{mark}")
        }
        (_, Some(answer)) => answer_line(destination, answer, &number, &mark),
    }
}

/// ` time=…`, if there is one.
fn time(answer: &Answer) -> String {
    let ms = answer.rtt_ns.map(milliseconds);
    ms.map_or_else(String::new, |ms| format!(" time={ms} ms"))
}

fn answer_line(destination: &Destination, answer: &Answer, number: &str, mark: &str) -> String {
    let name = if answer.responder == destination.address {
        &destination.name
    } else {
        ""
    };
    let mut who = match name {
        "" => answer.responder.to_string(),
        name => label(name, answer.responder),
    };
    if destination.port > 0 {
        // Writing to a String cannot fail.
        let _ = write!(who, " port {}", destination.port);
    }
    let size = destination.size;
    let mut line = match (answer.kind, destination.protocol) {
        (Some(AnswerKind::SynAck), _) => format!("{who} is open: {number}"),
        (Some(AnswerKind::Reset | AnswerKind::IcmpError), _) => {
            format!("{who} is closed: {number}")
        }
        (_, Protocol::Tcp | Protocol::Tcp6) => format!("{who} answered: {number}"),
        (_, Protocol::Udp | Protocol::Udp6) => format!("{size} bytes from {who}: {number}"),
        (_, Protocol::Icmp | Protocol::Icmp6) => {
            let bytes = size.saturating_add(ICMP_HEADER);
            format!("{bytes} bytes from {who}: {number}")
        }
    };
    if let Some(hop_limit) = answer.hop_limit {
        let _ = write!(line, " ttl={hop_limit}");
    }
    line.push_str(&time(answer));
    line.push_str(mark);
    if let Some(offset) = answer.mismatch_at {
        let _ = write!(line, " (payload changed at byte {offset})");
    }
    line
}

/// Milliseconds, as `ping` has them, with tenths of a microsecond where those matter.
fn milliseconds(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    if ns < 1_000_000 {
        format!("{ms:.4}")
    } else {
        format!("{ms:.3}")
    }
}

fn write_summary(
    out: &mut impl Write,
    destination: &DestinationStats,
    sending: Duration,
) -> io::Result<()> {
    let counts = &destination.counts;
    let (host, service) = destination.parts();
    let who = format!("{} {service}", label(host, destination.address));
    writeln!(out, "\n--- {} ---", who.trim_end())?;
    write!(
        out,
        "{} sent, {}",
        plural(counts.sent, "probe", "probes"),
        plural(counts.reply, "reply", "replies")
    )?;
    for (count, one, many) in [
        (counts.error, "error", "errors"),
        (counts.late, "late", "late"),
        (counts.duplicate, "duplicate", "duplicates"),
        (counts.mismatch, "changed payload", "changed payloads"),
        (counts.send_failed, "not sent", "not sent"),
        (counts.skipped, "skipped", "skipped"),
        (counts.in_flight, "still in flight", "still in flight"),
    ] {
        if count > 0 {
            write!(out, ", {}", plural(count, one, many))?;
        }
    }
    let loss = percent_short(counts.loss_percent());
    writeln!(out, ", {loss}% loss, time {} ms", sending.as_millis())?;
    let Quantiles {
        count,
        min_ns,
        p50_ns,
        p99_ns,
        max_ns,
        ..
    } = destination.rtt;
    if count > 0 {
        let [min, p50, p99, max] = [min_ns, p50_ns, p99_ns, max_ns].map(milliseconds);
        write!(out, "rtt min/p50/p99/max = {min}/{p50}/{p99}/{max} ms")?;
        if let Some(jitter_ns) = destination.jitter_ns {
            write!(out, ", jitter {} ms", milliseconds(jitter_ns))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

impl<O: Write, E: Write> View for Ping<O, E> {
    fn start(&mut self, header: &RunHeader) -> io::Result<()> {
        let through = format!("through {} ({})", header.interface, header.mode);
        if self.destinations.len() > NAMED_AT_START {
            let count = plural(
                self.destinations.len() as u64,
                "destination",
                "destinations",
            );
            writeln!(self.out, "PING {count} {through}")?;
            return self.out.flush();
        }
        for destination in self.destinations.iter() {
            let who = target(destination);
            match destination.protocol {
                Protocol::Tcp | Protocol::Tcp6 => write!(self.out, "PING {who} by TCP")?,
                Protocol::Udp | Protocol::Udp6 => {
                    write!(
                        self.out,
                        "PING {who} by UDP: {} data bytes",
                        destination.size
                    )?;
                }
                Protocol::Icmp | Protocol::Icmp6 => {
                    write!(self.out, "PING {who}: {} data bytes", destination.size)?;
                }
            }
            writeln!(self.out, ", {through}")?;
        }
        self.out.flush()
    }

    fn notice(&mut self, level: Level, text: &str) {
        print_notice(&mut self.err, level, text);
    }

    fn update(&mut self, _snapshot: Arc<Snapshot>) -> io::Result<()> {
        Ok(())
    }

    fn result(&mut self, result: &ProbeResult) -> io::Result<()> {
        // A flow that is not in the list has nothing that could be shown.
        if let Some(destination) = self.destinations.get(result.flow.0 as usize) {
            writeln!(self.out, "{}", line(destination, result))?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        for destination in &summary.snapshot.destinations {
            write_summary(&mut self.out, destination, summary.sending)?;
        }
        self.out.flush()
    }

    fn wants(&self) -> SnapshotDetail {
        SnapshotDetail::Results
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests;
