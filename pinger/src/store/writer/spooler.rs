//! The thread that owns the spool: this run's, and those that earlier runs left.
//!
//! In: what the filling thread has written, and how inserts ended. Out: files, jobs for the
//! sending threads, counts and notices. What is sent, dropped and when is decided by the spool
//! ([`crate::spool`]); this thread gives it time, a disk, and hands. It may wait for the disk as
//! long as it takes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use tokio::sync::watch;

use super::filling::News;
use super::line::{Adopted, Line};
use super::sending::{Done, Task};
use super::voice::{Voice, Waiting};
use super::{Closing, Counters, LATE, held};
use crate::config::SpoolOptions;
use crate::spool::{Allowance, End, GapReason, Loss, Now, Report, TICK_NS, Table, Totals};
use crate::store::disk;
use crate::store::wall_ns;
use crate::wire::clock;
use crate::wire::tally::TallyCopy;

/// Segments that are given out at most: one for each sending thread, and one that is ready when
/// the first of them is done.
const JOBS_MAX: usize = super::SENDERS + 1;

/// What is said of a server that calls everything wrong, before its own words.
const ALL_REFUSED: &str = "it calls all results wrong, so the cause may be the tables; \
                           ClickHouse says: ";

/// How much longer a run lasts for the sake of what earlier ones left: enough for what a crash
/// left; the rest of a long outage is the next run's.
const LEFT_MAX: Duration = Duration::from_secs(5);

/// All that the thread owns.
pub(super) struct Spooler {
    /// None of a spool in memory.
    pub(super) copy: Option<TallyCopy>,
    pub(super) own: Line,
    /// What earlier runs left, the oldest first.
    pub(super) left: Vec<Line>,
    pub(super) options: SpoolOptions,
    /// The data directory.
    pub(super) data_dir: PathBuf,
    /// Which store this is.
    pub(super) store: String,
    /// How often it is looked for what others left.
    pub(super) look: Duration,
    /// How long a closing store that does not take rows is waited for, where rows are safe on
    /// disk.
    pub(super) close_max: Duration,
    /// The filling thread, which ends when `allow` is gone.
    pub(super) filling: Option<JoinHandle<Option<Report>>>,
    pub(super) news: Receiver<News>,
    pub(super) allow: Option<Sender<Allowance>>,
    pub(super) jobs: Sender<Task>,
    pub(super) ends: Receiver<Done>,
    pub(super) counters: Arc<Counters>,
    pub(super) closing: Arc<watch::Sender<Option<Instant>>>,
    pub(super) voice: Voice,
    pub(super) state: State,
}

/// Where the thread is in its work.
#[derive(Default)]
pub(super) struct State {
    /// Jobs that are given out.
    out: usize,
    /// Whose turn it is to give one out; zero is this run's own spool.
    turn: usize,
    ticked_ns: u64,
    /// When it was last looked for what others left.
    looked: Option<Instant>,
    /// What the filling thread was allowed last.
    allowed: Option<Allowance>,
    /// Rows that the own spool has dropped, as far as they are counted.
    dropped: u64,
    /// Rows that the own spool was told are lost: they are counted already.
    told: u64,
    /// When a row was written last, or the end began.
    progress: Option<Instant>,
    /// Since when the run is at its end, and how it is to end.
    closing: Option<(Instant, Closing)>,
    is_ended: bool,
}

pub(super) fn now() -> Now {
    Now {
        mono_ns: clock::now_ns(),
        wall_ns: wall_ns(),
    }
}

impl Spooler {
    /// Works until told to close and done, or out of time.
    pub(super) fn run(mut self) {
        loop {
            select! {
                recv(self.news) -> news => match news {
                    Ok(news) => self.take(news),
                    // It is gone without a word.
                    Err(_) => {
                        self.news = never();
                        if self.state.closing.is_none() {
                            self.begin_end(Closing { deadline: Instant::now(), end: None });
                        }
                    }
                },
                recv(self.ends) -> done => if let Ok(done) = done {
                    self.done(done);
                },
                default(Duration::from_nanos(TICK_NS)) => {}
            }
            while let Ok(done) = self.ends.try_recv() {
                self.done(done);
            }
            self.tick();
            self.answer();
            self.hand_out();
            self.publish();
            if self.is_over() {
                return self.finish();
            }
        }
    }

    /// Takes over what earlier runs left. Folders of living pingers are theirs.
    fn adopt(&mut self) {
        let left = match disk::take_left(&self.data_dir) {
            Ok(left) => left,
            Err(error) => return self.voice.cannot_list(&self.data_dir, &error),
        };
        for (path, error) in left.broken {
            self.voice.cannot_adopt(&path, &error.to_string());
        }
        let before = self.left.len();
        for (key, held) in left.ours {
            let path = held.path().to_owned();
            match Line::adopt(key, held, &self.options, &self.store, now()) {
                Ok(Adopted::Line(line)) => {
                    if line.was_killed {
                        self.voice.killed(key);
                    }
                    self.left.push(*line);
                }
                Ok(Adopted::Nothing) => {}
                Ok(Adopted::Foreign(store)) => self.voice.foreign(&path, &store),
                Err(words) => self.voice.cannot_adopt(&path, &words),
            }
        }
        let new = &self.left[before..];
        let rows = new.iter().map(|line| line.spool.counts().spooled).sum();
        self.voice.adopted(rows, new.len(), &self.data_dir);
    }

