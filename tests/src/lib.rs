//! Helpers of the end-to-end tests.

pub mod sim;
pub mod vectors;
