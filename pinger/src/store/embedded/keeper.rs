//! The thread that keeps the engine: starts it, starts it again when it ends unexpectedly, ends it.
//!
//! In: the plan of a start, and words from the [`Engine`](super::Engine). Out: an engine that
//! runs, and notices where it does not. The kernel ties a parent-death signal to the thread that
//! started the child, so this thread lives as long as the engine shall.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::find::Program;
use super::lock::DirLock;
use super::plan::{Files, Plan};
use super::port::HeldPort;

/// How often a running engine is looked at: often enough to tell at its start that it failed.
const WATCH_POLL: Duration = Duration::from_millis(200);

/// The longest an engine may take to end by itself before it is told, and then made, to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How often an ending engine is looked at.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How long to wait before an engine that ended is started again: a tenth of what a start takes.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// And when it ends again and again: what mends it (room on a disk, a file put back) is noticed
/// that soon, and each try costs a second of a CPU.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// An engine that has run so long is well.
const STEADY: Duration = Duration::from_secs(10);

/// What the keeper is told; to stop, by closing the channel.
pub(super) enum Word {
    /// The engine is in use: start it again when it ends, and tell of that here.
    KeepUp(crossbeam_channel::Sender<String>),
}

/// How the first engine ended, if nobody has asked for it to be kept up.
pub(super) type Ended = Receiver<io::Result<ExitStatus>>;

/// What the thread owns.
pub(super) struct Keeper {
    pub(super) plan: Plan,
    pub(super) lock: DirLock,
    pub(super) port: HeldPort,
    pub(super) words: Receiver<Word>,
    pub(super) trouble: Trouble,
}

/// What is known of the engine's trouble, and what was told.
#[derive(Default)]
pub(super) struct Trouble {
    notify: Option<crossbeam_channel::Sender<String>>,
    told_end: bool,
    told_failure: bool,
}

/// What a look at the engine found.
enum Look {
    Runs,
    Ended(io::Result<ExitStatus>),
    Stop,
}

impl Keeper {
    /// Starts the engine and keeps it until told to stop. `started` gets the result of the first
    /// start.
    pub(super) fn run(mut self, mut first: Command, started: &Sender<io::Result<Ended>>) {
        let mut child = match first.spawn() {
            Ok(child) => child,
            Err(source) => {
                // Nobody waits any more: then nobody needs to know.
                let _ = started.send(Err(source));
                return;
            }
        };
        // The engine holds the lock too from here on: if we are killed, the directory stays taken
        // until the engine has ended.
        let (tell, ended) = channel();
        let _ = started.send(Ok(ended));
        let mut backoff = BACKOFF_MIN;
        // Who asks for the first one to be kept up has used it.
        let mut listens = true;
        loop {
            let (status, listened) = match self.watch(&mut child, listens, &mut backoff) {
                Some(end) => end,
                None => return self.end(&mut child),
            };
            if !self.trouble.is_kept_up() {
                let _ = tell.send(status);
                return;
            }
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            if listened {
                self.trouble.ended(&status);
            } else {
                let words = Files::of(&self.plan.data_dir).last_lines(1).pop();
                self.trouble.failed(&words.unwrap_or(status));
            }
            match self.start_again(&mut backoff) {
                Some(next) => (child, listens) = (next, false),
                None => return,
            }
        }
    }

    /// Watches the engine to its end: how it ended, and whether it had come to listen. `None` if
    /// told to stop.
    fn watch(
        &mut self,
        child: &mut Child,
        mut listens: bool,
        backoff: &mut Duration,
    ) -> Option<(io::Result<ExitStatus>, bool)> {
        let began = Instant::now();
        loop {
            match self.look(child) {
                Look::Runs => {}
                Look::Ended(status) => return Some((status, listens)),
                Look::Stop => return None,
            }
            listens = listens || self.port.answers();
            if listens && began.elapsed() > STEADY {
                *backoff = BACKOFF_MIN;
                self.trouble.over();
            }
        }
    }

