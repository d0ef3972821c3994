//! The real spool on a simulated disk, before a simulated ClickHouse, on a virtual clock.
//!
//! A history is some lives of pinger after each other. In each it makes rows while disk and server
//! fail by the seed, and at its end it ends well, is killed in the middle of any call, or the host
//! loses power. While a call of the spool waits for the disk, probing and filling go on, as they do
//! in a thread of their own. At last everything is healthy, and what was left is taken over and
//! drained. Then each row must be in the server once, or told by a gap.

use pinger::spool::{GapReason, Tally};

use world::World;

mod check;
mod disk;
mod life;
mod native;
mod prober;
mod server;
mod world;

/// The source of all runs.
const SOURCE: u32 = 7;

/// When the first history begins, wall clock nanoseconds.
const START_NS: i64 = 1_760_000_000_000_000_000;

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
    /// Calls of the spool that the disk took long for.
    pub slow_calls: u64,
    /// Rows written down meanwhile.
    pub rows_meanwhile: u64,
    /// Bits flipped on disk.
    pub flips: u64,
    /// Those in files that do not wait to be sent.
    pub flips_elsewhere: u64,
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
    /// Inserts that were not made because their rows were there.
    pub asked: u64,
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
    let host = world.host.borrow();
    Ok(Seen {
        rows: host.seen.rows,
        slow_calls: host.seen.slow_calls,
        rows_meanwhile: host.seen.rows_meanwhile,
        written: server.written,
        repeated: server.repeated,
        landed_and_broke: server.landed_and_broke,
        burnt: server.burnt,
        missing: server.missing,
        refused: server.refused,
        asked: server.asked,
        ..world.seen
    })
}
