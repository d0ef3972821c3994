//! The lock-free way from the sender to the gatherer: one ring for notes, one count back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{Note, Sink};
use crate::wire::tally::Tally;

/// Notes that may wait for the gatherer: those of 30 ms at a million probes a second. When it is
/// full, the sender waits, which shows as lateness of our own; no note is ever lost.
const NOTES_MAX: usize = 1 << 16;

/// Both ends of a new ring.
///
/// The tally, if there is one, gets the count of probes announced.
pub(super) fn channel(tally: Option<Arc<Tally>>) -> (NoteSink, NoteSource) {
    let (producer, consumer) = rtrb::RingBuffer::new(NOTES_MAX);
    let answered = Arc::new(AtomicU64::new(0));
    let sink = NoteSink {
        producer,
        announced: 0,
        tally,
        answered: Arc::clone(&answered),
    };
    (sink, NoteSource { consumer, answered })
}

/// The sender's end.
pub(super) struct NoteSink {
    producer: rtrb::Producer<Note>,
    announced: u64,
    tally: Option<Arc<Tally>>,
    answered: Arc<AtomicU64>,
}

impl Sink for NoteSink {
    fn room(&self) -> usize {
        self.producer.slots()
    }

    fn push(&mut self, note: Note) {
        if let (Note::Sent { .. }, Some(tally)) = (note, &self.tally) {
            // Before the note, so that no probe ends that was not counted, whenever we are killed.
            self.announced += 1;
            tally.sent(self.announced);
        }
        // The engine asks for room first, so this cannot fail.
        let pushed = self.producer.push(note);
        debug_assert!(pushed.is_ok(), "room was asked for");
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The gatherer's end.
pub(super) struct NoteSource {
    consumer: rtrb::Consumer<Note>,
    answered: Arc<AtomicU64>,
}

impl NoteSource {
    /// The next note.
    pub(super) fn pop(&mut self) -> Option<Note> {
        self.consumer.pop().ok()
    }

    /// Tells the sender how many probes have ended by an answer.
    pub(super) fn publish_answered(&self, answered: u64) {
        self.answered.store(answered, Ordering::Relaxed);
    }

    /// Whether the sender has gone; then no more notes come after those that are there.
    pub(super) fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}
