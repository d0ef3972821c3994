//! What is lost, and how it is told: limits, what goes when they are reached, and gaps.
//!
//! A segment is given up in two steps: a segment of gaps is written that names it, then it is
//! deleted. Whoever finds both after a crash takes the second step again, and the gaps are not
//! sent before it is done.

use super::disk::{Disk, DiskError, Entry};
use super::files::{self, State};
use super::gap::{Gap, GapReason, Loss};
use super::segment::{Fate, Marker, Table, Totals};
use super::whole::small_segment;
use super::{DropPolicy, Notice, Now, Segment, Spool};

/// When the spool is full, at least this part of what it holds is freed at once: few gaps tell of
/// it.
pub(super) const FREED_PART: u64 = 64;

/// The most segments that are given up at once: so many numbers fit a small file.
const FATES_MAX: usize = 4096;

/// How long losses are gathered before the first gap tells of them.
const FIRST_GAP_NS: u64 = 1_000_000_000;

/// How often gaps are written while losses go on.
const GAP_NS: u64 = 10_000_000_000;

/// The same when so many segments of gaps wait already: an outage of weeks.
const GAPS_MANY: usize = 1000;
const GAP_MANY_NS: u64 = 3_600_000_000_000;

/// What is too old must be so for this long, or for a tenth of the age that is allowed: a clock
/// that jumps must not cost what waits.
const OLD_SURE_NS: u64 = 600_000_000_000;

/// Losses of one reason that come after so long are news again.
const NEWS_NS: u64 = 600_000_000_000;

/// The most bytes in `refused/`: enough to see what is wrong.
const ASIDE_BYTES_MAX: u64 = 256 << 20;

/// Losses of which no gap on disk tells yet.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// One a reason.
    list: Vec<Loss>,
    /// When the first of them came, and the last gap was written; CLOCK_MONOTONIC nanoseconds.
    since_ns: u64,
    told_ns: Option<u64>,
    /// When each reason was last met, by its number.
    news_ns: [Option<u64>; GapReason::ALL.len() + 1],
}

impl Losses {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How much of the run they are. Those of unknown size were accounted for.
    fn size(&self) -> Totals {
        let sizes = self.list.iter().filter_map(|loss| loss.size);
        sizes.fold(Totals::default(), Totals::plus)
    }

    fn add(&mut self, now: Now, loss: Loss) {
        if self.list.is_empty() {
            self.since_ns = now.mono_ns;
        }
        let same = |other: &&mut Loss| {
            other.reason == loss.reason && other.size.is_some() == loss.size.is_some()
        };
        match self.list.iter_mut().find(same) {
            Some(other) => other.add(&loss),
            None => self.list.push(loss),
        }
    }

    fn is_due(&self, now: Now, waiting: usize) -> bool {
        let pause_ns = if waiting >= GAPS_MANY {
            GAP_MANY_NS
        } else {
            GAP_NS
        };
        let is_rare = self
            .told_ns
            .is_none_or(|told_ns| now.mono_ns >= told_ns + pause_ns);
        !self.is_empty() && is_rare && now.mono_ns >= self.since_ns + FIRST_GAP_NS
    }
}

/// A segment that a gap tells of, until that has happened.
#[derive(Debug)]
pub(super) struct Doomed {
    state: State,
    bytes: u64,
    fate: Fate,
    words: String,
}

impl<D: Disk> Spool<D> {
    /// Tells of results that never came here.
    pub fn lost(&mut self, now: Now, loss: Loss) {
        let rows = loss.size.unwrap_or_default().rows;
        self.accepted += rows;
        self.dropped += rows;
        self.lose(now, loss);
    }

    /// Notes losses that are counted already; a gap will tell of them.
    pub(super) fn lose(&mut self, now: Now, loss: Loss) {
        self.tell_news(now, &loss);
        self.losses.add(now, loss);
    }

