//! A process, moment by moment: chunks, ticks, inserts and how they end.

use std::cell::RefCell;
use std::rc::Rc;

use pinger::spool::{End, Job, Options, Spool, SpoolError};

use super::check;
use super::disk::SimDisk;
use super::prober::Prober;
use super::world::World;

/// Jobs that are out at a time, as in the writer.
const SENDERS: usize = 2;

/// A process.
pub(super) struct Life {
    pub(super) run: u64,
    pub(super) options: Options,
    /// Its own first; then those that it took over.
    pub(super) spools: Vec<Spool<SimDisk>>,
    /// What makes its rows and writes them down; none where it only drains.
    pub(super) prober: Option<Rc<RefCell<Prober>>>,
    /// Runs that are still to be taken over.
    pub(super) left: Vec<u64>,
    /// Jobs that are out: of which run, and when they come back.
    pub(super) out: Vec<(u64, Job, u64)>,
    turn: usize,
}

impl Life {
    pub(super) fn new(run: u64, options: Options, left: Vec<u64>) -> Self {
        Self {
            run,
            options,
            spools: vec![],
            prober: None,
            left,
            out: vec![],
            turn: 0,
        }
    }
}

impl World {
    /// A moment of a life.
    pub(super) fn step(&mut self, life: &mut Life, is_probing: bool) -> Result<(), String> {
        let ns = match self.rng.below(100) {
            // No insert takes as long as the leaps below.
            _ if !life.out.is_empty() => 25_000_000,
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
        }
        if let Some(prober) = &life.prober {
            prober.borrow_mut().go_on();
        }
        // The spool's thread may not get a turn.
        if self.rng.chance(0.9) {
            self.turn(life)?;
        }
        self.punctuality(life)
    }

    /// A turn of the spool's thread.
    fn turn(&mut self, life: &mut Life) -> Result<(), String> {
        self.adopt(life)?;
        self.talk(life);
        for spool in &mut life.spools {
            let now = self.now();
            spool.tick(now);
        }
        self.send(life);
        self.take_back(life);
        self.clear(life);
        check::counts(&life.spools)
    }

    /// Filler and spool tell each other what they have to say.
    pub(super) fn talk(&mut self, life: &mut Life) {
        let Some(prober) = &life.prober else {
            return;
        };
        let (report, missed) = prober.borrow_mut().news();
        self.server.poison.append(&mut prober.borrow_mut().poison);
        let (now, spool) = (self.now(), &mut life.spools[0]);
        if let Some(report) = report {
            spool.take(now, report);
        }
        if let Some(loss) = missed {
            spool.lost(now, loss);
        }
        let now = self.now();
        spool.answer(now);
        prober.borrow_mut().filler.allow(now, spool.allowance());
    }

    /// Whether the filler was late with a chunk, as it must never be on a disk that only is slow.
    fn punctuality(&self, life: &Life) -> Result<(), String> {
        match &life.prober {
            Some(prober) => prober.borrow_mut().late.take().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Takes over what other runs left, or tries to.
    fn adopt(&mut self, life: &mut Life) -> Result<(), String> {
        for run in std::mem::take(&mut life.left) {
            // Its pinger lives still.
            if self.rng.chance(0.2) {
                life.left.push(run);
                continue;
            }
            let disk = self.folders[&run].slow();
            let tally = self.runs.get(&run).and_then(|truth| truth.borrow().tally);
            let now = self.now();
            match Spool::adopt(disk, Self::identity(run), life.options, tally, now) {
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
                self.truth(spool.identity().run).borrow_mut().tally = None;
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
            let (now, spool) = (self.now(), &mut life.spools[life.turn]);
            if let Some(job) = spool.next(now) {
                let delay_ns = match self.rng.below(10) {
                    0 => self.rng.below(2_000_000_000),
                    _ => self.rng.below(50_000_000),
                };
                life.out
                    .push((spool.identity().run, job, self.now().mono_ns + delay_ns));
            }
        }
    }

    fn take_back(&mut self, life: &mut Life) {
        for (run, job, due_ns) in std::mem::take(&mut life.out) {
            let now = self.now();
            if due_ns > now.mono_ns {
                life.out.push((run, job, due_ns));
                continue;
            }
            // How it ended waited for the spool's thread.
            self.server.now_ns = due_ns;
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
}