    fn look(&mut self, child: &mut Child) -> Look {
        match child.try_wait() {
            Ok(None) => {}
            end => return Look::Ended(end.map(Option::unwrap_or_default)),
        }
        if self.rest(WATCH_POLL) {
            Look::Runs
        } else {
            Look::Stop
        }
    }

    /// Waits so long, or until there is a word. Whether to go on.
    fn rest(&mut self, time: Duration) -> bool {
        match self.words.recv_timeout(time) {
            Ok(Word::KeepUp(notify)) => self.trouble.notify = Some(notify),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Tries until a process runs; `None` if told to stop.
    fn start_again(&mut self, backoff: &mut Duration) -> Option<Child> {
        while self.rest(*backoff) {
            *backoff = (*backoff * 2).min(BACKOFF_MAX);
            let command = self.plan.command(&self.lock);
            let started = command
                .map_err(|error| error.to_string())
                .and_then(|mut command| command.spawn().map_err(|error| error.to_string()));
            match started {
                Ok(child) => return Some(child),
                Err(error) => self
                    .trouble
                    .failed(error.lines().next().unwrap_or_default()),
            }
        }
        None
    }

    /// Ends the engine: politely by closing its stdin, if it reads that, then by signals.
    fn end(&self, child: &mut Child) {
        drop(child.stdin.take());
        // A `clickhouse server` does not read it: it ends by signals.
        let polite = matches!(self.plan.program, Program::Library(_)).then_some(None);
        for signal in polite
            .into_iter()
            .chain([Some(libc::SIGTERM), Some(libc::SIGKILL)])
        {
            if let Some(signal) = signal {
                // SAFETY: plain system call; the pid is of our child, which we have not waited for.
                unsafe { libc::kill(child.id() as libc::pid_t, signal) };
            }
            let deadline = Instant::now() + STOP_LIMIT;
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(STOP_POLL);
            }
        }
    }
}

impl Trouble {
    fn is_kept_up(&self) -> bool {
        self.notify.is_some()
    }

    /// The engine ended.
    fn ended(&mut self, how: &str) {
        if !std::mem::replace(&mut self.told_end, true) {
            self.tell(format!(
                "the ClickHouse engine ended unexpectedly ({how}); it is started again, results \
                 wait meanwhile"
            ));
        }
    }

    /// It did not come up again.
    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told_failure, true) {
            let wait = BACKOFF_MAX.as_secs();
            self.tell(format!(
                "the ClickHouse engine cannot be started again: {why} (tried every {wait} s from \
                 now on; engine.log in the data directory says more)"
            ));
        }
    }

    /// It runs and goes on doing so.
    fn over(&mut self) {
        if std::mem::take(&mut self.told_end) | std::mem::take(&mut self.told_failure) {
            self.tell("the ClickHouse engine runs again".to_owned());
        }
    }

    fn tell(&self, notice: String) {
        if let Some(notify) = &self.notify {
            // If nobody reads, nobody wants to know.
            let _ = notify.try_send(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_once() {
        let (notify, notices) = crossbeam_channel::unbounded();
        let mut trouble = Trouble::default();
        trouble.over();
        trouble.ended("before anybody asked");
        trouble = Trouble {
            notify: Some(notify),
            ..Trouble::default()
        };
        trouble.over();
        for _ in 0..3 {
            trouble.ended("signal: 9 (SIGKILL)");
            trouble.failed("no such file");
        }
        trouble.over();
        trouble.over();
        trouble.ended("signal: 6 (SIGABRT)");
        let told: Vec<String> = notices.try_iter().collect();
        let beginnings = [
            "ended unexpectedly (signal: 9",
            "cannot be started again: no",
            "runs",
            "ended",
        ];
        assert_eq!(told.len(), beginnings.len(), "{told:?}");
        for (told, beginning) in told.iter().zip(beginnings) {
            assert!(
                told.starts_with(&format!("the ClickHouse engine {beginning}")),
                "{told}"
            );
        }
    }
}
