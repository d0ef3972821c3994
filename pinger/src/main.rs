//! The `pinger` command.

fn main() {}
