//! Distributions of nanoseconds: one for a whole run, and one small enough for each of a million
//! destinations.

use hdrhistogram::Histogram;

use super::Quantiles;

/// Significant decimal digits of the histograms of the whole run.
const DIGITS: u8 = 3;

/// Longer times count as this one, about 18 minutes, so that one absurd value cannot make a
/// histogram grow without end.
const RECORDED_MAX_NS: u64 = 1 << 40;

/// The quantiles that are shown, in the order of [`Quantiles`].
const SHOWN: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A distribution within a thousandth, in some hundred kilobytes.
pub(super) struct Fine {
    histogram: Histogram<u64>,
    ends: Ends,
}

impl Fine {
    pub(super) fn new() -> Self {
        Self {
            histogram: Histogram::new(DIGITS).expect("0 to 5 digits are allowed"),
            ends: Ends::default(),
        }
    }

    pub(super) fn record(&mut self, ns: u64) {
        let recorded = self.histogram.record(ns.clamp(1, RECORDED_MAX_NS));
        debug_assert!(
            recorded.is_ok(),
            "a histogram that resizes itself takes any value"
        );
        self.ends.record(ns);
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let at = SHOWN.map(|quantile| self.histogram.value_at_quantile(quantile));
        self.ends.quantiles(self.histogram.len(), at)
    }
}

/// The exact ends of a distribution.
#[derive(Clone, Copy)]
struct Ends {
    min_ns: u64,
    max_ns: u64,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            min_ns: u64::MAX,
            max_ns: 0,
        }
    }
}

impl Ends {
    fn record(&mut self, ns: u64) {
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// What is shown of `count` values with these [`SHOWN`] quantiles.
    fn quantiles(&self, count: u64, shown: [u64; 4]) -> Quantiles {
        if count == 0 {
            return Quantiles::default();
        }
        let [p50_ns, p90_ns, p99_ns, p999_ns] = shown.map(|ns| ns.clamp(self.min_ns, self.max_ns));
        Quantiles {
            count,
            min_ns: self.min_ns,
            p50_ns,
            p90_ns,
            p99_ns,
            p999_ns,
            max_ns: self.max_ns,
        }
    }
}

/// Bits of a value that its bin keeps, behind the leading one: bins are at most 1/128 wide.
const BIN_BITS: u32 = 7;

/// A distribution within 1 %, in 8 bytes for each bin that has a value: a destination whose round
/// trips vary by a tenth takes a hundred bytes or two, and none more than 64 KiB, which takes
/// round trips of every length from a nanosecond to [`RECORDED_MAX_NS`].
///
/// A run may have a million of these, and most of them first get a value in the same second: a
/// histogram with room for all bins would then cost gigabytes of fresh pages at once.
#[derive(Default)]
pub(super) struct Sparse {
    /// Ascending.
    bins: Vec<Bin>,
    count: u64,
    ends: Ends,
}

/// A bin with its count, in one word: the bin's number in the upper 16 bits, so that bins are in
/// the order of their words.
#[derive(Clone, Copy)]
struct Bin(u64);

impl Bin {
    const COUNT_BITS: u32 = 48;
    /// At a million a second, full in nine years.
    const COUNT_MAX: u64 = (1 << Self::COUNT_BITS) - 1;

    /// The bin of a value, with a count of one.
    fn of(ns: u64) -> Self {
        let shift = ns.max(1).ilog2().saturating_sub(BIN_BITS);
        let number = (u64::from(shift) << BIN_BITS) + (ns >> shift);
        Self(number << Self::COUNT_BITS | 1)
    }

    fn number(self) -> u64 {
        self.0 >> Self::COUNT_BITS
    }

    fn count(self) -> u64 {
        self.0 & Self::COUNT_MAX
    }

    fn add_one(&mut self) {
        if self.count() < Self::COUNT_MAX {
            self.0 += 1;
        }
    }

    /// The largest value that it takes.
    fn max_ns(self) -> u64 {
        let shift = (self.number() >> BIN_BITS).saturating_sub(1);
        let leading = self.number() - (shift << BIN_BITS);
        ((leading + 1) << shift) - 1
    }
}

impl Sparse {
    pub(super) fn record(&mut self, ns: u64) {
        let bin = Bin::of(ns.min(RECORDED_MAX_NS));
        match self
            .bins
            .binary_search_by_key(&bin.number(), |bin| bin.number())
        {
            Ok(at) => self.bins[at].add_one(),
            Err(at) => self.bins.insert(at, bin),
        }
        self.count += 1;
        self.ends.record(ns);
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let mut bins = self.bins.iter();
        let (mut below, mut at_ns) = (0, 0);
        let shown = SHOWN.map(|quantile| {
            // Ascending as they are, one pass finds all.
            let wanted = (quantile * self.count as f64).ceil() as u64;
            while below < wanted {
                let Some(bin) = bins.next() else { break };
                below += bin.count();
                at_ns = bin.max_ns();
            }
            at_ns
        });
        self.ends.quantiles(self.count, shown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_follow_each_other_without_gaps_and_are_narrow() {
        let mut next_ns = 0;
        while next_ns <= RECORDED_MAX_NS {
            let bin = Bin::of(next_ns);
            let max_ns = bin.max_ns();
            assert_eq!(Bin::of(max_ns).number(), bin.number(), "up to {max_ns}");
            assert_eq!(Bin::of(max_ns + 1).number(), bin.number() + 1);
            assert!(max_ns - next_ns <= next_ns / 128, "{next_ns} to {max_ns}");
            next_ns = max_ns + 1;
        }
        let bins = Bin::of(RECORDED_MAX_NS).number() + 1;
        assert!(bins.next_power_of_two() * 8 <= 64 << 10, "{bins} bins");
    }

    #[test]
    fn a_full_bin_stays_in_its_place() {
        let mut bin = Bin(Bin::of(1000).0 | Bin::COUNT_MAX);
        bin.add_one();
        assert_eq!(
            (bin.number(), bin.count()),
            (Bin::of(1000).number(), Bin::COUNT_MAX)
        );
    }

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Sparse::default().quantiles(), Quantiles::default());
        assert_eq!(Fine::new().quantiles(), Quantiles::default());
    }

    proptest! {
        /// As the well-known histogram with two digits has them.
        #[test]
        fn quantiles_are_those_of_a_full_histogram(
            values in prop::collection::vec(
                prop_oneof![0..300_u64, 4000..6000_u64, 0..=RECORDED_MAX_NS, any::<u64>()],
                1..400,
            )
        ) {
            let mut full = Histogram::<u64>::new(2).unwrap();
            let mut sparse = Sparse::default();
            let mut ends = Ends::default();
            for value in values {
                full.record(value.clamp(1, RECORDED_MAX_NS)).unwrap();
                sparse.record(value);
                ends.record(value);
            }
            let shown = SHOWN.map(|quantile| full.value_at_quantile(quantile));
            prop_assert_eq!(sparse.quantiles(), ends.quantiles(full.len(), shown));
        }
    }
}
