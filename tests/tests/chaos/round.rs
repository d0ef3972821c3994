//! Plays a plan: starts runs, makes trouble at its moments, ends them, and has the last run bring
//! everything home.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;

use crate::check;
use crate::place::{LOOK, Place};
use crate::plan::{Act, Ending, Plan, Run};

/// A few thousand probes a second: 256 hosts, and how often each is probed.
const HOSTS: [&str; 2] = ["198.18.0.0/25", "2001:2:0:1::/121"];
const INTERVAL: &str = "50ms";

/// What that makes.
pub(crate) const PROBES_A_SECOND: u64 = 256 * 20;

/// The longest a run may take to its end once it is told to.
const END_LIMIT: Duration = Duration::from_secs(90);

/// A run that has not sent a probe for so long after its start never will, milliseconds: an engine
/// that was stopped meanwhile starts late.
const START_LIMIT_MS: u64 = 10_000;

/// How long the last run lasts at least, milliseconds.
const LAST_MS: u64 = 300;

/// How long it may take at most to bring home what earlier runs left.
const HOME_LIMIT_MS: u64 = 20_000;

/// What came of a round.
pub(crate) struct Verdict {
    /// What is wrong.
    pub(crate) complaints: Vec<String>,
    /// All that happened, for a person who looks for the reason.
    pub(crate) history: String,
    /// The same in half a line.
    pub(crate) told: String,
    /// The most probes that a kill took, where no disk was full.
    pub(crate) killed: u64,
}

/// One run of pinger, over.
#[derive(Debug)]
pub(crate) struct Ran {
    /// When it was started and had ended, wall clock nanoseconds: its key lies between.
    pub(crate) lived: [u64; 2],
    /// Echo requests that reached the hosts.
    pub(crate) echoes: u64,
    pub(crate) ending: Ending,
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The JSON object at its end.
    pub(crate) report: Option<Value>,
}

impl Ran {
    /// Whether kill -9 ended it, as planned.
    pub(crate) fn was_killed(&self) -> bool {
        self.code.is_none() && matches!(self.ending, Ending::Kill | Ending::KillBoth)
    }
}

/// What is to be put right again.
#[derive(Clone, Copy, Debug)]
enum Undo {
    StartServer,
    Continue(i32),
    MendWire,
    FreeDisk,
}

struct Round {
    place: Place,
    spool: &'static str,
    began: Instant,
    history: Vec<String>,
    undo: Vec<(Instant, Undo)>,
    ran: Vec<Ran>,
}

/// Plays it, and judges.
pub(crate) fn play(plan: &Plan) -> Verdict {
    let mut round = Round {
        place: Place::new(plan),
        spool: plan.spool,
        began: Instant::now(),
        history: vec![format!("{plan:?}")],
        undo: Vec::new(),
        ran: Vec::new(),
    };
    for run in &plan.runs {
        round.run(run, false);
    }
    round.calm();
    let last = Run {
        early: None,
        acts: Vec::new(),
        end_ms: LAST_MS,
        ends_early: false,
        ending: Ending::Interrupt,
    };
    round.run(&last, true);
    let found = check::judge(&round.place, plan, &round.ran);
    round.history.extend(found.seen);
    if !found.complaints.is_empty() {
        round.place.keep();
    }
    let probes: u64 = round.ran.iter().map(|ran| ran.echoes).sum();
    let troubles: Vec<String> = plan.runs.iter().map(Run::told).collect();
    Verdict {
        complaints: found.complaints,
        killed: found.killed,
        history: round.history.join("\n"),
        told: format!(
            "{probes} probes, {} in gaps; {:?}{}: {}",
            found.in_gaps,
            plan.store,
            if plan.small_disk { ", small disk" } else { "" },
            troubles.join("; ")
        ),
    }
}

fn wall_ns() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

impl Round {
    fn note(&mut self, text: impl AsRef<str>) {
        let at = self.began.elapsed().as_millis();
        self.history.push(format!("{at:>6} ms  {}", text.as_ref()));
    }

    fn run(&mut self, run: &Run, is_last: bool) {
        let number = self.ran.len();
        let before = self.place.echoes_at_rest();
        let began = wall_ns();
        let (out, err, mut child) = self.start(number);
        self.note(format!("run {number} starts as process {}", child.id()));
        let code = self.until_its_end(&mut child, run, before, is_last);
        let status = code.unwrap_or_else(|| self.end(&mut child, run.ending));
        let echoes = self.place.echoes_at_rest() - before;
        let report = fs::read_to_string(&out).unwrap();
        let words = fs::read_to_string(&err).unwrap();
        self.note(format!(
            "run {number} has ended: {status}, {echoes} probes\n{report}{words}"
        ));
        self.ran.push(Ran {
            lived: [began, wall_ns()],
            echoes,
            ending: run.ending,
            code: status.code(),
            report: serde_json::from_str(&report).ok(),
        });
    }

