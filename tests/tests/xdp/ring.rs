//! The ring buffer when nobody reads it.

use pinger::wire::clock;
use pinger_ebpf::layout::{Counter, EventKind, SlotState};
use pinger_tests::vectors::{self, Expected, Preset};

use crate::loaded::XDP_DROP;
use crate::pair::{Pair, meaning};

#[test]
fn when_the_ring_is_full_answers_stay_in_their_slots() {
    let mut pair = Pair::new();
    let vector = &vectors::all()[0];
    let state = |tag| Preset {
        flow: 0,
        state: SlotState::new(tag, 5),
    };
    pair.preset(Some(state(SlotState::ANSWERED)));
    // Duplicates fill the ring; nobody reads it.
    let repeat = 100_000;
    for _ in 0..1000 {
        pair.loaded.run(&vector.packet, repeat);
        if pair.loaded.counters.get(Counter::RingDropped) > 0 {
            break;
        }
    }
    let counts = pair.loaded.counts();
    assert!(counts[1] > 0, "the ring never filled: {counts:?}");

    pair.set(state(SlotState::SENT));
    let [sent_ns, _] = pair.loaded.all_slots()[5];
    let before_ns = clock::now_ns();
    assert_eq!(pair.loaded.run(&vector.packet, 1), XDP_DROP);
    let rtt_ns = before_ns - sent_ns..=clock::now_ns() - sent_ns;
    let [tx_ns, found] = pair.loaded.all_slots()[5];
    let found = SlotState(found);
    assert_eq!(
        (tx_ns, found.tag(), found.sequence()),
        (sent_ns, SlotState::UNREPORTED, 5)
    );
    assert!(
        rtt_ns.contains(&found.rtt_ns()),
        "{} not in {rtt_ns:?}",
        found.rtt_ns()
    );
    let after = pair.loaded.counts();
    assert_eq!(
        [after[0] - counts[0], after[1] - counts[1]],
        [1, 1],
        "ours, and dropped"
    );

    // A further one changes nothing, and is not told of either.
    assert_eq!(pair.loaded.run(&vector.packet, 1), XDP_DROP);
    assert_eq!(SlotState(pair.loaded.all_slots()[5][1]), found);

    // Once read, the ring tells of what comes then.
    let mut read = 0;
    while pair.loaded.events.next().is_some() {
        read += 1;
    }
    assert_eq!(
        read,
        counts[0] - counts[1],
        "each duplicate that found room"
    );
    pair.set(state(SlotState::SENT));
    let outcome = pair.check(&vector.packet, &|| "after the flood".to_owned());
    assert_eq!(meaning(&outcome), Expected::Told(EventKind::Reply, None));
}
