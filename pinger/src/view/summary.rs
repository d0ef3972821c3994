//! How a run ended, for people: totals, quantiles, the worst destinations, and what to try next.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use super::columns::shorten;
use super::units::{clock, grouped, human, percent, percent_short, plural};
use super::{RunHeader, Suggestion, Summary};
use crate::shell;
use crate::stats::{DestinationStats, Quantiles, Snapshot};

/// How many of the worst destinations are named.
const WORST: usize = 5;
/// A destination is slow if its median is this many times the run's median.
const SLOW_FACTOR: u64 = 3;
/// Shorter runs have no rate.
const RATE_SINCE: Duration = Duration::from_secs(1);
/// Long names are cut, so that the figures stay near them.
const NAME_MAX: usize = 40;

/// Writes the summary.
///
/// # Errors
/// Whatever `out` fails with.
pub(super) fn write(out: &mut impl Write, header: &RunHeader, summary: &Summary) -> io::Result<()> {
    let snapshot = &*summary.snapshot;
    let destinations = plural(header.destinations as u64, "destination", "destinations");
    writeln!(out)?;
    writeln!(
        out,
        "--- {destinations} probed for {} through {} ({}) ---",
        time_span(summary),
        header.interface,
        header.mode
    )?;
    write_counts(out, summary)?;
    write_rtt(out, &snapshot.rtt)?;
    write_jitter(out, header, snapshot)?;
    write_lag(out, &snapshot.lag)?;
    if !header.store.is_empty() {
        line(
            out,
            "rows",
            format_args!("{} in {}", grouped(snapshot.rows.written), header.store),
        )?;
    }
    write_worst(out, snapshot)?;
    write_drops(out, summary)?;
    write_suggestions(out, &summary.command, &summary.suggestions)?;
    out.flush()
}

/// How long probes were sent: with tenths while that says something.
fn time_span(summary: &Summary) -> String {
    if summary.sending.as_secs() < 60 {
        format!("{:.1} s", summary.sending.as_secs_f64())
    } else {
        clock(summary.sending)
    }
}

fn line(out: &mut impl Write, name: &str, text: impl fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<8}{text}")
}