    fn tell_news(&mut self, now: Now, loss: &Loss) {
        let met_ns = self.losses.news_ns.get_mut(loss.reason as usize);
        let before = met_ns.and_then(|met_ns| met_ns.replace(now.mono_ns));
        if before.is_none_or(|before_ns| now.mono_ns >= before_ns + NEWS_NS) {
            self.notices
                .push(Notice::Lost(loss.reason, loss.detail.clone()));
        }
    }

    pub(super) fn has_room(&self, needed: u64) -> bool {
        let appended = self.filler.progress.appended;
        let is_there = |until: u64| appended.saturating_add(needed) <= until;
        self.is_within_size(needed) && self.room_until.is_none_or(is_there)
    }

    /// Whether the spool's own limit allows for so many bytes more.
    pub(super) fn is_within_size(&self, needed: u64) -> bool {
        let used = self.bytes().saturating_add(self.bytes_elsewhere);
        used.saturating_add(needed) <= self.options.bytes_max
    }

    /// Looks how much room the disk has.
    pub(super) fn look(&mut self, now: Now) {
        self.looked_ns = Some(now.mono_ns);
        let appended = self.filler.progress.appended;
        let room = self.disk.room();
        self.room_until = room.map(|room| appended.saturating_add(room));
    }

    /// The same as [`Spool::has_room`], but what is thought of the disk may be old: somebody may
    /// have made room since.
    pub(super) fn has_room_after_a_look(&mut self, now: Now, needed: u64) -> bool {
        if !self.has_room(needed) {
            self.look(now);
        }
        self.has_room(needed)
    }

    /// Gives up the oldest segments that were never sent, so many bytes of them at least, for this
    /// spool or for a newer one that shares its limits. Returns whether it had any to give.
    pub fn give_way(&mut self, now: Now, needed: u64) -> bool {
        if self.options.drop != DropPolicy::Oldest {
            return false;
        }
        let wanted = needed.max(self.kept_bytes / FREED_PART);
        let mut freed = 0;
        let is_next = |(_, segment): &(&u64, &Segment)| {
            let is_wanted = freed < wanted;
            freed += segment.bytes;
            is_wanted
        };
        let droppable = self.segments.iter().filter(|(_, is)| is.is_droppable());
        let numbers = droppable.take_while(is_next).take(FATES_MAX);
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        self.drop_segments(now, &numbers, GapReason::SpoolFull, "the spool was full")
    }

    /// Gives up what has waited too long.
    pub(super) fn drop_old(&mut self, now: Now) {
        let age_max_ns = self.options.age_max_ns;
        let age_ns = |segment: &Segment| match segment.since_ns {
            Some(since_ns) => {
                i64::try_from(now.mono_ns.saturating_sub(since_ns)).unwrap_or(i64::MAX)
            }
            // Of an earlier run: it has no other clock.
            None => now.wall_ns.saturating_sub(segment.until_ns),
        };
        let is_old = |segment: &Segment| segment.is_droppable() && age_ns(segment) > age_max_ns;
        let old = self.segments.iter().filter(|(_, segment)| is_old(segment));
        let numbers: Vec<u64> = old.map(|(number, _)| *number).take(FATES_MAX).collect();
        if numbers.is_empty() {
            self.old_since_ns = None;
            return;
        }
        let since_ns = *self.old_since_ns.get_or_insert(now.mono_ns);
        let sure_ns = OLD_SURE_NS.min(age_max_ns.unsigned_abs() / 10);
        if now.mono_ns < since_ns + sure_ns {
            return;
        }
        self.drop_segments(
            now,
            &numbers,
            GapReason::TooOld,
            "the store took no rows for too long",
        );
    }

