//! How one reply differs from the one before it: round trip and hop limit.
//!
//! In: a destination's replies in the order in which they come. Out: the jitter after each, and
//! whether the way back looks different. Does no I/O, and keeps no reply.

/// How fast the jitter follows: RFC 3550 section 6.4.1 takes a sixteenth of each difference.
const GAIN_SHIFT: u32 = 4;

/// The longest difference that counts, an hour: far beyond any timeout, and nothing overflows.
const DIFFERENCE_MAX_NS: u64 = 3_600_000_000_000;

/// RFC 3550's estimate of how much round trips vary, which stand for its transit times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Jitter {
    /// Sixteen times the estimate, as in RFC 3550 appendix A.8, so that rounding does not add up.
    scaled_ns: u64,
}

impl Jitter {
    /// Takes a reply's round trip and that of the reply before it; returns the jitter after it.
    pub(super) fn add(&mut self, before_ns: Option<u64>, rtt_ns: u64) -> u64 {
        if let Some(before_ns) = before_ns {
            let difference_ns = rtt_ns.abs_diff(before_ns).min(DIFFERENCE_MAX_NS);
            self.scaled_ns = self.scaled_ns - self.rounded_ns() + difference_ns;
        }
        self.rounded_ns()
    }

    /// The estimate; zero before there was a difference.
    pub(super) fn rounded_ns(self) -> u64 {
        (self.scaled_ns + (1 << (GAIN_SHIFT - 1))) >> GAIN_SHIFT
    }
}

/// The mean of many destinations' jitter, kept up as one after the other changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MeanJitter {
    sum_ns: u64,
    destinations: u64,
}

impl MeanJitter {
    /// Takes a destination's jitter and what it was before; none with its first difference.
    pub(super) fn change(&mut self, before_ns: Option<u64>, now_ns: u64) {
        self.sum_ns = self.sum_ns - before_ns.unwrap_or(0) + now_ns;
        self.destinations += u64::from(before_ns.is_none());
    }

    /// The mean; none before any destination has two replies.
    pub(super) fn ns(self) -> Option<u64> {
        self.sum_ns.checked_div(self.destinations)
    }
}

/// The hop limit of a destination's last reply; another one means another way back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopLimit {
    last: Option<u8>,
}

impl HopLimit {
    /// Takes a reply's hop limit, if it is known; returns whether it differs from the last known.
    pub(super) fn changes_to(&mut self, hop_limit: Option<u8>) -> bool {
        if hop_limit.is_none() {
            return false;
        }
        let before = std::mem::replace(&mut self.last, hop_limit);
        before.is_some() && before != hop_limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(rtts_ns: &[u64]) -> u64 {
        let (mut jitter, mut before, mut last) = (Jitter::default(), None, 0);
        for &rtt_ns in rtts_ns {
            last = jitter.add(before, rtt_ns);
            before = Some(rtt_ns);
        }
        last
    }

    #[test]
    fn a_sixteenth_of_each_difference_counts() {
        for (rtts_ns, expected_ns) in [
            (&[][..], 0),
            (&[7_000], 0),
            (&[7_000, 7_000], 0),
            (&[1_000, 17_000], 1_000),
            (&[17_000, 1_000], 1_000),
            // 1,000 + (32,000 - 1,000) / 16 and 1,000 - 1,000 / 16, both with a half at the end.
            (&[1_000, 17_000, 49_000], 2_938),
            (&[1_000, 17_000, 17_000], 938),
            (&[0, u64::MAX], DIFFERENCE_MAX_NS / 16),
        ] {
            assert_eq!(after(rtts_ns), expected_ns, "{rtts_ns:?}");
        }
    }

    #[test]
    fn a_steady_difference_becomes_the_jitter() {
        let swinging: Vec<_> = (0..400).map(|turn| 10_000 + turn % 2 * 3_200).collect();
        assert_eq!(after(&swinging), 3_200);
        let mut steady = swinging;
        steady.extend([10_000; 400]);
        assert_eq!(after(&steady), 0, "it is forgotten");
    }

    #[test]
    fn the_mean_is_of_the_destinations_that_have_a_jitter() {
        let mut mean = MeanJitter::default();
        assert_eq!(mean.ns(), None);
        for (before_ns, now_ns, expected_ns) in [
            (None, 500, 500),
            (None, 0, 250),
            (Some(500), 300, 150),
            (Some(0), 100, 200),
        ] {
            mean.change(before_ns, now_ns);
            assert_eq!(mean.ns(), Some(expected_ns));
        }
    }

    #[test]
    fn only_another_known_hop_limit_is_a_change() {
        let mut hop_limit = HopLimit::default();
        for (next, changed) in [
            (None, false),
            (Some(61), false),
            (Some(61), false),
            (None, false),
            (Some(61), false),
            (Some(60), true),
            (Some(60), false),
            (Some(61), true),
        ] {
            assert_eq!(hop_limit.changes_to(next), changed, "{next:?}");
        }
    }

    proptest! {
        /// RFC 3550's formula in real numbers, and never more than the greatest difference.
        #[test]
        fn it_is_the_formula(rtts_ns in prop::collection::vec(0..10_000_000_000_u64, 1..200)) {
            let (mut exact, mut greatest) = (0.0_f64, 0);
            for pair in rtts_ns.windows(2) {
                let difference_ns = pair[0].abs_diff(pair[1]);
                exact += (difference_ns as f64 - exact) / 16.0;
                greatest = greatest.max(difference_ns);
            }
            let jitter_ns = after(&rtts_ns);
            prop_assert!((jitter_ns as f64 - exact).abs() <= 2.0, "{jitter_ns} and {exact}");
            prop_assert!(jitter_ns <= greatest);
        }
    }
}
