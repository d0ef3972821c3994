//! A network's results, invented: 1,000 destinations that two sources probe, made in the engine by
//! statements over `numbers()`, slice after slice, and inserted as pinger inserts.
//!
//! In: how many rows, and the moment at which they shall end. Out: a database of rows that are the
//! same for the same number of rows, times apart: round trips that follow the hour of the day,
//! with jitter, spikes and congestion; loss; outages that one source sees, or both; destinations
//! that never answer, and an hour in which one source gets no answer from any; paths that
//! change; late and duplicate answers; and two seconds that a crash took.

use anyhow::Result;
use pinger::config::SpoolOptions;

use crate::bench::Bench;
use crate::database::{Database, wall_ns};

/// Time between two probes of a source to a destination.
const INTERVAL_NS: u64 = 200_000_000;
const SOURCES: u64 = 2;
const DESTINATIONS: u64 = 1000;
/// Rows of a round, all sources and destinations.
const ROUND_ROWS: u64 = SOURCES * DESTINATIONS;
/// A slice is a minute: 600,000 rows are one block in the engine, and fit its memory.
const SLICE_ROUNDS: u64 = 60_000_000_000 / INTERVAL_NS;
/// So few rounds from now there is nothing to make: a slice takes longer than a round on a busy
/// machine, so the end would never be reached. They are 5 s.
const ENOUGH_ROUNDS: u64 = 25;
/// The rounds that the second source's crash took.
const CRASH_ROUNDS: u64 = 12;
/// Time between two passes of a trace.
const PASS_NS: u64 = 60_000_000_000;
const PASS_ROUNDS: u64 = PASS_NS / INTERVAL_NS;
/// Every so many destinations, one is traced.
const TRACED: u64 = 10;
/// As far as a trace goes.
const HOPS: u64 = 12;
/// How many slices between two words about the progress.
const TELL_SLICES: u64 = 10;

/// The columns in which rows are given.
const COLUMNS: &str = "run, source, destination, sequence, time_due, lag, rtt, outcome, answer, \
    address, rsite, rhost, rtype, rcode, rid, rseq, ttl, hops, hop_limit, traffic_class, \
    datamatch, mismatch_at, jitter, hop_limit_changed";

/// A database that is filled, and goes on being filled.
pub(crate) struct Generated {
    database: Database,
    /// When the first probe was due, and the name of the run.
    begin_ns: u64,
    /// Rounds of the first filling.
    rounds: u64,
    /// Rounds made so far.
    made: u64,
}

impl Generated {
    /// Makes about so many rows that end now.
    ///
    /// # Errors
    /// The engine does not start, or refuses; or we were asked to end.
    pub(crate) fn new(bench: &Bench, rows: u64) -> Result<Self> {
        let rounds = (rows / ROUND_ROWS).max(SLICE_ROUNDS);
        let minute_ns = SLICE_ROUNDS * INTERVAL_NS;
        // Whole minutes, so that a slice is one in the rollups too.
        let begin_ns = (wall_ns()? - rounds * INTERVAL_NS) / minute_ns * minute_ns;
        let mut generated = Self {
            database: Database::start(1, begin_ns, &[], &SpoolOptions::default())?,
            begin_ns,
            rounds,
            made: 0,
        };
        let millions = rounds * ROUND_ROWS / 1_000_000;
        eprintln!("bench: making {millions} million rows");
        generated.go_on(bench)?;
        generated.keys()?;
        eprintln!("bench: waiting until they are merged");
        generated.database.rest()?;
        Ok(generated)
    }