    /// Returns whether segments were given up.
    fn drop_segments(&mut self, now: Now, numbers: &[u64], reason: GapReason, why: &str) -> bool {
        let segments = numbers
            .iter()
            .filter_map(|number| self.segments.get(number));
        let loss = segments.fold(None, |sum: Option<Loss>, segment| {
            let sum = sum.unwrap_or_else(|| Loss {
                size: Some(Totals::default()),
                from_ns: segment.from_ns,
                until_ns: segment.until_ns,
                reason,
                detail: why.to_owned(),
            });
            Some(Loss {
                size: sum.size.map(|size| size.plus(segment.results())),
                from_ns: sum.from_ns.min(segment.from_ns),
                until_ns: sum.until_ns.max(segment.until_ns),
                ..sum
            })
        });
        let Some(loss) = loss else {
            return false;
        };
        self.tell_news(now, &loss);
        let fates = numbers.iter().map(|number| (*number, Fate::Dropped));
        if let Err(error) = self.commit_gaps(now, fates.collect(), &[loss]) {
            self.fail(now, &error);
            return false;
        }
        self.execute_doomed(now);
        true
    }

    /// Writes a gap of each loss that waits and each of `more`, which are of the segments in
    /// `fates`. These are given up with it.
    ///
    /// # Errors
    /// When the disk fails; then nothing has changed.
    pub(super) fn commit_gaps(
        &mut self,
        now: Now,
        fates: Vec<(u64, Fate)>,
        more: &[Loss],
    ) -> Result<(), DiskError> {
        let crash = self.crash.clone();
        let losses = self.losses.list.iter().chain(more);
        let gaps = losses.map(|loss| self.gap(loss)).chain(crash.clone());
        let gaps: Vec<Gap> = gaps.collect();
        let markers: Vec<Marker> = gaps.iter().take(1).map(Gap::marker).collect();
        let block = Gap::block(&gaps);
        let number = self.numbers.take();
        let mut header = self.header(number, Table::Gaps);
        // What `fates` speak of was accounted for when it was on disk.
        header.accounts.told = self.accounts.told.plus(self.losses.size());
        header.closes = crash.is_some();
        let bytes = small_segment(&header, &fates, &block, &markers, now.wall_ns);
        let size = Totals {
            rows: block.rows,
            probes: 0,
        };
        let segment = Segment {
            fates: fates.clone(),
            closes: header.closes,
            ..Segment::new(Table::Gaps, State::Whole, 0, size)
        };
        self.write_whole(&header, &bytes, segment)?;
        self.accounts = header.accounts;
        self.losses.list.clear();
        self.losses.told_ns = Some(now.mono_ns);
        self.is_told |= crash.is_some();
        self.crash = None;
        let words = more.first().map_or("", |loss| &loss.detail);
        for (number, fate) in fates {
            self.seal_fate(number, fate, words);
        }
        Ok(())
    }

    fn gap(&self, loss: &Loss) -> Gap {
        Gap {
            source: self.identity.source,
            run: self.identity.run,
            from_ns: loss.from_ns,
            until_ns: Some(loss.until_ns),
            probes: loss.size.map(|size| size.probes),
            rows: loss.size.map(|size| size.rows),
            reason: loss.reason,
            detail: loss.detail.clone(),
        }
    }

