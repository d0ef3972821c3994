//! Measures pinger beside other probers.
fn main() {}
