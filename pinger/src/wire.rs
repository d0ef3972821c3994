//! The edge to the kernel: sockets, maps, programs, clocks. All `unsafe` of the packet path lives
//! below this module.

pub mod bpf;

mod mapping;
pub mod xsk;
