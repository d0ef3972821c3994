//! The JSON view: nothing until the end, then one object.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Level, RunHeader, SnapshotDetail, Summary, View, print_notice};
use crate::stats::{AnswerCounts, Quantiles, RowCounts, Snapshot};

/// A run in figures, for programs. No field is ever null or absent.
///
/// `sent = reply + error + lost + send_failed + in_flight` always holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Probes handed to the link.
    pub sent: u64,
    /// Probes answered in time.
    pub reply: u64,
    /// Probes answered by an ICMP error.
    pub error: u64,
    /// Probes without an answer before their timeout.
    pub lost: u64,
    /// Answers after the timeout; their probes count as `lost`.
    pub late: u64,
    /// Further answers to probes already answered.
    pub duplicate: u64,
    /// Replies whose payload was not what had been sent.
    pub mismatch: u64,
    /// Probes that never left this host.
    pub send_failed: u64,
    /// Probes whose end was open when the run ended; zero unless it was ended by force.
    pub in_flight: u64,
    /// Answers whose details were dropped because the ring buffer was full; they are counted.
    pub ring_dropped: u64,
    /// Answers that ended a probe, by kind.
    pub answers: AnswerReport,
    /// How long probes were sent, seconds; without the wait for the last answers.
    pub elapsed_s: f64,
    /// Probes sent per second: `sent / elapsed_s`.
    pub rate_pps: f64,
    /// Round trips of all destinations, nanoseconds; zero without any reply.
    pub rtt_ns: RttReport,
    /// How much round trips vary from one reply to the next (RFC 3550), nanoseconds: the mean over
    /// the destinations; zero before any has a second reply.
    pub jitter_ns: u64,
    /// How late probes were sent, nanoseconds; the prober's own, and never part of a round trip.
    pub lag_ns: LagReport,
    /// What became of the results.
    pub rows: RowReport,
    /// Probes never sent, because the prober itself was a whole interval late.
    pub skipped: u64,
    /// Packets that looked like answers but were not to a probe of ours.
    pub forged: u64,
}

/// How many probes ended by which kind of answer: together `reply + error`, but for TCP answers
/// among those of `ring_dropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerReport {
    /// Echo replies.
    pub echo: u64,
    /// UDP datagrams.
    pub datagram: u64,
    /// TCP SYN and ACK: the port is open.
    pub syn_ack: u64,
    /// TCP RST: the port is closed.
    pub reset: u64,
    /// ICMP errors; those of closed UDP ports are replies.
    pub icmp_error: u64,
}

/// Quantiles of round trips, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RttReport {
    /// The shortest, exact.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The longest, exact.
    pub max: u64,
}

/// Quantiles of the prober's own lateness, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagReport {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The longest, exact.
    pub max: u64,
}

/// What became of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowReport {
    /// Acknowledged by the store.
    pub written: u64,
    /// Accepted, but not acknowledged when the run ended.
    pub spooled: u64,
    /// Given up.
    pub dropped: u64,
}

impl From<&Summary> for Report {
    fn from(summary: &Summary) -> Self {
        let snapshot = &summary.snapshot;
        let totals = &snapshot.totals;
        Self {
            sent: totals.sent,
            reply: totals.reply,
            error: totals.error,
            lost: totals.lost,
            late: totals.late,
            duplicate: totals.duplicate,
            mismatch: totals.mismatch,
            send_failed: totals.send_failed,
            in_flight: totals.in_flight,
            ring_dropped: snapshot.ring_dropped,
            answers: snapshot.answers.into(),
            elapsed_s: summary.sending.as_secs_f64(),
            rate_pps: summary.rate_pps(),
            rtt_ns: snapshot.rtt.into(),
            jitter_ns: snapshot.jitter_ns.unwrap_or(0),
            lag_ns: snapshot.lag.into(),
            rows: snapshot.rows.into(),
            skipped: totals.skipped,
            forged: snapshot.forged,
        }
    }
}

impl From<AnswerCounts> for AnswerReport {
    fn from(answers: AnswerCounts) -> Self {
        let AnswerCounts {
            echo,
            datagram,
            syn_ack,
            reset,
            icmp_error,
        } = answers;
        Self {
            echo,
            datagram,
            syn_ack,
            reset,
            icmp_error,
        }
    }
}