    /// Looks for what others left, if it is time; at the end of a run it is the next one's.
    fn look(&mut self) {
        let is_soon = |looked: Instant| looked.elapsed() < self.look;
        if self.state.closing.is_none() && !self.state.looked.is_some_and(is_soon) {
            self.state.looked = Some(Instant::now());
            self.adopt();
        }
    }

    /// Takes what the filling thread has done.
    fn take(&mut self, news: News) {
        if let Some(report) = news.report {
            self.own.spool.take(now(), report);
        }
        if let Some(closing) = news.closing {
            self.begin_end(closing);
        }
    }

    /// Makes room for chunks, and says how much there is. What earlier runs left is older than
    /// anything of this one, and goes first.
    fn answer(&mut self) {
        while self.own.spool.lacks_room(now()) {
            let wanted = self.own.spool.wanted();
            let mut left = self.left.iter_mut();
            if !left.any(|line| line.spool.give_way(now(), wanted)) {
                break;
            }
            let bytes = self.left.iter().map(|line| line.spool.counts().bytes);
            self.own.spool.set_bytes_elsewhere(bytes.sum());
        }
        self.own.spool.answer(now());
        let allowance = self.own.spool.allowance();
        if self.state.allowed == Some(allowance) {
            return;
        }
        // What it has not taken yet is made up for at the next turn.
        let sent = self.allow.as_ref().map(|allow| allow.try_send(allowance));
        if sent.is_some_and(|sent| sent.is_ok()) {
            self.state.allowed = Some(allowance);
        }
    }

    /// Tells the spool of chunks that found no room in the queue.
    fn tell_missed(&mut self) {
        let missed = held(&self.counters.missed).take();
        if let Some(loss) = missed {
            self.state.told += loss.size.map_or(0, |size| size.rows);
            self.own.spool.lost(now(), loss);
        }
    }

    fn tick(&mut self) {
        let now = now();
        if now.mono_ns.saturating_sub(self.state.ticked_ns) < TICK_NS {
            return;
        }
        self.state.ticked_ns = now.mono_ns;
        if let Some(copy) = &mut self.copy {
            copy.keep();
        }
        self.look();
        self.tell_missed();
        let all: u64 = self.lines().map(|line| line.spool.counts().bytes).sum();
        for line in std::iter::once(&mut self.own).chain(&mut self.left) {
            let own = line.spool.counts().bytes;
            line.spool.set_bytes_elsewhere(all.saturating_sub(own));
            line.spool.tick(now);
            for notice in line.spool.notices() {
                if let Some(words) = self.voice.of_spool(notice, line.key, line.path()) {
                    self.counters.trouble().dropped = Some(words);
                }
            }
        }
        if self.state.closing.is_some() && !self.state.is_ended {
            // What the disk refuses now, it may take at the next turn.
            self.state.is_ended = self.own.spool.end(now).is_ok();
        }
        self.clear_left();
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        std::iter::once(&self.own).chain(&self.left)
    }

    /// Removes the folders of earlier runs that are drained.
    fn clear_left(&mut self) {
        for line in &mut self.left {
            line.forget_tally();
        }
        let drained = self.left.extract_if(.., |line| line.spool.is_drained());
        let count = drained.map(Line::clear).count();
        if count > 0 && self.left.is_empty() {
            self.voice.left_is_written();
        }
    }

    /// Gives out jobs, as many as the sending threads can use.
    fn hand_out(&mut self) {
        while self.state.out < JOBS_MAX {
            let Some((index, task)) = self.next_task() else {
                return;
            };
            if let Err(unsent) = self.jobs.send(task) {
                // The sending threads are gone: nothing will ever be sent.
                let job = unsent.0.job;
                self.line(index).spool.done(now(), job, End::Untried);
                return;
            }
            self.state.out += 1;
        }
    }

    /// The next job: in turn one of each spool, so that fresh rows and old ones both get through;
    /// at the end of the run its own first.
    fn next_task(&mut self) -> Option<(usize, Task)> {
        let lines = 1 + self.left.len();
        let first = match self.state.closing {
            Some(_) => 0,
            None => self.state.turn,
        };
        for step in 0..lines {
            let index = (first + step) % lines;
            let line = self.line(index);
            if let Some(job) = line.spool.next(now()) {
                let key = line.key;
                self.state.turn = index + 1;
                return Some((index, Task { key, job }));
            }
        }
        None
    }

    /// This run's spool, which is number zero, or one that was left.
    fn line(&mut self, index: usize) -> &mut Line {
        match index
            .checked_sub(1)
            .and_then(|index| self.left.get_mut(index))
        {
            Some(left) => left,
            None => &mut self.own,
        }
    }

