//! Each probe's results against what happened to it.

use std::collections::HashMap;

use pinger::result::{Outcome, ProbeResult};

use super::super::kernel::Verdict;
use super::expected::{Told, answer, expected, sort_key};
use super::{Target, Truth};

impl Truth {
    /// Compares all results with what happened.
    pub fn check(&mut self, results: &[ProbeResult]) -> Result<(), String> {
        self.attribute()?;
        let mut by_probe: HashMap<(u32, u64), Vec<&ProbeResult>> = HashMap::new();
        for result in results {
            by_probe
                .entry((result.flow.0, result.sequence))
                .or_default()
                .push(result);
        }
        for (flow, target) in self.targets.iter().enumerate() {
            for (index, probe) in target.probes.iter().enumerate() {
                let found = by_probe
                    .remove(&(flow as u32, probe.sequence))
                    .unwrap_or_default();
                self.check_probe(target, index, &found).map_err(|error| {
                    format!("flow {flow}, {probe:?}:\n{error}\nresults: {found:#?}")
                })?;
            }
            self.check_resets(target)
                .map_err(|error| format!("flow {flow}: {error}"))?;
        }
        self.check_strays(&mut by_probe)?;
        self.check_never_sent(by_probe.into_values().flatten())
    }

    /// Takes the results of answers that had to be taken for those of probes that never left.
    fn check_strays(
        &self,
        by_probe: &mut HashMap<(u32, u64), Vec<&ProbeResult>>,
    ) -> Result<(), String> {
        for (probe, arrived) in &self.strays {
            if arrived.verdict != Verdict::Told {
                continue;
            }
            let wanted = (Outcome::Late, Some(answer(arrived, None)));
            let found = by_probe.get_mut(probe).and_then(|results| {
                let is_wanted = |r: &&ProbeResult| (r.outcome, r.answer) == wanted;
                let index = results.iter().position(is_wanted)?;
                Some(results.swap_remove(index))
            });
            if found.is_none() {
                return Err(format!("nothing told of {arrived:?}, taken for {probe:?}"));
            }
        }
        Ok(())
    }

    /// Probes that the link never saw: it had no memory, or there was no way to the destination.
    fn check_never_sent<'a>(
        &self,
        results: impl Iterator<Item = &'a ProbeResult>,
    ) -> Result<(), String> {
        let mut refused = 0;
        for result in results {
            let target = &self.targets[result.flow.0 as usize];
            let is_up = self.is_up(target.hop, result.tx_ns);
            let right = match result.outcome {
                Outcome::SendFailed => {
                    refused += 1;
                    is_up && result.answer.is_none()
                }
                Outcome::Error => {
                    !is_up && result.answer.is_some_and(|answer| answer.rtt_ns.is_none())
                }
                _ => false,
            };
            if !right || result.due_ns != self.due_ns(target, result.sequence, result.tx_ns) {
                return Err(format!("a result of a probe that never left: {result:?}"));
            }
        }
        // The link may have had no memory for a RST, of which no result tells.
        let has_tcp = self.targets.iter().any(Target::is_tcp);
        if refused == self.no_frame || (has_tcp && refused < self.no_frame) {
            Ok(())
        } else {
            Err(format!(
                "{refused} probes without a frame, not {}",
                self.no_frame
            ))
        }
    }

    fn check_probe(
        &self,
        target: &Target,
        index: usize,
        found: &[&ProbeResult],
    ) -> Result<(), String> {
        let probe = &target.probes[index];
        let due_ns = self.due_ns(target, probe.sequence, probe.tx_ns);
        for result in found {
            let stale = result.outcome == Outcome::Late
                && result.answer.is_some_and(|answer| answer.rtt_ns.is_none());
            let wanted_tx_ns = if stale && target.place.is_some() {
                due_ns
            } else {
                probe.tx_ns
            };
            let exact = result.due_ns == due_ns && result.tx_ns == wanted_tx_ns;
            // Of a stale answer in a flood no more is known than when it came.
            let exact = exact || (stale && target.place.is_none());
            let ttl = target.destination.ttl;
            let is_whose = result.identifier == target.identifier
                && (result.ttl, result.hops) == (ttl.of(probe.sequence), ttl.hops());
            if !exact || !is_whose || due_ns > probe.tx_ns {
                return Err(format!("due {due_ns}, sent {}: {result:?}", probe.tx_ns));
            }
        }
        let (endings, why) = self.endings(target, probe);
        let mut found: Vec<Told> = found
            .iter()
            .map(|result| (result.outcome, result.answer))
            .collect();
        found.sort_unstable_by_key(sort_key);
        let expected: Vec<_> = endings
            .iter()
            .map(|ending| expected(target, probe, *ending))
            .collect();
        if expected
            .iter()
            .any(|expected| expected.as_ref() == Ok(&found))
        {
            return Ok(());
        }
        Err(format!("{why}: expected one of {expected:#?}"))
    }
}
