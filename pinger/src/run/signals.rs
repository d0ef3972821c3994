//! Ctrl-C, SIGTERM and SIGHUP: the first asks the run to end well, the second to end at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// Exit status of a run that was told to end at once: that of a process ended by SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// The signal that no longer asks but ends the process, should the run hang: its links close with
/// it, so the XDP program is detached all the same.
const SIGNALS_MAX: u32 = 3;

/// Counts the signals, and wakes the thread that made this when one comes.
pub(super) struct Watch {
    count: Arc<AtomicU32>,
    /// The signal of this number ends the process.
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
        let last = Arc::new(AtomicU32::new(SIGNALS_MAX));
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

    /// How many came so far.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Probing is over: the next signal, if it is not the first, ends the process.
    pub(super) fn end_at_next(&self) {
        self.last
            .store((self.count() + 1).max(2), Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn watch(signals: &mut Signals, count: &AtomicU32, last: &AtomicU32, waiting: &Thread) {
    for _ in signals.forever() {
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= last.load(Ordering::Relaxed) {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        waiting.unpark();
    }
}
