//! The real spool on a simulated disk, before a simulated ClickHouse, on a virtual clock.
//!
//! A history is some lives of pinger after each other. In each it makes rows while disk and server
//! fail by the seed, and at its end it ends well, is killed in the middle of any call, or the host
//! loses power. At last everything is healthy, and what was left is taken over and drained. Then
//! each row must be in the server once, or told by a gap.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pinger::destination::FlowIndex;
use pinger::native::{Columns, TIME};
use pinger::result::{Outcome, ProbeResult};
use pinger::rows::{RowChunk, RowKeys};
use pinger::spool::{
    Chunk, DropPolicy, End, GapReason, Identity, Job, Loss, Now, Options, Spool, SpoolError,
    SyncPolicy, Table, Tally, Totals,
};

use crate::sim::rng::Rng;
use disk::{Faults, Host, SimDisk};
use server::{Server, Trouble};

mod check;
mod disk;
mod native;
mod server;

/// The source of all runs.
const SOURCE: u32 = 7;

/// When the first history begins, wall clock nanoseconds.
const START_NS: i64 = 1_760_000_000_000_000_000;

/// Jobs that are out at a time, as in the writer.
const SENDERS: usize = 2;

/// Draining takes longer than the longest backoff, and never this long.
const DRAIN_STEPS: u32 = 20_000;

/// What a run did, whatever became of it.
#[derive(Debug, Default)]
struct Truth {
    /// One a row made: whether it ends a probe.
    rows: Vec<bool>,
    /// Probes sent.
    sent: u64,
    /// Probes whose row has been made.
    ended: u64,
    /// What is known of it outside of the disk, while it is not closed.
    tally: Option<Tally>,
    /// The host lost power before the run was closed: how much is missing cannot be known.
    is_vague: bool,
    /// A bit of a file was flipped.
    is_damaged: bool,
    /// [`Spool::end`] has succeeded.
    has_ended: bool,
}

/// What happened in a history, to see that histories are rich.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Rows made.
    pub rows: u64,
    /// Starts of pinger.
    pub lives: u64,
    /// Lives that were killed.
    pub kills: u64,
    /// Lives that ended with the host.
    pub power_losses: u64,
    /// Lives that ended well.
    pub clean_ends: u64,
    /// Bits flipped on disk.
    pub flips: u64,
    /// Gaps by the number of their reason.
    pub gaps: [u64; GapReason::ALL.len() + 1],
    /// Inserts of new rows that were acknowledged, or were not but landed.
    pub written: u64,
    /// Inserts whose token the server knew.
    pub repeated: u64,
    /// Inserts that landed before the connection broke.
    pub landed_and_broke: u64,
    /// Tokens noted without the rows.
    pub burnt: u64,
    /// Acknowledged inserts whose rows were not there.
    pub missing: u64,
    /// Inserts refused for their rows.
    pub refused: u64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Clean,
    Kill,
    Power,
}

/// A process.
struct Life {
    run: u64,
    options: Options,
    /// Its own first; then those that it took over.
    spools: Vec<Spool<SimDisk>>,
    /// Runs that are still to be taken over.
    left: Vec<u64>,
    /// Jobs that are out: of which run, and when they come back.
    out: Vec<(u64, Job, u64)>,
    turn: usize,
}

/// Everything that outlives a process.
struct World {
    rng: Rng,
    host: Rc<RefCell<Host>>,
    server: Server,
    now: Now,
    runs: BTreeMap<u64, Truth>,
    folders: BTreeMap<u64, SimDisk>,
    seen: Seen,
}

