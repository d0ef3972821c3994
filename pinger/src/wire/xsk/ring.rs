//! The single-producer single-consumer rings that user space and the kernel share.
//!
//! Producer and consumer counts run freely and wrap; an entry's index is its count modulo the
//! ring's size. Each side publishes its count with a release store and reads the other's with an
//! acquire load, as `net/xdp/xsk_queue.h` requires.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::wire::mapping::Mapping;

/// The kernel's answer where in their mappings the rings lie.
pub(super) fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let mut offsets = std::mem::MaybeUninit::<libc::xdp_mmap_offsets>::zeroed();
    let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `offsets`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            offsets.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first, and all of its fields are integers.
    Ok(unsafe { offsets.assume_init() })
}

/// A ring's memory: counts and entries.
pub(super) struct Memory<T> {
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    entries: *mut T,
    mask: u32,
    /// Keeps the memory mapped.
    _mapping: Mapping,
}

// SAFETY: the pointers lie in the mapping, which belongs to the process; `Producer` and
// `Consumer` need `&mut` for whatever is not atomic.
unsafe impl<T: Send> Send for Memory<T> {}

/// Maps a ring of `len` entries, a power of two.
pub(super) fn map<T>(
    socket: &OwnedFd,
    at: &libc::xdp_ring_offset,
    page_offset: u64,
    len: u32,
) -> io::Result<Memory<T>> {
    assert!(
        len.is_power_of_two(),
        "the size of a ring is a power of two"
    );
    let bytes = at.desc as usize + len as usize * size_of::<T>();
    let mapping = Mapping::of(socket.as_fd(), bytes, page_offset)?;
    Ok(Memory {
        producer: mapping.at(at.producer as usize),
        consumer: mapping.at(at.consumer as usize),
        entries: mapping.at(at.desc as usize),
        mask: len - 1,
        _mapping: mapping,
    })
}

impl<T: Copy> Memory<T> {
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned, mapped while `self` lives, and only ever accessed atomically.
        unsafe { &*self.producer }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.consumer }
    }

    fn entry(&self, count: u32) -> *mut T {
        // SAFETY: the mask keeps the index within the ring's entries.
        unsafe { self.entries.add((count & self.mask) as usize) }
    }
}

/// The side that fills a ring.
pub(super) struct Producer<T> {
    memory: Memory<T>,
    count: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(memory: Memory<T>) -> Self {
        let count = memory.producer().load(Ordering::Relaxed);
        Self { memory, count }
    }

    /// Writes an entry, which the other side does not see yet.
    ///
    /// There must be room: the owner has no more frames than the ring has entries.
    pub(super) fn push(&mut self, entry: T) {
        debug_assert!(
            self.count
                .wrapping_sub(self.memory.consumer().load(Ordering::Relaxed))
                <= self.memory.mask,
            "room in the ring"
        );
        // SAFETY: an entry that the consumer has released and that only we write.
        unsafe { self.memory.entry(self.count).write(entry) };
        self.count = self.count.wrapping_add(1);
    }

    /// Shows all that was pushed to the other side.
    pub(super) fn publish(&mut self) {
        self.memory.producer().store(self.count, Ordering::Release);
    }

    /// Puts `instead` where pushed entries are that the other side has not taken, as far as it
    /// tells, and gives those away, oldest first.
    ///
    /// The entries stay: the kernel keeps a copy of the producer count, so that one which goes back
    /// would make it read what was there before. It reads entries only inside of our own calls.
    pub(super) fn replace(&mut self, instead: T, mut give: impl FnMut(T)) {
        for count in (0..self.pending())
            .rev()
            .map(|left| self.count.wrapping_sub(left + 1))
        {
            let entry = self.memory.entry(count);
            // SAFETY: an entry that the consumer has not released; only we write, and nobody reads
            // meanwhile, as the other side runs in our own calls only.
            give(unsafe { entry.replace(instead) });
        }
    }

    /// How many published entries the other side has not taken yet.
    pub(super) fn pending(&self) -> u32 {
        self.count
            .wrapping_sub(self.memory.consumer().load(Ordering::Acquire))
    }
}

/// The side that empties a ring.
pub(super) struct Consumer<T> {
    memory: Memory<T>,
    count: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(memory: Memory<T>) -> Self {
        let count = memory.consumer().load(Ordering::Relaxed);
        Self { memory, count }
    }

    /// Takes all entries that are there.
    pub(super) fn drain(&mut self, mut take: impl FnMut(T)) {
        let available = self.memory.producer().load(Ordering::Acquire);
        while self.count != available {
            // SAFETY: the producer has published this entry and will not write it before we
            // release it.
            take(unsafe { self.memory.entry(self.count).read() });
            self.count = self.count.wrapping_add(1);
        }
        self.memory.consumer().store(self.count, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring over plain memory, with both sides.
    fn ring(len: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let mapping = Mapping::anonymous(4096).expect("memory");
        let memory = |mapping: Mapping| Memory {
            producer: mapping.at::<AtomicU32>(0),
            consumer: mapping.at::<AtomicU32>(64),
            entries: mapping.at::<u64>(128),
            mask: len - 1,
            _mapping: mapping,
        };
        let first = memory(mapping);
        first.producer().store(start, Ordering::Relaxed);
        first.consumer().store(start, Ordering::Relaxed);
        let second = Memory {
            producer: first.producer,
            consumer: first.consumer,
            entries: first.entries,
            mask: first.mask,
            _mapping: Mapping::anonymous(4096).expect("memory"),
        };
        (Producer::new(first), Consumer::new(second))
    }

    #[test]
    fn entries_arrive_in_order_across_both_wraps() {
        let (mut producer, mut consumer) = ring(8, u32::MAX - 11);
        let mut got = Vec::new();
        for round in 0..10_u64 {
            for entry in 0..5 {
                producer.push(round * 5 + entry);
            }
            assert_eq!(producer.pending(), 5, "pushed, whether or not published");
            consumer.drain(|_| panic!("nothing is published yet"));
            producer.publish();
            consumer.drain(|entry| got.push(entry));
            assert_eq!(producer.pending(), 0);
        }
        assert_eq!(got, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_other_side_has_not_taken_can_be_replaced_across_both_wraps() {
        for start in [0, 5, u32::MAX - 3] {
            let (mut producer, mut consumer) = ring(8, start);
            (0..2).for_each(|entry| producer.push(entry));
            producer.publish();
            consumer.drain(|_| {});
            (2..8).for_each(|entry| producer.push(entry));
            producer.publish();
            let mut given = Vec::new();
            producer.replace(99, |entry| given.push(entry));
            assert_eq!(given, [2, 3, 4, 5, 6, 7], "from {start}");
            producer.push(8);
            producer.publish();
            let mut got = Vec::new();
            consumer.drain(|entry| got.push(entry));
            assert_eq!(got, [99, 99, 99, 99, 99, 99, 8], "from {start}");
            producer.replace(99, |_| panic!("nothing is left"));
        }
    }
}
