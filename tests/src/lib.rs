//! Helpers of the end-to-end tests.

pub mod sim;
pub mod spool_sim;
pub mod vectors;