fn write_counts(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let totals = &summary.snapshot.totals;
    // Of less than a second, a rate would say what nobody did.
    let rate = if summary.sending < RATE_SINCE {
        String::new()
    } else {
        format!(" ({}/s)", grouped(summary.rate_pps().round() as u64))
    };
    line(
        out,
        "probes",
        format_args!(
            "{} sent{rate}, {}, {} lost, {}: {} % loss",
            grouped(totals.sent),
            plural(totals.reply, "reply", "replies"),
            grouped(totals.lost),
            plural(totals.error, "error", "errors"),
            percent_short(totals.loss_percent())
        ),
    )?;
    let further: Vec<_> = [
        (totals.late, "late", "late"),
        (totals.duplicate, "duplicate", "duplicates"),
        (totals.mismatch, "changed payload", "changed payloads"),
        (totals.in_flight, "still in flight", "still in flight"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| plural(count, one, many))
    .collect();
    if further.is_empty() {
        Ok(())
    } else {
        line(out, "", further.join(", "))
    }
}

fn write_rtt(out: &mut impl Write, rtt: &Quantiles) -> io::Result<()> {
    if rtt.count == 0 {
        return line(out, "rtt", "no reply came, so there is none");
    }
    let Quantiles {
        count: _,
        min_ns,
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns,
    } = *rtt;
    line(
        out,
        "rtt",
        format_args!(
            "min {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
            human(min_ns),
            human(p50_ns),
            human(p90_ns),
            human(p99_ns),
            human(p999_ns),
            human(max_ns)
        ),
    )
}

fn write_jitter(out: &mut impl Write, header: &RunHeader, snapshot: &Snapshot) -> io::Result<()> {
    let Some(jitter_ns) = snapshot.jitter_ns else {
        return Ok(());
    };
    let of = if header.destinations > 1 {
        "from reply to reply, mean of the destinations"
    } else {
        "from reply to reply"
    };
    line(
        out,
        "jitter",
        format_args!("{} ({of}; RFC 3550)", human(jitter_ns)),
    )
}

fn write_lag(out: &mut impl Write, lag: &Quantiles) -> io::Result<()> {
    if lag.count == 0 {
        return Ok(());
    }
    let (p50, p99, max) = (human(lag.p50_ns), human(lag.p99_ns), human(lag.max_ns));
    let remark = "how late we sent; never part of an rtt";
    line(
        out,
        "lag",
        format_args!("p50 {p50}, p99 {p99}, max {max} ({remark})"),
    )
}

/// The destinations that lost most, then those that are slow beside the others.
fn worst(snapshot: &Snapshot) -> Vec<&DestinationStats> {
    let slow_ns = snapshot.rtt.p50_ns.saturating_mul(SLOW_FACTOR).max(1);
    let mut worst: Vec<_> = snapshot
        .destinations
        .iter()
        .filter(|destination| {
            destination.counts.loss_percent() > 0.0 || destination.rtt.p50_ns >= slow_ns
        })
        .collect();
    worst.sort_by(|a, b| {
        let by_loss = b.counts.loss_percent().total_cmp(&a.counts.loss_percent());
        by_loss.then(b.rtt.p50_ns.cmp(&a.rtt.p50_ns))
    });
    worst
}

fn write_worst(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    // With one or two destinations the totals say it all.
    if snapshot.destinations.len() < 3 {
        return Ok(());
    }
    let all = worst(snapshot);
    let shown = &all[..all.len().min(WORST)];
    let name_width = shown
        .iter()
        .map(|worst| label(worst).chars().count())
        .max()
        .unwrap_or(0);
    for (index, destination) in shown.iter().enumerate() {
        let name = if index == 0 { "worst" } else { "" };
        let label = label(destination);
        let loss = percent(destination.counts.loss_percent());
        let rtt = &destination.rtt;
        if rtt.count > 0 {
            let (p50, p99) = (human(rtt.p50_ns), human(rtt.p99_ns));
            let text = format!("{label:<name_width$} {loss:>7} % loss, p50 {p50}, p99 {p99}");
            line(out, name, text)?;
        } else {
            line(
                out,
                name,
                format_args!("{label:<name_width$} {loss:>7} % loss, no reply"),
            )?;
        }
    }
    match all.len() - shown.len() {
        0 => Ok(()),
        more => {
            let more = plural(more as u64, "destination", "destinations");
            line(
                out,
                "",
                format_args!("and {more} more with loss or a slow median"),
            )
        }
    }
}

fn label(destination: &DestinationStats) -> String {
    shorten(&destination.name, NAME_MAX)
}

/// What did not go as asked, a sentence each, with what it means.
pub(super) fn write_drops(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let snapshot = &*summary.snapshot;
    let probes = |count| plural(count, "probe", "probes");
    let results = |count| plural(count, "result", "results");
    let (failed, skipped) = (snapshot.totals.send_failed, snapshot.totals.skipped);
    let (ring, forged) = (snapshot.ring_dropped, snapshot.forged);
    let (dropped, spooled) = (snapshot.rows.dropped, snapshot.rows.spooled);
    for (count, sentence) in [
        (
            failed,
            format!(
                "the interface refused {}: never sent, so not counted as loss",
                probes(failed)
            ),
        ),
        (
            skipped,
            format!(
                "we skipped {}, being a whole interval late: a longer interval or a freer CPU \
                 helps",
                probes(skipped)
            ),
        ),
        (
            ring,
            format!(
                "the ring buffer was full for {}: counted, with round trips but without details",
                plural(ring, "answer", "answers")
            ),
        ),
        (
            dropped,
            format!(
                "{} counted above are missing in the store: {}; the table gaps tells which, and \
                 `pinger spool status` what of them is kept on disk",
                results(dropped),
                summary.rows_lost.as_deref().unwrap_or("no reason is known")
            ),
        ),
        (
            spooled,
            format!(
                "{} wait on disk for the store; the next run with the same --store and \
                 --data-dir sends them",
                results(spooled)
            ),
        ),
        (
            forged,
            format!(
                "we passed on {} that looked like an answer to a probe of ours but was not",
                plural(forged, "packet", "packets")
            ),
        ),
    ] {
        if count > 0 {
            line(out, "note", sentence)?;
        }
    }
    Ok(())
}

fn write_suggestions(
    out: &mut impl Write,
    command: &str,
    suggestions: &[Suggestion],
) -> io::Result<()> {
    if suggestions.is_empty() {
        return Ok(());
    }
    let number = match suggestions.len() {
        1 => "One query".to_owned(),
        2 => "Two queries".to_owned(),
        3 => "Three queries".to_owned(),
        many => format!("{many} queries"),
    };
    writeln!(out, "\n{number} worth trying:")?;
    for Suggestion { title, sql } in suggestions {
        writeln!(out, "  # {title}\n  {command} {}", shell::quoted(sql))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing;
    use super::*;

    fn text(summary: &Summary, header: &RunHeader) -> String {
        let mut out = Vec::new();
        write(&mut out, header, summary).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_summary_reads_as_agreed() {
        testing::check_text(
            "summary",
            &text(&testing::summary(2000, 40), &testing::header(2000)),
        );
    }

    #[test]
    fn a_clean_run_has_no_notes_and_no_worst() {
        let mut summary = testing::summary(2000, 40);
        let snapshot = Arc::make_mut(&mut summary.snapshot);
        snapshot.totals.lost = 0;
        snapshot.totals.send_failed = 0;
        snapshot.totals.skipped = 0;
        snapshot.ring_dropped = 0;
        snapshot.forged = 0;
        snapshot.rows.dropped = 0;
        snapshot.rows.spooled = 0;
        snapshot.destinations.retain(|destination| {
            destination.counts.loss_percent() == 0.0
                && destination.rtt.p50_ns < snapshot.rtt.p50_ns * SLOW_FACTOR
        });
        summary.suggestions.clear();
        let text = text(
            &summary,
            &RunHeader {
                store: String::new(),
                ..testing::header(2000)
            },
        );
        for absent in ["note", "worst", "rows", "worth trying"] {
            assert!(!text.contains(absent), "{absent} in:\n{text}");
        }
        assert!(text.contains("probes  "));
    }

    #[test]
    fn the_worst_are_those_that_lost_then_those_that_are_slow() {
        let summary = testing::summary(500, 40);
        let worst = worst(&summary.snapshot);
        let loss: Vec<_> = worst
            .iter()
            .map(|worst| worst.counts.loss_percent())
            .collect();
        assert!(loss.is_sorted_by(|a, b| a >= b), "{loss:?}");
        let slow = worst
            .iter()
            .filter(|worst| worst.counts.loss_percent() == 0.0)
            .count();
        assert!(
            slow > 0 && slow < worst.len(),
            "the generator makes both kinds"
        );
    }
}