impl From<Quantiles> for RttReport {
    fn from(quantiles: Quantiles) -> Self {
        let Quantiles {
            count: _,
            min_ns,
            p50_ns,
            p90_ns,
            p99_ns,
            p999_ns,
            max_ns,
        } = quantiles;
        Self {
            min: min_ns,
            p50: p50_ns,
            p90: p90_ns,
            p99: p99_ns,
            p999: p999_ns,
            max: max_ns,
        }
    }
}

impl From<Quantiles> for LagReport {
    fn from(quantiles: Quantiles) -> Self {
        Self {
            p50: quantiles.p50_ns,
            p99: quantiles.p99_ns,
            max: quantiles.max_ns,
        }
    }
}

impl From<RowCounts> for RowReport {
    fn from(rows: RowCounts) -> Self {
        Self {
            written: rows.written,
            spooled: rows.spooled,
            dropped: rows.dropped,
        }
    }
}

/// One [`Report`] on standard output when the run has ended; notices go to standard error.
#[derive(Debug)]
pub struct Json<O, E> {
    out: O,
    err: E,
}

impl<O: Write, E: Write> Json<O, E> {
    /// A view that writes its object to `out` and notices to `err`.
    pub fn new(out: O, err: E) -> Self {
        Self { out, err }
    }
}

impl<O: Write, E: Write> View for Json<O, E> {
    fn start(&mut self, _header: &RunHeader) -> io::Result<()> {
        Ok(())
    }

    fn notice(&mut self, level: Level, text: &str) {
        print_notice(&mut self.err, level, text);
    }

    fn update(&mut self, _snapshot: Arc<Snapshot>) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &Report::from(summary))?;
        writeln!(self.out)?;
        self.out.flush()
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
    use serde_json::Value;

    use super::super::testing;
    use super::*;

    fn run(summary: &Summary) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut view = Json::new(&mut out, &mut err);
        view.start(&testing::header(3)).unwrap();
        view.notice(Level::Warning, "slow disk");
        view.update(Arc::clone(&summary.snapshot)).unwrap();
        view.finish(summary).unwrap();
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn the_object_has_exactly_the_agreed_keys() {
        let (out, err) = run(&testing::summary(3, 4));
        let Value::Object(object) = serde_json::from_str(&out).unwrap() else {
            panic!("not an object: {out}");
        };
        let inner = |key: &str| {
            let Value::Object(object) = &object[key] else {
                panic!("{key} is no object")
            };
            let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys.join(" "),
            "answers duplicate elapsed_s error forged in_flight jitter_ns lag_ns late lost \
             mismatch rate_pps reply ring_dropped rows rtt_ns send_failed sent skipped"
        );
        assert_eq!(inner("answers"), "datagram echo icmp_error reset syn_ack");
        assert_eq!(inner("rtt_ns"), "max min p50 p90 p99 p999");
        assert_eq!(inner("lag_ns"), "max p50 p99");
        assert_eq!(inner("rows"), "dropped spooled written");
        assert!(!out.contains("null"));
        assert_eq!(err, "pinger: warning: slow disk\n");
    }

    #[test]
    fn figures_arrive_as_they_were() {
        let summary = testing::summary(3, 4);
        let report: Report = serde_json::from_str(&run(&summary).0).unwrap();
        assert_eq!(report, Report::from(&summary));
        let totals = summary.snapshot.totals;
        assert_eq!((report.sent, report.lost), (totals.sent, totals.lost));
        assert_eq!(report.rtt_ns.p999, summary.snapshot.rtt.p999_ns);
        assert_eq!(Some(report.jitter_ns), summary.snapshot.jitter_ns);
        assert_eq!(
            report.sent,
            report.reply + report.error + report.lost + report.send_failed + report.in_flight
        );
    }

    #[test]
    fn a_run_of_nothing_is_all_zeros() {
        let summary = Summary {
            snapshot: Arc::default(),
            rows_lost: None,
            sending: Duration::ZERO,
            command: String::new(),
            suggestions: Vec::new(),
        };
        let (out, _) = run(&summary);
        assert!(!out.contains("null"));
        assert_eq!(serde_json::from_str::<Report>(&out).unwrap().rate_pps, 0.0);
    }
}
