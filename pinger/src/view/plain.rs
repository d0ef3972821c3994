//! The plain view: one line of named figures a second, for logs and pipes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::rate::Rate;
use super::units::{self, Scale};
use super::{Level, RunHeader, SnapshotDetail, Summary, View, print_notice, summary};
use crate::stats::Snapshot;

/// A line a second on standard output, then the summary; notices go to standard error.
///
/// Figures are sums and quantiles since the start; only the rate is of the last seconds. What
/// should be zero is told only when it is not.
#[derive(Debug)]
pub struct Plain<O, E> {
    out: O,
    err: E,
    header: Option<RunHeader>,
    scale: Scale,
    rate: Rate,
}

impl<O: Write, E: Write> Plain<O, E> {
    /// A view that writes lines to `out` and notices to `err`.
    pub fn new(out: O, err: E) -> Self {
        Self {
            out,
            err,
            header: None,
            scale: Scale::default(),
            rate: Rate::default(),
        }
    }

    fn line(&mut self, snapshot: &Snapshot) -> String {
        let totals = &snapshot.totals;
        let rate = self.rate.update(snapshot.elapsed, totals.sent);
        let rtt = &snapshot.rtt;
        if rtt.count > 0 {
            self.scale = self.scale.follow(rtt.p50_ns);
        }
        let time = |ns| {
            if rtt.count > 0 {
                self.scale.format(ns)
            } else {
                "-".to_owned()
            }
        };
        let mut line = format!(
            "{}  sent {:>9}  reply {:>9}  loss {:>6} %  in flight {:>6}  rate {rate:>7.0}/s  \
             rtt p50 {:>8} p99 {:>8} max {:>8} jitter {:>8} {}  lag p99 {:>7} µs",
            units::clock(snapshot.elapsed),
            totals.sent,
            totals.reply,
            units::percent(totals.loss_percent()),
            totals.in_flight,
            time(rtt.p50_ns),
            time(rtt.p99_ns),
            time(rtt.max_ns),
            snapshot
                .jitter_ns
                .map_or_else(|| "-".to_owned(), |ns| self.scale.format(ns)),
            self.scale.unit(),
            Scale::Micros.format(snapshot.lag.p99_ns),
        );
        for (name, count) in [
            ("lost", totals.lost),
            ("error", totals.error),
            ("late", totals.late),
            ("duplicate", totals.duplicate),
            ("mismatch", totals.mismatch),
            ("forged", snapshot.forged),
            ("send_failed", totals.send_failed),
            ("skipped", totals.skipped),
            ("ring_dropped", snapshot.ring_dropped),
            ("rows_dropped", snapshot.rows.dropped),
        ] {
            if count > 0 {
                // Writing to a String cannot fail.
                let _ = write!(line, "  {name} {count}");
            }
        }
        line
    }
}

impl<O: Write, E: Write> View for Plain<O, E> {
    fn start(&mut self, header: &RunHeader) -> io::Result<()> {
        let destinations = units::plural(header.destinations as u64, "destination", "destinations");
        write!(
            self.out,
            "pinger {}: {destinations} {} through {} ({})",
            header.version,
            units::pace(header.pace),
            header.interface,
            header.mode
        )?;
        match header.store.as_str() {
            "" => writeln!(self.out, "; results are not stored")?,
            store => writeln!(self.out, "; results go to {store}")?,
        }
        self.header = Some(header.clone());
        self.out.flush()
    }

    fn notice(&mut self, level: Level, text: &str) {
        print_notice(&mut self.err, level, text);
    }

    fn update(&mut self, snapshot: Arc<Snapshot>) -> io::Result<()> {
        let line = self.line(&snapshot);
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        match &self.header {
            Some(header) => summary::write(&mut self.out, header, summary),
            None => Ok(()),
        }
    }

    fn wants(&self) -> SnapshotDetail {
        SnapshotDetail::Totals
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::stats::{Counts, Quantiles};

    fn lines(snapshots: &[Snapshot]) -> Vec<String> {
        let mut out = Vec::new();
        let mut view = Plain::new(&mut out, io::sink());
        view.start(&testing::header(2000)).unwrap();
        for snapshot in snapshots {
            view.update(Arc::new(snapshot.clone())).unwrap();
        }
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn lines_name_every_figure_and_stay_aligned() {
        let quantiles = Quantiles {
            count: 9,
            min_ns: 4_000,
            p50_ns: 12_340,
            p90_ns: 20_000,
            p99_ns: 45_600,
            p999_ns: 60_000,
            max_ns: 1_234_500,
        };
        let quiet = Snapshot {
            elapsed: Duration::from_secs(1),
            totals: Counts {
                sent: 20_000,
                reply: 19_990,
                in_flight: 10,
                ..Counts::default()
            },
            rtt: quantiles,
            jitter_ns: Some(310),
            lag: Quantiles {
                p99_ns: 18_000,
                ..quantiles
            },
            ..Snapshot::default()
        };
        let totals = Counts {
            sent: 50_000,
            reply: 49_980,
            lost: 20,
            ..Counts::default()
        };
        let trouble = Snapshot {
            elapsed: Duration::from_secs(2),
            totals,
            ring_dropped: 3,
            ..quiet.clone()
        };
        assert_eq!(
            lines(&[Snapshot::default(), quiet, trouble]),
            [
                "pinger 0.1.0: 2,000 destinations every 100 ms through eth0 (native XDP); \
                 results go to embedded ClickHouse",
                "00:00:00  sent         0  reply         0  loss   0.00 %  in flight      0  \
                 rate       0/s  rtt p50        - p99        - max        - jitter        - µs  \
                 lag p99     0.0 µs",
                "00:00:01  sent     20000  reply     19990  loss   0.00 %  in flight     10  \
                 rate   20000/s  rtt p50     12.3 p99     45.6 max   1234.5 jitter      0.3 µs  \
                 lag p99    18.0 µs",
                "00:00:02  sent     50000  reply     49980  loss   0.04 %  in flight      0  \
                 rate   25000/s  rtt p50     12.3 p99     45.6 max   1234.5 jitter      0.3 µs  \
                 lag p99    18.0 µs\
                 \x20 lost 20  ring_dropped 3",
            ]
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_not_a_panic() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = Plain::new(Gone, Gone)
            .start(&testing::header(1))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
