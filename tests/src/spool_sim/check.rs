//! What must hold of a history: at every step, and at its end.

use pinger::spool::{GapReason, Spool};

use super::Truth;
use super::disk::SimDisk;
use super::world::World;

/// No row is counted twice or not at all.
///
/// # Errors
/// What is wrong.
pub(super) fn counts(spools: &[Spool<SimDisk>]) -> Result<(), String> {
    for spool in spools {
        let (counts, audit) = (spool.counts(), spool.audit());
        if counts.spooled != audit {
            return Err(format!("{counts:?}, but {audit} rows wait"));
        }
    }
    Ok(())
}

/// Each row of each run is in the server once, or told by a gap.
///
/// # Errors
/// What is wrong.
pub(super) fn runs(world: &mut World) -> Result<(), String> {
    for (run, truth) in &world.runs {
        self::run(world, *run, &truth.borrow()).map_err(|words| format!("run {run}: {words}"))?;
    }
    for gap in &world.server.gaps {
        world.seen.gaps[gap.reason as usize] += 1;
    }
    Ok(())
}

fn run(world: &World, run: u64, truth: &Truth) -> Result<(), String> {
    // Of a damaged segment, only what is whole is sent.
    if let (Some(token), false) = (world.server.two_contents.get(&run), truth.is_damaged) {
        return Err(format!("token {token} names two contents"));
    }
    let empty = Default::default();
    let stored = world.server.results.get(&run).unwrap_or(&empty);
    if let Some((row, times)) = stored.iter().find(|(_, times)| **times != 1) {
        return Err(format!("row {row} is there {times} times"));
    }
    let made = truth.rows.len() as u64;
    if let Some((row, _)) = stored.last_key_value().filter(|(row, _)| **row >= made) {
        return Err(format!("row {row} was never made"));
    }
    let rows = stored.len() as u64;
    let ends = |row: &&u64| truth.rows[**row as usize];
    let probes = stored.keys().filter(ends).count() as u64;
    let gaps: Vec<_> = world
        .server
        .gaps
        .iter()
        .filter(|gap| gap.run == run)
        .collect();
    let told_rows: u64 = gaps.iter().filter_map(|gap| gap.rows).sum();
    let told_probes: u64 = gaps.iter().filter_map(|gap| gap.probes).sum();
    let words = || {
        format!(
            "made {made} rows and sent {} probes; the store has {rows} and {probes}, gaps tell of \
             {told_rows} and {told_probes}: {gaps:?}, {:?}",
            truth.sent,
            (truth.is_vague, truth.is_damaged, truth.has_ended)
        )
    };
    let is_unknown = gaps
        .iter()
        .any(|gap| gap.rows.is_none() || gap.probes.is_none());
    let crashes = gaps
        .iter()
        .filter(|gap| gap.reason == GapReason::Crash as i8)
        .count();
    if truth.is_vague || truth.is_damaged {
        // Not all can be known, but then a gap says so.
        let is_covered = rows + told_rows >= made && probes + told_probes >= truth.sent;
        if !is_covered && !is_unknown {
            return Err(format!("something is missing silently: {}", words()));
        }
    } else if is_unknown || rows + told_rows != made || probes + told_probes != truth.sent {
        return Err(format!("not all is told: {}", words()));
    }
    if truth.is_damaged {
        return Ok(());
    }
    if truth.has_ended && (crashes > 0 || !world.server.runs.contains_key(&run)) {
        return Err(format!("it ended well: {}", words()));
    }
    if crashes > 1 {
        return Err(format!("it crashed once: {}", words()));
    }
    Ok(())
}
