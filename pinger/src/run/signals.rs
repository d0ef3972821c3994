//! Ctrl-C, SIGTERM and SIGHUP: the first asks the run to end well, the second to end at once.
//! Signals that come together ask once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::view;

/// Exit status of a run that was told to end at once: that of a process ended by SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The signal that no longer asks but ends the process, should the run hang: its links close with
/// it, so the XDP program is detached all the same.
const SIGNALS_MAX: u32 = 3;

/// The same before probing begins, when there is nothing yet to be ended well.
const SIGNALS_MAX_BEFORE: u32 = 2;

/// Signals within this time ask once: timeout(1) signals a process and then its group.
const ONE_REQUEST: Duration = Duration::from_millis(300);

/// Counts the requests to end, and wakes the thread that made this when one comes.
pub(super) struct Watch {
    count: Arc<AtomicU32>,
    /// The request of this number ends the process.
    last: Arc<AtomicU32>,
    handle: Handle,
}

impl Watch {
    /// Takes the signals over.
    ///
    /// # Errors
    ///
    /// If the system refuses a handler or a thread.
    pub(super) fn start() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let count = Arc::new(AtomicU32::new(0));
        let last = Arc::new(AtomicU32::new(SIGNALS_MAX_BEFORE));
        let (counted, ending) = (Arc::clone(&count), Arc::clone(&last));
        let waiting = thread::current();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || watch(&mut signals, &counted, &ending, &waiting))?;
        Ok(Self {
            count,
            last,
            handle,
        })
    }

    /// How many requests came so far.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Probing begins: from now on there is a run to be ended.
    pub(super) fn probing(&self) {
        self.last.store(SIGNALS_MAX, Ordering::Relaxed);
    }

    /// Probing is over: the next signal ends the process, unless nobody has asked for an end yet
    /// (`asked` is whether somebody has, by a signal or a key).
    pub(super) fn end_at_next(&self, asked: bool) {
        let next = self.count() + if asked { 1 } else { 2 };
        self.last.store(next, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn watch(signals: &mut Signals, count: &AtomicU32, last: &AtomicU32, waiting: &Thread) {
    let mut heard = Heard::default();
    for _ in signals.forever() {
        if !heard.is_new(Instant::now()) {
            continue;
        }
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= last.load(Ordering::Relaxed) {
            view::restore_terminal();
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        waiting.unpark();
    }
}

/// Tells requests to end from echoes of the last one.
#[derive(Default)]
struct Heard {
    last: Option<Instant>,
}

impl Heard {
    /// Whether a signal at this time is a request of its own.
    fn is_new(&mut self, now: Instant) -> bool {
        let is_new = self.last.is_none_or(|last| now - last >= ONE_REQUEST);
        if is_new {
            self.last = Some(now);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_come_together_are_one_request() {
        let start = Instant::now();
        let mut heard = Heard::default();
        for (ms, is_new) in [
            (0, true),
            (1, false),
            (299, false),
            (300, true),
            (599, false),
            (900, true),
        ] {
            assert_eq!(
                heard.is_new(start + Duration::from_millis(ms)),
                is_new,
                "{ms} ms"
            );
        }
    }
}