/// Plays the history of `seed`.
///
/// # Errors
/// When a row was lost or doubled, or a count is wrong: what, with the seed.
pub fn play(seed: u64) -> Result<Seen, String> {
    let mut world = World::new(seed);
    let told = |words: String| format!("seed {seed}: {words}");
    let lives = 1 + world.rng.below(4);
    for _ in 0..lives {
        world.live().map_err(told)?;
    }
    world.drain().map_err(told)?;
    check::runs(&mut world).map_err(told)?;
    let server = world.server.seen;
    Ok(Seen {
        written: server.written,
        repeated: server.repeated,
        landed_and_broke: server.landed_and_broke,
        burnt: server.burnt,
        missing: server.missing,
        refused: server.refused,
        ..world.seen
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let host = Rc::new(RefCell::new(Host::new(rng.draw())));
        Self {
            rng,
            host,
            server: Server::default(),
            now: Now {
                mono_ns: 1,
                wall_ns: START_NS,
            },
            runs: BTreeMap::new(),
            folders: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn options(&mut self) -> Options {
        let rng = &mut self.rng;
        let bytes_max = if rng.chance(0.4) {
            5_000 + rng.below(60_000)
        } else {
            u64::MAX
        };
        let age_max_ns = if rng.chance(0.2) {
            20_000_000_000
        } else {
            i64::MAX
        };
        let drop = if rng.chance(0.5) {
            DropPolicy::Oldest
        } else {
            DropPolicy::Newest
        };
        let sync = match rng.below(4) {
            0 => SyncPolicy::Chunk,
            1 => SyncPolicy::Never,
            _ => SyncPolicy::Batch,
        };
        Options {
            bytes_max,
            age_max_ns,
            drop,
            sync,
        }
    }

    fn identity(run: u64) -> Identity {
        Identity {
            source: SOURCE,
            run,
            store: "embedded".to_owned(),
        }
    }

    fn pass(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.wall_ns = self.now.wall_ns.saturating_add_unsigned(ns);
    }

    fn is_dead(&self) -> bool {
        self.host.borrow().dead
    }

    /// One life of pinger, from its start to whatever end.
    fn live(&mut self) -> Result<(), String> {
        self.seen.lives += 1;
        self.pass(1_000_000_000);
        let options = self.options();
        let death = match self.rng.below(10) {
            0..3 => Death::Clean,
            // Nobody who syncs nothing is promised anything.
            3..6 if options.sync != SyncPolicy::Never => Death::Power,
            _ => Death::Kill,
        };
        if death != Death::Clean && self.rng.chance(0.7) {
            self.host.borrow_mut().calls_left = Some(1 + self.rng.below(500));
        }
        let run = self.now.wall_ns.cast_unsigned();
        let left = self.folders.keys().copied().collect();
        let mut life = Life {
            run,
            options,
            spools: vec![],
            left,
            out: vec![],
            turn: 0,
        };
        self.begin(&mut life);
        let steps = if life.spools.is_empty() {
            0
        } else {
            self.rng.below(150)
        };
        for _ in 0..steps {
            self.step(&mut life, true)?;
            if self.is_dead() {
                break;
            }
        }
        self.die(life, death)
    }

    /// Makes the run's own folder, unless the disk fails: then pinger does not start.
    fn begin(&mut self, life: &mut Life) {
        self.change_faults();
        let disk = SimDisk::new(&self.host);
        // Whoever finds a folder that was hardly made cannot know that nothing followed.
        self.runs.entry(life.run).or_default().is_vague = true;
        self.folders.insert(life.run, disk.clone());
        if let Ok(spool) = Spool::create(disk, Self::identity(life.run), life.options) {
            life.spools.push(spool);
            let truth = self.runs.entry(life.run).or_default();
            (truth.is_vague, truth.tally) = (false, Some(Tally::default()));
            let block = run_block(life.run);
            life.spools[0].add(self.now, Table::Runs, block);
        }
    }

    fn die(&mut self, mut life: Life, death: Death) -> Result<(), String> {
        if death == Death::Clean && !self.is_dead() {
            self.end(&mut life)?;
        }
        // What was on its way may arrive still.
        for (_, job, _) in life.out.drain(..) {
            if self.rng.chance(0.5) {
                self.server.insert(&job, &mut self.rng);
            }
        }
        {
            let mut host = self.host.borrow_mut();
            host.calls_left = None;
            host.dead = false;
            host.faults = Faults {
                fail: 0.0,
                capacity: u64::MAX,
            };
        }
        if life.options.sync == SyncPolicy::Never {
            // By the time of the next trouble the kernel has written what nobody asked for.
            for disk in self.folders.values() {
                disk.folder.borrow_mut().settle();
            }
        }
        match death {
            Death::Clean => self.seen.clean_ends += 1,
            Death::Kill => self.seen.kills += 1,
            Death::Power => self.lose_power(&life),
        }
        Ok(())
    }

    fn lose_power(&mut self, life: &Life) {
        self.seen.power_losses += 1;
        for (run, disk) in &self.folders {
            let spool = life
                .spools
                .iter()
                .find(|spool| spool.identity().run == *run);
            let is_closed = spool.is_some_and(Spool::is_closed);
            let is_noted = disk
                .folder
                .borrow()
                .names()
                .iter()
                .any(|name| name == "ended");
            disk.folder.borrow_mut().lose_power(&mut self.rng);
            if let Some(truth) = self.runs.get_mut(run) {
                truth.tally = None;
                // Closed by whoever syncs is closed for ever.
                truth.is_vague |= !(is_closed || is_noted && spool.is_none());
            }
        }
    }

    /// The run's own end: all probes have ended, all rows are put.
    fn end(&mut self, life: &mut Life) -> Result<(), String> {
        if life.spools.is_empty() {
            return Ok(());
        }
        let truth = self.runs.entry(life.run).or_default();
        let missing = truth.sent - truth.ended;
        if missing > 0 {
            self.make_rows(life, missing, 0, false);
        }
        for _ in 0..40 {
            self.pass(25_000_000);
            let ended = life.spools[0].end(self.now);
            if ended.is_ok() {
                let truth = self.runs.entry(life.run).or_default();
                (truth.has_ended, truth.tally) = (true, None);
            }
            self.step(life, false)?;
            if ended.is_ok() && self.rng.chance(0.2) {
                break;
            }
        }
        Ok(())
    }

    /// A moment of a life.
    fn step(&mut self, life: &mut Life, is_probing: bool) -> Result<(), String> {
        let ns = match self.rng.below(100) {
            0 => 60_000_000_000,
            1..4 => self.rng.below(10_000_000_000),
            _ => 25_000_000,
        };
        self.pass(ns);
        if is_probing {
            if self.rng.chance(0.05) {
                self.change_faults();
            }
            if self.rng.chance(0.05) {
                self.change_trouble();
            }
            if self.rng.chance(0.002) {
                self.flip();
            }
            let (ending, other) = (self.rng.below(6), self.rng.below(2));
            self.make_rows(life, ending, other, true);
        }
        self.adopt(life)?;
        for spool in &mut life.spools {
            spool.tick(self.now);
        }
        self.send(life);
        self.take_back(life);
        self.clear(life);
        check::counts(&life.spools)
    }

    fn make_rows(&mut self, life: &mut Life, ending: u64, other: u64, is_probing: bool) {
        let now = self.now;
        let truth = self.runs.entry(life.run).or_default();
        truth.sent = truth.sent.max(truth.ended + ending);
        let rows: Vec<bool> = (0..ending + other).map(|index| index < ending).collect();
        let first = truth.rows.len() as u64;
        truth.rows.extend(&rows);
        truth.ended += ending;
        if is_probing {
            // Probes are on their way when rows are made, and the sender notes them first.
            truth.sent += self.rng.below(3);
        }
        if let Some(tally) = &mut truth.tally {
            tally.sent = truth.sent;
            tally.rows = truth.rows.len() as u64;
            tally.last_ns = now.wall_ns;
        }
        if rows.is_empty() {
            return;
        }
        self.seen.rows += rows.len() as u64;
        if self.rng.chance(0.002) {
            self.server.poison.insert((life.run, first));
        }
        let spool = &mut life.spools[0];
        if self.rng.chance(0.01) {
            let size = Totals {
                rows: rows.len() as u64,
                probes: ending,
            };
            return spool.lost(
                now,
                Loss {
                    size: Some(size),
                    from_ns: now.wall_ns,
                    until_ns: now.wall_ns,
                    reason: GapReason::QueueFull,
                    detail: "the queue was full".to_owned(),
                },
            );
        }
        spool.put(now, chunk(life.run, first, &rows, now));
    }

    fn change_faults(&mut self) {
        let rng = &mut self.rng;
        let fail = if rng.chance(0.5) {
            0.0
        } else {
            [0.01, 0.1, 0.5][rng.below(3) as usize]
        };
        let capacity = if rng.chance(0.8) {
            u64::MAX
        } else {
            rng.below(40_000)
        };
        self.host.borrow_mut().faults = Faults { fail, capacity };
    }

    fn change_trouble(&mut self) {
        let rng = &mut self.rng;
        self.server.trouble = match rng.below(4) {
            0 => Trouble {
                away: true,
                ..Trouble::default()
            },
            1 => Trouble {
                lands_and_breaks: 0.3,
                breaks: 0.2,
                error: 0.2,
                burns: if rng.chance(0.3) { 0.1 } else { 0.0 },
                away: false,
            },
            _ => Trouble::default(),
        };
    }

    fn flip(&mut self) {
        let ending = if self.rng.chance(0.5) { ".seg" } else { ".try" };
        let mut runs: Vec<u64> = self.folders.keys().copied().collect();
        runs.retain(|run| !self.runs[run].is_damaged);
        let index = self.rng.below(runs.len() as u64) as usize;
        let Some(run) = runs.get(index) else {
            return;
        };
        let folder = &self.folders[run].folder;
        if folder.borrow_mut().flip(&mut self.rng, ending) {
            self.seen.flips += 1;
            self.runs.entry(*run).or_default().is_damaged = true;
        }
    }

    /// Takes over what other runs left, or tries to.
    fn adopt(&mut self, life: &mut Life) -> Result<(), String> {
        for run in std::mem::take(&mut life.left) {
            let disk = self.folders[&run].clone();
            let tally = self.runs.get(&run).and_then(|truth| truth.tally);
            match Spool::adopt(disk, Self::identity(run), life.options, tally, self.now) {
                Ok(spool) => life.spools.push(spool),
                Err(SpoolError::Disk(_)) => life.left.push(run),
                Err(SpoolError::Foreign(store)) => {
                    return Err(format!("run {run} is not ours but {store}'s"));
                }
            }
        }
        for spool in life
            .spools
            .iter()
            .skip_while(|spool| spool.identity().run == life.run)
        {
            if spool.is_closed() && !self.is_dead() {
                self.runs.entry(spool.identity().run).or_default().tally = None;
            }
        }
        Ok(())
    }

    fn send(&mut self, life: &mut Life) {
        for _ in 0..life.spools.len() {
            if life.out.len() >= SENDERS {
                return;
            }
            life.turn = (life.turn + 1) % life.spools.len();
            let spool = &mut life.spools[life.turn];
            if let Some(job) = spool.next(self.now) {
                let delay_ns = match self.rng.below(10) {
                    0 => self.rng.below(2_000_000_000),
                    _ => self.rng.below(50_000_000),
                };
                life.out
                    .push((spool.identity().run, job, self.now.mono_ns + delay_ns));
            }
        }
    }

    fn take_back(&mut self, life: &mut Life) {
        let now = self.now;
        for (run, job, due_ns) in std::mem::take(&mut life.out) {
            if due_ns > now.mono_ns {
                life.out.push((run, job, due_ns));
                continue;
            }
            let end = match self.rng.chance(0.01) {
                true => End::Untried,
                false => self.server.insert(&job, &mut self.rng),
            };
            let mut spools = life.spools.iter_mut();
            if let Some(spool) = spools.find(|spool| spool.identity().run == run) {
                spool.done(now, job, end);
            }
        }
    }

    /// Removes what is drained, but for the own run.
    fn clear(&mut self, life: &mut Life) {
        let own = life.run;
        life.spools.retain_mut(|spool| {
            let run = spool.identity().run;
            if run == own || !spool.is_drained() {
                return true;
            }
            match spool.clear() {
                Ok(is_empty) => {
                    if is_empty {
                        self.folders.remove(&run);
                    }
                    false
                }
                Err(_) => true,
            }
        });
    }

    /// Everything works, and what is left is taken over until nothing waits.
    fn drain(&mut self) -> Result<(), String> {
        self.server.trouble = Trouble::default();
        let options = Options {
            bytes_max: u64::MAX,
            age_max_ns: i64::MAX,
            drop: DropPolicy::Oldest,
            sync: SyncPolicy::Batch,
        };
        let left = self.folders.keys().copied().collect();
        let mut life = Life {
            run: 0,
            options,
            spools: vec![],
            left,
            out: vec![],
            turn: 0,
        };
        for _ in 0..DRAIN_STEPS {
            self.step(&mut life, false)?;
            if life.spools.is_empty() && life.left.is_empty() {
                return Ok(());
            }
        }
        let stuck = life
            .spools
            .iter()
            .map(|spool| (spool.identity().run, spool.counts()));
        Err(format!(
            "not drained: {:?}, {:?}",
            stuck.collect::<Vec<_>>(),
            life.left
        ))
    }
}

fn chunk(run: u64, first: u64, rows: &[bool], now: Now) -> Chunk {
    let keys = RowKeys {
        run,
        source: SOURCE,
        rsite: 1,
        rhost: 1,
        wall_offset_ns: now.wall_ns,
    };
    let row = |(index, ends): (usize, &bool)| {
        let result = ProbeResult {
            flow: FlowIndex(0),
            sequence: first + index as u64,
            identifier: 1,
            ttl: 64,
            hops: 0,
            due_ns: 0,
            tx_ns: 0,
            outcome: if *ends { Outcome::Lost } else { Outcome::Late },
            answer: None,
            jitter_ns: 0,
            hop_limit_changed: false,
        };
        keys.row(121, &result)
    };
    let chunk = RowChunk {
        rows: rows.iter().enumerate().map(row).collect(),
        probes: rows.iter().filter(|ends| **ends).count() as u64,
        from_ns: now.wall_ns,
        until_ns: now.wall_ns,
    };
    Chunk::of(&chunk)
}

/// A row of the table `runs`, as far as anybody here looks at it.
fn run_block(run: u64) -> pinger::native::Block {
    let rows = [run];
    let mut to = Columns::new(&["run", "started"], &rows);
    to.column("UInt64", |run| *run);
    to.column(TIME, |run| run.cast_signed());
    to.finish()
}
