//! Routes, neighbours and interfaces as the real kernel tells them, in network namespaces.
//!
//! One namespace holds the prober, another the hosts: two gateways and a plain host, each with a
//! MAC of its own, behind one veth pair.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot ask the kernel has failed"
)]

#[path = "../netns/mod.rs"]
mod netns;

mod net;
mod watch;

mod changes;
mod neighbours;
mod questions;
