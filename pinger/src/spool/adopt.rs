//! How a run takes over what another one left: which files are what, what of the last write is
//! whole, and what is missing.
//!
//! Each step may be the last one before the next crash, and then all of them are taken again.

use super::disk::{Disk, DiskError, Entry};
use super::files::{self, State};
use super::fill::{Numbers, Open};
use super::gap::{Gap, GapReason};
use super::segment::{
    Accounts, Contents, FRAME_SIZE, Fate, HEADER_SIZE, Header, Table, Totals, tail,
};
use super::{Identity, Now, Options, Segment, Spool, SpoolError, Tally};

/// What was found besides segments.
#[derive(Default)]
struct Found {
    fates: Vec<(u64, Fate)>,
    /// A segment of gaps tells what is missing of the whole run.
    closes: bool,
    /// When the last result came that is known of.
    until_ns: Option<i64>,
    /// The number of the segment that was filled last.
    newest: Option<u64>,
}

impl<D: Disk> Spool<D> {
    /// Takes over what a run left behind that ended, or was killed; its folder must be locked, so
    /// that nobody else does. Does nothing twice, however often it is cut short and done again.
    /// `tally` is what the run counted, if that is still known; it may be deleted when
    /// [`Spool::is_closed`].
    ///
    /// # Errors
    /// When the disk fails, or when the rows are for another store.
    pub fn adopt(
        disk: D,
        identity: Identity,
        options: Options,
        tally: Option<Tally>,
        now: Now,
    ) -> Result<Self, SpoolError> {
        let mut spool = Self::empty(disk, identity, options);
        let entries = spool.disk.list()?;
        let is_there = |name| entries.iter().any(|entry| entry.name == name);
        let mut segments: Vec<(u64, State, u64)> = entries.iter().filter_map(segment).collect();
        segments.sort_unstable_by_key(|(number, ..)| *number);
        if let Some((number, ..)) = segments.last() {
            spool.numbers = Numbers::from(number + 1);
        }
        segments.retain(|(_, state, _)| !matches!(state, State::New | State::Aside));
        if !spool.check_store(is_there(files::STORE), segments.is_empty())? {
            // Nothing is written, and no probe sent, before that file is whole. Or the folder was
            // cleared but for what is left.
            (spool.is_told, spool.is_closed) = (true, true);
            return Ok(spool);
        }
        let mut found = Found::default();
        let (open, whole): (Vec<_>, Vec<_>) = segments
            .into_iter()
            .partition(|(_, state, _)| *state == State::Open);
        found.newest = open.last().map(|(number, ..)| *number);
        for (number, state, bytes) in whole {
            spool.adopt_whole(number, state, bytes, &mut found)?;
        }
        for (number, _, bytes) in open {
            spool.adopt_open(number, bytes, &mut found)?;
        }
        for (number, fate) in std::mem::take(&mut found.fates) {
            spool.seal_fate(number, fate, "named by a gap");
        }
        spool.is_closed = is_there(files::ENDED);
        spool.is_told = spool.is_closed || found.closes;
        if !spool.is_told {
            spool.crash = Some(spool.crash_gap(found.until_ns, tally));
        }
        spool.finish_closing(now);
        spool.execute_doomed(now);
        spool.close_adopted(now);
        spool.sweep(now);
        Ok(spool)
    }

    pub(super) fn write_store(&mut self) -> Result<(), DiskError> {
        let text = files::store_text(&self.identity);
        self.disk.create(files::STORE)?;
        self.disk.append(files::STORE, text.as_bytes())?;
        if self.is_synced() {
            self.disk.sync(files::STORE)?;
        }
        Ok(())
    }

    pub(super) fn write_ended(&mut self) -> Result<(), DiskError> {
        if !self.is_closed {
            if self.is_synced() {
                // Gaps have their names before this file has its own.
                self.disk.sync_folder()?;
            }
            self.disk.create(files::ENDED)?;
            if self.is_synced() {
                self.disk.sync(files::ENDED)?;
            }
            self.is_closed = true;
        }
        Ok(())
    }

    /// Whether the run ever began.
    fn check_store(&mut self, is_there: bool, is_empty: bool) -> Result<bool, SpoolError> {
        let expected = files::store_text(&self.identity);
        let text = match is_there {
            true => self.disk.read(files::STORE, 0, 4096)?,
            false => Vec::new(),
        };
        if text == expected.as_bytes() {
            if self.is_synced() {
                // The run may have died between writing and syncing it.
                self.disk.sync(files::STORE)?;
            }
            return Ok(true);
        }
        let text = String::from_utf8_lossy(&text);
        if is_empty && !files::is_store_text(&text) {
            return Ok(false);
        }
        Err(SpoolError::Foreign(files::store_of(&text)))
    }

