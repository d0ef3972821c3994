//! The lab for real, as root: its hosts answer, its parts can be changed, and nothing is left.
//!
//! The machine's lab is tested in a sandbox with a network and a `/run` of its own, so these tests
//! can run beside a lab that somebody uses.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod ask;
mod sandbox;

mod changes;
mod hosts;
mod machine;
mod ways;
