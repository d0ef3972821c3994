//! Everything that outlives a process, and the lives themselves: how they begin and end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pinger::spool::{DropPolicy, Identity, Now, Options, Spool, SyncPolicy, Table, Tally};

use super::disk::{Faults, Host, SimDisk};
use super::life::Life;
use super::prober::{Prober, run_block};
use super::server::{Server, Trouble};
use super::{SOURCE, START_NS, Seen, Truth};
use crate::sim::rng::Rng;

/// Draining takes longer than the longest backoff, and never this long.
const DRAIN_STEPS: u32 = 20_000;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Clean,
    Kill,
    Power,
}

/// Everything that outlives a process.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) host: Rc<RefCell<Host>>,
    pub(super) server: Server,
    pub(super) runs: BTreeMap<u64, Rc<RefCell<Truth>>>,
    pub(super) folders: BTreeMap<u64, SimDisk>,
    pub(super) seen: Seen,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = Now {
            mono_ns: 1,
            wall_ns: START_NS,
        };
        let host = Rc::new(RefCell::new(Host::new(rng.draw(), now)));
        Self {
            rng,
            host,
            server: Server::default(),
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

    pub(super) fn identity(run: u64) -> Identity {
        Identity {
            source: SOURCE,
            run,
            store: "embedded".to_owned(),
        }
    }

    pub(super) fn now(&self) -> Now {
        self.host.borrow().now
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.host.borrow_mut().pass(ns);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.host.borrow().dead
    }

    pub(super) fn truth(&mut self, run: u64) -> Rc<RefCell<Truth>> {
        Rc::clone(self.runs.entry(run).or_default())
    }

    /// One life of pinger, from its start to whatever end.
    pub(super) fn live(&mut self) -> Result<(), String> {
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
        let run = self.now().wall_ns.cast_unsigned();
        let left = self.folders.keys().copied().collect();
        let mut life = Life::new(run, options, left);
        self.begin(&mut life);
        let steps = if life.prober.is_none() {
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
        let truth = self.truth(life.run);
        truth.borrow_mut().is_vague = true;
        self.folders.insert(life.run, disk.clone());
        let (slow, quick) = (disk.slow(), disk);
        let made = Spool::create(slow, quick, Self::identity(life.run), life.options);
        if let Ok((mut spool, filler)) = made {
            {
                let mut truth = truth.borrow_mut();
                (truth.is_vague, truth.tally) = (false, Some(Tally::default()));
            }
            spool.add(self.now(), Table::Runs, run_block(life.run));
            life.spools.push(spool);
            let rng = Rng::new(self.rng.draw());
            let prober = Prober::new(rng, life.run, life.options, filler, truth, &self.host);
            let prober = Rc::new(RefCell::new(prober));
            self.host.borrow_mut().meanwhile = Some(Rc::clone(&prober));
            life.prober = Some(prober);
        }
    }

    fn die(&mut self, mut life: Life, death: Death) -> Result<(), String> {
        if death == Death::Clean && !self.is_dead() {
            self.end(&mut life)?;
        }
        // What was on its way may arrive still.
        for (_, job, _) in life.out.drain(..) {
            if self.rng.chance(0.5) {
                self.server.now_ns = self.now().mono_ns;
                self.server.insert(&job, &mut self.rng);
            }
        }
        {
            let mut host = self.host.borrow_mut();
            host.calls_left = None;
            host.dead = false;
            host.meanwhile = None;
            host.faults = Faults::NONE;
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
            if let Some(truth) = self.runs.get(run) {
                let mut truth = truth.borrow_mut();
                truth.tally = None;
                // Closed by whoever syncs is closed for ever.
                truth.is_vague |= !(is_closed || is_noted && spool.is_none());
            }
        }
    }

    /// The run's own end: all probes have ended, all rows are put.
    fn end(&mut self, life: &mut Life) -> Result<(), String> {
        let Some(prober) = life.prober.clone() else {
            return Ok(());
        };
        prober.borrow_mut().finish_probing();
        for _ in 0..40 {
            self.pass(25_000_000);
            let now = self.now();
            prober.borrow_mut().filler.end(now);
            self.talk(life);
            let ended = life.spools[0].end(now);
            if ended.is_ok() {
                let truth = self.truth(life.run);
                let mut truth = truth.borrow_mut();
                (truth.has_ended, truth.tally) = (true, None);
            }
            self.step(life, false)?;
            if ended.is_ok() && self.rng.chance(0.2) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn change_faults(&mut self) {
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
        let slow = if rng.chance(0.7) { 0.0 } else { 0.2 };
        self.host.borrow_mut().faults = Faults {
            fail,
            capacity,
            slow,
        };
    }

    pub(super) fn change_trouble(&mut self) {
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

    pub(super) fn flip(&mut self) {
        let mut runs: Vec<u64> = self.folders.keys().copied().collect();
        runs.retain(|run| !self.runs[run].borrow().is_damaged);
        let index = self.rng.below(runs.len() as u64) as usize;
        let Some(run) = runs.get(index) else {
            return;
        };
        let folder = &self.folders[run].folder;
        let flipped = folder.borrow_mut().flip(&mut self.rng);
        if let Some(name) = flipped {
            let is_to_send = name.ends_with(".seg") || name.ends_with(".try");
            self.seen.flips += 1;
            self.seen.flips_elsewhere += u64::from(!is_to_send);
            self.runs[run].borrow_mut().is_damaged = true;
        }
    }

    /// Everything works, and what is left is taken over until nothing waits.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        self.server.trouble = Trouble::default();
        let options = Options {
            bytes_max: u64::MAX,
            age_max_ns: i64::MAX,
            drop: DropPolicy::Oldest,
            sync: SyncPolicy::Batch,
        };
        let left = self.folders.keys().copied().collect();
        let mut life = Life::new(0, options, left);
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