    fn done(&mut self, done: Done) {
        let Done { task, end } = done;
        self.state.out -= 1;
        let segment = (task.key, task.job.number);
        let is_his = |line: &&mut Line| line.key == task.key;
        let mut lines = std::iter::once(&mut self.own).chain(&mut self.left);
        let all_refused = lines
            .find(is_his)
            .is_some_and(|line| line.spool.done(now(), task.job, end.clone()));
        match &end {
            End::Written => {
                self.state.progress = Some(Instant::now());
                self.voice.written(segment, Instant::now());
            }
            End::Retry(reason) | End::Doubtful(reason) | End::Failed(reason) => {
                self.voice.failed(segment, reason, Instant::now());
            }
            End::Refused(reason) if all_refused => {
                let reason = format!("{ALL_REFUSED}{reason}");
                self.voice.failed(segment, &reason, Instant::now());
            }
            End::Refused(reason) => {
                self.counters.trouble().dropped = Some(reason.clone());
                self.voice.refused(segment);
            }
            End::Missing | End::Untried => {}
        }
        self.counters.trouble().now = self.voice.trouble();
    }

    /// Makes the counts known.
    fn publish(&mut self) {
        let counts = self.own.spool.counts();
        self.counters
            .written
            .store(counts.written, Ordering::Release);
        let dropped = counts.dropped.saturating_sub(self.state.told);
        let more = dropped.saturating_sub(self.state.dropped);
        self.state.dropped = dropped.max(self.state.dropped);
        self.counters.dropped.fetch_add(more, Ordering::AcqRel);
    }

    fn begin_end(&mut self, closing: Closing) {
        let now = now();
        self.voice.hush();
        self.tell_missed();
        self.publish();
        if let Some((run, counts)) = closing.end.as_deref() {
            self.tell_unfinished(now, counts.in_flight);
            let end = run.end(counts, &self.counters.counts());
            self.own.spool.add(now, Table::Runs, end.block());
        }
        self.state.is_ended = self.own.spool.end(now).is_ok();
        self.state.progress = Some(Instant::now());
        self.state.closing = Some((Instant::now(), closing));
    }

    /// Tells of probes that were in flight when the run was told to end at once.
    fn tell_unfinished(&mut self, now: Now, probes: u64) {
        if probes == 0 {
            return;
        }
        // They never were rows, so they are not counted as rows that were dropped.
        self.state.told += probes;
        let loss = Loss {
            size: Some(Totals {
                rows: probes,
                probes,
            }),
            from_ns: now.wall_ns,
            until_ns: now.wall_ns,
            reason: GapReason::Interrupted,
            detail: "the run was told to end at once, with probes in flight".to_owned(),
        };
        self.own.spool.lost(now, loss);
    }

    /// Whether nothing is left to do, or no time to do it.
    fn is_over(&mut self) -> bool {
        let Some((since, closing)) = &self.state.closing else {
            return false;
        };
        let now = Instant::now();
        let is_troubled = self.counters.trouble().now.is_some();
        let idle = self
            .state
            .progress
            .map_or(Duration::ZERO, |last| now - last);
        let is_safe = self.own.is_on_disk() && self.state.is_ended;
        let is_late = now >= closing.deadline || is_safe && is_troubled && idle >= self.close_max;
        let is_left_done = self.left.is_empty() || is_troubled || now - *since >= LEFT_MAX;
        let is_done = self.state.is_ended && self.own.spool.is_drained() && is_left_done;
        if is_late && now < closing.deadline {
            // What is being tried just now is given up, too.
            self.closing.send_replace(Some(now));
        }
        (is_done || is_late) && self.state.out == 0
    }

    fn finish(mut self) {
        self.allow = None;
        let report = self.filling.take().map(JoinHandle::join);
        // One that panicked has told nothing.
        if let Some(Ok(Some(report))) = report {
            self.own.spool.take(now(), report);
        }
        self.publish();
        self.clear_left();
        self.tell_left();
        self.own.forget_tally();
        let waiting = self.own.spool.counts().spooled;
        let unwritten = match self.own.is_on_disk() {
            // The tally stays, so that the next run tells of them.
            true => self.own.spool.unwritten(),
            false => waiting,
        };
        if unwritten > 0 {
            let trouble = self.voice.trouble();
            let reason = trouble.as_deref().unwrap_or(LATE);
            self.counters.drop_rows(unwritten, reason);
        }
        let what = Waiting {
            results: waiting - unwritten,
            gaps: self.own.waiting_gaps(),
        };
        if self.own.spool.is_drained() {
            self.own.clear();
        } else if !self.own.is_on_disk() {
            if what.gaps > 0 {
                self.voice.forgotten(what);
            }
        } else if self.own.has_unsent() {
            self.voice.waiting(what, self.own.path());
        }
    }

    /// Says what earlier runs left and what still waits.
    fn tell_left(&mut self) {
        let mut what = Waiting::default();
        for line in &mut self.left {
            what.results += line.spool.counts().spooled;
            what.gaps += line.waiting_gaps();
        }
        if self.left.iter().any(Line::has_unsent) {
            self.voice.still_waiting(what, &self.data_dir);
        }
    }
}
