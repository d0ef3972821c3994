//! The RSTs that left against the connections that were half open.

use std::collections::HashMap;

use pinger_ebpf::layout::AnswerKind;

use super::super::kernel::Verdict;
use super::{Arrived, Probe, Target, Truth};

/// Where SYNs follow each other sooner, the sender does not wait to be told of a SYN-ACK.
const TELLING_NS: u64 = 25_000_000;

impl Truth {
    /// What a listener has half open must be closed, and nothing else: by a RST once a SYN-ACK is
    /// told of, or before the next SYN.
    pub(super) fn check_resets(&self, target: &Target) -> Result<(), String> {
        let is_open = |arrived: &&Arrived| arrived.genuine.kind == AnswerKind::SynAck;
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for &(sequence, at_ns) in &target.resets {
            let newest = target.probes.partition_point(|probe| probe.tx_ns < at_ns);
            let newest = target.probes[..newest].last();
            let ahead = newest.is_none_or(|probe| probe.sequence <= sequence);
            let probe = target.index_of(sequence).map(|index| &target.probes[index]);
            let arrivals = probe.map_or(&[][..], |probe| &probe.arrivals);
            let told = |arrived: &Arrived| {
                let untold = arrived.verdict == Verdict::Untold;
                arrived.rx_ns <= at_ns && (is_open(&arrived) || untold)
            };
            if !ahead && !arrivals.iter().any(told) {
                return Err(format!(
                    "a RST at {at_ns} for {probe:?}, which opened nothing"
                ));
            }
            let count = counts.entry(sequence).or_default();
            *count += 1;
            if *count > 1 + arrivals.iter().filter(is_open).count() {
                return Err(format!("{count} RSTs for {probe:?}"));
            }
        }
        if self.no_frame > 0 || self.hops[target.hop as usize].len() > 1 {
            return Ok(()); // some could not be sent
        }
        self.check_resets_ahead(target)?;
        let last = target.resets.iter().map(|(sequence, _)| *sequence).max();
        let open = target.probes.iter().rev().find(|probe| {
            let told = |a: &Arrived| a.verdict == Verdict::Told;
            probe.arrivals.iter().filter(is_open).any(told)
        });
        match open {
            Some(open) if last.is_none_or(|last| last < open.sequence) => {
                Err(format!("no RST closed what {open:?} has half opened"))
            }
            _ => Ok(()),
        }
    }

    /// No SYN may follow one that a listener has half open, or may have soon: where the next one
    /// follows too soon to be told of a SYN-ACK, or the last one is in flight, a RST must have
    /// left ahead of it.
    fn check_resets_ahead(&self, target: &Target) -> Result<(), String> {
        if !target.is_tcp() {
            return Ok(());
        }
        let first_ns = |probe: &Probe| probe.arrivals.first().map_or(u64::MAX, |a| a.rx_ns);
        let mut resets: HashMap<u64, u64> = HashMap::new();
        for &(sequence, at_ns) in target.resets.iter().rev() {
            resets.insert(sequence, at_ns); // the first one stays
        }
        for pair in target.probes.windows(2) {
            let [last, next] = pair else { continue };
            let due_ns = |probe: &Probe| self.due_ns(target, probe.sequence, probe.tx_ns);
            let is_open = last.arrivals.first().map(|a| a.genuine.kind) == Some(AnswerKind::SynAck);
            let told_late = is_open && due_ns(next) - due_ns(last) < TELLING_NS;
            let end_ns = first_ns(last).min(last.tx_ns + target.destination.timeout_ns);
            let in_flight = last.refused_ns.is_none() && end_ns > next.tx_ns;
            let reset_ns = resets.get(&last.sequence);
            if (told_late || in_flight) && reset_ns.is_none_or(|at_ns| *at_ns > next.tx_ns) {
                return Err(format!("no RST for {last:?} ahead of {next:?}"));
            }
        }
        Ok(())
    }
}