    /// A segment that was being filled: what is whole of it from its beginning on is sealed.
    fn adopt_open(&mut self, number: u64, bytes: u64, found: &mut Found) -> Result<(), SpoolError> {
        let name = files::name(number, State::Open);
        let content = self.disk.read(&name, 0, bytes)?;
        let contents = Contents::of(&content);
        let was_whole = contents.end.is_some() && !contents.is_whole(bytes);
        // Damage ends it, even if something readable follows.
        let contents = Contents::of(&content[..contents.valid]);
        let open = contents.range_ns.map(|(from_ns, until_ns)| Open {
            number,
            bytes: contents.valid as u64,
            size: contents.size,
            filled: contents.accounts.filled,
            from_ns,
            until_ns,
            since_ns: 0,
            is_dirty: bytes > contents.valid as u64,
            has_end: contents.end.is_some(),
        });
        // Before another is filled, nothing but a part of its end may be behind its rows. What the
        // others count would hide what is missing of it.
        let rest = &content[contents.valid..];
        let is_sealed = match &open {
            Some(open) => open.end_frame().emit(&[]).starts_with(rest),
            None => bytes <= HEADER_SIZE as u64,
        };
        if was_whole || found.newest > Some(number) && !is_sealed {
            // It was damaged later.
            self.disk
                .rename(&name, &files::name(number, State::Whole))?;
            return self.adopt_whole(number, State::Whole, bytes, found);
        }
        self.accounts = self.accounts.max(contents.accounts);
        // Without rows it was never sent and never will be.
        if let Some(open) = open {
            found.until_ns = found.until_ns.max(Some(open.until_ns));
            self.accepted += open.size.rows;
            self.closing.push(open);
        }
        Ok(())
    }

    /// A segment that was whole: its beginning and its end tell what there is to know.
    fn adopt_whole(
        &mut self,
        number: u64,
        state: State,
        bytes: u64,
        found: &mut Found,
    ) -> Result<(), SpoolError> {
        let name = files::name(number, state);
        let head = self.disk.read(&name, 0, HEADER_SIZE as u64)?;
        let last = bytes.saturating_sub(FRAME_SIZE as u64);
        let last = self.disk.read(&name, last, FRAME_SIZE as u64)?;
        let (mut header, end) = (Header::parse(&head), tail(&last));
        let mut segment = Segment::new(Table::Incoming, state, bytes, Totals::default());
        let mut accounts = Accounts::default();
        if let (Some(header), Some(end)) = (&header, &end) {
            segment.table = header.table;
            segment.size = end.size;
            (segment.from_ns, segment.until_ns) = (end.from_ns, end.until_ns);
            accounts = header.accounts;
            accounts.filled = accounts.filled.max(end.filled);
        }
        let is_damaged = header.is_none() || end.is_none();
        if is_damaged || segment.table == Table::Gaps {
            let content = self.disk.read(&name, 0, bytes)?;
            let contents = Contents::of(&content);
            accounts = accounts.max(contents.accounts);
            segment.fates.clone_from(&contents.fates);
            found.fates.extend(contents.fates);
            if is_damaged {
                header = contents.header;
                segment.is_size_known = false;
                segment.size = contents.size;
                segment.table = header
                    .as_ref()
                    .map_or(Table::Incoming, |header| header.table);
                let unknown = i64::try_from(self.identity.run).unwrap_or(i64::MAX);
                let range_ns = contents.range_ns.unwrap_or((unknown, unknown));
                (segment.from_ns, segment.until_ns) = range_ns;
            }
        }
        self.accounts = self.accounts.max(accounts);
        segment.closes = header.is_some_and(|header| header.closes);
        found.closes |= segment.closes;
        if segment.table == Table::Incoming {
            found.until_ns = found.until_ns.max(Some(segment.until_ns));
            found.newest = found.newest.max(Some(number));
        }
        if state == State::Done {
            self.kept_bytes += bytes;
            self.written_files.insert(number, (state, bytes));
            self.note_accounts(number, accounts);
            return Ok(());
        }
        self.accepted += segment.results().rows;
        if state == State::Tried {
            // Sent at some time after its last result.
            segment.doubt(segment.until_ns, false);
            self.tried.insert(number);
        }
        self.keep(number, segment, accounts);
        Ok(())
    }

    /// What is missing of a run that did not end as it should: what it counted beyond what is
    /// accounted for.
    fn crash_gap(&self, until_ns: Option<i64>, tally: Option<Tally>) -> Gap {
        let Identity { source, run, .. } = self.identity;
        let from_ns = until_ns.unwrap_or(i64::try_from(run).unwrap_or(i64::MAX));
        let accounted = self.accounts.sum();
        let detail = match tally {
            Some(Tally { is_least: true, .. }) => {
                "the prober ended without warning before it had written these down, and perhaps \
                 others that came in its last moments"
            }
            Some(_) => "the prober was killed before it had written these down",
            None => "the prober ended without warning, and nothing tells what it had not written",
        };
        Gap {
            source,
            run,
            from_ns,
            until_ns: tally
                .filter(|tally| !tally.is_least)
                .map(|tally| tally.last_ns.max(from_ns)),
            probes: tally.map(|tally| tally.sent.saturating_sub(accounted.probes)),
            rows: tally.map(|tally| tally.rows.saturating_sub(accounted.rows)),
            reason: GapReason::Crash,
            detail: detail.to_owned(),
        }
    }

    /// Has it on disk that the run has ended and what is missing of it: when all that was found of
    /// it is safe.
    pub(super) fn close_adopted(&mut self, now: Now) {
        if !self.closing.is_empty() {
            return;
        }
        let mut closed = Ok(());
        if self.crash.is_some() {
            closed = self.commit_gaps(now, Vec::new(), &[]);
        }
        if closed.is_ok() && self.is_told {
            closed = self.write_ended();
        }
        if let Err(error) = closed {
            self.fail(now, &error);
        }
    }
}

fn segment(entry: &Entry) -> Option<(u64, State, u64)> {
    files::parse(&entry.name).map(|(number, state)| (number, state, entry.bytes))
}
