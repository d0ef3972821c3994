//! What is queued on the links, and what they took of it.

use crate::link::{Link, Refused};
use crate::route::{LINKS_MAX, LinkPlace};

/// The frames queued on each link since it was last flushed.
#[derive(Default)]
pub(super) struct Outgoing {
    used: LinkSet,
    submitted: [usize; LINKS_MAX],
}

impl Outgoing {
    /// Notes that a frame is queued on a link. Returns its place in that queue.
    pub(super) fn submitted(&mut self, link: LinkPlace) -> usize {
        self.used.insert(link);
        let count = &mut self.submitted[usize::from(link.0)];
        *count += 1;
        *count - 1
    }

    /// Flushes the links that have something queued. Returns what they refused.
    pub(super) fn flush(&mut self, links: &mut [impl Link]) -> Refusals {
        let mut refusals = Refusals {
            links: LinkSet::default(),
            sent: [0; LINKS_MAX],
        };
        while let Some(link) = self.used.pop() {
            let place = usize::from(link.0);
            let submitted = std::mem::take(&mut self.submitted[place]);
            if let Err(Refused { unsent, .. }) = links[place].flush() {
                refusals.links.insert(link);
                refusals.sent[place] = submitted.saturating_sub(unsent);
            }
        }
        refusals
    }
}

/// Of each link that was flushed and did not take everything, how many frames it sent.
pub(super) struct Refusals {
    links: LinkSet,
    sent: [usize; LINKS_MAX],
}

impl Refusals {
    /// Whether a link refused the frame in this place of its queue.
    pub(super) fn contain(&self, link: LinkPlace, place: usize) -> bool {
        self.links.contains(link) && place >= self.sent[usize::from(link.0)]
    }
}

/// A set of links: one bit for each place.
#[derive(Clone, Copy, Default)]
struct LinkSet(u32);

const _: () = assert!(LINKS_MAX <= u32::BITS as usize, "a bit for each link");

impl LinkSet {
    fn insert(&mut self, link: LinkPlace) {
        self.0 |= 1 << link.0;
    }

    fn contains(self, link: LinkPlace) -> bool {
        self.0 >> link.0 & 1 == 1
    }

    /// Takes the lowest place out.
    fn pop(&mut self) -> Option<LinkPlace> {
        let place = (self.0 != 0).then(|| LinkPlace(self.0.trailing_zeros() as u8));
        self.0 &= self.0.wrapping_sub(1);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_links_gives_back_each_once_in_order() {
        let mut set = LinkSet::default();
        for place in [LINKS_MAX as u8 - 1, 0, 7, 0] {
            set.insert(LinkPlace(place));
        }
        assert!(set.contains(LinkPlace(7)) && !set.contains(LinkPlace(6)));
        let places: Vec<_> = std::iter::from_fn(|| set.pop()).collect();
        assert_eq!(places, [0, 7, LINKS_MAX as u8 - 1].map(LinkPlace));
    }
}
