//! End to end: the built program in network namespaces, against the kernel's own replies, with
//! its rows read back from the embedded ClickHouse.
//!
//! `cargo xtask test` builds the program and sets what these tests need in the environment:
//! `PINGER_BIN`, the program, and `PINGER_LIBCHDB`, the engine. They need root.
//!
//! VLAN headers are not tested here but in the packet vectors: VLAN devices are an option of the
//! kernel (CONFIG_VLAN_8021Q) that not every machine has.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot do its work has failed"
)]

mod foreign;
mod harness;
mod host;
mod responder;
mod rows;

mod accounting;
mod answers;
mod bystander;
mod data;
mod endings;
mod errors;
mod forged;
mod interfaces;
mod modes;
mod neighbours;
mod outages;
mod protocols;
mod refusals;
mod shared;
mod slow_disk;
mod store_refusals;
mod tcp;
mod trace;
mod views;