    /// A gap on disk says this of a segment.
    pub(super) fn seal_fate(&mut self, number: u64, fate: Fate, words: &str) {
        if fate == Fate::Damaged {
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.is_damage_told = true;
            }
            return;
        }
        self.unwanted.remove(&number);
        self.doom(number, fate, words.to_owned());
    }

    /// From now on the segment is only a file to be deleted or put aside.
    fn doom(&mut self, number: u64, fate: Fate, words: String) {
        self.tried.remove(&number);
        let Some(segment) = self.segments.remove(&number) else {
            return;
        };
        self.dropped += segment.results().rows;
        let doomed = Doomed {
            state: segment.state,
            bytes: segment.bytes,
            fate,
            words,
        };
        self.doomed.insert(number, doomed);
    }

    pub(super) fn tell_losses(&mut self, now: Now) {
        let is_gap = |segment: &&Segment| segment.table == Table::Gaps;
        // Counted only while something is lost.
        if self.losses.is_empty()
            || !self
                .losses
                .is_due(now, self.segments.values().filter(is_gap).count())
        {
            return;
        }
        if let Err(error) = self.commit_gaps(now, Vec::new(), &[]) {
            self.fail(now, &error);
        }
    }

    /// Deletes and puts aside what gaps on disk tell of.
    pub(super) fn execute_doomed(&mut self, now: Now) {
        if self.doomed.is_empty() {
            return;
        }
        if self.is_folder_dirty && self.is_synced() {
            if let Err(error) = self.disk.sync_folder() {
                return self.fail(now, &error);
            }
            self.is_folder_dirty = false;
        }
        let numbers: Vec<u64> = self.doomed.keys().copied().collect();
        for number in numbers {
            if let Err(error) = self.execute(number) {
                self.fail(now, &error);
                continue;
            }
            if let Some(doomed) = self.doomed.remove(&number) {
                self.kept_bytes -= doomed.bytes;
                self.room_until = self.room_until.map(|room| room + doomed.bytes);
                if doomed.fate == Fate::Aside {
                    // `pinger spool retry` may take some at the same time; it is done with the
                    // next one again.
                    let _ = self.trim_aside(ASIDE_BYTES_MAX);
                }
            }
        }
    }

    fn execute(&mut self, number: u64) -> Result<(), DiskError> {
        let Some(doomed) = self.doomed.get(&number) else {
            return Ok(());
        };
        let name = files::name(number, doomed.state);
        if doomed.fate != Fate::Aside {
            return self.disk.remove(&name);
        }
        let reason = files::reason_name(number);
        let token = self.token(number, 1);
        let text = format!("token {token}\n{}\n", self.doomed[&number].words);
        self.disk.create(&reason)?;
        self.disk.append(&reason, text.as_bytes())?;
        self.disk.rename(&name, &files::name(number, State::Aside))
    }

    /// Deletes the oldest of what was refused until the rest is small enough.
    pub(super) fn trim_aside(&mut self, bytes_max: u64) -> Result<(), DiskError> {
        let all = self.disk.list()?;
        let aside = |file: &Entry| match files::parse(&file.name) {
            Some((number, State::Aside)) => Some((number, file.bytes)),
            _ => None,
        };
        let mut numbers: Vec<(u64, u64)> = all.iter().filter_map(aside).collect();
        numbers.sort_unstable();
        let mut bytes: u64 = numbers.iter().map(|(_, bytes)| bytes).sum();
        for (number, size) in numbers {
            if bytes <= bytes_max {
                break;
            }
            bytes -= size;
            self.disk.remove(&files::name(number, State::Aside))?;
            // A crash may have come between the two.
            let reason = files::reason_name(number);
            if all.iter().any(|file| file.name == reason) {
                self.disk.remove(&reason)?;
            }
        }
        Ok(())
    }

    /// Gives up what the server refuses for good.
    pub(super) fn put_unwanted_aside(&mut self, now: Now) {
        let unwanted: Vec<(u64, String)> = self
            .unwanted
            .iter()
            .map(|(number, words)| (*number, words.clone()))
            .collect();
        for (number, words) in unwanted {
            let Some(segment) = self.segments.get(&number) else {
                self.unwanted.remove(&number);
                continue;
            };
            let table = segment.table;
            let loss = Loss {
                // What is wrong with the rows now was wrong with them at an earlier, doubtful try.
                size: segment.is_size_known.then_some(segment.results()),
                from_ns: segment.from_ns,
                until_ns: segment.until_ns,
                reason: GapReason::Refused,
                detail: format!("{}: {words}", table.name()),
            };
            self.tell_news(now, &loss);
            if table == Table::Gaps {
                // A gap about a gap would be refused as well.
                self.unwanted.remove(&number);
                self.doom(number, Fate::Aside, words);
            } else if let Err(error) = self.commit_gaps(now, vec![(number, Fate::Aside)], &[loss]) {
                self.fail(now, &error);
            }
        }
        self.execute_doomed(now);
    }
}

impl Segment {
    /// Whether limits may take it: results that surely are not in the store.
    fn is_droppable(&self) -> bool {
        self.table == Table::Incoming && self.state == State::Whole && !self.is_damage_told
    }
}
