//! `pinger` probes many destinations at precise intervals, has the kernel stamp and match what
//! comes back, and keeps every result in ClickHouse.
//!
//! The modules are listed in the order in which a probe travels through them. Those up to
//! [`spool`] are pure: time, randomness, link and disk are arguments, so the simulator drives them
//! without root. The rest are edges, where I/O and `unsafe` live.

pub mod mistake;
mod shell;
pub mod destination;
pub mod schedule;
pub mod packet;
pub mod route;
pub mod flight;
pub mod flow;
pub mod link;
pub mod engine;
pub mod result;
pub mod stats;
pub mod rows;
pub mod native;
pub mod spool;

pub mod config;
pub mod resolve;
pub mod wire;
pub mod store;
pub mod view;
pub mod cli;
pub mod run;