    /// Makes trouble until it is time to end the run. What it ended with, if it did so by itself.
    fn until_its_end(
        &mut self,
        child: &mut Child,
        run: &Run,
        before: u64,
        is_last: bool,
    ) -> Option<ExitStatus> {
        let started = Instant::now();
        let since = |moment: Instant| moment.elapsed().as_millis() as u64;
        let mut probing: Option<Instant> = None;
        let mut early = run.early;
        let mut acts = run.acts.iter().peekable();
        loop {
            self.put_right(false);
            if probing.is_none() && self.place.echoes() > before {
                self.note("it probes");
                probing = Some(Instant::now());
            }
            let now = probing.map_or(0, since);
            let is_due = |(at, _): &(u64, Act)| *at <= since(started);
            let late = || probing.and(acts.next_if(|(at, _)| *at <= now).copied());
            if let Some((_, act)) = early.take_if(|act| is_due(act)).or_else(late) {
                self.act(act);
            }
            if let Some(status) = child.try_wait().unwrap() {
                self.note("it ended too soon");
                return Some(status);
            }
            let is_over = match probing {
                Some(_) => now >= run.end_ms,
                None => since(started) >= START_LIMIT_MS,
            };
            let is_early = run.ends_early && since(started) >= run.end_ms;
            let is_home = !is_last || !self.place.is_owing() || since(started) >= HOME_LIMIT_MS;
            if is_early || is_over && is_home {
                return None;
            }
            thread::sleep(LOOK);
        }
    }

    fn start(&self, number: usize) -> (PathBuf, PathBuf, Child) {
        let (out_path, out) = self.place.log(&format!("run-{number}.out"));
        let (err_path, err) = self.place.log(&format!("run-{number}.err"));
        let [ipv4, ipv6] = HOSTS;
        let mut command = self.place.pinger(&[
            "run",
            "--format",
            "json",
            "--interval",
            INTERVAL,
            "--timeout",
            "200ms",
            "--spool",
            self.spool,
            ipv4,
            ipv6,
        ]);
        if let Some(url) = self.place.url(true) {
            command.args(["--store", &url]);
        }
        let child = command.stdout(out).stderr(err).spawn().unwrap();
        (out_path, err_path, child)
    }

    fn end(&mut self, child: &mut Child, ending: Ending) -> ExitStatus {
        let id = i32::try_from(child.id()).unwrap();
        self.note(format!("{ending:?}"));
        match ending {
            Ending::Interrupt | Ending::Twice(_) => self.signal(id, libc::SIGINT),
            Ending::Kill => self.signal(id, libc::SIGKILL),
            Ending::KillBoth => {
                let engine = self.place.engine();
                self.signal(id, libc::SIGKILL);
                self.kill_engine(engine);
                let at = Instant::now() + Duration::from_millis(500);
                self.undo.push((at, Undo::StartServer));
            }
        }
        let told = Instant::now();
        let mut again = match ending {
            Ending::Twice(ms) => Some(told + Duration::from_millis(ms)),
            _ => None,
        };
        loop {
            self.put_right(false);
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if again.take_if(|at| *at <= Instant::now()).is_some() {
                self.note("Ctrl-C again");
                self.signal(id, libc::SIGINT);
            }
            if told.elapsed() > END_LIMIT {
                self.note("it does not end, and is killed");
                self.signal(id, libc::SIGKILL);
            }
            thread::sleep(LOOK);
        }
    }

    fn act(&mut self, act: Act) {
        self.note(format!("{act:?}"));
        let engine = self.place.engine();
        let wire = self.place.wire.as_ref();
        let (ms, undo) = match act {
            Act::KillEngine(ms) => {
                self.kill_engine(engine);
                (ms, Undo::StartServer)
            }
            Act::StopEngine(ms) => {
                let Some(engine) = engine else { return };
                self.signal(engine, libc::SIGSTOP);
                (ms, Undo::Continue(engine))
            }
            Act::Cut(ms) => {
                wire.unwrap().cut();
                (ms, Undo::MendWire)
            }
            Act::Stall(ms) => {
                wire.unwrap().stall();
                (ms, Undo::MendWire)
            }
            Act::Refuse(requests) => return wire.unwrap().refuse(requests),
            Act::DropAnswers(answers) => return wire.unwrap().drop_answers(answers),
            Act::FillDisk(ms) => {
                self.place.fill_disk();
                (ms, Undo::FreeDisk)
            }
        };
        let at = Instant::now() + Duration::from_millis(ms);
        self.undo.push((at, undo));
    }

    fn kill_engine(&mut self, engine: Option<i32>) {
        if let Some(server) = &mut self.place.server {
            server.kill();
        } else if let Some(engine) = engine {
            self.signal(engine, libc::SIGKILL);
        }
    }

    fn signal(&self, process: i32, signal: libc::c_int) {
        // SAFETY: takes numbers only. The process is a child of ours that was not waited for, or
        // an engine that was there a moment ago; numbers are not given anew so soon.
        unsafe { libc::kill(process, signal) };
    }

    /// Undoes what is due, or everything.
    fn put_right(&mut self, everything: bool) {
        let now = Instant::now();
        let due: Vec<Undo> = self
            .undo
            .extract_if(.., |(at, _)| everything || *at <= now)
            .map(|(_, undo)| undo)
            .collect();
        for undo in due {
            self.note(format!("{undo:?}"));
            match undo {
                Undo::StartServer => {
                    if let Some(server) = &mut self.place.server {
                        server.again(self.place.lab.prober());
                    }
                }
                Undo::Continue(engine) => self.signal(engine, libc::SIGCONT),
                Undo::MendWire => self.place.wire.as_ref().unwrap().mend(),
                Undo::FreeDisk => self.place.free_disk(),
            }
        }
    }

    /// From here on nothing is wrong.
    fn calm(&mut self) {
        self.put_right(true);
        if let Some(wire) = &self.place.wire {
            wire.calm();
        }
        if let Some(server) = &self.place.server {
            server.await_answer(self.place.lab.prober());
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // A stopped engine cannot end.
        self.put_right(true);
    }
}
