//! The edge to the kernel: sockets, maps, programs, clocks. All `unsafe` of the packet path lives
//! below this module.

mod mapping;
mod run_dir;
mod syscall;

pub mod clock;
pub mod privilege;
pub mod realtime;
pub mod netlink;
pub mod ports;
pub mod bpf;
pub mod xsk;
pub mod tally;
