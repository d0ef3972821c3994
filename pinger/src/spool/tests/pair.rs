//! A filler and its spool as one, which tell each other at once what they have to say.

use std::ops::{Deref, DerefMut};

use super::*;

pub(super) struct Pair<D> {
    pub(super) filler: Filler<D>,
    pub(super) spool: Spool<D>,
}

impl<D: Disk> Pair<D> {
    pub(super) fn new(disk: D, same: D, options: Options) -> Self {
        let made = Spool::create(disk, same, identity(), options);
        let (spool, filler) = made.expect("the disk takes that");
        Self { filler, spool }
    }

    /// Until neither has anything to say.
    pub(super) fn talk(&mut self, now: Now) {
        while let Some(report) = self.filler.report() {
            self.spool.take(now, report);
            self.spool.answer(now);
            self.filler.allow(now, self.spool.allowance());
        }
    }

    pub(super) fn put(&mut self, now: Now, chunk: Chunk) {
        self.filler.put(now, chunk);
        self.talk(now);
    }

    pub(super) fn seal(&mut self, now: Now) {
        self.filler.seal();
        self.talk(now);
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.spool.tick(now);
        self.filler.allow(now, self.spool.allowance());
        self.filler.tick(now);
        self.talk(now);
    }

    pub(super) fn end(&mut self, now: Now) -> Result<(), SpoolError> {
        self.filler.end(now);
        self.talk(now);
        self.spool.end(now)
    }
}

impl<D> Deref for Pair<D> {
    type Target = Spool<D>;

    fn deref(&self) -> &Spool<D> {
        &self.spool
    }
}

impl<D> DerefMut for Pair<D> {
    fn deref_mut(&mut self) -> &mut Spool<D> {
        &mut self.spool
    }
}
