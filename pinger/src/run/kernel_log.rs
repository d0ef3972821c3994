//! What the kernel program logs, when it is asked to: aya-log's records as lines of text.

use std::thread::JoinHandle;
use std::time::Duration;

use aya_log::EbpfLogger;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{RunError, system};
use crate::wire::bpf::{BpfError, Program};

/// How often the records are read.
const PERIOD: Duration = Duration::from_millis(100);

/// Lines that wait to be shown; further ones are left out.
const LINES_MAX: usize = 1024;

/// The running log. Its thread ends when this is dropped.
pub(super) struct KernelLog {
    /// The lines.
    pub(super) lines: Receiver<String>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KernelLog {
    /// Starts reading the program's log.
    pub(super) fn start(program: &mut Program) -> Result<Self, RunError> {
        let (sender, lines) = bounded(LINES_MAX);
        let mut logger = EbpfLogger::init_with_logger(program.ebpf_mut(), Lines(sender))
            .map_err(|_| BpfError::Missing("log"))?;
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new()
            .name("kernel-log".into())
            .spawn(move || {
                while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    logger.flush();
                }
                logger.flush();
            })
            .map_err(system("start reading the kernel program's log"))?;
        Ok(Self {
            lines,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Reads what there is for the last time.
    pub(super) fn finish(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has told so; there is nothing more to read.
            let _ = thread.join();
        }
    }
}

struct Lines(Sender<String>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // With nobody reading fast enough, the newest lines are left out.
        let _ = self.0.try_send(format!("kernel: {}", record.args()));
    }

    fn flush(&self) {}
}
