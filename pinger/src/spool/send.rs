//! How segments get to the store: which one is next, and what becomes of it by how its insert
//! ended.

use super::disk::Disk;
use super::doubt::{DOUBT_FRESH_NS, question};
use super::files::{self, State};
use super::gap::{GapReason, Loss};
use super::segment::{Contents, Fate, Table, Totals};
use super::{End, Job, Notice, Now, Segment, Spool};

/// The wait before the second try of a segment; it doubles with each further one.
pub const BACKOFF_MIN_NS: u64 = 100_000_000;

/// The longest wait: a server that is back is used within this.
pub const BACKOFF_MAX_NS: u64 = 5_000_000_000;

/// Segments that are out, or were and must go again, at most: of results, and of other tables.
/// Others wait untouched, so that limits may still take them.
pub const TRIED_MAX: usize = 2;

/// A segment that was tried so often makes room for others to be tried: the trouble may be its
/// own. That is after more than a minute.
const TRIES_SLOW: u32 = 20;

/// The most that make room.
const SLOW_MAX: usize = 8;

/// Segments that are put aside in a row, without one accepted between them, until the server is
/// asked again and again as for any other trouble: then it is not the rows that are wrong.
const REFUSED_MAX: u32 = 8;

/// Tokens that a segment has at most. Each but the last takes a crash of the server at its worst
/// moment; rows that are still not to be seen were deleted there, by retention for example.
pub(super) const GENERATIONS_MAX: u32 = 8;

/// How often the server must say that rows are wrong before it is believed.
const REFUSALS: u32 = 2;

impl<D: Disk> Spool<D> {
    /// The next insert to be made, if there is one to be made now. May be called while other jobs
    /// are out.
    pub fn next(&mut self, now: Now) -> Option<Job> {
        let is_ready = |segment: &Segment| !segment.is_out && now.mono_ns >= segment.next_ns;
        let again = self
            .tried
            .iter()
            .copied()
            .filter(|number| self.segments.get(number).is_some_and(is_ready));
        let mut numbers: Vec<u64> = again.collect();
        for is_results in [true, false] {
            if self.may_try_more(is_results) {
                let fresh = self.segments.iter().find(|(_, segment)| {
                    segment.state == State::Whole
                        && (segment.table == Table::Incoming) == is_results
                        && is_ready(segment)
                        && self.is_sendable(segment)
                });
                numbers.extend(fresh.map(|(number, _)| *number));
            }
        }
        numbers.sort_unstable();
        numbers.into_iter().find_map(|number| self.job(now, number))
    }

    /// Whether another segment of results, or of other tables, may be tried.
    fn may_try_more(&self, is_results: bool) -> bool {
        let tried = self
            .tried
            .iter()
            .filter_map(|number| self.segments.get(number));
        let tries = tried
            .filter(|segment| (segment.table == Table::Incoming) == is_results)
            .map(|segment| segment.attempts);
        let (slow, fresh): (Vec<u32>, Vec<u32>) = tries.partition(|tries| *tries >= TRIES_SLOW);
        fresh.len() + slow.len().saturating_sub(SLOW_MAX) < TRIED_MAX
    }

    /// Whether nothing must happen first: what a gap tells of must have happened, or a crash could
    /// bring both to the store.
    fn is_sendable(&self, segment: &Segment) -> bool {
        let has_happened = |(number, fate): &(u64, Fate)| match fate {
            Fate::Dropped | Fate::Aside => !self.doomed.contains_key(number),
            Fate::Damaged => {
                !self.segments.contains_key(number) && !self.written_files.contains_key(number)
            }
        };
        segment.fates.iter().all(has_happened) && (!segment.closes || self.is_closed)
    }

    pub(super) fn token(&self, number: u64, generation: u32) -> String {
        self.identity.token(number, generation)
    }

