//! Closing what TCP probes have half opened, by a RST each: when somebody tells of a SYN-ACK, and
//! ahead of the next SYN where that may come first.

use pinger_ebpf::cookie::cookie;

use super::Engine;
use crate::destination::FlowIndex;
use crate::flight::AtomicSlot;
use crate::link::Link;
use crate::route::{LINKS_MAX, LinkPlace};
use crate::schedule::Turn;

/// The connection that a TCP probe has half opened, to be closed by a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The probe's flow.
    pub flow: FlowIndex,
    /// Its sequence in the flow.
    pub sequence: u64,
    /// Send it even if one was sent: the listener has answered more than once, so that one may
    /// have been lost.
    pub again: bool,
}

/// What is known of the connections that a TCP flow's probes half open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Half {
    /// One more than the last probe's sequence.
    sent_to: u64,
    /// No RST is due for the sequences below this one.
    reset_to: u64,
}

impl<M: AsRef<[AtomicSlot]>> Engine<M> {
    /// Sends up to `max` RSTs that close the connections which these TCP probes have half opened,
    /// and takes no more of `resets` than it needs for that. Returns how many could not be sent.
    ///
    /// # Panics
    ///
    /// If a head names a place where no link is.
    pub fn reset(
        &mut self,
        resets: impl Iterator<Item = Reset>,
        max: usize,
        links: &mut [impl Link],
    ) -> u64 {
        let mut tried = 0;
        let mut failed = 0;
        let mut queued = [0_usize; LINKS_MAX];
        for Reset {
            flow,
            sequence,
            again,
        } in resets
        {
            let half = &mut self.halves[flow.0 as usize];
            if sequence < half.reset_to && !again {
                continue;
            }
            half.reset_to = half.reset_to.max(sequence + 1);
            match self.queue_reset(flow, sequence, links) {
                Some(link) => queued[usize::from(link.0)] += 1,
                None => failed += 1,
            }
            tried += 1;
            if tried == max {
                break;
            }
        }
        let refused = self.outgoing.flush(links);
        for (place, count) in (0..).map(LinkPlace).zip(queued) {
            let unsent = (0..count).filter(|number| refused.contain(place, *number));
            failed += unsent.count() as u64;
        }
        failed
    }

    /// Writes a RST and queues it. Returns the link, or `None` if there is no way or no memory.
    fn queue_reset(
        &mut self,
        flow: FlowIndex,
        sequence: u64,
        links: &mut [impl Link],
    ) -> Option<LinkPlace> {
        let head = self.heads.of(flow)?;
        let link = &mut links[usize::from(head.link.0)];
        let buffer = link.frame()?;
        let cookie = cookie(self.secret, flow.0, sequence);
        let len = self
            .frames
            .write_reset(flow, &head.bytes, sequence, cookie, buffer);
        link.submit(len);
        self.outgoing.submitted(head.link);
        Some(head.link)
    }

    /// Closes what a flow's last probe has half opened, if that may be and has not been done: a
    /// listener takes no second SYN from the same port before. Whoever waited for the SYN-ACK to
    /// be told of would lose each probe that follows sooner, or sooner than a round trip, or after
    /// a SYN-ACK that was lost.
    pub(super) fn reset_before(&mut self, turn: Turn, links: &mut [impl Link]) {
        let Turn { flow, sequence, .. } = turn;
        let Some(half) = self.halves.get_mut(flow.0 as usize) else {
            return;
        };
        let Half { sent_to, reset_to } = *half;
        half.sent_to = sequence + 1;
        if sent_to <= reset_to || !self.frames.is_tcp(flow) {
            return;
        }
        let last = sent_to - 1;
        if self.flight.may_be_open(flow, last) {
            // Without a way or memory for it, the probe that follows has none either.
            if self.queue_reset(flow, last, links).is_none() {
                return;
            }
            self.halves[flow.0 as usize].reset_to = sent_to;
            if self.limits.batch == 1 {
                // Alone, so that its way out is no part of the probe's round trip. Refused, it
                // costs at most the next answer.
                self.outgoing.flush(links);
            }
        }
    }
}
