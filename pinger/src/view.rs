//! What the user sees: a live table, plain lines, one JSON object, a line per reply, or the hops
//! of traces.
//!
//! In: [`Snapshot`]s and [`ProbeResult`]s, which are plain data. Out: text on stdout, and notices
//! where they harm nothing. A view never computes a metric, and never decides when a run ends: it
//! only reports that the user asked for it.

pub mod picture;

mod columns;
mod draw;
mod icmp;
mod json;
mod live;
mod overlay;
mod ping;
mod plain;
mod rate;
mod screen;
mod spark;
mod summary;
mod table;
mod terminal;
mod theme;
mod trace;
mod units;

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::config::Format;
use crate::destination::Destination;
use crate::result::ProbeResult;
use crate::stats::Snapshot;
pub use crate::store::Suggestion;
pub use json::{AnswerReport, Json, LagReport, Report, RowReport, RttReport};
pub use live::{FrameTimes, Live};
pub use ping::Ping;
pub use plain::Plain;
pub use trace::{HopReport, HopRttReport, Trace, TraceReport, TraceStyle};

/// How often probes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each destination at its own interval; these are the shortest and the longest, nanoseconds.
    Every {
        /// The shortest interval of all destinations.
        min_ns: u64,
        /// The longest.
        max_ns: u64,
    },
    /// As fast as answers come back.
    Flood,
}

/// The facts of a run that do not change while it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// Version of pinger.
    pub version: String,
    /// Interfaces that probes leave through, as one text.
    pub interface: String,
    /// How the kernel program is attached: `native XDP` or `generic XDP`.
    pub mode: String,
    /// Where rows go, as one text; empty if nowhere.
    pub store: String,
    /// How many destinations are probed.
    pub destinations: usize,
    /// How often.
    pub pace: Pace,
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// The run goes on, but not as asked for.
    Warning,
    /// Something failed.
    Error,
}

impl Level {
    /// The word before the text; nothing for what is only good to know.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
        }
    }
}

/// What the user asked for since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing that concerns the run.
    None,
    /// End the run. Told once more for each Ctrl-C, so that the second can end it at once.
    Quit,
}

/// What a view needs to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotDetail {
    /// Snapshots whose `destinations` may be empty.
    Totals,
    /// Snapshots with all destinations.
    Destinations,
    /// Each [`ProbeResult`] through [`View::result`]; snapshots as for `Totals`.
    Results,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The last state, always with all destinations; nothing changes any more.
    pub snapshot: Arc<Snapshot>,
    /// Why results were not stored, if some were not: the store's last word on it.
    pub rows_lost: Option<String>,
    /// How long probes were sent: without the wait for the last answers and rows.
    pub sending: Duration,
    /// What runs a query from the shell, such as `cargo xtask sql`.
    pub command: String,
    /// Queries worth trying; none if nothing was stored.
    pub suggestions: Vec<Suggestion>,
}

impl Summary {
    /// Probes sent per second while probes were sent; zero for an empty run.
    fn rate_pps(&self) -> f64 {
        let seconds = self.sending.as_secs_f64();
        if seconds > 0.0 {
            self.snapshot.totals.sent as f64 / seconds
        } else {
            0.0
        }
    }
}

/// One way to show a run.
///
/// The run loop calls `start` once, then `update` about every [`period`](Self::period) and `poll`
/// in between as its sleep, then `finish` once. A view dropped before `finish` leaves the terminal
/// as it was. Writing fails as standard output does, for instance with `BrokenPipe` when the
/// reader has gone: the run should then end as if asked to.
pub trait View {
    /// Shows what will be probed and how.
    ///
    /// # Errors
    /// Standard output cannot be written, or is not what this view needs.
    fn start(&mut self, header: &RunHeader) -> io::Result<()>;

    /// Tells the user of an event beside the measurements, at once and without tearing a screen.
    fn notice(&mut self, level: Level, text: &str);

    /// Shows a new state.
    ///
    /// # Errors
    /// Standard output cannot be written.
    fn update(&mut self, snapshot: Arc<Snapshot>) -> io::Result<()>;

    /// Shows one result; called only for views that want [`SnapshotDetail::Results`].
    ///
    /// # Errors
    /// Standard output cannot be written.
    fn result(&mut self, _result: &ProbeResult) -> io::Result<()> {
        Ok(())
    }

    /// Waits up to `timeout` and says what the user asked for meanwhile.
    ///
    /// Returns early when there is something to say, and when this thread is unparked, so that a
    /// signal need not wait; the live view notices that within a tenth of a second.
    ///
    /// # Errors
    /// The terminal cannot be read or written.
    fn poll(&mut self, timeout: Duration) -> io::Result<Action> {
        thread::park_timeout(timeout);
        Ok(Action::None)
    }

    /// Gives the terminal back, where the view has taken it, before something that may take long.
    /// Only notices and [`finish`](Self::finish) may follow.
    fn leave(&mut self) {}

    /// Shows how the run ended; nothing may follow.
    ///
    /// # Errors
    /// Standard output cannot be written.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;

    /// What this view needs to be given.
    fn wants(&self) -> SnapshotDetail;

    /// How often it wants an update; may change while it runs.
    fn period(&self) -> Duration;
}

/// The view for a format; `destinations` are those of the run, by flow index. Traces have a view
/// of their own, in which `Live` means a table drawn anew, and the others one at the end.
pub fn open(format: Format, destinations: &Arc<[Destination]>) -> Box<dyn View> {
    let (out, err) = (io::stdout(), io::stderr());
    if destinations.iter().any(|one| one.ttl.hops() > 0) {
        let style = match format {
            Format::Live => TraceStyle::Refreshed,
            Format::Plain | Format::Replies => TraceStyle::Table,
            Format::Json => TraceStyle::Json,
        };
        return Box::new(Trace::new(Arc::clone(destinations), style, out, err));
    }
    match format {
        Format::Live => Box::new(Live::new()),
        Format::Plain => Box::new(Plain::new(out, err)),
        Format::Json => Box::new(Json::new(out, err)),
        Format::Replies => Box::new(Ping::new(Arc::clone(destinations), out, err)),
    }
}

/// The format for whoever reads standard output: live on a terminal that can draw, else plain.
pub fn default_format() -> Format {
    if terminal::can_draw() {
        Format::Live
    } else {
        Format::Plain
    }
}

/// Leaves the terminal as it was before a view took it; for a process that ends without dropping
/// the view.
pub(crate) fn restore_terminal() {
    terminal::restore();
}

/// Prints a notice as a line. If standard error is gone, there is nobody to tell.
fn print_notice(out: &mut impl Write, level: Level, text: &str) {
    let _ = writeln!(out, "pinger: {}{text}", level.prefix());
}

#[cfg(test)]
mod testing;