    fn job(&mut self, now: Now, number: u64) -> Option<Job> {
        let (state, bytes) = self.segments.get(&number).map(|is| (is.state, is.bytes))?;
        let read = self.disk.read(&files::name(number, state), 0, bytes);
        let mut content = match read {
            Ok(content) => content,
            Err(error) => {
                self.fail(now, &error);
                self.back_off(now, number);
                return None;
            }
        };
        let mut contents = Contents::of(&content);
        self.tell_damage(now, number, &contents, &content)?;
        self.mark_tried(now, number)?;
        let mut length = 0;
        for block in std::mem::take(&mut contents.blocks) {
            let next = length + block.len();
            content.copy_within(block, length);
            length = next;
        }
        content.truncate(length);
        let segment = self.segments.get_mut(&number)?;
        segment.is_out = true;
        let generation = segment.generation;
        segment.attempts += 1;
        let (table, rows, until_ns) = (segment.table, segment.size.rows, segment.until_ns);
        let doubt_ns = segment.doubt_ns;
        let is_old = |doubt_ns: i64| now.wall_ns.saturating_sub(doubt_ns) > DOUBT_FRESH_NS;
        let question = doubt_ns.and_then(|_| question(&self.identity, table, &contents.markers));
        Some(Job {
            number,
            table,
            token: self.token(number, generation),
            is_once_more: generation > 1,
            rows,
            until_ns,
            since_ns: now.wall_ns,
            body: content,
            ask_first: question.is_some() && doubt_ns.is_some_and(is_old),
            question,
        })
    }

    /// Notes in the segment's name that it is about to be sent.
    fn mark_tried(&mut self, now: Now, number: u64) -> Option<()> {
        let is_synced = self.is_synced();
        let segment = self.segments.get_mut(&number)?;
        let mut marked = Ok(());
        if segment.state == State::Whole {
            let whole = files::name(number, State::Whole);
            marked = self.disk.rename(&whole, &files::name(number, State::Tried));
            if marked.is_ok() {
                segment.state = State::Tried;
                self.tried.insert(number);
            }
        }
        if marked.is_ok() && is_synced && !segment.is_name_safe {
            marked = self.disk.sync_folder();
            segment.is_name_safe = marked.is_ok();
        }
        if let Err(error) = marked {
            self.fail(now, &error);
            self.back_off(now, number);
            return None;
        }
        Some(())
    }

    /// Compares a segment with what it was; writes a gap of what is damaged. Returns nothing if
    /// it cannot be sent.
    fn tell_damage(
        &mut self,
        now: Now,
        number: u64,
        contents: &Contents,
        content: &[u8],
    ) -> Option<()> {
        let segment = self.segments.get(&number)?;
        let is_whole = contents.is_whole(segment.bytes)
            && content.len() as u64 == segment.bytes
            && (!segment.is_size_known || contents.size == segment.size);
        if is_whole || segment.is_damage_told {
            return Some(());
        }
        let known = segment.is_size_known.then_some(segment.size);
        // Without a header nothing says of which table the rows were.
        let end = contents.end.filter(|_| contents.header.is_some());
        let before = known.or(end.map(|end| end.size));
        let lost = before.map(|before| before.minus(contents.size));
        // What was sent before it was damaged may be in the store, all of it.
        let lost = lost.filter(|_| segment.doubt_ns.is_none());
        let table = segment.table;
        let size = match table {
            Table::Incoming => lost,
            // What the gaps told of is not known any more.
            Table::Gaps => None,
            _ => Some(Totals::default()),
        };
        let fate = match contents.blocks.is_empty() {
            true => Fate::Aside,
            false => Fate::Damaged,
        };
        let loss = Loss {
            size,
            from_ns: segment.from_ns,
            until_ns: segment.until_ns,
            reason: GapReason::Corrupt,
            detail: format!("{}: segment {number} is damaged on disk", table.name()),
        };
        let detail = loss.detail.clone();
        if let Err(error) = self.commit_gaps(now, vec![(number, fate)], &[loss]) {
            self.fail(now, &error);
            self.back_off(now, number);
            return None;
        }
        self.notices.push(Notice::Lost(GapReason::Corrupt, detail));
        let segment = self.segments.get_mut(&number)?;
        if table == Table::Incoming {
            self.dropped += segment.size.minus(contents.size).rows;
            // Where its size was not known, what is there now counts as what came.
            self.accepted += contents.size.minus(segment.size).rows;
        }
        segment.size = contents.size;
        segment.is_size_known = true;
        Some(())
    }

