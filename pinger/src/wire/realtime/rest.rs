//! Sleep of its own accord: what a thread that runs ahead of others must leave to them.

/// Keeps count of how much a thread sleeps, and says when it must nap.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The share of time to be slept: one part in so many.
    share: i64,
    /// What may be spent awake before the next nap.
    credit_ns: i64,
    woke_ns: u64,
}

impl Rest {
    /// The share with SCHED_FIFO, whose priority is otherwise taken away for 50 ms at a time: the
    /// kernel wants one twentieth, but what a nap spends in interrupts and in switching tasks does
    /// not count for it.
    pub const FIFO: i64 = 10;
    /// The same in a flood, where nothing is due and so nothing late. 50 ms in one piece are lost
    /// then, but that is half of what the other share costs always; these naps only let in what
    /// the kernel does in threads of its own.
    pub const FIFO_FLOOD: i64 = 50;
    /// The share with SCHED_DEADLINE, from which nothing is taken away: for the kernel's own
    /// threads only.
    pub const DEADLINE: i64 = 200;
    /// How long a nap is meant to last: short, as a probe may come due in it; but of naps below
    /// 30 µs nothing is left for those who wait.
    pub const NAP_NS: u64 = 30_000;
    /// What sleep can be saved for: a tenth of the second in which the kernel wants its share.
    const CREDIT_MAX_NS: i64 = 100_000_000;

    /// Starts counting, with credit for one nap; one part in `share` is to be slept.
    pub fn new(share: i64, now_ns: u64) -> Self {
        Self {
            share,
            credit_ns: Self::NAP_NS.cast_signed() * share,
            woke_ns: now_ns,
        }
    }

    /// The time until which the thread must sleep now, if it must.
    pub fn nap_until(&self, now_ns: u64) -> Option<u64> {
        let awake = now_ns.saturating_sub(self.woke_ns).cast_signed();
        (awake >= self.credit_ns).then_some(now_ns + Self::NAP_NS)
    }

    /// Notes a sleep, for whatever reason, from `slept_ns` to `woke_ns`.
    pub fn slept(&mut self, slept_ns: u64, woke_ns: u64) {
        let awake = slept_ns.saturating_sub(self.woke_ns).cast_signed();
        let asleep = woke_ns.saturating_sub(slept_ns).cast_signed();
        let earned = asleep.saturating_mul(self.share - 1);
        self.credit_ns = (self.credit_ns - awake + earned).min(Self::CREDIT_MAX_NS);
        self.woke_ns = woke_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_never_sleeps_by_itself_naps_its_share_of_the_time() {
        let check = |parts: i64| {
            let mut rest = Rest::new(parts, 0);
            let (mut now, mut asleep) = (0, 0);
            while now < 1_000_000_000 {
                now += 1_000;
                if let Some(until) = rest.nap_until(now) {
                    // It wakes a little late, as it does on a real machine.
                    let woke = until + 15_000;
                    rest.slept(now, woke);
                    asleep += woke - now;
                    now = woke;
                }
            }
            let share = asleep as f64 / now as f64 * parts as f64;
            assert!((0.95..1.05).contains(&share), "{share} of one in {parts}");
        };
        check(Rest::FIFO);
        check(Rest::DEADLINE);
    }

    #[test]
    fn a_thread_that_sleeps_anyway_needs_no_naps() {
        let mut rest = Rest::new(Rest::FIFO, 0);
        for period in 1..100_000_u64 {
            let now = period * 100_000;
            // Awake for 60 µs of each 100.
            rest.slept(now - 100_000, now - 60_000);
            assert_eq!(rest.nap_until(now), None);
        }
    }

    #[test]
    fn long_sleep_is_not_saved_for_ever() {
        let mut rest = Rest::new(Rest::FIFO, 0);
        rest.slept(0, 3_600_000_000_000);
        let now = 3_600_000_000_000 + 100_000_000;
        assert!(rest.nap_until(now).is_some());
    }
}
