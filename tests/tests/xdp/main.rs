//! The compiled XDP program on packets, by BPF_PROG_TEST_RUN: the same bytes go through it and
//! through its twin on the host, which calls the same parser and matching. Verdict, event, slot
//! and counters must agree. Needs root, and the object that `cargo xtask test` builds.

mod loaded;
mod pair;

mod mutants;
mod packets;
mod ring;