    fn back_off(&mut self, now: Now, number: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.backoff_ns = (segment.backoff_ns * 2).clamp(BACKOFF_MIN_NS, BACKOFF_MAX_NS);
            segment.next_ns = now.mono_ns + segment.backoff_ns;
        }
    }

    /// Takes back a job, and how it ended. Returns whether its rows wait though the server calls
    /// them wrong: it has refused so much in a row that it is not the rows that are.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a job ends once, so it is given away"
    )]
    pub fn done(&mut self, now: Now, job: Job, end: End) -> bool {
        let number = job.number;
        let Some(segment) = self.segments.get_mut(&number) else {
            return false;
        };
        segment.is_out = false;
        match end {
            End::Written => self.written(now, number),
            End::Missing if segment.generation >= GENERATIONS_MAX => self.written(now, number),
            End::Missing => {
                segment.generation += 1;
                segment.doubt_ns = Some(job.since_ns);
                segment.is_answered = false;
                self.back_off(now, number);
            }
            End::Untried => {}
            End::Retry(_) => self.back_off(now, number),
            End::Doubtful(_) => {
                segment.doubt(job.since_ns, false);
                self.back_off(now, number);
            }
            End::Failed(_) => {
                segment.doubt(job.since_ns, true);
                self.back_off(now, number);
            }
            End::Refused(words) => {
                segment.refusals += 1;
                let is_all_refused = self.refused_in_a_row >= REFUSED_MAX;
                if segment.refusals < REFUSALS || is_all_refused {
                    self.back_off(now, number);
                    return is_all_refused;
                }
                self.refused_in_a_row += 1;
                self.tried.remove(&number);
                // What it says is not one line always; the gap's detail is.
                let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
                self.unwanted.insert(number, words);
                self.put_unwanted_aside(now);
            }
        }
        false
    }

    fn written(&mut self, now: Now, number: u64) {
        self.tried.remove(&number);
        if let Some(segment) = self.segments.remove(&number) {
            if segment.table == Table::Incoming {
                self.refused_in_a_row = 0;
            }
            self.written += segment.results().rows;
            self.written_files
                .insert(number, (segment.state, segment.bytes));
        }
        self.sweep(now);
    }

    /// Deletes what the store has. The newest segment stays, and those with the highest accounts,
    /// without being sent again: what a run that takes over goes on from.
    pub(super) fn sweep(&mut self, now: Now) {
        let kept = self.segments.last_key_value().map(|(number, _)| *number);
        let written = self
            .written_files
            .last_key_value()
            .map(|(number, _)| *number);
        let newest = kept.max(written);
        let files: Vec<(u64, State)> = self
            .written_files
            .iter()
            .map(|(number, (state, _))| (*number, *state))
            .collect();
        for (number, state) in files {
            let is_newest =
                Some(number) == newest || [self.most_filled.1, self.most_told.1].contains(&number);
            if is_newest && state == State::Done {
                continue;
            }
            let name = files::name(number, state);
            let swept = if is_newest {
                self.disk.rename(&name, &files::name(number, State::Done))
            } else {
                self.disk.remove(&name)
            };
            if let Err(error) = swept {
                self.fail(now, &error);
            } else if is_newest {
                self.written_files
                    .entry(number)
                    .and_modify(|(is, _)| *is = State::Done);
            } else if let Some((_, bytes)) = self.written_files.remove(&number) {
                self.kept_bytes -= bytes;
                self.room_until = self.room_until.map(|room| room + bytes);
            }
        }
    }
}

impl Segment {
    /// An insert of it may have reached the server since `since_ns`; whether it got an answer.
    ///
    /// A server that fails all the time takes little from others that would make it forget the
    /// token, and to send the rows again is what completes them: while it answers, that is not
    /// asked.
    pub(super) fn doubt(&mut self, since_ns: i64, is_answered: bool) {
        if self.table.is_replacing() {
            // Twice is harmless there, so nobody needs to ask.
            self.generation += 1;
            return;
        }
        let is_first = self.doubt_ns.is_none();
        if is_first || (is_answered && self.is_answered) {
            self.doubt_ns = Some(since_ns);
        }
        self.is_answered = is_answered && (is_first || self.is_answered);
    }
}