    /// Makes the rows of the time since the last ones, as if probing went on.
    ///
    /// # Errors
    /// The engine refuses, or we were asked to end.
    pub(crate) fn go_on(&mut self, bench: &Bench) -> Result<()> {
        // Making takes its time, so the end is looked at anew after each slice.
        loop {
            let until = (wall_ns()? - self.begin_ns) / INTERVAL_NS;
            let rounds = until.saturating_sub(self.made).min(SLICE_ROUNDS);
            if rounds < ENOUGH_ROUNDS {
                return Ok(());
            }
            bench.go_on()?;
            let slice = self.made..self.made + rounds;
            self.database.execute(&self.probes(&slice))?;
            self.database.execute(&self.traces(&slice))?;
            self.made = slice.end;
            if self.made < self.rounds && (self.made / SLICE_ROUNDS).is_multiple_of(TELL_SLICES) {
                let percent = 100 * self.made / self.rounds;
                eprintln!("bench: {percent} % are made");
            }
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Rows made so far, about.
    pub(crate) fn stored(&self) -> u64 {
        self.made * ROUND_ROWS
    }

    /// Rows of the first filling.
    pub(crate) fn rows(&self) -> u64 {
        self.rounds * ROUND_ROWS
    }

    /// What all rows share: expressions of `host` (0 to 999), `src` (1 or 2) and `due` (ns).
    fn properties(&self) -> String {
        let span_ns = self.rounds * INTERVAL_NS;
        let (begin, address) = (self.begin_ns, address("host"));
        format!(
            "{begin} + {span_ns} AS first_end,
            bitOr(bitShiftLeft(toUInt64(1), 63), bitShiftRight(intHash64(host), 1)) AS id,
            {address} AS target,
            -- Round trips from 2 to 200 ms; the second source stands elsewhere.
            2e6 * pow(100, (intHash64(host) % 1000) / 1000) AS near_ns,
            near_ns * if(src = 2, 0.6 + (intHash64(host + 5000) % 800) / 1000, 1) AS base_ns,
            1 + 0.15 * sin(2 * pi() * (due % 86400000000000 / 86400e9 - 0.25)) AS diurnal,
            -- Some share a link that is full from time to time.
            sin(2 * pi() * (due % 3600000000000) / 1800e9) AS wave,
            if(host % 50 = 3, 0.6 * greatest(0, wave), 0) AS full,
            due >= {begin} + intDiv({span_ns}, 2) AS in_second_half,
            -- More than an hour of a hundred million rows.
            {begin} + intDiv({span_ns}, 10) * 2 AS cut_from,
            {begin} + intDiv({span_ns}, 10) * 6 AS cut_until"
        )
    }

    /// The statement that makes the probes of these rounds.
    fn probes(&self, rounds: &std::ops::Range<u64>) -> String {
        let (begin, properties) = (self.begin_ns, self.properties());
        let span_ns = self.rounds * INTERVAL_NS;
        let (first, count) = (
            rounds.start * ROUND_ROWS,
            (rounds.end - rounds.start) * ROUND_ROWS,
        );
        let (crash_begin, crash_end) = (self.crash(), self.crash() + CRASH_ROUNDS);
        format!(
            "INSERT INTO incoming ({COLUMNS})
            WITH
            intDiv(number, {ROUND_ROWS}) AS round,
            intDiv(number % {ROUND_ROWS}, {SOURCES}) AS host,
            number % {SOURCES} + 1 AS src,
            {begin} + round * {INTERVAL_NS} + host * 200000 + src * 100000 AS due,
            {properties},
            toIPv6(toIPv4(toUInt32(3405803776 + host % 4 + 1))) AS router,
            -- Random numbers from 0 to 1, the same for the same probe.
            cityHash64(number) AS random,
            (bitAnd(random, 0xfffff) + 1) / 0x100000 AS random_1,
            bitAnd(bitShiftRight(random, 20), 0xfffff) / 0x100000 AS random_2,
            bitShiftRight(random, 40) / 0x1000000 AS random_3,
            -- Some have an outage of 1 to 300 s, which both sources see or one of them does;
            -- two are away since the end, three never answer, and the second source is cut off.
            {begin} + intHash64(host * 3) % {span_ns} AS down_from,
            down_from + toUInt64(1e9 * pow(10, intHash64(host * 5) % 250 / 100)) AS down_until,
            host % 41 = 7 AND due BETWEEN down_from AND down_until
                AND intHash64(host * 7) % 3 IN (0, src)
                OR host % 500 = 8 AND due >= first_end - 90000000000
                OR host % 400 = 60
                OR src = 2 AND due BETWEEN cut_from AND cut_until AS is_down,
            is_down AND intHash64(host * 11) % 4 = 0 AS is_error,
            multiIf(host % 100 = 50, 0.05, host % 20 = 1, 0.03, 0.001) AS loss,
            random_3 < loss AS is_lost,
            multiIf(is_error, 'error', is_down OR is_lost, 'lost', 'reply') AS ended,
            is_lost AND random % 10 = 1 OR random % 20000 = 17 AND ended = 'reply' AS comes_twice,
            arrayJoin(if(comes_twice, [0, 1], [0])) AS is_extra,
            if(is_extra, if(ended = 'reply', 'duplicate', 'late'), ended) AS outcome_word,
            outcome_word IN ('reply', 'late', 'duplicate') AS is_reply,
            base_ns * 0.02 AS jitter_ns,
            base_ns * (diurnal + full) - jitter_ns * log(random_1) * (1 + 5 * full)
                + if(random_2 < 0.001, base_ns * random_1, 0) + is_extra * 300000
                + if(outcome_word = 'late', 1e9, 0) AS rtt_ns,
            -- The way back is another one for some, in the middle of the time.
            host % 97 = 11 AND in_second_half
                AND due < {begin} + intDiv({span_ns}, 10) * 8 AS is_detour
            SELECT
            {begin} + src, src, id, round, fromUnixTimestamp64Nano(toInt64(due), 'UTC'),
            120 + toUInt64(160 * random_2) + if(random_3 > 0.99, toUInt64(20000 * random_1), 0),
            multiIf(is_reply, toUInt64(rtt_ns), is_error, toUInt64(base_ns / 2), NULL),
            outcome_word,
            multiIf(is_reply, 'echo', is_error, 'icmp_error', 'none'),
            multiIf(is_reply, target, is_error, router, toIPv6('::')),
            10 + src, src, if(is_error, 3, 0), if(is_error, 1, 0),
            (intHash64(host) + src) % 65536, round % 65536, 64, 0,
            multiIf(is_reply, 64 - (8 + host % 12) + is_detour, is_error, 60, 0), 0,
            if(is_reply, true, NULL), NULL,
            if(outcome_word = 'reply', toUInt64(jitter_ns * (0.8 + 0.4 * random_2)), 0),
            is_reply AND host % 97 = 11 AND round IN ({half}, {later})
            FROM numbers({first}, {count})
            WHERE NOT (src = 2 AND round >= {crash_begin} AND round < {crash_end})",
            half = self.rounds / 2,
            later = self.rounds / 10 * 8,
        )
    }

    /// The statement that makes the traces of these rounds: a pass a minute.
    fn traces(&self, rounds: &std::ops::Range<u64>) -> String {
        let (begin, properties) = (self.begin_ns, self.properties());
        let passes = rounds.start.div_ceil(PASS_ROUNDS)..rounds.end.div_ceil(PASS_ROUNDS);
        let pass_rows = SOURCES * (DESTINATIONS / TRACED) * HOPS;
        let (first, count) = (
            passes.start * pass_rows,
            (passes.end - passes.start) * pass_rows,
        );
        format!(
            "INSERT INTO incoming ({COLUMNS})
            WITH
            intDiv(number, {pass_rows}) AS pass,
            number % {HOPS} + 1 AS hop,
            intDiv(number % {pass_rows}, {HOPS}) AS flow,
            flow % {SOURCES} + 1 AS src,
            intDiv(flow, {SOURCES}) * {TRACED} AS host,
            {begin} + pass * {PASS_NS} + host * 1000000 + hop * 100000 AS due,
            {properties},
            5 + intDiv(host, {TRACED}) % 6 AS length,
            cityHash64(number, 'trace') AS random,
            hop >= length AS is_end,
            random % 100 < 2 AS is_lost,
            -- One in ten goes another way at its fourth hop since the middle of the time.
            host % 100 = 30 AND hop = 4 AND in_second_half AS is_detour,
            3405803776 + hop * 16 + intDiv(host, {TRACED}) % 4 + 8 * is_detour AS router,
            base_ns * least(hop, length) / length * (1 + (random % 1000) / 50000) AS rtt_ns
            SELECT
            {begin} + src, src, id, pass * {HOPS} + hop - 1,
            fromUnixTimestamp64Nano(toInt64(due), 'UTC'), 150,
            if(is_lost, NULL, toUInt64(rtt_ns)),
            multiIf(is_lost, 'lost', is_end, 'reply', 'error'),
            multiIf(is_lost, 'none', is_end, 'echo', 'icmp_error'),
            multiIf(is_lost, toIPv6('::'), is_end, target, toIPv6(toIPv4(toUInt32(router)))),
            10 + src, src, if(is_lost OR is_end, 0, 11), 0,
            (intHash64(host) + src) % 65536, (pass * {HOPS} + hop - 1) % 65536, hop, {HOPS},
            if(is_lost, 0, 64 - least(hop, length)), 0,
            if(is_end AND NOT is_lost, true, NULL), NULL,
            0, false
            FROM numbers({first}, {count})"
        )
    }

    /// The round in which the second source crashes.
    fn crash(&self) -> u64 {
        self.rounds / 10 * 7
    }

    /// Writes who probed what, in which runs, and what the crash took.
    fn keys(&self) -> Result<()> {
        let begin = self.begin_ns;
        let time = |ns: u64| format!("fromUnixTimestamp64Nano(toInt64({ns}), 'UTC')");
        let address = address("number");
        let id = "bitOr(bitShiftLeft(toUInt64(1), 63), bitShiftRight(intHash64(number), 1))";
        let destinations = |id: &str, interval: u64, hops: u64, which: &str| {
            format!(
                "INSERT INTO destinations (id, active, address, protocol, interval, timeout, ttl,
                    hops, data, size, name)
                SELECT {id}, true,
                    {address}, 'ICMP', {interval}, 1000000000,
                    if({hops} = 0, 64, 1), {hops}, '', 56,
                    concat(['web', 'dns', 'db', 'edge', 'office', 'mail', 'vpn'][number % 7 + 1],
                        '-', leftPad(toString(number), 3, '0'), '.example.net')
                FROM numbers({DESTINATIONS}) WHERE {which}"
            )
        };
        let crash_ns = begin + self.crash() * INTERVAL_NS;
        let until_ns = crash_ns + CRASH_ROUNDS * INTERVAL_NS;
        let missing = CRASH_ROUNDS * DESTINATIONS;
        let statements = [
            format!(
                "INSERT INTO sources (id, location, host, sourceid, address, name, version)
                SELECT number + 1, number + 11, number + 1, number + 1,
                    toIPv6(toIPv4(toUInt32(3221225984 + number + 1))),
                    ['amsterdam', 'boston'][number + 1], '{version}'
                FROM numbers({SOURCES})",
                version = env!("CARGO_PKG_VERSION"),
            ),
            destinations(id, INTERVAL_NS, 0, "1"),
            destinations(id, PASS_NS, HOPS, &format!("number % {TRACED} = 0")),
            "TRUNCATE TABLE runs".to_owned(),
            format!(
                "INSERT INTO runs (run, source, started, version, interface, mode, destinations)
                SELECT {begin} + number + 1, number + 1, {started}, '{version}', 'eth0',
                    'AF_XDP, copied; XDP program native', {DESTINATIONS}
                FROM numbers({SOURCES})",
                started = time(begin),
                version = env!("CARGO_PKG_VERSION"),
            ),
            format!(
                "INSERT INTO gaps (source, run, from, until, probes, rows, reason, detail)
                VALUES (2, {begin} + 2, {from}, {until}, {missing}, {missing}, 'crash',
                    'invented: pinger was killed, and what it had in memory was lost')",
                from = time(crash_ns),
                until = time(until_ns),
            ),
        ];
        statements
            .iter()
            .try_for_each(|statement| self.database.execute(statement))
    }
}

/// A destination's address by its number, as an expression: of 198.18.0.0/16, 250 a subnet.
fn address(number: &str) -> String {
    format!(
        "toIPv6(toIPv4(toUInt32(3323068416 + 256 * intDiv({number}, 250) + {number} % 250 + 1)))"
    )
}
