//! Prepares, builds, runs, tests and measures pinger: the library behind `cargo xtask`.
//!
//! One file is one subcommand; what several of them share stands first. `bench` and the
//! end-to-end tests use [`lab`], [`setup`] and [`build`] from here.

pub mod paths;
pub mod process;
pub mod progress;
pub mod signals;

pub mod setup;
pub mod build;
pub mod lab;
pub mod run;
pub mod sql;
pub mod test;
pub mod bench;
pub mod readme;
