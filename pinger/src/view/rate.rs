//! Probes per second right now, from the last snapshots.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back the rate looks: long enough for slow runs to read steadily.
const WINDOW: Duration = Duration::from_secs(2);

/// The first probes of a run, over the moment since its start, are no rate.
const SHORTEST: Duration = Duration::from_millis(50);

/// Counts of probes sent, each with its time since the start.
#[derive(Debug, Default)]
pub(super) struct Rate {
    seen: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Takes a new count and returns the rate over the window, or since the start if that is
    /// nearer.
    pub(super) fn update(&mut self, elapsed: Duration, sent: u64) -> f64 {
        if self.seen.back().is_some_and(|(last, _)| *last >= elapsed) {
            self.seen.pop_back();
        }
        self.seen.push_back((elapsed, sent));
        // One entry at or before the window's start stays, so that the window is always full.
        while self
            .seen
            .get(1)
            .is_some_and(|(time, _)| elapsed.saturating_sub(*time) >= WINDOW)
        {
            self.seen.pop_front();
        }
        let (from, base) = match self.seen.front() {
            Some(first) if self.seen.len() > 1 => *first,
            _ => (Duration::ZERO, 0),
        };
        let seconds = elapsed.saturating_sub(from).as_secs_f64();
        if seconds >= SHORTEST.as_secs_f64() {
            sent.saturating_sub(base) as f64 / seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_looks_back_one_window() {
        let mut rate = Rate::default();
        for (ms, sent, expected) in [
            (0, 0, 0.0),
            (500, 50, 100.0),
            (1000, 100, 100.0),
            (2000, 400, 200.0),
            (3000, 700, 300.0),
            (4000, 700, 150.0),
            (6000, 700, 0.0),
        ] {
            assert_eq!(
                rate.update(Duration::from_millis(ms), sent),
                expected,
                "at {ms} ms"
            );
        }
    }

    #[test]
    fn the_first_moment_has_no_rate() {
        let mut rate = Rate::default();
        assert_eq!(rate.update(Duration::from_micros(300), 1), 0.0);
        assert_eq!(rate.update(Duration::from_micros(1_000_300), 2), 1.0);
    }

    #[test]
    fn a_single_snapshot_counts_from_the_start() {
        assert_eq!(Rate::default().update(Duration::from_secs(4), 1000), 250.0);
    }
}
