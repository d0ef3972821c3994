//! Prepares, builds, runs, tests and measures pinger.
