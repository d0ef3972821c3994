//! Plays a plan: starts runs, makes trouble at its moments, ends them, and has the last run bring
//! everything home.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;

use crate::check;
use crate::place::{LOOK, Place};
use crate::plan::{Act, Ending, Plan, Run};

/// A few thousand probes a second: 256 hosts, and how often each is probed.
const HOSTS: [&str; 2] = ["198.18.0.0/25", "2001:2:0:1::/121"];
const INTERVAL: &str = "50ms";

/// The longest a run may take to its end once it is told to.
const END_LIMIT: Duration = Duration::from_secs(90);

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
}

/// One run of pinger, over.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Between which times of the wall clock it began, nanoseconds.
    pub(crate) began: [u64; 2],
    /// Echo requests that reached the hosts.
    pub(crate) echoes: u64,
    pub(crate) ending: Ending,
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The JSON object at its end.
    pub(crate) report: Option<Value>,
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
        acts: Vec::new(),
        end_ms: LAST_MS,
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

impl Round {
    fn note(&mut self, text: impl AsRef<str>) {
        let at = self.began.elapsed().as_millis();
        self.history.push(format!("{at:>6} ms  {}", text.as_ref()));
    }

    fn run(&mut self, run: &Run, is_last: bool) {
        let number = self.ran.len();
        let before = self.place.echoes_at_rest();
        let (out, err, mut child, began) = self.start(number);
        self.note(format!("run {number} starts as process {}", child.id()));
        let started = Instant::now();
        let mut acts = run.acts.iter().peekable();
        let mut code = None;
        loop {
            self.put_right(false);
            let now = started.elapsed().as_millis() as u64;
            if let Some((_, act)) = acts.next_if(|(at, _)| *at <= now) {
                self.act(*act);
                continue;
            }
            if let Some(status) = child.try_wait().unwrap() {
                self.note(format!("run {number} ended too soon: {status}"));
                code = Some(status);
                break;
            }
            if now >= run.end_ms && (!is_last || self.is_home(before) || now >= HOME_LIMIT_MS) {
                break;
            }
            thread::sleep(LOOK);
        }
        let status = code.unwrap_or_else(|| self.end(&mut child, run.ending));
        let echoes = self.place.echoes_at_rest() - before;
        let report = fs::read_to_string(&out).unwrap();
        let words = fs::read_to_string(&err).unwrap();
        self.note(format!(
            "run {number} has ended: {status}, {echoes} probes\n{report}{words}"
        ));
        self.ran.push(Ran {
            began,
            echoes,
            ending: run.ending,
            code: status.code(),
            report: serde_json::from_str(&report).ok(),
        });
    }

    /// The last run probes, and what earlier ones left is in the store.
    fn is_home(&self, echoes_before: u64) -> bool {
        self.place.echoes() > echoes_before && !self.place.is_owing()
    }

    fn start(&self, number: usize) -> (PathBuf, PathBuf, Child, [u64; 2]) {
        let wall = || UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
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
        let before = wall();
        let child = command.stdout(out).stderr(err).spawn().unwrap();
        (out_path, err_path, child, [before, wall() + 1_000_000_000])
    }

    fn end(&mut self, child: &mut Child, ending: Ending) -> std::process::ExitStatus {
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
