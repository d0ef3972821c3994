//! What tests share: a simulator of whole runs, one of the spool, and the packet vectors.

pub mod sim;
pub mod spool_sim;
pub mod vectors;
