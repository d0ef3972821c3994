//! What the XDP program and the user-space program share: the layout of every byte that crosses
//! between them, the packet parser, and the decision which returning packet belongs to which
//! probe.
//!
//! The crate is `no_std` and pure, so the very code that runs in the kernel is tested, fuzzed and
//! simulated on the host. The program itself (`main.rs`) only glues it to maps and the hook.
#![cfg_attr(not(test), no_std)]

pub mod layout;
pub mod cookie;
pub mod identity;
pub mod parse;
pub mod payload;
pub mod matching;
